/* SPDX-License-Identifier: Apache-2.0
 *
 * Starting this program again as a child: an engine, or an extractor. */
#ifndef HOB_DAEMON_ENGINE_SPAWN_H
#define HOB_DAEMON_ENGINE_SPAWN_H

#include <sys/types.h>

#include "hal/base.h"

enum {
    HOB_SPAWN_FD = 3, /* where the descriptors that are handed down begin */
    HOB_SPAWN_FDS_MAX = 4,
};

/* Who goes first when memory runs out (oom_score_adj, proc(5)): a document can be read again, an engine is restarted and its
 * streams go on, and the gateway, which does both, keeps what it was started with (-500 by hob.service). */
enum { HOB_SPAWN_OOM_EXTRACTOR = 900, HOB_SPAWN_OOM_ENGINE = 500 };

/* Starts /proc/self/exe with argv (NULL-terminated, argv[0] included) in a process group of its own, with the usual
 * signals, its standard input from /dev/null, and fds[0 .. count) as descriptors HOB_SPAWN_FD and up; all others are
 * closed. quiet: standard output and error go to /dev/null too, and the environment is empty but for the locale. oom_score:
 * one of the above, for it and what it starts. errno is set on HOB_EIO. Thread: any. */
HOB_MUST_CHECK int hob_spawn_self(const char *const *argv, const int *fds, int count, bool quiet,
                                  int oom_score, pid_t *ret);

#endif
