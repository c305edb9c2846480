/* SPDX-License-Identifier: Apache-2.0
 *
 * Small files read and written whole. See file.h. */
#include "daemon/conf/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int hob_file_read(const char *path, size_t max, char **ret, size_t *ret_len, hob_diag *diag)
{
    int code = HOB_EIO;
    char *data = NULL;
    size_t len = 0, capacity = 4096;
    /* O_NONBLOCK: a FIFO put in a file's place must not hang the daemon. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd < 0)
        return hob_fail(diag, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%s: %s", path,
                        strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        hob_fail(diag, code, "%s: not a regular file", path);
        goto fail;
    }
    for (;;) {
        if (!data || capacity - len < 2) {
            char *grown;
            if (data && capacity > SIZE_MAX / 2) {
                code = hob_fail(diag, HOB_ENOMEM, "%s: out of memory", path);
                goto fail;
            }
            capacity = data ? capacity * 2 : capacity;
            grown = realloc(data, capacity);
            if (!grown) {
                code = hob_fail(diag, HOB_ENOMEM, "%s: out of memory at %zu bytes", path, capacity);
                goto fail;
            }
            data = grown;
        }
        ssize_t n = read(fd, data + len, capacity - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            hob_fail(diag, code, "%s: %s", path, strerror(errno));
            goto fail;
        }
        if (n == 0)
            break;
        len += (size_t)n;
        if (len > max) {
            code = hob_fail(diag, HOB_ELIMIT, "%s: more than the %zu bytes allowed", path, max);
            goto fail;
        }
    }
    close(fd);
    data[len] = 0;
    *ret = data;
    *ret_len = len;
    return 0;
fail:
    free(data);
    close(fd);
    return code;
}

int hob_sync_parent(const char *path, hob_diag *diag)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t len = slash ? (size_t)(slash - path) : 0;
    if (len >= sizeof dir)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", path, strerror(ENAMETOOLONG));
    memcpy(dir, path, len);
    dir[len] = 0;
    const int fd = open(len ? dir : slash ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int code =
        fd >= 0 && fsync(fd) == 0 ? 0 : hob_fail(diag, HOB_EIO, "%.150s: %s", dir, strerror(errno));
    if (fd >= 0)
        close(fd);
    return code;
}

bool hob_write_all(int fd, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = write(fd, (const char *)data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

int hob_file_write(const char *path, const void *data, size_t len, mode_t mode, hob_diag *diag)
{
    char temporary[PATH_MAX];
    int fd, n = snprintf(temporary, sizeof temporary, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof temporary)
        return hob_fail(diag, HOB_EINVAL, "%s: the path is longer than %zu bytes", path,
                        sizeof temporary - 8);
    fd =
        mkostemp(temporary,
                 O_CLOEXEC); /* created 0600: a secret is never readable under the temporary name */
    if (fd < 0)
        return hob_fail(diag, HOB_EIO, "%s: %s", temporary, strerror(errno));
    if (!hob_write_all(fd, data, len) || fchmod(fd, mode) != 0 || fsync(fd) != 0)
        goto fail;
    n = close(fd);
    fd = -1;
    if (n != 0 || rename(temporary, path) != 0)
        goto fail;
    (void)(hob_sync_parent(path, NULL) < 0); /* a file system that cannot sync one is no error */
    return 0;
fail:
    hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
    unlink(temporary);
    return HOB_EIO;
}

int hob_path_join(char *ret, size_t size, const char *a, const char *b, hob_diag *diag)
{
    size_t first = b[0] == '/' || !a[0] ? 0 : strlen(a), second = strlen(b), total;
    if (!hob_add_size(first, second, &total) || !hob_add_size(total, 2, &total) || total > size)
        return hob_fail(diag, HOB_ELIMIT, "the path %.100s is too long: at most %zu bytes", b,
                        size - 1);
    if (first) {
        memmove(ret, a, first);
        if (ret[first - 1] != '/')
            ret[first++] = '/';
    }
    memmove(ret + first, b, second + 1);
    return 0;
}
