/* SPDX-License-Identifier: Apache-2.0
 *
 * Files in collections. See attachment_table.h. */
#include "daemon/store/attachment_table.h"

#include <stdlib.h>
#include <string.h>

/* ---- what nothing uses any more ---- */

typedef struct numbers {
    int64_t *list;
    size_t count, capacity;
} numbers;

static int keep_number(numbers *n, int64_t value)
{
    if (n->count == n->capacity) {
        const size_t capacity = n->capacity ? 2 * n->capacity : 16;
        int64_t *grown = realloc(n->list, capacity * sizeof *grown);
        if (!grown)
            return HOB_ENOMEM;
        n->list = grown;
        n->capacity = capacity;
    }
    n->list[n->count++] = value;
    return 0;
}

/* A statement made of `form`, where %s is the condition `which` on attachments a, by :one and :other. */
static int prepare(sqlite3 *db, const char *form, const char *which, int64_t one, int64_t other,
                   sqlite3_stmt **ret, hob_diag *diag)
{
    char *sql = sqlite3_mprintf(form, which);
    const int code = sql ? hob_sql_prepare(db, sql, NULL, ret, diag)
                         : hob_fail(diag, HOB_ENOMEM, "no memory for a statement");
    sqlite3_free(sql);
    hob_sql_int(*ret, ":one", one);
    hob_sql_int(*ret, ":other", other);
    return code;
}

static int set_unused(sqlite3 *db, const numbers *contents, hob_diag *diag)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < contents->count; i++) {
        sqlite3_stmt *s = NULL;
        code = hob_sql_prepare(db,
                               "UPDATE contents SET state = 5, searchable = 0 WHERE id = :id"
                               " AND NOT EXISTS (SELECT 1 FROM attachments WHERE content = :id)",
                               NULL, &s, diag);
        hob_sql_int(s, ":id", contents->list[i]);
        code = hob_sql_finish(code, s, diag);
    }
    return code;
}

/* The attachments that `which` chooses go; or, with keep, lose their content and stay. */
static int release(sqlite3 *db, const char *which, bool keep, int64_t one, int64_t other,
                   hob_diag *diag)
{
    numbers contents = {0};
    sqlite3_stmt *s = NULL;
    int step = 0, code = prepare(db,
                                 "SELECT DISTINCT a.content FROM attachments AS a"
                                 " WHERE a.content IS NOT NULL AND %s",
                                 which, one, other, &s, diag);
    while (code >= 0 && (step = hob_sql_step(s, diag)) > 0)
        if ((code = keep_number(&contents, sqlite3_column_int64(s, 0))) < 0)
            (void)hob_fail(diag, code, "no memory for a list");
    sqlite3_finalize(s);
    code = code < 0 ? code : step;
    s = NULL;
    if (code == 0) {
        code = prepare(db,
                       keep ? "UPDATE attachments AS a SET content = NULL WHERE %s"
                            : "DELETE FROM attachments AS a WHERE %s",
                       which, one, other, &s, diag);
        code = hob_sql_finish(code, s, diag);
    }
    if (code == 0)
        code = set_unused(db, &contents, diag);
    free(contents.list);
    return code;
}

int hob_attachments_drop_file(sqlite3 *db, int64_t file, hob_diag *diag)
{
    return release(db, "a.file = :one", false, file, 0, diag);
}

int hob_attachments_drop_collection(sqlite3 *db, int64_t collection, hob_diag *diag)
{
    return release(db, "a.collection = :one", false, collection, 0, diag);
}

/* ---- finding ---- */

/* In front of a condition. A file is known by what the scope sees, its attachment by the collection that was found for it. */
#define FROM                                                                                       \
    " FROM attachments AS a JOIN files AS f ON f.id = a.file"                                      \
    " LEFT JOIN contents AS t ON t.id = a.content"                                                 \
    " WHERE a.collection = :collection AND f.tenant = :tenant AND f.state = 1"
