/* SPDX-License-Identifier: Apache-2.0
 *
 * What is in the store's file: an application id, a schema version, tables. An older file is brought up to date, step by
 * step; a newer one, another program's or a damaged one is refused. Each tenant that has documents has a full-text index of
 * its own, text_N: what one tenant stores changes neither another's ranking nor the time it takes.
 * Thread: the owner's of the connection. */
#ifndef HOB_DAEMON_STORE_SCHEMA_H
#define HOB_DAEMON_STORE_SCHEMA_H

#include "hal/base.h"

#include <sqlite3.h>

/* Checks the file, sets the writing connection up and brings the schema up to date. HOB_EFORMAT: not a store of hob's, or
 * damaged; HOB_EUNSUPPORTED: of a newer hob; HOB_EIO, HOB_ENOSPC. */
HOB_MUST_CHECK int hob_schema_open(sqlite3 *db, hob_diag *diag);
/* The same for a connection that only reads what the writing one has opened. */
HOB_MUST_CHECK int hob_schema_open_reader(sqlite3 *db, hob_diag *diag);
/* The tenant's full-text index, made when it is not there. */
HOB_MUST_CHECK int hob_schema_add_text(sqlite3 *db, uint32_t tenant, hob_diag *diag);
/* Whether all that the file defines is what hob would have defined itself, at its version or an earlier one, and nothing
 * else: for a file from outside. HOB_EFORMAT with the first difference; HOB_EUNSUPPORTED. */
HOB_MUST_CHECK int hob_schema_compare(sqlite3 *db, hob_diag *diag);
/* Whether its schema version is this hob's. */
bool hob_schema_is_current(sqlite3 *db);

#endif
