/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl chat: talks to a server's model. With a question as argument, or standard input that is
 * not a terminal, it asks once; else it reads questions line by line and keeps the conversation.
 * Answers stream as they are made. Ctrl-C ends an answer; between answers it ends the program. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/answer.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"

static int ask_once(const hob_server *server, const hob_ask_options *o, json_t *messages,
                    hob_diag *diag)
{
    hob_answer a = {0};
    int r = hob_ask(server, o, messages, &a, diag);
    if (!o->json && a.len)
        putchar('\n');
    if (r >= 0 && o->json) {
        json_t *usage = a.usage ? json_incref(a.usage) : json_null();
        r = hob_json_print(json_pack("{s:o,s:s,s:o}", "text",
                                     json_stringn(a.text ? a.text : "", a.len), "finish_reason",
                                     a.finish_reason, "usage", usage),
                           diag);
    }
    hob_answer_free(&a);
    return r;
}

/* Back to the state of a new conversation. */
static int begin(const hob_ask_options *o, json_t *messages, hob_diag *diag)
{
    json_array_clear(messages);
    return o->system ? hob_add_message(messages, "system", o->system, strlen(o->system), diag) : 0;
}

/* Reads questions from the terminal until its end. Only a lack of memory ends it early: a failed
 * answer is told, and the question taken back, so that the person can ask again. */
static int converse(const hob_server *server, const hob_ask_options *o, json_t *messages,
                    hob_diag *diag)
{
    char *line = NULL;
    size_t capacity = 0;
    int r = 0;
    printf("Talking to %s port %u. /clear forgets the conversation, /quit or Ctrl-D ends.\n",
           server->host, server->port);
    while (r >= 0) {
        printf("> ");
        fflush(stdout);
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0) {
            putchar('\n');
            break;
        }
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
            n--;
        line[n] = 0;
        if (n == 0)
            continue;
        if (strcmp(line, "/quit") == 0)
            break;
        if (strcmp(line, "/clear") == 0) {
            r = begin(o, messages, diag);
            continue;
        }
        if (line[0] == '/') {
            printf("unknown command; allowed: /clear /quit\n");
            continue;
        }
        r = hob_add_message(messages, "user", line, (size_t)n, diag);
        if (r < 0) {
            fprintf(stderr, "hobctl chat: %s\n", diag->text);
            r = r == HOB_EINVAL ? 0 : r;
            continue;
        }
        hob_answer a = {0};
        int asked = hob_ask(server, o, messages, &a, diag);
        putchar('\n');
        if (asked < 0 && !(asked == HOB_ECANCELED && a.len)) {
            fprintf(stderr, "hobctl chat: %s\n", diag->text);
            json_array_remove(messages, json_array_size(messages) - 1);
        } else {
            r = hob_add_message(messages, "assistant", a.text ? a.text : "", a.len, diag);
        }
        hob_answer_free(&a);
    }
    free(line);
    return r;
}

int hob_ctl_chat(int argc, char **argv)
{
    hob_server_options where = {0};
    hob_ask_options o = {.model = "default", .temperature = -1};
    uint64_t no_seed = UINT64_MAX, seed = no_seed;
    const hob_option options[] = {
        HOB_SERVER_OPTIONS(&where),
        HOB_TEXT("--model", "NAME", &o.model,
                 "one of `hobctl models` (default: the server's default)"),
        HOB_TEXT("--system", "TEXT", &o.system, "a system message in front"),
        HOB_U32("--max-tokens", &o.max_tokens, 1, 1 << 20, "of an answer (default: the server's)"),
        HOB_NUMBER("--temperature", &o.temperature, 0, 2,
                   "0: the likeliest token (default: the server's)"),
        HOB_U64("--seed", &seed, "the same seed gives the same answer (default: by chance)"),
        HOB_FLAG("--json", &o.json,
                 "print {\"text\", \"finish_reason\", \"usage\"} at the end; one question only"),
    };
    const hob_syntax syntax = {
        .command = "chat",
        .summary = "Talks to the server's model.",
        .positional = "[QUESTION...]",
        .notes = "Without a question it reads one from standard input, or, on a terminal, many.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int words = 0;
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &words);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    o.has_seed = seed != no_seed;
    o.seed = seed;
    if (o.has_seed && seed > INT64_MAX) {
        fprintf(stderr, "hobctl chat: --seed: allowed: 0 to %lld\n", (long long)INT64_MAX);
        return HOB_EXIT_USAGE;
    }

    hob_diag diag = {""};
    hob_server server;
    json_t *messages = json_array();
    int r = messages ? hob_server_find(&where, &server, &diag)
                     : hob_fail(&diag, HOB_ENOMEM, "no memory");
    if (r < 0)
        goto fail;
    r = begin(&o, messages, &diag);
    if (r < 0)
        goto fail;
    if (words == 0 && isatty(STDIN_FILENO) && !o.json) {
        r = converse(&server, &o, messages, &diag);
        goto fail;
    }
    r = hob_add_question(messages, argv + 1, words, &diag);
    if (r >= 0)
        r = ask_once(&server, &o, messages, &diag);
fail:
    json_decref(messages);
    if (r == HOB_ECANCELED)
        return HOB_EXIT_INTERRUPTED;
    return r < 0 ? hob_ctl_failed("chat", &diag) : HOB_EXIT_OK;
}
