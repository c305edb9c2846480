/* SPDX-License-Identifier: Apache-2.0
 *
 * Uploaded files. See file_table.h. */
#include "daemon/store/file_table.h"

#include <string.h>

#include "daemon/store/attachment_table.h"

#define COLUMNS "f.id, f.public, f.tenant, f.key, f.name, f.purpose, f.bytes, f.sha256, f.created"

/* ---- uploads ---- */

int hob_file_begin(sqlite3 *db, hob_file *f, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(
        db,
        "INSERT INTO files (public, tenant, key, name, purpose, bytes, created, state) "
        "VALUES (:public, :tenant, :key, '', '', 0, :created, 0)",
        NULL, &s, diag);
    hob_sql_text(s, ":public", f->public);
    hob_sql_int(s, ":tenant", f->tenant);
    hob_sql_int(s, ":key", f->key);
    hob_sql_int(s, ":created", f->created_s);
    code = hob_sql_finish(code, s, diag);
    if (code == 0)
        f->id = sqlite3_last_insert_rowid(db);
    return code;
}

int hob_file_key_bytes(sqlite3 *db, int64_t key, uint64_t *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t sum = 0;
    int code = hob_sql_prepare(
        db, "SELECT coalesce(sum(bytes), 0) FROM files WHERE key = :key AND state < 2", NULL, &s,
        diag);
    hob_sql_int(s, ":key", key);
    code = hob_sql_value(code, s, &sum, diag);
    *ret = (uint64_t)sum;
    return code;
}

static int grow(sqlite3 *db, const hob_file *f, size_t len, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(
        db, "UPDATE files SET bytes = bytes + :more WHERE id = :id AND state = 0", NULL, &s, diag);
    hob_sql_int(s, ":more", (int64_t)len);
    hob_sql_int(s, ":id", f->id);
    code = hob_sql_finish(code, s, diag);
    if (code == 0 && sqlite3_changes(db) == 0)
        code = hob_fail(diag, HOB_ENOENT, "this upload was given up");
    return code;
}

int hob_file_add_part(sqlite3 *db, const hob_file *f, uint32_t part, const void *data, size_t len,
                      uint64_t key_bytes, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    uint64_t held = 0;
    int code;

    if ((code = hob_store_check_room(db, len, diag)) < 0 ||
        (code = hob_file_key_bytes(db, f->key, &held, diag)) < 0)
        return code;
    if (key_bytes && (held > key_bytes || len > key_bytes - held))
        return hob_fail(diag, HOB_ELIMIT,
                        "the files of this key take %llu of %llu bytes: there is no room for this "
                        "one",
                        (unsigned long long)held, (unsigned long long)key_bytes);
    if ((code = grow(db, f, len, diag)) < 0)
        return code;
    code = hob_sql_prepare(db,
                           "INSERT INTO file_parts (file, part, data) VALUES (:file, :part, :data)",
                           NULL, &s, diag);
    hob_sql_int(s, ":file", f->id);
    hob_sql_int(s, ":part", part);
    hob_sql_blob(s, ":data", data, len);
    return hob_sql_finish(code, s, diag);
}

static int set_state(sqlite3 *db, int64_t id, int state, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code =
        hob_sql_prepare(db, "UPDATE files SET state = :state WHERE id = :id", NULL, &s, diag);
    hob_sql_int(s, ":state", state);
    hob_sql_int(s, ":id", id);
    return hob_sql_finish(code, s, diag);
}

int hob_file_complete(sqlite3 *db, hob_file *f, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t bytes = 0;
    int code = hob_sql_prepare(
        db,
        "UPDATE files SET name = :name, purpose = :purpose, sha256 = :sha256, state = 1 "
        "WHERE id = :id AND state = 0 RETURNING bytes",
        NULL, &s, diag);
    hob_sql_text(s, ":name", f->name);
    hob_sql_text(s, ":purpose", f->purpose);
    hob_sql_blob(s, ":sha256", f->sha256, sizeof f->sha256);
    hob_sql_int(s, ":id", f->id);
    code = hob_sql_value(code, s, &bytes, diag);
    if (code == HOB_ENOENT)
        return hob_fail(diag, HOB_ENOENT, "this upload was given up");
    f->bytes = (uint64_t)bytes;
    return code;
}

int hob_file_drop(sqlite3 *db, const hob_file *f, hob_diag *diag)
{
    return set_state(db, f->id, HOB_FILE_GONE, diag);
}

int hob_file_drop_uploads(sqlite3 *db, hob_diag *diag)
{
    return hob_store_exec(db, "UPDATE files SET state = 2 WHERE state = 0", diag);
}

/* ---- reading ---- */

static int read_row(sqlite3_stmt *s, hob_file *ret, hob_diag *diag)
{
    hob_file f = {.id = sqlite3_column_int64(s, 0),
                  .tenant = (uint32_t)sqlite3_column_int64(s, 2),
                  .key = sqlite3_column_int64(s, 3),
                  .bytes = (uint64_t)sqlite3_column_int64(s, 6),
                  .created_s = sqlite3_column_int64(s, 8)};
    int code;
    if ((code = hob_sql_copy(s, 1, f.public, sizeof f.public, diag)) < 0 ||
        (code = hob_sql_copy(s, 4, f.name, sizeof f.name, diag)) < 0 ||
        (code = hob_sql_copy(s, 5, f.purpose, sizeof f.purpose, diag)) < 0)
        return code;
    if (sqlite3_column_bytes(s, 7) != sizeof f.sha256)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: file %lld", (long long)f.id);
    memcpy(f.sha256, sqlite3_column_blob(s, 7), sizeof f.sha256);
    *ret = f;
    return 0;
}

