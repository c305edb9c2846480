/* SPDX-License-Identifier: Apache-2.0
 *
 * Words. See search_words.h. A chunk that has any of the query's words is ranked by BM25 (Robertson and Zaragoza, The
 * Probabilistic Relevance Framework, 2009), with FTS5's constants, divided by what the query's words weigh together: about
 * which part of the question the chunk is about, whatever its length and that of the store. A word that is in no chunk, or in
 * a single one, weighs like one that is in two: in a store of a few chunks the small words of a question are as rare as the
 * others. */
#include "daemon/store/search_words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double K1 = 1.2, B = 0.75, LEAST_WEIGHT = 1e-6;

enum { WORDS_MAX = 32, WORD_BYTES_MAX = 64, CHUNKS_LEAST = 2 };

static bool is_allowed(const hob_group_set *set, int64_t chunk)
{
    const int64_t content = hob_stored_content(chunk);
    return content >= 0 && content < set->count && set->words[content / 64] >> content % 64 & 1;
}

/* SQL: hob_allowed(rowid). Looked at before a row is ranked. */
static void allowed_function(sqlite3_context *c, int count, sqlite3_value **values)
{
    (void)count;
    sqlite3_result_int(c, is_allowed(sqlite3_user_data(c), sqlite3_value_int64(values[0])));
}

/* ---- SQL: hob_rank(table) ---- */

/* Of a query, kept while its statement runs. */
typedef struct weights {
    double average; /* words of a chunk */
    double sum;
    double word[]; /* inverse document frequency of each phrase of the query */
} weights;

static int count_row(const Fts5ExtensionApi *api, Fts5Context *fts, void *user)
{
    (void)api;
    (void)fts;
    ++*(int64_t *)user;
    return SQLITE_OK;
}

static int weigh(const Fts5ExtensionApi *api, Fts5Context *fts, weights **ret)
{
    const int words = api->xPhraseCount(fts);
    sqlite3_int64 rows = 0, size = 0;
    int rc = api->xRowCount(fts, &rows);
    if (rc == SQLITE_OK)
        rc = api->xColumnTotalSize(fts, -1, &size);
    weights *w = sqlite3_malloc64(sizeof *w + (size_t)words * sizeof *w->word);
    if (!w)
        return SQLITE_NOMEM;
    *w = (weights){.average = rows > 0 ? (double)size / (double)rows : 1};
    for (int i = 0; i < words && rc == SQLITE_OK; i++) {
        int64_t with = 0;
        rc = api->xQueryPhrase(fts, i, &with, count_row);
        with = with > CHUNKS_LEAST ? with : CHUNKS_LEAST;
        const double weight =
            rows > with ? log(((double)(rows - with) + 0.5) / ((double)with + 0.5)) : 0;
        w->word[i] = weight > LEAST_WEIGHT ? weight : LEAST_WEIGHT;
        w->sum += w->word[i];
    }
    if (rc == SQLITE_OK)
        rc = api->xSetAuxdata(fts, w, sqlite3_free); /* which frees it on failure */
    else
        sqlite3_free(w);
    *ret = w;
    return rc;
}

static void rank_function(const Fts5ExtensionApi *api, Fts5Context *fts, sqlite3_context *c,
                          int count, sqlite3_value **values)
{
    weights *w = api->xGetAuxdata(fts, 0);
    double score = 0;
    int size = 0, rc = w ? SQLITE_OK : weigh(api, fts, &w);
    (void)count;
    (void)values;
    if (rc == SQLITE_OK)
        rc = api->xColumnSize(fts, -1, &size);
    const int words = api->xPhraseCount(fts);
    for (int i = 0; i < words && rc == SQLITE_OK; i++) {
        Fts5PhraseIter at;
        int column, offset;
        double times = 0;
        rc = api->xPhraseFirst(fts, i, &at, &column, &offset);
        for (; rc == SQLITE_OK && column >= 0; api->xPhraseNext(fts, &at, &column, &offset))
            times++;
        if (rc == SQLITE_OK)
            score += w->word[i] * times * (K1 + 1) /
                     (times + K1 * (1 - B + B * (double)size / w->average));
    }
    if (rc != SQLITE_OK)
        sqlite3_result_error_code(c, rc);
    else
        sqlite3_result_double(c, score / w->sum);
}

