/* SPDX-License-Identifier: Apache-2.0
 *
 * The GGUF writer: what it writes is what the reader answers, and a file is whole or not there, on a disk that is full too.
 * And the conversions of weights, at their edges; tests/api/test_import.py holds them against the GGUF project's own. */
#include "models/gguf_write.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/quantize.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hob_test_gguf_write_XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/out.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder); /* fails where something else was left */
}

static unsigned entries(void)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static hob_gguf_writer *new_writer(void)
{
    hob_gguf_writer *w = NULL;
    assert_int_equal(hob_gguf_writer_new(&w, NULL), 0);
    return w;
}

/* Two tensors of 12 and 68 bytes. */
static void put_some(hob_gguf_writer *w)
{
    static const hob_string words[] = {{"a", 1}, {"", 0}, {"\xE2\x96\x81x", 4}};
    static const int32_t types[] = {1, -2, 3};
    static const float scores[] = {0.5f, -INFINITY};
    hob_gguf_put_string(w, "general.architecture", "test", 4);
    hob_gguf_put_u32(w, "n", 4000000000u);
    hob_gguf_put_f32(w, "f", 1e-12f);
    hob_gguf_put_bool(w, "yes", true);
    hob_gguf_put_bool(w, "no", false);
    hob_gguf_put_strings(w, "words", words, 3);
    hob_gguf_put_i32s(w, "types", types, 3);
    hob_gguf_put_f32s(w, "scores", scores, 2);
    hob_gguf_put_strings(w, "none", NULL, 0);
    hob_gguf_put_tensor(w, "vector", HOB_TYPE_F32, 1, (const uint64_t[]){3});
    hob_gguf_put_tensor(w, "matrix", HOB_TYPE_Q8_0, 2, (const uint64_t[]){32, 2});
}

static int write_some(hob_gguf_writer *w, hob_diag *diag)
{
    static const float vector[3] = {1, 2, 3};
    uint8_t matrix[68];
    for (size_t i = 0; i < sizeof matrix; i++)
        matrix[i] = (uint8_t)i;
    int rc = hob_gguf_writer_begin(w, path, diag);
    if (rc == 0)
        rc = hob_gguf_writer_data(w, vector, sizeof vector, diag);
    if (rc == 0) /* in pieces */
        rc = hob_gguf_writer_data(w, matrix, 5, diag);
    if (rc == 0)
        rc = hob_gguf_writer_data(w, matrix + 5, sizeof matrix - 5, diag);
    return rc == 0 ? hob_gguf_writer_finish(w, diag) : rc;
}

