/* SPDX-License-Identifier: Apache-2.0
 *
 * Bundles: the order of versions, what a manifest may say, every small damage to a container, and the folder that bundles are
 * installed in. */
#include "daemon/bundle/folder.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tests/support/bundle_maker.h"

static hob_diag diag;
static hob_bundle_key key, other;
static char dir[64], folder[80];

static void ok(int code)
{
    if (code < 0)
        fail_msg("%s: %s", hob_error_name(code), diag.text);
}

static int begin(void **state)
{
    (void)state;
    key = bm_key(bm_private);
    other = bm_key(bm_other);
    snprintf(dir, sizeof dir, "/tmp/hob-bundle-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(folder, sizeof folder, "%s/bundles", dir);
    return 0;
}

static int end(void **state)
{
    char command[96];
    (void)state;
    hob_bundle_key_free(&key);
    hob_bundle_key_free(&other);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* ---- versions ---- */

static void test_versions(void **state)
{
    (void)state;
    static const char *const ascending[] = {"0.9~rc1-1", "0.9~rc2", "0.9",  "0.9-1", "0.9-2",
                                            "0.9a",      "0.9+b",   "0.10", "1~",    "1",
                                            "1.0.1",     "1.00.2",  "2",    "10",    "2026.11.26"};
    enum { COUNT = sizeof ascending / sizeof *ascending };
    for (size_t i = 0; i < COUNT; i++)
        for (size_t j = 0; j < COUNT; j++) {
            const int order = hob_bundle_version_compare(ascending[i], ascending[j]);
            if ((order > 0) != (i > j) || (order < 0) != (i < j))
                fail_msg("%s and %s: %d", ascending[i], ascending[j], order);
        }
    assert_int_equal(hob_bundle_version_compare("1.02", "1.2"), 0);
    static const char *const bad[] = {
        "",    "v1",
        "..",  "1/2",
        "1#2", "current",
        ".1",  "1 2",
        "1\n", "12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (hob_bundle_version_ok(bad[i]))
            fail_msg("allowed: %s", bad[i]);
    assert_true(hob_bundle_folder_ok("1.2") && hob_bundle_folder_ok("1.2#2"));
    assert_false(hob_bundle_folder_ok("1.2#") || hob_bundle_folder_ok("1.2#02") ||
                 hob_bundle_folder_ok("1.2#2x") || hob_bundle_folder_ok("#2") ||
                 hob_bundle_folder_ok("1#12345678901") || hob_bundle_folder_ok(".new"));
    assert_true(hob_bundle_folder_compare("1.2", "1.2#2") < 0 &&
                hob_bundle_folder_compare("1.2#10", "1.2#9") > 0 &&
                hob_bundle_folder_compare("1.2#10", "1.3") < 0);
}

/* ---- digests ---- */

static void sum_in_pieces(const uint8_t *data, size_t len, size_t piece, char ret[HOB_DIGEST_TEXT])
{
    uint8_t digest[HOB_DIGEST_BYTES];
    hob_digest d;
    hob_digest_begin(&d);
    for (size_t at = 0; at < len; at += piece)
        hob_digest_add(&d, data + at, len - at < piece ? len - at : piece);
    hob_digest_end(&d, digest);
    hob_digest_text(digest, ret);
}

/* FIPS 180-4's examples, and the processor's instructions against mbedTLS. */
static void test_digests(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sum;
    } known[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char text[2][HOB_DIGEST_TEXT];
    uint8_t data[700];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        sum_in_pieces((const uint8_t *)known[i].text, strlen(known[i].text), 64, text[0]);
        assert_string_equal(text[0], known[i].sum);
    }
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i * 7 + i);
    for (size_t len = 0; len <= sizeof data; len += len < 200 ? 1 : 83) {
        assert_int_equal(setenv("HOB_CPU", "scalar", 1), 0);
        sum_in_pieces(data, len, len + 1, text[0]);
        assert_int_equal(unsetenv("HOB_CPU"), 0);
        for (size_t piece = 1; piece <= len + 1; piece += 1 + piece / 3) {
            sum_in_pieces(data, len, piece, text[1]);
            assert_string_equal(text[0], text[1]);
        }
    }
}

static void test_a_digest_beside_a_file(void **state)
{
    (void)state;
    uint8_t digest[HOB_DIGEST_BYTES];
    char path[96], beside[112];
#define HEX "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    static const struct {
        const char *text;
        int code;
    } cases[] = {{HEX, 1},
                 {HEX "  m.gguf\n", 1},
                 {HEX "\n", 1},
                 {"", HOB_EFORMAT},
                 {HEX "0", HOB_EFORMAT},
                 {"x" HEX, HOB_EFORMAT},
                 {"m.gguf " HEX, HOB_EFORMAT}};
    snprintf(path, sizeof path, "%s/m.gguf", dir);
    snprintf(beside, sizeof beside, "%s.sha256", path);
    assert_int_equal(hob_digest_beside(path, digest, &diag), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *f = fopen(beside, "w");
        assert_true(f && fputs(cases[i].text, f) >= 0);
        fclose(f);
        assert_int_equal(hob_digest_beside(path, digest, &diag), cases[i].code);
    }
    unlink(beside);
    assert_int_equal(mkdir(beside, 0755), 0);
    assert_int_equal(hob_digest_beside(path, digest, &diag), HOB_EIO);
}

