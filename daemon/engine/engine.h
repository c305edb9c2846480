/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine process: `hobd --engine` runs one model for the gateway that started it, over a socketpair (protocol.h).
 * Threads: `io` reads and writes frames, `text` runs template and tokenizer, `step` owns batcher and device. It is
 * under seccomp, with no network, from before it opens the model file; it exits when the gateway goes away. */
#ifndef HOB_DAEMON_ENGINE_ENGINE_H
#define HOB_DAEMON_ENGINE_ENGINE_H

#include "hal/base.h"

/* Arguments after `--engine`: --fd N --model FILE --sha256 HEX (of the model; without it what MODEL.sha256 says, if it is
 * there) --device NAME --threads N --context N --kv-tokens N --kv f16|q8_0 --prefix-tokens N --itl-target-ms N --memory-mb N
 * (0: none of each) --max-sequences N --max-waiting N --slot N (1 or more: its place in the arbiter's page, at
 * HOB_ENGINE_ARBITER_FD; 0: it has the processor to itself). Other numbers 0 mean the default. Returns the exit status. */
int hob_engine_main(int argc, char **argv);

/* The exit status that blames the device, which has said why on standard error: the CPU may do better. */
enum { HOB_ENGINE_EXIT_DEVICE = 3 };

/* Descriptors that the gateway hands down. */
enum { HOB_ENGINE_FD = 3, HOB_ENGINE_ARBITER_FD = 4 };

#endif
