/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler against a plain one that sorts the whole row, its distributions, and stop strings.
 * Every seed is fixed: a failure is a change, never chance. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/philox.h"
#include "models/sampler.h"

enum { VOCAB = 3000 };

static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

static float random_float(float low, float high)
{
    return low + (high - low) * (float)random_below(1u << 24) / (float)(1u << 24);
}

static const float *sort_by; /* edited logits */

static int canonical(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    if (sort_by[x] != sort_by[y])
        return sort_by[x] > sort_by[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

/* A row with the device's answer for it. */
typedef struct row {
    uint32_t vocab;
    float logits[VOCAB], edited[VOCAB];
    uint32_t order[VOCAB];
    hob_candidates c;
} row;

static float log_sum_exp(const float *x, uint32_t count, double scale)
{
    double best = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < count; i++)
        best = fmax(best, x[i] * scale);
    for (uint32_t i = 0; i < count; i++)
        sum += exp(x[i] * scale - best);
    return (float)(best + log(sum));
}

static void ask(hob_sampler *s, row *r)
{
    hob_candidates_in in;
    hob_sampler_prepare(s, 5, &in);
    assert_int_equal(in.row, 5);
    assert_in_range(in.k, 1, HOB_CANDIDATES_MAX);
    memcpy(r->edited, r->logits, r->vocab * sizeof *r->logits);
    for (uint32_t i = 0; i < in.edit_count; i++) {
        float *x = &r->edited[in.edits[i].token];
        *x = (*x > 0 ? *x / in.edits[i].divide : *x * in.edits[i].divide) + in.edits[i].add;
        for (uint32_t j = 0; j < i; j++)
            assert_int_not_equal(in.edits[i].token, in.edits[j].token);
    }
    for (uint32_t i = 0; i < r->vocab; i++)
        r->order[i] = i;
    sort_by = r->edited;
    qsort(r->order, r->vocab, sizeof *r->order, canonical);
    r->c.count = in.k;
    for (uint32_t i = 0; i < in.k; i++) {
        r->c.ids[i] = r->order[i];
        r->c.logits[i] = r->edited[r->order[i]];
        r->c.raw[i] = r->logits[r->order[i]];
    }
    r->c.lse = log_sum_exp(r->edited, r->vocab, in.inverse_temperature);
    r->c.lse_raw = log_sum_exp(r->logits, r->vocab, 1);
}

/* What the sampler must choose, the plain way. */
static uint32_t expected(const hob_sampling *p, const row *r, uint64_t position)
{
    static double w[VOCAB];
    double sum = 0, reached = 0, target;
    uint32_t kept = r->vocab, n = 0;
    if (p->temperature == 0)
        return r->order[0];
    for (uint32_t i = 0; i < r->vocab; i++)
        w[i] = exp(((double)r->edited[r->order[i]] - (double)r->edited[r->order[0]]) *
                   (double)(1 / p->temperature));
    if (p->top_k && p->top_k < kept)
        kept = p->top_k;
    for (uint32_t i = 0; i < kept; i++)
        sum += w[i];
    if (p->top_p < 1) {
        while (reached < (double)p->top_p * sum)
            reached += w[n++];
        kept = n;
    }
    for (n = 0; n < kept && w[n] >= (double)p->min_p;)
        n++;
    kept = n;
    for (sum = 0, n = 0; n < kept; n++)
        sum += w[n];
    target = hob_philox_uniform(p->seed, position) * sum;
    for (sum = 0, n = 0; n + 1 < kept && (sum += w[n]) <= target;)
        n++;
    return r->order[n];
}

static hob_sampled choose(hob_sampler *s, row *r, uint64_t position, uint32_t *full)
{
    hob_sampled out, again;
    ask(s, r);
    int needs_full = hob_sampler_pick(s, &r->c, position, &out);
    hob_sampler_pick_full(s, r->logits, &r->c, position, &again);
    if (needs_full) {
        ++*full;
        return again;
    }
    assert_int_equal(out.token, again.token);
    assert_true(out.logprob == again.logprob);
    assert_int_equal(out.top_count, again.top_count);
    for (uint32_t i = 0; i < out.top_count; i++) {
        assert_int_equal(out.top[i].token, again.top[i].token);
        assert_true(out.top[i].logprob == again.top[i].logprob);
    }
    return out;
}

static void philox_known_answers(void **state)
{
    /* From the test vectors of Random123, the authors' library. */
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } cases[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t got[4];
        hob_philox4x32(cases[i].counter, cases[i].key, got);
        assert_memory_equal(got, cases[i].want, sizeof got);
    }
    assert_true(hob_philox_uniform(1, 2) != hob_philox_uniform(2, 1));
    assert_true(hob_philox_uniform(1, 2) == hob_philox_uniform(1, 2));
    assert_true(hob_philox_uniform(1, 1) != hob_philox_uniform(1, 1 + (1ull << 32)));
}

