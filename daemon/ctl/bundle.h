/* SPDX-License-Identifier: Apache-2.0
 *
 * What the commands of hobctl bundle share. Thread: the command's only one. */
#ifndef HOB_DAEMON_CTL_BUNDLE_H
#define HOB_DAEMON_CTL_BUNDLE_H

#include "daemon/bundle/folder.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/server.h"

#include <jansson.h>

#define HOB_BUNDLE_DIR "/var/lib/hob/bundles"
#define HOB_BUNDLE_KEY "/etc/hob/bundle.pem"

#define HOB_BUNDLE_DIR_OPTION(d_)                                                                  \
    HOB_TEXT("--dir", "DIR", d_, "where bundles are installed (default " HOB_BUNDLE_DIR ")")
#define HOB_BUNDLE_KEY_OPTION(k_)                                                                  \
    HOB_TEXT("--key", "FILE", k_, "public key that is trusted (default " HOB_BUNDLE_KEY ")")

/* How hobd is brought to use what is current: options of install and rollback. */
typedef struct hob_bundle_service {
    const char *restart; /* NULL: see hob_bundle_service_resolve */
    bool no_restart, packages;
    const char *socket;
    uint32_t ready_s;
} hob_bundle_service;

#define HOB_BUNDLE_SERVICE_OPTIONS(s_)                                                             \
    HOB_FLAG("--packages", &(s_)->packages, "install its packages too (dpkg or rpm; root)"),       \
        HOB_TEXT("--restart", "CMD", &(s_)->restart,                                               \
                 "restart hobd so, in a shell (default: systemctl restart hob, with systemd)"),    \
        HOB_FLAG("--no-restart", &(s_)->no_restart, "leave hobd running as it is"),                \
        HOB_U32("--ready-s", &(s_)->ready_s, 1, 86400,                                             \
                "seconds until it has to be ready (default 300)"),                                 \
        HOB_SOCKET_OPTION(&(s_)->socket)

/* Fills in what was not given. HOB_EINVAL: --restart and --no-restart. */
HOB_MUST_CHECK int hob_bundle_service_resolve(hob_bundle_service *s, hob_diag *diag);
/* Has hobd use the current version: installs its packages, if asked, from files that are checked once more, restarts hobd and
 * waits until /readyz of the new process answers 200. HOB_ECANCELED: hobd was not to be restarted, and was not; else what has
 * failed. */
HOB_MUST_CHECK int hob_bundle_service_apply(const hob_bundle_service *s, const hob_bundle_folder *f,
                                            hob_bundle_key *key, hob_diag *diag);

/* Of a terminal's progress line. */
typedef struct hob_bundle_shown {
    uint64_t done, total;
    int percent; /* that was shown last; -1: none was */
} hob_bundle_shown;
void hob_bundle_show(void *user, uint64_t bytes); /* hob_bundle_progress; user: hob_bundle_shown */

/* The end of a command: its result, which is released (NULL after a failure), or what has failed with its name, as a line
 * and with json as an object. Returns the exit status. */
int hob_bundle_end(const char *command, int code, bool json, json_t *result, const hob_diag *diag);

int hob_ctl_bundle_install(int argc, char **argv);
int hob_ctl_bundle_rollback(int argc, char **argv);

#endif
