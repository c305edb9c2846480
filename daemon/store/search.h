/* SPDX-License-Identifier: Apache-2.0
 *
 * Search in collections: by words (BM25, in the tenant's full-text index) and by meaning (the nearest vectors), the scores of
 * both fused, neighbouring chunks of a document joined. What may be found is settled before either looks: chunks of
 * documents that are in the named collections with attributes that the filter matches. Nothing else is ranked, so that it
 * changes no result.
 * Thread: search. */
#ifndef HOB_DAEMON_STORE_SEARCH_H
#define HOB_DAEMON_STORE_SEARCH_H

#include "daemon/store/attachment_table.h"
#include "daemon/store/filter.h"
#include "daemon/store/vectors.h"

enum {
    HOB_SEARCH_RESULTS_MAX = 50,
    HOB_SEARCH_QUERIES_MAX = 8,
    HOB_SEARCH_COLLECTIONS_MAX = 16,
};

typedef struct hob_search {
    hob_scope scope;
    char collections[HOB_SEARCH_COLLECTIONS_MAX][HOB_COLLECTION_NAME_MAX]; /* ids */
    uint32_t collection_count;                                             /* from 1 */
    bool named; /* what does not begin like an id is a name: of the oldest that has it */
    const char *const *queries; /* [query_count], UTF-8 */
    uint32_t query_count;       /* from 1 */
    const float *vectors;       /* [query_count][dim], of length 1; NULL: by words alone */
    uint32_t dim;
    hob_vectors *index;
    bool meaning_only;    /* words do not count */
    bool apart;           /* each chunk is a passage of its own */
    const json_t *filter; /* checked; NULL: any attributes */
    uint32_t k;           /* results at most */
    /* Results score at least so much, with vectors; by words alone. */
    double threshold, words_threshold;
    uint64_t deadline_us; /* 0: none */
} hob_search;

/* Chunks of one document that follow one another. */
typedef struct hob_found {
    int64_t content;
    uint32_t first, last; /* ordinals */
    uint32_t tokens;      /* of its chunks, as the extractor has counted them */
    uint32_t rank;        /* in the list that a search returns: its place */
    double
        score; /* 0 to 1, of its best chunk: the cosine of its angle to the query; without vectors the part of the query that it is about, by words */
    uint64_t first_byte, end_byte; /* of the text that the extractor made of the file */
    char *heading, *text;          /* heading: of its first chunk */
    size_t text_len;
    char file[HOB_PUBLIC_ID_MAX], name[HOB_FILE_NAME_MAX];
    char *attributes; /* a JSON object */
} hob_found;

typedef struct hob_search_result { /* zero-initialize; released by hob_search_result_free */
    hob_found list[HOB_SEARCH_RESULTS_MAX];
    uint32_t count;
    /* Those that were searched, and when they were last used. */
    int64_t collections[HOB_SEARCH_COLLECTIONS_MAX], active_s[HOB_SEARCH_COLLECTIONS_MAX];
    uint64_t words_us, vectors_us, fuse_us; /* what its parts have taken */
} hob_search_result;

/* The best first. HOB_ENOENT: a collection that the scope does not have; HOB_ECANCELED: the job's deadline; HOB_ENOMEM. */
HOB_MUST_CHECK int hob_search_run(sqlite3 *db, const hob_search *s, hob_search_result *ret,
                                  hob_diag *diag);
void hob_search_result_free(hob_search_result *r);
void hob_found_clear(hob_found *p); /* frees what it points to */

#endif
