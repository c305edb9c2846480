/* SPDX-License-Identifier: Apache-2.0
 *
 * The box's certificates: the chain verifies for each of the names, keys are private, what exists is kept, and a leaf is
 * renewed under the same authority, with the same key, when it must be. */
#include "daemon/conf/certificate.h"
#include "daemon/conf/file.h"
#include "daemon/conf/pki.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <mbedtls/oid.h>
#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const files[] = {"ca.pem", "ca.key", "cert.pem", "key.pem"};
static char dir[64];

static int random_bytes(void *unused, unsigned char *out, size_t len)
{
    (void)unused;
    return getrandom(out, len, 0) == (ssize_t)len ? 0 : -1;
}

static const char *in_dir(const char *name)
{
    static char path[4][128];
    static unsigned at;
    char *p = path[at++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/hob-pki-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        unlink(in_dir(files[i]));
    return rmdir(dir);
}

static char *slurp(const char *name)
{
    char *text = NULL;
    size_t len;
    assert_int_equal(hob_file_read(in_dir(name), 65536, &text, &len, NULL), 0);
    return text;
}

static int ensure_at(int64_t now_s)
{
    hob_diag diag = {""};
    int code = hob_pki_ensure(dir, now_s, &diag);
    if (code < 0)
        print_message("%s\n", diag.text);
    return code;
}

static int ensure(void)
{
    return ensure_at((int64_t)time(NULL));
}

static void load_chain(const char *name, mbedtls_x509_crt *ret)
{
    char *text = slurp(name);
    mbedtls_x509_crt_init(ret);
    assert_int_equal(mbedtls_x509_crt_parse(ret, (const uint8_t *)text, strlen(text) + 1), 0);
    free(text);
}

static void load_key(const char *name, mbedtls_pk_context *ret)
{
    char *text = slurp(name);
    mbedtls_pk_init(ret);
    assert_int_equal(mbedtls_pk_parse_key(ret, (const uint8_t *)text, strlen(text) + 1, NULL, 0,
                                          random_bytes, NULL),
                     0);
    free(text);
}

static uint32_t verify(const char *name)
{
    mbedtls_x509_crt ca, chain;
    uint32_t flags = 0;
    load_chain("ca.pem", &ca);
    load_chain("cert.pem", &chain);
    (void)mbedtls_x509_crt_verify(&chain, &ca, NULL, name, &flags, NULL, NULL);
    mbedtls_x509_crt_free(&ca);
    mbedtls_x509_crt_free(&chain);
    return flags;
}

static void test_new_chain_verifies(void **state)
{
    (void)state;
    char host[64];
    struct stat st;
    mbedtls_x509_crt ca, chain;
    mbedtls_pk_context key;
    assert_int_equal(ensure(), 1);
    assert_int_equal(verify("localhost"), 0);
    assert_int_equal(verify("127.0.0.1"), 0);
    assert_int_equal(verify("::1"), 0);
    assert_int_equal(gethostname(host, sizeof host), 0);
    assert_int_equal(verify(host), 0);
    assert_int_equal(verify("example.org"), MBEDTLS_X509_BADCERT_CN_MISMATCH);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(stat(in_dir(files[i]), &st), 0);
        assert_int_equal(st.st_mode & 0777, strstr(files[i], "key") ? 0600 : 0644);
    }
    load_chain("ca.pem", &ca);
    load_chain("cert.pem", &chain);
    assert_non_null(chain.next); /* leaf, then authority */
    assert_int_equal(chain.next->raw.len, ca.raw.len);
    assert_memory_equal(chain.next->raw.p, ca.raw.p, ca.raw.len);
    assert_int_equal(ca.MBEDTLS_PRIVATE(ca_istrue), 1);
    assert_int_equal(chain.MBEDTLS_PRIVATE(ca_istrue), 0);
    assert_int_equal(mbedtls_x509_crt_check_key_usage(&chain, MBEDTLS_X509_KU_DIGITAL_SIGNATURE),
                     0);
    assert_int_equal(mbedtls_x509_crt_check_key_usage(&ca, MBEDTLS_X509_KU_KEY_CERT_SIGN), 0);
    assert_int_not_equal(mbedtls_x509_crt_check_key_usage(&chain, MBEDTLS_X509_KU_KEY_CERT_SIGN),
                         0);
    assert_int_equal(
        mbedtls_x509_crt_check_extended_key_usage(&chain, MBEDTLS_OID_SERVER_AUTH,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)),
        0);
    assert_int_not_equal(
        mbedtls_x509_crt_check_extended_key_usage(&chain, MBEDTLS_OID_CLIENT_AUTH,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_CLIENT_AUTH)),
        0);
    /* The leaf's authority key id is the authority's subject key id. */
    assert_int_equal(ca.subject_key_id.len, 20);
    assert_int_equal(chain.authority_key_id.keyIdentifier.len, 20);
    assert_memory_equal(chain.authority_key_id.keyIdentifier.p, ca.subject_key_id.p, 20);
    load_key("key.pem", &key);
    assert_int_equal(mbedtls_pk_check_pair(&chain.pk, &key, random_bytes, NULL), 0);
    mbedtls_pk_free(&key);
    mbedtls_x509_crt_free(&ca);
    mbedtls_x509_crt_free(&chain);
}

