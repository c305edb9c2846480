/* SPDX-License-Identifier: Apache-2.0
 *
 * The fields of the three request bodies, but for those of sampling: name, which interfaces take it, who checks it. A field
 * whose value is null counts as absent. What passes without effect is what asks for nothing ("tools": [], "suffix": "");
 * a value that asks for something hob does not do is refused, so that nobody believes that it happened. */
#include "daemon/gateway/api_fields.h"

#include <string.h>

#include "daemon/conf/keys.h"

int hob_field_refuse(hob_parser *p, const char *name, const char *allowed)
{
    return hob_api_bad(p->e, "unsupported_value", name,
                       "%s: this value is not supported; allowed: %s", name, allowed);
}

int hob_field_wrong_type(hob_parser *p, const char *name, const char *needed)
{
    return hob_api_bad(p->e, "invalid_type", name, "%s: %s is needed", name, needed);
}

int hob_field_is_string(hob_parser *p, const char *name, json_t *v, const char **ret)
{
    if (!json_is_string(v))
        return hob_field_wrong_type(p, name, "a string");
    *ret = json_string_value(v);
    return 0;
}

int hob_field_is_bool(hob_parser *p, const char *name, json_t *v, bool *ret)
{
    if (!json_is_boolean(v))
        return hob_field_wrong_type(p, name, "true or false");
    *ret = json_is_true(v);
    return 0;
}

int hob_field_is_integer(hob_parser *p, const char *name, json_t *v, int64_t least, int64_t most,
                         int64_t *ret)
{
    if (!json_is_integer(v))
        return hob_field_wrong_type(p, name, "an integer");
    int64_t n = json_integer_value(v);
    if (n < least || n > most)
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %lld, allowed %lld to %lld", name,
                           (long long)n, (long long)least, (long long)most);
    *ret = n;
    return 0;
}

/* ---- fields that say what is asked ---- */

static int take_model(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    int found = hob_api_find_model(p->conf, text);
    if (found < 0)
        return hob_api_fail(p->e, 404, "invalid_request_error", "model_not_found", "model",
                            "the model '%.100s' does not exist", text);
    p->r->model = (uint32_t)found;
    p->r->model_given = strcmp(text, "default") != 0;
    return 0;
}

static int keep_prepare(hob_parser *p, const char *key, json_t *value)
{
    if (!value)
        return p->e->status ? HOB_EINVAL : hob_api_no_memory(p->e);
    p->r->prepare = json_pack("{s:o}", key, value);
    return p->r->prepare ? 0 : hob_api_no_memory(p->e);
}

static int take_messages(hob_parser *p, const char *name, json_t *v)
{
    (void)name;
    return keep_prepare(p, "messages", hob_api_chat_messages(v, p->e));
}

static int take_input(hob_parser *p, const char *name, json_t *v)
{
    if (!json_is_string(v) && !json_is_array(v))
        return hob_field_wrong_type(p, name, "a string or a list of messages");
    p->r->items = hob_api_responses_items(v, p->e);
    return p->r->items ? 0 : HOB_EINVAL;
}

/* One prompt: text, or token ids. NULL with the error filled. */
static json_t *one_prompt(hob_parser *p, const char *name, json_t *v)
{
    json_t *id, *result;
    size_t i;

    if (!json_is_string(v) && (!json_is_array(v) || json_array_size(v) == 0)) {
        hob_field_wrong_type(p, name, "a string, a list of token ids, or a list of either");
        return NULL;
    }
    json_array_foreach(v, i, id)
    {
        if (json_is_integer(id) && json_integer_value(id) >= 0 &&
            json_integer_value(id) <= INT32_MAX)
            continue;
        hob_api_bad(p->e, "invalid_value", name, "%s: element %zu is no token id", name, i);
        return NULL;
    }
    result = json_pack("{s:O}", json_is_string(v) ? "prompt" : "ids", v);
    if (!result)
        hob_api_no_memory(p->e);
    return result;
}

