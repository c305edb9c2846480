/* SPDX-License-Identifier: Apache-2.0
 *
 * One streamed answer of /v1/chat/completions, printed as it comes: what `hobctl chat` and `hobctl ask` have in common.
 * Thread: the command's only one. */
#ifndef HOB_DAEMON_CTL_ANSWER_H
#define HOB_DAEMON_CTL_ANSWER_H

#include "daemon/ctl/options.h"
#include "daemon/ctl/server.h"
#include "daemon/ctl/sse.h"

#include <jansson.h>

typedef struct hob_ask_options {
    const char *model, *system;
    const char *store;   /* that the answer is to be made from; NULL: none */
    uint32_t max_tokens; /* 0: the server's default */
    double temperature;  /* negative: the server's default */
    uint64_t seed;
    bool has_seed, json;
} hob_ask_options;

typedef struct hob_answer { /* zero-initialize */
    hob_sse sse;
    bool silent, finished;
    char *text;
    size_t len, capacity;
    char finish_reason[32];
    json_t *usage, *annotations, *retrieval; /* NULL: it had none */
    hob_diag diag;
} hob_answer;

void hob_answer_free(hob_answer *a);
/* Asks what messages hold, prints the answer's text unless options say JSON, and fills *a, which the caller frees whatever
 * happens. HOB_ECANCELED: Ctrl-C; HOB_EIO: what the server or the connection says; HOB_ENOMEM. */
HOB_MUST_CHECK int hob_ask(const hob_server *server, const hob_ask_options *o, json_t *messages,
                           hob_answer *a, hob_diag *diag);
/* HOB_EINVAL: the text is not UTF-8; HOB_ENOMEM. */
HOB_MUST_CHECK int hob_add_message(json_t *messages, const char *role, const char *text, size_t len,
                                   hob_diag *diag);
/* Of the user, from the command line's words, or with none from standard input. As hob_add_message, and HOB_EIO. */
HOB_MUST_CHECK int hob_add_question(json_t *messages, char **words, int count, hob_diag *diag);

#endif
