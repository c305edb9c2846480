/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel says of the processor and of this process. */
#include <dirent.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "daemon/gateway/state.h"

enum { EVERY_US = 1000000 };

/* The first line of /proc/stat, proc(5): ticks of all cores since the machine started. */
static bool read_ticks(uint64_t *ret_busy, uint64_t *ret_all)
{
    unsigned long long user, nice, system, idle, iowait, irq, softirq, steal;
    FILE *f = fopen("/proc/stat", "re");
    if (!f)
        return false;
    const int n = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system,
                         &idle, &iowait, &irq, &softirq, &steal);
    fclose(f);
    if (n != 8)
        return false;
    *ret_busy = user + nice + system + irq + softirq + steal;
    *ret_all = *ret_busy + idle + iowait;
    return true;
}

void hob_machine_tick(hob_machine *m, uint64_t now_us)
{
    uint64_t busy, all;

    if (m->at_us > 0 && now_us - m->at_us < EVERY_US)
        return;
    if (read_ticks(&busy, &all)) {
        if (m->at_us > 0 && all > m->all && busy >= m->busy)
            m->busy_ratio = (double)(busy - m->busy) / (double)(all - m->all);
        m->busy = busy;
        m->all = all;
    }
    m->at_us = now_us;
}

double hob_machine_cpu_seconds(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) < 0)
        return 0;
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

uint32_t hob_machine_open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    uint32_t count = 0;
    if (!d)
        return 0;
    while (readdir(d))
        count++;
    closedir(d);
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

uint64_t hob_machine_resident_bytes(void)
{
    unsigned long long size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    const int n = fscanf(f, "%llu %llu", &size, &resident);
    fclose(f);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
