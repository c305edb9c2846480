/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl keys and hobctl usage: the keys of the running hobd and what they used, over its admin socket. What hobd has
 * confirmed is in effect. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/conf/conf.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

enum { DAY_S = 86400 };

/* ---- asking ---- */

static int ask(const char *socket, const char *method, const char *path, const json_t *fields,
               json_t **ret, hob_diag *diag)
{
    hob_server server;
    char *body = fields ? json_dumps(fields, JSON_COMPACT) : NULL;
    hob_call call = {
        .method = method, .path = path, .body = body, .body_len = body ? strlen(body) : 0};
    int r = fields && !body ? hob_fail(diag, HOB_ENOMEM, "no memory for the request")
                            : hob_server_find_socket(socket, &server, diag);
    if (r == 0)
        r = hob_client_json(&server, &call, ret, diag);
    free(body);
    return r;
}

/* ---- printing ---- */

static void print_time(const json_t *key, const char *name, const char *never)
{
    const time_t at = (time_t)hob_json_number(key, name);
    char text[32] = "?";
    struct tm tm;
    if (at == 0)
        snprintf(text, sizeof text, "%s", never);
    else if (gmtime_r(&at, &tm))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm);
    printf("  %-16s", text);
}

static void print_names(const json_t *key, const char *name)
{
    size_t i;
    json_t *one, *names = json_object_get(key, name);
    if (!json_is_array(names))
        return;
    printf(" %s", name);
    json_array_foreach(names, i, one)
    {
        printf("%c%s", i ? ',' : '=', json_string_value(one) ? json_string_value(one) : "?");
    }
    if (json_array_size(names) == 0)
        printf("=none");
}

static void print_key(const json_t *key)
{
    const char *name;
    json_t *value;
    printf("%4lld  %-20s %-16s %-5s %-11s", hob_json_number(key, "id"), hob_json_text(key, "label"),
           hob_json_text(key, "tenant"), hob_json_text(key, "role"), hob_json_text(key, "class"));
    print_time(key, "created", "?");
    print_time(key, "last_used", "never used");
    if (hob_json_number(key, "revoked"))
        printf(" revoked");
    else if (hob_json_number(key, "expires"))
        printf(hob_json_number(key, "expires") <= (long long)time(NULL) ? " expired"
                                                                        : " expires in %lld d",
               (hob_json_number(key, "expires") - (long long)time(NULL) + DAY_S - 1) / DAY_S);
    if (json_is_true(json_object_get(key, "log_content")))
        printf(" log_content");
    print_names(key, "models");
    print_names(key, "collections");
    json_object_foreach(json_object_get(key, "limits"), name, value)
    {
        if (json_is_integer(value))
            printf(" %s=%lld", name, (long long)json_integer_value(value));
    }
    putchar('\n');
}

/* All pages as one list. */
static int ask_keys(const char *socket, json_t **ret, hob_diag *diag)
{
    json_t *list = json_array(), *page = NULL;
    char path[64] = "/hob/v1/admin/keys";
    bool more = true;
    int r = list ? 0 : hob_fail(diag, HOB_ENOMEM, "no memory for the keys");

    while (more && (r = ask(socket, "GET", path, NULL, &page, diag)) == 0) {
        json_t *keys = json_object_get(page, "data");
        const size_t count = json_array_size(keys);
        more = json_is_true(json_object_get(page, "has_more")) && count > 0;
        snprintf(path, sizeof path, "/hob/v1/admin/keys?after=%lld",
                 hob_json_number(json_array_get(keys, count - 1), "id"));
        if (json_array_extend(list, keys) < 0)
            r = hob_fail(diag, HOB_ENOMEM, "no memory for the keys");
        json_decref(page);
        page = NULL;
        if (r < 0)
            break;
    }
    if (r == 0 && !(*ret = json_pack("{s:s, s:O}", "object", "list", "data", list)))
        r = hob_fail(diag, HOB_ENOMEM, "no memory for the keys");
    json_decref(list);
    return r;
}

static int print_keys(json_t *answer, bool all, bool json, hob_diag *diag)
{
    json_t *list = json_object_get(answer, "data");
    for (size_t i = json_array_size(list); !all && i-- > 0;)
        if (hob_json_number(json_array_get(list, i), "revoked"))
            json_array_remove(list, i);
    if (json)
        return hob_json_print(json_incref(answer), diag);
    printf("%4s  %-20s %-16s %-5s %-11s  %-16s  %-16s\n", "id", "label", "tenant", "role", "class",
           "created (UTC)", "last used (UTC)");
    for (size_t i = 0; i < json_array_size(list); i++)
        print_key(json_array_get(list, i));
    return 0;
}

/* ---- options that describe a key ---- */

