/* SPDX-License-Identifier: Apache-2.0
 *
 * The socket to one engine: frames in, frames out, and what each message means. The engine is a process of its own
 * because it may break; its bytes are checked like a stranger's, and one that breaks the protocol is killed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/gateway/state.h"

enum { QUEUE_MAX = 64 << 20, READ_BYTES = 65536, READS_A_TURN = 8 };

bool hob_link_send(hob_link *l, hob_message_type type, uint64_t id, const void *payload, size_t len)
{
    if (l->state != HOB_LINK_READY || !l->wsi)
        return false;
    /* Small messages (CANCEL, CREDIT) always fit: only new work is turned away. */
    if (len > 64 && hob_bytes_left(&l->out) + len > QUEUE_MAX)
        return false;
    if (hob_message_append(&l->out, type, id, payload, len) < 0)
        return false;
    lws_callback_on_writable(l->wsi);
    return true;
}

/* ---- what clients are told ---- */

void hob_link_explain_wait(bool restarted, hob_api_error *e)
{
    hob_api_fail(e, 503, "server_error", restarted ? "engine_restarted" : "engine_unavailable",
                 NULL,
                 restarted ? "the engine stopped while it was answering, and could not go on"
                           : "the model is not loaded yet; try again later");
    e->retry_after_s = 5;
}

void hob_link_explain_poison(uint32_t engines, hob_api_error *e)
{
    hob_api_fail(
        e, 500, "server_error", "request_poisoned", NULL,
        "the engine died %u times while it was computing this request; it is not tried again",
        engines);
}

void hob_link_explain_failure(const char *code, const char *message, hob_api_error *e)
{
    if (strcmp(code, "HOB_ENOMEM") == 0) {
        hob_api_fail(e, 503, "server_error", "out_of_memory", NULL, "%s", message);
        e->retry_after_s = 1;
    } else
        hob_api_fail(e, 500, "server_error", "engine_error", NULL,
                     "the engine could not answer this request");
}

/* ---- what the engine says ---- */

static json_t *load_object(const hob_message *m)
{
    json_t *o = json_loadb((const char *)m->payload, m->len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(o))
        return o;
    json_decref(o);
    return NULL;
}

static uint32_t bounded(const json_t *o, const char *name, json_int_t most)
{
    json_int_t n = json_integer_value(json_object_get(o, name));
    return n < 0 || n > most ? 0 : (uint32_t)n;
}

static int on_hello(hob_link *l, const hob_message *m)
{
    json_t *o = load_object(m);
    if (!o || l->state != HOB_LINK_STARTING) {
        json_decref(o);
        return HOB_EFORMAT;
    }
    json_decref(l->hello);
    l->hello = o;
    l->context = bounded(o, "context", 1 << 24);
    l->kv_tokens = bounded(o, "kv_tokens", 1 << 30);
    l->max_sequences = bounded(o, "max_sequences", 1 << 16);
    l->dimensions = bounded(o, "dimensions", 1 << 16);
    if (!l->context || !l->max_sequences)
        return HOB_EFORMAT;
    hob_link_ready(l);
    return 0;
}

static int on_message(void *user, const hob_message *m)
{
    hob_link *l = user;
    hob_tokens_message tokens;
    hob_diag diag;
    json_t *o;

    /* Before its HELLO an engine may only show that it lives, or say why it cannot. */
    if (l->state != HOB_LINK_READY && m->type != HOB_MSG_HELLO && m->type != HOB_MSG_HEARTBEAT &&
        m->type != HOB_MSG_STATS && !(m->type == HOB_MSG_ERROR && m->id == 0))
        return HOB_EFORMAT;
    switch (m->type) {
    case HOB_MSG_HELLO: return on_hello(l, m);
    case HOB_MSG_HEARTBEAT:
        if (m->len != 16)
            return HOB_EFORMAT;
        l->heard_us = hob_now_us();
        l->text_ms = hob_get_u32(m->payload + 8);
        l->step_ms = hob_get_u32(m->payload + 12);
        return 0;
    case HOB_MSG_STATS:
        if (!(o = load_object(m)))
            return HOB_EFORMAT;
        json_decref(l->stats);
        l->stats = o;
        l->told = true;
        return 0;
    case HOB_MSG_PREPARED: hob_job_prepared(l->g, l, m->id, m->payload, m->len); break;
    case HOB_MSG_COUNTED: hob_embed_counted(l->g, l, m); break;
    case HOB_MSG_VECTORS: hob_embed_vectors(l->g, l, m); break;
    case HOB_MSG_TOKENS:
        if (hob_tokens_decode(m, &tokens, &diag) < 0)
            return HOB_EFORMAT;
        hob_job_tokens(l->g, l, m->id, &tokens);
        break;
    case HOB_MSG_ERROR:
        if (!(o = load_object(m)))
            return HOB_EFORMAT;
        if (m->id != 0 && !hob_embed_refused(l->g, l, m->id, o))
            hob_job_refused(l->g, l, m->id, o);
        else if (m->id == 0 && json_is_string(json_object_get(o, "message")))
            hob_log(HOB_LOG_ERROR, "%s: engine: %s", l->model->name,
                    json_string_value(json_object_get(o, "message")));
        json_decref(o);
        if (m->id == 0)
            return 0;
        break;
    default: return HOB_EFORMAT;
    }
    return l->state == HOB_LINK_READY ? 0 : HOB_EFORMAT; /* a handler may have given up on it */
}

int hob_link_read(hob_link *l)
{
    static uint8_t buffer[READ_BYTES]; /* loop only */
    hob_diag diag = {"its protocol is broken"};

    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = recv(l->fd, buffer, sizeof buffer, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return 0;
        if (n <= 0) {
            hob_link_fail(l, "it has gone");
            return HOB_EIO;
        }
        int rc = hob_reader_feed(&l->reader, buffer, (size_t)n, on_message, l, &diag);
        if (rc < 0) {
            if (l->state != HOB_LINK_DOWN)
                hob_link_fail(l, diag.text);
            return rc;
        }
        if ((size_t)n < sizeof buffer)
            return 0;
    }
    return 0;
}

int hob_link_write(hob_link *l)
{
    while (hob_bytes_left(&l->out) > 0) {
        ssize_t n = send(l->fd, l->out.data + l->out.start, hob_bytes_left(&l->out),
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            lws_callback_on_writable(l->wsi);
            return 0;
        }
        if (n < 0) {
            hob_link_fail(l, "it cannot be written to");
            return HOB_EIO;
        }
        hob_bytes_consume(&l->out, (size_t)n);
    }
    return 0;
}

int hob_link_callback(hob_link *l, struct lws *wsi, enum lws_callback_reasons reason)
{
    if (l->wsi != wsi)
        return reason == LWS_CALLBACK_RAW_RX_FILE || reason == LWS_CALLBACK_RAW_WRITEABLE_FILE
                   ? -1
                   : 0; /* an old one's */
    switch (reason) {
    case LWS_CALLBACK_RAW_RX_FILE: return hob_link_read(l) < 0 ? -1 : 0;
    case LWS_CALLBACK_RAW_WRITEABLE_FILE: return hob_link_write(l) < 0 ? -1 : 0;
    case LWS_CALLBACK_RAW_CLOSE_FILE: hob_link_fail(l, "its socket was closed"); return 0;
    default: return 0;
    }
}
