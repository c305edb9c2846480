/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashes of strings that come from outside. Under a secret of one's own, nobody can choose strings that collide, so a
 * table stays fast whatever a model file holds. */
#ifndef HOB_MODELS_HASH_H
#define HOB_MODELS_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Draws a secret from the kernel. A boot without entropy yet gives a guessable one, which costs time at worst, not
 * safety. Thread: any. */
void hob_hash_secret(uint64_t ret[2]);
/* SipHash-2-4 (Aumasson and Bernstein, 2012). Thread: any. */
uint64_t hob_hash(const uint64_t secret[2], const char *data, size_t len);

#endif
