/* SPDX-License-Identifier: Apache-2.0
 *
 * Search in collections for whoever in the gateway needs it: the search route, and answers from documents. The query's
 * vector comes from the embedding engine; where that is not to be had in time the words decide alone, and the result says so.
 * Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_RETRIEVAL_H
#define HOB_DAEMON_GATEWAY_RETRIEVAL_H

#include "daemon/gateway/documents.h"
#include "daemon/store/search.h"

typedef struct hob_retrieval hob_retrieval;

typedef struct hob_retrieval_request {
    hob_scope scope;
    const char *const
        *collections; /* [collection_count], at most HOB_SEARCH_COLLECTIONS_MAX; copied */
    uint32_t collection_count;
    bool named;                 /* they may be names: see hob_search */
    const char *const *queries; /* [query_count], at most HOB_SEARCH_QUERIES_MAX; copied */
    uint32_t query_count;
    const char *
        history; /* what was said before the one query, which it turns a little; "", NULL: nothing */
    json_t *filter; /* checked; a reference is kept. NULL: none */
    bool meaning_only;
    bool apart; /* each chunk is a passage of its own */
    uint32_t k; /* passages at most, to HOB_SEARCH_RESULTS_MAX */
    double threshold, words_threshold;
    hob_trace *trace;     /* gets the search's parts; a reference is kept. NULL: none */
    uint64_t deadline_us; /* when the caller does without; 0: after HOB_RETRIEVAL_LIMIT_US */
} hob_retrieval_request;
enum { HOB_RETRIEVAL_LIMIT_US = 10000000 };

/* Called once, unless it is cancelled before. code: 0, HOB_ENOENT for a collection that the scope does not have,
 * HOB_ECANCELED past the deadline, or another; why says it in one line. result: may be taken over, which leaves it empty.
 * by_words: the words alone have decided. */
typedef void hob_retrieved(void *user, int code, const char *why, hob_search_result *result,
                           bool by_words);

/* NULL: no memory. */
hob_retrieval *hob_retrieve(hob_gateway *g, const hob_retrieval_request *r, hob_retrieved *done,
                            void *user);
/* The caller does not want to hear of it any more. */
void hob_retrieval_cancel(hob_retrieval *r);

#endif
