/* SPDX-License-Identifier: Apache-2.0
 *
 * The fields of the three request bodies, one table: name, which interfaces take it, who checks it. A field whose value
 * is null counts as absent. What passes without effect is what asks for nothing ("tools": [], "store": false); a value
 * that asks for something hob does not do is refused, so that nobody believes that it happened. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/api.h"
#include "models/sampler.h"

enum {
    CHAT = 1,
    COMPLETION = 2,
    RESPONSES = 4,
    ANY = 7,
    SOCKET = 8 /* only in a WebSocket event */
};

typedef struct parser {
    const hob_conf *conf;
    hob_api_request *r;
    hob_api_error *e;
    json_t *body;
    bool websocket;
} parser;

typedef int take_field(parser *p, const char *name, json_t *v);

static int refuse(parser *p, const char *name, const char *allowed)
{
    return hob_api_bad(p->e, "unsupported_value", name,
                       "%s: this value is not supported; allowed: %s", name, allowed);
}

static int wrong_type(parser *p, const char *name, const char *needed)
{
    return hob_api_bad(p->e, "invalid_type", name, "%s: %s is needed", name, needed);
}

static int no_memory(parser *p)
{
    return hob_api_fail(p->e, 503, "server_error", "out_of_memory", NULL,
                        "no memory for the request");
}

static int is_string(parser *p, const char *name, json_t *v, const char **ret)
{
    if (!json_is_string(v))
        return wrong_type(p, name, "a string");
    *ret = json_string_value(v);
    return 0;
}

static int is_bool(parser *p, const char *name, json_t *v, bool *ret)
{
    if (!json_is_boolean(v))
        return wrong_type(p, name, "true or false");
    *ret = json_is_true(v);
    return 0;
}

static int is_integer(parser *p, const char *name, json_t *v, int64_t least, int64_t most,
                      int64_t *ret)
{
    if (!json_is_integer(v))
        return wrong_type(p, name, "an integer");
    int64_t n = json_integer_value(v);
    if (n < least || n > most)
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %lld, allowed %lld to %lld", name,
                           (long long)n, (long long)least, (long long)most);
    *ret = n;
    return 0;
}

/* ---- fields that say what is asked ---- */

static int take_model(parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    int found = hob_api_find_model(p->conf, text);
    if (found < 0)
        return hob_api_fail(p->e, 404, "invalid_request_error", "model_not_found", "model",
                            "the model '%.100s' does not exist", text);
    p->r->model = (uint32_t)found;
    return 0;
}

static int keep_prepare(parser *p, const char *key, json_t *value)
{
    if (!value)
        return p->e->status ? HOB_EINVAL : no_memory(p);
    p->r->prepare = json_pack("{s:o}", key, value);
    return p->r->prepare ? 0 : no_memory(p);
}

static int take_messages(parser *p, const char *name, json_t *v)
{
    (void)name;
    return keep_prepare(p, "messages", hob_api_chat_messages(v, p->e));
}

static int take_input(parser *p, const char *name, json_t *v)
{
    if (!json_is_string(v) && !json_is_array(v))
        return wrong_type(p, name, "a string or a list of messages");
    p->r->items = hob_api_responses_items(v, p->e);
    return p->r->items ? 0 : HOB_EINVAL;
}

/* One prompt: text, or token ids. NULL with the error filled. */
static json_t *one_prompt(parser *p, const char *name, json_t *v)
{
    json_t *id, *result;
    size_t i;

    if (!json_is_string(v) && (!json_is_array(v) || json_array_size(v) == 0)) {
        wrong_type(p, name, "a string, a list of token ids, or a list of either");
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
        no_memory(p);
    return result;
}

static int take_prompt(parser *p, const char *name, json_t *v)
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
        return no_memory(p);
    for (size_t i = 1; i < count; i++) {
        json_t *prompt = one_prompt(p, name, json_array_get(v, i));
        if (!prompt)
            return HOB_EINVAL;
        if (json_array_append_new(p->r->more, prompt) < 0)
            return no_memory(p);
    }
    return 0;
}

static int take_instructions(parser *p, const char *name, json_t *v)
{
    const char *text; /* it stays in echo */
    return is_string(p, name, v, &text);
}

static int take_max_tokens(parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (is_integer(p, name, v, 1, 1 << 30, &n) < 0)
        return HOB_EINVAL;
    if (p->r->max_tokens_given && p->r->max_tokens != n)
        return hob_api_bad(p->e, "invalid_value", name,
                           "max_tokens and max_completion_tokens are both given and differ");
    p->r->max_tokens = (uint32_t)n;
    p->r->max_tokens_given = true;
    return 0;
}

