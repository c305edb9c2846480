/* SPDX-License-Identifier: Apache-2.0
 *
 * Making bundles. See container.h. Files are read twice: summed for the manifest, which comes first, then copied, and summed
 * again, since somebody may write to one of them meanwhile. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bundle/private.h"
#include "daemon/conf/file.h"
#include "daemon/engine/protocol.h"

typedef struct input {
    const char *path, *name; /* name: the path's last part */
    hob_bundle_kind kind;
    int fd;
    uint64_t bytes;
    uint8_t sha256[HOB_DIGEST_BYTES];
} input;

/* Kinds in their order, names in theirs. */
static int by_place(const void *a, const void *b)
{
    const input *x = a, *y = b;
    return x->kind != y->kind ? (x->kind > y->kind) - (x->kind < y->kind)
                              : strcmp(x->name, y->name);
}

/* A file that is called what it is not would only be noticed where it is installed. */
static bool begins_well(const input *in)
{
    static const struct {
        const char *end, *start;
        size_t len;
    } starts[] = {{".deb", "!<arch>\n", 8},
                  {".rpm", "\xed\xab\xee\xdb", 4},
                  {".gguf", "GGUF", 4},
                  {".db", "SQLite format 3", 16}};
    const char *dot = strrchr(in->name, '.');
    char got[16];
    const ssize_t n = pread(in->fd, got, sizeof got, 0);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strcmp(dot, starts[i].end) == 0)
            return n >= (ssize_t)starts[i].len && memcmp(got, starts[i].start, starts[i].len) == 0;
    return false;
}

