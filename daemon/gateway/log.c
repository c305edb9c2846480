/* SPDX-License-Identifier: Apache-2.0
 *
 * See log.h. What is written at once is whole lines, no more than a pipe takes in one piece, so that lines of gateway and
 * engines never mix; poll() says beforehand that there is room, so that the thread can always be ended. Under systemd, which
 * says so in JOURNAL_STREAM, each line begins with its priority as <N>. */
#include "daemon/gateway/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    POLL_MS = 100, /* between two looks at whether the thread is to end */
    PREFIX = 3,    /* <N> */
    TEXT_MAX = 1024,
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char priorities[] = {'3', '4', '6', '7'}; /* of syslog */

static struct {
    atomic_int level;
    atomic_bool json, journal, running, ending;
    atomic_ullong dropped;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t more, idle;
    hob_log_ring ring;
    hob_log_cursor written;
    uint64_t untold; /* lines that were dropped since the last one was written */
    bool waits;      /* the thread, for a line */
} state = {.level = HOB_LOG_INFO,
           .lock = PTHREAD_MUTEX_INITIALIZER,
           .more = PTHREAD_COND_INITIALIZER,
           .idle = PTHREAD_COND_INITIALIZER};

static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

int hob_log_open(const char *level, const char *format)
{
    int found = -1;
    for (int i = 0; i < (int)(sizeof level_names / sizeof *level_names); i++)
        if (strcmp(level, level_names[i]) == 0)
            found = i;
    const bool json = strcmp(format, "json") == 0;
    if (found < 0 || (!json && strcmp(format, "logfmt") != 0))
        return HOB_EINVAL;
    state.level = found;
    state.json = json;
    state.journal = is_journal();
    return 0;
}

/* ---- writing ---- */

/* Waits for room as long as there is reason to. How much of it was written: not all, where stderr takes nothing any more. */
static size_t write_all(const char *s, size_t len)
{
    size_t done = 0;
    while (done < len) {
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
        if (poll(&p, 1, POLL_MS) <= 0 || !(p.revents & (POLLOUT | POLLERR | POLLHUP))) {
            if (state.ending)
                return done;
            continue;
        }
        const size_t left = len - done;
        const ssize_t n = write(STDERR_FILENO, s + done, left < PIPE_BUF ? left : PIPE_BUF);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EAGAIN && errno != EINTR) /* somebody else has filled it */
            return done;                            /* nowhere left to say so */
    }
    return done;
}

/* Lines of which something is missing in what was written. */
static uint64_t count_lost(const char *s, size_t len, size_t done)
{
    uint64_t n = 0;
    for (size_t i = done; i < len; i++)
        n += s[i] == '\n';
    return n;
}

static size_t add_prefix(char *to, hob_log_level level)
{
    if (!state.journal)
        return 0;
    to[0] = '<';
    to[1] = priorities[level];
    to[2] = '>';
    return PREFIX;
}

/* What the ring has forgotten is told in its place. */
static size_t add_notice(char *to, uint64_t dropped)
{
    hob_log_line l;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    hob_log_line_begin(&l, state.json, &now, level_names[HOB_LOG_WARN]);
    hob_log_line_word(&l, "msg", "lines were dropped: whoever reads them was too slow");
    hob_log_line_number(&l, "dropped", (int64_t)dropped);
    hob_log_line_end(&l);
    const size_t n = add_prefix(to, HOB_LOG_WARN);
    memcpy(to + n, l.text, l.len);
    return n + l.len;
}

/* Whole lines, as many as a pipe takes at once, or one that is longer; *ret_told: the first says that so many were dropped.
 * Holds the lock. */
static size_t take_lines(char *to, uint64_t *ret_told)
{
    size_t len = 0;
    *ret_told = state.untold;
    if (state.untold > 0) {
        len = add_notice(to, state.untold);
        state.untold = 0;
    }
    for (;;) {
        char line[HOB_LOG_LINE_MAX];
        const hob_log_cursor before = state.written;
        uint64_t missed;
        uint8_t level;
        const size_t n =
            hob_log_ring_read(&state.ring, &state.written, &level, line, sizeof line, &missed);
        if (n == 0)
            return len;
        if (len > 0 && len + PREFIX + n > PIPE_BUF) {
            state.written = before;
            return len;
        }
        len += add_prefix(to + len, (hob_log_level)level);
        memcpy(to + len, line, n);
        len += n;
    }
}

