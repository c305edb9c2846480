/* SPDX-License-Identifier: Apache-2.0
 *
 * The index of vectors (daemon/store/vectors.h) and the model whose vectors it holds. When the first engine that embeds has
 * come up, contents whose vectors another model made are queued to be embedded anew, and the index is built from the
 * others, in slices, between which the search thread answers; nothing is embedded before that is done. From then on the store's
 * thread adds what becomes complete before it commits: who reads that a file is completed finds it. When an engine comes up
 * from a file that has taken the place of the model's, all this begins again. */
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/gateway/ingest.h"
#include "hal/half.h"

enum {
    SLICE = 4096, /* vectors read at once */
    RETRY_US = 2000000,
    SAMPLE =
        1
        << 20, /* bytes of a model's file at its beginning, middle and end, by which it is known */
    MEMORY_SHARE = 8, /* of memory_mb, at most */
};

size_t hob_index_limit(const hob_conf *conf)
{
    const uint64_t most = (uint64_t)conf->vector_index_mb << 20,
                   share = ((uint64_t)conf->memory_mb << 20) / MEMORY_SHARE;
    const uint64_t limit = conf->memory_mb && share < most ? share : most;
    return limit < HOB_VECTORS_BYTES_MIN ? HOB_VECTORS_BYTES_MIN : (size_t)limit;
}

/* ---- rows ---- */

typedef struct rows {
    hob_index *index;
    uint32_t count;
    float *values; /* [SLICE][dimensions] */
    uint64_t *ids;
    uint32_t *groups;
    int64_t last;
} rows;

static int rows_new(rows *r, hob_index *x, hob_diag *diag)
{
    *r = (rows){.index = x, .last = -1};
    r->values = malloc((size_t)SLICE * x->dimensions * sizeof *r->values);
    r->ids = malloc(SLICE * sizeof *r->ids);
    r->groups = malloc(SLICE * sizeof *r->groups);
    return r->values && r->ids && r->groups
               ? 0
               : hob_fail(diag, HOB_ENOMEM, "no memory for the index of vectors");
}

static void rows_free(rows *r)
{
    free(r->values);
    free(r->ids);
    free(r->groups);
}

/* Halves have lost some of their length: it is one again. */
static int take_row(void *user, int64_t chunk, const void *data, size_t size, hob_diag *diag)
{
    rows *r = user;
    const uint32_t dim = r->index->dimensions;
    const int64_t content = hob_stored_content(chunk);
    float *to = r->values + (size_t)r->count * dim;
    const uint8_t *from = data;
    double sum = 0;
    if (size != dim * sizeof(uint16_t) || content < 0 || content >= HOB_VECTORS_NO_GROUP)
        return hob_fail(diag, HOB_EFORMAT, "the store is damaged: the vector of chunk %lld",
                        (long long)chunk);
    for (uint32_t i = 0; i < dim; i++) {
        to[i] = hob_half_to_float((uint16_t)(from[2 * i] | from[2 * i + 1] << 8));
        sum += (double)to[i] * to[i];
    }
    const float scale = sum > 0 ? (float)(1 / __builtin_sqrt(sum)) : 0;
    for (uint32_t i = 0; i < dim; i++)
        to[i] *= scale;
    r->ids[r->count] = (uint64_t)chunk;
    r->groups[r->count++] = (uint32_t)content;
    r->last = chunk;
    return 0;
}

/* From `first` up to `end`, SLICE at most. Returns how many there were. */
static int add_slice(hob_index *x, sqlite3 *db, rows *r, int64_t first, int64_t end, hob_diag *diag)
{
    r->count = 0;
    int code = hob_contents_vectors(db, x->id, first, end, SLICE, take_row, r, diag);
    if (code == 0 && r->count > 0)
        code = hob_vectors_add(x->vectors, r->values, r->ids, r->groups, r->count, diag);
    return code < 0 ? code : (int)r->count;
}

