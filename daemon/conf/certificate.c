/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading and checking certificates with mbedTLS. See certificate.h. */
#include "daemon/conf/certificate.h"

#include "daemon/conf/file.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/x509_crt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { PEM_MAX = 256 * 1024 };

static int fail_tls(hob_diag *diag, const char *what, const char *path, int error)
{
    char text[128];
    mbedtls_strerror(error, text, sizeof text);
    return hob_fail(diag, HOB_EFORMAT, "%.150s: %s: %.60s", path, what, text);
}

static int read_pem(const char *path, hob_pem *ret, hob_diag *diag)
{
    int code = hob_file_read(path, PEM_MAX, &ret->text, &ret->len, diag);
    if (code == 0 && !strstr(ret->text, "-----BEGIN "))
        code = hob_fail(diag, HOB_EFORMAT, "%.150s: not a PEM file", path);
    return code;
}

static int parse_certificates(const hob_pem *pem, const char *path, mbedtls_x509_crt *ret,
                              hob_diag *diag)
{
    int error = mbedtls_x509_crt_parse(ret, (const uint8_t *)pem->text, pem->len + 1);
    if (error > 0)
        return hob_fail(diag, HOB_EFORMAT, "%.150s: %d of its certificates cannot be read", path,
                        error);
    return error < 0 ? fail_tls(diag, "not a PEM certificate", path, error) : 0;
}

static int check_key(const hob_pem *pem, const char *path, const mbedtls_x509_crt *leaf,
                     hob_diag *diag)
{
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context drbg;
    int code = 0;

    mbedtls_pk_init(&key);
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&drbg);
    int error = mbedtls_ctr_drbg_seed(&drbg, mbedtls_entropy_func, &entropy, NULL, 0);
    if (error == 0)
        error = mbedtls_pk_parse_key(&key, (const uint8_t *)pem->text, pem->len + 1, NULL, 0,
                                     mbedtls_ctr_drbg_random, &drbg);
    if (error != 0)
        code = fail_tls(diag, "not a PEM private key", path, error);
    else if (mbedtls_pk_check_pair(&leaf->pk, &key, mbedtls_ctr_drbg_random, &drbg) != 0)
        code = hob_fail(diag, HOB_EFORMAT, "%.150s: is not the key of the certificate", path);
    mbedtls_pk_free(&key);
    mbedtls_ctr_drbg_free(&drbg);
    mbedtls_entropy_free(&entropy);
    return code;
}

static void take_names(const mbedtls_x509_crt *leaf, hob_certificate *ret)
{
    for (const mbedtls_x509_sequence *at = &leaf->subject_alt_names; at; at = at->next) {
        mbedtls_x509_subject_alternative_name name;
        if (ret->name_count == HOB_CERTIFICATE_NAMES_MAX || !at->buf.p ||
            mbedtls_x509_parse_subject_alt_name(&at->buf, &name) != 0)
            continue;
        const mbedtls_x509_buf *text = &name.san.unstructured_name;
        if (name.type == MBEDTLS_X509_SAN_DNS_NAME && text->len > 0 &&
            text->len < sizeof ret->names[0] && !memchr(text->p, 0, text->len)) {
            memcpy(ret->names[ret->name_count], text->p, text->len);
            ret->names[ret->name_count++][text->len] = '\0';
        }
        mbedtls_x509_free_subject_alt_name(&name);
    }
}

int64_t hob_certificate_time(const mbedtls_x509_time *t)
{
    struct tm tm = {.tm_year = t->year - 1900,
                    .tm_mon = t->mon - 1,
                    .tm_mday = t->day,
                    .tm_hour = t->hour,
                    .tm_min = t->min,
                    .tm_sec = t->sec};
    return timegm(&tm);
}

static void take_serial(const mbedtls_x509_crt *leaf, hob_certificate *ret)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = 0;
    for (size_t i = 0; i < leaf->serial.len && n + 2 < sizeof ret->serial; i++) {
        ret->serial[n++] = digits[leaf->serial.p[i] >> 4];
        ret->serial[n++] = digits[leaf->serial.p[i] & 15];
    }
    ret->serial[n] = '\0';
}

int hob_certificate_load(const char *chain, const char *key, const char *client_ca,
                         hob_certificate *ret, hob_diag *diag)
{
    hob_certificate c = {0};
    mbedtls_x509_crt leaf, authorities;
    int code;

    mbedtls_x509_crt_init(&leaf);
    mbedtls_x509_crt_init(&authorities);
    if ((code = read_pem(chain, &c.chain, diag)) < 0 ||
        (code = parse_certificates(&c.chain, chain, &leaf, diag)) < 0 ||
        (code = read_pem(key, &c.key, diag)) < 0 ||
        (code = check_key(&c.key, key, &leaf, diag)) < 0)
        goto end;
    if (client_ca[0] &&
        ((code = read_pem(client_ca, &c.client_ca, diag)) < 0 ||
         (code = parse_certificates(&c.client_ca, client_ca, &authorities, diag)) < 0))
        goto end;
    c.begins_s = hob_certificate_time(&leaf.valid_from);
    c.ends_s = hob_certificate_time(&leaf.valid_to);
    take_names(&leaf, &c);
    take_serial(&leaf, &c);
    *ret = c;
end:
    mbedtls_x509_crt_free(&leaf);
    mbedtls_x509_crt_free(&authorities);
    if (code < 0)
        hob_certificate_free(&c);
    return code < 0 && code != HOB_ENOMEM && code != HOB_EFORMAT ? HOB_EIO : code;
}

void hob_certificate_drop_files(hob_certificate *c)
{
    if (c->key.text)
        mbedtls_platform_zeroize(c->key.text, c->key.len);
    free(c->key.text);
    free(c->chain.text);
    free(c->client_ca.text);
    c->key = c->chain = c->client_ca = (hob_pem){0};
}

void hob_certificate_free(hob_certificate *c)
{
    hob_certificate_drop_files(c);
    *c = (hob_certificate){0};
}

bool hob_certificate_expired(const hob_certificate *c, int64_t now_s)
{
    return now_s >= HOB_CLOCK_LEAST_S && (now_s < c->begins_s || now_s > c->ends_s);
}

bool hob_certificate_names(const hob_certificate *c, const char *name, size_t len)
{
    for (uint32_t i = 0; i < c->name_count; i++) {
        const char *n = c->names[i];
        const char *rest = name;
        size_t left = len;
        if (strncmp(n, "*.", 2) == 0) {
            const char *dot = memchr(name, '.', len);
            if (!dot || dot == name)
                continue;
            n += 1;
            rest = dot;
            left = len - (size_t)(dot - name);
        }
        if (strlen(n) == left && strncasecmp(n, rest, left) == 0)
            return true;
    }
    return false;
}

bool hob_certificate_common_name(const uint8_t *der, size_t len, char *ret, size_t size)
{
    const mbedtls_x509_buf *found = NULL;
    mbedtls_x509_crt crt;
    int count = 0;

    mbedtls_x509_crt_init(&crt);
    if (mbedtls_x509_crt_parse_der(&crt, der, len) == 0)
        for (const mbedtls_x509_name *n = &crt.subject; n; n = n->next) {
            if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid) != 0)
                continue;
            found = &n->val;
            count++;
        }
    const bool good =
        count == 1 && found->len > 0 && found->len < size && !memchr(found->p, 0, found->len);
    if (good) {
        memcpy(ret, found->p, found->len);
        ret[found->len] = '\0';
    }
    mbedtls_x509_crt_free(&crt);
    return good;
}
