/* SPDX-License-Identifier: Apache-2.0
 *
 * The server's certificate with its key, and the authorities of clients: read, checked as a whole, and kept in memory, so
 * that what was checked is what is served. */
#ifndef HOB_DAEMON_CONF_CERTIFICATE_H
#define HOB_DAEMON_CONF_CERTIFICATE_H

#include "hal/base.h"

enum {
    HOB_CERTIFICATE_NAMES_MAX = 64,
    /* 2024-01-01: hob is younger, so that a clock which shows less is wrong, as that of a box without a battery is. */
    HOB_CLOCK_LEAST_S = 1704067200,
};

typedef struct hob_pem { /* a file's text, and a NUL that is not counted */
    char *text;
    size_t len;
} hob_pem;

typedef struct hob_certificate { /* zero-initialize; released by hob_certificate_free */
    hob_pem chain, key, client_ca;
    char serial[64];          /* hexadecimal */
    int64_t begins_s, ends_s; /* when it is valid, since 1970 */
    uint32_t name_count;
    char names[HOB_CERTIFICATE_NAMES_MAX][256]; /* DNS names; "*.example" stands for one label */
} hob_certificate;

/* client_ca may be "". HOB_EFORMAT: a file that is no such thing, or a key of another certificate; HOB_EIO, HOB_ENOMEM.
 * Blocks on the file system. */
HOB_MUST_CHECK int hob_certificate_load(const char *chain, const char *key, const char *client_ca,
                                        hob_certificate *ret, hob_diag *diag);
void hob_certificate_free(hob_certificate *c);
/* The files' text alone goes; what was read from it stays. */
void hob_certificate_drop_files(hob_certificate *c);
/* Whether it has expired at that time, or is not valid yet. A clock that is wrong says neither. */
bool hob_certificate_expired(const hob_certificate *c, int64_t now_s);
/* Whether it was issued for this DNS name. */
bool hob_certificate_names(const hob_certificate *c, const char *name, size_t len);
struct mbedtls_x509_time;
/* A time in a certificate, which is UTC, in seconds since 1970. */
int64_t hob_certificate_time(const struct mbedtls_x509_time *t);
/* The common name of a certificate's subject, in DER; false unless it has exactly one, of text that fits. */
bool hob_certificate_common_name(const uint8_t *der, size_t len, char *ret, size_t size);

#endif
