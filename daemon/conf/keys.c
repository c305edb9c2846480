/* SPDX-License-Identifier: Apache-2.0
 *
 * API keys: the file of hashes, the table, the search in constant time. A plain SHA-256 is enough because a key has 256
 * random bits: there is nothing to guess that a slow hash would protect. See keys.h. */
#include "daemon/conf/keys.h"

#include "daemon/conf/file.h"

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

static bool word_ok(const char *s, size_t size)
{
    size_t len = strlen(s);
    if (len == 0 || len >= size)
        return false;
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._@+-") == len;
}

/* Priority of a class, or -1. */
static int find_class(const char *s)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(s, classes[i]) == 0)
            return (int)i;
    return -1;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hash_from_hex(const char *s, uint8_t hash[32])
{
    if (strlen(s) != 64)
        return false;
    for (size_t i = 0; i < 32; i++) {
        int high = hex_digit(s[2 * i]), low = hex_digit(s[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        hash[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* One line without its newline. Returns 1 for a key, 0 for an empty line or a comment. */
static int parse_line(char *line, const char *path, size_t number, hob_key *ret, hob_diag *diag)
{
    char *fields[5], *save = NULL;
    size_t count = 0;
    hob_key key = {0};
    line[strcspn(line, "#\r")] = 0;
    for (char *f = strtok_r(line, " \t", &save); f && count < 5; f = strtok_r(NULL, " \t", &save))
        fields[count++] = f;
    if (count == 0)
        return 0;
    if (count != 4)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: %s than the four fields: sha256-hex label tenant class", path,
                        number, count < 4 ? "fewer" : "more");
    if (!hash_from_hex(fields[0], key.hash))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: the hash is not 64 lower-case hexadecimal digits", path, number);
    if (!word_ok(fields[1], sizeof key.label))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: label: 1 to 63 letters, digits or . _ @ + - are allowed", path,
                        number);
    if (!word_ok(fields[2], sizeof key.tenant))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: tenant: 1 to 63 letters, digits or . _ @ + - are allowed", path,
                        number);
    const int priority = find_class(fields[3]);
    if (priority < 0)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s:%zu: class is \"%.20s\": interactive, standard or batch are allowed",
                        path, number, fields[3]);
    memcpy(key.label, fields[1], strlen(fields[1]) + 1);
    memcpy(key.tenant, fields[2], strlen(fields[2]) + 1);
    memcpy(key.class_name, fields[3], strlen(fields[3]) + 1);
    key.priority = (uint8_t)priority;
    *ret = key;
    return 1;
}

int hob_keys_load(const char *path, hob_keys *ret, hob_diag *diag)
{
    hob_keys keys = {0};
    char *text = NULL, *line;
    size_t len, capacity = 0, number = 1;
    uint32_t tenants = 0;
    int code = hob_file_read(path, FILE_MAX, &text, &len, diag);
    if (code < 0)
        return code == HOB_ENOENT ? HOB_EIO : code;
    if (memchr(text, 0, len)) {
        code = hob_fail(diag, HOB_EFORMAT, "%s: has a NUL byte: not a text file", path);
        goto fail;
    }
    for (line = text; line < text + len; number++) {
        char *end = line + strcspn(line, "\n");
        hob_key key;
        *end = 0;
        code = parse_line(line, path, number, &key, diag);
        if (code < 0)
            goto fail;
        if (code > 0) {
            for (size_t i = 0; i < keys.count; i++) {
                if (memcmp(keys.list[i].hash, key.hash, sizeof key.hash) == 0) {
                    code = hob_fail(diag, HOB_EFORMAT,
                                    "%s:%zu: this key is already in the file, labelled %s", path,
                                    number, keys.list[i].label);
                    goto fail;
                }
                if (strcmp(keys.list[i].tenant, key.tenant) == 0)
                    key.tenant_number = keys.list[i].tenant_number;
            }
            if (key.tenant_number == 0)
                key.tenant_number = ++tenants;
            if (keys.count == capacity) {
                hob_key *grown;
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
    hob_keys_free(&keys);
    return code;
}

void hob_keys_free(hob_keys *k)
{
    if (!k)
        return;
    free(k->list);
    *k = (hob_keys){0};
}

const hob_key *hob_keys_find_label(const hob_keys *k, const char *label)
{
    for (size_t i = 0; i < k->count; i++)
        if (strcmp(k->list[i].label, label) == 0)
            return &k->list[i];
    return NULL;
}

const hob_key *hob_keys_find(const hob_keys *k, const char *text, size_t len)
{
    uint8_t hash[32];
    size_t found = 0; /* index + 1 */
    if (mbedtls_sha256((const uint8_t *)text, len, hash, 0) != 0)
        return NULL;
    for (size_t i = 0; i < k->count; i++) {
        uint32_t difference = 0;
        for (size_t j = 0; j < sizeof hash; j++)
            difference |= (uint32_t)(k->list[i].hash[j] ^ hash[j]);
        /* All ones when equal, without a branch: the time tells nothing about where, or whether, it matched. */
        size_t equal = (size_t)0 - (size_t)((difference - 1u) >> 31);
        found |= equal & (i + 1);
    }
    mbedtls_platform_zeroize(hash, sizeof hash);
    return found ? &k->list[found - 1] : NULL;
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

int hob_keys_create(const char *path, const char *label, const char *tenant, const char *class_name,
                    char ret[HOB_KEY_TEXT_MAX], hob_diag *diag)
{
    uint8_t random[KEY_BYTES], hash[32];
    char text[HOB_KEY_TEXT_MAX], line[256];
    hob_key limits;
    int code, n;
    _Static_assert(4 + KEY_DIGITS < HOB_KEY_TEXT_MAX, "a key's text and its NUL fit");
    if (!word_ok(label, sizeof limits.label) || !word_ok(tenant, sizeof limits.tenant))
        return hob_fail(diag, HOB_EINVAL,
                        "label and tenant: 1 to 63 letters, digits or . _ @ + - are allowed");
    if (find_class(class_name) < 0)
        return hob_fail(diag, HOB_EINVAL,
                        "class is \"%.20s\": interactive, standard or batch are allowed",
                        class_name);
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return hob_fail(diag, HOB_EIO, "no random numbers from the system: %s", strerror(errno));
    key_text(random, text);
    if (mbedtls_sha256((const uint8_t *)text, strlen(text), hash, 0) != 0) {
        code = hob_fail(diag, HOB_EDEVICE, "SHA-256 failed");
        goto end;
    }
    line[0] = '\n';
    for (size_t i = 0; i < sizeof hash; i++)
        snprintf(line + 1 + 2 * i, 3, "%02x", (unsigned)hash[i]);
    n = snprintf(line + 65, sizeof line - 65, " %s %s %s\n", label, tenant, class_name);
    code = append_line(path, line, 65 + (size_t)n, diag);
    if (code == 0)
        memcpy(ret, text, sizeof text);
end:
    mbedtls_platform_zeroize(random, sizeof random);
    mbedtls_platform_zeroize(text, sizeof text);
    return code < 0 ? code : 0;
}
