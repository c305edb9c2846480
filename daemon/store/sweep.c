/* SPDX-License-Identifier: Apache-2.0
 *
 * Removal, step by step. See sweep.h. */
#include "daemon/store/sweep.h"

enum { PARTS = 4, CHUNKS = 500 }; /* of a step */

/* Runs a statement on one number; *ret_changes (may be NULL): rows. */
static int run(sqlite3 *db, const char *sql, int64_t id, int *ret_changes, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db, sql, NULL, &s, diag);
    hob_sql_int(s, ":id", id);
    hob_sql_int(s, ":parts", PARTS);
    code = hob_sql_finish(code, s, diag);
    if (code == 0 && ret_changes)
        *ret_changes = sqlite3_changes(db);
    return code;
}

/* HOB_ENOENT: there is no such file. */
static int sweep_file(sqlite3 *db, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t id = 0;
    int removed = 0,
        code = hob_sql_prepare(db, "SELECT id FROM files WHERE state = 2 LIMIT 1", NULL, &s, diag);
    if ((code = hob_sql_value(code, s, &id, diag)) < 0)
        return code;
    code = run(db,
               "DELETE FROM file_parts WHERE rowid IN (SELECT rowid FROM file_parts"
               " WHERE file = :id ORDER BY part DESC LIMIT :parts)",
               id, &removed, diag);
    return code < 0 || removed == PARTS
               ? code
               : run(db, "DELETE FROM files WHERE id = :id", id, NULL, diag);
}

/* HOB_ENOENT: there is no such content. */
static int sweep_content(sqlite3 *db, int64_t *ret_gone, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    bool left = false, unused = false;
    int64_t id = 0;
    uint32_t tenant = 0;
    int code = hob_sql_prepare(db,
                               "SELECT id, tenant, state = 5 FROM contents"
                               " WHERE state = 5 OR (state = 4 AND chunks > 0) LIMIT 1",
                               NULL, &s, diag);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0) {
        id = sqlite3_column_int64(s, 0);
        tenant = (uint32_t)sqlite3_column_int64(s, 1);
        unused = sqlite3_column_int(s, 2) != 0;
        code = 0;
    } else if (code == 0)
        code = HOB_ENOENT;
    sqlite3_finalize(s);
    if (code == 0)
        code = hob_content_cut(db, id, tenant, CHUNKS, &left, diag);
    if (code < 0 || left || !unused)
        return code;
    *ret_gone = id;
    return run(db, "DELETE FROM contents WHERE id = :id", id, NULL, diag);
}

int hob_sweep(sqlite3 *db, hob_swept *ret, hob_diag *diag)
{
    *ret = (hob_swept){.more = true};
    int code = sweep_content(db, &ret->content, diag);
    if (code == HOB_ENOENT)
        code = sweep_file(db, diag);
    if (code == HOB_ENOENT)
        ret->more = false;
    return code == HOB_ENOENT ? 0 : code;
}