static void *run(void *user)
{
    static char lines[PREFIX + HOB_LOG_LINE_MAX]; /* of this thread alone */
    (void)user;
    pthread_mutex_lock(&state.lock);
    for (;;) {
        uint64_t told;
        const size_t len = take_lines(lines, &told);
        if (len == 0) {
            pthread_cond_signal(&state.idle);
            if (state.ending)
                break;
            state.waits = true;
            pthread_cond_wait(&state.more, &state.lock);
            state.waits = false;
            continue;
        }
        pthread_mutex_unlock(&state.lock);
        const size_t done = write_all(lines, len);
        pthread_mutex_lock(&state.lock);
        if (done == len)
            continue;
        uint64_t lost = count_lost(lines, len, done);
        if (told > 0 && !memchr(lines, '\n', done)) { /* the notice is among them */
            state.untold += told;
            lost--;
        }
        state.untold += lost;
        state.dropped += lost;
        if (state.ending)
            break;
    }
    pthread_mutex_unlock(&state.lock);
    return NULL;
}

int hob_log_start(void)
{
    sigset_t all, before;
    int code = hob_log_ring_open(&state.ring, HOB_LOG_BYTES);
    if (code < 0)
        return code;
    state.written = (hob_log_cursor){0};
    state.ending = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the loop */
    if (pthread_create(&state.thread, NULL, run, NULL) != 0)
        code = HOB_ENOMEM;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code < 0)
        hob_log_ring_close(&state.ring);
    state.running = code == 0;
    return code;
}

void hob_log_stop(uint32_t patience_ms)
{
    struct timespec until;
    if (!state.running)
        return;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += patience_ms / 1000;
    until.tv_nsec += (long)(patience_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&state.lock);
    while (!(state.waits && state.written.line == state.ring.end_line) &&
           pthread_cond_timedwait(&state.idle, &state.lock, &until) == 0)
        ;
    state.ending = true;
    state.running = false;
    pthread_cond_signal(&state.more);
    pthread_mutex_unlock(&state.lock);
    pthread_join(state.thread, NULL);
    hob_log_ring_close(&state.ring);
}

/* ---- logging ---- */

bool hob_log_begin(hob_log_line *l, hob_log_level level)
{
    struct timespec now;
    if ((int)level > state.level)
        return false;
    clock_gettime(CLOCK_REALTIME, &now);
    hob_log_line_begin(l, state.json, &now, level_names[level]);
    return true;
}

/* Holds the lock. */
static void keep(const hob_log_line *l, hob_log_level level)
{
    hob_log_ring_add(&state.ring, (uint8_t)level, l->text, l->len);
    if (state.ring.first_line > state.written.line) {
        const uint64_t lost = state.ring.first_line - state.written.line;
        state.written = (hob_log_cursor){.at = state.ring.first, .line = state.ring.first_line};
        state.untold += lost;
        state.dropped += lost;
    }
    if (state.waits)
        pthread_cond_signal(&state.more);
}

void hob_log_end(hob_log_line *l, hob_log_level level)
{
    hob_log_line_end(l);
    if (state.running) {
        pthread_mutex_lock(&state.lock);
        keep(l, level);
        pthread_mutex_unlock(&state.lock);
        return;
    }
    if (write(STDERR_FILENO, l->text, l->len) < 0)
        state.dropped++; /* nowhere left to say so */
}

void hob_log(hob_log_level level, const char *format, ...)
{
    hob_log_line l;
    char text[TEXT_MAX];
    if (!hob_log_begin(&l, level))
        return;
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0)
        return;
    l.cut = (size_t)n >= sizeof text;
    hob_log_line_text(&l, "msg", text, l.cut ? sizeof text - 1 : (size_t)n);
    hob_log_end(&l, level);
}

/* ---- reading ---- */

uint64_t hob_log_dropped(void)
{
    return state.dropped;
}

size_t hob_log_read(hob_log_cursor *c, char *ret, size_t size, uint64_t *ret_missed)
{
    uint8_t level;
    size_t n = 0;
    *ret_missed = 0;
    pthread_mutex_lock(&state.lock);
    if (state.ring.data)
        n = hob_log_ring_read(&state.ring, c, &level, ret, size, ret_missed);
    pthread_mutex_unlock(&state.lock);
    return n;
}

hob_log_cursor hob_log_seek(uint64_t line)
{
    pthread_mutex_lock(&state.lock);
    const hob_log_cursor c = hob_log_ring_seek(&state.ring, line);
    pthread_mutex_unlock(&state.lock);
    return c;
}

uint64_t hob_log_count(void)
{
    pthread_mutex_lock(&state.lock);
    const uint64_t n = state.ring.end_line;
    pthread_mutex_unlock(&state.lock);
    return n;
}
