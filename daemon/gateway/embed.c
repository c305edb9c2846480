/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests for vectors: EMBED, the count of their tokens, RUN, vectors as they come, the end. See embed.h.
 *
 * When its engine dies a request waits for the next one and hands over those texts that have no vector yet. As with other
 * requests (recovery.c), those that two engines died with are suspects, which run one at a time with nothing beside them;
 * one that is alone when an engine dies is given up. `unsure` says that the engine may still be at a text that was
 * cancelled: then nobody is condemned before the suspect's own vectors come. */
#include "daemon/gateway/embed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/meter.h"

enum {
    QUERIES_MAX = 256, /* questions that wait for one model */
    SUSPECT_CRASHES = 2,
    RETRY_LEAST_MS = 1000,
    RETRY_MOST_MS = 600000,
};

typedef enum embed_state {
    EMBED_QUEUED,  /* the engine is not up, or suspects run one at a time */
    EMBED_COUNTED, /* EMBED was sent: its tokens are being counted */
    EMBED_RUNNING, /* RUN was sent */
} embed_state;

struct hob_embed {
    hob_gateway *g;
    hob_embed *next; /* the oldest is the first */
    hob_link *link;
    uint64_t id;
    hob_embed_request request;
    embed_state state;
    bool at_engine, admitted; /* counted in link->jobs; its tokens were counted once */
    uint32_t count, done;     /* inputs; of those, with a vector */
    uint32_t sent;            /* done when it was last sent: where the engine's numbers begin */
    uint32_t dimensions;
    uint32_t *tokens; /* [count] */
    uint64_t tokens_in_all, tokens_left;
    float *vectors; /* [count][dimensions] */
    size_t bytes;   /* of inputs, about */
    uint32_t crashes;
    uint64_t began_us, deadline_us;
};

/* ---- the list ---- */

static hob_embed *find(const hob_gateway *g, uint64_t id)
{
    hob_embed *r = g->embeds;
    while (r && r->id != id)
        r = r->next;
    return r;
}

static void set_queued(hob_embed *r)
{
    const uint32_t ms = r->crashes ? HOB_RECOVERY_WAIT_MS : HOB_ENGINE_WAIT_MS;
    r->state = EMBED_QUEUED;
    r->deadline_us = hob_now_us() + ms * (uint64_t)1000;
}

static void leave_engine(hob_embed *r)
{
    if (r->at_engine && r->link->jobs > 0)
        r->link->jobs--;
    r->at_engine = false;
    if (r->link->embed_alone == r->id)
        r->link->embed_alone = 0;
}

static void destroy(hob_embed *r)
{
    hob_embed **at = &r->g->embeds;

    leave_engine(r);
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    json_decref(r->request.inputs);
    free(r->tokens);
    free(r->vectors);
    free(r);
}

static void pump(hob_link *l);

static void note_end(const hob_embed *r, int status)
{
    hob_meter_embedded(r->g, r->link->index, r->request.class, status, hob_now_us() - r->began_us);
}

static void fail(hob_embed *r, const hob_api_error *e)
{
    hob_link *l = r->link;
    r->g->metrics.failed++;
    note_end(r, e->status);
    r->request.handler->done(r->request.user, NULL, e);
    destroy(r);
    pump(l);
}

static void finish(hob_embed *r)
{
    const hob_embed_result result = {.count = r->count,
                                     .dimensions = r->dimensions,
                                     .vectors = r->vectors,
                                     .tokens = r->tokens,
                                     .tokens_in_all = r->tokens_in_all};
    hob_link *l = r->link;
    r->g->metrics.finished++;
    note_end(r, 200);
    l->failures = 0; /* it does its work again */
    r->request.handler->done(r->request.user, &result, NULL);
    destroy(r);
    pump(l);
}

void hob_embed_cancel(hob_embed *r)
{
    hob_link *l = r->link;
    r->g->metrics.cancelled++;
    note_end(r, HOB_METER_LEFT);
    if (r->at_engine && hob_link_send(l, HOB_MSG_CANCEL, r->id, NULL, 0))
        l->unsure = true;
    destroy(r);
    pump(l);
}

