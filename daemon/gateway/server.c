/* SPDX-License-Identifier: Apache-2.0
 *
 * The libwebsockets context: vhosts for clients (front.c), one for engines, signals and listening sockets, and the way
 * from a callback to a connection or a link. A timer checks deadlines. SIGTERM drains: running answers may finish, new
 * requests are refused with a reason, and a second signal ends it at once. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/gateway/ingest.h"
#include "daemon/gateway/meter.h"
#include "daemon/gateway/responses.h"
#include "daemon/gateway/trace.h"

enum {
    TICK_US = 200000,
    CROWD = 64,                /* connections */
    HEADS_BESIDE = 8,          /* of connections that come and are sent away */
    DRAIN_MARGIN_US = 2000000, /* before the deadline answers that still run are ended */
    LOG_PATIENCE_MS = 500,     /* for the last lines */
    FDS_BESIDE = 96, /* engines, signals, listeners, admin connections, files being read */
};

/* libwebsockets keeps both in 16 bits. */
_Static_assert(HOB_CONF_CONNECTIONS_MAX + HOB_ADMIN_CONNECTIONS + HEADS_BESIDE <= UINT16_MAX,
               "each connection may have a head in the making");

void hob_gateway_end(hob_gateway *g, int status)
{
    g->ending = true;
    g->status = status;
    lws_cancel_service(g->context);
}

/* ---- signals ---- */

static void on_stop_signal(hob_gateway *g, int number)
{
    if (g->draining) {
        hob_log(HOB_LOG_WARN, "second signal: ending at once");
        hob_gateway_end(g, 1);
        return;
    }
    g->draining = true;
    g->drain_until_us = hob_now_us() + g->conf->drain_timeout_ms * (uint64_t)1000;
    hob_log(HOB_LOG_INFO, "%s: draining %u connections", strsignal(number), g->conn_count);
    hob_notify(g, "STOPPING");
}

static void read_signals(hob_gateway *g)
{
    struct signalfd_siginfo s;
    while (read(g->signal_fd, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGCHLD)
            hob_links_reap(g);
        else if (s.ssi_signo == SIGHUP)
            hob_gateway_reload(g, s.ssi_uid);
        else
            on_stop_signal(g, (int)s.ssi_signo);
    }
}

static int open_signals(hob_gateway *g, hob_diag *diag)
{
    lws_sock_file_fd_type fd;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGCHLD);
    (void)signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 ||
        (g->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)) < 0)
        return hob_fail(diag, HOB_EIO, "signals: %s", strerror(errno));
    fd.filefd = g->signal_fd;
    struct lws *wsi =
        lws_adopt_descriptor_vhost(g->inner, LWS_ADOPT_RAW_FILE_DESC, fd, "hob-inner", NULL);
    if (!wsi)
        return hob_fail(diag, HOB_ENOMEM, "signals: no memory");
    lws_set_opaque_user_data(wsi, g);
    return 0;
}

/* ---- callbacks ---- */

static hob_gateway *gateway_of(struct lws *wsi)
{
    return lws_context_user(lws_get_context(wsi));
}

/* Engines and signals: raw descriptors, told apart by their opaque pointer. */
static int inner_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                          size_t len)
{
    void *owner = lws_get_opaque_user_data(wsi);
    hob_gateway *g = gateway_of(wsi);

    (void)user;
    (void)in;
    (void)len;
    if (reason == LWS_CALLBACK_EVENT_WAIT_CANCELLED) { /* the store has woken us */
        if (g->store)
            hob_store_collect(g->store);
        hob_ingest_collect(g);
        return 0;
    }
    if (reason != LWS_CALLBACK_RAW_RX_FILE && reason != LWS_CALLBACK_RAW_WRITEABLE_FILE &&
        reason != LWS_CALLBACK_RAW_CLOSE_FILE)
        return 0;
    if (!owner)
        return reason == LWS_CALLBACK_RAW_CLOSE_FILE ? 0 : -1; /* an engine that was given up */
    if (owner != g)
        return hob_link_callback(owner, wsi, reason);
    if (reason == LWS_CALLBACK_RAW_RX_FILE)
        read_signals(g);
    return 0;
}

/* Listening sockets. */
static int listen_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                           size_t len)
{
    hob_listener *l = lws_get_opaque_user_data(wsi);
    (void)user;
    (void)in;
    (void)len;
    return l ? hob_listener_callback(l, reason) : 0;
}

