/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's schema and the steps that lead to it. See schema.h. */
#include "daemon/store/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/search_words.h"

enum { APPLICATION_ID = 0x686f6231 }; /* "hob1" */

/* Step i leads from schema version i to i + 1. What is here never changes; a change is a new step. */
static const char *const migrations[] = {
    "CREATE TABLE tenants (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE keys ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),"
    "  old_hash BLOB CHECK (length(old_hash) = 32), old_until INTEGER," /* after a rotation */
    "  label TEXT NOT NULL, tenant INTEGER NOT NULL REFERENCES tenants,"
    "  admin INTEGER NOT NULL, priority INTEGER NOT NULL,"
    "  models TEXT, collections TEXT," /* names between spaces; NULL: all */
    "  created INTEGER NOT NULL, expires INTEGER, last_used INTEGER, revoked INTEGER,"
    "  requests_per_minute INTEGER, tokens_per_minute INTEGER, tokens_per_day INTEGER,"
    "  concurrent_requests INTEGER, max_prompt_tokens INTEGER, max_output_tokens INTEGER,"
    "  patience_ms INTEGER, default_output_tokens INTEGER" /* NULL: as in hob.conf */
    ") STRICT;"
    "CREATE UNIQUE INDEX keys_label ON keys (label) WHERE revoked IS NULL;"
    "CREATE TABLE usage ("
    "  key INTEGER NOT NULL REFERENCES keys, day INTEGER NOT NULL," /* days since 1970, UTC */
    "  requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,"
    "  cached_tokens INTEGER NOT NULL, answer_tokens INTEGER NOT NULL,"
    "  PRIMARY KEY (key, day)"
    ") STRICT, WITHOUT ROWID;",
    /* What no longer is in keys and must not come back: texts that were rotated away, keys that were forgotten. */
    "CREATE TABLE retired ("
    "  hash BLOB PRIMARY KEY NOT NULL CHECK (length(hash) = 32),"
    "  label TEXT" /* of a revoked key */
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX retired_label ON retired (label) WHERE label IS NOT NULL;"
    "INSERT OR IGNORE INTO retired (hash) SELECT old_hash FROM keys WHERE old_hash IS NOT NULL;",
    /* Documents. A file is what was uploaded; a collection is what OpenAI calls a vector store; attachments put files into
     * collections. What was extracted from a file and cut into chunks is a content: files of a tenant that are equal
     * share it. key: that uploaded or made it, which may be forgotten since. States are those of the tables' headers. */
    "ALTER TABLE keys ADD COLUMN stored_mb INTEGER;"
    "CREATE TABLE files ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, public TEXT NOT NULL UNIQUE," /* "file-…" */
    "  tenant INTEGER NOT NULL REFERENCES tenants, key INTEGER NOT NULL,"
    "  name TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,"
    "  sha256 BLOB CHECK (length(sha256) = 32), created INTEGER NOT NULL, state INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX files_tenant ON files (tenant, state, id);"
    "CREATE INDEX files_content ON files (tenant, sha256);"
    "CREATE INDEX files_hidden ON files (state) WHERE state <> 1;"
    "CREATE INDEX files_key ON files (key, state, bytes);"
    "CREATE TABLE file_parts ("
    "  file INTEGER NOT NULL REFERENCES files, part INTEGER NOT NULL, data BLOB NOT NULL,"
    "  PRIMARY KEY (file, part)"
    ") STRICT;"
    "CREATE TABLE collections ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, public TEXT NOT NULL UNIQUE," /* "vs_…" */
    "  tenant INTEGER NOT NULL REFERENCES tenants, key INTEGER NOT NULL,"
    "  name TEXT NOT NULL, metadata TEXT NOT NULL," /* a JSON object */
    "  created INTEGER NOT NULL, last_active INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX collections_tenant ON collections (tenant, id);"
    "CREATE TABLE contents ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, tenant INTEGER NOT NULL REFERENCES tenants,"
    "  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),"
    "  suffix TEXT NOT NULL,"       /* of the file's name: a hint of its format */
    "  extractor INTEGER NOT NULL," /* version of what extracted it */
    "  chunk_tokens INTEGER NOT NULL, overlap_tokens INTEGER NOT NULL,"
    "  state INTEGER NOT NULL, searchable INTEGER NOT NULL,"
    "  model TEXT NOT NULL,"                                 /* of its vectors; '': it has none */
    "  bytes INTEGER NOT NULL, bytes_read INTEGER NOT NULL," /* of the file */
    "  text_bytes INTEGER NOT NULL, vector_bytes INTEGER NOT NULL,"
    "  chunks INTEGER NOT NULL, embedded INTEGER NOT NULL,"
    "  failures INTEGER NOT NULL, error_code TEXT, error TEXT, created INTEGER NOT NULL"
    ") STRICT;"
    "CREATE UNIQUE INDEX contents_same ON contents"
    " (tenant, sha256, suffix, extractor, chunk_tokens, overlap_tokens) WHERE state < 5;"
    "CREATE INDEX contents_state ON contents (state, tenant, id);"
    "CREATE TABLE batches (" /* attachments that were asked for together */
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, public TEXT NOT NULL UNIQUE," /* "vsfb_…" */
    "  collection INTEGER NOT NULL REFERENCES collections, cancelled INTEGER NOT NULL,"
    "  created INTEGER NOT NULL"
    ") STRICT;"
    "CREATE INDEX batches_collection ON batches (collection);"
    "CREATE TABLE attachments ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  collection INTEGER NOT NULL REFERENCES collections, file INTEGER NOT NULL REFERENCES files,"
    "  content INTEGER REFERENCES contents," /* NULL: it was cancelled */
    "  batch INTEGER REFERENCES batches,"
    "  chunk_tokens INTEGER NOT NULL, overlap_tokens INTEGER NOT NULL,"
    "  attributes TEXT NOT NULL, created INTEGER NOT NULL," /* a JSON object */
    "  UNIQUE (collection, file)"
    ") STRICT;"
    "CREATE INDEX attachments_contents ON attachments (collection, content);"
    "CREATE INDEX attachments_content ON attachments (content);"
    "CREATE INDEX attachments_file ON attachments (file);"
    "CREATE INDEX attachments_batch ON attachments (batch) WHERE batch IS NOT NULL;"
    /* A chunk's number holds its content's and its place in it: content_table.h. */
    "CREATE TABLE chunks ("
    "  id INTEGER PRIMARY KEY,"
    "  first_byte INTEGER NOT NULL, end_byte INTEGER NOT NULL, tokens INTEGER NOT NULL,"
    "  heading TEXT NOT NULL, text TEXT NOT NULL"
    ") STRICT;"
    "CREATE TABLE vectors (" /* of chunks: half-precision floats, little endian */
    "  chunk INTEGER PRIMARY KEY, data BLOB NOT NULL"
    ") STRICT;",
    /* Keys whose prompts and answers are logged; what administrators have done. */
    "ALTER TABLE keys ADD COLUMN log_content INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE audit ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"
    "  who TEXT NOT NULL, act TEXT NOT NULL, object TEXT NOT NULL"
    ") STRICT;",
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof *migrations };

