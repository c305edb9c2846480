/* SPDX-License-Identifier: Apache-2.0
 *
 * Golden inputs for a device: small, fixed, and hard enough to show a wrong lane, sign, order or rounding. The same
 * operations run on the device and on the CPU; whatever differs by more than rounding is named. */
#ifndef HOB_HAL_GOLDEN_H
#define HOB_HAL_GOLDEN_H

#include "hal/hal.h"

/* The operations without a weight type of their own: rope, KV cache, attention, norms, gates, experts, what encoders
 * use, candidates.
 * HOB_EDEVICE names what disagrees. Enqueues steps of its own. Thread: step. */
HOB_MUST_CHECK int hob_golden_operations(hob_device *dev, hob_diag *diag);
/* Embedding rows and linears of that type, for few and many rows. */
HOB_MUST_CHECK int hob_golden_type(hob_device *dev, hob_type type, hob_diag *diag);

#endif
