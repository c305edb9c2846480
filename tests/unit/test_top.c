/* SPDX-License-Identifier: Apache-2.0
 *
 * What hobctl top makes of hobd's answers: /metrics is read, figures are short, and every view fits every width. */
#include "daemon/ctl/top_view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on

static const char status_text[] =
    "{\"version\":\"0.1.0\",\"pid\":7,\"uptime_s\":7260,\"state\":\"running\",\"connections\":12,"
    "\"models\":[{\"name\":\"smollm2\",\"state\":\"ready\"},{\"name\":\"a-model-whose-name-is-as-"
    "long-as-names-can-be-which-is-63-chars\",\"state\":\"unloaded\"}]}";
#define WINDOW(count_, p50_, p95_, p99_)                                                           \
    "{\"window_s\":60,\"count\":" count_ ",\"p50\":" p50_ ",\"p95\":" p95_ ",\"p99\":" p99_ "}"
#define WINDOWS(count_, p50_, p95_, p99_)                                                          \
    "[" WINDOW(count_, p50_, p95_, p99_) "," WINDOW("0", "null", "null", "null") "," WINDOW(       \
        count_, p50_, p95_, p99_) "]"
static const char stats_text[] =
    "{\"all\":{\"route\":\"all\",\"model\":\"all\",\"class\":\"all\"},\"series\":[{"
    "\"route\":"
    "\"chat\",\"model\":\"smollm2\",\"class\":\"standard\",\"time_to_first_token_"
    "s\":" WINDOWS("42", "0.031", "0.0452", "12.3") ",\"inter_token_latency_s\":" WINDOWS(
        "9000", "0.0082", "0.0099",
        "0.0121") ",\"duration_s\":" WINDOWS("41", "1.5", "2.25",
                                             "600") ",\"queue_s\":" WINDOWS("42", "0.0001", "0.002",
                                                                            "0.01") "}]}";
static const char metrics_text[] =
    "# HELP hob_engine_up x\n# TYPE hob_engine_up gauge\n"
    "hob_engine_up{model=\"smollm2\"} 1\n"
    "hob_engine_up{model=\"a-model-whose-name-is-as-long-as-names-can-be-which-is-63-chars\"} "
    "0\n"
    "hob_engine_info{model=\"smollm2\",device=\"cpu\",isa=\"avx2\",architecture=\"llama\"} 1\n"
    "hob_engine_running{model=\"smollm2\"} 4\n"
    "hob_engine_kv_blocks{model=\"smollm2\"} 200\n"
    "hob_engine_kv_blocks_free{model=\"smollm2\"} 100\n"
    "hob_engine_rows_per_step{model=\"smollm2\"} 5.125\n"
    "hob_engine_device_busy_ratio{model=\"smollm2\"} 0.875\n"
    "hob_engine_resident_bytes{model=\"smollm2\"} 134217728\n"
    "hob_engine_step_seconds_bucket{model=\"smollm2\",le=\"0.001\"} 1\n"
    "hob_queue_requests{model=\"smollm2\",class=\"standard\"} 3\n"
    "hob_queue_tokens{model=\"smollm2\",class=\"standard\"} 12345\n"
    "hob_memory_bytes{line=\"weights\"} 1073741824\n"
    "hob_memory_limit_bytes 2147483648\n"
    "process_resident_memory_bytes 33554432\n";

static int read_samples(const char *text, hob_samples *ret, hob_diag *diag)
{
    return hob_samples_read(strdup(text), strlen(text), ret, diag);
}

