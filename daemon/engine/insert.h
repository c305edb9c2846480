/* SPDX-License-Identifier: Apache-2.0
 *
 * What a PREPARE may have beside its messages: pieces of text, from stored documents say, that are put in front of one of them
 * as far as there is room. Only the engine knows what they take in the model's own tokens, so it is the one that leaves pieces
 * out, the worst ones first. */
#ifndef HOB_DAEMON_ENGINE_INSERT_H
#define HOB_DAEMON_ENGINE_INSERT_H

#include <jansson.h>

#include "models/tokenizer.h"

/* Appends the ids of the prompt that these messages make. */
typedef int hob_prompt_maker(void *user, json_t *messages, hob_ids *ids, hob_diag *diag);

typedef struct hob_inserted {
    uint32_t pieces; /* the best so many are in the prompt */
    uint32_t tokens; /* that they made it longer by */
} hob_inserted;

/* insert: as protocol.h describes it; untrusted. ids: of the messages as they are; replaced when any piece fits. HOB_EFORMAT,
 * HOB_ENOMEM, or what make returned. Thread: text. */
HOB_MUST_CHECK int hob_insert(json_t *messages, const json_t *insert, hob_prompt_maker *make,
                              void *user, hob_ids *ids, hob_inserted *ret, hob_diag *diag);

#endif
