/* SPDX-License-Identifier: Apache-2.0
 *
 * The SQLite file and thread `store`, its only writer. Whoever wants something of it posts a job: `run` works on the
 * database in the store's thread, inside a transaction of its own that is durable before anybody hears of it; `done` runs
 * in the thread that collects, to which a job thus returns. Jobs run in the order in which they were posted.
 *
 * The file has an application id and a schema version. An older one is brought up to date, step by step, when it is
 * opened; a newer one, or another program's, or a damaged one is refused. */
#ifndef HOB_DAEMON_STORE_STORE_H
#define HOB_DAEMON_STORE_STORE_H

#include "hal/base.h"

#include <sqlite3.h>

typedef struct hob_store hob_store;
typedef struct hob_store_job hob_store_job;

struct hob_store_job { /* the first member of what the poster allocates */
    /* Thread: store. A negative result, with the diagnosis filled, undoes what it did. */
    int (*run)(sqlite3 *db, hob_store_job *j, hob_diag *diag);
    /* Thread: of hob_store_collect. The job is the poster's again. */
    void (*done)(hob_store_job *j);
    int code; /* of run, or HOB_EIO when it could not be made durable */
    hob_diag diag;
    hob_store_job *next;
};

/* Opens the file, created 0600, and brings its schema up to date. HOB_EIO; HOB_EFORMAT: not a store of hob's, or damaged;
 * HOB_EUNSUPPORTED: of a newer hob. Blocks on the file system. */
HOB_MUST_CHECK int hob_store_open(const char *path, hob_store **ret, hob_diag *diag);
/* The database, before hob_store_start. */
sqlite3 *hob_store_database(hob_store *s);
/* Starts the thread. wake is called from it when there is something to collect. */
HOB_MUST_CHECK int hob_store_start(hob_store *s, void (*wake)(void *user), void *user,
                                   hob_diag *diag);
void hob_store_post(hob_store *s, hob_store_job *j);
/* Calls done for each job that has run. */
void hob_store_collect(hob_store *s);
/* Runs what was posted, collects it, ends the thread, closes the file. NULL is fine. Blocks. */
void hob_store_close(hob_store *s);

/* For those who work on the database. fail: what SQLite says, as HOB_EFORMAT (damage), HOB_ENOMEM or HOB_EIO. */
int hob_store_fail(sqlite3 *db, hob_diag *diag);
HOB_MUST_CHECK int hob_store_exec(sqlite3 *db, const char *sql, hob_diag *diag);

#endif