typedef struct key_options {
    const char *tenant, *label, *role, *class_name, *models, *collections, *expires, *log_content;
    const char *limits[HOB_LIMITS];
} key_options;

#define KEY_OPTIONS(o_)                                                                            \
    HOB_TEXT("--tenant", "NAME", &(o_)->tenant,                                                    \
             "keys of one tenant share cached prompts and turns (the label)"),                     \
        HOB_CHOICE("--role", &(o_)->role, "user|admin",                                            \
                   "user, or admin, which may administrate over TLS too (user)"),                  \
        HOB_CHOICE("--class", &(o_)->class_name, "interactive|standard|batch",                     \
                   "the best class that requests may choose, and theirs if they choose none "      \
                   "(interactive)"),                                                               \
        HOB_TEXT("--models", "A,B", &(o_)->models, "allowed models, or all (all)"),                \
        HOB_TEXT("--collections", "A,B", &(o_)->collections, "allowed collections, or all (all)"), \
        HOB_CHOICE("--log-content", &(o_)->log_content, "yes|no",                                  \
                   "whether prompts and answers are logged (no)"),                                 \
        HOB_TEXT("--expires-days", "N", &(o_)->expires, "valid for so long, or never (never)"),    \
        LIMIT_OPTION("--requests-per-minute", o_, REQUESTS_PER_MINUTE),                            \
        LIMIT_OPTION("--tokens-per-minute", o_, TOKENS_PER_MINUTE),                                \
        LIMIT_OPTION("--tokens-per-day", o_, TOKENS_PER_DAY),                                      \
        LIMIT_OPTION("--concurrent-requests", o_, CONCURRENT_REQUESTS),                            \
        LIMIT_OPTION("--max-prompt-tokens", o_, MAX_PROMPT_TOKENS),                                \
        LIMIT_OPTION("--max-output-tokens", o_, MAX_OUTPUT_TOKENS),                                \
        LIMIT_OPTION("--patience-ms", o_, PATIENCE_MS),                                            \
        LIMIT_OPTION("--default-output-tokens", o_, DEFAULT_OUTPUT_TOKENS),                        \
        LIMIT_OPTION("--stored-mb", o_, STORED_MB)
