/* SPDX-License-Identifier: Apache-2.0
 *
 * The extractor process: limits, sandbox, the reader of the format, the chunks, and what the parent is told. It ends with
 * the first error, which it sends, and without looking back: memory is the kernel's to clear up. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/engine/sandbox.h"
#include "daemon/extract/formats.h"
#include "daemon/extract/wire.h"
#include "daemon/observe/process.h"

enum {
    NICE = 10,             /* what runs for people goes first */
    TEXT_PART = 32768,     /* bytes of a TEXT */
    OUT_MOST = 256 * 1024, /* collected before it is written */
};

/* A sanitizer's shadow is terabytes of address space. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { BOUNDS_MEMORY = 0 };
#else
enum { BOUNDS_MEMORY = 1 };
#endif

typedef struct extraction {
    hob_sniffed_file file;
    hob_extract_limits limits;
    const char *pdftotext;
    uint32_t chunk_tokens, overlap_tokens;
    bool has_vocabulary;
    hob_tokenizer *tokenizer;
    hob_diag diag;
    hob_document d;
    hob_format format;
    hob_encoding encoding;
    bool is_pdf;
    hob_pdf pdf;
    hob_bytes out;
    uint32_t chunks;
} extraction;

static bool parse_options(int argc, char **argv, extraction *x)
{
    uint64_t input_bytes = 0, numbers[8] = {0};
    const struct {
        const char *name;
        uint64_t *number;
        const char **text;
    } options[] = {
        {"--name", NULL, &x->file.name},         {"--type", NULL, &x->file.media_type},
        {"--pdftotext", NULL, &x->pdftotext},    {"--input-bytes", &input_bytes, NULL},
        {"--text-bytes", &numbers[0], NULL},     {"--chunks", &numbers[1], NULL},
        {"--memory-mb", &numbers[2], NULL},      {"--cpu-s", &numbers[3], NULL},
        {"--wall-ms", &numbers[4], NULL},        {"--chunk-tokens", &numbers[5], NULL},
        {"--overlap-tokens", &numbers[6], NULL}, {"--vocabulary", &numbers[7], NULL},
    };
    x->file.name = x->file.media_type = "";
    for (int i = 0; i + 1 < argc; i += 2)
        for (size_t k = 0; k < sizeof options / sizeof *options; k++) {
            if (strcmp(argv[i], options[k].name) != 0)
                continue;
            if (options[k].text)
                *options[k].text = argv[i + 1];
            else
                *options[k].number = strtoull(argv[i + 1], NULL, 10);
        }
    x->limits = (hob_extract_limits){.input_bytes = input_bytes,
                                     .text_bytes = (uint32_t)numbers[0],
                                     .chunks = (uint32_t)numbers[1],
                                     .memory_mb = (uint32_t)numbers[2],
                                     .cpu_s = (uint32_t)numbers[3],
                                     .wall_ms = (uint32_t)numbers[4]};
    x->chunk_tokens = (uint32_t)numbers[5];
    x->overlap_tokens = (uint32_t)numbers[6];
    x->has_vocabulary = numbers[7] != 0;
    return argc % 2 == 0 && x->pdftotext;
}

/* ---- what is sent ---- */

/* Blocks. A parent that is gone needs nothing more. */
static void flush(extraction *x)
{
    while (hob_bytes_left(&x->out) > 0) {
        const ssize_t n =
            write(HOB_EXTRACT_FD, x->out.data + x->out.start, hob_bytes_left(&x->out));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(1);
        hob_bytes_consume(&x->out, (size_t)n);
    }
}

static int sent(extraction *x, int r)
{
    if (r < 0)
        return hob_document_no_memory(&x->d);
    if (hob_bytes_left(&x->out) > OUT_MOST)
        flush(x);
    return 0;
}

static int send_text(extraction *x)
{
    const char *text = (const char *)x->d.text.data;
    int r = 0;
    for (size_t at = 0; r == 0 && at < x->d.text.len; at += TEXT_PART) {
        const size_t left = x->d.text.len - at;
        r = sent(x, hob_wire_put_text(&x->out, text + at, left < TEXT_PART ? left : TEXT_PART));
    }
    return r;
}

