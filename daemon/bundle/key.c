/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys of bundles. See key.h. */
#include "daemon/bundle/key.h"

#include <errno.h>
#include <limits.h>
#include <mbedtls/ecdsa.h>
#include <mbedtls/error.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/conf/file.h"
#include "daemon/conf/pki.h"
#include "models/digest.h"

enum { PEM_MAX = 16 * 1024, HALF = HOB_BUNDLE_SIGNATURE_BYTES / 2 };

static int fail_crypto(hob_diag *diag, int code, const char *path, const char *what, int error)
{
    char text[128];
    mbedtls_strerror(error, text, sizeof text);
    return hob_fail(diag, code, "%.100s: %s: %s", path, what, text);
}

/* ---- making ---- */

static int write_pair(mbedtls_pk_context *pk, const char *path, const char *public_path,
                      hob_diag *diag)
{
    uint8_t pem[PEM_MAX];
    int error = mbedtls_pk_write_key_pem(pk, pem, sizeof pem), code;
    if (error != 0)
        return fail_crypto(diag, HOB_EIO, path, "cannot write a key", error);
    code = hob_file_write(path, pem, strlen((char *)pem), 0600, diag);
    mbedtls_platform_zeroize(pem, sizeof pem);
    if (code < 0)
        return code;
    error = mbedtls_pk_write_pubkey_pem(pk, pem, sizeof pem);
    return error != 0 ? fail_crypto(diag, HOB_EIO, public_path, "cannot write a key", error)
                      : hob_file_write(public_path, pem, strlen((char *)pem), 0644, diag);
}

int hob_bundle_key_make(const char *path, hob_diag *diag)
{
    char public_path[PATH_MAX];
    mbedtls_pk_context pk;
    const int len = snprintf(public_path, sizeof public_path, "%s.pub", path);
    if (len < 0 || (size_t)len >= sizeof public_path)
        return hob_fail(diag, HOB_EINVAL, "%.100s: %s", path, strerror(ENAMETOOLONG));
    if (access(path, F_OK) == 0 || access(public_path, F_OK) == 0)
        return hob_fail(diag, HOB_EINVAL,
                        "%.150s: it is there, or its .pub is: a key is never replaced", path);
    mbedtls_pk_init(&pk);
    int error = mbedtls_pk_setup(&pk, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (error == 0)
        error =
            mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(pk), hob_pki_random, NULL);
    const int code = error != 0 ? fail_crypto(diag, HOB_EIO, path, "cannot make a key", error)
                                : write_pair(&pk, path, public_path, diag);
    mbedtls_pk_free(&pk);
    return code;
}

/* ---- reading ---- */

static int take_key(const mbedtls_pk_context *pk, const char *path, hob_bundle_key *k,
                    hob_diag *diag)
{
    uint8_t der[256], digest[HOB_DIGEST_BYTES];
    hob_digest d;
    const mbedtls_ecp_keypair *pair =
        mbedtls_pk_get_type(pk) == MBEDTLS_PK_ECKEY ? mbedtls_pk_ec(*pk) : NULL;
    if (!pair || mbedtls_ecp_keypair_get_group_id(pair) != MBEDTLS_ECP_DP_SECP256R1)
        return hob_fail(diag, HOB_EFORMAT,
                        "%.100s: got another kind of key, allowed is one of ECDSA over P-256",
                        path);
    const int len = mbedtls_pk_write_pubkey_der(pk, der, sizeof der); /* at the buffer's end */
    int error = len < 0 ? len : mbedtls_ecp_export(pair, &k->group, &k->secret, &k->public);
    if (error != 0)
        return fail_crypto(diag, HOB_EFORMAT, path, "a key that cannot be used", error);
    hob_digest_begin(&d);
    hob_digest_add(&d, der + sizeof der - len, (size_t)len);
    hob_digest_end(&d, digest);
    memcpy(k->id, digest, sizeof k->id);
    return 0;
}