static int take_prompt(hob_parser *p, const char *name, json_t *v)
{
    const bool several =
        json_is_array(v) && json_array_size(v) > 0 && !json_is_integer(json_array_get(v, 0));
    const size_t count = several ? json_array_size(v) : 1;

    if (count > HOB_CHOICES_MAX)
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: got %zu prompts, at most %d are allowed", name, count,
                           HOB_CHOICES_MAX);
    p->r->prepare = one_prompt(p, name, several ? json_array_get(v, 0) : v);
    if (!p->r->prepare)
        return HOB_EINVAL;
    if (count > 1 && !(p->r->more = json_array()))
        return hob_api_no_memory(p->e);
    for (size_t i = 1; i < count; i++) {
        json_t *prompt = one_prompt(p, name, json_array_get(v, i));
        if (!prompt)
            return HOB_EINVAL;
        if (json_array_append_new(p->r->more, prompt) < 0)
            return hob_api_no_memory(p->e);
    }
    return 0;
}

static int take_instructions(hob_parser *p, const char *name, json_t *v)
{
    const char *text; /* it stays in echo */
    return hob_field_is_string(p, name, v, &text);
}

static int take_max_tokens(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (hob_field_is_integer(p, name, v, 1, 1 << 30, &n) < 0)
        return HOB_EINVAL;
    if (p->r->max_tokens_given && p->r->max_tokens != n)
        return hob_api_bad(p->e, "invalid_value", name,
                           "max_tokens and max_completion_tokens are both given and differ");
    p->r->max_tokens = (uint32_t)n;
    p->r->max_tokens_given = true;
    return 0;
}

static int take_stream(hob_parser *p, const char *name, json_t *v)
{
    return hob_field_is_bool(p, name, v, &p->r->stream);
}

static int take_stream_options(hob_parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    bool flag = false;
    if (!json_is_object(v))
        return hob_field_wrong_type(p, name, "an object");
    json_object_foreach(v, key, value)
    {
        if (json_is_null(value))
            continue;
        if (strcmp(key, "include_usage") == 0 && p->r->kind != HOB_API_RESPONSES) {
            if (hob_field_is_bool(p, "stream_options.include_usage", value, &p->r->include_usage) <
                0)
                return HOB_EINVAL;
        } else if (strcmp(key, "include_obfuscation") == 0) {
            if (hob_field_is_bool(p, "stream_options.include_obfuscation", value, &flag) < 0)
                return HOB_EINVAL;
            if (flag)
                return hob_field_refuse(p, "stream_options.include_obfuscation", "false");
        } else
            return hob_api_bad(p->e, "unknown_parameter", name, "%s: unknown field '%.40s'", name,
                               key);
    }
    return 0;
}

static int take_stream_id(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    if (strlen(text) >= sizeof p->r->stream_id)
        return hob_api_bad(p->e, "invalid_value", name, "%s: at most %zu bytes are allowed", name,
                           sizeof p->r->stream_id - 1);
    strcpy(p->r->stream_id, text);
    p->r->has_stream_id = true;
    return 0;
}

static int take_class(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    const int priority = hob_class_find(text);
    if (priority < 0)
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: got '%.40s', allowed interactive, standard, batch", name, text);
    p->r->priority = (uint8_t)priority;
    p->r->class_given = true;
    return 0;
}

/* ---- how many answers, and what comes beside them ---- */

static int take_n(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (hob_field_is_integer(p, name, v, 1, HOB_N_MAX, &n) < 0)
        return HOB_EINVAL;
    p->r->n = (uint32_t)n;
    return 0;
}

static int take_queue_events(hob_parser *p, const char *name, json_t *v)
{
    return hob_field_is_bool(p, name, v, &p->r->queue_events);
}

/* ---- what becomes of a response ---- */

static int take_store(hob_parser *p, const char *name, json_t *v)
{
    return hob_field_is_bool(p, name, v, &p->r->store);
}

static int take_background(hob_parser *p, const char *name, json_t *v)
{
    if (hob_field_is_bool(p, name, v, &p->r->background) < 0)
        return HOB_EINVAL;
    return p->r->background && p->websocket ? hob_field_refuse(p, name, "false over WebSocket") : 0;
}

static int take_previous(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    if (text[0] == '\0' || strlen(text) >= sizeof p->r->previous)
        return hob_api_bad(p->e, "invalid_value", name, "%s: 1 to %zu bytes are allowed", name,
                           sizeof p->r->previous - 1);
    strcpy(p->r->previous, text);
    return 0;
}

