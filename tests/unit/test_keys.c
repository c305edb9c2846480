/* SPDX-License-Identifier: Apache-2.0
 *
 * API keys: a key that was made is found and no other is; every broken line is refused with its number. */
#include "daemon/conf/file.h"
#include "daemon/conf/keys.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[80];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/hob-keys-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/keys", dir);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void put(const char *text)
{
    assert_int_equal(hob_file_write(path, text, strlen(text), 0600, NULL), 0);
}

/* Any 64 digits. */
#define HASH "18fdcb3ba8ea05e78c6c32c9f1ad0d7f1e6c3fa6f2d0e3dba0c97c6f0c2d3e11"

static void test_round_trip(void **state)
{
    (void)state;
    char text[3][HOB_KEY_TEXT_MAX];
    hob_key_file keys = {0};
    hob_diag diag;
    struct stat st;
    unlink(path);
    assert_int_equal(hob_key_file_add(path, "first", "acme", "interactive", false, text[0], &diag),
                     0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(hob_key_file_add(path, "second", "acme", "standard", false, text[1], &diag),
                     0);
    assert_int_equal(hob_key_file_add(path, "third", "other@home", "batch", true, text[2], &diag),
                     0);
    assert_int_equal(hob_key_file_load(path, &keys, &diag), 0);
    assert_int_equal(keys.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(strlen(text[i]), 47);
        assert_memory_equal(text[i], "hob_", 4);
        uint8_t hash[32];
        assert_int_equal(hob_key_hash(text[i], 47, hash), 0);
        for (size_t k = 0; k < 3; k++)
            assert_int_equal(hob_key_equal(keys.list[k].hash, hash), k == i ? SIZE_MAX : 0);
        assert_true(hob_key_file_has(&keys, text[i], 47));
        for (size_t at = 0; at < 47; at++) {
            text[i][at] ^= 1;
            assert_false(hob_key_file_has(&keys, text[i], 47));
            text[i][at] ^= 1;
        }
        assert_false(hob_key_file_has(&keys, text[i], 46));
        assert_false(hob_key_file_has(&keys, text[i], 0));
    }
    assert_string_equal(keys.list[2].label, "third");
    assert_string_equal(keys.list[2].tenant, "other@home");
    assert_int_equal(keys.list[2].priority, 2);
    assert_false(keys.list[0].admin);
    assert_true(keys.list[2].admin);
    hob_key_file_free(&keys);
    assert_int_equal(keys.count, 0);
    hob_key_file_free(&keys);
}

static void test_known_hash(void **state)
{
    (void)state;
    hob_key_file keys = {0};
    hob_diag diag;
    /* printf abc | sha256sum: the example of FIPS 180-4. */
    put("# comment\n\n  ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\tabc t "
        "standard # more\r\n");
    assert_int_equal(hob_key_file_load(path, &keys, &diag), 0);
    assert_int_equal(keys.count, 1);
    assert_true(hob_key_file_has(&keys, "abc", 3));
    assert_false(hob_key_file_has(&keys, "abd", 3));
    hob_key_file_free(&keys);
}

static void test_empty(void **state)
{
    (void)state;
    hob_key_file keys = {0};
    hob_diag diag;
    put("");
    assert_int_equal(hob_key_file_load(path, &keys, &diag), 0);
    assert_int_equal(keys.count, 0);
    assert_false(hob_key_file_has(&keys, "abc", 3));
    assert_int_equal(hob_key_file_load("/tmp/hob-no-such-file", &keys, &diag), HOB_ENOENT);
}

static void test_append_after_an_open_line(void **state)
{
    (void)state;
    char text[HOB_KEY_TEXT_MAX];
    hob_key_file keys = {0};
    hob_diag diag;
    put(HASH " a b standard");
    assert_int_equal(hob_key_file_add(path, "c", "d", "batch", false, text, &diag), 0);
    assert_int_equal(hob_key_file_load(path, &keys, &diag), 0);
    assert_int_equal(keys.count, 2);
    assert_true(hob_key_file_has(&keys, text, strlen(text)));
    hob_key_file_free(&keys);
}

static void test_broken_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"x", ":1: fewer"},
        {"\n\n" HASH " a b", ":3: fewer"},
        {HASH " a b standard more", ":1: role is \"more\""},
        {HASH " a b standard admin more", ":1: more"},
        {HASH "0 a b standard", ":1: the hash"},
        {"g" HASH " a b standard", ":1: the hash"},
        {"18FDCB3BA8ea05e78c6c32c9f1ad0d7f1e6c3fa6f2d0e3dba0c97c6f0c2d3e11 a b standard",
         ":1: the hash"},
        {HASH " a! b standard", ":1: label"},
        {HASH " a b/c standard", ":1: tenant"},
        {HASH " aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b standard",
         ":1: label"},
        {HASH " a b urgent", ":1: class is \"urgent\""},
        {HASH " a b standard\n" HASH " c d batch", ":2: this key is already"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_key_file keys = {0};
        hob_diag diag = {""};
        put(cases[i].text);
        int code = hob_key_file_load(path, &keys, &diag);
        if (code != HOB_EFORMAT || !strstr(diag.text, cases[i].says))
            fail_msg("case %zu: code %d, \"%s\", expected \"%s\"", i, code, diag.text,
                     cases[i].says);
        assert_int_equal(keys.count, 0);
        assert_null(keys.list);
    }
}

