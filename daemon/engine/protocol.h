/* SPDX-License-Identifier: Apache-2.0
 *
 * What gateway and engine say to each other over a stream socketpair. Either side treats the other's bytes as hostile:
 * a broken frame ends the connection (and the engine).
 *
 * A message is one or more frames of at most HOB_FRAME_MAX bytes with the same type and id, all but the last marked
 * HOB_FRAME_MORE; frames of different messages may interleave only at message borders. Little endian.
 *
 *     frame:  u16 version (1) | u8 type | u8 flags | u32 payload bytes | u64 id | payload
 *
 * id names a request and is chosen by the gateway; 0 is the engine itself. JSON payloads are objects.
 *
 * gateway -> engine
 *   PREPARE  JSON {"messages": [...], "tools": [...]?} or {"prompt": "text"} or {"ids": [...]}, with
 *            "max_prompt_tokens": n and, optional, "tenant": n. Beside messages, optional, "insert": {"message": n, "before": "…",
 *            "texts": ["…", ...], "after": "…", "ranks": [n, ...], "max_tokens": n, "max_prompt_tokens": n}: before, texts and after
 *            are put in front of that message's content. Texts of the highest ranks, which count from 0, are left out until
 *            they make the prompt no longer than max_prompt_tokens, by no more than max_tokens; with the last one all is.
 *            Answered by PREPARED or ERROR.
 *   RUN      JSON sampling and limits for a prepared id: {"max_tokens": n, "credit": n, "seed": "decimal u64",
 *            "temperature": x, "top_k": n, "top_p": x, "min_p": x, "repeat_penalty": x, "presence_penalty": x,
 *            "frequency_penalty": x, "logit_bias": {"id": x}, "logprobs": n or -1 for none, "stop": ["…"],
 *            "ignore_eos": bool, "tenant": n, "priority": n}. All but max_tokens, credit and seed optional. "resumed": n
 *            says that the last n of the prepared ids were generated before a crash. Tenants share no cached prefix, and
 *            share the engine evenly within a priority: 0 interactive, 1 standard (also when it is not given), 2 batch.
 *            Answered by TOKENS until one finishes, or ERROR.
 *   EMBED    JSON {"inputs": ["text" or [ids], ...], "class": n, "tenant": n, "truncate": bool}, to an engine that embeds, which
 *            knows no PREPARE. class: 0 a question's, 1 interactive, 2 standard, 3 batch. truncate cuts what is too long in front
 *            of its last token. Answered by COUNTED or ERROR; then RUN, without a payload, is answered by VECTORS, or ABORT.
 *   ABORT    drops a prepared id that will not run.
 *   CREDIT   u32 tokens that may be emitted in addition.
 *   CANCEL   ends a request, waiting, prefilling or decoding. Answered by TOKENS with finish "cancelled" unless it ended before.
 *            An EMBED's is not answered.
 *
 * engine -> gateway
 *   HELLO    JSON, once, after the model is loaded: {"model", "architecture", "context", "vocab", "device", "isa",
 *            "threads", "resident_bytes", "weight_bytes", "kv_tokens", "max_sequences", "load_ms"}. "dimensions" and "pooling"
 *            as well, when it embeds; "context" is then the tokens of one text at most.
 *   PREPARED u32 prompt tokens | u32 of them that the prefix cache holds for the tenant at present | u32 texts of an insert that
 *            are in it | u32 tokens that they made it longer by | u32 id * prompt tokens
 *   TOKENS   u8 finish (hob_finish) | u8 has_logprobs | u16 token count | u32 prompt tokens | u32 cached tokens |
 *            u32 answer tokens so far | u32 text bytes | u32 microseconds from RUN to the prompt's first step |
 *            u32 steps that the prompt took | u32 id * token count | text (UTF-8) | JSON array of
 *            {"token", "logprob", "bytes", "top_logprobs": [{"token", "logprob", "bytes"}]} when has_logprobs
 *   COUNTED  u32 tokens of each of an EMBED's inputs, after cutting
 *   VECTORS  u32 first input | u32 inputs | f32 vector of each. In order, until all inputs have theirs.
 *   ERROR    JSON {"code": "HOB_E…", "message": "…"}, and "tokens" and "max_tokens" when a prompt, or "input" of an EMBED, is too
 *            long; the id is then unknown to the engine. With id 0: the model could not be loaded, and the engine exits.
 *   STATS    JSON, every second: numbers by name, those of hob_batcher_stats, the cost model and the device; "step_seconds" is
 *            {"counts": [n, ...], "sum_us": n}, a hob_histogram of how long steps took.
 *   HEARTBEAT u64 steps finished | u32 milliseconds that `text` has been at its present request, 0 when it has none |
 *            u32 milliseconds that the step which begins will take, as the cost model has it, 0: not long; sent by `step`
 *            between steps, at least every quarter of a second while it is alive, and before each step that takes longer. */
