/* SPDX-License-Identifier: Apache-2.0
 *
 * A sequence's life between sampling and text. See sequence.h. */
#include "daemon/engine/sequence.h"

#include <stdlib.h>
#include <string.h>

enum { END_TOKENS_MAX = 16 };

/* Every token that ends an answer, for ignore_eos. */
static uint32_t end_tokens(const hob_tokenizer *t, uint32_t ret[END_TOKENS_MAX])
{
    uint32_t count = 0;
    for (uint32_t id = 0; id < hob_tokenizer_size(t) && count < END_TOKENS_MAX; id++)
        if (hob_tokenizer_is_end(t, id))
            ret[count++] = id;
    return count;
}

int hob_sequence_new(const hob_model *m, const hob_request *r, uint32_t context, hob_sequence **ret,
                     hob_diag *diag)
{
    const hob_tokenizer *t = hob_model_tokenizer(m);
    const uint32_t vocab = hob_tokenizer_size(t);
    uint32_t ends[END_TOKENS_MAX];
    hob_sequence *s = NULL;
    int rc;

    if (r->token_count == 0)
        return hob_fail(diag, HOB_EINVAL, "prompt: 0 tokens, at least 1");
    if (r->resumed >= r->token_count)
        return hob_fail(diag, HOB_EINVAL, "resumed: %u of %u tokens, the prompt needs at least 1",
                        r->resumed, r->token_count);
    if (r->max_tokens == 0)
        return hob_fail(diag, HOB_EINVAL, "max_tokens: 0, at least 1");
    if (r->token_count > context || (r->token_count == context && r->resumed == 0))
        return hob_fail(diag, HOB_ELIMIT,
                        "prompt: %u tokens, the context holds %u with at least one of the answer",
                        r->token_count, context);
    for (uint32_t i = 0; i < r->token_count; i++)
        if (r->tokens[i] >= vocab)
            return hob_fail(diag, HOB_EINVAL, "prompt: token id %u at %u, the vocabulary has %u",
                            r->tokens[i], i, vocab);
    if ((rc = hob_sampling_check(r->sampling, vocab, diag)) < 0)
        return rc;

    s = calloc(1, sizeof *s);
    if (!s)
        goto no_memory;
    s->id = r->id;
    s->tenant = r->tenant;
    s->priority = r->priority;
    s->rank = r->priority;
    s->prompt_count = r->token_count - r->resumed;
    s->resumed = r->resumed;
    s->token_count = r->token_count;
    s->capacity =
        r->max_tokens < context - s->prompt_count ? s->prompt_count + r->max_tokens : context;
    if (s->capacity < s->token_count)
        s->capacity = s->token_count;
    s->credit = r->credit;
    s->reports_logprobs = r->logprobs;
    s->text_capacity = 3 * (hob_tokenizer_longest_piece(t) + 4) + 2 * HOB_STOP_BYTES_MAX + 16;
    s->tokens = malloc(s->capacity * sizeof *s->tokens);
    s->blocks = malloc(hob_kv_blocks_for(s->capacity) * sizeof *s->blocks);
    s->piece = malloc(s->text_capacity);
    s->text = malloc(s->text_capacity);
    if (!s->tokens || !s->blocks || !s->piece || !s->text)
        goto no_memory;
    memcpy(s->tokens, r->tokens, r->token_count * sizeof *s->tokens);
    if (r->stop_count && (rc = hob_stops_new(r->stops, r->stop_count, &s->stops, diag)) < 0)
        goto fail;
    if ((rc = hob_sampler_new(r->sampling, vocab, ends, end_tokens(t, ends), &s->sampler)) < 0) {
        hob_fail(diag, rc, "request: no memory for its sampler");
        goto fail;
    }
    for (uint32_t i = 0; i < s->prompt_count; i++)
        if ((rc = hob_sampler_accept(s->sampler, s->tokens[i], false)) < 0)
            goto no_memory;
    *ret = s;
    return 0;

no_memory:
    rc = hob_fail(diag, HOB_ENOMEM, "request: no memory for %u tokens", r->token_count);
fail:
    hob_sequence_free(s);
    return rc;
}

void hob_sequence_free(hob_sequence *s)
{
    if (!s)
        return;
    hob_sampler_free(s->sampler);
    hob_stops_free(s->stops);
    free(s->tokens);
    free(s->blocks);
    free(s->piece);
    free(s->text);
    free(s);
}

/* Text that became certain: through the stop strings when there are any. Returns true when one was found. */
static bool pass_stops(hob_sequence *s, size_t piece_len, hob_token_event *ret)
{
    if (!s->stops) {
        memcpy(s->text, s->piece, piece_len);
        ret->text_len = piece_len;
        return false;
    }
    return hob_stops_feed(s->stops, s->piece, piece_len, s->text, &ret->text_len);
}

/* The answer ends here for a reason other than a stop string: what was held back comes out. */
static void flush_text(hob_sequence *s, hob_token_event *ret)
{
    size_t len = hob_detokenize_end(&s->detokenizer, s->piece, s->text_capacity);
    size_t before = ret->text_len;
    if (s->stops) {
        size_t more = 0;
        if (hob_stops_feed(s->stops, s->piece, len, s->text + before, &more))
            ret->finish = HOB_FINISH_STOP;
        else
            more += hob_stops_end(s->stops, s->text + before + more);
        ret->text_len = before + more;
    } else {
        memcpy(s->text + before, s->piece, len);
        ret->text_len = before + len;
    }
}

void hob_sequence_take(hob_sequence *s, const hob_model *m, uint32_t token, hob_token_event *ret)
{
    const hob_tokenizer *t = hob_model_tokenizer(m);
    ret->text = s->text;
    ret->text_len = 0;
    ret->finish = HOB_FINISH_NONE;
    if (hob_tokenizer_is_end(t, token)) {
        ret->finish = HOB_FINISH_STOP;
        flush_text(s, ret);
        return;
    }
    size_t len = hob_detokenize(t, &s->detokenizer, token, false, s->piece, s->text_capacity);
    if (pass_stops(s, len, ret)) {
        ret->finish = HOB_FINISH_STOP;
        return;
    }
    if (s->token_count == s->capacity) {
        ret->finish = HOB_FINISH_LENGTH;
        flush_text(s, ret);
    }
}

bool hob_sequence_replay(hob_sequence *s, const hob_model *m, hob_token_event *ret)
{
    const uint32_t total = s->token_count;
    s->replayed = true;
    for (uint32_t i = s->prompt_count; i < total; i++) {
        if (hob_sampler_accept(s->sampler, s->tokens[i], true) < 0) {
            *ret = (hob_token_event){.id = s->id,
                                     .token = HOB_TOKEN_NONE,
                                     .finish = HOB_FINISH_ERROR,
                                     .error = "no memory"};
            return true;
        }
        s->token_count = i + 1;
        hob_sequence_take(s, m, s->tokens[i], ret);
        if (ret->finish != HOB_FINISH_NONE) {
            /* Sent with that token already, unless the crash came between: only the end is repeated. */
            ret->text_len = 0;
            return true;
        }
    }
    return false;
}
