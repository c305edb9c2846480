/* SPDX-License-Identifier: Apache-2.0
 *
 * See top_feed.h. */
#include "daemon/ctl/top_feed.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/client.h"

enum {
    CALL_MS = 5000, /* a hobd that says nothing for so long hangs */
    METRICS_MAX = 32 << 20,
};

struct hob_feed {
    hob_server server;
    uint32_t interval_ms;
    pthread_t thread;
    int wake; /* eventfd */
    volatile sig_atomic_t stop;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ending;
    bool ended, fresh;
    hob_top_look look; /* at_us 0: the look failed, diag says why */
    hob_diag diag;
};

/* ---- one look. Thread: the feed's ---- */

typedef struct text {
    char *data;
    size_t len, capacity;
} text;

static int keep(void *user, const char *data, size_t len)
{
    text *t = user;
    if (len > METRICS_MAX - t->len)
        return HOB_ELIMIT;
    if (len > t->capacity - t->len) {
        size_t capacity = t->capacity ? t->capacity : 1 << 16;
        while (capacity - t->len < len)
            capacity *= 2;
        char *grown = realloc(t->data, capacity);
        if (!grown)
            return HOB_ENOMEM;
        t->data = grown;
        t->capacity = capacity;
    }
    memcpy(t->data + t->len, data, len);
    t->len += len;
    return 0;
}

static int look_at_metrics(hob_feed *f, hob_samples *ret, hob_diag *diag)
{
    text t = {0};
    const hob_call call = {.method = "GET",
                           .path = "/metrics",
                           .sink = keep,
                           .user = &t,
                           .stop = &f->stop,
                           .limit_ms = CALL_MS};
    const int code = hob_client_call(&f->server, &call, NULL, diag);
    if (code < 0) {
        free(t.data);
        return diag->text[0] ? code : hob_fail(diag, code, "the metrics are too many");
    }
    return hob_samples_read(t.data, t.len, ret, diag);
}

static int look_at(hob_feed *f, const char *path, json_t **ret, hob_diag *diag)
{
    hob_call call = {.method = "GET", .path = path, .stop = &f->stop, .limit_ms = CALL_MS};
    return hob_client_json(&f->server, &call, ret, diag);
}

static int look(hob_feed *f, hob_top_look *ret, hob_diag *diag)
{
    int code = look_at_metrics(f, &ret->metrics, diag);
    ret->at_us = hob_now_us();
    if (code == 0)
        code = look_at(f, "/hob/v1/admin/status", &ret->status, diag);
    if (code == 0)
        code = look_at(f, "/hob/v1/stats", &ret->stats, diag);
    if (code < 0)
        hob_top_look_free(ret);
    return code;
}

/* ---- again and again ---- */

static void publish(hob_feed *f, hob_top_look *l, const hob_diag *diag)
{
    const uint64_t one = 1;
    pthread_mutex_lock(&f->lock);
    hob_top_look_free(&f->look); /* that nobody has taken */
    f->look = *l;
    f->diag = *diag;
    f->fresh = true;
    pthread_mutex_unlock(&f->lock);
    if (write(f->wake, &one, sizeof one) < 0)
        return; /* its counter is full: it is readable */
}

/* False: it is to end. */
static bool wait_for_next(hob_feed *f, const struct timespec *at)
{
    pthread_mutex_lock(&f->lock);
    while (!f->ended && pthread_cond_timedwait(&f->ending, &f->lock, at) != ETIMEDOUT)
        ;
    const bool ended = f->ended;
    pthread_mutex_unlock(&f->lock);
    return !ended;
}

static void *run(void *user)
{
    hob_feed *f = user;
    struct timespec at;
    do {
        hob_top_look l = {0};
        hob_diag diag = {""};
        clock_gettime(CLOCK_MONOTONIC, &at);
        at.tv_sec += f->interval_ms / 1000;
        at.tv_nsec += (long)(f->interval_ms % 1000) * 1000000;
        if (at.tv_nsec >= 1000000000) {
            at.tv_sec++;
            at.tv_nsec -= 1000000000;
        }
        (void)look(f, &l, &diag);
        publish(f, &l, &diag);
    } while (wait_for_next(f, &at));
    return NULL;
}

/* ---- the screen's side ---- */

int hob_feed_fd(const hob_feed *f)
{
    return f->wake;
}

bool hob_feed_take(hob_feed *f, hob_top_look *ret, hob_diag *diag)
{
    uint64_t count;
    diag->text[0] = '\0';
    if (read(f->wake, &count, sizeof count) < 0)
        return false;
    pthread_mutex_lock(&f->lock);
    const bool taken = f->fresh && f->look.at_us > 0;
    if (taken) {
        *ret = f->look;
        f->look = (hob_top_look){0};
    } else if (f->fresh)
        *diag = f->diag;
    f->fresh = false;
    pthread_mutex_unlock(&f->lock);
    return taken;
}

int hob_feed_open(const hob_server *server, uint32_t interval_ms, hob_feed **ret, hob_diag *diag)
{
    hob_feed *f = calloc(1, sizeof *f);
    pthread_condattr_t monotonic;

    if (!f)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a thread");
    f->server = *server;
    f->interval_ms = interval_ms;
    f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&f->ending, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (f->wake < 0 || pthread_create(&f->thread, NULL, run, f) != 0) {
        if (f->wake >= 0)
            close(f->wake);
        free(f);
        return hob_fail(diag, HOB_EIO, "the thread that asks hobd cannot be started");
    }
    *ret = f;
    return 0;
}

void hob_feed_close(hob_feed *f)
{
    if (!f)
        return;
    f->stop = 1;
    pthread_mutex_lock(&f->lock);
    f->ended = true;
    pthread_cond_signal(&f->ending);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    hob_top_look_free(&f->look);
    pthread_cond_destroy(&f->ending);
    pthread_mutex_destroy(&f->lock);
    close(f->wake);
    free(f);
}