static void test_round_trip(void **state)
{
    (void)state;
    hob_gguf_writer *w = new_writer();
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    put_some(w);
    if (write_some(w, &diag) < 0)
        fail_msg("%s", diag.text);
    hob_gguf_writer_free(w);
    assert_int_equal(entries(), 1);

    if (hob_gguf_open(path, &g, &diag) < 0)
        fail_msg("%s", diag.text);
    uint64_t u = 0, n = 0;
    float f = 0;
    bool yes = false, no = true;
    hob_string s, words[3];
    const void *le = NULL;
    assert_int_equal(hob_gguf_u64(g, "n", 0, UINT32_MAX, &u, &diag), 0);
    assert_int_equal(hob_gguf_f32(g, "f", 0, 1, &f, &diag), 0);
    assert_int_equal(hob_gguf_bool(g, "yes", &yes, &diag), 0);
    assert_int_equal(hob_gguf_bool(g, "no", &no, &diag), 0);
    assert_int_equal(hob_gguf_string(g, "general.architecture", &s, &diag), 0);
    assert_true(u == 4000000000u && f == 1e-12f && yes && !no && s.len == 4);
    assert_int_equal(hob_gguf_read_strings(g, "words", words, 3, &diag), 0);
    assert_true(words[0].len == 1 && words[1].len == 0 && words[2].len == 4);
    assert_memory_equal(words[2].data, "\xE2\x96\x81x", 4);
    assert_int_equal(hob_gguf_array_i32(g, "types", &le, &n, &diag), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(le, ((const int32_t[]){1, -2, 3}), 12);
    assert_int_equal(hob_gguf_array_f32(g, "scores", &le, &n, &diag), 0);
    assert_memory_equal(le, ((const float[]){0.5f, -INFINITY}), 8);
    assert_int_equal(hob_gguf_array_strings(g, "none", &n, &diag), 0);
    assert_int_equal(n, 0);

    const hob_gguf_tensor *t = hob_gguf_find_tensor(g, "vector");
    assert_true(t && t->type == HOB_TYPE_F32 && t->dim_count == 1 && t->dims[0] == 3);
    assert_memory_equal(t->data, ((const float[]){1, 2, 3}), 12);
    t = hob_gguf_find_tensor(g, "matrix");
    assert_true(t && t->type == HOB_TYPE_Q8_0 && t->dims[0] == 32 && t->dims[1] == 2);
    for (int i = 0; i < 68; i++)
        assert_int_equal(((const uint8_t *)t->data)[i], i);
    hob_gguf_close(g);
}

static void test_keys_alone(void **state)
{
    (void)state;
    hob_gguf_writer *w = new_writer();
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    void *file = NULL;
    size_t bytes = 0;
    put_some(w);
    assert_int_equal(hob_gguf_writer_keys(w, &file, &bytes, &diag), 0);
    if (hob_gguf_parse(file, bytes, &g, &diag) < 0)
        fail_msg("%s", diag.text);
    assert_int_equal(hob_gguf_tensor_count(g), 0);
    uint64_t n = 0;
    assert_int_equal(hob_gguf_array_strings(g, "words", &n, &diag), 0);
    hob_gguf_close(g);
    free(file);
    hob_gguf_writer_free(w);
}

static void refused(hob_gguf_writer *w, const char *text)
{
    hob_diag diag = {""};
    assert_int_equal(hob_gguf_writer_begin(w, path, &diag), HOB_EINVAL);
    if (!strstr(diag.text, text))
        fail_msg("\"%s\", expected \"%s\"", diag.text, text);
    hob_gguf_writer_free(w);
    assert_int_equal(entries(), 0);
}

static void test_refuses_what_no_file_has(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        hob_type type;
        uint32_t count;
        uint64_t dims[4];
        const char *why;
    } cases[] = {
        {"", HOB_TYPE_F32, 1, {1}, "no GGUF file"},
        {"a-name-of-more-than-the-sixty-three-bytes-that-a-tensor-may-have",
         HOB_TYPE_F32,
         1,
         {1},
         "no GGUF file"},
        {"t", HOB_TYPE_F32, 0, {1}, "t: a tensor that no GGUF file"},
        {"t", HOB_TYPE_F32, 5, {1}, "t: a tensor that no GGUF file"},
        {"t", HOB_TYPE_Q8_0, 1, {33}, "t: a tensor that no GGUF file"},
        {"t", (hob_type)4, 1, {32}, "t: a tensor that no GGUF file"},
        {"t", HOB_TYPE_F32, 2, {1, 0}, "t: its dimensions are 0 or overflow"},
        {"t", HOB_TYPE_F32, 2, {1ull << 33, 1ull << 33}, "t: its dimensions are 0 or overflow"},
        {"t", HOB_TYPE_F32, 2, {1ull << 31, 1ull << 31}, "t: more data than a file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_gguf_writer *w = new_writer();
        hob_gguf_put_tensor(w, cases[i].name, cases[i].type, cases[i].count, cases[i].dims);
        hob_gguf_put_u32(w, "later", 1); /* the first failure is kept */
        refused(w, cases[i].why);
    }
    hob_gguf_writer *w = new_writer();
    hob_gguf_put_u32(w, "", 1);
    refused(w, "a key has 1 to 65535 bytes");
}

static void test_refuses_data_of_no_tensor(void **state)
{
    (void)state;
    static const uint8_t bytes[128];
    hob_gguf_writer *w = new_writer();
    hob_diag diag = {""};
    put_some(w);
    assert_int_equal(hob_gguf_writer_data(w, bytes, 1, &diag), HOB_EINVAL); /* not begun */
    assert_int_equal(hob_gguf_writer_begin(w, path, &diag), 0);
    assert_int_equal(hob_gguf_writer_data(w, bytes, 13, &diag), HOB_EINVAL); /* into the next one */
    assert_int_equal(hob_gguf_writer_data(w, bytes, 12, &diag), 0);
    assert_int_equal(hob_gguf_writer_finish(w, &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "the data of 1 tensors is missing"));
    assert_int_equal(hob_gguf_writer_data(w, bytes, 68, &diag), 0);
    assert_int_equal(hob_gguf_writer_data(w, bytes, 1, &diag), HOB_EINVAL);
    hob_gguf_writer_free(w); /* not finished: nothing is left */
    assert_int_equal(entries(), 0);
}

static void test_keeps_what_was_there(void **state)
{
    (void)state;
    hob_diag diag = {""};
    struct stat before, after;
    hob_gguf_writer *w = new_writer();
    put_some(w);
    assert_int_equal(write_some(w, &diag), 0);
    hob_gguf_writer_free(w);
    assert_int_equal(stat(path, &before), 0);

    w = new_writer();
    put_some(w);
    assert_int_equal(hob_gguf_writer_begin(w, path, &diag), 0);
    assert_int_equal(entries(), 2);
    hob_gguf_writer_free(w);
    assert_int_equal(entries(), 1);
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);

    w = new_writer();
    put_some(w);
    assert_int_equal(write_some(w, &diag), 0);
    hob_gguf_writer_free(w);
    assert_int_equal(entries(), 1);
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino != after.st_ino && before.st_size == after.st_size);
}