int hob_file_find(sqlite3 *db, const hob_scope *scope, const char *public, hob_file *ret,
                  hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(
        db, "SELECT " COLUMNS " FROM files AS f WHERE f.public = :public AND " HOB_MAY_SEE("f"),
        scope, &s, diag);
    hob_sql_text(s, ":public", public);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0)
        code = read_row(s, ret, diag);
    else if (code == 0)
        code = hob_fail(diag, HOB_ENOENT, "there is no file '%.60s'", public);
    sqlite3_finalize(s);
    return code;
}

int hob_file_read_part(sqlite3 *db, uint32_t tenant, int64_t id, hob_file_place *at, uint8_t *ret,
                       size_t most, size_t *ret_len, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = hob_sql_prepare(db,
                               "SELECT length(p.data), substr(p.data, :from + 1, :most)"
                               " FROM files AS f LEFT JOIN file_parts AS p ON p.file = f.id"
                               " AND p.part = :part WHERE f.id = :file AND f.tenant = :tenant"
                               " AND f.state = 1",
                               NULL, &s, diag);
    hob_sql_int(s, ":file", id);
    hob_sql_int(s, ":part", at->part);
    hob_sql_int(s, ":from", at->byte);
    hob_sql_int(s, ":most", (int64_t)most);
    hob_sql_int(s, ":tenant", tenant);
    if (code == 0 && (code = hob_sql_step(s, diag)) > 0) {
        const int64_t whole = sqlite3_column_int64(s, 0);
        const void *data = sqlite3_column_blob(s, 1);
        const size_t len = (size_t)sqlite3_column_bytes(s, 1);
        code = 0;
        if (!data || len == 0 || len > most || whole > HOB_PART_BYTES)
            code = hob_fail(diag, HOB_EFORMAT, "the store is damaged: part %u of file %lld",
                            at->part, (long long)id);
        else {
            memcpy(ret, data, len);
            *ret_len = len;
            at->byte += (uint32_t)len;
            if (at->byte == whole)
                *at = (hob_file_place){.part = at->part + 1};
        }
    } else if (code == 0)
        code = hob_fail(diag, HOB_ENOENT, "the file has gone");
    sqlite3_finalize(s);
    return code;
}

typedef struct page_user {
    const char *purpose;
    hob_file_visit *visit;
    void *user;
} page_user;

static void bind_purpose(void *user, sqlite3_stmt *s)
{
    hob_sql_text(s, ":purpose", ((const page_user *)user)->purpose);
}

static int visit_row(void *user, sqlite3_stmt *s, hob_diag *diag)
{
    const page_user *u = user;
    hob_file f;
    const int code = read_row(s, &f, diag);
    return code < 0 ? code : u->visit(u->user, &f, diag);
}

int hob_file_page(sqlite3 *db, const hob_scope *scope, const hob_page *page, const char *purpose,
                  hob_file_visit *visit, void *user, bool *ret_more, hob_diag *diag)
{
    page_user u = {purpose, visit, user};
    hob_file at = {0};
    if (page->cursor[0]) {
        const int code = hob_file_find(db, scope, page->cursor, &at, diag);
        if (code < 0)
            return code;
    }
    return hob_sql_page(db,
                        "SELECT " COLUMNS " FROM files AS f WHERE " HOB_MAY_SEE(
                            "f") " AND "
                                 "(:purpose = '' OR f.purpose = :purpose)",
                        "f.id", scope, page, at.id, bind_purpose, visit_row, &u, ret_more, diag);
}

/* ---- removal ---- */

/* One that it did not upload may be in collections that the key does not have: these lose nothing. */
static int check_removal(sqlite3 *db, const hob_scope *scope, const hob_file *f, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int64_t others = 0;
    if (scope->all || f->key == scope->key)
        return 0;
    int code =
        hob_sql_prepare(db,
                        "SELECT count(*) FROM attachments AS a JOIN collections AS c "
                        "ON c.id = a.collection WHERE a.file = :file AND NOT " HOB_MAY_USE("c"),
                        scope, &s, diag);
    hob_sql_int(s, ":file", f->id);
    code = hob_sql_value(code, s, &others, diag);
    return code < 0 || others == 0
               ? code
               : hob_fail(diag, HOB_EINVAL,
                          "the file '%.60s' is also in collections that this key may not use",
                          f->public);
}

int hob_file_remove(sqlite3 *db, const hob_scope *scope, const char *public, hob_diag *diag)
{
    hob_file f;
    int code;
    if ((code = hob_file_find(db, scope, public, &f, diag)) < 0 ||
        (code = check_removal(db, scope, &f, diag)) < 0 ||
        (code = hob_attachments_drop_file(db, f.id, diag)) < 0)
        return code;
    return set_state(db, f.id, HOB_FILE_GONE, diag);
}
