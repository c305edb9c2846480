/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256. See digest.h. Padding and length are done here, since mbedTLS does not let its compression be replaced. */
#include "models/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BLOCK = 64,
    LENGTH_AT = 56, /* of the last block: the number of bits, big-endian */
    PIECE = 1 << 20,
    BESIDE_MAX = 4096 + HOB_DIGEST_TEXT, /* with a file's name */
};

void hob_digest_begin(hob_digest *d)
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    d->compress = hob_cpu_sha256();
    d->bytes = 0;
    memcpy(d->state, initial, sizeof initial);
    mbedtls_sha256_init(&d->sha);
    (void)mbedtls_sha256_starts(&d->sha, 0);
}

void hob_digest_add(hob_digest *d, const void *data, size_t len)
{
    const uint8_t *at = data;
    const size_t filled = d->bytes % BLOCK;
    if (!d->compress) {
        (void)mbedtls_sha256_update(&d->sha, at, len);
        return;
    }
    d->bytes += len;
    if (filled > 0) {
        const size_t n = len < BLOCK - filled ? len : BLOCK - filled;
        memcpy(d->block + filled, at, n);
        if (filled + n < BLOCK)
            return;
        d->compress(d->state, d->block, 1);
        at += n;
        len -= n;
    }
    if (len >= BLOCK)
        d->compress(d->state, at, len / BLOCK);
    memcpy(d->block, at + len / BLOCK * BLOCK, len % BLOCK);
}

void hob_digest_end(hob_digest *d, uint8_t ret[HOB_DIGEST_BYTES])
{
    size_t filled = d->bytes % BLOCK;
    if (!d->compress) {
        (void)mbedtls_sha256_finish(&d->sha, ret);
        mbedtls_sha256_free(&d->sha);
        return;
    }
    d->block[filled++] = 0x80;
    memset(d->block + filled, 0, BLOCK - filled);
    if (filled > LENGTH_AT) {
        d->compress(d->state, d->block, 1);
        memset(d->block, 0, BLOCK);
    }
    const uint64_t bits = __builtin_bswap64(d->bytes * 8);
    memcpy(d->block + LENGTH_AT, &bits, sizeof bits);
    d->compress(d->state, d->block, 1);
    for (int i = 0; i < 8; i++) {
        const uint32_t word = __builtin_bswap32(d->state[i]);
        memcpy(ret + 4 * i, &word, sizeof word);
    }
}

void hob_digest_text(const uint8_t digest[HOB_DIGEST_BYTES], char ret[HOB_DIGEST_TEXT])
{
    for (int i = 0; i < HOB_DIGEST_BYTES; i++)
        snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool hob_digest_parse(const char *text, size_t len, uint8_t ret[HOB_DIGEST_BYTES])
{
    uint8_t digest[HOB_DIGEST_BYTES];
    if (len != 2 * HOB_DIGEST_BYTES)
        return false;
    for (size_t i = 0; i < HOB_DIGEST_BYTES; i++) {
        const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (uint8_t)(16 * high + low);
    }
    memcpy(ret, digest, sizeof digest);
    return true;
}

int hob_digest_beside(const char *path, uint8_t ret[HOB_DIGEST_BYTES], hob_diag *diag)
{
    char name[PATH_MAX], text[BESIDE_MAX];
    const int len = snprintf(name, sizeof name, "%s.sha256", path);
    if (len < 0 || (size_t)len >= sizeof name) /* then no such file can be */
        return 0;
    /* O_NONBLOCK: a FIFO in the file's place must not hang the open. */
    const int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT
                   ? 0
                   : hob_fail(diag, HOB_EIO, "%.150s: cannot open: %s", name, strerror(errno));
    const ssize_t got = read(fd, text, sizeof text - 1);
    const int error = errno;
    close(fd);
    if (got < 0)
        return hob_fail(diag, HOB_EIO, "%.150s: cannot read: %s", name, strerror(error));
    text[got] = 0;
    return hob_digest_parse(text, strcspn(text, " \t\r\n"), ret)
               ? 1
               : hob_fail(diag, HOB_EFORMAT,
                          "%.150s: 64 hexadecimal digits are allowed, as sha256sum writes them",
                          name);
}

/* ---- a file, beside other work ---- */

struct hob_digest_job {
    pthread_t thread;
    int fd, error; /* of errno, once the thread has ended */
    atomic_bool dropped;
    uint8_t digest[HOB_DIGEST_BYTES];
};

static void *run(void *user)
{
    hob_digest_job *job = user;
    hob_digest d;
    uint8_t *piece = malloc(PIECE);
    off_t at = 0;
    ssize_t got = piece ? 1 : -1;
    if (!piece)
        errno = ENOMEM;
    hob_digest_begin(&d);
    while (got > 0 && !atomic_load_explicit(&job->dropped, memory_order_relaxed)) {
        got = pread(job->fd, piece, PIECE, at);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0) {
            hob_digest_add(&d, piece, (size_t)got);
            at += got;
        }
    }
    job->error = got < 0 ? errno : 0;
    hob_digest_end(&d, job->digest);
    free(piece);
    return NULL;
}

int hob_digest_start(int fd, hob_digest_job **ret, hob_diag *diag)
{
    hob_digest_job *job = calloc(1, sizeof *job);
    if (!job)
        return hob_fail(diag, HOB_ENOMEM, "no memory to sum a file");
    job->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (job->fd < 0) {
        free(job);
        return hob_fail(diag, HOB_EIO, "a file cannot be summed: %s", strerror(errno));
    }
    const int error = pthread_create(&job->thread, NULL, run, job);
    if (error != 0) {
        close(job->fd);
        free(job);
        return hob_fail(diag, HOB_ENOMEM, "no thread to sum a file: %s", strerror(error));
    }
    *ret = job;
    return 0;
}

int hob_digest_wait(hob_digest_job *job, uint8_t ret[HOB_DIGEST_BYTES], hob_diag *diag)
{
    pthread_join(job->thread, NULL);
    const int error = job->error;
    memcpy(ret, job->digest, sizeof job->digest);
    close(job->fd);
    free(job);
    return error == 0 ? 0 : hob_fail(diag, HOB_EIO, "a file cannot be summed: %s", strerror(error));
}

void hob_digest_drop(hob_digest_job *job)
{
    uint8_t unused[HOB_DIGEST_BYTES];
    if (!job)
        return;
    atomic_store_explicit(&job->dropped, true, memory_order_relaxed);
    (void)(hob_digest_wait(job, unused, NULL) < 0);
}