static int take_stream(parser *p, const char *name, json_t *v)
{
    return is_bool(p, name, v, &p->r->stream);
}

static int take_stream_options(parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    bool flag = false;
    if (!json_is_object(v))
        return wrong_type(p, name, "an object");
    json_object_foreach(v, key, value)
    {
        if (json_is_null(value))
            continue;
        if (strcmp(key, "include_usage") == 0 && p->r->kind != HOB_API_RESPONSES) {
            if (is_bool(p, "stream_options.include_usage", value, &p->r->include_usage) < 0)
                return HOB_EINVAL;
        } else if (strcmp(key, "include_obfuscation") == 0) {
            if (is_bool(p, "stream_options.include_obfuscation", value, &flag) < 0)
                return HOB_EINVAL;
            if (flag)
                return refuse(p, "stream_options.include_obfuscation", "false");
        } else
            return hob_api_bad(p->e, "unknown_parameter", name, "%s: unknown field '%.40s'", name,
                               key);
    }
    return 0;
}

static int take_stream_id(parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    if (strlen(text) >= sizeof p->r->stream_id)
        return hob_api_bad(p->e, "invalid_value", name, "%s: at most %zu bytes are allowed", name,
                           sizeof p->r->stream_id - 1);
    strcpy(p->r->stream_id, text);
    p->r->has_stream_id = true;
    return 0;
}

/* ---- sampling: checked here so that the answer names the field, passed on under the same name ---- */

static int pass_on(parser *p, const char *name, json_t *v)
{
    return json_object_set(p->r->run, name, v) < 0 ? no_memory(p) : 0;
}

static int take_number(parser *p, const char *name, json_t *v, double least, double most)
{
    if (!json_is_number(v))
        return wrong_type(p, name, "a number");
    double x = json_number_value(v);
    if (!(x >= least && x <= most))
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %g, allowed %g to %g", name, x,
                           least, most);
    return pass_on(p, name, v);
}

static int take_temperature(parser *p, const char *name, json_t *v)
{
    return take_number(p, name, v, 0, 2);
}
static int take_penalty(parser *p, const char *name, json_t *v)
{
    return take_number(p, name, v, -2, 2);
}
static int take_min_p(parser *p, const char *name, json_t *v)
{
    return take_number(p, name, v, 0, 1);
}
static int take_top_p(parser *p, const char *name, json_t *v)
{
    if (json_is_number(v) && !(json_number_value(v) > 0))
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %g, allowed above 0 and up to 1",
                           name, json_number_value(v));
    return take_number(p, name, v, 0, 1);
}

/* llama.cpp's name and vLLM's for one thing. */
static int take_repetition(parser *p, const char *name, json_t *v)
{
    json_t *other = json_object_get(p->r->run, "repeat_penalty");
    if (!json_is_number(v) || !(json_number_value(v) > 0 && json_number_value(v) <= 10))
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: a number above 0 and up to 10 is needed", name);
    if (other && json_number_value(other) != json_number_value(v))
        return hob_api_bad(p->e, "invalid_value", name,
                           "repeat_penalty and repetition_penalty are both given and differ");
    return pass_on(p, "repeat_penalty", v);
}

static int take_top_k(parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (is_integer(p, name, v, -1, 1 << 24, &n) < 0)
        return HOB_EINVAL;
    return n <= 0 ? 0 : pass_on(p, name, v); /* 0 and -1 turn it off */
}

static int take_ignore_eos(parser *p, const char *name, json_t *v)
{
    bool flag = false;
    return is_bool(p, name, v, &flag) < 0 ? HOB_EINVAL : pass_on(p, name, v);
}

static int take_seed(parser *p, const char *name, json_t *v)
{
    if (!json_is_integer(v))
        return wrong_type(p, name, "an integer");
    p->r->seed = (uint64_t)json_integer_value(v);
    p->r->seed_given = true;
    return 0;
}

static int take_logit_bias(parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return wrong_type(p, name, "an object of token ids and numbers");
    if (json_object_size(v) > HOB_BIAS_MAX)
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: got %zu entries, at most %d are allowed", name, json_object_size(v),
                           HOB_BIAS_MAX);
    json_object_foreach(v, key, value)
    {
        size_t digits = strspn(key, "0123456789");
        if (digits == 0 || digits > 9 || key[digits] || (digits > 1 && key[0] == '0'))
            return hob_api_bad(p->e, "invalid_value", name, "%s: '%.40s' is not a token id", name,
                               key);
        if (!json_is_number(value) || !(fabs(json_number_value(value)) <= 100))
            return hob_api_bad(p->e, "invalid_value", name,
                               "%s: the bias of %s is not a number from -100 to 100", name, key);
    }
    return json_object_size(v) == 0 ? 0 : pass_on(p, name, v);
}

