/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's file and its threads. See store.h.
 *
 * Write-ahead logging with synchronous=FULL: a commit is on the disk when it returns. The log is put into the file by the
 * writer alone, between its jobs, and only while the reader is between two of its own: whoever checkpoints and whoever
 * writes are one thread, and no reader's snapshot is ever open meanwhile. (SQLite before 3.51.3 can lose pages when a
 * checkpoint meets another connection's write.) The log's file is kept at its size, so that small changes find their room
 * on a disk that has become full. */
#include "daemon/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/store/schema.h"

enum {
    BUSY_MS = 5000,        /* for another process that holds the file */
    LOG_PAGES = 1000,      /* of the log, before it is put into the file */
    LOG_PAGES_MOST = 8000, /* before the reader has to wait for that */
    READER_STEPS = 20000,  /* of SQLite's machine between two looks at the clock: some 100 us */
    RESERVE_MB = 64,       /* of the disk, for what has to be written at any time, */
    RESERVE_PART = 16,     /* or this part of a small one */
};

typedef struct worker {
    hob_store *store;
    sqlite3 *db;
    pthread_t thread;
    bool started, writes;
    pthread_cond_t posted;
    hob_store_job *waiting, **waiting_end; /* under the store's lock */
    uint64_t deadline_us;                  /* of the job that runs */
} worker;

struct hob_store {
    worker writer, reader;
    int lock_fd, locks;
    pthread_mutex_t lock;
    pthread_mutex_t
        reading; /* held while the reader has a transaction, and while the log is put into the file */
    int log_pages; /* writer only */
    /* Under the lock. */
    hob_store_job *ready, **ready_end;
    bool closing;
    void (*wake)(void *user);
    void *user;
};

/* ---- errors, room ---- */

int hob_store_fail(sqlite3 *db, hob_diag *diag)
{
    const int code = sqlite3_errcode(db) & 0xff, system = sqlite3_system_errno(db);
    const bool full =
        code == SQLITE_FULL || (code == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT));
    if (code == SQLITE_INTERRUPT)
        return hob_fail(diag, HOB_ECANCELED, "the store: it took longer than it may");
    return hob_fail(diag,
                    code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? HOB_EFORMAT
                    : code == SQLITE_NOMEM                          ? HOB_ENOMEM
                    : full                                          ? HOB_ENOSPC
                                                                    : HOB_EIO,
                    "the store: %s", full ? "the disk is full" : sqlite3_errmsg(db));
}

int hob_store_exec(sqlite3 *db, const char *sql, hob_diag *diag)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : hob_store_fail(db, diag);
}

int hob_store_check_room(sqlite3 *db, uint64_t bytes, hob_diag *diag)
{
    const char *path = sqlite3_db_filename(db, "main");
    struct statvfs disk;
    sqlite3_stmt *s = NULL;
    uint64_t spare = 0; /* pages of the file that hold nothing: they are filled first */

    if (sqlite3_prepare_v2(
            db, "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
            -1, &s, NULL) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW)
        spare = (uint64_t)sqlite3_column_int64(s, 0);
    sqlite3_finalize(s);
    if (!path || statvfs(path, &disk) != 0)
        return hob_fail(diag, HOB_EIO, "the store: its disk cannot be asked: %s", strerror(errno));
    const uint64_t unit = disk.f_frsize, room = disk.f_bavail * unit,
                   part = disk.f_blocks * unit / RESERVE_PART, most = (uint64_t)RESERVE_MB << 20,
                   reserve = part < most ? part : most;
    if (room + spare >= reserve && bytes <= room + spare - reserve)
        return 0;
    return hob_fail(diag, HOB_ENOSPC,
                    "the store: the disk is full: %llu MiB are free, %llu of them kept for keys "
                    "and usage",
                    (unsigned long long)((room + spare) >> 20),
                    (unsigned long long)(reserve >> 20));
}

/* ---- opening ---- */

