/* SPDX-License-Identifier: Apache-2.0
 *
 * Words. See search_words.h. A chunk that has any of the query's words is ranked by BM25 as FTS5 computes it (Robertson and
 * Zaragoza, The Probabilistic Relevance Framework, 2009). */
#include "daemon/store/search_words.h"

#include <stdio.h>
#include <string.h>

enum { WORDS_MAX = 32, WORD_BYTES_MAX = 64 };

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
             "SELECT rowid, bm25(text_%u) FROM text_%u WHERE text_%u MATCH :match AND"
             " hob_allowed(rowid)",
             tenant, tenant, tenant);
    code = hob_sql_prepare(db, sql, NULL, &s, diag);
    hob_sql_text(s, ":match", match);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0)
        keep(ret, ret_count, most,
             (hob_ranked){sqlite3_column_int64(s, 0), -sqlite3_column_double(s, 1)});
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
