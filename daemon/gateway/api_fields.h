/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to the parser of request bodies (api_fields.c, api_sampling.c): what a field is, and the checks that all share.
 * Each returns 0, or HOB_EINVAL with the error filled. */
#ifndef HOB_DAEMON_GATEWAY_API_FIELDS_H
#define HOB_DAEMON_GATEWAY_API_FIELDS_H

#include "daemon/gateway/api.h"

enum { /* which bodies have the field */
       HOB_IN_CHAT = 1,
       HOB_IN_COMPLETION = 2,
       HOB_IN_RESPONSES = 4,
       HOB_IN_ANY = 7,
       HOB_IN_SOCKET = 8, /* only in a WebSocket event */
       HOB_IN_EMBEDDINGS = 16,
};

typedef struct hob_parser {
    const hob_conf *conf;
    hob_api_request *r;
    hob_api_error *e;
    json_t *body;
    bool websocket;
} hob_parser;

typedef struct hob_field {
    const char *name;
    int (*take)(hob_parser *p, const char *name, json_t *v);
    unsigned in;
    bool echo; /* repeated in a response object */
} hob_field;

int hob_field_refuse(hob_parser *p, const char *name, const char *allowed);
int hob_field_wrong_type(hob_parser *p, const char *name, const char *needed);
int hob_field_is_string(hob_parser *p, const char *name, json_t *v, const char **ret);
int hob_field_is_bool(hob_parser *p, const char *name, json_t *v, bool *ret);
int hob_field_is_integer(hob_parser *p, const char *name, json_t *v, int64_t least, int64_t most,
                         int64_t *ret);

/* api_retrieval.c: hob_retrieval of a chat, tools of a response. */
int hob_field_take_retrieval(hob_parser *p, const char *name, json_t *v);
int hob_field_take_tools(hob_parser *p, const char *name, json_t *v);
int hob_field_take_tool_choice(hob_parser *p, const char *name, json_t *v);
/* When all fields have been taken: whether what they say of retrieval goes together. */
int hob_field_check_retrieval(hob_parser *p);

/* A field of sampling; NULL: none. */
const hob_field *hob_sampling_field(unsigned in, const char *name);
/* One that only /v1/embeddings has; NULL: none. */
const hob_field *hob_embedding_field(const char *name);

#endif
