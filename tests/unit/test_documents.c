/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables of documents: files in parts, collections, attachments, contents; equal files share their content; what
 * nothing uses any more goes, step by step; lists in pages; what one tenant or a restricted key sees of another's; files
 * from outside whose schema is not hob's. */
#include "daemon/store/schema.h"
#include "daemon/store/sweep.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "tests/support/store_maker.h"

static made_store m;
static hob_diag diag;

static int open_it(void **state)
{
    (void)state;
    made_store_open(&m);
    return 0;
}

static int close_it(void **state)
{
    (void)state;
    made_store_close(&m);
    return 0;
}

static int64_t count(const char *sql)
{
    sqlite3_stmt *s = NULL;
    int64_t n = -1;
    const int code = hob_sql_prepare(m.db, sql, NULL, &s, &diag);
    ok(hob_sql_value(code, s, &n, &diag));
    return n;
}

static void sweep_all(void)
{
    hob_swept swept = {.more = true};
    for (int i = 0; swept.more; i++) {
        assert_true(i < 1000);
        ok(hob_sweep(m.db, &swept, &diag));
    }
}

/* ---- files ---- */

static void test_files_in_parts(void **state)
{
    (void)state;
    static uint8_t data[HOB_PART_BYTES], back[HOB_PART_BYTES];
    hob_file f = {.tenant = m.mine.tenant, .key = m.mine.key, .public = "file-x"}, found;
    size_t len = 0;
    uint64_t bytes = 0;
    memset(data, 7, sizeof data);
    ok(hob_file_begin(m.db, &f, &diag));
    for (uint32_t i = 0; i < 10; i++) {
        data[0] = (uint8_t)i;
        ok(hob_file_add_part(m.db, &f, i, data, i < 9 ? sizeof data : 5, 0, &diag));
    }
    assert_int_equal(hob_file_find(m.db, &m.mine, "file-x", &found, &diag), HOB_ENOENT);
    ok(hob_file_key_bytes(m.db, m.mine.key, &bytes, &diag));
    assert_int_equal(bytes, 9 * sizeof data + 5);
    assert_int_equal(hob_file_add_part(m.db, &f, 10, data, 100, 9 * sizeof data + 104, &diag),
                     HOB_ELIMIT);
    assert_non_null(strstr(diag.text, "9437189 of 9437288 bytes"));
    snprintf(f.name, sizeof f.name, "a/b.txt");
    snprintf(f.purpose, sizeof f.purpose, "user_data");
    f.sha256[31] = 3;
    ok(hob_file_complete(m.db, &f, &diag));
    assert_int_equal(hob_file_add_part(m.db, &f, 10, data, 100, 0, &diag), HOB_ENOENT);
    ok(hob_file_find(m.db, &m.mine, "file-x", &found, &diag));
    assert_int_equal(found.bytes, 9 * sizeof data + 5);
    assert_string_equal(found.name, "a/b.txt");
    assert_int_equal(found.sha256[31], 3);
    for (uint32_t i = 0; i < 10; i++) {
        hob_file_place at = {.part = i}, his = at;
        ok(hob_file_read_part(m.db, m.mine.tenant, found.id, &at, back, sizeof back, &len, &diag));
        assert_int_equal(len, i < 9 ? sizeof data : 5);
        assert_int_equal(back[0], i);
        assert_true(at.part == i + 1 && at.byte == 0);
        assert_int_equal(hob_file_read_part(m.db, m.theirs.tenant, found.id, &his, back,
                                            sizeof back, &len, &diag),
                         HOB_ENOENT);
    }
    hob_file_place at = {.part = 8}; /* in pieces */
    for (uint32_t i = 0; i < 4; i++) {
        ok(hob_file_read_part(m.db, m.mine.tenant, found.id, &at, back, 400000, &len, &diag));
        assert_int_equal(len, i < 2 ? 400000 : i == 2 ? sizeof data - 800000 : 5);
        assert_int_equal(back[0], i == 0 ? 8 : i < 3 ? 7 : 9);
    }
    assert_true(at.part == 10 && at.byte == 0);
    assert_int_equal(
        hob_file_read_part(m.db, m.mine.tenant, found.id, &at, back, sizeof back, &len, &diag),
        HOB_EFORMAT); /* there are no more */
    assert_int_equal(hob_file_remove(m.db, &m.theirs, "file-x", &diag), HOB_ENOENT);
    ok(hob_file_remove(m.db, &m.mine, "file-x", &diag));
    assert_int_equal(hob_file_find(m.db, &m.mine, "file-x", &found, &diag), HOB_ENOENT);
    assert_int_equal(count("SELECT count(*) FROM file_parts"), 10); /* they go one by one */
    sweep_all();
    assert_int_equal(count("SELECT count(*) FROM file_parts"), 0);
    assert_int_equal(count("SELECT count(*) FROM files"), 0);
    ok(hob_file_key_bytes(m.db, m.mine.key, &bytes, &diag));
    assert_int_equal(bytes, 0);
}

