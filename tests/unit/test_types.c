/* SPDX-License-Identifier: Apache-2.0
 *
 * The element types: what blocks mean, against the GGUF project's own package (tests/data/make_type_reference.py), and
 * what hob says of types it does not know. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hal/hal.h"

enum { BYTES_MAX = 4096, FLOATS_MAX = 1024 };

static size_t from_hex(const char *hex, uint8_t *ret, size_t cap)
{
    size_t n = strlen(hex) / 2;
    assert_true(n <= cap);
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &v), 1);
        ret[i] = (uint8_t)v;
    }
    return n;
}

static const hob_type_info *find_named(const char *name)
{
    for (uint32_t type = 0; type < 64; type++) {
        const hob_type_info *t = hob_type_find(type);
        if (t && strcmp(t->name, name) == 0)
            return t;
    }
    fail_msg("%s: no such type", name);
    return NULL;
}

/* Bit for bit, and from an odd address as in a file. */
static void test_reference(void **state)
{
    (void)state;
    json_t *reference = json_load_file("tests/data/type_reference.json", 0, NULL);
    if (!reference)
        fail_msg("tests/data/type_reference.json: cannot be read; run from the repository's root");
    assert_int_equal(json_array_size(reference), 14);
    size_t i;
    json_t *line;
    json_array_foreach(reference, i, line)
    {
        static uint8_t blocks[BYTES_MAX + 1], bits[4 * FLOATS_MAX];
        static float got[FLOATS_MAX];
        const hob_type_info *t = find_named(json_string_value(json_array_get(line, 0)));
        size_t bytes = from_hex(json_string_value(json_array_get(line, 1)), blocks + 1, BYTES_MAX),
               count = from_hex(json_string_value(json_array_get(line, 2)), bits, sizeof bits) / 4;
        assert_int_equal(bytes / t->block_bytes * t->block_len, count);
        hob_type_dequantize(t, blocks + 1, got, count);
        for (size_t k = 0; k < count; k++) {
            uint32_t u, want = (uint32_t)bits[4 * k] << 24 | (uint32_t)bits[4 * k + 1] << 16 |
                               (uint32_t)bits[4 * k + 2] << 8 | bits[4 * k + 3];
            memcpy(&u, &got[k], sizeof u);
            if (u != want && (u | want) != 0x80000000u) /* 0 and -0 are equal */
                fail_msg("%s: weight %zu is %g (%08x), want %08x", t->name, k, (double)got[k], u,
                         want);
        }
    }
    json_decref(reference);
}

static void test_table(void **state)
{
    (void)state;
    size_t named = 0;
    for (uint32_t type = 0; type < 256; type++) {
        const hob_type_info *t = hob_type_find(type);
        if (!t)
            continue;
        named++;
        assert_int_equal(t->type, type);
        assert_non_null(strstr(hob_type_names(), t->name));
        assert_true(!t->unpack != !t->to_float);
        assert_true(t->block_len == 1 || t->block_len == 32 || t->block_len == 256);
    }
    assert_int_equal(named, 15);
    assert_null(hob_type_find(4)); /* Q4_2, given up long ago */
    assert_null(hob_type_find(UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