int hob_index_add(hob_index *x, sqlite3 *db, int64_t content, hob_diag *diag)
{
    rows r;
    int64_t first = hob_stored_id(content, 0);
    int code = rows_new(&r, x, diag);
    while (code == 0) {
        code = add_slice(x, db, &r, first, hob_stored_id(content + 1, 0), diag);
        first = r.last + 1;
        if (code < SLICE) {
            code = code < 0 ? code : 0;
            break;
        }
        code = 0;
    }
    rows_free(&r);
    return code;
}

void hob_index_remove(hob_index *x, int64_t content)
{
    if (x->vectors && content >= 0 && content < HOB_VECTORS_NO_GROUP)
        (void)hob_vectors_remove(x->vectors, (uint32_t)content);
}

/* ---- built at the start ---- */

static void fail(hob_index *x, int code, const char *why)
{
    /* What the file's content or the configuration is to blame for does not get better by waiting. */
    const bool final = code == HOB_EINVAL || code == HOB_ELIMIT || code == HOB_EDEVICE;
    hob_log(HOB_LOG_ERROR,
            "the index of vectors cannot be %s: documents are found by their words "
            "alone: %s",
            final ? "made" : "made yet", why);
    hob_vectors_free(x->vectors);
    x->vectors = NULL;
    x->state = final ? HOB_INDEX_UNUSABLE : HOB_INDEX_NONE;
    x->retry_us = hob_now_us() + RETRY_US;
}

static void build(hob_index *x);

/* Thread: search. */
static int run_build(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_index *x = (hob_index *)j;
    rows r;
    int code = rows_new(&r, x, diag);
    if (code == 0)
        code = add_slice(x, db, &r, x->next, INT64_MAX, diag);
    if (code > 0) {
        x->next = r.last + 1;
        x->rows += (uint64_t)code;
    }
    rows_free(&r);
    return code;
}

static void build_done(hob_store_job *j)
{
    hob_index *x = (hob_index *)j;
    if (x->g->ending)
        return;
    if (j->code < 0) {
        fail(x, j->code, j->diag.text);
        return;
    }
    if (j->code > 0) {
        build(x);
        return;
    }
    x->state = HOB_INDEX_READY;
    hob_log(HOB_LOG_INFO,
            "%llu vectors of %s are indexed after %.1f s; %llu documents have to be embedded anew",
            (unsigned long long)x->rows, x->g->conf->models[x->model].name,
            (double)(hob_now_us() - x->began_us) / 1e6, (unsigned long long)x->stale);
    hob_documents_wake(x->g);
}

static void build(hob_index *x)
{
    x->job.run = run_build;
    x->job.done = build_done;
    hob_store_read(x->g->store, &x->job);
}

static int hash_part(int fd, off_t at, mbedtls_sha256_context *sha)
{
    static uint8_t sample[SAMPLE]; /* store only */
    const ssize_t n = pread(fd, sample, sizeof sample, at > 0 ? at : 0);
    if (n > 0)
        (void)mbedtls_sha256_update(sha, sample, (size_t)n);
    return n < 0 ? HOB_EIO : 0;
}

/* What the model is known by: its file's size and parts of it. Thread: store. */
static int identify(hob_index *x, hob_diag *diag)
{
    const char *path = x->g->conf->models[x->model].path;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    mbedtls_sha256_context sha;
    uint8_t hash[32], head[16];
    size_t n = 0;

    if (fd < 0 || fstat(fd, &x->file) != 0) {
        if (fd >= 0)
            close(fd);
        return hob_fail(diag, HOB_EIO, "%.150s: %s", path, strerror(errno));
    }
    hob_put_u64(head, (uint64_t)x->file.st_size);
    hob_put_u64(head + 8, x->dimensions);
    mbedtls_sha256_init(&sha);
    (void)mbedtls_sha256_starts(&sha, 0);
    (void)mbedtls_sha256_update(&sha, head, sizeof head);
    const int code = hash_part(fd, 0, &sha) | hash_part(fd, x->file.st_size / 2, &sha) |
                     hash_part(fd, x->file.st_size - SAMPLE, &sha);
    (void)mbedtls_sha256_finish(&sha, hash);
    mbedtls_sha256_free(&sha);
    close(fd);
    for (size_t i = 0; i < 16; i++)
        n += (size_t)snprintf(x->id + n, sizeof x->id - n, "%02x", hash[i]);
    return code < 0 ? hob_fail(diag, code, "%.150s cannot be read", path) : 0;
}

