/* SPDX-License-Identifier: Apache-2.0
 *
 * What an extractor says (wire.h), checked and put together: bytes in, a hob_extraction out. All of it is hostile; a message
 * that is out of order, a range that is not in the text or cuts a character, text that is not UTF-8, or more of anything
 * than was allowed ends it as CRASHED. Owns no process and no descriptor. Thread: one. */
#ifndef HOB_DAEMON_EXTRACT_COLLECT_H
#define HOB_DAEMON_EXTRACT_COLLECT_H

#include "daemon/engine/protocol.h"
#include "daemon/extract/extractor.h"

typedef struct hob_collector {
    /* set before; the rest zero */
    hob_extract_limits limits;
    uint32_t chunk_tokens;
    bool wants_chunks;

    bool finished;         /* nothing more is taken */
    hob_extraction result; /* good for something when finished */

    /* private */
    hob_reader reader;
    size_t text_had; /* bytes of the text so far */
    uint32_t *paths; /* [chunk_capacity] where each chunk's path begins in path_bytes */
    uint32_t chunk_capacity;
    hob_bytes path_bytes; /* each followed by a NUL */
    bool has_meta;
} hob_collector;

void hob_collector_feed(hob_collector *c, const void *data, size_t len);
/* Ends it with an error, dropping what there is; returns HOB_ECANCELED. */
int hob_collector_fail(hob_collector *c, hob_extract_error e, const char *format, ...)
    HOB_PRINTF(3, 4);
void hob_collector_free(hob_collector *c);

#endif