/* ---- manifests ---- */

#define FILE_OF(name, kind)                                                                        \
    "{\"name\":\"" name "\",\"kind\":\"" kind "\",\"bytes\":3,\"sha256\":\"" HEX "\"}"
#define MANIFEST(files) "{\"version\":\"1.2\",\"files\":[" files "]}"

static void test_manifests(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says; /* NULL: it is good */
    } cases[] = {
        {MANIFEST(FILE_OF("a.gguf", "model")), NULL},
        {MANIFEST(FILE_OF("a_1.2~rc1-1_amd64.deb", "package") "," FILE_OF(
             "b.rpm", "package") "," FILE_OF("s.db", "collection")),
         NULL},
        {"", "line 1"},
        {"[]", "no object"},
        {"{}", "version"},
        {"{\"version\":\"1\"}", "files"},
        {"{\"version\":1,\"files\":[]}", "version"},
        {MANIFEST(""), "0 files"},
        {MANIFEST("1"), "no object"},
        {"{\"version\":\"../1\",\"files\":[" FILE_OF("a.gguf", "model") "]}", "version is"},
        {"{\"version\":\"1\",\"more\":1,\"files\":[" FILE_OF("a.gguf", "model") "]}", "\"more\""},
        {MANIFEST(FILE_OF("../a.gguf", "model")), "name is"},
        {MANIFEST(FILE_OF("a/b.gguf", "model")), "name is"},
        {MANIFEST(FILE_OF("/a.gguf", "model")), "name is"},
        {MANIFEST(FILE_OF("a..gguf", "model")), "name is"},
        {MANIFEST(FILE_OF(".gguf", "model")), "name is"},
        {MANIFEST(FILE_OF("-a.deb", "package")), "name is"},
        {MANIFEST(FILE_OF("a\\u0000.gguf", "model")), "manifest"},
        {MANIFEST(FILE_OF("a b.gguf", "model")), "name is"},
        {MANIFEST(FILE_OF("", "model")), "name is"},
        {MANIFEST(FILE_OF("a.gguf", "package")), "of kind"},
        {MANIFEST(FILE_OF("a.sh", "model")), "of kind"},
        {MANIFEST(FILE_OF("a.gguf.sha256", "model")), "of kind"},
        {MANIFEST(FILE_OF("a.gguf", "model") "," FILE_OF("a.gguf", "model")), "two files"},
        {MANIFEST("{\"name\":\"a.gguf\",\"kind\":\"model\",\"bytes\":0,\"sha256\":\"" HEX "\"}"),
         "bytes"},
        {MANIFEST("{\"name\":\"a.gguf\",\"kind\":\"model\",\"bytes\":-1,\"sha256\":\"" HEX "\"}"),
         "bytes"},
        {MANIFEST("{\"name\":\"a.gguf\",\"kind\":\"model\",\"bytes\":9000000000000000000,"
                  "\"sha256\":\"" HEX "\"}"),
         "bytes"},
        {MANIFEST("{\"name\":\"a.gguf\",\"kind\":\"model\",\"bytes\":1,\"sha256\":\"abc\"}"),
         "sha256"},
        {MANIFEST("{\"name\":\"a.gguf\",\"kind\":\"model\",\"bytes\":1}"), "sha256"},
        {MANIFEST("{\"name\":\"a.gguf\",\"kind\":\"model\",\"bytes\":1,\"sha256\":\"" HEX
                  "\",\"mode\":511}"),
         "\"mode\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_bundle b = {.fd = -1};
        const int code = hob_bundle_parse_manifest(cases[i].text, strlen(cases[i].text), &b, &diag);
        if (cases[i].says ? code != HOB_EFORMAT || !strstr(diag.text, cases[i].says) : code != 0)
            fail_msg("%s: %d, %s", cases[i].text, code, diag.text);
        if (code == 0)
            hob_bundle_close(&b);
    }
}

