/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler. See sampler.h.
 *
 * Canonical order: tokens by descending edited logit, ties by ascending id. Every filter keeps a
 * prefix of it, and the draw u picks the first token whose cumulative weight exceeds u times the
 * weight kept. A token's weight is exp((logit - best logit) / temperature) in double precision.
 *
 * The device hands out the head of that order and, as a float, the log of the sum over all of it.
 * From these the token is decided whenever the float's error cannot change it; otherwise the whole
 * row is read, where the sum is exact. So both ways choose the same token for the same draw, and
 * the rare second way is also the reference.
 *
 * The whole row is not sorted: the token at a cumulative weight is found by a radix select over the
 * bits of the logits, three passes that need no memory but their histograms.
 *
 * Edits (biases, penalties, bans) are kept up to date as tokens are accepted, so that preparing a
 * step is O(1). */
#include "models/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "models/intmap.h"
#include "models/philox.h"

enum { CANDIDATES_DEFAULT = 64 };

/* Below this the best token is taken: logits / temperature would lose their digits in a float. */
#define TEMPERATURE_LOWEST 1e-3f

typedef struct edited {
    uint32_t generated; /* times in the answer */
    bool seen;          /* in the prompt or the answer */
    float bias;
} edited;

struct hob_sampler {
    hob_sampling params;
    uint32_t vocab;
    bool greedy;
    double inverse_temperature;
    uint8_t *marked;       /* [vocab / 8 + 1] a bit a token: it has an edit */
    hob_intmap index;      /* token -> place in edits and why */
    hob_logit_edit *edits; /* [edit_count] */
    edited *why;           /* [edit_count] what the edit at the same place is made of */
    uint32_t edit_count, edit_capacity;
};

void hob_sampling_default(hob_sampling *s)
{
    memset(s, 0, sizeof *s);
    s->temperature = 1;
    s->top_p = 1;
    s->repeat_penalty = 1;
}

static int check_range(const char *name, float value, float min, float max, hob_diag *diag)
{
    if (value >= min && value <= max)
        return 0;
    return hob_fail(diag, HOB_EINVAL, "%s: got %g, allowed are %g to %g", name, (double)value,
                    (double)min, (double)max);
}

int hob_sampling_check(const hob_sampling *s, uint32_t vocab, hob_diag *diag)
{
    int r;
    if ((r = check_range("temperature", s->temperature, 0, 2, diag)) < 0 ||
        (r = check_range("min_p", s->min_p, 0, 1, diag)) < 0 ||
        (r = check_range("presence_penalty", s->presence_penalty, -2, 2, diag)) < 0 ||
        (r = check_range("frequency_penalty", s->frequency_penalty, -2, 2, diag)) < 0)
        return r;
    if (!(s->top_p > 0 && s->top_p <= 1))
        return hob_fail(diag, HOB_EINVAL, "top_p: got %g, allowed are values above 0 up to 1",
                        (double)s->top_p);
    if (!(s->repeat_penalty > 0 && s->repeat_penalty <= 100))
        return hob_fail(diag, HOB_EINVAL,
                        "repeat_penalty: got %g, allowed are values above 0 up to 100",
                        (double)s->repeat_penalty);
    if (s->logprobs > HOB_LOGPROBS_MAX)
        return hob_fail(diag, HOB_EINVAL, "top_logprobs: got %u, allowed are 0 to %d", s->logprobs,
                        HOB_LOGPROBS_MAX);
    if (s->bias_count > HOB_BIAS_MAX)
        return hob_fail(diag, HOB_EINVAL, "logit_bias: got %u tokens, allowed are %d",
                        s->bias_count, HOB_BIAS_MAX);
    for (uint32_t i = 0; i < s->bias_count; i++) {
        if (s->bias[i].token >= vocab)
            return hob_fail(diag, HOB_EINVAL,
                            "logit_bias: got token %u, the model has tokens 0 to %u",
                            s->bias[i].token, vocab - 1);
        if (!(s->bias[i].bias <= 100))
            return hob_fail(diag, HOB_EINVAL,
                            "logit_bias: token %u: got %g, allowed are -100 to 100",
                            s->bias[i].token, (double)s->bias[i].bias);
        for (uint32_t j = 0; j < i; j++)
            if (s->bias[j].token == s->bias[i].token)
                return hob_fail(diag, HOB_EINVAL, "logit_bias: token %u is there twice",
                                s->bias[i].token);
    }
    return 0;
}

