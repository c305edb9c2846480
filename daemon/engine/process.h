/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the engine process: what its three threads share. Each field says who owns it. */
#ifndef HOB_DAEMON_ENGINE_PROCESS_H
#define HOB_DAEMON_ENGINE_PROCESS_H

#include <stdatomic.h>

#include "daemon/engine/arbiter.h"
#include "daemon/engine/batcher.h"
#include "daemon/engine/embedqueue.h"
#include "daemon/engine/mailbox.h"
#include "daemon/observe/process.h"

enum {
    HOB_REQUESTS_MAX = 4096, /* known to an engine at once, before they run */
    HOB_PREPARE_BYTES_MAX =
        128 << 20, /* of PREPARE messages that wait for `text`; one alone may be longer */
};

/* A request from PREPARE until it runs or is dropped. */
typedef struct hob_prepared {
    struct hob_prepared *next;
    uint64_t id;
    bool dropped; /* cancelled while `text` works on it */
    bool ready;   /* ids is complete */
    size_t bytes; /* of its PREPARE, until it is worked off */
    hob_ids ids;
    hob_embed_input texts; /* instead, of an engine that embeds */
} hob_prepared;

/* What the last STATS told, to tell what came since. */
typedef struct hob_reported {
    uint64_t at_us, steps, rows, busy_us; /* at_us 0: there was none */
} hob_reported;

typedef struct hob_engine {
    int fd;                  /* io: socket to the gateway */
    int wake;                /* any: eventfd that makes io look at out */
    hob_model *model;        /* immutable */
    hob_batcher *batcher;    /* step; NULL in an engine that embeds */
    hob_embed_queue *embeds; /* step; NULL in one that generates */
    hob_arbiter arbiter;     /* step */
    hob_reported reported;   /* step */
    uint64_t kv_bytes;       /* immutable: of the KV cache */
    uint32_t context;        /* immutable: tokens of a sequence, or of a text, at most */
    pthread_mutex_t out_lock;
    hob_bytes out; /* under out_lock: bytes for the gateway */
    pthread_mutex_t prepared_lock;
    hob_prepared *prepared; /* under prepared_lock */
    uint32_t prepared_count;
    size_t prepare_bytes; /* under prepared_lock: their sum */
    hob_mailbox for_text, for_step;
    _Atomic uint64_t
        text_since_us; /* since when `text` has been at its present request; 0: it has none */
} hob_engine;

/* Queue a message for the gateway; on no memory the engine ends, since the gateway would wait for ever. */
void hob_engine_send(hob_engine *e, hob_message_type type, uint64_t id, const void *payload,
                     size_t len);
void hob_engine_send_error(hob_engine *e, uint64_t id, int code, const char *message);
void hob_engine_wake(hob_engine *e);

/* The prepared table. Thread: any. */
/* HOB_EINVAL: known already; HOB_ENOMEM: too many, or too long together. bytes: of its PREPARE */
HOB_MUST_CHECK int hob_prepared_add(hob_engine *e, uint64_t id, size_t bytes);
bool hob_prepared_finish(hob_engine *e, uint64_t id,
                         hob_ids *ids); /* takes ids over; false when it was dropped */
bool hob_prepared_finish_texts(hob_engine *e, uint64_t id, hob_embed_input *texts); /* likewise */
bool hob_prepared_is_wanted(hob_engine *e, uint64_t id); /* known, and not dropped */
hob_prepared *hob_prepared_take(hob_engine *e,
                                uint64_t id); /* a ready one, for the caller to free; or NULL */
void hob_prepared_drop(hob_engine *e, uint64_t id); /* in whatever state */
void hob_prepared_free(hob_prepared *p);

void *hob_engine_text_thread(void *engine);
void *hob_engine_embed_text_thread(void *engine);
void *hob_engine_step_thread(void *engine);
/* Sends STATS. Thread: step */
void hob_engine_report(hob_engine *e);
/* The batcher's on_long_step. Thread: step */
void hob_engine_long_step(void *engine, uint32_t expected_ms);
enum { HOB_ENGINE_BEAT_MS = 200 }; /* between two heartbeats */

/* A test's switch: aborts when the environment's HOB_ENGINE_FAULT is "where:id" and id is among ids. where: prepare (the
 * tokenizer breaks), hang (it never comes to an end), poison (the step breaks). */
void hob_engine_fault(const char *where, const hob_ids *ids);

#endif
