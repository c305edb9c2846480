/* SPDX-License-Identifier: Apache-2.0
 *
 * The box's own certificate authority and server certificate. See pki.h for the rules.
 *
 * A renewal keeps the server's private key and replaces one file, cert.pem, by rename: there is no moment, and no crash,
 * after which certificate and key disagree. A certificate that another authority issued is the owner's and is left
 * alone. Random numbers come from getrandom(2) directly. */
#include "daemon/conf/pki.h"

#include "daemon/conf/certificate.h"
#include "daemon/conf/file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <mbedtls/ecp.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/x509_crt.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    NAMES_MAX = 64,
    PEM_MAX = 64 * 1024,
    DAY_S = 86400,
    LEAF_DAYS = 825,   /* the most that current clients accept of a private authority */
    BACKDATE_S = 3600, /* a client's clock may be behind */
};

static const time_t no_end = 253402300799; /* 9999-12-31 23:59:59, which means that there is none */

/* What a certificate must name: DNS names as text, addresses as 4 or 16 bytes. */
typedef struct name {
    int type; /* MBEDTLS_X509_SAN_DNS_NAME or _IP_ADDRESS */
    uint8_t value[256];
    size_t len;
} name;

typedef struct names {
    name list[NAMES_MAX];
    size_t count;
    char host[64]; /* "localhost" when the machine has no usable name */
} names;

int hob_pki_random(void *unused, unsigned char *out, size_t len)
{
    (void)unused;
    while (len > 0) {
        ssize_t n = getrandom(out, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return MBEDTLS_ERR_PK_FEATURE_UNAVAILABLE;
        out += n;
        len -= (size_t)n;
    }
    return 0;
}

static int fail_tls(hob_diag *diag, const char *what, const char *path, int error)
{
    char text[128];
    mbedtls_strerror(error, text, sizeof text);
    return hob_fail(diag, HOB_EFORMAT, "%s: %s: %s", path, what, text);
}

/* Names */

static void add_name(names *n, int type, const void *value, size_t len)
{
    if (n->count == NAMES_MAX || len == 0 || len > sizeof n->list[0].value)
        return;
    for (size_t i = 0; i < n->count; i++)
        if (n->list[i].type == type && n->list[i].len == len &&
            memcmp(n->list[i].value, value, len) == 0)
            return;
    n->list[n->count].type = type;
    n->list[n->count].len = len;
    memcpy(n->list[n->count++].value, value, len);
}

static void add_interface_addresses(names *n)
{
    struct ifaddrs *all = NULL;
    if (getifaddrs(&all) != 0)
        return; /* a sandbox without netlink: the loopback names remain */
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            const struct sockaddr_in *a = (const void *)i->ifa_addr;
            add_name(n, MBEDTLS_X509_SAN_IP_ADDRESS, &a->sin_addr, 4);
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            const struct sockaddr_in6 *a = (const void *)i->ifa_addr;
            /* A link-local address is of no use without its scope, which a certificate cannot carry. */
            if (!IN6_IS_ADDR_LINKLOCAL(&a->sin6_addr))
                add_name(n, MBEDTLS_X509_SAN_IP_ADDRESS, &a->sin6_addr, 16);
        }
    }
    freeifaddrs(all);
}

