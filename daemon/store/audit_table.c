/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of administrative acts. See audit_table.h. */
#include "daemon/store/audit_table.h"

#include "daemon/store/sql.h"

int hob_audit_table_add(sqlite3 *db, const hob_audit_entry *e, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(
        db, "INSERT INTO audit (time, who, act, object) VALUES (:time, :who, :act, :object)", NULL,
        &s, diag);
    if (code == 0) {
        hob_sql_int(s, ":time", e->time_s);
        hob_sql_text(s, ":who", e->who);
        hob_sql_text(s, ":act", e->act);
        hob_sql_text(s, ":object", e->object);
    }
    if ((code = hob_sql_finish(code, s, diag)) < 0)
        return code;
    code = hob_sql_prepare(db, "DELETE FROM audit WHERE id <= :last - :most", NULL, &s, diag);
    if (code == 0) {
        hob_sql_int(s, ":last", sqlite3_last_insert_rowid(db));
        hob_sql_int(s, ":most", HOB_AUDIT_ROWS_MAX);
    }
    return hob_sql_finish(code, s, diag);
}

static int read_row(sqlite3_stmt *s, hob_audit_entry *ret, hob_diag *diag)
{
    hob_audit_entry e = {.id = sqlite3_column_int64(s, 0), .time_s = sqlite3_column_int64(s, 1)};
    int code = hob_sql_copy(s, 2, e.who, sizeof e.who, diag);
    if (code == 0)
        code = hob_sql_copy(s, 3, e.act, sizeof e.act, diag);
    if (code == 0)
        code = hob_sql_copy(s, 4, e.object, sizeof e.object, diag);
    *ret = e;
    return code;
}

int hob_audit_table_each(sqlite3 *db, uint32_t limit, hob_audit_visit *visit, void *user,
                         hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    hob_audit_entry e;
    int code = hob_sql_prepare(
        db, "SELECT id, time, who, act, object FROM audit ORDER BY id DESC LIMIT :limit", NULL, &s,
        diag);
    if (code == 0)
        hob_sql_int(s, ":limit", limit);
    while (code >= 0 && (code = hob_sql_step(s, diag)) > 0)
        if ((code = read_row(s, &e, diag)) == 0)
            code = visit(user, &e, diag);
    sqlite3_finalize(s);
    return code < 0 ? code : 0;
}
