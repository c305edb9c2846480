/* SPDX-License-Identifier: Apache-2.0
 *
 * The values of a parsed GGUF file, by type and within the caller's bounds. gguf.c has proved that
 * every value lies inside the file and noted where; values are read from there, unaligned. String
 * arrays are walked again when they are asked for, under the same checks, because the mapped file
 * may have been written to since. */
#include "models/gguf_private.h"

#include <math.h>
#include <stdio.h>

typedef struct kind_info {
    const char *name;
    uint8_t bytes;
} kind_info;

static const kind_info kinds[KIND_COUNT] = {
    [KIND_U8] = {"u8", 1},       [KIND_I8] = {"i8", 1},     [KIND_U16] = {"u16", 2},
    [KIND_I16] = {"i16", 2},     [KIND_U32] = {"u32", 4},   [KIND_I32] = {"i32", 4},
    [KIND_F32] = {"f32", 4},     [KIND_BOOL] = {"bool", 1}, [KIND_STRING] = {"string", 0},
    [KIND_ARRAY] = {"array", 0}, [KIND_U64] = {"u64", 8},   [KIND_I64] = {"i64", 8},
    [KIND_F64] = {"f64", 8},
};

enum { SHOWN = 80, DESCRIBED_ELEMENTS = 6 };

size_t hob_gguf_kind_bytes(uint32_t kind)
{
    return kind < KIND_COUNT ? kinds[kind].bytes : 0;
}

const char *hob_gguf_kind_name(uint32_t kind)
{
    return kind < KIND_COUNT ? kinds[kind].name : "unknown";
}

char *hob_gguf_printable(hob_string s, char *text, size_t text_size)
{
    size_t at = 0;
    if (text_size == 0)
        return text;
    for (size_t i = 0; i < s.len; i++) {
        const unsigned char c = (unsigned char)s.data[i];
        char one[5];
        int n;
        if (c >= 0x20 && c < 0x7f)
            n = snprintf(one, sizeof one, "%c", c);
        else if (c == '\n')
            n = snprintf(one, sizeof one, "\\n");
        else
            n = snprintf(one, sizeof one, "\\x%02x", c);
        /* Unless this is the end, leave room for the dots. */
        if (at + (size_t)n + (i + 1 < s.len ? 3 : 0) >= text_size) {
            at += (size_t)snprintf(text + at, text_size - at, "...");
            return text;
        }
        memcpy(text + at, one, (size_t)n);
        at += (size_t)n;
    }
    text[at] = '\0';
    return text;
}

/* The key, which must be of this kind; of an array also of this element, or the other one. */
static int want(const hob_gguf *g, const char *key, uint32_t kind, uint32_t element,
                uint32_t or_element, const gguf_key **ret, hob_diag *diag)
{
    const gguf_key *k = hob_gguf_find_key(g, key);
    if (!k)
        return hob_fail(diag, HOB_ENOENT, "key %s: not in the file", key);
    if (k->kind != kind)
        return hob_fail(diag, HOB_EFORMAT, "key %s: type %s, allowed is %s", key,
                        hob_gguf_kind_name(k->kind), hob_gguf_kind_name(kind));
    if (kind == KIND_ARRAY && k->element != element && k->element != or_element)
        return hob_fail(diag, HOB_EFORMAT, "key %s: array of %s, allowed is %s", key,
                        hob_gguf_kind_name(k->element), hob_gguf_kind_name(element));
    *ret = k;
    return 0;
}

/* The integer at the value; *ret_negative when it is below zero, and then *ret has its two's
 * complement. */
