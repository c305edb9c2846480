/* SPDX-License-Identifier: Apache-2.0
 *
 * Engine processes: started, watched, restarted. An engine that exits, breaks the protocol or stops its heartbeat is
 * killed and started again: at once when it had been up, then after a pause that doubles with each failure in a row. A
 * hang is a crash. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/engine/spawn.h"
#include "daemon/gateway/ingest.h"

enum {
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MOST_MS = 30000,
    LOAD_TIMEOUT_S = 300,
    GATEWAY_MB = 16,       /* of a memory budget, for the gateway beside its buffers */
    STOOD_STILL_MS = 1000, /* between two looks at the engines; usual are 200 */
    STEADY_S = 60,         /* alive for so long, an engine's past failures are forgotten */
};

_Static_assert((int)HOB_ENGINE_FD == (int)HOB_SPAWN_FD, "the first descriptor");
_Static_assert((int)HOB_ARBITER_SLOTS >= (int)HOB_CONF_MODELS_MAX, "a slot for each engine");

static const char *kv_name(hob_type type)
{
    return type == HOB_TYPE_Q8_0 ? "q8_0" : "f16";
}

static uint64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 1;
}

/* What an engine may hold of memory_mb: the engines share, by the size of their models, what the gateway does not need.
 * 0: there is no limit. */
static uint32_t memory_share_mb(const hob_link *l)
{
    const hob_conf *c = l->g->conf;
    const uint32_t total = c->memory_mb,
                   index = c->plain ? 0 : (uint32_t)(hob_index_limit(c) >> 20),
                   gateway = (uint32_t)(hob_buffers_limit(c) >> 20) + GATEWAY_MB + index;
    uint64_t all = 0;

    if (total == 0)
        return 0;
    for (uint32_t i = 0; i < c->model_count; i++)
        all += file_bytes(c->models[i].path);
    if (total <= gateway)
        return 1;
    const double share = (double)file_bytes(l->model->path) / (double)all * (total - gateway);
    return share < 1 ? 1 : (uint32_t)share;
}

static int spawn_child(const hob_link *l, const char *device, int fd, pid_t *ret)
{
    const hob_conf_model *m = l->model;
    const struct {
        const char *name;
        uint32_t value;
    } numbers[] = {
        {"--fd", HOB_ENGINE_FD},
        {"--threads", m->threads},
        {"--context", m->context},
        {"--kv-tokens", m->kv_tokens},
        {"--prefix-tokens", m->prefix_tokens},
        {"--itl-target-ms", m->itl_target_ms},
        {"--memory-mb", memory_share_mb(l)},
        {"--max-sequences", m->max_sequences},
        {"--max-waiting", m->max_waiting},
        {"--slot", l->g->arbiter ? l->index + 1 : 0},
    };
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    char digits[NUMBERS][16];
    const char *argv[2 + 6 + 2 * NUMBERS + 2 + 1] = {
        "hobd", "--engine", "--model", m->path, "--device", device, "--kv", kv_name(m->kv_type)};
    const int fds[] = {fd, l->g->arbiter_fd};

    for (int i = 0; i < NUMBERS; i++) {
        snprintf(digits[i], sizeof digits[i], "%u", numbers[i].value);
        argv[8 + 2 * i] = numbers[i].name;
        argv[9 + 2 * i] = digits[i];
    }
    if (m->sha256[0]) {
        argv[8 + 2 * NUMBERS] = "--sha256";
        argv[9 + 2 * NUMBERS] = m->sha256;
    }
    return hob_spawn_self(argv, fds, l->g->arbiter ? 2 : 1, false, ret);
}

/* An engine that was up has streams that wait for the next one: only in a row do they have to wait longer. */
static void schedule_restart(hob_link *l, bool was_ready)
{
    uint64_t ms = was_ready && l->failures == 0 ? 0 : BACKOFF_FIRST_MS;
    for (uint32_t i = 1; i < l->failures && ms < BACKOFF_MOST_MS; i++)
        ms *= 2;
    l->failures++;
    l->restart_us = hob_now_us() + (ms < BACKOFF_MOST_MS ? ms : BACKOFF_MOST_MS) * 1000;
}

static void start(hob_link *l)
{
    int pair[2];
    lws_sock_file_fd_type fd;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        hob_log(HOB_LOG_ERROR, "%s: no socket pair: %s", l->model->name, strerror(errno));
        schedule_restart(l, false);
        return;
    }
    if (fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ||
        spawn_child(l, l->benched ? "cpu" : l->model->device, pair[1], &l->pid) < 0) {
        hob_log(HOB_LOG_ERROR, "%s: the engine cannot be started: %s", l->model->name,
                strerror(errno));
        l->pid = 0;
        close(pair[0]);
        close(pair[1]);
        schedule_restart(l, false);
        return;
    }
    close(pair[1]);
    l->fd = fd.filefd = pair[0];
    hob_reader_free(&l->reader);
    l->reader = (hob_reader){0};
    l->state = HOB_LINK_STARTING;
    l->started_us = l->heard_us = hob_now_us();
    l->text_ms = l->step_ms = 0;
    l->told = false;
    l->wsi =
        lws_adopt_descriptor_vhost(l->g->inner, LWS_ADOPT_RAW_FILE_DESC, fd, "hob-inner", NULL);
    if (!l->wsi) { /* which has closed the descriptor */
        l->fd = -1;
        hob_link_fail(l, "no memory");
        return;
    }
    lws_set_opaque_user_data(l->wsi, l);
    json_decref(l->hello); /* the last one's */
    l->hello = NULL;
    hob_log(HOB_LOG_INFO, "%s: engine %d starts", l->model->name, (int)l->pid);
}