static int check_stop(parser *p, json_t *v)
{
    if (!json_is_string(v))
        return wrong_type(p, "stop", "a string or a list of strings");
    size_t len = json_string_length(v);
    if (len == 0 || len > HOB_STOP_BYTES_MAX)
        return hob_api_bad(p->e, "invalid_value", "stop",
                           "stop: got a string of %zu bytes, allowed 1 to %d", len,
                           HOB_STOP_BYTES_MAX);
    return 0;
}

static int take_stop(parser *p, const char *name, json_t *v)
{
    size_t i;
    json_t *one;
    if (!json_is_array(v)) {
        if (check_stop(p, v) < 0)
            return HOB_EINVAL;
        return json_object_set_new(p->r->run, name, json_pack("[O]", v)) < 0 ? no_memory(p) : 0;
    }
    if (json_array_size(v) > HOB_STOPS_MAX)
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: got %zu strings, at most %d are allowed", name, json_array_size(v),
                           HOB_STOPS_MAX);
    json_array_foreach(v, i, one) if (check_stop(p, one) < 0) return HOB_EINVAL;
    return json_array_size(v) == 0 ? 0 : pass_on(p, name, v);
}

static int take_logprobs(parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (p->r->kind == HOB_API_CHAT)
        return is_bool(p, name, v, &p->r->logprobs);
    if (is_integer(p, name, v, 0, HOB_LOGPROBS_MAX, &n) < 0)
        return HOB_EINVAL;
    p->r->logprobs = true;
    p->r->top_logprobs = (int)n;
    return 0;
}

static int take_top_logprobs(parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (is_integer(p, name, v, 0, HOB_LOGPROBS_MAX, &n) < 0)
        return HOB_EINVAL;
    if (p->r->kind == HOB_API_CHAT && n > 0 && !json_is_true(json_object_get(p->body, "logprobs")))
        return hob_api_bad(p->e, "invalid_value", name, "%s needs \"logprobs\": true", name);
    if (p->r->kind == HOB_API_RESPONSES && n > 0)
        p->r->logprobs = true;
    p->r->top_logprobs = (int)n;
    return 0;
}

static int take_n(parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (is_integer(p, name, v, 1, HOB_N_MAX, &n) < 0)
        return HOB_EINVAL;
    p->r->n = (uint32_t)n;
    return 0;
}

static int take_queue_events(parser *p, const char *name, json_t *v)
{
    return is_bool(p, name, v, &p->r->queue_events);
}

/* ---- what becomes of a response ---- */

static int take_store(parser *p, const char *name, json_t *v)
{
    return is_bool(p, name, v, &p->r->store);
}

static int take_background(parser *p, const char *name, json_t *v)
{
    if (is_bool(p, name, v, &p->r->background) < 0)
        return HOB_EINVAL;
    return p->r->background && p->websocket ? refuse(p, name, "false over WebSocket") : 0;
}

static int take_previous(parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    if (text[0] == '\0' || strlen(text) >= sizeof p->r->previous)
        return hob_api_bad(p->e, "invalid_value", name, "%s: 1 to %zu bytes are allowed", name,
                           sizeof p->r->previous - 1);
    strcpy(p->r->previous, text);
    return 0;
}

/* ---- values that ask for nothing ---- */

/* The best of as many as are returned are all of them. */
static int only_n(parser *p, const char *name, json_t *v)
{
    json_t *n = json_object_get(p->body, "n");
    const json_int_t asked = json_is_integer(n) ? json_integer_value(n) : 1;
    return json_is_integer(v) && json_integer_value(v) == asked ? 0
                                                                : refuse(p, name, "the value of n");
}
static int only_false(parser *p, const char *name, json_t *v)
{
    return json_is_false(v) ? 0 : refuse(p, name, "false");
}
static int only_true(parser *p, const char *name, json_t *v)
{
    return json_is_true(v) ? 0 : refuse(p, name, "true");
}
static int only_empty_list(parser *p, const char *name, json_t *v)
{
    return json_is_array(v) && json_array_size(v) == 0 ? 0 : refuse(p, name, "[]");
}
static int only_empty_string(parser *p, const char *name, json_t *v)
{
    return json_is_string(v) && json_string_length(v) == 0 ? 0 : refuse(p, name, "null");
}
static int any_bool(parser *p, const char *name, json_t *v)
{
    bool flag = false;
    return is_bool(p, name, v, &flag);
}
static int any_label(parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    return strlen(text) <= 512 ? 0
                               : hob_api_bad(p->e, "invalid_value", name,
                                             "%s: at most 512 bytes are allowed", name);
}

