/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors, the bounds on JSON from outside, and the lists of messages. Fields are in api_fields.c. */
#include "daemon/gateway/api.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/utf8.h"

enum { DEPTH_MAX = 32, MESSAGES_MAX = 4096 };

/* What a client wrote is quoted in errors: a path may hold any bytes, and a cut may fall inside a character. JSON, and a
 * WebSocket's text even more, must be UTF-8. */
static void mend(char *s)
{
    int n;
    for (size_t left = strlen(s); left > 0; s += n, left -= (size_t)n)
        if ((n = hob_utf8_step(s, left)) <= 0) {
            *s = '?';
            n = 1;
        }
}

int hob_api_fail(hob_api_error *e, int status, const char *type, const char *code,
                 const char *param, const char *format, ...)
{
    *e = (hob_api_error){.status = status, .type = type, .code = code};
    if (param)
        snprintf(e->param, sizeof e->param, "%s", param);
    va_list args;
    va_start(args, format);
    vsnprintf(e->message, sizeof e->message, format, args);
    va_end(args);
    mend(e->message);
    mend(e->param);
    return HOB_EINVAL;
}

int hob_api_no_memory(hob_api_error *e)
{
    return hob_api_fail(e, 503, "server_error", "out_of_memory", NULL, "no memory for the request");
}

void hob_api_error_object(hob_text *t, const hob_api_error *e)
{
    hob_text_puts(t, "{\"message\":");
    hob_text_string(t, e->message, strlen(e->message));
    hob_text_format(t, ",\"type\":\"%s\",\"param\":", e->type);
    if (e->param[0])
        hob_text_string(t, e->param, strlen(e->param));
    else
        hob_text_puts(t, "null");
    if (e->code)
        hob_text_format(t, ",\"code\":\"%s\"", e->code);
    else
        hob_text_puts(t, ",\"code\":null");
    if (e->reason)
        hob_text_format(t, ",\"hob_reason\":\"%s\"", e->reason);
    if (e->retry_after_ms)
        hob_text_format(t, ",\"hob_retry_after_ms\":%u", e->retry_after_ms);
    hob_text_puts(t, "}");
}

void hob_api_request_free(hob_api_request *r)
{
    json_decref(r->prepare);
    json_decref(r->more);
    json_decref(r->run);
    json_decref(r->echo);
    json_decref(r->items);
    json_decref(r->retrieval.stores);
    json_decref(r->retrieval.filters);
    json_decref(r->inputs);
    *r = (hob_api_request){0};
}

/* Counts brackets and separators outside strings; jansson checks the grammar afterwards. */
static bool within_bounds(const char *text, size_t len, uint32_t values_max, hob_api_error *e)
{
    uint32_t depth = 0, values = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
            continue;
        }
        if (c == '"')
            in_string = true;
        else if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && depth > 0)
            depth--;
        if (c == ',' || c == '{' || c == '[')
            values++;
        if (depth > DEPTH_MAX) {
            hob_api_bad(e, "invalid_json", NULL, "the body is nested deeper than %d levels",
                        DEPTH_MAX);
            return false;
        }
        if (values > values_max) {
            hob_api_bad(e, "invalid_json", NULL, "the body has more than %u values", values_max);
            return false;
        }
    }
    return true;
}

json_t *hob_api_load(const char *text, size_t len, uint32_t values_max, hob_api_error *e)
{
    json_error_t where;
    if (!within_bounds(text, len, values_max, e))
        return NULL;
    json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (!body) {
        hob_api_bad(e, "invalid_json", NULL, "the body is not valid JSON: line %d, column %d: %s",
                    where.line, where.column, where.text);
        return NULL;
    }
    if (!json_is_object(body)) {
        hob_api_bad(e, "invalid_json", NULL, "the body is not a JSON object");
        json_decref(body);
        return NULL;
    }
    return body;
}