/* The place of token's edit, made when there is none. */
static int edit_of(hob_sampler *s, uint32_t token, uint32_t *ret)
{
    uint32_t i = hob_intmap_find(&s->index, token);
    if (i == HOB_INTMAP_NONE) {
        if (s->edit_count == s->edit_capacity) {
            uint32_t capacity = s->edit_capacity ? 2 * s->edit_capacity : 64;
            hob_logit_edit *edits = realloc(s->edits, capacity * sizeof *edits);
            if (!edits)
                return HOB_ENOMEM;
            s->edits = edits;
            edited *why = realloc(s->why, capacity * sizeof *why);
            if (!why)
                return HOB_ENOMEM;
            s->why = why;
            s->edit_capacity = capacity;
        }
        i = s->edit_count;
        int r = hob_intmap_set(&s->index, token, i);
        if (r < 0)
            return r;
        s->edits[i] = (hob_logit_edit){.token = token, .divide = 1, .add = 0};
        s->why[i] = (edited){0};
        s->marked[token / 8] |= (uint8_t)(1u << token % 8);
        s->edit_count++;
    }
    *ret = i;
    return 0;
}

static void update_edit(hob_sampler *s, uint32_t i)
{
    const edited *w = &s->why[i];
    double add = w->bias;
    if (w->generated)
        add -=
            (double)s->params.presence_penalty + (double)s->params.frequency_penalty * w->generated;
    s->edits[i].divide = w->seen ? s->params.repeat_penalty : 1;
    s->edits[i].add = w->bias <= -100 ? -INFINITY : (float)add;
}

static int set_bias(hob_sampler *s, uint32_t token, float bias)
{
    uint32_t i;
    int r = edit_of(s, token, &i);
    if (r < 0)
        return r;
    s->why[i].bias = bias;
    update_edit(s, i);
    return 0;
}

int hob_sampler_new(const hob_sampling *params, uint32_t vocab, const uint32_t *end_tokens,
                    uint32_t end_count, hob_sampler **ret)
{
    hob_sampler *s = calloc(1, sizeof *s);
    int r = 0;
    if (!s)
        return HOB_ENOMEM;
    s->params = *params;
    s->vocab = vocab;
    s->greedy = params->temperature < TEMPERATURE_LOWEST;
    s->inverse_temperature = s->greedy ? 1 : (double)(1 / params->temperature);
    if (s->params.top_k >= vocab)
        s->params.top_k = 0;
    s->marked = calloc(vocab / 8 + 1, 1);
    if (!s->marked)
        r = HOB_ENOMEM;
    for (uint32_t i = 0; i < params->bias_count && r >= 0; i++)
        r = set_bias(s, params->bias[i].token, params->bias[i].bias);
    for (uint32_t i = 0; i < end_count && params->ignore_eos && r >= 0; i++)
        if (end_tokens[i] < vocab)
            r = set_bias(s, end_tokens[i], -INFINITY);
    if (r < 0) {
        hob_sampler_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void hob_sampler_free(hob_sampler *s)
{
    if (!s)
        return;
    free(s->marked);
    hob_intmap_free(&s->index);
    free(s->edits);
    free(s->why);
    free(s);
}

int hob_sampler_accept(hob_sampler *s, uint32_t token, bool generated)
{
    bool counts =
        generated && (s->params.presence_penalty != 0 || s->params.frequency_penalty != 0);
    uint32_t i;
    if (token >= s->vocab)
        return HOB_EINVAL;
    if (!counts && s->params.repeat_penalty == 1)
        return 0;
    int r = edit_of(s, token, &i);
    if (r < 0)
        return r;
    s->why[i].seen = true;
    if (generated && s->why[i].generated < UINT32_MAX)
        s->why[i].generated++;
    update_edit(s, i);
    return 0;
}

void hob_sampler_prepare(hob_sampler *s, uint32_t row, hob_candidates_in *ret)
{
    uint32_t k = s->greedy ? 1 : s->params.top_k ? s->params.top_k : CANDIDATES_DEFAULT;
    if (k < s->params.logprobs)
        k = s->params.logprobs;
    if (k > HOB_CANDIDATES_MAX)
        k = HOB_CANDIDATES_MAX;
    if (k > s->vocab)
        k = s->vocab;
    *ret = (hob_candidates_in){.row = row,
                               .k = k,
                               .inverse_temperature = (float)s->inverse_temperature,
                               .edit_count = s->edit_count,
                               .edits = s->edits};
}

/* The number of leading weights whose sum reaches target; count + 1 when all of them do not. */
static uint32_t reach(const double *weights, uint32_t count, double target)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((sum += weights[i]) >= target)
            return i + 1;
    return count + 1;
}

/* The first place whose cumulative weight exceeds target; count when there is none. */
static uint32_t draw(const double *weights, uint32_t count, double target)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        if ((sum += weights[i]) > target)
            return i;
    return count;
}

