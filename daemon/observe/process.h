/* SPDX-License-Identifier: Apache-2.0
 *
 * What the kernel says of this process, and how busy the machine is: proc(5). Thread: any, but for the machine's load. */
#ifndef HOB_DAEMON_OBSERVE_PROCESS_H
#define HOB_DAEMON_OBSERVE_PROCESS_H

#include "hal/base.h"

uint64_t hob_resident_bytes(void); /* memory that it has resident; 0: unknown */
double hob_cpu_seconds(void);      /* processor time of all its threads; 0: unknown */
uint32_t hob_open_files(void);     /* descriptors; 0: unknown */
/* What a core dump would hold of prompts, documents and keys is nobody's: there are none of this process and of those that it
 * starts. The limit of 1 byte, not 0, is also minded where cores are piped to a program (Linux, fs/coredump.c). */
void hob_forbid_core_dumps(void);

/* Who goes first when memory runs out (oom_score_adj, proc(5)): a document can be read again, an engine is restarted and its
 * streams go on, and the gateway, which does both, keeps what it was started with (-500 by hob.service). */
enum { HOB_OOM_EXTRACTOR = 900, HOB_OOM_ENGINE = 500 };
/* Of this process and those that it starts. Raising it needs no privilege; where it may not be set it stays. */
void hob_set_oom_score(int score);

/* The processors' load, looked at about once a second. Thread: the owner's. */
typedef struct hob_load { /* zero-initialize */
    uint64_t at_us;       /* when; 0: never */
    uint64_t busy, all;   /* the kernel's ticks then, of all cores */
    double busy_ratio;    /* of the second before, whoever computed; 0 until there was one */
} hob_load;
void hob_load_tick(hob_load *l, uint64_t now_us);

#endif
