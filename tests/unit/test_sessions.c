/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions of the console: found by their cookie's hash while they last, bounded in number for each key and in all. */
#include "daemon/gateway/sessions.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <string.h>

enum { START = 1000000, LENGTH = 100000, IDLE = 10000 };

static const uint8_t text[32] = {1};

static const uint8_t *hash_of(uint32_t n)
{
    static uint8_t hash[32];
    memset(hash, 7, sizeof hash);
    memcpy(hash, &n, sizeof n);
    return hash;
}

static void begin(hob_sessions *s, int64_t key, uint32_t n, uint64_t now_ms)
{
    hob_sessions_begin(s, key, text, hash_of(n), LENGTH, now_ms);
}

static void test_time(void **state)
{
    static hob_sessions s = {.idle_ms = IDLE};
    (void)state;
    assert_null(hob_sessions_find(&s, (const uint8_t[32]){0}, START)); /* of a free place */
    begin(&s, 3, 1, START);
    assert_null(hob_sessions_find(&s, hash_of(2), START));
    for (uint64_t at = START; at < START + LENGTH; at += IDLE - 1) { /* used all the time */
        hob_session *one = hob_sessions_find(&s, hash_of(1), at);
        assert_non_null(one);
        assert_int_equal(one->key, 3);
        assert_memory_equal(one->text_hash, text, sizeof text);
    }
    assert_null(hob_sessions_find(&s, hash_of(1), START + LENGTH));
    assert_null(hob_sessions_find(&s, hash_of(1), START)); /* gone for good */
    begin(&s, 3, 2, START);
    assert_non_null(hob_sessions_find(&s, hash_of(2), START + IDLE - 1));
    assert_null(hob_sessions_find(&s, hash_of(2), START + 2 * IDLE - 1)); /* not used for so long */
    begin(&s, 3, 4, START);
    hob_session_end(hob_sessions_find(&s, hash_of(4), START));
    assert_null(hob_sessions_find(&s, hash_of(4), START));
    assert_int_equal(hob_sessions_count(&s, START), 0);
}

static void test_bounds(void **state)
{
    static hob_sessions s = {.idle_ms = LENGTH};
    (void)state;
    begin(&s, 1, 0, START);
    for (uint32_t i = 0; i < 3 * HOB_SESSIONS_OF_KEY; i++) /* one key takes its own places only */
        begin(&s, 2, 100 + i, START + 1 + i);
    assert_int_equal(hob_sessions_count(&s, START + 100), HOB_SESSIONS_OF_KEY + 1);
    assert_non_null(hob_sessions_find(&s, hash_of(0), START + 100));
    assert_null(hob_sessions_find(&s, hash_of(100 + 2 * HOB_SESSIONS_OF_KEY - 1), START + 100));
    assert_non_null(hob_sessions_find(&s, hash_of(100 + 2 * HOB_SESSIONS_OF_KEY), START + 100));
    /* Many keys: whoever was away the longest goes. */
    for (uint32_t i = 0; i < HOB_SESSIONS_MAX; i++)
        begin(&s, 1000 + i, 1000 + i, START + 200 + i);
    assert_int_equal(hob_sessions_count(&s, START + 1000), HOB_SESSIONS_MAX);
    assert_null(hob_sessions_find(&s, hash_of(0), START + 1000));
    for (uint32_t i = 0; i < HOB_SESSIONS_MAX; i++)
        assert_non_null(hob_sessions_find(&s, hash_of(1000 + i), START + 1000));
    begin(&s, 1, 1, START + 20000 + LENGTH); /* all of them are over by then */
    assert_int_equal(hob_sessions_count(&s, START + 20000 + LENGTH), 1);
}

static void test_cookies(void **state)
{
    static const struct {
        const char *header, *value; /* NULL: none */
    } cases[] = {
        {"hob=0a1b", "0a1b"},
        {"a=b; hob=0a1b; c=d", "0a1b"},
        {"a=\"x;y\";hob=0a1b", "0a1b"},
        {"hob=0a1; hob=0a1b", "0a1b"},
        {"xhob=0a1b", NULL}, /* as another host of the domain may set it */
        {"x=hob=0a1b", NULL},
        {"x=y,hob=0a1b", NULL},
        {"x hob=0a1b", NULL},
        {"hob2=0a1b", NULL},
        {"hob=0a1bc", NULL},
        {"hob=0a1", NULL},
        {"hob=0A1B", NULL},
        {"hob=0a1b\"", NULL},
        {"hob =0a1b", NULL},
        {"hob=", NULL},
        {"hob", NULL},
        {";;, ;", NULL},
        {"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char value[5] = "none";
        const bool found = hob_session_cookie(cases[i].header, "hob", 4, value);
        if (found != (cases[i].value != NULL))
            fail_msg("%s: %s", cases[i].header, value);
        assert_string_equal(value, found ? cases[i].value : "none");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_cookies),
    };
    return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
