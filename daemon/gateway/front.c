/* SPDX-License-Identifier: Apache-2.0
 *
 * A front is the pair of libwebsockets vhosts that connections live in, one with TLS and one without. Timeouts and the
 * certificate belong to a vhost, and mbedTLS reads a certificate as long as a connection made with it lives. A reload
 * therefore makes a new front, which takes in what is accepted from then on; the old one goes with its last connection. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/gateway/state.h"

static uint32_t seconds(uint32_t ms)
{
    return ms < 1000 ? 1 : ms / 1000;
}

/* libwebsockets takes text that begins with dashes for one certificate; whole chains it hands on to mbedTLS when it
 * does not recognize them. */
static int undisguised(const hob_pem *pem, void **ret, unsigned *ret_len, hob_diag *diag)
{
    char *copy = malloc(pem->len + 2);
    if (!copy)
        return hob_fail(diag, HOB_ENOMEM, "no memory");
    copy[0] = '\n';
    memcpy(copy + 1, pem->text, pem->len + 1);
    *ret = copy;
    *ret_len = (unsigned)pem->len + 2; /* with its NUL, as mbedTLS wants text to come */
    return 0;
}

static struct lws_vhost *open_tls(hob_gateway *g, struct lws_context_creation_info info,
                                  const hob_conf *conf, const hob_certificate *certificate,
                                  hob_diag *diag)
{
    struct lws_vhost *vhost = NULL;
    void *chain = NULL, *key = NULL, *authorities = NULL;
    unsigned chain_len, key_len, authorities_len;

    if (undisguised(&certificate->chain, &chain, &chain_len, diag) < 0 ||
        undisguised(&certificate->key, &key, &key_len, diag) < 0)
        goto end;
    info.vhost_name = "tls";
    info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT; /* without it a vhost is plain HTTP */
    info.server_ssl_cert_mem = chain;
    info.server_ssl_cert_mem_len = chain_len;
    info.server_ssl_private_key_mem = key;
    info.server_ssl_private_key_mem_len = key_len;
    if (strcmp(conf->client_auth, "none") != 0) {
        if (undisguised(&certificate->client_ca, &authorities, &authorities_len, diag) < 0)
            goto end;
        info.server_ssl_ca_mem = authorities;
        info.server_ssl_ca_mem_len = authorities_len;
        /* The mbedTLS wrapper of 4.3.5 has the second option the wrong way round: with it a certificate is required,
         * without it optional. Its tests here hold both to what they should do. */
        info.options |= LWS_SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT;
        if (strcmp(conf->client_auth, "required") == 0)
            info.options |= LWS_SERVER_OPTION_PEER_CERT_NOT_REQUIRED;
    }
    vhost = lws_create_vhost(g->context, &info);
    if (!vhost)
        (void)hob_fail(diag, HOB_EIO, "%s: libwebsockets does not take this certificate",
                       conf->tls_cert);
end:
    if (key)
        lws_explicit_bzero(key, certificate->key.len + 1);
    free(key);
    free(chain);
    free(authorities);
    return vhost;
}

static void destroy(hob_front *f)
{
    if (f->tls)
        lws_vhost_destroy(f->tls);
    if (f->plain)
        lws_vhost_destroy(f->plain);
    hob_certificate_free(&f->certificate);
    free(f);
}

int hob_front_open(hob_gateway *g, const hob_conf *conf, hob_diag *diag)
{
    static const struct lws_protocols protocols[] = {
        {.name = "hob", .callback = hob_client_callback, .rx_buffer_size = HOB_WRITE_MAX},
        {.name = NULL}};
    const struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER,
        .protocols = protocols,
        .vhost_name = "plain",
        .keepalive_timeout = (int)seconds(conf->idle_timeout_ms),
        .timeout_secs = seconds(conf->header_timeout_ms),
        .timeout_secs_ah_idle = seconds(conf->header_timeout_ms),
    };
    hob_front *f = calloc(1, sizeof *f);
    int code = f ? 0 : hob_fail(diag, HOB_ENOMEM, "no memory");

    if (code == 0 && !conf->plain) {
        code = hob_certificate_load(conf->tls_cert, conf->tls_key, conf->client_ca, &f->certificate,
                                    diag);
        const bool expired =
            code == 0 && hob_certificate_expired(&f->certificate, (int64_t)time(NULL));
        if (expired && g->front)
            code =
                hob_fail(diag, HOB_EINVAL, "%s: has expired, or is not valid yet", conf->tls_cert);
        else if (expired)
            hob_log(HOB_LOG_WARN, "%s: has expired, or is not valid yet", conf->tls_cert);
        if (code == 0 && !(f->tls = open_tls(g, info, conf, &f->certificate, diag)))
            code = HOB_EIO;
    }
    if (code == 0 && !(f->plain = lws_create_vhost(g->context, &info)))
        code = hob_fail(diag, HOB_EIO, "libwebsockets makes no vhost");
    if (code < 0) {
        if (f)
            destroy(f);
        return code;
    }
    hob_certificate_drop_files(&f->certificate); /* mbedTLS has what it needs */
    f->next = g->front;
    g->front = f;
    return 0;
}

void hob_fronts_tick(hob_gateway *g)
{
    for (hob_front **at = &g->front->next; *at;) {
        hob_front *f = *at;
        if (f->conns > 0) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        destroy(f);
    }
}

void hob_fronts_free(hob_gateway *g)
{
    for (hob_front *f = g->front, *next; f; f = next) { /* the vhosts went with their context */
        next = f->next;
        hob_certificate_free(&f->certificate);
        free(f);
    }
    g->front = NULL;
}

bool hob_front_client_name(const hob_conn *c, char *ret, size_t size)
{
    enum { DER_MAX = 16384 };
    union lws_tls_cert_info_results *info;
    bool found = false;

    if (!c->tls || !(info = malloc(sizeof *info + DER_MAX)))
        return false;
    /* libwebsockets' common name is all parts of the subject run together: the certificate is read here. */
    if (lws_tls_peer_cert_info(c->wsi, LWS_TLS_CERT_INFO_VERIFIED, info, 0) == 0 &&
        info->verified &&
        lws_tls_peer_cert_info(c->wsi, LWS_TLS_CERT_INFO_DER_RAW, info, DER_MAX) == 0)
        found = hob_certificate_common_name((const uint8_t *)info->ns.name, (size_t)info->ns.len,
                                            ret, size);
    free(info);
    return found;
}
