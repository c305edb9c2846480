/* SPDX-License-Identifier: Apache-2.0
 *
 * Search. See search.h. */
#include "daemon/store/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/fuse.h"
#include "daemon/store/search_words.h"
#include "hal/half.h"

enum {
    CANDIDATES = 100, /* of each ranking */
    FUSED_MAX = 2 * HOB_SEARCH_QUERIES_MAX * CANDIDATES,
    CHUNKS_MAX =
        2 *
        HOB_SEARCH_RESULTS_MAX, /* that passages are made of: twice as many as there may be of these */
};
_Static_assert((int)CANDIDATES <= (int)HOB_VECTORS_K_MAX, "the index returns as many");

/* ---- what may be found ---- */

/* Bit c: content c may. */
typedef struct allowed {
    hob_group_set set;
    uint64_t *words;
} allowed;

static int find_collections(sqlite3 *db, const hob_search *s, hob_search_result *ret,
                            hob_diag *diag)
{
    for (uint32_t i = 0; i < s->collection_count; i++) {
        const char *id = s->collections[i];
        char found[HOB_PUBLIC_ID_MAX];
        hob_collection_key key;
        int code = 0;
        if (s->named && strncmp(id, "vs_", 3) != 0) {
            if ((code = hob_collection_find_name(db, &s->scope, id, found, diag)) < 0)
                return code;
            if (!found[0])
                return hob_fail(diag, HOB_ENOENT, "there is no vector store \"%.100s\"", id);
            id = found;
        }
        if ((code = hob_collection_find(db, &s->scope, id, &key, diag)) < 0)
            return code;
        ret->collections[i] = key.id;
        ret->active_s[i] = key.last_active_s;
    }
    return 0;
}

static int make_room(sqlite3 *db, allowed *a, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t most = 0;
    int code = hob_sql_prepare(db, "SELECT coalesce(max(id), 0) FROM contents", NULL, &s, diag);
    code = hob_sql_value(code, s, &most, diag);
    if (code < 0)
        return code;
    if (most < 0 || most >= UINT32_MAX - 64)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: content %lld", (long long)most);
    a->set.count = (uint32_t)most + 1;
    a->set.words = a->words = calloc((size_t)most / 64 + 1, sizeof *a->words);
    return a->words ? 0 : hob_fail(diag, HOB_ENOMEM, "no memory for a search");
}

static bool filter_matches(const json_t *filter, const char *attributes)
{
    if (!filter)
        return true;
    json_t *object = attributes ? json_loads(attributes, 0, NULL) : NULL;
    const bool yes = object && hob_filter_matches(filter, object);
    json_decref(object);
    return yes;
}

static int allow(sqlite3 *db, const hob_search *s, int64_t collection, allowed *a, hob_diag *diag)
{
    /* Without a filter the index alone is read. */
    static const char all[] = "SELECT content FROM attachments WHERE collection = :id"
                              " AND content IS NOT NULL",
                      some[] = "SELECT content, attributes FROM attachments WHERE collection = :id"
                               " AND content IS NOT NULL";
    sqlite3_stmt *q = NULL;
    int step = 0, code = hob_sql_prepare(db, s->filter ? some : all, NULL, &q, diag);
    hob_sql_int(q, ":id", collection);
    while (code == 0 && (step = hob_sql_step(q, diag)) > 0) {
        const int64_t content = sqlite3_column_int64(q, 0);
        if (content > 0 && content < a->set.count &&
            (!s->filter || filter_matches(s->filter, (const char *)sqlite3_column_text(q, 1))))
            a->words[content / 64] |= UINT64_C(1) << content % 64;
    }
    sqlite3_finalize(q);
    return code < 0 ? code : step;
}

/* Of what is still being made, or could not be, chunks may be stored: they would take others' places. */
static int forbid_unfinished(sqlite3 *db, uint32_t tenant, allowed *a, hob_diag *diag)
{
    sqlite3_stmt *q = NULL;
    int step = 0, code = hob_sql_prepare(
                      db, "SELECT id FROM contents WHERE state IN (0, 1, 4) AND tenant = :tenant",
                      NULL, &q, diag);
    hob_sql_int(q, ":tenant", tenant);
    while (code == 0 && (step = hob_sql_step(q, diag)) > 0) {
        const int64_t content = sqlite3_column_int64(q, 0);
        if (content > 0 && content < a->set.count)
            a->words[content / 64] &= ~(UINT64_C(1) << content % 64);
    }
    sqlite3_finalize(q);
    return code < 0 ? code : step;
}

