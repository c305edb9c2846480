/* SPDX-License-Identifier: Apache-2.0
 *
 * API keys: their text, their hashes, the file of hashes. See keys.h. */
#include "daemon/conf/keys.h"

#include "daemon/conf/file.h"
#include "models/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    KEY_BYTES = 32,
    KEY_DIGITS = 43, /* base64url of 32 bytes, without padding */
    FILE_MAX = 16 * 1024 * 1024,
};

static const char *const classes[] = {"interactive", "standard", "batch"};

bool hob_key_word_ok(const char *s)
{
    size_t len = strlen(s);
    if (len == 0 || len >= HOB_KEY_WORD_MAX)
        return false;
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@+-") == len;
}

int hob_class_find(const char *name)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(name, classes[i]) == 0)
            return (int)i;
    return -1;
}

const char *hob_class_name(unsigned priority)
{
    return classes[priority < 3 ? priority : 2];
}

/* Small letters only, as hob writes them. */
static bool hash_from_hex(const char *s, uint8_t hash[HOB_DIGEST_BYTES])
{
    const size_t len = strlen(s);
    return strspn(s, "0123456789abcdef") == len && hob_digest_parse(s, len, hash);
}

/* One line without its newline. Returns 1 for a key, 0 for an empty line or a comment. */
static int parse_line(char *line, const char *path, size_t number, hob_key_line *ret,
                      hob_diag *diag)
{
    char *fields[6], *save = NULL;
    size_t count = 0;
    hob_key_line key = {0};
    line[strcspn(line, "#\r")] = 0;
    for (char *f = strtok_r(line, " \t", &save); f && count < 6; f = strtok_r(NULL, " \t", &save))
        fields[count++] = f;
    if (count == 0)
        return 0;
    if (count != 4 && count != 5)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: %s than the fields: sha256-hex label tenant class [admin]", path,
                        number, count < 4 ? "fewer" : "more");
    if (!hash_from_hex(fields[0], key.hash))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: the hash is not 64 lower-case hexadecimal digits", path, number);
    if (!hob_key_word_ok(fields[1]))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: label: 1 to 63 letters, digits or . _ @ + - are allowed", path,
                        number);
    if (!hob_key_word_ok(fields[2]))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: tenant: 1 to 63 letters, digits or . _ @ + - are allowed", path,
                        number);
    const int priority = hob_class_find(fields[3]);
    if (priority < 0)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: class is \"%.20s\": interactive, standard or batch are allowed",
                        path, number, fields[3]);
    if (count == 5 && strcmp(fields[4], "admin") != 0)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: role is \"%.20s\": admin is allowed, or nothing", path, number,
                        fields[4]);
    memcpy(key.label, fields[1], strlen(fields[1]) + 1);
    memcpy(key.tenant, fields[2], strlen(fields[2]) + 1);
    key.priority = (uint8_t)priority;
    key.admin = count == 5;
    *ret = key;
    return 1;
}

int hob_key_file_load(const char *path, hob_key_file *ret, hob_diag *diag)
{
    hob_key_file keys = {0};
    char *text = NULL, *line;
    size_t len, capacity = 0, number = 1;
    int code = hob_file_read(path, FILE_MAX, &text, &len, diag);
    if (code < 0)
        return code;
    if (memchr(text, 0, len)) {
        code = hob_fail(diag, HOB_EFORMAT, "%s: has a NUL byte: not a text file", path);
        goto fail;
    }
    for (line = text; line < text + len; number++) {
        char *end = line + strcspn(line, "\n");
        hob_key_line key;
        *end = 0;
        code = parse_line(line, path, number, &key, diag);
        if (code < 0)
            goto fail;
        if (code > 0) {
            for (size_t i = 0; i < keys.count; i++)
                if (memcmp(keys.list[i].hash, key.hash, sizeof key.hash) == 0) {
                    code = hob_fail(diag, HOB_EFORMAT,
                                    "%s:%zu: this key is already in the file, labelled %s", path,
                                    number, keys.list[i].label);
                    goto fail;
                }
            if (keys.count == capacity) {
                hob_key_line *grown;
                capacity = capacity ? capacity * 2 : 16; /* bounded by the file's size */
                grown = realloc(keys.list, capacity * sizeof *grown);
                if (!grown) {
                    code = hob_fail(diag, HOB_ENOMEM, "%s: out of memory for %zu keys", path,
                                    capacity);
                    goto fail;
                }
                keys.list = grown;
            }
            keys.list[keys.count++] = key;
        }
        line = end + 1;
    }
    free(text);
    *ret = keys;
    return 0;
fail:
    free(text);
    hob_key_file_free(&keys);
    return code;
}

void hob_key_file_free(hob_key_file *f)
{
    if (!f)
        return;
    free(f->list);
    *f = (hob_key_file){0};
}

bool hob_key_file_has(const hob_key_file *f, const char *text, size_t len)
{
    uint8_t hash[32];
    size_t found = 0;
    if (hob_key_hash(text, len, hash) < 0)
        return false;
    for (size_t i = 0; i < f->count; i++)
        found |= hob_key_equal(f->list[i].hash, hash);
    return found != 0;
}