static bool is_word(json_t *v, const char *word)
{
    return json_is_string(v) && strcmp(json_string_value(v), word) == 0;
}

static int only_no_choice(parser *p, const char *name, json_t *v)
{
    return is_word(v, "none") || is_word(v, "auto") ? 0 : refuse(p, name, "\"none\", \"auto\"");
}
static int only_none(parser *p, const char *name, json_t *v)
{
    return is_word(v, "none") ? 0 : refuse(p, name, "\"none\"");
}
static int only_medium(parser *p, const char *name, json_t *v)
{
    return is_word(v, "medium") ? 0 : refuse(p, name, "\"medium\"");
}
static int only_default_tier(parser *p, const char *name, json_t *v)
{
    return is_word(v, "auto") || is_word(v, "default") ? 0
                                                       : refuse(p, name, "\"auto\", \"default\"");
}
static int only_disabled(parser *p, const char *name, json_t *v)
{
    return is_word(v, "disabled") ? 0 : refuse(p, name, "\"disabled\"");
}
static int only_text_modality(parser *p, const char *name, json_t *v)
{
    return json_is_array(v) && json_array_size(v) == 1 && is_word(json_array_get(v, 0), "text")
               ? 0
               : refuse(p, name, "[\"text\"]");
}

static int only_text_format(parser *p, const char *name, json_t *v)
{
    bool is_text = json_is_object(v) && json_object_size(v) == 1 &&
                   is_word(json_object_get(v, "type"), "text");
    return is_text ? 0 : refuse(p, name, "{\"type\": \"text\"}");
}

static int take_text(parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return wrong_type(p, name, "an object");
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

static int take_reasoning(parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return wrong_type(p, name, "an object");
    json_object_foreach(
        v, key, value) if (!json_is_null(value) &&
                           !(strcmp(key, "effort") == 0 &&
                             is_word(value, "none"))) return refuse(p, name,
                                                                    "{\"effort\": \"none\"}");
    return 0;
}

static int take_include(parser *p, const char *name, json_t *v)
{
    size_t i;
    json_t *one;
    if (!json_is_array(v))
        return wrong_type(p, name, "a list");
    json_array_foreach(v, i, one)
    {
        if (!is_word(one, "message.output_text.logprobs"))
            return refuse(p, name, "[], [\"message.output_text.logprobs\"]");
        p->r->logprobs = true;
    }
    return 0;
}

static int take_metadata(parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v) || json_object_size(v) > 16)
        return wrong_type(p, name, "an object of at most 16 strings");
    json_object_foreach(
        v, key, value) if (!json_is_string(value) || json_string_length(value) > 512 ||
                           strlen(key) > 64) return wrong_type(p, name,
                                                               "an object of at most 16 strings "
                                                               "(keys to 64 bytes, values to 512)");
    return 0;
}

