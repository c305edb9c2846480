/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is: order within a source, one that asks for little beside one that asks for much, equal shares of time,
 * no shutting out by those that come once, and sources that go while they wait. */
#include "daemon/gateway/sources.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

enum { MANY = 1000 };

typedef struct client {
    hob_turn turn; /* first: a turn is its client */
    uint64_t served, us;
} client;

static hob_sources sources;

static void come_from(client *c, uint32_t number)
{
    uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 10};
    address[13] = (uint8_t)(number >> 16);
    address[14] = (uint8_t)(number >> 8);
    address[15] = (uint8_t)number;
    memset(c, 0, sizeof *c);
    assert_int_equal(hob_turn_open(&sources, &c->turn, address), 0);
}

/* One turn, which takes so long. */
static client *serve(uint64_t us)
{
    client *c = (client *)hob_turn_next(&sources);
    if (!c)
        return NULL;
    hob_turn_done(&sources, us);
    c->served++;
    c->us += us;
    return c;
}

static void check_empty(void)
{
    assert_null(hob_turn_next(&sources));
    assert_false(hob_turn_any(&sources));
    for (size_t i = 0; i < HOB_SOURCE_BUCKETS; i++)
        assert_null(sources.buckets[i]);
    memset(&sources, 0, sizeof sources);
}

static void test_addresses(void **state)
{
    uint8_t four[16] = {[10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 7}, source[16];
    uint8_t six[16] = {0x20, 1, 0xd, 0xb8, 1, 2, 3, 4, 5, 6}, network[16] = {0};
    (void)state;
    hob_source_of(four, source);
    assert_memory_equal(source, four, 16);
    memcpy(network, six, 8);
    hob_source_of(six, source);
    assert_memory_equal(source, network, 16);
    assert_int_not_equal(hob_source_hash(1, four), hob_source_hash(2, four));
    assert_int_not_equal(hob_source_hash(1, four), hob_source_hash(1, six));
}

static void test_in_order_within_a_source(void **state)
{
    client c[5];
    (void)state;
    for (size_t i = 0; i < 5; i++)
        come_from(&c[i], 1);
    assert_int_equal(hob_source_turns(&sources, c[0].turn.source->address), 5);
    for (size_t i = 0; i < 5; i++)
        hob_turn_wait(&sources, &c[4 - i].turn);
    hob_turn_wait(&sources, &c[2].turn); /* it waits already */
    hob_turn_close(&sources, &c[3].turn);
    assert_ptr_equal(serve(1), &c[4]);
    assert_ptr_equal(serve(1), &c[2]);
    hob_turn_wait(&sources, &c[2].turn);
    assert_ptr_equal(serve(1), &c[1]);
    assert_ptr_equal(serve(1), &c[0]);
    assert_ptr_equal(serve(1), &c[2]);
    assert_int_equal(hob_source_turns(&sources, c[0].turn.source->address), 4);
    for (size_t i = 0; i < 5; i++)
        hob_turn_close(&sources, &c[i].turn);
    check_empty();
}

/* However many connections another has, the one that asks now and then is served at once, or after one turn of theirs. */
static void test_little_beside_much(void **state)
{
    static client crowd[MANY];
    client one;
    (void)state;
    come_from(&one, 2);
    for (size_t i = 0; i < MANY; i++) {
        come_from(&crowd[i], 1);
        hob_turn_wait(&sources, &crowd[i].turn);
    }
    for (int i = 0; i < 20; i++) /* what credit it had is used up */
        serve(100);
    for (int i = 0; i < 200; i++) {
        hob_turn_wait(&sources, &one.turn);
        client *first = serve(50);
        assert_true(first == &one || serve(50) == &one);
        for (int k = 0; k < 3; k++)
            assert_ptr_not_equal(serve(100), &one);
    }
    for (size_t i = 0; i < MANY; i++)
        hob_turn_close(&sources, &crowd[i].turn);
    hob_turn_close(&sources, &one.turn);
    check_empty();
}

/* Of sources that always want more each gets as much time, whatever one turn of theirs takes. */
static void test_equal_shares_of_time(void **state)
{
    static const uint64_t us[] = {20, 200, 2000};
    client c[3];
    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        come_from(&c[i], i);
        hob_turn_wait(&sources, &c[i].turn);
    }
    for (int i = 0; i < 100000; i++) {
        client *next = (client *)hob_turn_next(&sources);
        hob_turn_done(&sources, us[next - c]);
        next->us += us[next - c];
        hob_turn_wait(&sources, &next->turn);
    }
    for (int i = 1; i < 3; i++) {
        assert_true(c[i].us > c[0].us * 9 / 10 && c[i].us < c[0].us * 11 / 10);
        hob_turn_close(&sources, &c[i].turn);
    }
    hob_turn_close(&sources, &c[0].turn);
    check_empty();
}

/* Sources that come once, each with a long turn, and are always there: one that stays gets its turns all the same. */
static void test_those_who_come_once_shut_out_nobody(void **state)
{
    static client flood[MANY * 4];
    client stays;
    uint32_t next = 0;
    (void)state;
    come_from(&stays, 1);
    for (int i = 0; i < MANY; i++) {
        while (next < sizeof flood / sizeof *flood && next < (uint32_t)(i + 1) * 3) {
            come_from(&flood[next], 100 + next);
            hob_turn_wait(&sources, &flood[next++].turn);
        }
        hob_turn_wait(&sources, &stays.turn);
        client *c = serve(400);
        if (c != &stays)
            hob_turn_close(&sources, &c->turn);
    }
    assert_in_range(stays.served, MANY / 8, MANY);
    for (uint32_t i = 0; i < next; i++)
        hob_turn_close(&sources, &flood[i].turn);
    hob_turn_close(&sources, &stays.turn);
    check_empty();
}

/* A connection may close in its own turn, and be the last of its source. */
static void test_closing_while_served(void **state)
{
    client a, b;
    (void)state;
    come_from(&a, 1);
    come_from(&b, 2);
    hob_turn_wait(&sources, &a.turn);
    hob_turn_wait(&sources, &b.turn);
    assert_ptr_equal(hob_turn_next(&sources), &a.turn);
    hob_turn_close(&sources, &a.turn);
    hob_turn_close(&sources, &a.turn);
    hob_turn_done(&sources, 5);
    hob_turn_close(&sources, &b.turn); /* one that waits */
    check_empty();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_in_order_within_a_source),
        cmocka_unit_test(test_little_beside_much),
        cmocka_unit_test(test_equal_shares_of_time),
        cmocka_unit_test(test_those_who_come_once_shut_out_nobody),
        cmocka_unit_test(test_closing_while_served),
    };
    return cmocka_run_group_tests_name("sources", tests, NULL, NULL);
}
