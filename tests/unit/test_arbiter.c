/* SPDX-License-Identifier: Apache-2.0
 *
 * Turns between processes: one at a time, in order of class, evenly within a class, and whatever becomes of an owner. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine/arbiter.h"

enum { LOG_MAX = 4096, PATIENCE_MS = 20000 };

/* What the processes of a test note down together. */
typedef struct notes {
    _Atomic uint32_t waiting, count, inside, crowded, stop;
    uint32_t slots[LOG_MAX];
} notes;

typedef struct fixture {
    hob_arbiter_page *page;
    int fd;
    notes *n;
    pid_t children[HOB_ARBITER_SLOTS];
    uint32_t child_count;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_int_equal(hob_arbiter_new(&f->page, &f->fd), 0);
    f->n = mmap(NULL, sizeof *f->n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(f->n != MAP_FAILED);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    for (uint32_t i = 0; i < f->child_count; i++)
        if (f->children[i] > 0) {
            kill(f->children[i], SIGKILL);
            waitpid(f->children[i], NULL, 0);
        }
    munmap(f->n, sizeof *f->n);
    hob_arbiter_free(f->page);
    close(f->fd);
    free(f);
    return 0;
}

static void note(notes *n, uint32_t slot)
{
    const uint32_t i = atomic_fetch_add(&n->count, 1);
    if (i < LOG_MAX)
        n->slots[i] = slot;
}

/* Forks; the child maps the page as an engine would, does what it is for and ends without cmocka. */
typedef void child_main(hob_arbiter *a, notes *n, hob_arbiter_class class);
static pid_t start(fixture *f, uint32_t slot, hob_arbiter_class class, child_main *run)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        hob_arbiter a = {.slot = slot};
        alarm(60);
        if (hob_arbiter_map(f->fd, &a.page) < 0)
            _exit(1);
        run(&a, f->n, class);
        _exit(0);
    }
    f->children[f->child_count++] = pid;
    return pid;
}

static void wait_for(const _Atomic uint32_t *word, uint32_t least)
{
    for (int i = 0; i < PATIENCE_MS && atomic_load(word) < least; i++)
        usleep(1000);
    assert_true(atomic_load(word) >= least);
}

static void wait_all(fixture *f)
{
    for (uint32_t i = 0; i < f->child_count; i++) {
        int status;
        assert_int_equal(waitpid(f->children[i], &status, 0), f->children[i]);
        f->children[i] = 0;
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

/* ---- what children do ---- */

static void one_turn(hob_arbiter *a, notes *n, hob_arbiter_class class)
{
    if (hob_arbiter_enter(a, class, 0)) /* the parent has it */
        _exit(1);
    atomic_fetch_add(&n->waiting, 1);
    if (!hob_arbiter_enter(a, class, PATIENCE_MS))
        _exit(2);
    note(n, a->slot);
    hob_arbiter_leave(a, false);
}

static void many_turns(hob_arbiter *a, notes *n, hob_arbiter_class class)
{
    for (int i = 0; i < 100; i++) {
        if (!hob_arbiter_enter(a, class, PATIENCE_MS))
            _exit(2);
        if (atomic_fetch_add(&n->inside, 1) != 0)
            atomic_fetch_add(&n->crowded, 1);
        note(n, a->slot);
        usleep(500);
        atomic_fetch_sub(&n->inside, 1);
        hob_arbiter_leave(a, i + 1 < 100);
    }
}

static void endless_turns(hob_arbiter *a, notes *n, hob_arbiter_class class)
{
    while (!atomic_load(&n->stop)) {
        if (!hob_arbiter_enter(a, class, PATIENCE_MS))
            _exit(2);
        note(n, a->slot);
        usleep(1000);
        hob_arbiter_leave(a, true);
    }
    hob_arbiter_leave(a, false);
}

static void hold(hob_arbiter *a, notes *n, hob_arbiter_class class)
{
    if (!hob_arbiter_enter(a, class, PATIENCE_MS))
        _exit(2);
    atomic_fetch_add(&n->waiting, 1);
    for (;;)
        pause();
}

static void want_only(hob_arbiter *a, notes *n, hob_arbiter_class class)
{
    if (hob_arbiter_enter(a, class, 0))
        _exit(1);
    atomic_fetch_add(&n->waiting, 1);
    for (;;)
        pause();
}

/* ---- the tests ---- */

static void test_alone(void **state)
{
    hob_arbiter a = {.page = NULL};
    (void)state;
    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0));
    hob_arbiter_leave(&a, true);
}

