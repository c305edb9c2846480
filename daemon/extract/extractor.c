/* SPDX-License-Identifier: Apache-2.0
 *
 * See extractor.h. */
#include "daemon/extract/extractor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/spawn.h"
#include "daemon/extract/formats.h"
#include "daemon/extract/wire.h"

enum {
    READ_BYTES = 65536,
    READS_MAX = 16, /* of a step, so that no child keeps its parent to itself */
};

const hob_extract_request hob_extract_request_default = {
    .document = -1,
    .vocabulary = -1,
    .chunk_tokens = HOB_CHUNK_TOKENS,
    .overlap_tokens = HOB_CHUNK_OVERLAP,
    .limits = HOB_EXTRACT_LIMITS_DEFAULT,
};

struct hob_extractor {
    hob_extract_limits limits;
    uint32_t chunk_tokens;
    bool wants_chunks;
    pid_t pid; /* 0: reaped */
    int fd;    /* -1: closed */
    uint64_t deadline_us;
    hob_reader reader;
    hob_extraction result;
    size_t text_had; /* bytes of the text so far */
    uint32_t *paths; /* [chunk_capacity] where each chunk's path begins in path_bytes */
    uint32_t chunk_capacity;
    hob_bytes path_bytes; /* each followed by a NUL */
    bool has_meta, finished;
};

/* ---- the end ---- */