static void todays_names(names *ret)
{
    static const uint8_t four[4] = {127, 0, 0, 1};
    char host[64] = "";
    memset(ret, 0, sizeof *ret);
    add_name(ret, MBEDTLS_X509_SAN_DNS_NAME, "localhost", 9);
    add_name(ret, MBEDTLS_X509_SAN_IP_ADDRESS, four, 4);
    add_name(ret, MBEDTLS_X509_SAN_IP_ADDRESS, &in6addr_loopback, 16);
    if (gethostname(host, sizeof host) != 0 || !memchr(host, 0, sizeof host))
        host[0] = 0;
    size_t len = strlen(host);
    if (len == 0 ||
        strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-") != len)
        snprintf(host, sizeof host, "localhost");
    add_name(ret, MBEDTLS_X509_SAN_DNS_NAME, host, strlen(host));
    memcpy(ret->host, host, sizeof ret->host);
    add_interface_addresses(ret);
}

static bool certificate_names(const mbedtls_x509_crt *c, const name *n)
{
    for (const mbedtls_x509_sequence *s = &c->subject_alt_names; s && s->buf.p; s = s->next)
        if ((s->buf.tag & MBEDTLS_ASN1_TAG_VALUE_MASK) == n->type && s->buf.len == n->len &&
            memcmp(s->buf.p, n->value, n->len) == 0)
            return true;
    return false;
}

/* Time */

static bool format_time(time_t t, char ret[16])
{
    struct tm tm;
    return gmtime_r(&t, &tm) && strftime(ret, 16, "%Y%m%d%H%M%S", &tm) == 14;
}

/* Files */

typedef struct pair {
    mbedtls_x509_crt crt;
    mbedtls_pk_context key;
    bool has_crt, has_key;
} pair;

static void pair_init(pair *p)
{
    mbedtls_x509_crt_init(&p->crt);
    mbedtls_pk_init(&p->key);
    p->has_crt = p->has_key = false;
}

static void pair_free(pair *p)
{
    mbedtls_x509_crt_free(&p->crt);
    mbedtls_pk_free(&p->key);
    p->has_crt = p->has_key = false;
}

static void free_secret(char *text, size_t len)
{
    if (text)
        mbedtls_platform_zeroize(text, len);
    free(text);
}

/* What exists of a certificate and its key; a file that is there but unreadable is an error, never overwritten. */
static int pair_load(pair *p, const char *crt_path, const char *key_path, hob_diag *diag)
{
    char *text = NULL;
    size_t len = 0;
    int code = hob_file_read(crt_path, PEM_MAX, &text, &len, diag), error;
    if (code == 0) {
        error = mbedtls_x509_crt_parse(&p->crt, (const uint8_t *)text, len + 1);
        free(text);
        if (error != 0)
            return error < 0
                       ? fail_tls(diag, "not a PEM certificate", crt_path, error)
                       : hob_fail(diag, HOB_EFORMAT, "%s: %d of its certificates cannot be read",
                                  crt_path, error);
        p->has_crt = true;
    } else if (code != HOB_ENOENT) {
        return code;
    }
    text = NULL;
    code = hob_file_read(key_path, PEM_MAX, &text, &len, diag);
    if (code == 0) {
        error = mbedtls_pk_parse_key(&p->key, (const uint8_t *)text, len + 1, NULL, 0,
                                     hob_pki_random, NULL);
        free_secret(text, len);
        if (error != 0)
            return fail_tls(diag, "not a PEM private key", key_path, error);
        p->has_key = true;
    } else if (code != HOB_ENOENT) {
        return code;
    }
    return 0;
}

static int make_key(mbedtls_pk_context *key, const char *path, hob_diag *diag)
{
    uint8_t pem[2048];
    int code, error = mbedtls_pk_setup(key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY));
    if (error == 0)
        error = mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(*key), hob_pki_random,
                                    NULL);
    if (error == 0)
        error = mbedtls_pk_write_key_pem(key, pem, sizeof pem);
    if (error != 0)
        return fail_tls(diag, "cannot make a private key", path, error);
    code = hob_file_write(path, pem, strlen((char *)pem), 0600, diag);
    mbedtls_platform_zeroize(pem, sizeof pem);
    return code;
}

/* Certificates */

typedef struct request {
    const char *subject, *issuer;
    mbedtls_pk_context *key, *issuer_key;
    const names *names; /* NULL: a certificate authority */
    time_t from, to;
} request;