static double sum_of(const double *weights, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += weights[i];
    return sum;
}

/* The place among the candidates that the draw u chooses, or UINT32_MAX when they are too few to
 * say. */
static uint32_t decide(const hob_sampler *s, const hob_candidates *c, double u)
{
    double weights[HOB_CANDIDATES_MAX]; /* [count] */
    uint32_t count = c->count < HOB_CANDIDATES_MAX ? c->count : HOB_CANDIDATES_MAX;
    bool whole = count >= s->vocab;
    if (count == 0)
        return UINT32_MAX;
    if (!isfinite(c->logits[0]))
        return 0; /* everything is forbidden */
    for (uint32_t i = 0; i < count; i++)
        weights[i] = exp(((double)c->logits[i] - (double)c->logits[0]) * s->inverse_temperature);
    if (s->params.top_k && s->params.top_k <= count) {
        count = s->params.top_k;
        whole = true;
    }

    /* The weight of all that top_k leaves lies between low and high. */
    double known = sum_of(weights, count), low = known, high = known;
    if (!whole) {
        double all = exp((double)c->lse - (double)c->logits[0] * s->inverse_temperature);
        double error = 1e-4 + 1e-6 * fabs((double)c->lse);
        if (!(all < 1e30))
            return UINT32_MAX;
        high = fmax(known, all * (1 + error));
        if (!s->params.top_k)
            low = fmax(known, all * (1 - error));
    }
    /* What top_p keeps: at least `nucleus` and, when that is certain, exactly so many. */
    uint32_t nucleus = count + 1;
    bool certain = whole;
    if (s->params.top_p < 1) {
        nucleus = reach(weights, count, (double)s->params.top_p * low);
        certain = certain || (nucleus <= count &&
                              nucleus == reach(weights, count, (double)s->params.top_p * high));
    }
    /* What min_p keeps: exactly so many, or all of the candidates and perhaps more. */
    uint32_t kept = 1;
    while (kept < count && weights[kept] >= (double)s->params.min_p)
        kept++;
    if (kept == count && !whole)
        kept = count + 1;

    if (kept <= count && kept <= nucleus) {
        nucleus = kept;
        certain = true;
    }
    if (nucleus <= count && certain)
        low = high = sum_of(weights, nucleus);
    else if (!whole && (s->params.top_p < 1 || s->params.min_p > 0 || s->params.top_k))
        return UINT32_MAX;
    else
        nucleus = count;
    uint32_t i = draw(weights, nucleus, u * low);
    if (low != high && (i == nucleus || i != draw(weights, nucleus, u * high)))
        return UINT32_MAX;
    if (i < nucleus)
        return i;
    for (i = nucleus - 1; i > 0 && !(weights[i] > 0);) /* u * sum rounded up to the sum */
        i--;
    return i;
}

/* Keeps the best `params.logprobs` of what it is given in ret->top, by descending log probability,
 * ties by id. */
static void add_top(const hob_sampler *s, hob_sampled *ret, uint32_t token, float logprob)
{
    uint32_t at = ret->top_count;
    while (at > 0 && (ret->top[at - 1].logprob < logprob ||
                      (ret->top[at - 1].logprob == logprob && ret->top[at - 1].token > token)))
        at--;
    if (at >= s->params.logprobs)
        return;
    if (ret->top_count < s->params.logprobs)
        ret->top_count++;
    for (uint32_t i = ret->top_count - 1; i > at; i--)
        ret->top[i] = ret->top[i - 1];
    ret->top[at].token = token;
    ret->top[at].logprob = logprob;
}

int hob_sampler_pick(hob_sampler *s, const hob_candidates *c, uint64_t position, hob_sampled *ret)
{
    uint32_t i =
        s->greedy && c->count ? 0 : decide(s, c, hob_philox_uniform(s->params.seed, position));
    if (i == UINT32_MAX)
        return 1;
    /* An edit may have moved one of the model's own best out of the candidates. */
    if (s->params.logprobs && s->edit_count && c->count < s->vocab)
        return 1;
    *ret = (hob_sampled){.token = c->ids[i], .logprob = c->raw[i] - c->lse_raw};
    for (uint32_t j = 0; j < c->count && s->params.logprobs; j++)
        add_top(s, ret, c->ids[j], c->raw[j] - c->lse_raw);
    return 0;
}

/* A row of logits in canonical order, without sorting it. */
typedef struct row_view {
    const hob_sampler *s;
    const float *logits; /* [vocab] raw */
    float best;          /* highest edited logit */
} row_view;