static void random_row(row *r, uint32_t vocab)
{
    float spread = random_float(0.5f, 12);
    r->vocab = vocab;
    for (uint32_t i = 0; i < vocab; i++)
        r->logits[i] = random_below(4) ? random_float(-spread, spread)
                                       : (float)random_below(7) - 3; /* with ties, 0 and -0 */
    if (vocab > 8)
        r->logits[random_below(vocab)] = -0.0f;
}

static void random_params(hob_sampling *p)
{
    hob_sampling_default(p);
    p->seed = (uint64_t)random_below(1u << 30) << 34 | random_below(1u << 30);
    p->temperature = random_below(8) ? random_float(0.05f, 2) : random_below(2) ? 0 : 1;
    if (random_below(2))
        p->top_k = 1 + random_below(random_below(2) ? 60 : 600);
    if (random_below(2))
        p->top_p = random_float(0.05f, 1);
    if (random_below(3) == 0)
        p->min_p = random_float(0, 0.3f);
    if (random_below(3) == 0)
        p->repeat_penalty = random_float(0.5f, 2);
    if (random_below(3) == 0)
        p->presence_penalty = random_float(-2, 2);
    if (random_below(3) == 0)
        p->frequency_penalty = random_float(-2, 2);
    p->logprobs = random_below(3) ? 0 : random_below(HOB_LOGPROBS_MAX + 1);
    p->ignore_eos = random_below(4) == 0;
}

static void agrees_with_a_plain_sampler(void **state)
{
    static row r;
    uint32_t full = 0, total = 0;
    (void)state;
    for (int round = 0; round < 400; round++) {
        const uint32_t ends[] = {1, 2, VOCAB + 7};
        hob_sampling p;
        hob_sampler *s;
        random_row(&r, round % 5 ? VOCAB : 1 + random_below(100));
        random_params(&p);
        for (uint32_t i = 0; r.vocab > 50 && i < random_below(20); i++) {
            p.bias[i].token = 2 * i + 1;
            p.bias[i].bias = random_below(4) ? random_float(-5, 5) : -100;
            p.bias_count = i + 1;
        }
        assert_int_equal(hob_sampling_check(&p, VOCAB, NULL), 0);
        assert_int_equal(hob_sampler_new(&p, r.vocab, ends, r.vocab > 2 ? 3 : 0, &s), 0);
        for (uint32_t i = 0; i < 30; i++)
            assert_int_equal(hob_sampler_accept(s, random_below(r.vocab), false), 0);
        for (uint64_t position = 30; position < 40; position++) {
            hob_sampled got = choose(s, &r, position, &full);
            assert_int_equal(got.token, expected(&p, &r, position));
            assert_true(got.logprob == r.logits[got.token] - r.c.lse_raw);
            assert_int_equal(got.top_count, p.logprobs < r.vocab ? p.logprobs : r.vocab);
            for (uint32_t i = 1; i < got.top_count; i++)
                assert_true(got.top[i - 1].logprob > got.top[i].logprob ||
                            (got.top[i - 1].logprob == got.top[i].logprob &&
                             got.top[i - 1].token < got.top[i].token));
            assert_int_equal(hob_sampler_accept(s, got.token, true), 0);
            total++;
        }
        hob_sampler_free(s);
    }
    assert_in_range(full, 1, total / 2); /* both ways were taken */
}