/* Returns the status with which the child ended. What has ended already is not changed by the signal. */
static int reap(hob_extractor *x)
{
    int status = 0;
    if (x->fd >= 0)
        close(x->fd);
    x->fd = -1;
    if (x->pid > 0) {
        (void)kill(-x->pid, SIGKILL);
        while (waitpid(x->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    x->pid = 0;
    return status;
}

static void drop_result(hob_extractor *x)
{
    free(x->result.text);
    free(x->result.title);
    free(x->result.chunks);
    x->result = (hob_extraction){0};
}

static int fail(hob_extractor *x, hob_extract_error e, const char *format, ...) HOB_PRINTF(3, 4);
static int fail(hob_extractor *x, hob_extract_error e, const char *format, ...)
{
    char line[sizeof x->result.why.text];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    reap(x);
    drop_result(x);
    x->result.error = e;
    hob_fail(&x->result.why, 0, "%s", line);
    x->finished = true;
    return HOB_ECANCELED; /* stops the reader */
}

static int break_off(hob_extractor *x, const char *what)
{
    return fail(x, HOB_EXTRACT_CRASHED, "the extractor broke its protocol: %s", what);
}

static int no_memory(hob_extractor *x)
{
    return fail(x, HOB_EXTRACT_INTERNAL, "no memory for the text of the document");
}

/* The child has closed its end without END or ERROR. */
static void judge_death(hob_extractor *x)
{
    const int status = reap(x);
    if (!WIFSIGNALED(status))
        fail(x, HOB_EXTRACT_CRASHED, "the extractor ended with status %d", WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGALRM)
        fail(x, HOB_EXTRACT_TIMEOUT, "the document takes more than %u s of processor time",
             x->limits.cpu_s);
    else
        fail(x, HOB_EXTRACT_CRASHED, "the extractor was ended by signal %d on this document",
             WTERMSIG(status));
}

/* ---- messages ---- */

static int take_meta(hob_extractor *x, const hob_message *m)
{
    hob_extraction *e = &x->result;
    hob_wire_meta meta;
    if (x->has_meta || hob_wire_get_meta(m, &meta) < 0)
        return break_off(x, "META");
    if (meta.text_bytes == 0 || meta.text_bytes > x->limits.text_bytes)
        return break_off(x, "META announces more text than is allowed, or none");
    x->has_meta = true;
    e->media_type = hob_format_media_type((hob_format)meta.format);
    e->encoding = hob_encoding_name((hob_encoding)meta.encoding);
    e->stripped = meta.stripped;
    e->text_len = meta.text_bytes;
    e->title = strndup(meta.title, meta.title_len);
    e->text = malloc(e->text_len + 1);
    return e->title && e->text ? 0 : no_memory(x);
}

static int take_text(hob_extractor *x, const hob_message *m)
{
    if (!x->has_meta || m->len == 0 || m->len > x->result.text_len - x->text_had)
        return break_off(x, "TEXT");
    memcpy(x->result.text + x->text_had, m->payload, m->len);
    x->text_had += m->len;
    if (x->text_had < x->result.text_len)
        return 0;
    x->result.text[x->text_had] = 0;
    return hob_wire_is_text(x->result.text, x->text_had) ? 0 : break_off(x, "TEXT is not UTF-8");
}

static bool has_text(const hob_extractor *x)
{
    return x->has_meta && x->text_had == x->result.text_len;
}

static bool is_border(const hob_extraction *e, uint32_t at)
{
    return at == e->text_len || ((unsigned char)e->text[at] & 0xC0) != 0x80;
}

static bool is_sound(const hob_extractor *x, const hob_chunk *c)
{
    const hob_extraction *e = &x->result;
    const hob_extracted_chunk *last = e->chunk_count ? &e->chunks[e->chunk_count - 1] : NULL;
    return c->start < c->end && c->end <= e->text_len && is_border(e, c->start) &&
           is_border(e, c->end) && (!last || (c->start > last->start && c->end > last->end)) &&
           c->tokens <= x->chunk_tokens &&
           c->end - c->start <= x->chunk_tokens * HOB_CHUNK_BYTES_A_TOKEN;
}

static bool grow_chunks(hob_extractor *x)
{
    hob_extraction *e = &x->result;
    if (e->chunk_count < x->chunk_capacity)
        return true;
    const uint32_t capacity = x->chunk_capacity ? 2 * x->chunk_capacity : 64;
    hob_extracted_chunk *chunks = reallocarray(e->chunks, capacity, sizeof *chunks);
    if (chunks)
        e->chunks = chunks;
    uint32_t *paths = chunks ? reallocarray(x->paths, capacity, sizeof *paths) : NULL;
    if (!paths)
        return false;
    x->paths = paths;
    x->chunk_capacity = capacity;
    return true;
}

/* Chunks of one section share their path. */
static int add_path(hob_extractor *x, const hob_wire_chunk *c)
{
    const uint32_t n = x->result.chunk_count;
    if (n > 0) {
        const char *last = (const char *)x->path_bytes.data + x->paths[n - 1];
        if (strlen(last) == c->path_len && memcmp(last, c->path, c->path_len) == 0) {
            x->paths[n] = x->paths[n - 1];
            return 0;
        }
    }
    if (x->path_bytes.len > x->limits.text_bytes)
        return fail(x, HOB_EXTRACT_TOO_LARGE,
                    "the paths of the document's headings have more than %u bytes, which is the "
                    "limit",
                    x->limits.text_bytes);
    x->paths[n] = (uint32_t)x->path_bytes.len;
    if (hob_bytes_append(&x->path_bytes, c->path, c->path_len) < 0 ||
        hob_bytes_append(&x->path_bytes, "", 1) < 0)
        return no_memory(x);
    return 0;
}

static int take_chunk(hob_extractor *x, const hob_message *m)
{
    hob_extraction *e = &x->result;
    hob_wire_chunk c;
    int r;
    if (!x->wants_chunks || !has_text(x) || hob_wire_get_chunk(m, &c) < 0)
        return break_off(x, "CHUNK");
    if (!is_sound(x, &c.chunk) || e->chunk_count >= x->limits.chunks)
        return break_off(x, "a chunk's range, order, tokens or number");
    if (!grow_chunks(x))
        return no_memory(x);
    if ((r = add_path(x, &c)) < 0)
        return r;
    e->chunks[e->chunk_count++] =
        (hob_extracted_chunk){.start = c.chunk.start, .end = c.chunk.end, .tokens = c.chunk.tokens};
    return 0;
}

static int take_end(hob_extractor *x, const hob_message *m)
{
    hob_extraction *e = &x->result;
    uint32_t chunks;
    if (!has_text(x) || hob_wire_get_end(m, &chunks) < 0 || chunks != e->chunk_count ||
        (x->wants_chunks && chunks == 0))
        return break_off(x, "END");
    for (uint32_t i = 0; i < chunks; i++)
        e->chunks[i].path = (const char *)x->path_bytes.data + x->paths[i];
    x->finished = true;
    reap(x);
    return HOB_ECANCELED; /* what comes behind it is not read */
}

static int take_error(hob_extractor *x, const hob_message *m)
{
    hob_extract_error e;
    const char *line;
    if (hob_wire_get_error(m, &e, &line) < 0)
        return break_off(x, "ERROR");
    if (!hob_wire_is_text(line, strlen(line))) /* a name that was cut within a character */
        line = hob_extract_error_name(e);
    return fail(x, e, "%s", line);
}

static int take_message(void *user, const hob_message *m)
{
    hob_extractor *x = user;
    switch ((int)m->type) {
    case HOB_WIRE_META: return take_meta(x, m);
    case HOB_WIRE_TEXT: return take_text(x, m);
    case HOB_WIRE_CHUNK: return take_chunk(x, m);
    case HOB_WIRE_END: return take_end(x, m);
    case HOB_WIRE_ERROR: return take_error(x, m);
    default: return break_off(x, "an unknown message");
    }
}

/* ---- the process ---- */

static const char *tail_of(const char *text)
{
    const size_t len = text ? strlen(text) : 0;
    return len > HOB_EXTRACT_NAME_MAX ? text + len - HOB_EXTRACT_NAME_MAX : text ? text : "";
}

static int spawn(hob_extractor *x, const hob_extract_request *r, int child)
{
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"--input-bytes", r->limits.input_bytes},
        {"--text-bytes", r->limits.text_bytes},
        {"--chunks", r->limits.chunks},
        {"--memory-mb", r->limits.memory_mb},
        {"--cpu-s", r->limits.cpu_s},
        {"--wall-ms", r->limits.wall_ms},
        {"--chunk-tokens", r->chunk_tokens},
        {"--overlap-tokens", r->overlap_tokens},
        {"--vocabulary", x->wants_chunks},
    };
    enum { NUMBERS = sizeof numbers / sizeof *numbers, TEXTS = 8 };
    char digits[NUMBERS][24];
    const char *argv[TEXTS + 2 * NUMBERS + 1] = {
        "hobd",        "--extract",
        "--name",      tail_of(r->name),
        "--type",      tail_of(r->media_type),
        "--pdftotext", r->pdftotext ? r->pdftotext : HOB_PDFTOTEXT};
    const int fds[] = {child, r->document, r->vocabulary};
    for (int i = 0; i < NUMBERS; i++) {
        snprintf(digits[i], sizeof digits[i], "%llu", (unsigned long long)numbers[i].value);
        argv[TEXTS + 2 * i] = numbers[i].name;
        argv[TEXTS + 1 + 2 * i] = digits[i];
    }
    return hob_spawn_self(argv, fds, x->wants_chunks ? 3 : 2, true, &x->pid);
}

static int check_request(const hob_extract_request *r, hob_diag *diag)
{
    const hob_extract_limits *l = &r->limits;
    if (r->chunk_tokens < HOB_CHUNK_TOKENS_LEAST || r->chunk_tokens > HOB_CHUNK_TOKENS_MOST)
        return hob_fail(diag, HOB_EINVAL, "chunk tokens: got %u, allowed %d to %d", r->chunk_tokens,
                        HOB_CHUNK_TOKENS_LEAST, HOB_CHUNK_TOKENS_MOST);
    if (r->overlap_tokens > r->chunk_tokens / 2)
        return hob_fail(diag, HOB_EINVAL, "overlap tokens: got %u, allowed 0 to %u",
                        r->overlap_tokens, r->chunk_tokens / 2);
    if (l->text_bytes == 0 || l->text_bytes > HOB_EXTRACT_TEXT_MOST || l->chunks == 0 ||
        l->memory_mb == 0 || l->cpu_s == 0 || l->wall_ms == 0 || l->wall_ms > INT32_MAX)
        return hob_fail(diag, HOB_EINVAL, "limits of the extractor: 0, or too large");
    return 0;
}

int hob_extractor_start(const hob_extract_request *r, hob_extractor **ret, hob_diag *diag)
{
    int pair[2], rc = check_request(r, diag);
    if (rc < 0)
        return rc;
    hob_extractor *x = calloc(1, sizeof *x);
    if (!x)
        return hob_fail(diag, HOB_ENOMEM, "no memory for an extractor");
    x->fd = -1;
    x->limits = r->limits;
    x->chunk_tokens = r->chunk_tokens;
    x->wants_chunks = r->vocabulary >= 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        rc = hob_fail(diag, HOB_EIO, "extractor: no socket pair: %s", strerror(errno));
        goto fail;
    }
    x->fd = pair[0];
    rc = fcntl(x->fd, F_SETFL, O_NONBLOCK) < 0 ? HOB_EIO : spawn(x, r, pair[1]);
    if (rc < 0)
        hob_fail(diag, rc, "extractor: cannot be started: %s", strerror(errno));
    close(pair[1]);
    if (rc < 0)
        goto fail;
    x->deadline_us = hob_now_us() + x->limits.wall_ms * (uint64_t)1000;
    *ret = x;
    return 0;
fail:
    hob_extractor_free(x);
    return rc;
}

