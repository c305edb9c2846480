/* SPDX-License-Identifier: Apache-2.0
 *
 * See embedqueue.h. */
#include "daemon/engine/embedqueue.h"

#include <stdlib.h>
#include <string.h>

enum {
    AGING_US = 15000000,
    BATCH_ROWS = 128,  /* of a step on the processor: others wait for its end */
    TEXTS_MOST = 64,   /* of a step: each takes blocks of its own in attention */
    STREAM_ROWS = 256, /* of texts that somebody waits for */
    ALONE_MS =
        500, /* of a step on a device of its own, for better texts wait for its end as well; BATCH_ROWS at least */
    FULL_PERCENT = 75, /* a step this full is worth measuring */
};

static const double RATE_WEIGHT = 0.2; /* of the newest step */

/* What a tenant has been given in a class; lives while it has a request there. */
typedef struct share {
    struct share *next;
    uint32_t tenant, requests;
    hob_arbiter_class class;
    uint64_t served; /* tokens */
} share;

typedef struct request {
    struct request *next;
    uint64_t id, arrived_us;
    hob_embed_input in;
    uint32_t done, taken; /* texts: whose vectors are computed; that are in the step now made */
    size_t at;            /* of the next text, in in.ids */
    share *share;
} request;

struct hob_embed_queue {
    hob_embedder *embedder;
    hob_embed_queue_options options;
    uint32_t width;
    double
        first_rate; /* tokens a second of the first step of all, which may have compiled its kernels */
    bool alone;     /* the device is not the processor: no other engine waits for a step */
    request *requests; /* in order of arrival */
    share *shares;
    hob_embed_stats stats;
    hob_embed_text *texts; /* [rows] of one step */
    request **owners;      /* [rows] */
    float *vectors;        /* [rows][width] */
};

void hob_embed_input_free(hob_embed_input *in)
{
    hob_ids_free(&in->ids);
    free(in->lengths);
    *in = (hob_embed_input){0};
}

static double rate_of(uint32_t tokens, uint64_t us)
{
    return us ? tokens * 1e6 / (double)us : 0;
}

/* A step of so many texts. */
static int warm_up(hob_embed_queue *q, const uint32_t *ids, uint32_t texts, uint32_t tokens_each)
{
    uint32_t count = 0;

    for (uint32_t rows = 0; count < texts && rows + tokens_each <= q->options.step_rows;
         rows += tokens_each)
        q->texts[count++] = (hob_embed_text){ids, tokens_each};
    return hob_embedder_step(q->embedder, q->texts, count, q->vectors);
}

int hob_embed_queue_new(hob_model *m, const hob_embed_queue_options *o, hob_embed_queue **ret,
                        hob_diag *diag)
{
    const hob_model_info *info = hob_model_get_info(m);
    const hob_device *dev = hob_model_device(m);
    const uint32_t longest = info->context_train, step_rows = o->step_rows;
    uint32_t *ids = NULL;
    size_t floats;
    int rc;

    hob_embed_queue *q = calloc(1, sizeof *q);
    if (!q)
        return hob_fail(diag, HOB_ENOMEM, "embeddings: no memory");
    q->options = *o;
    q->width = info->width;
    q->alone = strcmp(dev->info.name, "cpu") != 0;
    if ((rc = hob_embedder_new(m, step_rows, &q->embedder, diag)) < 0)
        goto fail;
    if (!hob_mul_size(step_rows, info->width, &floats) ||
        !(q->vectors = calloc(floats, sizeof *q->vectors)) ||
        !(q->texts = calloc(step_rows, sizeof *q->texts)) ||
        !(q->owners = calloc(step_rows, sizeof(request *))) ||
        !(ids = calloc(longest, sizeof *ids))) {
        rc = hob_fail(diag, HOB_ENOMEM, "embeddings: no memory for steps of %u tokens", step_rows);
        goto fail;
    }
    const uint64_t start_us = hob_now_us();
    if ((rc = warm_up(q, ids, 1, longest)) == 0) {
        q->first_rate = rate_of(longest, hob_now_us() - start_us);
        rc = warm_up(q, ids, TEXTS_MOST, 1);
    }
    if (rc < 0) {
        hob_fail(diag, rc, "device %s: its first step failed: %s", dev->info.name,
                 dev->failure.text[0] ? dev->failure.text : hob_error_name(rc));
        goto fail;
    }
    free(ids);
    *ret = q;
    return 0;

fail:
    free(ids);
    hob_embed_queue_free(q);
    return rc;
}