static void test_uploads_that_were_cut_off(void **state)
{
    (void)state;
    hob_file f = {.tenant = m.mine.tenant, .key = m.mine.key, .public = "file-x"};
    ok(hob_file_begin(m.db, &f, &diag));
    ok(hob_file_add_part(m.db, &f, 0, "abc", 3, 0, &diag));
    ok(hob_file_drop_uploads(m.db, &diag));
    assert_int_equal(hob_file_complete(m.db, &f, &diag), HOB_ENOENT);
    sweep_all();
    assert_int_equal(count("SELECT count(*) FROM files"), 0);
}

typedef struct list {
    uint32_t count;
    char text[4096];
} list;

static int list_file(void *user, const hob_file *f, hob_diag *d)
{
    list *l = user;
    (void)d;
    l->count++;
    strcat(strcat(l->text, f->name), " ");
    return 0;
}

static void test_pages(void **state)
{
    (void)state;
    char ids[10][HOB_PUBLIC_ID_MAX];
    bool more = false;
    for (int i = 0; i < 10; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        memcpy(ids[i], made_file(&m, &m.mine, name, name).public, HOB_PUBLIC_ID_MAX);
        (void)made_file(&m, &m.theirs, "theirs", name);
    }
    static const struct {
        hob_page page;
        int at;
        const char *names;
        bool more;
    } cases[] = {
        {{.limit = 20}, -1, "9 8 7 6 5 4 3 2 1 0 ", false},
        {{.limit = 10}, -1, "9 8 7 6 5 4 3 2 1 0 ", false},
        {{.limit = 3}, -1, "9 8 7 ", true},
        {{.limit = 3, .ascending = true}, -1, "0 1 2 ", true},
        {{.limit = 3}, 7, "6 5 4 ", true},
        {{.limit = 3}, 3, "2 1 0 ", false},
        {{.limit = 3}, 0, "", false},
        {{.limit = 3, .ascending = true}, 2, "3 4 5 ", true},
        {{.limit = 3, .before = true}, 4, "7 6 5 ", true},
        {{.limit = 3, .before = true}, 6, "9 8 7 ", false},
        {{.limit = 3, .before = true}, 7, "9 8 ", false},
        {{.limit = 3, .ascending = true, .before = true}, 5, "2 3 4 ", true},
        {{.limit = 3, .ascending = true, .before = true}, 2, "0 1 ", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_page page = cases[i].page;
        list l = {0};
        if (cases[i].at >= 0)
            memcpy(page.cursor, ids[cases[i].at], sizeof page.cursor);
        ok(hob_file_page(m.db, &m.mine, &page, "", list_file, &l, &more, &diag));
        if (strcmp(l.text, cases[i].names) != 0 || more != cases[i].more)
            fail_msg("case %zu: \"%s\", more %d", i, l.text, more);
        if (cases[i].at >= 0)
            assert_int_equal(hob_file_page(m.db, &m.theirs, &page, "", list_file, &l, &more, &diag),
                             HOB_ENOENT);
    }
    list l = {0};
    ok(hob_file_page(m.db, &m.mine, &(hob_page){.limit = 5}, "batch", list_file, &l, &more, &diag));
    assert_int_equal(l.count, 0);
}

/* ---- collections and what is in them ---- */

static hob_collection seen;
static char seen_metadata[64];

static int see_collection(void *user, const hob_collection *c, hob_diag *d)
{
    (void)user;
    (void)d;
    seen = *c;
    snprintf(seen_metadata, sizeof seen_metadata, "%s", c->metadata);
    return 0;
}

static void assert_counts(const hob_collection *c, uint64_t in_progress, uint64_t completed,
                          uint64_t failed, uint64_t cancelled)
{
    ok(hob_collection_read(m.db, &m.mine, c->public, see_collection, NULL, &diag));
    assert_int_equal(seen.files[HOB_ATTACHMENT_IN_PROGRESS], in_progress);
    assert_int_equal(seen.files[HOB_ATTACHMENT_COMPLETED], completed);
    assert_int_equal(seen.files[HOB_ATTACHMENT_FAILED], failed);
    assert_int_equal(seen.files[HOB_ATTACHMENT_CANCELLED], cancelled);
}

static const char *const texts[] = {"the harbour at night", "cranes lift containers",
                                    "gulls follow the tide"};
static const uint16_t halves[3 * 4] = {0x3c00, 0, 0, 0, 0, 0x3c00, 0, 0, 0, 0, 0x3c00, 0};

static void test_a_content_is_made(void **state)
{
    (void)state;
    static const int64_t none[HOB_CONTENTS_BUSY];
    hob_collection c = made_collection(&m, &m.mine, "default");
    const hob_file f = made_file(&m, &m.mine, "Read.MD", "abc");
    hob_content t;
    hob_file source;
    assert_int_equal(hob_content_next(m.db, none, 0, &t, &diag), HOB_ENOENT);
    made_attachment(&m, &m.mine, &c, &f, "{}");
    assert_counts(&c, 1, 0, 0, 0);
    ok(hob_content_next(m.db, none, 0, &t, &diag));
    assert_string_equal(t.suffix, "md");
    assert_int_equal(t.state, HOB_CONTENT_QUEUED);
    assert_int_equal(hob_content_next(m.db, (int64_t[]){0, t.id, 0, 0}, 0, &t, &diag), HOB_ENOENT);
    ok(hob_content_source(m.db, &t, &source, &diag));
    assert_string_equal(source.public, f.public);
    for (int i = 0; i < 3; i++) {
        const hob_stored_chunk k = {(uint64_t)i * 10, (uint64_t)i * 10 + 10, 5, "H",
                                    texts[i],         strlen(texts[i])};
        ok(hob_content_add_chunks(m.db, &t, &k, 1, (uint64_t)i + 1, &diag));
    }
    assert_int_equal(hob_content_add_vectors(m.db, &t, 0, 1, "model", halves, 8, &diag),
                     HOB_ENOENT);
    ok(hob_content_extracted(m.db, &t, &diag));
    assert_int_equal(hob_content_complete(m.db, &t, "model", &diag), HOB_ENOENT);
    ok(hob_content_add_vectors(m.db, &t, 0, 2, "model", halves, 8, &diag));
    assert_int_equal(hob_content_add_vectors(m.db, &t, 0, 1, "model", halves, 8, &diag),
                     HOB_ENOENT);
    assert_counts(&c, 1, 0, 0, 0);
    assert_int_equal(seen.usage_bytes, 0);
    ok(hob_content_next(m.db, none, 0, &t, &diag)); /* as after a crash */
    assert_int_equal(t.state, HOB_CONTENT_EXTRACTED);
    assert_int_equal(t.chunks, 3);
    assert_int_equal(t.embedded, 2);
    ok(hob_content_add_vectors(m.db, &t, 2, 1, "model", halves + 8, 8, &diag));
    ok(hob_content_complete(m.db, &t, "model", &diag));
    assert_counts(&c, 0, 1, 0, 0);
    assert_int_equal(seen.usage_bytes,
                     strlen(texts[0]) + strlen(texts[1]) + strlen(texts[2]) + 3 * 8);
    assert_int_equal(hob_content_fail(m.db, &t, "x", "y", &diag), HOB_ENOENT);
    assert_int_equal(hob_content_next(m.db, none, 0, &t, &diag), HOB_ENOENT);
    assert_int_equal(count("SELECT count(*) FROM text_1 WHERE text_1 MATCH 'harbour'"), 1);
}

static void test_equal_files_share_a_content(void **state)
{
    (void)state;
    hob_collection a = made_collection(&m, &m.mine, "a"), b = made_collection(&m, &m.mine, "b"),
                   c = made_collection(&m, &m.theirs, "a");
    const hob_file f = made_file(&m, &m.mine, "one.txt", "same"),
                   g = made_file(&m, &m.mine, "two.txt", "same"),
                   h = made_file(&m, &m.theirs, "one.txt", "same"),
                   other = made_file(&m, &m.mine, "two.md", "same");
    made_attachment(&m, &m.mine, &a, &f, "{}");
    const hob_content t = made_content(&m, texts, 3, halves, 4);
    made_attachment(&m, &m.mine, &a, &g, "{}"); /* at once, without any work */
    made_attachment(&m, &m.mine, &b, &f, "{}");
    assert_counts(&a, 0, 2, 0, 0);
    assert_counts(&b, 0, 1, 0, 0);
    made_attachment(&m, &m.theirs, &c, &h, "{}");   /* another tenant's is another content */
    made_attachment(&m, &m.mine, &b, &other, "{}"); /* as is one that is read differently */
    assert_int_equal(count("SELECT count(*) FROM contents"), 3);
    ok(hob_file_remove(m.db, &m.mine, f.public, &diag));
    assert_counts(&a, 0, 1, 0, 0);
    assert_counts(&b, 1, 0, 0, 0);
    sweep_all();
    assert_int_equal(count("SELECT count(*) FROM chunks"), 3);
    ok(hob_attachment_remove(m.db, &m.mine, a.id, g.public, &diag));
    hob_swept swept = {.more = true};
    int64_t gone = 0;
    while (swept.more) {
        ok(hob_sweep(m.db, &swept, &diag));
        gone = swept.content ? swept.content : gone;
    }
    assert_int_equal(gone, t.id);
    assert_int_equal(count("SELECT count(*) FROM chunks"), 0);
    assert_int_equal(count("SELECT count(*) FROM vectors"), 0);
    assert_int_equal(count("SELECT count(*) FROM text_1 WHERE text_1 MATCH 'harbour'"), 0);
    ok(hob_store_exec(m.db, "INSERT INTO text_1 (text_1) VALUES ('integrity-check')", &diag));
}

static hob_attachment last;

static int see_attachment(void *user, const hob_attachment *a, hob_diag *d)
{
    list *l = user;
    (void)d;
    last = *a;
    if (l) {
        l->count++;
        strcat(strcat(l->text, a->name), " ");
    }
    return 0;
}

static void test_failed_cancelled_and_again(void **state)
{
    (void)state;
    static const int64_t none[HOB_CONTENTS_BUSY];
    hob_collection c = made_collection(&m, &m.mine, "default");
    hob_file f[3];
    hob_content t;
    int64_t batch = 0;
    hob_file_batch b;
    bool more;
    ok(hob_file_batch_add(m.db, c.id, "vsfb_1", 5, &batch, &diag));
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d.txt", i);
        f[i] = made_file(&m, &m.mine, name, name);
        const hob_attachment_wish w = {f[i].public, "{\"a\":1}", 200, 32, 1, batch, 100};
        ok(hob_attachment_add(m.db, &m.mine, c.id, &w, &diag));
    }
    ok(hob_content_next(m.db, none, 0, &t, &diag));
    const hob_stored_chunk k = {0, 4, 5, "", "half", 4};
    ok(hob_content_add_chunks(m.db, &t, &k, 1, 1, &diag));
    ok(hob_content_count_failure(m.db, &t, &diag));
    ok(hob_content_fail(m.db, &t, "unsupported_file", "it is a picture", &diag));
    (void)made_content(&m, texts, 3, NULL, 0);
    assert_counts(&c, 1, 1, 1, 0);
    ok(hob_attachment_read(m.db, &m.mine, c.id, f[0].public, see_attachment, NULL, &diag));
    assert_int_equal(last.status, HOB_ATTACHMENT_FAILED);
    assert_string_equal(last.error_code, "unsupported_file");
    assert_string_equal(last.error, "it is a picture");
    ok(hob_file_batch_find(m.db, c.id, "vsfb_1", &b, &diag));
    assert_int_equal(b.files[HOB_ATTACHMENT_IN_PROGRESS], 1);
    assert_int_equal(hob_file_batch_find(m.db, c.id + 1, "vsfb_1", &b, &diag), HOB_ENOENT);
    ok(hob_file_batch_cancel(m.db, &m.mine, c.id, batch, &diag));
    assert_counts(&c, 0, 1, 1, 1);
    list l = {0};
    ok(hob_attachment_page(m.db, &m.mine, c.id, &(hob_page){.limit = 9}, HOB_ATTACHMENT_CANCELLED,
                           batch, see_attachment, &l, &more, &diag));
    assert_string_equal(l.text, "f2.txt ");
    assert_int_equal(hob_content_next(m.db, none, 0, &t, &diag), HOB_ENOENT);
    sweep_all(); /* what was stored of the failed one goes as well */
    assert_int_equal(count("SELECT count(*) FROM chunks WHERE text = 'half'"), 0);
    assert_int_equal(count("SELECT count(*) FROM contents"), 2);
    made_attachment(&m, &m.mine, &c, &f[0], "{}"); /* tried again */
    made_attachment(&m, &m.mine, &c, &f[2], "{}");
    assert_counts(&c, 2, 1, 0, 0);
    ok(hob_content_next(m.db, none, 0, &t, &diag));
    assert_int_equal(t.failures, 0);
    assert_int_equal(t.chunks, 0);
}

