/* SPDX-License-Identifier: Apache-2.0
 *
 * What hobctl doctor finds out about an installation: its configuration, models, certificate, the permissions of what is
 * secret, clock, memory, port and hobd itself, and what to type where something is wrong. Reads only. Thread: the command's
 * only one. */
#ifndef HOB_DAEMON_CTL_INSTALLATION_H
#define HOB_DAEMON_CTL_INSTALLATION_H

#include "hal/select.h"

enum { HOB_FINDINGS_MAX = 64 };

typedef enum hob_finding_state {
    HOB_FINDING_GOOD,
    HOB_FINDING_ADVICE, /* hob works, but could do more */
    HOB_FINDING_WRONG,
} hob_finding_state;

typedef struct hob_finding {
    const char *check; /* "configuration" */
    hob_finding_state state;
    char what[400], mend[400]; /* mend: what to type, or to do; "" where nothing is to be done */
} hob_finding;

typedef struct hob_findings {
    char config[4096];
    uint32_t count;
    hob_finding list[HOB_FINDINGS_MAX];
} hob_findings;

/* Looks at the installation whose configuration that is. choices [count]: the devices of this machine. */
void hob_installation_check(const char *config, const hob_choice *choices, int count,
                            hob_findings *ret);
bool hob_findings_good(const hob_findings *f); /* nothing is wrong */

#endif
