/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's table of usage: requests and tokens of each key on each day (of UTC).
 * Thread: store (before hob_store_start: the one that opens it). */
#ifndef HOB_DAEMON_STORE_USAGE_TABLE_H
#define HOB_DAEMON_STORE_USAGE_TABLE_H

#include "daemon/conf/keys.h"
#include "daemon/store/store.h"

enum { HOB_USAGE_DAYS_MAX = 400 }; /* kept */

typedef struct hob_key_usage {
    int64_t key, day; /* days since 1970 */
    uint64_t requests, prompt_tokens, cached_tokens, answer_tokens;
    int64_t last_used_s; /* of the key; 0: not known */
} hob_key_usage;

/* Adds to what is there, and notes when the key was last used. */
HOB_MUST_CHECK int hob_usage_table_add(sqlite3 *db, const hob_key_usage *u, hob_diag *diag);
/* Each row from from_day on, by day and key, with the key's label; key 0: of all. A negative result of visit ends it and
 * is returned. */
typedef int hob_usage_visit(void *user, const hob_key_usage *u, const char *label, hob_diag *diag);
HOB_MUST_CHECK int hob_usage_table_each(sqlite3 *db, int64_t key, int64_t from_day,
                                        hob_usage_visit *visit, void *user, hob_diag *diag);
/* Forgets the days before. */
HOB_MUST_CHECK int hob_usage_table_prune(sqlite3 *db, int64_t before_day, hob_diag *diag);

#endif
