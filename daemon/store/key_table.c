/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of API keys. See key_table.h. */
#include "daemon/store/key_table.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In this order in COLUMNS and in both bind() and read_row(). */
#define COLUMNS                                                                                    \
    "hash, old_hash, old_until, label, tenant, admin, priority, models, collections, expires,"     \
    " revoked, log_content, requests_per_minute, tokens_per_minute, tokens_per_day, "              \
    "concurrent_requests,"                                                                         \
    " max_prompt_tokens, max_output_tokens, patience_ms, default_output_tokens, stored_mb"
enum { PEEK_BUSY_MS = 5000 }; /* for hobd, which may just be starting */
enum { FIRST_LIMIT = 12, LAST = FIRST_LIMIT + HOB_LIMITS }; /* columns before created */
_Static_assert(HOB_LIMIT_REQUESTS_PER_MINUTE == 0 && HOB_LIMIT_CONCURRENT_REQUESTS == 3 &&
                   HOB_LIMIT_PATIENCE_MS == 6 && HOB_LIMIT_STORED_MB == 8 && HOB_LIMITS == 9,
               "the limits are read and written in the order of COLUMNS");

/* ---- rows ---- */

static void bind_time(sqlite3_stmt *s, int at, int64_t value)
{
    if (value > 0)
        sqlite3_bind_int64(s, at, value);
    else
        sqlite3_bind_null(s, at);
}

static void bind_names(sqlite3_stmt *s, int at, bool all, const char *names)
{
    if (all)
        sqlite3_bind_null(s, at);
    else
        sqlite3_bind_text(s, at, names, -1, SQLITE_STATIC);
}

static void bind(sqlite3_stmt *s, const hob_key_record *r)
{
    sqlite3_bind_blob(s, 1, r->hash, sizeof r->hash, SQLITE_STATIC);
    if (r->old_until_s > 0)
        sqlite3_bind_blob(s, 2, r->old_hash, sizeof r->old_hash, SQLITE_STATIC);
    bind_time(s, 3, r->old_until_s);
    sqlite3_bind_text(s, 4, r->label, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s, 5, r->tenant_number);
    sqlite3_bind_int(s, 6, r->admin);
    sqlite3_bind_int(s, 7, r->priority);
    bind_names(s, 8, r->all_models, r->models);
    bind_names(s, 9, r->all_collections, r->collections);
    bind_time(s, 10, r->expires_s);
    bind_time(s, 11, r->revoked_s);
    sqlite3_bind_int(s, 12, r->log_content);
    for (int i = 0; i < HOB_LIMITS; i++)
        if (r->limits[i] != HOB_KEY_LIMIT_DEFAULT)
            sqlite3_bind_int64(s, 1 + FIRST_LIMIT + i, r->limits[i]);
}

/* A text of the database into a field; false when it does not fit. */
static bool take_text(sqlite3_stmt *s, int at, char *ret, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(s, at);
    if (!text || strlen(text) >= size)
        return false;
    memcpy(ret, text, strlen(text) + 1);
    return true;
}

static bool take_names(sqlite3_stmt *s, int at, bool *ret_all, char ret[HOB_KEY_NAMES_MAX])
{
    *ret_all = sqlite3_column_type(s, at) == SQLITE_NULL;
    return *ret_all || take_text(s, at, ret, HOB_KEY_NAMES_MAX);
}

/* COLUMNS, created, last_used, id, tenants.name */
static int read_row(sqlite3_stmt *s, hob_key_record *ret, hob_diag *diag)
{
    hob_key_record r = {.id = sqlite3_column_int64(s, LAST + 2)};
    const int64_t priority = sqlite3_column_int64(s, 6);

    if (sqlite3_column_bytes(s, 0) != sizeof r.hash || priority < 0 || priority > 2 ||
        !take_text(s, 3, r.label, sizeof r.label) || !take_names(s, 7, &r.all_models, r.models) ||
        !take_names(s, 8, &r.all_collections, r.collections) ||
        !take_text(s, LAST + 3, r.tenant, sizeof r.tenant))
        return hob_fail(diag, HOB_EFORMAT, "the store: key %lld is damaged", (long long)r.id);
    memcpy(r.hash, sqlite3_column_blob(s, 0), sizeof r.hash);
    if (sqlite3_column_bytes(s, 1) == sizeof r.old_hash) {
        memcpy(r.old_hash, sqlite3_column_blob(s, 1), sizeof r.old_hash);
        r.old_until_s = sqlite3_column_int64(s, 2);
    }
    r.tenant_number = (uint32_t)sqlite3_column_int64(s, 4);
    r.admin = sqlite3_column_int(s, 5) != 0;
    r.priority = (uint8_t)priority;
    r.expires_s = sqlite3_column_int64(s, 9);
    r.revoked_s = sqlite3_column_int64(s, 10);
    r.log_content = sqlite3_column_int(s, 11) != 0;
    for (int i = 0; i < HOB_LIMITS; i++)
        r.limits[i] = sqlite3_column_type(s, FIRST_LIMIT + i) == SQLITE_NULL
                          ? HOB_KEY_LIMIT_DEFAULT
                          : sqlite3_column_int64(s, FIRST_LIMIT + i);
    r.created_s = sqlite3_column_int64(s, LAST);
    r.last_used_s = sqlite3_column_int64(s, LAST + 1);
    *ret = r;
    return 0;
}

