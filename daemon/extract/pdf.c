/* SPDX-License-Identifier: Apache-2.0
 *
 * PDF, through poppler's pdftotext: a PDF parser is large, and this one is kept. It is started before the extractor enters
 * its own sandbox and runs in one made for it (engine/sandbox.h), with the file as its standard input and limits of its
 * own on time, memory and files. What it writes is as untrusted as the PDF file. See formats.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/sandbox.h"
#include "daemon/extract/encoding.h"
#include "daemon/extract/formats.h"

enum {
    FILES_MAX = 32, /* open at once in pdftotext; must be less than HOB_SANDBOX_PROGRAM_FD */
    COMPLAINTS_MAX = 65536, /* bytes of its standard error that are looked at */
    /* Exit statuses of pdftotext, and ours if it cannot run. */
    CANNOT_OPEN = 1,
    NOT_PERMITTED = 3,
    CANNOT_RUN = 126,
};
_Static_assert((int)FILES_MAX <= (int)HOB_SANDBOX_PROGRAM_FD, "no other file takes its place");

static bool set_limit(int what, rlim_t value)
{
    return setrlimit(what, &(struct rlimit){value, value}) == 0;
}

/* In the child, which has one thread. */
static void run(const char *program, int program_fd, int document, const int out, const int err,
                const hob_extract_limits *limits, rlim_t document_bytes)
{
    static char name[] = "pdftotext", encoding[] = "-enc", utf8[] = "UTF-8", input[] = "-",
                locale[] = "LC_ALL=C.UTF-8";
    char *const argv[] = {name, encoding, utf8, input, input, NULL}, *const environment[] = {locale,
                                                                                             NULL};
    const rlim_t memory = ((rlim_t)limits->memory_mb << 20) + document_bytes;
    if (dup3(program_fd, HOB_SANDBOX_PROGRAM_FD, O_CLOEXEC) >= 0 &&
        lseek(document, 0, SEEK_SET) == 0 && dup2(document, STDIN_FILENO) >= 0 &&
        dup2(out, STDOUT_FILENO) >= 0 && dup2(err, STDERR_FILENO) >= 0 &&
        close_range(STDERR_FILENO + 1, HOB_SANDBOX_PROGRAM_FD - 1, 0) == 0 &&
        set_limit(RLIMIT_NOFILE, FILES_MAX)) {
        alarm(limits->wall_ms / 1000 + 1); /* a fork does not inherit it */
        /* Memory last: it is for the program, not for a sanitizer here. */
        if (hob_sandbox_enter(HOB_SANDBOX_HELPER, program, NULL, NULL) == 0 &&
            set_limit(RLIMIT_AS, memory))
            syscall(SYS_execveat, HOB_SANDBOX_PROGRAM_FD, "", argv, environment, AT_EMPTY_PATH);
    }
    _exit(CANNOT_RUN);
}

int hob_pdf_start(const char *program, int document, hob_pdf *ret, hob_document *d)
{
    int out[2] = {-1, -1}, err[2] = {-1, -1};
    const off_t bytes = lseek(document, 0, SEEK_END);
    const int fd = open(program, O_RDONLY | O_CLOEXEC);
    int r = 0;
    if (fd < 0)
        return hob_document_fail(d, HOB_EXTRACT_HELPER_MISSING,
                                 "PDF files are read by %.100s, which is not there: install "
                                 "poppler-utils",
                                 program);
    pid_t pid = -1;
    if (bytes >= 0 && pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0)
        pid = fork();
    if (pid == 0)
        run(program, fd, document, out[1], err[1], d->limits, (rlim_t)bytes);
    if (pid < 0)
        r = hob_document_fail(d, HOB_EXTRACT_INTERNAL, "pdftotext cannot be started: %s",
                              strerror(errno));
    close(fd);
    close(out[1]);
    close(err[1]);
    if (r == 0) {
        *ret = (hob_pdf){.pid = pid, .out = out[0], .err = err[0]};
    } else {
        close(out[0]);
        close(err[0]);
    }
    return r;
}

/* Reads what there is; *fd becomes -1 at its end. Past `most` bytes: HOB_ELIMIT. */
static int drain(int *fd, hob_bytes *to, size_t most)
{
    uint8_t buffer[16384];
    const ssize_t n = read(*fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR)
        return 0;
    if (n <= 0) {
        close(*fd);
        *fd = -1;
        return 0;
    }
    if (to->len + (size_t)n > most)
        return HOB_ELIMIT;
    return hob_bytes_append(to, buffer, (size_t)n);
}

