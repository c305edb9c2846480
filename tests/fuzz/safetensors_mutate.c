/* SPDX-License-Identifier: Apache-2.0
 *
 * Every small damage to a safetensors file: each byte under three masks, and each truncation. It ends badly when a broken
 * promise (safetensors_walk.h) ends it, or when a truncated file is taken. With --seeds FOLDER it writes the seeds of
 * fuzz_safetensors (tests/fuzz/seeds/safetensors) instead. */
#include "tests/fuzz/mutate.h"
#include "tests/fuzz/safetensors_walk.h"
#include "tests/support/safetensors_maker.h"

static bool write_seeds(const char *folder, const mk *everything)
{
    static const struct {
        const char *name, *header;
        size_t data_bytes;
    } files[] = {
        {"empty", "{}", 0},
        {"padded", "{\"w\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]}}       ", 8},
        {"scalar", "{\"w\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8},
        {"escapes",
         "{\"\\u00e9\\\"\":{\"dtype\":\"F16\",\"shape\":[1,2,1],\"data_offsets\":[0,4]}}", 4},
    };
    char path[4096];
    snprintf(path, sizeof path, "%s/everything", folder);
    bool ok = mk_save(everything, path);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        mk m = {0};
        st_file(&m, files[i].header, files[i].data_bytes);
        snprintf(path, sizeof path, "%s/%s", folder, files[i].name);
        ok = mk_save(&m, path) && ok;
        mk_free(&m);
    }
    return ok;
}

int main(int argc, char **argv)
{
    mk m = {0};
    st_everything(&m);
    const bool ok = argc == 3 && strcmp(argv[1], "--seeds") == 0
                        ? write_seeds(argv[2], &m)
                        : mutate_small(&m, walk_safetensors);
    mk_free(&m);
    return !ok;
}
