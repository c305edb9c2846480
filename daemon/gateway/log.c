/* SPDX-License-Identifier: Apache-2.0
 *
 * One write(2) a line, so that lines of gateway and engines never mix. The level is the process's only log state. */
#include "daemon/gateway/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static atomic_int level_now = HOB_LOG_INFO;

int hob_log_open(const char *level)
{
    for (int i = 0; i < (int)(sizeof level_names / sizeof *level_names); i++)
        if (strcmp(level, level_names[i]) == 0) {
            level_now = i;
            return 0;
        }
    return HOB_EINVAL;
}

void hob_log(hob_log_level level, const char *format, ...)
{
    char line[1024];
    struct timespec now;
    struct tm utc;

    if ((int)level > level_now)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    len += (size_t)snprintf(line + len, sizeof line - len, ".%03ldZ %-5s ", now.tv_nsec / 1000000,
                            level_names[level]);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line + len, sizeof line - len - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    len += (size_t)n < sizeof line - len - 1 ? (size_t)n : sizeof line - len - 2;
    for (size_t i = 0; i < len; i++) /* one line, whatever was in it */
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nowhere left to say so */
}
