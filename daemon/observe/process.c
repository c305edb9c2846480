/* SPDX-License-Identifier: Apache-2.0
 *
 * This process and its machine. See process.h. */
#include "daemon/observe/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVERY_US = 1000000 };

uint64_t hob_resident_bytes(void)
{
    uint64_t total, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    const int n = fscanf(f, "%" SCNu64 " %" SCNu64, &total, &resident);
    fclose(f);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

double hob_cpu_seconds(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) < 0)
        return 0;
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

uint32_t hob_open_files(void)
{
    enum { NO_FILES = 3 }; /* ".", "..", and the folder itself */
    DIR *d = opendir("/proc/self/fd");
    uint32_t count = 0;
    if (!d)
        return 0;
    while (readdir(d))
        count++;
    closedir(d);
    return count > NO_FILES ? count - NO_FILES : 0;
}

/* The first line of /proc/stat. */
static bool read_ticks(uint64_t *ret_busy, uint64_t *ret_all)
{
    uint64_t user, nice, system, idle, iowait, irq, softirq, steal;
    FILE *f = fopen("/proc/stat", "re");
    if (!f)
        return false;
    const int n = fscanf(f,
                         "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                         " %" SCNu64 " %" SCNu64,
                         &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal);
    fclose(f);
    if (n != 8)
        return false;
    *ret_busy = user + nice + system + irq + softirq + steal;
    *ret_all = *ret_busy + idle + iowait;
    return true;
}

void hob_forbid_core_dumps(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_CORE, &r) < 0)
        return;
    r.rlim_max = r.rlim_max < 1 ? r.rlim_max : 1; /* it cannot be raised */
    r.rlim_cur = r.rlim_max;
    (void)setrlimit(RLIMIT_CORE, &r);
}

void hob_set_oom_score(int score)
{
    char text[16];
    const int n = snprintf(text, sizeof text, "%d", score),
              fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, (size_t)n);
    close(fd);
}

void hob_load_tick(hob_load *l, uint64_t now_us)
{
    uint64_t busy, all;

    if (l->at_us > 0 && now_us - l->at_us < EVERY_US)
        return;
    if (read_ticks(&busy, &all)) {
        if (l->at_us > 0 && all > l->all && busy >= l->busy)
            l->busy_ratio = (double)(busy - l->busy) / (double)(all - l->all);
        l->busy = busy;
        l->all = all;
    }
    l->at_us = now_us;
}
