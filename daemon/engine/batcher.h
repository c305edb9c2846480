/* SPDX-License-Identifier: Apache-2.0
 *
 * Continuous batching: the sequences of one model, and the choice of which rows run in the next step. Decoding rows
 * first, then prefill chunks, of a size that keeps the step within the target of the streams. The server's engine and
 * hobctl's offline commands (generate, bench) both drive it, so that what is measured is what serves.
 *
 * Who runs, and what happens when places or KV blocks run out, is places.h's to say. None of it changes a sequence's tokens.
 *
 * Owns the context, the KV pool and every sequence's state (prompt, sampler, detokenizer, stop strings, credit).
 * Does not own the model. Thread: step. */
#ifndef HOB_DAEMON_ENGINE_BATCHER_H
#define HOB_DAEMON_ENGINE_BATCHER_H

#include "daemon/engine/cost.h"
#include "daemon/observe/histogram.h"
#include "models/model.h"
#include "models/sampler.h"

typedef struct hob_batcher hob_batcher;

typedef struct hob_batcher_options {
    uint32_t max_sequences; /* running at once; more wait */
    uint32_t max_waiting;
    uint32_t step_rows; /* rows of a step at most */
    uint32_t context;   /* tokens of one sequence at most, prompt and answer */
    uint32_t kv_tokens; /* of all sequences */
    hob_type kv_type;
    uint32_t prefix_tokens; /* of finished sequences, kept for prompts that begin alike, at most */
    uint32_t itl_target_ms; /* of a step while sequences decode; 0: none */
    /* Called before a step that will probably take longer than long_step_ms, with its milliseconds; may be NULL. */
    void (*on_long_step)(void *user, uint32_t expected_ms);
    void *user;
    uint32_t long_step_ms;
    bool
        touch_memory; /* make the whole KV cache resident at once, so that memory in use does not grow later */
} hob_batcher_options;

typedef enum hob_priority {
    HOB_PRIORITY_INTERACTIVE,
    HOB_PRIORITY_STANDARD,
    HOB_PRIORITY_BATCH,
    HOB_PRIORITIES,
} hob_priority;

typedef enum hob_finish {
    HOB_FINISH_NONE = 0,
    HOB_FINISH_STOP = 1,   /* an end token or a stop string */
    HOB_FINISH_LENGTH = 2, /* max_tokens, or the context is full */
    HOB_FINISH_CANCEL = 3,
    HOB_FINISH_ERROR = 4,
} hob_finish;
const char *hob_finish_name(
    hob_finish f); /* "stop", "length", "cancelled", "error", NULL for none */

typedef struct hob_request {
    uint64_t id;            /* chosen by the caller, unique among the live ones */
    const uint32_t *tokens; /* [token_count] the prompt, then what was already generated; copied */
    uint32_t token_count;
    uint32_t
        resumed; /* how many of tokens were generated before a restart; their text is not sent again */
    uint32_t max_tokens; /* of the answer, resumed ones included */
    uint32_t credit;     /* tokens that may be emitted before more credit comes */
    uint32_t tenant;     /* shares no cached prefix with another */
    hob_priority priority;
    const hob_sampling *sampling; /* copied */
    const char *const *stops;
    uint32_t stop_count;
    bool
        logprobs; /* events carry the token's log probability and sampling->logprobs alternatives */
} hob_request;

typedef struct hob_token_event {
    uint64_t id;
    uint32_t token;   /* HOB_TOKEN_NONE in an event that only finishes */
    const char *text; /* valid UTF-8 that became certain; may be empty; valid during the call */
    size_t text_len;
    bool has_logprob;
    const hob_sampled *sampled; /* when has_logprob */
    hob_finish finish;
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint32_t waited_us, chunks; /* until its first step; steps that the prompt took */
    const char *error;          /* when finish is HOB_FINISH_ERROR */
} hob_token_event;
typedef void hob_token_sink(void *user, const hob_token_event *event);

typedef struct hob_batcher_stats {
    uint64_t steps, prefill_tokens, decode_tokens, finished, cancelled;
    uint64_t prefill_us, decode_us;     /* time of steps, shared out by rows */
    uint64_t cached_tokens;             /* taken from the prefix cache instead of computed */
    uint64_t preempted, parked;         /* sequences set back for others; for want of a reader */
    uint32_t running, waiting, stalled; /* stalled: without credit, running or parked */
    uint32_t kv_blocks, kv_blocks_free,
        kv_blocks_kept; /* kept: free ones that hold known prefixes */
    hob_cost cost;
    hob_histogram step; /* how long steps took */
} hob_batcher_stats;

HOB_MUST_CHECK int hob_batcher_new(hob_model *m, const hob_batcher_options *o, hob_batcher **ret,
                                   hob_diag *diag);
void hob_batcher_free(hob_batcher *b);

/* HOB_EINVAL, HOB_ELIMIT (longer than the context or the KV budget, with both counts; or too many waiting). */
HOB_MUST_CHECK int hob_batcher_submit(hob_batcher *b, const hob_request *r, hob_diag *diag);
/* Frees what the request holds at once; no event follows. False for an unknown id: it may just have ended. */
bool hob_batcher_cancel(hob_batcher *b, uint64_t id);
/* Unknown ids are ignored. */
void hob_batcher_credit(hob_batcher *b, uint64_t id, uint32_t tokens);
bool hob_batcher_has_work(hob_batcher *b); /* something could run in a step now */
/* The best priority of the sequences that run or wait; HOB_PRIORITIES when there is none. */
int hob_batcher_class(const hob_batcher *b);
/* Runs a few steps of nothing, of up to 64 rows, so that the cost model begins with this machine's speed. Needed for
 * itl_target_ms, before the first sequence. */
HOB_MUST_CHECK int hob_batcher_calibrate(hob_batcher *b);
/* Runs one step and reports its tokens. HOB_EDEVICE: the device failed; sequences are untouched. */
HOB_MUST_CHECK int hob_batcher_step(hob_batcher *b, hob_token_sink *sink, void *user);
/* Tokens of a prompt whose K and V another request of the tenant has left in the cache. Thread: any. */
uint32_t hob_batcher_cached(const hob_batcher *b, uint32_t tenant, const uint32_t *tokens,
                            uint32_t count);
void hob_batcher_get_stats(const hob_batcher *b, hob_batcher_stats *ret);

#endif
