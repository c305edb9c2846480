/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the GGUF parser. Alone it is linked with replay.c. To fuzz:
 *
 *   clang -std=gnu11 -g -O1 -D_GNU_SOURCE -I. -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_gguf.c \
 *       hal/base.c models/gguf.c models/gguf_keys.c -lm -o build/fuzz_gguf
 *   build/fuzz_gguf -max_len=16384 build/corpus tests/fuzz/seeds/gguf */
#include "tests/fuzz/gguf_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    (void)walk_bytes(data, bytes);
    return 0;
}
