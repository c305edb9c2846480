/* SPDX-License-Identifier: Apache-2.0
 *
 * Commands that show what the running hobd answers to one GET over its admin socket: as text, or with --json as it is. */
#ifndef HOB_DAEMON_CTL_REPORT_H
#define HOB_DAEMON_CTL_REPORT_H

#include <jansson.h>
#include <stdbool.h>

typedef struct hob_report {
    const char *command, *summary, *notes; /* as in hob_syntax */
    const char *path;
    void (*print)(const json_t *answer);
} hob_report;

/* The whole command; returns its exit status. */
int hob_report_run(const hob_report *report, int argc, char **argv);
/* The same for a command that has parsed options of its own; of *report command, path and print count. */
int hob_report_show(const hob_report *report, const char *socket, bool json);

#endif
