/* SPDX-License-Identifier: Apache-2.0
 *
 * The extractor as a process, and its parent. This program is started again as the extractor, as hobd is; with a name that
 * begins with "hostile:" it plays one that was taken over, and as "pdftotext" a helper that was. Documents are memfds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/engine/sandbox.h"
#include "daemon/extract/extractor.h"
#include "tests/support/document_check.h"
#include "tests/support/zip_maker.h"

/* A sanitizer's runtime takes address space without end, and does not start in a helper's sandbox. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static int vocabulary_fd = -1;

static int memfd(const void *data, size_t bytes)
{
    const int fd = memfd_create("document", MFD_CLOEXEC);
    assert_true(fd >= 0);
    for (size_t at = 0; at < bytes;) {
        const ssize_t n = write(fd, (const char *)data + at, bytes - at);
        assert_true(n > 0);
        at += (size_t)n;
    }
    return fd;
}

static int set_up(void **state)
{
    (void)state;
    mk m = {0};
    const texts_vocabulary v = wordpiece_vocabulary();
    mk_texts_vocabulary(&m, &v);
    vocabulary_fd = memfd(m.data, m.bytes);
    mk_free(&m);
    return 0;
}

static hob_extractor *finished;

/* What comes of a document; until the next call. Takes over r->document. */
static const hob_extraction *extract(const hob_extract_request *r)
{
    hob_diag diag = {""};
    hob_extractor_free(finished);
    finished = NULL;
    assert_int_equal(hob_extractor_start(r, &finished, &diag), 0);
    close(r->document);
    while (!hob_extractor_step(finished, 1000))
        assert_null(hob_extractor_result(finished));
    assert_int_equal(hob_extractor_fd(finished), -1);
    return hob_extractor_result(finished);
}

static hob_extract_request request(int document, const char *name)
{
    hob_extract_request r = hob_extract_request_default;
    r.document = document;
    r.vocabulary = vocabulary_fd;
    r.name = name;
    return r;
}

static const hob_extraction *extract_text(const char *text, const char *name)
{
    const hob_extract_request r = request(memfd(text, strlen(text)), name);
    return extract(&r);
}

static void fails(const hob_extract_request *r, hob_extract_error e, const char *says)
{
    const hob_extraction *x = extract(r);
    if (x->error != e || !strstr(x->why.text, says))
        print_error("got %s: %s\n", hob_extract_error_name(x->error), x->why.text);
    assert_int_equal(x->error, e);
    assert_non_null(strstr(x->why.text, says));
    assert_null(x->text);
    assert_null(x->title);
    assert_null(x->chunks);
    assert_int_equal(x->chunk_count, 0);
}

/* ---- documents ---- */

static void test_text(void **state)
{
    (void)state;
    const hob_extraction *x = extract_text("The unaffable word.\n\nA\u200b second.", "a.txt");
    assert_int_equal(x->error, HOB_EXTRACT_OK);
    assert_string_equal(x->media_type, "text/plain");
    assert_string_equal(x->encoding, "utf-8");
    assert_string_equal(x->title, "");
    assert_string_equal(x->text, "The unaffable word.\n\nA second.");
    assert_int_equal(x->text_len, strlen(x->text));
    assert_int_equal(x->stripped.zero_width, 1);
    assert_int_equal(x->chunk_count, 1);
    assert_int_equal(x->chunks[0].start, 0);
    assert_int_equal(x->chunks[0].end, x->text_len);
    /* the, un aff able, word, the stop; a, second, the stop */
    assert_int_equal(x->chunks[0].tokens, 9);
    assert_string_equal(x->chunks[0].path, "");
}

static void test_headings(void **state)
{
    (void)state;
    const hob_extraction *x = extract_text("# A\n\nx\n\n## B\n\ny\n\n## C\n\nz", "a.md");
    assert_string_equal(x->media_type, "text/markdown");
    assert_string_equal(x->title, "A");
    assert_int_equal(x->chunk_count, 3);
    assert_string_equal(x->chunks[0].path, "A");
    assert_string_equal(x->chunks[1].path, "A > B");
    assert_string_equal(x->chunks[2].path, "A > C");
}

