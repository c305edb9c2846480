/* SPDX-License-Identifier: Apache-2.0
 *
 * The batcher on the real model: a request gives the same tokens alone, in company, cut into chunks, after a restart, from the
 * prefix cache and when it was set back for others; tenants and classes get their turns; credit stops it; cancel gives its
 * memory back; what cannot fit is refused with both counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/batcher.h"
#include "hal/select.h"

enum { REQUESTS = 6, TOKENS_MAX = 64, TEXT_MAX = 2048 };

static hob_device *device;
static hob_model *model;

typedef struct answer {
    uint32_t ids[TOKENS_MAX], count;
    char text[TEXT_MAX];
    size_t text_len;
    hob_finish finish;
    uint32_t cached;
} answer;

/* hob_token_sink: user is answer[REQUESTS], indexed by id. */
static void collect(void *user, const hob_token_event *e)
{
    answer *a = (answer *)user + e->id;
    if (e->token != HOB_TOKEN_NONE)
        a->ids[a->count++] = e->token;
    memcpy(a->text + a->text_len, e->text, e->text_len);
    a->text_len += e->text_len;
    assert_int_equal(a->finish, HOB_FINISH_NONE);
    a->finish = e->finish;
    a->cached = e->cached_tokens;
}

static int set_up(void **state)
{
    (void)state;
    hob_diag diag = {""};
    const char *path = getenv("HOB_TEST_MODEL");
    if (!path) {
        fprintf(stderr, "HOB_TEST_MODEL is not set: run through make test\n");
        return -1;
    }
    if (hob_hal_open("cpu", &(hob_device_options){.threads = 2}, &device, &diag) < 0 ||
        hob_model_open(path, device, &model, &diag) < 0) {
        fprintf(stderr, "%s\n", diag.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    hob_model_close(model);
    hob_device_close(device);
    return 0;
}

static hob_batcher *make(uint32_t sequences, uint32_t rows, uint32_t context, uint32_t kv_tokens)
{
    hob_batcher *b = NULL;
    hob_diag diag = {""};
    const hob_batcher_options o = {.max_sequences = sequences,
                                   .max_waiting = 4,
                                   .step_rows = rows,
                                   .context = context,
                                   .kv_tokens = kv_tokens,
                                   .kv_type = HOB_TYPE_F16,
                                   .prefix_tokens = kv_tokens};
    if (hob_batcher_new(model, &o, &b, &diag) < 0)
        fail_msg("%s", diag.text);
    return b;
}

static hob_ids prompt(const char *text)
{
    hob_ids ids = {0};
    hob_diag diag = {""};
    if (hob_tokenize(hob_model_tokenizer(model), text, strlen(text), NULL, 0, false, 0, &ids,
                     &diag) < 0)
        fail_msg("%s", diag.text);
    return ids;
}

static const char *const texts[REQUESTS] = {
    "The capital of France is",
    "Once upon a time there was a small lighthouse keeper who",
    "def fibonacci(n):\n    ",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 "
    "35 36 37 38",
    "Water boils at",
    "A short list of colours: red, green,",
};

static uint32_t prompt_tokens(uint32_t which)
{
    hob_ids ids = prompt(texts[which]);
    const uint32_t count = (uint32_t)ids.count;
    hob_ids_free(&ids);
    return count;
}

static int submit_as(hob_batcher *b, uint32_t which, uint32_t max_tokens, float temperature,
                     uint32_t credit, uint32_t tenant, hob_priority priority)
{
    hob_sampling s;
    hob_ids ids = prompt(texts[which % REQUESTS]);
    hob_sampling_default(&s);
    s.temperature = temperature;
    s.seed = 1000 + which;
    s.ignore_eos = true;
    const hob_request r = {.id = which,
                           .tokens = ids.data,
                           .token_count = (uint32_t)ids.count,
                           .max_tokens = max_tokens,
                           .credit = credit,
                           .tenant = tenant,
                           .priority = priority,
                           .sampling = &s};
    int rc = hob_batcher_submit(b, &r, NULL);
    hob_ids_free(&ids);
    return rc;
}

static int submit(hob_batcher *b, uint32_t which, uint32_t max_tokens, float temperature,
                  uint32_t credit)
{
    return submit_as(b, which, max_tokens, temperature, credit, 0, HOB_PRIORITY_STANDARD);
}

static void run_dry(hob_batcher *b, answer *answers)
{
    while (hob_batcher_has_work(b))
        assert_int_equal(hob_batcher_step(b, collect, answers), 0);
}

static void same_alone_and_together(float temperature)
{
    static answer alone[REQUESTS], together[REQUESTS];
    memset(alone, 0, sizeof alone);
    memset(together, 0, sizeof together);
    hob_batcher *b = make(1, 512, 256, 256);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        assert_int_equal(submit(b, i, 24, temperature, 100), 0);
        run_dry(b, alone);
        assert_int_equal(alone[i].count, 24);
        assert_int_equal(alone[i].finish, HOB_FINISH_LENGTH);
    }
    hob_batcher_free(b);
    b = make(4, 9, 256, 1024); /* few rows: prompts are cut at odd places, and two requests wait */
    for (uint32_t i = 0; i < REQUESTS; i++)
        assert_int_equal(submit(b, i, 24, temperature, 100), 0);
    run_dry(b, together);
    hob_batcher_free(b);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        assert_int_equal(together[i].count, 24);
        assert_memory_equal(together[i].ids, alone[i].ids, sizeof alone[i].ids);
        assert_int_equal(together[i].text_len, alone[i].text_len);
        assert_memory_equal(together[i].text, alone[i].text, alone[i].text_len);
    }
    assert_memory_not_equal(alone[0].ids, alone[1].ids, 24 * sizeof(uint32_t));
}