int hob_api_find_model(const hob_conf *conf, const char *name)
{
    if (conf->model_count > 0 && strcmp(name, "default") == 0)
        return 0;
    for (uint32_t i = 0; i < conf->model_count; i++)
        if (strcmp(conf->models[i].name, name) == 0)
            return (int)i;
    return -1;
}

/* Content as one string: a string as it is, or text parts put together with line breaks. */
static json_t *join_content(json_t *content, bool responses, const char *param, hob_api_error *e)
{
    hob_text joined = {0};
    json_t *part, *result = NULL;
    size_t i;

    if (json_is_string(content))
        return json_incref(content);
    if (!json_is_array(content) || json_array_size(content) == 0) {
        hob_api_bad(e, "invalid_type", param, "%s: a string or a list of text parts is needed",
                    param);
        return NULL;
    }
    json_array_foreach(content, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type")), *key;
        json_t *text = json_object_get(part, "text"), *value;
        char at[96];
        snprintf(at, sizeof at, "%s[%zu]", param, i);
        bool is_text =
            type && (responses ? strcmp(type, "input_text") == 0 || strcmp(type, "output_text") == 0
                               : strcmp(type, "text") == 0);
        if (!json_is_object(part) || !type) {
            hob_api_bad(e, "invalid_type", at, "%s: an object with a type is needed", at);
            goto done;
        }
        if (!is_text) {
            hob_api_bad(e, "unsupported_value", at,
                        "%s: content of type '%.40s' is not supported, only text", at, type);
            goto done;
        }
        if (!json_is_string(text)) {
            hob_api_bad(e, "invalid_type", at, "%s.text: a string is needed", at);
            goto done;
        }
        json_object_foreach(part, key, value)
        {
            bool known =
                strcmp(key, "type") == 0 || strcmp(key, "text") == 0 || json_is_null(value) ||
                (responses && (strcmp(key, "annotations") == 0 || strcmp(key, "logprobs") == 0));
            if (!known) {
                hob_api_bad(e, "unknown_parameter", at, "%s: unknown field '%.40s'", at, key);
                goto done;
            }
        }
        if (i > 0)
            hob_text_puts(&joined, "\n");
        hob_text_add(&joined, json_string_value(text), json_string_length(text));
    }
    result = joined.failed ? NULL
                           : json_stringn(hob_text_len(&joined) ? hob_text_data(&joined) : "",
                                          hob_text_len(&joined));
    if (!result)
        hob_api_no_memory(e);
done:
    hob_text_free(&joined);
    return result;
}

/* developer is the newer name of system; templates only know the older one. NULL: not a role that hob takes. */
static const char *normal_role(const char *role)
{
    if (!role)
        return NULL;
    if (strcmp(role, "developer") == 0 || strcmp(role, "system") == 0)
        return "system";
    if (strcmp(role, "user") == 0)
        return "user";
    return strcmp(role, "assistant") == 0 ? "assistant" : NULL;
}

/* What clients send back with an assistant's message without asking for anything. */
static bool is_idle_field(const char *key, json_t *value)
{
    if (json_is_null(value))
        return true;
    if (strcmp(key, "tool_calls") == 0)
        return json_is_array(value) && json_array_size(value) == 0;
    return strcmp(key, "annotations") == 0 && json_is_array(value);
}

