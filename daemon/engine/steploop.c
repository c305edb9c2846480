/* SPDX-License-Identifier: Apache-2.0
 *
 * The `step` thread: takes commands between steps, runs the batcher, turns its events into TOKENS, and proves with
 * heartbeats that it is alive. It alone touches batcher and device. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/process.h"

enum {
    REPORT_MS = 1000,
    TURN_MS = 20, /* of waiting for the processor before the mail is looked at again */
};

static void queue_tokens(hob_engine *e, uint64_t id, const hob_tokens_message *t)
{
    pthread_mutex_lock(&e->out_lock);
    int rc = hob_tokens_append(&e->out, id, t);
    pthread_mutex_unlock(&e->out_lock);
    if (rc < 0) {
        fprintf(stderr, "hobd engine: cannot queue tokens: %s\n", hob_error_name(rc));
        _exit(1); /* a stream with a hole is worse than a restart */
    }
}

static void send_cancelled(hob_engine *e, uint64_t id)
{
    static const hob_tokens_message ended = {
        .finish = HOB_FINISH_CANCEL, .ids = (const uint8_t *)"", .text = "", .logprobs = ""};
    queue_tokens(e, id, &ended);
}

/* ---- RUN ---- */

typedef struct run_options {
    hob_sampling sampling;
    const char *stops[HOB_STOPS_MAX];
    uint32_t stop_count, max_tokens, credit, resumed, tenant, priority;
    bool logprobs;
} run_options;

static int read_number(const json_t *o, const char *name, float *ret, hob_diag *diag)
{
    const json_t *v = json_object_get(o, name);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return hob_fail(diag, HOB_EINVAL, "%s: not a number", name);
    *ret = (float)json_number_value(v);
    return 0;
}

static int read_u32(const json_t *o, const char *name, uint32_t *ret, hob_diag *diag)
{
    const json_t *v = json_object_get(o, name);
    if (!v)
        return 0;
    if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > UINT32_MAX)
        return hob_fail(diag, HOB_EINVAL, "%s: not a whole number from 0 to %u", name, UINT32_MAX);
    *ret = (uint32_t)json_integer_value(v);
    return 0;
}

static int read_bias(json_t *o, hob_sampling *s, hob_diag *diag)
{
    json_t *bias = json_object_get(o, "logit_bias"), *v;
    const char *key;
    if (json_object_size(bias) > HOB_BIAS_MAX)
        return hob_fail(diag, HOB_EINVAL, "logit_bias: %zu entries, at most %d",
                        json_object_size(bias), HOB_BIAS_MAX);
    json_object_foreach(bias, key, v)
    {
        char *end;
        unsigned long id = strtoul(key, &end, 10);
        if (*end || end == key || id > UINT32_MAX || !json_is_number(v))
            return hob_fail(diag, HOB_EINVAL,
                            "logit_bias: \"%.20s\" must be a token id with a number", key);
        for (uint32_t i = 0; i < s->bias_count; i++)
            if (s->bias[i].token == id)
                return hob_fail(diag, HOB_EINVAL, "logit_bias: token %lu twice", id);
        s->bias[s->bias_count].token = (uint32_t)id;
        s->bias[s->bias_count++].bias = (float)json_number_value(v);
    }
    return 0;
}

static int read_stops(json_t *o, run_options *r, hob_diag *diag)
{
    json_t *stops = json_object_get(o, "stop"), *v;
    size_t i;
    json_array_foreach(stops, i, v)
    {
        if (r->stop_count == HOB_STOPS_MAX || !json_is_string(v))
            return hob_fail(diag, HOB_EINVAL, "stop: at most %d strings", HOB_STOPS_MAX);
        r->stops[r->stop_count++] = json_string_value(v);
    }
    return 0;
}

