/* SPDX-License-Identifier: Apache-2.0
 *
 * See mailbox.h. */
#include "daemon/engine/mailbox.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

int hob_mailbox_init(hob_mailbox *b)
{
    pthread_condattr_t attr;
    *b = (hob_mailbox){0};
    b->last = &b->first;
    if (pthread_mutex_init(&b->lock, NULL))
        return HOB_ENOMEM;
    int rc = pthread_condattr_init(&attr);
    if (rc == 0) {
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        rc = pthread_cond_init(&b->arrived, &attr);
        pthread_condattr_destroy(&attr);
    }
    if (rc)
        pthread_mutex_destroy(&b->lock);
    return rc ? HOB_ENOMEM : 0;
}

int hob_mailbox_put(hob_mailbox *b, const hob_message *m)
{
    hob_mail *mail = malloc(sizeof *mail + m->len + 1);
    if (!mail)
        return HOB_ENOMEM;
    uint8_t *payload = (uint8_t *)(mail + 1);
    memcpy(payload, m->payload, m->len);
    payload[m->len] = 0;
    mail->message = *m;
    mail->message.payload = payload;
    mail->next = NULL;
    pthread_mutex_lock(&b->lock);
    bool was_empty = !b->first;
    *b->last = mail;
    b->last = &mail->next;
    if (was_empty)
        pthread_cond_signal(&b->arrived);
    pthread_mutex_unlock(&b->lock);
    return 0;
}

hob_mail *hob_mailbox_take(hob_mailbox *b, int timeout_ms)
{
    struct timespec until;
    if (timeout_ms > 0) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
    }
    pthread_mutex_lock(&b->lock);
    for (int rc = 0; !b->first && timeout_ms != 0 && rc == 0;)
        rc = timeout_ms < 0 ? pthread_cond_wait(&b->arrived, &b->lock)
                            : pthread_cond_timedwait(&b->arrived, &b->lock, &until);
    hob_mail *all = b->first;
    b->first = NULL;
    b->last = &b->first;
    pthread_mutex_unlock(&b->lock);
    return all;
}
