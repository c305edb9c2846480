/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's tables of files in collections, and of batches: files that were put there together. How far an attachment is
 * follows from its content.
 * Thread: store for what writes, store or search for what reads. */
#ifndef HOB_DAEMON_STORE_ATTACHMENT_TABLE_H
#define HOB_DAEMON_STORE_ATTACHMENT_TABLE_H

#include "daemon/store/collection_table.h"
#include "daemon/store/content_table.h"

/* SQL: hob_attachment_status of an attachment a with its content t, LEFT JOINed. */
#define HOB_ATTACHMENT_STATUS(a, t)                                                                \
    "CASE WHEN " a ".content IS NULL THEN 3 WHEN " t ".searchable THEN 1"                          \
    " WHEN " t ".state = 4 THEN 2 ELSE 0 END"

typedef struct hob_attachment {
    int64_t id;
    char file[HOB_PUBLIC_ID_MAX], name[HOB_FILE_NAME_MAX];
    uint64_t bytes;
    uint8_t sha256[32];
    hob_attachment_status status;
    char error_code[HOB_ERROR_CODE_MAX], error[256]; /* "" unless it failed */
    const char *attributes;                          /* a JSON object; valid during the visit */
    uint32_t chunk_tokens, overlap_tokens;
    uint64_t usage_bytes, bytes_read;
    uint32_t chunks, embedded;
    int64_t created_s;
} hob_attachment;

typedef struct hob_attachment_wish {
    const char *file;       /* public */
    const char *attributes; /* a JSON object */
    uint32_t chunk_tokens, overlap_tokens, extractor;
    int64_t batch; /* 0: none */
    int64_t now_s;
} hob_attachment_wish;

typedef int hob_attachment_visit(void *user, const hob_attachment *a, hob_diag *diag);

/* Puts the file there, or what is there already anew. collection: that hob_collection_find has found for the scope.
 * HOB_ENOENT: no such file. */
HOB_MUST_CHECK int hob_attachment_add(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                      const hob_attachment_wish *w, hob_diag *diag);
/* Visits one; HOB_ENOENT. */
HOB_MUST_CHECK int hob_attachment_read(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                       const char *file, hob_attachment_visit *visit, void *user,
                                       hob_diag *diag);
/* status: -1 any; batch: 0 any. */
HOB_MUST_CHECK int hob_attachment_page(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                       const hob_page *page, int status, int64_t batch,
                                       hob_attachment_visit *visit, void *user, bool *ret_more,
                                       hob_diag *diag);
HOB_MUST_CHECK int hob_attachment_change(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                         const char *file, const char *attributes, hob_diag *diag);
HOB_MUST_CHECK int hob_attachment_remove(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                         const char *file, hob_diag *diag);
/* Ends what is in progress of a file there, or with file NULL of a batch. */
HOB_MUST_CHECK int hob_attachment_cancel(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                         const char *file, int64_t batch, hob_diag *diag);
/* The content of a file there, for reading its text: HOB_ENOENT where it is not completed. */
HOB_MUST_CHECK int hob_attachment_content(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                          const char *file, int64_t *ret, hob_diag *diag);
/* Takes the file out of all collections; empties the collection. Documents that nothing uses any more become UNUSED. */
HOB_MUST_CHECK int hob_attachments_drop_file(sqlite3 *db, int64_t file, hob_diag *diag);
HOB_MUST_CHECK int hob_attachments_drop_collection(sqlite3 *db, int64_t collection, hob_diag *diag);

typedef struct hob_file_batch {
    int64_t id;
    bool cancelled;
    int64_t created_s;
    uint64_t files[HOB_ATTACHMENT_STATUSES];
} hob_file_batch;

HOB_MUST_CHECK int hob_file_batch_add(sqlite3 *db, int64_t collection, const char *public,
                                      int64_t now_s, int64_t *ret, hob_diag *diag);
/* HOB_ENOENT. */
HOB_MUST_CHECK int hob_file_batch_find(sqlite3 *db, int64_t collection, const char *public,
                                       hob_file_batch *ret, hob_diag *diag);
HOB_MUST_CHECK int hob_file_batch_cancel(sqlite3 *db, const hob_scope *scope, int64_t collection,
                                         int64_t id, hob_diag *diag);

#endif
