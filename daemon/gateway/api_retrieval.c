/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request says of stored documents: hob_retrieval of a chat, and of a response OpenAI's tool file_search, which is the
 * same in other words. One answer has one search. */
#include <string.h>

#include "daemon/gateway/api_fields.h"
#include "daemon/store/search.h"

enum { BUDGET_LEAST = 64, BUDGET_MOST = 1 << 20 }; /* tokens */

typedef struct part {
    const char *name; /* within its object */
    int (*take)(hob_parser *p, const char *name, json_t *v);
} part;

/* Each field of an object, null counting as absent. name: of the object; ignored: fields that others look at. */
static int take_parts(hob_parser *p, const char *name, json_t *v, const part *parts, size_t count,
                      const char *ignored)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v))
        return hob_field_wrong_type(p, name, "an object");
    json_object_foreach(v, key, value)
    {
        char at[80];
        size_t i = 0;
        if (json_is_null(value) || (ignored && strcmp(key, ignored) == 0))
            continue;
        snprintf(at, sizeof at, "%s.%.40s", name, key);
        while (i < count && strcmp(parts[i].name, key) != 0)
            i++;
        if (i == count)
            return hob_api_bad(p->e, "unknown_parameter", at, "%s: unknown or unsupported field",
                               at);
        if (parts[i].take(p, at, value) < 0)
            return HOB_EINVAL;
    }
    return 0;
}

/* ---- what both have ---- */

static int take_stores(hob_parser *p, const char *name, json_t *v)
{
    size_t i;
    json_t *one;
    if (!json_is_array(v) || json_array_size(v) == 0 ||
        json_array_size(v) > HOB_SEARCH_COLLECTIONS_MAX)
        return hob_api_bad(p->e, "invalid_value", name,
                           "%s: a list of 1 to %d vector stores is needed", name,
                           HOB_SEARCH_COLLECTIONS_MAX);
    json_array_foreach(v, i, one)
    {
        const char *text = json_string_value(one);
        if (!text || !text[0] || strlen(text) != json_string_length(one) ||
            json_string_length(one) >= HOB_COLLECTION_NAME_MAX)
            return hob_api_bad(p->e, "invalid_value", name,
                               "%s: element %zu is not a vector store's name or id", name, i);
    }
    p->r->retrieval.stores = json_incref(v);
    return 0;
}

static int take_filters(hob_parser *p, const char *name, json_t *v)
{
    hob_diag diag;
    if (hob_filter_check(v, &diag) < 0)
        return hob_api_bad(p->e, "invalid_value", name, "%s", diag.text);
    p->r->retrieval.filters = json_incref(v);
    return 0;
}

static int take_count(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (hob_field_is_integer(p, name, v, 1, HOB_SEARCH_RESULTS_MAX, &n) < 0)
        return HOB_EINVAL;
    p->r->retrieval.max_chunks = (uint32_t)n;
    return 0;
}

static int take_tokens(hob_parser *p, const char *name, json_t *v)
{
    int64_t n = 0;
    if (hob_field_is_integer(p, name, v, BUDGET_LEAST, BUDGET_MOST, &n) < 0)
        return HOB_EINVAL;
    p->r->retrieval.max_tokens = (uint32_t)n;
    return 0;
}

static int take_threshold(hob_parser *p, const char *name, json_t *v)
{
    const double n = json_number_value(v);
    if (!json_is_number(v))
        return hob_field_wrong_type(p, name, "a number");
    if (!(n >= 0 && n <= 1))
        return hob_api_bad(p->e, "invalid_value", name, "%s: got %g, allowed 0 to 1", name, n);
    p->r->retrieval.threshold = n;
    return 0;
}

/* ---- of a chat ---- */

int hob_field_take_retrieval(hob_parser *p, const char *name, json_t *v)
{
    static const part parts[] = {{"stores", take_stores},
                                 {"max_chunks", take_count},
                                 {"max_tokens", take_tokens},
                                 {"score_threshold", take_threshold},
                                 {"filters", take_filters}};
    if (take_parts(p, name, v, parts, sizeof parts / sizeof *parts, NULL) < 0)
        return HOB_EINVAL;
    return p->r->retrieval.stores
               ? 0
               : hob_api_bad(p->e, "missing_required_parameter", "hob_retrieval.stores",
                             "hob_retrieval.stores is needed");
}

/* ---- of a response ---- */

static int take_ranker(hob_parser *p, const char *name, json_t *v)
{
    const char *text = NULL;
    if (hob_field_is_string(p, name, v, &text) < 0)
        return HOB_EINVAL;
    return strcmp(text, "auto") == 0 || strcmp(text, "default-2024-11-15") == 0
               ? 0
               : hob_field_refuse(p, name, "\"auto\", \"default-2024-11-15\"");
}

static int take_ranking(hob_parser *p, const char *name, json_t *v)
{
    static const part parts[] = {{"ranker", take_ranker}, {"score_threshold", take_threshold}};
    return take_parts(p, name, v, parts, sizeof parts / sizeof *parts, NULL);
}

int hob_field_take_tools(hob_parser *p, const char *name, json_t *v)
{
    static const part parts[] = {{"vector_store_ids", take_stores},
                                 {"max_num_results", take_count},
                                 {"ranking_options", take_ranking},
                                 {"filters", take_filters},
                                 {"hob_max_tokens", take_tokens}};
    const json_t *tool = json_array_get(v, 0);
    const char *type = json_string_value(json_object_get(tool, "type"));

    if (!json_is_array(v))
        return hob_field_wrong_type(p, name, "a list");
    if (json_array_size(v) == 0)
        return 0;
    if (json_array_size(v) > 1 || !type || strcmp(type, "file_search") != 0)
        return hob_field_refuse(p, name, "[], or one tool of type \"file_search\"");
    if (take_parts(p, "tools[0]", json_array_get(v, 0), parts, sizeof parts / sizeof *parts,
                   "type") < 0)
        return HOB_EINVAL;
    return p->r->retrieval.stores
               ? 0
               : hob_api_bad(p->e, "missing_required_parameter", "tools[0].vector_store_ids",
                             "tools[0].vector_store_ids is needed");
}

/* A search is made for each answer, without asking the model whether it wants one: auto and required are the same. */
int hob_field_take_tool_choice(hob_parser *p, const char *name, json_t *v)
{
    const char *text = json_string_value(v), *type = json_string_value(json_object_get(v, "type"));
    const bool known = text ? strcmp(text, "none") == 0 || strcmp(text, "auto") == 0 ||
                                  strcmp(text, "required") == 0
                            : type && json_object_size(v) == 1 && strcmp(type, "file_search") == 0;
    return known ? 0
                 : hob_field_refuse(
                       p, name, "\"none\", \"auto\", \"required\", {\"type\": \"file_search\"}");
}

int hob_field_check_retrieval(hob_parser *p)
{
    hob_api_retrieval *r = &p->r->retrieval;
    const json_t *choice = json_object_get(p->body, "tool_choice");
    const char *text = json_string_value(choice);

    if (p->r->kind != HOB_API_RESPONSES)
        return 0;
    if (!r->stores && choice && !json_is_null(choice) &&
        !(text && (strcmp(text, "none") == 0 || strcmp(text, "auto") == 0)))
        return hob_api_bad(p->e, "invalid_value", "tool_choice",
                           "tool_choice: there is no tool to be chosen");
    if (text && strcmp(text, "none") == 0) {
        json_decref(r->stores);
        r->stores = NULL;
    }
    return 0;
}
