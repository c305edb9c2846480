/* SPDX-License-Identifier: Apache-2.0
 *
 * The sandbox of the processes that read untrusted input: engines, extractors and their helpers. */
#ifndef HOB_DAEMON_ENGINE_SANDBOX_H
#define HOB_DAEMON_ENGINE_SANDBOX_H

#include "hal/base.h"

/* What a process is, and thus what it needs of the system. */
typedef enum hob_sandbox_for {
    HOB_SANDBOX_CPU, /* an engine on the CPU: its model, and what /proc and /sys say of the machine */
    HOB_SANDBOX_DRIVER, /* one with a GPU's driver: device nodes, shared libraries, one cache folder */
    HOB_SANDBOX_COMPILER, /* OpenCL on the processor: a driver, which runs a linker too */
    HOB_SANDBOX_DOCUMENT, /* an extractor: nothing but the descriptors that it has, and no threads */
    HOB_SANDBOX_HELPER, /* a program that it runs, held open as HOB_SANDBOX_PROGRAM_FD (close on exec) and executed by
                             execveat: libraries and fonts */
} hob_sandbox_for;

/* The limit of open files has to be at most this, once the descriptor is in its place. */
enum { HOB_SANDBOX_PROGRAM_FD = 63 };

/* From here on the process can open for reading only the file at `readable` (NULL: none; the helper's program) and what
 * `what` names, and cannot write files, execute, or make sockets, but for what `what` names; cache: the folder that a
 * driver may write, or NULL. Landlock where the kernel has it, and seccomp always; inherited by threads made later. HOB_EIO
 * with the reason. Thread: the first, before others start. */
HOB_MUST_CHECK int hob_sandbox_enter(hob_sandbox_for what, const char *readable, const char *cache,
                                     hob_diag *diag);

#endif
