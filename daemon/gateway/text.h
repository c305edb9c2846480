/* SPDX-License-Identifier: Apache-2.0
 *
 * Building JSON and HTTP text in a growable buffer. A failed allocation is remembered, so that a whole document is
 * written without a check a line and looked at once, at its end.
 * Thread: the owner's. */
#ifndef HOB_DAEMON_GATEWAY_TEXT_H
#define HOB_DAEMON_GATEWAY_TEXT_H

#include <jansson.h>

#include "daemon/engine/protocol.h"

typedef struct hob_text { /* zero-initialize */
    hob_bytes bytes;
    bool failed;
} hob_text;

void hob_text_free(hob_text *t);
void hob_text_clear(hob_text *t); /* keeps the memory */
void hob_text_add(hob_text *t, const char *s, size_t len);
void hob_text_puts(hob_text *t, const char *s);
void hob_text_format(hob_text *t, const char *format, ...) HOB_PRINTF(2, 3);
/* s as a JSON string with its quotes; s is valid UTF-8. */
void hob_text_string(hob_text *t, const char *s, size_t len);
/* value as compact JSON. */
void hob_text_json(hob_text *t, const json_t *value);

static inline const char *hob_text_data(const hob_text *t)
{
    return (const char *)t->bytes.data + t->bytes.start;
}
static inline size_t hob_text_len(const hob_text *t)
{
    return hob_bytes_left(&t->bytes);
}

#endif