static void test_without_vocabulary(void **state)
{
    (void)state;
    hob_extract_request r = request(memfd("text", 4), NULL);
    r.vocabulary = -1;
    const hob_extraction *x = extract(&r);
    assert_int_equal(x->error, HOB_EXTRACT_OK);
    assert_string_equal(x->text, "text");
    assert_int_equal(x->chunk_count, 0);
}

static void test_large_text(void **state)
{
    (void)state;
    enum { WORDS = 200000 };
    char *text = malloc(WORDS * 6 + 1);
    for (int i = 0; i < WORDS; i++)
        memcpy(text + 6 * i, "word. ", 7);
    const hob_extraction *x = extract_text(text, "");
    assert_int_equal(x->error, HOB_EXTRACT_OK);
    assert_int_equal(x->text_len, WORDS * 6 - 1);
    assert_memory_equal(x->text, text, x->text_len);
    assert_true(x->chunk_count > 2000);
    assert_int_equal(x->chunks[x->chunk_count - 1].end, x->text_len);
    free(text);
}

static void test_no_text(void **state)
{
    (void)state;
    hob_extract_request r = request(memfd("", 0), "");
    fails(&r, HOB_EXTRACT_EMPTY, "0 bytes");
    r.document = memfd(" \n\xe2\x80\x8b ", 6);
    fails(&r, HOB_EXTRACT_EMPTY, "the file has no text");
    r.document = memfd("\0\1\2\3\4\5", 6);
    fails(&r, HOB_EXTRACT_BINARY, "binary");
    r.document = memfd("\x89PNG\r\n", 6);
    fails(&r, HOB_EXTRACT_UNSUPPORTED, "a PNG image");
    r.document = memfd("PK\3\4", 4);
    fails(&r, HOB_EXTRACT_MALFORMED, "no directory");
    r.document = memfd("<html><meta charset=big5>\xa4\xa4\xa4\xe5", 29);
    fails(&r, HOB_EXTRACT_UNSUPPORTED, "character set is big5");
}

static void test_broken_vocabulary(void **state)
{
    (void)state;
    hob_extract_request r = request(memfd("text", 4), "");
    r.vocabulary = memfd("GGUF", 4);
    fails(&r, HOB_EXTRACT_INTERNAL, "the embedding model: ");
    close(r.vocabulary);
}

static void test_refused_requests(void **state)
{
    (void)state;
    hob_extractor *x = NULL;
    hob_diag diag;
    hob_extract_request r = request(-1, "");
    r.chunk_tokens = HOB_CHUNK_TOKENS_LEAST - 1;
    assert_int_equal(hob_extractor_start(&r, &x, &diag), HOB_EINVAL);
    r = request(-1, "");
    r.overlap_tokens = r.chunk_tokens / 2 + 1;
    assert_int_equal(hob_extractor_start(&r, &x, &diag), HOB_EINVAL);
    r = request(-1, "");
    r.limits.text_bytes = HOB_EXTRACT_TEXT_MOST + 1u;
    assert_int_equal(hob_extractor_start(&r, &x, &diag), HOB_EINVAL);
    r = request(-1, ""); /* no document */
    assert_int_equal(hob_extractor_start(&r, &x, &diag), HOB_EIO);
    assert_null(x);
}

/* ---- limits ---- */

