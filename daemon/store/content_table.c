/* SPDX-License-Identifier: Apache-2.0
 *
 * Documents, chunks, vectors. See content_table.h. */
#include "daemon/store/content_table.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "daemon/store/schema.h"

_Static_assert(HOB_CONTENT_COMPLETE == 3 && HOB_CONTENT_FAILED == 4 && HOB_CONTENT_UNUSED == 5,
               "statements and an index name these");

#define COLUMNS                                                                                    \
    "id, tenant, sha256, suffix, extractor, chunk_tokens, overlap_tokens, state, bytes, chunks,"   \
    " embedded, failures"

void hob_content_suffix(const char *name, char ret[HOB_SUFFIX_MAX])
{
    const char *slash = strrchr(name, '/'), *dot = strrchr(slash ? slash + 1 : name, '.');
    const size_t len = dot ? strlen(dot + 1) : 0;
    ret[0] = '\0';
    if (len == 0 || len >= HOB_SUFFIX_MAX)
        return;
    for (size_t i = 0; i < len; i++)
        if (!isascii((unsigned char)dot[1 + i]) || !isalnum((unsigned char)dot[1 + i]))
            return;
    for (size_t i = 0; i <= len; i++)
        ret[i] = (char)tolower((unsigned char)dot[1 + i]);
}

/* ---- which there are ---- */

static void bind_content(sqlite3_stmt *s, const hob_content *t)
{
    hob_sql_int(s, ":tenant", t->tenant);
    hob_sql_blob(s, ":sha256", t->sha256, sizeof t->sha256);
    hob_sql_text(s, ":suffix", t->suffix);
    hob_sql_int(s, ":extractor", t->extractor);
    hob_sql_int(s, ":chunk", t->chunk_tokens);
    hob_sql_int(s, ":overlap", t->overlap_tokens);
}

/* Its chunks, if it has any, are removed when it is worked on. */
static int begin_again(sqlite3 *db, int64_t id, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db,
                               "UPDATE contents SET state = 0, failures = 0, bytes_read = 0,"
                               " error = NULL, error_code = NULL WHERE id = :id AND state = 4",
                               NULL, &s, diag);
    hob_sql_int(s, ":id", id);
    return hob_sql_finish(code, s, diag);
}

int hob_content_obtain(sqlite3 *db, hob_content *t, int64_t now_s, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db,
                               "SELECT id FROM contents WHERE tenant = :tenant"
                               " AND sha256 = :sha256 AND suffix = :suffix"
                               " AND extractor = :extractor AND chunk_tokens = :chunk"
                               " AND overlap_tokens = :overlap AND state < 5",
                               NULL, &s, diag);
    if (code == 0)
        bind_content(s, t);
    code = hob_sql_value(code, s, &t->id, diag);
    if (code == 0)
        return begin_again(db, t->id, diag);
    if (code != HOB_ENOENT)
        return code;
    s = NULL;
    code = hob_sql_prepare(
        db,
        "INSERT INTO contents (tenant, sha256, suffix, extractor, chunk_tokens, overlap_tokens,"
        " state, searchable, model, bytes, bytes_read, text_bytes, vector_bytes, chunks, embedded,"
        " failures, created) VALUES (:tenant, :sha256, :suffix, :extractor, :chunk, :overlap,"
        " 0, 0, '', :bytes, 0, 0, 0, 0, 0, 0, :now)",
        NULL, &s, diag);
    if (code == 0)
        bind_content(s, t);
    hob_sql_int(s, ":bytes", (int64_t)t->bytes);
    hob_sql_int(s, ":now", now_s);
    code = hob_sql_finish(code, s, diag);
    t->id = sqlite3_last_insert_rowid(db);
    return code;
}

