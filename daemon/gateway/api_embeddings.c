/* SPDX-License-Identifier: Apache-2.0
 *
 * /v1/embeddings: what its key may, the request to the engine (embed.h), and the answer. An answer of many vectors is written
 * in pieces, each when the reader has taken most of the one before, so that no piece holds the loop up. */
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/embed.h"
#include "daemon/gateway/state.h"
#include "daemon/gateway/trace.h"

enum {
    PIECE_BYTES = 32768,   /* of text at a time, and a vector more */
    OUTBOX_ENOUGH = 65536, /* no more is added to it */
};

struct hob_embeddings {
    hob_conn *c;
    hob_embed *embed; /* NULL: it has ended */
    hob_grant grant;
    uint32_t model, wanted_dimensions; /* wanted: 0: the model's */
    bool base64, began;                /* began: the head of an answer in pieces is out */
    uint32_t count, dimensions, next;  /* next: vector to be written */
    uint64_t tokens;
    float *vectors; /* [count][dimensions] */
};

static void destroy(hob_embeddings *a)
{
    a->c->embeddings = NULL;
    hob_grant_end(&a->grant);
    free(a->vectors);
    free(a);
}

void hob_embeddings_drop(hob_conn *c)
{
    hob_embeddings *a = c->embeddings;

    if (!a)
        return;
    if (a->embed) {
        hob_embed_cancel(a->embed);
        hob_grant_spend(&a->grant, a->tokens); /* the engine may have begun */
    }
    destroy(a);
}

size_t hob_embeddings_bytes(const hob_conn *c)
{
    const hob_embeddings *a = c->embeddings;
    return a ? sizeof *a + (a->vectors ? (size_t)a->count * a->dimensions * sizeof(float) : 0) : 0;
}

/* ---- the answer ---- */

static void add_floats(hob_text *t, const float *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        hob_text_format(t, i ? ",%.9g" : "[%.9g", (double)v[i]);
    hob_text_puts(t, "]");
}

/* Little endian, as OpenAI's clients read them. */
static void add_base64(hob_text *t, const float *v, uint32_t n)
{
    enum { FLOATS = 3 * 64 }; /* whole groups of three bytes */
    uint8_t bytes[4 * FLOATS];
    char text[4 * FLOATS / 3 * 4 + 8];

    hob_text_puts(t, "\"");
    for (uint32_t at = 0; at < n; at += FLOATS) {
        const uint32_t some = n - at < FLOATS ? n - at : FLOATS;
        for (uint32_t i = 0; i < some; i++) {
            uint32_t bits;
            memcpy(&bits, v + at + i, sizeof bits);
            hob_put_u32(bytes + 4 * i, bits);
        }
        const int len =
            lws_b64_encode_string((const char *)bytes, (int)(4 * some), text, sizeof text);
        if (len < 0)
            t->failed = true;
        else
            hob_text_add(t, text, (size_t)len);
    }
    hob_text_puts(t, "\"");
}

/* The next piece of the body. True: it was the last. */
static bool add_piece(hob_embeddings *a, hob_text *t)
{
    const char *model = a->c->g->conf->models[a->model].name;

    if (a->next == 0)
        hob_text_puts(t, "{\"object\":\"list\",\"data\":[");
    for (; a->next < a->count && hob_text_len(t) < PIECE_BYTES; a->next++) {
        const float *v = a->vectors + (size_t)a->next * a->dimensions;
        hob_text_format(t, "%s{\"object\":\"embedding\",\"index\":%u,\"embedding\":",
                        a->next ? "," : "", a->next);
        if (a->base64)
            add_base64(t, v, a->dimensions);
        else
            add_floats(t, v, a->dimensions);
        hob_text_puts(t, "}");
    }
    if (a->next < a->count)
        return false;
    hob_text_puts(t, "],\"model\":");
    hob_text_string(t, model, strlen(model));
    hob_text_format(t, ",\"usage\":{\"prompt_tokens\":%llu,\"total_tokens\":%llu}}\n",
                    (unsigned long long)a->tokens, (unsigned long long)a->tokens);
    return true;
}

static void begin_pieces(hob_embeddings *a)
{
    hob_conn *c = a->c;
    char head[HOB_HEAD_MAX];

    a->began = true;
    c->chunked = !c->version_1_0;
    if (c->version_1_0 || c->g->draining)
        c->close_after = true;
    const size_t n = hob_http_head(c, head, sizeof head, 200, "application/json", "", NULL);
    hob_conn_queue(c, head, n, 0, 0);
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0); /* as of other streams */
}

void hob_embeddings_pump(hob_conn *c)
{
    hob_text *t = &c->g->scratch;

    while (c->embeddings && !c->embeddings->embed && c->state != HOB_CONN_CLOSING &&
           c->out_bytes < OUTBOX_ENOUGH) {
        hob_embeddings *a = c->embeddings;
        hob_text_clear(t);
        const bool last = add_piece(a, t);
        if (t->failed) {
            hob_conn_kill(c, "no memory for an answer");
            return;
        }
        if (last && !a->began) {
            hob_http_respond(c, 200, "application/json", "", hob_text_data(t), hob_text_len(t));
            destroy(a);
            return;
        }
        if (!a->began)
            begin_pieces(a);
        hob_http_stream_add(c, t, 0, 0);
        if (last) {
            hob_http_stream_end(c);
            destroy(a);
        }
    }
}

