/* SPDX-License-Identifier: Apache-2.0
 *
 * From logits to one token. Order: logit_bias, repetition, presence and frequency penalties (as edits on the device),
 * then temperature, top_k, top_p, min_p, then one draw from a counter-based generator keyed by (seed, position), so
 * that the same request gives the same tokens wherever and whenever it runs. temperature 0 takes the best.
 * Logprobs are those of the model's own distribution (before penalties and temperature).
 * Thread: step. A hob_sampler belongs to one sequence. */
#ifndef HOB_MODELS_SAMPLER_H
#define HOB_MODELS_SAMPLER_H

#include "hal/hal.h"

enum { HOB_BIAS_MAX = 300, HOB_LOGPROBS_MAX = 20, HOB_STOPS_MAX = 16, HOB_STOP_BYTES_MAX = 256 };

typedef struct hob_sampling {
    float temperature;       /* 0 .. 2 */
    uint32_t top_k;          /* 0: off */
    float top_p;             /* 0 < p <= 1; 1: off */
    float min_p;             /* 0 .. 1; 0: off */
    float repeat_penalty;    /* > 0; 1: off; over the prompt's and the answer's tokens */
    float presence_penalty;  /* -2 .. 2, over the answer's tokens */
    float frequency_penalty; /* -2 .. 2, over the answer's tokens */
    uint64_t seed;
    uint32_t bias_count;
    struct {
        uint32_t token;
        float bias;
    } bias[HOB_BIAS_MAX]; /* distinct tokens; -100 and below forbid */
    uint32_t logprobs;    /* alternatives reported, 0 .. HOB_LOGPROBS_MAX */
    bool ignore_eos;
} hob_sampling;

void hob_sampling_default(hob_sampling *s); /* temperature 1, all else off */
/* HOB_EINVAL names the field, what it got and what is allowed. vocab: number of token ids. */
HOB_MUST_CHECK int hob_sampling_check(const hob_sampling *s, uint32_t vocab, hob_diag *diag);

typedef struct hob_sampler hob_sampler;
/* end_tokens[end_count] are forbidden when ignore_eos. */
HOB_MUST_CHECK int hob_sampler_new(const hob_sampling *s, uint32_t vocab,
                                   const uint32_t *end_tokens, uint32_t end_count,
                                   hob_sampler **ret);
void hob_sampler_free(hob_sampler *s);
/* A token of the prompt (generated = false) or of the answer. */
HOB_MUST_CHECK int hob_sampler_accept(hob_sampler *s, uint32_t token, bool generated);
/* What to ask the device for. The edits live until the next call on this sampler. row is copied into *ret. */
void hob_sampler_prepare(hob_sampler *s, uint32_t row, hob_candidates_in *ret);

typedef struct hob_sampled {
    uint32_t token;
    float logprob;
    uint32_t top_count;
    struct {
        uint32_t token;
        float logprob;
    } top[HOB_LOGPROBS_MAX];
} hob_sampled;
/* position: of the token being chosen. Returns 0, or 1 when the nucleus is not covered by the candidates: read the
 * whole logits row and call hob_sampler_pick_full. */
int hob_sampler_pick(hob_sampler *s, const hob_candidates *c, uint64_t position, hob_sampled *ret);
void hob_sampler_pick_full(hob_sampler *s, const float *logits, const hob_candidates *c,
                           uint64_t position, hob_sampled *ret);

/* Stop strings across token borders. Text that might be the beginning of one is held back. */
typedef struct hob_stops hob_stops;
HOB_MUST_CHECK int hob_stops_new(const char *const *strings, uint32_t count, hob_stops **ret,
                                 hob_diag *diag);
void hob_stops_free(hob_stops *s);
/* Feeds text; appends what is certain to be before any stop string to ret (cap at least len + HOB_STOP_BYTES_MAX),
 * stores its length, and returns true when a stop string was found (nothing after it comes out). */
bool hob_stops_feed(hob_stops *s, const char *text, size_t len, char *ret, size_t *ret_len);
/* The end without a stop string: the held text. */
size_t hob_stops_end(hob_stops *s, char *ret);

#endif
