/* SPDX-License-Identifier: Apache-2.0
 *
 * See extractor.h. */
#include "daemon/extract/extractor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/spawn.h"
#include "daemon/extract/chunk.h"
#include "daemon/extract/collect.h"
#include "daemon/extract/formats.h"

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
    hob_collector collector;
    pid_t pid; /* 0: reaped */
    int fd;    /* -1: closed */
    uint64_t deadline_us;
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

/* The child has closed its end without END or ERROR. */
static void judge_death(hob_extractor *x)
{
    hob_collector *c = &x->collector;
    const int status = reap(x);
    if (!WIFSIGNALED(status))
        hob_collector_fail(c, HOB_EXTRACT_CRASHED, "the extractor ended with status %d",
                           WEXITSTATUS(status));
    else if (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGALRM)
        hob_collector_fail(c, HOB_EXTRACT_TIMEOUT,
                           "the document takes more than %u s of processor time", c->limits.cpu_s);
    else
        hob_collector_fail(c, HOB_EXTRACT_CRASHED,
                           "the extractor was ended by signal %d on this document",
                           WTERMSIG(status));
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
        {"--vocabulary", x->collector.wants_chunks},
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
    return hob_spawn_self(argv, fds, x->collector.wants_chunks ? 3 : 2, true,
                          HOB_SPAWN_OOM_EXTRACTOR, &x->pid);
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
    x->collector = (hob_collector){
        .limits = r->limits, .chunk_tokens = r->chunk_tokens, .wants_chunks = r->vocabulary >= 0};
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
    x->deadline_us = hob_now_us() + r->limits.wall_ms * (uint64_t)1000;
    *ret = x;
    return 0;
fail:
    hob_extractor_free(x);
    return rc;
}

static void read_some(hob_extractor *x)
{
    uint8_t buffer[READ_BYTES];
    for (int i = 0; i < READS_MAX && !x->collector.finished; i++) {
        const ssize_t n = read(x->fd, buffer, sizeof buffer);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            judge_death(x);
            return;
        }
        hob_collector_feed(&x->collector, buffer, (size_t)n);
    }
}

bool hob_extractor_step(hob_extractor *x, int timeout_ms)
{
    hob_collector *c = &x->collector;
    struct pollfd p = {.fd = x->fd, .events = POLLIN};
    if (c->finished)
        return true;
    const uint64_t now_us = hob_now_us();
    const uint64_t left_ms = now_us < x->deadline_us ? (x->deadline_us - now_us + 999) / 1000 : 0;
    if (timeout_ms < 0 || (uint64_t)timeout_ms > left_ms)
        timeout_ms = (int)left_ms;
    if (poll(&p, 1, timeout_ms) > 0)
        read_some(x);
    if (!c->finished && hob_now_us() >= x->deadline_us)
        hob_collector_fail(c, HOB_EXTRACT_TIMEOUT, "the document takes more than %u ms",
                           c->limits.wall_ms);
    if (c->finished)
        reap(x);
    return c->finished;
}

int hob_extractor_fd(const hob_extractor *x)
{
    return x->fd;
}

const hob_extraction *hob_extractor_result(const hob_extractor *x)
{
    return x->collector.finished ? &x->collector.result : NULL;
}

void hob_extractor_free(hob_extractor *x)
{
    if (!x)
        return;
    reap(x);
    hob_collector_free(&x->collector);
    free(x);
}
