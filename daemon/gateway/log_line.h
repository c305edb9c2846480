/* SPDX-License-Identifier: Apache-2.0
 *
 * One line of the log, in logfmt or as a JSON object: built field by field in a buffer of its own, so that nothing is
 * allocated. Whatever a value holds, the line stays one line of valid UTF-8. Thread: the owner's. */
#ifndef HOB_DAEMON_GATEWAY_LOG_LINE_H
#define HOB_DAEMON_GATEWAY_LOG_LINE_H

#include <time.h>

#include "hal/base.h"

enum { HOB_LOG_LINE_MAX = 16384 }; /* bytes with the newline */

typedef struct hob_log_line {
    bool json;
    bool cut; /* something did not fit: the line says so at its end */
    size_t len;
    char text[HOB_LOG_LINE_MAX];
} hob_log_line;

/* The time, in UTC, and the level are its first fields. */
void hob_log_line_begin(hob_log_line *l, bool json, const struct timespec *now, const char *level);
/* name: letters and underscores. A value that does not fit is shortened, between two characters. */
void hob_log_line_text(hob_log_line *l, const char *name, const char *value, size_t len);
void hob_log_line_word(hob_log_line *l, const char *name, const char *value); /* ends with a NUL */
void hob_log_line_number(hob_log_line *l, const char *name, int64_t value);
/* In milliseconds, with three decimals. */
void hob_log_line_ms(hob_log_line *l, const char *name, uint64_t us);
void hob_log_line_end(hob_log_line *l); /* with its newline */

#endif
