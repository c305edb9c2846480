/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: lines in logfmt or JSON on stderr, for a person, the journal or a collector. Prompts, answers, documents, keys and
 * header values never go there, but for those of a key that was told to (log_content).
 *
 * Whoever logs puts the line into a ring in memory and goes on; a thread of its own writes from there, so that a stderr that
 * nobody reads stops no one. What the ring has to forget before it was written is counted, and said when writing goes on.
 * `hobctl logs` reads the same ring. Thread: any, after hob_log_open. */
#ifndef HOB_DAEMON_GATEWAY_LOG_H
#define HOB_DAEMON_GATEWAY_LOG_H

#include "daemon/gateway/log_line.h"
#include "daemon/gateway/log_ring.h"

enum { HOB_LOG_BYTES = 1 << 20 }; /* of the ring */

typedef enum hob_log_level {
    HOB_LOG_ERROR,
    HOB_LOG_WARN,
    HOB_LOG_INFO,
    HOB_LOG_DEBUG
} hob_log_level;

/* "error", "warn", "info", "debug"; "logfmt", "json"; HOB_EINVAL for another name. Until then: info, logfmt. */
HOB_MUST_CHECK int hob_log_open(const char *level, const char *format);
/* The writing thread; before it, and after hob_log_stop, lines are written where they are logged. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_log_start(void);
/* Waits so long for what is still to be written, and ends the thread. */
void hob_log_stop(uint32_t patience_ms);
void hob_log(hob_log_level level, const char *format, ...) HOB_PRINTF(2, 3);

/* A line of fields. False: the level is not logged, and nothing is to be done. */
bool hob_log_begin(hob_log_line *l, hob_log_level level);
void hob_log_end(hob_log_line *l, hob_log_level level);

uint64_t hob_log_dropped(void); /* lines that stderr did not take, or not in time */
/* The next line of the ring that c has not seen, as hob_log_ring_read. */
size_t hob_log_read(hob_log_cursor *c, char *ret, size_t size, uint64_t *ret_missed);
hob_log_cursor hob_log_seek(uint64_t line); /* as hob_log_ring_seek */
uint64_t hob_log_count(void);               /* lines ever logged */

#endif