/* ---- the request ---- */

static int check_dimensions(const hob_embeddings *a, uint32_t dimensions, hob_api_error *e)
{
    if (a->wanted_dimensions == 0 || dimensions == 0 || a->wanted_dimensions == dimensions)
        return 0;
    return hob_api_bad(e, "invalid_value", "dimensions",
                       "dimensions: got %u, this model's vectors have %u", a->wanted_dimensions,
                       dimensions);
}

static int on_counted(void *user, const hob_embed_result *r, hob_api_error *e)
{
    hob_embeddings *a = user;
    const uint32_t most = hob_limit_of(a->c->g, a->grant.key, HOB_LIMIT_MAX_PROMPT_TOKENS);

    if (check_dimensions(a, r->dimensions, e) < 0)
        return HOB_EINVAL;
    for (uint32_t i = 0; most && i < r->count; i++)
        if (r->tokens[i] > most) {
            hob_api_bad(e, "prompt_too_long", "input",
                        "this key allows prompts of up to %u tokens; input %u has %u", most, i,
                        r->tokens[i]);
            e->reason = hob_limit_name(HOB_LIMIT_MAX_PROMPT_TOKENS);
            return HOB_EINVAL;
        }
    if (hob_grant_reserve(a->c->g, &a->c->g->links[a->model], &a->grant, r->tokens_in_all, e) < 0)
        return HOB_EINVAL;
    a->tokens = r->tokens_in_all;
    hob_trace_embed(a->c->trace, &a->c->g->links[a->model], a->tokens);
    return 0;
}

static void on_done(void *user, const hob_embed_result *r, const hob_api_error *e)
{
    hob_embeddings *a = user;
    hob_conn *c = a->c;
    hob_api_error none;

    a->embed = NULL;
    hob_trace_enter(c->trace, HOB_SPAN_SEND);
    if (r) {
        const size_t bytes = (size_t)r->count * r->dimensions * sizeof *r->vectors;
        hob_grant_spend(&a->grant, r->tokens_in_all);
        a->count = r->count;
        a->dimensions = r->dimensions;
        if ((a->vectors = malloc(bytes)))
            memcpy(a->vectors, r->vectors, bytes);
        else {
            hob_api_fail(&none, 503, "server_error", "out_of_memory", NULL,
                         "no memory for the answer");
            e = &none;
        }
    }
    if (e) {
        destroy(a);
        hob_http_error(c, e);
    } else
        hob_embeddings_pump(c);
}

/* `default`, and no name, are the first model that embeds. */
static int choose_model(const hob_gateway *g, const hob_api_request *r, uint32_t *ret,
                        hob_api_error *e)
{
    const int found = r->model_given ? (int)r->model : hob_embed_default_model(g);

    for (uint32_t i = 0; found < 0 && i < g->link_count; i++)
        if (!g->links[i].ever_ready) {
            hob_api_fail(e, 503, "server_error", "engine_unavailable", "model",
                         "the models are not loaded yet; try again later");
            e->retry_after_s = 1;
            return HOB_EINVAL;
        }
    if (found < 0)
        return hob_api_bad(e, "unsupported_model", "model", "no model here makes embeddings");
    *ret = (uint32_t)found;
    return 0;
}

void hob_embeddings_serve(hob_conn *c, hob_api_request *r)
{
    static const hob_embed_handler handler = {.counted = on_counted, .done = on_done};
    hob_gateway *g = c->g;
    hob_api_error e = {0};
    uint32_t model = 0;
    hob_embeddings *a = calloc(1, sizeof *a);

    if (!a) {
        hob_api_no_memory(&e);
        hob_http_error(c, &e);
        return;
    }
    a->c = c;
    a->base64 = r->base64;
    a->wanted_dimensions = r->dimensions;
    c->embeddings = a;
    if (choose_model(g, r, &model, &e) < 0)
        goto fail;
    a->model = r->model = model;
    if (check_dimensions(a, hob_embed_dimensions(g, model), &e) < 0 ||
        hob_grant_begin(g, &g->links[model], c->key, r, json_array_size(r->inputs), &a->grant, &e) <
            0)
        goto fail;
    const uint32_t priority = r->class_given ? r->priority
                              : c->key       ? c->key->record.priority
                                             : HOB_PRIORITY_STANDARD;
    const hob_embed_request request = {
        .model = model,
        .class = (hob_arbiter_class)(HOB_ARBITER_INTERACTIVE + priority),
        .tenant = c->key ? c->key->record.tenant_number : 0,
        .patience_ms = hob_limit_of(g, c->key, HOB_LIMIT_PATIENCE_MS),
        .truncate = r->truncate,
        .inputs = r->inputs,
        .handler = &handler,
        .user = a};
    if (hob_embed_start(g, &request, &a->embed, &e) == 0)
        return;
fail:
    destroy(a);
    hob_http_error(c, &e);
}