/* A file is looked at when it is opened: a small one whole, of a large one these tables. What documents consist of would take
 * minutes, and is checked as it is read. */
enum { WHOLE_MAX = 256 << 20 };
static const char *const checked[] = {"quick_check(tenants)",     "quick_check(keys)",
                                      "quick_check(usage)",       "quick_check(retired)",
                                      "quick_check(files)",       "quick_check(collections)",
                                      "quick_check(audit)",       "quick_check(batches)",
                                      "quick_check(attachments)", "quick_check(contents)"};

static int read_number(sqlite3 *db, const char *sql, int64_t *ret, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db, sql, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        code = hob_store_fail(db, diag);
    else
        *ret = sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    return code;
}

/* ---- opening ---- */

static int migrate(sqlite3 *db, int64_t version, hob_diag *diag)
{
    char pragma[64];
    int code = hob_store_exec(db, "BEGIN IMMEDIATE", diag);
    for (; code == 0 && version < SCHEMA_VERSION; version++)
        code = hob_store_exec(db, migrations[version], diag);
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d; PRAGMA user_version = %d",
             APPLICATION_ID, SCHEMA_VERSION);
    if (code == 0)
        code = hob_store_exec(db, pragma, diag);
    if (code == 0)
        code = hob_store_exec(db, "COMMIT", diag);
    if (code < 0)
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

