/* SPDX-License-Identifier: Apache-2.0
 *
 * Copies of the store: made while it is written to; what a check finds; which files are put back, and which are not. */
#include "daemon/store/backup.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <fcntl.h>

#include "tests/support/store_maker.h"

static made_store m;
static hob_diag diag;
static char copy[96];
static const char *const texts[] = {"the harbour at night", "cranes lift containers"};
static const uint16_t halves[2 * 4] = {0x3c00, 0, 0, 0, 0, 0x3c00, 0, 0};

/* A store with a document. */
static int open_it(void **state)
{
    (void)state;
    made_store_open(&m);
    snprintf(copy, sizeof copy, "%s/copy", m.dir);
    hob_collection c = made_collection(&m, &m.mine, "default");
    const hob_file f = made_file(&m, &m.mine, "x", "abc");
    made_attachment(&m, &m.mine, &c, &f, "{}");
    (void)made_content(&m, texts, 2, halves, 4);
    return 0;
}

static int close_it(void **state)
{
    (void)state;
    made_store_close(&m);
    return 0;
}

/* m.store is closed: its file is worked on. */
static void close_store(void)
{
    hob_store_close(m.store);
    m.store = NULL;
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    char *why = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    (void)sqlite3_exec(db, "PRAGMA writable_schema = ON", NULL, NULL, NULL);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
}

static void make_copy(void)
{
    hob_backup *b = NULL;
    ok(hob_backup_begin(m.db, copy, &b, &diag));
    int code;
    while ((code = hob_backup_step(b, &diag)) > 0)
        ;
    ok(code);
    hob_backup_free(b);
}

static void test_a_copy_is_made_beside_writes(void **state)
{
    (void)state;
    hob_backup *b = NULL;
    static char text[200000];
    int steps = 0, code;
    memset(text, 'x', sizeof text - 1);
    for (int i = 0; i < 20; i++)
        (void)made_file(&m, &m.mine, "large", text);
    ok(hob_backup_begin(m.db, copy, &b, &diag));
    while ((code = hob_backup_step(b, &diag)) > 0) {
        steps++;
        (void)made_file(&m, &m.mine, "beside", "written meanwhile");
    }
    ok(code);
    assert_true(steps > 2);
    hob_backup_free(b);
    ok(hob_backup_check(copy, &diag));
    close_store();
    sqlite3 *db;
    sqlite3_stmt *s = NULL;
    int64_t n = 0;
    assert_int_equal(sqlite3_open(copy, &db), SQLITE_OK);
    code = hob_sql_prepare(db, "SELECT count(*) FROM files WHERE name = 'beside'", NULL, &s, &diag);
    ok(hob_sql_value(code, s, &n, &diag));
    assert_int_equal(n, steps);
    sqlite3_close(db);
}

static void test_a_copy_that_is_given_up(void **state)
{
    (void)state;
    hob_backup *b = NULL;
    ok(hob_backup_begin(m.db, copy, &b, &diag));
    assert_int_equal(access(copy, F_OK), 0);
    hob_backup_free(b);
    assert_int_not_equal(access(copy, F_OK), 0);
    make_copy();
    assert_int_equal(hob_backup_begin(m.db, copy, &b, &diag), HOB_EIO); /* it is there */
    assert_int_equal(access(copy, F_OK), 0);
    hob_backup_free(NULL);
}

static void test_what_a_check_finds(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *says;
    } cases[] = {
        {"SELECT 1", NULL},
        {"DELETE FROM chunks WHERE id & 1", "lacks chunks"},
        {"DELETE FROM vectors WHERE chunk & 1", "lacks vectors"},
        {"UPDATE contents SET embedded = 1", "without all its vectors"},
        {"UPDATE contents SET embedded = 3", "lacks vectors"},
        {"UPDATE contents SET id = 1 << 33; UPDATE attachments SET content = 1 << 33",
         "that none can have"},
        {"UPDATE chunks SET text = '' WHERE id & 1", "has no text"},
        {"UPDATE files SET bytes = 9", "parts of another length"},
        {"INSERT INTO chunks VALUES (77 << 20, 0, 1, 1, '', 'x')", "of no content"},
        {"INSERT INTO vectors VALUES (77 << 20, x'00')", "of no chunk"},
        {"DELETE FROM files", "not there"},
        {"INSERT INTO text_1 (rowid, heading, text) VALUES (5, '', 'x')", "chunk too many"},
        {"INSERT INTO text_1 (text_1, rowid, heading, text) SELECT 'delete', id, heading, text"
         " FROM chunks WHERE id & 1",
         "lacks chunk"},
        {"UPDATE text_1_data SET block = zeroblob(40) WHERE id > 10", "full-text index"},
        {"CREATE TABLE other (a)", "has also other"},
        {"DROP INDEX files_key", "lacks files_key"},
        {"PRAGMA application_id = 5", "another program"},
        {"PRAGMA user_version = 99", "newer hob"},
        {"PRAGMA user_version = 0", "it is empty"},
    };
    make_copy();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char damaged[120];
        snprintf(damaged, sizeof damaged, "%s.%zu", copy, i);
        ok(hob_backup_restore(copy, damaged, &diag));
        run_sql(damaged, cases[i].sql);
        const int code = hob_backup_check(damaged, &diag);
        if (cases[i].says ? code >= 0 || !strstr(diag.text, cases[i].says) : code != 0)
            fail_msg("%s: %d, \"%s\"", cases[i].sql, code, diag.text);
    }
}

