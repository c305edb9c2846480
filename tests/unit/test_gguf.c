/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF parser: files that must be taken and what they answer, and one file of each class of
 * damage that must be refused, with the code and with words that name the culprit. */
#include "models/gguf.h"
#include "tests/support/gguf_maker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const uint64_t dims_32[] = {32}, dims_64[] = {64};

/* m must be refused with code, and the diagnosis must hold both texts. Releases m. */
static void refused(mk *m, int code, const char *text, const char *text2)
{
    hob_gguf *g = NULL;
    hob_diag diag = {""};
    uint8_t *exact = malloc(m->bytes ? m->bytes : 1);
    assert_non_null(exact);
    if (m->bytes)
        memcpy(exact, m->data, m->bytes);
    const int rc = hob_gguf_parse(exact, m->bytes, &g, &diag);
    if (rc != code || !strstr(diag.text, text) || !strstr(diag.text, text2))
        fail_msg("%s \"%s\", expected %s with \"%s\" and \"%s\"",
                 rc < 0 ? hob_error_name(rc) : "taken", diag.text, hob_error_name(code), text,
                 text2);
    assert_null(g);
    free(exact);
    mk_free(m);
}

/* g lives no longer than m. */
static hob_gguf *taken(const mk *m)
{
    hob_gguf *g = NULL;
    hob_diag diag = {""};
    if (hob_gguf_parse(m->data, m->bytes, &g, &diag) < 0)
        fail_msg("refused: %s", diag.text);
    return g;
}

