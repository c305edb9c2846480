/* SPDX-License-Identifier: Apache-2.0
 *
 * The safetensors reader: what it takes and answers, and one file of each class of damage that must be refused, with the code
 * and with words that name the culprit. */
#include "models/safetensors.h"
#include "tests/support/safetensors_maker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "hal/half.h"
#include "models/strict_json.h"

/* The bytes must be refused with code, and the diagnosis must hold the text. */
static void refused_bytes(const mk *m, int code, const char *text)
{
    hob_safetensors *s = NULL;
    hob_diag diag = {""};
    uint8_t *exact = malloc(m->bytes ? m->bytes : 1);
    assert_non_null(exact);
    if (m->bytes)
        memcpy(exact, m->data, m->bytes);
    const int rc = hob_safetensors_parse(exact, m->bytes, &s, &diag);
    if (rc != code || !strstr(diag.text, text))
        fail_msg("%s \"%s\", expected %s with \"%s\"", rc < 0 ? hob_error_name(rc) : "taken",
                 diag.text, hob_error_name(code), text);
    assert_null(s);
    free(exact);
}

static void refused(const char *header, size_t data_bytes, int code, const char *text)
{
    mk m = {0};
    st_file(&m, header, data_bytes);
    refused_bytes(&m, code, text);
    mk_free(&m);
}

static hob_safetensors *taken(const mk *m)
{
    hob_safetensors *s = NULL;
    hob_diag diag = {""};
    if (hob_safetensors_parse(m->data, m->bytes, &s, &diag) < 0)
        fail_msg("refused: %s", diag.text);
    return s;
}