static void test_tenants_take_turns(void **state)
{
    (void)state;
    static const int64_t none[HOB_CONTENTS_BUSY];
    hob_collection mine = made_collection(&m, &m.mine, ""),
                   theirs = made_collection(&m, &m.theirs, "");
    hob_content t;
    uint32_t last_tenant = 0, order[4];
    for (int i = 0; i < 3; i++) {
        char text[8];
        snprintf(text, sizeof text, "%d", i);
        const hob_file f = made_file(&m, &m.mine, "x", text);
        made_attachment(&m, &m.mine, &mine, &f, "{}");
    }
    const hob_file f = made_file(&m, &m.theirs, "x", "y");
    made_attachment(&m, &m.theirs, &theirs, &f, "{}");
    for (int i = 0; i < 4; i++) {
        ok(hob_content_next(m.db, none, last_tenant, &t, &diag));
        last_tenant = order[i] = t.tenant;
        ok(hob_content_fail(m.db, &t, "x", "x", &diag));
    }
    assert_int_equal(order[0], m.mine.tenant);
    assert_int_equal(order[1], m.theirs.tenant);
    assert_int_equal(order[2], m.mine.tenant);
    assert_int_equal(order[3], m.mine.tenant);
}

static int count_vector(void *user, int64_t chunk, const void *data, size_t size, hob_diag *d)
{
    (void)data;
    (void)d;
    (void)chunk;
    assert_int_equal(size, 8);
    ++*(int *)user;
    return 0;
}