static int collect(hob_pdf *p, hob_bytes *text, hob_bytes *complaints, hob_document *d)
{
    const size_t most = (size_t)HOB_EXTRACT_RAW_FACTOR * d->limits->text_bytes;
    while (p->out >= 0 || p->err >= 0) {
        struct pollfd fds[] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return hob_document_fail(d, HOB_EXTRACT_INTERNAL, "poll: %s", strerror(errno));
        if (fds[0].revents) {
            const int r = drain(&p->out, text, most);
            if (r == HOB_ELIMIT)
                return hob_document_fail(d, HOB_EXTRACT_TOO_LARGE,
                                         "the PDF file has more than %zu bytes of text, which is "
                                         "the limit",
                                         most);
            if (r < 0)
                return hob_document_no_memory(d);
        }
        if (fds[1].revents && drain(&p->err, complaints, COMPLAINTS_MAX) == HOB_ELIMIT)
            complaints->len = 0; /* the last ones count, and the pipe must not fill up */
    }
    return 0;
}

static bool complains(const hob_bytes *complaints, const char *of)
{
    return complaints->len > 0 && memmem(complaints->data, complaints->len, of, strlen(of));
}

/* What the way in which pdftotext ended says about the file. */
static int judge(int status, const hob_bytes *complaints, hob_document *d)
{
    if (complains(complaints, "Incorrect password"))
        return hob_document_fail(d, HOB_EXTRACT_ENCRYPTED,
                                 "the PDF file is encrypted: save it without a password");
    if (complains(complaints, "Missing language pack"))
        return hob_document_fail(d, HOB_EXTRACT_HELPER_MISSING,
                                 "the PDF file uses a character collection of East Asia without "
                                 "its tables: install poppler-data");
    if (WIFSIGNALED(status)) {
        const int signal_number = WTERMSIG(status);
        if (signal_number == SIGXCPU || signal_number == SIGALRM)
            return hob_document_fail(d, HOB_EXTRACT_TIMEOUT,
                                     "pdftotext took more than %u s of processor time or %u ms",
                                     d->limits->cpu_s, d->limits->wall_ms);
        if (signal_number == SIGABRT && complains(complaints, "bad_alloc"))
            return hob_document_fail(d, HOB_EXTRACT_MEMORY,
                                     "pdftotext needs more than %u MiB, which is the limit",
                                     d->limits->memory_mb);
        return hob_document_fail(d, HOB_EXTRACT_CRASHED,
                                 "pdftotext was ended by signal %d on this file", signal_number);
    }
    if (complains(complaints, "Out of memory"))
        return hob_document_fail(d, HOB_EXTRACT_MEMORY,
                                 "pdftotext needs more than %u MiB, which is the limit",
                                 d->limits->memory_mb);
    switch (WEXITSTATUS(status)) {
    case 0: return 0;
    case CANNOT_OPEN:
        return hob_document_fail(d, HOB_EXTRACT_MALFORMED,
                                 "pdftotext cannot open the PDF file: it is damaged");
    case NOT_PERMITTED:
        return hob_document_fail(d, HOB_EXTRACT_ENCRYPTED,
                                 "the PDF file does not permit that its text is taken");
    case CANNOT_RUN:
        return hob_document_fail(d, HOB_EXTRACT_INTERNAL, "pdftotext cannot be run in its sandbox");
    default:
        return hob_document_fail(d, HOB_EXTRACT_MALFORMED,
                                 "pdftotext gave up on the PDF file with status %d",
                                 WEXITSTATUS(status));
    }
}

int hob_pdf_read(hob_pdf *p, hob_document *d)
{
    hob_bytes raw = {0}, complaints = {0}, copy = {0};
    const char *text;
    size_t len;
    int status = 0;
    int r = collect(p, &raw, &complaints, d);
    if (r == 0) {
        while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
            ;
        r = judge(status, &complaints, d);
    }
    hob_bytes_free(&complaints);
    if (r == 0 && raw.len > 0) {
        r = hob_encoding_decode(raw.data, raw.len, HOB_ENCODING_UTF8, &copy, &text, &len, d);
        if (r == 0)
            r = hob_read_plain(text, len, d);
    }
    hob_bytes_free(&copy);
    hob_bytes_free(&raw);
    return r;
}
