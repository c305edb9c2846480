/* SPDX-License-Identifier: Apache-2.0
 *
 * One request inside the batcher: its tokens, where its KV cache stands, and the chain that turns a sampled token into
 * text (detokenizer, stop strings). Everything it will ever need is allocated when it is made: nothing per token.
 * Thread: step. */
#ifndef HOB_DAEMON_ENGINE_SEQUENCE_H
#define HOB_DAEMON_ENGINE_SEQUENCE_H

#include "daemon/engine/batcher.h"

struct hob_share;

typedef struct hob_sequence {
    struct hob_sequence
        *next; /* in the batcher's running or parked list, or the queue's waiting list */
    uint64_t id;
    uint64_t arrival; /* a number that grows */
    uint32_t tenant;
    hob_priority priority;
    uint32_t rank;           /* priority, made better by waiting: queue.h */
    struct hob_share *share; /* what its tenant was given: queue.h */
    uint64_t waits_since_us, started, stalled_since_us, protected_until_us;
    bool replayed;         /* its resumed tokens are in the sampler and the text chain */
    bool left_out;         /* of the last step, for a prompt of a better class */
    uint64_t queued_us;    /* when it came */
    uint32_t waited_us;    /* from then to its first step */
    uint32_t chunks;       /* steps that the prompt took */
    bool began;            /* rows of it were computed: cached_count is known */
    uint32_t cached_count; /* of the prompt, found in the cache when it began */
    uint32_t *tokens;      /* [capacity] prompt, then answer */
    uint32_t token_count, capacity;
    uint32_t prompt_count;
    uint32_t resumed;
    uint32_t computed; /* positions whose K and V are in the cache */
    uint32_t credit;
    uint32_t *blocks; /* [hob_kv_blocks_for(capacity)] */
    uint32_t block_count,
        named_count; /* held; of those, named in the prefix cache: the first ones */
    bool reports_logprobs;
    hob_sampler *sampler;
    hob_detokenizer detokenizer;
    hob_stops *stops; /* NULL without stop strings */
    char *piece,
        *text; /* buffers of text_capacity bytes for one token's text, before and after stops */
    size_t text_capacity;
} hob_sequence;

/* The prompt and the answer's room, at most `context` tokens. HOB_EINVAL, HOB_ENOMEM. */
HOB_MUST_CHECK int hob_sequence_new(const hob_model *m, const hob_request *r, uint32_t context,
                                    hob_sequence **ret, hob_diag *diag);
void hob_sequence_free(hob_sequence *s);

/* Takes a token of the answer into the text. Writes text and text_len of *ret, and finish when it ends the answer. */
void hob_sequence_take(hob_sequence *s, const hob_model *m, uint32_t token, hob_token_event *ret);
/* Runs the resumed tokens through the chain without giving their text again. True when they already ended the answer;
 * then *ret is that event. */
bool hob_sequence_replay(hob_sequence *s, const hob_model *m, hob_token_event *ret);

static inline uint32_t hob_sequence_answer(const hob_sequence *s)
{
    return s->token_count - s->prompt_count;
}

#endif