/* Thread: store. */
static int run_open(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    hob_index *x = (hob_index *)j;
    int code;
    if ((code = identify(x, diag)) < 0 ||
        (code = hob_contents_remodel(db, x->id, &x->stale, diag)) < 0 ||
        (code = hob_ingest_file(db, diag)) < 0)
        return code;
    const int fd = code;
    code = hob_vectors_new(fd, x->dimensions, hob_index_limit(x->g->conf), &x->vectors, diag);
    if (code < 0)
        close(fd);
    return code;
}

static void open_done(hob_store_job *j)
{
    hob_index *x = (hob_index *)j;
    if (x->g->ending)
        return;
    x->next = 0;
    x->rows = 0;
    if (j->code < 0)
        fail(x, j->code, j->diag.text);
    else
        build(x);
}

bool hob_index_is_settled(const hob_index *x)
{
    const hob_gateway *g = x->g;
    if (x->state == HOB_INDEX_READY || x->state == HOB_INDEX_UNUSABLE)
        return true;
    if (x->state != HOB_INDEX_NONE || hob_embed_default_model(g) >= 0)
        return false;
    for (uint32_t i = 0; i < g->link_count; i++)
        if (!g->links[i].ever_ready)
            return false;
    return true; /* all of them generate text */
}

/* ---- another file in its place ---- */

/* An engine has come up since, from another file than the index is of. */
static bool is_of_another(hob_index *x)
{
    const hob_link *l = &x->g->links[x->model];
    struct stat st;
    if (l->state != HOB_LINK_READY || l->started_us == x->engine_us)
        return false;
    x->engine_us = l->started_us;
    return stat(l->model->path, &st) == 0 &&
           (st.st_dev != x->file.st_dev || st.st_ino != x->file.st_ino ||
            st.st_size != x->file.st_size || st.st_mtim.tv_sec != x->file.st_mtim.tv_sec ||
            st.st_mtim.tv_nsec != x->file.st_mtim.tv_nsec);
}

static int run_nothing(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    (void)db;
    (void)j;
    (void)diag;
    return 0;
}

/* Both threads are behind all that used it. */
static void search_done(hob_store_job *j)
{
    hob_index *x = (hob_index *)j;
    if (x->g->ending)
        return;
    hob_vectors_free(x->vectors);
    x->vectors = NULL;
    x->state = HOB_INDEX_NONE;
}

static void store_done(hob_store_job *j)
{
    hob_index *x = (hob_index *)j;
    if (x->g->ending)
        return;
    x->job.done = search_done;
    hob_store_read(x->g->store, &x->job);
}

static void begin_again(hob_index *x)
{
    hob_log(HOB_LOG_INFO, "%s: another file is in the place of the model's",
            x->g->conf->models[x->model].name);
    x->state = HOB_INDEX_WORK;
    x->job.run = run_nothing;
    x->job.done = store_done;
    hob_store_post(x->g->store, &x->job);
}

void hob_index_tick(hob_index *x, uint64_t now_us)
{
    const int model = hob_embed_default_model(x->g);
    if ((x->state == HOB_INDEX_READY || x->state == HOB_INDEX_UNUSABLE) && is_of_another(x))
        begin_again(x);
    if (x->state != HOB_INDEX_NONE || model < 0 || now_us < x->retry_us)
        return;
    x->model = (uint32_t)model;
    x->dimensions = hob_embed_dimensions(x->g, x->model);
    x->engine_us = x->g->links[model].started_us;
    x->state = HOB_INDEX_WORK;
    x->began_us = now_us;
    x->job.run = run_open;
    x->job.done = open_done;
    hob_store_post(x->g->store, &x->job);
}

void hob_index_free(hob_index *x)
{
    hob_vectors_free(x->vectors);
    x->vectors = NULL;
}
