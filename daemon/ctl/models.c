/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl models: what the server serves. */
#include <string.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

int hob_ctl_models(int argc, char **argv)
{
    hob_server_options where = {0};
    bool json = false;
    const hob_option options[] = {
        HOB_SERVER_OPTIONS(&where),
        HOB_FLAG("--json", &json, "print the server's answer as it is"),
    };
    const hob_syntax syntax = {.command = "models",
                               .summary = "Lists the models that the server serves.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    hob_server server;
    json_t *answer = NULL;
    hob_call call = {.method = "GET", .path = "/v1/models"};
    int r = hob_server_find(&where, &server, &diag);
    if (r == 0)
        r = hob_client_json(&server, &call, &answer, &diag);
    if (r < 0)
        goto fail;
    json_t *list = json_object_get(answer, "data");
    if (!json_is_array(list)) {
        r = hob_fail(&diag, HOB_EFORMAT, "the server's answer is not a list of models");
        goto fail;
    }
    if (json) {
        r = hob_json_print(json_incref(answer), &diag);
        goto fail;
    }
    size_t i;
    json_t *model;
    json_array_foreach(list, i, model)
    {
        const char *id = json_string_value(json_object_get(model, "id"));
        if (id) {
            hob_print_text(stdout, id, strlen(id));
            putchar('\n');
        }
    }
fail:
    json_decref(answer);
    return r < 0 ? hob_ctl_failed("models", &diag) : HOB_EXIT_OK;
}