/* ---- requests ---- */

static void leave_share(hob_embed_queue *q, share *s)
{
    share **at = &q->shares;

    if (--s->requests > 0)
        return;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
}

static void drop(hob_embed_queue *q, request *r)
{
    request **at = &q->requests;

    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    q->stats.requests--;
    q->stats.waiting_texts -= r->in.count - r->done;
    leave_share(q, r->share);
    hob_embed_input_free(&r->in);
    free(r);
}

void hob_embed_queue_free(hob_embed_queue *q)
{
    if (!q)
        return;
    while (q->requests)
        drop(q, q->requests);
    hob_embedder_free(q->embedder);
    free(q->texts);
    free(q->owners);
    free(q->vectors);
    free(q);
}

/* A tenant that comes back begins where the least served one of its class stands. */
static share *join_share(hob_embed_queue *q, uint32_t tenant, hob_arbiter_class class)
{
    const share *least = NULL;

    for (share *s = q->shares; s; s = s->next) {
        if (s->class != class)
            continue;
        if (s->tenant == tenant) {
            s->requests++;
            return s;
        }
        if (!least || s->served < least->served)
            least = s;
    }
    share *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    *s = (share){.next = q->shares,
                 .tenant = tenant,
                 .requests = 1,
                 .class = class,
                 .served = least ? least->served : 0};
    q->shares = s;
    return s;
}

int hob_embed_queue_submit(hob_embed_queue *q, uint64_t id, hob_embed_input *in)
{
    request *r = calloc(1, sizeof *r), **at = &q->requests;

    if (!r || !(r->share = join_share(q, in->tenant, in->class))) {
        free(r);
        hob_embed_input_free(in);
        return HOB_ENOMEM;
    }
    r->id = id;
    r->arrived_us = hob_now_us();
    r->in = *in;
    *in = (hob_embed_input){0};
    while (*at)
        at = &(*at)->next;
    *at = r;
    q->stats.requests++;
    q->stats.waiting_texts += r->in.count;
    return 0;
}

void hob_embed_queue_cancel(hob_embed_queue *q, uint64_t id)
{
    request *r = q->requests;

    while (r && r->id != id)
        r = r->next;
    if (!r)
        return;
    drop(q, r);
    q->stats.cancelled++;
}

bool hob_embed_queue_has_work(const hob_embed_queue *q)
{
    return q->requests != NULL;
}

/* ---- the next step ---- */

static uint32_t rank_of(const request *r, uint64_t now_us)
{
    const uint64_t risen = now_us > r->arrived_us ? (now_us - r->arrived_us) / AGING_US : 0;
    return risen < (uint64_t)r->in.class ? (uint32_t)(r->in.class - risen) : 0;
}

/* The request whose next text it is, among those of this rank with texts left; rank HOB_ARBITER_CLASSES: of any. */
static request *next_of(const hob_embed_queue *q, uint32_t rank, uint64_t now_us)
{
    request *best = NULL;
    uint32_t best_rank = 0;

    for (request *r = q->requests; r; r = r->next) {
        const uint32_t own = rank_of(r, now_us);
        if (r->done + r->taken == r->in.count || (rank != HOB_ARBITER_CLASSES && own != rank))
            continue;
        if (!best || own < best_rank ||
            (own == best_rank && r->share->served < best->share->served)) {
            best = r;
            best_rank = own;
        }
    }
    return best;
}

hob_arbiter_class hob_embed_queue_class(hob_embed_queue *q)
{
    const uint64_t now_us = hob_now_us();
    const request *r = next_of(q, HOB_ARBITER_CLASSES, now_us);
    return r ? (hob_arbiter_class)rank_of(r, now_us) : HOB_ARBITER_CLASSES;
}