static void test_what_exists_is_kept(void **state)
{
    (void)state;
    char *before[4], *after;
    assert_true(ensure() >= 0);
    for (size_t i = 0; i < 4; i++)
        before[i] = slurp(files[i]);
    assert_int_equal(ensure(), 0);
    for (size_t i = 0; i < 4; i++) {
        after = slurp(files[i]);
        assert_string_equal(before[i], after);
        free(before[i]);
        free(after);
    }
}

/* Writes a leaf as hob_pki_ensure would have, long ago or with fewer names. */
static void write_leaf(const char *issuer_key, const char *issuer, const char *to, bool names)
{
    mbedtls_x509write_cert w;
    mbedtls_pk_context ca, key;
    mbedtls_x509_san_list san = {.node.type = MBEDTLS_X509_SAN_DNS_NAME};
    unsigned char serial[] = {1}, pem[4096];
    load_key(issuer_key, &ca);
    load_key("key.pem", &key);
    mbedtls_x509write_crt_init(&w);
    mbedtls_x509write_crt_set_version(&w, MBEDTLS_X509_CRT_VERSION_3);
    mbedtls_x509write_crt_set_md_alg(&w, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&w, &key);
    mbedtls_x509write_crt_set_issuer_key(&w, &ca);
    assert_int_equal(mbedtls_x509write_crt_set_serial_raw(&w, serial, 1), 0);
    assert_int_equal(mbedtls_x509write_crt_set_validity(&w, "20240101000000", to), 0);
    assert_int_equal(mbedtls_x509write_crt_set_subject_name(&w, "CN=old"), 0);
    assert_int_equal(mbedtls_x509write_crt_set_issuer_name(&w, issuer), 0);
    san.node.san.unstructured_name.p = (unsigned char *)"localhost";
    san.node.san.unstructured_name.len = 9;
    if (names)
        assert_int_equal(mbedtls_x509write_crt_set_subject_alternative_name(&w, &san), 0);
    assert_int_equal(mbedtls_x509write_crt_pem(&w, pem, sizeof pem, random_bytes, NULL), 0);
    assert_int_equal(hob_file_write(in_dir("cert.pem"), pem, strlen((char *)pem), 0644, NULL), 0);
    mbedtls_x509write_crt_free(&w);
    mbedtls_pk_free(&ca);
    mbedtls_pk_free(&key);
}

static void issuer_name(char *ret, size_t size)
{
    mbedtls_x509_crt ca;
    load_chain("ca.pem", &ca);
    assert_true(mbedtls_x509_dn_gets(ret, size, &ca.subject) > 0);
    mbedtls_x509_crt_free(&ca);
}

static void test_renewal_keeps_authority_and_key(void **state)
{
    (void)state;
    static const struct {
        const char *to;
        bool names;
    } old[] = {{"20240201000000", true}, {"20990101000000", true}, {"20990101000000", false}};
    char issuer[256];
    assert_true(ensure() >= 0);
    issuer_name(issuer, sizeof issuer);
    for (size_t i = 0; i < 3; i++) {
        char *ca = slurp("ca.pem"), *key = slurp("key.pem"), *again;
        write_leaf("ca.key", issuer, old[i].to, old[i].names);
        assert_int_not_equal(verify("127.0.0.1"), 0);
        assert_int_equal(ensure(), 1);
        assert_int_equal(verify("127.0.0.1"), 0);
        again = slurp("ca.pem");
        assert_string_equal(ca, again);
        free(again);
        again = slurp("key.pem");
        assert_string_equal(key, again);
        free(again);
        free(ca);
        free(key);
    }
}