/* ---- candidates ---- */

typedef struct candidate {
    int64_t chunk;
    double words;  /* the best of its scores by words; 0: is not among those */
    double cosine; /* likewise by meaning; NAN: not known yet */
    double fused;  /* of both; while the cosine is not known, of the largest that it can be */
} candidate;

typedef struct candidates {
    uint32_t count;
    candidate list[FUSED_MAX];
    /* of one query */
    hob_ranked words[CANDIDATES];
    double cosine_most;   /* that a chunk can have which is not among the nearest */
    sqlite3_stmt *vector; /* reads a chunk's; NULL until one is read */
    uint64_t words_us, vectors_us;
} candidates;

static candidate *find(candidates *c, int64_t chunk)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->list[i].chunk == chunk)
            return &c->list[i];
    c->list[c->count] = (candidate){.chunk = chunk, .cosine = NAN};
    return &c->list[c->count++];
}

/* hits: of one query by meaning. */
static int add_query(sqlite3 *db, const hob_search *s, const char *query, const allowed *a,
                     const hob_vector_hit *hits, uint32_t hit_count, candidates *ret,
                     hob_diag *diag)
{
    const uint64_t began_us = hob_now_us();
    uint32_t word_count = 0;
    if (!s->meaning_only || !s->vectors) {
        const int code = hob_search_words(db, s->scope.tenant, query, &a->set, s->deadline_us,
                                          CANDIDATES, ret->words, &word_count, diag);
        if (code < 0)
            return code;
    }
    ret->words_us += hob_now_us() - began_us;
    for (uint32_t i = 0; i < word_count; i++) {
        candidate *c = find(ret, ret->words[i].chunk);
        c->words = fmax(c->words, ret->words[i].score);
    }
    for (uint32_t i = 0; i < hit_count; i++) {
        candidate *c = find(ret, (int64_t)hits[i].id);
        c->cosine = fmax(c->cosine, hits[i].score); /* which is the number if the other is none */
    }
    if (hit_count == CANDIDATES)
        ret->cosine_most = fmax(ret->cosine_most, hits[CANDIDATES - 1].score);
    return 0;
}

static int add_all(sqlite3 *db, const hob_search *s, const allowed *a, candidates *ret,
                   hob_diag *diag)
{
    const hob_vectors_query query = {.queries = s->vectors,
                                     .n = s->query_count,
                                     .k = CANDIDATES,
                                     .allowed = &a->set,
                                     .min_score = -INFINITY};
    const uint64_t began_us = hob_now_us();
    uint32_t counts[HOB_SEARCH_QUERIES_MAX] = {0};
    hob_vector_hit *hits = malloc(s->query_count * CANDIDATES * sizeof *hits);
    int code = hits ? 0 : hob_fail(diag, HOB_ENOMEM, "no memory for a search");
    if (code == 0 && s->vectors)
        code = hob_vectors_search(s->index, &query, hits, counts, diag);
    ret->vectors_us = hob_now_us() - began_us;
    for (uint32_t q = 0; code == 0 && q < s->query_count; q++)
        code = add_query(db, s, s->queries[q], a, hits + q * CANDIDATES, counts[q], ret, diag);
    free(hits);
    return code;
}

static void fuse(const hob_search *s, const candidates *of, candidate *c)
{
    const double cosine = isnan(c->cosine) ? of->cosine_most : c->cosine;
    c->fused = s->vectors ? hob_fuse_scores(c->words, cosine) : c->words;
}

static int by_fused(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->fused != y->fused)
        return x->fused > y->fused ? -1 : 1;
    return x->chunk < y->chunk ? -1 : 1;
}

