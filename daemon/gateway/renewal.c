/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificate, where it is hob's own (conf/pki.h): made at the first start, and renewed while hobd runs, in the store's
 * thread, since that writes files. It is looked at every ten minutes, for its end and for addresses that the machine has
 * got since, and at once when the clock is set: a box without a battery learns the time after its daemons have started.
 * New connections get the new certificate, open ones keep theirs, as with SIGHUP. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/conf/pki.h"
#include "daemon/gateway/state.h"

enum {
    LOOK_US = 600000000,
    CLOCK_SET_S = 60, /* a larger step of the clock than what keeps it right makes */
};

/* What the clock shows, less what has passed since the machine was started. */
static int64_t clock_offset_s(void)
{
    return (int64_t)time(NULL) - (int64_t)(hob_now_us() / 1000000);
}

static bool owns(const hob_gateway *g, char *ret_dir, size_t size)
{
    return !g->conf->plain && hob_pki_owns(g->conf->tls_cert, g->conf->tls_key, ret_dir, size);
}

void hob_renewal_open(hob_gateway *g)
{
    hob_renewal *r = &g->renewal;
    hob_diag diag;

    r->clock_offset_s = clock_offset_s();
    r->next_us = hob_now_us() + LOOK_US;
    if (!owns(g, r->dir, sizeof r->dir))
        return;
    const int code = hob_pki_ensure(r->dir, (int64_t)time(NULL), &diag);
    if (code < 0) /* what is there may serve all the same */
        hob_log(HOB_LOG_ERROR, "certificate: %s", diag.text);
    else if (code > 0)
        hob_log(HOB_LOG_INFO, "made a certificate; clients verify it with %s/ca.pem", r->dir);
}

/* Thread: store. */
static int run(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_renewal *r = (hob_renewal *)j;
    (void)db;
    r->written = hob_pki_ensure(r->dir, (int64_t)time(NULL), diag);
    return r->written < 0 ? r->written : 0;
}

static void done(hob_store_job *j)
{
    hob_renewal *r = (hob_renewal *)j;
    hob_gateway *g = r->g;
    hob_diag diag;

    r->under_way = false;
    if (j->code < 0) {
        hob_log(HOB_LOG_ERROR, "the certificate is not renewed: %s", j->diag.text);
        return;
    }
    r->to_serve |= r->written > 0;
    if (!r->to_serve || g->ending)
        return;
    if (hob_front_open(g, g->conf, &diag) < 0) { /* and again at the next look */
        hob_log(HOB_LOG_ERROR, "the renewed certificate is not served: %s", diag.text);
        return;
    }
    r->to_serve = false;
    hob_audit_entry e = {
        .time_s = (int64_t)time(NULL), .who = "hobd", .act = "certificate/renewed"};
    snprintf(e.object, sizeof e.object, "%s", g->front->certificate.serial);
    hob_audit_note(g, &e);
}

void hob_renewal_tick(hob_gateway *g, uint64_t now_us)
{
    hob_renewal *r = &g->renewal;
    const int64_t offset_s = clock_offset_s(), step_s = offset_s - r->clock_offset_s;

    if (r->under_way || g->draining || !g->store)
        return;
    if (now_us < r->next_us && step_s <= CLOCK_SET_S && step_s >= -CLOCK_SET_S)
        return;
    r->clock_offset_s = offset_s;
    r->next_us = now_us + LOOK_US;
    if (!owns(g, r->dir, sizeof r->dir))
        return;
    r->job = (hob_store_job){.run = run, .done = done, .bare = true};
    r->g = g;
    r->under_way = true;
    hob_store_post(g->store, &r->job);
}