static void test_answers(void **state)
{
    (void)state;
    mk m = {0};
    st_everything(&m);
    hob_safetensors *s = taken(&m);
    const size_t data = m.bytes - 47;
    static const char *const order[] = {"brain", "float", "half", "ids", "none", "one"};
    assert_int_equal(hob_safetensors_count(s), 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(hob_safetensors_at(s, i)->name, order[i]);
    assert_null(hob_safetensors_at(s, 6));
    assert_null(hob_safetensors_find(s, "__metadata__"));
    assert_null(hob_safetensors_find(s, "hal"));
    const hob_safetensors_tensor *t = hob_safetensors_find(s, "float");
    assert_ptr_equal(t, hob_safetensors_at(s, 1));
    assert_true(t->is_float && t->type == HOB_TYPE_F32 && t->dim_count == 2 && t->dims[0] == 2 &&
                t->dims[1] == 3 && t->elements == 6 && t->bytes == 24 && t->offset == data);
    t = hob_safetensors_find(s, "one");
    assert_true(!t->is_float && t->dim_count == 0 && t->elements == 1 && t->offset == data + 46);
    assert_string_equal(t->dtype, "U8");
    t = hob_safetensors_find(s, "none");
    assert_true(t->elements == 0 && t->bytes == 0);
    hob_safetensors_close(s);
    hob_safetensors_close(NULL);
    mk_free(&m);
}

static void test_reads_floats(void **state)
{
    (void)state;
    mk m = {0};
    st_everything(&m);
    hob_safetensors *s = taken(&m);
    hob_diag diag = {""};
    float got[6];
    const uint8_t *data = m.data + m.bytes - 47;
    const hob_safetensors_tensor *t = hob_safetensors_find(s, "float");
    assert_int_equal(hob_safetensors_read(s, t, 1, 5, got, &diag), 0);
    assert_memory_equal(got, data + 4, 20);
    assert_int_equal(hob_safetensors_read(s, t, 6, 0, got, &diag), 0);
    t = hob_safetensors_find(s, "half");
    assert_int_equal(hob_safetensors_read(s, t, 0, 4, got, &diag), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_true(got[i] == hob_half_to_float((uint16_t)(24 + 2 * i + ((25 + 2 * i) << 8))));
    t = hob_safetensors_find(s, "brain");
    assert_int_equal(hob_safetensors_read(s, t, 2, 1, got, &diag), 0);
    assert_true(got[0] == hob_bits_float(0x25240000u));

    got[0] = 7;
    assert_int_equal(hob_safetensors_read(s, t, 2, 2, got, &diag), HOB_EINVAL);
    assert_int_equal(hob_safetensors_read(s, t, 4, 0, got, &diag), HOB_EINVAL);
    assert_int_equal(hob_safetensors_read(s, t, UINT64_MAX, 2, got, &diag), HOB_EINVAL);
    t = hob_safetensors_find(s, "ids");
    assert_int_equal(hob_safetensors_read(s, t, 0, 1, got, &diag), HOB_EUNSUPPORTED);
    assert_non_null(strstr(diag.text, "tensor ids: got I64, allowed are F32, F16 and BF16"));
    assert_true(got[0] == 7);
    hob_safetensors_close(s);
    mk_free(&m);
}

/* More than one buffer's worth, from a file; which then becomes shorter. */
static void test_reads_files(void **state)
{
    (void)state;
    enum { COUNT = 10000 };
    char path[] = "/tmp/hob_test_safetensors_XXXXXX";
    const int fd = mkstemp(path);
    mk m = {0};
    hob_diag diag = {""};
    hob_safetensors *s = NULL;
    assert_true(fd >= 0);
    st_file(&m, "{\"w\":{\"dtype\":\"F32\",\"shape\":[10000],\"data_offsets\":[0,40000]}}", 0);
    for (int i = 0; i < COUNT; i++)
        mk_f32(&m, (float)i);
    assert_true(mk_save(&m, path));
    if (hob_safetensors_open(path, &s, &diag) < 0)
        fail_msg("%s", diag.text);
    float *got = malloc(COUNT * sizeof *got);
    assert_non_null(got);
    const hob_safetensors_tensor *t = hob_safetensors_at(s, 0);
    assert_int_equal(hob_safetensors_read(s, t, 0, COUNT, got, &diag), 0);
    for (int i = 0; i < COUNT; i++)
        assert_true(got[i] == (float)i);
    assert_int_equal(ftruncate(fd, 20000), 0);
    assert_int_equal(hob_safetensors_read(s, t, 0, COUNT, got, &diag), HOB_EIO);
    assert_non_null(strstr(diag.text, "the file has become shorter"));
    hob_safetensors_close(s);

    s = NULL;
    assert_int_equal(hob_safetensors_open(path, &s, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "hob_test_safetensors_"));
    unlink(path);
    assert_int_equal(hob_safetensors_open(path, &s, &diag), HOB_EIO);
    assert_int_equal(hob_safetensors_open("/tmp", &s, &diag), HOB_EIO);
    assert_non_null(strstr(diag.text, "not a regular file"));
    assert_null(s);
    free(got);
    mk_free(&m);
    close(fd);
}

#define ENTRY(type, shape, range)                                                                  \
    "{\"w\":{\"dtype\":" type ",\"shape\":" shape ",\"data_offsets\":" range "}}"

static void test_refuses_headers(void **state)
{
    (void)state;
    mk m = {0};
    refused_bytes(&m, HOB_EFORMAT, "not a safetensors file: 0 bytes");
    mk_bytes(&m, "\x05\0\0\0\0\0\0", 7);
    refused_bytes(&m, HOB_EFORMAT, "7 bytes");
    mk_u8(&m, 0);
    refused_bytes(&m, HOB_EFORMAT, "header: got 5 bytes, allowed are 2 to 33554432 and what 0");
    m.data[7] = 0x80;
    refused_bytes(&m, HOB_EFORMAT, "header: got 9223372036854775813 bytes");
    mk_free(&m);
    refused("", 0, HOB_EFORMAT, "header: got 0 bytes");
    refused("[]", 0, HOB_EFORMAT, "does not begin with {");
    refused(" {}", 0, HOB_EFORMAT, "does not begin with {");
    refused("{}x", 0, HOB_EFORMAT, "header: line 1");
    refused("{\"w\":", 0, HOB_EFORMAT, "header: line 1");
    refused("{\"\xff\":1}", 0, HOB_EFORMAT, "header: line 1");
    refused("{}", 3, HOB_EFORMAT, "3 bytes behind the header belong to no tensor");
    refused("{\"w\":1}", 0, HOB_EFORMAT, "tensor w: its entry is not an object");
    refused("{\"\":{}}", 0, HOB_EFORMAT, "a name of 0 bytes");
    refused("{\"__metadata__\":[]}", 0, HOB_EFORMAT, "__metadata__: allowed is an object");
    refused("{\"__metadata__\":{\"a\":1}}", 0, HOB_EFORMAT, "__metadata__: a: allowed is a string");
    refused("{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
            "\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
            2, HOB_EFORMAT, "duplicate object key");
}

static void test_refuses_entries(void **state)
{
    (void)state;
    refused("{\"w\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, HOB_EFORMAT,
            "tensor w: dtype: the key is missing");
    refused("{\"w\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, HOB_EFORMAT,
            "tensor w: shape: the key is missing");
    refused("{\"w\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, HOB_EFORMAT,
            "tensor w: data_offsets: the key is missing");
    refused("{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1,
            HOB_EUNSUPPORTED, "tensor w: got 4 fields");
    refused(ENTRY("\"Q4\"", "[1]", "[0,1]"), 1, HOB_EUNSUPPORTED,
            "tensor w: dtype: got \"Q4\", which is not known");
    refused(ENTRY("8", "[1]", "[0,1]"), 1, HOB_EFORMAT, "tensor w: dtype: got a number");
    refused(ENTRY("\"U8\"", "{}", "[0,1]"), 1, HOB_EFORMAT, "tensor w: shape: got an object");
    refused(ENTRY("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, HOB_EFORMAT,
            "tensor w: shape: got 9 dimensions, allowed are 0 to 8");
    refused(ENTRY("\"U8\"", "[-1]", "[0,1]"), 1, HOB_EFORMAT,
            "tensor w: shape[0]: got a negative one");
    refused(ENTRY("\"U8\"", "[1,1.0]", "[0,1]"), 1, HOB_EFORMAT,
            "tensor w: shape[1]: got something else");
    refused(ENTRY("\"U8\"", "[9223372036854775808]", "[0,1]"), 1, HOB_EFORMAT, "too big");
    refused(ENTRY("\"U8\"", "[4294967296,4294967296]", "[0,1]"), 1, HOB_EFORMAT,
            "tensor w: shape: the product, up to dimension 1 of 4294967296, overflows");
    refused(ENTRY("\"F32\"", "[4611686018427387904]", "[0,0]"), 0, HOB_EFORMAT,
            "tensor w: data_offsets: got 0 bytes for 4611686018427387904 elements");
    refused(ENTRY("\"U8\"", "[1]", "[0]"), 1, HOB_EFORMAT,
            "tensor w: data_offsets: got 1 numbers, allowed are 2");
    refused(ENTRY("\"U8\"", "[1]", "[1,0]"), 1, HOB_EFORMAT,
            "tensor w: data_offsets: got 1 to 0, the file has 1 bytes");
    refused(ENTRY("\"U8\"", "[2]", "[0,2]"), 1, HOB_EFORMAT,
            "tensor w: data_offsets: got 0 to 2, the file has 1 bytes");
    refused(ENTRY("\"F32\"", "[1]", "[0,2]"), 2, HOB_EFORMAT,
            "tensor w: data_offsets: got 2 bytes for 1 elements of F32");
}

static void test_refuses_gaps_and_overlaps(void **state)
{
    (void)state;
#define TWO(a, b)                                                                                  \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" a "},"                              \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":" b "}}"
    mk m = {0};
    st_file(&m, TWO("[2,4]", "[0,2]"), 4);
    hob_safetensors_close(taken(&m));
    mk_free(&m);
    refused(TWO("[0,2]", "[1,3]"), 3, HOB_EFORMAT,
            "tensor b: data_offsets: its data overlaps that of a");
    refused(TWO("[0,2]", "[0,2]"), 2, HOB_EFORMAT, "overlaps");
    refused(TWO("[0,2]", "[3,5]"), 5, HOB_EFORMAT,
            "tensor b: data_offsets: there is a gap behind a");
    refused(TWO("[1,3]", "[3,5]"), 5, HOB_EFORMAT,
            "tensor a: data_offsets: there is a gap behind the header");
    refused(TWO("[0,2]", "[2,4]"), 9, HOB_EFORMAT, "5 bytes behind b belong to no tensor");
}

static void test_bounds_nesting(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        char text[3 * HOB_STRICT_DEPTH_MAX];
        const int depth = HOB_STRICT_DEPTH_MAX + over;
        hob_diag diag = {""};
        json_t *v = NULL;
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        assert_int_equal(hob_strict_parse("x.json", text, 2 * (size_t)depth, &v, &diag),
                         over ? HOB_EFORMAT : 0);
        if (over)
            assert_non_null(strstr(diag.text, "x.json: JSON nested deeper than the 32 levels"));
        json_decref(v);
    }
    /* Brackets inside strings are none. */
    json_t *v = NULL;
    static const char strings[] =
        "{\"a\":\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[[[[[[[[[[[[[[[\"}";
    assert_int_equal(hob_strict_parse("x.json", strings, sizeof strings - 1, &v, NULL), 0);
    json_decref(v);
}

static void test_bounds_values(void **state)
{
    (void)state;
    for (int over = 0; over < 2; over++) {
        const size_t len = 2 * ((size_t)HOB_STRICT_VALUES_MAX - 1 + (size_t)over) + 1;
        char *text = malloc(len);
        json_t *v = NULL;
        hob_diag diag = {""};
        assert_non_null(text);
        for (size_t i = 0; i < len; i++)
            text[i] = i == 0 ? '[' : i + 1 == len ? ']' : i % 2 ? '1' : ',';
        assert_int_equal(hob_strict_parse("x.json", text, len, &v, &diag), over ? HOB_EFORMAT : 0);
        assert_int_equal(json_array_size(v), over ? 0 : HOB_STRICT_VALUES_MAX - 1);
        if (over)
            assert_string_equal(diag.text, "x.json: more than the 4194304 JSON values allowed");
        json_decref(v);
        free(text);
    }
}

static void test_typed_members(void **state)
{
    (void)state;
    static const char text[] =
        "{\"i\":5,\"neg\":-1,\"f\":0.5,\"b\":false,\"s\":\"x\",\"n\":null,\"l\":[]}";
    hob_diag diag = {""};
    json_t *o = NULL, *member = NULL;
    uint64_t u = 7;
    double d = 7;
    bool b = true;
    const char *s = NULL;
    assert_int_equal(hob_strict_parse("x", text, sizeof text - 1, &o, &diag), 0);
    assert_int_equal(hob_strict_u64("x", o, "f", 0, 9, &u, &diag), HOB_EFORMAT);
    assert_string_equal(diag.text, "x: f: got a number, allowed is an integer");
    assert_int_equal(hob_strict_u64("x", o, "neg", 0, UINT64_MAX, &u, &diag), HOB_EFORMAT);
    assert_int_equal(hob_strict_u64("x", o, "i", 6, 9, &u, &diag), HOB_EFORMAT);
    assert_string_equal(diag.text, "x: i: got 5, allowed are 6 to 9");
    assert_int_equal(hob_strict_u64("x", o, "n", 0, 9, &u, &diag), HOB_ENOENT);
    assert_int_equal(hob_strict_u64("x", o, "no", 0, 9, &u, &diag), HOB_ENOENT);
    assert_string_equal(diag.text, "x: no: the key is missing");
    assert_int_equal(hob_strict_number("x", o, "f", 0.6, 1, &d, &diag), HOB_EFORMAT);
    assert_int_equal(hob_strict_number("x", o, "s", 0, 1, &d, &diag), HOB_EFORMAT);
    assert_int_equal(hob_strict_bool("x", o, "i", &b, &diag), HOB_EFORMAT);
    assert_int_equal(hob_strict_string("x", o, "l", &s, &diag), HOB_EFORMAT);
    assert_int_equal(hob_strict_member("x", o, "l", JSON_OBJECT, &member, &diag), HOB_EFORMAT);
    assert_true(u == 7 && d == 7 && b && !s && !member);
    assert_int_equal(hob_strict_u64("x", o, "i", 5, 5, &u, &diag), 0);
    assert_int_equal(hob_strict_number("x", o, "i", 5, 5, &d, &diag), 0);
    assert_int_equal(hob_strict_bool("x", o, "b", &b, &diag), 0);
    assert_int_equal(hob_strict_string("x", o, "s", &s, &diag), 0);
    assert_int_equal(hob_strict_member("x", o, "l", JSON_ARRAY, &member, &diag), 0);
    assert_true(u == 5 && d == 5 && !b && strcmp(s, "x") == 0 && json_is_array(member));
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),         cmocka_unit_test(test_reads_floats),
        cmocka_unit_test(test_reads_files),     cmocka_unit_test(test_refuses_headers),
        cmocka_unit_test(test_refuses_entries), cmocka_unit_test(test_refuses_gaps_and_overlaps),
        cmocka_unit_test(test_bounds_nesting),  cmocka_unit_test(test_bounds_values),
        cmocka_unit_test(test_typed_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