static void test_input_limits(void **state)
{
    (void)state;
    hob_extract_request r = request(memfd("text", 4), "");
    r.limits.input_bytes = 3;
    fails(&r, HOB_EXTRACT_TOO_LARGE, "4 bytes; allowed are 3");
    r = request(memfd("1234 6789 1234 6789", 19), "");
    r.limits.text_bytes = 2;
    fails(&r, HOB_EXTRACT_TOO_LARGE, "a text of 19 bytes; allowed are 16");
    r.document = memfd("1234 6789 1234", 14);
    fails(&r, HOB_EXTRACT_TOO_LARGE, "more than 2 bytes");
    /* a gigabyte of text: a hole in a file, with a beginning */
    r = request(memfd("<html>", 6), "");
    r.limits.input_bytes = (uint64_t)2 << 30;
    assert_int_equal(ftruncate(r.document, 1 << 30), 0);
    fails(&r, HOB_EXTRACT_BINARY, "binary");
    char text[70000];
    memset(text, 'x', sizeof text);
    r.document = memfd(text, sizeof text);
    assert_int_equal(ftruncate(r.document, 1 << 30), 0);
    fails(&r, HOB_EXTRACT_TOO_LARGE, "a text of 1073741824 bytes; allowed are 134217728");
}

static void test_zip_bomb(void **state)
{
    (void)state;
    const zip_part parts[] = {
        {.name = "_rels/.rels",
         .text = "<Relationships><Relationship Type='/officeDocument' Target='word/document.xml'/>"
                 "</Relationships>",
         .deflated = true},
        {.name = "word/document.xml", .text = "<document>", .deflated = true, .spaces = 64 << 20}};
    zip_file z = zip_make(parts, 2);
    const hob_extract_request r = request(memfd(z.data, z.bytes), "");
    fails(&r, HOB_EXTRACT_TOO_LARGE, "200 times its size");
    zip_free(&z);
}

static void test_memory_limit(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    enum { BYTES = 20 << 20 };
    char *page = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        page[i] = "<b>x</b>"[i % 8];
    memcpy(page, "<html>  ", 8);
    hob_extract_request r = request(memfd(page, BYTES), "");
    r.limits.memory_mb = 200;
    fails(&r, HOB_EXTRACT_MEMORY, "the limit is 200 MiB");
    free(page);
}

/* Gumbo takes quadratic time for elements inside elements. */
static void test_time_limit(void **state)
{
    (void)state;
    enum { DEEP = 150000 };
    char *page = malloc(5 * DEEP + 7), *at = stpcpy(page, "<html>");
    for (int i = 0; i < DEEP; i++)
        at = stpcpy(at, "<div>");
    hob_extract_request r = request(memfd(page, strlen(page)), "");
    r.limits.cpu_s = 1;
    fails(&r, HOB_EXTRACT_TIMEOUT, "more than 1 s of processor time");
    r = request(memfd(page, strlen(page)), "");
    r.limits.wall_ms = 200;
    fails(&r, HOB_EXTRACT_TIMEOUT, "more than 200 ms");
    free(page);
}

