/* SPDX-License-Identifier: Apache-2.0
 *
 * See document.h. The raw text of a block waits in `pending` until the block ends: normalization looks at neighbours, and
 * whether a block has any visible text is known only then. */
#include "daemon/extract/document.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/extract/normalize.h"

enum {
    INDENT = 2,
    INDENT_DEPTH_MAX = 8,
    BLANK_LINES_MAX = 1, /* in a row, within a block that keeps its lines */
};

static const struct {
    const char *name;
    int code;
} errors[HOB_EXTRACT_ERRORS] = {
    [HOB_EXTRACT_OK] = {"ok", 0},
    [HOB_EXTRACT_UNSUPPORTED] = {"unsupported", HOB_EUNSUPPORTED},
    [HOB_EXTRACT_BINARY] = {"binary", HOB_EUNSUPPORTED},
    [HOB_EXTRACT_ENCRYPTED] = {"encrypted", HOB_EUNSUPPORTED},
    [HOB_EXTRACT_MALFORMED] = {"malformed", HOB_EFORMAT},
    [HOB_EXTRACT_EMPTY] = {"empty", HOB_ENOENT},
    [HOB_EXTRACT_TOO_LARGE] = {"too_large", HOB_ELIMIT},
    [HOB_EXTRACT_TIMEOUT] = {"timeout", HOB_ECANCELED},
    [HOB_EXTRACT_MEMORY] = {"memory", HOB_ENOMEM},
    [HOB_EXTRACT_HELPER_MISSING] = {"helper_missing", HOB_ENOENT},
    [HOB_EXTRACT_CRASHED] = {"crashed", HOB_EIO},
    [HOB_EXTRACT_INTERNAL] = {"internal", HOB_EIO},
};

const char *hob_extract_error_name(hob_extract_error e)
{
    return (unsigned)e < HOB_EXTRACT_ERRORS ? errors[e].name : "unknown";
}

hob_extract_error hob_extract_error_of(int code)
{
    switch (code) {
    case HOB_ENOMEM: return HOB_EXTRACT_MEMORY;
    case HOB_EFORMAT: return HOB_EXTRACT_MALFORMED;
    case HOB_EUNSUPPORTED: return HOB_EXTRACT_UNSUPPORTED;
    case HOB_ELIMIT: return HOB_EXTRACT_TOO_LARGE;
    default: return HOB_EXTRACT_INTERNAL;
    }
}

void hob_document_free(hob_document *d)
{
    hob_bytes_free(&d->text);
    hob_bytes_free(&d->pending);
    free(d->blocks);
    d->blocks = NULL;
    d->block_count = d->block_capacity = 0;
}

int hob_document_fail(hob_document *d, hob_extract_error e, const char *format, ...)
{
    char line[sizeof d->diag->text];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    d->error = e;
    return hob_fail(d->diag, errors[e].code, "%s", line);
}

int hob_document_no_memory(hob_document *d)
{
    return hob_document_fail(d, HOB_EXTRACT_MEMORY,
                             "no memory for the text, after %zu bytes of it; the limit is %u MiB",
                             d->text.len, d->limits->memory_mb);
}

static int text_too_long(hob_document *d)
{
    return hob_document_fail(d, HOB_EXTRACT_TOO_LARGE,
                             "the text has more than %u bytes, which is the limit",
                             d->limits->text_bytes);
}

static bool keeps_lines(hob_block_kind kind)
{
    return kind == HOB_BLOCK_LINES || kind == HOB_BLOCK_CODE;
}

/* Takes white space out of text[0 .. len) as the kind of block has it, in place; returns what is left. */
static size_t tidy(char *text, size_t len, hob_block_kind kind)
{
    const bool lines = keeps_lines(kind);
    size_t n = 0, breaks = 0, spaces = 0; /* white space seen since the last visible character */
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n') {
            breaks++;
            spaces = 0;
            continue;
        }
        if (text[i] == ' ' || text[i] == '\t') {
            spaces++;
            continue;
        }
        if (n > 0 && breaks > (lines ? BLANK_LINES_MAX + 1u : 1u))
            breaks = lines ? BLANK_LINES_MAX + 1 : 1;
        /* What was dropped in front of i is at least as long as what is written. */
        for (; n > 0 && breaks > 0; breaks--)
            text[n++] = '\n';
        if (lines) {
            memmove(text + n, text + i - spaces, spaces);
            n += spaces;
        } else if (spaces > 0 && n > 0 && text[n - 1] != '\n') {
            text[n++] = ' ';
        }
        breaks = spaces = 0;
        text[n++] = text[i];
    }
    return n;
}

