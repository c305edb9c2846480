/* SPDX-License-Identifier: Apache-2.0
 *
 * Collections. See collection_table.h. */
#include "daemon/store/collection_table.h"

#include <stdio.h>
#include <string.h>

#include "daemon/store/attachment_table.h"

#define COLUMNS "c.id, c.public, c.name, c.metadata, c.created, c.last_active"

/* ---- reading ---- */

static int count_files(sqlite3 *db, hob_collection *c, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code, step = 0;
    code = hob_sql_prepare(
        db,
        "SELECT " HOB_ATTACHMENT_STATUS(
            "a", "t") " AS status, count(*),"
                      " sum(" HOB_CONTENT_USAGE("t") ") FROM attachments AS a"
                                                     " LEFT JOIN contents AS t ON t.id = a.content"
                                                     " WHERE a.collection = :id GROUP BY status",
        NULL, &s, diag);
    hob_sql_int(s, ":id", c->id);
    while (code >= 0 && (step = hob_sql_step(s, diag)) > 0) {
        const int status = sqlite3_column_int(s, 0);
        if (status < 0 || status >= HOB_ATTACHMENT_STATUSES)
            code =
                hob_fail(diag, HOB_EFORMAT, "the store is damaged: a file's status is %d", status);
        else
            c->files[status] = (uint64_t)sqlite3_column_int64(s, 1);
        if (status == HOB_ATTACHMENT_COMPLETED)
            c->usage_bytes = (uint64_t)sqlite3_column_int64(s, 2);
    }
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}

typedef struct visitor {
    sqlite3 *db;
    const char *name;
    hob_collection_visit *visit;
    void *user;
} visitor;

static int visit_row(void *user, sqlite3_stmt *s, hob_diag *diag)
{
    const visitor *v = user;
    hob_collection c = {.id = sqlite3_column_int64(s, 0),
                        .metadata = (const char *)sqlite3_column_text(s, 3),
                        .created_s = sqlite3_column_int64(s, 4),
                        .last_active_s = sqlite3_column_int64(s, 5)};
    int code;
    if ((code = hob_sql_copy(s, 1, c.public, sizeof c.public, diag)) < 0 ||
        (code = hob_sql_copy(s, 2, c.name, sizeof c.name, diag)) < 0 ||
        (code = count_files(v->db, &c, diag)) < 0)
        return code;
    return c.metadata ? v->visit(v->user, &c, diag) : hob_store_fail(v->db, diag);
}

static int fail_absent(const char *public, hob_diag *diag)
{
    return hob_fail(diag, HOB_ENOENT, "there is no vector store '%.60s'", public);
}

#define ONE " FROM collections AS c WHERE c.public = :public AND " HOB_MAY_USE("c")

int hob_collection_find(sqlite3 *db, const hob_scope *scope, const char *public,
                        hob_collection_key *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, "SELECT c.id, c.name, c.last_active" ONE, scope, &s, diag);
    hob_sql_text(s, ":public", public);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0) {
        ret->id = sqlite3_column_int64(s, 0);
        ret->last_active_s = sqlite3_column_int64(s, 2);
        code = hob_sql_copy(s, 1, ret->name, sizeof ret->name, diag);
    } else if (code == 0)
        code = fail_absent(public, diag);
    sqlite3_finalize(s);
    return code;
}

int hob_collection_find_name(sqlite3 *db, const hob_scope *scope, const char *name,
                             char ret_public[HOB_PUBLIC_ID_MAX], hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(
        db,
        "SELECT c.public FROM collections AS c WHERE c.name = :name AND " HOB_MAY_USE(
            "c") " ORDER BY c.id LIMIT 1",
        scope, &s, diag);
    ret_public[0] = '\0';
    hob_sql_text(s, ":name", name);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0)
        code = hob_sql_copy(s, 0, ret_public, HOB_PUBLIC_ID_MAX, diag);
    sqlite3_finalize(s);
    return code;
}

int hob_collection_read(sqlite3 *db, const hob_scope *scope, const char *public,
                        hob_collection_visit *visit, void *user, hob_diag *diag)
{
    visitor v = {db, NULL, visit, user};
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, "SELECT " COLUMNS ONE, scope, &s, diag);
    hob_sql_text(s, ":public", public);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0)
        code = visit_row(&v, s, diag);
    else if (code == 0)
        code = fail_absent(public, diag);
    sqlite3_finalize(s);
    return code;
}

static void bind_name(void *user, sqlite3_stmt *s)
{
    hob_sql_text(s, ":name", ((const visitor *)user)->name);
}

