/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of the store. See backup.h. */
#include "daemon/store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/conf/file.h"
#include "daemon/store/schema.h"
#include "daemon/store/sql.h"

enum {
    STEP_PAGES = 256,           /* a megabyte */
    VALUE_BYTES_MAX = 16 << 20, /* of one value in a store from outside */
    COPY_BYTES = 1 << 20,
};

struct hob_backup {
    sqlite3 *to;
    sqlite3_backup *backup;
    bool complete;
    char path[PATH_MAX];
};

/* ---- making one ---- */

static int open_file(const char *path, int flags, sqlite3 **ret, hob_diag *diag)
{
    if (sqlite3_open_v2(path, ret, flags, NULL) != SQLITE_OK)
        return *ret ? hob_store_fail(*ret, diag) : hob_fail(diag, HOB_ENOMEM, "no memory");
    return 0;
}

int hob_backup_begin(sqlite3 *db, const char *path, hob_backup **ret, hob_diag *diag)
{
    hob_backup *b = calloc(1, sizeof *b);
    int code = HOB_EIO;
    if (!b)
        return hob_fail(diag, HOB_ENOMEM, "no memory");
    const int fd = strlen(path) < sizeof b->path
                       ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                       : -1;
    if (fd < 0) {
        hob_fail(diag, code, "%.150s: %s", path,
                 strerror(strlen(path) < sizeof b->path ? errno : ENAMETOOLONG));
        goto fail;
    }
    close(fd); /* before SQLite locks it: closing would undo that */
    snprintf(b->path, sizeof b->path, "%s", path);
    if ((code = open_file(path, SQLITE_OPEN_READWRITE, &b->to, diag)) < 0)
        goto fail;
    if (!(b->backup = sqlite3_backup_init(b->to, "main", db, "main"))) {
        code = hob_store_fail(b->to, diag);
        goto fail;
    }
    *ret = b;
    return 0;
fail:
    hob_backup_free(b);
    return code;
}

/* A file of its own, without a log beside it. */
static int finish(hob_backup *b, hob_diag *diag)
{
    const int code = sqlite3_backup_finish(b->backup);
    b->backup = NULL;
    if (code != SQLITE_OK)
        return hob_store_fail(b->to, diag);
    const int done = hob_store_exec(b->to, "PRAGMA journal_mode = DELETE", diag);
    b->complete = done == 0;
    return done;
}

int hob_backup_step(hob_backup *b, hob_diag *diag)
{
    const int step = sqlite3_backup_step(b->backup, STEP_PAGES);
    if (step == SQLITE_OK || step == SQLITE_BUSY || step == SQLITE_LOCKED)
        return 1;
    if (step == SQLITE_DONE)
        return finish(b, diag);
    return hob_fail(diag, step == SQLITE_FULL ? HOB_ENOSPC : HOB_EIO, "%.150s: %s", b->path,
                    sqlite3_errstr(step));
}

void hob_backup_free(hob_backup *b)
{
    if (!b)
        return;
    if (b->backup)
        (void)sqlite3_backup_finish(b->backup);
    sqlite3_close(b->to);
    if (!b->complete && b->path[0])
        (void)unlink(b->path);
    free(b);
}

/* ---- checking ---- */

/* Runs a statement whose every row is a complaint; with ok, all but the row "ok". */
static int complain(sqlite3 *db, const char *sql, bool ok, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int step = 0, code = hob_sql_prepare(db, sql, NULL, &s, diag);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0) {
        const char *text = (const char *)sqlite3_column_text(s, 0);
        if (!ok || !text || strcmp(text, "ok") != 0)
            code = hob_fail(diag, HOB_EFORMAT, "it is damaged: %.180s", text ? text : "?");
    }
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}