int hob_client_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                        size_t len)
{
    hob_conn *c;

    (void)user;
    switch (reason) {
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        c = hob_conn_new(gateway_of(wsi), wsi, (int)lws_get_socket_fd(wsi));
        if (!c)
            return -1;
        lws_set_opaque_user_data(wsi, c);
        return 0;
    case LWS_CALLBACK_HTTP:
        hob_loop_settle(&gateway_of(wsi)->loop, (int)lws_get_socket_fd(wsi));
        /* fallthrough */
    case LWS_CALLBACK_HTTP_BODY:
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
    case LWS_CALLBACK_HTTP_WRITEABLE:
        c = lws_get_opaque_user_data(wsi);
        return c ? hob_http_callback(c, reason, in, len) : -1;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        c = lws_get_opaque_user_data(wsi);
        if (!c)
            return -1;
        return in && strcasecmp(in, "websocket") == 0 ? hob_websocket_confirm(c) : 0;
    case LWS_CALLBACK_ESTABLISHED:
        hob_loop_settle(&gateway_of(wsi)->loop, (int)lws_get_socket_fd(wsi));
        /* fallthrough */
    case LWS_CALLBACK_RECEIVE:
    case LWS_CALLBACK_RECEIVE_PONG:
    case LWS_CALLBACK_SERVER_WRITEABLE:
        c = lws_get_opaque_user_data(wsi);
        return c ? hob_websocket_callback(c, reason, in, len) : -1;
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_CLOSED:
        if ((c = lws_get_opaque_user_data(wsi))) {
            c->state = HOB_CONN_CLOSING;
            hob_conn_drop_jobs(c);
        }
        return 0;
    case LWS_CALLBACK_WSI_DESTROY: /* may be the only word of its end */
        if ((c = lws_get_opaque_user_data(wsi))) {
            lws_set_opaque_user_data(wsi, NULL);
            hob_conn_free(c);
        }
        return 0;
    default:
        return 0; /* the rest has a default inside libwebsockets that files would want, and none are served */
    }
}

static uint64_t drain_margin_us(const hob_gateway *g)
{
    const uint64_t quarter_us = g->conf->drain_timeout_ms * (uint64_t)250;
    return quarter_us < DRAIN_MARGIN_US ? quarter_us : DRAIN_MARGIN_US;
}

/* After a crowd has left, what its connections held lies scattered among the rest: the allocator gives it back when told. */
static void return_memory(hob_gateway *g)
{
    if (g->conn_count > g->conn_peak)
        g->conn_peak = g->conn_count;
    if (g->conn_peak < CROWD || g->conn_count > g->conn_peak / 4)
        return;
    (void)malloc_trim(0);
    g->conn_peak = g->conn_count;
}

static void on_tick(lws_sorted_usec_list_t *sul)
{
    hob_gateway *g = lws_container_of(sul, hob_gateway, tick);

    hob_embeds_tick(g, hob_now_us());
    hob_jobs_tick(g, hob_now_us()); /* first: what a client is told spares it a heartbeat */
    const uint64_t now = hob_now_us();
    bool busy = g->jobs != NULL;
    for (hob_conn *c = g->conns, *next; c; c = next) {
        next = c->next;
        hob_conn_tick(c, now);
        busy |= hob_conn_is_busy(c);
    }
    hob_responses_tick(g, now);
    hob_links_tick(g, now);
    hob_accounts_tick(g, now);
    hob_ingest_tick(g, now);
    hob_listeners_tick(g);
    hob_fronts_tick(g);
    hob_renewal_tick(g, now);
    return_memory(g);
    hob_notify_tick(g, now);
    hob_load_tick(&g->load, now);
    if (g->draining && now + drain_margin_us(g) > g->drain_until_us) {
        while (g->jobs) /* told why, with time left to read it */
            hob_job_shut_down(g->jobs, false);
        hob_embeds_shut_down(g, NULL);
    }
    if (g->draining && !g->ending && (!busy || now > g->drain_until_us)) {
        if (busy)
            hob_log(HOB_LOG_WARN, "drain timeout: %u connections are cut off", g->conn_count);
        hob_gateway_end(g, 0);
    }
    if (!g->ending)
        lws_sul_schedule(g->context, 0, &g->tick, on_tick, TICK_US);
}

/* ---- start and end ---- */

/* Even its errors are for those who look for them: clients can cause most of them, as often as they like. */
static void log_lws(int level, const char *line)
{
    (void)level;
    hob_log(HOB_LOG_DEBUG, "libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

/* Exactly what is needed: libwebsockets makes its tables as long as the limit is, and with that finds a connection by its
 * descriptor at once. (Told of a smaller number than the limit it searches them, for each event anew.) */
static int set_descriptor_limit(uint32_t need, hob_diag *diag)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) < 0)
        return hob_fail(diag, HOB_EIO, "RLIMIT_NOFILE: %s", strerror(errno));
    if (r.rlim_max < need)
        return hob_fail(diag, HOB_ELIMIT, "max_connections needs %u open files, the limit is %llu",
                        need, (unsigned long long)r.rlim_max);
    r.rlim_cur = need;
    if (setrlimit(RLIMIT_NOFILE, &r) < 0)
        return hob_fail(diag, HOB_EIO, "RLIMIT_NOFILE: %s", strerror(errno));
    return 0;
}