static void test_refuses_places(void **state)
{
    (void)state;
    static const struct {
        const char *path, *why;
    } cases[] = {{"/tmp", "/tmp: cannot write: it is not a regular file"},
                 {"/dev/null", "/dev/null: cannot write: it is not a regular file"},
                 {"/tmp/hob-no-such-folder/x.gguf", "cannot write: No such file or directory"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_gguf_writer *w = new_writer();
        hob_diag diag = {""};
        put_some(w);
        assert_int_equal(hob_gguf_writer_begin(w, cases[i].path, &diag), HOB_EIO);
        if (!strstr(diag.text, cases[i].why))
            fail_msg("\"%s\", expected \"%s\"", diag.text, cases[i].why);
        hob_gguf_writer_free(w);
    }
}

/* A file may have so many bytes and no more. */
static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* No space for all of it, which most file systems say before anything is written; and no space after all. */
static void test_full_disk(void **state)
{
    (void)state;
    static uint8_t data[65536];
    signal(SIGXFSZ, SIG_IGN);
    for (int late = 0; late < 2; late++) {
        hob_gguf_writer *w = new_writer();
        hob_diag diag = {""};
        hob_gguf_put_tensor(w, "t", HOB_TYPE_F32, 1, (const uint64_t[]){sizeof data / 4});
        limit_files(late ? RLIM_INFINITY : 1000);
        int rc = hob_gguf_writer_begin(w, path, &diag);
        assert_true(!late || rc == 0);
        limit_files(1000);
        if (rc == 0)
            rc = hob_gguf_writer_data(w, data, sizeof data, &diag);
        limit_files(RLIM_INFINITY);
        assert_int_equal(rc, HOB_EIO);
        assert_non_null(strstr(diag.text, "out.gguf: cannot "));
        assert_non_null(strstr(diag.text, ": File too large"));
        hob_gguf_writer_free(w);
        assert_int_equal(entries(), 0);
    }
}

/* --- conversions --- */

static void test_quantizes_blocks(void **state)
{
    (void)state;
    float w[64];
    uint8_t b[68];
    for (int i = 0; i < 64; i++)
        w[i] = i < 32 ? 0 : (float)(i - 32) * 4;
    w[33] = -127;
    w[34] = 2.5f; /* halves away from zero */
    w[35] = -2.5f;
    assert_int_equal(hob_quantize(HOB_TYPE_Q8_0, w, 64, b + 0), 64);
    for (int i = 0; i < 34; i++)
        assert_int_equal(b[i], 0);
    assert_true(b[34] == 0x00 && b[35] == 0x3c); /* 127 / 127 */
    assert_int_equal((int8_t)b[36 + 1], -127);
    assert_int_equal((int8_t)b[36 + 2], 3);
    assert_int_equal((int8_t)b[36 + 3], -3);
    assert_int_equal((int8_t)b[36 + 31], 124);

    for (int i = 0; i < 32; i++) /* d has no finite inverse */
        w[i] = i % 2 ? 0x1p-149f : 0;
    assert_int_equal(hob_quantize(HOB_TYPE_Q8_0, w, 32, b), 32);
    for (int i = 0; i < 34; i++)
        assert_int_equal(b[i], 0);
}

static void test_quantizes_no_nonsense(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const hob_type types[] = {HOB_TYPE_F32, HOB_TYPE_F16, HOB_TYPE_Q8_0};
    float w[64] = {0};
    uint8_t b[256];
    for (size_t i = 0; i < 3; i++)
        for (size_t k = 0; k < 3; k++) {
            w[37] = bad[i];
            assert_int_equal(hob_quantize(types[k], w, 64, b), 37);
        }
    w[37] = 65504; /* the largest f16, and what rounds to it */
    w[38] = -65519;
    assert_int_equal(hob_quantize(HOB_TYPE_F16, w, 64, b), 64);
    assert_true(b[74] == 0xff && b[75] == 0x7b && b[76] == 0xff && b[77] == 0xfb);
    w[38] = -65520;
    assert_int_equal(hob_quantize(HOB_TYPE_F16, w, 64, b), 38);
    w[38] = 127 * 65504.0f;
    assert_int_equal(hob_quantize(HOB_TYPE_Q8_0, w, 64, b), 64);
    w[39] = -127 * 65520.0f;
    assert_int_equal(hob_quantize(HOB_TYPE_Q8_0, w, 64, b), 39);
    assert_int_equal(hob_quantize(HOB_TYPE_F32, w, 64, b), 64);
    assert_memory_equal(b, w, sizeof w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, make_folder, remove_folder),
        cmocka_unit_test(test_keys_alone),
        cmocka_unit_test_setup_teardown(test_refuses_what_no_file_has, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_refuses_data_of_no_tensor, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_keeps_what_was_there, make_folder, remove_folder),
        cmocka_unit_test(test_refuses_places),
        cmocka_unit_test_setup_teardown(test_full_disk, make_folder, remove_folder),
        cmocka_unit_test(test_quantizes_blocks),
        cmocka_unit_test(test_quantizes_no_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
