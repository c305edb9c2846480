/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's table of collections: what OpenAI's API calls vector stores. Names need not be unique.
 * Thread: store for what writes, store or search for what reads. */
#ifndef HOB_DAEMON_STORE_COLLECTION_TABLE_H
#define HOB_DAEMON_STORE_COLLECTION_TABLE_H

#include "daemon/store/sql.h"

enum {
    HOB_COLLECTION_NAME_MAX = 260, /* bytes with the NUL */
    HOB_COLLECTIONS_MAX = 10000,   /* of a tenant */
};

/* What becomes of a file in a collection, and how many of each there are. */
typedef enum hob_attachment_status {
    HOB_ATTACHMENT_IN_PROGRESS,
    HOB_ATTACHMENT_COMPLETED,
    HOB_ATTACHMENT_FAILED,
    HOB_ATTACHMENT_CANCELLED,
    HOB_ATTACHMENT_STATUSES,
} hob_attachment_status;

typedef struct hob_collection {
    int64_t id; /* from 1 */
    char public[HOB_PUBLIC_ID_MAX];
    char name[HOB_COLLECTION_NAME_MAX];
    const char *metadata; /* a JSON object; from the table: valid during the visit */
    int64_t created_s, last_active_s;
    uint64_t files[HOB_ATTACHMENT_STATUSES];
    uint64_t usage_bytes; /* of texts and vectors, those of files that are completed */
} hob_collection;
/* Without the counts, for those who need only to know which it is. */
typedef struct hob_collection_key {
    int64_t id, last_active_s;
    char name[HOB_COLLECTION_NAME_MAX];
} hob_collection_key;

typedef int hob_collection_visit(void *user, const hob_collection *c, hob_diag *diag);

/* Sets id. HOB_ELIMIT: HOB_COLLECTIONS_MAX; HOB_EINVAL: the scope may not use one of this name. */
HOB_MUST_CHECK int hob_collection_add(sqlite3 *db, const hob_scope *scope, hob_collection *c,
                                      hob_diag *diag);
/* HOB_ENOENT, for what the scope does not have as well. */
HOB_MUST_CHECK int hob_collection_find(sqlite3 *db, const hob_scope *scope, const char *public,
                                       hob_collection_key *ret, hob_diag *diag);
/* The oldest of this name that the scope has: *ret_public, or "" when there is none. */
HOB_MUST_CHECK int hob_collection_find_name(sqlite3 *db, const hob_scope *scope, const char *name,
                                            char ret_public[HOB_PUBLIC_ID_MAX], hob_diag *diag);
/* Visits one; HOB_ENOENT. */
HOB_MUST_CHECK int hob_collection_read(sqlite3 *db, const hob_scope *scope, const char *public,
                                       hob_collection_visit *visit, void *user, hob_diag *diag);
/* name: of those only; NULL: any. HOB_ENOENT: the cursor is none. */
HOB_MUST_CHECK int hob_collection_page(sqlite3 *db, const hob_scope *scope, const hob_page *page,
                                       const char *name, hob_collection_visit *visit, void *user,
                                       bool *ret_more, hob_diag *diag);
/* name, metadata: NULL leaves it. HOB_ENOENT; HOB_EINVAL as above. */
HOB_MUST_CHECK int hob_collection_change(sqlite3 *db, const hob_scope *scope, const char *public,
                                         const char *name, const char *metadata, hob_diag *diag);
/* It was used just now. */
HOB_MUST_CHECK int hob_collection_touch(sqlite3 *db, int64_t id, int64_t now_s, hob_diag *diag);
/* Its files stay; what was made of them goes where no other collection has it. HOB_ENOENT. */
HOB_MUST_CHECK int hob_collection_remove(sqlite3 *db, const hob_scope *scope, const char *public,
                                         hob_diag *diag);

#endif