void hob_link_open(hob_link *l, hob_gateway *g, uint32_t index)
{
    *l = (hob_link){.g = g,
                    .index = index,
                    .model = &g->conf->models[index],
                    .fd = -1,
                    .answer_ratio = 1,
                    .slowness = 1.4 /* until it is learnt */};
    start(l);
}

/* Leaves the socket to libwebsockets, which closes it, and the process to SIGKILL. */
static void let_go(hob_link *l)
{
    if (l->wsi) {
        struct lws *wsi = l->wsi;
        l->wsi = NULL;
        lws_set_opaque_user_data(wsi, NULL);
        lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    }
    l->fd = -1;
    if (l->pid > 0)
        (void)kill(l->pid, SIGKILL);
    hob_bytes_free(&l->out);
}

void hob_link_fail(hob_link *l, const char *why)
{
    if (l->state == HOB_LINK_DOWN && !l->wsi)
        return;
    if (!l->g->ending && l->pid > 0) /* else its end has been logged */
        hob_log(HOB_LOG_WARN, "%s: engine %d is given up: %s", l->model->name, (int)l->pid, why);
    if (l->state == HOB_LINK_READY && hob_now_us() - l->started_us > STEADY_S * (uint64_t)1000000)
        l->failures = 0;
    const bool was_ready = l->state == HOB_LINK_READY;
    l->state = HOB_LINK_DOWN;
    l->restarts++;
    let_go(l);
    const bool found = hob_jobs_link_lost(l->g, l);
    if (hob_embeds_link_lost(l->g, l) || found) { /* the cause is gone */
        l->failures = 0;
        if (l->blamed) {
            hob_log(HOB_LOG_INFO, "%s: device %s is used again: a request was at fault",
                    l->model->name, l->model->device);
            l->benched = l->blamed = false;
        }
    }
    schedule_restart(l, was_ready);
}

void hob_link_ready(hob_link *l)
{
    l->state = HOB_LINK_READY;
    l->heard_us = hob_now_us();
    l->ever_ready = true;
    l->jobs = l->estimates = 0;
    hob_log(HOB_LOG_INFO, "%s: ready after %.1f s: %s, %s (%s), context %u, %u sequences",
            l->model->name, (double)(hob_now_us() - l->started_us) / 1e6,
            json_string_value(json_object_get(l->hello, "architecture")),
            json_string_value(json_object_get(l->hello, "device")),
            json_string_value(json_object_get(l->hello, "isa")), l->context, l->max_sequences);
    hob_jobs_link_ready(l->g, l);
    hob_embeds_link_ready(l->g, l);
}

/* Whether the way an engine ended is its device's doing: it says so, or code of a driver broke. */
static bool device_failed(const hob_link *l, int status)
{
    const char *device = json_string_value(json_object_get(l->hello, "device"));
    /* The link may be down already: its socket closes before the process is reaped. */
    if (l->benched || strcmp(device ? device : l->model->device, "cpu") == 0)
        return false;
    if (WIFEXITED(status))
        return WEXITSTATUS(status) == HOB_ENGINE_EXIT_DEVICE;
    switch (WTERMSIG(status)) {
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGABRT:
    case SIGSYS: return true;
    default: return false;
    }
}

void hob_links_reap(hob_gateway *g)
{
    for (uint32_t i = 0; i < g->link_count; i++) {
        hob_link *l = &g->links[i];
        int status;
        if (l->pid <= 0 || waitpid(l->pid, &status, WNOHANG) != l->pid)
            continue;
        if (l->unloaded)
            hob_log(HOB_LOG_INFO, "%s: unloaded", l->model->name);
        else if (!g->ending && WIFEXITED(status))
            hob_log(HOB_LOG_WARN, "%s: engine %d exited with %d", l->model->name, (int)l->pid,
                    WEXITSTATUS(status));
        else if (!g->ending)
            hob_log(HOB_LOG_WARN, "%s: engine %d ended by signal %d", l->model->name, (int)l->pid,
                    WTERMSIG(status));
        const bool benched = !g->ending && device_failed(l, status);
        if (benched)
            hob_log(HOB_LOG_ERROR,
                    "%s: device %s has failed: the engine runs on the CPU from now on",
                    l->model->name, l->model->device);
        l->benched |= benched;
        l->blamed |= benched && WIFSIGNALED(status);
        l->pid = 0;
        if (g->arbiter)
            hob_arbiter_clear(g->arbiter, l->index);
        if (l->state == HOB_LINK_READY && l->wsi && hob_link_read(l) < 0) /* its last words */
            continue;
        if (l->state != HOB_LINK_DOWN)
            hob_link_fail(l, "it has ended");
        if (benched)
            l->restart_us = hob_now_us();
        if (!l->ever_ready && g->give_up && !g->ending && !benched) {
            hob_log(HOB_LOG_ERROR, "%s: the engine cannot load this model", l->model->name);
            hob_gateway_end(g, 1);
        }
        if (l->state == HOB_LINK_DOWN && !l->unloaded && !g->ending &&
            hob_now_us() >= l->restart_us)
            start(l);
    }
}