int hob_collection_page(sqlite3 *db, const hob_scope *scope, const hob_page *page, const char *name,
                        hob_collection_visit *visit, void *user, bool *ret_more, hob_diag *diag)
{
    visitor v = {db, name, visit, user};
    hob_collection_key at = {0};
    if (page->cursor[0]) {
        const int code = hob_collection_find(db, scope, page->cursor, &at, diag);
        if (code < 0)
            return code;
    }
    return hob_sql_page(db,
                        "SELECT " COLUMNS " FROM collections AS c WHERE " HOB_MAY_USE(
                            "c") " AND (:name IS NULL OR c.name = :name)",
                        "c.id", scope, page, at.id, bind_name, visit_row, &v, ret_more, diag);
}

/* ---- writing ---- */

/* After a change, which is undone where this fails: whether the scope still has it. */
static int check_right(sqlite3 *db, const hob_scope *scope, const char *public, const char *name,
                       hob_diag *diag)
{
    hob_collection_key key;
    const int code = hob_collection_find(db, scope, public, &key, NULL);
    return code == HOB_ENOENT
               ? hob_fail(diag, HOB_EINVAL,
                          "this key may not use a vector store with the name '%.60s'", name)
               : code;
}

int hob_collection_add(sqlite3 *db, const hob_scope *scope, hob_collection *c, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t count = 0;
    int code = hob_sql_prepare(db, "SELECT count(*) FROM collections WHERE tenant = :tenant", scope,
                               &s, diag);
    code = hob_sql_value(code, s, &count, diag);
    if (code == 0 && count >= HOB_COLLECTIONS_MAX)
        return hob_fail(diag, HOB_ELIMIT, "there are %d vector stores: no more are allowed",
                        HOB_COLLECTIONS_MAX);
    if (code < 0)
        return code;
    s = NULL;
    code = hob_sql_prepare(db,
                           "INSERT INTO collections (public, tenant, key, name, metadata, created,"
                           " last_active) VALUES (:public, :tenant, :key, :name, :metadata, :now,"
                           " :now)",
                           scope, &s, diag);
    hob_sql_text(s, ":public", c->public);
    hob_sql_text(s, ":name", c->name);
    hob_sql_text(s, ":metadata", c->metadata);
    hob_sql_int(s, ":now", c->created_s);
    code = hob_sql_finish(code, s, diag);
    c->id = sqlite3_last_insert_rowid(db);
    return code < 0 ? code : check_right(db, scope, c->public, c->name, diag);
}

int hob_collection_change(sqlite3 *db, const hob_scope *scope, const char *public, const char *name,
                          const char *metadata, hob_diag *diag)
{
    hob_collection_key key;
    sqlite3_stmt *s = NULL;
    int code = hob_collection_find(db, scope, public, &key, diag);
    if (code < 0)
        return code;
    code = hob_sql_prepare(db,
                           "UPDATE collections SET name = coalesce(:name, name),"
                           " metadata = coalesce(:metadata, metadata)"
                           " WHERE id = :id AND tenant = :tenant",
                           scope, &s, diag);
    hob_sql_text(s, ":name", name);
    hob_sql_text(s, ":metadata", metadata);
    hob_sql_int(s, ":id", key.id);
    code = hob_sql_finish(code, s, diag);
    return code < 0 ? code : check_right(db, scope, public, name ? name : key.name, diag);
}

int hob_collection_touch(sqlite3 *db, int64_t id, int64_t now_s, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, "UPDATE collections SET last_active = :now WHERE id = :id", NULL,
                               &s, diag);
    hob_sql_int(s, ":now", now_s);
    hob_sql_int(s, ":id", id);
    return hob_sql_finish(code, s, diag);
}

int hob_collection_remove(sqlite3 *db, const hob_scope *scope, const char *public, hob_diag *diag)
{
    static const char *const steps[] = {"DELETE FROM batches WHERE collection = :id",
                                        "DELETE FROM collections WHERE id = :id"};
    hob_collection_key key;
    int code = hob_collection_find(db, scope, public, &key, diag);
    if (code == 0)
        code = hob_attachments_drop_collection(db, key.id, diag);
    for (size_t i = 0; code == 0 && i < sizeof steps / sizeof *steps; i++) {
        sqlite3_stmt *s = NULL;
        code = hob_sql_prepare(db, steps[i], scope, &s, diag);
        hob_sql_int(s, ":id", key.id);
        code = hob_sql_finish(code, s, diag);
    }
    return code;
}
