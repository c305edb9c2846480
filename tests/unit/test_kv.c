/* SPDX-License-Identifier: Apache-2.0
 *
 * The KV pool: blocks have one owner or share a name, prefixes are found by whole comparison and within a tenant only, kept
 * blocks go leaf first, and no block is lost over a long random run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "models/kv.h"

enum { T = HOB_KV_BLOCK_TOKENS };

static hob_kv_pool *make(uint32_t blocks, uint32_t kept)
{
    hob_kv_pool *p = NULL;
    assert_int_equal(hob_kv_pool_new(blocks, kept, &p), 0);
    return p;
}

static void fill(uint32_t *tokens, uint32_t blocks, uint32_t seed)
{
    for (uint32_t i = 0; i < blocks * T; i++)
        tokens[i] = seed * 1000003 + i;
}

/* Takes and names `count` blocks for the tokens, behind nothing. */
static void compute(hob_kv_pool *p, uint32_t tenant, const uint32_t *tokens, uint32_t count,
                    uint32_t *blocks)
{
    for (uint32_t i = 0; i < count; i++) {
        blocks[i] = hob_kv_pool_take(p);
        assert_int_not_equal(blocks[i], HOB_KV_NONE);
        blocks[i] = hob_kv_prefix_name(p, tenant, i ? blocks[i - 1] : HOB_KV_NONE, blocks[i],
                                       tokens + i * T);
    }
}

static void test_blocks_run_out_and_come_back(void **state)
{
    (void)state;
    hob_kv_pool *p = make(3, 3);
    uint32_t blocks[3];
    for (int i = 0; i < 3; i++)
        blocks[i] = hob_kv_pool_take(p);
    assert_true(blocks[0] != blocks[1] && blocks[1] != blocks[2] && blocks[0] != blocks[2]);
    assert_int_equal(hob_kv_pool_take(p), HOB_KV_NONE);
    hob_kv_pool_give(p, blocks, 3);
    assert_int_equal(hob_kv_pool_free_blocks(p), 3);
    assert_int_equal(hob_kv_pool_kept_blocks(p), 0); /* without a name there is nothing to keep */
    hob_kv_pool_free(p);
}

static void test_prefix_is_found_within_its_tenant(void **state)
{
    (void)state;
    hob_kv_pool *p = make(8, 8);
    uint32_t tokens[4 * T], blocks[4], found[4];
    fill(tokens, 4, 1);
    compute(p, 7, tokens, 3, blocks);
    assert_int_equal(hob_kv_prefix_find(p, 7, HOB_KV_NONE, tokens, 4, found), 3);
    assert_memory_equal(found, blocks, 3 * sizeof *blocks);
    assert_int_equal(hob_kv_prefix_find(p, 7, HOB_KV_NONE, tokens, 2, found), 2);
    assert_int_equal(hob_kv_prefix_find(p, 7, blocks[1], tokens + 2 * T, 2, found), 1);
    assert_int_equal(hob_kv_prefix_find(p, 8, HOB_KV_NONE, tokens, 4, found), 0);
    assert_int_equal(hob_kv_prefix_find(p, 7, HOB_KV_NONE, tokens + T, 3, found),
                     0); /* not at the beginning */
    tokens[2 * T - 1]++;
    assert_int_equal(hob_kv_prefix_find(p, 7, HOB_KV_NONE, tokens, 4, found), 1);
    hob_kv_pool_give(p, blocks, 3);
    assert_int_equal(hob_kv_pool_free_blocks(p), 8);
    assert_int_equal(hob_kv_pool_kept_blocks(p), 3);
    tokens[2 * T - 1]--;
    assert_int_equal(hob_kv_prefix_find(p, 7, HOB_KV_NONE, tokens, 4, found), 3);
    hob_kv_prefix_hold(p, found, 3);
    assert_int_equal(hob_kv_pool_free_blocks(p), 5);
    hob_kv_pool_give(p, found, 3);
    hob_kv_pool_free(p);
}