static void test_another_model(void **state)
{
    (void)state;
    static const int64_t none[HOB_CONTENTS_BUSY];
    hob_collection c = made_collection(&m, &m.mine, "default");
    const hob_file f = made_file(&m, &m.mine, "x", "y");
    hob_content t;
    uint64_t changed = 9;
    int found = 0;
    made_attachment(&m, &m.mine, &c, &f, "{}");
    (void)made_content(&m, texts, 3, halves, 4);
    ok(hob_contents_remodel(m.db, "model", &changed, &diag));
    assert_int_equal(changed, 0);
    ok(hob_contents_vectors(m.db, "model", 0, INT64_MAX, 100, count_vector, &found, &diag));
    assert_int_equal(found, 3);
    ok(hob_contents_remodel(m.db, "other", &changed, &diag));
    assert_int_equal(changed, 1);
    found = 0;
    ok(hob_contents_vectors(m.db, "other", 0, INT64_MAX, 100, count_vector, &found, &diag));
    assert_int_equal(found, 0);
    assert_counts(&c, 0, 1, 0, 0); /* its text is found meanwhile */
    ok(hob_content_next(m.db, none, 0, &t, &diag));
    assert_int_equal(t.state, HOB_CONTENT_STALE);
    assert_int_equal(t.embedded, 0);
    ok(hob_content_add_vectors(m.db, &t, 0, 1, "other", halves, 8, &diag));
    ok(hob_contents_remodel(m.db, "other", &changed, &diag)); /* as after a crash: it goes on */
    assert_int_equal(changed, 0);
    ok(hob_content_add_vectors(m.db, &t, 1, 2, "other", halves + 4, 8, &diag));
    ok(hob_content_complete(m.db, &t, "other", &diag));
    ok(hob_contents_vectors(m.db, "other", 0, INT64_MAX, 100, count_vector, &found, &diag));
    assert_int_equal(found, 3);
    ok(hob_contents_remodel(m.db, "third", &changed, &diag));
    ok(hob_content_next(m.db, none, 0, &t, &diag));
    ok(hob_content_complete(m.db, &t, "", &diag)); /* no model at all: by its text alone */
    assert_int_equal(hob_content_next(m.db, none, 0, &t, &diag), HOB_ENOENT);
}

