/* SPDX-License-Identifier: Apache-2.0
 *
 * The store: its file is made, refused when it is not its own, newer or damaged; keys and usage come back as they went in;
 * jobs of the thread are done in order, durably, or not at all; a key file is taken over once. */
#include "daemon/conf/file.h"
#include "daemon/store/audit_table.h"
#include "daemon/store/key_table.h"
#include "daemon/store/usage_table.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[80], keys_path[80], taken_path[96];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/hob-store-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/hob.db", dir);
    snprintf(keys_path, sizeof keys_path, "%s/keys", dir);
    snprintf(taken_path, sizeof taken_path, "%s" HOB_KEY_FILE_TAKEN, keys_path);
    return 0;
}

static int drop_files(void **state)
{
    char other[96];
    (void)state;
    unlink(path);
    unlink(keys_path);
    unlink(taken_path);
    snprintf(other, sizeof other, "%s-wal", path);
    unlink(other);
    snprintf(other, sizeof other, "%s-shm", path);
    unlink(other);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

static hob_store *open_store(void)
{
    hob_store *s = NULL;
    hob_diag diag = {""};
    const int code = hob_store_open(path, &s, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    return s;
}

static void refused(int wanted, const char *says)
{
    hob_store *s = NULL;
    hob_diag diag = {""};
    const int code = hob_store_open(path, &s, &diag);
    if (code != wanted || !strstr(diag.text, says) || !strstr(diag.text, path))
        fail_msg("code %d, \"%s\", expected \"%s\"", code, diag.text, says);
    assert_null(s);
}

static void change(const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static hob_key_record sample(const char *label, uint8_t first)
{
    hob_key_record r = {.hash = {first},
                        .priority = 1,
                        .admin = true,
                        .all_collections = true,
                        .models = " a b/c:1 ",
                        .created_s = 1000,
                        .expires_s = 5000};
    snprintf(r.label, sizeof r.label, "%s", label);
    snprintf(r.tenant, sizeof r.tenant, "acme");
    for (int i = 0; i < HOB_LIMITS; i++)
        r.limits[i] = i % 3 ? 100 + i : HOB_KEY_LIMIT_DEFAULT;
    return r;
}

static void assert_same(const hob_key_record *a, const hob_key_record *b)
{
    assert_int_equal(a->id, b->id);
    assert_memory_equal(a->hash, b->hash, 32);
    assert_memory_equal(a->old_hash, b->old_hash, 32);
    assert_int_equal(a->old_until_s, b->old_until_s);
    assert_string_equal(a->label, b->label);
    assert_string_equal(a->tenant, b->tenant);
    assert_int_equal(a->tenant_number, b->tenant_number);
    assert_int_equal(a->priority, b->priority);
    assert_int_equal(a->admin, b->admin);
    assert_int_equal(a->all_models, b->all_models);
    assert_int_equal(a->all_collections, b->all_collections);
    assert_string_equal(a->models, b->models);
    assert_string_equal(a->collections, b->collections);
    assert_int_equal(a->created_s, b->created_s);
    assert_int_equal(a->expires_s, b->expires_s);
    assert_int_equal(a->last_used_s, b->last_used_s);
    assert_int_equal(a->revoked_s, b->revoked_s);
    assert_memory_equal(a->limits, b->limits, sizeof a->limits);
}

static void test_the_file(void **state)
{
    (void)state;
    struct stat st;
    hob_store_close(open_store());
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    hob_store_close(open_store()); /* once more, as it is */
    change("PRAGMA user_version = 1000");
    refused(HOB_EUNSUPPORTED, "newer hob: schema version 1000");
    change("PRAGMA user_version = 1; PRAGMA application_id = 7");
    refused(HOB_EFORMAT, "another program");
    unlink(path);
    change("CREATE TABLE t (a)");
    refused(HOB_EFORMAT, "another program");
    assert_int_equal(hob_file_write(path, "not a database, but long enough", 31, 0600, NULL), 0);
    refused(HOB_EFORMAT, "not a database");
    snprintf(path, sizeof path, "%s/none/hob.db", dir);
    refused(HOB_EIO, "No such file");
    snprintf(path, sizeof path, "%s/hob.db", dir);
    hob_store_close(NULL);
}

static void test_damage_is_found(void **state)
{
    (void)state;
    hob_store *s = open_store();
    hob_diag diag = {""};
    struct stat st;
    for (int i = 0; i < 200; i++) {
        char label[16];
        snprintf(label, sizeof label, "k%d", i);
        hob_key_record r = sample(label, (uint8_t)i);
        r.hash[1] = (uint8_t)(i >> 8);
        assert_int_equal(hob_key_table_add(hob_store_database(s), &r, &diag), 0);
    }
    hob_store_close(s);
    assert_int_equal(stat(path, &st), 0);
    int fd = open(path, O_WRONLY);
    uint8_t garbage[4096];
    memset(garbage, 0xa5, sizeof garbage);
    assert_int_equal(pwrite(fd, garbage, sizeof garbage, st.st_size / 2 / 4096 * 4096),
                     sizeof garbage);
    close(fd);
    hob_store *none = NULL;
    assert_int_equal(hob_store_open(path, &none, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, path));
    assert_null(none);
}

static void test_keys_come_back(void **state)
{
    (void)state;
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    hob_diag diag = {""};
    hob_key_record a = sample("first", 1), b = sample("second", 2), c = sample("first", 3), found;
    snprintf(b.tenant, sizeof b.tenant, "other");
    b.all_models = true;
    b.models[0] = '\0';
    b.expires_s = 0;
    b.old_until_s = 77;
    b.old_hash[31] = 9;
    assert_int_equal(hob_key_table_add(db, &a, &diag), 0);
    assert_int_equal(hob_key_table_add(db, &b, &diag), 0);
    assert_int_not_equal(a.tenant_number, b.tenant_number);
    assert_int_equal(hob_key_table_add(db, &c, &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "\"first\" is another key's"));
    hob_store_close(s);
    s = open_store();
    db = hob_store_database(s);
    assert_int_equal(hob_key_table_find(db, "first", &found, &diag), 0);
    assert_same(&found, &a);
    assert_int_equal(hob_key_table_find(db, "2", &found, &diag), 0);
    assert_same(&found, &b);
    assert_int_equal(hob_key_table_find(db, "third", &found, &diag), HOB_ENOENT);
    found.revoked_s = 99;
    snprintf(found.tenant, sizeof found.tenant, "acme");
    assert_int_equal(hob_key_table_update(db, &found, &diag), 0);
    assert_int_equal(found.tenant_number, a.tenant_number);
    assert_int_equal(hob_key_table_find(db, "second", &found, &diag), HOB_ENOENT);
    snprintf(c.label, sizeof c.label, "second"); /* its label is free again */
    assert_int_equal(hob_key_table_add(db, &c, &diag), 0);
    assert_int_equal(c.id, 3);
    hob_store_close(s);
}

static int count_visit(void *user, const hob_key_record *r, hob_diag *diag)
{
    (void)r;
    (void)diag;
    ++*(int *)user;
    return 0;
}

static int sum_visit(void *user, const hob_key_usage *u, const char *label, hob_diag *diag)
{
    uint64_t *sums = user;
    (void)diag;
    assert_string_equal(label, "first");
    sums[0]++;
    sums[1] += u->requests;
    sums[2] += u->prompt_tokens + u->answer_tokens;
    sums[3] += u->cached_tokens;
    return 0;
}

static void test_usage_adds_up(void **state)
{
    (void)state;
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    hob_diag diag = {""};
    hob_key_record a = sample("first", 1);
    uint64_t sums[4] = {0};
    assert_int_equal(hob_key_table_add(db, &a, &diag), 0);
    for (int day = 10; day < 13; day++)
        for (int i = 0; i < 5; i++) {
            const hob_key_usage u = {a.id, day, 1, 10, 4, 2, 500 + i};
            assert_int_equal(hob_usage_table_add(db, &u, &diag), 0);
        }
    assert_int_equal(hob_usage_table_each(db, 0, 11, sum_visit, sums, &diag), 0);
    assert_int_equal(sums[0], 2);
    assert_int_equal(sums[1], 10);
    assert_int_equal(sums[2], 120);
    assert_int_equal(sums[3], 40);
    assert_int_equal(hob_key_table_find(db, "first", &a, &diag), 0);
    assert_int_equal(a.last_used_s, 504);
    assert_int_equal(hob_usage_table_prune(db, 12, &diag), 0);
    memset(sums, 0, sizeof sums);
    assert_int_equal(hob_usage_table_each(db, a.id, 0, sum_visit, sums, &diag), 0);
    assert_int_equal(sums[0], 1);
    assert_int_equal(hob_usage_table_each(db, a.id + 1, 0, sum_visit, sums, &diag), 0);
    assert_int_equal(sums[0], 1);
    const hob_key_usage stranger = {999, 12, 1, 1, 1, 1, 0};
    assert_int_equal(hob_usage_table_add(db, &stranger, &diag), HOB_EIO);
    hob_store_close(s);
}

#define HASH "18fdcb3ba8ea05e78c6c32c9f1ad0d7f1e6c3fa6f2d0e3dba0c97c6f0c2d3e1"

static void test_a_key_file_is_taken_over_once(void **state)
{
    (void)state;
    static const char text[] =
        HASH "1 first acme interactive admin\n" HASH "2 first other batch\n# and that is all\n";
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    hob_diag diag = {""};
    hob_key_record found;
    uint32_t count = 9;
    assert_int_equal(hob_key_table_import(db, keys_path, 5, &count, &diag), 0);
    assert_int_equal(count, 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(hob_file_write(keys_path, text, sizeof text - 1, 0600, NULL), 0);
        assert_int_equal(hob_key_table_import(db, keys_path, 5, &count, &diag), 0);
        assert_int_equal(count, round == 0 ? 2 : 0);
        assert_int_not_equal(access(keys_path, F_OK), 0);
        assert_int_equal(access(taken_path, F_OK), 0);
    }
    assert_int_equal(hob_key_table_find(db, "first", &found, &diag), 0);
    assert_true(found.admin && found.all_models && found.priority == 0 && found.created_s == 5);
    assert_int_equal(hob_key_table_find(db, "first-2", &found, &diag), 0);
    assert_true(!found.admin && found.priority == 2);
    assert_string_equal(found.tenant, "other");
    assert_int_equal(hob_file_write(keys_path, HASH "3 new\n", 70, 0600, NULL), 0);
    assert_int_equal(hob_key_table_import(db, keys_path, 5, &count, &diag), HOB_EFORMAT);
    assert_int_equal(access(keys_path, F_OK), 0);
    hob_store_close(s);
}

static void test_a_text_that_was_rotated_away_stays_away(void **state)
{
    (void)state;
    static const char text[] = HASH "1 first acme interactive\n";
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    hob_diag diag = {""};
    hob_key_record r;
    uint32_t count = 9;
    assert_int_equal(hob_file_write(keys_path, text, sizeof text - 1, 0600, NULL), 0);
    assert_int_equal(hob_key_table_import(db, keys_path, 5, &count, &diag), 0);
    assert_int_equal(count, 1);
    assert_int_equal(hob_key_table_find(db, "first", &r, &diag), 0);
    uint8_t before[32];
    memcpy(before, r.hash, sizeof before);
    for (uint8_t i = 1; i <= 2; i++) { /* with a grace, then without */
        const uint8_t next[32] = {i};
        assert_int_equal(hob_key_table_rotate(db, &r, next, i == 1 ? 99 : 0, &diag), 0);
        assert_int_equal(hob_key_table_find(db, "first", &r, &diag), 0);
        assert_memory_equal(r.hash, next, 32);
        assert_int_equal(r.old_until_s, i == 1 ? 99 : 0);
        if (i == 1)
            assert_memory_equal(r.old_hash, before, 32);
        assert_int_equal(hob_file_write(keys_path, text, sizeof text - 1, 0600, NULL), 0);
        assert_int_equal(hob_key_table_import(db, keys_path, 5, &count, &diag), 0);
        assert_int_equal(count, 0);
    }
    hob_store_close(s);
}

static void test_revoked_keys_are_forgotten_with_their_usage(void **state)
{
    (void)state;
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    hob_diag diag = {""};
    hob_key_record keys[4];
    static const int64_t revoked_s[4] = {0, 99, 99, 100};
    bool known = true;
    int count = 0;
    assert_int_equal(hob_key_table_has_any(db, &known, &diag), 0);
    assert_false(known);
    for (int i = 0; i < 4; i++) { /* valid; used; to be forgotten; too new for that */
        char label[8];
        snprintf(label, sizeof label, "k%d", i);
        keys[i] = sample(label, (uint8_t)i);
        assert_int_equal(hob_key_table_add(db, &keys[i], &diag), 0);
        keys[i].revoked_s = revoked_s[i];
        assert_int_equal(hob_key_table_update(db, &keys[i], &diag), 0);
    }
    const hob_key_usage u = {keys[1].id, 7, 1, 1, 1, 1, 0};
    assert_int_equal(hob_usage_table_add(db, &u, &diag), 0);
    assert_int_equal(hob_key_table_prune(db, 100, &diag), 0);
    assert_int_equal(hob_key_table_each(db, 0, true, count_visit, &count, &diag), 0);
    assert_int_equal(count, 3);
    assert_int_equal(hob_key_table_has_hash(db, keys[2].hash, &known, &diag), 0);
    assert_true(known); /* no key file brings it back */
    known = false;
    assert_int_equal(hob_key_table_was_revoked(db, "k2", &known, &diag), 0);
    assert_true(known); /* nor does a certificate */
    assert_int_equal(hob_key_table_was_revoked(db, "k0", &known, &diag), 0);
    assert_false(known);
    assert_int_equal(hob_usage_table_prune(db, 8, &diag), 0);
    assert_int_equal(hob_key_table_prune(db, 100, &diag), 0);
    count = 0;
    assert_int_equal(hob_key_table_each(db, 0, true, count_visit, &count, &diag), 0);
    assert_int_equal(count, 2);
    hob_store_close(s);
}

/* What ever was a key, be it forgotten since, keeps a start from being the first. */
static void test_a_forgotten_key_was_one(void **state)
{
    (void)state;
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    hob_diag diag = {""};
    hob_key_record r = sample("only", 1);
    bool any = false;
    int count = 0;
    assert_int_equal(hob_key_table_add(db, &r, &diag), 0);
    assert_int_equal(hob_key_table_has_any(db, &any, &diag), 0);
    assert_true(any);
    r.revoked_s = 5;
    assert_int_equal(hob_key_table_update(db, &r, &diag), 0);
    assert_int_equal(hob_key_table_prune(db, 100, &diag), 0);
    assert_int_equal(hob_key_table_each(db, 0, true, count_visit, &count, &diag), 0);
    assert_int_equal(count, 0);
    any = false;
    assert_int_equal(hob_key_table_has_any(db, &any, &diag), 0);
    assert_true(any);
    hob_store_close(s);
}

/* A store of the first schema: what its keys have of old texts is kept from coming back as well. */
static void test_an_older_store_is_brought_up_to_date(void **state)
{
    (void)state;
    hob_diag diag = {""};
    hob_store *s = open_store();
    hob_key_record r = sample("first", 1);
    bool known = false;
    r.old_until_s = 77;
    r.old_hash[0] = 9;
    assert_int_equal(hob_key_table_add(hob_store_database(s), &r, &diag), 0);
    hob_store_close(s);
    change("DROP TABLE retired; PRAGMA user_version = 1;"
           "DROP TABLE attachments; DROP TABLE batches; DROP TABLE contents; DROP TABLE chunks;"
           "DROP TABLE vectors; DROP TABLE collections; DROP TABLE file_parts; DROP TABLE files;"
           "DROP TABLE audit; ALTER TABLE keys DROP COLUMN log_content;"
           "ALTER TABLE keys DROP COLUMN stored_mb");
    s = open_store();
    assert_int_equal(hob_key_table_has_hash(hob_store_database(s), r.old_hash, &known, &diag), 0);
    assert_true(known);
    hob_store_close(s);
}

static int count_act(void *user, const hob_audit_entry *e, hob_diag *diag)
{
    int64_t *next = user; /* the number that the next one is to have */
    (void)diag;
    char object[32];
    assert_int_equal(e->id, *next);
    snprintf(object, sizeof object, "object %lld", (long long)e->id);
    assert_string_equal(e->object, object);
    assert_true(e->time_s == 1000 + e->id && strcmp(e->who, "uid:7") == 0 &&
                strcmp(e->act, "keys/add") == 0);
    --*next;
    return 0;
}

static void test_the_oldest_acts_are_forgotten(void **state)
{
    (void)state;
    enum { ACTS = HOB_AUDIT_ROWS_MAX + 20 };
    hob_diag diag = {""};
    hob_store *s = open_store();
    sqlite3 *db = hob_store_database(s);
    int64_t next = ACTS;

    assert_int_equal(hob_store_exec(db, "BEGIN", &diag), 0);
    for (int i = 1; i <= ACTS; i++) {
        hob_audit_entry e = {.time_s = 1000 + i, .who = "uid:7", .act = "keys/add"};
        snprintf(e.object, sizeof e.object, "object %d", i);
        assert_int_equal(hob_audit_table_add(db, &e, &diag), 0);
    }
    assert_int_equal(hob_store_exec(db, "COMMIT", &diag), 0);
    assert_int_equal(hob_audit_table_each(db, 5, count_act, &next, &diag), 0);
    assert_int_equal(next, ACTS - 5);
    next = ACTS;
    assert_int_equal(hob_audit_table_each(db, ACTS, count_act, &next, &diag), 0);
    assert_int_equal(next, ACTS - HOB_AUDIT_ROWS_MAX);
    hob_store_close(s);
}

/* ---- the thread ---- */

enum { JOBS = 200 };
static int order[JOBS], finished, wakes;

typedef struct add_job {
    hob_store_job job;
    int number;
} add_job;

static int add_run(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    const add_job *a = (const add_job *)j;
    char label[16];
    snprintf(label, sizeof label, "k%d", a->number);
    hob_key_record r = sample(label, (uint8_t)a->number);
    const int code = hob_key_table_add(db, &r, diag);
    return a->number % 10 == 9 ? hob_fail(diag, HOB_EINVAL, "%d is undone", a->number) : code;
}

static void add_done(hob_store_job *j)
{
    const add_job *a = (const add_job *)j;
    assert_int_equal(j->code, a->number % 10 == 9 ? HOB_EINVAL : 0);
    order[finished++] = a->number;
}

static void wake(void *user)
{
    (void)user;
    __atomic_add_fetch(&wakes, 1, __ATOMIC_RELAXED);
}

static void test_jobs(void **state)
{
    (void)state;
    hob_store *s = open_store();
    hob_diag diag = {""};
    static add_job jobs[JOBS];
    int count = 0;
    assert_int_equal(hob_store_start(s, wake, NULL, &diag), 0);
    for (int i = 0; i < JOBS; i++) {
        jobs[i] = (add_job){.job = {.run = add_run, .done = add_done}, .number = i};
        hob_store_post(s, &jobs[i].job);
        while (i == JOBS / 2 &&
               finished <= i) { /* what is done comes back while the store is open */
            usleep(1000);
            hob_store_collect(s);
        }
    }
    hob_store_close(s); /* does what was posted first */
    assert_int_equal(finished, JOBS);
    for (int i = 0; i < JOBS; i++)
        assert_int_equal(order[i], i);
    assert_true(__atomic_load_n(&wakes, __ATOMIC_RELAXED) > 0);
    s = open_store();
    assert_int_equal(hob_key_table_each(hob_store_database(s), 0, true, count_visit, &count, &diag),
                     0);
    assert_int_equal(count, JOBS - JOBS / 10);
    hob_store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_file, drop_files),
        cmocka_unit_test_teardown(test_damage_is_found, drop_files),
        cmocka_unit_test_teardown(test_keys_come_back, drop_files),
        cmocka_unit_test_teardown(test_usage_adds_up, drop_files),
        cmocka_unit_test_teardown(test_a_key_file_is_taken_over_once, drop_files),
        cmocka_unit_test_teardown(test_a_text_that_was_rotated_away_stays_away, drop_files),
        cmocka_unit_test_teardown(test_revoked_keys_are_forgotten_with_their_usage, drop_files),
        cmocka_unit_test_teardown(test_a_forgotten_key_was_one, drop_files),
        cmocka_unit_test_teardown(test_an_older_store_is_brought_up_to_date, drop_files),
        cmocka_unit_test_teardown(test_the_oldest_acts_are_forgotten, drop_files),
        cmocka_unit_test_teardown(test_jobs, drop_files),
    };
    return cmocka_run_group_tests_name("store", tests, make_dir, drop_dir);
}