size_t hob_embeds_bytes(const hob_gateway *g)
{
    size_t sum = 0;
    for (const hob_embed *r = g->embeds; r; r = r->next)
        sum += sizeof *r + r->bytes + (r->tokens ? r->count * sizeof *r->tokens : 0) +
               (r->vectors ? (size_t)r->count * r->dimensions * sizeof *r->vectors : 0);
    return sum;
}

bool hob_embeds_on(const hob_link *l)
{
    for (const hob_embed *r = l->g->embeds; r; r = r->next)
        if (r->link == l)
            return true;
    return false;
}

/* ---- refusals ---- */

static int refuse_kind(const hob_link *l, hob_api_error *e)
{
    return hob_api_bad(e, "unsupported_model", "model",
                       "the model '%.63s' generates text: it makes no embeddings", l->model->name);
}

static int refuse_unloaded(const hob_link *l, hob_api_error *e)
{
    return hob_api_fail(e, 503, "server_error", "model_unloaded", "model",
                        "the model '%.63s' has been unloaded by an administrator", l->model->name);
}

static int refuse_draining(hob_api_error *e)
{
    hob_api_fail(e, 503, "server_error", "draining", NULL, "the server is shutting down");
    e->retry_after_s = HOB_DRAIN_RETRY_S;
    return HOB_EINVAL;
}

/* Tokens that are computed before a request of this class, and at which rate; 0: that is not known. */
static double wait_ms(const hob_link *l, hob_arbiter_class class, const hob_embed *of)
{
    const double rate = json_number_value(json_object_get(l->stats, "embed_tokens_per_second"));
    uint64_t tokens = 0;

    for (const hob_embed *r = l->g->embeds; r; r = r->next)
        if (r != of && r->link == l && r->request.class <= class)
            tokens += r->tokens_left;
    return rate > 0 ? (double)tokens * 1000 / rate : 0;
}

static uint32_t retry_ms(double ms)
{
    return (uint32_t)(ms < RETRY_LEAST_MS  ? RETRY_LEAST_MS
                      : ms > RETRY_MOST_MS ? RETRY_MOST_MS
                                           : ms);
}

/* More of them than may wait. A question has places of its own, which batches cannot take. */
static int check_places(const hob_link *l, hob_arbiter_class class, hob_api_error *e)
{
    const bool query = class == HOB_ARBITER_QUERY;
    const uint32_t most = query ? QUERIES_MAX : l->max_sequences + l->model->max_waiting;
    uint32_t count = 0;

    for (const hob_embed *r = l->g->embeds; r; r = r->next)
        count += r->link == l && (r->request.class == HOB_ARBITER_QUERY) == query;
    if (count < most)
        return 0;
    hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                 "%u requests for embeddings are running or waiting for this model; try again "
                 "later",
                 count);
    e->reason = hob_shed_name(HOB_SHED_MAX_WAITING);
    e->retry_after_ms = retry_ms(wait_ms(l, class, NULL) / 2);
    l->g->metrics.shed[HOB_SHED_MAX_WAITING]++;
    return HOB_EINVAL;
}

static int check_patience(const hob_embed *r, hob_api_error *e)
{
    const double ms = wait_ms(r->link, r->request.class, r);

    if (r->request.patience_ms == 0 || ms <= r->request.patience_ms)
        return 0;
    hob_api_fail(e, 429, "rate_limit_error", "server_busy", NULL,
                 "the texts before these take about %.1f s, and this key waits %.1f s at most",
                 ms / 1000, r->request.patience_ms / 1000.0);
    e->reason = hob_shed_name(HOB_SHED_PATIENCE);
    e->retry_after_ms = retry_ms(ms - r->request.patience_ms / 2.0);
    r->g->metrics.shed[HOB_SHED_PATIENCE]++;
    return HOB_EINVAL;
}

static void fail_unavailable(hob_embed *r)
{
    hob_api_error e;
    hob_link_explain_wait(r->crashes > 0, &e);
    fail(r, &e);
}

static void fail_poisoned(hob_embed *r)
{
    hob_api_error e;
    hob_log(HOB_LOG_WARN,
            "%s: a request for embeddings of %u texts is given up: %u engines died with it, the "
            "last with nothing else to do",
            r->link->model->name, r->count, r->crashes + 1);
    hob_link_explain_poison(r->crashes + 1, &e);
    r->g->metrics.poisoned++;
    fail(r, &e);
}

