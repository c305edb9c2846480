/* SPDX-License-Identifier: Apache-2.0
 *
 * The batcher on the real model: a request gives the same tokens alone, in company, cut into chunks and after a
 * restart; credit stops it; cancel gives its memory back; what cannot fit is refused with both counts. */
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
                                   .kv_type = HOB_TYPE_F16};
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

static int submit(hob_batcher *b, uint32_t which, uint32_t max_tokens, float temperature,
                  uint32_t credit)
{
    hob_sampling s;
    hob_ids ids = prompt(texts[which]);
    hob_sampling_default(&s);
    s.temperature = temperature;
    s.seed = 1000 + which;
    s.ignore_eos = true;
    const hob_request r = {.id = which,
                           .tokens = ids.data,
                           .token_count = (uint32_t)ids.count,
                           .max_tokens = max_tokens,
                           .credit = credit,
                           .sampling = &s};
    int rc = hob_batcher_submit(b, &r, NULL);
    hob_ids_free(&ids);
    return rc;
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
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
