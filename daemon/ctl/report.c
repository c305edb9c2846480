/* SPDX-License-Identifier: Apache-2.0
 *
 * One GET over the admin socket. See report.h. */
#include "daemon/ctl/report.h"

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

int hob_report_show(const hob_report *report, const char *socket, bool json)
{
    hob_diag diag = {""};
    hob_server server;
    json_t *answer = NULL;
    hob_call call = {.method = "GET", .path = report->path};
    int r = hob_server_find_socket(socket, &server, &diag);
    if (r == 0)
        r = hob_client_json(&server, &call, &answer, &diag);
    if (r == 0 && json)
        r = hob_json_print(json_incref(answer), &diag);
    else if (r == 0)
        report->print(answer);
    json_decref(answer);
    return r < 0 ? hob_ctl_failed(report->command, &diag) : HOB_EXIT_OK;
}

int hob_report_run(const hob_report *report, int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_FLAG("--json", &json, "print hobd's answer as it is"),
    };
    const hob_syntax syntax = {.command = report->command,
                               .summary = report->summary,
                               .notes = report->notes,
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    return hob_report_show(report, socket, json);
}
