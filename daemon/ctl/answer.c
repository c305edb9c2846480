/* SPDX-License-Identifier: Apache-2.0
 *
 * One streamed answer. See answer.h. */
#include "daemon/ctl/answer.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/offline.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void hob_answer_free(hob_answer *a)
{
    hob_sse_free(&a->sse);
    json_decref(a->usage);
    json_decref(a->annotations);
    json_decref(a->retrieval);
    free(a->text);
    memset(a, 0, sizeof *a);
}

static int take_text(hob_answer *a, const char *text, size_t len)
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

static void keep(json_t **kept, json_t *value)
{
    if (!json_is_object(value) && !json_is_array(value))
        return;
    json_decref(*kept);
    *kept = json_incref(value);
}

/* One event of the stream: a chunk, an error, or [DONE]. */
static int take_event(void *user, const char *data, size_t len)
{
    hob_answer *a = user;
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
        if (json_is_string(content))
            r = take_text(a, json_string_value(content), json_string_length(content));
        if (reason)
            snprintf(a->finish_reason, sizeof a->finish_reason, "%s", reason);
        keep(&a->usage, json_object_get(event, "usage"));
        keep(&a->retrieval, json_object_get(event, "hob_retrieval"));
        keep(&a->annotations, json_object_get(json_object_get(choice, "delta"), "annotations"));
    }
    json_decref(event);
    return r;
}

static int take_bytes(void *user, const char *data, size_t len)
{
    hob_answer *a = user;
    return hob_sse_feed(&a->sse, data, len, take_event, a, &a->diag);
}

static char *make_request(const hob_ask_options *o, json_t *messages)
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
    if (ok && o->store)
        ok = json_object_set_new(body, "hob_retrieval", json_pack("{s:[s]}", "stores", o->store)) ==
             0;
    char *text = ok ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

int hob_add_message(json_t *messages, const char *role, const char *text, size_t len,
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

int hob_ask(const hob_server *server, const hob_ask_options *o, json_t *messages, hob_answer *a,
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

int hob_add_question(json_t *messages, char **words, int count, hob_diag *diag)
{
    size_t len = 0;
    char *text = NULL;
    int r = 0;
    if (count == 0)
        r = hob_read_all(NULL, &text, &len, diag);
    else if (!(text = join(words, count)))
        r = hob_fail(diag, HOB_ENOMEM, "no memory for the question");
    else
        len = strlen(text);
    if (r >= 0)
        r = hob_add_message(messages, "user", text, len, diag);
    free(text);
    return r;
}
