/* SPDX-License-Identifier: Apache-2.0
 *
 * SipHash-2-4. See hash.h. */
#include "models/hash.h"

#include <string.h>
#include <sys/random.h>

#include "hal/base.h"

void hob_hash_secret(uint64_t ret[2])
{
    if (getrandom(ret, 2 * sizeof *ret, GRND_NONBLOCK) != (ssize_t)(2 * sizeof *ret)) {
        ret[0] = hob_now_us();
        ret[1] = (uint64_t)(uintptr_t)ret;
    }
}

#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = ROTL(v[1], 13) ^ v[0];
    v[0] = ROTL(v[0], 32);
    v[2] += v[3];
    v[3] = ROTL(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = ROTL(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = ROTL(v[1], 17) ^ v[2];
    v[2] = ROTL(v[2], 32);
}

uint64_t hob_hash(const uint64_t secret[2], const char *data, size_t len)
{
    uint64_t v[4] = {secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du,
                     secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u};
    size_t at = 0;
    for (;; at += 8) {
        const size_t left = len - at;
        uint64_t word = 0;
        memcpy(&word, data + at, left < 8 ? left : 8);
        if (left < 8)
            word |= (uint64_t)len << 56;
        v[3] ^= word;
        sip_round(v);
        sip_round(v);
        v[0] ^= word;
        if (left < 8)
            break;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