#define COLUMNS                                                                                    \
    "a.id, f.public, f.name, f.bytes, f.sha256, " HOB_ATTACHMENT_STATUS(                           \
        "a",                                                                                       \
        "t") " AS status,"                                                                         \
             " coalesce(t.error_code, ''), coalesce(t.error, ''), a.attributes, a.chunk_tokens,"   \
             " a.overlap_tokens, coalesce(" HOB_CONTENT_USAGE("t") ", 0), t.bytes_read, t.chunks," \
                                                                   " t.embedded, a.created"

static int fail_absent(const char *file, hob_diag *diag)
{
    return hob_fail(diag, HOB_ENOENT, "there is no file '%.60s' in this vector store", file);
}

/* *ret_content: 0 when it was cancelled. */
static int find(sqlite3 *db, const hob_scope *scope, int64_t collection, const char *file,
                int64_t *ret, int64_t *ret_content, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code =
        hob_sql_prepare(db, "SELECT a.id, a.content" FROM " AND f.public = :file", scope, &s, diag);
    hob_sql_int(s, ":collection", collection);
    hob_sql_text(s, ":file", file);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0) {
        *ret = sqlite3_column_int64(s, 0);
        *ret_content = sqlite3_column_int64(s, 1);
        code = 0;
    } else if (code == 0)
        code = fail_absent(file, diag);
    sqlite3_finalize(s);
    return code;
}

typedef struct visitor {
    int status;
    int64_t collection, batch;
    hob_attachment_visit *visit;
    void *user;
} visitor;

static int visit_row(void *user, sqlite3_stmt *s, hob_diag *diag)
{
    const visitor *v = user;
    hob_attachment a = {.id = sqlite3_column_int64(s, 0),
                        .bytes = (uint64_t)sqlite3_column_int64(s, 3),
                        .status = (hob_attachment_status)sqlite3_column_int(s, 5),
                        .attributes = (const char *)sqlite3_column_text(s, 8),
                        .chunk_tokens = (uint32_t)sqlite3_column_int64(s, 9),
                        .overlap_tokens = (uint32_t)sqlite3_column_int64(s, 10),
                        .usage_bytes = (uint64_t)sqlite3_column_int64(s, 11),
                        .bytes_read = (uint64_t)sqlite3_column_int64(s, 12),
                        .chunks = (uint32_t)sqlite3_column_int64(s, 13),
                        .embedded = (uint32_t)sqlite3_column_int64(s, 14),
                        .created_s = sqlite3_column_int64(s, 15)};
    int code;
    if ((code = hob_sql_copy(s, 1, a.file, sizeof a.file, diag)) < 0 ||
        (code = hob_sql_copy(s, 2, a.name, sizeof a.name, diag)) < 0 ||
        (code = hob_sql_copy(s, 6, a.error_code, sizeof a.error_code, diag)) < 0 ||
        (code = hob_sql_copy(s, 7, a.error, sizeof a.error, diag)) < 0)
        return code;
    if (!a.attributes || sqlite3_column_bytes(s, 4) != sizeof a.sha256)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: attachment %lld",
                        (long long)a.id);
    memcpy(a.sha256, sqlite3_column_blob(s, 4), sizeof a.sha256);
    return v->visit(v->user, &a, diag);
}

int hob_attachment_read(sqlite3 *db, const hob_scope *scope, int64_t collection, const char *file,
                        hob_attachment_visit *visit, void *user, hob_diag *diag)
{
    visitor v = {-1, collection, 0, visit, user};
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, "SELECT " COLUMNS FROM " AND f.public = :file", scope, &s, diag);
    hob_sql_int(s, ":collection", collection);
    hob_sql_text(s, ":file", file);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0)
        code = visit_row(&v, s, diag);
    else if (code == 0)
        code = fail_absent(file, diag);
    sqlite3_finalize(s);
    return code;
}

static void bind_page(void *user, sqlite3_stmt *s)
{
    const visitor *v = user;
    hob_sql_int(s, ":collection", v->collection);
    hob_sql_int(s, ":status", v->status);
    hob_sql_int(s, ":batch", v->batch);
}

