/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to daemon/conf: the table of every key in hob.conf, which the reader (conf_file.c), the checks and the test of
 * config/hob.conf (conf.c) all walk, so that they cannot disagree. */
#ifndef HOB_DAEMON_CONF_FIELDS_H
#define HOB_DAEMON_CONF_FIELDS_H

#include "daemon/conf/conf.h"

typedef enum hob_field_kind {
    HOB_FIELD_TEXT,
    HOB_FIELD_PATH,
    HOB_FIELD_U16,
    HOB_FIELD_U32,
    HOB_FIELD_KV,
    HOB_FIELD_BOOL,
    HOB_FIELD_LIST, /* of texts: hob_conf_list */
} hob_field_kind;

typedef struct hob_field {
    const char *group; /* "" at top level */
    const char *key;
    hob_field_kind kind;
    size_t offset, size;
    uint32_t min, max; /* of a number */
    const char *words; /* the values allowed of a text, between spaces; NULL: any */
    bool fixed;        /* takes effect at the start only */
} hob_field;

typedef struct hob_field_table {
    const hob_field *list;
    size_t count;
} hob_field_table;
extern const hob_field_table hob_top_fields, hob_model_fields, hob_listener_fields;

/* Whether s is one of the words. */
bool hob_field_word(const char *words, const char *s);
int hob_conf_check_model(const hob_conf *c, uint32_t index, hob_diag *diag);
int hob_conf_check_listener(const hob_conf_listener *l, uint32_t index, hob_diag *diag);

#endif