static void fail_busy(hob_embed *r)
{
    hob_api_error e;
    hob_api_fail(&e, 503, "server_error", "engine_unavailable", NULL,
                 "the queue to the engine is full; try again later");
    e.retry_after_s = 1;
    fail(r, &e);
}

/* ---- to the engine ---- */

/* What has no vector yet. */
static bool send_inputs(hob_embed *r)
{
    hob_text *t = &r->g->scratch;

    hob_text_clear(t);
    hob_text_format(t, "{\"class\":%d,\"tenant\":%u,\"truncate\":%s,\"inputs\":[",
                    (int)r->request.class, r->request.tenant,
                    r->request.truncate ? "true" : "false");
    for (uint32_t i = r->done; i < r->count; i++) {
        hob_text_puts(t, i > r->done ? "," : "");
        hob_text_json(t, json_array_get(r->request.inputs, i));
    }
    hob_text_puts(t, "]}");
    if (t->failed ||
        !hob_link_send(r->link, HOB_MSG_EMBED, r->id, hob_text_data(t), hob_text_len(t)))
        return false;
    r->sent = r->done;
    r->state = EMBED_COUNTED;
    r->at_engine = true;
    r->link->jobs++;
    return true;
}

static bool is_suspect(const hob_embed *r)
{
    return r->crashes >= SUSPECT_CRASHES;
}

/* The suspect that is to run by itself; NULL: there are none. *ret_busy: the engine has something. */
static hob_embed *first_suspect(const hob_link *l, bool *ret_busy)
{
    hob_embed *first = NULL;

    *ret_busy = false;
    for (hob_embed *r = l->g->embeds; r; r = r->next) {
        if (r->link != l)
            continue;
        *ret_busy |= r->at_engine;
        if (is_suspect(r) && !first)
            first = r;
    }
    return first;
}

/* Those that wait here go to the engine, unless suspects come first. */
static void pump(hob_link *l)
{
    bool busy;

    if (l->state != HOB_LINK_READY || l->g->ending)
        return;
    hob_embed *suspect = first_suspect(l, &busy);
    if (suspect) {
        if (busy)
            return;
        hob_log(HOB_LOG_INFO, "%s: %u engines died with a request for embeddings: it runs alone",
                l->model->name, suspect->crashes);
        l->embed_alone = suspect->id;
        if (!send_inputs(suspect))
            fail_busy(suspect);
        return;
    }
    for (hob_embed *r = l->g->embeds, *next; r; r = next) {
        hob_api_error e;
        next = r->next;
        if (r->link != l || r->state != EMBED_QUEUED)
            continue;
        if (l->dimensions == 0) {
            (void)refuse_kind(l, &e);
            fail(r, &e); /* and the next, by a pump of its own */
            return;
        }
        if (!send_inputs(r)) {
            fail_busy(r);
            return;
        }
    }
}

static size_t inputs_bytes(const json_t *inputs)
{
    size_t bytes = 0, i;
    json_t *v;

    json_array_foreach(inputs, i, v) bytes +=
        64 + (json_is_string(v) ? json_string_length(v) : 64 * json_array_size(v));
    return bytes;
}

int hob_embed_start(hob_gateway *g, const hob_embed_request *request, hob_embed **ret,
                    hob_api_error *e)
{
    hob_link *l = &g->links[request->model];
    const size_t count = json_array_size(request->inputs);
    hob_embed **at = &g->embeds;
    bool busy;

    *e = (hob_api_error){0};
    if (count == 0 || count > HOB_EMBED_INPUTS_MAX)
        return hob_api_bad(e, "invalid_value", "input",
                           "input: got %zu inputs, allowed are 1 to %d", count,
                           HOB_EMBED_INPUTS_MAX);
    if (l->ever_ready && l->dimensions == 0)
        return refuse_kind(l, e);
    if (l->unloading)
        return refuse_unloaded(l, e);
    if (g->draining)
        return refuse_draining(e);
    if (check_places(l, request->class, e) < 0)
        return HOB_EINVAL;
    hob_embed *r = calloc(1, sizeof *r);
    if (!r)
        return hob_api_no_memory(e);
    r->g = g;
    r->link = l;
    r->id = ++g->next_id;
    r->began_us = hob_now_us();
    r->request = *request;
    json_incref(r->request.inputs);
    r->count = (uint32_t)count;
    r->bytes = inputs_bytes(request->inputs);
    while (*at)
        at = &(*at)->next;
    *at = r;
    g->metrics.jobs++;
    set_queued(r);
    if (l->state == HOB_LINK_READY && !first_suspect(l, &busy) && !send_inputs(r)) {
        note_end(r, 503);
        destroy(r);
        hob_api_fail(e, 503, "server_error", "engine_unavailable", NULL,
                     "the queue to the engine is full; try again later");
        e->retry_after_s = 1;
        return HOB_EINVAL;
    }
    *ret = r;
    return 0;
}