/* Signs a certificate and writes it as PEM; returns a mbedTLS code. */
static int sign_certificate(const request *r, uint8_t *pem, size_t size)
{
    mbedtls_x509write_cert w;
    mbedtls_x509_san_list san[NAMES_MAX];
    /* Not critical, as the web's rules have it: some clients refuse a certificate where it is, which is what
     * mbedtls_x509write_crt_set_ext_key_usage writes. */
    static const uint8_t server_auth[] = {0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06,
                                          0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
    uint8_t serial[16];
    char from[16], to[16];
    int error = MBEDTLS_ERR_X509_BAD_INPUT_DATA;
    bool ca = !r->names;
    unsigned key_usage = ca ? MBEDTLS_X509_KU_KEY_CERT_SIGN | MBEDTLS_X509_KU_CRL_SIGN
                            : MBEDTLS_X509_KU_DIGITAL_SIGNATURE;

    mbedtls_x509write_crt_init(&w);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, r->key);
    mbedtls_x509write_crt_set_issuer_key(&w, r->issuer_key);
    if (!format_time(r->from, from) || !format_time(r->to, to))
        goto end;
    if ((error = hob_pki_random(NULL, serial, sizeof serial)) != 0)
        goto end;
    serial[0] = (uint8_t)((serial[0] & 0x7f) |
                          0x40); /* positive, and its first octet is needed (RFC 5280, 4.1.2.2) */
    if ((error = mbedtls_x509write_crt_set_serial_raw(&w, serial, sizeof serial)) != 0 ||
        (error = mbedtls_x509write_crt_set_validity(&w, from, to)) != 0 ||
        (error = mbedtls_x509write_crt_set_subject_name(&w, r->subject)) != 0 ||
        (error = mbedtls_x509write_crt_set_issuer_name(&w, r->issuer)) != 0 ||
        (error = mbedtls_x509write_crt_set_basic_constraints(&w, ca, ca ? 0 : -1)) != 0 ||
        (error = mbedtls_x509write_crt_set_key_usage(&w, key_usage)) != 0 ||
        (error = mbedtls_x509write_crt_set_subject_key_identifier(&w)) != 0 ||
        (error = mbedtls_x509write_crt_set_authority_key_identifier(&w)) != 0)
        goto end;
    if (!ca) {
        memset(san, 0, sizeof san);
        for (size_t i = 0; i < r->names->count; i++) {
            const name *n = &r->names->list[i];
            san[i].node.type = n->type;
            san[i].node.san.unstructured_name.tag = n->type;
            san[i].node.san.unstructured_name.p = (unsigned char *)(uintptr_t)n->value;
            san[i].node.san.unstructured_name.len = n->len;
            san[i].next = i + 1 < r->names->count ? &san[i + 1] : NULL;
        }
        if ((error = mbedtls_x509write_crt_set_extension(
                 &w, MBEDTLS_OID_EXTENDED_KEY_USAGE, sizeof MBEDTLS_OID_EXTENDED_KEY_USAGE - 1, 0,
                 server_auth, sizeof server_auth)) != 0 ||
            (error = mbedtls_x509write_crt_set_subject_alternative_name(&w, san)) != 0)
            goto end;
    }
    error = mbedtls_x509write_crt_pem(&w, pem, size, hob_pki_random, NULL);
end:
    mbedtls_x509write_crt_free(&w);
    return error;
}