/* ---- writing ---- */

/* The tenant's number; one that is new gets the next. */
static int find_tenant(sqlite3 *db, const char *name, uint32_t *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(
            db,
            "INSERT INTO tenants (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET "
            "name = name RETURNING id",
            -1, &s, NULL) != SQLITE_OK ||
        sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        code = hob_store_fail(db, diag);
    else
        *ret = (uint32_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return code;
}

static int fail_write(sqlite3 *db, const hob_key_record *r, hob_diag *diag)
{
    if (sqlite3_extended_errcode(db) == SQLITE_CONSTRAINT_UNIQUE)
        return hob_fail(diag, HOB_EINVAL, "label: \"%s\" is another key's", r->label);
    return hob_store_fail(db, diag);
}

static int count_keys(sqlite3 *db, int64_t *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db, "SELECT count(*) FROM keys WHERE revoked IS NULL", -1, &s, NULL) !=
            SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        code = hob_store_fail(db, diag);
    else
        *ret = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return code;
}

/* count: of the keys that are there. */
static int add_to(sqlite3 *db, int64_t count, hob_key_record *r, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code;

    if (count >= HOB_KEYS_MAX)
        return hob_fail(diag, HOB_ELIMIT, "there are %d keys: no more are allowed", HOB_KEYS_MAX);
    if ((code = find_tenant(db, r->tenant, &r->tenant_number, diag)) < 0)
        return code;
    if (sqlite3_prepare_v2(db,
                           "INSERT INTO keys (" COLUMNS ", created) VALUES "
                           "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                           -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    bind(s, r);
    sqlite3_bind_int64(s, LAST + 1, r->created_s);
    if (sqlite3_step(s) != SQLITE_DONE)
        code = fail_write(db, r, diag);
    else
        r->id = sqlite3_last_insert_rowid(db);
    sqlite3_finalize(s);
    return code;
}

int hob_key_table_add(sqlite3 *db, hob_key_record *r, hob_diag *diag)
{
    int64_t count = 0;
    const int code = count_keys(db, &count, diag);
    return code < 0 ? code : add_to(db, count, r, diag);
}

int hob_key_table_update(sqlite3 *db, hob_key_record *r, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = find_tenant(db, r->tenant, &r->tenant_number, diag);
    if (code < 0)
        return code;
    if (sqlite3_prepare_v2(db,
                           "UPDATE keys SET (" COLUMNS ") = "
                           "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) WHERE id = ?",
                           -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    bind(s, r);
    sqlite3_bind_int64(s, LAST + 1, r->id);
    if (sqlite3_step(s) != SQLITE_DONE)
        code = fail_write(db, r, diag);
    sqlite3_finalize(s);
    return code;
}

static int retire(sqlite3 *db, const uint8_t hash[32], hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db, "INSERT OR IGNORE INTO retired (hash) VALUES (?1)", -1, &s, NULL) !=
            SQLITE_OK ||
        sqlite3_bind_blob(s, 1, hash, 32, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_DONE)
        code = hob_store_fail(db, diag);
    sqlite3_finalize(s);
    return code;
}

int hob_key_table_prune(sqlite3 *db, int64_t before_s, hob_diag *diag)
{
#define FORGOTTEN "keys WHERE revoked < ?1 AND NOT EXISTS (SELECT 1 FROM usage WHERE key = keys.id)"
    static const char *const steps[] = {
        "INSERT OR IGNORE INTO retired (hash, label) SELECT hash, label FROM " FORGOTTEN,
        "DELETE FROM " FORGOTTEN,
    };
#undef FORGOTTEN
    int code = 0;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && code == 0; i++) {
        sqlite3_stmt *s = NULL;
        if (sqlite3_prepare_v2(db, steps[i], -1, &s, NULL) != SQLITE_OK ||
            sqlite3_bind_int64(s, 1, before_s) != SQLITE_OK || sqlite3_step(s) != SQLITE_DONE)
            code = hob_store_fail(db, diag);
        sqlite3_finalize(s);
    }
    return code;
}

int hob_key_table_rotate(sqlite3 *db, hob_key_record *r, const uint8_t hash[32],
                         int64_t old_until_s, hob_diag *diag)
{
    const int code = retire(db, r->hash, diag);
    if (code < 0)
        return code;
    memcpy(r->old_hash, r->hash, sizeof r->old_hash);
    memcpy(r->hash, hash, sizeof r->hash);
    r->old_until_s = old_until_s;
    return hob_key_table_update(db, r, diag);
}

/* ---- reading ---- */

#define SELECT                                                                                     \
    "SELECT " COLUMNS ", created, last_used, keys.id, name "                                       \
    "FROM keys JOIN tenants ON tenants.id = tenant WHERE "

int hob_key_table_find(sqlite3 *db, const char *name, hob_key_record *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code;
    if (sqlite3_prepare_v2(db,
                           SELECT "revoked IS NULL AND (label = ?1 OR CAST (keys.id AS TEXT) = ?1) "
                                  "ORDER BY label = ?1 DESC",
                           -1, &s, NULL) != SQLITE_OK ||
        sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC) != SQLITE_OK)
        code = hob_store_fail(db, diag);
    else {
        const int step = sqlite3_step(s);
        code = step == SQLITE_ROW    ? read_row(s, ret, diag)
               : step == SQLITE_DONE ? hob_fail(diag, HOB_ENOENT,
                                                "no key has the label or the number '%.63s', or it "
                                                "is revoked",
                                                name)
                                     : hob_store_fail(db, diag);
    }
    sqlite3_finalize(s);
    return code;
}

int hob_key_table_has_hash(sqlite3 *db, const uint8_t hash[32], bool *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0, step;
    if (sqlite3_prepare_v2(db,
                           "SELECT 1 FROM keys WHERE hash = ?1 "
                           "UNION ALL SELECT 1 FROM retired WHERE hash = ?1",
                           -1, &s, NULL) != SQLITE_OK ||
        sqlite3_bind_blob(s, 1, hash, 32, SQLITE_STATIC) != SQLITE_OK ||
        ((step = sqlite3_step(s)) != SQLITE_ROW && step != SQLITE_DONE))
        code = hob_store_fail(db, diag);
    else
        *ret = step == SQLITE_ROW;
    sqlite3_finalize(s);
    return code;
}

int hob_key_table_peek(const char *path, const uint8_t hash[32], int64_t now_s, bool *ret,
                       hob_diag *diag)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int code = 0, step;

    if (access(path, F_OK) != 0 && errno == ENOENT)
        return hob_fail(diag, HOB_ENOENT, "%s: %s", path, strerror(errno));
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_busy_timeout(db, PEEK_BUSY_MS) != SQLITE_OK ||
        sqlite3_prepare_v2(db,
                           "SELECT 1 FROM keys WHERE revoked IS NULL "
                           "AND (expires IS NULL OR expires > ?2) "
                           "AND (hash = ?1 OR (old_hash = ?1 AND old_until > ?2))",
                           -1, &s, NULL) != SQLITE_OK ||
        sqlite3_bind_blob(s, 1, hash, 32, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_int64(s, 2, now_s) != SQLITE_OK ||
        ((step = sqlite3_step(s)) != SQLITE_ROW && step != SQLITE_DONE))
        code = hob_fail(diag, HOB_EIO, "%.150s: %.100s", path, db ? sqlite3_errmsg(db) : "memory");
    else
        *ret = step == SQLITE_ROW;
    sqlite3_finalize(s);
    sqlite3_close(db);
    return code;
}

