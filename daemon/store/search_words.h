/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to search: chunks by the words of a query. */
#ifndef HOB_DAEMON_STORE_SEARCH_WORDS_H
#define HOB_DAEMON_STORE_SEARCH_WORDS_H

#include "daemon/store/search.h"

typedef struct hob_ranked {
    int64_t chunk;
    double score; /* from 0; about 1 where it has all of the query's words */
} hob_ranked;

/* Before hob_search_words, once for a connection. HOB_EIO, HOB_ENOMEM. */
HOB_MUST_CHECK int hob_search_words_register(sqlite3 *db, hob_diag *diag);

/* The best chunks, at most `most`, to ret: those that have any of the query's words, of contents in `allowed`.
 * HOB_ECANCELED past the deadline (0: none). Thread: search. */
HOB_MUST_CHECK int hob_search_words(sqlite3 *db, uint32_t tenant, const char *query,
                                    const hob_group_set *allowed, uint64_t deadline_us,
                                    uint32_t most, hob_ranked *ret, uint32_t *ret_count,
                                    hob_diag *diag);

#endif
