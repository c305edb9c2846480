/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl chat: talks to a server's model. With a question as argument, or standard input that is
 * not a terminal, it asks once; else it reads questions line by line and keeps the conversation.
 * Answers stream as they are made. Ctrl-C ends an answer; between answers it ends the program. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/sse.h"

typedef struct chat_options {
    const char *model, *system;
    uint32_t max_tokens; /* 0: the server's default */
    double temperature;  /* negative: the server's default */
    uint64_t seed;
    bool has_seed, json;
} chat_options;

typedef struct chat_answer {
    hob_sse sse;
    bool silent, finished;
    char *text;
    size_t len, capacity;
    char finish_reason[32];
    json_t *usage;
    hob_diag diag;
} chat_answer;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void answer_free(chat_answer *a)
{
    hob_sse_free(&a->sse);
    json_decref(a->usage);
    free(a->text);
    memset(a, 0, sizeof *a);
}

static int take_text(chat_answer *a, const char *text, size_t len)
{
    if (a->capacity - a->len < len + 1) {
        size_t wanted = (a->len + len + 1) * 2;
        char *grown = realloc(a->text, wanted);
        if (!grown)
            return hob_fail(&a->diag, HOB_ENOMEM, "no memory for the answer");
        a->text = grown;
        a->capacity = wanted;
    }
    memcpy(a->text + a->len, text, len);
    a->len += len;
    a->text[a->len] = 0;
    if (!a->silent) {
        hob_print_text(stdout, text, len);
        fflush(stdout);
    }
    return 0;
}

/* One event of the stream: a chunk, an error, or [DONE]. */
static int take_event(void *user, const char *data, size_t len)
{
    chat_answer *a = user;
    if (strcmp(data, "[DONE]") == 0) {
        a->finished = true;
        return 0;
    }
    json_t *event = json_loadb(data, len, JSON_ALLOW_NUL, NULL);
    int r = 0;
    json_t *error = json_object_get(event, "error");
    if (!event || error) {
        const char *message = json_string_value(json_object_get(error, "message"));
        r = hob_fail(&a->diag, HOB_EIO, "%.200s",
                     message ? message : "the server sent an event that is not JSON");
    } else {
        json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
        json_t *content = json_object_get(json_object_get(choice, "delta"), "content");
        const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
        json_t *usage = json_object_get(event, "usage");
        if (json_is_string(content))
            r = take_text(a, json_string_value(content), json_string_length(content));
        if (reason)
            snprintf(a->finish_reason, sizeof a->finish_reason, "%s", reason);
        if (json_is_object(usage)) {
            json_decref(a->usage);
            a->usage = json_incref(usage);
        }
    }
    json_decref(event);
    return r;
}

static int take_bytes(void *user, const char *data, size_t len)
{
    chat_answer *a = user;
    return hob_sse_feed(&a->sse, data, len, take_event, a, &a->diag);
}