static void test_samples(void **state)
{
    (void)state;
    hob_samples s;
    hob_diag diag;
    char value[8];
    assert_int_equal(
        read_samples("# HELP a x\n\na 1\na{} 2 1395066363000\n b { x=\"1\" , y=\"a\\\"b\\\\"
                     "c\\nd\", } 0.5 \nb{x=\"2\"} +Inf\nb_bucket{x=\"1\"} 7\nc NaN",
                     &s, &diag),
        0);
    assert_int_equal(s.count, 5);
    assert_true(hob_samples_sum(&s, "a", NULL, NULL) == 3);
    assert_true(hob_samples_sum(&s, "b", "x", "1") == 0.5);
    assert_true(isinf(hob_samples_sum(&s, "b", NULL, NULL)));
    assert_true(isnan(hob_samples_sum(&s, "b", "x", "3")));
    assert_true(isnan(hob_samples_sum(&s, "b_bucket", NULL, NULL)));
    const hob_sample *b = hob_samples_next(&s, "b", NULL);
    assert_true(hob_sample_label(&s, b, "y", value, sizeof value));
    assert_string_equal(value, "a\"b\\c\nd");
    assert_false(hob_sample_label(&s, b, "z", value, sizeof value));
    assert_non_null(b = hob_samples_next(&s, "b", b));
    assert_null(hob_samples_next(&s, "b", b));
    hob_samples_free(&s);

    static const char *const bad[] = {"1 2\n",     "a\n",        "a x\n",
                                      "a{ 1\n",    "a{x=1} 1\n", "a{x=\"1 1",
                                      "a{x} 1",    "a{x=\"\\",   "a{x=\"1\"y=\"2\"} 1",
                                      "a 1 2 3\n", "a{}b{} 1\n", "a 1x\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64];
        snprintf(text, sizeof text, "ok 1\n%s", bad[i]);
        assert_int_equal(read_samples(text, &s, &diag), HOB_EFORMAT);
        assert_non_null(strstr(diag.text, "line 2"));
        hob_samples_free(&s);
    }
}

static void test_figures(void **state)
{
    (void)state;
    assert_string_equal(hob_figure_of(NAN).text, "-");
    assert_string_equal(hob_figure_of(0).text, "0.0");
    assert_string_equal(hob_figure_of(9.96).text, "10");
    assert_string_equal(hob_figure_of(9999).text, "9999");
    assert_string_equal(hob_figure_of(12345).text, "12.3k");
    assert_string_equal(hob_figure_of(2.5e6).text, "2.5M");
    assert_string_equal(hob_figure_ms(0.00123).text, "1.2");
    assert_string_equal(hob_figure_ms(0.25).text, "250");
    assert_string_equal(hob_figure_ms(600).text, "600s");
    assert_string_equal(hob_figure_percent(0.434).text, "43 %");
    assert_string_equal(hob_figure_bytes(0).text, "0 B");
    assert_string_equal(hob_figure_bytes(1000).text, "1.0 KiB");
    assert_string_equal(hob_figure_bytes(1.25 * (1 << 30)).text, "1.2 GiB");
    assert_string_equal(hob_figure_duration(59).text, "59 s");
    assert_string_equal(hob_figure_duration(7260).text, "2 h 1 m");
    static const double extremes[] = {-1, 1e-300, 1e18, 1e300, INFINITY};
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++) {
        assert_true(strlen(hob_figure_of(extremes[i]).text) <= 6);
        assert_true(strlen(hob_figure_ms(extremes[i]).text) <= 6);
        assert_true(strlen(hob_figure_percent(extremes[i]).text) <= 5);
        assert_true(strlen(hob_figure_bytes(extremes[i]).text) <= 7);
        assert_true(strlen(hob_figure_duration(extremes[i]).text) < sizeof(hob_figure));
    }
}

static void look(hob_top_look *ret, uint64_t at_us, const char *more)
{
    char text[sizeof metrics_text + 200];
    hob_diag diag;
    snprintf(text, sizeof text, "%s%s", metrics_text, more);
    ret->at_us = at_us;
    assert_int_equal(read_samples(text, &ret->metrics, &diag), 0);
    ret->status = json_loads(status_text, 0, NULL);
    ret->stats = json_loads(stats_text, 0, NULL);
    assert_non_null(ret->status);
    assert_non_null(ret->stats);
}

/* The page has a line with both; what NULL is need not be there. */
static bool has(const hob_page *p, const char *a, const char *b)
{
    for (uint32_t i = 0; i < p->count; i++)
        if (strstr(p->lines[i].text, a) && (!b || strstr(p->lines[i].text, b)))
            return true;
    return false;
}

