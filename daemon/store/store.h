/* SPDX-License-Identifier: Apache-2.0
 *
 * The SQLite file and its two threads: `store`, the only writer, and `search`, which reads on a connection of its own.
 * Whoever wants something of it posts a job: `run` works on the database in one of these threads, inside a transaction of its
 * own, which for a writer is durable before anybody hears of it; `done` runs in the thread that collects, to which a job thus
 * returns. The jobs of a thread run in the order in which they were posted.
 *
 * schema.h says what is in the file. It is locked (flock) as long as the store is open: one hob a file. */
#ifndef HOB_DAEMON_STORE_STORE_H
#define HOB_DAEMON_STORE_STORE_H

#include "hal/base.h"

#include <sqlite3.h>

typedef struct hob_store hob_store;
typedef struct hob_store_job hob_store_job;

struct hob_store_job { /* the first member of what the poster allocates */
    /* Thread: store, or search. A negative result, with the diagnosis filled, undoes what it did. */
    int (*run)(sqlite3 *db, hob_store_job *j, hob_diag *diag);
    /* Thread: of hob_store_collect. The job is the poster's again. */
    void (*done)(hob_store_job *j);
    bool bare;            /* writers: outside of a transaction */
    uint64_t deadline_us; /* of a reader, on hob_now_us's clock: HOB_ECANCELED after it; 0: none */
    int code;             /* of run, or of what kept it from beginning or from becoming durable */
    hob_diag diag;
    hob_store_job *next;
};

/* Opens the file, created 0600, and brings its schema up to date. HOB_EIO; HOB_EFORMAT: not a store of hob's, or damaged;
 * HOB_EUNSUPPORTED: of a newer hob; HOB_ELIMIT: another process has it open. Blocks on the file system. */
HOB_MUST_CHECK int hob_store_open(const char *path, hob_store **ret, hob_diag *diag);
/* The database, before hob_store_start. */
sqlite3 *hob_store_database(hob_store *s);
/* Starts the threads. wake is called from either when there is something to collect. */
HOB_MUST_CHECK int hob_store_start(hob_store *s, void (*wake)(void *user), void *user,
                                   hob_diag *diag);
void hob_store_post(hob_store *s, hob_store_job *j); /* writes */
void hob_store_read(hob_store *s, hob_store_job *j); /* reads what is committed when it runs */
/* Calls done for each job that has run. */
void hob_store_collect(hob_store *s);
/* Runs what was posted, collects it, ends the threads, closes the file. NULL is fine. Blocks. */
void hob_store_close(hob_store *s);

/* The lock of the store at path, for those who work on the file itself. *ret is closed by the caller, which releases it, when
 * SQLite has closed the file. HOB_ELIMIT: it is taken; HOB_ENOENT; HOB_EIO. */
HOB_MUST_CHECK int hob_store_lock(const char *path, bool create, int *ret, hob_diag *diag);

/* For those who work on the database. fail: what SQLite says, as HOB_EFORMAT (damage), HOB_ENOMEM, HOB_ENOSPC, HOB_ECANCELED
 * (a deadline) or HOB_EIO. */
int hob_store_fail(sqlite3 *db, hob_diag *diag);
HOB_MUST_CHECK int hob_store_exec(sqlite3 *db, const char *sql, hob_diag *diag);
/* Whether `bytes` more of documents would leave the disk the room that keys, usage and deletions need: 0, or HOB_ENOSPC. */
HOB_MUST_CHECK int hob_store_check_room(sqlite3 *db, uint64_t bytes, hob_diag *diag);

#endif