static void test_a_lost_key_is_replaced(void **state)
{
    (void)state;
    assert_true(ensure() >= 0);
    assert_int_equal(unlink(in_dir("key.pem")), 0);
    assert_int_equal(ensure(), 1);
    assert_int_equal(verify("localhost"), 0);
    assert_int_equal(ensure(), 0);
}

/* A folder without any of the files, as before a first start. */
static void clear(void)
{
    for (size_t i = 0; i < 4; i++)
        unlink(in_dir(files[i]));
}

/* When the leaf and its authority are valid. */
static void spans(int64_t ret[4])
{
    mbedtls_x509_crt chain;
    load_chain("cert.pem", &chain);
    assert_non_null(chain.next);
    ret[0] = hob_certificate_time(&chain.valid_from);
    ret[1] = hob_certificate_time(&chain.valid_to);
    ret[2] = hob_certificate_time(&chain.next->valid_from);
    ret[3] = hob_certificate_time(&chain.next->valid_to);
    mbedtls_x509_crt_free(&chain);
}

#define DAY INT64_C(86400)
#define NO_END INT64_C(253402300799)
#define TODAY INT64_C(1893456000) /* 2030-01-01 */

static void test_a_leaf_is_renewed_before_its_end(void **state)
{
    (void)state;
    int64_t first[4], span[4];
    clear();
    assert_int_equal(ensure_at(TODAY), 1);
    spans(first);
    assert_true(first[0] < TODAY && first[1] > TODAY + 800 * DAY && first[1] < TODAY + 825 * DAY);
    assert_int_equal(first[2], HOB_CLOCK_LEAST_S); /* whatever the clock says */
    assert_int_equal(first[3], NO_END);
    assert_int_equal(ensure_at(first[1] - 31 * DAY), 0);
    assert_int_equal(ensure_at(first[1] - 30 * DAY), 0);
    assert_int_equal(ensure_at(first[1] - 30 * DAY + 1), 1);
    spans(span);
    assert_true(span[0] > first[0] && span[1] > first[1]);
    assert_memory_equal(first + 2, span + 2, 2 * sizeof *span);
    assert_int_equal(ensure_at(first[1]), 0);
}

/* Each of these is followed by the right time, at which the leaf has to be good. */
static void test_a_wrong_clock_is_survived(void **state)
{
    (void)state;
    static const int64_t wrong[] = {0,
                                    100 * DAY,
                                    HOB_CLOCK_LEAST_S - 1,
                                    TODAY + 3 * DAY,
                                    TODAY - 3 * DAY,
                                    TODAY + 9000 * DAY,
                                    TODAY + 30000 * DAY};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        for (int there = 0; there < 2; there++) { /* at the first start, and later */
            int64_t span[4];
            char *ca, *after;
            clear();
            if (there)
                assert_int_equal(ensure_at(TODAY - DAY), 1);
            assert_true(ensure_at(wrong[i]) >= 0);
            ca = slurp("ca.pem");
            if (wrong[i] < HOB_CLOCK_LEAST_S) { /* then those whose clocks are right are served */
                spans(span);
                assert_true(span[0] <= TODAY && span[1] >= TODAY);
            }
            assert_true(ensure_at(TODAY) >= 0);
            spans(span);
            assert_true(span[0] <= TODAY && span[1] >= TODAY + 30 * DAY);
            assert_true(span[1] < TODAY + 825 * DAY);
            assert_true(span[2] <= TODAY && span[3] >= TODAY);
            assert_int_equal(ensure_at(TODAY), 0); /* and is left alone then */
            after = slurp("ca.pem");
            assert_string_equal(ca, after); /* clients need no other */
            free(ca);
            free(after);
        }
    }
}

static void test_a_clock_that_stands_leaves_what_is_there(void **state)
{
    (void)state;
    clear();
    assert_int_equal(ensure_at(TODAY), 1);
    assert_int_equal(ensure_at(0), 0);
    assert_int_equal(ensure_at(HOB_CLOCK_LEAST_S - 1), 0);
    assert_int_equal(ensure_at(TODAY), 0);
    assert_int_equal(ensure_at(INT64_C(1) << 50), HOB_EINVAL); /* behind all certificates */
    assert_int_equal(ensure_at(TODAY), 0);
}

