/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectors of texts, for whoever in the gateway wants some: the route /v1/embeddings, retrieval, ingest. A request goes to the
 * engine of an embedding model, waits for one that is coming up, and survives one that dies, as far as its vectors have come;
 * it is told of its end once. Thread: loop, all of it, the callbacks too. */
#ifndef HOB_DAEMON_GATEWAY_EMBED_H
#define HOB_DAEMON_GATEWAY_EMBED_H

#include "daemon/engine/arbiter.h"
#include "daemon/gateway/api.h"

struct hob_gateway;
typedef struct hob_embed hob_embed;

typedef struct hob_embed_result {
    uint32_t count, dimensions;
    const float *vectors;   /* [count][dimensions], of length 1 */
    const uint32_t *tokens; /* [count] of each text, [CLS] and [SEP] among them, after cutting */
    uint64_t tokens_in_all;
} hob_embed_result;

typedef struct hob_embed_handler {
    /* Once, when the tokens are counted and before anything is computed; may be NULL. vectors of the result is NULL. HOB_EINVAL
     * with *e filled ends the request with it. */
    int (*counted)(void *user, const hob_embed_result *r, hob_api_error *e);
    /* The end: r, or NULL and e. Both are valid during the call, and the request is gone after it. */
    void (*done)(void *user, const hob_embed_result *r, const hob_api_error *e);
} hob_embed_handler;

typedef struct hob_embed_request {
    uint32_t model; /* index in the configuration */
    hob_arbiter_class class
        ;            /* HOB_ARBITER_QUERY: a question that somebody waits for; _BATCH: ingest */
    uint32_t tenant; /* who shares the engine with others; 0 in --dev */
    uint32_t patience_ms; /* how long it may be expected to wait when it is counted; 0: any time */
    bool truncate;        /* texts that are too long are cut, and no error */
    json_t *
        inputs; /* list of 1 to HOB_EMBED_INPUTS_MAX texts, or lists of token ids; a reference is taken */
    const hob_embed_handler *handler; /* lives as long as the request */
    void *user;
} hob_embed_request;

enum { HOB_EMBED_INPUTS_MAX = 2048 };

/* Starts it. 0, with *ret to be cancelled by, until done was called: never before this returns. HOB_EINVAL with *e filled: it is
 * refused, and done is not called: the model generates text (400), too many wait (429, retry_after_ms), its engine is unloaded or
 * there is no memory (503). Other refusals come to done: a text that is empty or too long (400, with its number and both
 * counts), an engine that does not come up (503), a request that kills engines (500). */
HOB_MUST_CHECK int hob_embed_start(struct hob_gateway *g, const hob_embed_request *request,
                                   hob_embed **ret, hob_api_error *e);
/* No callback any more. */
void hob_embed_cancel(hob_embed *r);

/* The first model that embeds, as far as engines have said so; -1: none has. */
int hob_embed_default_model(const struct hob_gateway *g);
/* Of its vectors; 0: the model generates text, or its engine was never up. */
uint32_t hob_embed_dimensions(const struct hob_gateway *g, uint32_t model);

#endif