int hob_embed_default_model(const hob_gateway *g)
{
    for (uint32_t i = 0; i < g->link_count; i++)
        if (g->links[i].dimensions)
            return (int)i;
    return -1;
}

uint32_t hob_embed_dimensions(const hob_gateway *g, uint32_t model)
{
    return g->links[model].dimensions;
}

/* ---- from the engine ---- */

/* The first time: keeps the counts and makes room for the vectors. */
static int admit(hob_embed *r, const uint8_t *payload, hob_api_error *e)
{
    const size_t floats = (size_t)r->count * r->link->dimensions;

    if (hob_buffers_admit(r->g, floats * sizeof *r->vectors + r->count * sizeof *r->tokens, e) < 0)
        return HOB_EINVAL;
    r->dimensions = r->link->dimensions;
    r->tokens = calloc(r->count, sizeof *r->tokens);
    r->vectors = calloc(floats, sizeof *r->vectors);
    if (!r->tokens || !r->vectors)
        return hob_api_no_memory(e);
    for (uint32_t i = 0; i < r->count; i++) {
        r->tokens[i] = hob_get_u32(payload + 4 * (size_t)i);
        r->tokens_in_all += r->tokens[i];
    }
    const hob_embed_result counts = {.count = r->count,
                                     .dimensions = r->dimensions,
                                     .tokens = r->tokens,
                                     .tokens_in_all = r->tokens_in_all};
    if (check_patience(r, e) < 0 || (r->request.handler->counted &&
                                     r->request.handler->counted(r->request.user, &counts, e) < 0))
        return HOB_EINVAL;
    r->tokens_left = r->tokens_in_all;
    r->admitted = true;
    r->g->metrics.prompt_tokens[r->link->index] += r->tokens_in_all;
    return 0;
}

void hob_embed_counted(hob_gateway *g, hob_link *l, const hob_message *m)
{
    hob_embed *r = find(g, m->id);
    hob_api_error e = {0};

    if (!r || r->link != l) {
        (void)hob_link_send(l, HOB_MSG_ABORT, m->id, NULL, 0);
        return;
    }
    if (r->state != EMBED_COUNTED || m->len != 4 * (size_t)(r->count - r->sent)) {
        hob_link_fail(l, "a broken COUNTED message");
        return;
    }
    for (uint32_t i = 0; i < r->count - r->sent; i++) {
        const uint32_t tokens = hob_get_u32(m->payload + 4 * (size_t)i);
        if (tokens == 0 || tokens > l->context) {
            hob_link_fail(l, "COUNTED of an impossible number of tokens");
            return;
        }
    }
    if (!r->admitted && admit(r, m->payload, &e) < 0) {
        (void)hob_link_send(l, HOB_MSG_ABORT, m->id, NULL, 0);
        fail(r, &e);
        return;
    }
    r->state = EMBED_RUNNING;
    if (!hob_link_send(l, HOB_MSG_RUN, r->id, NULL, 0))
        fail_busy(r);
}

void hob_embed_vectors(hob_gateway *g, hob_link *l, const hob_message *m)
{
    hob_embed *r = find(g, m->id);

    if (!r || r->link != l)
        return; /* cancelled a moment ago */
    const uint32_t first = m->len < 8 ? 0 : hob_get_u32(m->payload),
                   count = m->len < 8 ? 0 : hob_get_u32(m->payload + 4);
    if (r->state != EMBED_RUNNING || count == 0 || first != r->done - r->sent ||
        count > r->count - r->done || m->len - 8 != (size_t)count * r->dimensions * 4) {
        hob_link_fail(l, "a broken VECTORS message");
        return;
    }
    float *to = r->vectors + (size_t)r->done * r->dimensions;
    for (size_t i = 0; i < (size_t)count * r->dimensions; i++) {
        const uint32_t bits = hob_get_u32(m->payload + 8 + 4 * i);
        memcpy(&to[i], &bits, sizeof bits);
        if (!isfinite(to[i])) {
            hob_api_error e;
            hob_api_fail(&e, 500, "server_error", "engine_error", NULL,
                         "the model gave no number for input %u", r->done);
            (void)hob_link_send(l, HOB_MSG_CANCEL, r->id, NULL, 0);
            l->unsure = true;
            fail(r, &e);
            return;
        }
    }
    if (l->embed_alone == r->id)
        l->unsure = false;
    for (uint32_t i = 0; i < count; i++)
        r->tokens_left -= r->tokens[r->done++];
    if (r->done == r->count)
        finish(r);
}

