/* SPDX-License-Identifier: Apache-2.0
 *
 * See arbiter.h. `turn` changes whenever the answer to "may I?" can have changed: it is what waiters sleep on, and they
 * read it before they look at the rest, so that no change is slept through. */
#include "daemon/engine/arbiter.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    PAGE_BYTES = 4096,
    PASSED_OVER_MS = 20, /* a turn is left free for the one who is due for so long */
    AGE_MS = 1000,       /* of waiting make one class */
    FOLLOW_MS = 10,      /* from a question's embedding, over the search, to its prompt */
    FD_LEAST = 10,       /* out of the way of the numbers that a child's descriptors get */
    SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL,
};

typedef struct place {
    _Atomic uint32_t wanted; /* class + 1; 0: nothing */
    _Atomic uint32_t ticket; /* order of arrival */
    _Atomic uint32_t since_ms;
    uint32_t unused[13]; /* a cache line each */
} place;

struct hob_arbiter_page {
    _Atomic uint32_t owner; /* slot + 1; 0: free */
    _Atomic uint32_t turn;
    _Atomic uint32_t tickets;
    _Atomic uint32_t kept_until_ms; /* from HOB_ARBITER_BATCH; in the past: it is not */
    uint32_t unused[12];
    place slots[HOB_ARBITER_SLOTS];
};
_Static_assert(sizeof(hob_arbiter_page) <= PAGE_BYTES, "one page");

static uint32_t now_ms(void)
{
    return (uint32_t)(hob_now_us() /
                      1000); /* one clock for all processes; differences survive its wrap */
}

static void sleep_on(_Atomic uint32_t *word, uint32_t value, uint32_t ms)
{
    const struct timespec limit = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL,
            0); /* whatever woke it, the caller looks again */
}

