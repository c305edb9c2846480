// SPDX-License-Identifier: Apache-2.0
//
// llama.cpp's token ids, for make_vocabulary_reference.py, which compiles this against the libraries that
// tests/bench/build_peer.sh leaves: llama_ids VOCABULARY.gguf [special]. Standard input: texts, each a 32-bit length and as
// many bytes. Standard output: for each a line of its ids, with control tokens parsed if "special".
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "llama.h"

int main(int argc, char **argv)
{
    const bool special = argc > 2 && !strcmp(argv[2], "special");
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    llama_model *model = argc > 1 ? llama_model_load_from_file(argv[1], params) : nullptr;
    if (!model) {
        fprintf(stderr, "llama_ids: cannot load the vocabulary\n");
        return 1;
    }
    const llama_vocab *vocab = llama_model_get_vocab(model);
    uint32_t len;
    while (fread(&len, sizeof len, 1, stdin) == 1) {
        std::string text(len, 0);
        if (fread(&text[0], 1, len, stdin) != len)
            return 1;
        std::vector<llama_token> ids(len + 16);
        const int n = llama_tokenize(vocab, text.data(), (int)len, ids.data(), (int)ids.size(), false, special);
        for (int i = 0; i < n; i++)
            printf("%d ", ids[i]);
        printf("\n");
    }
    return 0;
}