/* ---- who sees what ---- */

static int list_collection(void *user, const hob_collection *c, hob_diag *d)
{
    list *l = user;
    (void)d;
    l->count++;
    strcat(strcat(l->text, c->name), ",");
    return 0;
}

static void test_restricted_keys(void **state)
{
    (void)state;
    hob_scope few = made_scope(&m, "mine", "few");
    hob_collection a = made_collection(&m, &m.mine, "a"), b = made_collection(&m, &m.mine, "b"),
                   ab = made_collection(&m, &m.mine, "a b"),
                   none = made_collection(&m, &m.mine, "");
    const hob_file in_a = made_file(&m, &m.mine, "in_a", "1"),
                   in_b = made_file(&m, &m.mine, "in_b", "2"),
                   in_both = made_file(&m, &m.mine, "in_both", "3"),
                   loose = made_file(&m, &m.mine, "loose", "4"),
                   own = made_file(&m, &few, "own", "5");
    hob_collection_key key;
    hob_collection made = {.public = "vs_new", .name = "b", .metadata = "{}"};
    hob_file found;
    bool more;
    list l = {0};
    made_attachment(&m, &m.mine, &a, &in_a, "{}");
    made_attachment(&m, &m.mine, &b, &in_b, "{}");
    made_attachment(&m, &m.mine, &a, &in_both, "{}");
    made_attachment(&m, &m.mine, &b, &in_both, "{}");
    few.all = false;
    snprintf(few.names, sizeof few.names, " a %s ", none.public);
    ok(hob_collection_page(m.db, &few, &(hob_page){.limit = 9}, NULL, list_collection, &l, &more,
                           &diag));
    assert_string_equal(l.text, ",a,");
    assert_int_equal(hob_collection_find(m.db, &few, b.public, &key, &diag), HOB_ENOENT);
    assert_int_equal(hob_collection_find(m.db, &few, ab.public, &key, &diag), HOB_ENOENT);
    snprintf(few.names, sizeof few.names, " a b ");
    assert_int_equal(hob_collection_find(m.db, &few, ab.public, &key, &diag), HOB_ENOENT);
    assert_int_equal(hob_collection_find(m.db, &few, none.public, &key, &diag), HOB_ENOENT);
    snprintf(few.names, sizeof few.names, " a ");
    l = (list){0};
    ok(hob_file_page(m.db, &few, &(hob_page){.limit = 9}, "", list_file, &l, &more, &diag));
    assert_string_equal(l.text, "own in_both in_a ");
    assert_int_equal(hob_file_find(m.db, &few, in_b.public, &found, &diag), HOB_ENOENT);
    assert_int_equal(hob_file_find(m.db, &few, loose.public, &found, &diag), HOB_ENOENT);
    assert_int_equal(hob_file_remove(m.db, &few, in_both.public, &diag), HOB_EINVAL);
    ok(hob_file_remove(m.db, &few, in_a.public, &diag));
    ok(hob_file_remove(m.db, &few, own.public, &diag));
    assert_int_equal(hob_collection_add(m.db, &few, &made, &diag), HOB_EINVAL);
    snprintf(made.public, sizeof made.public, "vs_new2");
    snprintf(made.name, sizeof made.name, "a");
    ok(hob_collection_add(m.db, &few, &made, &diag));
    assert_int_equal(hob_collection_change(m.db, &few, a.public, "b", NULL, &diag), HOB_EINVAL);
    snprintf(few.names, sizeof few.names, " ");
    l = (list){0};
    ok(hob_collection_page(m.db, &few, &(hob_page){.limit = 9}, NULL, list_collection, &l, &more,
                           &diag));
    assert_int_equal(l.count, 0);
}

