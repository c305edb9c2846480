/* SPDX-License-Identifier: Apache-2.0
 *
 * A ZIP file in memory, its parts unpacked in a stream through minizip and zlib. The container is hostile: a part that
 * grows past HOB_EXTRACT_RATIO_MAX times its packed size, or past what any text could need, ends it; what its headers
 * claim about sizes is not believed. Thread: one. */
#ifndef HOB_DAEMON_EXTRACT_ZIP_H
#define HOB_DAEMON_EXTRACT_ZIP_H

#include "daemon/extract/document.h"

typedef struct hob_zip hob_zip;

/* data stays the caller's and must outlive it. Fails with MALFORMED, MEMORY. */
HOB_MUST_CHECK int hob_zip_open(const uint8_t *data, size_t bytes, hob_zip **ret, hob_document *d);
void hob_zip_close(hob_zip *z);

bool hob_zip_has(hob_zip *z, const char *name);

/* Returns 0 to go on, 1 to end with success, or negative after hob_document_fail. */
typedef int hob_zip_take(void *user, const char *data, size_t len);
/* Unpacks a part that is there. Fails with ENCRYPTED, UNSUPPORTED (its compression), MALFORMED, TOO_LARGE, MEMORY, or what
 * take returned. */
HOB_MUST_CHECK int hob_zip_unpack(hob_zip *z, const char *name, hob_zip_take *take, void *user,
                                  hob_document *d);

#endif