static int make_ca(pair *ca, const char *crt_path, const char *key_path, hob_diag *diag)
{
    char subject[128];
    uint8_t pem[4096], tag[4];
    request r = {.subject = subject,
                 .issuer = subject,
                 .key = &ca->key,
                 .issuer_key = &ca->key,
                 .from = HOB_CLOCK_LEAST_S,
                 .to = no_end};
    int code, error = hob_pki_random(NULL, tag, sizeof tag);
    if (error != 0)
        return fail_tls(diag, "no random numbers", crt_path, error);
    /* The tag tells two boxes' authorities apart in a client's list. */
    snprintf(subject, sizeof subject, "O=hob,CN=hob CA %02x%02x%02x%02x", tag[0], tag[1], tag[2],
             tag[3]);
    if (!ca->has_key) {
        code = make_key(&ca->key, key_path, diag);
        if (code < 0)
            return code;
        ca->has_key = true;
    }
    error = sign_certificate(&r, pem, sizeof pem);
    if (error == 0)
        error = mbedtls_x509_crt_parse(&ca->crt, pem, strlen((char *)pem) + 1);
    if (error != 0)
        return fail_tls(diag, "cannot make the authority's certificate", crt_path, error);
    ca->has_crt = true;
    return hob_file_write(crt_path, pem, strlen((char *)pem), 0644, diag);
}

static int make_leaf(pair *ca, pair *leaf, const names *n, const char *crt_path,
                     const char *key_path, time_t now, hob_diag *diag)
{
    char subject[128], issuer[256];
    uint8_t chain[16384];
    size_t used, left;
    time_t ca_end = hob_certificate_time(&ca->crt.valid_to);
    request r = {.subject = subject,
                 .issuer = issuer,
                 .key = &leaf->key,
                 .issuer_key = &ca->key,
                 .names = n,
                 .from = now - BACKDATE_S,
                 .to = now - BACKDATE_S + (time_t)LEAF_DAYS * DAY_S - 1};
    int code, error;
    if (now < HOB_CLOCK_LEAST_S) {
        r.from = HOB_CLOCK_LEAST_S;
        r.to = no_end;
    }
    if (r.to > ca_end)
        r.to = ca_end;
    snprintf(subject, sizeof subject, "O=hob,CN=%s", n->host);
    error = mbedtls_x509_dn_gets(issuer, sizeof issuer, &ca->crt.subject);
    if (error < 0)
        return fail_tls(diag, "the authority's name cannot be used", crt_path, error);
    if (!leaf->has_key) {
        code = make_key(&leaf->key, key_path, diag);
        if (code < 0)
            return code;
        leaf->has_key = true;
    }
    error = sign_certificate(&r, chain, sizeof chain);
    if (error != 0)
        return fail_tls(diag, "cannot make the certificate", crt_path, error);
    used = strlen((char *)chain);
    left = sizeof chain - used;
    error = mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n",
                                     ca->crt.raw.p, ca->crt.raw.len, chain + used, left, &left);
    if (error != 0)
        return fail_tls(diag, "cannot make the certificate's chain", crt_path, error);
    return hob_file_write(crt_path, chain, strlen((char *)chain), 0644, diag);
}

static bool issued_by(pair *ca, pair *leaf)
{
    uint32_t flags = 0;
    if (mbedtls_x509_crt_verify(&leaf->crt, &ca->crt, NULL, NULL, &flags, NULL, NULL) == 0)
        return true;
    return !(flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED);
}

/* The last seconds of an authority that ends need no leaf after leaf. */
static bool time_is_good(const pair *ca, const pair *leaf, time_t now)
{
    const time_t begins = hob_certificate_time(&leaf->crt.valid_from),
                 ends = hob_certificate_time(&leaf->crt.valid_to),
                 ca_ends = hob_certificate_time(&ca->crt.valid_to);
    const time_t soon = now + (time_t)HOB_PKI_RENEW_DAYS * DAY_S;
    return now < HOB_CLOCK_LEAST_S || (begins <= now && ends >= (soon < ca_ends ? soon : ca_ends) &&
                                       ends < now + (time_t)LEAF_DAYS * DAY_S);
}

static bool leaf_is_good(const pair *ca, const pair *leaf, const names *n, time_t now)
{
    if (!leaf->has_crt || !leaf->has_key)
        return false;
    if (mbedtls_pk_check_pair(&leaf->crt.pk, &leaf->key, hob_pki_random, NULL) != 0)
        return false;
    if (!time_is_good(ca, leaf, now))
        return false;
    for (size_t i = 0; i < n->count; i++)
        if (!certificate_names(&leaf->crt, &n->list[i]))
            return false;
    return true;
}