static void test_views(void **state)
{
    (void)state;
    static hob_page p;
    hob_top_look before = {0}, now = {0};
    look(&before, 1000000, "hob_answer_tokens_total{model=\"smollm2\"} 100\n");
    look(&now, 3000000,
         "hob_answer_tokens_total{model=\"smollm2\"} 300\n"
         "hob_requests_shed_total{reason=\"max_waiting\"} 2\n");

    hob_top_draw(&now, &before, HOB_TOP_OVERVIEW, 0, 80, &p);
    assert_int_equal(p.fixed, 2);
    assert_true(has(&p, "hobd 0.1.0 running, up 2 h 1 m, 12 connections", NULL));
    assert_true(has(&p, "last 1 min", NULL));
    assert_true(has(&p, "Tokens", "100/s out"));
    assert_true(has(&p, "Refused", "1.0/s shed"));
    assert_true(has(&p, "Waiting", "3 standard"));
    assert_true(has(&p, "Waiting", "12.3k tokens"));
    assert_true(has(&p, "Memory", "160 MiB of 2.0 GiB"));
    assert_true(has(&p, "smollm2", "5.1  88 %"));
    assert_true(has(&p, "unloaded", NULL));
    assert_true(has(&p, "chat", "31/45/12s"));
    assert_true(has(&p, "chat", "8.2/9.9/12"));
    hob_top_draw(&now, &before, HOB_TOP_OVERVIEW, 1, 80, &p);
    assert_true(has(&p, "last 10 min", NULL));
    assert_true(has(&p, "nothing was answered", NULL));
    hob_top_draw(&now, &before, HOB_TOP_OVERVIEW, 2, 120, &p);
    assert_true(has(&p, "chat", "0.1/2.0/10"));
    hob_top_draw(&now, &before, HOB_TOP_LATENCY, 0, 60, &p);
    assert_true(has(&p, "whole answer", "600s"));
    hob_top_draw(&now, &before, HOB_TOP_ENGINES, 0, 60, &p);
    assert_true(has(&p, "smollm2  ready  llama  cpu  avx2", NULL));
    assert_true(has(&p, "KV cache", "50 %  of 200 blocks"));
    hob_top_draw(&now, &before, HOB_TOP_MEMORY, 0, 60, &p);
    assert_true(has(&p, "weights", "50 %  1.0 GiB of 2.0 GiB"));

    hob_top_look nameless = {0};
    look(&nameless, 3000000, "hob_engine_up{of=\"whom\"} 1\nhob_engine_up 1\n");
    hob_top_draw(&nameless, NULL, HOB_TOP_OVERVIEW, 0, 80, &p);
    hob_top_draw(&nameless, NULL, HOB_TOP_ENGINES, 0, 80, &p);
    uint32_t unnamed = 0;
    for (uint32_t i = 0; i < p.count; i++)
        unnamed += strncmp(p.lines[i].text, "?  ", 3) == 0;
    assert_int_equal(unnamed, 2);
    hob_top_look_free(&nameless);

    for (int view = 0; view < HOB_TOP_VIEWS; view++)
        for (uint32_t columns = 0; columns < 300; columns++) {
            hob_top_draw(&now, &before, (hob_top_view)view, 0, columns, &p);
            assert_in_range(p.columns, HOB_PAGE_COLUMNS_LEAST, HOB_PAGE_COLUMNS_MOST);
            for (uint32_t i = 0; i < p.count; i++)
                assert_in_range(strlen(p.lines[i].text), 0, p.columns);
        }
    /* Another process: its counters began anew. */
    json_object_set_new(before.status, "pid", json_integer(6));
    hob_top_draw(&now, &before, HOB_TOP_OVERVIEW, 0, 80, &p);
    assert_true(has(&p, "Tokens", "-/s out"));
    hob_top_look_free(&before);
    hob_top_draw(&now, &before, HOB_TOP_OVERVIEW, 0, 80, &p);
    assert_true(has(&p, "Tokens", "-/s out"));
    hob_top_look_free(&now);
    hob_top_draw(&now, &before, HOB_TOP_OVERVIEW, 0, 80, &p); /* of nothing at all */
}

static void test_page_is_bounded(void **state)
{
    (void)state;
    static hob_page p;
    hob_page_begin(&p, 30);
    for (int i = 0; i < 2 * HOB_PAGE_LINES; i++) {
        hob_page_put(&p, HOB_STYLE_BOLD, "%s",
                     "tab\tescape\033[2J and more than there is room for");
        hob_page_column(&p, 40);
        hob_page_bar(&p, 100, 0.5);
        hob_page_line_end(&p);
    }
    assert_int_equal(p.count, HOB_PAGE_LINES);
    assert_string_equal(p.lines[0].text, "tab?escape?[2J and more than t");
    hob_page_begin(&p, 20);
    hob_page_bar(&p, 10, 0.5);
    assert_string_equal(p.lines[0].text, "[||||    ]");
    hob_page_right(&p, HOB_STYLE_PLAIN, "right");
    assert_string_equal(p.lines[0].text, "[||||    ]     right");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_page_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
