/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 (FIPS 180-4) of bytes that come in pieces, and of a whole file beside other work. By the processor's instructions
 * where it has them, else by mbedTLS: every caller sums gigabytes. */
#ifndef HOB_MODELS_DIGEST_H
#define HOB_MODELS_DIGEST_H

#include "hal/cpu/sha256.h"

#include <mbedtls/sha256.h>

enum {
    HOB_DIGEST_BYTES = 32,
    HOB_DIGEST_TEXT = 65, /* hexadecimal, with its NUL */
};

/* Begun with hob_digest_begin; holds nothing that would have to be freed. */
typedef struct hob_digest {
    hob_sha256_compress *compress; /* NULL: mbedTLS does it */
    uint32_t state[8];
    uint8_t block[64]; /* bytes % 64 of them wait for the others */
    uint64_t bytes;
    mbedtls_sha256_context sha;
} hob_digest;
void hob_digest_begin(hob_digest *d);
void hob_digest_add(hob_digest *d, const void *data, size_t len);
void hob_digest_end(hob_digest *d, uint8_t ret[HOB_DIGEST_BYTES]);

void hob_digest_text(const uint8_t digest[HOB_DIGEST_BYTES], char ret[HOB_DIGEST_TEXT]);
/* From 64 hexadecimal digits; false when the text, of len bytes, is anything else. */
bool hob_digest_parse(const char *text, size_t len, uint8_t ret[HOB_DIGEST_BYTES]);
/* What the file PATH.sha256 says, as sha256sum writes it: 1, or 0 when there is none. HOB_EFORMAT: it says something else;
 * HOB_EIO. Blocks on the file system. */
HOB_MUST_CHECK int hob_digest_beside(const char *path, uint8_t ret[HOB_DIGEST_BYTES],
                                     hob_diag *diag);

/* A thread that sums a file. The descriptor is read by position, and duplicated: the caller may close it. The pages that it
 * reads are those that others need from the page cache, and are not counted as this process's. HOB_ENOMEM, HOB_EIO. */
typedef struct hob_digest_job hob_digest_job;
HOB_MUST_CHECK int hob_digest_start(int fd, hob_digest_job **ret, hob_diag *diag);
/* Waits for it and frees it. HOB_EIO: the file cannot be read. */
HOB_MUST_CHECK int hob_digest_wait(hob_digest_job *job, uint8_t ret[HOB_DIGEST_BYTES],
                                   hob_diag *diag);
/* The same for who does not want to know any more. NULL is fine. */
void hob_digest_drop(hob_digest_job *job);

#endif
