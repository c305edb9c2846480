/* SPDX-License-Identifier: Apache-2.0
 *
 * API keys. A key is "hob_" and 43 base64url characters (256 random bits); only its SHA-256 is kept, in a text file
 * with one line a key: `sha256-hex label tenant class` (# begins a comment). Looked up in constant time.
 * Thread: loop (after load the table is read only). */
#ifndef HOB_DAEMON_CONF_KEYS_H
#define HOB_DAEMON_CONF_KEYS_H

#include "hal/base.h"

enum { HOB_KEY_TEXT_MAX = 64 }; /* bytes of a key's text with its NUL */

typedef struct hob_key {
    uint8_t hash[32];
    char label[64], tenant[64];
    char class_name[16];    /* "interactive", "standard", "batch" */
    uint32_t tenant_number; /* the same for all keys of a tenant; from 1 */
    uint8_t priority;       /* of the class: 0 interactive, 1 standard, 2 batch */
} hob_key;

typedef struct hob_keys { /* zero-initialize */
    hob_key *list;
    size_t count;
} hob_keys;

/* HOB_EFORMAT with file and line; HOB_EIO. The file may be empty. */
HOB_MUST_CHECK int hob_keys_load(const char *path, hob_keys *ret, hob_diag *diag);
void hob_keys_free(hob_keys *k);
/* NULL: no such key. Always compares against every entry. */
const hob_key *hob_keys_find(const hob_keys *k, const char *text, size_t len);
/* The first key with this label; NULL: none. */
const hob_key *hob_keys_find_label(const hob_keys *k, const char *label);
/* Makes a key, appends its hash to the file at path (created 0600), writes the text to ret. */
HOB_MUST_CHECK int hob_keys_create(const char *path, const char *label, const char *tenant,
                                   const char *class_name, char ret[HOB_KEY_TEXT_MAX],
                                   hob_diag *diag);

#endif
