/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is to compute, when several engines share the processor: one step at a time, the best class first,
 * within a class in order of arrival. One shared page, made by the gateway and mapped by every engine; no process has to
 * answer for it to work. An engine takes its turn with one compare-and-swap when nobody else wants to compute, and
 * sleeps on a futex when somebody does.
 *
 * An owner that dies leaves its turn to hob_arbiter_clear, which the gateway calls once the process is gone. A waiter
 * that does not take the turn it is due (it was stopped, say) is passed over after a moment. Who waits for a second
 * counts one class better, so that nobody starves. After a question's embedding the turn is kept from HOB_ARBITER_BATCH for a
 * moment: the prompt that it is for comes as soon as the search is done, and a step begun meanwhile would be in its way.
 *
 * The page holds advice: nothing in it is used as an index or a length, and whoever scribbles on it can disturb the
 * order of steps and no more. It cannot be resized, so that reading it never faults. */
#ifndef HOB_DAEMON_ENGINE_ARBITER_H
#define HOB_DAEMON_ENGINE_ARBITER_H

#include <stdatomic.h>

#include "hal/base.h"

enum { HOB_ARBITER_SLOTS = 8 };

typedef enum hob_arbiter_class {                    /* the best first */
                                 HOB_ARBITER_QUERY, /* the embedding of a question that somebody waits for */
                                 HOB_ARBITER_INTERACTIVE,
                                 HOB_ARBITER_STANDARD,
                                 HOB_ARBITER_BATCH,
                                 HOB_ARBITER_CLASSES,
} hob_arbiter_class;

typedef struct hob_arbiter_page hob_arbiter_page; /* in shared memory */

/* A new page and its descriptor, which is closed on exec; both are the caller's until it ends. HOB_EIO. */
HOB_MUST_CHECK int hob_arbiter_new(hob_arbiter_page **ret, int *ret_fd);
/* Maps a page that was inherited; the descriptor may be closed. HOB_EIO, HOB_EFORMAT when it is no such page. */
HOB_MUST_CHECK int hob_arbiter_map(int fd, hob_arbiter_page **ret);
void hob_arbiter_free(hob_arbiter_page *page);
/* Takes turn and wishes from a slot whose process is gone. Never waits. */
void hob_arbiter_clear(hob_arbiter_page *page, uint32_t slot);

/* One engine's place. Thread: step */
typedef struct hob_arbiter {
    hob_arbiter_page *page; /* NULL: alone on the machine, every turn is its */
    uint32_t slot;          /* less than HOB_ARBITER_SLOTS, no other process's */
    uint64_t free_us;       /* since when another leaves the same turn free; 0: it does not */
    uint32_t free_turn;     /* which one that is */
    _Atomic bool nudged;
} hob_arbiter;

/* Waits until it is this engine's turn, timeout_ms at most, or until it is nudged. False: not yet; the wish and its place in
 * the order stay until hob_arbiter_leave. Asking again may change the class. */
HOB_MUST_CHECK bool hob_arbiter_enter(hob_arbiter *a, hob_arbiter_class class, uint32_t timeout_ms);
/* There is news for the one who waits, which may change the class. Thread: any */
void hob_arbiter_nudge(hob_arbiter *a);
/* Ends the turn, or the wish for one. again: another step is to follow, so that those of a lesser class need not wake. */
void hob_arbiter_leave(hob_arbiter *a, bool again);

#endif