static void test_other_tenants(void **state)
{
    (void)state;
    hob_collection c = made_collection(&m, &m.mine, "default"),
                   theirs = made_collection(&m, &m.theirs, "default");
    const hob_file f = made_file(&m, &m.mine, "x", "1");
    const hob_attachment_wish w = {f.public, "{}", 200, 32, 1, 0, 100};
    hob_collection_key key;
    int64_t content;
    bool more;
    list l = {0};
    made_attachment(&m, &m.mine, &c, &f, "{}");
    (void)made_content(&m, texts, 3, halves, 4);
    const hob_scope *they = &m.theirs;
    assert_int_equal(hob_collection_find(m.db, they, c.public, &key, &diag), HOB_ENOENT);
    assert_int_equal(hob_collection_change(m.db, they, c.public, "x", "{}", &diag), HOB_ENOENT);
    assert_int_equal(hob_collection_remove(m.db, they, c.public, &diag), HOB_ENOENT);
    assert_int_equal(hob_collection_read(m.db, they, c.public, see_collection, NULL, &diag),
                     HOB_ENOENT);
    assert_int_equal(hob_attachment_add(m.db, they, theirs.id, &w, &diag), HOB_ENOENT);
    assert_int_equal(
        hob_attachment_read(m.db, they, theirs.id, f.public, see_attachment, NULL, &diag),
        HOB_ENOENT);
    /* even with a number that only a mistake could bring here */
    assert_int_equal(hob_attachment_read(m.db, they, c.id, f.public, see_attachment, NULL, &diag),
                     HOB_ENOENT);
    assert_int_equal(hob_attachment_change(m.db, they, c.id, f.public, "{}", &diag), HOB_ENOENT);
    assert_int_equal(hob_attachment_remove(m.db, they, c.id, f.public, &diag), HOB_ENOENT);
    assert_int_equal(hob_attachment_content(m.db, they, c.id, f.public, &content, &diag),
                     HOB_ENOENT);
    ok(hob_attachment_page(m.db, they, c.id, &(hob_page){.limit = 9}, -1, 0, see_attachment, &l,
                           &more, &diag));
    assert_int_equal(l.count, 0);
    char public[HOB_PUBLIC_ID_MAX];
    ok(hob_collection_find_name(m.db, they, "default", public, &diag));
    assert_string_equal(public, theirs.public);
    ok(hob_collection_remove(m.db, &m.mine, c.public, &diag));
    assert_int_equal(count("SELECT count(*) FROM attachments"), 0);
    sweep_all();
    assert_int_equal(count("SELECT count(*) FROM chunks"), 0);
    assert_int_equal(count("SELECT count(*) FROM files"), 1);
}

