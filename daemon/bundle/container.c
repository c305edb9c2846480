/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading bundles. See container.h. */
#include "daemon/bundle/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/bundle/private.h"
#include "daemon/conf/file.h"
#include "daemon/engine/protocol.h"
#include "models/strict_json.h"

const char hob_bundle_magic[8] = {'h', 'o', 'b', 'b', 'u', 'n', 'd', 'l'};

static const struct {
    const char *name, *folder;
} kinds[HOB_BUNDLE_KINDS] = {
    [HOB_BUNDLE_PACKAGE] = {"package", "packages"},
    [HOB_BUNDLE_MODEL] = {"model", "models"},
    [HOB_BUNDLE_COLLECTION] = {"collection", "collections"},
};

const char *hob_bundle_kind_name(hob_bundle_kind kind)
{
    return kinds[kind].name;
}

const char *hob_bundle_kind_folder(hob_bundle_kind kind)
{
    return kinds[kind].folder;
}

bool hob_bundle_kind_of(const char *name, hob_bundle_kind *ret)
{
    static const struct {
        const char *end;
        hob_bundle_kind kind;
    } ends[] = {{".deb", HOB_BUNDLE_PACKAGE},
                {".rpm", HOB_BUNDLE_PACKAGE},
                {".gguf", HOB_BUNDLE_MODEL},
                {".db", HOB_BUNDLE_COLLECTION}};
    const size_t len = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const size_t n = strlen(ends[i].end);
        if (len > n && strcmp(name + len - n, ends[i].end) == 0) {
            *ret = ends[i].kind;
            return true;
        }
    }
    return false;
}

bool hob_bundle_name_ok(const char *name)
{
    static const char alphanumeric[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+~@-";
    const size_t len = strlen(name);
    return len > 0 && len <= HOB_BUNDLE_NAME_MAX && strspn(name, alphanumeric) == len &&
           !strchr("._+~@-", name[0]) && !strstr(name, "..");
}

/* ---- the manifest ---- */

static int check_members(const char *what, json_t *o, const char *known, hob_diag *diag)
{
    const char *key;
    json_t *value;
    json_object_foreach(o, key, value)
    {
        const char *at = strstr(known, key); /* known: " a b c " */
        if (!key[0] || strchr(key, ' ') || !at || at[-1] != ' ' || at[strlen(key)] != ' ')
            return hob_fail(diag, HOB_EFORMAT, "%s: got a member \"%.40s\", allowed are%s", what,
                            key, known);
    }
    return 0;
}

static int parse_file(const json_t *entry, uint32_t i, uint64_t *offset, hob_bundle_file *ret,
                      hob_diag *diag)
{
    char what[32];
    const char *name, *kind, *sum;
    hob_bundle_file f;
    snprintf(what, sizeof what, "manifest: file %u", i + 1);
    int rc = check_members(what, (json_t *)(uintptr_t)entry, " name kind bytes sha256 ", diag);
    if (rc < 0 ||
        (rc = hob_strict_required(hob_strict_string(what, entry, "name", &name, diag))) < 0 ||
        (rc = hob_strict_required(hob_strict_string(what, entry, "kind", &kind, diag))) < 0 ||
        (rc = hob_strict_required(hob_strict_string(what, entry, "sha256", &sum, diag))) < 0 ||
        (rc = hob_strict_required(hob_strict_u64(what, entry, "bytes", 1, HOB_BUNDLE_FILE_BYTES_MAX,
                                                 &f.bytes, diag))) < 0)
        return rc;
    if (!hob_bundle_name_ok(name))
        return hob_fail(
            diag, HOB_EFORMAT,
            "%s: name is \"%.60s\": 1 to %d letters, digits or . _ + ~ @ - are allowed, "
            "no path",
            what, name, HOB_BUNDLE_NAME_MAX);
    if (!hob_bundle_kind_of(name, &f.kind) || strcmp(kind, kinds[f.kind].name) != 0)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s: \"%.60s\" of kind \"%.20s\": allowed are packages "
                        "(.deb, .rpm), models (.gguf), collections (.db)",
                        what, name, kind);
    if (!hob_digest_parse(sum, strlen(sum), f.sha256))
        return hob_fail(diag, HOB_EFORMAT, "%s: sha256: 64 hexadecimal digits are allowed", what);
    snprintf(f.name, sizeof f.name, "%s", name);
    f.offset = *offset;
    *offset += f.bytes; /* FILES_MAX * FILE_BYTES_MAX fits by far */
    *ret = f;
    return 0;
}