/* ---- hashes ---- */

int hob_key_hash(const char *text, size_t len, uint8_t ret[32])
{
    return mbedtls_sha256((const uint8_t *)text, len, ret, 0) == 0 ? 0 : HOB_EDEVICE;
}

size_t hob_key_equal(const uint8_t a[32], const uint8_t b[32])
{
    uint32_t difference = 0;
    for (size_t i = 0; i < 32; i++)
        difference |= (uint32_t)(a[i] ^ b[i]);
    return (size_t)0 - (size_t)((difference - 1u) >> 31);
}

static void key_text(const uint8_t random[KEY_BYTES], char ret[HOB_KEY_TEXT_MAX])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0, have = 0;
    size_t n = 4;
    memcpy(ret, "hob_", 4);
    for (size_t i = 0; i < KEY_BYTES; i++) {
        bits = bits << 8 | random[i];
        for (have += 8; have >= 6; have -= 6)
            ret[n++] = digits[bits >> (have - 6) & 63];
    }
    ret[n++] = digits[bits << (6 - have) & 63];
    ret[n] = 0;
}

int hob_key_make(char ret_text[HOB_KEY_TEXT_MAX], uint8_t ret_hash[32], hob_diag *diag)
{
    uint8_t random[KEY_BYTES];
    _Static_assert(4 + KEY_DIGITS < HOB_KEY_TEXT_MAX, "a key's text and its NUL fit");
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return hob_fail(diag, HOB_EIO, "no random numbers from the system: %s", strerror(errno));
    key_text(random, ret_text);
    mbedtls_platform_zeroize(random, sizeof random);
    if (hob_key_hash(ret_text, strlen(ret_text), ret_hash) < 0)
        return hob_fail(diag, HOB_EDEVICE, "SHA-256 failed");
    return 0;
}

static int append_line(const char *path, const char *line, size_t len, hob_diag *diag)
{
    char last = '\n';
    struct stat st;
    int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX) != 0 || fstat(fd, &st) != 0)
        goto fail;
    if (st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) != 1)
        goto fail;
    /* line begins with a newline, for a file whose last line was left open by an editor. */
    if (last == '\n') {
        line++;
        len--;
    }
    errno = ENOSPC; /* what a short write means */
    if (write(fd, line, len) != (ssize_t)len) {
        int saved = errno;
        if (ftruncate(fd, st.st_size) != 0)
            saved = errno;
        errno = saved;
        goto fail;
    }
    if (fsync(fd) != 0)
        goto fail;
    close(fd);
    return 0;
fail:
    hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    close(fd);
    return HOB_EIO;
}

static int add_key(const char *path, const char *label, const char *tenant, const char *class_name,
                   bool admin, const uint8_t hash[32], hob_diag *diag)
{
    char line[256];
    line[0] = '\n';
    hob_digest_text(hash, line + 1);
    const int n = snprintf(line + 65, sizeof line - 65, " %s %s %s%s\n", label, tenant, class_name,
                           admin ? " admin" : "");
    return append_line(path, line, 65 + (size_t)n, diag);
}

int hob_key_file_add(const char *path, const char *label, const char *tenant,
                     const char *class_name, bool admin, char ret[HOB_KEY_TEXT_MAX], hob_diag *diag)
{
    uint8_t hash[32];
    char text[HOB_KEY_TEXT_MAX];
    if (!hob_key_word_ok(label) || !hob_key_word_ok(tenant))
        return hob_fail(diag, HOB_EINVAL,
                        "label and tenant: 1 to 63 letters, digits or . _ @ + - are allowed");
    if (hob_class_find(class_name) < 0)
        return hob_fail(diag, HOB_EINVAL,
                        "class is \"%.20s\": interactive, standard or batch are allowed",
                        class_name);
    int code = hob_key_make(text, hash, diag);
    if (code == 0)
        code = add_key(path, label, tenant, class_name, admin, hash, diag);
    if (code == 0)
        memcpy(ret, text, sizeof text);
    mbedtls_platform_zeroize(text, sizeof text);
    return code;
}

int hob_key_file_add_first(const char *path, const char *text_path, hob_diag *diag)
{
    uint8_t hash[32];
    char line[HOB_KEY_TEXT_MAX + 1];
    int code = hob_key_make(line, hash, diag);
    if (code == 0) {
        strcat(line, "\n");
        code = hob_file_write(text_path, line, strlen(line), 0600, diag);
    }
    mbedtls_platform_zeroize(line, sizeof line);
    return code < 0 ? code : add_key(path, "first", "local", "interactive", true, hash, diag);
}

int hob_key_file_text_path(const char *path, char *ret, size_t size, hob_diag *diag)
{
    const char *slash = strrchr(path, '/');
    const int n = snprintf(ret, size, "%.*sapi_key", slash ? (int)(slash - path) + 1 : 0, path);
    return n > 0 && (size_t)n < size ? 0 : hob_fail(diag, HOB_ELIMIT, "%.100s: too long", path);
}
