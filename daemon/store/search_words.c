/* SPDX-License-Identifier: Apache-2.0
 *
 * Words. See search_words.h. A chunk that has any of the query's words is ranked by BM25 (Robertson and Zaragoza, The
 * Probabilistic Relevance Framework, 2009), with FTS5's constants, divided by what the query's words weigh together: about
 * which part of the question the chunk is about, whatever its length and that of the store. A word that is in no chunk, or in
 * a single one, weighs like one that is in two: in a store of a few chunks the small words of a question are as rare as the
 * others.
 *
 * Small words are in most chunks, so that most chunks of a store are ranked. One statement a chunk would take many times what
 * the chunk's score does. So FTS5 is asked for the chunks of each word, which it calls back, and those lists are merged here.
 * A chunk's length, which FTS5 keeps in a table, is looked up only where the chunk would be among the best if it were short. */
#include "daemon/store/search_words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double K1 = 1.2, B = 0.75, LEAST_WEIGHT = 1e-6;

enum {
    WORDS_MAX = 32,
    WORD_BYTES_MAX = 64,
    CHUNKS_LEAST = 2,
    POSTINGS_MOST = 4 << 20, /* 64 MiB; past that the commonest words do not count */
    POSTINGS_FIRST = 1 << 10,
    LATE_ROWS = 1 << 8, /* are seen between two looks at the clock */
};

static bool is_allowed(const hob_group_set *set, int64_t chunk)
{
    const int64_t content = hob_stored_content(chunk);
    return content >= 0 && content < set->count && set->words[content / 64] >> content % 64 & 1;
}

/* ---- the chunks of each word ---- */

typedef struct posting {
    int64_t chunk;
    uint32_t times;
} posting;

typedef struct word {
    uint64_t chunks; /* that have it, of the whole index */
    double weight;   /* inverse document frequency */
    size_t at, end;  /* its postings, in order of chunks */
} word;

typedef struct lookup {
    const hob_group_set *allowed;
    uint64_t deadline_us;
    uint32_t count;
    word words[WORDS_MAX];
    word *now;    /* whose chunks come */
    bool counted; /* only their number is wanted */
    uint64_t rows;
    double average, sum; /* words of a chunk; weights */
    posting *postings;
    size_t posting_count, capacity;
} lookup;

static int add_posting(lookup *l, posting p)
{
    if (l->posting_count == l->capacity) {
        const size_t more = l->capacity ? 2 * l->capacity : POSTINGS_FIRST;
        posting *grown = realloc(l->postings, more * sizeof *grown);
        if (!grown)
            return SQLITE_NOMEM;
        l->postings = grown;
        l->capacity = more;
    }
    l->postings[l->posting_count++] = p;
    return SQLITE_OK;
}

static int see_row(const Fts5ExtensionApi *api, Fts5Context *fts, void *user)
{
    lookup *l = user;
    posting p = {.chunk = api->xRowid(fts)};
    Fts5PhraseIter at;
    int column, offset, rc;

    if (++l->now->chunks % LATE_ROWS == 0 && l->deadline_us && hob_now_us() > l->deadline_us)
        return SQLITE_INTERRUPT;
    if (l->counted || !is_allowed(l->allowed, p.chunk))
        return SQLITE_OK;
    rc = api->xPhraseFirst(fts, 0, &at, &column, &offset);
    for (; rc == SQLITE_OK && column >= 0; api->xPhraseNext(fts, &at, &column, &offset))
        p.times++;
    return rc == SQLITE_OK ? add_posting(l, p) : rc;
}

static int see_rows(lookup *l, const Fts5ExtensionApi *api, Fts5Context *fts, uint32_t i)
{
    l->now = &l->words[i];
    l->now->chunks = 0;
    l->now->at = l->posting_count;
    const int rc = api->xQueryPhrase(fts, (int)i, l, see_row);
    l->now->end = l->posting_count;
    return rc;
}

static int see_all(lookup *l, const Fts5ExtensionApi *api, Fts5Context *fts)
{
    int rc = SQLITE_OK;
    for (uint32_t i = 0; i < l->count && rc == SQLITE_OK; i++)
        rc = see_rows(l, api, fts, i);
    return rc;
}

/* Where all postings may be too many the rarest words' come first. */
static int see_rarest(lookup *l, const Fts5ExtensionApi *api, Fts5Context *fts)
{
    bool done[WORDS_MAX] = {false};
    uint64_t room = POSTINGS_MOST;
    int rc;

    l->counted = true;
    rc = see_all(l, api, fts);
    l->counted = false;
    for (uint32_t n = 0; n < l->count && rc == SQLITE_OK; n++) {
        uint32_t next = WORDS_MAX;
        for (uint32_t i = 0; i < l->count; i++)
            if (!done[i] && (next == WORDS_MAX || l->words[i].chunks < l->words[next].chunks))
                next = i;
        done[next] = true;
        if (l->words[next].chunks > room)
            break;
        room -= l->words[next].chunks;
        rc = see_rows(l, api, fts, next);
    }
    return rc;
}

static void weigh(lookup *l)
{
    for (uint32_t i = 0; i < l->count; i++) {
        const uint64_t with = l->words[i].chunks > CHUNKS_LEAST ? l->words[i].chunks : CHUNKS_LEAST;
        const double weight =
            l->rows > with ? log(((double)(l->rows - with) + 0.5) / ((double)with + 0.5)) : 0;
        l->words[i].weight = weight > LEAST_WEIGHT ? weight : LEAST_WEIGHT;
        l->sum += l->words[i].weight;
    }
}

