/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's table of API keys. A key's text is in no record: who makes one keeps it, hob keeps its hash. A revoked key
 * stays while there is usage of it, so that this keeps its name; its label is free again.
 * Thread: store (before hob_store_start: the one that opens it). */
#ifndef HOB_DAEMON_STORE_KEY_TABLE_H
#define HOB_DAEMON_STORE_KEY_TABLE_H

#include "daemon/conf/conf.h"
#include "daemon/conf/keys.h"
#include "daemon/store/store.h"

enum {
    HOB_KEYS_MAX = 10000,     /* that are not revoked */
    HOB_KEY_NAMES_MAX = 1024, /* bytes of a list of names, with its NUL */
    HOB_KEY_REVOKED_DAYS =
        30, /* a revoked key stays so long, and as long as there is usage of it */
    HOB_KEY_LIMIT_DEFAULT = -1,
};

typedef struct hob_key_record {
    int64_t id; /* from 1 */
    uint8_t hash[32], old_hash[32];
    int64_t old_until_s; /* the old hash is good until then; 0: there is none */
    char label[HOB_KEY_WORD_MAX], tenant[HOB_KEY_WORD_MAX];
    uint32_t tenant_number; /* the same for all keys of a tenant; from 1 */
    uint8_t priority;       /* the best class it may ask for: 0 interactive, 1 standard, 2 batch */
    bool admin;
    bool log_content; /* what it sends and gets is logged */
    bool all_models, all_collections;
    char models[HOB_KEY_NAMES_MAX]; /* else these: " a b " */
    char collections[HOB_KEY_NAMES_MAX];
    int64_t created_s, expires_s, last_used_s, revoked_s; /* since 1970; 0: never */
    int64_t limits[HOB_LIMITS];                           /* HOB_KEY_LIMIT_DEFAULT: as hob.conf */
} hob_key_record;

/* Inserts, and sets id and tenant_number. HOB_EINVAL: its label is taken; HOB_ELIMIT: HOB_KEYS_MAX. */
HOB_MUST_CHECK int hob_key_table_add(sqlite3 *db, hob_key_record *r, hob_diag *diag);
/* Writes all but created and last used. HOB_EINVAL as above. */
HOB_MUST_CHECK int hob_key_table_update(sqlite3 *db, hob_key_record *r, hob_diag *diag);
/* Gives the key a new hash; the old one is good until old_until_s, 0: no more, and never again a new key's. */
HOB_MUST_CHECK int hob_key_table_rotate(sqlite3 *db, hob_key_record *r, const uint8_t hash[32],
                                        int64_t old_until_s, hob_diag *diag);
/* By its number or its label; not one that is revoked. HOB_ENOENT. */
HOB_MUST_CHECK int hob_key_table_find(sqlite3 *db, const char *name, hob_key_record *ret,
                                      hob_diag *diag);
/* Whether a key with this hash is or was there, be it revoked or rotated since. */
HOB_MUST_CHECK int hob_key_table_has_hash(sqlite3 *db, const uint8_t hash[32], bool *ret,
                                          hob_diag *diag);
/* Whether there is or ever was any key. */
HOB_MUST_CHECK int hob_key_table_has_any(sqlite3 *db, bool *ret, hob_diag *diag);
/* Whether a key that is revoked had this label. */
HOB_MUST_CHECK int hob_key_table_was_revoked(sqlite3 *db, const char *label, bool *ret,
                                             hob_diag *diag);
/* Forgets keys that were revoked before that time and have no usage, but for their hashes and labels. */
HOB_MUST_CHECK int hob_key_table_prune(sqlite3 *db, int64_t before_s, hob_diag *diag);
/* Whether the text with this hash is a valid key of the store at path, which is only read, be hobd running or not; any
 * thread. HOB_ENOENT: there is no such file; HOB_EIO. */
HOB_MUST_CHECK int hob_key_table_peek(const char *path, const uint8_t hash[32], int64_t now_s,
                                      bool *ret, hob_diag *diag);
/* Each key whose number is greater than after, in the order of their numbers; a result of visit that is not 0 ends it and is
 * returned. */
typedef int hob_key_visit(void *user, const hob_key_record *r, hob_diag *diag);
HOB_MUST_CHECK int hob_key_table_each(sqlite3 *db, int64_t after, bool revoked_too,
                                      hob_key_visit *visit, void *user, hob_diag *diag);
/* Takes the file's keys over, those that are new, and renames it. A file that is not there has none. *ret_count: of new
 * keys. */
HOB_MUST_CHECK int hob_key_table_import(sqlite3 *db, const char *path, int64_t now_s,
                                        uint32_t *ret_count, hob_diag *diag);

#endif
