/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl models: what the server serves, asked with a key as any client would; and `list`, `load` and `unload` over the
 * admin socket of this machine's hobd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

enum { POLL_US = 200000 };

static int list_served(const hob_server_options *where, bool json, hob_diag *diag)
{
    hob_server server;
    json_t *answer = NULL, *model;
    size_t i;
    hob_call call = {.method = "GET", .path = "/v1/models"};
    int r = hob_server_find(where, &server, diag);
    if (r == 0)
        r = hob_client_json(&server, &call, &answer, diag);
    json_t *list = json_object_get(answer, "data");
    if (r == 0 && !json_is_array(list))
        r = hob_fail(diag, HOB_EFORMAT, "the server's answer is not a list of models");
    if (r == 0 && json)
        r = hob_json_print(json_incref(answer), diag);
    else if (r == 0)
        json_array_foreach(list, i, model)
        {
            const char *id = json_string_value(json_object_get(model, "id"));
            if (id) {
                hob_print_text(stdout, id, strlen(id));
                putchar('\n');
            }
        }
    json_decref(answer);
    return r;
}

/* What hobd says of the model; NULL: it does not know it. */
static json_t *model_of(const json_t *status, const char *name)
{
    size_t i;
    json_t *model;
    json_array_foreach(json_object_get(status, "models"), i, model)
    {
        if (strcmp(hob_json_text(model, "name"), name) == 0)
            return model;
    }
    return NULL;
}

static int list_loaded(const hob_server *server, bool json, hob_diag *diag)
{
    json_t *answer = NULL, *model;
    size_t i;
    hob_call call = {.method = "GET", .path = "/hob/v1/admin/status"};
    int r = hob_client_json(server, &call, &answer, diag);
    if (r == 0 && json)
        r = hob_json_print(json_incref(json_object_get(answer, "models")), diag);
    else if (r == 0)
        json_array_foreach(json_object_get(answer, "models"), i, model)
        {
            printf("%s: %s, %lld requests\n", hob_json_text(model, "name"),
                   hob_json_text(model, "state"), hob_json_number(model, "requests"));
        }
    json_decref(answer);
    return r;
}

/* Asks for it, then waits until it is done. */
static int change(const hob_server *server, const char *name, bool load, bool json, hob_diag *diag)
{
    json_t *body = json_pack("{s:s}", "model", name), *answer = NULL;
    char *text = json_dumps(body, JSON_COMPACT);
    hob_call call = {.method = "POST",
                     .path = load ? "/hob/v1/admin/models/load" : "/hob/v1/admin/models/unload",
                     .body = text,
                     .body_len = text ? strlen(text) : 0};
    int r = text ? hob_client_json(server, &call, &answer, diag)
                 : hob_fail(diag, HOB_EINVAL, "the model's name is not valid UTF-8");
    while (r == 0) {
        json_t *model = model_of(answer, name);
        const char *state = hob_json_text(model, "state");
        if (strcmp(state, load ? "ready" : "unloaded") == 0) {
            if (json)
                r = hob_json_print(json_incref(model), diag);
            else
                printf("%s: %s\n", name, state);
            break;
        }
        if (load ? strcmp(state, "failed") == 0 || strncmp(state, "unload", 6) == 0
                 : strcmp(state, "unloading") != 0) {
            r = hob_fail(diag, HOB_EIO, "%.64s: is %.20s; hobd's log says why", name, state);
            break;
        }
        usleep(POLL_US);
        json_decref(answer);
        answer = NULL;
        call = (hob_call){.method = "GET", .path = "/hob/v1/admin/status"};
        r = hob_client_json(server, &call, &answer, diag);
    }
    json_decref(answer);
    json_decref(body);
    free(text);
    return r;
}

int hob_ctl_models(int argc, char **argv)
{
    hob_server_options where = {0};
    const char *socket = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_SERVER_OPTIONS(&where),
        HOB_SOCKET_OPTION(&socket),
        HOB_FLAG("--json", &json,
                 "print the server's answer as it is; of load and unload, what it says of NAME"),
    };
    const hob_syntax syntax = {
        .command = "models",
        .summary = "Lists the models that the server serves, or loads and unloads those of hobd.",
        .positional = "[list | load NAME | unload NAME]",
        .notes = "list, load and unload go over the admin socket. unload lets running answers end "
                 "first;\n"
                 "requests for the model are refused until it is loaded again.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int words = 0;
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &words);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    hob_server server;
    const bool list = words == 1 && strcmp(argv[1], "list") == 0,
               load = words == 2 && strcmp(argv[1], "load") == 0,
               unload = words == 2 && strcmp(argv[1], "unload") == 0;
    if (words > 0 && !list && !load && !unload) {
        fprintf(stderr, "hobctl models: got \"%s\"; allowed: list, load NAME, unload NAME\n",
                argv[1]);
        return HOB_EXIT_USAGE;
    }
    int r = words == 0 ? list_served(&where, json, &diag)
                       : hob_server_find_socket(socket, &server, &diag);
    if (r == 0 && list)
        r = list_loaded(&server, json, &diag);
    else if (r == 0 && words > 0)
        r = change(&server, argv[2], load, json, &diag);
    return r < 0 ? hob_ctl_failed("models", &diag) : HOB_EXIT_OK;
}