/* With most of the mass in the candidates the whole row is almost never read. */
static void decides_from_candidates(void **state)
{
    static row r;
    uint32_t full = 0;
    hob_sampling p;
    hob_sampler *s;
    (void)state;
    r.vocab = VOCAB;
    for (uint32_t i = 0; i < VOCAB; i++)
        r.logits[i] = -0.3f * (float)(i * 7 % VOCAB);
    hob_sampling_default(&p);
    p.top_p = 0.95f;
    p.temperature = 0.8f;
    assert_int_equal(hob_sampler_new(&p, VOCAB, NULL, 0, &s), 0);
    for (uint64_t position = 0; position < 300; position++) {
        hob_sampled got = choose(s, &r, position, &full);
        assert_int_equal(got.token, expected(&p, &r, position));
    }
    assert_in_range(full, 0, 3);
    hob_sampler_free(s);
}

/* Draws 20,000 tokens and compares with probabilities[8] by chi square; 7 degrees of freedom, 0.1 %
 * point 24.3. */
static void check_distribution(const hob_sampling *p, const float *logits,
                               const double *probabilities)
{
    enum { DRAWS = 20000 };
    static row r;
    hob_sampler *s;
    uint32_t counts[8] = {0}, full = 0;
    double chi = 0;
    r.vocab = 8;
    memcpy(r.logits, logits, 8 * sizeof *logits);
    assert_int_equal(hob_sampler_new(p, 8, NULL, 0, &s), 0);
    for (uint64_t i = 0; i < DRAWS; i++)
        counts[choose(s, &r, i, &full).token]++;
    for (int i = 0; i < 8; i++) {
        double want = DRAWS * probabilities[i];
        if (probabilities[i] == 0)
            assert_int_equal(counts[i], 0);
        else
            chi += (counts[i] - want) * (counts[i] - want) / want;
    }
    assert_true(chi < 24.3);
    hob_sampler_free(s);
}

static const float even_logits[8] = {3, 1, 2, 0, -1, 2.5f, -2, 1};

static void softmax_of(const float *logits, double temperature, const bool *kept, double *ret)
{
    double sum = 0;
    for (int i = 0; i < 8; i++)
        sum += ret[i] = kept[i] ? exp(logits[i] / temperature) : 0;
    for (int i = 0; i < 8; i++)
        ret[i] /= sum;
}

static void draws_the_right_distribution(void **state)
{
    hob_sampling p;
    double want[8];
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        hob_sampling_default(&p);
        p.seed = seed;
        softmax_of(even_logits, 1, (bool[8]){1, 1, 1, 1, 1, 1, 1, 1}, want);
        check_distribution(&p, even_logits, want);
        p.temperature = 2;
        softmax_of(even_logits, 2, (bool[8]){1, 1, 1, 1, 1, 1, 1, 1}, want);
        check_distribution(&p, even_logits, want);
        p.top_k = 4; /* of the two 1s the lower id */
        softmax_of(even_logits, 2, (bool[8]){1, 1, 1, 0, 0, 1, 0, 0}, want);
        check_distribution(&p, even_logits, want);
        hob_sampling_default(&p);
        p.seed = seed;
        p.top_p = 0.6f; /* 0.42 + 0.25 */
        softmax_of(even_logits, 1, (bool[8]){1, 0, 0, 0, 0, 1, 0, 0}, want);
        check_distribution(&p, even_logits, want);
        p.top_p = 1;
        p.min_p = 0.3f; /* exp(-1) is in, exp(-2) is not */
        softmax_of(even_logits, 1, (bool[8]){1, 0, 1, 0, 0, 1, 0, 0}, want);
        check_distribution(&p, even_logits, want);
        p.min_p = 0;
        p.bias_count = 2;
        p.bias[0].token = 0;
        p.bias[0].bias = -100;
        p.bias[1].token = 6;
        p.bias[1].bias = 4;
        softmax_of((float[8]){3, 1, 2, 0, -1, 2.5f, 2, 1}, 1, (bool[8]){0, 1, 1, 1, 1, 1, 1, 1},
                   want);
        check_distribution(&p, even_logits, want);
    }
}

