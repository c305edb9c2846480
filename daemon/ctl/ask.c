/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl ask: one question, answered from a vector store of the server, with the places that the answer was made from. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/answer.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"

/* "  README.md, bytes 812 to 1203 (score 0.61): Keys, limits, usage" */
static void print_citation(const json_t *c)
{
    const char *name = hob_json_text(c, "filename"), *heading = hob_json_text(c, "hob_heading");
    printf("  ");
    hob_print_text(stdout, name, strlen(name));
    printf(", bytes %lld to %lld (score %.2f)", hob_json_number(c, "hob_first_byte"),
           hob_json_number(c, "hob_end_byte"), json_number_value(json_object_get(c, "hob_score")));
    if (heading[0]) {
        printf(": ");
        hob_print_text(stdout, heading, strlen(heading));
    }
    putchar('\n');
}

static void print_sources(const hob_answer *a, const char *store)
{
    const char *status = hob_json_text(a->retrieval, "status");
    size_t i;
    json_t *one;
    if (json_array_size(a->annotations) == 0) {
        printf("No sources: %s \"%s\".\n",
               strcmp(status, "completed") == 0   ? "nothing relevant was found in the store"
               : strcmp(status, "timed_out") == 0 ? "there was no time to search the store"
                                                  : "the server could not search the store",
               store);
        return;
    }
    printf("Sources:\n");
    json_array_foreach(a->annotations, i, one) print_citation(one);
}

static int print_json(const hob_answer *a, hob_diag *diag)
{
    json_t *none = json_null();
    return hob_json_print(json_pack("{s:o,s:s,s:O,s:O,s:O}", "text",
                                    json_stringn(a->text ? a->text : "", a->len), "finish_reason",
                                    a->finish_reason, "usage", a->usage ? a->usage : none,
                                    "annotations", a->annotations ? a->annotations : none,
                                    "hob_retrieval", a->retrieval ? a->retrieval : none),
                          diag);
}

int hob_ctl_ask(int argc, char **argv)
{
    hob_server_options where = {0};
    hob_ask_options o = {.model = "default", .store = "default", .temperature = 0};
    const hob_option options[] = {
        HOB_SERVER_OPTIONS(&where),
        HOB_TEXT("--store", "STORE", &o.store,
                 "name or id of the vector store (default: \"default\")"),
        HOB_TEXT("--model", "NAME", &o.model,
                 "one of `hobctl models` (default: the server's default)"),
        HOB_U32("--max-tokens", &o.max_tokens, 1, 1 << 20, "of the answer (default: the server's)"),
        HOB_NUMBER("--temperature", &o.temperature, 0, 2, "default: 0, the likeliest token"),
        HOB_FLAG(
            "--json", &o.json,
            "print {\"text\", \"finish_reason\", \"usage\", \"annotations\", \"hob_retrieval\"}"),
    };
    const hob_syntax syntax = {
        .command = "ask",
        .summary = "Answers a question from the documents in a vector store.",
        .positional = "[QUESTION...]",
        .notes = "Without a question it reads one from standard input. Behind the answer stand the "
                 "places that it\nwas made from.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int words = 0;
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &words);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    hob_server server;
    hob_answer a = {0};
    json_t *messages = json_array();
    int r = messages ? hob_server_find(&where, &server, &diag)
                     : hob_fail(&diag, HOB_ENOMEM, "no memory");
    if (r >= 0)
        r = hob_add_question(messages, argv + 1, words, &diag);
    if (r >= 0)
        r = hob_ask(&server, &o, messages, &a, &diag);
    if (!o.json && a.len)
        putchar('\n');
    if (r >= 0 && o.json)
        r = print_json(&a, &diag);
    else if (r >= 0) {
        putchar('\n');
        print_sources(&a, o.store);
    }
    hob_answer_free(&a);
    json_decref(messages);
    if (r == HOB_ECANCELED)
        return HOB_EXIT_INTERRUPTED;
    return r < 0 ? hob_ctl_failed("ask", &diag) : HOB_EXIT_OK;
}