static int parse_files(json_t *list, hob_bundle *b, hob_diag *diag)
{
    uint64_t offset = 0;
    const size_t count = json_array_size(list);
    if (count < 1 || count > HOB_BUNDLE_FILES_MAX)
        return hob_fail(diag, HOB_EFORMAT, "manifest: %zu files, allowed are 1 to %d", count,
                        HOB_BUNDLE_FILES_MAX);
    b->files = calloc(count, sizeof *b->files);
    if (!b->files)
        return hob_fail(diag, HOB_ENOMEM, "manifest: no memory for %zu files", count);
    for (uint32_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        const int rc = json_is_object(entry)
                           ? parse_file(entry, i, &offset, &b->files[i], diag)
                           : hob_fail(diag, HOB_EFORMAT, "manifest: file %u is no object", i + 1);
        if (rc < 0)
            return rc;
        for (uint32_t j = 0; j < i; j++)
            if (strcmp(b->files[i].name, b->files[j].name) == 0)
                return hob_fail(diag, HOB_EFORMAT, "manifest: two files are called %s",
                                b->files[i].name);
        b->count = i + 1;
    }
    return 0;
}

int hob_bundle_parse_manifest(const char *text, size_t len, hob_bundle *ret, hob_diag *diag)
{
    json_t *root = NULL, *list;
    const char *version;
    hob_bundle b = {.fd = -1};
    int rc = hob_strict_parse("manifest", text, len, &root, diag);
    if (rc < 0)
        return rc;
    rc = json_is_object(root) ? check_members("manifest", root, " version files ", diag)
                              : hob_fail(diag, HOB_EFORMAT, "manifest: no object");
    if (rc < 0 ||
        (rc = hob_strict_required(hob_strict_string("manifest", root, "version", &version, diag))) <
            0 ||
        (rc = hob_strict_required(
             hob_strict_member("manifest", root, "files", JSON_ARRAY, &list, diag))) < 0)
        goto fail;
    if (!hob_bundle_version_ok(version)) {
        rc =
            hob_fail(diag, HOB_EFORMAT,
                     "manifest: version is \"%.70s\": a digit, then letters, digits or . + ~ - are "
                     "allowed, %d in all",
                     version, HOB_BUNDLE_VERSION_MAX);
        goto fail;
    }
    snprintf(b.version, sizeof b.version, "%s", version);
    if ((rc = parse_files(list, &b, diag)) == 0)
        *ret = b;
fail:
    if (rc < 0)
        free(b.files);
    json_decref(root);
    return rc;
}

/* ---- the head ---- */

