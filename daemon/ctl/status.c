/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl status: how the running hobd is, over its admin socket. */
#include <stdio.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/report.h"

static void print_status(const json_t *s)
{
    size_t i;
    json_t *entry;

    printf("hobd %s, process %lld: %s, up %lld s, %lld connections\n", hob_json_text(s, "version"),
           hob_json_number(s, "pid"), hob_json_text(s, "state"), hob_json_number(s, "uptime_s"),
           hob_json_number(s, "connections"));
    json_array_foreach(json_object_get(s, "listeners"), i, entry)
    {
        printf("listens on %s\n", json_string_value(entry) ? json_string_value(entry) : "?");
    }
    json_array_foreach(json_object_get(s, "models"), i, entry)
    {
        printf("model %s: %s, %lld requests, %lld restarts\n", hob_json_text(entry, "name"),
               hob_json_text(entry, "state"), hob_json_number(entry, "requests"),
               hob_json_number(entry, "restarts"));
    }
}

int hob_ctl_status(int argc, char **argv)
{
    static const hob_report report = {.command = "status",
                                      .summary = "Says how the running hobd is.",
                                      .path = "/hob/v1/admin/status",
                                      .print = print_status};
    return hob_report_run(&report, argc, argv);
}