uint64_t hob_link_patience_us(const hob_link *l)
{
    enum {
        SLOWER = 4,
        MOST = 8
    }; /* a slow device or a busy machine, and what an engine may claim */
    const uint64_t timeout_ms = l->g->conf->hang_timeout_ms,
                   step_ms = SLOWER * (uint64_t)l->step_ms, most_ms = MOST * timeout_ms;
    return 1000 * (step_ms < timeout_ms ? timeout_ms : step_ms < most_ms ? step_ms : most_ms);
}

/* At now_us: what comes later, such as a suspension of the machine, is for the next look. */
static bool is_silent(hob_link *l, uint64_t now_us)
{
    const uint64_t most_us = hob_link_patience_us(l);
    if (l->state != HOB_LINK_READY || l->heard_us + most_us >= now_us)
        return false;
    /* When it was the gateway that was held up, the heartbeats wait in the socket. */
    return hob_link_read(l) == 0 && l->heard_us + most_us < now_us;
}

static void fail_silent(hob_link *l)
{
    char why[128];
    snprintf(why, sizeof why, "its heartbeat has stopped for %llu ms; its step should take %u ms",
             (unsigned long long)(hob_now_us() - l->heard_us) / 1000, l->step_ms);
    hob_link_fail(l, why);
}

/* ---- on an administrator's word ---- */

void hob_link_unload(hob_link *l)
{
    if (l->unloading)
        return;
    hob_log(HOB_LOG_INFO, "%s: is being unloaded", l->model->name);
    l->unloading = true;
    l->unload_by_us = hob_now_us() + l->g->conf->drain_timeout_ms * (uint64_t)1000;
}

void hob_link_reload(hob_link *l)
{
    if (!l->unloading)
        return;
    hob_log(HOB_LOG_INFO, "%s: is loaded again", l->model->name);
    l->unloading = l->unloaded = false;
    l->failures = 0;
    l->restart_us = hob_now_us(); /* if it is down, the next tick starts it */
}

static hob_job *job_of(const hob_link *l)
{
    hob_job *j = l->g->jobs;
    while (j && j->link != l)
        j = j->next;
    return j;
}

/* Where an engine dies meanwhile it is restarted as ever: what was accepted is answered. */
static void finish_unload(hob_link *l, uint64_t now_us)
{
    if (now_us > l->unload_by_us) {
        for (hob_job *j; (j = job_of(l));)
            hob_job_shut_down(j, true);
        hob_embeds_shut_down(l->g, l);
    }
    if (job_of(l) || hob_embeds_on(l)) {
        if (l->state == HOB_LINK_DOWN && l->pid == 0 && now_us >= l->restart_us)
            start(l);
        return;
    }
    l->unloaded = true;
    l->state = HOB_LINK_DOWN;
    json_decref(l->stats);
    l->stats = NULL;
    let_go(l);
}

void hob_links_tick(hob_gateway *g, uint64_t now_us)
{
    /* A machine that was suspended stopped the engines, too: they get time to show that they live. */
    const bool stood_still = now_us - g->links_us > STOOD_STILL_MS * (uint64_t)1000;
    g->links_us = now_us;
    hob_links_reap(g);
    for (uint32_t i = 0; i < g->link_count && !g->ending; i++) {
        hob_link *l = &g->links[i];
        if (stood_still)
            l->heard_us = l->moved_us = now_us;
        if (l->state == HOB_LINK_STARTING &&
            now_us - l->started_us > LOAD_TIMEOUT_S * (uint64_t)1000000)
            hob_link_fail(l, "it did not load its model in time");
        else if (is_silent(l, now_us))
            fail_silent(l);
        else if (l->state == HOB_LINK_READY && l->text_ms > g->conf->hang_timeout_ms &&
                 now_us - l->moved_us > g->conf->hang_timeout_ms * (uint64_t)1000)
            hob_link_fail(l, "its tokenizer does not come to an end");
        else if (l->unloading && !l->unloaded)
            finish_unload(l, now_us);
        else if (l->state == HOB_LINK_DOWN && !l->unloaded && l->pid == 0 &&
                 now_us >= l->restart_us)
            start(l);
    }
}

void hob_link_close(hob_link *l)
{
    l->state = HOB_LINK_DOWN;
    let_go(l);
    /* SIGKILL is on its way: this ends soon. */
    if (l->pid > 0)
        while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    l->pid = 0;
    hob_reader_free(&l->reader);
    json_decref(l->hello);
    json_decref(l->stats);
    l->hello = l->stats = NULL;
}
