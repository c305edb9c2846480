/* SPDX-License-Identifier: Apache-2.0
 *
 * The keys that bundles are signed with: ECDSA over P-256 with SHA-256 (FIPS 186-5), through mbedTLS. Signatures are
 * deterministic (RFC 6979), so that the same bundle is the same bytes whenever it is made. Who makes bundles has the private
 * key; a box has the public one, and trusts no other. Thread: any. */
#ifndef HOB_DAEMON_BUNDLE_KEY_H
#define HOB_DAEMON_BUNDLE_KEY_H

#include "hal/base.h"

#include <mbedtls/ecp.h>

enum {
    HOB_BUNDLE_SIGNATURE_BYTES = 64, /* r, then s, big-endian, 32 bytes each */
    HOB_BUNDLE_KEY_ID_BYTES = 8,
};

typedef struct hob_bundle_key { /* released by hob_bundle_key_free */
    mbedtls_ecp_group group;
    mbedtls_mpi secret; /* 0 of a public key */
    mbedtls_ecp_point public;
    uint8_t
        id[HOB_BUNDLE_KEY_ID_BYTES]; /* the first bytes of the SHA-256 of the public key in DER */
} hob_bundle_key;

/* Makes the file at path, the private key as PEM (0600), and path.pub, the public one (0644). HOB_EINVAL: one of them is
 * there; HOB_EIO. Blocks on the file system. */
HOB_MUST_CHECK int hob_bundle_key_make(const char *path, hob_diag *diag);
/* From a PEM file: a private key, or else a public one (SubjectPublicKeyInfo). HOB_EFORMAT: it is no such thing, or not of
 * P-256; HOB_ENOENT, HOB_EIO, HOB_ENOMEM. *ret is untouched on failure. */
HOB_MUST_CHECK int hob_bundle_key_load(const char *path, bool private_key, hob_bundle_key *ret,
                                       hob_diag *diag);
/* The same of text, which a NUL follows that is not counted; path: for the diagnosis. */
HOB_MUST_CHECK int hob_bundle_key_parse(const char *path, const char *text, size_t len,
                                        bool private_key, hob_bundle_key *ret, hob_diag *diag);
void hob_bundle_key_free(hob_bundle_key *k);

/* HOB_EINVAL: k is a public key; HOB_EIO: mbedTLS cannot. */
HOB_MUST_CHECK int hob_bundle_sign(hob_bundle_key *k, const void *data, size_t len,
                                   uint8_t ret[HOB_BUNDLE_SIGNATURE_BYTES], hob_diag *diag);
/* HOB_ESIGNATURE: not signed by k, or not this. */
HOB_MUST_CHECK int hob_bundle_check_signature(hob_bundle_key *k, const void *data, size_t len,
                                              const uint8_t signature[HOB_BUNDLE_SIGNATURE_BYTES],
                                              hob_diag *diag);

#endif