static void test_greedy_is_batch_invariant(void **state)
{
    (void)state;
    same_alone_and_together(0);
}

static void test_seeded_is_batch_invariant(void **state)
{
    (void)state;
    same_alone_and_together(1.0f);
}

static void test_resumed_answer_goes_on(void **state)
{
    (void)state;
    static answer whole[REQUESTS], rest[REQUESTS];
    memset(whole, 0, sizeof whole);
    memset(rest, 0, sizeof rest);
    hob_batcher *b = make(2, 64, 256, 512);
    assert_int_equal(submit(b, 1, 30, 0.8f, 100), 0);
    run_dry(b, whole);

    hob_sampling s;
    hob_ids ids = prompt(texts[1]);
    for (uint32_t i = 0; i < 11; i++)
        assert_int_equal(hob_ids_push(&ids, whole[1].ids[i]), 0);
    hob_sampling_default(&s);
    s.temperature = 0.8f;
    s.seed = 1001;
    s.ignore_eos = true;
    const hob_request r = {.id = 1,
                           .tokens = ids.data,
                           .token_count = (uint32_t)ids.count,
                           .resumed = 11,
                           .max_tokens = 30,
                           .credit = 100,
                           .sampling = &s};
    assert_int_equal(hob_batcher_submit(b, &r, NULL), 0);
    run_dry(b, rest);
    assert_int_equal(rest[1].count, 19);
    assert_memory_equal(rest[1].ids, whole[1].ids + 11, 19 * sizeof(uint32_t));
    assert_true(rest[1].text_len < whole[1].text_len);
    assert_memory_equal(rest[1].text, whole[1].text + whole[1].text_len - rest[1].text_len,
                        rest[1].text_len);
    hob_ids_free(&ids);
    hob_batcher_free(b);
}

static void test_credit_paces(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher_stats stats;
    hob_batcher *b = make(2, 64, 256, 512);
    assert_int_equal(submit(b, 0, 10, 0, 3), 0);
    run_dry(b, a);
    assert_int_equal(a[0].count, 3);
    assert_int_equal(a[0].finish, HOB_FINISH_NONE);
    assert_int_equal(submit(b, 1, 5, 0, 100), 0); /* a stalled reader does not hold up another */
    run_dry(b, a);
    assert_int_equal(a[1].finish, HOB_FINISH_LENGTH);
    assert_int_equal(a[0].count, 3);
    hob_batcher_get_stats(b, &stats);
    assert_int_equal(stats.running, 1);
    hob_batcher_credit(b, 0, 100);
    run_dry(b, a);
    assert_int_equal(a[0].count, 10);
    assert_int_equal(a[0].finish, HOB_FINISH_LENGTH);
    hob_batcher_free(b);
}