static void test_by_class(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 0};
    static const hob_arbiter_class classes[] = {HOB_ARBITER_BATCH, HOB_ARBITER_STANDARD,
                                                HOB_ARBITER_QUERY, HOB_ARBITER_INTERACTIVE};
    static const uint32_t order[] = {3, 4, 2, 1};

    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0));
    for (uint32_t i = 0; i < 4; i++) {
        start(f, i + 1, classes[i], one_turn);
        wait_for(&f->n->waiting, i + 1);
    }
    hob_arbiter_leave(&a, false);
    wait_all(f);
    assert_memory_equal(f->n->slots, order, sizeof order);
}

static void test_kept_for_the_prompt_of_a_question(void **state)
{
    fixture *f = *state;
    hob_arbiter questions = {.page = f->page, .slot = 0}, chat = {.page = f->page, .slot = 1};
    enum { KEPT_MS = 10 };

    for (int i = 0; i < 20; i++) {
        const uint64_t begin_us = hob_now_us();
        assert_true(hob_arbiter_enter(&questions, HOB_ARBITER_QUERY, 0));
        hob_arbiter_leave(&questions, true);
        const bool taken = hob_arbiter_enter(&questions, HOB_ARBITER_BATCH, 0);
        /* The system may not have let this run for so long. */
        assert_true(!taken || hob_now_us() - begin_us >= KEPT_MS * 1000);
        if (i % 2 && !taken) { /* the prompt has come: no reason to wait any more */
            assert_true(hob_arbiter_enter(&chat, HOB_ARBITER_STANDARD, 0));
            hob_arbiter_leave(&chat, false);
            assert_true(hob_arbiter_enter(&questions, HOB_ARBITER_BATCH, 0));
        } else if (!taken) { /* no prompt comes */
            assert_true(hob_arbiter_enter(&questions, HOB_ARBITER_BATCH, PATIENCE_MS));
            assert_true(hob_now_us() - begin_us >= (KEPT_MS - 1) * 1000);
        }
        hob_arbiter_leave(&questions, false);
    }
}

static void test_first_come_first_served(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 7};
    static const uint32_t arrival[] = {4, 1, 3, 0, 2};

    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0));
    for (uint32_t i = 0; i < 5; i++) {
        start(f, arrival[i], HOB_ARBITER_STANDARD, one_turn);
        wait_for(&f->n->waiting, i + 1);
    }
    hob_arbiter_leave(&a, true); /* who comes again is the last, though it wants the turn already */
    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_STANDARD, PATIENCE_MS));
    assert_int_equal(f->n->count, 5);
    wait_all(f);
    assert_memory_equal(f->n->slots, arrival, sizeof arrival);
}

static void test_one_at_a_time_and_evenly(void **state)
{
    fixture *f = *state;
    uint32_t repeats = 0;

    for (uint32_t i = 0; i < 3; i++)
        start(f, i, HOB_ARBITER_STANDARD, many_turns);
    wait_all(f);
    assert_int_equal(f->n->count, 300);
    assert_int_equal(f->n->crowded, 0);
    /* From where all three take part to where the first has done its share. One that the system does not let run for a
     * while may be passed over. */
    for (uint32_t i = 21; i < 240; i++)
        repeats += f->n->slots[i] == f->n->slots[i - 1];
    assert_true(repeats < 60);
}

static void test_nobody_starves(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 5};
    uint32_t mine = 0;

    start(f, 1, HOB_ARBITER_INTERACTIVE, endless_turns);
    wait_for(&f->n->count, 10);
    const uint64_t end_us = hob_now_us() + 3000000;
    while (hob_now_us() < end_us)
        if (hob_arbiter_enter(&a, HOB_ARBITER_STANDARD, 100)) {
            mine++;
            hob_arbiter_leave(&a, true);
        }
    hob_arbiter_leave(&a, false);
    atomic_store(&f->n->stop, 1);
    wait_all(f);
    assert_true(mine >= 1);
    assert_true(mine < f->n->count / 4); /* and yet the better class comes first */
}

