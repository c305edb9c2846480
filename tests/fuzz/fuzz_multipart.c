/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over form data: the first byte says in what pieces the rest, a form with the boundary "b", arrives.
 * However it is cut up, the same fields come out of it, or the same error; names are clean and data is a part of the input. */
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct record { /* what was seen: marks, names, data */
    char *text;
    size_t len, capacity;
    bool open;
} record;

static void add(record *r, const void *bytes, size_t len)
{
    if (r->capacity - r->len < len) {
        r->capacity = 2 * (r->capacity + len);
        r->text = realloc(r->text, r->capacity);
        if (!r->text)
            abort();
    }
    memcpy(r->text + r->len, bytes, len);
    r->len += len;
}

static int begin(void *user, const char *name, const char *filename, hob_diag *diag)
{
    record *r = user;
    (void)diag;
    if (r->open || strlen(name) >= HOB_MULTIPART_NAME_MAX ||
        (filename && strlen(filename) >= HOB_MULTIPART_FILENAME_MAX))
        abort();
    for (const char *p = filename; p && *p; p++)
        if ((unsigned char)*p < 0x20)
            abort();
    r->open = true;
    add(r, "\1", 1);
    add(r, name, strlen(name));
    add(r, filename ? "\2" : "\3", 1);
    add(r, filename ? filename : "", filename ? strlen(filename) : 0);
    return 0;
}

static int take(void *user, const void *bytes, size_t len, hob_diag *diag)
{
    record *r = user;
    (void)diag;
    if (!r->open || len == 0)
        abort();
    add(r, bytes, len);
    return 0;
}

static int end(void *user, hob_diag *diag)
{
    record *r = user;
    (void)diag;
    if (!r->open)
        abort();
    r->open = false;
    add(r, "\4", 1);
    return 0;
}

/* In pieces of `first`, 1, first, 1 … bytes. */
static int read_form(const uint8_t *data, size_t bytes, size_t first, record *r)
{
    static const hob_multipart_events events = {begin, take, end};
    hob_multipart m;
    hob_diag diag = {""};
    int code = hob_multipart_begin(&m, "multipart/form-data; boundary=b", &diag);
    for (size_t at = 0, n = first; code == 0 && at < bytes; at += n, n = n == 1 ? first : 1) {
        n = n < bytes - at ? n : bytes - at;
        uint8_t *piece = malloc(n); /* a sanitizer sees what is read past it */
        if (!piece)
            abort();
        memcpy(piece, data + at, n);
        code = hob_multipart_feed(&m, piece, n, &events, r, &diag);
        free(piece);
    }
    if (code < 0 && !diag.text[0])
        abort();
    if (code == 0 && hob_multipart_ended(&m) && r->open)
        abort();
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    record whole = {0}, cut = {0};
    if (bytes < 2)
        return 0;
    const int a = read_form(data + 1, bytes - 1, bytes, &whole),
              b = read_form(data + 1, bytes - 1, 1 + data[0] % 100, &cut);
    if (a != b || whole.len != cut.len ||
        (whole.len > 0 && memcmp(whole.text, cut.text, whole.len) != 0))
        abort();
    free(whole.text);
    free(cut.text);
    return 0;
}