static int read_row(sqlite3_stmt *s, hob_content *ret, hob_diag *diag)
{
    hob_content t = {.id = sqlite3_column_int64(s, 0),
                     .tenant = (uint32_t)sqlite3_column_int64(s, 1),
                     .extractor = (uint32_t)sqlite3_column_int64(s, 4),
                     .chunk_tokens = (uint32_t)sqlite3_column_int64(s, 5),
                     .overlap_tokens = (uint32_t)sqlite3_column_int64(s, 6),
                     .state = (hob_content_state)sqlite3_column_int64(s, 7),
                     .bytes = (uint64_t)sqlite3_column_int64(s, 8),
                     .chunks = (uint32_t)sqlite3_column_int64(s, 9),
                     .embedded = (uint32_t)sqlite3_column_int64(s, 10),
                     .failures = (uint32_t)sqlite3_column_int64(s, 11)};
    if (sqlite3_column_bytes(s, 2) != sizeof t.sha256 || t.chunks > HOB_STORED_MAX ||
        t.embedded > t.chunks)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: content %lld", (long long)t.id);
    memcpy(t.sha256, sqlite3_column_blob(s, 2), sizeof t.sha256);
    const int code = hob_sql_copy(s, 3, t.suffix, sizeof t.suffix, diag);
    if (code == 0)
        *ret = t;
    return code;
}

/* What was begun is finished before something new begins; vectors are made anew when there is nothing else to do. */
int hob_content_next(sqlite3 *db, const int64_t busy[HOB_CONTENTS_BUSY], uint32_t last_tenant,
                     hob_content *ret, hob_diag *diag)
{
    static const int order[] = {HOB_CONTENT_EXTRACTED, HOB_CONTENT_QUEUED, HOB_CONTENT_STALE};
    char name[] = ":busy0";
    int found = 0;

    for (size_t i = 0; found == 0 && i < 2 * sizeof order / sizeof *order; i++) {
        sqlite3_stmt *s = NULL;
        const bool others = i % 2 == 0; /* tenants behind the last one, then from the first */
        found = hob_sql_prepare(db,
                                "SELECT " COLUMNS " FROM contents WHERE state = :state"
                                " AND tenant > :tenant"
                                " AND id NOT IN (:busy0, :busy1, :busy2, :busy3)"
                                " ORDER BY tenant, id LIMIT 1",
                                NULL, &s, diag);
        hob_sql_int(s, ":state", order[i / 2]);
        hob_sql_int(s, ":tenant", others ? last_tenant : 0);
        for (int b = 0; b < HOB_CONTENTS_BUSY; b++) {
            name[sizeof name - 2] = (char)('0' + b);
            hob_sql_int(s, name, busy[b]);
        }
        if (found == 0 && (found = hob_sql_step(s, diag)) > 0) {
            const int code = read_row(s, ret, diag);
            found = code < 0 ? code : 1;
        }
        sqlite3_finalize(s);
    }
    return found > 0 ? 0 : found == 0 ? HOB_ENOENT : found;
}

int hob_content_source(sqlite3 *db, const hob_content *t, hob_file *ret, hob_diag *diag)
{
    const hob_scope scope = {.tenant = t->tenant, .all = true};
    char public[HOB_PUBLIC_ID_MAX] = "";
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db,
                               "SELECT public FROM files WHERE tenant = :tenant"
                               " AND sha256 = :sha256 AND state = 1 LIMIT 1",
                               &scope, &s, diag);
    hob_sql_blob(s, ":sha256", t->sha256, sizeof t->sha256);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0)
        code = hob_sql_copy(s, 0, public, sizeof public, diag);
    else if (code == 0)
        code = hob_fail(diag, HOB_ENOENT, "its file has gone");
    sqlite3_finalize(s);
    return code < 0 ? code : hob_file_find(db, &scope, public, ret, diag);
}

/* ---- how far it is ---- */

