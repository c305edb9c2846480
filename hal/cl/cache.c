/* SPDX-License-Identifier: Apache-2.0
 *
 * See cache.h. */
#include "hal/cl/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HASH = 32 };

int hob_cl_cache_path(const char *folder, const char *const *texts, size_t count, char *ret,
                      size_t size)
{
    uint8_t hash[HASH];
    mbedtls_sha256_context c;

    mbedtls_sha256_init(&c);
    int rc = mbedtls_sha256_starts(&c, 0);
    for (size_t i = 0; rc == 0 && i < count; i++) /* with their ends: no two lists look alike */
        rc = mbedtls_sha256_update(&c, (const uint8_t *)texts[i], strlen(texts[i]) + 1);
    if (rc == 0)
        rc = mbedtls_sha256_finish(&c, hash);
    mbedtls_sha256_free(&c);
    if (rc != 0 || strlen(folder) + 2 * HASH + sizeof "/.clbin.tmp" > size)
        return HOB_EINVAL;
    int n = snprintf(ret, size, "%s/", folder);
    for (int i = 0; i < HASH; i++)
        n += snprintf(ret + n, size - (size_t)n, "%02x", hash[i]);
    snprintf(ret + n, size - (size_t)n, ".clbin");
    return 0;
}

static bool read_all(int fd, uint8_t *to, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t n = read(fd, to, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        to += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool write_all(int fd, const uint8_t *from, size_t bytes)
{
    while (bytes > 0) {
        const ssize_t n = write(fd, from, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        from += n;
        bytes -= (size_t)n;
    }
    return true;
}

int hob_cl_cache_read(const char *path, void **ret, size_t *ret_bytes)
{
    uint8_t wanted[HASH], hash[HASH], *data = NULL;
    struct stat st;
    int rc = HOB_ENOENT;
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return HOB_ENOENT;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > HASH &&
        st.st_size <= HOB_CL_CACHE_BYTES_MAX) {
        const size_t bytes = (size_t)st.st_size - HASH;
        data = malloc(bytes);
        if (data && read_all(fd, wanted, HASH) && read_all(fd, data, bytes) &&
            mbedtls_sha256(data, bytes, hash, 0) == 0 && memcmp(hash, wanted, HASH) == 0) {
            *ret = data;
            *ret_bytes = bytes;
            data = NULL;
            rc = 0;
        }
    }
    free(data);
    close(fd);
    return rc;
}

void hob_cl_cache_write(const char *path, const void *data, size_t bytes)
{
    uint8_t hash[HASH];
    char temporary[4096];

    if (bytes == 0 || bytes > HOB_CL_CACHE_BYTES_MAX - HASH ||
        (size_t)snprintf(temporary, sizeof temporary, "%s.%d.tmp", path, (int)getpid()) >=
            sizeof temporary ||
        mbedtls_sha256(data, bytes, hash, 0) != 0)
        return;
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    const bool whole = write_all(fd, hash, HASH) && write_all(fd, data, bytes);
    if (close(fd) < 0 || !whole || rename(temporary, path) < 0)
        (void)unlink(temporary);
}