/* ---- values that ask for nothing ---- */

/* The best of as many as are returned are all of them. */
static int only_n(hob_parser *p, const char *name, json_t *v)
{
    json_t *n = json_object_get(p->body, "n");
    const json_int_t asked = json_is_integer(n) ? json_integer_value(n) : 1;
    return json_is_integer(v) && json_integer_value(v) == asked
               ? 0
               : hob_field_refuse(p, name, "the value of n");
}
static int only_false(hob_parser *p, const char *name, json_t *v)
{
    return json_is_false(v) ? 0 : hob_field_refuse(p, name, "false");
}
static int only_true(hob_parser *p, const char *name, json_t *v)
{
    return json_is_true(v) ? 0 : hob_field_refuse(p, name, "true");
}
static int only_empty_list(hob_parser *p, const char *name, json_t *v)
{
    return json_is_array(v) && json_array_size(v) == 0 ? 0 : hob_field_refuse(p, name, "[]");
}
static int only_empty_string(hob_parser *p, const char *name, json_t *v)
{
    return json_is_string(v) && json_string_length(v) == 0 ? 0 : hob_field_refuse(p, name, "null");
}
static int any_bool(hob_parser *p, const char *name, json_t *v)
{
    bool flag = false;
    return hob_field_is_bool(p, name, v, &flag);
}
static int any_label(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    return strlen(text) <= 512 ? 0
                               : hob_api_bad(p->e, "invalid_value", name,
                                             "%s: at most 512 bytes are allowed", name);
}

static bool is_word(json_t *v, const char *word)
{
    return json_is_string(v) && strcmp(json_string_value(v), word) == 0;
}

static int only_no_choice(hob_parser *p, const char *name, json_t *v)
{
    return is_word(v, "none") || is_word(v, "auto")
               ? 0
               : hob_field_refuse(p, name, "\"none\", \"auto\"");
}
static int only_none(hob_parser *p, const char *name, json_t *v)
{
    return is_word(v, "none") ? 0 : hob_field_refuse(p, name, "\"none\"");
}
static int only_medium(hob_parser *p, const char *name, json_t *v)
{
    return is_word(v, "medium") ? 0 : hob_field_refuse(p, name, "\"medium\"");
}
static int only_default_tier(hob_parser *p, const char *name, json_t *v)
{
    return is_word(v, "auto") || is_word(v, "default")
               ? 0
               : hob_field_refuse(p, name, "\"auto\", \"default\"");
}
static int only_disabled(hob_parser *p, const char *name, json_t *v)
{
    return is_word(v, "disabled") ? 0 : hob_field_refuse(p, name, "\"disabled\"");
}
static int only_text_modality(hob_parser *p, const char *name, json_t *v)
{
    return json_is_array(v) && json_array_size(v) == 1 && is_word(json_array_get(v, 0), "text")
               ? 0
               : hob_field_refuse(p, name, "[\"text\"]");
}

static int only_text_format(hob_parser *p, const char *name, json_t *v)
{
    bool is_text = json_is_object(v) && json_object_size(v) == 1 &&
                   is_word(json_object_get(v, "type"), "text");
    return is_text ? 0 : hob_field_refuse(p, name, "{\"type\": \"text\"}");
}

