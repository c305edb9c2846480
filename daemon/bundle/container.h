/* SPDX-License-Identifier: Apache-2.0
 *
 * A bundle: one file with all that an installation without a network needs, packages, models and copies of stores, under one
 * signature. Integers are little-endian:
 *
 *        at  bytes
 *         0      8  "hobbundl"
 *         8      4  version of the format, 1
 *        12      4  M: bytes of the manifest, 1 to 1 MiB
 *        16      8  the signing key's id (key.h): only to say which one it was
 *        24      M  the manifest, JSON
 *      24+M     64  signature (key.h) of all that stands before it
 *      88+M         the files in the manifest's order, with nothing between them and nothing behind
 *
 *     {"version": "1.2.0", "files": [{"name": "a.gguf", "kind": "model", "bytes": 93, "sha256": "64 digits"}, …]}
 *
 * What stands before the files, the head, is read and its signature checked before any of it is understood; a head that is
 * accepted was made by the owner of the key. Then the size of the whole file has to be the one that follows from it. A file's
 * bytes are summed while they are read, a megabyte at a time, however long it is.
 * Thread: one at a time for each bundle. Everything here blocks on the file system. */
#ifndef HOB_DAEMON_BUNDLE_CONTAINER_H
#define HOB_DAEMON_BUNDLE_CONTAINER_H

#include "daemon/bundle/key.h"
#include "daemon/bundle/version.h"
#include "models/digest.h"

enum {
    HOB_BUNDLE_START_BYTES = 24,
    HOB_BUNDLE_MANIFEST_MAX = 1 << 20,
    HOB_BUNDLE_FILES_MAX = 256,
    HOB_BUNDLE_NAME_MAX = 128,
};
#define HOB_BUNDLE_FILE_BYTES_MAX ((uint64_t)1 << 44)

typedef enum hob_bundle_kind {
    HOB_BUNDLE_PACKAGE,    /* .deb, .rpm */
    HOB_BUNDLE_MODEL,      /* .gguf */
    HOB_BUNDLE_COLLECTION, /* .db: a copy that hobctl store backup has made */
    HOB_BUNDLE_KINDS,
} hob_bundle_kind;
const char *hob_bundle_kind_name(hob_bundle_kind kind);   /* "model" */
const char *hob_bundle_kind_folder(hob_bundle_kind kind); /* "models" */
/* What a file of this name is; false: none of them. */
bool hob_bundle_kind_of(const char *name, hob_bundle_kind *ret);
/* 1 to 128 letters, digits or . _ + ~ @ -, a letter or a digit first and no two dots in a row. */
bool hob_bundle_name_ok(const char *name);

typedef struct hob_bundle_file {
    char name[HOB_BUNDLE_NAME_MAX + 1]; /* no other file of the bundle has it */
    hob_bundle_kind kind;               /* the one that its name says */
    uint64_t bytes, offset;             /* 1 or more; in the bundle */
    uint8_t sha256[HOB_DIGEST_BYTES];
} hob_bundle_file;

/* Told how many more bytes were read. */
typedef void hob_bundle_progress(void *user, uint64_t bytes);

typedef struct hob_bundle { /* released by hob_bundle_close */
    int fd;                 /* -1: a head alone */
    uint8_t *head;          /* [head_bytes], as it was signed and with the signature */
    size_t head_bytes;
    char version[HOB_BUNDLE_VERSION_MAX + 1];
    uint32_t count;
    hob_bundle_file *files;        /* [count] */
    uint64_t bytes;                /* of the whole bundle */
    hob_bundle_progress *progress; /* NULL: none */
    void *user;
} hob_bundle;

/* The file at path, which has to be a regular one. HOB_ENOENT, HOB_EIO, HOB_ENOMEM; HOB_EFORMAT: no bundle, truncated, too
 * long, or a manifest that breaks its rules; HOB_EUNSUPPORTED: a later format; HOB_ESIGNATURE. */
HOB_MUST_CHECK int hob_bundle_open(const char *path, hob_bundle_key *key, hob_bundle *ret,
                                   hob_diag *diag);
/* The same of an open file, whose descriptor is taken over. alone: it holds a head and nothing else. */
HOB_MUST_CHECK int hob_bundle_open_fd(int fd, bool alone, hob_bundle_key *key, hob_bundle *ret,
                                      hob_diag *diag);
void hob_bundle_close(hob_bundle *b);

/* The manifest's part of it: fills all but fd, head and bytes; offsets count from the first file. For the fuzzer, too. */
HOB_MUST_CHECK int hob_bundle_parse_manifest(const char *text, size_t len, hob_bundle *ret,
                                             hob_diag *diag);

/* Reads file i, sums it, and writes it to the descriptor `to` (-1: nowhere). HOB_EDIGEST: it was altered; HOB_EIO,
 * HOB_ENOSPC. Then what was written is not to be used. */
HOB_MUST_CHECK int hob_bundle_copy(const hob_bundle *b, uint32_t i, int to, hob_diag *diag);
/* Sums a file that lies elsewhere, and which has to be file i. HOB_EDIGEST, HOB_EIO. */
HOB_MUST_CHECK int hob_bundle_check_file(const hob_bundle *b, uint32_t i, int fd, hob_diag *diag);
/* All of its files, one after another: nothing of a bundle is used before that. */
HOB_MUST_CHECK int hob_bundle_check(const hob_bundle *b, hob_diag *diag);

/* Makes the bundle at out of the files at paths, whose kinds are told by their names and have to begin as such files do. The
 * same files and version give the same bytes, in whatever order they are named. out is replaced as a whole, or left as it
 * was. HOB_EINVAL: a name, a kind, a version or a number of files that cannot be; HOB_EFORMAT: a file that is not what its name
 * says; HOB_EIO, HOB_ENOSPC, HOB_ENOMEM; HOB_EDIGEST: a file that changed meanwhile. */
HOB_MUST_CHECK int hob_bundle_make(const char *out, const char *version, char *const *paths,
                                   uint32_t count, hob_bundle_key *key,
                                   hob_bundle_progress *progress, void *user, hob_diag *diag);

#endif