static float edited_logit(const row_view *v, uint32_t token)
{
    float x = v->logits[token];
    if (v->s->marked[token / 8] >> token % 8 & 1) {
        const hob_logit_edit *e = &v->s->edits[hob_intmap_find(&v->s->index, token)];
        x = (x > 0 ? x / e->divide : x * e->divide) + e->add;
    }
    return isnan(x) ? -INFINITY : x;
}

static double weight_of(const row_view *v, float logit)
{
    return exp(((double)logit - (double)v->best) * v->s->inverse_temperature);
}

/* Ascending keys are descending logits; 0 and -0 are one. */
static uint32_t key_of(float logit)
{
    uint32_t bits;
    logit = logit == 0 ? 0 : logit;
    memcpy(&bits, &logit, sizeof bits);
    return bits & 0x80000000u ? bits : ~bits & 0x7FFFFFFFu;
}

typedef struct place { /* of a token in canonical order */
    uint32_t key, token;
    double weight; /* of it and all before it */
} place;

/* The first token at which the count (by_count) or the weight of it and all before it exceeds
 * target. */
static place select_place(const row_view *v, bool by_count, double target)
{
    static const uint32_t shifts[] = {21, 10, 0}, sizes[] = {2048, 2048, 1024};
    double weights[2048], counts[2048], weight = 0, count = 0;
    uint32_t prefix = 0, mask = 0;
    for (int level = 0; level < 3; level++) {
        memset(weights, 0, sizeof weights);
        memset(counts, 0, sizeof counts);
        for (uint32_t i = 0; i < v->s->vocab; i++) {
            float logit = edited_logit(v, i);
            uint32_t key = key_of(logit);
            if ((key & mask) == prefix) {
                uint32_t bucket = key >> shifts[level] & (sizes[level] - 1);
                weights[bucket] += weight_of(v, logit);
                counts[bucket] += 1;
            }
        }
        uint32_t chosen = 0;
        bool exceeded = false;
        for (uint32_t b = 0; b < sizes[level] && !exceeded; b++) {
            if (counts[b] == 0 || (!by_count && weights[b] == 0))
                continue; /* also at the end: rounding must not lead to a token that cannot be */
            chosen = b;
            weight += weights[b];
            count += counts[b];
            exceeded = (by_count ? count : weight) > target;
        }
        weight -= weights[chosen];
        count -= counts[chosen];
        prefix |= chosen << shifts[level];
        mask |= (sizes[level] - 1) << shifts[level];
    }
    place p = {.key = prefix, .token = 0, .weight = weight};
    for (uint32_t i = 0; i < v->s->vocab; i++) { /* equal logits, by id */
        float logit = edited_logit(v, i);
        if (key_of(logit) != prefix)
            continue;
        p.token = i;
        p.weight = weight += weight_of(v, logit);
        count += 1;
        if ((by_count ? count : weight) > target)
            break;
    }
    return p;
}

static bool is_before(place a, place b)
{
    return a.key < b.key || (a.key == b.key && a.token < b.token);
}

static uint32_t decide_full(const row_view *v, double u)
{
    const hob_sampling *params = &v->s->params;
    double all = 0, above = 0;
    for (uint32_t i = 0; i < v->s->vocab; i++) {
        double w = weight_of(v, edited_logit(v, i));
        all += w;
        if (w >= (double)params->min_p)
            above += w;
    }
    place last = {.key = UINT32_MAX, .token = UINT32_MAX, .weight = all};
    if (params->top_k)
        last = select_place(v, true, (double)params->top_k - 0.5);
    if (params->top_p < 1) {
        /* "reaches" is "exceeds all that is below" in doubles */
        place nucleus = select_place(v, false, nextafter((double)params->top_p * last.weight, 0));
        if (is_before(nucleus, last))
            last = nucleus;
    }
    double kept = fmin(last.weight, params->min_p > 0 ? above : last.weight);
    place chosen = select_place(v, false, u * kept);
    return is_before(last, chosen) ? last.token : chosen.token;
}

void hob_sampler_pick_full(hob_sampler *s, const float *logits, const hob_candidates *c,
                           uint64_t position, hob_sampled *ret)
{
    row_view v = {.s = s, .logits = logits, .best = -INFINITY};
    uint32_t token = 0;
    for (uint32_t i = 0; i < s->vocab; i++) {
        float logit = edited_logit(&v, i);
        if (logit > v.best) {
            v.best = logit;
            token = i;
        }
    }
    if (!s->greedy && isfinite(v.best))
        token = decide_full(&v, hob_philox_uniform(s->params.seed, position));
    *ret = (hob_sampled){.token = token, .logprob = logits[token] - c->lse_raw};
    for (uint32_t i = 0; i < s->vocab && s->params.logprobs; i++)
        add_top(s, ret, i, logits[i] - c->lse_raw);
}