static int append_message(json_t *list, json_t *message, bool responses, const char *param,
                          hob_api_error *e)
{
    json_t *role = json_object_get(message, "role"), *value;
    const char *key, *name = normal_role(json_string_value(role));
    json_t *id = responses ? json_object_get(message, "id") : NULL;
    char at[96];

    if (!json_is_object(message))
        return hob_api_bad(e, "invalid_type", param, "%s: an object is needed", param);
    if (!json_is_string(role)) {
        snprintf(at, sizeof at, "%s.role", param);
        return hob_api_bad(e, "missing_required_parameter", at, "%s: a role is needed", at);
    }
    if (!name) {
        snprintf(at, sizeof at, "%s.role", param);
        return hob_api_bad(
            e, "invalid_value", at,
            "%s: '%.40s' is not supported; allowed: system, developer, user, assistant", at,
            json_string_value(role));
    }
    json_object_foreach(message, key, value)
    {
        bool known =
            strcmp(key, "role") == 0 || strcmp(key, "content") == 0 || is_idle_field(key, value) ||
            (responses &&
             (strcmp(key, "id") == 0 || strcmp(key, "status") == 0 || strcmp(key, "type") == 0));
        if (!known) {
            snprintf(at, sizeof at, "%s.%.40s", param, key);
            return hob_api_bad(e, "unknown_parameter", at, "%s: unknown or unsupported field", at);
        }
    }
    snprintf(at, sizeof at, "%s.content", param);
    if (!json_object_get(message, "content"))
        return hob_api_bad(e, "missing_required_parameter", at, "%s is needed", at);
    json_t *content = join_content(json_object_get(message, "content"), responses, at, e);
    if (!content)
        return HOB_EINVAL;
    if (responses)
        name = json_string_value(role);
    if (json_is_null(id))
        id = NULL;
    if (id && (!json_is_string(id) || json_string_length(id) == 0 || json_string_length(id) > 64)) {
        json_decref(content);
        snprintf(at, sizeof at, "%s.id", param);
        return hob_api_bad(e, "invalid_value", at, "%s: a string of 1 to 64 bytes is needed", at);
    }
    if (json_array_append_new(
            list, json_pack("{s:s, s:o, s:O*}", "role", name, "content", content, "id", id)) < 0)
        return hob_api_no_memory(e);
    return 0;
}

static json_t *convert_messages(json_t *messages, bool responses, const char *name,
                                hob_api_error *e)
{
    json_t *message, *list = json_array();
    size_t i;

    if (!list) {
        hob_api_no_memory(e);
        return NULL;
    }
    if (!json_is_array(messages) || json_array_size(messages) == 0 ||
        json_array_size(messages) > MESSAGES_MAX) {
        hob_api_bad(e, "invalid_type", name, "%s: a list of 1 to %d messages is needed", name,
                    MESSAGES_MAX);
        goto fail;
    }
    json_array_foreach(messages, i, message)
    {
        char at[64];
        snprintf(at, sizeof at, "%s[%zu]", name, i);
        json_t *type = json_object_get(message, "type");
        if (responses && json_is_string(type) &&
            strcmp(json_string_value(type), "file_search_call") == 0)
            continue; /* of an earlier answer: what it found is looked up anew */
        if (responses && type &&
            (!json_is_string(type) || strcmp(json_string_value(type), "message") != 0)) {
            hob_api_bad(e, "unsupported_value", at, "%s: only items of type message are supported",
                        at);
            goto fail;
        }
        if (append_message(list, message, responses, at, e) < 0)
            goto fail;
    }
    return list;
fail:
    json_decref(list);
    return NULL;
}

json_t *hob_api_chat_messages(json_t *messages, hob_api_error *e)
{
    return convert_messages(messages, false, "messages", e);
}

json_t *hob_api_responses_items(json_t *input, hob_api_error *e)
{
    if (!json_is_string(input))
        return convert_messages(input, true, "input", e);
    json_t *list = json_pack("[{s:s, s:O}]", "role", "user", "content", input);
    if (!list)
        hob_api_no_memory(e);
    return list;
}

json_t *hob_api_responses_prepare(json_t *items, const char *instructions)
{
    json_t *list = json_array(), *item;
    size_t i;

    if (list && instructions && instructions[0] &&
        json_array_append_new(
            list, json_pack("{s:s, s:s}", "role", "system", "content", instructions)) < 0)
        goto fail;
    json_array_foreach(items, i, item)
    {
        const char *role = normal_role(json_string_value(json_object_get(item, "role")));
        if (json_array_append_new(list, json_pack("{s:s, s:O}", "role", role, "content",
                                                  json_object_get(item, "content"))) < 0)
            goto fail;
    }
    return json_pack("{s:o}", "messages", list);
fail:
    json_decref(list);
    return NULL;
}
