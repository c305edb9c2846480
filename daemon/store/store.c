/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's file, its schema, its thread. See store.h.
 *
 * Write-ahead logging with synchronous=FULL: a commit is on the disk when it returns. The log is checkpointed by commits
 * of this thread only. Other processes may read the file meanwhile. */
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    APPLICATION_ID = 0x686f6231, /* "hob1" */
    BUSY_MS = 5000,              /* for another process that holds the file */
};

struct hob_store {
    sqlite3 *db;
    pthread_t thread;
    bool started, locks;
    pthread_mutex_t lock;
    pthread_cond_t posted;
    /* Under the lock. */
    hob_store_job *waiting, **waiting_end, *ready, **ready_end;
    bool closing;
    void (*wake)(void *user);
    void *user;
};

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
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof *migrations };

/* ---- errors ---- */

int hob_store_fail(sqlite3 *db, hob_diag *diag)
{
    const int code = sqlite3_errcode(db) & 0xff;
    return hob_fail(diag,
                    code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? HOB_EFORMAT
                    : code == SQLITE_NOMEM                          ? HOB_ENOMEM
                                                                    : HOB_EIO,
                    "the store: %s", sqlite3_errmsg(db));
}

int hob_store_exec(sqlite3 *db, const char *sql, hob_diag *diag)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : hob_store_fail(db, diag);
}

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

static int check_integrity(sqlite3 *db, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        code = hob_store_fail(db, diag);
    else if (strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0)
        code = hob_fail(diag, HOB_EFORMAT, "it is damaged: %.120s", sqlite3_column_text(s, 0));
    sqlite3_finalize(s);
    return code;
}

static int prepare(sqlite3 *db, hob_diag *diag)
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
    if ((code = check_integrity(db, diag)) < 0 ||
        (code = hob_store_exec(
             db,
             "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
             "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON",
             diag)) < 0)
        return code;
    return version < SCHEMA_VERSION ? migrate(db, version, diag) : 0;
}

int hob_store_open(const char *path, hob_store **ret, hob_diag *diag)
{
    hob_diag why = {"no memory"};
    hob_store *s = calloc(1, sizeof *s);
    int code = HOB_ENOMEM, fd;

    if (!s)
        goto fail;
    s->waiting_end = &s->waiting;
    s->ready_end = &s->ready;
    if (pthread_mutex_init(&s->lock, NULL) != 0)
        goto fail;
    s->locks = pthread_cond_init(&s->posted, NULL) == 0;
    if (!s->locks) {
        pthread_mutex_destroy(&s->lock);
        goto fail;
    }
    /* It holds hashes of keys and who used what: for the owner alone. The log beside it gets the same mode. */
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        code = hob_fail(&why, HOB_EIO, "%s", strerror(errno));
        goto fail;
    }
    close(fd);
    if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL) !=
        SQLITE_OK) {
        code = s->db ? hob_store_fail(s->db, &why) : HOB_ENOMEM;
        goto fail;
    }
    sqlite3_busy_timeout(s->db, BUSY_MS);
    code = prepare(s->db, &why);
    if (code < 0)
        goto fail;
    *ret = s;
    return 0;
fail:
    hob_fail(diag, code, "%.100s: %.150s", path, why.text);
    hob_store_close(s);
    return code;
}

sqlite3 *hob_store_database(hob_store *s)
{
    return s->db;
}

/* ---- the thread ---- */

/* Thread: store. */
static void run_job(hob_store *s, hob_store_job *j)
{
    j->code = hob_store_exec(s->db, "BEGIN IMMEDIATE", &j->diag);
    if (j->code < 0)
        return;
    j->code = j->run(s->db, j, &j->diag);
    if (j->code >= 0 && sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        j->code = hob_store_fail(s->db, &j->diag);
    if (j->code < 0 && !sqlite3_get_autocommit(s->db))
        (void)sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Thread: store. */
static void *main_loop(void *user)
{
    hob_store *s = user;
    hob_store_job *j;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->waiting && !s->closing)
            pthread_cond_wait(&s->posted, &s->lock);
        if (!(j = s->waiting))
            break;
        s->waiting = j->next;
        if (!s->waiting)
            s->waiting_end = &s->waiting;
        pthread_mutex_unlock(&s->lock);
        j->next = NULL;
        run_job(s, j);
        pthread_mutex_lock(&s->lock);
        const bool was_empty = !s->ready;
        *s->ready_end = j;
        s->ready_end = &j->next;
        if (was_empty && !s->closing) /* who closes collects without being told */
            s->wake(s->user);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int hob_store_start(hob_store *s, void (*wake)(void *user), void *user, hob_diag *diag)
{
    s->wake = wake;
    s->user = user;
    if (pthread_create(&s->thread, NULL, main_loop, s) != 0)
        return hob_fail(diag, HOB_ENOMEM, "the store's thread cannot start");
    (void)pthread_setname_np(s->thread, "store");
    s->started = true;
    return 0;
}

void hob_store_post(hob_store *s, hob_store_job *j)
{
    j->code = 0;
    j->diag.text[0] = '\0';
    j->next = NULL;
    pthread_mutex_lock(&s->lock);
    *s->waiting_end = j;
    s->waiting_end = &j->next;
    pthread_cond_signal(&s->posted);
    pthread_mutex_unlock(&s->lock);
}

void hob_store_collect(hob_store *s)
{
    pthread_mutex_lock(&s->lock);
    hob_store_job *j = s->ready;
    s->ready = NULL;
    s->ready_end = &s->ready;
    pthread_mutex_unlock(&s->lock);
    for (hob_store_job *next; j; j = next) {
        next = j->next;
        j->done(j);
    }
}

void hob_store_close(hob_store *s)
{
    if (!s)
        return;
    if (s->started) {
        pthread_mutex_lock(&s->lock);
        s->closing = true;
        pthread_cond_signal(&s->posted);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
        hob_store_collect(s);
    }
    sqlite3_close(s->db);
    if (s->locks) {
        pthread_cond_destroy(&s->posted);
        pthread_mutex_destroy(&s->lock);
    }
    free(s);
}