static int check(sqlite3 *db, const char *how, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    char pragma[64];
    int code = 0;
    snprintf(pragma, sizeof pragma, "PRAGMA %s", how);
    if (sqlite3_prepare_v2(db, pragma, -1, &s, NULL) != SQLITE_OK || sqlite3_step(s) != SQLITE_ROW)
        code = hob_store_fail(db, diag);
    else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0)
        code = hob_fail(diag, HOB_EFORMAT, "it is damaged: %.120s", sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return code;
}

static int check_integrity(sqlite3 *db, hob_diag *diag)
{
    int64_t bytes = 0;
    int code = read_number(
        db, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", &bytes, diag);
    if (code == 0 && bytes <= WHOLE_MAX)
        return check(db, "quick_check(1)", diag);
    for (size_t i = 0; code == 0 && i < sizeof checked / sizeof *checked; i++)
        code = check(db, checked[i], diag);
    return code;
}

/* *ret: the schema version, from 0. */
static int read_version(sqlite3 *db, int64_t *ret, hob_diag *diag)
{
    int64_t version = 0, application = 0, tables = 0;
    int code;

    if ((code = read_number(db, "PRAGMA user_version", &version, diag)) < 0 ||
        (code = read_number(db, "PRAGMA application_id", &application, diag)) < 0 ||
        (code = read_number(db, "SELECT count(*) FROM sqlite_schema", &tables, diag)) < 0)
        return code;
    if (application != APPLICATION_ID && (application != 0 || version != 0 || tables > 0))
        return hob_fail(diag, HOB_EFORMAT, "it is a database of another program");
    if (version > SCHEMA_VERSION || version < 0)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "it was written by a newer hob: schema version %lld, this hob knows %d",
                        (long long)version, SCHEMA_VERSION);
    *ret = version;
    return 0;
}

/* Nothing that a file from outside may define is run, and no call reaches SQLite's own tables. */
static int harden(sqlite3 *db, hob_diag *diag)
{
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    return hob_store_exec(db, "PRAGMA cell_size_check = ON", diag);
}

int hob_schema_open(sqlite3 *db, hob_diag *diag)
{
    int64_t version = 0;
    int code;

    if ((code = read_version(db, &version, diag)) < 0 || (code = harden(db, diag)) < 0 ||
        (code = hob_search_words_register(db, diag)) < 0 ||
        (code = hob_store_exec(db,
                               "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                               "PRAGMA wal_autocheckpoint = 0; PRAGMA foreign_keys = ON",
                               diag)) < 0 ||
        (version < SCHEMA_VERSION && (code = migrate(db, version, diag)) < 0))
        return code;
    return check_integrity(db, diag);
}

int hob_schema_open_reader(sqlite3 *db, hob_diag *diag)
{
    int code = harden(db, diag);
    if (code == 0)
        code = hob_search_words_register(db, diag);
    return code < 0 ? code : hob_store_exec(db, "PRAGMA query_only = ON", diag);
}

/* ---- full-text indexes ---- */

/* Contentless: the text is in chunks once. Letters lose their accents. */
int hob_schema_add_text(sqlite3 *db, uint32_t tenant, hob_diag *diag)
{
    char sql[200];
    snprintf(sql, sizeof sql,
             "CREATE VIRTUAL TABLE IF NOT EXISTS text_%u USING fts5"
             " (heading, text, content='', tokenize='unicode61 remove_diacritics 2')",
             tenant);
    return hob_store_exec(db, sql, diag);
}

