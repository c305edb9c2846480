/* SPDX-License-Identifier: Apache-2.0
 *
 * The fields of a request that say how tokens are chosen. They are checked here, so that an error names the field, and
 * passed on to the engine under the same name. */
#include <math.h>
#include <string.h>

#include "daemon/gateway/api_fields.h"
#include "models/sampler.h"

static int pass_on(hob_parser *p, const char *name, json_t *v)
{
    return json_object_set(p->r->run, name, v) < 0 ? hob_api_no_memory(p->e) : 0;
}

static int take_number(hob_parser *p, const char *name, json_t *v, double least, double most)
{
    if (!json_is_number(v))
        return hob_field_wrong_type(p, name, "a number");
    double x = json_number_value(v);
    if (!(x >= least && x <= most))
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %g, allowed %g to %g", name, x,
                           least, most);
    return pass_on(p, name, v);
}

static int take_temperature(hob_parser *p, const char *name, json_t *v)
{
    return take_number(p, name, v, 0, 2);
}
static int take_penalty(hob_parser *p, const char *name, json_t *v)
{
    return take_number(p, name, v, -2, 2);
}
static int take_min_p(hob_parser *p, const char *name, json_t *v)
{
    return take_number(p, name, v, 0, 1);
}
static int take_top_p(hob_parser *p, const char *name, json_t *v)
{
    if (json_is_number(v) && !(json_number_value(v) > 0))
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %g, allowed above 0 and up to 1",
                           name, json_number_value(v));
    return take_number(p, name, v, 0, 1);
}

/* llama.cpp's name and vLLM's for one thing. */
static int take_repetition(hob_parser *p, const char *name, json_t *v)
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

static int take_top_k(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (hob_field_is_integer(p, name, v, -1, 1 << 24, &n) < 0)
        return HOB_EINVAL;
    return n <= 0 ? 0 : pass_on(p, name, v); /* 0 and -1 turn it off */
}

static int take_ignore_eos(hob_parser *p, const char *name, json_t *v)
{
    bool flag = false;
    return hob_field_is_bool(p, name, v, &flag) < 0 ? HOB_EINVAL : pass_on(p, name, v);
}

static int take_seed(hob_parser *p, const char *name, json_t *v)
{
    if (!json_is_integer(v))
        return hob_field_wrong_type(p, name, "an integer");
    p->r->seed = (uint64_t)json_integer_value(v);
    p->r->seed_given = true;
    return 0;
}

static int take_logit_bias(hob_parser *p, const char *name, json_t *v)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return hob_field_wrong_type(p, name, "an object of token ids and numbers");
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

static int check_stop(hob_parser *p, json_t *v)
{
    if (!json_is_string(v))
        return hob_field_wrong_type(p, "stop", "a string or a list of strings");
    size_t len = json_string_length(v);
    if (len == 0 || len > HOB_STOP_BYTES_MAX)
        return hob_api_bad(p->e, "invalid_value", "stop",
                           "stop: got a string of %zu bytes, allowed 1 to %d", len,
                           HOB_STOP_BYTES_MAX);
    return 0;
}

static int take_stop(hob_parser *p, const char *name, json_t *v)
{
    size_t i;
    json_t *one;
    if (!json_is_array(v)) {
        if (check_stop(p, v) < 0)
            return HOB_EINVAL;
        return json_object_set_new(p->r->run, name, json_pack("[O]", v)) < 0
                   ? hob_api_no_memory(p->e)
                   : 0;
    }
    if (json_array_size(v) > HOB_STOPS_MAX)
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: got %zu strings, at most %d are allowed", name, json_array_size(v),
                           HOB_STOPS_MAX);
    json_array_foreach(v, i, one) if (check_stop(p, one) < 0) return HOB_EINVAL;
    return json_array_size(v) == 0 ? 0 : pass_on(p, name, v);
}

static int take_logprobs(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (p->r->kind == HOB_API_CHAT)
        return hob_field_is_bool(p, name, v, &p->r->logprobs);
    if (hob_field_is_integer(p, name, v, 0, HOB_LOGPROBS_MAX, &n) < 0)
        return HOB_EINVAL;
    p->r->logprobs = true;
    p->r->top_logprobs = (int)n;
    return 0;
}

static int take_top_logprobs(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (hob_field_is_integer(p, name, v, 0, HOB_LOGPROBS_MAX, &n) < 0)
        return HOB_EINVAL;
    if (p->r->kind == HOB_API_CHAT && n > 0 && !json_is_true(json_object_get(p->body, "logprobs")))
        return hob_api_bad(p->e, "invalid_value", name, "%s needs \"logprobs\": true", name);
    if (p->r->kind == HOB_API_RESPONSES && n > 0)
        p->r->logprobs = true;
    p->r->top_logprobs = (int)n;
    return 0;
}

static const hob_field fields[] = {
    {"temperature", take_temperature, HOB_IN_ANY, true},
    {"top_p", take_top_p, HOB_IN_ANY, true},
    {"top_k", take_top_k, HOB_IN_ANY, false},
    {"min_p", take_min_p, HOB_IN_ANY, false},
    {"presence_penalty", take_penalty, HOB_IN_ANY, false},
    {"frequency_penalty", take_penalty, HOB_IN_ANY, false},
    {"repeat_penalty", take_repetition, HOB_IN_ANY, false},
    {"repetition_penalty", take_repetition, HOB_IN_ANY, false},
    {"ignore_eos", take_ignore_eos, HOB_IN_ANY, false},
    {"seed", take_seed, HOB_IN_ANY, false},
    {"logit_bias", take_logit_bias, HOB_IN_ANY, false},
    {"stop", take_stop, HOB_IN_ANY, false},
    {"logprobs", take_logprobs, HOB_IN_CHAT | HOB_IN_COMPLETION, false},
    {"top_logprobs", take_top_logprobs, HOB_IN_CHAT | HOB_IN_RESPONSES, true},
};

const hob_field *hob_sampling_field(unsigned in, const char *name)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0 && (fields[i].in & in))
            return &fields[i];
    return NULL;
}
