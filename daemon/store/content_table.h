/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's tables of contents: what was extracted from a file, cut into chunks, and the chunks' vectors. Files of a tenant
 * that are equal and cut in the same way share one content. It is made in the order of its states; what is stored on the way
 * is seen by nobody until it is complete, and a crash loses only what was not stored. A chunk's number holds its content's:
 * chunks of a content lie together, and no number is ever used again.
 * Thread: store for what writes, store or search for what reads. */
#ifndef HOB_DAEMON_STORE_CONTENT_TABLE_H
#define HOB_DAEMON_STORE_CONTENT_TABLE_H

#include "daemon/store/file_table.h"

enum {
    HOB_STORED_BITS = 20,
    HOB_STORED_MAX = 1 << HOB_STORED_BITS, /* of a content */
    HOB_SUFFIX_MAX = 16,                   /* bytes of a file name's suffix with its NUL */
    HOB_MODEL_ID_MAX = 160,                /* of what names an embedding model, with its NUL */
    HOB_ERROR_CODE_MAX = 24,               /* "unsupported_file" */
    HOB_CONTENTS_BUSY = 4,                 /* at most, that are being made at once */
};

static inline int64_t hob_stored_id(int64_t content, uint32_t ordinal)
{
    return content << HOB_STORED_BITS | ordinal;
}
static inline int64_t hob_stored_content(int64_t chunk)
{
    return chunk >> HOB_STORED_BITS;
}
static inline uint32_t hob_stored_ordinal(int64_t chunk)
{
    return (uint32_t)(chunk & (HOB_STORED_MAX - 1));
}

typedef enum hob_content_state { /* as in the table */
                                 HOB_CONTENT_QUEUED, /* it is to be extracted; chunks that it has are of an attempt that did not end */
                                 HOB_CONTENT_EXTRACTED, /* its chunks are complete, the first `embedded` have vectors */
                                 HOB_CONTENT_STALE, /* the same, but it is searchable by its text: another model had made its vectors */
                                 HOB_CONTENT_COMPLETE,
                                 HOB_CONTENT_FAILED,
                                 HOB_CONTENT_UNUSED, /* in no collection any more: to be removed */
} hob_content_state;

/* SQL: what a content t takes in a collection. */
#define HOB_CONTENT_USAGE(t) "(" t ".text_bytes + " t ".vector_bytes)"

typedef struct hob_content {
    int64_t id; /* from 1 */
    uint32_t tenant;
    uint8_t sha256[32];
    char suffix[HOB_SUFFIX_MAX]; /* "md" */
    uint32_t extractor;          /* version */
    uint32_t chunk_tokens, overlap_tokens;
    hob_content_state state;
    uint64_t bytes; /* of the file */
    uint32_t chunks, embedded, failures;
} hob_content;

typedef struct hob_stored_chunk {
    uint64_t first_byte, end_byte; /* of what it stands in: see the extractor */
    uint32_t tokens;
    const char *heading,
        *text; /* UTF-8; from the table: valid during the visit, text with a NUL behind it */
    size_t text_len;
} hob_stored_chunk;

/* "md" of "notes/Read.MD", "" where there is none that is short and plain. */
void hob_content_suffix(const char *name, char ret[HOB_SUFFIX_MAX]);

/* The content that is described, made when it is not there; one that had failed begins again. Its tenant, sha256, suffix,
 * extractor, chunk_tokens, overlap_tokens and bytes are read; sets id. */
HOB_MUST_CHECK int hob_content_obtain(sqlite3 *db, hob_content *t, int64_t now_s, hob_diag *diag);
/* The next to be worked on that is not among `busy`; of another tenant than the last one where there is one. HOB_ENOENT,
 * with no diagnosis: there is none. */
HOB_MUST_CHECK int hob_content_next(sqlite3 *db, const int64_t busy[HOB_CONTENTS_BUSY],
                                    uint32_t last_tenant, hob_content *ret, hob_diag *diag);
/* A file that it can be extracted from. HOB_ENOENT. */
HOB_MUST_CHECK int hob_content_source(sqlite3 *db, const hob_content *t, hob_file *ret,
                                      hob_diag *diag);

/* What follows is HOB_ENOENT when the content is not in the state that it needs: it is used no more, say. */

/* Behind those that it has. bytes_read: of the file, so far. */
HOB_MUST_CHECK int hob_content_add_chunks(sqlite3 *db, const hob_content *t,
                                          const hob_stored_chunk *list, uint32_t count,
                                          uint64_t bytes_read, hob_diag *diag);
/* QUEUED to EXTRACTED. */
HOB_MUST_CHECK int hob_content_extracted(sqlite3 *db, const hob_content *t, hob_diag *diag);
/* Of the chunks behind the first `from`, which have theirs of the same model. data: count vectors of `size` bytes each. */
HOB_MUST_CHECK int hob_content_add_vectors(sqlite3 *db, const hob_content *t, uint32_t from,
                                           uint32_t count, const char *model, const void *data,
                                           size_t size, hob_diag *diag);
/* To COMPLETE. model: that made its vectors; "" when it has none. */
HOB_MUST_CHECK int hob_content_complete(sqlite3 *db, const hob_content *t, const char *model,
                                        hob_diag *diag);
/* To FAILED. code, message: as the API tells them. */
HOB_MUST_CHECK int hob_content_fail(sqlite3 *db, const hob_content *t, const char *code,
                                    const char *message, hob_diag *diag);
/* Something went wrong that may go right another time. */
HOB_MUST_CHECK int hob_content_count_failure(sqlite3 *db, const hob_content *t, hob_diag *diag);
/* Those whose vectors another model made, or none, become STALE, and what was embedded so far of others counts no more.
 * *ret_count: of them. */
HOB_MUST_CHECK int hob_contents_remodel(sqlite3 *db, const char *model, uint64_t *ret_count,
                                        hob_diag *diag);

/* Its chunks from `from` on, in order, at most so many. */
typedef int hob_stored_visit(void *user, int64_t id, const hob_stored_chunk *c, hob_diag *diag);
HOB_MUST_CHECK int hob_content_chunks(sqlite3 *db, int64_t content, uint32_t from, uint32_t most,
                                      hob_stored_visit *visit, void *user, hob_diag *diag);
/* What stood between two chunks that follow one another, `gap` bytes apart: white space, of which only its length is known. */
static inline const char *hob_stored_gap(uint64_t gap)
{
    return gap == 0 ? "" : gap == 1 ? "\n" : "\n\n";
}
/* Removes its chunks, the last ones first, at most so many; *ret_left: whether there are more. */
HOB_MUST_CHECK int hob_content_cut(sqlite3 *db, int64_t content, uint32_t tenant, uint32_t most,
                                   bool *ret_left, hob_diag *diag);
/* Vectors of contents that are complete with this model, of chunks from `first` up to, not with, `end`, in order, at most so
 * many. */
typedef int hob_vector_visit(void *user, int64_t chunk, const void *data, size_t size,
                             hob_diag *diag);
HOB_MUST_CHECK int hob_contents_vectors(sqlite3 *db, const char *model, int64_t first, int64_t end,
                                        uint32_t most, hob_vector_visit *visit, void *user,
                                        hob_diag *diag);

#endif
