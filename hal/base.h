/* SPDX-License-Identifier: Apache-2.0
 *
 * What every part of hob shares: error codes, the one-line diagnosis that travels with them, and checked
 * arithmetic for sizes that come from a file, a socket or another process. Owns nothing, logs nothing. */
#ifndef HOB_HAL_BASE_H
#define HOB_HAL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOB_MUST_CHECK __attribute__((warn_unused_result))
#define HOB_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Results: 0 or positive is success, one of these is failure. */
enum {
    HOB_EINVAL = -1,       /* the caller asked for something that is never valid */
    HOB_ENOMEM = -2,       /* memory, or a budget, is exhausted */
    HOB_EIO = -3,          /* the operating system refused; the diagnosis has its words */
    HOB_EFORMAT = -4,      /* bytes from outside break their format */
    HOB_EUNSUPPORTED = -5, /* well formed, but hob does not know it */
    HOB_ELIMIT = -6,       /* a configured bound was reached */
    HOB_ENOENT = -7,       /* the named thing does not exist */
    HOB_EDEVICE = -8,      /* the compute device failed or disagrees with its reference */
    HOB_ECANCELED = -9,    /* the requester went away or said stop */
    HOB_ENOSPC = -10,      /* the disk has no room for it */
    HOB_EDIGEST = -11,     /* bytes that are not those whose SHA-256 was given */
    HOB_ESIGNATURE = -12,  /* not signed with the key that is trusted */
    HOB_EOLD = -13,        /* no newer than what is there */
};

/* One line for a person: what, where, got, allowed. Never ends in a newline. */
typedef struct hob_diag {
    char text[256];
} hob_diag;

/* Writes the diagnosis (diag may be NULL), control characters in it as '?', and returns code, so that
 * `return hob_fail(...)` is the whole exit. */
int hob_fail(hob_diag *diag, int code, const char *format, ...) HOB_PRINTF(3, 4);

/* The enumerator's name, e.g. "HOB_EFORMAT"; "HOB_E?" for an unknown code. */
const char *hob_error_name(int code);

/* *ret = a * b or a + b; false, with *ret untouched, when the result does not fit. */
static inline HOB_MUST_CHECK bool hob_mul_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

static inline HOB_MUST_CHECK bool hob_add_size(size_t a, size_t b, size_t *ret)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *ret = r;
    return true;
}

/* Monotonic time. Thread: any. */
uint64_t hob_now_us(void);

#endif