static void test_cancel(void **state)
{
    (void)state;
    const hob_extract_request r = request(memfd("", 0), "hostile:sleep");
    hob_extractor *x;
    assert_int_equal(hob_extractor_start(&r, &x, NULL), 0);
    close(r.document);
    assert_false(hob_extractor_step(x, 10));
    assert_true(hob_extractor_fd(x) >= 0);
    assert_null(hob_extractor_result(x));
    hob_extractor_free(x); /* ends it: else this would wait for a minute */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

/* ---- a child that was taken over ---- */

static hob_bytes said;

static void say_meta(uint32_t text_bytes, const char *title)
{
    const hob_wire_meta m = {.format = HOB_FORMAT_TEXT,
                             .encoding = HOB_ENCODING_UTF8,
                             .text_bytes = text_bytes,
                             .title = title,
                             .title_len = strlen(title)};
    if (hob_wire_put_meta(&said, &m) < 0)
        abort();
}

static void say_text(const char *text, size_t len)
{
    if (hob_wire_put_text(&said, text, len) < 0)
        abort();
}

static void say_chunk(uint32_t start, uint32_t end, uint32_t tokens, const char *path)
{
    const hob_wire_chunk c = {
        .chunk = {start, end, tokens}, .path = path, .path_len = strlen(path)};
    if (hob_wire_put_chunk(&said, &c) < 0)
        abort();
}

static void say_end(uint32_t chunks)
{
    if (hob_wire_put_end(&said, chunks) < 0)
        abort();
}

static void say_raw(int type, const void *payload, size_t len)
{
    if (hob_message_append(&said, (hob_message_type)type, 0, payload, len) < 0)
        abort();
}

typedef struct lie {
    const char *name;
    hob_extract_error error;
    const char *says;
    void (*tell)(void);
} lie;

#define LIE(name, body)                                                                            \
    static void tell_##name(void)                                                                  \
    {                                                                                              \
        body                                                                                       \
    }

LIE(nothing, )
LIE(no_meta, say_text("x", 1);)
LIE(twice, say_meta(2, ""); say_meta(2, "");)
LIE(no_text, say_meta(0, "");)
LIE(too_much, say_meta(1 << 30, "");)
LIE(long_text, say_meta(2, ""); say_text("xyz", 3);)
LIE(short_text, say_meta(2, ""); say_text("x", 1); say_end(0);)
LIE(early_chunk, say_meta(2, ""); say_text("x", 1); say_chunk(0, 1, 1, "");)
LIE(not_utf8, say_meta(3, ""); say_text("a\xff"
                                        "b",
                                        3);)
LIE(controls, say_meta(3, ""); say_text("a\x1b"
                                        "b",
                                        3);)
LIE(surrogate, say_meta(3, ""); say_text("\xed\xa0\x80", 3);)
LIE(title, say_meta(1, "a\x1b");)
LIE(reversed, say_meta(4, ""); say_text("abcd", 4); say_chunk(2, 1, 1, "");)
LIE(outside, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 5, 1, "");)
LIE(far_outside, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 0xFFFFFFFF, 1, "");)
LIE(inside_a_character, say_meta(4, ""); say_text("a\u00e4b", 4); say_chunk(0, 2, 1, "");)
LIE(disorder, say_meta(4, ""); say_text("abcd", 4); say_chunk(1, 3, 1, ""); say_chunk(0, 4, 1, "");)
LIE(same_end, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 4, 1, ""); say_chunk(1, 4, 1, "");)
LIE(many_tokens, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 4, 201, "");)
LIE(path, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 4, 1, "\xc3");)
LIE(no_chunks, say_meta(4, ""); say_text("abcd", 4); say_end(0);)
LIE(wrong_count, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 4, 1, ""); say_end(2);)
LIE(no_end, say_meta(4, ""); say_text("abcd", 4); say_chunk(0, 4, 1, "");)
LIE(unknown, say_raw(77, "x", 1);)
LIE(short_meta, say_raw(HOB_WIRE_META, "x", 1);)
LIE(no_error, say_raw(HOB_WIRE_ERROR, "\0x", 2);)
LIE(other_error, say_raw(HOB_WIRE_ERROR, "\xffx", 2);)
LIE(raw, if (hob_bytes_append(&said, "HTTP/1.1 200 OK\r\n\r\n", 19) < 0) abort();)
LIE(binary_error, say_raw(HOB_WIRE_ERROR, "\1\xff\xfe", 3);)
LIE(sleep, sleep(60);)
LIE(crash, raise(SIGKILL);)
LIE(truth, say_meta(6, "t"); say_text("a\u00e4", 3); say_text("\nxy", 3); say_chunk(0, 3, 2, "");
    say_chunk(4, 6, 2, "p"); say_end(2);)
/* What comes behind the end is not looked at. */
LIE(more, tell_truth(); say_raw(77, "x", 1);)
LIE(many_chunks, say_meta(4000, ""); for (int i = 0; i < 4000; i++) say_text("x", 1);
    for (uint32_t i = 0; i < 4000; i++) say_chunk(i, i + 1, 1, ""); say_end(4000);)

#define BROKEN(name)                                                                               \
    {                                                                                              \
#name, HOB_EXTRACT_CRASHED, "broke its protocol", tell_##name                              \
    }
