/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of the store: made while it is written to, checked to the last page, and put in its place again. A copy is one file
 * of its own. One that comes back is not trusted: it may be damaged, or made by somebody else. */
#ifndef HOB_DAEMON_STORE_BACKUP_H
#define HOB_DAEMON_STORE_BACKUP_H

#include "daemon/store/store.h"

typedef struct hob_backup hob_backup;

/* Begins a copy of db to path, which must not be there; created 0600. HOB_EIO. Thread: store, outside of a transaction, as
 * for the next two. */
HOB_MUST_CHECK int hob_backup_begin(sqlite3 *db, const char *path, hob_backup **ret,
                                    hob_diag *diag);
/* Copies some of it, so that other jobs may run in between: what these change is in the copy too. 1: there is more; 0: it is
 * complete and on the disk. HOB_ENOSPC, HOB_EIO. */
HOB_MUST_CHECK int hob_backup_step(hob_backup *b, hob_diag *diag);
/* Removes what is not complete. NULL is fine. */
void hob_backup_free(hob_backup *b);

/* Looks at everything in the store at path, which nobody has open: pages, indexes, references, the schema, full-text indexes
 * against texts, chunks and vectors against what their documents say. Writes nothing that lasts. HOB_EFORMAT with what is
 * wrong; HOB_EUNSUPPORTED, HOB_EIO. Thread: any; takes as long as it takes to read it all. */
HOB_MUST_CHECK int hob_backup_check(const char *path, hob_diag *diag);

/* Checks the copy at `from` and puts it in place of the store at `to`, atomically: a crash leaves the one or the other.
 * What was there stays beside it as TO.before. HOB_ELIMIT: hob is running; HOB_EFORMAT, HOB_EUNSUPPORTED: `from` is no store
 * that this hob can use, with nothing changed; HOB_EIO, HOB_ENOSPC. Blocks. */
HOB_MUST_CHECK int hob_backup_restore(const char *from, const char *to, hob_diag *diag);

#endif