static void turn_over(hob_arbiter_page *p)
{
    atomic_fetch_add(&p->turn, 1);
    syscall(SYS_futex, &p->turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- the page ---- */

static int map(int fd, hob_arbiter_page **ret)
{
    void *p = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return HOB_EIO;
    *ret = p;
    return 0;
}

int hob_arbiter_new(hob_arbiter_page **ret, int *ret_fd)
{
    int low = memfd_create("hob-arbiter", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int fd = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, FD_LEAST);
    if (low >= 0)
        close(low);
    if (fd < 0 || ftruncate(fd, PAGE_BYTES) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0 ||
        map(fd, ret) < 0) {
        if (fd >= 0)
            close(fd);
        return HOB_EIO;
    }
    *ret_fd = fd;
    return 0;
}

int hob_arbiter_map(int fd, hob_arbiter_page **ret)
{
    struct stat s;
    if (fstat(fd, &s) < 0)
        return HOB_EIO;
    const int seals = fcntl(fd, F_GET_SEALS);
    if (s.st_size != PAGE_BYTES || seals < 0 || (seals & SEALS) != SEALS)
        return HOB_EFORMAT;
    return map(fd, ret);
}

void hob_arbiter_free(hob_arbiter_page *page)
{
    if (page)
        munmap(page, PAGE_BYTES);
}

void hob_arbiter_clear(hob_arbiter_page *page, uint32_t slot)
{
    uint32_t held = slot + 1;
    atomic_store(&page->slots[slot].wanted, 0);
    atomic_compare_exchange_strong(&page->owner, &held, 0);
    turn_over(page);
}

/* ---- turns ---- */

static void wish(hob_arbiter *a, hob_arbiter_class class)
{
    place *s = &a->page->slots[a->slot];
    if (atomic_load(&s->wanted) == 0) {
        atomic_store(&s->ticket, atomic_fetch_add(&a->page->tickets, 1));
        atomic_store(&s->since_ms, now_ms());
    }
    atomic_store(&s->wanted, (uint32_t) class + 1);
}

/* How good a claim is: its class, less what its age is worth. */
static int64_t rank(const place *s, uint32_t wanted, uint32_t now)
{
    const int32_t waited_ms = (int32_t)(now - atomic_load(&s->since_ms));
    return (int64_t)wanted - (waited_ms > 0 ? waited_ms / AGE_MS : 0);
}

/* How long a turn is still kept from a claim of this rank. */
static uint32_t kept_ms(const hob_arbiter_page *p, int64_t rank, uint32_t now)
{
    const uint32_t left_ms = atomic_load(&p->kept_until_ms) - now;
    return rank > HOB_ARBITER_BATCH && left_ms <= FOLLOW_MS ? left_ms : 0;
}

static bool is_due(const hob_arbiter *a, uint32_t *ret_kept_ms)
{
    const place *mine = &a->page->slots[a->slot];
    const uint32_t now = now_ms(), ticket = atomic_load(&mine->ticket);
    const int64_t my_rank = rank(mine, atomic_load(&mine->wanted), now);

    if ((*ret_kept_ms = kept_ms(a->page, my_rank, now)) > 0)
        return false;

    for (uint32_t i = 0; i < HOB_ARBITER_SLOTS; i++) {
        const place *s = &a->page->slots[i];
        const uint32_t wanted = atomic_load(&s->wanted);
        if (i == a->slot || wanted == 0)
            continue;
        const int64_t other = rank(s, wanted, now);
        if (other < my_rank ||
            (other == my_rank && (int32_t)(atomic_load(&s->ticket) - ticket) < 0))
            return false;
    }
    return true;
}

bool hob_arbiter_enter(hob_arbiter *a, hob_arbiter_class class, uint32_t timeout_ms)
{
    hob_arbiter_page *p = a->page;
    if (!p)
        return true;
    wish(a, class);
    const uint64_t end_us = hob_now_us() + timeout_ms * (uint64_t)1000;

    for (;;) {
        const uint32_t turn = atomic_load(&p->turn);
        const bool is_free = atomic_load(&p->owner) == 0;
        const uint64_t now = hob_now_us();
        uint32_t none = 0, kept = 0;

        if (!is_free)
            a->free_us = 0;
        else if (a->free_us == 0 || a->free_turn != turn) {
            a->free_us = now;
            a->free_turn = turn;
        }
        const bool late = is_free && now - a->free_us >= PASSED_OVER_MS * (uint64_t)1000;
        if (is_free && (late || is_due(a, &kept)) &&
            atomic_compare_exchange_strong(&p->owner, &none, a->slot + 1)) {
            a->free_us = 0;
            if (class != HOB_ARBITER_BATCH)
                atomic_store(&p->kept_until_ms, now_ms());
            return true;
        }
        if (atomic_exchange(&a->nudged, false) || now >= end_us)
            return false;
        uint64_t ms = (end_us - now + 999) / 1000;
        if (is_free && ms > PASSED_OVER_MS)
            ms = PASSED_OVER_MS;
        if (kept > 0 && ms > kept)
            ms = kept;
        sleep_on(&p->turn, turn, (uint32_t)ms);
    }
}

void hob_arbiter_nudge(hob_arbiter *a)
{
    if (!a->page)
        return;
    atomic_store(&a->nudged, true);
    turn_over(a->page);
}

void hob_arbiter_leave(hob_arbiter *a, bool again)
{
    hob_arbiter_page *p = a->page;
    if (!p)
        return;
    place *mine = &p->slots[a->slot];
    const uint32_t class = atomic_load(&mine->wanted);
    uint32_t held = a->slot + 1;
    bool others = false;

    if (class == 0)
        return;
    atomic_store(&mine->wanted, 0);
    if (class == HOB_ARBITER_QUERY + 1)
        atomic_store(&p->kept_until_ms, now_ms() + FOLLOW_MS);
    if (again) /* at the end of the order */
        wish(a, (hob_arbiter_class)(class - 1));
    atomic_compare_exchange_strong(&p->owner, &held, 0);
    for (uint32_t i = 0; i < HOB_ARBITER_SLOTS; i++)
        others |= i != a->slot && atomic_load(&p->slots[i].wanted) != 0;
    if (others)
        turn_over(p);
}