/* Runs a change that is bound to the content's state; HOB_ENOENT when it changed nothing. */
static int change(sqlite3 *db, int code, sqlite3_stmt *s, const hob_content *t, hob_diag *diag)
{
    hob_sql_int(s, ":id", t->id);
    code = hob_sql_finish(code, s, diag);
    return code == 0 && sqlite3_changes(db) == 0
               ? hob_fail(diag, HOB_ENOENT, "the content is not needed any more")
               : code;
}

static int add_chunk(sqlite3_stmt *row, sqlite3_stmt *text, int64_t id, const hob_stored_chunk *c,
                     hob_diag *diag)
{
    int code;
    hob_sql_int(row, ":id", id);
    hob_sql_int(row, ":first", (int64_t)c->first_byte);
    hob_sql_int(row, ":end", (int64_t)c->end_byte);
    hob_sql_int(row, ":tokens", c->tokens);
    hob_sql_text(row, ":heading", c->heading);
    hob_sql_bytes(row, ":text", c->text, c->text_len);
    hob_sql_int(text, ":id", id);
    hob_sql_text(text, ":heading", c->heading);
    hob_sql_bytes(text, ":text", c->text, c->text_len);
    if ((code = hob_sql_step(row, diag)) < 0 || (code = hob_sql_step(text, diag)) < 0)
        return code;
    (void)sqlite3_reset(row);
    (void)sqlite3_reset(text);
    return 0;
}

int hob_content_add_chunks(sqlite3 *db, const hob_content *t, const hob_stored_chunk *list,
                           uint32_t count, uint64_t bytes_read, hob_diag *diag)
{
    sqlite3_stmt *s = NULL, *row = NULL, *text = NULL;
    int64_t after = 0;
    uint64_t bytes = 0;
    char sql[120];
    int code;

    for (uint32_t i = 0; i < count; i++)
        bytes += list[i].text_len;
    if ((code = hob_store_check_room(db, 3 * bytes, diag)) < 0 || /* with its index */
        (code = hob_schema_add_text(db, t->tenant, diag)) < 0)
        return code;
    code = hob_sql_prepare(db,
                           "UPDATE contents SET chunks = chunks + :count, bytes_read = :read,"
                           " text_bytes = text_bytes + :bytes WHERE id = :id AND state = 0"
                           " RETURNING chunks",
                           NULL, &s, diag);
    hob_sql_int(s, ":count", count);
    hob_sql_int(s, ":read", (int64_t)bytes_read);
    hob_sql_int(s, ":bytes", (int64_t)bytes);
    hob_sql_int(s, ":id", t->id);
    code = hob_sql_value(code, s, &after, diag);
    if (code == HOB_ENOENT)
        return hob_fail(diag, code, "the content is not needed any more");
    if (code == 0 && after > HOB_STORED_MAX)
        return hob_fail(diag, HOB_ELIMIT, "it has more than %d chunks", HOB_STORED_MAX);
    snprintf(sql, sizeof sql,
             "INSERT INTO text_%u (rowid, heading, text) VALUES (:id, :heading, :text)", t->tenant);
    if (code == 0 &&
        (code = hob_sql_prepare(db,
                                "INSERT INTO chunks (id, first_byte, end_byte, tokens, heading,"
                                " text) VALUES (:id, :first, :end, :tokens, :heading, :text)",
                                NULL, &row, diag)) == 0)
        code = hob_sql_prepare(db, sql, NULL, &text, diag);
    for (uint32_t i = 0; code == 0 && i < count; i++)
        code =
            add_chunk(row, text, hob_stored_id(t->id, (uint32_t)after - count + i), &list[i], diag);
    sqlite3_finalize(row);
    sqlite3_finalize(text);
    return code;
}

int hob_content_extracted(sqlite3 *db, const hob_content *t, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    const int code = hob_sql_prepare(db,
                                     "UPDATE contents SET state = 1, embedded = 0,"
                                     " bytes_read = bytes WHERE id = :id AND state = 0",
                                     NULL, &s, diag);
    return change(db, code, s, t, diag);
}

