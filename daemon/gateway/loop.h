/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop that all of the gateway turns in: an event library for libwebsockets, of our own, on epoll. libwebsockets' poll()
 * looks at every connection each time that one of them has something to say, and serves them in an order that nobody
 * chose; here what there is to do for clients is done in turns by where they come from (sources.h), and what has no
 * address (engines, signals, listening sockets, Unix sockets) is done first. A connection that was accepted is such a thing
 * to do as well: it waits here for its turn to be taken in.
 *
 * A handshake of TLS is the most that a stranger can ask for, whatever their number: while answers are being computed,
 * which needs the same processor, handshakes get an eighth of the loop's time and wait for each other.
 *
 * Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_LOOP_H
#define HOB_DAEMON_GATEWAY_LOOP_H

#include <libwebsockets.h>

#include "daemon/gateway/sources.h"

typedef struct hob_loop hob_loop;
typedef struct hob_watch hob_watch; /* of one descriptor */

struct hob_loop {
    int epoll_fd;                /* -1: none */
    struct lws_context *context; /* borrowed */
    hob_watch *watches;          /* [count], by descriptor */
    uint32_t count;
    uint32_t waiting; /* connections that wait to be taken in */
    hob_sources sources, handshakes;
    bool inferring; /* answers are being computed: the owner says so */
    uint64_t
        handshakes_due_us; /* when those so far would be over, had they kept to their part of the time */
    /* Takes a connection in, which was accepted for `owner`, and takes its descriptor over. */
    void (*take_in)(void *owner, int fd);
    void *foreign[1]; /* what libwebsockets is told of us */
};

/* Watches descriptors below `descriptors`. HOB_EIO, HOB_ENOMEM. */
HOB_MUST_CHECK int hob_loop_open(hob_loop *l, uint32_t descriptors,
                                 void (*take_in)(void *owner, int fd), hob_diag *diag);
/* What a context is to be made with. l outlives it. */
void hob_loop_describe(hob_loop *l, struct lws_context_creation_info *info);
/* Serves what is there to be done, for about a millisecond; waits for something when there is nothing. Negative:
 * libwebsockets cannot go on. */
HOB_MUST_CHECK int hob_loop_turn(hob_loop *l);
/* The connection is taken in when it is its source's turn, among those that shake hands or the others. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_loop_take_in(hob_loop *l, void *owner, int fd, const uint8_t source[16],
                                    bool handshake);
/* Its handshake is over. Without memory it goes on to count as one. */
void hob_loop_settle(hob_loop *l, int fd);
/* How many connections there are from a source, those that wait to be taken in among them. */
uint32_t hob_loop_connections(const hob_loop *l, const uint8_t source[16]);
/* After the context is gone; one that was never opened is left alone. */
void hob_loop_close(hob_loop *l);

#endif
