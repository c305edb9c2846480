/* SPDX-License-Identifier: Apache-2.0
 *
 * The event loop: see loop.h. Each descriptor is told of once (EPOLLONESHOT) and then waits, with what it had to say, until
 * it is served; after that it is armed again. So no event is fetched twice, and what libwebsockets changes of its mind
 * while it is served costs one system call.
 *
 * libwebsockets says by io() what it wants to hear of a descriptor; the first time means that it is new, and both at once
 * that it is about to be closed. */
#include "daemon/gateway/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "daemon/gateway/log.h"

enum {
    EVENTS = 512,   /* fetched at once */
    TURN_US = 1000, /* of clients' work, before engines and others are looked at again */
    IDLE_MS = 1000,
    HANDSHAKE_PART = 8,         /* of the time, while answers are computed; */
    HANDSHAKE_AHEAD_US = 32000, /* that of so long may be used at once */
};

_Static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
                   EPOLLHUP == POLLHUP,
               "what epoll says is handed on as poll would say it");

struct hob_watch {
    hob_turn turn;       /* without a source: served before all that have one */
    struct lws *wsi;     /* NULL: none, or not yet */
    void *owner;         /* of a connection that waits to be taken in; NULL: it does not */
    uint32_t wanted;     /* by libwebsockets */
    uint32_t ready;      /* what epoll has said */
    bool serving, armed; /* armed: epoll would tell */
    bool handshake;      /* its turns are those of handshakes */
};

static hob_watch *watch_of(hob_turn *t)
{
    return lws_container_of(t, hob_watch, turn);
}

static hob_sources *sources_of(hob_loop *l, const hob_watch *w)
{
    return w->handshake ? &l->handshakes : &l->sources;
}

/* ---- what libwebsockets wants ---- */

static int arm(hob_loop *l, int fd, int how)
{
    hob_watch *w = &l->watches[fd];
    struct epoll_event e = {.events = w->wanted | EPOLLONESHOT, .data.fd = fd};
    w->armed = epoll_ctl(l->epoll_fd, how, fd, &e) == 0;
    return w->armed ? 0 : HOB_EIO;
}