/* ---- containers ---- */

static const char contents[] = "abcabc"; /* of two files; HEX is the sum of "abc" */
static const char two_models[] =
    MANIFEST(FILE_OF("a.gguf", "model") "," FILE_OF("b.gguf", "model"));

static int try_bundle(const uint8_t *data, size_t len, hob_bundle_key *k)
{
    hob_bundle b;
    int code = hob_bundle_open_fd(bm_file(data, len), false, k, &b, &diag);
    if (code == 0) {
        code = hob_bundle_check(&b, &diag);
        hob_bundle_close(&b);
    }
    return code;
}

/* Whatever is changed or cut off is noticed, and which kind of damage it is said to be. */
static void test_every_damage(void **state)
{
    (void)state;
    size_t len;
    static const uint8_t masks[] = {0x01, 0x20, 0x80, 0xff};
    uint8_t *c = bm_container(&key, two_models, sizeof two_models - 1, contents, 6, &len);
    const size_t head = len - 6;
    ok(try_bundle(c, len, &key));
    assert_int_equal(try_bundle(c, len, &other), HOB_ESIGNATURE);
    for (size_t at = 0; at < len; at++)
        for (size_t m = 0; m < sizeof masks; m++) {
            c[at] ^= masks[m];
            const int code = try_bundle(c, len, &key);
            c[at] ^= masks[m];
            const bool right = at >= head ? code == HOB_EDIGEST
                               : at < 8   ? code == HOB_EFORMAT
                               : at < 12  ? code == HOB_EUNSUPPORTED
                               : at < 16  ? code == HOB_EFORMAT || code == HOB_ESIGNATURE
                                          : code == HOB_ESIGNATURE;
            if (!right)
                fail_msg("byte %zu, mask %02x: %s", at, masks[m], hob_error_name(code));
        }
    for (size_t cut = 0; cut < len; cut++)
        if (try_bundle(c, cut, &key) != HOB_EFORMAT || !strstr(diag.text, "truncated"))
            fail_msg("%zu bytes: %s", cut, diag.text);
    uint8_t *longer = calloc(1, len + 1);
    memcpy(longer, c, len);
    assert_int_equal(try_bundle(longer, len + 1, &key), HOB_EFORMAT);
    free(longer);
    free(c);
}

static void test_keys(void **state)
{
    (void)state;
    static const char rsa[] = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    /* Of secp384r1. */
    static const char large[] = "-----BEGIN PUBLIC KEY-----\n"
                                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE8MB851ytkefEEyp+AvxxWQlBqI5e7NUd\n"
                                "9ohWHRUyc9hSjNJcfpqtZ8QVu0+xcHF052CFHmhMpMxYDI741jo43TAEO9PEGSe/\n"
                                "pOXF50K6UmIcTqwsgrDPLZ7jBHkpwAGt\n"
                                "-----END PUBLIC KEY-----\n";
    char path[96], public_path[112];
    uint8_t signature[HOB_BUNDLE_SIGNATURE_BYTES], again[HOB_BUNDLE_SIGNATURE_BYTES];
    hob_bundle_key secret, public, k;
    struct stat st;
    snprintf(path, sizeof path, "%s/key", dir);
    snprintf(public_path, sizeof public_path, "%s.pub", path);
    ok(hob_bundle_key_make(path, &diag));
    assert_int_equal(hob_bundle_key_make(path, &diag), HOB_EINVAL); /* it is there */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    ok(hob_bundle_key_load(path, true, &secret, &diag));
    ok(hob_bundle_key_load(public_path, false, &public, &diag));
    assert_memory_equal(secret.id, public.id, sizeof secret.id);
    ok(hob_bundle_sign(&secret, "abc", 3, signature, &diag));
    ok(hob_bundle_sign(&secret, "abc", 3, again, &diag));
    assert_memory_equal(signature, again, sizeof again);
    ok(hob_bundle_check_signature(&public, "abc", 3, signature, &diag));
    assert_int_equal(hob_bundle_check_signature(&public, "abd", 3, signature, &diag),
                     HOB_ESIGNATURE);
    memset(signature, 0, sizeof signature);
    assert_int_equal(hob_bundle_check_signature(&public, "abc", 3, signature, &diag),
                     HOB_ESIGNATURE);
    assert_int_equal(hob_bundle_sign(&public, "abc", 3, signature, &diag), HOB_EINVAL);
    assert_int_equal(hob_bundle_key_load(path, false, &k, &diag), HOB_EFORMAT);
    assert_int_equal(hob_bundle_key_load(public_path, true, &k, &diag), HOB_EFORMAT);
    assert_int_equal(hob_bundle_key_load(dir, false, &k, &diag), HOB_EIO);
    assert_int_equal(hob_bundle_key_parse("rsa", rsa, sizeof rsa - 1, false, &k, &diag),
                     HOB_EFORMAT);
    assert_int_equal(hob_bundle_key_parse("p384", large, sizeof large - 1, false, &k, &diag),
                     HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "P-256"));
    hob_bundle_key_free(&secret);
    hob_bundle_key_free(&public);
}

