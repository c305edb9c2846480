/* SPDX-License-Identifier: Apache-2.0
 *
 * What nobody sees any more, deleted files and unused contents, is removed from the store in small steps, between which
 * other work is done: to overwrite a gigabyte takes its time. */
#ifndef HOB_DAEMON_STORE_SWEEP_H
#define HOB_DAEMON_STORE_SWEEP_H

#include "daemon/store/content_table.h"

typedef struct hob_swept {
    bool more;       /* there is something left to be removed */
    int64_t content; /* that has gone with this step, 0: none */
} hob_swept;

/* One step. Thread: store. */
HOB_MUST_CHECK int hob_sweep(sqlite3 *db, hob_swept *ret, hob_diag *diag);

#endif
