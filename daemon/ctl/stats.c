/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl stats: how long requests of late took, by route, model and class, over hobd's admin socket. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/report.h"

/* In milliseconds; "-": there were none. */
static const char *milliseconds(char ret[16], const json_t *seconds)
{
    const double ms = json_number_value(seconds) * 1000;
    if (!json_is_number(seconds))
        return "-";
    snprintf(ret, 16, ms < 10 ? "%.1f" : "%.0f", ms);
    return ret;
}

/* "31 / 45 / 80" */
static void print_quantiles(const json_t *series, const char *quantity, size_t window)
{
    const json_t *w = json_array_get(json_object_get(series, quantity), window);
    char a[16], b[16], c[16], text[64];
    snprintf(text, sizeof text, "%s / %s / %s", milliseconds(a, json_object_get(w, "p50")),
             milliseconds(b, json_object_get(w, "p95")),
             milliseconds(c, json_object_get(w, "p99")));
    printf("  %-22s", json_number_value(json_object_get(w, "count")) > 0 ? text : "-");
}

/* A line for each window in which something came. */
static void print_series(const json_t *series)
{
    const json_t *durations = json_object_get(series, "duration_s"),
                 *firsts = json_object_get(series, "time_to_first_token_s");
    for (size_t w = 0; w < json_array_size(durations); w++) {
        const json_t *window = json_array_get(durations, w);
        const long long seconds = hob_json_number(window, "window_s"),
                        ended = hob_json_number(window, "count"),
                        begun = hob_json_number(json_array_get(firsts, w), "count");
        if (ended == 0 && begun == 0)
            continue;
        printf("%-12s %-28.28s %-12s %5lld min %8lld", hob_json_text(series, "route"),
               hob_json_text(series, "model"), hob_json_text(series, "class"), seconds / 60, ended);
        print_quantiles(series, "time_to_first_token_s", w);
        print_quantiles(series, "inter_token_latency_s", w);
        print_quantiles(series, "duration_s", w);
        print_quantiles(series, "queue_s", w);
        putchar('\n');
    }
}

static void print_stats(const json_t *answer)
{
    const json_t *list = json_object_get(answer, "series");
    size_t i;
    json_t *series;

    printf("%-12s %-28s %-12s %9s %8s  %-22s  %-22s  %-22s  %-22s\n", "ROUTE", "MODEL", "CLASS",
           "LAST", "ANSWERED", "FIRST TOKEN", "BETWEEN TOKENS", "DURATION", "QUEUE");
    json_array_foreach(list, i, series) print_series(series);
    if (json_array_size(list) > 1)
        print_series(json_object_get(answer, "all"));
    printf("P50 / P95 / P99 in ms, within %.0f %%\n",
           100 * json_number_value(json_object_get(answer, "relative_error")));
}

int hob_ctl_stats(int argc, char **argv)
{
    static const hob_report report = {
        .command = "stats",
        .summary = "Says how long requests of the last minute, ten minutes and hour took.",
        .notes =
            "By route, model and class: the time to the first token, between tokens, to the end "
            "of the answer,\nand the part of it in the queue.",
        .path = "/hob/v1/stats",
        .print = print_stats};
    return hob_report_run(&report, argc, argv);
}
