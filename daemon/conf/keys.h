/* SPDX-License-Identifier: Apache-2.0
 *
 * API keys as text. A key is "hob_" and 43 base64url characters (256 random bits); only its SHA-256 is kept, which is
 * enough because there is nothing to guess that a slow hash would protect.
 *
 * Keys live in the store. A key file is how the first of them get there: one line a key, `sha256-hex label tenant class
 * [admin]` (# begins a comment). hobd takes it over when it starts. Blocks on the file system. */
#ifndef HOB_DAEMON_CONF_KEYS_H
#define HOB_DAEMON_CONF_KEYS_H

#include "hal/base.h"

enum {
    HOB_KEY_TEXT_MAX = 64, /* bytes of a key's text with its NUL */
    HOB_KEY_WORD_MAX = 64, /* of a label or a tenant with its NUL */
};

/* What a key file's name ends with once it was taken over. */
#define HOB_KEY_FILE_TAKEN ".imported"

/* Fills text and hash. */
HOB_MUST_CHECK int hob_key_make(char ret_text[HOB_KEY_TEXT_MAX], uint8_t ret_hash[32],
                                hob_diag *diag);
HOB_MUST_CHECK int hob_key_hash(const char *text, size_t len, uint8_t ret[32]);
/* All ones when the hashes are equal, else 0, in the same time. */
size_t hob_key_equal(const uint8_t a[32], const uint8_t b[32]);
/* 1 to 63 letters, digits or . _ @ + - : a label, a tenant. */
bool hob_key_word_ok(const char *s);
/* "interactive", "standard", "batch": 0, 1, 2, or -1. */
int hob_class_find(const char *name);
const char *hob_class_name(unsigned priority);

typedef struct hob_key_line {
    uint8_t hash[32];
    char label[HOB_KEY_WORD_MAX], tenant[HOB_KEY_WORD_MAX];
    uint8_t priority; /* of the class: 0 interactive, 1 standard, 2 batch */
    bool admin;
} hob_key_line;

typedef struct hob_key_file { /* zero-initialize */
    hob_key_line *list;
    size_t count;
} hob_key_file;

/* HOB_EFORMAT with file and line; HOB_ENOENT; HOB_EIO. The file may be empty. */
HOB_MUST_CHECK int hob_key_file_load(const char *path, hob_key_file *ret, hob_diag *diag);
void hob_key_file_free(hob_key_file *f);
bool hob_key_file_has(const hob_key_file *f, const char *text, size_t len);
/* Makes a key, appends its line to the file at path (created 0600), writes the text to ret. */
HOB_MUST_CHECK int hob_key_file_add(const char *path, const char *label, const char *tenant,
                                    const char *class_name, bool admin, char ret[HOB_KEY_TEXT_MAX],
                                    hob_diag *diag);
/* Makes the first administrator's key: its text, a line, replaces the file at text_path (0600), its hash is added to the key
 * file. After a crash in between the text is of no use and is replaced the next time. */
HOB_MUST_CHECK int hob_key_file_add_first(const char *path, const char *text_path, hob_diag *diag);
/* Where that text goes: beside the key file. HOB_ELIMIT. */
HOB_MUST_CHECK int hob_key_file_text_path(const char *path, char *ret, size_t size, hob_diag *diag);

#endif