/* 1: all of it; 0: the file ends before. */
static int read_at(int fd, void *to, size_t len, uint64_t at, hob_diag *diag)
{
    for (size_t done = 0; done < len;) {
        const ssize_t n = pread(fd, (uint8_t *)to + done, len - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return hob_fail(diag, HOB_EIO, "it cannot be read: %s", strerror(errno));
        if (n == 0)
            return 0;
        done += (size_t)n;
    }
    return 1;
}

static int fail_truncated(hob_diag *diag, uint64_t size, uint64_t wanted)
{
    return hob_fail(diag, HOB_EFORMAT, "truncated: it has %llu bytes, of %llu",
                    (unsigned long long)size, (unsigned long long)wanted);
}

/* The head's bytes, of which nothing is understood but how many they are. size: the file's. */
static int read_head(int fd, uint64_t size, uint8_t **ret, size_t *ret_len, hob_diag *diag)
{
    uint8_t start[HOB_BUNDLE_START_BYTES], *head;
    int rc;
    if (size < sizeof start)
        return hob_fail(diag, HOB_EFORMAT, "not a bundle, or truncated: it has %llu bytes",
                        (unsigned long long)size);
    if ((rc = read_at(fd, start, sizeof start, 0, diag)) <= 0)
        return rc < 0 ? rc : fail_truncated(diag, 0, sizeof start);
    if (memcmp(start, hob_bundle_magic, sizeof hob_bundle_magic) != 0)
        return hob_fail(diag, HOB_EFORMAT, "not a bundle: it does not begin with \"hobbundl\"");
    if (hob_get_u32(start + 8) != HOB_BUNDLE_FORMAT)
        return hob_fail(diag, HOB_EUNSUPPORTED, "bundle format %u, supported is %d",
                        hob_get_u32(start + 8), HOB_BUNDLE_FORMAT);
    const uint32_t manifest = hob_get_u32(start + 12);
    if (manifest < 1 || manifest > HOB_BUNDLE_MANIFEST_MAX)
        return hob_fail(diag, HOB_EFORMAT, "a manifest of %u bytes, allowed are 1 to %d", manifest,
                        HOB_BUNDLE_MANIFEST_MAX);
    const size_t len = HOB_BUNDLE_START_BYTES + manifest + HOB_BUNDLE_SIGNATURE_BYTES;
    if (size < len)
        return fail_truncated(diag, size, len);
    if (!(head = malloc(len)))
        return hob_fail(diag, HOB_ENOMEM, "no memory for a head of %zu bytes", len);
    if ((rc = read_at(fd, head, len, 0, diag)) <= 0) {
        free(head);
        return rc < 0 ? rc : fail_truncated(diag, 0, len);
    }
    /* What was looked at and what is signed has to be the same, whatever happens to the file meanwhile. */
    if (memcmp(head, start, sizeof start) != 0) {
        free(head);
        return hob_fail(diag, HOB_EIO, "it changed while it was read");
    }
    *ret = head;
    *ret_len = len;
    return 0;
}

static int check_head(const uint8_t *head, size_t len, hob_bundle_key *key, hob_diag *diag)
{
    const uint8_t *id = head + 16;
    char ids[2][2 * HOB_BUNDLE_KEY_ID_BYTES + 1];
    if (memcmp(id, key->id, sizeof key->id) != 0) {
        for (int i = 0; i < HOB_BUNDLE_KEY_ID_BYTES; i++) {
            snprintf(ids[0] + 2 * i, 3, "%02x", id[i]);
            snprintf(ids[1] + 2 * i, 3, "%02x", key->id[i]);
        }
        return hob_fail(diag, HOB_ESIGNATURE, "signed with the key %s, trusted is %s", ids[0],
                        ids[1]);
    }
    const size_t signed_bytes = len - HOB_BUNDLE_SIGNATURE_BYTES;
    return hob_bundle_check_signature(key, head, signed_bytes, head + signed_bytes, diag);
}

static int open_it(int fd, bool alone, hob_bundle_key *key, hob_bundle *ret, hob_diag *diag)
{
    struct stat st;
    uint8_t *head = NULL;
    size_t len = 0;
    hob_bundle b = {.fd = -1};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < 0)
        return hob_fail(diag, HOB_EIO, "not a regular file");
    const uint64_t size = (uint64_t)st.st_size;
    int rc = read_head(fd, size, &head, &len, diag);
    if (rc < 0)
        return rc;
    if ((rc = check_head(head, len, key, diag)) < 0 ||
        (rc = hob_bundle_parse_manifest((const char *)head + HOB_BUNDLE_START_BYTES,
                                        len - HOB_BUNDLE_START_BYTES - HOB_BUNDLE_SIGNATURE_BYTES,
                                        &b, diag)) < 0)
        goto fail;
    b.bytes = len;
    for (uint32_t i = 0; i < b.count; i++) {
        b.files[i].offset += len;
        b.bytes += b.files[i].bytes;
    }
    const uint64_t wanted = alone ? len : b.bytes;
    if (size != wanted) {
        rc = size < wanted
                 ? fail_truncated(diag, size, wanted)
                 : hob_fail(diag, HOB_EFORMAT, "%llu bytes behind its last file, allowed are none",
                            (unsigned long long)(size - wanted));
        goto fail;
    }
    b.head = head;
    b.head_bytes = len;
    *ret = b;
    return 0;
fail:
    free(b.files);
    free(head);
    return rc;
}

int hob_bundle_open_fd(int fd, bool alone, hob_bundle_key *key, hob_bundle *ret, hob_diag *diag)
{
    const int rc = open_it(fd, alone, key, ret, diag);
    if (rc < 0 || alone)
        close(fd);
    else
        ret->fd = fd;
    return rc;
}