static void the_test_itself_can_fail(void **state)
{
    /* The statistic tells a wrong temperature from the right one, so the bound above means
     * something. */
    double right[8], wrong[8], chi = 0;
    (void)state;
    softmax_of(even_logits, 1, (bool[8]){1, 1, 1, 1, 1, 1, 1, 1}, right);
    softmax_of(even_logits, 1.05, (bool[8]){1, 1, 1, 1, 1, 1, 1, 1}, wrong);
    for (int i = 0; i < 8; i++)
        chi += 20000 * (wrong[i] - right[i]) * (wrong[i] - right[i]) / right[i];
    assert_true(chi > 24.3);
}

static void greedy_takes_the_best(void **state)
{
    static row r = {.vocab = 6, .logits = {1, 5, 5, -2, 0, 4}};
    uint32_t full = 0;
    hob_sampling p;
    hob_sampler *s;
    (void)state;
    hob_sampling_default(&p);
    p.temperature = 0;
    assert_int_equal(hob_sampler_new(&p, 6, NULL, 0, &s), 0);
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(choose(s, &r, i, &full).token, 1);
    assert_int_equal(full, 0);
    hob_sampler_free(s);
}

static float edited_value(hob_sampler *s, row *r, uint32_t token)
{
    ask(s, r);
    return r->edited[token];
}

static void penalties_and_bans(void **state)
{
    static row r = {.vocab = 6, .logits = {4, -4, 3, 2, 1, 0}};
    const uint32_t ends[] = {2};
    uint32_t full = 0;
    hob_sampling p;
    hob_sampler *s;
    (void)state;
    hob_sampling_default(&p);
    p.temperature = 0;
    p.repeat_penalty = 2;
    p.presence_penalty = 0.5f;
    p.frequency_penalty = 0.25f;
    p.ignore_eos = true;
    p.bias_count = 1;
    p.bias[0].token = 0;
    p.bias[0].bias = 1;
    assert_int_equal(hob_sampler_new(&p, 6, ends, 1, &s), 0);
    assert_true(edited_value(s, &r, 0) == 5);
    assert_true(edited_value(s, &r, 2) == -INFINITY);
    assert_int_equal(hob_sampler_accept(s, 0, false), 0); /* of the prompt: repetition only */
    assert_int_equal(hob_sampler_accept(s, 1, false), 0);
    assert_true(edited_value(s, &r, 0) == 3);
    assert_true(edited_value(s, &r, 1) == -8);
    assert_int_equal(hob_sampler_accept(s, 3, true), 0);
    assert_true(edited_value(s, &r, 3) == 0.25f);
    assert_int_equal(hob_sampler_accept(s, 3, true), 0);
    assert_true(edited_value(s, &r, 3) == 0);
    assert_int_equal(hob_sampler_accept(s, 2, true), 0); /* a ban stays one */
    assert_true(edited_value(s, &r, 2) == -INFINITY);
    assert_int_equal(hob_sampler_accept(s, 6, true), HOB_EINVAL);
    assert_int_equal(choose(s, &r, 0, &full).token, 0);
    hob_sampler_free(s);
}

static void a_forbidden_token_never_comes(void **state)
{
    static row r;
    const uint32_t ends[] = {0};
    uint32_t full = 0;
    hob_sampling p;
    hob_sampler *s;
    (void)state;
    r.vocab = VOCAB;
    for (uint32_t i = 0; i < VOCAB; i++)
        r.logits[i] = i < 2 ? 20 : -2;
    hob_sampling_default(&p);
    p.ignore_eos = true;
    p.bias_count = 1;
    p.bias[0].token = 1;
    p.bias[0].bias = -100;
    assert_int_equal(hob_sampler_new(&p, VOCAB, ends, 1, &s), 0);
    for (uint64_t i = 0; i < 200; i++)
        assert_true(choose(s, &r, i, &full).token >= 2);
    assert_true(full > 100); /* a flat row: most draws fall outside the candidates */
    hob_sampler_free(s);

    /* Everything forbidden: some token, no loop and no overrun. */
    p.bias_count = 0;
    r.vocab = 1;
    assert_int_equal(hob_sampler_new(&p, 1, ends, 1, &s), 0);
    assert_int_equal(choose(s, &r, 0, &full).token, 0);
    hob_sampler_free(s);
}