int hob_search_words_register(sqlite3 *db, hob_diag *diag)
{
    fts5_api *api = NULL;
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, "SELECT fts5(?1)", NULL, &s, diag);
    if (code == 0) {
        (void)sqlite3_bind_pointer(s, 1, &api, "fts5_api_ptr", NULL);
        code = hob_sql_step(s, diag) < 0 ? HOB_EIO : 0;
    }
    sqlite3_finalize(s);
    if (code == 0 &&
        (!api || api->xCreateFunction(api, "hob_rank", NULL, rank_function, NULL) != SQLITE_OK))
        code = hob_fail(diag, HOB_ENOMEM, "the store: SQLite has no full-text index");
    return code;
}

/* ---- the query ---- */

static size_t word_at(const char *s)
{
    size_t n = 0;
    while ((unsigned char)s[n] >= 0x80 || (s[n] >= '0' && s[n] <= '9') ||
           (s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z'))
        n++;
    return n;
}

/* "a" OR "b" of the query's words; "" when it has none. What is not ASCII is FTS5's to split. */
static void write_match(const char *query, char *ret, size_t size)
{
    size_t used = 0;
    uint32_t words = 0;
    ret[0] = '\0';
    while (*query && words < WORDS_MAX) {
        const size_t n = word_at(query);
        if (n == 0) {
            query++;
            continue;
        }
        if (n <= WORD_BYTES_MAX)
            used += (size_t)snprintf(ret + used, size - used, words++ ? " OR \"%.*s\"" : "\"%.*s\"",
                                     (int)n, query);
        query += n;
    }
}

/* Keeps the best, in order. */
static void keep(hob_ranked *list, uint32_t *count, uint32_t most, hob_ranked r)
{
    uint32_t i = *count;
    if (i == most && list[i - 1].score >= r.score)
        return;
    i = i == most ? i - 1 : i;
    for (; i > 0 && list[i - 1].score < r.score; i--)
        list[i] = list[i - 1];
    list[i] = r;
    *count += *count < most;
}

static int has_index(sqlite3 *db, uint32_t tenant, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    char name[24];
    int64_t n = 0;
    snprintf(name, sizeof name, "text_%u", tenant);
    int code = hob_sql_prepare(db, "SELECT count(*) FROM sqlite_schema WHERE name = :name", NULL,
                               &s, diag);
    hob_sql_text(s, ":name", name);
    code = hob_sql_value(code, s, &n, diag);
    return code < 0 ? code : n > 0;
}

static int rank(sqlite3 *db, uint32_t tenant, const char *match, uint32_t most, hob_ranked *ret,
                uint32_t *ret_count, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    char sql[160];
    int code, step = 0;
    snprintf(sql, sizeof sql,
             "SELECT rowid, hob_rank(text_%u) FROM text_%u WHERE text_%u MATCH :match AND"
             " hob_allowed(rowid)",
             tenant, tenant, tenant);
    code = hob_sql_prepare(db, sql, NULL, &s, diag);
    hob_sql_text(s, ":match", match);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0)
        keep(ret, ret_count, most,
             (hob_ranked){sqlite3_column_int64(s, 0), sqlite3_column_double(s, 1)});
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}

int hob_search_words(sqlite3 *db, uint32_t tenant, const char *query, const hob_group_set *allowed,
                     uint32_t most, hob_ranked *ret, uint32_t *ret_count, hob_diag *diag)
{
    char match[WORDS_MAX * (WORD_BYTES_MAX + 8)];
    int code = has_index(db, tenant, diag);
    *ret_count = 0;
    write_match(query, match, sizeof match);
    if (code <= 0 || !match[0])
        return code < 0 ? code : 0;
    if (sqlite3_create_function_v2(db, "hob_allowed", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY,
                                   (void *)(uintptr_t)allowed, allowed_function, NULL, NULL,
                                   NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    code = rank(db, tenant, match, most, ret, ret_count, diag);
    (void)sqlite3_create_function_v2(db, "hob_allowed", 1, SQLITE_UTF8, NULL, NULL, NULL, NULL,
                                     NULL);
    return code;
}