/* Of one that was found by its words: its vector is in the store. */
static int read_cosine(sqlite3 *db, const hob_search *s, sqlite3_stmt **vector, candidate *c,
                       hob_diag *diag)
{
    static const char sql[] = "SELECT data FROM vectors WHERE chunk = :id";
    int code = *vector ? 0 : hob_sql_prepare(db, sql, NULL, vector, diag);
    c->cosine = 0;
    if (code < 0)
        return code;
    hob_sql_int(*vector, ":id", c->chunk);
    if ((code = hob_sql_step(*vector, diag)) > 0) {
        const uint8_t *data = sqlite3_column_blob(*vector, 0);
        const bool fits =
            data && sqlite3_column_bytes(*vector, 0) == (int)(s->dim * sizeof(uint16_t));
        for (uint32_t v = 0; fits && v < s->query_count; v++) {
            double sum = 0;
            for (uint32_t i = 0; i < s->dim; i++)
                sum += (double)s->vectors[v * s->dim + i] *
                       hob_half_to_float((uint16_t)(data[2 * i] | data[2 * i + 1] << 8));
            c->cosine = v == 0 ? sum : fmax(c->cosine, sum);
        }
        code = 0;
    }
    sqlite3_reset(*vector);
    return code;
}

static double score_of(const hob_search *s, const candidate *c)
{
    const double score = s->vectors ? c->cosine : c->words;
    return score < 0 || isnan(score) ? 0 : score > 1 ? 1 : score;
}

/* ---- passages ---- */

void hob_found_clear(hob_found *f)
{
    free(f->heading);
    free(f->text);
    free(f->attributes);
    *f = (hob_found){0};
}

void hob_search_result_free(hob_search_result *r)
{
    for (uint32_t i = 0; i < r->count; i++)
        hob_found_clear(&r->list[i]);
    *r = (hob_search_result){0};
}

/* The file that the content is known by in the collections: the first that was put there. 1: there is one. */
static int name_found(sqlite3 *db, const hob_search *s, const hob_search_result *r, hob_found *p,
                      hob_diag *diag)
{
    for (uint32_t i = 0; i < s->collection_count; i++) {
        sqlite3_stmt *q = NULL;
        int found = 0,
            code = hob_sql_prepare(
                db,
                "SELECT f.public, f.name, a.attributes FROM attachments AS a"
                " JOIN files AS f ON f.id = a.file JOIN contents AS t ON t.id = a.content"
                " WHERE a.collection = :collection AND a.content = :content"
                " AND t.searchable AND t.tenant = :tenant AND f.tenant = :tenant"
                " AND f.state = 1 ORDER BY a.id",
                &s->scope, &q, diag);
        hob_sql_int(q, ":collection", r->collections[i]);
        hob_sql_int(q, ":content", p->content);
        while (code == 0 && !found && (code = hob_sql_step(q, diag)) > 0) {
            const char *attributes = (const char *)sqlite3_column_text(q, 2);
            code = 0;
            if (!filter_matches(s->filter, attributes))
                continue;
            found = 1;
            if ((code = hob_sql_copy(q, 0, p->file, sizeof p->file, diag)) == 0)
                code = hob_sql_copy(q, 1, p->name, sizeof p->name, diag);
            p->attributes = strdup(attributes ? attributes : "{}");
        }
        sqlite3_finalize(q);
        if (code < 0 || found)
            return code < 0 ? code : 1;
    }
    return 0;
}

static int add_chunk(void *user, int64_t id, const hob_stored_chunk *k, hob_diag *diag)
{
    hob_found *p = user;
    const bool first = !p->text;
    const uint64_t known = p->end_byte > k->first_byte && !first ? p->end_byte - k->first_byte : 0;
    const char *gap = hob_stored_gap(first || known ? 0 : k->first_byte - p->end_byte);
    const size_t gap_len = strlen(gap);
    (void)id;
    p->tokens += k->tokens;
    if (first) {
        p->first_byte = k->first_byte;
        p->heading = strdup(k->heading);
    }
    if (known >= k->text_len)
        return 0;
    char *text = realloc(p->text, p->text_len + gap_len + k->text_len - known + 1);
    if (!text)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a passage");
    p->text = text;
    memcpy(text + p->text_len, gap, gap_len);
    memcpy(text + p->text_len + gap_len, k->text + known, k->text_len - known + 1);
    p->text_len += gap_len + k->text_len - known;
    p->end_byte = k->end_byte;
    return 0;
}

static int by_score(const void *a, const void *b)
{
    const hob_passage *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->group != y->group ? (x->group < y->group ? -1 : 1) : x->first < y->first ? -1 : 1;
}

/* Its cosine becomes known, and it goes to its place among those behind it. */
static int place(sqlite3 *db, const hob_search *s, candidates *c, uint32_t i, hob_diag *diag)
{
    candidate one = c->list[i];
    const int code = read_cosine(db, s, &c->vector, &one, diag);
    fuse(s, c, &one);
    for (; i + 1 < c->count && by_fused(&c->list[i + 1], &one) < 0; i++)
        c->list[i] = c->list[i + 1];
    c->list[i] = one;
    return code;
}