static const struct field {
    const char *name;
    take_field *take;
    unsigned in;
    bool echo; /* repeated in a response object */
} fields[] = {
    {"model", take_model, ANY, false},
    {"messages", take_messages, CHAT, false},
    {"prompt", take_prompt, COMPLETION, false},
    {"instructions", take_instructions, RESPONSES, true},
    {"input", take_input, RESPONSES, false},
    {"max_tokens", take_max_tokens, CHAT | COMPLETION, false},
    {"max_completion_tokens", take_max_tokens, CHAT, false},
    {"max_output_tokens", take_max_tokens, RESPONSES, true},
    {"stream", take_stream, ANY, false},
    {"stream_options", take_stream_options, ANY, false},
    {"stream_id", take_stream_id, RESPONSES | SOCKET, false},
    {"temperature", take_temperature, ANY, true},
    {"top_p", take_top_p, ANY, true},
    {"top_k", take_top_k, ANY, false},
    {"min_p", take_min_p, ANY, false},
    {"presence_penalty", take_penalty, ANY, false},
    {"frequency_penalty", take_penalty, ANY, false},
    {"repeat_penalty", take_repetition, ANY, false},
    {"repetition_penalty", take_repetition, ANY, false},
    {"ignore_eos", take_ignore_eos, ANY, false},
    {"seed", take_seed, ANY, false},
    {"logit_bias", take_logit_bias, ANY, false},
    {"stop", take_stop, ANY, false},
    {"logprobs", take_logprobs, CHAT | COMPLETION, false},
    {"top_logprobs", take_top_logprobs, CHAT | RESPONSES, true},
    {"include", take_include, RESPONSES, false},
    {"text", take_text, RESPONSES, false},
    {"reasoning", take_reasoning, RESPONSES, false},
    {"metadata", take_metadata, CHAT | RESPONSES, true},
    {"user", any_label, ANY, true},
    {"safety_identifier", any_label, CHAT | RESPONSES, true},
    {"prompt_cache_key", any_label, CHAT | RESPONSES, true},
    {"parallel_tool_calls", any_bool, CHAT | RESPONSES, false},
    {"n", take_n, CHAT | COMPLETION, false},
    {"best_of", only_n, COMPLETION, false},
    {"echo", only_false, COMPLETION, false},
    {"suffix", only_empty_string, COMPLETION, false},
    {"store", only_false, CHAT, false},
    {"store", take_store, RESPONSES, false},
    {"background", take_background, RESPONSES, false},
    {"previous_response_id", take_previous, RESPONSES, false},
    {"hob_queue_events", take_queue_events, ANY, false},
    {"generate", only_true, RESPONSES | SOCKET, false},
    {"tools", only_empty_list, CHAT | RESPONSES, false},
    {"functions", only_empty_list, CHAT, false},
    {"tool_choice", only_no_choice, CHAT | RESPONSES, false},
    {"function_call", only_no_choice, CHAT, false},
    {"response_format", only_text_format, CHAT | COMPLETION, false},
    {"modalities", only_text_modality, CHAT, false},
    {"reasoning_effort", only_none, CHAT, false},
    {"verbosity", only_medium, CHAT, false},
    {"service_tier", only_default_tier, CHAT | RESPONSES, false},
    {"truncation", only_disabled, RESPONSES, false},
};

static int take_one(parser *p, unsigned in, bool websocket, const char *key, json_t *value)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const struct field *f = &fields[i];
        if (strcmp(f->name, key) != 0 || !(f->in & in) || ((f->in & SOCKET) && !websocket))
            continue;
        if (json_is_null(value))
            return 0;
        int rc = f->take(p, f->name, value);
        if (rc == 0 && f->echo && p->r->kind == HOB_API_RESPONSES &&
            json_object_set(p->r->echo, key, value) < 0)
            return no_memory(p);
        return rc;
    }
    if (websocket && strcmp(key, "type") == 0)
        return 0;
    return hob_api_bad(p->e, "unknown_parameter", key, "unknown or unsupported field '%.60s'", key);
}

/* What no field can tell alone. */
static int check_together(parser *p, bool websocket)
{
    static const char *const needed[] = {"messages", "prompt", "input"};
    const hob_api_request *r = p->r;
    const size_t choices = r->n * (1 + json_array_size(r->more));

    if (!r->prepare && !r->items)
        return hob_api_bad(p->e, "missing_required_parameter", needed[r->kind],
                           "missing required field '%s'", needed[r->kind]);
    if (r->include_usage && !r->stream)
        return hob_api_bad(p->e, "invalid_value", "stream_options",
                           "stream_options needs \"stream\": true");
    if (r->queue_events && !r->stream && !websocket)
        return hob_api_bad(p->e, "invalid_value", "hob_queue_events",
                           "hob_queue_events needs \"stream\": true");
    if (choices > HOB_CHOICES_MAX)
        return hob_api_bad(p->e, "invalid_value", "n",
                           "n: %zu prompts with %u choices each are more than the %d that are "
                           "allowed",
                           1 + json_array_size(r->more), r->n, HOB_CHOICES_MAX);
    if (r->background && !r->store)
        return hob_api_bad(p->e, "invalid_value", "background", "background needs \"store\": true");
    return 0;
}

int hob_api_parse(const hob_conf *conf, hob_api_kind kind, bool websocket, json_t *body,
                  hob_api_request *ret, hob_api_error *e)
{
    static const unsigned in[] = {
        [HOB_API_CHAT] = CHAT, [HOB_API_COMPLETION] = COMPLETION, [HOB_API_RESPONSES] = RESPONSES};
    hob_api_request r = {.kind = kind,
                         .run = json_object(),
                         .echo = json_object(),
                         .store = kind == HOB_API_RESPONSES,
                         .n = 1};
    parser p = {conf, &r, e, body, websocket};
    const char *key;
    json_t *value;

    e->status = 0;
    if (!r.run || !r.echo) {
        no_memory(&p);
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