static void watch(hob_loop *l, struct lws *wsi, int fd, uint32_t wanted)
{
    hob_watch *w = &l->watches[fd];
    w->wsi = wsi; /* its turn is open already when it has waited to be taken in */
    w->wanted = wanted;
    w->ready = 0;
    if (arm(l, fd, EPOLL_CTL_ADD) == 0)
        return;
    hob_log(HOB_LOG_WARN, "epoll does not take a descriptor: %s", strerror(errno));
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static void unwatch(hob_loop *l, int fd)
{
    hob_watch *w = &l->watches[fd];
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    hob_turn_close(sources_of(l, w), &w->turn);
    *w = (hob_watch){0};
}

static void io(struct lws *wsi, unsigned flags)
{
    hob_loop *l = *(hob_loop **)lws_evlib_wsi_to_evlib_pt(wsi);
    const int fd = (int)lws_get_socket_fd(wsi);
    const uint32_t what =
        (flags & LWS_EV_READ ? EPOLLIN : 0) | (flags & LWS_EV_WRITE ? EPOLLOUT : 0);

    if (fd < 0 || (uint32_t)fd >= l->count)
        return; /* libwebsockets takes none above the limit */
    hob_watch *w = &l->watches[fd];
    if (!w->wsi) {
        if (flags & LWS_EV_START)
            watch(l, wsi, fd, what);
        return;
    }
    if (flags & LWS_EV_STOP && what == (EPOLLIN | EPOLLOUT)) {
        unwatch(l, fd);
        return;
    }
    const uint32_t wanted = flags & LWS_EV_START ? w->wanted | what : w->wanted & ~what;
    if (wanted == w->wanted)
        return;
    w->wanted = wanted;
    if (w->armed && arm(l, fd, EPOLL_CTL_MOD) < 0)
        lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

static int init_thread(struct lws_context *context, void *loop, int tsi)
{
    hob_loop *l = loop;
    l->context = context;
    *(hob_loop **)lws_evlib_tsi_to_evlib_pt(context, tsi) = l;
    return 0;
}

void hob_loop_describe(hob_loop *l, struct lws_context_creation_info *info)
{
    static const struct lws_event_loop_ops ops = {
        .name = "hob",
        .init_pt = init_thread,
        .io = io,
        .flags = LELOF_ISPOLL, /* sockets are closed in the same careful way */
        .evlib_size_pt = sizeof(hob_loop *),
    };
    static const lws_plugin_evlib_t library = {
        .hdr = {"hob", "lws_evlib_plugin", LWS_BUILD_HASH, LWS_PLUGIN_API_MAGIC}, .ops = &ops};
    l->foreign[0] = l;
    info->event_lib_custom = &library;
    info->foreign_loops = l->foreign;
}

/* ---- turns ---- */

static void serve(hob_loop *l, int fd)
{
    hob_watch *w = &l->watches[fd];

    if (w->owner) {
        void *owner = w->owner;
        w->owner = NULL;
        l->waiting--;
        l->take_in(owner, fd);
        if (!w->wsi)
            hob_turn_close(sources_of(l, w), &w->turn);
        return;
    }
    struct lws_pollfd p = {.fd = fd,
                           .events = (short)w->wanted,
                           .revents = (short)(w->ready & (w->wanted | EPOLLERR | EPOLLHUP))};
    w->ready = 0;
    w->serving = true;
    if (p.revents)
        (void)lws_service_fd(l->context, &p);
    if (!w->serving) /* it was closed */
        return;
    w->serving = false;
    if (arm(l, fd, EPOLL_CTL_MOD) < 0)
        lws_set_timeout(w->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

/* Of this thread. What others of the machine take in between is nobody's fault. */
static uint64_t processor_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Serves whose turn it is. processor_us() is `us` before and what is returned after it; 0: it was nobody's turn. */
static uint64_t serve_next(hob_loop *l, hob_sources *s, uint64_t us)
{
    hob_turn *t = hob_turn_next(s);
    if (!t)
        return 0;
    serve(l, (int)(watch_of(t) - l->watches));
    const uint64_t then_us = processor_us();
    hob_turn_done(s, then_us - us);
    return then_us;
}

static void serve_clients(hob_loop *l)
{
    const uint64_t begin_us = processor_us();
    for (uint64_t us = begin_us; us && us - begin_us < TURN_US;)
        us = serve_next(l, &l->sources, us);
}

/* Until when handshakes have to wait; 0: they have not. */
static uint64_t handshakes_wait_us(const hob_loop *l, uint64_t now_us)
{
    return l->inferring && l->handshakes_due_us > now_us ? l->handshakes_due_us - now_us : 0;
}

static void serve_handshakes(hob_loop *l)
{
    const uint64_t begin_us = processor_us();
    for (uint64_t us = begin_us, then_us, now_us;
         us - begin_us < TURN_US && !handshakes_wait_us(l, now_us = hob_now_us()); us = then_us) {
        if (!(then_us = serve_next(l, &l->handshakes, us)))
            return;
        if (l->handshakes_due_us + HANDSHAKE_AHEAD_US < now_us)
            l->handshakes_due_us = now_us - HANDSHAKE_AHEAD_US;
        l->handshakes_due_us += (then_us - us) * HANDSHAKE_PART;
    }
}

/* How long to wait for something to do when there is nothing else. */
static int patience_ms(const hob_loop *l, int most_ms)
{
    if (hob_turn_any(&l->sources))
        return 0;
    if (!hob_turn_any(&l->handshakes))
        return most_ms;
    const uint64_t ms = (handshakes_wait_us(l, hob_now_us()) + 999) / 1000;
    return ms < (uint64_t)most_ms ? (int)ms : most_ms;
}

int hob_loop_turn(hob_loop *l)
{
    struct epoll_event events[EVENTS];
    int first[EVENTS], count = 0;

    /* Runs the timers that are due; 0: one is in the next millisecond, or libwebsockets holds something that came in. */
    int wait_ms = lws_service_adjust_timeout(l->context, IDLE_MS, 0);
    if (wait_ms == 0) {
        const int forced = _lws_plat_service_forced_tsi(l->context, 0);
        if (forced < 0)
            return forced;
        wait_ms = forced ? 0 : 1;
    }
    const int n = epoll_wait(l->epoll_fd, events, EVENTS, patience_ms(l, wait_ms));
    if (n < 0 && errno != EINTR)
        return HOB_EIO;
    for (int i = 0; i < n; i++) {
        hob_watch *w = &l->watches[events[i].data.fd];
        w->ready |= events[i].events;
        w->armed = false;
        if (w->turn.source)
            hob_turn_wait(sources_of(l, w), &w->turn);
        else
            first[count++] = events[i].data.fd;
    }
    for (int i = 0; i < count; i++)
        if (l->watches[first[i]].ready) /* serving the others may have closed it */
            serve(l, first[i]);
    serve_clients(l);
    serve_handshakes(l);
    return 0;
}

int hob_loop_take_in(hob_loop *l, void *owner, int fd, const uint8_t source[16], bool handshake)
{
    if ((uint32_t)fd >= l->count)
        return HOB_ENOMEM;
    hob_watch *w = &l->watches[fd];
    w->handshake = handshake;
    if (hob_turn_open(sources_of(l, w), &w->turn, source) < 0)
        return HOB_ENOMEM;
    w->owner = owner;
    l->waiting++;
    hob_turn_wait(sources_of(l, w), &w->turn);
    return 0;
}

void hob_loop_settle(hob_loop *l, int fd)
{
    hob_watch *w = &l->watches[fd];
    hob_turn next;
    if (!w->handshake || hob_turn_open(&l->sources, &next, w->turn.source->address) < 0)
        return;
    hob_turn_close(&l->handshakes, &w->turn);
    w->turn = next;
    w->handshake = false;
}

uint32_t hob_loop_connections(const hob_loop *l, const uint8_t source[16])
{
    return hob_source_turns(&l->sources, source) + hob_source_turns(&l->handshakes, source);
}

int hob_loop_open(hob_loop *l, uint32_t descriptors, void (*take_in)(void *owner, int fd),
                  hob_diag *diag)
{
    *l = (hob_loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC), .take_in = take_in};
    if (l->epoll_fd < 0)
        return hob_fail(diag, HOB_EIO, "epoll: %s", strerror(errno));
    if (!(l->watches = calloc(descriptors, sizeof *l->watches))) {
        close(l->epoll_fd);
        return hob_fail(diag, HOB_ENOMEM, "no memory");
    }
    l->count = descriptors;
    if (getrandom(&l->sources.seed, sizeof l->sources.seed, 0) != (ssize_t)sizeof l->sources.seed)
        l->sources.seed = hob_now_us(); /* only a little easier to guess */
    l->handshakes.seed = l->sources.seed;
    return 0;
}

void hob_loop_close(hob_loop *l)
{
    if (!l->watches)
        return;
    for (uint32_t fd = 0; fd < l->count; fd++)
        if (l->watches[fd].owner) {
            hob_turn_close(sources_of(l, &l->watches[fd]), &l->watches[fd].turn);
            close((int)fd);
        }
    free(l->watches);
    close(l->epoll_fd);
    *l = (hob_loop){.epoll_fd = -1};
}