int hob_store_lock(const char *path, bool create, int *ret, hob_diag *diag)
{
    /* It holds hashes of keys and who used what: for the owner alone. The log beside it gets the same mode. */
    const int fd = open(path, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (fd < 0)
        return hob_fail(diag, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%s", strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        close(fd);
        return hob_fail(diag, HOB_ELIMIT, "another process has it open");
    }
    *ret = fd;
    return 0;
}

static int open_connection(const char *path, int flags, sqlite3 **ret, hob_diag *diag)
{
    if (sqlite3_open_v2(path, ret, flags, NULL) != SQLITE_OK)
        return *ret ? hob_store_fail(*ret, diag) : HOB_ENOMEM;
    (void)sqlite3_extended_result_codes(*ret, 0);
    sqlite3_busy_timeout(*ret, BUSY_MS);
    return 0;
}

/* After each commit: how long the log is. */
static int on_log(void *user, sqlite3 *db, const char *name, int pages)
{
    hob_store *s = user;
    (void)db;
    (void)name;
    s->log_pages = pages;
    return SQLITE_OK;
}

static int make_locks(hob_store *s)
{
    if (s->locks == 0 && pthread_mutex_init(&s->lock, NULL) == 0)
        s->locks++;
    if (s->locks == 1 && pthread_mutex_init(&s->reading, NULL) == 0)
        s->locks++;
    if (s->locks == 2 && pthread_cond_init(&s->writer.posted, NULL) == 0)
        s->locks++;
    if (s->locks == 3 && pthread_cond_init(&s->reader.posted, NULL) == 0)
        s->locks++;
    return s->locks == 4 ? 0 : HOB_ENOMEM;
}

int hob_store_open(const char *path, hob_store **ret, hob_diag *diag)
{
    hob_diag why = {"no memory"};
    hob_store *s = calloc(1, sizeof *s);
    int code = HOB_ENOMEM;

    if (!s)
        goto fail;
    s->lock_fd = -1;
    s->ready_end = &s->ready;
    s->writer.waiting_end = &s->writer.waiting;
    s->reader.waiting_end = &s->reader.waiting;
    s->writer.store = s->reader.store = s;
    s->writer.writes = true;
    if (make_locks(s) < 0)
        goto fail;
    code = hob_store_lock(path, true, &s->lock_fd, &why);
    if (code < 0) {
        code = code == HOB_ENOENT ? HOB_EIO : code;
        goto fail;
    }
    if ((code = open_connection(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, &s->writer.db,
                                &why)) < 0 ||
        (code = hob_schema_open(s->writer.db, &why)) < 0 ||
        (code = open_connection(path, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX, &s->reader.db,
                                &why)) < 0 ||
        (code = hob_schema_open_reader(s->reader.db, &why)) < 0)
        goto fail;
    (void)sqlite3_wal_hook(s->writer.db, on_log, s);
    *ret = s;
    return 0;
fail:
    hob_fail(diag, code, "%.100s: %.150s", path, why.text);
    hob_store_close(s);
    return code;
}

sqlite3 *hob_store_database(hob_store *s)
{
    return s->writer.db;
}

/* ---- the threads ---- */

/* Puts the log into the file. One that is not due much waits for the next time when the reader is in the way. A disk that
 * is full keeps the log as it is. Thread: store. */
static void shorten_log(hob_store *s)
{
    if (s->log_pages < LOG_PAGES)
        return;
    if (s->log_pages >= LOG_PAGES_MOST)
        pthread_mutex_lock(&s->reading);
    else if (pthread_mutex_trylock(&s->reading) != 0)
        return;
    if (sqlite3_wal_checkpoint_v2(s->writer.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) ==
        SQLITE_OK)
        s->log_pages = 0;
    pthread_mutex_unlock(&s->reading);
}

/* Thread: of w. */
static void run_job(worker *w, hob_store_job *j)
{
    const char *begin = w->writes ? "BEGIN IMMEDIATE" : "BEGIN";
    if (j->bare) {
        j->code = j->run(w->db, j, &j->diag);
        return;
    }
    j->code = hob_store_exec(w->db, begin, &j->diag);
    if (j->code < 0)
        return;
    j->code = j->run(w->db, j, &j->diag);
    if (j->code >= 0 && sqlite3_exec(w->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        j->code = hob_store_fail(w->db, &j->diag);
    if (j->code < 0 && !sqlite3_get_autocommit(w->db))
        (void)sqlite3_exec(w->db, "ROLLBACK", NULL, NULL, NULL);
}

/* Ends a reader's statement after its deadline. Thread: search. */
static int is_late(void *user)
{
    const worker *w = user;
    return w->deadline_us != 0 && hob_now_us() > w->deadline_us;
}

/* Thread: of w. */
static void serve(worker *w, hob_store_job *j)
{
    hob_store *s = w->store;
    if (w->writes) {
        run_job(w, j);
        shorten_log(s);
        return;
    }
    pthread_mutex_lock(&s->reading);
    w->deadline_us = j->deadline_us;
    run_job(w, j);
    pthread_mutex_unlock(&s->reading);
}

static void *main_loop(void *user)
{
    worker *w = user;
    hob_store *s = w->store;
    hob_store_job *j;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!w->waiting && !s->closing)
            pthread_cond_wait(&w->posted, &s->lock);
        if (!(j = w->waiting))
            break;
        w->waiting = j->next;
        if (!w->waiting)
            w->waiting_end = &w->waiting;
        pthread_mutex_unlock(&s->lock);
        j->next = NULL;
        serve(w, j);
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

static int start(worker *w, const char *name)
{
    if (pthread_create(&w->thread, NULL, main_loop, w) != 0)
        return HOB_ENOMEM;
    (void)pthread_setname_np(w->thread, name);
    w->started = true;
    return 0;
}

int hob_store_start(hob_store *s, void (*wake)(void *user), void *user, hob_diag *diag)
{
    s->wake = wake;
    s->user = user;
    sqlite3_progress_handler(s->reader.db, READER_STEPS, is_late, &s->reader);
    if (start(&s->writer, "store") < 0 || start(&s->reader, "search") < 0)
        return hob_fail(diag, HOB_ENOMEM, "the store's threads cannot start");
    return 0;
}

static void post(worker *w, hob_store_job *j)
{
    hob_store *s = w->store;
    j->code = 0;
    j->diag.text[0] = '\0';
    j->next = NULL;
    pthread_mutex_lock(&s->lock);
    *w->waiting_end = j;
    w->waiting_end = &j->next;
    pthread_cond_signal(&w->posted);
    pthread_mutex_unlock(&s->lock);
}

void hob_store_post(hob_store *s, hob_store_job *j)
{
    post(&s->writer, j);
}

void hob_store_read(hob_store *s, hob_store_job *j)
{
    post(&s->reader, j);
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

static void end_threads(hob_store *s)
{
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_signal(&s->writer.posted);
    pthread_cond_signal(&s->reader.posted);
    pthread_mutex_unlock(&s->lock);
    if (s->writer.started)
        pthread_join(s->writer.thread, NULL);
    if (s->reader.started)
        pthread_join(s->reader.thread, NULL);
    hob_store_collect(s);
}

void hob_store_close(hob_store *s)
{
    if (!s)
        return;
    if (s->writer.started)
        end_threads(s);
    sqlite3_close(s->reader.db);
    sqlite3_close(s->writer.db);
    if (s->locks > 3)
        pthread_cond_destroy(&s->reader.posted);
    if (s->locks > 2)
        pthread_cond_destroy(&s->writer.posted);
    if (s->locks > 1)
        pthread_mutex_destroy(&s->reading);
    if (s->locks > 0)
        pthread_mutex_destroy(&s->lock);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* after SQLite has closed the file: this would undo its own locks */
    free(s);
}