static void read_some(hob_extractor *x)
{
    uint8_t buffer[READ_BYTES];
    for (int i = 0; i < READS_MAX && !x->finished; i++) {
        hob_diag diag = {""};
        const ssize_t n = read(x->fd, buffer, sizeof buffer);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            judge_death(x);
            return;
        }
        if (hob_reader_feed(&x->reader, buffer, (size_t)n, take_message, x, &diag) < 0 &&
            !x->finished)
            break_off(x, diag.text);
    }
}

bool hob_extractor_step(hob_extractor *x, int timeout_ms)
{
    struct pollfd p = {.fd = x->fd, .events = POLLIN};
    if (x->finished)
        return true;
    const uint64_t now_us = hob_now_us();
    const uint64_t left_ms = now_us < x->deadline_us ? (x->deadline_us - now_us + 999) / 1000 : 0;
    if (timeout_ms < 0 || (uint64_t)timeout_ms > left_ms)
        timeout_ms = (int)left_ms;
    if (poll(&p, 1, timeout_ms) > 0)
        read_some(x);
    if (!x->finished && hob_now_us() >= x->deadline_us)
        fail(x, HOB_EXTRACT_TIMEOUT, "the document takes more than %u ms", x->limits.wall_ms);
    return x->finished;
}

int hob_extractor_fd(const hob_extractor *x)
{
    return x->fd;
}

const hob_extraction *hob_extractor_result(const hob_extractor *x)
{
    return x->finished ? &x->result : NULL;
}

void hob_extractor_free(hob_extractor *x)
{
    if (!x)
        return;
    reap(x);
    drop_result(x);
    free(x->paths);
    hob_bytes_free(&x->path_bytes);
    hob_reader_free(&x->reader);
    free(x);
}
