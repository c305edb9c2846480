/* SPDX-License-Identifier: Apache-2.0
 *
 * What a conversation asks of the stored documents: its last turn of the user, and the earlier ones in brief, which say what
 * "it" and "that" in the last one are.
 * Pure. */
#ifndef HOB_DAEMON_GATEWAY_QUESTION_H
#define HOB_DAEMON_GATEWAY_QUESTION_H

#include <jansson.h>

#include "hal/base.h"

enum {
    HOB_QUESTION_BYTES = 2048,
    HOB_HISTORY_BYTES = 512,
};

typedef struct hob_question {
    size_t first; /* the first message of the user, by its place in the list */
    char text[HOB_QUESTION_BYTES +
              1]; /* of the last turn; of a long one its beginning and its end */
    char history[HOB_HISTORY_BYTES + 1]; /* the beginnings of the turns before it; "": none */
} hob_question;

/* messages: as PREPARE takes them. Runs of white space become one space. HOB_ENOENT: the user says nothing. */
HOB_MUST_CHECK int hob_question_read(const json_t *messages, hob_question *ret);

/* How much of its vector the history adds to the question's. Measured: see tests/bench/relevance.py. */
#define HOB_HISTORY_WEIGHT 0.3F
/* question, history [dim], of length 1: *question becomes that of both, of length 1 again. */
void hob_question_add_history(float *question, const float *history, uint32_t dim);

#endif
