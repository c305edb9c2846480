/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: a line is one line of valid UTF-8 whatever was in it and however long it is; the ring forgets the oldest and says
 * how many; and a pipe that nobody reads costs lines, which are counted and told of, but holds nobody up; nor does a disk that is full. */
#include "daemon/gateway/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on

static hob_log_line line;
static const struct timespec epoch = {.tv_sec = 86399, .tv_nsec = 987654321};

static void begin(bool json)
{
    memset(line.text, 'x', sizeof line.text);
    hob_log_line_begin(&line, json, &epoch, "info");
}

static void check(const char *wanted)
{
    hob_log_line_end(&line);
    assert_int_equal(line.len, strlen(wanted));
    assert_memory_equal(line.text, wanted, line.len);
}

#define BEGIN "time=1970-01-01T23:59:59.987Z level=info"
#define BEGIN_JSON "{\"time\":\"1970-01-01T23:59:59.987Z\",\"level\":\"info\""

static void test_fields(void **state)
{
    (void)state;
    begin(false);
    hob_log_line_word(&line, "msg", "plain");
    hob_log_line_word(&line, "empty", "");
    hob_log_line_word(&line, "said", "a \"b\"\\=\n\x7f\x01");
    hob_log_line_word(&line, "accent", "\xc3\xa9");
    hob_log_line_text(&line, "broken", "a\xff\xc3", 3);
    hob_log_line_number(&line, "n", INT64_MIN);
    hob_log_line_ms(&line, "ms", 1234567);
    check(BEGIN
          " msg=plain empty=\"\" said=\"a \\\"b\\\"\\\\=\\n\\u007f\\u0001\" accent=\"\xc3\xa9\""
          " broken=\"a\\ufffd\\ufffd\" n=-9223372036854775808 ms=1234.567\n");
    begin(true);
    hob_log_line_word(&line, "msg", "plain");
    hob_log_line_text(&line, "nul", "a\0b", 3);
    hob_log_line_ms(&line, "ms", 7);
    check(BEGIN_JSON ",\"msg\":\"plain\",\"nul\":\"a\\u0000b\",\"ms\":0.007}\n");
}

/* Of every length around the bound, in both forms, with characters of one to six bytes as they are written. */
static void test_long_lines(void **state)
{
    (void)state;
    static const char *const parts[] = {"a", "\xc3\xa9", "\x01", "\xff", "\xf0\x9f\x98\x80"};
    char *value = malloc(HOB_LOG_LINE_MAX + 8);
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++)
        for (int json = 0; json < 2; json++)
            for (size_t lead = 0; lead < 8; lead++) {
                size_t len = lead;
                memset(value, 'b', lead);
                for (; len + strlen(parts[p]) <= HOB_LOG_LINE_MAX; len += strlen(parts[p]))
                    memcpy(value + len, parts[p], strlen(parts[p]));
                begin(json);
                hob_log_line_text(&line, "long", value, len);
                hob_log_line_number(&line, "n", INT64_MAX);
                hob_log_line_word(&line, "after", "this");
                hob_log_line_end(&line);
                assert_true(line.len <= HOB_LOG_LINE_MAX && line.text[line.len - 1] == '\n');
                assert_null(memchr(line.text, '\n', line.len - 1));
                if (!json) {
                    assert_memory_equal(line.text + line.len - 10, " cut=true\n", 10);
                    continue;
                }
                json_t *o = json_loadb(line.text, line.len, JSON_REJECT_DUPLICATES, NULL);
                assert_non_null(o); /* valid UTF-8, too */
                assert_true(json_is_true(json_object_get(o, "cut")));
                assert_true(json_string_length(json_object_get(o, "long")) > 2000);
                json_decref(o);
            }
    free(value);
}

static void test_seek(void **state)
{
    (void)state;
    hob_log_ring r;
    char got[64];
    uint64_t missed;
    uint8_t level;

    assert_int_equal(hob_log_ring_open(&r, 100), 0);
    for (unsigned count = 0; count < 200; count++) {
        for (uint64_t from = 0; from <= count + 2; from++) {
            hob_log_cursor c = hob_log_ring_seek(&r, from);
            const size_t n = hob_log_ring_read(&r, &c, &level, got, sizeof got - 1, &missed);
            if (from >= count) {
                assert_true(n == 0 && c.line == count);
                continue;
            }
            const uint64_t there = from < r.first_line ? r.first_line : from;
            got[n] = '\0';
            assert_true(strtoull(got, NULL, 10) == there && c.line == there + 1);
            assert_int_equal(missed, there - from);
        }
        char text[32];
        const int n = snprintf(text, sizeof text, "%u%.*s", count, (int)(count % 17),
                               "abcdefghijklmnopqrstuvwxyz");
        hob_log_ring_add(&r, 0, text, (size_t)n);
    }
    hob_log_ring_close(&r);
}