/* Tokens a second; 0: unknown. */
static double expected_rate(const hob_embed_queue *q)
{
    return q->stats.tokens_per_second > 0 ? q->stats.tokens_per_second : q->first_rate;
}

/* Of a step of this rank, at most. */
static uint32_t rows_of(const hob_embed_queue *q, uint32_t rank)
{
    const double fitting = expected_rate(q) * ALONE_MS / 1e3;

    if (!q->alone)
        return rank == HOB_ARBITER_BATCH ? BATCH_ROWS : STREAM_ROWS;
    return fitting < BATCH_ROWS             ? BATCH_ROWS
           : fitting < q->options.step_rows ? (uint32_t)fitting
                                            : q->options.step_rows;
}

/* Fills texts and owners; how many. */
static uint32_t take_texts(hob_embed_queue *q, uint32_t *ret_rows)
{
    const uint64_t now_us = hob_now_us();
    request *r = next_of(q, HOB_ARBITER_CLASSES, now_us);
    uint32_t count = 0, rows = 0;

    if (!r)
        return 0;
    const uint32_t rank = rank_of(r, now_us), wanted = rows_of(q, rank);
    for (; r && count < TEXTS_MOST; r = next_of(q, rank, now_us)) {
        const uint32_t length = r->in.lengths[r->done + r->taken];
        if (count > 0 && (rows + length > wanted || rows + length > q->options.step_rows))
            break;
        q->texts[count] = (hob_embed_text){r->in.ids.data + r->at, length};
        q->owners[count++] = r;
        r->taken++;
        r->at += length;
        r->share->served += length;
        rows += length;
    }
    *ret_rows = rows;
    return count;
}

static void note_speed(hob_embed_queue *q, uint32_t rows, uint64_t us)
{
    const double rate = rate_of(rows, us);

    q->stats.busy_us += us;
    if (rows * 100 < BATCH_ROWS * FULL_PERCENT && q->stats.tokens_per_second > 0)
        return; /* few tokens say little of what many would take */
    q->stats.tokens_per_second =
        q->stats.tokens_per_second > 0
            ? (1 - RATE_WEIGHT) * q->stats.tokens_per_second + RATE_WEIGHT * rate
            : rate;
}

/* Says so when a step will be long. */
static void announce(const hob_embed_queue *q, uint32_t rows)
{
    const double rate = expected_rate(q), expected_ms = rate > 0 ? rows * 1e3 / rate : 0;

    if (q->options.on_long_step && expected_ms > q->options.long_step_ms)
        q->options.on_long_step(q->options.user,
                                expected_ms < UINT32_MAX ? (uint32_t)expected_ms : UINT32_MAX);
}

/* The vectors of texts i, i + 1, … that are of the same request go out together; where the next one's begin. */
static uint32_t deliver(hob_embed_queue *q, uint32_t i, uint32_t count, hob_vector_sink *sink,
                        void *user)
{
    request *r = q->owners[i];
    uint32_t end = i + 1;

    while (end < count && q->owners[end] == r)
        end++;
    sink(user, r->id, r->done, end - i, q->vectors + (size_t)i * q->width);
    r->done += end - i;
    r->taken -= end - i;
    q->stats.texts += end - i;
    q->stats.waiting_texts -= end - i;
    if (r->done == r->in.count) {
        drop(q, r);
        q->stats.finished++;
    }
    return end;
}

int hob_embed_queue_step(hob_embed_queue *q, hob_vector_sink *sink, void *user)
{
    uint32_t rows = 0;
    const uint32_t count = take_texts(q, &rows);

    if (count == 0)
        return 0;
    announce(q, rows);
    const uint64_t start_us = hob_now_us();
    const int rc = hob_embedder_step(q->embedder, q->texts, count, q->vectors);
    if (rc < 0)
        return rc;
    note_speed(q, rows, hob_now_us() - start_us);
    q->stats.steps++;
    q->stats.tokens += rows;
    for (uint32_t i = 0; i < count;)
        i = deliver(q, i, count, sink, user);
    return 0;
}

void hob_embed_queue_get_stats(const hob_embed_queue *q, hob_embed_stats *ret)
{
    *ret = q->stats;
}
