/* SPDX-License-Identifier: Apache-2.0
 *
 * The last lines of the log, in memory: a ring of bytes, from which the oldest lines go when new ones come. Lines are numbered
 * from 0; a reader keeps a cursor and learns how many lines it has missed. Thread: one at a time. */
#ifndef HOB_DAEMON_GATEWAY_LOG_RING_H
#define HOB_DAEMON_GATEWAY_LOG_RING_H

#include "hal/base.h"

typedef struct hob_log_ring {
    char *data; /* [capacity] */
    size_t capacity;
    uint64_t first, end; /* bytes ever written: of the oldest line that is there, of the newest */
    uint64_t first_line, end_line; /* numbers: of the oldest line, of the next to come */
} hob_log_ring;

typedef struct hob_log_cursor { /* zero-initialize: the beginning */
    uint64_t at, line;
} hob_log_cursor;

HOB_MUST_CHECK int hob_log_ring_open(hob_log_ring *r, size_t capacity); /* HOB_ENOMEM */
void hob_log_ring_close(hob_log_ring *r);
/* A line longer than the ring is left out. */
void hob_log_ring_add(hob_log_ring *r, uint8_t level, const char *line, size_t len);
/* A cursor at this line: at the next one to come, if there are not so many. */
hob_log_cursor hob_log_ring_seek(const hob_log_ring *r, uint64_t line);
/* The line at the cursor, which moves on: its length, at most size; 0: there is none yet, or it is longer than size and the
 * cursor stays. *ret_missed: lines that were gone when the cursor came to them. */
size_t hob_log_ring_read(const hob_log_ring *r, hob_log_cursor *c, uint8_t *ret_level, char *ret,
                         size_t size, uint64_t *ret_missed);

#endif
