/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the safetensors reader (`make fuzz`). With replay.c it runs given inputs. */
#include "tests/fuzz/safetensors_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    (void)walk_safetensors(data, bytes);
    return 0;
}