static const lie lies[] = {
    {"nothing", HOB_EXTRACT_CRASHED, "ended with status 5", tell_nothing},
    BROKEN(no_meta),
    BROKEN(twice),
    BROKEN(no_text),
    BROKEN(too_much),
    BROKEN(long_text),
    BROKEN(short_text),
    BROKEN(early_chunk),
    BROKEN(not_utf8),
    BROKEN(controls),
    BROKEN(surrogate),
    BROKEN(title),
    BROKEN(reversed),
    BROKEN(outside),
    BROKEN(far_outside),
    BROKEN(inside_a_character),
    BROKEN(disorder),
    BROKEN(same_end),
    BROKEN(many_tokens),
    BROKEN(path),
    BROKEN(no_chunks),
    BROKEN(wrong_count),
    {"no_end", HOB_EXTRACT_CRASHED, "ended with status 5", tell_no_end},
    BROKEN(unknown),
    BROKEN(short_meta),
    BROKEN(no_error),
    BROKEN(other_error),
    BROKEN(raw),
    {"binary_error", HOB_EXTRACT_UNSUPPORTED, "unsupported", tell_binary_error},
    {"crash", HOB_EXTRACT_CRASHED, "signal 9", tell_crash},
    {"sleep", HOB_EXTRACT_TIMEOUT, "more than 300 ms", tell_sleep},
    {"many_chunks", HOB_EXTRACT_CRASHED, "a chunk's range, order, tokens or number",
     tell_many_chunks},
    {"truth", HOB_EXTRACT_OK, "", tell_truth},
    {"more", HOB_EXTRACT_OK, "", tell_more},
};

