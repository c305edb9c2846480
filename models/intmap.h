/* SPDX-License-Identifier: Apache-2.0
 *
 * A small open-addressing map from 64-bit keys to 32-bit values, linear probing, at most half full.
 * Used where a lookup happens for every byte or token: merge ranks, the trie of special tokens,
 * token counts. UINT32_MAX marks an empty slot and is therefore no value. Zero-initialize; nothing
 * is allocated until the first insert. Where a file chooses the keys, set `secret` before it, so
 * that none can be chosen to collide. Thread: whoever owns it. */
#ifndef HOB_MODELS_INTMAP_H
#define HOB_MODELS_INTMAP_H

#include "hal/base.h"

#include <stdlib.h>

#define HOB_INTMAP_NONE UINT32_MAX

typedef struct hob_intmap_slot {
    uint64_t key;
    uint32_t value;
} hob_intmap_slot;

typedef struct hob_intmap {
    hob_intmap_slot *slots;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    uint64_t secret[2];
} hob_intmap;

/* A folded 64 by 64 bit product, twice, of the key and the secret. */
static inline size_t hob_intmap_mix(const uint64_t secret[2], uint64_t key)
{
    __uint128_t p =
        (__uint128_t)(key ^ secret[0] ^ 0x9E3779B97F4A7C15u) * (secret[1] ^ 0xBF58476D1CE4E5B9u);
    p = (__uint128_t)((uint64_t)p ^ (uint64_t)(p >> 64)) * 0x94D049BB133111EBu;
    return (size_t)((uint64_t)p ^ (uint64_t)(p >> 64));
}

/* The slot that holds key, or the empty slot where it belongs. capacity must not be 0. */
static inline hob_intmap_slot *hob_intmap_slot_of(const hob_intmap *m, uint64_t key)
{
    size_t i = hob_intmap_mix(m->secret, key) & (m->capacity - 1);
    while (m->slots[i].value != HOB_INTMAP_NONE && m->slots[i].key != key)
        i = (i + 1) & (m->capacity - 1);
    return &m->slots[i];
}

static inline uint32_t hob_intmap_find(const hob_intmap *m, uint64_t key)
{
    return m->capacity ? hob_intmap_slot_of(m, key)->value : HOB_INTMAP_NONE;
}

/* Room for `count` entries in all, so that as many inserts cannot fail. */
static inline HOB_MUST_CHECK int hob_intmap_reserve(hob_intmap *m, size_t count)
{
    size_t capacity = 16;
    while (capacity / 2 < count) {
        if (capacity > SIZE_MAX / 4)
            return HOB_ENOMEM;
        capacity *= 2;
    }
    if (capacity <= m->capacity)
        return 0;
    hob_intmap next = {
        .capacity = capacity, .count = m->count, .secret = {m->secret[0], m->secret[1]}};
    next.slots = calloc(capacity, sizeof *next.slots);
    if (!next.slots)
        return HOB_ENOMEM;
    for (size_t i = 0; i < capacity; i++)
        next.slots[i].value = HOB_INTMAP_NONE;
    for (size_t i = 0; i < m->capacity; i++)
        if (m->slots[i].value != HOB_INTMAP_NONE)
            *hob_intmap_slot_of(&next, m->slots[i].key) = m->slots[i];
    free(m->slots);
    *m = next;
    return 0;
}

/* Sets key to value (not HOB_INTMAP_NONE), replacing what was there. */
static inline HOB_MUST_CHECK int hob_intmap_set(hob_intmap *m, uint64_t key, uint32_t value)
{
    int r = hob_intmap_reserve(m, m->count + 1);
    if (r < 0)
        return r;
    hob_intmap_slot *slot = hob_intmap_slot_of(m, key);
    if (slot->value == HOB_INTMAP_NONE)
        m->count++;
    *slot = (hob_intmap_slot){.key = key, .value = value};
    return 0;
}

static inline void hob_intmap_free(hob_intmap *m)
{
    free(m->slots);
    *m = (hob_intmap){0};
}

#endif