static int take_text(hob_parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return hob_field_wrong_type(p, name, "an object");
    json_object_foreach(v, key, value)
    {
        int rc = 0;
        if (json_is_null(value))
            continue;
        if (strcmp(key, "format") == 0)
            rc = only_text_format(p, "text.format", value);
        else if (strcmp(key, "verbosity") == 0)
            rc = only_medium(p, "text.verbosity", value);
        else
            rc = hob_api_bad(p->e, "unknown_parameter", name, "%s: unknown field '%.40s'", name,
                             key);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int take_reasoning(hob_parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return hob_field_wrong_type(p, name, "an object");
    json_object_foreach(
        v, key,
        value) if (!json_is_null(value) &&
                   !(strcmp(key, "effort") == 0 &&
                     is_word(value, "none"))) return hob_field_refuse(p, name,
                                                                      "{\"effort\": \"none\"}");
    return 0;
}

static int take_include(hob_parser *p, const char *name, json_t *v)
{
    size_t i;
    json_t *one;
    if (!json_is_array(v))
        return hob_field_wrong_type(p, name, "a list");
    json_array_foreach(v, i, one)
    {
        if (is_word(one, "file_search_call.results"))
            p->r->retrieval.results = true;
        else if (is_word(one, "message.output_text.logprobs"))
            p->r->logprobs = true;
        else
            return hob_field_refuse(
                p, name, "\"message.output_text.logprobs\", \"file_search_call.results\"");
    }
    return 0;
}

static int take_metadata(hob_parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v) || json_object_size(v) > 16)
        return hob_field_wrong_type(p, name, "an object of at most 16 strings");
    json_object_foreach(
        v, key, value) if (!json_is_string(value) || json_string_length(value) > 512 ||
                           strlen(key) >
                               64) return hob_field_wrong_type(p, name,
                                                               "an object of at most 16 strings "
                                                               "(keys to 64 bytes, values to 512)");
    return 0;
}

static const hob_field fields[] = {
    {"model", take_model, HOB_IN_ANY | HOB_IN_EMBEDDINGS, false},
    {"messages", take_messages, HOB_IN_CHAT, false},
    {"prompt", take_prompt, HOB_IN_COMPLETION, false},
    {"instructions", take_instructions, HOB_IN_RESPONSES, true},
    {"input", take_input, HOB_IN_RESPONSES, false},
    {"max_tokens", take_max_tokens, HOB_IN_CHAT | HOB_IN_COMPLETION, false},
    {"max_completion_tokens", take_max_tokens, HOB_IN_CHAT, false},
    {"max_output_tokens", take_max_tokens, HOB_IN_RESPONSES, true},
    {"stream", take_stream, HOB_IN_ANY, false},
    {"stream_options", take_stream_options, HOB_IN_ANY, false},
    {"stream_id", take_stream_id, HOB_IN_RESPONSES | HOB_IN_SOCKET, false},
    {"include", take_include, HOB_IN_RESPONSES, false},
    {"text", take_text, HOB_IN_RESPONSES, false},
    {"reasoning", take_reasoning, HOB_IN_RESPONSES, false},
    {"metadata", take_metadata, HOB_IN_CHAT | HOB_IN_RESPONSES, true},
    {"user", any_label, HOB_IN_ANY | HOB_IN_EMBEDDINGS, true},
    {"safety_identifier", any_label, HOB_IN_CHAT | HOB_IN_RESPONSES, true},
    {"prompt_cache_key", any_label, HOB_IN_CHAT | HOB_IN_RESPONSES, true},
    {"parallel_tool_calls", any_bool, HOB_IN_CHAT | HOB_IN_RESPONSES, false},
    {"n", take_n, HOB_IN_CHAT | HOB_IN_COMPLETION, false},
    {"best_of", only_n, HOB_IN_COMPLETION, false},
    {"echo", only_false, HOB_IN_COMPLETION, false},
    {"suffix", only_empty_string, HOB_IN_COMPLETION, false},
    {"store", only_false, HOB_IN_CHAT, false},
    {"store", take_store, HOB_IN_RESPONSES, false},
    {"background", take_background, HOB_IN_RESPONSES, false},
    {"previous_response_id", take_previous, HOB_IN_RESPONSES, false},
    {"hob_class", take_class, HOB_IN_ANY | HOB_IN_EMBEDDINGS, false},
    {"hob_queue_events", take_queue_events, HOB_IN_ANY, false},
    {"generate", only_true, HOB_IN_RESPONSES | HOB_IN_SOCKET, false},
    {"hob_retrieval", hob_field_take_retrieval, HOB_IN_CHAT, false},
    {"tools", only_empty_list, HOB_IN_CHAT, false},
    {"tools", hob_field_take_tools, HOB_IN_RESPONSES, true},
    {"functions", only_empty_list, HOB_IN_CHAT, false},
    {"tool_choice", only_no_choice, HOB_IN_CHAT, false},
    {"tool_choice", hob_field_take_tool_choice, HOB_IN_RESPONSES, true},
    {"function_call", only_no_choice, HOB_IN_CHAT, false},
    {"response_format", only_text_format, HOB_IN_CHAT | HOB_IN_COMPLETION, false},
    {"modalities", only_text_modality, HOB_IN_CHAT, false},
    {"reasoning_effort", only_none, HOB_IN_CHAT, false},
    {"verbosity", only_medium, HOB_IN_CHAT, false},
    {"service_tier", only_default_tier, HOB_IN_CHAT | HOB_IN_RESPONSES, false},
    {"truncation", only_disabled, HOB_IN_RESPONSES, false},
};

