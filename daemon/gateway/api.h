/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client asked for, whichever of OpenAI's interfaces it spoke, and what it is told when that cannot be done.
 * Parsing is pure: it looks at the JSON and the configuration only. Every field is known by name; one that is not, or
 * that asks for something hob does not do, is a 400 that names it. */
#ifndef HOB_DAEMON_GATEWAY_API_H
#define HOB_DAEMON_GATEWAY_API_H

#include <jansson.h>

#include "daemon/conf/conf.h"
#include "daemon/gateway/text.h"

typedef struct hob_api_error { /* status 0: none */
    int status;                /* of HTTP */
    const char *type, *code;   /* code may be NULL */
    char param[96];            /* "": null */
    char message[400];
    uint32_t retry_after_s, retry_after_ms; /* one of them, or 0: no header */
    const char *reason;                     /* error.hob_reason, a literal; NULL: none */
    bool final;                             /* trying again is useless */
} hob_api_error;

/* Fills the error and returns HOB_EINVAL, so that a parser may `return hob_api_fail(...)`. type and code are literals. */
int hob_api_fail(hob_api_error *e, int status, const char *type, const char *code,
                 const char *param, const char *format, ...) HOB_PRINTF(6, 7);
/* A 400 invalid_request_error. */
#define hob_api_bad(e, code, param, ...)                                                           \
    hob_api_fail(e, 400, "invalid_request_error", code, param, __VA_ARGS__)
/* A 503. */
int hob_api_no_memory(hob_api_error *e);
/* {"message": …, "type": …, "param": …, "code": …}, and what hob adds: "hob_reason", "hob_retry_after_ms" */
void hob_api_error_object(hob_text *t, const hob_api_error *e);

enum {
    HOB_N_MAX = 8,        /* choices a prompt */
    HOB_CHOICES_MAX = 32, /* of all prompts of a request */
};

typedef enum hob_api_kind {
    HOB_API_CHAT,
    HOB_API_COMPLETION,
    HOB_API_RESPONSES,
    HOB_API_EMBEDDINGS
} hob_api_kind;

/* That the answer is to be made from stored documents. */
typedef struct hob_api_retrieval {
    json_t *stores;  /* names or ids of collections, 1 to HOB_SEARCH_COLLECTIONS_MAX; NULL: no */
    json_t *filters; /* checked; NULL: none */
    uint32_t max_chunks, max_tokens; /* of what is put in front of the question; 0: as usual */
    double threshold;                /* below it nothing is relevant; negative: as usual */
    bool results;                    /* the response is to show the passages' texts */
} hob_api_retrieval;

typedef struct hob_api_request { /* zero-initialize; released by hob_api_request_free */
    hob_api_kind kind;
    uint32_t model;   /* index in the configuration */
    bool model_given; /* by its own name */
    json_t *inputs;   /* embeddings: list of texts, or of lists of token ids */
    bool base64, truncate;
    uint32_t dimensions; /* embeddings: that the vectors are to have; 0: not said */
    json_t *
        prepare; /* what PREPARE takes, without max_prompt_tokens; responses: not from the parser */
    json_t
        *more; /* completion: what PREPARE takes of the second prompt and so on; NULL: one prompt */
    json_t *run;   /* the sampling fields that RUN takes and the client gave */
    json_t *echo;  /* responses: fields that the response object repeats */
    json_t *items; /* responses: the input as {"role", "content"} and, if it was given, "id" */
    size_t history_bytes; /* of items, what came from earlier responses */
    char previous[64];    /* responses: the id of the one that this one continues; "": none */
    bool stream, include_usage, logprobs, seed_given, max_tokens_given, class_given;
    bool store, background, queue_events;
    bool estimate;    /* it is not run: /hob/v1/estimate */
    uint8_t priority; /* of the class; meaningful with class_given */
    uint32_t n;       /* choices a prompt */
    int top_logprobs; /* alternatives; meaningful with logprobs */
    uint32_t max_tokens;
    uint64_t seed;
    char stream_id[65]; /* WebSocket; "": none */
    bool has_stream_id;
    hob_api_retrieval retrieval;
    bool from_documents; /* responses: what it continues was made from some */
} hob_api_request;
void hob_api_request_free(hob_api_request *r);

/* Values in a body: each costs jansson some 60 bytes, so that a body of "[0,0,0,…" may not grow thirtyfold. */
enum { HOB_API_VALUES_MAX = 100000, HOB_API_VALUES_OF_EMBEDDINGS = 310000 };

/* A request body: bounded in depth and number of values before it is parsed, no duplicate keys, an object. */
json_t *hob_api_load(const char *text, size_t len, uint32_t values_max, hob_api_error *e);
/* body is that object. WebSocket events carry "type" and "stream_id" as well. */
HOB_MUST_CHECK int hob_api_parse(const hob_conf *conf, hob_api_kind kind, bool websocket,
                                 json_t *body, hob_api_request *ret, hob_api_error *e);
/* Index of the model called name ("default" is the first), or -1. */
int hob_api_find_model(const hob_conf *conf, const char *name);

/* The two ways a message list is written; both return new references, NULL with the error filled. The items of a response
 * keep their ids and roles as they were written. */
json_t *hob_api_chat_messages(json_t *messages, hob_api_error *e);
json_t *hob_api_responses_items(json_t *input, hob_api_error *e);
/* What PREPARE takes for such items; instructions may be NULL. NULL: no memory. */
json_t *hob_api_responses_prepare(json_t *items, const char *instructions);

#endif
