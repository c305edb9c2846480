/* SPDX-License-Identifier: Apache-2.0
 *
 * What gguf_mutate.c does to the parser, done to the tokenizer: the synthetic file is a vocabulary
 * of bytes and a few merges; the real one (HOB_TEST_MODEL or the argument) gets 200 changes a
 * round, because opening 49,152 tokens takes its time under a sanitizer. `make fuzz-gguf` runs it.
 */
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/tokenizer_walk.h"

int main(int argc, char **argv)
{
    mk m = {0};
    mk_llama(&m, MK_GOOD, false);
    const bool ok = mutate_small(&m, walk_vocabulary);
    mk_free(&m);
    mutate_real(argc > 1 ? argv[1] : getenv("HOB_TEST_MODEL"), 200, walk_vocabulary);
    return ok ? 0 : 1;
}