bool hob_embed_refused(hob_gateway *g, const hob_link *l, uint64_t id, const json_t *error)
{
    hob_embed *r = find(g, id);
    const char *code = json_string_value(json_object_get(error, "code")),
               *message = json_string_value(json_object_get(error, "message"));
    const json_int_t tokens = json_integer_value(json_object_get(error, "tokens")),
                     most = json_integer_value(json_object_get(error, "max_tokens"));
    hob_api_error e;

    if (!r || r->link != l)
        return false;
    leave_engine(r);
    code = code && message ? code : "HOB_E?";
    if (tokens > 0 && strcmp(code, "HOB_ELIMIT") == 0)
        hob_api_bad(&e, "context_length_exceeded", "input",
                    "input %lld has %lld tokens, and this model takes %lld at most; "
                    "\"hob_truncate\": true cuts it",
                    (long long)json_integer_value(json_object_get(error, "input")),
                    (long long)tokens, (long long)most);
    else if (strcmp(code, "HOB_EINVAL") == 0 || strcmp(code, "HOB_ELIMIT") == 0)
        hob_api_bad(&e, "invalid_value", "input", "%s", message);
    else if (strcmp(code, "HOB_EUNSUPPORTED") == 0)
        hob_api_bad(&e, "unsupported_model", "model", "%s", message);
    else
        hob_link_explain_failure(code, message, &e);
    fail(r, &e);
    return true;
}

/* ---- engines that come and go ---- */

bool hob_embeds_link_lost(hob_gateway *g, hob_link *l)
{
    const uint64_t condemned = l->unsure ? 0 : l->embed_alone;
    hob_embed *poison = NULL;

    for (hob_embed *r = g->embeds; r; r = r->next) {
        if (r->link != l || !r->at_engine)
            continue;
        leave_engine(r);
        if (r->id == condemned) {
            poison = r;
            continue;
        }
        g->metrics.recovered++;
        r->crashes++;
        set_queued(r);
    }
    if (poison)
        fail_poisoned(poison);
    return poison != NULL;
}

void hob_embeds_link_ready(hob_gateway *g, hob_link *l)
{
    l->embed_alone = 0;
    for (hob_embed *r = g->embeds, *next; r; r = next) {
        next = r->next;
        if (r->link == l && r->admitted && r->dimensions != l->dimensions) {
            fail_unavailable(
                r); /* another model by the same name: its vectors are none of the first's */
            next = g->embeds;
        }
    }
    pump(l);
}

void hob_embeds_tick(hob_gateway *g, uint64_t now_us)
{
    for (hob_embed *r = g->embeds, *next; r; r = next) {
        next = r->next;
        if (r->state != EMBED_QUEUED)
            continue;
        if (r->link->state == HOB_LINK_READY)
            set_queued(r); /* only time without an engine counts */
        else if (now_us > r->deadline_us) {
            fail_unavailable(r);
            next = g->embeds;
        }
    }
}

void hob_embeds_shut_down(hob_gateway *g, const hob_link *of)
{
    for (hob_embed *r = g->embeds, *next; r; r = next) {
        hob_api_error e;
        next = r->next;
        if (of && r->link != of)
            continue;
        if (of)
            (void)refuse_unloaded(of, &e);
        else
            (void)refuse_draining(&e);
        if (r->at_engine) {
            (void)hob_link_send(r->link, HOB_MSG_CANCEL, r->id, NULL, 0);
            r->link->unsure = true;
        }
        fail(r, &e);
        next = g->embeds;
    }
}

void hob_embeds_free(hob_gateway *g)
{
    while (g->embeds)
        destroy(g->embeds);
}