/* ---- a file from outside ---- */

/* The numbers of the tenants whose full-text indexes db says that it has, each made in `like`. */
static int copy_texts(sqlite3 *db, sqlite3 *like, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0, step;

    if (sqlite3_prepare_v2(db,
                           "SELECT id FROM tenants WHERE EXISTS"
                           " (SELECT 1 FROM sqlite_schema WHERE name = 'text_' || tenants.id)",
                           -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    while (code == 0 && (step = sqlite3_step(s)) != SQLITE_DONE) {
        const int64_t id = sqlite3_column_int64(s, 0);
        if (step != SQLITE_ROW)
            code = hob_store_fail(db, diag);
        else if (id < 1 || id > UINT32_MAX)
            code = hob_fail(diag, HOB_EFORMAT, "tenant %lld: no such number", (long long)id);
        else
            code = hob_schema_add_text(like, (uint32_t)id, diag);
    }
    sqlite3_finalize(s);
    return code;
}

#define OBJECTS "SELECT name, type, tbl_name, sql FROM sqlite_schema ORDER BY name"

/* As strcmp, with NULL in front. */
static int order(sqlite3_stmt *a, sqlite3_stmt *b, int column)
{
    const char *x = (const char *)sqlite3_column_text(a, column),
               *y = (const char *)sqlite3_column_text(b, column);
    return x && y ? strcmp(x, y) : (x != NULL) - (y != NULL);
}

/* x, y: what the steps of both have said. */
static int compare_row(sqlite3_stmt *a, int x, sqlite3_stmt *b, int y, hob_diag *diag)
{
    if (x < 0 || y < 0 || (x == 0 && y == 0))
        return x < 0 ? x : y;
    const int names = x == 0 ? 1 : y == 0 ? -1 : order(a, b, 0);
    if (names != 0)
        return hob_fail(diag, HOB_EFORMAT, "its schema is not hob's: it %s %.60s",
                        names < 0 ? "has also" : "lacks",
                        (const char *)sqlite3_column_text(names < 0 ? a : b, 0));
    for (int i = 1; i < 4; i++)
        if (order(a, b, i) != 0)
            return hob_fail(diag, HOB_EFORMAT, "its schema is not hob's: %.60s differs",
                            (const char *)sqlite3_column_text(a, 0));
    return 0;
}

static int compare_objects(sqlite3 *db, sqlite3 *like, hob_diag *diag)
{
    sqlite3_stmt *a = NULL, *b = NULL;
    int code, x = 1, y = 1;

    code = hob_sql_prepare(db, OBJECTS, NULL, &a, diag);
    if (code == 0)
        code = hob_sql_prepare(like, OBJECTS, NULL, &b, diag);
    while (code == 0 && (x > 0 || y > 0)) {
        x = x > 0 ? hob_sql_step(a, diag) : x;
        y = y > 0 ? hob_sql_step(b, diag) : y;
        code = compare_row(a, x, b, y, diag);
    }
    sqlite3_finalize(a);
    sqlite3_finalize(b);
    return code;
}

int hob_schema_compare(sqlite3 *db, hob_diag *diag)
{
    sqlite3 *like = NULL;
    int64_t version = 0;
    int code = read_version(db, &version, diag);

    if (code == 0)
        code = harden(db, diag);
    if (code == 0 && version == 0)
        code = hob_fail(diag, HOB_EFORMAT, "it is empty");
    if (code == 0 && sqlite3_open(":memory:", &like) != SQLITE_OK)
        code = hob_fail(diag, HOB_ENOMEM, "no memory");
    for (int64_t i = 0; code == 0 && i < version; i++)
        code = hob_store_exec(like, migrations[i], diag);
    if (code == 0)
        code = copy_texts(db, like, diag);
    if (code == 0)
        code = compare_objects(db, like, diag);
    sqlite3_close(like);
    return code;
}

bool hob_schema_is_current(sqlite3 *db)
{
    int64_t version = 0;
    return read_version(db, &version, NULL) == 0 && version == SCHEMA_VERSION;
}
