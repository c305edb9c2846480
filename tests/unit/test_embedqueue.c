/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose texts go into the next step, on a tiny random encoder; and that vectors are the same whatever they shared a step
 * with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/embedqueue.h"
#include "hal/select.h"
#include "tests/support/tiny_encoder.h"

enum { ROWS = 300, IDS_MAX = 16, TEXTS_MAX = 400 };

static hob_device *device;
static hob_model *model;

/* What the sink was given. */
typedef struct delivery {
    uint64_t id;
    uint32_t first, count;
} delivery;
typedef struct seen {
    delivery of[TEXTS_MAX];
    uint32_t deliveries, next[IDS_MAX]; /* next: of each id, the text that is due */
    float vectors[IDS_MAX][TEXTS_MAX][ENC_WIDTH];
} seen;

static seen *all;

/* hob_vector_sink */
static void keep(void *user, uint64_t id, uint32_t first, uint32_t count, const float *vectors)
{
    (void)user;
    assert_true(id < IDS_MAX && all->deliveries < TEXTS_MAX);
    assert_int_equal(first, all->next[id]); /* in order */
    all->of[all->deliveries++] = (delivery){id, first, count};
    memcpy(all->vectors[id][first], vectors, count * sizeof all->vectors[id][first]);
    all->next[id] += count;
}

static int open_model(void **state)
{
    const tiny_encoder t = {.pooling = HOB_POOLING_MEAN};
    hob_diag diag = {""};
    mk file = {0};
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "/tmp/hob-embedqueue-%d.gguf", (int)getpid());
    tiny_encoder_write(&file, &t);
    const bool saved = mk_save(&file, path);
    mk_free(&file);
    int rc = saved ? hob_hal_open("cpu", &(hob_device_options){.threads = 2}, &device, &diag) : -1;
    if (rc == 0)
        rc = hob_model_open(path, device, &model, &diag);
    unlink(path);
    if (rc < 0)
        print_error("%s\n", diag.text);
    return rc;
}

static int close_model(void **state)
{
    (void)state;
    hob_model_close(model);
    hob_device_close(device);
    return 0;
}

/* The steps that were said to be longer than `long_step_ms`. */
static uint32_t announced;

static void announce(void *user, uint32_t expected_ms)
{
    (void)expected_ms;
    assert_ptr_equal(user, &announced);
    announced++;
}

static hob_embed_queue *open_queue_of(uint32_t long_step_ms)
{
    const hob_embed_queue_options options = {.step_rows = ROWS,
                                             .on_long_step = announce,
                                             .user = &announced,
                                             .long_step_ms = long_step_ms};
    hob_embed_queue *q = NULL;
    hob_diag diag = {""};
    announced = 0;
    if (hob_embed_queue_new(model, &options, &q, &diag) < 0)
        fail_msg("%s", diag.text);
    all = calloc(1, sizeof *all);
    assert_non_null(all);
    return q;
}

static hob_embed_queue *open_queue(void)
{
    return open_queue_of(3600000);
}

static void close_queue(hob_embed_queue *q)
{
    hob_embed_queue_free(q);
    free(all);
    all = NULL;
}

static uint32_t id_at(uint32_t seed, uint32_t text, uint32_t i)
{
    return (seed * 31 + text * 17 + i * 7) % ENC_VOCAB;
}

/* `count` texts of `length` tokens each. */
static void submit(hob_embed_queue *q, uint64_t id, hob_arbiter_class class, uint32_t tenant,
                   uint32_t count, uint32_t length)
{
    hob_embed_input in = {.count = count, .class = class, .tenant = tenant};
    in.lengths = calloc(count, sizeof *in.lengths);
    assert_non_null(in.lengths);
    for (uint32_t t = 0; t < count; t++) {
        in.lengths[t] = length;
        for (uint32_t i = 0; i < length; i++)
            assert_int_equal(hob_ids_push(&in.ids, id_at((uint32_t)id, t, i)), 0);
    }
    assert_int_equal(hob_embed_queue_submit(q, id, &in), 0);
    assert_null(in.lengths);
}

static void run_all(hob_embed_queue *q)
{
    for (int steps = 0; hob_embed_queue_has_work(q); steps++) {
        assert_true(steps < 1000);
        assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    }
}

