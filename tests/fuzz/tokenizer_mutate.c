/* SPDX-License-Identifier: Apache-2.0
 *
 * What gguf_mutate.c does to the parser, done to the tokenizer: the synthetic files are a vocabulary
 * of bytes and a few merges, one of SentencePiece and one of WordPiece; the real one (HOB_TEST_MODEL or the argument) gets 200 changes a
 * round, because opening 49,152 tokens takes its time under a sanitizer. `make fuzz-gguf` runs it.
 */
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/tokenizer_walk.h"
#include "tests/support/vocabulary.h"

int main(int argc, char **argv)
{
    mk m = {0};
    mk_llama(&m, MK_GOOD, false);
    bool ok = mutate_small(&m, walk_vocabulary);
    mk_free(&m);
    const texts_vocabulary texts[] = {spm_vocabulary(), wordpiece_vocabulary()};
    for (int i = 0; i < 2; i++) {
        mk_texts_vocabulary(&m, &texts[i]);
        ok = mutate_small(&m, walk_vocabulary) && ok;
        mk_free(&m);
    }
    mutate_real(argc > 1 ? argv[1] : getenv("HOB_TEST_MODEL"), 200, walk_vocabulary);
    return ok ? 0 : 1;
}