static void test_owner_killed(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 0};
    const pid_t pid = start(f, 1, HOB_ARBITER_STANDARD, hold);

    wait_for(&f->n->waiting, 1);
    start(f, 2, HOB_ARBITER_STANDARD, one_turn);
    wait_for(&f->n->waiting, 2);
    assert_false(hob_arbiter_enter(&a, HOB_ARBITER_QUERY, 50));
    hob_arbiter_leave(&a, false);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    f->children[0] = f->children[1];
    f->child_count = 1;
    assert_false(hob_arbiter_enter(&a, HOB_ARBITER_QUERY, 50)); /* a dead owner owns */
    hob_arbiter_leave(&a, false);
    assert_int_equal(f->n->count, 0);
    hob_arbiter_clear(f->page, 1); /* which also wakes the one that waits */
    wait_all(f);
    assert_int_equal(f->n->count, 1);
    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0));
    hob_arbiter_clear(f->page, 1); /* takes nothing from others */
    hob_arbiter other = {.page = f->page, .slot = 3};
    assert_false(hob_arbiter_enter(&other, HOB_ARBITER_QUERY, 20));
}

static void test_waiter_that_does_not_come(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 0};

    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0));
    const pid_t pid = start(f, 1, HOB_ARBITER_QUERY, want_only);
    wait_for(&f->n->waiting, 1);
    hob_arbiter_leave(&a, true);
    assert_false(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0)); /* it is the other's */
    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, PATIENCE_MS));
    hob_arbiter_leave(&a, false);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    f->child_count = 0;
    hob_arbiter_clear(f->page, 1);
    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_BATCH, 0));
}

static void test_wish_withdrawn(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 0}, b = {.page = f->page, .slot = 1},
                c = {.page = f->page, .slot = 2};

    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_STANDARD, 0));
    assert_false(hob_arbiter_enter(&b, HOB_ARBITER_INTERACTIVE, 0));
    assert_false(hob_arbiter_enter(&c, HOB_ARBITER_STANDARD, 0));
    hob_arbiter_leave(&a, false);
    assert_false(hob_arbiter_enter(&c, HOB_ARBITER_STANDARD, 0));
    hob_arbiter_leave(&b, false); /* its work was cancelled */
    assert_true(hob_arbiter_enter(&c, HOB_ARBITER_STANDARD, 0));
    assert_false(hob_arbiter_enter(&b, HOB_ARBITER_BATCH, 0));
    assert_false(hob_arbiter_enter(&a, HOB_ARBITER_STANDARD, 0));
    hob_arbiter_leave(&c, false);
    assert_false(hob_arbiter_enter(&b, HOB_ARBITER_BATCH, 0));
    assert_true(hob_arbiter_enter(&b, HOB_ARBITER_INTERACTIVE, 0)); /* better work came */
}

static void test_nudged(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 0}, b = {.page = f->page, .slot = 1};

    assert_true(hob_arbiter_enter(&a, HOB_ARBITER_INTERACTIVE, 0));
    hob_arbiter_nudge(&b);
    const uint64_t begin_us = hob_now_us();
    assert_false(hob_arbiter_enter(&b, HOB_ARBITER_BATCH, PATIENCE_MS)); /* news, and no turn */
    assert_true(hob_now_us() - begin_us < PATIENCE_MS * (uint64_t)1000);
    assert_false(hob_arbiter_enter(&b, HOB_ARBITER_QUERY, 0));
    hob_arbiter_leave(&a, true);
    hob_arbiter_nudge(&b);
    assert_true(
        hob_arbiter_enter(&b, HOB_ARBITER_QUERY, 0)); /* a free turn is taken all the same */
    hob_arbiter_leave(&b, false);
}

static void test_scribbled_page(void **state)
{
    fixture *f = *state;
    hob_arbiter a = {.page = f->page, .slot = 0};
    for (int value = 0; value < 256; value += 51) {
        memset(f->page, value, 4096);
        if (hob_arbiter_enter(&a, HOB_ARBITER_STANDARD, 5))
            hob_arbiter_leave(&a, true);
        hob_arbiter_leave(&a, false);
        for (uint32_t i = 0; i < HOB_ARBITER_SLOTS; i++)
            hob_arbiter_clear(f->page, i);
    }
    assert_true(ftruncate(f->fd, 0) < 0); /* reading the page must never fault */
    hob_arbiter_page *other;
    int null = fileno(tmpfile());
    assert_int_equal(hob_arbiter_map(null, &other), HOB_EFORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test_setup_teardown(test_by_class, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kept_for_the_prompt_of_a_question, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_come_first_served, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_at_a_time_and_evenly, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_starves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owner_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_waiter_that_does_not_come, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wish_withdrawn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nudged, setup, teardown),
        cmocka_unit_test_setup_teardown(test_scribbled_page, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
