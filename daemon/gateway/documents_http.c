/* SPDX-License-Identifier: Apache-2.0
 *
 * Which routes documents have, and the fields that several of them take. See documents.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/extract/extract.h"
#include "daemon/gateway/documents.h"
#include "daemon/gateway/query.h"

enum {
    PAIRS_MAX = 16,
    PAIR_NAME_MAX = 64,   /* characters */
    PAIR_VALUE_MAX = 512, /* of a text */
};

static const hob_document_route routes[] = {
    {"GET", "/v1/files", HOB_BODY_NONE, hob_files_list},
    {"POST", "/v1/files", HOB_BODY_FORM, NULL},
    {"GET", "/v1/files/*", HOB_BODY_NONE, hob_files_get},
    {"DELETE", "/v1/files/*", HOB_BODY_NONE, hob_files_delete},
    {"GET", "/v1/files/*/content", HOB_BODY_NONE, hob_files_content},
    {"GET", "/v1/vector_stores", HOB_BODY_NONE, hob_vector_stores_list},
    {"POST", "/v1/vector_stores", HOB_BODY_JSON, hob_vector_stores_create},
    {"GET", "/v1/vector_stores/*", HOB_BODY_NONE, hob_vector_stores_get},
    {"POST", "/v1/vector_stores/*", HOB_BODY_JSON, hob_vector_stores_change},
    {"DELETE", "/v1/vector_stores/*", HOB_BODY_NONE, hob_vector_stores_delete},
    {"POST", "/v1/vector_stores/*/search", HOB_BODY_JSON, hob_search_serve},
    {"GET", "/v1/vector_stores/*/files", HOB_BODY_NONE, hob_attachments_list},
    {"POST", "/v1/vector_stores/*/files", HOB_BODY_JSON, hob_attachments_create},
    {"GET", "/v1/vector_stores/*/files/*", HOB_BODY_NONE, hob_attachments_get},
    {"POST", "/v1/vector_stores/*/files/*", HOB_BODY_JSON, hob_attachments_change},
    {"DELETE", "/v1/vector_stores/*/files/*", HOB_BODY_NONE, hob_attachments_delete},
    {"GET", "/v1/vector_stores/*/files/*/content", HOB_BODY_NONE, hob_attachments_content},
    {"POST", "/v1/vector_stores/*/file_batches", HOB_BODY_JSON, hob_batches_create},
    {"GET", "/v1/vector_stores/*/file_batches/*", HOB_BODY_NONE, hob_batches_get},
    {"POST", "/v1/vector_stores/*/file_batches/*/cancel", HOB_BODY_NONE, hob_batches_cancel},
    {"GET", "/v1/vector_stores/*/file_batches/*/files", HOB_BODY_NONE, hob_batches_list},
};
enum { ROUTES = sizeof routes / sizeof *routes };

/* Whether path is what pattern says; its ids go to ret. */
static bool matches(const char *pattern, const char *path,
                    char ret[HOB_PATH_IDS][HOB_PUBLIC_ID_MAX])
{
    size_t ids = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '*') {
            if (*pattern != *path++)
                return false;
            continue;
        }
        const size_t len =
            strspn(path, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-");
        if (len == 0 || len >= HOB_PUBLIC_ID_MAX)
            return false;
        memcpy(ret[ids], path, len);
        ret[ids++][len] = '\0';
        path += len;
    }
    return *path == '\0';
}

const hob_document_route *hob_documents_find(hob_conn *c, const char *method, const char *path)
{
    const hob_document_route *found = NULL;
    for (size_t i = 0; i < ROUTES; i++) {
        char ids[HOB_PATH_IDS][HOB_PUBLIC_ID_MAX] = {"", ""};
        if (!matches(routes[i].path, path, ids))
            continue;
        memcpy(c->ids, ids, sizeof c->ids);
        found = &routes[i];
        if (strcmp(found->method, method) == 0)
            break;
    }
    return found;
}

const char *hob_documents_methods(const hob_document_route *r)
{
    static char list[64]; /* loop only */
    list[0] = '\0';
    for (size_t i = 0; i < ROUTES; i++)
        if (strcmp(routes[i].path, r->path) == 0) {
            const size_t n = strlen(list);
            snprintf(list + n, sizeof list - n, n ? ", %s" : "%s", routes[i].method);
        }
    return list;
}

/* ---- fields ---- */

static bool is_listed(const char *list, const char *name)
{
    char spaced[80];
    const int n = snprintf(spaced, sizeof spaced, " %s ", name);
    return n > 2 && (size_t)n < sizeof spaced && !strchr(name, ' ') && strstr(list, spaced);
}

int hob_documents_known(json_t *body, const char *known, hob_api_error *e)
{
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        if (!json_is_null(value) && !is_listed(known, name))
            return hob_api_bad(e, "unknown_parameter", name, "unknown or unsupported field '%.60s'",
                               name);
    }
    return 0;
}

