/* SPDX-License-Identifier: Apache-2.0
 *
 * See zip.h. */
#include "daemon/extract/zip.h"

#include <stdlib.h>
#include <string.h>

#include <unzip.h>

enum {
    FREE_BYTES = 1 << 20, /* of a part, before its ratio is looked at */
    MARKUP_FACTOR = 64,   /* bytes of a part to the bytes of text that are allowed */
    ENCRYPTED_FLAG = 1,   /* of a header's general purpose bits */
    CASE_SENSITIVE = 1,
};

typedef struct memory_file {
    const uint8_t *data;
    size_t bytes, at;
} memory_file;

struct hob_zip {
    memory_file file;
    unzFile zip;
};

static voidpf open_memory(voidpf file, const void *name, int mode)
{
    (void)name;
    (void)mode;
    return file;
}

static uLong read_memory(voidpf opaque, voidpf stream, void *to, uLong size)
{
    memory_file *f = stream;
    const size_t left = f->bytes - f->at, n = size < left ? size : left;
    (void)opaque;
    memcpy(to, f->data + f->at, n);
    f->at += n;
    return n;
}

static ZPOS64_T tell_memory(voidpf opaque, voidpf stream)
{
    (void)opaque;
    return ((memory_file *)stream)->at;
}

static long seek_memory(voidpf opaque, voidpf stream, ZPOS64_T offset, int origin)
{
    memory_file *f = stream;
    const size_t from = origin == ZLIB_FILEFUNC_SEEK_SET   ? 0
                        : origin == ZLIB_FILEFUNC_SEEK_CUR ? f->at
                                                           : f->bytes;
    (void)opaque;
    if (offset > f->bytes - from)
        return -1;
    f->at = from + (size_t)offset;
    return 0;
}

static int close_memory(voidpf opaque, voidpf stream)
{
    (void)opaque;
    (void)stream;
    return 0;
}

int hob_zip_open(const uint8_t *data, size_t bytes, hob_zip **ret, hob_document *d)
{
    hob_zip *z = calloc(1, sizeof *z);
    if (!z)
        return hob_document_no_memory(d);
    z->file = (memory_file){.data = data, .bytes = bytes};
    zlib_filefunc64_def functions = {.zopen64_file = open_memory,
                                     .zread_file = read_memory,
                                     .ztell64_file = tell_memory,
                                     .zseek64_file = seek_memory,
                                     .zclose_file = close_memory,
                                     .zerror_file = close_memory,
                                     .opaque = &z->file};
    z->zip = unzOpen2_64("", &functions);
    if (!z->zip) {
        free(z);
        return hob_document_fail(
            d, HOB_EXTRACT_MALFORMED,
            "the file begins like a ZIP container and has no directory of one: "
            "it may be cut off");
    }
    *ret = z;
    return 0;
}

void hob_zip_close(hob_zip *z)
{
    if (!z)
        return;
    unzClose(z->zip);
    free(z);
}

bool hob_zip_has(hob_zip *z, const char *name)
{
    return unzLocateFile(z->zip, name, CASE_SENSITIVE) == UNZ_OK;
}

static int fail(hob_document *d, int code, const char *name)
{
    if (code == Z_MEM_ERROR)
        return hob_document_no_memory(d);
    return hob_document_fail(d, HOB_EXTRACT_MALFORMED,
                             "%.60s inside the file cannot be unpacked (%d): it is damaged", name,
                             code);
}

int hob_zip_unpack(hob_zip *z, const char *name, hob_zip_take *take, void *user, hob_document *d)
{
    char buffer[16384];
    unz_file_info64 info;
    size_t total = 0;
    const size_t most = (size_t)MARKUP_FACTOR * d->limits->text_bytes;
    int r = 0, n = 0;
    if (unzLocateFile(z->zip, name, CASE_SENSITIVE) != UNZ_OK ||
        unzGetCurrentFileInfo64(z->zip, &info, NULL, 0, NULL, 0, NULL, 0) != UNZ_OK)
        return fail(d, UNZ_BADZIPFILE, name);
    if (info.flag & ENCRYPTED_FLAG)
        return hob_document_fail(d, HOB_EXTRACT_ENCRYPTED,
                                 "the file is encrypted: save it without a password");
    if (info.compression_method != 0 && info.compression_method != Z_DEFLATED)
        return hob_document_fail(d, HOB_EXTRACT_UNSUPPORTED,
                                 "%.60s inside the file is packed by method %lu; hob has 0 and %d",
                                 name, info.compression_method, Z_DEFLATED);
    /* However large the header says that it is, no more than the file has is read. */
    const size_t packed =
        info.compressed_size < z->file.bytes ? (size_t)info.compressed_size : z->file.bytes;
    if ((n = unzOpenCurrentFile(z->zip)) != UNZ_OK)
        return fail(d, n, name);
    while (r == 0 && (n = unzReadCurrentFile(z->zip, buffer, sizeof buffer)) > 0) {
        total += (size_t)n;
        if (total > FREE_BYTES && total / HOB_EXTRACT_RATIO_MAX > packed)
            r = hob_document_fail(d, HOB_EXTRACT_TOO_LARGE,
                                  "%.60s inside the file unpacks to more than %d times its size, "
                                  "which is the limit",
                                  name, HOB_EXTRACT_RATIO_MAX);
        else if (total > most)
            r = hob_document_fail(d, HOB_EXTRACT_TOO_LARGE,
                                  "%.60s inside the file unpacks to more than %zu bytes, which is "
                                  "the limit",
                                  name, most);
        else
            r = take(user, buffer, (size_t)n);
    }
    const int closed = unzCloseCurrentFile(z->zip);
    if (r == 0 && n < 0)
        r = fail(d, n, name);
    else if (r == 0 && closed != UNZ_OK)
        r = fail(d, closed, name);
    return r < 0 ? r : 0;
}
