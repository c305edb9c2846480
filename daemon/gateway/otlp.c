/* SPDX-License-Identifier: Apache-2.0
 *
 * See otlp.h. The thread makes its requests with hobctl's client, each in a libwebsockets context of its own that lives as
 * long as the request: nothing of the loop's context is touched from here. Where the collector could not be reached, or says
 * by one of four statuses that it may be asked again (OTLP/HTTP, Retryable Response Codes), the same batch is sent again,
 * after 1, 2, 4 … 60 s; another refusal loses its batch. */
#include "daemon/gateway/otlp.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/ctl/client.h"

enum {
    WAITING_MAX = 512, /* traces */
    BATCH_MAX = 64,
    CALL_MS = 10000,
    LAST_MS = 2000, /* for all that is left at the end */
    RETRY_LEAST_S = 1,
    RETRY_MOST_S = 60,
};

struct hob_otlp {
    hob_server server;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t change;
    hob_trace_record *waiting; /* [WAITING_MAX], a ring */
    uint32_t first, count;
    bool ending;
    uint64_t end_us;            /* when it is ending: nothing is sent after that */
    volatile sig_atomic_t stop; /* ends a call that runs */
    atomic_ullong dropped, sent;
};

static int drop_answer(void *user, const char *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
    return 0;
}

/* The HTTP status, 0: there was none. */
static int send_batch(hob_otlp *o, const hob_trace_record *list, uint32_t count, uint32_t limit_ms,
                      hob_diag *diag)
{
    hob_text t = {0};
    int status = 0;

    hob_otlp_begin(&t);
    for (uint32_t i = 0; i < count; i++)
        hob_otlp_add(&t, &list[i], i == 0);
    hob_otlp_end(&t);
    const hob_call call = {.method = "POST",
                           .path = "/v1/traces",
                           .body = hob_text_data(&t),
                           .body_len = hob_text_len(&t),
                           .sink = drop_answer,
                           .stop = &o->stop,
                           .limit_ms = limit_ms};
    if (t.failed)
        hob_fail(diag, HOB_ENOMEM, "no memory");
    else if (hob_client_call(&o->server, &call, &status, diag) < 0 && status / 100 == 2)
        status = 0; /* the answer broke off */
    hob_text_free(&t);
    return status;
}

/* The oldest ones, which stay where they are until they are sent. Holds the lock. */
static uint32_t copy_batch(const hob_otlp *o, hob_trace_record *ret)
{
    const uint32_t n = o->count < BATCH_MAX ? o->count : BATCH_MAX;
    for (uint32_t i = 0; i < n; i++)
        ret[i] = o->waiting[(o->first + i) % WAITING_MAX];
    return n;
}

static void forget_batch(hob_otlp *o, uint32_t n)
{
    o->first = (o->first + n) % WAITING_MAX;
    o->count -= n;
}

/* Holds the lock. */
static void wait_s(hob_otlp *o, uint32_t seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    while (!o->ending && pthread_cond_timedwait(&o->change, &o->lock, &until) == 0)
        ;
}

static bool may_try_again(int status)
{
    return status == 0 || status == 429 || status == 502 || status == 503 || status == 504;
}

/* Holds the lock. */
static void lose(hob_otlp *o, uint32_t n, const char *why)
{
    forget_batch(o, n);
    o->dropped += n;
    hob_log(HOB_LOG_WARN, "%u traces are lost: %s", n, why);
}

/* What the next call may take; 0: no time is left. Holds the lock. */
static uint32_t time_for_call(const hob_otlp *o)
{
    const uint64_t now_us = hob_now_us();
    if (!o->ending)
        return CALL_MS;
    return now_us < o->end_us ? (uint32_t)((o->end_us - now_us + 999) / 1000) : 0;
}

static void *run(void *user)
{
    static hob_trace_record batch[BATCH_MAX]; /* of this thread alone */
    hob_otlp *o = user;
    uint32_t retry_s = 0, limit_ms;
    hob_diag diag = {""};

    pthread_mutex_lock(&o->lock);
    for (;;) {
        while (!o->ending && o->count == 0)
            pthread_cond_wait(&o->change, &o->lock);
        if (o->count == 0)
            break;
        const bool last = o->ending;
        if (last)
            o->stop = 0; /* it has ended the call before */
        if ((limit_ms = time_for_call(o)) == 0) {
            hob_fail(&diag, HOB_EIO, "the collector takes too long");
            break;
        }
        const uint32_t n = copy_batch(o, batch);
        pthread_mutex_unlock(&o->lock);
        const int status = send_batch(o, batch, n, limit_ms, &diag);
        pthread_mutex_lock(&o->lock);
        if (status / 100 == 2) {
            forget_batch(o, n);
            o->sent += n;
            retry_s = 0;
            continue;
        }
        if (!may_try_again(status)) {
            lose(o, n, diag.text);
            continue;
        }
        if (last)
            break;
        if (retry_s == 0)
            hob_log(HOB_LOG_WARN, "traces wait: %s", diag.text);
        retry_s = retry_s == 0                 ? RETRY_LEAST_S
                  : 2 * retry_s < RETRY_MOST_S ? 2 * retry_s
                                               : RETRY_MOST_S;
        wait_s(o, retry_s);
    }
    if (o->count > 0)
        lose(o, o->count, diag.text);
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

int hob_otlp_open(const char *endpoint, const char *ca, hob_otlp **ret, hob_diag *diag)
{
    hob_otlp *o = calloc(1, sizeof *o);
    sigset_t all, before;
    int code;

    if (!o || !(o->waiting = malloc(WAITING_MAX * sizeof *o->waiting))) {
        free(o);
        return hob_fail(diag, HOB_ENOMEM, "no memory for traces");
    }
    if ((code = hob_server_parse_url(endpoint, &o->server, diag)) == 0) {
        snprintf(o->server.cacert, sizeof o->server.cacert, "%s", ca);
        pthread_mutex_init(&o->lock, NULL);
        pthread_cond_init(&o->change, NULL);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the loop */
        if (pthread_create(&o->thread, NULL, run, o) != 0)
            code = hob_fail(diag, HOB_ENOMEM, "no memory for a thread");
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (code < 0) {
        free(o->waiting);
        free(o);
        return code;
    }
    *ret = o;
    return 0;
}

void hob_otlp_post(hob_otlp *o, const hob_trace_record *r)
{
    pthread_mutex_lock(&o->lock);
    if (o->count == WAITING_MAX)
        o->dropped++;
    else {
        o->waiting[(o->first + o->count++) % WAITING_MAX] = *r;
        if (o->count == 1)
            pthread_cond_signal(&o->change);
    }
    pthread_mutex_unlock(&o->lock);
}

size_t hob_otlp_bytes(const hob_otlp *o)
{
    return o ? sizeof *o + (WAITING_MAX + BATCH_MAX) * sizeof *o->waiting : 0;
}

uint64_t hob_otlp_dropped(const hob_otlp *o, uint64_t *ret_sent)
{
    *ret_sent = o->sent;
    return o->dropped;
}

void hob_otlp_close(hob_otlp *o)
{
    if (!o)
        return;
    pthread_mutex_lock(&o->lock);
    o->ending = true;
    o->end_us = hob_now_us() + LAST_MS * UINT64_C(1000);
    o->stop = 1;
    pthread_cond_signal(&o->change);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    pthread_mutex_destroy(&o->lock);
    pthread_cond_destroy(&o->change);
    free(o->waiting);
    free(o);
}
