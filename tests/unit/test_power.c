/* SPDX-License-Identifier: Apache-2.0
 *
 * Power is lost at random moments of storing documents, and the disk keeps any part of what was not synced: what was
 * acknowledged is there afterwards, and the store is sound. */
#include "daemon/store/backup.h"
#include "daemon/store/sweep.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "tests/support/store_maker.h"
#include "tests/support/torn_vfs.h"

enum { POINTS = 200, FILES_MAX = 400, DIM = 8 };

static made_store m;
static hob_diag diag;
static uint64_t random_state = 88172645463325252u;

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
    bool there[FILES_MAX], complete[FILES_MAX];
    uint32_t count;
} known;

typedef struct step {
    hob_store_job job;
    int what;
    uint32_t number; /* of a file */
    hob_collection *collection;
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

static int make_vectors(sqlite3 *db, hob_diag *d)
{
    static const int64_t none[HOB_CONTENTS_BUSY];
    static uint16_t halves[6 * DIM];
    hob_content t;
    int code = hob_content_next(db, none, 0, &t, d);
    if (code < 0 || t.state != HOB_CONTENT_EXTRACTED)
        return code == HOB_ENOENT ? 0 : code;
    const uint32_t n = t.embedded == 0 ? 3 : t.chunks - t.embedded;
    code = hob_content_add_vectors(db, &t, t.embedded, n, "model", halves, sizeof *halves * DIM, d);
    if (code == 0 && t.embedded + n == t.chunks)
        code = hob_content_complete(db, &t, "model", d);
    return code;
}

/* Thread: store. */
static int run_step(sqlite3 *db, hob_store_job *j, hob_diag *d)
{
    static char data[5000];
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
        memset(data, (int)draw(256), sizeof data);
        return (code = hob_file_begin(db, &f, d)) < 0 ||
                       (code =
                            hob_file_add_part(db, &f, 0, data, 1 + draw(sizeof data - 1), 0, d)) < 0
                   ? code
                   : hob_file_complete(db, &f, d);
    case ATTACH: {
        const hob_attachment_wish w = {id, "{}", 200, 32, 1, 0, 1};
        return hob_attachment_add(db, &m.mine, s->collection->id, &w, d);
    }
    case EXTRACT: return make_chunks(db, d);
    case EMBED: return make_vectors(db, d);
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
}

static int see_status(void *user, const hob_attachment *a, hob_diag *d)
{
    (void)d;
    *(bool *)user = a->status == HOB_ATTACHMENT_COMPLETED;
    return 0;
}

/* One step, waited for. False: the power is gone. */
static bool take_step(step *s)
{
    s->job.run = run_step;
    s->job.done = done;
    s->finished = false;
    hob_store_post(m.store, &s->job);
    while (!s->finished) {
        usleep(20);
        hob_store_collect(m.store);
    }
    if (torn.dead)
        return false;
    if (s->job.code < 0)
        fail_msg("step %d: %s", s->what, s->job.diag.text);
    return true;
}

static void work_until_it_ends(hob_collection *c)
{
    for (;;) {
        step s = {.what = (int)draw(STEPS), .collection = c};
        if (s.what == UPLOAD && known.count < FILES_MAX) {
            s.number = known.count;
            known.there[s.number] = known.complete[s.number] = false;
            made_id(&m, "file-", known.ids[s.number]);
        } else if (s.what == ATTACH || s.what == REMOVE) {
            s.number = known.count ? draw(known.count) : 0;
            if (!known.count || !known.there[s.number])
                continue;
        } else if (s.what == UPLOAD)
            continue;
        if (s.what == REMOVE) /* until it is acknowledged it may be there or not */
            known.there[s.number] = known.complete[s.number] = false;
        if (!take_step(&s))
            return;
        if (s.what == UPLOAD)
            known.there[known.count++] = true;
    }
}

static void check_what_is_known(const hob_collection *c)
{
    sqlite3 *db = hob_store_database(m.store);
    for (uint32_t i = 0; i < known.count; i++) {
        hob_file f;
        bool complete = false;
        if (!known.there[i])
            continue;
        if (hob_file_find(db, &m.mine, known.ids[i], &f, &diag) < 0)
            fail_msg("file %u is lost: %s", i, diag.text);
        const int code =
            hob_attachment_read(db, &m.mine, c->id, known.ids[i], see_status, &complete, &diag);
        if (known.complete[i] && (code < 0 || !complete))
            fail_msg("file %u was complete", i);
        known.complete[i] = complete;
    }
}

static void test_power_is_lost(void **state)
{
    (void)state;
    torn_register();
    torn_begin(-1);
    made_store_open(&m);
    hob_collection c = made_collection(&m, &m.mine, "default");
    for (int point = 0; point < POINTS; point++) {
        torn_begin(draw(point % 4 ? 120 : 1500));
        ok(hob_store_start(m.store, wake, NULL, &diag));
        work_until_it_ends(&c);
        hob_store_close(m.store);
        m.store = NULL;
        torn_apply(draw);
        torn_begin(-1);
        if (point % 10 == 9) {
            const int code = hob_backup_check(m.path, &diag);
            if (code < 0)
                fail_msg("point %d: %s", point, diag.text);
        }
        if (hob_store_open(m.path, &m.store, &diag) < 0)
            fail_msg("point %d: %s", point, diag.text);
        check_what_is_known(&c);
        if (known.count > FILES_MAX - 100) { /* enough of these */
            for (uint32_t i = 0; i < known.count; i++)
                if (known.there[i])
                    ok(hob_file_remove(hob_store_database(m.store), &m.mine, known.ids[i], &diag));
            known.count = 0;
        }
    }
    made_store_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_is_lost)};
    return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}