static void test_what_hob_owns(void **state)
{
    (void)state;
    char cert[128], key[128], ret[128];
    clear();
    snprintf(cert, sizeof cert, "%s", in_dir("cert.pem"));
    snprintf(key, sizeof key, "%s", in_dir("key.pem"));
    assert_true(hob_pki_owns(cert, key, ret, sizeof ret)); /* nothing is there yet */
    assert_string_equal(ret, dir);
    assert_false(hob_pki_owns(cert, "/etc/key.pem", ret, sizeof ret));
    assert_false(hob_pki_owns("/etc/ssl/box.pem", "/etc/ssl/box.key", ret, sizeof ret));
    assert_false(hob_pki_owns(cert, key, ret, 8));
    assert_int_equal(ensure(), 1);
    assert_true(hob_pki_owns(cert, key, ret, sizeof ret));
    assert_int_equal(unlink(in_dir("ca.key")), 0); /* its owner keeps it elsewhere */
    assert_false(hob_pki_owns(cert, key, ret, sizeof ret));
    assert_int_equal(unlink(in_dir("ca.pem")), 0);
    assert_false(hob_pki_owns(cert, key, ret, sizeof ret));
    assert_int_equal(unlink(cert), 0);
    assert_false(hob_pki_owns(cert, key, ret, sizeof ret)); /* a key of somebody's */
    clear();
    assert_int_equal(ensure(), 1);
}

/* Whatever the power takes away between two files, the next start makes the rest. */
static void test_a_first_start_that_was_cut_off(void **state)
{
    (void)state;
    static const char *const order[] = {"cert.pem", "key.pem", "ca.pem", "ca.key"};
    char cert[128], key[128], ret[128];
    snprintf(cert, sizeof cert, "%s", in_dir("cert.pem"));
    snprintf(key, sizeof key, "%s", in_dir("key.pem"));
    for (size_t cut = 1; cut <= 4; cut++) {
        clear();
        assert_int_equal(ensure(), 1);
        for (size_t i = 0; i < cut; i++)
            assert_int_equal(unlink(in_dir(order[i])), 0);
        assert_true(hob_pki_owns(cert, key, ret, sizeof ret));
        assert_int_equal(ensure(), 1);
        assert_int_equal(verify("localhost"), 0);
    }
}

static void test_owners_certificate_is_left_alone(void **state)
{
    (void)state;
    char *mine, *after;
    assert_true(ensure() >= 0);
    write_leaf("key.pem", "CN=another authority", "20990101000000", true);
    mine = slurp("cert.pem");
    assert_int_equal(ensure(), 0);
    after = slurp("cert.pem");
    assert_string_equal(mine, after);
    free(mine);
    free(after);
}

static void test_broken_and_missing_files_are_reported(void **state)
{
    (void)state;
    hob_diag diag;
    assert_int_equal(unlink(in_dir("cert.pem")), 0);
    assert_int_equal(ensure(), 1);
    assert_int_equal(rename(in_dir("ca.pem"), in_dir("ca.old")), 0);
    assert_int_equal(hob_pki_ensure(dir, (int64_t)time(NULL), &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "ca.pem"));
    assert_int_equal(rename(in_dir("ca.old"), in_dir("ca.pem")), 0);
    assert_int_equal(hob_file_write(in_dir("cert.pem"), "nonsense", 8, 0644, NULL), 0);
    assert_int_equal(hob_pki_ensure(dir, (int64_t)time(NULL), &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "cert.pem"));
    assert_int_equal(unlink(in_dir("cert.pem")), 0);
    assert_int_equal(unlink(in_dir("ca.key")), 0);
    assert_int_equal(hob_pki_ensure(dir, (int64_t)time(NULL), &diag), HOB_ENOENT);
    assert_non_null(strstr(diag.text, "ca.key"));
    assert_int_equal(hob_pki_ensure("/tmp/hob-no-such-dir/inner", 0, &diag), HOB_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_chain_verifies),
        cmocka_unit_test(test_what_exists_is_kept),
        cmocka_unit_test(test_renewal_keeps_authority_and_key),
        cmocka_unit_test(test_a_lost_key_is_replaced),
        cmocka_unit_test(test_a_leaf_is_renewed_before_its_end),
        cmocka_unit_test(test_a_wrong_clock_is_survived),
        cmocka_unit_test(test_a_clock_that_stands_leaves_what_is_there),
        cmocka_unit_test(test_what_hob_owns),
        cmocka_unit_test(test_a_first_start_that_was_cut_off),
        cmocka_unit_test(test_owners_certificate_is_left_alone),
        cmocka_unit_test(test_broken_and_missing_files_are_reported),
    };
    return cmocka_run_group_tests_name("pki", tests, make_dir, drop_dir);
}