static void logprobs_are_the_models_own(void **state)
{
    static row r = {.vocab = 5, .logits = {0, 1, 2, 3, 4}};
    uint32_t full = 0;
    hob_sampling p;
    hob_sampler *s;
    double sum = 0;
    (void)state;
    hob_sampling_default(&p);
    p.temperature = 0;
    p.logprobs = 3;
    p.bias_count = 1;
    p.bias[0].token = 4;
    p.bias[0].bias = -100;
    assert_int_equal(hob_sampler_new(&p, 5, NULL, 0, &s), 0);
    hob_sampled got = choose(s, &r, 0, &full);
    for (int i = 0; i < 5; i++)
        sum += exp(i);
    assert_int_equal(got.token, 3);
    assert_true(fabs(got.logprob - (3 - log(sum))) < 1e-5);
    assert_int_equal(got.top_count, 3);
    assert_int_equal(got.top[0].token, 4);
    assert_int_equal(got.top[2].token, 2);
    assert_true(fabs(got.top[2].logprob - (2 - log(sum))) < 1e-5);
    hob_sampler_free(s);
}

static void checks_name_the_field(void **state)
{
    hob_sampling good, p;
    hob_diag diag;
    (void)state;
    hob_sampling_default(&good);
    assert_int_equal(hob_sampling_check(&good, 10, &diag), 0);
#define REFUSES(change, name)                                                                      \
    do {                                                                                           \
        p = good;                                                                                  \
        change;                                                                                    \
        assert_int_equal(hob_sampling_check(&p, 10, &diag), HOB_EINVAL);                           \
        assert_true(strncmp(diag.text, name ":", strlen(name) + 1) == 0);                          \
    } while (0)
    REFUSES(p.temperature = 2.5f, "temperature");
    REFUSES(p.temperature = NAN, "temperature");
    REFUSES(p.top_p = 0, "top_p");
    REFUSES(p.top_p = NAN, "top_p");
    REFUSES(p.min_p = -0.1f, "min_p");
    REFUSES(p.repeat_penalty = 0, "repeat_penalty");
    REFUSES(p.repeat_penalty = INFINITY, "repeat_penalty");
    REFUSES(p.presence_penalty = 3, "presence_penalty");
    REFUSES(p.frequency_penalty = -3, "frequency_penalty");
    REFUSES(p.logprobs = 21, "top_logprobs");
    REFUSES(p.bias_count = HOB_BIAS_MAX + 1, "logit_bias");
    REFUSES((p.bias_count = 1, p.bias[0].token = 10), "logit_bias");
    REFUSES((p.bias_count = 1, p.bias[0].bias = NAN), "logit_bias");
    REFUSES((p.bias_count = 2, p.bias[0].token = p.bias[1].token = 3), "logit_bias");
}

/* Feeds text in parts of `part` bytes and gives what comes out, followed by "|" when a stop string
 * ended it. */
static const char *fed(const char *const *strings, uint32_t count, const char *text, size_t part)
{
    static char out[4096];
    char some[4096];
    size_t used = 0, len = strlen(text), n;
    hob_stops *s;
    bool found = false;
    assert_int_equal(hob_stops_new(strings, count, &s, NULL), 0);
    for (size_t i = 0; i < len && !found; i += part) {
        found = hob_stops_feed(s, text + i, part < len - i ? part : len - i, some, &n);
        memcpy(out + used, some, n);
        used += n;
        if (!found) { /* nothing that could be the beginning of a stop string was given out */
            hob_stops_feed(s, "", 0, some, &n);
            assert_int_equal(n, 0);
        }
    }
    if (found) {
        assert_true(hob_stops_feed(s, "more", 4, some, &n));
        assert_int_equal(n, 0);
        out[used++] = '|';
    } else {
        used += hob_stops_end(s, out + used);
    }
    out[used] = 0;
    hob_stops_free(s);
    return out;
}

