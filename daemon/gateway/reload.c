/* SPDX-License-Identifier: Apache-2.0
 *
 * SIGHUP: hob.conf and the certificates are read again, checked as a whole, and put to use as a whole or not at all. What
 * takes effect at a start only keeps its value and is named in the log. Open connections go on as they are. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "daemon/gateway/state.h"

static void note(hob_gateway *g, uid_t by, const char *how)
{
    hob_audit_entry e = {.time_s = (int64_t)time(NULL)};
    snprintf(e.who, sizeof e.who, "uid:%u", (unsigned)by);
    snprintf(e.act, sizeof e.act, "%s", how);
    snprintf(e.object, sizeof e.object, "%s", g->conf_path);
    hob_audit_note(g, &e);
}

void hob_gateway_reload(hob_gateway *g, uid_t by)
{
    hob_diag diag = {""};
    char names[256];
    hob_conf *next = NULL;

    if (!g->conf_path) {
        hob_log(HOB_LOG_WARN, "SIGHUP: there is no configuration to read again");
        return;
    }
    if (g->draining)
        return;
    if (g->notified) /* else READY is yet to come, and would come too early from here */
        hob_notify(g, "RELOADING");
    if (!(next = malloc(sizeof *next))) { /* too much for a stack */
        hob_log(HOB_LOG_ERROR, "reload refused, everything stays as it was: no memory");
        goto end;
    }
    if (hob_conf_load(g->conf_path, next, &diag) < 0)
        goto refused;
    hob_conf_keep(next, g->conf, names, sizeof names);
    if (hob_conf_check(next, &diag) < 0 || hob_front_open(g, next, &diag) < 0)
        goto refused;
    *g->conf = *next;
    g->metrics.reloads++;
    if (hob_log_open(g->conf->log_level, g->conf->log_format) < 0)
        hob_log(HOB_LOG_ERROR, "log_level %s is unknown", g->conf->log_level);
    if (names[0])
        hob_log(HOB_LOG_WARN, "reload: these take effect at the next start only: %s", names);
    note(g, by, "reload");
    hob_log(HOB_LOG_INFO, "reloaded %s: certificate %s", g->conf_path,
            g->front->certificate.serial);
    goto end;
refused:
    g->metrics.reloads_refused++;
    note(g, by, "reload/refused");
    hob_log(HOB_LOG_ERROR, "reload refused, everything stays as it was: %s", diag.text);
end:
    free(next);
    if (g->notified) /* else, and where it cannot be said now, a tick says it */
        g->notified = hob_notify(g, "READY");
}