static void test_cancel_gives_back(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher_stats before, after;
    hob_batcher *b = make(1, 16, 256, 256);
    hob_batcher_get_stats(b, &before);
    assert_int_equal(submit(b, 3, 40, 0, 100), 0);
    assert_int_equal(submit(b, 1, 40, 0, 100), 0);
    assert_int_equal(hob_batcher_step(b, collect, a),
                     0); /* in the middle of the first one's prefill */
    assert_true(hob_batcher_cancel(b, 3));
    assert_true(hob_batcher_cancel(b, 1));
    assert_false(hob_batcher_cancel(b, 1));
    hob_batcher_get_stats(b, &after);
    assert_int_equal(after.kv_blocks_free, before.kv_blocks_free);
    assert_int_equal(after.running, 0);
    assert_int_equal(after.waiting, 0);
    assert_int_equal(a[3].finish, HOB_FINISH_NONE);
    hob_batcher_free(b);
}

static hob_batcher_stats stats_of(const hob_batcher *b)
{
    hob_batcher_stats s;
    hob_batcher_get_stats(b, &s);
    return s;
}

/* Each request alone on a batcher of its own. */
static const answer *undisturbed(uint32_t which, uint32_t max_tokens, float temperature)
{
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher *b = make(1, 512, 256, 256);
    assert_int_equal(submit(b, which, max_tokens, temperature, 100), 0);
    run_dry(b, a);
    hob_batcher_free(b);
    assert_int_equal(a[which].count, max_tokens);
    return &a[which];
}

static void assert_undisturbed(const answer *a, uint32_t which, uint32_t max_tokens,
                               float temperature)
{
    const answer *calm = undisturbed(which, max_tokens, temperature);
    assert_int_equal(a->count, calm->count);
    assert_memory_equal(a->ids, calm->ids, calm->count * sizeof *calm->ids);
    assert_int_equal(a->text_len, calm->text_len);
    assert_memory_equal(a->text, calm->text, calm->text_len);
    assert_int_equal(a->finish, calm->finish);
}

static void test_prefix_is_reused_within_a_tenant(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    hob_batcher *b = make(2, 512, 256, 512);
    const uint32_t blocks = stats_of(b).kv_blocks, tokens = prompt_tokens(3);
    for (uint32_t round = 0; round < 4; round++) { /* tenants 1, 1, 2, and 1 again, known still */
        const bool known = round % 2;
        const uint64_t before = stats_of(b).prefill_tokens;
        memset(a, 0, sizeof a);
        assert_int_equal(submit_as(b, 3, 20, 0.9f, 100, round == 2 ? 2 : 1, HOB_PRIORITY_STANDARD),
                         0);
        run_dry(b, a);
        assert_int_equal(a[3].cached, known ? (tokens - 1) / 32 * 32 : 0);
        assert_int_equal(stats_of(b).prefill_tokens - before, tokens - a[3].cached);
        assert_undisturbed(&a[3], 3, 20, 0.9f);
        assert_int_equal(stats_of(b).kv_blocks_free, blocks);
    }
    assert_true(stats_of(b).kv_blocks_kept > 0);
    hob_batcher_free(b);
}