int hob_attachment_page(sqlite3 *db, const hob_scope *scope, int64_t collection,
                        const hob_page *page, int status, int64_t batch,
                        hob_attachment_visit *visit, void *user, bool *ret_more, hob_diag *diag)
{
    visitor v = {status, collection, batch, visit, user};
    int64_t at = 0, content;
    if (page->cursor[0]) {
        const int code = find(db, scope, collection, page->cursor, &at, &content, diag);
        if (code < 0)
            return code;
    }
    return hob_sql_page(db,
                        "SELECT " COLUMNS FROM " AND (:status < 0 OR status = :status)"
                        " AND (:batch = 0 OR a.batch = :batch)",
                        "a.id", scope, page, at, bind_page, visit_row, &v, ret_more, diag);
}

int hob_attachment_content(sqlite3 *db, const hob_scope *scope, int64_t collection,
                           const char *file, int64_t *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, "SELECT a.content" FROM " AND f.public = :file AND t.searchable",
                               scope, &s, diag);
    hob_sql_int(s, ":collection", collection);
    hob_sql_text(s, ":file", file);
    code = hob_sql_value(code, s, ret, diag);
    return code == HOB_ENOENT ? hob_fail(diag, code,
                                         "there is no file '%.60s' in this vector store, or it is "
                                         "not processed yet",
                                         file)
                              : code;
}

/* ---- changing ---- */

int hob_attachment_add(sqlite3 *db, const hob_scope *scope, int64_t collection,
                       const hob_attachment_wish *w, hob_diag *diag)
{
    hob_file f;
    sqlite3_stmt *s = NULL;
    int64_t id = 0, before = 0;
    int code = hob_file_find(db, scope, w->file, &f, diag);
    if (code < 0)
        return code;
    hob_content t = {.tenant = f.tenant,
                     .extractor = w->extractor,
                     .chunk_tokens = w->chunk_tokens,
                     .overlap_tokens = w->overlap_tokens,
                     .bytes = f.bytes};
    memcpy(t.sha256, f.sha256, sizeof t.sha256);
    hob_content_suffix(f.name, t.suffix);
    if ((code = hob_content_obtain(db, &t, w->now_s, diag)) < 0)
        return code;
    code = find(db, scope, collection, w->file, &id, &before, NULL);
    if (code < 0 && code != HOB_ENOENT)
        return hob_store_fail(db, diag);
    if (before && before != t.id && (code = release(db, "a.id = :one", true, id, 0, diag)) < 0)
        return code;
    code = hob_sql_prepare(
        db,
        "INSERT INTO attachments (collection, file, content, batch, chunk_tokens, overlap_tokens,"
        " attributes, created) VALUES (:collection, :file, :content, nullif(:batch, 0), :chunk,"
        " :overlap, :attributes, :now) ON CONFLICT (collection, file) DO UPDATE SET"
        " content = excluded.content, batch = excluded.batch,"
        " chunk_tokens = excluded.chunk_tokens, overlap_tokens = excluded.overlap_tokens,"
        " attributes = excluded.attributes",
        NULL, &s, diag);
    hob_sql_int(s, ":collection", collection);
    hob_sql_int(s, ":file", f.id);
    hob_sql_int(s, ":content", t.id);
    hob_sql_int(s, ":batch", w->batch);
    hob_sql_int(s, ":chunk", w->chunk_tokens);
    hob_sql_int(s, ":overlap", w->overlap_tokens);
    hob_sql_text(s, ":attributes", w->attributes);
    hob_sql_int(s, ":now", w->now_s);
    return hob_sql_finish(code, s, diag);
}