/* ---- the folder ---- */

static hob_bundle bundle_of(const char *version)
{
    char manifest[sizeof two_models + 32];
    hob_bundle b;
    size_t len;
    snprintf(manifest, sizeof manifest, "{\"version\":\"%s\",%s", version,
             strstr(two_models, "\"files\""));
    uint8_t *c = bm_container(&key, manifest, strlen(manifest), contents, 6, &len);
    ok(hob_bundle_open_fd(bm_file(c, len), false, &key, &b, &diag));
    free(c);
    return b;
}

static void put(hob_bundle_folder *f, const char *version, const char *named)
{
    char name[HOB_BUNDLE_FOLDER_MAX + 1];
    hob_bundle b = bundle_of(version);
    ok(hob_bundle_folder_unpack(f, &b, name, &diag));
    assert_string_equal(name, named);
    ok(hob_bundle_folder_switch(f, name, &diag));
    hob_bundle_close(&b);
}

static bool is_there(const char *name)
{
    char path[256];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &st) == 0;
}

static void test_installing(void **state)
{
    (void)state;
    hob_bundle_folder f, second;
    hob_bundle head;
    char name[HOB_BUNDLE_FOLDER_MAX + 1];
    assert_int_equal(hob_bundle_folder_open("/nowhere/at/all", true, &f, &diag), HOB_ENOENT);
    assert_int_equal(hob_bundle_folder_open(folder, false, &f, &diag), HOB_ENOENT);
    assert_false(is_there("."));
    ok(hob_bundle_folder_open(folder, true, &f, &diag));
    assert_string_equal(f.current, "");
    assert_int_equal(hob_bundle_folder_open(folder, true, &second, &diag), HOB_ELIMIT);
    assert_int_equal(hob_bundle_folder_open(folder, false, &second, &diag), HOB_ELIMIT);
    assert_int_equal(hob_bundle_folder_before(&f, name, &diag), HOB_ENOENT);
    put(&f, "1.9", "1.9");
    put(&f, "1.10", "1.10");
    put(&f, "1.10", "1.10#2");
    assert_int_equal(hob_bundle_folder_admit(&f, "1.9", true, &diag), HOB_EOLD);
    assert_int_equal(hob_bundle_folder_admit(&f, "1.10", false, &diag), HOB_EOLD);
    ok(hob_bundle_folder_admit(&f, "1.10", true, &diag));
    ok(hob_bundle_folder_admit(&f, "1.11~rc1", false, &diag));
    ok(hob_bundle_folder_before(&f, name, &diag));
    assert_string_equal(name, "1.10");
    ok(hob_bundle_folder_prune(&f, &diag));
    assert_true(is_there("1.10") && is_there("1.10#2") && !is_there("1.9"));
    hob_bundle_folder_close(&f);
    ok(hob_bundle_folder_open(folder, true, &f, &diag));
    assert_string_equal(f.current, "1.10#2");
    assert_true(is_there("current/models/a.gguf.sha256"));
    ok(hob_bundle_folder_head(&f, f.current, &key, &head, &diag));
    ok(hob_bundle_folder_check(&f, f.current, &head, HOB_BUNDLE_KINDS, &diag));
    hob_bundle_close(&head);
    assert_int_equal(hob_bundle_folder_head(&f, f.current, &other, &head, &diag), HOB_ESIGNATURE);
    hob_bundle_folder_close(&f);
}

static void write_text(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_true(file && fputs(text, file) >= 0);
    fclose(file);
}