/* A prompt that parts from a known one in the middle of a block: what is the same is copied, and not computed. */
static void test_half_a_block_is_reused(void **state)
{
    (void)state;
    static answer a[2][REQUESTS];
    memset(a, 0, sizeof a);
    hob_ids ids = prompt(texts[3]);
    hob_sampling s;
    hob_sampling_default(&s);
    s.temperature = 0.9f;
    s.ignore_eos = true;
    hob_request r = {
        .tokens = ids.data, .token_count = 32 + 20, .max_tokens = 20, .credit = 20, .sampling = &s};
    ids.data[32 + 17] ^= 1;
    for (int known = 0; known < 2; known++) {
        hob_batcher *b = make(2, 512, 256, 512);
        if (known) {
            answer other[REQUESTS] = {0};
            assert_int_equal(submit(b, 3, 1, 0, 100), 0);
            run_dry(b, other);
        }
        assert_int_equal(hob_batcher_submit(b, &r, NULL), 0);
        run_dry(b, a[known]);
        assert_int_equal(a[known][0].cached, known ? 32 + 17 : 0);
        hob_batcher_free(b);
    }
    assert_int_equal(a[0][0].count, 20);
    assert_memory_equal(a[0][0].ids, a[1][0].ids, sizeof a[0][0].ids);
    hob_ids_free(&ids);
}

/* Three answers need 9 blocks and there are 6: some are set back, and none gives other tokens for it. */
static void test_overcommitted_blocks(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher *b = make(4, 64, 256, 6 * HOB_KV_BLOCK_TOKENS);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(submit(b, i, 60, 0.8f, 100), 0);
    run_dry(b, a);
    const hob_batcher_stats s = stats_of(b);
    assert_true(s.preempted > 0);
    assert_int_equal(s.finished, 3);
    assert_int_equal(s.kv_blocks_free, 6);
    for (uint32_t i = 0; i < 3; i++)
        assert_undisturbed(&a[i], i, 60, 0.8f);
    hob_batcher_free(b);
}

static void test_a_higher_class_takes_a_place(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher *b = make(2, 64, 256, 512);
    assert_int_equal(submit_as(b, 0, 50, 0.8f, 100, 1, HOB_PRIORITY_BATCH), 0);
    assert_int_equal(submit_as(b, 1, 50, 0.8f, 100, 1, HOB_PRIORITY_BATCH), 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(hob_batcher_class(b), HOB_PRIORITY_BATCH);
    assert_int_equal(submit_as(b, 2, 5, 0.8f, 100, 2, HOB_PRIORITY_INTERACTIVE), 0);
    assert_int_equal(hob_batcher_class(b), HOB_PRIORITY_INTERACTIVE);
    assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(a[2].count, 1); /* in the very next step */
    assert_int_equal(stats_of(b).preempted, 1);
    /* Of its own class it takes none. */
    assert_int_equal(submit_as(b, 4, 5, 0.8f, 100, 3, HOB_PRIORITY_BATCH), 0);
    assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(stats_of(b).preempted, 1);
    assert_int_equal(a[4].count, 0);
    run_dry(b, a);
    assert_undisturbed(&a[0], 0, 50, 0.8f);
    assert_undisturbed(&a[1], 1, 50, 0.8f);
    assert_undisturbed(&a[2], 2, 5, 0.8f);
    hob_batcher_free(b);
}

/* Set back before a row of it was computed, a resumed answer takes its old tokens into account only once: twice in a
 * row their text would hold the stop string. */
/* Those of the batch class let a better one's prompt pass, but never two steps in a row; others do not. */
static void test_the_batch_class_lets_prompts_pass(void **state)
{
    static const struct {
        hob_priority priority;
        uint32_t tokens[4]; /* after each of the steps that the prompt takes */
    } cases[] = {{HOB_PRIORITY_BATCH, {0, 1, 1, 2}}, {HOB_PRIORITY_STANDARD, {1, 2, 3, 4}}};
    (void)state;
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        static answer a[REQUESTS];
        memset(a, 0, sizeof a);
        const uint32_t rows = prompt_tokens(3) / 3 - 1;
        hob_batcher *b = make(2, rows, 256, 512);
        assert_int_equal(submit_as(b, 4, 40, 0.8f, 100, 1, cases[c].priority), 0);
        while (a[4].count == 0)
            assert_int_equal(hob_batcher_step(b, collect, a), 0);
        const uint32_t before = (uint32_t)a[4].count;
        assert_int_equal(submit_as(b, 3, 5, 0.8f, 100, 2, HOB_PRIORITY_INTERACTIVE), 0);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(a[3].count, 0);
            assert_int_equal(hob_batcher_step(b, collect, a), 0);
            assert_int_equal(a[4].count - before, cases[c].tokens[i]);
        }
        run_dry(b, a);
        assert_undisturbed(&a[4], 4, 40, 0.8f);
        assert_undisturbed(&a[3], 3, 5, 0.8f);
        hob_batcher_free(b);
    }
}