static void test_the_same_prefix_twice_is_one(void **state)
{
    (void)state;
    hob_kv_pool *p = make(8, 8);
    uint32_t tokens[2 * T], first[2], second[2];
    fill(tokens, 2, 1);
    compute(p, 1, tokens, 2, first);
    compute(p, 1, tokens, 2, second);
    assert_memory_equal(first, second, sizeof first);
    assert_int_equal(hob_kv_pool_free_blocks(p), 6);
    hob_kv_pool_give(p, first, 2);
    assert_int_equal(hob_kv_pool_free_blocks(p), 6); /* the other one holds them still */
    hob_kv_pool_give(p, second, 2);
    assert_int_equal(hob_kv_pool_free_blocks(p), 8);
    hob_kv_pool_free(p);
}

static void test_the_longest_unused_goes_first_and_leaves_before_roots(void **state)
{
    (void)state;
    hob_kv_pool *p = make(4, 4);
    uint32_t old[2 * T], young[2 * T], blocks[2], found[2];
    fill(old, 2, 1);
    fill(young, 2, 2);
    compute(p, 1, old, 2, blocks);
    hob_kv_pool_give(p, blocks, 2);
    compute(p, 1, young, 2, blocks);
    hob_kv_pool_give(p, blocks, 2);
    uint32_t taken = hob_kv_pool_take(p);
    assert_int_equal(hob_kv_prefix_find(p, 1, HOB_KV_NONE, old, 2, found),
                     1); /* its leaf is gone */
    assert_int_equal(hob_kv_prefix_find(p, 1, HOB_KV_NONE, young, 2, found), 2);
    assert_int_equal(hob_kv_prefix_find(p, 1, HOB_KV_NONE, old, 2, found), 1);
    hob_kv_prefix_hold(p, found, 1); /* used again: now the young one is the oldest */
    hob_kv_pool_give(p, found, 1);
    uint32_t second = hob_kv_pool_take(p);
    assert_int_equal(hob_kv_prefix_find(p, 1, HOB_KV_NONE, young, 2, found), 1);
    assert_int_equal(hob_kv_prefix_find(p, 1, HOB_KV_NONE, old, 2, found), 1);
    hob_kv_pool_give(p, &taken, 1);
    hob_kv_pool_give(p, &second, 1);
    hob_kv_pool_free(p);
}

static void test_the_most_alike_block_is_found(void **state)
{
    (void)state;
    hob_kv_pool *p = make(8, 8);
    uint32_t tokens[2 * T], first, blocks[3], like = HOB_KV_NONE;
    fill(tokens, 2, 1);
    compute(p, 1, tokens, 1, &first);
    for (uint32_t i = 0; i < 3; i++) { /* the same in their first 5, 6, 7 tokens */
        uint32_t other[T];
        memcpy(other, tokens + T, sizeof other);
        other[5 + i]++;
        blocks[i] = hob_kv_prefix_name(p, 1, first, hob_kv_pool_take(p), other);
    }
    assert_int_equal(hob_kv_prefix_part(p, 1, first, tokens + T, T, &like), 7);
    assert_int_equal(like, blocks[2]);
    assert_int_equal(hob_kv_prefix_part(p, 1, first, tokens + T, 6, &like), 6);
    assert_int_equal(hob_kv_prefix_part(p, 2, first, tokens + T, T, &like), 0);
    assert_int_equal(hob_kv_prefix_part(p, 1, HOB_KV_NONE, tokens + T, T, &like), 0);
    assert_int_equal(hob_kv_prefix_part(p, 1, HOB_KV_NONE, tokens, 3, &like), 3);
    assert_int_equal(like, first);
    hob_kv_pool_give(p, blocks, 3);
    hob_kv_pool_give(p, &first, 1);
    uint32_t taken[8]; /* all names go, in whatever order their places are needed */
    for (uint32_t i = 0; i < 8; i++)
        taken[i] = hob_kv_pool_take(p);
    assert_int_equal(hob_kv_prefix_part(p, 1, HOB_KV_NONE, tokens, 3, &like), 0);
    hob_kv_pool_give(p, taken, 8);
    hob_kv_pool_free(p);
}