static void test_refused_names(void **state)
{
    (void)state;
    char text[HOB_KEY_TEXT_MAX] = "untouched";
    hob_diag diag;
    put("");
    assert_int_equal(hob_key_file_add(path, "a b", "t", "batch", false, text, &diag), HOB_EINVAL);
    assert_int_equal(hob_key_file_add(path, "", "t", "batch", false, text, &diag), HOB_EINVAL);
    assert_int_equal(hob_key_file_add(path, "a", "t\n", "batch", false, text, &diag), HOB_EINVAL);
    assert_int_equal(hob_key_file_add(path, "a", "t", "", false, text, &diag), HOB_EINVAL);
    assert_int_equal(
        hob_key_file_add("/tmp/hob-no-such-dir/keys", "a", "t", "batch", false, text, &diag),
        HOB_EIO);
    assert_string_equal(text, "untouched");
}

static void test_the_first_key(void **state)
{
    (void)state;
    hob_key_file keys = {0};
    hob_diag diag;
    char text_path[128], again[HOB_KEY_TEXT_MAX + 2], *text = NULL;
    size_t len;
    struct stat st;
    unlink(path);
    assert_int_equal(hob_key_file_text_path(path, text_path, sizeof text_path, &diag), 0);
    assert_int_equal(hob_key_file_text_path(path, again, 8, &diag), HOB_ELIMIT);
    for (int i = 0; i < 2; i++) { /* the second time as after a crash */
        assert_int_equal(hob_key_file_add_first(path, text_path, &diag), 0);
        assert_int_equal(hob_file_read(text_path, 256, &text, &len, &diag), 0);
        assert_int_equal(stat(text_path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(len, 48);
        assert_int_equal(text[47], '\n');
        assert_string_not_equal(i ? again : "", text);
        memcpy(again, text, len + 1);
        free(text);
    }
    assert_int_equal(hob_key_file_load(path, &keys, &diag), 0);
    assert_int_equal(keys.count, 2);
    assert_true(keys.list[1].admin);
    assert_true(hob_key_file_has(&keys, again, 47));
    hob_key_file_free(&keys);
    unlink(text_path);
    /* Nothing is said to be made when the text could not be written. */
    unlink(path);
    assert_int_equal(hob_key_file_add_first(path, "/tmp/hob-no-such-dir/api_key", &diag), HOB_EIO);
    assert_int_equal(access(path, F_OK), -1);
    put("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_key),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_known_hash),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_append_after_an_open_line),
        cmocka_unit_test(test_broken_lines),
        cmocka_unit_test(test_refused_names),
    };
    return cmocka_run_group_tests_name("keys", tests, make_dir, drop_dir);
}