static char *make_request(const chat_options *o, json_t *messages)
{
    json_t *body = json_pack("{s:s,s:O,s:b,s:{s:b}}", "model", o->model, "messages", messages,
                             "stream", 1, "stream_options", "include_usage", 1);
    bool ok = body != NULL;
    if (ok && o->max_tokens)
        ok = json_object_set_new(body, "max_tokens", json_integer(o->max_tokens)) == 0;
    if (ok && o->temperature >= 0)
        ok = json_object_set_new(body, "temperature", json_real(o->temperature)) == 0;
    if (ok && o->has_seed)
        ok = json_object_set_new(body, "seed", json_integer((json_int_t)o->seed)) == 0;
    char *text = ok ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

static int add_message(json_t *messages, const char *role, const char *text, size_t len,
                       hob_diag *diag)
{
    json_t *content = json_stringn(text, len);
    if (!content)
        return hob_fail(diag, HOB_EINVAL, "the text is not valid UTF-8");
    if (json_array_append_new(messages, json_pack("{s:s,s:o}", "role", role, "content", content)) !=
        0)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the message");
    return 0;
}

/* Asks what messages hold and fills *a, which the caller frees whatever happens. */
static int ask(const hob_server *server, const chat_options *o, json_t *messages, chat_answer *a,
               hob_diag *diag)
{
    a->silent = o->json;
    char *body = make_request(o, messages);
    if (!body)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the request");
    interrupted = 0;
    /* Without SA_RESTART, so that the wait for the network ends; a second Ctrl-C ends the program
     * at once. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND}, before;
    sigaction(SIGINT, &action, &before);
    hob_call call = {.method = "POST",
                     .path = "/v1/chat/completions",
                     .body = body,
                     .body_len = strlen(body),
                     .sink = take_bytes,
                     .user = a,
                     .stop = &interrupted};
    int r = hob_client_call(server, &call, NULL, diag);
    sigaction(SIGINT, &before, NULL);
    free(body);
    if (r < 0 && a->diag.text[0])
        *diag = a->diag; /* what the stream said is more telling than that it ended */
    if (r < 0 && r != HOB_ECANCELED && a->finished)
        r = 0;
    if (r >= 0 && !a->finished)
        r = hob_fail(diag, HOB_EIO, "the stream ended without [DONE]");
    return r;
}

static int ask_once(const hob_server *server, const chat_options *o, json_t *messages,
                    hob_diag *diag)
{
    chat_answer a = {0};
    int r = ask(server, o, messages, &a, diag);
    if (!o->json && a.len)
        putchar('\n');
    if (r >= 0 && o->json) {
        json_t *usage = a.usage ? json_incref(a.usage) : json_null();
        r = hob_json_print(json_pack("{s:o,s:s,s:o}", "text",
                                     json_stringn(a.text ? a.text : "", a.len), "finish_reason",
                                     a.finish_reason, "usage", usage),
                           diag);
    }
    answer_free(&a);
    return r;
}

/* Back to the state of a new conversation. */
static int begin(const chat_options *o, json_t *messages, hob_diag *diag)
{
    json_array_clear(messages);
    return o->system ? add_message(messages, "system", o->system, strlen(o->system), diag) : 0;
}

/* Reads questions from the terminal until its end. Only a lack of memory ends it early: a failed
 * answer is told, and the question taken back, so that the person can ask again. */
static int converse(const hob_server *server, const chat_options *o, json_t *messages,
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
        r = add_message(messages, "user", line, (size_t)n, diag);
        if (r < 0) {
            fprintf(stderr, "hobctl chat: %s\n", diag->text);
            r = r == HOB_EINVAL ? 0 : r;
            continue;
        }
        chat_answer a = {0};
        int asked = ask(server, o, messages, &a, diag);
        putchar('\n');
        if (asked < 0 && !(asked == HOB_ECANCELED && a.len)) {
            fprintf(stderr, "hobctl chat: %s\n", diag->text);
            json_array_remove(messages, json_array_size(messages) - 1);
        } else {
            r = add_message(messages, "assistant", a.text ? a.text : "", a.len, diag);
        }
        answer_free(&a);
    }
    free(line);
    return r;
}

/* The arguments joined by blanks. */
static char *join(char **words, int count)
{
    size_t len = 1;
    for (int i = 0; i < count; i++)
        len += strlen(words[i]) + 1;
    char *text = malloc(len), *at = text;
    if (!text)
        return NULL;
    for (int i = 0; i < count; i++)
        at = stpcpy(stpcpy(at, i ? " " : ""), words[i]);
    *at = 0;
    return text;
}

int hob_ctl_chat(int argc, char **argv)
{
    hob_server_options where = {0};
    chat_options o = {.model = "default", .temperature = -1};
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
    char *question = NULL;
    size_t len = 0;
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
    if (words == 0) {
        r = hob_read_all(NULL, &question, &len, &diag);
    } else {
        question = join(argv + 1, words);
        len = question ? strlen(question) : 0;
        r = question ? 0 : hob_fail(&diag, HOB_ENOMEM, "no memory for the question");
    }
    if (r >= 0)
        r = add_message(messages, "user", question, len, &diag);
    if (r >= 0)
        r = ask_once(&server, &o, messages, &diag);
fail:
    free(question);
    json_decref(messages);
    if (r == HOB_ECANCELED)
        return HOB_EXIT_INTERRUPTED;
    return r < 0 ? hob_ctl_failed("chat", &diag) : HOB_EXIT_OK;
}