int hob_bundle_key_parse(const char *path, const char *text, size_t len, bool private_key,
                         hob_bundle_key *ret, hob_diag *diag)
{
    mbedtls_pk_context pk;
    hob_bundle_key k;
    const uint8_t *pem = (const uint8_t *)text;
    mbedtls_pk_init(&pk);
    const int error = private_key
                          ? mbedtls_pk_parse_key(&pk, pem, len + 1, NULL, 0, hob_pki_random, NULL)
                          : mbedtls_pk_parse_public_key(&pk, pem, len + 1);
    if (error != 0) {
        mbedtls_pk_free(&pk);
        return fail_crypto(diag, HOB_EFORMAT, path,
                           private_key ? "not a private key in PEM" : "not a public key in PEM",
                           error);
    }
    mbedtls_ecp_group_init(&k.group);
    mbedtls_mpi_init(&k.secret);
    mbedtls_ecp_point_init(&k.public);
    const int code = take_key(&pk, path, &k, diag);
    mbedtls_pk_free(&pk);
    if (code < 0)
        hob_bundle_key_free(&k);
    else
        *ret = k;
    return code;
}

int hob_bundle_key_load(const char *path, bool private_key, hob_bundle_key *ret, hob_diag *diag)
{
    char *text = NULL;
    size_t len = 0;
    int code = hob_file_read(path, PEM_MAX, &text, &len, diag);
    if (code < 0)
        return code;
    code = hob_bundle_key_parse(path, text, len, private_key, ret, diag);
    mbedtls_platform_zeroize(text, len);
    free(text);
    return code;
}

void hob_bundle_key_free(hob_bundle_key *k)
{
    mbedtls_ecp_group_free(&k->group);
    mbedtls_mpi_free(&k->secret);
    mbedtls_ecp_point_free(&k->public);
}

/* ---- using ---- */

static void sum(const void *data, size_t len, uint8_t ret[HOB_DIGEST_BYTES])
{
    hob_digest d;
    hob_digest_begin(&d);
    hob_digest_add(&d, data, len);
    hob_digest_end(&d, ret);
}

int hob_bundle_sign(hob_bundle_key *k, const void *data, size_t len,
                    uint8_t ret[HOB_BUNDLE_SIGNATURE_BYTES], hob_diag *diag)
{
    uint8_t digest[HOB_DIGEST_BYTES];
    mbedtls_mpi r, s;
    if (mbedtls_mpi_cmp_int(&k->secret, 0) == 0)
        return hob_fail(diag, HOB_EINVAL, "a public key cannot sign");
    sum(data, len, digest);
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    int error = mbedtls_ecdsa_sign_det_ext(&k->group, &r, &s, &k->secret, digest, sizeof digest,
                                           MBEDTLS_MD_SHA256, hob_pki_random, NULL);
    if (error == 0)
        error = mbedtls_mpi_write_binary(&r, ret, HALF);
    if (error == 0)
        error = mbedtls_mpi_write_binary(&s, ret + HALF, HALF);
    mbedtls_mpi_free(&r);
    mbedtls_mpi_free(&s);
    return error == 0 ? 0 : fail_crypto(diag, HOB_EIO, "the manifest", "cannot be signed", error);
}

int hob_bundle_check_signature(hob_bundle_key *k, const void *data, size_t len,
                               const uint8_t signature[HOB_BUNDLE_SIGNATURE_BYTES], hob_diag *diag)
{
    uint8_t digest[HOB_DIGEST_BYTES];
    mbedtls_mpi r, s;
    sum(data, len, digest);
    mbedtls_mpi_init(&r);
    mbedtls_mpi_init(&s);
    int error = mbedtls_mpi_read_binary(&r, signature, HALF);
    if (error == 0)
        error = mbedtls_mpi_read_binary(&s, signature + HALF, HALF);
    if (error == 0)
        error = mbedtls_ecdsa_verify(&k->group, digest, sizeof digest, &k->public, &r, &s);
    mbedtls_mpi_free(&r);
    mbedtls_mpi_free(&s);
    return error == 0 ? 0
                      : hob_fail(diag, HOB_ESIGNATURE,
                                 "the signature is not this key's of this manifest: it was "
                                 "altered, or signed with another key");
}