/* A full-text index: sound in itself, and with a row for each chunk of its tenant and no other. */
static int check_text(sqlite3 *db, int64_t tenant, hob_diag *diag)
{
    static const char rows[] =
        "SELECT 'text_%lld lacks chunk ' || id FROM chunks WHERE id >> 20 IN"
        " (SELECT id FROM contents WHERE tenant = %lld) AND id NOT IN"
        " (SELECT id FROM text_%lld_docsize) UNION ALL"
        " SELECT 'text_%lld has a chunk too many: ' || id FROM text_%lld_docsize WHERE id NOT IN"
        " (SELECT id FROM chunks) LIMIT 1";
    char sql[512];
    const long long n = tenant;
    snprintf(sql, sizeof sql, "INSERT INTO text_%lld (text_%lld) VALUES ('integrity-check')", n, n);
    int code = hob_store_exec(db, sql, diag);
    if (code < 0)
        return hob_fail(diag, HOB_EFORMAT, "it is damaged: the full-text index of tenant %lld", n);
    snprintf(sql, sizeof sql, rows, n, n, n, n, n);
    return complain(db, sql, false, diag);
}

static int check_texts(sqlite3 *db, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int step = 0,
        code = hob_sql_prepare(db,
                               "SELECT id FROM tenants WHERE EXISTS"
                               " (SELECT 1 FROM sqlite_schema WHERE name = 'text_' || tenants.id)",
                               NULL, &s, diag);
    while (code == 0 && (step = hob_sql_step(s, diag)) > 0)
        code = check_text(db, sqlite3_column_int64(s, 0), diag);
    sqlite3_finalize(s);
    return code < 0 ? code : step;
}

static int check_rows(sqlite3 *db, hob_diag *diag)
{
    static const char *const statements[] = {
        "SELECT 'a row of ' || \"table\" || ' names a row of ' || parent || ' that is not there'"
        " FROM pragma_foreign_key_check LIMIT 1",
        "SELECT 'file ' || id || ' has ' || bytes || ' bytes and parts of another length' FROM "
        "files"
        " WHERE state = 1 AND bytes <> (SELECT coalesce(sum(length(data)), 0) FROM file_parts"
        "  WHERE file = files.id) LIMIT 1",
        "SELECT 'content ' || id || ' has a number that none can have' FROM contents"
        " WHERE id < 1 OR id >= 4294967295 LIMIT 1",
        "SELECT 'content ' || id || ' lacks chunks' FROM contents WHERE chunks <>"
        " (SELECT count(*) FROM chunks WHERE chunks.id >= contents.id << 20"
        "  AND chunks.id < (contents.id + 1) << 20) LIMIT 1",
        "SELECT 'content ' || id || ' lacks vectors' FROM contents WHERE embedded > chunks OR"
        " embedded > (SELECT count(*) FROM vectors WHERE chunk >= contents.id << 20"
        "  AND chunk < (contents.id + 1) << 20) LIMIT 1",
        "SELECT 'content ' || id || ' is complete without all its vectors' FROM contents"
        " WHERE state = 3 AND model <> '' AND embedded <> chunks LIMIT 1",
        "SELECT 'chunk ' || id || ' is of no content' FROM chunks"
        " WHERE id >> 20 NOT IN (SELECT id FROM contents) LIMIT 1",
        "SELECT 'chunk ' || id || ' has no text' FROM chunks WHERE text = '' LIMIT 1",
        "SELECT 'vector ' || chunk || ' is of no chunk' FROM vectors"
        " WHERE chunk NOT IN (SELECT id FROM chunks) LIMIT 1",
    };
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof statements / sizeof *statements; i++)
        code = complain(db, statements[i], false, diag);
    return code;
}