int hob_key_table_has_any(sqlite3 *db, bool *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0, step;
    if (sqlite3_prepare_v2(db, "SELECT 1 FROM keys UNION ALL SELECT 1 FROM retired LIMIT 1", -1, &s,
                           NULL) != SQLITE_OK ||
        ((step = sqlite3_step(s)) != SQLITE_ROW && step != SQLITE_DONE))
        code = hob_store_fail(db, diag);
    else
        *ret = step == SQLITE_ROW;
    sqlite3_finalize(s);
    return code;
}

int hob_key_table_was_revoked(sqlite3 *db, const char *label, bool *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0, step;
    if (sqlite3_prepare_v2(db,
                           "SELECT 1 FROM keys WHERE revoked IS NOT NULL AND label = ?1 "
                           "UNION ALL SELECT 1 FROM retired WHERE label = ?1",
                           -1, &s, NULL) != SQLITE_OK ||
        sqlite3_bind_text(s, 1, label, -1, SQLITE_STATIC) != SQLITE_OK ||
        ((step = sqlite3_step(s)) != SQLITE_ROW && step != SQLITE_DONE))
        code = hob_store_fail(db, diag);
    else
        *ret = step == SQLITE_ROW;
    sqlite3_finalize(s);
    return code;
}

int hob_key_table_each(sqlite3 *db, int64_t after, bool revoked_too, hob_key_visit *visit,
                       void *user, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0, step = SQLITE_DONE;
    if (sqlite3_prepare_v2(db, SELECT "keys.id > ?2 AND (?1 OR revoked IS NULL) ORDER BY keys.id",
                           -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    sqlite3_bind_int(s, 1, revoked_too);
    sqlite3_bind_int64(s, 2, after);
    while (code == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
        hob_key_record r;
        code = read_row(s, &r, diag);
        if (code == 0)
            code = visit(user, &r, diag);
    }
    if (code == 0 && step != SQLITE_DONE)
        code = hob_store_fail(db, diag);
    sqlite3_finalize(s);
    return code;
}

/* ---- the key file ---- */

/* A label is one key's: a second one gets a number. count: of the keys that are there. */
static int add_line(sqlite3 *db, int64_t count, const hob_key_line *line, int64_t now_s,
                    hob_diag *diag)
{
    hob_key_record r = {.priority = line->priority,
                        .admin = line->admin,
                        .all_models = true,
                        .all_collections = true,
                        .created_s = now_s};
    int code = HOB_EINVAL;
    memcpy(r.hash, line->hash, sizeof r.hash);
    memcpy(r.tenant, line->tenant, sizeof r.tenant);
    for (size_t i = 0; i < HOB_LIMITS; i++)
        r.limits[i] = HOB_KEY_LIMIT_DEFAULT;
    for (unsigned n = 1; code == HOB_EINVAL && n <= HOB_KEYS_MAX; n++) {
        char suffix[16] = "";
        if (n > 1)
            snprintf(suffix, sizeof suffix, "-%u", n);
        snprintf(r.label, sizeof r.label, "%.*s%s", (int)(sizeof r.label - 1 - strlen(suffix)),
                 line->label, suffix);
        code = add_to(db, count, &r, diag);
    }
    return code;
}

int hob_key_table_import(sqlite3 *db, const char *path, int64_t now_s, uint32_t *ret_count,
                         hob_diag *diag)
{
    hob_key_file file = {0};
    char taken[PATH_MAX];
    int64_t there = 0;
    uint32_t count = 0;
    int code;

    *ret_count = 0;
    if (!path[0] || (code = hob_key_file_load(path, &file, diag)) == HOB_ENOENT)
        return 0;
    if (code == 0)
        code = hob_store_exec(db, "BEGIN IMMEDIATE", diag);
    if (code < 0)
        goto fail;
    code = count_keys(db, &there, diag);
    for (size_t i = 0; i < file.count && code >= 0; i++) {
        bool known = false;
        code = hob_key_table_has_hash(db, file.list[i].hash, &known, diag);
        if (code == 0 && !known) {
            code = add_line(db, there + count, &file.list[i], now_s, diag);
            count++;
        }
    }
    if (code >= 0)
        code = hob_store_exec(db, "COMMIT", diag);
    if (code < 0) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
        goto fail;
    }
    /* Only now: a crash in between imports it again, and finds every key known. */
    const int n = snprintf(taken, sizeof taken, "%s" HOB_KEY_FILE_TAKEN, path);
    if (n < 0 || (size_t)n >= sizeof taken || rename(path, taken) != 0) {
        code = hob_fail(diag, HOB_EIO,
                        "%.100s: its keys are in the store, but it cannot be renamed: %s", path,
                        strerror(errno));
        goto fail;
    }
    *ret_count = count;
    code = 0;
fail:
    hob_key_file_free(&file);
    return code;
}
