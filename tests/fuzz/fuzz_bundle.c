/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over bundles. The input as it is: only what the key's owner has signed is opened. The same as a manifest
 * with files behind it (the first two bytes say how long the manifest is), signed: whatever the owner of a key signs, what is
 * accepted names no path, and its files follow one another to the bundle's end. */
#include "tests/fuzz/check.h"
#include "tests/support/bundle_maker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_promises(const hob_bundle *b, size_t bytes)
{
    uint64_t at = b->head_bytes;
    CHECK(hob_bundle_version_ok(b->version) && b->bytes == bytes && b->count > 0 &&
          b->count <= HOB_BUNDLE_FILES_MAX);
    for (uint32_t i = 0; i < b->count; i++) {
        const hob_bundle_file *f = &b->files[i];
        hob_bundle_kind kind;
        CHECK(f->offset == at && f->bytes > 0 && hob_bundle_name_ok(f->name));
        CHECK(!strchr(f->name, '/') && !strstr(f->name, "..") && f->name[0] != '.');
        CHECK(hob_bundle_kind_of(f->name, &kind) && kind == f->kind && kind < HOB_BUNDLE_KINDS);
        for (uint32_t j = 0; j < i; j++)
            CHECK(strcmp(f->name, b->files[j].name) != 0);
        at += f->bytes;
    }
    CHECK(at == bytes);
}

/* Whether it was opened. */
static bool open_it(hob_bundle_key *key, const void *data, size_t bytes)
{
    hob_bundle b;
    hob_diag diag = {""};
    const int code = hob_bundle_open_fd(bm_file(data, bytes), false, key, &b, &diag);
    if (code < 0) {
        CHECK(diag.text[0]);
        return false;
    }
    check_promises(&b, bytes);
    const int checked = hob_bundle_check(&b, &diag);
    CHECK(checked == 0 || checked == HOB_EDIGEST);
    hob_bundle_close(&b);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static hob_bundle_key key;
    static bool has_key;
    if (!has_key)
        key = bm_key(bm_private);
    has_key = true;
    (void)open_it(&key, data, bytes);
    if (bytes < 2)
        return 0;
    const size_t wanted = data[0] | (size_t)data[1] << 8, left = bytes - 2,
                 manifest = wanted < left ? wanted : left;
    size_t len;
    uint8_t *c = bm_container(&key, data + 2, manifest, data + 2 + manifest, left - manifest, &len);
    (void)open_it(&key, c, len);
    free(c);
    return 0;
}