static void test_what_was_installed_is_altered(void **state)
{
    (void)state;
    hob_bundle_folder f;
    hob_bundle head;
    ok(hob_bundle_folder_open(folder, true, &f, &diag));
    put(&f, "1", "1");
    ok(hob_bundle_folder_head(&f, "1", &key, &head, &diag));
    write_text("1/models/b.gguf", "abd");
    assert_int_equal(hob_bundle_folder_check(&f, "1", &head, HOB_BUNDLE_KINDS, &diag), HOB_EDIGEST);
    ok(hob_bundle_folder_check(&f, "1", &head, HOB_BUNDLE_PACKAGE, &diag)); /* it has none */
    write_text("1/models/b.gguf", "abcd");
    assert_int_equal(hob_bundle_folder_check(&f, "1", &head, HOB_BUNDLE_KINDS, &diag), HOB_EDIGEST);
    hob_bundle_close(&head);
    hob_bundle_folder_close(&f);
}

/* A file that changes between the check and the copy: nothing of it stays. */
static void test_altered_while_unpacked(void **state)
{
    (void)state;
    hob_bundle_folder f;
    char name[HOB_BUNDLE_FOLDER_MAX + 1];
    ok(hob_bundle_folder_open(folder, true, &f, &diag));
    put(&f, "1", "1");
    hob_bundle b = bundle_of("2");
    ok(hob_bundle_check(&b, &diag));
    assert_int_equal(pwrite(b.fd, "x", 1, (off_t)b.bytes - 1), 1);
    assert_int_equal(hob_bundle_folder_unpack(&f, &b, name, &diag), HOB_EDIGEST);
    assert_false(is_there("2") || is_there(".new"));
    assert_string_equal(f.current, "1");
    hob_bundle_close(&b);
    hob_bundle_folder_close(&f);
}

/* What stopped installations and a rollback leave, and a link that a hand has bent. */
static void test_leftovers(void **state)
{
    (void)state;
    hob_bundle_folder f;
    char path[128];
    ok(hob_bundle_folder_open(folder, true, &f, &diag));
    put(&f, "1", "1");
    put(&f, "2", "2");
    ok(hob_bundle_folder_switch(&f, "1", &diag)); /* back */
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "mkdir -p %s/%s/models && touch %s/%s/models/x", folder,
                 i ? ".old" : ".new", folder, i ? ".old" : ".new");
        assert_int_equal(system(path), 0);
    }
    snprintf(path, sizeof path, "%s/.current.new", folder);
    assert_int_equal(symlink("9", path), 0);
    put(&f, "1.5", "1.5");
    assert_true(is_there("1") && is_there("1.5"));
    assert_false(is_there("2") || is_there(".new") || is_there(".old") || is_there(".current.new"));
    hob_bundle_folder_close(&f);
    static const char *const targets[] = {"3", "../../etc", "1.5/models", "/etc", ".new"};
    snprintf(path, sizeof path, "%s/current", folder);
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        assert_int_equal(unlink(path), 0);
        assert_int_equal(symlink(targets[i], path), 0);
        assert_int_equal(hob_bundle_folder_open(folder, true, &f, &diag), HOB_EFORMAT);
    }
}

static void test_whose_folder(void **state)
{
    (void)state;
    hob_bundle_folder f;
    char link_path[96];
    ok(hob_bundle_folder_open(folder, true, &f, &diag));
    hob_bundle_folder_close(&f);
    assert_int_equal(chmod(folder, 0775), 0);
    assert_int_equal(hob_bundle_folder_open(folder, true, &f, &diag), HOB_EINVAL);
    assert_int_equal(chmod(folder, 0755), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(folder, 12345, 12345), 0);
        assert_int_equal(hob_bundle_folder_open(folder, true, &f, &diag), HOB_EINVAL);
        ok(hob_bundle_folder_open(folder, false, &f, &diag)); /* to look */
        hob_bundle_folder_close(&f);
        assert_int_equal(chown(folder, 0, 0), 0);
    }
    snprintf(link_path, sizeof link_path, "%s/link", dir);
    assert_int_equal(symlink(folder, link_path), 0);
    assert_int_equal(hob_bundle_folder_open(link_path, true, &f, &diag), HOB_EIO);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(test_versions),
        TEST(test_digests),
        TEST(test_a_digest_beside_a_file),
        TEST(test_manifests),
        TEST(test_every_damage),
        TEST(test_keys),
        TEST(test_installing),
        TEST(test_what_was_installed_is_altered),
        TEST(test_altered_while_unpacked),
        TEST(test_leftovers),
        TEST(test_whose_folder),
    };
    return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}