/* Whatever is in it, and in whose name. */
static int check(sqlite3 *db, hob_diag *diag)
{
    int code;
    (void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX);
    (void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    if ((code = hob_schema_compare(db, diag)) < 0 ||
        (code = complain(db, "PRAGMA integrity_check(1)", true, diag)) < 0)
        return code;
    /* One of an earlier version lacks tables that the rest names. */
    return hob_schema_is_current(db) && (code = check_rows(db, diag)) == 0 ? check_texts(db, diag)
                                                                           : code;
}

static int check_file(const char *path, hob_diag *diag)
{
    hob_diag why = {""};
    sqlite3 *db = NULL;
    int code = access(path, R_OK | W_OK) == 0
                   ? open_file(path, SQLITE_OPEN_READWRITE, &db, &why)
                   : hob_fail(&why, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%s", strerror(errno));
    if (code == 0)
        code = check(db, &why);
    sqlite3_close(db);
    return code < 0 ? hob_fail(diag, code, "%.100s: %.150s", path, why.text) : 0;
}

int hob_backup_check(const char *path, hob_diag *diag)
{
    hob_diag why = {""};
    int lock, code = hob_store_lock(path, false, &lock, &why);
    if (code < 0)
        return hob_fail(diag, code, "%.100s: %.150s", path, why.text);
    code = check_file(path, diag);
    close(lock);
    return code;
}

/* ---- putting one back ---- */

static int copy_bytes(int from, int to, hob_diag *diag)
{
    static char buffer[COPY_BYTES];
    for (;;) {
        const ssize_t n = read(from, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hob_fail(diag, HOB_EIO, "the copy cannot be read: %s", strerror(errno));
        if (n == 0)
            return fsync(to) == 0 ? 0 : hob_fail(diag, HOB_EIO, "%s", strerror(errno));
        for (ssize_t at = 0; at < n;) {
            const ssize_t m = write(to, buffer + at, (size_t)(n - at));
            if (m < 0 && errno == EINTR)
                continue;
            if (m <= 0)
                return hob_fail(diag, errno == ENOSPC ? HOB_ENOSPC : HOB_EIO,
                                "the store's folder: %s", strerror(errno));
            at += m;
        }
    }
}

static int copy_file(const char *from, const char *to, hob_diag *diag)
{
    struct stat st;
    int code = HOB_EIO;
    const int in = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (in < 0 || fstat(in, &st) != 0 || !S_ISREG(st.st_mode)) {
        hob_fail(diag, code, "%.150s: %s", from, in < 0 ? strerror(errno) : "not a regular file");
        goto fail;
    }
    (void)unlink(to); /* of an attempt that was cut off */
    const int made = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (made < 0) {
        hob_fail(diag, code, "%.150s: %s", to, strerror(errno));
        goto fail;
    }
    code = copy_bytes(in, made, diag);
    close(made);
fail:
    if (in >= 0)
        close(in);
    return code;
}

/* Brought to this hob's schema, in a file without a log. */
static int adopt(const char *path, hob_diag *diag)
{
    sqlite3 *db = NULL;
    int code = open_file(path, SQLITE_OPEN_READWRITE, &db, diag);
    if (code == 0 && (code = hob_schema_open(db, diag)) == 0)
        code = hob_store_exec(db, "PRAGMA journal_mode = DELETE", diag);
    sqlite3_close(db);
    return code;
}

/* What was there gets another name, with its log if it has one; the name `to` is never without a store. */
static int replace(const char *made, const char *to, hob_diag *diag)
{
    static const char *const beside[] = {"-wal", "-shm"};
    char from[PATH_MAX], before[PATH_MAX];
    sqlite3 *db = NULL;

    /* A log that belongs to what was there would be taken for the new one's. Opened once more it is put into its file. */
    if (access(to, F_OK) == 0 && open_file(to, SQLITE_OPEN_READWRITE, &db, NULL) == 0)
        (void)sqlite3_exec(db, "PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
    sqlite3_close(db);
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) { /* of one that is damaged */
        snprintf(from, sizeof from, "%s%s", to, beside[i]);
        snprintf(before, sizeof before, "%s.before%s", to, beside[i]);
        if (rename(from, before) != 0 && errno != ENOENT)
            return hob_fail(diag, HOB_EIO, "%.150s: %s", from, strerror(errno));
    }
    snprintf(before, sizeof before, "%s.before", to);
    (void)unlink(before);
    if (link(to, before) != 0 && errno != ENOENT)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", before, strerror(errno));
    if (rename(made, to) != 0)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", to, strerror(errno));
    return hob_sync_parent(to, diag);
}

int hob_backup_restore(const char *from, const char *to, hob_diag *diag)
{
    char made[PATH_MAX];
    int lock = -1, code;

    if (snprintf(made, sizeof made, "%s.restored", to) >= (int)sizeof made - 8)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", to, strerror(ENAMETOOLONG));
    code = hob_store_lock(to, false, &lock, diag);
    if (code < 0 && code != HOB_ENOENT)
        return code;
    if ((code = copy_file(from, made, diag)) == 0 && (code = check_file(made, diag)) == 0 &&
        (code = adopt(made, diag)) == 0)
        code = replace(made, to, diag);
    (void)unlink(made);
    if (lock >= 0)
        close(lock);
    return code;
}