static bool read_integer(const uint8_t *at, uint32_t kind, uint64_t *ret, bool *ret_negative)
{
    int64_t i;
    *ret = 0;
    *ret_negative = false;
    switch (kind) {
    case KIND_U8:
    case KIND_U16:
    case KIND_U32:
    case KIND_U64: memcpy(ret, at, kinds[kind].bytes); return true;
    case KIND_I8: i = (int8_t)at[0]; break;
    case KIND_I16: {
        int16_t v;
        memcpy(&v, at, sizeof v);
        i = v;
        break;
    }
    case KIND_I32: {
        int32_t v;
        memcpy(&v, at, sizeof v);
        i = v;
        break;
    }
    case KIND_I64: memcpy(&i, at, sizeof i); break;
    default: return false;
    }
    *ret = (uint64_t)i;
    *ret_negative = i < 0;
    return true;
}

int hob_gguf_u64(const hob_gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t *ret,
                 hob_diag *diag)
{
    uint64_t value;
    bool negative;
    const gguf_key *k = hob_gguf_find_key(g, key);
    if (!k)
        return hob_fail(diag, HOB_ENOENT, "key %s: not in the file", key);
    if (!read_integer(g->base + k->value, k->kind, &value, &negative))
        return hob_fail(diag, HOB_EFORMAT, "key %s: type %s, allowed is an integer", key,
                        hob_gguf_kind_name(k->kind));
    if (negative)
        return hob_fail(diag, HOB_EFORMAT, "key %s: %lld, allowed are %llu to %llu", key,
                        (long long)value, (unsigned long long)min, (unsigned long long)max);
    if (value < min || value > max)
        return hob_fail(diag, HOB_EFORMAT, "key %s: %llu, allowed are %llu to %llu", key,
                        (unsigned long long)value, (unsigned long long)min,
                        (unsigned long long)max);
    *ret = value;
    return 0;
}

int hob_gguf_f32(const hob_gguf *g, const char *key, float min, float max, float *ret,
                 hob_diag *diag)
{
    const gguf_key *k = NULL;
    float value;
    const int rc = want(g, key, KIND_F32, 0, 0, &k, diag);
    if (rc < 0)
        return rc;
    memcpy(&value, g->base + k->value, sizeof value);
    if (!isfinite(value) || value < min || value > max)
        return hob_fail(diag, HOB_EFORMAT, "key %s: %g, allowed are %g to %g", key, (double)value,
                        (double)min, (double)max);
    *ret = value;
    return 0;
}

int hob_gguf_bool(const hob_gguf *g, const char *key, bool *ret, hob_diag *diag)
{
    const gguf_key *k = NULL;
    const int rc = want(g, key, KIND_BOOL, 0, 0, &k, diag);
    if (rc < 0)
        return rc;
    *ret = g->base[k->value] != 0;
    return 0;
}

int hob_gguf_string(const hob_gguf *g, const char *key, hob_string *ret, hob_diag *diag)
{
    const gguf_key *k = NULL;
    const int rc = want(g, key, KIND_STRING, 0, 0, &k, diag);
    if (rc < 0)
        return rc;
    *ret = (hob_string){(const char *)g->base + k->value, (size_t)k->count};
    return 0;
}

int hob_gguf_array_strings(const hob_gguf *g, const char *key, uint64_t *ret_count, hob_diag *diag)
{
    const gguf_key *k = NULL;
    const int rc = want(g, key, KIND_ARRAY, KIND_STRING, KIND_STRING, &k, diag);
    if (rc < 0)
        return rc;
    *ret_count = k->count;
    return 0;
}

static int array_of(const hob_gguf *g, const char *key, uint32_t element, uint32_t or_element,
                    const void **ret_le, uint64_t *ret_count, hob_diag *diag)
{
    const gguf_key *k = NULL;
    const int rc = want(g, key, KIND_ARRAY, element, or_element, &k, diag);
    if (rc < 0)
        return rc;
    *ret_le = g->base + k->value;
    *ret_count = k->count;
    return 0;
}

int hob_gguf_array_i32(const hob_gguf *g, const char *key, const void **ret_le, uint64_t *ret_count,
                       hob_diag *diag)
{
    return array_of(g, key, KIND_I32, KIND_U32, ret_le, ret_count, diag);
}