/* SQL: hob_look_up(table, pointer to a lookup), of any one row. */
static void look_up_function(const Fts5ExtensionApi *api, Fts5Context *fts, sqlite3_context *c,
                             int count, sqlite3_value **values)
{
    lookup *l = count == 1 ? sqlite3_value_pointer(values[0], "hob_lookup") : NULL;
    sqlite3_int64 rows = 0, size = 0;
    int rc = l && api->xPhraseCount(fts) <= WORDS_MAX ? api->xRowCount(fts, &rows) : SQLITE_MISUSE;
    if (rc == SQLITE_OK)
        rc = api->xColumnTotalSize(fts, -1, &size);
    if (rc == SQLITE_OK) {
        l->count = (uint32_t)api->xPhraseCount(fts);
        l->rows = rows > 0 ? (uint64_t)rows : 0;
        l->average = rows > 0 && size > 0 ? (double)size / (double)rows : 1;
        rc = l->rows > POSTINGS_MOST / WORDS_MAX ? see_rarest(l, api, fts) : see_all(l, api, fts);
    }
    if (rc != SQLITE_OK)
        sqlite3_result_error_code(c, rc);
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
    if (code == 0 && (!api || api->xCreateFunction(api, "hob_look_up", NULL, look_up_function,
                                                   NULL) != SQLITE_OK))
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

/* *ret, which is the caller's to finalize, keeps what it has seen as it is: sizes are read after that. */
static int look_up(sqlite3 *db, uint32_t tenant, const char *match, lookup *l, sqlite3_stmt **ret,
                   hob_diag *diag)
{
    char sql[160];
    snprintf(sql, sizeof sql,
             "SELECT hob_look_up(text_%u, :lookup) FROM text_%u WHERE text_%u MATCH :match LIMIT 1",
             tenant, tenant, tenant);
    const int code = hob_sql_prepare(db, sql, NULL, ret, diag);
    if (code < 0)
        return code;
    hob_sql_text(*ret, ":match", match);
    if (sqlite3_bind_pointer(*ret, sqlite3_bind_parameter_index(*ret, ":lookup"), l, "hob_lookup",
                             NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    return hob_sql_step(*ret, diag);
}

/* ---- the ranking ---- */

/* Words of the chunk, by FTS5's table: a number of SQLite's variable length for each column. */
static int read_size(sqlite3_stmt *sizes, int64_t chunk, double *ret, hob_diag *diag)
{
    uint64_t sum = 0, number = 0;
    hob_sql_int(sizes, ":id", chunk);
    const int step = hob_sql_step(sizes, diag);
    const uint8_t *data = step > 0 ? sqlite3_column_blob(sizes, 0) : NULL;
    const int bytes = data ? sqlite3_column_bytes(sizes, 0) : 0;
    for (int i = 0; i < bytes; i++) {
        number = number << 7 | (data[i] & 0x7f);
        if (data[i] & 0x80)
            continue;
        sum += number;
        number = 0;
    }
    sqlite3_reset(sizes);
    *ret = (double)sum;
    return step < 0 ? step : 0;
}

static double score_of(const lookup *l, const uint32_t *times, double size)
{
    double score = 0;
    for (uint32_t i = 0; i < l->count; i++)
        if (times[i])
            score += l->words[i].weight * times[i] * (K1 + 1) /
                     (times[i] + K1 * (1 - B + B * size / l->average));
    return score / l->sum;
}

/* Merges the words' lists. */
static int rank(lookup *l, sqlite3_stmt *sizes, uint32_t most, hob_ranked *ret, uint32_t *ret_count,
                hob_diag *diag)
{
    for (;;) {
        uint32_t times[WORDS_MAX] = {0};
        int64_t chunk = INT64_MAX;
        double size;
        for (uint32_t i = 0; i < l->count; i++)
            if (l->words[i].at < l->words[i].end && l->postings[l->words[i].at].chunk < chunk)
                chunk = l->postings[l->words[i].at].chunk;
        if (chunk == INT64_MAX)
            return 0;
        for (uint32_t i = 0; i < l->count; i++)
            if (l->words[i].at < l->words[i].end && l->postings[l->words[i].at].chunk == chunk)
                times[i] = l->postings[l->words[i].at++].times;
        if (*ret_count == most && score_of(l, times, 0) <= ret[most - 1].score)
            continue; /* the shorter the better, and it would not be among the best with no words */
        const int code = read_size(sizes, chunk, &size, diag);
        if (code < 0)
            return code;
        keep(ret, ret_count, most, (hob_ranked){chunk, score_of(l, times, size)});
    }
}

int hob_search_words(sqlite3 *db, uint32_t tenant, const char *query, const hob_group_set *allowed,
                     uint64_t deadline_us, uint32_t most, hob_ranked *ret, uint32_t *ret_count,
                     hob_diag *diag)
{
    char match[WORDS_MAX * (WORD_BYTES_MAX + 8)], sql[80];
    lookup l = {.allowed = allowed, .deadline_us = deadline_us};
    sqlite3_stmt *rows = NULL, *sizes = NULL;
    int code = has_index(db, tenant, diag);
    *ret_count = 0;
    write_match(query, match, sizeof match);
    if (code <= 0 || !match[0])
        return code < 0 ? code : 0;
    snprintf(sql, sizeof sql, "SELECT sz FROM text_%u_docsize WHERE id = :id", tenant);
    if ((code = hob_sql_prepare(db, sql, NULL, &sizes, diag)) == 0)
        code = look_up(db, tenant, match, &l, &rows, diag);
    if (code > 0) {
        weigh(&l);
        code = rank(&l, sizes, most, ret, ret_count, diag);
    }
    sqlite3_finalize(sizes);
    sqlite3_finalize(rows);
    free(l.postings);
    return code;
}