static void test_set_back_before_it_ran(void **state)
{
    (void)state;
    static answer a[2][REQUESTS];
    memset(a, 0, sizeof a);
    hob_ids ids = prompt(texts[1]), colours = prompt(" red green blue");
    const char *const stops[] = {" blue red"};
    const uint32_t resumed = (uint32_t)colours.count;
    hob_sampling s;
    hob_sampling_default(&s);
    s.temperature = 0.8f;
    s.seed = 5;
    s.ignore_eos = true;
    for (uint32_t i = 0; i < resumed; i++)
        assert_int_equal(hob_ids_push(&ids, colours.data[i]), 0);
    for (int disturbed = 0; disturbed < 2; disturbed++) {
        hob_batcher *b = NULL;
        const hob_batcher_options o = {.max_sequences = 3,
                                       .max_waiting = 4,
                                       .step_rows = 512,
                                       .context = 256,
                                       .kv_tokens = 1024,
                                       .kv_type = HOB_TYPE_F16,
                                       .itl_target_ms = 1};
        assert_int_equal(hob_batcher_new(model, &o, &b, NULL), 0);
        assert_int_equal(hob_batcher_calibrate(b), 0);
        if (disturbed) { /* beside a stream the long prompt gets the quantum, and what comes after it nothing */
            assert_int_equal(submit_as(b, 0, 40, 0, 100, 1, HOB_PRIORITY_INTERACTIVE), 0);
            while (a[disturbed][0].count == 0)
                assert_int_equal(hob_batcher_step(b, collect, a[disturbed]), 0);
            assert_int_equal(submit_as(b, 3, 3, 0, 100, 1, HOB_PRIORITY_INTERACTIVE), 0);
        }
        const hob_request r = {.id = 1,
                               .tokens = ids.data,
                               .token_count = (uint32_t)ids.count,
                               .resumed = resumed,
                               .max_tokens = 40,
                               .credit = 100,
                               .priority = HOB_PRIORITY_BATCH,
                               .sampling = &s,
                               .stops = stops,
                               .stop_count = 1};
        assert_int_equal(hob_batcher_submit(b, &r, NULL), 0);
        if (disturbed) {
            const uint64_t before = stats_of(b).prefill_tokens;
            assert_int_equal(hob_batcher_step(b, collect, a[disturbed]), 0);
            assert_int_equal(stats_of(b).running, 3);
            assert_int_equal(stats_of(b).prefill_tokens - before, 16);
            assert_int_equal(submit_as(b, 2, 3, 0, 100, 9, HOB_PRIORITY_INTERACTIVE), 0);
            assert_int_equal(hob_batcher_step(b, collect, a[disturbed]), 0);
            assert_int_equal(stats_of(b).preempted, 1);
        }
        run_dry(b, a[disturbed]);
        hob_batcher_free(b);
    }
    assert_int_equal(a[0][1].count, 40 - resumed);
    assert_memory_equal(a[0][1].ids, a[1][1].ids, sizeof a[0][1].ids);
    hob_ids_free(&ids);
    hob_ids_free(&colours);
}

