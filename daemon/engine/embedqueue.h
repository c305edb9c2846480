/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts that wait for their vectors, and the choice of which go into the next step. A better class goes first, a question's
 * embedding before all others; within a class the tenant that has been served the least, and of one tenant the request that
 * came first. Nobody starves: with each HOB_AGING_US of waiting a request rises by a class. The texts of a step are of
 * one class, and of the lesser ones a step takes only so many that a better text, or another engine, does not wait long.
 *
 * Owns the requests and the working memory of the steps. Does not own the model. Thread: step. */
#ifndef HOB_DAEMON_ENGINE_EMBEDQUEUE_H
#define HOB_DAEMON_ENGINE_EMBEDQUEUE_H

#include "daemon/engine/arbiter.h"
#include "models/embedding.h"

typedef struct hob_embed_queue hob_embed_queue;

/* Tokenized texts, one behind another. */
typedef struct hob_embed_input { /* zero-initialize; released by hob_embed_input_free */
    hob_ids ids;
    uint32_t *lengths; /* [count] tokens of each text */
    uint32_t count;
    hob_arbiter_class class;
    uint32_t tenant;
} hob_embed_input;
void hob_embed_input_free(hob_embed_input *in);

/* Vectors of texts first .. first + count - 1 of a request: [count][width], valid during the call. */
typedef void hob_vector_sink(void *user, uint64_t id, uint32_t first, uint32_t count,
                             const float *vectors);

typedef struct hob_embed_stats {
    uint64_t steps, texts, tokens, finished, cancelled, busy_us;
    uint32_t requests, waiting_texts; /* now */
    double tokens_per_second;         /* of steps of late; 0: none was measured yet */
} hob_embed_stats;

typedef struct hob_embed_queue_options {
    uint32_t step_rows; /* as for hob_embedder_new */
    /* Called before a step that will probably take longer than long_step_ms, with its milliseconds; may be NULL. */
    void (*on_long_step)(void *user, uint32_t expected_ms);
    void *user;
    uint32_t long_step_ms;
} hob_embed_queue_options;

/* HOB_ENOMEM. Runs a step of the longest text and one of the most texts, so that their
 * memory is there from now on and a device that cannot is found out: HOB_EDEVICE. */
HOB_MUST_CHECK int hob_embed_queue_new(hob_model *m, const hob_embed_queue_options *o,
                                       hob_embed_queue **ret, hob_diag *diag);
void hob_embed_queue_free(hob_embed_queue *q);

/* Takes *in over, whatever it returns. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_embed_queue_submit(hob_embed_queue *q, uint64_t id, hob_embed_input *in);
/* Unknown ids are ignored: it may just have ended. */
void hob_embed_queue_cancel(hob_embed_queue *q, uint64_t id);
bool hob_embed_queue_has_work(const hob_embed_queue *q);
/* Of the next step; HOB_ARBITER_CLASSES when there is none. */
hob_arbiter_class hob_embed_queue_class(hob_embed_queue *q);
/* One step; each request's vectors go to sink, in the order of its texts. HOB_EDEVICE. */
HOB_MUST_CHECK int hob_embed_queue_step(hob_embed_queue *q, hob_vector_sink *sink, void *user);
void hob_embed_queue_get_stats(const hob_embed_queue *q, hob_embed_stats *ret);

#endif