static void test_ring(void **state)
{
    (void)state;
    hob_log_ring r;
    hob_log_cursor slow = {0}, quick = {0};
    char text[64], got[64];
    uint64_t missed, sum = 0, read = 0;
    uint8_t level;

    assert_int_equal(hob_log_ring_open(&r, 100), 0);
    assert_int_equal(hob_log_ring_read(&r, &slow, &level, got, sizeof got, &missed), 0);
    for (unsigned i = 0; i < 1000; i++) {
        const int n =
            snprintf(text, sizeof text, "%.*s%u", (int)(i % 23), "abcdefghijklmnopqrstuvwxyz", i);
        hob_log_ring_add(&r, i % 4, text, (size_t)n);
        assert_int_equal(hob_log_ring_read(&r, &quick, &level, got, sizeof got, &missed), n);
        assert_memory_equal(got, text, (size_t)n);
        assert_true(missed == 0 && level == i % 4);
        if (i % 50 != 49)
            continue;
        size_t len, last = 0;
        while ((len = hob_log_ring_read(&r, &slow, &level, got, sizeof got, &missed))) {
            sum += missed;
            read++;
            last = len;
        }
        assert_memory_equal(got, text, last); /* the newest line */
    }
    assert_int_equal(sum + read, 1000); /* each is read, or known to be missed */
    assert_true(sum > 500 && read > 40);
    hob_log_ring_add(&r, 0, got, 97); /* does not fit at all */
    assert_int_equal(hob_log_ring_read(&r, &quick, &level, got, sizeof got, &missed), 0);
    hob_log_ring_add(&r, 0, "longer", 6);
    assert_int_equal(hob_log_ring_read(&r, &quick, &level, got, 5, &missed), 0);
    assert_int_equal(hob_log_ring_read(&r, &quick, &level, got, 6, &missed), 6);
    hob_log_ring_close(&r);
}

/* stderr is a pipe that nobody reads; and the journal's, as far as the environment says. */
static void test_blocked_pipe(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    static char text[1 << 16];
    int ends[2];
    const int saved = dup(STDERR_FILENO);

    assert_int_equal(pipe(ends), 0);
    assert_true(fcntl(ends[0], F_SETPIPE_SZ, 4096) >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    struct stat st;
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    snprintf(text, sizeof text, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    assert_int_equal(setenv("JOURNAL_STREAM", text, 1), 0);
    assert_int_equal(hob_log_open("info", "logfmt"), 0);
    assert_int_equal(hob_log_start(), 0);
    for (unsigned i = 0; i < LINES; i++)
        hob_log(HOB_LOG_INFO, "line %u of a crowd that nobody wants to hear of any more", i);
    hob_log(HOB_LOG_DEBUG, "not this one");
    const uint64_t dropped = hob_log_dropped();
    assert_true(dropped > 0 && dropped < LINES);
    assert_int_equal(hob_log_count(), LINES);

    hob_log_cursor c = {0};
    uint64_t missed;
    const size_t n = hob_log_read(&c, text, sizeof text, &missed);
    assert_true(n > 0 && missed > 0 && c.line == missed + 1); /* hobctl sees what is left */

    FILE *f = fdopen(ends[0], "r"); /* now somebody reads */
    uint64_t lines = 0, told = 0;
    while (lines + told < LINES && fgets(text, sizeof text, f)) {
        const char *said = strstr(text, "dropped=");
        lines += said == NULL;
        told += said ? strtoull(said + 8, NULL, 10) : 0;
        assert_null(strstr(text, "not this one"));
        assert_memory_equal(text, said ? "<4>time=" : "<6>time=", 8);
    }
    assert_int_equal(told, dropped);
    assert_int_equal(lines, LINES - dropped);
    hob_log(HOB_LOG_ERROR, "the last one");
    hob_log_stop(1000);
    assert_non_null(fgets(text, sizeof text, f));
    assert_memory_equal(text, "<3>", 3);
    assert_non_null(strstr(text, "level=error msg=\"the last one\""));
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
    close(saved);
    fclose(f);
}

/* A disk that is full: what it does not take is counted, and told of when it takes lines again. */
static void test_full_disk(void **state)
{
    (void)state;
    enum { LINES = 10, LOOKS = 2000, LOOK_US = 5000 };
    static char text[1 << 16];
    const int saved = dup(STDERR_FILENO), full = open("/dev/full", O_WRONLY);
    const uint64_t before = hob_log_dropped();
    FILE *f = tmpfile();

    assert_true(f && full >= 0 && dup2(full, STDERR_FILENO) >= 0);
    close(full);
    assert_int_equal(hob_log_open("info", "logfmt"), 0);
    assert_int_equal(hob_log_start(), 0);
    for (unsigned i = 0; i < LINES; i++) {
        hob_log(HOB_LOG_INFO, "line %u", i);
        for (unsigned n = 0; n < LOOKS && hob_log_dropped() - before <= i; n++)
            usleep(LOOK_US);
        assert_int_equal(hob_log_dropped() - before, i + 1); /* each a batch of its own */
    }
    assert_true(dup2(fileno(f), STDERR_FILENO) >= 0);
    hob_log(HOB_LOG_INFO, "after");
    hob_log_stop(10000);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_non_null(strstr(text, "dropped=10"));
    assert_non_null(fgets(text, sizeof text, f));
    assert_non_null(strstr(text, "msg=after"));
    assert_null(fgets(text, sizeof text, f));
    assert_int_equal(hob_log_dropped() - before, LINES);
    fclose(f);
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(hob_log_open("loud", "logfmt"), HOB_EINVAL);
    assert_int_equal(hob_log_open("info", "xml"), HOB_EINVAL);
    assert_int_equal(hob_log_open("error", "json"), 0);
    assert_false(hob_log_begin(&line, HOB_LOG_WARN));
    assert_true(hob_log_begin(&line, HOB_LOG_ERROR));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),       cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_ring),         cmocka_unit_test(test_seek),
        cmocka_unit_test(test_blocked_pipe), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