static const hob_field *find_field(unsigned in, bool websocket, const char *name)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const hob_field *f = &fields[i];
        if (strcmp(f->name, name) == 0 && (f->in & in) && (websocket || !(f->in & HOB_IN_SOCKET)))
            return f;
    }
    return in & HOB_IN_EMBEDDINGS ? hob_embedding_field(name) : hob_sampling_field(in, name);
}

static int take_one(hob_parser *p, unsigned in, bool websocket, const char *key, json_t *value)
{
    const hob_field *f = find_field(in, websocket, key);
    if (f) {
        if (json_is_null(value))
            return 0;
        int rc = f->take(p, f->name, value);
        if (rc == 0 && f->echo && p->r->kind == HOB_API_RESPONSES &&
            json_object_set(p->r->echo, key, value) < 0)
            return hob_api_no_memory(p->e);
        return rc;
    }
    if (websocket && strcmp(key, "type") == 0)
        return 0;
    return hob_api_bad(p->e, "unknown_parameter", key, "unknown or unsupported field '%.60s'", key);
}

/* What no field can tell alone. */
static int check_together(hob_parser *p, bool websocket)
{
    static const char *const needed[] = {"messages", "prompt", "input", "input"};
    const hob_api_request *r = p->r;
    const size_t choices = r->n * (1 + json_array_size(r->more));

    if (!r->prepare && !r->items && !r->inputs)
        return hob_api_bad(p->e, "missing_required_parameter", needed[r->kind],
                           "missing required field '%s'", needed[r->kind]);
    if (r->include_usage && !r->stream)
        return hob_api_bad(p->e, "invalid_value", "stream_options",
                           "stream_options needs \"stream\": true");
    if (r->queue_events && !r->stream && !websocket)
        return hob_api_bad(p->e, "invalid_value", "hob_queue_events",
                           "hob_queue_events needs \"stream\": true");
    if (r->queue_events && r->background)
        return hob_api_bad(p->e, "unsupported_value", "hob_queue_events",
                           "hob_queue_events is not supported in the background");
    if (choices > HOB_CHOICES_MAX)
        return hob_api_bad(p->e, "invalid_value", "n",
                           "n: %zu prompts with %u choices each are more than the %d that are "
                           "allowed",
                           1 + json_array_size(r->more), r->n, HOB_CHOICES_MAX);
    if (r->background && !r->store)
        return hob_api_bad(p->e, "invalid_value", "background", "background needs \"store\": true");
    return hob_field_check_retrieval(p);
}

int hob_api_parse(const hob_conf *conf, hob_api_kind kind, bool websocket, json_t *body,
                  hob_api_request *ret, hob_api_error *e)
{
    static const unsigned in[] = {[HOB_API_CHAT] = HOB_IN_CHAT,
                                  [HOB_API_COMPLETION] = HOB_IN_COMPLETION,
                                  [HOB_API_RESPONSES] = HOB_IN_RESPONSES,
                                  [HOB_API_EMBEDDINGS] = HOB_IN_EMBEDDINGS};
    hob_api_request r = {.kind = kind,
                         .run = json_object(),
                         .echo = json_object(),
                         .store = kind == HOB_API_RESPONSES,
                         .n = 1,
                         .retrieval.threshold = -1};
    hob_parser p = {conf, &r, e, body, websocket};
    const char *key;
    json_t *value;

    e->status = 0;
    if (!r.run || !r.echo) {
        hob_api_no_memory(p.e);
        goto fail;
    }
    json_object_foreach(body, key,
                        value) if (take_one(&p, in[kind], websocket, key, value) < 0) goto fail;
    if (check_together(&p, websocket) < 0)
        goto fail;
    *ret = r;
    return 0;
fail:
    hob_api_request_free(&r);
    return HOB_EINVAL;
}