static const char *const files[] = {"ca.pem", "ca.key", "cert.pem", "key.pem"};

/* Whether path is that file of a folder, whose length, with its slash, goes to *ret. */
static bool is_called(const char *path, const char *wanted, size_t *ret)
{
    const char *slash = strrchr(path, '/');
    *ret = slash ? (size_t)(slash - path) + 1 : 0;
    return strcmp(path + *ret, wanted) == 0;
}

bool hob_pki_owns(const char *cert, const char *key, char *ret, size_t size)
{
    char path[PATH_MAX];
    bool there[4];
    size_t len, key_len;

    if (!is_called(cert, files[2], &len) || !is_called(key, files[3], &key_len) || len != key_len ||
        memcmp(cert, key, len) != 0 || len + 3 > size)
        return false;
    snprintf(ret, size, "%.*s", (int)(len > 1 ? len - 1 : 1), len ? cert : ".");
    for (size_t i = 0; i < 4; i++) {
        if (hob_path_join(path, sizeof path, ret, files[i], NULL) < 0)
            return false;
        there[i] = access(path, F_OK) == 0;
    }
    return (there[0] && there[1]) || (!there[2] && !there[3]);
}

int hob_pki_ensure(const char *dir, int64_t now_s, hob_diag *diag)
{
    char path[4][PATH_MAX];
    pair ca, leaf;
    names today;
    const time_t now = (time_t)now_s;
    int code, written = 0;

    pair_init(&ca);
    pair_init(&leaf);
    for (size_t i = 0; i < 4; i++) {
        code = hob_path_join(path[i], sizeof path[i], dir, files[i], diag);
        if (code < 0)
            goto end;
    }
    if (mkdir(dir, 0755) != 0 && errno != EEXIST) {
        code = hob_fail(diag, HOB_EIO, "%s: %s", dir, strerror(errno));
        goto end;
    }
    if ((code = pair_load(&ca, path[0], path[1], diag)) < 0 ||
        (code = pair_load(&leaf, path[2], path[3], diag)) < 0)
        goto end;
    todays_names(&today);

    if (!ca.has_crt) {
        /* A certificate without its authority: a new authority would not be the one that clients trust. */
        if (leaf.has_crt && leaf.has_key) {
            code =
                hob_fail(diag, HOB_EINVAL,
                         "%s is missing while %s exists: put it back, or remove both to start anew",
                         path[0], path[2]);
            goto end;
        }
        code = make_ca(&ca, path[0], path[1], diag);
        if (code < 0)
            goto end;
        written = 1;
    } else if (leaf.has_crt && leaf.has_key && !issued_by(&ca, &leaf)) {
        code = 0;
        goto end;
    }
    if (!leaf_is_good(&ca, &leaf, &today, now)) {
        if (!ca.has_key) {
            code = hob_fail(diag, HOB_ENOENT,
                            "%s must be renewed but the authority's key %s is missing", path[2],
                            path[1]);
            goto end;
        }
        if (mbedtls_pk_check_pair(&ca.crt.pk, &ca.key, hob_pki_random, NULL) != 0) {
            code = hob_fail(diag, HOB_EFORMAT, "%s is not the key of %s", path[1], path[0]);
            goto end;
        }
        if (now >= HOB_CLOCK_LEAST_S && hob_certificate_time(&ca.crt.valid_to) <= now) {
            code = hob_fail(diag, HOB_EINVAL,
                            "%s has expired: remove the files of %s to start anew", path[0], dir);
            goto end;
        }
        code = make_leaf(&ca, &leaf, &today, path[2], path[3], now, diag);
        if (code < 0)
            goto end;
        written = 1;
    }
    code = written;
end:
    pair_free(&leaf);
    pair_free(&ca);
    return code;
}
