/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's tables of uploaded files. A file's bytes lie in parts of at most a megabyte, so that none is ever in memory
 * whole. While it is uploaded, and once it is deleted, nobody sees it; what it held then is removed piece by piece (sweep.h).
 * Thread: store for what writes, store or search for what reads. */
#ifndef HOB_DAEMON_STORE_FILE_TABLE_H
#define HOB_DAEMON_STORE_FILE_TABLE_H

#include "daemon/store/sql.h"

enum {
    HOB_PART_BYTES = 1 << 20,
    HOB_FILE_NAME_MAX = 512, /* bytes with the NUL */
    HOB_PURPOSE_MAX = 24,
};

enum { HOB_FILE_UPLOADING, HOB_FILE_THERE, HOB_FILE_GONE }; /* states in the table */

typedef struct hob_file {
    int64_t id; /* from 1 */
    char public[HOB_PUBLIC_ID_MAX];
    uint32_t tenant;
    int64_t key; /* that uploaded it */
    char name[HOB_FILE_NAME_MAX], purpose[HOB_PURPOSE_MAX];
    uint64_t bytes;
    uint8_t sha256[32];
    int64_t created_s;
} hob_file;

/* An upload begins: sets id. Name, purpose, bytes and hash are not known yet. */
HOB_MUST_CHECK int hob_file_begin(sqlite3 *db, hob_file *f, hob_diag *diag);
/* part: from 0, in order. Counts it as the key's. HOB_ELIMIT: the key's files would take more than key_bytes (0: any
 * number); HOB_ENOSPC; HOB_ENOENT: the upload was given up. */
HOB_MUST_CHECK int hob_file_add_part(sqlite3 *db, const hob_file *f, uint32_t part,
                                     const void *data, size_t len, uint64_t key_bytes,
                                     hob_diag *diag);
/* The upload is whole: name, purpose and hash are kept, and bytes is set. */
HOB_MUST_CHECK int hob_file_complete(sqlite3 *db, hob_file *f, hob_diag *diag);
/* The upload is given up. */
HOB_MUST_CHECK int hob_file_drop(sqlite3 *db, const hob_file *f, hob_diag *diag);
/* What was being uploaded when hob ended is given up. */
HOB_MUST_CHECK int hob_file_drop_uploads(sqlite3 *db, hob_diag *diag);

/* HOB_ENOENT, for what the scope does not see as well. */
HOB_MUST_CHECK int hob_file_find(sqlite3 *db, const hob_scope *scope, const char *public,
                                 hob_file *ret, hob_diag *diag);
/* Where a file is read: byte `byte` of a part. Zero: its beginning. */
typedef struct hob_file_place {
    uint32_t part, byte;
} hob_file_place;
/* The next bytes of a file that has more of them, at least one and at most `most`, to `ret`; moves the place behind them.
 * HOB_ENOENT: the file has gone; HOB_EFORMAT: it lacks a part. */
HOB_MUST_CHECK int hob_file_read_part(sqlite3 *db, uint32_t tenant, int64_t id, hob_file_place *at,
                                      uint8_t *ret, size_t most, size_t *ret_len, hob_diag *diag);
/* purpose: "" any. HOB_ENOENT: the cursor is no file. */
typedef int hob_file_visit(void *user, const hob_file *f, hob_diag *diag);
HOB_MUST_CHECK int hob_file_page(sqlite3 *db, const hob_scope *scope, const hob_page *page,
                                 const char *purpose, hob_file_visit *visit, void *user,
                                 bool *ret_more, hob_diag *diag);
/* Takes it out of all collections, too. HOB_ENOENT; HOB_EINVAL: it is in a collection that the scope does not have. */
HOB_MUST_CHECK int hob_file_remove(sqlite3 *db, const hob_scope *scope, const char *public,
                                   hob_diag *diag);
/* What the files of a key take, those that are being uploaded too. */
HOB_MUST_CHECK int hob_file_key_bytes(sqlite3 *db, int64_t key, uint64_t *ret, hob_diag *diag);

#endif
