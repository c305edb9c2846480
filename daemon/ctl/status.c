/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl status: how the running hobd is, over its admin socket. */
#include <stdio.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

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
    const char *socket = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_FLAG("--json", &json, "print hobd's answer as it is"),
    };
    const hob_syntax syntax = {.command = "status",
                               .summary = "Says how the running hobd is.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    hob_server server;
    json_t *answer = NULL;
    hob_call call = {.method = "GET", .path = "/hob/v1/admin/status"};
    int r = hob_server_find_socket(socket, &server, &diag);
    if (r == 0)
        r = hob_client_json(&server, &call, &answer, &diag);
    if (r == 0 && json)
        r = hob_json_print(json_incref(answer), &diag);
    else if (r == 0)
        print_status(answer);
    json_decref(answer);
    return r < 0 ? hob_ctl_failed("status", &diag) : HOB_EXIT_OK;
}
