/* SPDX-License-Identifier: Apache-2.0
 *
 * Every small damage to a GGUF file, without a fuzzer's luck: each byte of a synthetic file under
 * three masks, each truncation of it, and 10,000 random changes of the header of the real model
 * named by HOB_TEST_MODEL (or the argument; skipped when there is none). Prints how often the
 * parser took the file and how often it refused. It ends badly when a sanitizer, a signal or a
 * broken promise (gguf_walk.h) ends it, or when a truncated file is taken.
 *
 * `make fuzz-gguf` builds and runs it under AddressSanitizer and UndefinedBehaviorSanitizer. With
 * --seeds FOLDER it writes the seeds of fuzz_gguf (tests/fuzz/seeds/gguf) instead. */
#include "tests/fuzz/mutate.h"

static bool write_seeds(const char *folder, const mk *everything)
{
    mk m[4] = {{0}, {0}, {0}, {0}};
    static const char *const names[] = {"empty_v2", "one_tensor", "keys_only", "vocabulary"};
    char path[4096];
    mk_header(&m[0], 2, 0, 0);
    mk_header(&m[1], 3, 1, 0);
    mk_tensor(&m[1], "a", MK_TYPE_Q4_0, 1, &(uint64_t){32}, 0);
    mk_pad(&m[1], 32);
    mk_zeros(&m[1], 18);
    mk_header(&m[2], 3, 0, 3);
    mk_key_u32(&m[2], "general.alignment", 16);
    mk_key_string(&m[2], "s", "text");
    mk_key_array(&m[2], "n", MK_ARRAY, 1);
    mk_u32(&m[2], MK_ARRAY);
    mk_u64(&m[2], 0);
    mk_llama(&m[3], MK_GOOD, false);
    snprintf(path, sizeof path, "%s/everything", folder);
    bool ok = mk_save(everything, path);
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        ok = mk_save(&m[i], path) && ok;
        mk_free(&m[i]);
    }
    return ok;
}

int main(int argc, char **argv)
{
    mk m = {0};
    mk_everything(&m);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) {
        const bool written = write_seeds(argv[2], &m);
        mk_free(&m);
        return !written;
    }
    const bool ok = mutate_small(&m, walk_bytes);
    mk_free(&m);
    mutate_real(argc > 1 ? argv[1] : getenv("HOB_TEST_MODEL"), 10000, walk_bytes);
    return ok ? 0 : 1;
}
