/* SPDX-License-Identifier: Apache-2.0
 *
 * Bundles for tests: two fixed pairs of keys, and containers of any manifest, signed. */
#ifndef HOB_TESTS_BUNDLE_MAKER_H
#define HOB_TESTS_BUNDLE_MAKER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/bundle/container.h"

/* Made for these tests with `openssl ecparam -name prime256v1 -genkey`; of no other use. */
static const char bm_private[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIPOTZDBGYO+qOm9jij2mny+bGRs+GllyrMknTd04tTgGoAoGCCqGSM49\n"
    "AwEHoUQDQgAEcK288m3wgyZhCCsru2d5QuHCnY7WDVekijr995ToS5liULR+46ri\n"
    "I5BsS9TZsYUqQsooNqXcW+f6Vel+WslyhA==\n"
    "-----END EC PRIVATE KEY-----\n";
static const char bm_other[] = "-----BEGIN EC PRIVATE KEY-----\n"
                               "MHcCAQEEIFWHKyZUgCjxXFrrr+UgK0Uapths1MlVEdrnt9SLHGlzoAoGCCqGSM49\n"
                               "AwEHoUQDQgAEztygJzgF+Ksz1a8G7GuhaYAHeVPmmAmOqJSZgUkRn2hdpQ1eVdHU\n"
                               "E/MhlVWZNa1/SdtsQwGODkJbGEXwpzSgsg==\n"
                               "-----END EC PRIVATE KEY-----\n";

static inline hob_bundle_key bm_key(const char *pem)
{
    hob_bundle_key key;
    hob_diag diag = {""};
    if (hob_bundle_key_parse("test", pem, strlen(pem), true, &key, &diag) < 0) {
        fprintf(stderr, "%s\n", diag.text);
        abort();
    }
    return key;
}

/* A whole container over a manifest and the files' bytes; the caller frees it. */
static inline uint8_t *bm_container(hob_bundle_key *key, const void *manifest, size_t manifest_len,
                                    const void *files, size_t files_len, size_t *ret_len)
{
    const size_t signed_len = HOB_BUNDLE_START_BYTES + manifest_len,
                 len = signed_len + HOB_BUNDLE_SIGNATURE_BYTES + files_len;
    uint8_t *c = calloc(1, len);
    if (!c)
        abort();
    memcpy(c, "hobbundl\1", 9);
    for (int i = 0; i < 4; i++)
        c[12 + i] = (uint8_t)(manifest_len >> 8 * i);
    memcpy(c + 16, key->id, sizeof key->id);
    memcpy(c + HOB_BUNDLE_START_BYTES, manifest, manifest_len);
    if (hob_bundle_sign(key, c, signed_len, c + signed_len, NULL) < 0)
        abort();
    if (files_len > 0)
        memcpy(c + len - files_len, files, files_len);
    *ret_len = len;
    return c;
}

/* Bytes as an open file. */
static inline int bm_file(const void *data, size_t len)
{
    const int fd = memfd_create("bundle", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        abort();
    return fd;
}

#endif
