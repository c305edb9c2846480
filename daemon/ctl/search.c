/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl search: passages of a server's vector store that answer a query. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/documents.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

static void print_text(const json_t *text)
{
    const char *s = json_string_value(text);
    if (s)
        hob_print_text(stdout, s, json_string_length(text));
}

static void print_passages(const json_t *answer)
{
    size_t i, k;
    json_t *one, *part;
    json_array_foreach(json_object_get(answer, "data"), i, one)
    {
        printf("%s%zu. ", i ? "\n" : "", i + 1);
        print_text(json_object_get(one, "filename"));
        printf(" (%.2f, bytes %lld to %lld)", json_number_value(json_object_get(one, "score")),
               hob_json_number(one, "hob_first_byte"), hob_json_number(one, "hob_end_byte"));
        if (json_string_length(json_object_get(one, "hob_heading")) > 0) {
            printf(" ");
            print_text(json_object_get(one, "hob_heading"));
        }
        putchar('\n');
        json_array_foreach(json_object_get(one, "content"), k, part)
        {
            print_text(json_object_get(part, "text"));
            putchar('\n');
        }
    }
    if (json_array_size(json_object_get(answer, "data")) == 0)
        fprintf(stderr, "nothing was found\n");
}

/* The arguments joined by blanks; NULL: not UTF-8, or no memory. */
static json_t *join(char **words, int count)
{
    json_t *text = json_string("");
    for (int i = 0; text && i < count; i++) {
        json_t *longer = json_sprintf("%s%s%s", json_string_value(text), i ? " " : "", words[i]);
        json_decref(text);
        text = longer;
    }
    return text;
}

int hob_ctl_search(int argc, char **argv)
{
    hob_server_options where = {0};
    const char *store_name = "default";
    uint32_t limit = 5;
    double threshold = 0;
    bool json = false;
    const hob_option options[] = {
        HOB_SERVER_OPTIONS(&where), HOB_STORE_OPTION(&store_name),
        HOB_U32("--limit", &limit, 1, 50, "passages at most (5)"),
        HOB_NUMBER("--threshold", &threshold, 0, 1, "score that they have at least (0)"),
        HOB_FLAG("--json", &json, "print the server's answer as it is")};
    const hob_syntax syntax = {.command = "search",
                               .summary = "Finds passages in a vector store of the server.",
                               .positional = "QUERY...",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    int words = 0;
    hob_diag diag = {""};
    hob_server server;
    hob_ctl_collection store;
    char path[200];
    json_t *answer = NULL;
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &words);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    json_t *query = words ? join(argv + 1, words) : NULL;
    if (!query) {
        fprintf(stderr, "hobctl search: a QUERY in UTF-8 is needed (see hobctl search --help)\n");
        return HOB_EXIT_USAGE;
    }
    int r = hob_server_find(&where, &server, &diag);
    if (r == 0)
        r = hob_documents_store(&server, store_name, false, &store, &diag);
    if (r == 0) {
        snprintf(path, sizeof path, "/v1/vector_stores/%s/search", store.id);
        r = hob_documents_call(&server, "POST", path,
                               json_pack("{s:O, s:I, s:{s:f}}", "query", query, "max_num_results",
                                         (json_int_t)limit, "ranking_options", "score_threshold",
                                         threshold),
                               &answer, &diag);
    }
    json_decref(query);
    if (r == 0 && json)
        r = hob_json_print(json_incref(answer), &diag);
    else if (r == 0)
        print_passages(answer);
    json_decref(answer);
    return r < 0 ? hob_ctl_failed("search", &diag) : HOB_EXIT_OK;
}
