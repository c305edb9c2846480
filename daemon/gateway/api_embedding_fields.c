/* SPDX-License-Identifier: Apache-2.0
 *
 * The fields of /v1/embeddings that no other body has. */
#include "daemon/gateway/api_fields.h"

#include <string.h>

#include "daemon/gateway/embed.h"

static int bad_element(hob_parser *p, const char *name, size_t index, const char *what)
{
    return hob_api_bad(p->e, "invalid_value", name, "%s: element %zu %s", name, index, what);
}

/* A list of token ids, of which there is at least one. */
static bool is_ids(const json_t *list)
{
    size_t i;
    json_t *id;

    json_array_foreach(list, i, id) if (!json_is_integer(id) || json_integer_value(id) < 0 ||
                                        json_integer_value(id) > INT32_MAX) return false;
    return json_array_size(list) > 0;
}

/* A text, a list of texts, a list of token ids, or a list of such lists. */
static int take_inputs(hob_parser *p, const char *name, json_t *v)
{
    json_t *one;
    size_t i;

    if (json_is_string(v) || (json_array_size(v) > 0 && json_is_integer(json_array_get(v, 0)))) {
        if (json_is_array(v) && !is_ids(v))
            return hob_field_wrong_type(p, name, "a list of token ids, and of nothing else,");
        p->r->inputs = json_pack("[O]", v);
    } else if (json_is_array(v))
        p->r->inputs = json_incref(v);
    else
        return hob_field_wrong_type(p, name, "a string, a list of token ids, or a list of either");
    if (!p->r->inputs)
        return hob_api_no_memory(p->e);
    const size_t count = json_array_size(p->r->inputs);
    if (count == 0 || count > HOB_EMBED_INPUTS_MAX)
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %zu inputs, allowed are 1 to %d",
                           name, count, HOB_EMBED_INPUTS_MAX);
    json_array_foreach(p->r->inputs, i, one)
    {
        if (json_is_string(one) && json_string_length(one) == 0)
            return bad_element(p, name, i, "is an empty string");
        if (!json_is_string(one) && !(json_is_array(one) && is_ids(one)))
            return bad_element(p, name, i, "is neither a string nor a list of token ids");
    }
    return 0;
}

static int take_encoding(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;

    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    p->r->base64 = strcmp(text, "base64") == 0;
    return p->r->base64 || strcmp(text, "float") == 0
               ? 0
               : hob_field_refuse(p, name, "\"float\", \"base64\"");
}

static int take_dimensions(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;

    if (hob_field_is_integer(p, name, v, 1, INT32_MAX, &n) < 0)
        return HOB_EINVAL;
    p->r->dimensions = (uint32_t)n;
    return 0;
}

static int take_truncate(hob_parser *p, const char *name, json_t *v)
{
    return hob_field_is_bool(p, name, v, &p->r->truncate);
}

const hob_field *hob_embedding_field(const char *name)
{
    static const hob_field fields[] = {
        {"input", take_inputs, HOB_IN_EMBEDDINGS, false},
        {"encoding_format", take_encoding, HOB_IN_EMBEDDINGS, false},
        {"dimensions", take_dimensions, HOB_IN_EMBEDDINGS, false},
        {"hob_truncate", take_truncate, HOB_IN_EMBEDDINGS, false},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    return NULL;
}