int hob_gguf_array_f32(const hob_gguf *g, const char *key, const void **ret_le, uint64_t *ret_count,
                       hob_diag *diag)
{
    return array_of(g, key, KIND_F32, KIND_F32, ret_le, ret_count, diag);
}

int hob_gguf_read_strings(const hob_gguf *g, const char *key, hob_string *ret, uint64_t count,
                          hob_diag *diag)
{
    const gguf_key *k = NULL;
    const int rc = want(g, key, KIND_ARRAY, KIND_STRING, KIND_STRING, &k, diag);
    if (rc < 0)
        return rc;
    if (count != k->count)
        return hob_fail(diag, HOB_EINVAL, "key %s: %llu strings asked for, the array has %llu", key,
                        (unsigned long long)count, (unsigned long long)k->count);
    gguf_reader r = {g->base, g->bytes, k->value};
    for (uint64_t i = 0; i < count; i++) {
        if (!gguf_read_string(&r, &ret[i]))
            return hob_fail(diag, HOB_EFORMAT,
                            "key %s: string %llu changed since the file was opened", key,
                            (unsigned long long)i);
    }
    return 0;
}

/* One value of a fixed size. */
static void describe_value(const uint8_t *at, uint32_t kind, char *text, size_t text_size)
{
    uint64_t u;
    bool negative;
    double d;
    float f;
    if (kind == KIND_BOOL) {
        snprintf(text, text_size, "%s", at[0] ? "true" : "false");
    } else if (kind == KIND_F32) {
        memcpy(&f, at, sizeof f);
        snprintf(text, text_size, "%g", (double)f);
    } else if (kind == KIND_F64) {
        memcpy(&d, at, sizeof d);
        snprintf(text, text_size, "%g", d);
    } else if (read_integer(at, kind, &u, &negative)) {
        if (negative)
            snprintf(text, text_size, "%lld", (long long)u);
        else
            snprintf(text, text_size, "%llu", (unsigned long long)u);
    } else {
        snprintf(text, text_size, "?");
    }
}

static void append(char *text, size_t text_size, const char *more)
{
    const size_t at = strlen(text);
    snprintf(text + at, text_size - at, "%s", more);
}

bool hob_gguf_describe_key(const hob_gguf *g, uint64_t i, hob_string *ret_key, char *text,
                           size_t text_size)
{
    char part[SHOWN];
    if (i >= g->key_count)
        return false;
    const gguf_key *k = &g->keys[i];
    *ret_key = k->name;
    if (text_size == 0)
        return true;
    if (k->kind == KIND_STRING) {
        hob_gguf_printable((hob_string){(const char *)g->base + k->value, (size_t)k->count}, text,
                           text_size);
        return true;
    }
    if (k->kind != KIND_ARRAY) {
        describe_value(g->base + k->value, k->kind, text, text_size);
        return true;
    }
    snprintf(text, text_size, "%llu of %s:", (unsigned long long)k->count,
             hob_gguf_kind_name(k->element));
    if (k->element == KIND_ARRAY) { /* valid, and nothing that hob reads */
        append(text, text_size, " ...");
        return true;
    }
    gguf_reader r = {g->base, g->bytes, k->value};
    const size_t each = hob_gguf_kind_bytes(k->element);
    for (uint64_t n = 0; n < k->count && n < DESCRIBED_ELEMENTS; n++) {
        hob_string s;
        if (k->element == KIND_STRING) {
            if (!gguf_read_string(&r, &s))
                break;
            hob_gguf_printable(s, part, 32);
        } else {
            describe_value(r.base + r.at, k->element, part, sizeof part);
            r.at += each;
        }
        append(text, text_size, " ");
        append(text, text_size, part);
    }
    if (k->count > DESCRIBED_ELEMENTS)
        append(text, text_size, " ...");
    return true;
}
