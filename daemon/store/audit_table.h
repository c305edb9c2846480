/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's table of administrative acts: who did what to what, and when. It holds the last HOB_AUDIT_ROWS_MAX of them.
 * Thread: store. */
#ifndef HOB_DAEMON_STORE_AUDIT_TABLE_H
#define HOB_DAEMON_STORE_AUDIT_TABLE_H

#include "daemon/store/store.h"

enum { HOB_AUDIT_ROWS_MAX = 10000 };

typedef struct hob_audit_entry {
    int64_t id; /* from 1, growing */
    int64_t time_s;
    char who[96];     /* "key:" and an administrator's key's label, or "uid:" and a number */
    char act[48];     /* "keys/revoke" */
    char object[256]; /* what it was done to */
} hob_audit_entry;

/* Its id is not looked at. Forgets the oldest beyond the bound. */
HOB_MUST_CHECK int hob_audit_table_add(sqlite3 *db, const hob_audit_entry *e, hob_diag *diag);
/* The newest first, limit of them at most. A negative result of visit ends it and is returned. */
typedef int hob_audit_visit(void *user, const hob_audit_entry *e, hob_diag *diag);
HOB_MUST_CHECK int hob_audit_table_each(sqlite3 *db, uint32_t limit, hob_audit_visit *visit,
                                        void *user, hob_diag *diag);

#endif