/* Characters of UTF-8 that jansson has checked. */
static size_t characters(const char *s)
{
    size_t n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static bool pair_ok(const char *name, json_t *value, bool attributes)
{
    if (characters(name) > PAIR_NAME_MAX || !name[0])
        return false;
    if (json_is_string(value))
        return strlen(json_string_value(value)) == json_string_length(value) &&
               characters(json_string_value(value)) <= PAIR_VALUE_MAX;
    return attributes && (json_is_boolean(value) ||
                          (json_is_number(value) && isfinite(json_number_value(value))));
}

int hob_documents_pairs(json_t *v, const char *name, bool attributes, char **ret, hob_api_error *e)
{
    const char *key;
    json_t *value;
    if (v && !json_is_null(v) && !json_is_object(v))
        return hob_api_bad(e, "invalid_type", name, "%s: an object is needed", name);
    if (json_object_size(v) > PAIRS_MAX)
        return hob_api_bad(e, "invalid_value", name, "%s: it has %zu pairs, at most %d are allowed",
                           name, json_object_size(v), PAIRS_MAX);
    json_object_foreach(v, key, value)
    {
        if (!pair_ok(key, value, attributes))
            return hob_api_bad(e, "invalid_value", name,
                               "%s.%.60s: a name of 1 to %d characters is allowed, and a text of "
                               "at most %d%s",
                               name, key, PAIR_NAME_MAX, PAIR_VALUE_MAX,
                               attributes ? ", a number or a boolean" : "");
    }
    *ret = json_is_object(v) ? json_dumps(v, JSON_COMPACT) : strdup("{}");
    return *ret ? 0 : hob_api_no_memory(e);
}

static int read_size(json_t *v, const char *name, uint32_t least, uint32_t most, uint32_t *ret,
                     hob_api_error *e)
{
    const json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (n < least || n > most)
        return hob_api_bad(e, "invalid_value", "chunking_strategy",
                           "chunking_strategy.static.%s: %u to %u are allowed", name, least, most);
    *ret = (uint32_t)n;
    return 0;
}

int hob_documents_chunking(const hob_gateway *g, json_t *v, uint32_t *ret_tokens,
                           uint32_t *ret_overlap, hob_api_error *e)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    json_t *sizes = json_object_get(v, "static");
    (void)g;
    *ret_tokens = HOB_CHUNK_TOKENS;
    *ret_overlap = HOB_CHUNK_OVERLAP;
    if (!v || json_is_null(v))
        return 0;
    if (!type || (strcmp(type, "auto") != 0 && strcmp(type, "static") != 0))
        return hob_api_bad(e, "invalid_value", "chunking_strategy",
                           "chunking_strategy: an object whose type is auto or static is needed");
    if (hob_documents_known(v, type[0] == 's' ? " type static " : " type ", e) < 0)
        return HOB_EINVAL;
    if (type[0] == 'a')
        return 0;
    if (hob_documents_known(sizes, " max_chunk_size_tokens chunk_overlap_tokens ", e) < 0 ||
        read_size(json_object_get(sizes, "max_chunk_size_tokens"), "max_chunk_size_tokens",
                  HOB_CHUNK_TOKENS_LEAST, HOB_CHUNK_TOKENS_MOST, ret_tokens, e) < 0)
        return HOB_EINVAL;
    return read_size(json_object_get(sizes, "chunk_overlap_tokens"), "chunk_overlap_tokens", 0,
                     *ret_tokens / 2, ret_overlap, e);
}

void hob_documents_chunking_object(hob_text *t, uint32_t tokens, uint32_t overlap)
{
    hob_text_format(t,
                    "{\"type\":\"static\",\"static\":{\"max_chunk_size_tokens\":%u,"
                    "\"chunk_overlap_tokens\":%u}}",
                    tokens, overlap);
}

void hob_documents_id(char ret[HOB_PUBLIC_ID_MAX], const char *prefix)
{
    char id[32];
    hob_request_id(id, prefix);
    snprintf(ret, HOB_PUBLIC_ID_MAX, "%s", id);
}

/* ---- the query ---- */

typedef struct query {
    hob_documents_request *r;
    uint32_t most;
    const char *also;
} query;

static int take_cursor(query *q, const char *name, const char *value, hob_api_error *e)
{
    if (!value[0] || strlen(value) >= HOB_PUBLIC_ID_MAX)
        return hob_query_bad(name, value, "an id", e);
    if (q->r->page.cursor[0])
        return hob_api_bad(e, "invalid_value", name, "after and before exclude each other");
    snprintf(q->r->page.cursor, sizeof q->r->page.cursor, "%s", value);
    q->r->page.before = strcmp(name, "before") == 0;
    return 0;
}

static int take_argument(void *user, const char *name, const char *value, hob_api_error *e)
{
    query *q = user;
    hob_documents_request *r = q->r;
    uint64_t n = 0;
    if (strcmp(name, "limit") == 0) {
        if (hob_query_number(name, value, 1, q->most, &n, e) < 0)
            return HOB_EINVAL;
        r->page.limit = (uint32_t)n;
        return 0;
    }
    if (strcmp(name, "order") == 0) {
        r->page.ascending = strcmp(value, "asc") == 0;
        return r->page.ascending || strcmp(value, "desc") == 0
                   ? 0
                   : hob_query_bad(name, value, "asc, desc", e);
    }
    if (strcmp(name, "after") == 0 || strcmp(name, "before") == 0)
        return take_cursor(q, name, value, e);
    if (!is_listed(q->also, name))
        return hob_query_unknown(name, e);
    if (strcmp(name, "filter") == 0) {
        for (int i = 0; i < HOB_ATTACHMENT_STATUSES; i++)
            if (strcmp(value, hob_attachment_status_name((hob_attachment_status)i)) == 0) {
                r->status = i;
                return 0;
            }
        return hob_query_bad(name, value, "in_progress, completed, failed, cancelled", e);
    }
    if (strlen(value) >= sizeof r->word)
        return hob_query_bad(name, value, "a shorter text", e);
    snprintf(r->word, sizeof r->word, "%s", value);
    r->has_word = true;
    return 0;
}

int hob_documents_query(hob_documents_request *r, uint32_t most, uint32_t usual, const char *also,
                        hob_api_error *e)
{
    query q = {r, most, also};
    r->page = (hob_page){.limit = usual};
    r->status = -1;
    return hob_query_each(r->c, take_argument, &q, e);
}