static int send_chunk(void *user, const hob_chunk *c, const char *path, size_t path_len)
{
    extraction *x = user;
    x->chunks++;
    return sent(
        x, hob_wire_put_chunk(&x->out,
                              &(hob_wire_chunk){.chunk = *c, .path = path, .path_len = path_len}));
}

static int send_all(extraction *x)
{
    const hob_wire_meta meta = {.format = (uint8_t)x->format,
                                .encoding = (uint8_t)x->encoding,
                                .text_bytes = (uint32_t)x->d.text.len,
                                .stripped = x->d.stripped,
                                .title = x->d.title,
                                .title_len = strlen(x->d.title)};
    int r = sent(x, hob_wire_put_meta(&x->out, &meta));
    if (r == 0)
        r = send_text(x);
    if (r == 0 && x->tokenizer)
        r = hob_chunk_document(&x->d, x->tokenizer, x->chunk_tokens, x->overlap_tokens, send_chunk,
                               x);
    return r < 0 ? r : sent(x, hob_wire_put_end(&x->out, x->chunks));
}

/* ---- limits ---- */

static int fail_system(extraction *x, const char *what)
{
    return hob_document_fail(&x->d, HOB_EXTRACT_INTERNAL, "%s: %s", what, strerror(errno));
}

static int set_limit(extraction *x, int what, rlim_t value)
{
    return setrlimit(what, &(struct rlimit){value, value}) < 0 ? fail_system(x, "limits") : 0;
}

static int open_document(extraction *x)
{
    struct stat st;
    if (fstat(HOB_EXTRACT_FD_DOCUMENT, &st) < 0 || !S_ISREG(st.st_mode))
        return hob_document_fail(&x->d, HOB_EXTRACT_INTERNAL, "the document is not a regular file");
    if ((uint64_t)st.st_size > x->limits.input_bytes)
        return hob_document_fail(
            &x->d, HOB_EXTRACT_TOO_LARGE, "the file has %llu bytes; allowed are %llu",
            (unsigned long long)st.st_size, (unsigned long long)x->limits.input_bytes);
    x->file.bytes = (size_t)st.st_size;
    if (st.st_size == 0)
        return 0;
    x->file.data = mmap(NULL, x->file.bytes, PROT_READ, MAP_PRIVATE, HOB_EXTRACT_FD_DOCUMENT, 0);
    return x->file.data == MAP_FAILED ? fail_system(x, "the document cannot be mapped") : 0;
}

/* Of the time and of what could be written, for this process and what it starts. */
static int set_limits(extraction *x)
{
    int r;
    signal(SIGPIPE, SIG_IGN);
    if (nice(NICE) < 0)
        errno = 0; /* it then competes with the rest */
    hob_set_oom_score(HOB_OOM_EXTRACTOR);
    alarm(x->limits.wall_ms / 1000 + 1);
    hob_forbid_core_dumps();
    if ((r = set_limit(x, RLIMIT_FSIZE, 0)) < 0)
        return r;
    /* The soft limit's signal says why; the hard one's ends what does not listen. */
    const struct rlimit cpu = {x->limits.cpu_s, (rlim_t)x->limits.cpu_s + 1};
    return setrlimit(RLIMIT_CPU, &cpu) < 0 ? fail_system(x, "limits") : 0;
}

static int set_memory_limit(extraction *x)
{
    struct stat st = {0};
    if (x->has_vocabulary && fstat(HOB_EXTRACT_FD_VOCABULARY, &st) < 0)
        return fail_system(x, "the vocabulary cannot be read");
    if (!BOUNDS_MEMORY)
        return 0;
    return set_limit(x, RLIMIT_AS,
                     ((rlim_t)x->limits.memory_mb << 20) + x->file.bytes + (rlim_t)st.st_size);
}

/* ---- the work ---- */

static int open_vocabulary(extraction *x)
{
    hob_gguf *gguf;
    hob_diag diag = {""};
    int r = hob_gguf_open_fd(HOB_EXTRACT_FD_VOCABULARY, "vocabulary", &gguf, &diag);
    if (r == 0) {
        r = hob_tokenizer_open(gguf, &x->tokenizer, &diag);
        hob_gguf_close(gguf);
    }
    return r == 0 ? 0
                  : hob_document_fail(&x->d, HOB_EXTRACT_INTERNAL, "the embedding model: %s",
                                      diag.text);
}