static int read_run(json_t *o, run_options *r, hob_diag *diag)
{
    hob_sampling *s = &r->sampling;
    const json_t *logprobs = json_object_get(o, "logprobs"), *seed = json_object_get(o, "seed");
    int rc;

    hob_sampling_default(s);
    if ((rc = read_number(o, "temperature", &s->temperature, diag)) < 0 ||
        (rc = read_number(o, "top_p", &s->top_p, diag)) < 0 ||
        (rc = read_number(o, "min_p", &s->min_p, diag)) < 0 ||
        (rc = read_number(o, "repeat_penalty", &s->repeat_penalty, diag)) < 0 ||
        (rc = read_number(o, "presence_penalty", &s->presence_penalty, diag)) < 0 ||
        (rc = read_number(o, "frequency_penalty", &s->frequency_penalty, diag)) < 0 ||
        (rc = read_u32(o, "top_k", &s->top_k, diag)) < 0 ||
        (rc = read_u32(o, "max_tokens", &r->max_tokens, diag)) < 0 ||
        (rc = read_u32(o, "credit", &r->credit, diag)) < 0 ||
        (rc = read_u32(o, "resumed", &r->resumed, diag)) < 0 ||
        (rc = read_u32(o, "tenant", &r->tenant, diag)) < 0 ||
        (rc = read_u32(o, "priority", &r->priority, diag)) < 0 ||
        (rc = read_bias(o, s, diag)) < 0 || (rc = read_stops(o, r, diag)) < 0)
        return rc;
    if (r->priority >= HOB_PRIORITIES)
        return hob_fail(diag, HOB_EINVAL, "priority: %u, at most %d", r->priority,
                        HOB_PRIORITIES - 1);
    if (json_is_integer(logprobs) && json_integer_value(logprobs) >= 0) {
        r->logprobs = true;
        s->logprobs = json_integer_value(logprobs) > HOB_LOGPROBS_MAX
                          ? HOB_LOGPROBS_MAX
                          : (uint32_t)json_integer_value(logprobs);
    }
    s->seed = json_is_string(seed) ? strtoull(json_string_value(seed), NULL, 10) : 0;
    s->ignore_eos = json_is_true(json_object_get(o, "ignore_eos"));
    return 0;
}

/* Of an EMBED. */
static void run_texts(hob_engine *e, uint64_t id)
{
    hob_prepared *p = hob_prepared_take(e, id);

    if (!p) /* it was cancelled */
        return;
    hob_engine_fault("poison", &p->texts.ids);
    if (hob_embed_queue_submit(e->embeds, id, &p->texts) < 0)
        hob_engine_send_error(e, id, HOB_ENOMEM, "no memory for the request");
    hob_prepared_free(p);
}

static void run(hob_engine *e, const hob_message *m)
{
    hob_diag diag = {"RUN is not a JSON object"};
    run_options r = {.priority = HOB_PRIORITY_STANDARD};
    json_t *o = json_loadb((const char *)m->payload, m->len, JSON_REJECT_DUPLICATES, NULL);
    hob_prepared *p = hob_prepared_take(e, m->id);
    int rc = json_is_object(o) ? read_run(o, &r, &diag) : HOB_EFORMAT;

    if (p)
        hob_engine_fault("poison", &p->ids);
    if (!p) { /* a CANCEL that follows in the mailbox has dropped it already */
        send_cancelled(e, m->id);
        goto done;
    }
    if (rc == 0) {
        const hob_request request = {.id = m->id,
                                     .tokens = p->ids.data,
                                     .token_count = (uint32_t)p->ids.count,
                                     .resumed = r.resumed,
                                     .max_tokens = r.max_tokens,
                                     .credit = r.credit,
                                     .tenant = r.tenant,
                                     .priority = (hob_priority)r.priority,
                                     .sampling = &r.sampling,
                                     .stops = r.stops,
                                     .stop_count = r.stop_count,
                                     .logprobs = r.logprobs};
        rc = hob_batcher_submit(e->batcher, &request, &diag);
    }
    if (rc < 0)
        hob_engine_send_error(e, m->id, rc, diag.text);
done:
    hob_prepared_free(p);
    json_decref(o);
}

