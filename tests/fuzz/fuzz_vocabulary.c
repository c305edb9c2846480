/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over opening a tokenizer from any file (`make fuzz`); fuzz_tokenizer feeds a
 * good one any text. With replay.c it runs given inputs. */
#include "tests/fuzz/tokenizer_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    (void)walk_vocabulary(data, bytes);
    return 0;
}
