/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 by the processor's own instructions, which are several times as fast as portable code: a model is checked against
 * its digest each time it is loaded. models/digest.h makes digests of it. */
#ifndef HOB_HAL_CPU_SHA256_H
#define HOB_HAL_CPU_SHA256_H

#include "hal/base.h"

/* The compression function of FIPS 180-4, section 6.2.2, over blocks of 64 bytes; state: H0 to H7. Thread: any. */
typedef void hob_sha256_compress(uint32_t state[8], const uint8_t *data, size_t blocks);

/* What this processor has; NULL: no such instructions, or HOB_CPU=scalar. Thread: any. */
hob_sha256_compress *hob_cpu_sha256(void);

hob_sha256_compress hob_cpu_sha256_shani;

#endif
