/* SPDX-License-Identifier: Apache-2.0
 *
 * Power is lost at random moments of storing documents, and the disk keeps any part of what was not synced: what was
 * acknowledged is there afterwards, byte for byte, what was deleted is not, and the store is sound. Or its disk becomes full
 * at such moments: what is refused is refused for that reason, all that is stored is read meanwhile, and with room again
 * everything goes on. */
#include "daemon/store/backup.h"
#include "daemon/store/sweep.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <semaphore.h>

#include "tests/support/store_maker.h"
#include "tests/support/torn_vfs.h"

enum {
    POINTS = 200,
    FULL_POINTS = 60,
    REFUSALS = 8,     /* before there is room again, */
    PATIENCE = 60,    /* or steps that a full disk has taken */
    STEPS_AFTER = 10, /* with room again */
    FILES_MAX = 160,
    BYTES_MAX = 5000, /* of a file */
    LARGE_MAX = 200000,
    DIM = 8,
};

static made_store m;
static hob_diag diag;
static uint64_t random_state = 88172645463325252u;
static sem_t woken; /* a thread of the store's has done something */

static uint32_t draw(uint32_t below)
{
    random_state ^= random_state << 13; /* Marsaglia, Xorshift RNGs, 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % below;
}

/* What was acknowledged. */
static struct {
    char ids[FILES_MAX][HOB_PUBLIC_ID_MAX];
    bool there[FILES_MAX], gone[FILES_MAX], attached[FILES_MAX], complete[FILES_MAX];
    uint32_t count, bytes_max;
} known;

typedef struct step {
    hob_store_job job;
    int what;
    uint32_t number; /* of a file */
    hob_collection *collection;
    bool completed; /* a content, with it */
    bool finished;
} step;

enum { UPLOAD, ATTACH, EXTRACT, EMBED, REMOVE, SWEEP, STEPS };

static int make_chunks(sqlite3 *db, hob_diag *d)
{
    static const int64_t none[HOB_CONTENTS_BUSY];
    static char text[6][2000];
    hob_stored_chunk list[6];
    hob_content t;
    bool left = true;
    int code = hob_content_next(db, none, 0, &t, d);
    if (code < 0 || t.state != HOB_CONTENT_QUEUED)
        return code == HOB_ENOENT ? 0 : code;
    while (t.chunks > 0 && left)
        if ((code = hob_content_cut(db, t.id, t.tenant, 100, &left, d)) < 0)
            return code;
    for (uint32_t i = 0; i < 6; i++) {
        memset(text[i], 'a' + (int)draw(26), sizeof text[i]);
        list[i] = (hob_stored_chunk){i * 2000, i * 2000 + 2000, 100, "", text[i], sizeof text[i]};
    }
    code = hob_content_add_chunks(db, &t, list, 6, 1, d);
    return code < 0 ? code : hob_content_extracted(db, &t, d);
}

static int make_vectors(sqlite3 *db, bool *ret_completed, hob_diag *d)
{
    static const int64_t none[HOB_CONTENTS_BUSY];
    static uint16_t halves[6 * DIM];
    hob_content t;
    int code = hob_content_next(db, none, 0, &t, d);
    if (code < 0 || t.state != HOB_CONTENT_EXTRACTED)
        return code == HOB_ENOENT ? 0 : code;
    const uint32_t n = t.embedded == 0 ? 3 : t.chunks - t.embedded;
    code = hob_content_add_vectors(db, &t, t.embedded, n, "model", halves, sizeof *halves * DIM, d);
    if (code == 0 && t.embedded + n == t.chunks) {
        code = hob_content_complete(db, &t, "model", d);
        *ret_completed = code == 0;
    }
    return code;
}

/* A file is known by its length and what it consists of. */
static size_t bytes_of(uint32_t number)
{
    return 1 + number * UINT32_C(7919) % known.bytes_max;
}

/* Thread: store. */
static int run_step(sqlite3 *db, hob_store_job *j, hob_diag *d)
{
    static char data[LARGE_MAX];
    step *s = (step *)j;
    const char *id = known.ids[s->number];
    hob_swept swept;
    hob_file f = {.tenant = m.mine.tenant, .key = m.mine.key, .created_s = 1, .purpose = "batch"};
    int code;
    switch (s->what) {
    case UPLOAD:
        snprintf(f.public, sizeof f.public, "%s", id);
        snprintf(f.name, sizeof f.name, "%u.txt", s->number);
        memcpy(f.sha256, &s->number, sizeof s->number);
        memset(data, (int)s->number, sizeof data);
        return (code = hob_file_begin(db, &f, d)) < 0 ||
                       (code = hob_file_add_part(db, &f, 0, data, bytes_of(s->number), 0, d)) < 0
                   ? code
                   : hob_file_complete(db, &f, d);
    case ATTACH: {
        const hob_attachment_wish w = {id, "{}", 200, 32, 1, 0, 1};
        return hob_attachment_add(db, &m.mine, s->collection->id, &w, d);
    }
    case EXTRACT: return make_chunks(db, d);
    case EMBED: return make_vectors(db, &s->completed, d);
    case REMOVE: return hob_file_remove(db, &m.mine, id, d);
    default: return hob_sweep(db, &swept, d);
    }
}

static void done(hob_store_job *j)
{
    ((step *)j)->finished = true;
}

static void wake(void *user)
{
    (void)user;
    (void)sem_post(&woken);
}

static int see_status(void *user, const hob_attachment *a, hob_diag *d)
{
    (void)d;
    *(bool *)user = a->status == HOB_ATTACHMENT_COMPLETED;
    return 0;
}

static void wait_until(const bool *finished)
{
    while (!*finished) {
        (void)sem_wait(&woken);
        hob_store_collect(m.store);
    }
}

/* Chooses one that can be made. */
static void choose_step(step *s)
{
    for (;;) {
        s->what = (int)draw(STEPS);
        if (s->what == UPLOAD && known.count < FILES_MAX) {
            s->number = known.count;
            made_id(&m, "file-", known.ids[s->number]);
            known.there[s->number] = known.gone[s->number] = false;
            known.attached[s->number] = known.complete[s->number] = false;
            return;
        }
        if (s->what == UPLOAD)
            continue;
        s->number = known.count ? draw(known.count) : 0;
        if ((s->what != ATTACH && s->what != REMOVE) || (known.count && known.there[s->number]))
            return;
    }
}

static void take_step(step *s)
{
    s->job.run = run_step;
    s->job.done = done;
    s->finished = s->completed = false;
    hob_store_post(m.store, &s->job);
    wait_until(&s->finished);
}

/* ---- what has to be there ---- */

static void check_bytes(sqlite3 *db, uint32_t number)
{
    static uint8_t data[LARGE_MAX];
    hob_file_place at = {0};
    hob_file f;
    size_t len = 0, i = 0;
    if (hob_file_find(db, &m.mine, known.ids[number], &f, &diag) < 0)
        fail_msg("file %u is lost: %s", number, diag.text);
    ok(hob_file_read_part(db, m.mine.tenant, f.id, &at, data, sizeof data, &len, &diag));
    while (i < len && data[i] == (uint8_t)number)
        i++;
    if (len != bytes_of(number) || f.bytes != len || i < len)
        fail_msg("file %u has %zu bytes, of which byte %zu is not what it was", number, len, i);
}

/* Asserts what was known, the bytes of some of them too, and from then on knows what else is complete. */
static void check_what_is_known(sqlite3 *db, const hob_collection *c, uint32_t bytes)
{
    const uint32_t from = bytes < known.count && bytes > 0 ? draw(known.count) : 0;
    for (uint32_t i = 0; i < known.count; i++) {
        hob_file f;
        bool complete = false;
        if (known.gone[i] && hob_file_find(db, &m.mine, known.ids[i], &f, &diag) != HOB_ENOENT)
            fail_msg("file %u is back", i);
        if (!known.there[i])
            continue;
        if (i >= from && bytes > 0) {
            check_bytes(db, i);
            bytes--;
        }
        const int code =
            hob_attachment_read(db, &m.mine, c->id, known.ids[i], see_status, &complete, &diag);
        if (known.attached[i] && code < 0)
            fail_msg("file %u is not attached any more: %s", i, diag.text);
        if (known.complete[i] && !complete)
            fail_msg("file %u was complete", i);
        known.complete[i] = complete;
    }
}

static void note_step(const step *s)
{
    if (s->what == UPLOAD)
        known.there[known.count++] = true;
    else if (s->what == ATTACH)
        known.attached[s->number] = true;
    else if (s->what == REMOVE)
        known.gone[s->number] = true;
    for (uint32_t i = 0; s->completed && i < known.count; i++)
        if (known.there[i] && known.attached[i] && !known.complete[i])
            ok(hob_attachment_read(hob_store_database(m.store), &m.mine, s->collection->id,
                                   known.ids[i], see_status, &known.complete[i], &diag));
}

/* A copy is checked: to be opened and closed once more puts the log into the file. */
static void open_again(int point)
{
    char copy[96], command[512];
    snprintf(copy, sizeof copy, "%s/copy", m.dir);
    snprintf(command, sizeof command, "cp %s %s; rm -f %s-wal; ! [ -e %s-wal ] || cp %s-wal %s-wal",
             m.path, copy, copy, m.path, m.path, copy);
    assert_int_equal(system(command), 0);
    if (hob_backup_check(copy, &diag) < 0 || hob_store_open(m.path, &m.store, &diag) < 0)
        fail_msg("point %d: %s", point, diag.text);
}

/* Few enough are left that the next point finds room for its own. */
static void forget_some(void)
{
    if (known.count <= FILES_MAX - 100)
        return;
    for (uint32_t i = 0; i < known.count; i++)
        if (known.there[i])
            ok(hob_file_remove(hob_store_database(m.store), &m.mine, known.ids[i], &diag));
    known.count = 0;
}

static hob_collection begin(uint32_t bytes_max)
{
    torn_begin(TORN_POWER, -1);
    made_store_open(&m);
    memset(&known, 0, sizeof known);
    known.bytes_max = bytes_max;
    return made_collection(&m, &m.mine, "default");
}

/* ---- power ---- */

static void work_until_it_ends(hob_collection *c)
{
    for (;;) {
        step s = {.collection = c};
        choose_step(&s);
        if (s.what == REMOVE) /* until it is acknowledged it may be there or not */
            known.there[s.number] = known.attached[s.number] = known.complete[s.number] = false;
        take_step(&s);
        if (torn.failing)
            return;
        if (s.job.code < 0)
            fail_msg("step %d: %s", s.what, s.job.diag.text);
        note_step(&s);
    }
}

static void test_power_is_lost(void **state)
{
    (void)state;
    hob_collection c = begin(BYTES_MAX);
    uint32_t in_file = 0;
    for (int point = 0; point < POINTS; point++) {
        torn_begin(TORN_POWER, draw(point % 4 ? 120 : 1500));
        ok(hob_store_start(m.store, wake, NULL, &diag));
        work_until_it_ends(&c);
        hob_store_close(m.store);
        m.store = NULL;
        in_file += torn.in_file;
        torn_apply(draw);
        torn_begin(TORN_POWER, -1);
        open_again(point);
        check_what_is_known(hob_store_database(m.store), &c, FILES_MAX);
        forget_some();
    }
    assert_in_range(in_file, 5,
                    POINTS -
                        5); /* both while the log is written and while it is put into the file */
    made_store_close(&m);
}

/* ---- a full disk ---- */

typedef struct look {
    hob_store_job job;
    const hob_collection *collection;
    bool finished;
} look;

/* Thread: search, while nothing is written. */
static int run_look(sqlite3 *db, hob_store_job *j, hob_diag *d)
{
    (void)d;
    check_what_is_known(db, ((look *)j)->collection, 3);
    return 0;
}

static void look_done(hob_store_job *j)
{
    ((look *)j)->finished = true;
}

static void check_reads(const hob_collection *c)
{
    look l = {.job = {.run = run_look, .done = look_done}, .collection = c};
    hob_store_read(m.store, &l.job);
    wait_until(&l.finished);
    ok(l.job.code);
}

/* Works until the disk has been full for a while. Returns refusals. */
static uint32_t work_while_full(hob_collection *c)
{
    uint32_t refused = 0;
    for (int taken = 0; refused < REFUSALS && taken < PATIENCE; taken += torn.failing) {
        step s = {.collection = c};
        choose_step(&s);
        take_step(&s);
        if (s.job.code == HOB_ENOSPC && torn.failing) {
            assert_non_null(strstr(s.job.diag.text, "the disk is full"));
            if (refused++ == 0)
                check_reads(c);
        } else if (s.job.code < 0)
            fail_msg("step %d: %d: %s", s.what, s.job.code, s.job.diag.text);
        else {
            if (s.what == REMOVE)
                known.there[s.number] = known.attached[s.number] = known.complete[s.number] = false;
            note_step(&s);
        }
    }
    return refused;
}

static void test_the_disk_is_full(void **state)
{
    (void)state;
    hob_collection c = begin(LARGE_MAX);
    uint32_t refused = 0, in_file = 0;
    ok(hob_store_start(m.store, wake, NULL, &diag));
    for (int point = 0; point < FULL_POINTS; point++) {
        torn_begin(point % 2 ? TORN_NO_GROWTH : TORN_NO_WRITES, draw(point % 3 ? 200 : 3000));
        refused += work_while_full(&c) > 0;
        in_file += torn.in_file;
        check_reads(&c);
        torn_begin(TORN_POWER, -1); /* there is room again */
        for (int i = 0; i < STEPS_AFTER; i++) {
            step s = {.collection = &c};
            choose_step(&s);
            take_step(&s);
            if (s.job.code < 0)
                fail_msg("step %d: %s", s.what, s.job.diag.text);
            if (s.what == REMOVE)
                known.there[s.number] = known.attached[s.number] = known.complete[s.number] = false;
            note_step(&s);
        }
        if (point % 10 == 9) {
            hob_store_close(m.store);
            open_again(point);
            check_what_is_known(hob_store_database(m.store), &c, FILES_MAX);
            forget_some();
            ok(hob_store_start(m.store, wake, NULL, &diag));
        }
    }
    assert_true(refused > FULL_POINTS / 2 && in_file > 2);
    made_store_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_is_lost),
                                       cmocka_unit_test(test_the_disk_is_full)};
    torn_register();
    (void)sem_init(&woken, 0, 0);
    return cmocka_run_group_tests_name("durability", tests, NULL, NULL);
}