int hob_content_add_vectors(sqlite3 *db, const hob_content *t, uint32_t from, uint32_t count,
                            const char *model, const void *data, size_t size, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_store_check_room(db, 2 * (uint64_t)count * size, diag);
    if (code < 0)
        return code;
    code = hob_sql_prepare(db,
                           "UPDATE contents SET embedded = embedded + :count, model = :model"
                           " WHERE id = :id"
                           " AND state IN (1, 2) AND embedded = :from"
                           " AND embedded + :count <= chunks",
                           NULL, &s, diag);
    hob_sql_int(s, ":count", count);
    hob_sql_int(s, ":from", from);
    hob_sql_text(s, ":model", model);
    if ((code = change(db, code, s, t, diag)) < 0)
        return code;
    s = NULL;
    code = hob_sql_prepare(db, "INSERT OR REPLACE INTO vectors (chunk, data) VALUES (:id, :data)",
                           NULL, &s, diag);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        hob_sql_int(s, ":id", hob_stored_id(t->id, from + i));
        hob_sql_blob(s, ":data", (const uint8_t *)data + i * size, size);
        code = hob_sql_step(s, diag);
        (void)sqlite3_reset(s);
    }
    sqlite3_finalize(s);
    return code;
}

int hob_content_complete(sqlite3 *db, const hob_content *t, const char *model, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    const int code = hob_sql_prepare(
        db,
        "UPDATE contents SET state = 3, searchable = 1, model = :model, failures = 0,"
        " vector_bytes = embedded * coalesce((SELECT length(data) FROM vectors"
        "  WHERE chunk = contents.id << 20), 0)"
        " WHERE id = :id AND state IN (1, 2) AND (:model = '' OR embedded = chunks)",
        NULL, &s, diag);
    hob_sql_text(s, ":model", model);
    return change(db, code, s, t, diag);
}

int hob_content_fail(sqlite3 *db, const hob_content *t, const char *code_name, const char *message,
                     hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    const int code = hob_sql_prepare(db,
                                     "UPDATE contents SET state = 4, searchable = 0,"
                                     " error_code = :code, error = :message"
                                     " WHERE id = :id AND state < 3",
                                     NULL, &s, diag);
    hob_sql_text(s, ":code", code_name);
    hob_sql_text(s, ":message", message);
    return change(db, code, s, t, diag);
}

int hob_content_count_failure(sqlite3 *db, const hob_content *t, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    const int code = hob_sql_prepare(
        db, "UPDATE contents SET failures = failures + 1 WHERE id = :id AND state < 3", NULL, &s,
        diag);
    return change(db, code, s, t, diag);
}

int hob_contents_remodel(sqlite3 *db, const char *model, uint64_t *ret_count, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db,
                               "UPDATE contents SET embedded = 0, state ="
                               " CASE WHEN state = 3 THEN 2 ELSE state END WHERE model <> :model"
                               " AND (state = 3 OR (state IN (1, 2) AND embedded > 0))",
                               NULL, &s, diag);
    hob_sql_text(s, ":model", model);
    code = hob_sql_finish(code, s, diag);
    *ret_count = (uint64_t)sqlite3_changes64(db);
    return code;
}

/* ---- chunks ---- */

int hob_content_chunks(sqlite3 *db, int64_t content, uint32_t from, uint32_t most,
                       hob_stored_visit *visit, void *user, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int step = 0, code = hob_sql_prepare(db,
                                         "SELECT id, first_byte, end_byte, tokens, heading, text"
                                         " FROM chunks WHERE id >= :first AND id < :end"
                                         " ORDER BY id LIMIT :most",
                                         NULL, &s, diag);
    hob_sql_int(s, ":first", hob_stored_id(content, from));
    hob_sql_int(s, ":end", hob_stored_id(content + 1, 0));
    hob_sql_int(s, ":most", most);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0) {
        const hob_stored_chunk c = {.first_byte = (uint64_t)sqlite3_column_int64(s, 1),
                                    .end_byte = (uint64_t)sqlite3_column_int64(s, 2),
                                    .tokens = (uint32_t)sqlite3_column_int64(s, 3),
                                    .heading = (const char *)sqlite3_column_text(s, 4),
                                    .text = (const char *)sqlite3_column_text(s, 5),
                                    .text_len = (size_t)sqlite3_column_bytes(s, 5)};
        code = c.heading && c.text ? visit(user, sqlite3_column_int64(s, 0), &c, diag)
                                   : hob_store_fail(db, diag);
    }
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}

