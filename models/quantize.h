/* SPDX-License-Identifier: Apache-2.0
 *
 * Floats to the element types in which a model is written. */
#ifndef HOB_MODELS_QUANTIZE_H
#define HOB_MODELS_QUANTIZE_H

#include "hal/hal.h"

/* Whether there is a conversion to this type: F32, F16 and Q8_0. */
bool hob_quantizes_to(hob_type type);

/* Writes the count weights at src, a multiple of the type's block_len, as count / block_len * block_bytes bytes to dst, which
 * needs no alignment. F16 is rounded to nearest even. A block of Q8_0 has d = max |w| / 127, rounded to f16 after the codes
 * round(w / d), halves away from zero, were taken with it: the GGUF project's reference, bit for bit.
 * Returns count, or the index of the first weight that cannot be written: not finite, or too large for an f16. Thread: any. */
HOB_MUST_CHECK size_t hob_quantize(hob_type type, const float *src, size_t count, void *dst);

#endif
