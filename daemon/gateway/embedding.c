/* SPDX-License-Identifier: Apache-2.0
 *
 * From stored chunks to a content that is complete. */
#include "daemon/gateway/ingest.h"

/* Thread: store. */
static int run_complete(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    return hob_content_complete(db, &((hob_place *)j)->content, "", diag);
}

static void complete_done(hob_store_job *j)
{
    hob_place *p = (hob_place *)j;
    if (p->ingest->g->ending)
        return;
    if (j->code < 0)
        hob_place_retry(p, j->code, j->diag.text);
    else
        hob_place_leave(p);
}

void hob_place_embed(hob_place *p)
{
    hob_place_post(p, run_complete, complete_done);
}