static void stops_do_not_depend_on_borders(void **state)
{
    static const struct {
        const char *strings[4], *text, *want;
    } cases[] = {
        {{"END"}, "abENENDcd", "abEN|"},
        {{"END"}, "no en EN", "no en EN"},
        {{"aab"}, "aaaab", "aa|"},
        {{"aab"}, "aaab", "a|"},
        {{"abacabab"}, "abacabacabab", "abac|"},
        {{"abab", "bc"}, "xababc", "x|"},
        {{"ababc", "b"}, "ababc", "a|"},  /* the first to be complete */
        {{"bcd", "abcd"}, "xabcd", "x|"}, /* together: the longest */
        {{"abcd", "bcd"}, "xabcd", "x|"},
        {{"abcx", "bcy"}, "abcy", "a|"},
        {{"\n\n", "</s>"}, "a\n</s\n\nb", "a\n</s|"},
        {{"é!"}, "caf\xC3\xA8 caf\xC3\xA9!", "caf\xC3\xA8 caf|"},
        {{"👍🏽"}, "ok 👍 👍🏽", "ok 👍 |"},
        {{NULL}, "plain", "plain"},
        {{"x"}, "x", "|"},
        {{"plain"}, "", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t count = 0;
        while (count < 4 && cases[i].strings[count])
            count++;
        for (size_t part = 1; part <= strlen(cases[i].text) + 1; part++)
            assert_string_equal(fed(cases[i].strings, count, cases[i].text, part), cases[i].want);
    }
}

static void stops_hold_back_only_what_they_must(void **state)
{
    static const char *const strings[] = {"STOP", "TOPS"};
    char out[64 + HOB_STOP_BYTES_MAX];
    hob_stops *s;
    size_t n;
    (void)state;
    assert_int_equal(hob_stops_new(strings, 2, &s, NULL), 0);
    assert_false(hob_stops_feed(s, "a ST", 4, out, &n));
    assert_int_equal(n, 2);
    assert_false(hob_stops_feed(s, "OX", 2, out, &n));
    assert_int_equal(n, 4);
    assert_memory_equal(out, "STOX", 4);
    assert_false(hob_stops_feed(s, "TO", 2, out, &n));
    assert_int_equal(n, 0);
    assert_int_equal(hob_stops_end(s, out), 2);
    assert_memory_equal(out, "TO", 2);
    hob_stops_free(s);
}

static void stops_are_bounded(void **state)
{
    char longest[HOB_STOP_BYTES_MAX + 2], text[HOB_STOP_BYTES_MAX + 1];
    const char *many[HOB_STOPS_MAX + 1];
    hob_diag diag;
    hob_stops *s = NULL;
    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[HOB_STOP_BYTES_MAX + 1] = 0;
    for (int i = 0; i <= HOB_STOPS_MAX; i++)
        many[i] = "x";
    assert_int_equal(hob_stops_new(many, HOB_STOPS_MAX + 1, &s, &diag), HOB_EINVAL);
    assert_int_equal(hob_stops_new((const char *[]){""}, 1, &s, &diag), HOB_EINVAL);
    assert_int_equal(hob_stops_new((const char *[]){longest}, 1, &s, &diag), HOB_EINVAL);
    assert_null(s);
    longest[HOB_STOP_BYTES_MAX] = 0;
    memset(text, 'a', sizeof text);
    text[HOB_STOP_BYTES_MAX - 1] = 0;
    assert_string_equal(fed((const char *[]){longest}, 1, text, 1), text);
    text[HOB_STOP_BYTES_MAX - 1] = 'a';
    text[HOB_STOP_BYTES_MAX] = 0;
    assert_string_equal(fed((const char *[]){longest}, 1, text, 7), "|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(agrees_with_a_plain_sampler),
        cmocka_unit_test(decides_from_candidates),
        cmocka_unit_test(draws_the_right_distribution),
        cmocka_unit_test(the_test_itself_can_fail),
        cmocka_unit_test(greedy_takes_the_best),
        cmocka_unit_test(penalties_and_bans),
        cmocka_unit_test(a_forbidden_token_never_comes),
        cmocka_unit_test(logprobs_are_the_models_own),
        cmocka_unit_test(checks_name_the_field),
        cmocka_unit_test(stops_do_not_depend_on_borders),
        cmocka_unit_test(stops_hold_back_only_what_they_must),
        cmocka_unit_test(stops_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