static int open_input(input *in, hob_diag *diag)
{
    struct stat st;
    const char *slash = strrchr(in->path, '/');
    in->name = slash ? slash + 1 : in->path;
    if (!hob_bundle_name_ok(in->name))
        return hob_fail(diag, HOB_EINVAL,
                        "%.100s: a name of 1 to %d letters, digits or . _ + ~ @ - is allowed",
                        in->path, HOB_BUNDLE_NAME_MAX);
    if (!hob_bundle_kind_of(in->name, &in->kind))
        return hob_fail(diag, HOB_EINVAL,
                        "%.100s: allowed are packages (.deb, .rpm), models (.gguf) and copies of a "
                        "store (.db)",
                        in->path);
    in->fd = open(in->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (in->fd < 0)
        return hob_fail(diag, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%.150s: %s", in->path,
                        strerror(errno));
    if (fstat(in->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return hob_fail(diag, HOB_EIO, "%.150s: not a regular file", in->path);
    if (st.st_size < 1 || (uint64_t)st.st_size > HOB_BUNDLE_FILE_BYTES_MAX)
        return hob_fail(diag, HOB_EINVAL, "%.150s: %lld bytes, allowed are 1 to 16 TiB", in->path,
                        (long long)st.st_size);
    in->bytes = (uint64_t)st.st_size;
    return begins_well(in)
               ? 0
               : hob_fail(diag, HOB_EFORMAT, "%.150s: it is not what its name says", in->path);
}

/* The caller frees *ret. */
static int write_manifest(const input *inputs, uint32_t count, const char *version, char **ret,
                          hob_diag *diag)
{
    json_t *files = json_array(), *root;
    char text[HOB_DIGEST_TEXT];
    for (uint32_t i = 0; i < count; i++) {
        hob_digest_text(inputs[i].sha256, text);
        json_array_append_new(files, json_pack("{s:s,s:s,s:I,s:s}", "name", inputs[i].name, "kind",
                                               hob_bundle_kind_name(inputs[i].kind), "bytes",
                                               (json_int_t)inputs[i].bytes, "sha256", text));
    }
    root = json_pack("{s:s,s:o}", "version", version, "files", files);
    *ret = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!*ret)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the manifest");
    /* What cannot be read must not be written: the reader's own rules decide. */
    hob_bundle b;
    hob_diag why = {""};
    const int code = hob_bundle_parse_manifest(*ret, strlen(*ret), &b, &why);
    if (code == 0)
        hob_bundle_close(&b);
    return code < 0 ? hob_fail(diag, HOB_EINVAL, "%s", why.text) : 0;
}

static int write_head(int out, const char *manifest, hob_bundle_key *key, hob_diag *diag)
{
    const size_t len = strlen(manifest), signed_bytes = HOB_BUNDLE_START_BYTES + len;
    uint8_t *head = malloc(signed_bytes + HOB_BUNDLE_SIGNATURE_BYTES);
    if (!head)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the manifest");
    memcpy(head, hob_bundle_magic, sizeof hob_bundle_magic);
    hob_put_u32(head + 8, HOB_BUNDLE_FORMAT);
    hob_put_u32(head + 12, (uint32_t)len);
    memcpy(head + 16, key->id, sizeof key->id);
    memcpy(head + HOB_BUNDLE_START_BYTES, manifest, len);
    int code = hob_bundle_sign(key, head, signed_bytes, head + signed_bytes, diag);
    if (code == 0)
        code = hob_bundle_write_all(out, head, signed_bytes + HOB_BUNDLE_SIGNATURE_BYTES, diag);
    free(head);
    return code;
}

static int write_file(const input *in, int out, hob_bundle_progress *progress, void *user,
                      hob_diag *diag)
{
    uint8_t digest[HOB_DIGEST_BYTES];
    const hob_bundle_pass p = {
        .from = in->fd, .bytes = in->bytes, .to = out, .progress = progress, .user = user};
    const int code = hob_bundle_run_pass(&p, digest, diag);
    if (code < 0)
        return code;
    return memcmp(digest, in->sha256, sizeof digest) == 0
               ? 0
               : hob_fail(diag, HOB_EDIGEST, "%.150s: it changed while it was read", in->path);
}

static int write_out(const char *path, const input *inputs, uint32_t count, const char *manifest,
                     hob_bundle_key *key, hob_bundle_progress *progress, void *user, hob_diag *diag)
{
    char made[PATH_MAX];
    const int len = snprintf(made, sizeof made, "%s.XXXXXX", path);
    if (len < 0 || (size_t)len >= sizeof made)
        return hob_fail(diag, HOB_EINVAL, "%.100s: %s", path, strerror(ENAMETOOLONG));
    const int out = mkostemp(made, O_CLOEXEC);
    if (out < 0)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", made, strerror(errno));
    int code = write_head(out, manifest, key, diag);
    for (uint32_t i = 0; i < count && code == 0; i++)
        code = write_file(&inputs[i], out, progress, user, diag);
    if (code == 0 && (fchmod(out, 0644) != 0 || fsync(out) != 0 || rename(made, path) != 0))
        code = hob_fail(diag, errno == ENOSPC ? HOB_ENOSPC : HOB_EIO, "%.150s: %s", path,
                        strerror(errno));
    close(out);
    if (code < 0)
        (void)unlink(made);
    return code < 0 ? code : hob_sync_parent(path, diag);
}

int hob_bundle_make(const char *out, const char *version, char *const *paths, uint32_t count,
                    hob_bundle_key *key, hob_bundle_progress *progress, void *user, hob_diag *diag)
{
    char *manifest = NULL;
    int code = 0;
    uint32_t opened = 0;
    if (!hob_bundle_version_ok(version))
        return hob_fail(diag, HOB_EINVAL,
                        "version: got \"%.70s\", allowed are a digit, then letters, digits or "
                        ". + ~ -, %d in all",
                        version, HOB_BUNDLE_VERSION_MAX);
    if (count < 1 || count > HOB_BUNDLE_FILES_MAX)
        return hob_fail(diag, HOB_EINVAL, "got %u files, allowed are 1 to %d", count,
                        HOB_BUNDLE_FILES_MAX);
    input *inputs = calloc(count, sizeof *inputs);
    if (!inputs)
        return hob_fail(diag, HOB_ENOMEM, "no memory for %u files", count);
    for (; opened < count && code == 0; opened++) {
        inputs[opened] = (input){.path = paths[opened], .fd = -1};
        code = open_input(&inputs[opened], diag);
    }
    for (uint32_t i = 0; i < count && code == 0; i++) {
        const hob_bundle_pass p = {.from = inputs[i].fd, .bytes = inputs[i].bytes, .to = -1};
        code = hob_bundle_run_pass(&p, inputs[i].sha256, diag);
    }
    if (code == 0) {
        qsort(inputs, count, sizeof *inputs, by_place);
        code = write_manifest(inputs, count, version, &manifest, diag);
    }
    if (code == 0)
        code = write_out(out, inputs, count, manifest, key, progress, user, diag);
    for (uint32_t i = 0; i < opened; i++)
        if (inputs[i].fd >= 0)
            close(inputs[i].fd);
    free(inputs);
    free(manifest);
    return code;
}
