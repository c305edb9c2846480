/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is. What the loop has to do for clients is done in turns of sources, a source being an address (of IPv6 a
 * /64): of one that opens a thousand connections each waits for the others of its own, and other sources wait for one of
 * its turns. Each source has a queue of what is to be done, and credit in microseconds, which what is done takes away. A
 * source that comes with credit, as those that ask for little have, is served before those that used theirs up, but for
 * every second turn, so that many who come once cannot shut out those who stay (deficit round robin, Shreedhar and
 * Varghese 1995; sparse flows first, RFC 8290).
 *
 * Pure: the caller brings the time. Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_SOURCES_H
#define HOB_DAEMON_GATEWAY_SOURCES_H

#include "hal/base.h"

enum { HOB_SOURCE_BUCKETS = 1024, HOB_SOURCE_CREDIT_US = 300 };

typedef struct hob_source hob_source;

typedef struct hob_turn { /* part of what something may have to be done for; zero-initialize */
    struct hob_turn *next, *prev;
    hob_source *source; /* held; NULL: none */
    bool waits;
} hob_turn;

typedef struct hob_source_queue {
    hob_source *first, *last;
} hob_source_queue;

struct hob_source {
    hob_source *next; /* in its bucket */
    uint8_t address[16];
    uint32_t turns;         /* that name it, waiting or not */
    bool held;              /* by the turn that is being served */
    hob_turn *first, *last; /* those that wait */
    hob_source_queue *in;   /* NULL: nothing of it waits */
    hob_source *behind;     /* in that queue */
    int64_t credit_us;
};

typedef struct hob_sources { /* zero-initialize; seed it with random numbers */
    uint64_t seed;
    hob_source *buckets[HOB_SOURCE_BUCKETS];
    hob_source_queue fresh, served;
    hob_source *serving;
    bool served_first; /* which queue is looked at first, next time */
} hob_sources;

/* What an address (IPv4 mapped into IPv6) counts as: IPv4 itself, IPv6 its /64. The functions below want it so. */
void hob_source_of(const uint8_t address[16], uint8_t ret[16]);
/* Not to be foreseen by who does not know the seed. */
uint64_t hob_source_hash(uint64_t seed, const uint8_t address[16]);

/* How many turns the address has, waiting or not. */
uint32_t hob_source_turns(const hob_sources *s, const uint8_t address[16]);
/* Makes the turn, which has no source, one of the address. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_turn_open(hob_sources *s, hob_turn *t, const uint8_t address[16]);
/* It has no source any more and waits no more. */
void hob_turn_close(hob_sources *s, hob_turn *t);
/* There is something to be done for it, after what else its source has. It may wait already. */
void hob_turn_wait(hob_sources *s, hob_turn *t);
bool hob_turn_any(const hob_sources *s); /* whether one waits */
/* Whose turn it is, which waits no more then; NULL: nobody waits. hob_turn_done follows before the next. */
hob_turn *hob_turn_next(hob_sources *s);
/* It is over and has taken so long. */
void hob_turn_done(hob_sources *s, uint64_t us);

#endif
