/* SPDX-License-Identifier: Apache-2.0
 *
 * Form data as it arrives (multipart/form-data: RFC 7578, RFC 2046 section 5.1): fields and files are handed on piece by
 * piece, as the bytes come, and none is kept. Everything is bounded: headers of a field, their number, the boundary.
 * Pure. Thread: the owner's. */
#ifndef HOB_DAEMON_GATEWAY_MULTIPART_H
#define HOB_DAEMON_GATEWAY_MULTIPART_H

#include "hal/base.h"

enum {
    HOB_MULTIPART_HEADERS_MAX = 4096, /* bytes of a field's headers */
    HOB_MULTIPART_FIELDS_MAX = 16,
    HOB_MULTIPART_NAME_MAX = 64,      /* bytes of a field's name with its NUL */
    HOB_MULTIPART_FILENAME_MAX = 512, /* of a file's */
};

/* What a form consists of. A negative result ends hob_multipart_feed, which returns it. */
typedef struct hob_multipart_events {
    /* filename: NULL unless the field is a file; UTF-8 without control characters. Both valid until end. */
    int (*begin)(void *user, const char *name, const char *filename, hob_diag *diag);
    int (*data)(void *user, const void *bytes, size_t len, hob_diag *diag);
    int (*end)(void *user, hob_diag *diag);
} hob_multipart_events;

typedef struct hob_multipart {
    char delimiter[80]; /* CR LF - - boundary */
    size_t delimiter_len, matched;
    int state;
    bool in_field, padded;
    uint32_t fields;
    char headers[HOB_MULTIPART_HEADERS_MAX + 1];
    size_t header_len;
    char name[HOB_MULTIPART_NAME_MAX], filename[HOB_MULTIPART_FILENAME_MAX];
    bool has_filename;
} hob_multipart;

/* type: the value of Content-Type. HOB_EFORMAT: it is another, or names no boundary. */
HOB_MUST_CHECK int hob_multipart_begin(hob_multipart *m, const char *type, hob_diag *diag);
/* HOB_EFORMAT, HOB_ELIMIT, or what a handler returned. */
HOB_MUST_CHECK int hob_multipart_feed(hob_multipart *m, const void *data, size_t len,
                                      const hob_multipart_events *events, void *user,
                                      hob_diag *diag);
/* Whether the form has come to its end. */
bool hob_multipart_ended(const hob_multipart *m);

#endif
