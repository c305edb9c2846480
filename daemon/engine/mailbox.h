/* SPDX-License-Identifier: Apache-2.0
 *
 * A queue of messages between two threads of the engine: the sender copies in, the receiver owns what it takes.
 * Thread: any. */
#ifndef HOB_DAEMON_ENGINE_MAILBOX_H
#define HOB_DAEMON_ENGINE_MAILBOX_H

#include <pthread.h>

#include "daemon/engine/protocol.h"

typedef struct hob_mail {
    struct hob_mail *next;
    hob_message message; /* payload follows the struct */
} hob_mail;

typedef struct hob_mailbox {
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    hob_mail *first, **last;
} hob_mailbox;

HOB_MUST_CHECK int hob_mailbox_init(hob_mailbox *b);
HOB_MUST_CHECK int hob_mailbox_put(hob_mailbox *b, const hob_message *m); /* HOB_ENOMEM */
/* All that has arrived, oldest first, as a list for the caller to free() one by one; waits up to timeout_ms for the
 * first (-1: for ever, 0: not at all). NULL when nothing came. */
hob_mail *hob_mailbox_take(hob_mailbox *b, int timeout_ms);

#endif