#define LIMIT_OPTION(name_, o_, id_)                                                               \
    HOB_TEXT(name_, "N", &(o_)->limits[HOB_LIMIT_##id_], "0: no limit; default: as hob.conf")

/* A whole number; false when text is none. */
static bool read_number(const char *text, long long *ret)
{
    char *end;
    if (*text < '0' || *text > '9' || strlen(text) > 12)
        return false;
    *ret = strtoll(text, &end, 10);
    return *end == '\0';
}

/* NULL: not UTF-8. */
static json_t *names_from(const char *text)
{
    json_t *list;
    if (strcmp(text, "all") == 0)
        return json_null();
    list = json_array();
    for (const char *p = text; *p;) {
        const size_t len = strcspn(p, ",");
        if (len > 0 && json_array_append_new(list, json_stringn(p, len)) < 0) {
            json_decref(list);
            return NULL;
        }
        p += len + (p[len] == ',');
    }
    return list;
}

/* Jansson has refused an argument. */
static int fail_text(const char *command)
{
    fprintf(stderr, "hobctl %s: an argument is not valid UTF-8\n", command);
    return HOB_EXIT_USAGE;
}

/* The options into the request's fields; false with the mistake printed. */
static bool add_fields(json_t *fields, const key_options *o, const char *command)
{
    const char *const texts[] = {o->tenant, o->label, o->role, o->class_name};
    static const char *const names[] = {"tenant", "label", "role", "class"};
    json_t *limits = json_object();
    long long n;
    int bad = 0;

    json_object_set_new(fields, "limits", limits);
    for (size_t i = 0; i < 4; i++)
        if (texts[i])
            bad |= json_object_set_new(fields, names[i], json_string(texts[i]));
    if (o->log_content)
        bad |= json_object_set_new(fields, "log_content",
                                   json_boolean(strcmp(o->log_content, "yes") == 0));
    if (o->models)
        bad |= json_object_set_new(fields, "models", names_from(o->models));
    if (o->collections)
        bad |= json_object_set_new(fields, "collections", names_from(o->collections));
    if (bad) {
        (void)fail_text(command);
        return false;
    }
    if (o->expires && strcmp(o->expires, "never") == 0)
        json_object_set_new(fields, "expires", json_null());
    else if (o->expires && read_number(o->expires, &n) && n > 0 && n < 100000)
        json_object_set_new(fields, "expires", json_integer((json_int_t)time(NULL) + n * DAY_S));
    else if (o->expires) {
        fprintf(stderr, "hobctl %s: --expires-days: got \"%s\", allowed: 1 to 99999, or never\n",
                command, o->expires);
        return false;
    }
    for (int i = 0; i < HOB_LIMITS; i++) {
        const char *text = o->limits[i];
        uint32_t least, most;
        if (!text)
            continue;
        if (strcmp(text, "default") == 0)
            json_object_set_new(limits, hob_limit_name((hob_limit)i), json_null());
        else if (read_number(text, &n) && hob_limit_ok((hob_limit)i, n, &least, &most))
            json_object_set_new(limits, hob_limit_name((hob_limit)i), json_integer(n));
        else {
            (void)hob_limit_ok((hob_limit)i, 0, &least, &most);
            fprintf(stderr, "hobctl %s: %s: got \"%s\", allowed: %u to %u, or default\n", command,
                    hob_limit_name((hob_limit)i), text, least, most);
            return false;
        }
    }
    return true;
}

/* ---- commands ---- */

/* Sends the fields and prints what came back: the secret alone on stdout, so that a script can keep it. */
static int change(const char *command, const char *socket, const char *path, json_t *fields,
                  bool json)
{
    hob_diag diag = {""};
    json_t *answer = NULL;
    if (!fields)
        return fail_text(command);
    int r = ask(socket, "POST", path, fields, &answer, &diag);
    const char *secret = json_string_value(json_object_get(answer, "key"));
    if (r == 0 && json)
        r = hob_json_print(json_incref(answer), &diag);
    else if (r == 0 && secret) {
        fprintf(stderr, "key %lld, %s. It is shown only now:\n", hob_json_number(answer, "id"),
                hob_json_text(answer, "label"));
        puts(secret);
    } else if (r == 0)
        print_key(answer);
    json_decref(answer);
    json_decref(fields);
    return r < 0 ? hob_ctl_failed(command, &diag) : HOB_EXIT_OK;
}

/* The same, with what the options say of the key beside the fields. */
static int change_fields(const char *command, const char *socket, const char *path, json_t *fields,
                         const key_options *o, bool json)
{
    if (fields && !add_fields(fields, o, command)) {
        json_decref(fields);
        return HOB_EXIT_USAGE;
    }
    return change(command, socket, path, fields, json);
}

/* The one positional argument that a command needs. */
static int parse_one(const hob_syntax *syntax, int argc, char **argv, int *ret_status)
{
    int positional = 0;
    const hob_parsed parsed = hob_options_parse(syntax, argc, argv, &positional);
    *ret_status = parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (parsed != HOB_PARSED_RUN)
        return HOB_EINVAL;
    if (positional == 1)
        return 0;
    fprintf(stderr, "hobctl %s: one %s is needed (see hobctl %s --help)\n", syntax->command,
            syntax->positional, syntax->command);
    return HOB_EINVAL;
}

static int keys_add(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    key_options o = {0};
    const hob_option options[] = {HOB_SOCKET_OPTION(&socket), KEY_OPTIONS(&o),
                                  HOB_FLAG("--json", &json, "print hobd's answer as it is")};
    const hob_syntax syntax = {.command = "keys add",
                               .summary = "Makes an API key and shows it, once.",
                               .positional = "LABEL",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    int status;
    if (parse_one(&syntax, argc, argv, &status) < 0)
        return status;
    json_t *fields = json_pack("{s:s}", "label", argv[1]);
    return change_fields("keys add", socket, "/hob/v1/admin/keys/add", fields, &o, json);
}

static int keys_set(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    key_options o = {0};
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket), HOB_TEXT("--label", "NAME", &o.label, "another label"),
        KEY_OPTIONS(&o), HOB_FLAG("--json", &json, "print hobd's answer as it is")};
    const hob_syntax syntax = {.command = "keys set",
                               .summary =
                                   "Changes a key. What is not named stays; defaults in brackets "
                                   "are those of a new key.",
                               .positional = "KEY",
                               .notes = "KEY is a label or a number.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    int status;
    if (parse_one(&syntax, argc, argv, &status) < 0)
        return status;
    json_t *fields = json_pack("{s:s}", "key", argv[1]);
    return change_fields("keys set", socket, "/hob/v1/admin/keys/set", fields, &o, json);
}

static int keys_revoke(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    const hob_option options[] = {HOB_SOCKET_OPTION(&socket),
                                  HOB_FLAG("--json", &json, "print hobd's answer as it is")};
    const hob_syntax syntax = {.command = "keys revoke",
                               .summary = "Ends a key: new requests are refused at once, what runs "
                                          "under it may finish.",
                               .positional = "KEY",
                               .notes = "KEY is a label or a number. There is no way back.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    int status;
    if (parse_one(&syntax, argc, argv, &status) < 0)
        return status;
    return change("keys revoke", socket, "/hob/v1/admin/keys/revoke",
                  json_pack("{s:s}", "key", argv[1]), json);
}

static int keys_rotate(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    uint32_t grace_s = 0;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_U32("--grace", &grace_s, 0, 30 * DAY_S, "seconds for which the old text is good (0)"),
        HOB_FLAG("--json", &json, "print hobd's answer as it is")};
    const hob_syntax syntax = {.command = "keys rotate",
                               .summary = "Gives a key a new text and shows it, once. All else "
                                          "stays: label, limits, usage.",
                               .positional = "KEY",
                               .notes = "KEY is a label or a number. Only the newest text and the "
                                        "one before it are ever good:\na second rotation ends an "
                                        "older one, even within its grace.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    int status;
    if (parse_one(&syntax, argc, argv, &status) < 0)
        return status;
    return change("keys rotate", socket, "/hob/v1/admin/keys/rotate",
                  json_pack("{s:s, s:I}", "key", argv[1], "grace_s", (json_int_t)grace_s), json);
}

static int keys_list(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false, all = false;
    const hob_option options[] = {HOB_SOCKET_OPTION(&socket),
                                  HOB_FLAG("--all", &all, "revoked keys too"),
                                  HOB_FLAG("--json", &json, "print JSON")};
    const hob_syntax syntax = {.command = "keys list",
                               .summary = "Lists the API keys.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    json_t *answer = NULL;
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    int r = ask_keys(socket, &answer, &diag);
    if (r == 0)
        r = print_keys(answer, all, json, &diag);
    json_decref(answer);
    return r < 0 ? hob_ctl_failed("keys list", &diag) : HOB_EXIT_OK;
}

int hob_ctl_keys(int argc, char **argv)
{
    static const struct {
        const char *name, *help;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"add", "makes a key and shows it, once", keys_add}, {"list", "lists the keys", keys_list},
        {"set", "changes what a key may do", keys_set},      {"revoke", "ends a key", keys_revoke},
        {"rotate", "gives a key a new text", keys_rotate},
    };
    const size_t count = sizeof commands / sizeof *commands;
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    const bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    FILE *f = help ? stdout : stderr;
    if (!help && *name)
        fprintf(f,
                "hobctl keys: unknown command \"%s\"; allowed: add list set revoke rotate --help\n",
                name);
    else {
        fprintf(f, "The API keys of the running hobd.\n\nusage: hobctl keys COMMAND [options]\n\n");
        for (size_t i = 0; i < count; i++)
            fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].help);
        fprintf(f, "\nhobctl keys COMMAND --help lists a command's options.\n");
    }
    return help ? HOB_EXIT_OK : HOB_EXIT_USAGE;
}

static void print_usage(const json_t *answer)
{
    size_t i;
    json_t *row;
    long long requests = 0, prompt = 0, cached = 0, tokens = 0;
    printf("%-10s  %-20s %10s %14s %14s %14s\n", "day (UTC)", "key", "requests", "prompt tokens",
           "of those cached", "answer tokens");
    json_array_foreach(json_object_get(answer, "data"), i, row)
    {
        printf("%-10s  %-20s %10lld %14lld %14lld %14lld\n", hob_json_text(row, "day"),
               hob_json_text(row, "label"), hob_json_number(row, "requests"),
               hob_json_number(row, "prompt_tokens"), hob_json_number(row, "cached_tokens"),
               hob_json_number(row, "answer_tokens"));
        requests += hob_json_number(row, "requests");
        prompt += hob_json_number(row, "prompt_tokens");
        cached += hob_json_number(row, "cached_tokens");
        tokens += hob_json_number(row, "answer_tokens");
    }
    printf("%-10s  %-20s %10lld %14lld %14lld %14lld\n", "in all", "", requests, prompt, cached,
           tokens);
}

int hob_ctl_usage(int argc, char **argv)
{
    const char *socket = NULL, *key = NULL;
    uint32_t days = 30;
    bool json = false;
    const hob_option options[] = {HOB_SOCKET_OPTION(&socket),
                                  HOB_TEXT("--key", "KEY", &key, "of one key: label or number"),
                                  HOB_U32("--days", &days, 1, 400, "how many, today included (30)"),
                                  HOB_FLAG("--json", &json, "print hobd's answer as it is")};
    const hob_syntax syntax = {.command = "usage",
                               .summary = "Requests and tokens of each key on each day.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    json_t *answer = NULL;
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    json_t *fields = json_pack("{s:I, s:s*}", "days", (json_int_t)days, "key", key);
    if (!fields)
        return fail_text("usage");
    int r = ask(socket, "POST", "/hob/v1/admin/usage", fields, &answer, &diag);
    if (r == 0 && json)
        r = hob_json_print(json_incref(answer), &diag);
    else if (r == 0)
        print_usage(answer);
    json_decref(fields);
    json_decref(answer);
    return r < 0 ? hob_ctl_failed("usage", &diag) : HOB_EXIT_OK;
}