#ifndef HOB_DAEMON_ENGINE_PROTOCOL_H
#define HOB_DAEMON_ENGINE_PROTOCOL_H

#include "hal/base.h"

enum {
    HOB_PROTOCOL_VERSION = 1,
    HOB_FRAME_HEADER = 16,
    HOB_FRAME_MAX = 65536,              /* payload bytes */
    HOB_MESSAGE_MAX = 32 * 1024 * 1024, /* payload bytes of all frames of a message */
    HOB_FRAME_MORE = 1,
    HOB_PREPARED_HEADER = 16, /* bytes before the ids */
};

typedef enum hob_message_type {
    HOB_MSG_PREPARE = 1,
    HOB_MSG_RUN = 2,
    HOB_MSG_ABORT = 3,
    HOB_MSG_CREDIT = 4,
    HOB_MSG_CANCEL = 5,
    HOB_MSG_EMBED = 6,
    HOB_MSG_HELLO = 16,
    HOB_MSG_PREPARED = 17,
    HOB_MSG_TOKENS = 18,
    HOB_MSG_ERROR = 19,
    HOB_MSG_STATS = 20,
    HOB_MSG_HEARTBEAT = 21,
    HOB_MSG_COUNTED = 22,
    HOB_MSG_VECTORS = 23,
} hob_message_type;

/* A growable run of bytes; zero-initialize. start..len is not yet consumed. */
typedef struct hob_bytes {
    uint8_t *data;
    size_t start, len, capacity;
} hob_bytes;
void hob_bytes_free(hob_bytes *b);
HOB_MUST_CHECK int hob_bytes_append(hob_bytes *b, const void *data, size_t len); /* HOB_ENOMEM */
void hob_bytes_consume(hob_bytes *b, size_t len);
void hob_bytes_fit(hob_bytes *b); /* gives back what is not used, where that can be */
static inline size_t hob_bytes_left(const hob_bytes *b)
{
    return b->len - b->start;
}

/* Appends a message, cut into frames. HOB_ENOMEM or HOB_ELIMIT, with out unchanged. */
HOB_MUST_CHECK int hob_message_append(hob_bytes *out, hob_message_type type, uint64_t id,
                                      const void *payload, size_t len);

typedef struct hob_message {
    hob_message_type type;
    uint64_t id;
    const uint8_t *payload; /* followed by a NUL that is not counted; valid during the call */
    size_t len;
} hob_message;
/* Returns 0 to go on; negative stops hob_reader_feed with that code. */
typedef int hob_message_handler(void *user, const hob_message *m);

/* Reassembles messages from a byte stream; zero-initialize. */
typedef struct hob_reader {
    hob_bytes frame, message;
    uint8_t type;
    uint64_t id;
    bool in_message;
} hob_reader;
void hob_reader_free(hob_reader *r);
/* HOB_EFORMAT on a broken frame (the connection is then unusable), HOB_ENOMEM, or the handler's code. */
HOB_MUST_CHECK int hob_reader_feed(hob_reader *r, const void *data, size_t len,
                                   hob_message_handler *handle, void *user, hob_diag *diag);

/* Little-endian integers at any alignment. */
uint32_t hob_get_u32(const void *p);
uint64_t hob_get_u64(const void *p);
void hob_put_u32(void *p, uint32_t v);
void hob_put_u64(void *p, uint64_t v);

/* TOKENS, decoded and checked against its length; pointers into the payload. */
typedef struct hob_tokens_message {
    uint8_t finish;
    bool has_logprobs;
    uint32_t token_count, prompt_tokens, cached_tokens, answer_tokens;
    uint32_t waited_us; /* from RUN to the prompt's first step; UINT32_MAX: that or longer */
    uint32_t chunks;    /* steps that the prompt took */
    const uint8_t *ids; /* u32 little endian * token_count: read with hob_get_u32 */
    const char *text;
    size_t text_len;
    const char *logprobs; /* JSON */
    size_t logprobs_len;
} hob_tokens_message;
HOB_MUST_CHECK int hob_tokens_decode(const hob_message *m, hob_tokens_message *ret, hob_diag *diag);
/* ids little endian; no pointer may be NULL. HOB_ELIMIT when it does not fit one frame. */
HOB_MUST_CHECK int hob_tokens_append(hob_bytes *out, uint64_t id, const hob_tokens_message *t);

#endif
