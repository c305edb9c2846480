/* SPDX-License-Identifier: Apache-2.0
 *
 * Statements and pages. See sql.h. */
#include "daemon/store/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parameter(sqlite3_stmt *s, const char *name)
{
    return s ? sqlite3_bind_parameter_index(s, name) : 0;
}

void hob_sql_int(sqlite3_stmt *s, const char *name, int64_t value)
{
    const int at = parameter(s, name);
    if (at)
        (void)sqlite3_bind_int64(s, at, value);
}

void hob_sql_text(sqlite3_stmt *s, const char *name, const char *value)
{
    const int at = parameter(s, name);
    if (at)
        (void)sqlite3_bind_text(s, at, value, -1, SQLITE_STATIC);
}

void hob_sql_bytes(sqlite3_stmt *s, const char *name, const char *text, size_t len)
{
    const int at = parameter(s, name);
    if (at)
        (void)sqlite3_bind_text64(s, at, text, len, SQLITE_STATIC, SQLITE_UTF8);
}

void hob_sql_blob(sqlite3_stmt *s, const char *name, const void *data, size_t len)
{
    const int at = parameter(s, name);
    if (at)
        (void)sqlite3_bind_blob64(s, at, data, len, SQLITE_STATIC);
}

int hob_sql_prepare(sqlite3 *db, const char *sql, const hob_scope *scope, sqlite3_stmt **ret,
                    hob_diag *diag)
{
    if (sqlite3_prepare_v2(db, sql, -1, ret, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    if (scope) {
        hob_sql_int(*ret, ":tenant", scope->tenant);
        hob_sql_int(*ret, ":key", scope->key);
        hob_sql_int(*ret, ":all", scope->all);
        hob_sql_text(*ret, ":names", scope->names);
    }
    return 0;
}

int hob_sql_step(sqlite3_stmt *s, hob_diag *diag)
{
    const int step = sqlite3_step(s);
    return step == SQLITE_ROW    ? 1
           : step == SQLITE_DONE ? 0
                                 : hob_store_fail(sqlite3_db_handle(s), diag);
}

int hob_sql_finish(int code, sqlite3_stmt *s, hob_diag *diag)
{
    if (code >= 0)
        code = hob_sql_step(s, diag);
    sqlite3_finalize(s);
    return code;
}

int hob_sql_value(int code, sqlite3_stmt *s, int64_t *ret, hob_diag *diag)
{
    if (code >= 0 && (code = hob_sql_step(s, diag)) > 0) {
        *ret = sqlite3_column_int64(s, 0);
        sqlite3_finalize(s);
        return 0;
    }
    sqlite3_finalize(s);
    return code == 0 ? HOB_ENOENT : code;
}

int hob_sql_copy(sqlite3_stmt *s, int column, char *ret, size_t size, hob_diag *diag)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    const size_t len = text ? (size_t)sqlite3_column_bytes(s, column) : 0;
    if (!text || len >= size || strlen(text) != len)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: a text of %zu bytes in %.40s",
                        len, sqlite3_column_name(s, column));
    memcpy(ret, text, len + 1);
    return 0;
}

/* ---- pages ---- */

int hob_sql_page(sqlite3 *db, const char *select, const char *number, const hob_scope *scope,
                 const hob_page *page, int64_t at, void (*bind)(void *user, sqlite3_stmt *s),
                 hob_sql_visit *visit, void *user, bool *ret_more, hob_diag *diag)
{
    /* Those nearest to the cursor, one more than asked for to see whether there are any; then in the list's order. */
    const bool rising = page->ascending != page->before;
    const char *near = rising ? "ASC" : "DESC", *order = page->ascending ? "ASC" : "DESC";
    const char *than = rising ? ">" : "<";
    sqlite3_stmt *s = NULL;
    uint32_t seen = 0;
    int code, step = 0;

    *ret_more = false;
    char *sql = sqlite3_mprintf("SELECT *, count(*) OVER () FROM (%s AND (:at = 0 OR %s %s :at)"
                                " ORDER BY %s %s LIMIT :limit) ORDER BY 1 %s",
                                select, number, than, number, near, order);
    if (!sql)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a list");
    code = hob_sql_prepare(db, sql, scope, &s, diag);
    hob_sql_int(s, ":at", at);
    hob_sql_int(s, ":limit", (int64_t)page->limit + 1);
    if (code == 0 && bind)
        bind(user, s);
    while (code >= 0 && (step = hob_sql_step(s, diag)) > 0) {
        const int64_t found = sqlite3_column_int64(s, sqlite3_column_count(s) - 1);
        *ret_more = found > page->limit;
        if (*ret_more && seen++ == (page->before ? 0 : page->limit))
            continue;
        code = visit(user, s, diag);
    }
    sqlite3_finalize(s);
    sqlite3_free(sql);
    return code < 0 ? code : step;
}