int hob_attachment_change(sqlite3 *db, const hob_scope *scope, int64_t collection, const char *file,
                          const char *attributes, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t id = 0, content;
    int code = find(db, scope, collection, file, &id, &content, diag);
    if (code < 0)
        return code;
    code = hob_sql_prepare(db, "UPDATE attachments SET attributes = :attributes WHERE id = :id",
                           NULL, &s, diag);
    hob_sql_text(s, ":attributes", attributes);
    hob_sql_int(s, ":id", id);
    return hob_sql_finish(code, s, diag);
}

int hob_attachment_remove(sqlite3 *db, const hob_scope *scope, int64_t collection, const char *file,
                          hob_diag *diag)
{
    int64_t id = 0, content;
    const int code = find(db, scope, collection, file, &id, &content, diag);
    return code < 0 ? code : release(db, "a.id = :one", false, id, 0, diag);
}

/* An attachment whose content is still to be made. */
#define UNFINISHED                                                                                 \
    " AND EXISTS (SELECT 1 FROM contents AS t WHERE t.id = a.content AND NOT t.searchable AND"     \
    " t.state < 4)"

int hob_attachment_cancel(sqlite3 *db, const hob_scope *scope, int64_t collection, const char *file,
                          int64_t batch, hob_diag *diag)
{
    int64_t id = 0, content;
    if (!file)
        return release(db, "a.collection = :one AND a.batch = :other" UNFINISHED, true, collection,
                       batch, diag);
    const int code = find(db, scope, collection, file, &id, &content, diag);
    return code < 0 ? code : release(db, "a.id = :one" UNFINISHED, true, id, 0, diag);
}

/* ---- batches ---- */

int hob_file_batch_add(sqlite3 *db, int64_t collection, const char *public, int64_t now_s,
                       int64_t *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db,
                               "INSERT INTO batches (public, collection, cancelled, created)"
                               " VALUES (:public, :collection, 0, :now)",
                               NULL, &s, diag);
    hob_sql_text(s, ":public", public);
    hob_sql_int(s, ":collection", collection);
    hob_sql_int(s, ":now", now_s);
    code = hob_sql_finish(code, s, diag);
    *ret = sqlite3_last_insert_rowid(db);
    return code;
}

static int count_batch(sqlite3 *db, hob_file_batch *b, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int step = 0,
        code =
            hob_sql_prepare(db,
                            "SELECT " HOB_ATTACHMENT_STATUS(
                                "a", "t") " AS status,"
                                          " count(*) FROM attachments AS a LEFT JOIN contents AS t"
                                          " ON t.id = a.content WHERE a.batch = :id"
                                          " GROUP BY status",
                            NULL, &s, diag);
    hob_sql_int(s, ":id", b->id);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0)
        b->files[sqlite3_column_int(s, 0)] = (uint64_t)sqlite3_column_int64(s, 1);
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}

int hob_file_batch_find(sqlite3 *db, int64_t collection, const char *public, hob_file_batch *ret,
                        hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    hob_file_batch b = {0};
    int code = hob_sql_prepare(db,
                               "SELECT id, cancelled, created FROM batches"
                               " WHERE public = :public AND collection = :collection",
                               NULL, &s, diag);
    hob_sql_text(s, ":public", public);
    hob_sql_int(s, ":collection", collection);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0) {
        b.id = sqlite3_column_int64(s, 0);
        b.cancelled = sqlite3_column_int(s, 1) != 0;
        b.created_s = sqlite3_column_int64(s, 2);
        code = count_batch(db, &b, diag);
    } else if (code == 0)
        code = hob_fail(diag, HOB_ENOENT, "there is no file batch '%.60s' in this vector store",
                        public);
    sqlite3_finalize(s);
    if (code == 0)
        *ret = b;
    return code;
}

int hob_file_batch_cancel(sqlite3 *db, const hob_scope *scope, int64_t collection, int64_t id,
                          hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_attachment_cancel(db, scope, collection, NULL, id, diag);
    if (code < 0)
        return code;
    code = hob_sql_prepare(db, "UPDATE batches SET cancelled = 1 WHERE id = :id", NULL, &s, diag);
    hob_sql_int(s, ":id", id);
    return hob_sql_finish(code, s, diag);
}
