/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop's keys: found by their text and by the one before, not when revoked; their usage is handed over
 * once. And addresses that fail too often. */
#include "daemon/gateway/failures.h"
#include "daemon/gateway/keyring.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <string.h>

enum { NOW = 1800000000 };

static hob_key_record record(int64_t id, const char *text)
{
    hob_key_record r = {.id = id, .all_models = true};
    snprintf(r.label, sizeof r.label, "k%d", (int)id);
    assert_int_equal(hob_key_hash(text, strlen(text), r.hash), 0);
    return r;
}

static hob_key *find(const hob_keyring *r, const char *text)
{
    uint8_t hash[32];
    assert_int_equal(hob_key_hash(text, strlen(text), hash), 0);
    return hob_keyring_find(r, hash, NOW);
}

static void test_finding(void **state)
{
    (void)state;
    hob_keyring ring = {0};
    char text[16];
    for (int n = 1, i; n <= 100; n++) {
        i = n * 37 % 101; /* in no order */
        snprintf(text, sizeof text, "secret-%d", i);
        const hob_key_record r = record(i, text);
        assert_int_equal(hob_keyring_put(&ring, &r), 0);
    }
    for (int i = 1; i <= 100; i++) {
        snprintf(text, sizeof text, "secret-%d", i);
        assert_int_equal(find(&ring, text)->record.id, i);
        assert_ptr_equal(hob_keyring_get(&ring, i), find(&ring, text));
    }
    assert_null(hob_keyring_get(&ring, 0));
    assert_null(hob_keyring_get(&ring, 101));
    assert_null(find(&ring, "secret-0"));
    assert_null(find(&ring, ""));
    /* Rotated: the old text is good for a while. An all-zero old hash is nobody's. */
    hob_key *k = find(&ring, "secret-7");
    hob_key_record r = record(7, "new");
    memcpy(r.old_hash, k->record.hash, 32);
    r.old_until_s = NOW + 1;
    assert_int_equal(hob_keyring_put(&ring, &r), 0);
    assert_ptr_equal(find(&ring, "new"), k);
    assert_ptr_equal(find(&ring, "secret-7"), k);
    assert_null(hob_keyring_find(&ring, r.old_hash, NOW + 1));
    assert_ptr_equal(hob_keyring_find(&ring, r.hash, NOW + 1), k);
    assert_true(hob_key_answers_to(k, r.old_hash, NOW));
    assert_false(hob_key_answers_to(k, r.old_hash, NOW + 1));
    assert_true(hob_key_answers_to(k, r.hash, NOW + 1));
    hob_keyring_free(&ring);
}

static void test_rights(void **state)
{
    (void)state;
    hob_key k = {.record = record(1, "a")};
    assert_true(hob_key_valid(&k, NOW));
    k.record.expires_s = NOW;
    assert_true(hob_key_valid(&k, NOW - 1));
    assert_false(hob_key_valid(&k, NOW));
    k.record.expires_s = 0;
    k.gone = true;
    assert_false(hob_key_valid(&k, NOW));
    assert_true(hob_key_allows_model(&k, "any"));
    k.record.all_models = false;
    assert_false(hob_key_allows_model(&k, "any"));
    snprintf(k.record.models, sizeof k.record.models, " one two/2 ");
    assert_true(hob_key_allows_model(&k, "one"));
    assert_true(hob_key_allows_model(&k, "two/2"));
    assert_false(hob_key_allows_model(&k, "two"));
    assert_false(hob_key_allows_model(&k, "one two/2"));
}

static void test_revoked_keys_leave_when_nobody_holds_them(void **state)
{
    (void)state;
    hob_keyring ring = {0};
    hob_key_usage rows[4];
    hob_key_record r = record(1, "a");
    assert_int_equal(hob_keyring_put(&ring, &r), 0);
    hob_key *k = hob_key_ref(find(&ring, "a"));
    assert_ptr_equal(hob_keyring_find_label(&ring, "k1"), k);
    r.revoked_s = NOW;
    assert_int_equal(hob_keyring_put(&ring, &r), 0);
    assert_null(find(&ring, "a"));
    assert_null(hob_keyring_find_label(&ring, "k1"));
    hob_key_note(k, NOW, &(hob_key_usage){.requests = 1, .answer_tokens = 5});
    assert_int_equal(hob_keyring_take_usage(&ring, rows, 4), 1);
    assert_ptr_equal(hob_keyring_get(&ring, 1), k);
    const hob_key_record other = record(2, "b");
    assert_int_equal(hob_keyring_put(&ring, &other), 0);
    hob_key_unref(k);
    assert_int_equal(hob_keyring_take_usage(&ring, rows, 4), 0);
    assert_null(hob_keyring_get(&ring, 1));
    assert_null(find(&ring, "a"));
    assert_int_equal(find(&ring, "b")->record.id, 2); /* what moves up keeps its text */
    hob_keyring_free(&ring);
}