/* ---- TOKENS ---- */

/* One token as OpenAI's logprobs describe it; its text is made valid UTF-8, its bytes are exact. */
static json_t *describe_token(const hob_tokenizer *t, uint32_t id, float logprob)
{
    hob_detokenizer d = {0};
    hob_string piece = hob_tokenizer_piece(t, id);
    char text[512];
    size_t len = 0;
    json_t *bytes = json_array();

    if (3 * (piece.len + 4) + 4 <= sizeof text) {
        len = hob_detokenize(t, &d, id, true, text, sizeof text);
        len += hob_detokenize_end(&d, text + len, sizeof text - len);
    }
    for (size_t i = 0; i < piece.len; i++)
        json_array_append_new(bytes, json_integer((uint8_t)piece.data[i]));
    return json_pack("{s:s#, s:f, s:o}", "token", text, (int)len, "logprob",
                     isfinite(logprob) ? (double)logprob : -9999.0, "bytes", bytes);
}

static char *describe_logprobs(const hob_tokenizer *t, const hob_sampled *s)
{
    json_t *list = json_array(), *top = json_array(),
           *chosen = describe_token(t, s->token, s->logprob);
    for (uint32_t i = 0; i < s->top_count; i++)
        json_array_append_new(top, describe_token(t, s->top[i].token, s->top[i].logprob));
    json_object_set_new(chosen, "top_logprobs", top);
    json_array_append_new(list, chosen);
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

/* hob_token_sink */
static void send_event(void *user, const hob_token_event *event)
{
    hob_engine *e = user;
    uint8_t id[4] = {0};
    if (event->finish == HOB_FINISH_ERROR)
        return hob_engine_send_error(e, event->id, HOB_ENOMEM, event->error);
    char *logprobs = event->has_logprob
                         ? describe_logprobs(hob_model_tokenizer(e->model), event->sampled)
                         : NULL;
    hob_put_u32(id, event->token);
    const hob_tokens_message t = {.finish = (uint8_t)event->finish,
                                  .has_logprobs = logprobs != NULL,
                                  .token_count = event->token != HOB_TOKEN_NONE,
                                  .prompt_tokens = event->prompt_tokens,
                                  .cached_tokens = event->cached_tokens,
                                  .answer_tokens = event->answer_tokens,
                                  .waited_us = event->waited_us,
                                  .chunks = event->chunks,
                                  .ids = id,
                                  .text = event->text_len ? event->text : "",
                                  .text_len = event->text_len,
                                  .logprobs = logprobs ? logprobs : "",
                                  .logprobs_len = logprobs ? strlen(logprobs) : 0};
    queue_tokens(e, event->id, &t);
    free(logprobs);
}

/* ---- VECTORS ---- */

/* hob_vector_sink */
static void send_vectors(void *user, uint64_t id, uint32_t first, uint32_t count,
                         const float *vectors)
{
    hob_engine *e = user;
    const size_t width = hob_model_get_info(e->model)->width, floats = count * width;
    uint8_t *payload = malloc(8 + 4 * floats);

    if (!payload) {
        fprintf(stderr, "hobd engine: no memory for %u vectors\n", count);
        _exit(1); /* an answer with a hole is worse than a restart */
    }
    hob_put_u32(payload, first);
    hob_put_u32(payload + 4, count);
    for (size_t i = 0; i < floats; i++) {
        uint32_t bits;
        memcpy(&bits, vectors + i, sizeof bits);
        hob_put_u32(payload + 8 + 4 * i, bits);
    }
    hob_engine_send(e, HOB_MSG_VECTORS, id, payload, 8 + 4 * floats);
    free(payload);
}

/* ---- the loop ---- */

static void cancel(hob_engine *e, uint64_t id)
{
    hob_prepared_drop(e, id);
    if (e->embeds)
        hob_embed_queue_cancel(e->embeds, id);
    else if (hob_batcher_cancel(e->batcher, id))
        send_cancelled(e, id);
}

static void obey(hob_engine *e, const hob_message *m)
{
    switch (m->type) {
    case HOB_MSG_RUN: e->embeds ? run_texts(e, m->id) : run(e, m); break;
    case HOB_MSG_CANCEL: cancel(e, m->id); break;
    case HOB_MSG_ABORT: hob_prepared_drop(e, m->id); break;
    case HOB_MSG_CREDIT:
        if (e->batcher)
            hob_batcher_credit(e->batcher, m->id, m->len == 4 ? hob_get_u32(m->payload) : 0);
        break;
    default: break; /* io lets no other type through */
    }
}

static uint64_t steps_of(const hob_engine *e)
{
    hob_batcher_stats s;
    hob_embed_stats t;

    if (e->embeds) {
        hob_embed_queue_get_stats(e->embeds, &t);
        return t.steps;
    }
    hob_batcher_get_stats(e->batcher, &s);
    return s.steps;
}

static void beat(hob_engine *e, uint32_t expected_ms)
{
    uint8_t beat[16];
    const uint64_t since_us = atomic_load(&e->text_since_us), now_us = hob_now_us();
    hob_put_u64(beat, steps_of(e));
    hob_put_u32(beat + 8,
                since_us && now_us > since_us ? (uint32_t)((now_us - since_us) / 1000) : 0);
    hob_put_u32(beat + 12, expected_ms);
    hob_engine_send(e, HOB_MSG_HEARTBEAT, 0, beat, sizeof beat);
}

void hob_engine_long_step(void *engine, uint32_t expected_ms)
{
    beat(engine, expected_ms);
    hob_engine_wake(engine);
}

static bool has_work(hob_engine *e)
{
    return e->embeds ? hob_embed_queue_has_work(e->embeds) : hob_batcher_has_work(e->batcher);
}

static hob_arbiter_class class_of(hob_engine *e)
{
    return e->embeds ? hob_embed_queue_class(e->embeds)
                     : (hob_arbiter_class)(HOB_ARBITER_INTERACTIVE + hob_batcher_class(e->batcher));
}

/* Runs a step, when there is none to run or it is this engine's turn. */
static void step(hob_engine *e)
{
    if (has_work(e) && !hob_arbiter_enter(&e->arbiter, class_of(e), TURN_MS))
        return;
    int rc = e->embeds ? hob_embed_queue_step(e->embeds, send_vectors, e)
                       : hob_batcher_step(e->batcher, send_event, e);
    if (rc < 0) {
        const hob_device *dev = hob_model_device(e->model);
        fprintf(stderr, "hobd engine: a step failed: %s: %s\n", hob_error_name(rc),
                dev->failure.text);
        _exit(rc == HOB_EDEVICE ? HOB_ENGINE_EXIT_DEVICE : 1);
    }
    hob_arbiter_leave(&e->arbiter, has_work(e));
}

void *hob_engine_step_thread(void *engine)
{
    hob_engine *e = engine;
    uint64_t beaten = 0, reported = 0;
    for (;;) {
        bool work = has_work(e);
        const uint64_t since_ms = (hob_now_us() - beaten) / 1000;
        const int wait_ms =
            work || since_ms >= HOB_ENGINE_BEAT_MS ? 0 : HOB_ENGINE_BEAT_MS - (int)since_ms;
        for (hob_mail *mail = hob_mailbox_take(&e->for_step, wait_ms), *next; mail; mail = next) {
            next = mail->next;
            obey(e, &mail->message);
            free(mail);
        }
        step(e);
        uint64_t now = hob_now_us();
        if (now - beaten >= HOB_ENGINE_BEAT_MS * (uint64_t)1000) {
            beaten = now;
            beat(e, 0);
        }
        if (now - reported >= REPORT_MS * (uint64_t)1000) {
            reported = now;
            hob_engine_report(e);
        }
        hob_engine_wake(e);
    }
    return NULL;
}