/* A full-text index without its content forgets a row only when it is told what that row was. */
static int forget_text(sqlite3 *db, int64_t first, int64_t end, uint32_t tenant, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    char sql[200];
    snprintf(sql, sizeof sql,
             "INSERT INTO text_%u (text_%u, rowid, heading, text) SELECT 'delete', id, heading,"
             " text FROM chunks WHERE id >= :first AND id < :end",
             tenant, tenant);
    int code = hob_sql_prepare(db, sql, NULL, &s, diag);
    hob_sql_int(s, ":first", first);
    hob_sql_int(s, ":end", end);
    return hob_sql_finish(code, s, diag);
}

int hob_content_cut(sqlite3 *db, int64_t content, uint32_t tenant, uint32_t most, bool *ret_left,
                    hob_diag *diag)
{
    static const char *const steps[] = {
        "DELETE FROM vectors WHERE chunk >= :first AND chunk < :end",
        "DELETE FROM chunks WHERE id >= :first AND id < :end",
        "UPDATE contents SET chunks = :chunks, embedded = min(embedded, :chunks),"
        " text_bytes = 0, vector_bytes = 0 WHERE id = :id"};
    sqlite3_stmt *s = NULL;
    int64_t count = 0;
    int code = hob_sql_prepare(db, "SELECT chunks FROM contents WHERE id = :id", NULL, &s, diag);
    hob_sql_int(s, ":id", content);
    code = hob_sql_value(code, s, &count, diag);
    *ret_left = count > most;
    if (code == HOB_ENOENT || count == 0)
        return code == HOB_ENOENT ? 0 : code;
    const uint32_t left = (uint32_t)(*ret_left ? count - most : 0);
    const int64_t first = hob_stored_id(content, left), end = hob_stored_id(content + 1, 0);
    if (code == 0)
        code = forget_text(db, first, end, tenant, diag);
    for (size_t i = 0; code == 0 && i < sizeof steps / sizeof *steps; i++) {
        s = NULL;
        code = hob_sql_prepare(db, steps[i], NULL, &s, diag);
        hob_sql_int(s, ":first", first);
        hob_sql_int(s, ":end", end);
        hob_sql_int(s, ":chunks", left);
        hob_sql_int(s, ":id", content);
        code = hob_sql_finish(code, s, diag);
    }
    return code;
}

int hob_contents_vectors(sqlite3 *db, const char *model, int64_t first, int64_t end, uint32_t most,
                         hob_vector_visit *visit, void *user, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int step = 0,
        code = hob_sql_prepare(db,
                               "SELECT v.chunk, v.data FROM vectors AS v CROSS JOIN contents AS t"
                               " ON t.id = v.chunk >> 20 WHERE v.chunk >= :first AND v.chunk < :end"
                               " AND t.state = 3 AND t.model = :model ORDER BY v.chunk LIMIT :most",
                               NULL, &s, diag);
    hob_sql_text(s, ":model", model);
    hob_sql_int(s, ":first", first);
    hob_sql_int(s, ":end", end);
    hob_sql_int(s, ":most", most);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0)
        code = visit(user, sqlite3_column_int64(s, 0), sqlite3_column_blob(s, 1),
                     (size_t)sqlite3_column_bytes(s, 1), diag);
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}