static void test_damaged_pages(void **state)
{
    (void)state;
    struct stat st;
    char damaged[120];
    int found = 0, tries = 0;
    make_copy();
    assert_int_equal(stat(copy, &st), 0);
    for (off_t at = 0; at < st.st_size; at += 4096, tries++) {
        snprintf(damaged, sizeof damaged, "%s.%d", copy, tries);
        ok(hob_backup_restore(copy, damaged, &diag));
        uint8_t garbage[512];
        for (size_t i = 0; i < sizeof garbage; i++)
            garbage[i] = (uint8_t)(i * 7 + at / 4096);
        const int fd = open(damaged, O_WRONLY);
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, at), sizeof garbage);
        close(fd);
        found += hob_backup_check(damaged, &diag) < 0; /* a page that holds nothing is not missed */
        unlink(damaged);
    }
    assert_true(tries > 40 && found > tries * 9 / 10);
}

static void test_putting_a_copy_back(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM keys; END",
        "CREATE VIEW v AS SELECT * FROM keys",
        "UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL UNIQUE', 'NOT NULL') WHERE name ="
        " 'files'",
        "PRAGMA user_version = 99",
        "DELETE FROM chunks",
    };
    char other[120], beside[160];
    hob_file found;
    make_copy();
    const hob_file later = made_file(&m, &m.mine, "later", "after the copy");
    assert_int_equal(hob_backup_restore(copy, m.path, &diag), HOB_ELIMIT); /* it is open */
    close_store();
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        snprintf(other, sizeof other, "%s.%zu", copy, i);
        ok(hob_backup_restore(copy, other, &diag));
        run_sql(other, hostile[i]);
        if (hob_backup_restore(other, m.path, &diag) >= 0)
            fail_msg("put back: %s", hostile[i]);
    }
    assert_true(hob_backup_restore("/dev/zero", m.path, &diag) < 0);
    assert_true(hob_backup_restore(m.dir, m.path, &diag) < 0);
    assert_true(hob_backup_restore("/nowhere", m.path, &diag) < 0);
    ok(hob_store_open(m.path, &m.store, &diag)); /* nothing has changed */
    ok(hob_file_find(hob_store_database(m.store), &m.mine, later.public, &found, &diag));
    close_store();
    ok(hob_backup_restore(copy, m.path, &diag));
    ok(hob_store_open(m.path, &m.store, &diag));
    assert_int_equal(
        hob_file_find(hob_store_database(m.store), &m.mine, later.public, &found, &diag),
        HOB_ENOENT);
    snprintf(beside, sizeof beside, "%s.before", m.path);
    ok(hob_backup_check(beside, &diag));
    snprintf(beside, sizeof beside, "%s.restored", m.path);
    assert_int_not_equal(access(beside, F_OK), 0);
}

/* As after a crash: its log holds what the file does not. */
static void test_an_old_log_is_not_taken_over(void **state)
{
    (void)state;
    char wal[96], kept[96], command[256];
    hob_file found;
    make_copy();
    const hob_file later = made_file(&m, &m.mine, "later", "in the log");
    snprintf(wal, sizeof wal, "%s-wal", m.path);
    snprintf(kept, sizeof kept, "%s/kept", m.dir);
    snprintf(command, sizeof command, "cp %s %s && cp %s %s-wal", m.path, kept, wal, kept);
    assert_int_equal(system(command), 0);
    close_store();
    snprintf(command, sizeof command, "mv %s %s && mv %s-wal %s", kept, m.path, kept, wal);
    assert_int_equal(system(command), 0);
    ok(hob_backup_restore(copy, m.path, &diag));
    ok(hob_store_open(m.path, &m.store, &diag));
    assert_int_equal(
        hob_file_find(hob_store_database(m.store), &m.mine, later.public, &found, &diag),
        HOB_ENOENT);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_it, close_it)
    const struct CMUnitTest tests[] = {
        TEST(test_a_copy_is_made_beside_writes), TEST(test_a_copy_that_is_given_up),
        TEST(test_what_a_check_finds),           TEST(test_damaged_pages),
        TEST(test_putting_a_copy_back),          TEST(test_an_old_log_is_not_taken_over),
    };
    return cmocka_run_group_tests_name("backup", tests, NULL, NULL);
}