static void answers_every_type(void **state)
{
    (void)state;
    mk m = {0};
    mk_everything(&m);
    hob_gguf *g = taken(&m);
    hob_diag diag = {""};
    uint64_t u = 0, n = 0;
    float f = 0;
    bool b = true;
    hob_string s, strings[MK_LLAMA_VOCAB];
    const void *le = NULL;

    assert_int_equal(hob_gguf_u64(g, "x.u8", 0, 255, &u, &diag), 0);
    assert_int_equal(u, 200);
    assert_int_equal(hob_gguf_u64(g, "x.u16", 0, 65535, &u, &diag), 0);
    assert_int_equal(u, 0xfeff);
    assert_int_equal(hob_gguf_u64(g, "x.i64", 77, 77, &u, &diag), 0);
    assert_int_equal(u, 77);
    assert_int_equal(hob_gguf_u64(g, "x.u64", 0, UINT64_MAX, &u, &diag), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(hob_gguf_f32(g, "x.f32", 0, 1, &f, &diag), 0);
    assert_true(f == 0.5f);
    assert_int_equal(hob_gguf_bool(g, "tokenizer.ggml.add_bos_token", &b, &diag), 0);
    assert_false(b);
    assert_int_equal(hob_gguf_string(g, "general.architecture", &s, &diag), 0);
    assert_int_equal(s.len, 5);
    assert_memory_equal(s.data, "llama", 5);
    assert_int_equal(hob_gguf_array_i32(g, "tokenizer.ggml.token_type", &le, &n, &diag), 0);
    assert_int_equal(n, MK_LLAMA_VOCAB);
    int32_t third, fourth;
    memcpy(&third, (const uint8_t *)le + 8, 4);
    memcpy(&fourth, (const uint8_t *)le + 12, 4);
    assert_int_equal(third, 3);
    assert_int_equal(fourth, 1);
    assert_int_equal(hob_gguf_array_f32(g, "x.f32s", &le, &n, &diag), 0);
    assert_int_equal(n, 3);
    memcpy(&f, (const uint8_t *)le + 8, 4);
    assert_true(f == 2);
    assert_int_equal(hob_gguf_array_strings(g, "x.empty", &n, &diag), 0);
    assert_int_equal(n, 0);
    assert_int_equal(hob_gguf_array_strings(g, "tokenizer.ggml.tokens", &n, &diag), 0);
    assert_int_equal(n, MK_LLAMA_VOCAB);
    assert_int_equal(hob_gguf_read_strings(g, "tokenizer.ggml.tokens", strings, n, &diag), 0);
    assert_int_equal(strings[0].len, 13);
    assert_memory_equal(strings[0].data, "<|endoftext|>", 13);
    assert_memory_equal(strings[MK_LLAMA_VOCAB - 1].data,
                        "\xc4\xa0"
                        "and",
                        5);
    assert_int_equal(hob_gguf_read_strings(g, "tokenizer.ggml.tokens", strings, n - 1, &diag),
                     HOB_EINVAL);
    hob_gguf_close(g);
    mk_free(&m);
}

static void getters_refuse(void **state)
{
    (void)state;
    mk m = {0};
    mk_everything(&m);
    hob_gguf *g = taken(&m);
    hob_diag diag = {""};
    uint64_t u = 7, n = 7;
    float f = 7;
    bool b = true;
    hob_string s = {NULL, 7};
    const void *le = NULL;
    assert_int_equal(hob_gguf_u64(g, "no.such", 0, 9, &u, &diag), HOB_ENOENT);
    assert_non_null(strstr(diag.text, "no.such"));
    assert_int_equal(hob_gguf_u64(g, "x.u8", 0, 199, &u, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "x.u8: 200"));
    assert_int_equal(hob_gguf_u64(g, "x.u8", 201, 300, &u, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_u64(g, "x.i8", 0, UINT64_MAX, &u, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "-128"));
    assert_int_equal(hob_gguf_u64(g, "x.i16", 0, UINT64_MAX, &u, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_u64(g, "x.i32", 0, UINT64_MAX, &u, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "-16"));
    assert_int_equal(hob_gguf_u64(g, "x.f32", 0, 9, &u, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "f32"));
    assert_int_equal(hob_gguf_f32(g, "x.f32", 0.6f, 1, &f, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_f32(g, "x.u8", 0, 999, &f, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_bool(g, "x.u8", &b, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_string(g, "x.u8", &s, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_string(g, "tokenizer.ggml.tokens", &s, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_array_strings(g, "x.f32s", &n, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "array of f32"));
    assert_int_equal(hob_gguf_array_i32(g, "x.f32s", &le, &n, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_array_f32(g, "x.nested", &le, &n, &diag), HOB_EFORMAT);
    assert_int_equal(hob_gguf_array_f32(g, "x.f32", &le, &n, &diag), HOB_EFORMAT);
    assert_true(u == 7 && n == 7 && f == 7 && b && s.len == 7 && !le);
    hob_gguf_close(g);
    mk_free(&m);
}

static void refuses_floats_that_are_none(void **state)
{
    (void)state;
    const uint32_t bits[] = {0x7f800000, 0xff800000, 0x7fc00000};
    for (int i = 0; i < 3; i++) {
        mk m = {0};
        mk_header(&m, 3, 0, 1);
        mk_key(&m, "f", MK_F32);
        mk_u32(&m, bits[i]);
        hob_gguf *g = taken(&m);
        hob_diag diag = {""};
        float f = 7;
        assert_int_equal(hob_gguf_f32(g, "f", -1e38f, 1e38f, &f, &diag), HOB_EFORMAT);
        assert_true(f == 7);
        hob_gguf_close(g);
        mk_free(&m);
    }
}

static void finds_tensors(void **state)
{
    (void)state;
    mk m = {0};
    mk_everything(&m);
    hob_gguf *g = taken(&m);
    assert_int_equal(hob_gguf_file_bytes(g), m.bytes);
    assert_int_equal(hob_gguf_tensor_count(g), 5);
    assert_null(hob_gguf_tensor_at(g, 5));
    assert_null(hob_gguf_find_tensor(g, "f3"));
    const hob_gguf_tensor *t = hob_gguf_find_tensor(g, "q4_1");
    assert_ptr_equal(t, hob_gguf_tensor_at(g, 1));
    assert_int_equal(t->bytes, 40);
    assert_int_equal(t->dim_count, 2);
    assert_true(t->dims[0] == 32 && t->dims[1] == 2 && t->dims[2] == 1 && t->dims[3] == 1);
    assert_int_equal(hob_gguf_find_tensor(g, "q6_k")->bytes, 210);
    assert_int_equal(hob_gguf_find_tensor(g, "f32")->bytes, 96);
    t = hob_gguf_find_tensor(g, "f16");
    assert_ptr_equal((const uint8_t *)t->data + t->bytes, m.data + m.bytes);
    hob_gguf_close(g);
    mk_free(&m);
}

static void describes_keys(void **state)
{
    (void)state;
    mk m = {0};
    mk_header(&m, 2, 0, 4);
    mk_key_string(&m, "s", "one\ntwo\x1b[31m and more");
    mk_key_u32(&m, "u", 5);
    mk_key_array(&m, "a", MK_U8, 9);
    mk_bytes(&m, "\1\2\3\4\5\6\7\x8\x9", 9);
    mk_key_bool(&m, "b", true);
    hob_gguf *g = taken(&m);
    hob_string key;
    char text[64];
    assert_true(hob_gguf_describe_key(g, 0, &key, text, sizeof text));
    assert_string_equal(text, "one\\ntwo\\x1b[31m and more");
    assert_true(hob_gguf_describe_key(g, 0, &key, text, 12));
    assert_string_equal(text, "one\\ntwo...");
    assert_true(hob_gguf_describe_key(g, 1, &key, text, sizeof text));
    assert_string_equal(text, "5");
    assert_true(hob_gguf_describe_key(g, 2, &key, text, sizeof text));
    assert_string_equal(text, "9 of u8: 1 2 3 4 5 6 ...");
    assert_true(key.len == 1 && key.data[0] == 'a');
    assert_true(hob_gguf_describe_key(g, 3, &key, text, sizeof text));
    assert_string_equal(text, "true");
    assert_false(hob_gguf_describe_key(g, 4, &key, text, sizeof text));
    hob_gguf_close(g);
    mk_free(&m);
}

static void takes_small_files(void **state)
{
    (void)state;
    mk m = {0};
    mk_header(&m, 2, 0, 0);
    hob_gguf *g = taken(&m);
    assert_int_equal(hob_gguf_tensor_count(g), 0);
    hob_gguf_close(g);
    mk_free(&m);

    mk_llama(&m, MK_GOOD, false);
    g = taken(&m);
    hob_gguf_close(g);
    mk_free(&m);

    mk_llama(&m, MK_GOOD, true);
    g = taken(&m);
    assert_int_equal(hob_gguf_tensor_count(g), 11);
    hob_gguf_close(g);
    mk_free(&m);
}

static void opens_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/hob_test_gguf_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    mk m = {0};
    mk_llama(&m, MK_GOOD, true);
    assert_int_equal(write(fd, m.data, m.bytes), m.bytes);
    hob_gguf *g = NULL;
    hob_diag diag = {""};
    assert_int_equal(hob_gguf_open(path, &g, &diag), 0);
    const hob_gguf_tensor *t = hob_gguf_tensor_at(g, 3);
    const hob_gguf_tensor *u = hob_gguf_find_tensor(g, "token_embd.weight");
    assert_int_equal((uintptr_t)t->data % 32, 0);
    float before, after;
    memcpy(&before, t->data, sizeof before);
    hob_gguf_drop(g, u);
    hob_gguf_drop(g, t);
    memcpy(&after, t->data, sizeof after); /* dropped pages come back as they were */
    assert_true(before == after && before != 0);
    assert_int_equal(hob_gguf_check_size(g, &diag), 0);
    assert_int_equal(ftruncate(fd, (off_t)m.bytes - 1), 0);
    assert_int_equal(hob_gguf_check_size(g, &diag), HOB_EIO);
    hob_gguf_close(g);
    g = NULL;
    assert_int_equal(hob_gguf_open(path, &g, &diag), HOB_EFORMAT);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(hob_gguf_open(path, &g, &diag), HOB_EFORMAT);
    close(fd);
    unlink(path);
    assert_int_equal(hob_gguf_open(path, &g, &diag), HOB_EIO);
    assert_non_null(strstr(diag.text, path));
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(hob_gguf_open(path, &g, &diag), HOB_EIO); /* and does not wait for a writer */
    unlink(path);
    assert_int_equal(hob_gguf_open("/", &g, &diag), HOB_EIO);
    assert_null(g);
    mk_free(&m);
    hob_gguf_close(NULL);
}

static void refuses_other_headers(void **state)
{
    (void)state;
    mk m = {0};
    refused(&m, HOB_EFORMAT, "GGUF", "");
    mk_bytes(&m, "GGUG\3\0\0\0", 8);
    mk_zeros(&m, 16);
    refused(&m, HOB_EFORMAT, "not a GGUF", "");
    mk_header(&m, 1, 0, 0);
    refused(&m, HOB_EUNSUPPORTED, "version 1", "2 and 3");
    mk_header(&m, 4, 0, 0);
    refused(&m, HOB_EUNSUPPORTED, "version 4", "2 and 3");
    mk_header(&m, 0, 0, 0);
    refused(&m, HOB_EUNSUPPORTED, "version 0", "2 and 3");
    mk_header(&m, __builtin_bswap32(3), 0, 0);
    refused(&m, HOB_EUNSUPPORTED, "big-endian", "version 3");
}

static void refuses_counts(void **state)
{
    (void)state;
    const uint64_t counts[] = {2,         65537, UINT32_MAX, UINT64_C(1) << 61, UINT64_MAX / 14 + 1,
                               UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        mk m = {0};
        mk_header(&m, 3, 0, counts[i]);
        mk_key_u32(&m, "one", 1);
        refused(&m, HOB_EFORMAT, "keys", "header");
        mk_header(&m, 3, counts[i], 0);
        mk_tensor(&m, "one", MK_TYPE_F32, 1, dims_32, 0);
        refused(&m, HOB_EFORMAT, "tensors", "header");
    }
    /* Room for the count, but above the bound. */
    mk m = {0};
    mk_header(&m, 3, 0, 65537);
    mk_zeros(&m, 65537 * 14);
    refused(&m, HOB_EFORMAT, "65537 keys", "allowed are 65536");
}

static void refuses_key_names(void **state)
{
    (void)state;
    mk m = {0};
    mk_header(&m, 3, 0, 1);
    mk_key_u32(&m, "", 1);
    mk_zeros(&m, 8);
    refused(&m, HOB_EFORMAT, "key 0", "0 bytes");

    const uint64_t lengths[] = {100, UINT32_MAX, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        mk_header(&m, 3, 0, 1);
        mk_u64(&m, lengths[i]);
        mk_zeros(&m, 40);
        refused(&m, HOB_EFORMAT, "name of key 0", "");
    }
    mk_header(&m, 3, 0, 1);
    mk_u64(&m, 65536);
    mk_zeros(&m, 65536);
    mk_u32(&m, MK_U8);
    mk_u8(&m, 1);
    refused(&m, HOB_EFORMAT, "65536 bytes", "65535");

    mk_header(&m, 3, 0, 3);
    mk_key_u32(&m, "twin", 1);
    mk_key_u32(&m, "other", 1);
    mk_key_string(&m, "twin", "x");
    refused(&m, HOB_EFORMAT, "key twin", "key 0 and key 2");
}

static void refuses_values(void **state)
{
    (void)state;
    mk m = {0};
    mk_header(&m, 3, 0, 1);
    mk_key(&m, "odd", 13);
    mk_zeros(&m, 16);
    refused(&m, HOB_EFORMAT, "key odd", "type 13");

    mk_header(&m, 3, 0, 1);
    mk_key(&m, "short", MK_U64);
    mk_u32(&m, 1);
    refused(&m, HOB_EFORMAT, "key short", "");

    mk_header(&m, 3, 0, 1);
    mk_key(&m, "maybe", MK_BOOL);
    mk_u8(&m, 2);
    refused(&m, HOB_EFORMAT, "key maybe", "bool is 2");

    mk_header(&m, 3, 0, 1);
    mk_key_array(&m, "maybes", MK_BOOL, 3);
    mk_bytes(&m, "\0\1\7", 3);
    refused(&m, HOB_EFORMAT, "key maybes", "bool is 7");

    const uint64_t lengths[] = {17, UINT32_MAX, INT64_MAX, UINT64_MAX - 8, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        mk_header(&m, 3, 0, 1);
        mk_key(&m, "huge", MK_STRING);
        mk_u64(&m, lengths[i]);
        mk_zeros(&m, 16);
        refused(&m, HOB_EFORMAT, "key huge", "");

        mk_header(&m, 3, 0, 1);
        mk_key_array(&m, "hugest", MK_STRING, 2);
        mk_string(&m, "");
        mk_u64(&m, lengths[i]);
        mk_zeros(&m, 16);
        refused(&m, HOB_EFORMAT, "key hugest", "string 1");
    }
    /* The last four wrap to something small when multiplied by 8, 4 or 2. */
    const uint64_t counts[] = {33,
                               UINT64_MAX,
                               (UINT64_C(1) << 61) + 1,
                               (UINT64_C(1) << 62) + 1,
                               (UINT64_C(1) << 63) + 1,
                               UINT64_C(1) << 61};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (uint32_t kind = MK_U8; kind <= MK_F64; kind++) {
            mk_header(&m, 3, 0, 1);
            mk_key_array(&m, "many", kind, counts[i]);
            mk_zeros(&m, 32);
            refused(&m, HOB_EFORMAT, "key many", "");
        }
    }
    mk_header(&m, 3, 0, 1);
    mk_key_array(&m, "alien", 13, 0);
    refused(&m, HOB_EFORMAT, "key alien", "13");
    mk_header(&m, 3, 0, 1);
    mk_key_array(&m, "alien", MK_ARRAY, 1);
    mk_u32(&m, 4000000000u);
    mk_u64(&m, 1);
    refused(&m, HOB_EFORMAT, "key alien", "4000000000");
}

static void nests(mk *m, int depth)
{
    mk_header(m, 3, 0, 1);
    mk_key(m, "nest", MK_ARRAY);
    for (int i = 1; i < depth; i++) {
        mk_u32(m, MK_ARRAY);
        mk_u64(m, 1);
    }
    mk_u32(m, MK_U8);
    mk_u64(m, 1);
    mk_u8(m, 1);
}

static void bounds_nesting(void **state)
{
    (void)state;
    mk m = {0};
    nests(&m, 4);
    hob_gguf_close(taken(&m));
    mk_free(&m);
    nests(&m, 5);
    refused(&m, HOB_EFORMAT, "key nest", "deeper than 4");
    nests(&m, 1000000); /* would overflow a stack */
    refused(&m, HOB_EFORMAT, "key nest", "deeper than 4");
}

static void bounds_alignment(void **state)
{
    (void)state;
    const uint32_t bad[] = {0, 1, 3, 4, 12, 33, 131072, UINT32_C(1) << 31, UINT32_MAX};
    mk m = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mk_header(&m, 3, 0, 1);
        mk_key_u32(&m, "general.alignment", bad[i]);
        refused(&m, HOB_EFORMAT, "general.alignment", "");
    }
    mk_header(&m, 3, 0, 1);
    mk_key_string(&m, "general.alignment", "32");
    refused(&m, HOB_EFORMAT, "general.alignment", "string");

    const uint32_t good[] = {8, 32, 4096, 65536};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        mk_header(&m, 3, 1, 1);
        mk_key_u32(&m, "general.alignment", good[i]);
        mk_tensor(&m, "t", MK_TYPE_F32, 1, dims_32, good[i]);
        mk_pad(&m, good[i]);
        const size_t start = m.bytes;
        mk_zeros(&m, good[i] + 128);
        hob_gguf *g = taken(&m);
        assert_ptr_equal(hob_gguf_tensor_at(g, 0)->data, m.data + start + good[i]);
        hob_gguf_close(g);
        mk_free(&m);
    }
}

/* A file of one tensor as given, with data_bytes of data. */
static void one(mk *m, const char *name, uint32_t type, uint32_t dim_count, const uint64_t *dims,
                uint64_t offset, size_t data_bytes)
{
    mk_header(m, 3, 1, 0);
    mk_tensor(m, name, type, dim_count, dims, offset);
    mk_pad(m, 32);
    mk_zeros(m, data_bytes);
}

static void refuses_shapes(void **state)
{
    (void)state;
    const uint64_t zero_first[] = {0, 4}, zero_last[] = {32, 4, 0}, five[] = {32, 1, 1, 1, 1};
    const uint64_t wrap2[] = {UINT64_C(1) << 32, UINT64_C(1) << 32},
                   wrap4[] = {65536, 65536, 65536, 65536};
    const uint64_t huge[] = {UINT64_MAX - 31}, bytes_wrap[] = {UINT64_C(1) << 62},
                   to_one[] = {UINT64_MAX, UINT64_MAX};
    const uint64_t wide[] = {UINT64_C(1) << 61, 8}, odd[] = {33, 2}, small_block[] = {32};
    mk m = {0};
    one(&m, "t", MK_TYPE_F32, 0, NULL, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "0 dimensions");
    one(&m, "t", MK_TYPE_F32, 5, five, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "5 dimensions");
    one(&m, "t", MK_TYPE_F32, 2, zero_first, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "dimension 0 is 0");
    one(&m, "t", MK_TYPE_F32, 3, zero_last, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "dimension 2 is 0");
    one(&m, "t", MK_TYPE_F32, 2, wrap2, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "overflow");
    one(&m, "t", MK_TYPE_F32, 4, wrap4, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "overflow");
    one(&m, "t", MK_TYPE_F32, 2, to_one, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "overflow");
    one(&m, "t", MK_TYPE_F32, 2, wide, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "overflow");
    one(&m, "t", MK_TYPE_F32, 1, bytes_wrap, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "overflow");
    one(&m, "t", MK_TYPE_Q4_0, 1, huge, 0, 128); /* fits a size, not the file */
    refused(&m, HOB_EFORMAT, "tensor t", "128 bytes of data");
    one(&m, "t", MK_TYPE_Q8_0, 2, odd, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor t", "rows of 33");
    one(&m, "t", 12, 1, small_block, 0, 256); /* Q4_K */
    refused(&m, HOB_EFORMAT, "tensor t", "blocks of 256");
    for (uint32_t type = 0; type < 64; type++) { /* of each type that hob computes with */
        const hob_type_info *info = hob_type_find(type);
        if (!info)
            continue;
        const uint64_t dims[] = {2 * info->block_len, 3}, uneven[] = {2 * info->block_len - 1, 3};
        const size_t bytes = 6 * (size_t)info->block_bytes;
        one(&m, "t", type, 2, dims, 0, bytes);
        hob_gguf_close(taken(&m));
        mk_free(&m);
        one(&m, "t", type, 2, dims, 0, bytes - 1);
        refused(&m, HOB_EFORMAT, "tensor t", "bytes of data");
        one(&m, "t", type, 2, uneven, 0, bytes);
        if (info->block_len > 1)
            refused(&m, HOB_EFORMAT, "tensor t", "rows of");
        mk_free(&m);
    }
}

static void refuses_types(void **state)
{
    (void)state;
    const uint32_t unknown[] = {4, 5, 31, 38, 40, 1000, UINT32_MAX};
    mk m = {0};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        one(&m, "strange", unknown[i], 1, dims_32, 0, 128);
        refused(&m, HOB_EUNSUPPORTED, "tensor strange", "unknown type");
    }
}

static void refuses_tensor_names(void **state)
{
    (void)state;
    char name[66];
    memset(name, 'n', 65);
    name[65] = '\0';
    mk m = {0};
    one(&m, name, MK_TYPE_F32, 1, dims_32, 0, 128);
    refused(&m, HOB_EFORMAT, "65 bytes", "64");
    one(&m, name + 1, MK_TYPE_F32, 1, dims_32, 0, 128);
    hob_gguf_close(taken(&m));
    mk_free(&m);
    one(&m, "", MK_TYPE_F32, 1, dims_32, 0, 128);
    refused(&m, HOB_EFORMAT, "name of tensor 0", "0 bytes");
    mk_header(&m, 3, 2, 0);
    mk_tensor(&m, "twin", MK_TYPE_F32, 1, dims_32, 0);
    mk_tensor(&m, "twin", MK_TYPE_F32, 1, dims_32, 128);
    mk_pad(&m, 32);
    mk_zeros(&m, 256);
    refused(&m, HOB_EFORMAT, "tensor twin", "twice");
    /* What a diagnosis shows of a name cannot steer a terminal. */
    one(&m, "\x1b[2Jx", MK_TYPE_F32, 0, NULL, 0, 128);
    refused(&m, HOB_EFORMAT, "tensor \\x1b[2Jx", "");
}

static void refuses_places(void **state)
{
    (void)state;
    const uint64_t outside[] = {32, 128, 4096, UINT64_C(1) << 62, UINT64_MAX - 31};
    const uint64_t unaligned[] = {1, 16, 31, UINT64_MAX};
    mk m = {0};
    one(&m, "t", MK_TYPE_F32, 1, dims_32, 0, 128);
    hob_gguf_close(taken(&m));
    mk_free(&m);
    one(&m, "t", MK_TYPE_F32, 1, dims_32, 0, 127);
    refused(&m, HOB_EFORMAT, "tensor t", "127 bytes of data");
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        one(&m, "t", MK_TYPE_F32, 1, dims_32, outside[i], 128);
        refused(&m, HOB_EFORMAT, "tensor t", "128 bytes of data");
    }
    for (size_t i = 0; i < sizeof unaligned / sizeof *unaligned; i++) {
        one(&m, "t", MK_TYPE_F32, 1, dims_32, unaligned[i], 256);
        refused(&m, HOB_EFORMAT, "tensor t", "alignment is 32");
    }
    mk_header(&m, 3, 1, 0);
    mk_tensor(&m, "t", MK_TYPE_F32, 1, dims_32, 0);
    refused(&m, HOB_EFORMAT, "before its tensor data", "");
}

static void refuses_overlaps(void **state)
{
    (void)state;
    mk m = {0};
    /* The middle one of three, out of order, reaches 32 bytes into the last. */
    mk_header(&m, 3, 3, 0);
    mk_tensor(&m, "last", MK_TYPE_F32, 1, dims_64, 352);
    mk_tensor(&m, "first", MK_TYPE_F32, 1, dims_32, 0);
    mk_tensor(&m, "middle", MK_TYPE_F32, 1, dims_64, 128);
    mk_pad(&m, 32);
    mk_zeros(&m, 608);
    refused(&m, HOB_EFORMAT, "tensor last", "tensor middle");
    /* The same bytes twice. */
    mk_header(&m, 3, 2, 0);
    mk_tensor(&m, "a", MK_TYPE_F32, 1, dims_32, 0);
    mk_tensor(&m, "b", MK_TYPE_F32, 1, dims_32, 0);
    mk_pad(&m, 32);
    mk_zeros(&m, 256);
    refused(&m, HOB_EFORMAT, "overlaps", "");
    /* One inside another. */
    mk_header(&m, 3, 2, 0);
    mk_tensor(&m, "a", MK_TYPE_F32, 1, dims_64, 0);
    mk_tensor(&m, "b", MK_TYPE_Q4_0, 1, dims_32, 64);
    mk_pad(&m, 32);
    mk_zeros(&m, 256);
    refused(&m, HOB_EFORMAT, "tensor b", "tensor a");
    /* Side by side is no overlap. */
    mk_header(&m, 3, 2, 0);
    mk_tensor(&m, "b", MK_TYPE_F32, 1, dims_32, 128);
    mk_tensor(&m, "a", MK_TYPE_F32, 1, dims_32, 0);
    mk_pad(&m, 32);
    mk_zeros(&m, 256);
    hob_gguf_close(taken(&m));
    mk_free(&m);
}

static void refuses_every_truncation(void **state)
{
    (void)state;
    mk whole = {0};
    mk_everything(&whole);
    for (size_t bytes = 0; bytes < whole.bytes; bytes++) {
        mk m = {0};
        mk_bytes(&m, whole.data, bytes);
        refused(&m, HOB_EFORMAT, "", "");
    }
    mk_free(&whole);
}

/* Neither count nor names of keys make opening quadratic; all are found again. */
static void takes_many_keys_and_tensors(void **state)
{
    (void)state;
    enum { MANY = 20000 };
    char name[24];
    mk m = {0};
    mk_header(&m, 3, MANY, MANY);
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "key.%u", i);
        mk_key_u32(&m, name, i);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "tensor.%u", i);
        mk_tensor(&m, name, MK_TYPE_Q4_0, 1, dims_32, UINT64_C(32) * (MANY - 1 - i));
    }
    mk_pad(&m, 32);
    mk_zeros(&m, 32 * MANY);
    hob_gguf *g = taken(&m);
    hob_diag diag = {""};
    for (uint32_t i = 0; i < MANY; i++) {
        uint64_t u = 0;
        snprintf(name, sizeof name, "key.%u", i);
        assert_int_equal(hob_gguf_u64(g, name, 0, MANY, &u, &diag), 0);
        assert_int_equal(u, i);
        snprintf(name, sizeof name, "tensor.%u", i);
        assert_ptr_equal(hob_gguf_find_tensor(g, name), hob_gguf_tensor_at(g, i));
    }
    hob_gguf_close(g);
    mk_free(&m);
}

static void opens_the_real_model(void **state)
{
    (void)state;
    const char *path = getenv("HOB_TEST_MODEL");
    if (!path || access(path, R_OK) != 0)
        skip();
    hob_gguf *g = NULL;
    hob_diag diag = {""};
    uint64_t n = 0;
    if (hob_gguf_open(path, &g, &diag) < 0)
        fail_msg("%s", diag.text);
    assert_int_equal(hob_gguf_tensor_count(g), 272);
    const hob_gguf_tensor *t = hob_gguf_find_tensor(g, "token_embd.weight");
    assert_non_null(t);
    assert_true(t->type == MK_TYPE_Q8_0 && t->dims[0] == 576 && t->dims[1] == 49152 &&
                t->bytes == 30081024);
    assert_int_equal(hob_gguf_array_strings(g, "tokenizer.ggml.merges", &n, &diag), 0);
    assert_int_equal(n, 48900);
    hob_gguf_close(g);
}

static void test_a_diagnosis_is_one_line(void **state)
{
    (void)state;
    hob_diag diag;
    assert_int_equal(hob_fail(&diag, HOB_EFORMAT, "\"%s\" is no name", "a\x1b[2J\nb\x7f\r"),
                     HOB_EFORMAT);
    assert_string_equal(diag.text, "\"a?[2J?b??\" is no name");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_diagnosis_is_one_line),
        cmocka_unit_test(answers_every_type),
        cmocka_unit_test(getters_refuse),
        cmocka_unit_test(refuses_floats_that_are_none),
        cmocka_unit_test(finds_tensors),
        cmocka_unit_test(describes_keys),
        cmocka_unit_test(takes_small_files),
        cmocka_unit_test(opens_a_file),
        cmocka_unit_test(refuses_other_headers),
        cmocka_unit_test(refuses_counts),
        cmocka_unit_test(refuses_key_names),
        cmocka_unit_test(refuses_values),
        cmocka_unit_test(bounds_nesting),
        cmocka_unit_test(bounds_alignment),
        cmocka_unit_test(refuses_shapes),
        cmocka_unit_test(refuses_types),
        cmocka_unit_test(refuses_tensor_names),
        cmocka_unit_test(refuses_places),
        cmocka_unit_test(refuses_overlaps),
        cmocka_unit_test(refuses_every_truncation),
        cmocka_unit_test(takes_many_keys_and_tensors),
        cmocka_unit_test(opens_the_real_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