/* The best candidates, neighbours joined unless they stay apart, in the order of the best of each. list [CHUNKS_MAX]. */
static int join_best(sqlite3 *db, const hob_search *s, candidates *c, hob_passage *list,
                     size_t *ret_count, hob_diag *diag)
{
    size_t n = 0;
    for (uint32_t i = 0; i < c->count && n < 2 * s->k;) {
        const candidate *one = &c->list[i];
        const uint32_t at = hob_stored_ordinal(one->chunk);
        if (s->vectors && isnan(one->cosine)) {
            const int code = place(db, s, c, i, diag);
            if (code < 0)
                return code;
            continue;
        }
        if (score_of(s, one) >= (s->vectors ? s->threshold : s->words_threshold))
            list[n++] = (hob_passage){.group = (uint32_t)hob_stored_content(one->chunk),
                                      .first = at,
                                      .last = at,
                                      .score = one->fused};
        i++;
    }
    n = s->apart ? n : hob_fuse_neighbours(list, n);
    qsort(list, n, sizeof *list, by_score);
    *ret_count = n;
    return 0;
}

static int choose(sqlite3 *db, const hob_search *s, candidates *c, hob_search_result *r,
                  hob_diag *diag)
{
    hob_passage list[CHUNKS_MAX];
    size_t n = 0;
    int code = join_best(db, s, c, list, &n, diag);
    for (size_t i = 0; code >= 0 && i < n && r->count < s->k; i++) {
        hob_found *f = &r->list[r->count];
        *f = (hob_found){.content = list[i].group,
                         .first = list[i].first,
                         .last = list[i].last,
                         .rank = r->count};
        for (uint32_t k = 0; k < c->count; k++) {
            const uint32_t at = hob_stored_ordinal(c->list[k].chunk);
            if (hob_stored_content(c->list[k].chunk) == f->content && at >= f->first &&
                at <= f->last)
                f->score = fmax(f->score, score_of(s, &c->list[k]));
        }
        code = name_found(db, s, r, f, diag);
        if (code > 0)
            r->count++; /* else it has just gone, or is not there yet */
        else
            free(f->attributes);
    }
    return code < 0 ? code : 0;
}

static int read_texts(sqlite3 *db, hob_search_result *r, hob_diag *diag)
{
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < r->count; i++) {
        hob_found *p = &r->list[i];
        code = hob_content_chunks(db, p->content, p->first, p->last - p->first + 1, add_chunk, p,
                                  diag);
        if (code == 0 && (!p->text || !p->heading || !p->attributes))
            code = hob_fail(diag, p->text ? HOB_ENOMEM : HOB_EFORMAT,
                            p->text ? "no memory for a passage"
                                    : "the store is damaged: a chunk is missing");
    }
    return code;
}

int hob_search_run(sqlite3 *db, const hob_search *s, hob_search_result *ret, hob_diag *diag)
{
    allowed a = {0};
    candidates *c = calloc(1, sizeof *c);
    int code = c ? find_collections(db, s, ret, diag)
                 : hob_fail(diag, HOB_ENOMEM, "no memory for a search");
    if (code == 0)
        code = make_room(db, &a, diag);
    for (uint32_t i = 0; code == 0 && i < s->collection_count; i++)
        code = allow(db, s, ret->collections[i], &a, diag);
    if (code == 0)
        code = forbid_unfinished(db, s->scope.tenant, &a, diag);
    const uint64_t began_us = hob_now_us();
    if (code == 0)
        code = add_all(db, s, &a, c, diag);
    if (code == 0) {
        for (uint32_t i = 0; i < c->count; i++)
            fuse(s, c, &c->list[i]);
        qsort(c->list, c->count, sizeof *c->list, by_fused);
        code = choose(db, s, c, ret, diag);
    }
    if (code == 0)
        code = read_texts(db, ret, diag);
    if (c) {
        ret->words_us = c->words_us;
        ret->vectors_us = c->vectors_us;
        ret->fuse_us = hob_now_us() - began_us - c->words_us - c->vectors_us;
        sqlite3_finalize(c->vector);
    }
    free(a.words);
    free(c);
    if (code < 0)
        hob_search_result_free(ret);
    return code;
}