static int be_hostile(const char *name)
{
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        if (strcmp(name, lies[i].name) == 0)
            lies[i].tell();
    for (size_t at = 0; at < said.len;) {
        const ssize_t n = send(HOB_EXTRACT_FD, said.data + at, said.len - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    _exit(5);
}

static void test_hostile_child(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char name[64];
        snprintf(name, sizeof name, "hostile:%s", lies[i].name);
        hob_extract_request r = request(memfd("", 0), name);
        if (strcmp(lies[i].name, "sleep") == 0)
            r.limits.wall_ms = 300;
        if (strcmp(lies[i].name, "many_chunks") == 0)
            r.limits.chunks = 3999;
        if (lies[i].error) {
            fails(&r, lies[i].error, lies[i].says);
            continue;
        }
        const hob_extraction *x = extract(&r);
        assert_int_equal(x->error, HOB_EXTRACT_OK);
        assert_string_equal(x->text, "a\u00e4\nxy");
        assert_string_equal(x->title, "t");
        assert_int_equal(x->chunk_count, 2);
        assert_string_equal(x->chunks[0].path, "");
        assert_string_equal(x->chunks[1].path, "p");
    }
}

/* ---- the sandboxes ---- */

static bool denied(long r)
{
    return r < 0 && (errno == EPERM || errno == EACCES);
}

static bool can_read(const char *path)
{
    const int fd = open(path, O_RDONLY);
    char c;
    const bool yes = fd >= 0 && read(fd, &c, 1) >= 0;
    if (fd >= 0)
        close(fd);
    return yes;
}

/* Says on standard output what a helper could do that it must not. */
static int be_helper(const char *self)
{
    char input[5] = "";
    char *const argv[] = {"true", NULL};
    const ssize_t n = read(STDIN_FILENO, input, 5);
    if (n != 5 || memcmp(input, "%PDF-", 5) != 0)
        puts("cannot read its input");
    if (!denied(socket(AF_INET, SOCK_STREAM, 0)))
        puts("has a socket");
    if (!denied(open("/tmp/hob-helper", O_WRONLY | O_CREAT, 0600)))
        puts("writes a file");
    if (can_read("/etc/passwd") || can_read("/proc/self/status"))
        puts("reads what is none of its business");
    if (!can_read("/etc/ld.so.cache"))
        puts("cannot read libraries");
    if (!denied(fork()))
        puts("forks");
    execve("/bin/true", argv, NULL);
    if (!denied(-1))
        puts("executes");
    execve(self, argv, NULL);
    if (!denied(-1))
        puts("executes itself");
    const int program = open("/usr/bin/env", O_RDONLY);
    if (program >= 0 && dup2(program, HOB_SANDBOX_PROGRAM_FD) >= 0)
        puts("puts a program in the place of its own");
    if (mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
        MAP_FAILED)
        puts("makes code");
    if (!denied(kill(getppid(), 0)))
        puts("sends signals");
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_max != 0)
        puts("may write");
    if (getrlimit(RLIMIT_CPU, &limit) < 0 || limit.rlim_cur != 30)
        puts("has no limit of time");
    for (int fd = 3; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            printf("has descriptor %d\n", fd);
    puts("That is all.");
    return 0;
}

static bool has_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void test_helpers_sandbox(void **state)
{
    (void)state;
    if (SANITIZED || !has_landlock())
        skip();
    char self[4096];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    hob_extract_request r = request(memfd("%PDF-1.7", 8), "a.pdf");
    r.pdftotext = self;
    const hob_extraction *x = extract(&r);
    if (x->error)
        print_error("%s\n", x->why.text);
    assert_int_equal(x->error, HOB_EXTRACT_OK);
    assert_string_equal(x->text, "That is all.");
    assert_string_equal(x->media_type, "application/pdf");
}

/* An extractor can do nothing but read, write and end. */
static void test_documents_sandbox(void **state)
{
    (void)state;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        int wrong = hob_sandbox_enter(HOB_SANDBOX_DOCUMENT, NULL, NULL, NULL) < 0;
        wrong |= !denied(open("/proc/self/exe", O_RDONLY)) << 1;
        wrong |= !denied(socket(AF_UNIX, SOCK_STREAM, 0)) << 2;
        wrong |= !denied(fork()) << 3;
        wrong |= !denied(execl("/bin/true", "true", NULL)) << 4;
        wrong |= !denied(kill(getpid(), 0)) << 5;
        wrong |= (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                  MAP_FAILED)
                 << 6;
        _exit(wrong);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_missing_helper(void **state)
{
    (void)state;
    hob_extract_request r = request(memfd("%PDF-1.7", 8), "");
    r.pdftotext = "/nonexistent/pdftotext";
    fails(&r, HOB_EXTRACT_HELPER_MISSING,
          "/nonexistent/pdftotext, which is not there: install poppler-utils");
    r.document = memfd("%PDF-1.7", 8);
    r.pdftotext = "/etc/passwd"; /* there, and no program */
    fails(&r, HOB_EXTRACT_INTERNAL, "cannot be run in its sandbox");
}

int main(int argc, char **argv)
{
    if (argc > 4 && strcmp(argv[1], "--extract") == 0) {
        if (strncmp(argv[3], "hostile:", 8) == 0)
            return be_hostile(argv[3] + 8);
        return hob_extract_main(argc - 2, argv + 2);
    }
    if (strcmp(argv[0], "pdftotext") == 0)
        return be_helper("/proc/self/exe");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_headings),
        cmocka_unit_test(test_without_vocabulary),
        cmocka_unit_test(test_large_text),
        cmocka_unit_test(test_no_text),
        cmocka_unit_test(test_broken_vocabulary),
        cmocka_unit_test(test_refused_requests),
        cmocka_unit_test(test_input_limits),
        cmocka_unit_test(test_zip_bomb),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test(test_time_limit),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_hostile_child),
        cmocka_unit_test(test_helpers_sandbox),
        cmocka_unit_test(test_documents_sandbox),
        cmocka_unit_test(test_missing_helper),
    };
    const int failed = cmocka_run_group_tests(tests, set_up, NULL);
    hob_extractor_free(finished);
    close(vocabulary_fd);
    return failed;
}