static int open_context(hob_gateway *g, hob_diag *diag)
{
    static const struct lws_protocols inner_protocols[] = {
        {.name = "hob-inner", .callback = inner_callback},
        {.name = "hob-listen", .callback = listen_callback},
        {.name = NULL}};
    const hob_conf *conf = g->conf;
    struct lws_context_creation_info info = {
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .user = g,
        .max_http_header_data = (unsigned short)conf->max_header_bytes,
        .max_http_header_pool2 = conf->max_connections + HOB_ADMIN_CONNECTIONS + HEADS_BESIDE,
        .pt_serv_buf_size = HOB_WRITE_MAX,
        .timeout_secs =
            (unsigned)(conf->header_timeout_ms < 1000 ? 1 : conf->header_timeout_ms / 1000),
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
    };

    hob_loop_describe(&g->loop, &info);
    lws_set_log_level(LLL_ERR | LLL_WARN, log_lws);
    g->context = lws_create_context(&info);
    if (!g->context)
        return hob_fail(diag, HOB_EIO, "libwebsockets cannot start");

    struct lws_context_creation_info inner = {
        .port = CONTEXT_PORT_NO_LISTEN, .protocols = inner_protocols, .vhost_name = "inner"};
    g->inner = lws_create_vhost(g->context, &inner);
    if (!g->inner)
        return hob_fail(diag, HOB_EIO, "libwebsockets cannot start");

    return 0;
}

int hob_gateway_run(hob_conf *conf, const char *path)
{
    hob_gateway *g = calloc(1, sizeof *g);
    hob_diag diag = {"no memory"};
    int status = 1;

    if (hob_log_start() < 0)
        hob_log(HOB_LOG_WARN, "no memory for the log: whoever reads it slowly holds up everything");
    if (!g)
        goto fail;
    g->conf = conf;
    g->conf_path = path;
    g->give_up = !path;
    hob_notify_open(g);
    g->signal_fd = g->arbiter_fd = -1;
    g->started_us = g->links_us = hob_now_us();
    g->started_s = (int64_t)time(NULL);
    const uint32_t descriptors = conf->max_connections + 2 * FDS_BESIDE;
    if (set_descriptor_limit(descriptors, &diag) < 0 ||
        hob_loop_open(&g->loop, descriptors, hob_listener_take_in, &diag) < 0)
        goto fail;
    hob_renewal_open(g);
    if (hob_meter_open(g) < 0 || open_context(g, &diag) < 0 || hob_front_open(g, conf, &diag) < 0 ||
        open_signals(g, &diag) < 0 || hob_listeners_open(g, &diag) < 0 ||
        hob_accounts_open(g, &diag) < 0 || hob_traces_open(g, &diag) < 0)
        goto fail;
    if (conf->model_count > 1 && hob_arbiter_new(&g->arbiter, &g->arbiter_fd) < 0)
        hob_log(HOB_LOG_WARN, "engines compute without taking turns: no shared page: %s",
                strerror(errno));
    for (uint32_t i = 0; i < conf->model_count; i++, g->link_count++)
        hob_link_open(&g->links[i], g, i);
    lws_sul_schedule(g->context, 0, &g->tick, on_tick, TICK_US);
    while (!g->ending && hob_loop_turn(&g->loop) >= 0)
        g->loop.inferring = g->jobs != NULL;
    status = g->ending ? g->status : 1;
    g->ending = true;
    goto done;
fail:
    hob_log(HOB_LOG_ERROR, "%s", diag.text);
    if (g)
        g->ending = true;
done:
    if (!g) {
        hob_log_stop(LOG_PATIENCE_MS);
        return status;
    }
    while (g->jobs)
        hob_job_abandon(g->jobs);
    for (hob_conn *c = g->conns; c; c = c->next) {
        hob_embeddings_drop(c);
        hob_search_drop(c);
    }
    hob_accounts_close(g); /* the store's thread wakes the context */
    for (uint32_t i = 0; i < g->link_count; i++)
        hob_link_close(&g->links[i]);
    hob_listeners_close(g);
    if (g->context) {
        lws_sul_cancel(&g->queue);
        lws_context_destroy(g->context);
    }
    hob_loop_close(&g->loop);
    hob_jobs_free(g);
    hob_embeds_free(g);
    hob_responses_free(g);
    hob_arbiter_free(g->arbiter);
    if (g->arbiter_fd >= 0)
        close(g->arbiter_fd);
    hob_meter_close(g);
    hob_keyring_free(&g->keys); /* connections held keys until the context went */
    hob_text_free(&g->scratch);
    hob_fronts_free(g);
    hob_traces_close(g);
    if (g->notify_fd >= 0)
        close(g->notify_fd);
    free(g);
    hob_log(HOB_LOG_INFO, "ended with %d", status);
    hob_log_stop(LOG_PATIENCE_MS);
    return status;
}
