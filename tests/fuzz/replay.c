/* SPDX-License-Identifier: Apache-2.0
 *
 * main for a fuzz target without a fuzzer: feeds it each file named, and each file of each folder
 * named, in memory of exactly the file's size so that a sanitizer sees the first byte past it.
 * Fails when it was given nothing. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int replay(const char *path)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode)) {
        fprintf(stderr, "%s: cannot read\n", path);
        if (f)
            fclose(f);
        return -1;
    }
    const size_t bytes = (size_t)st.st_size;
    uint8_t *data = malloc(bytes ? bytes : 1);
    const int ok = data && fread(data, 1, bytes, f) == bytes;
    fclose(f);
    if (ok)
        LLVMFuzzerTestOneInput(data, bytes);
    else
        fprintf(stderr, "%s: cannot read %zu bytes\n", path, bytes);
    free(data);
    return ok ? 0 : -1;
}

int main(int argc, char **argv)
{
    unsigned long replayed = 0, failed = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (!dir) {
            failed += replay(argv[i]) < 0;
            replayed++;
            continue;
        }
        for (struct dirent *e; (e = readdir(dir));) {
            char path[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            failed += replay(path) < 0;
            replayed++;
        }
        closedir(dir);
    }
    printf("replayed %lu inputs, %lu unreadable\n", replayed, failed);
    return replayed == 0 || failed;
}
