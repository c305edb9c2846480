/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines on stderr, for a person or the journal: time, level, text. Prompts, answers and keys never go there.
 * Thread: any, after hob_log_open. */
#ifndef HOB_DAEMON_GATEWAY_LOG_H
#define HOB_DAEMON_GATEWAY_LOG_H

#include "hal/base.h"

typedef enum hob_log_level {
    HOB_LOG_ERROR,
    HOB_LOG_WARN,
    HOB_LOG_INFO,
    HOB_LOG_DEBUG
} hob_log_level;

/* "error", "warn", "info", "debug"; HOB_EINVAL for another name. Until then the level is info. */
HOB_MUST_CHECK int hob_log_open(const char *level);
void hob_log(hob_log_level level, const char *format, ...) HOB_PRINTF(2, 3);

#endif