static int add_block(hob_document *d, uint32_t start)
{
    if (d->block_count == d->block_capacity) {
        size_t capacity = d->block_capacity ? 2 * (size_t)d->block_capacity : 256, bytes;
        hob_text_block *blocks = NULL;
        if (capacity <= UINT32_MAX && hob_mul_size(capacity, sizeof *blocks, &bytes))
            blocks = realloc(d->blocks, bytes);
        if (!blocks)
            return hob_document_no_memory(d);
        d->blocks = blocks;
        d->block_capacity = (uint32_t)capacity;
    }
    d->blocks[d->block_count++] = (hob_text_block){
        .start = start, .end = (uint32_t)d->text.len, .kind = (uint8_t)d->kind, .level = d->level};
    return 0;
}

/* What stands between the last block and the next, and the indentation of the next. */
static int put_separator(hob_document *d)
{
    static const char indent[] = "                ";
    _Static_assert(sizeof indent > INDENT * INDENT_DEPTH_MAX, "room for the deepest item");
    int r = 0;
    if (d->block_count > 0) {
        const hob_text_block *last = &d->blocks[d->block_count - 1];
        const bool close = !d->apart && last->kind == d->kind &&
                           (d->kind == HOB_BLOCK_ITEM || d->kind == HOB_BLOCK_ROW);
        r = hob_bytes_append(&d->text, "\n\n", close ? 1 : 2);
    }
    if (r == 0 && d->kind == HOB_BLOCK_ITEM && d->level > 1) {
        const size_t depth = d->level - 1u < INDENT_DEPTH_MAX ? d->level - 1u : INDENT_DEPTH_MAX;
        r = hob_bytes_append(&d->text, indent, INDENT * depth);
    }
    return r;
}

int hob_document_begin(hob_document *d, hob_block_kind kind, uint8_t level)
{
    int r = hob_document_end(d);
    d->kind = kind;
    d->level = level;
    d->open = true;
    d->apart = d->next_apart;
    d->next_apart = false;
    return r;
}

int hob_document_text(hob_document *d, const char *text, size_t len)
{
    /* White space and what is stripped do not count, but bound it anyway. */
    if (len > d->limits->text_bytes ||
        d->pending.len > (size_t)HOB_EXTRACT_RAW_FACTOR * d->limits->text_bytes)
        return text_too_long(d);
    return hob_bytes_append(&d->pending, text, len) < 0 ? hob_document_no_memory(d) : 0;
}

int hob_document_end(hob_document *d)
{
    hob_bytes clean = {0};
    int r = 0;
    if (!d->open)
        return 0;
    d->open = false;
    if (d->pending.len > 0)
        r = hob_normalize((const char *)d->pending.data, d->pending.len, &clean, &d->stripped);
    d->pending.len = 0;
    if (r < 0) {
        r = hob_document_no_memory(d);
        goto fail;
    }
    clean.len = clean.len ? tidy((char *)clean.data, clean.len, d->kind) : 0;
    if (clean.len == 0) {
        d->next_apart = d->next_apart || d->apart;
        goto fail;
    }
    const size_t around = 2 + INDENT * INDENT_DEPTH_MAX;
    if (d->text.len + clean.len + around > d->limits->text_bytes) {
        r = text_too_long(d);
        goto fail;
    }
    r = put_separator(d);
    const uint32_t start = (uint32_t)d->text.len;
    if (r == 0)
        r = hob_bytes_append(&d->text, clean.data, clean.len);
    r = r < 0 ? hob_document_no_memory(d) : add_block(d, start);
fail:
    hob_bytes_free(&clean);
    return r;
}

void hob_document_part(hob_document *d)
{
    d->next_apart = true;
}

int hob_document_title(hob_document *d, const char *title, size_t len)
{
    hob_bytes clean = {0};
    hob_stripped counts = {0}; /* the title's do not count: it is no part of the text */
    if (d->title[0] || len > 8 * HOB_EXTRACT_TITLE_MAX)
        return 0;
    int r = hob_normalize(title, len, &clean, &counts);
    if (r == 0 && clean.len > 0) {
        for (size_t i = 0; i < clean.len; i++)
            if (clean.data[i] == '\n')
                clean.data[i] = ' ';
        clean.len = tidy((char *)clean.data, clean.len, HOB_BLOCK_PARAGRAPH);
        if (clean.len <= HOB_EXTRACT_TITLE_MAX)
            memcpy(d->title, clean.data, clean.len);
    }
    hob_bytes_free(&clean);
    return r < 0 ? hob_document_no_memory(d) : 0;
}
