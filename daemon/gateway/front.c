/* SPDX-License-Identifier: Apache-2.0
 *
 * A front is the pair of libwebsockets vhosts that connections live in: one with TLS and one without. Timeouts and the
 * certificate belong to a vhost, and mbedTLS reads a certificate as long as a connection made with it lives. */
#include <stdlib.h>

#include "daemon/gateway/state.h"

static uint32_t seconds(uint32_t ms)
{
    return ms < 1000 ? 1 : ms / 1000;
}

int hob_front_open(hob_gateway *g, hob_diag *diag)
{
    static const struct lws_protocols protocols[] = {
        {.name = "hob", .callback = hob_client_callback, .rx_buffer_size = HOB_WRITE_MAX},
        {.name = NULL}};
    const hob_conf *conf = g->conf;
    struct lws_context_creation_info plain = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .vhost_name = "plain",
        .keepalive_timeout = (int)seconds(conf->idle_timeout_ms),
        .timeout_secs = seconds(conf->header_timeout_ms),
        .timeout_secs_ah_idle = seconds(conf->header_timeout_ms),
    };
    struct lws_context_creation_info tls = plain;
    hob_front *f = calloc(1, sizeof *f);

    if (!f)
        return hob_fail(diag, HOB_ENOMEM, "no memory");
    tls.vhost_name = "tls";
    tls.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT; /* without it a vhost is plain HTTP */
    tls.ssl_cert_filepath = conf->tls_cert;
    tls.ssl_private_key_filepath = conf->tls_key;
    f->plain = lws_create_vhost(g->context, &plain);
    if (!conf->plain)
        f->tls = lws_create_vhost(g->context, &tls);
    if (!f->plain || (!conf->plain && !f->tls)) {
        if (f->plain)
            lws_vhost_destroy(f->plain);
        free(f);
        return hob_fail(diag, HOB_EIO, "unusable certificate %s", conf->tls_cert);
    }
    f->next = g->front;
    g->front = f;
    return 0;
}