static void test_a_question_goes_first(void **state)
{
    (void)state;
    hob_embed_queue *q = open_queue();
    assert_int_equal(hob_embed_queue_class(q), HOB_ARBITER_CLASSES);
    assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0); /* of nothing */
    submit(q, 1, HOB_ARBITER_BATCH, 0, 20, 40);
    assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    submit(q, 2, HOB_ARBITER_STANDARD, 0, 1, 10);
    submit(q, 3, HOB_ARBITER_QUERY, 0, 1, 10);
    submit(q, 4, HOB_ARBITER_INTERACTIVE, 0, 1, 10);
    static const struct {
        hob_arbiter_class class;
        uint64_t id;
    } order[] = {{HOB_ARBITER_QUERY, 3},
                 {HOB_ARBITER_INTERACTIVE, 4},
                 {HOB_ARBITER_STANDARD, 2},
                 {HOB_ARBITER_BATCH, 1}};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        assert_int_equal(hob_embed_queue_class(q), order[i].class);
        assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
        assert_int_equal(all->of[i + 1].id, order[i].id);
        assert_int_equal(all->deliveries, i + 2); /* one class a step */
    }
    run_all(q);
    assert_int_equal(all->next[1], 20);
    hob_embed_stats s;
    hob_embed_queue_get_stats(q, &s);
    assert_int_equal(s.texts, 23);
    assert_int_equal(s.tokens, 20 * 40 + 30);
    assert_int_equal(s.finished, 4);
    assert_int_equal(s.requests, 0);
    assert_int_equal(s.waiting_texts, 0);
    assert_true(s.tokens_per_second > 0);
    close_queue(q);
}

static void test_steps_are_bounded(void **state)
{
    (void)state;
    hob_embed_queue *q = open_queue();
    submit(q, 1, HOB_ARBITER_BATCH, 0, 30, 30);
    assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    assert_int_equal(all->next[1], 4); /* 128 tokens at most */
    submit(q, 2, HOB_ARBITER_INTERACTIVE, 0, 30, 30);
    assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    assert_int_equal(all->next[2], 8); /* 256 */
    hob_embed_queue_cancel(q, 2);
    hob_embed_queue_cancel(q, 2); /* unknown by now */
    run_all(q);
    assert_int_equal(all->next[1], 30);
    assert_int_equal(all->next[2], 8);
    hob_embed_stats s;
    hob_embed_queue_get_stats(q, &s);
    assert_int_equal(s.cancelled, 1);
    assert_int_equal(s.finished, 1);
    close_queue(q);
}

static void test_tenants_share_evenly(void **state)
{
    (void)state;
    hob_embed_queue *q = open_queue();
    submit(q, 1, HOB_ARBITER_BATCH, 7, 100, 20);
    submit(q, 2, HOB_ARBITER_BATCH, 7, 100, 20);
    for (int i = 0; i < 3; i++)
        assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    assert_int_equal(all->next[2], 0); /* in order of arrival, of one tenant */
    submit(q, 3, HOB_ARBITER_BATCH, 8, 12, 20);
    const uint32_t before = all->next[1];
    for (int i = 0; i < 4; i++)
        assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    assert_int_equal(all->next[3], 12); /* half of 24 texts, though it came last */
    assert_int_equal(all->next[1] - before, 12);
    run_all(q);
    close_queue(q);
}

/* The first step already, of which only the warm-up is known. */
static void test_long_steps_are_announced(void **state)
{
    (void)state;
    hob_embed_queue *q = open_queue_of(0);
    submit(q, 1, HOB_ARBITER_BATCH, 0, 30, 30);
    for (uint32_t steps = 0; hob_embed_queue_has_work(q); steps++) {
        assert_int_equal(announced, steps);
        assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0);
    }
    assert_int_equal(announced, 8);
    assert_int_equal(hob_embed_queue_step(q, keep, NULL), 0); /* of nothing */
    assert_int_equal(announced, 8);
    close_queue(q);
    q = open_queue();
    submit(q, 1, HOB_ARBITER_BATCH, 0, 30, 30);
    run_all(q);
    assert_int_equal(announced, 0);
    close_queue(q);
}

/* Whatever they shared their steps with, vectors are those of each text alone. */
static void test_company_changes_nothing(void **state)
{
    static const uint32_t lengths[] = {1, 2, 3, 31, 32, 33, 64, 80};
    hob_embedder *alone = NULL;
    (void)state;
    hob_embed_queue *q = open_queue();
    for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        submit(q, i + 1, i % 2 ? HOB_ARBITER_BATCH : HOB_ARBITER_STANDARD, i % 3, 5, lengths[i]);
    run_all(q);
    assert_int_equal(hob_embedder_new(model, ROWS, &alone, NULL), 0);
    for (uint32_t r = 0; r < sizeof lengths / sizeof *lengths; r++)
        for (uint32_t t = 0; t < 5; t++) {
            uint32_t ids[ENC_CONTEXT];
            float vector[ENC_WIDTH];
            for (uint32_t i = 0; i < lengths[r]; i++)
                ids[i] = id_at(r + 1, t, i);
            assert_int_equal(
                hob_embedder_step(alone, &(hob_embed_text){ids, lengths[r]}, 1, vector), 0);
            assert_memory_equal(vector, all->vectors[r + 1][t], sizeof vector);
        }
    hob_embedder_free(alone);
    close_queue(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_question_goes_first),
        cmocka_unit_test(test_steps_are_bounded),
        cmocka_unit_test(test_tenants_share_evenly),
        cmocka_unit_test(test_long_steps_are_announced),
        cmocka_unit_test(test_company_changes_nothing),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