/* One place: the tenant that was served less goes first, whatever stands in front of it. */
static void test_tenants_take_turns(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher *b = make(1, 64, 256, 512);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(submit_as(b, i, 10, 0, 100, 1, HOB_PRIORITY_STANDARD), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(submit_as(b, 4, 10, 0, 100, 2, HOB_PRIORITY_STANDARD), 0);
    while (a[4].finish == HOB_FINISH_NONE)
        assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(a[0].finish, HOB_FINISH_LENGTH);
    assert_int_equal(a[1].count + a[2].count + a[3].count, 0);
    run_dry(b, a);
    hob_batcher_free(b);
}

enum { PLACES = 8, OUTSTANDING = 16, TURNS = 12, BUSY = 5, THE_ONE = 1000000 };

typedef struct crowd {
    bool present;                  /* a request of the one */
    uint32_t tokens;               /* of it */
    uint32_t others, others_ended; /* outstanding; ended in this step */
} crowd;

static void count_crowd(void *user, const hob_token_event *e)
{
    crowd *c = user;
    const bool ended = e->finish != HOB_FINISH_NONE;
    if (e->id == THE_ONE) {
        c->tokens += e->token != HOB_TOKEN_NONE;
        c->present = !ended;
    } else {
        c->others -= ended;
        c->others_ended += ended;
    }
}

/* A tenant keeps twice as many requests outstanding as there are places, another has one at a time: that one starts with the
 * first place that gets free, each time. */
static void test_one_never_waits_for_two_of_a_crowd(void **state)
{
    (void)state;
    crowd c = {0};
    uint32_t id = 0, waited_for = 0;
    hob_batcher *b = NULL;
    const hob_batcher_options o = {.max_sequences = PLACES,
                                   .max_waiting = 2 * OUTSTANDING,
                                   .step_rows = 512,
                                   .context = 128,
                                   .kv_tokens = 2048,
                                   .kv_type = HOB_TYPE_F16};

    assert_int_equal(hob_batcher_new(model, &o, &b, NULL), 0);
    for (uint32_t turn = 0, step = 0; turn < TURNS; step++) {
        for (; c.others < OUTSTANDING; c.others++, id++)
            assert_int_equal(submit_as(b, id, 3 + id * 7 % 11, 0, 100, 1, HOB_PRIORITY_STANDARD),
                             0);
        if (step >= BUSY && !c.present) {
            c = (crowd){.others = c.others, .present = true};
            assert_int_equal(submit_as(b, THE_ONE, 6, 0, 100, 2, HOB_PRIORITY_STANDARD), 0);
            waited_for = 0;
        }
        const bool waits = c.present && c.tokens == 0;
        c.others_ended = 0;
        assert_int_equal(hob_batcher_step(b, count_crowd, &c), 0);
        if (waits && c.tokens > 0) { /* its prompt is one step */
            assert_true(waited_for <= 1);
            turn++;
        } else if (waits)
            waited_for +=
                c.others_ended > 0; /* several that end in one step free their places at once */
    }
    hob_batcher_free(b);
}

static void test_a_stalled_reader_gives_up_its_place(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    memset(a, 0, sizeof a);
    hob_batcher *b = make(1, 64, 256, 512);
    assert_int_equal(submit(b, 0, 40, 0.8f, 5), 0);
    run_dry(b, a);
    assert_int_equal(submit(b, 1, 10, 0.8f, 100), 0);
    const uint64_t start_us = hob_now_us();
    while (!hob_batcher_has_work(b)) /* first it may still come back */
        assert_true(hob_now_us() - start_us < 20000000);
    run_dry(b, a);
    assert_int_equal(a[1].finish, HOB_FINISH_LENGTH);
    assert_int_equal(a[0].count, 5);
    hob_batcher_stats s = stats_of(b);
    assert_int_equal(s.parked, 1);
    assert_int_equal(s.running, 0);
    assert_int_equal(s.stalled, 1);
    assert_int_equal(s.kv_blocks_free, s.kv_blocks);
    hob_batcher_credit(b, 0, 100);
    run_dry(b, a);
    assert_undisturbed(&a[0], 0, 40, 0.8f);
    /* Parked ones can be cancelled too. */
    memset(a, 0, sizeof a);
    assert_int_equal(submit(b, 0, 40, 0.8f, 5), 0);
    run_dry(b, a);
    assert_int_equal(submit(b, 1, 10, 0.8f, 100), 0);
    while (!hob_batcher_has_work(b))
        assert_true(hob_now_us() - start_us < 40000000);
    run_dry(b, a);
    assert_int_equal(stats_of(b).parked, 2);
    assert_true(hob_batcher_cancel(b, 0));
    assert_int_equal(stats_of(b).stalled, 0);
    hob_batcher_free(b);
}

/* With a target, prompts are cut by time; the tokens stay the same. */
static void test_target_cuts_prompts(void **state)
{
    (void)state;
    static answer a[REQUESTS];
    hob_batcher *b = NULL;
    memset(a, 0, sizeof a);
    const hob_batcher_options o = {.max_sequences = 2,
                                   .step_rows = 512,
                                   .context = 256,
                                   .kv_tokens = 512,
                                   .kv_type = HOB_TYPE_F16,
                                   .itl_target_ms = 1};
    assert_int_equal(hob_batcher_new(model, &o, &b, NULL), 0);
    assert_int_equal(hob_batcher_calibrate(b), 0);
    assert_true(hob_cost_predict(&(hob_cost){0}, 1, 0) <= 0);
    assert_true(stats_of(b).cost.step_us[0] > 0);
    assert_int_equal(submit(b, 0, 40, 0.8f, 100), 0);
    while (a[0].count < 3)
        assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(submit(b, 3, 10, 0.8f, 100), 0);
    const uint32_t before = a[0].count;
    while (a[3].count == 0)
        assert_int_equal(hob_batcher_step(b, collect, a), 0);
    assert_int_equal(a[0].count - before,
                     (prompt_tokens(3) + 15) / 16); /* no time for more than the quantum */
    run_dry(b, a);
    assert_undisturbed(&a[0], 0, 40, 0.8f);
    assert_undisturbed(&a[3], 3, 10, 0.8f);
    hob_batcher_free(b);
}

static void test_refusals(void **state)
{
    (void)state;
    hob_diag diag = {""};
    hob_sampling s;
    uint32_t tokens[64] = {0};
    hob_sampling_default(&s);
    hob_batcher *b = make(1, 16, 32, 32);
    hob_request r = {.id = 1, .tokens = tokens, .token_count = 40, .max_tokens = 4, .sampling = &s};
    assert_int_equal(hob_batcher_submit(b, &r, &diag), HOB_ELIMIT);
    assert_non_null(strstr(diag.text, "40"));
    assert_non_null(strstr(diag.text, "32"));
    r.token_count = 0;
    assert_int_equal(hob_batcher_submit(b, &r, &diag), HOB_EINVAL);
    r.token_count = 4;
    tokens[2] = UINT32_MAX;
    assert_int_equal(hob_batcher_submit(b, &r, &diag), HOB_EINVAL);
    tokens[2] = 0;
    for (int i = 0; i < 5; i++) { /* one place and four that wait */
        r.id = (uint64_t)i;
        assert_int_equal(hob_batcher_submit(b, &r, &diag), 0);
    }
    r.id = 9;
    assert_int_equal(hob_batcher_submit(b, &r, &diag), HOB_ELIMIT);
    hob_batcher_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_is_batch_invariant),
        cmocka_unit_test(test_seeded_is_batch_invariant),
        cmocka_unit_test(test_resumed_answer_goes_on),
        cmocka_unit_test(test_credit_paces),
        cmocka_unit_test(test_cancel_gives_back),
        cmocka_unit_test(test_prefix_is_reused_within_a_tenant),
        cmocka_unit_test(test_half_a_block_is_reused),
        cmocka_unit_test(test_overcommitted_blocks),
        cmocka_unit_test(test_a_higher_class_takes_a_place),
        cmocka_unit_test(test_the_batch_class_lets_prompts_pass),
        cmocka_unit_test(test_set_back_before_it_ran),
        cmocka_unit_test(test_tenants_take_turns),
        cmocka_unit_test(test_one_never_waits_for_two_of_a_crowd),
        cmocka_unit_test(test_a_stalled_reader_gives_up_its_place),
        cmocka_unit_test(test_target_cuts_prompts),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