static void test_kept_blocks_are_bounded(void **state)
{
    (void)state;
    uint32_t tokens[4 * T], blocks[4], found[4];
    fill(tokens, 4, 1);
    for (uint32_t most = 0; most <= 4; most++) {
        hob_kv_pool *p = make(8, most);
        compute(p, 1, tokens, 4, blocks);
        hob_kv_pool_give(p, blocks, 4);
        assert_int_equal(hob_kv_pool_kept_blocks(p), most);
        assert_int_equal(hob_kv_pool_free_blocks(p), 8);
        assert_int_equal(hob_kv_prefix_find(p, 1, HOB_KV_NONE, tokens, 4, found), most);
        hob_kv_pool_free(p);
    }
}

/* Sequences over a small alphabet, so that they share much; the pool against a count of who holds what. */
static void test_random_run(void **state)
{
    (void)state;
    enum { BLOCKS = 24, PLACES = 6, DEEP = 6, ROUNDS = 20000 };
    hob_kv_pool *p = make(BLOCKS, 10);
    struct {
        uint32_t tokens[DEEP * T], blocks[DEEP], count, tenant;
    } held[PLACES] = {0};
    uint64_t random = 42;
#define NEXT(n)                                                                                    \
    ((uint32_t)((random = random * 6364136223846793005u + 1442695040888963407u) >> 40) % (n))
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t i = NEXT(PLACES);
        if (held[i].count == 0) {
            uint32_t kinds[DEEP], found[DEEP];
            held[i].tenant = NEXT(2);
            for (uint32_t d = 0; d < DEEP; d++) {
                kinds[d] = NEXT(2);
                for (uint32_t t = 0; t < T; t++)
                    held[i].tokens[d * T + t] = kinds[d];
            }
            const uint32_t n =
                hob_kv_prefix_find(p, held[i].tenant, HOB_KV_NONE, held[i].tokens, DEEP, found);
            hob_kv_prefix_hold(p, found, n);
            memcpy(held[i].blocks, found, n * sizeof *found);
            held[i].count = n;
        } else if (held[i].count < DEEP && NEXT(3)) {
            const uint32_t d = held[i].count, block = hob_kv_pool_take(p);
            if (block != HOB_KV_NONE) {
                held[i].blocks[d] =
                    hob_kv_prefix_name(p, held[i].tenant, d ? held[i].blocks[d - 1] : HOB_KV_NONE,
                                       block, held[i].tokens + d * T);
                held[i].count++;
            }
        } else {
            hob_kv_pool_give(p, held[i].blocks, held[i].count);
            held[i].count = 0;
        }
        /* Two places hold the same block exactly when tenant and all tokens up to it are the same. */
        bool used[BLOCKS] = {false};
        uint32_t distinct = 0;
        for (uint32_t a = 0; a < PLACES; a++)
            for (uint32_t d = 0; d < held[a].count; d++) {
                assert_true(held[a].blocks[d] < BLOCKS);
                distinct += !used[held[a].blocks[d]];
                used[held[a].blocks[d]] = true;
                for (uint32_t b = 0; b < a; b++) {
                    const bool same =
                        held[a].tenant == held[b].tenant && d < held[b].count &&
                        memcmp(held[a].tokens, held[b].tokens, (d + 1) * T * sizeof(uint32_t)) == 0;
                    assert_int_equal(d < held[b].count && held[a].blocks[d] == held[b].blocks[d],
                                     same);
                }
            }
        assert_int_equal(hob_kv_pool_free_blocks(p), BLOCKS - distinct);
        assert_true(hob_kv_pool_kept_blocks(p) <= 10);
    }
    hob_kv_pool_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_run_out_and_come_back),
        cmocka_unit_test(test_prefix_is_found_within_its_tenant),
        cmocka_unit_test(test_the_same_prefix_twice_is_one),
        cmocka_unit_test(test_the_longest_unused_goes_first_and_leaves_before_roots),
        cmocka_unit_test(test_the_most_alike_block_is_found),
        cmocka_unit_test(test_kept_blocks_are_bounded),
        cmocka_unit_test(test_random_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