int hob_bundle_open(const char *path, hob_bundle_key *key, hob_bundle *ret, hob_diag *diag)
{
    hob_diag why = {""};
    /* O_NONBLOCK: a FIFO in the file's place must not hang the open. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return hob_fail(diag, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%.150s: %s", path,
                        strerror(errno));
    const int rc = hob_bundle_open_fd(fd, false, key, ret, &why);
    const char *slash = strrchr(path, '/');
    return rc < 0 ? hob_fail(diag, rc, "%.60s: %s", slash ? slash + 1 : path, why.text) : 0;
}

void hob_bundle_close(hob_bundle *b)
{
    if (b->fd >= 0)
        close(b->fd);
    free(b->head);
    free(b->files);
    *b = (hob_bundle){.fd = -1};
}

/* ---- the files ---- */

int hob_bundle_write_all(int to, const void *data, size_t len, hob_diag *diag)
{
    return hob_write_all(to, data, len)
               ? 0
               : hob_fail(diag, errno == ENOSPC || errno == EDQUOT ? HOB_ENOSPC : HOB_EIO,
                          "cannot write: %s", strerror(errno));
}

int hob_bundle_run_pass(const hob_bundle_pass *p, uint8_t ret[HOB_DIGEST_BYTES], hob_diag *diag)
{
    enum { PIECE = 1 << 20 };
    hob_digest d;
    uint8_t *piece = malloc(PIECE);
    int rc = 0;
    if (!piece)
        return hob_fail(diag, HOB_ENOMEM, "no memory to read a file");
    hob_digest_begin(&d);
    for (uint64_t done = 0; done < p->bytes && rc >= 0;) {
        const size_t n = p->bytes - done < PIECE ? (size_t)(p->bytes - done) : PIECE;
        rc = read_at(p->from, piece, n, p->at + done, diag);
        if (rc == 0)
            rc = fail_truncated(diag, done, p->bytes);
        if (rc < 0)
            break;
        hob_digest_add(&d, piece, n);
        if (p->to >= 0)
            rc = hob_bundle_write_all(p->to, piece, n, diag);
        if (p->progress)
            p->progress(p->user, n);
        done += n;
    }
    hob_digest_end(&d, ret);
    free(piece);
    return rc < 0 ? rc : 0;
}

static int compare(const hob_bundle_file *f, const hob_bundle_pass *p, hob_diag *diag)
{
    uint8_t digest[HOB_DIGEST_BYTES];
    char texts[2][HOB_DIGEST_TEXT];
    hob_diag why = {""};
    const int rc = hob_bundle_run_pass(p, digest, &why);
    if (rc < 0)
        return hob_fail(diag, rc, "%.60s: %s", f->name, why.text);
    if (memcmp(digest, f->sha256, sizeof digest) == 0)
        return 0;
    hob_digest_text(digest, texts[0]);
    hob_digest_text(f->sha256, texts[1]);
    return hob_fail(diag, HOB_EDIGEST, "%.60s: its SHA-256 is %s, signed is %s", f->name, texts[0],
                    texts[1]);
}

int hob_bundle_copy(const hob_bundle *b, uint32_t i, int to, hob_diag *diag)
{
    const hob_bundle_file *f = &b->files[i];
    const hob_bundle_pass p = {.from = b->fd,
                               .at = f->offset,
                               .bytes = f->bytes,
                               .to = to,
                               .progress = b->progress,
                               .user = b->user};
    return compare(f, &p, diag);
}

int hob_bundle_check_file(const hob_bundle *b, uint32_t i, int fd, hob_diag *diag)
{
    const hob_bundle_file *f = &b->files[i];
    struct stat st;
    const hob_bundle_pass p = {
        .from = fd, .bytes = f->bytes, .to = -1, .progress = b->progress, .user = b->user};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return hob_fail(diag, HOB_EIO, "%.60s: not a regular file", f->name);
    if ((uint64_t)st.st_size != f->bytes)
        return hob_fail(diag, HOB_EDIGEST, "%.60s: it has %lld bytes, signed are %llu", f->name,
                        (long long)st.st_size, (unsigned long long)f->bytes);
    return compare(f, &p, diag);
}

int hob_bundle_check(const hob_bundle *b, hob_diag *diag)
{
    int rc = 0;
    for (uint32_t i = 0; i < b->count && rc == 0; i++)
        rc = hob_bundle_copy(b, i, -1, diag);
    return rc;
}