/* A page in a character set that only its own words give away. */
static int check_charset(extraction *x)
{
    static const char *const known[] = {"",        "utf-8",      "utf8",        "us-ascii",
                                        "ascii",   "iso-8859-1", "iso8859-1",   "latin1",
                                        "latin-1", "cp1252",     "windows-1252"};
    char name[32];
    if (x->encoding != HOB_ENCODING_WINDOWS_1252)
        return 0;
    hob_html_charset(x->file.data, x->file.bytes, name, sizeof name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0)
            return 0;
    return hob_document_fail(&x->d, HOB_EXTRACT_UNSUPPORTED,
                             "the page says that its character set is %s; hob reads UTF-8, UTF-16 "
                             "and Windows-1252",
                             name);
}

static int read_text(extraction *x)
{
    hob_document *d = &x->d;
    hob_bytes copy = {0};
    const char *text;
    size_t len;
    int r = hob_encoding_find(x->file.data, x->file.bytes, &x->encoding, d);
    if (r < 0)
        return r;
    r = hob_encoding_decode(x->file.data, x->file.bytes, x->encoding, &copy, &text, &len, d);
    if (r < 0)
        return r;
    x->format = hob_sniff_text(&x->file, text, len);
    if (x->format == HOB_FORMAT_HTML)
        r = check_charset(x);
    if (r == 0)
        r = x->format == HOB_FORMAT_HTML       ? hob_read_html(text, len, d)
            : x->format == HOB_FORMAT_MARKDOWN ? hob_read_markdown(text, len, d)
                                               : hob_read_plain(text, len, d);
    hob_bytes_free(&copy);
    return r;
}

/* A document without a title of its own is called by its first heading of the first level. */
static int set_title(hob_document *d)
{
    for (uint32_t i = 0; i < d->block_count; i++) {
        const hob_text_block *b = &d->blocks[i];
        if (b->kind == HOB_BLOCK_HEADING && b->level == 1)
            return hob_document_title(d, (const char *)d->text.data + b->start, b->end - b->start);
    }
    return 0;
}

static int read_document(extraction *x)
{
    int r = hob_sniff_bytes(&x->file, &x->format, &x->d);
    if (r == 0)
        r = x->format == HOB_FORMAT_PDF    ? hob_pdf_read(&x->pdf, &x->d)
            : x->format == HOB_FORMAT_DOCX ? hob_read_docx(x->file.data, x->file.bytes, &x->d)
                                           : read_text(x);
    if (r == 0 && x->d.block_count == 0)
        return hob_document_fail(&x->d, HOB_EXTRACT_EMPTY,
                                 x->is_pdf ? "the PDF file has no text: pages that are pictures "
                                             "need text recognition first"
                                           : "the file has no text");
    return r < 0 ? r : set_title(&x->d);
}

static int extract(extraction *x)
{
    int r;
    if ((r = set_limits(x)) < 0 || (r = open_document(x)) < 0)
        return r;
    x->is_pdf = x->file.bytes > 0 && hob_sniff_is_pdf(&x->file);
    if (x->is_pdf && (r = hob_pdf_start(x->pdftotext, HOB_EXTRACT_FD_DOCUMENT, &x->pdf, &x->d)) < 0)
        return r;
    if ((r = set_memory_limit(x)) < 0)
        return r;
    if (hob_sandbox_enter(HOB_SANDBOX_DOCUMENT, NULL, NULL, &x->diag) < 0)
        return HOB_EIO;
    if (x->has_vocabulary && (r = open_vocabulary(x)) < 0)
        return r;
    if ((r = read_document(x)) < 0)
        return r;
    return send_all(x);
}

int hob_extract_main(int argc, char **argv)
{
    static extraction only; /* large */
    extraction *x = &only;
    if (!parse_options(argc, argv, x))
        return 2;
    x->d.limits = &x->limits;
    x->d.diag = &x->diag;
    if (extract(x) < 0) {
        if (x->d.error == HOB_EXTRACT_OK)
            x->d.error = HOB_EXTRACT_INTERNAL;
        /* In front of what is left of an incomplete message nothing may come: messages are put whole or not at all. */
        if (hob_wire_put_error(&x->out, x->d.error, x->diag.text) < 0)
            _exit(1);
    }
    flush(x);
    _exit(0);
}