/* ---- files from outside ---- */

static void test_a_schema_that_is_not_hobs(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *says;
    } cases[] = {
        {"CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM keys; END", "it has also t"},
        {"CREATE VIEW v AS SELECT 1", "it has also v"},
        {"CREATE TABLE other (a)", "it has also other"},
        {"DROP INDEX files_tenant", "it lacks"},
        {"DROP INDEX files_tenant; CREATE INDEX files_tenant ON files (tenant, state, id DESC)",
         "files_tenant differs"},
        {"ALTER TABLE keys ADD COLUMN more TEXT", "keys differs"},
        {"CREATE VIRTUAL TABLE text_7 USING fts5 (heading, text)", "it has also text_7"},
        {"PRAGMA user_version = 2", "it has also"},
    };
    hob_collection c = made_collection(&m, &m.mine, "default");
    const hob_file f = made_file(&m, &m.mine, "x", "1");
    made_attachment(&m, &m.mine, &c, &f, "{}");
    (void)made_content(&m, texts, 3, halves, 4);
    ok(hob_schema_compare(m.db, &diag));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ok(hob_store_exec(m.db, "BEGIN", &diag));
        ok(hob_store_exec(m.db, cases[i].sql, &diag));
        const int code = hob_schema_compare(m.db, &diag);
        if (code != HOB_EFORMAT || !strstr(diag.text, cases[i].says))
            fail_msg("%s: %d, \"%s\"", cases[i].sql, code, diag.text);
        ok(hob_store_exec(m.db, "ROLLBACK", &diag));
    }
    ok(hob_schema_compare(m.db, &diag));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, open_it, close_it)
    const struct CMUnitTest tests[] = {
        TEST(test_files_in_parts),
        TEST(test_uploads_that_were_cut_off),
        TEST(test_pages),
        TEST(test_a_content_is_made),
        TEST(test_equal_files_share_a_content),
        TEST(test_failed_cancelled_and_again),
        TEST(test_tenants_take_turns),
        TEST(test_another_model),
        TEST(test_restricted_keys),
        TEST(test_other_tenants),
        TEST(test_a_schema_that_is_not_hobs),
    };
    return cmocka_run_group_tests_name("documents", tests, NULL, NULL);
}