static void test_usage(void **state)
{
    (void)state;
    hob_keyring ring = {0};
    hob_key_usage rows[8];
    for (int i = 1; i <= 5; i++) {
        char text[4] = {(char)('a' + i)};
        const hob_key_record r = record(i, text);
        assert_int_equal(hob_keyring_put(&ring, &r), 0);
    }
    for (int i = 1; i <= 4; i++)
        for (int n = 0; n < i; n++)
            hob_key_note(hob_keyring_get(&ring, i), NOW + n,
                         &(hob_key_usage){.requests = 1, .prompt_tokens = 10, .cached_tokens = 3});
    assert_int_equal(hob_keyring_take_usage(&ring, rows, 3), 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rows[i].key, i + 1);
        assert_int_equal(rows[i].day, NOW / 86400);
        assert_int_equal(rows[i].requests, i + 1);
        assert_int_equal(rows[i].prompt_tokens, 10 * (i + 1));
        assert_int_equal(rows[i].last_used_s, NOW + i);
    }
    hob_key_note(hob_keyring_get(&ring, 2), NOW + 90000, &(hob_key_usage){.answer_tokens = 7});
    assert_int_equal(hob_keyring_take_usage(&ring, rows, 8), 2);
    assert_int_equal(rows[0].day, (NOW + 90000) / 86400);
    assert_int_equal(rows[0].prompt_tokens, 0);
    assert_int_equal(rows[0].answer_tokens, 7);
    assert_int_equal(rows[1].requests, 4);
    assert_int_equal(hob_keyring_take_usage(&ring, rows, 8), 0);
    hob_keyring_free(&ring);
}

static void test_failures(void **state)
{
    (void)state;
    static hob_failures f = {.seed = 42};
    const uint8_t a[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [15] = 1},
                  b[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [15] = 2},
                  six[16] = {0x20, 1, [7] = 1, [15] = 1}, same[16] = {0x20, 1, [7] = 1, [15] = 2};
    for (int i = 0; i < 10; i++)
        assert_int_equal(hob_failures_count(&f, a, 10, 1000), 0);
    for (int i = 0; i < 10; i++) /* what is refused does not count */
        assert_int_equal(hob_failures_count(&f, a, 10, 1000), 6000);
    assert_int_equal(hob_failures_count(&f, b, 10, 1000), 0);
    assert_int_equal(hob_failures_count(&f, a, 10, 4000), 3000);
    assert_int_equal(hob_failures_count(&f, a, 10, 7000), 0);
    assert_int_equal(hob_failures_count(&f, a, 10, 7000), 6000);
    assert_int_equal(hob_failures_count(&f, a, 0, 7000), 0);
    for (int i = 0; i < 10; i++) /* a minute of silence forgives all */
        assert_int_equal(hob_failures_count(&f, a, 10, 67000 + 6000), 0);
    assert_int_equal(hob_failures_count(&f, six, 1, 1000), 0);
    assert_int_equal(hob_failures_count(&f, same, 1, 1000), 60000);
    /* Far more addresses than the table holds: one that has failed much is not forgotten for those that failed once. */
    for (uint32_t i = 0; i < 100000; i++) {
        uint8_t other[16] = {[10] = 0xff, [11] = 0xff, [12] = 10};
        memcpy(other + 13, &i, 3);
        assert_int_equal(hob_failures_count(&f, other, 10, 73000), 0);
    }
    assert_true(hob_failures_count(&f, a, 10, 73000) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finding),
        cmocka_unit_test(test_rights),
        cmocka_unit_test(test_revoked_keys_leave_when_nobody_holds_them),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests_name("keyring", tests, NULL, NULL);
}
