/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl trace: where the time of a request went, drawn as a waterfall; or which requests there are traces of. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/report.h"

enum {
    ID_MAX = 120,
    WIDTH_USUAL = 100,
    WIDTH_LEAST = 60,
    WIDTH_MOST = 200,
    NAMES = 16, /* columns in front of a span's bar: its name, */
    TIMES = 26, /* when it began, how long it took */
};

static double number(const json_t *o, const char *name)
{
    return json_number_value(json_object_get(o, name));
}

static int width(void)
{
    struct winsize w;
    int n = WIDTH_USUAL;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        n = w.ws_col;
    return n < WIDTH_LEAST ? WIDTH_LEAST : n > WIDTH_MOST ? WIDTH_MOST : n;
}

static void print_began(const json_t *t)
{
    const double began = number(t, "began");
    const time_t at = (time_t)began;
    char text[32] = "?";
    struct tm tm;
    if (gmtime_r(&at, &tm))
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    printf("%s.%03d", text, (int)((began - floor(began)) * 1000));
}

/* Word by word, those that there are. */
static void print_words(const json_t *t)
{
    static const char *const names[] = {"route", "model",  "tenant", "key",
                                        "class", "finish", "reason"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_is_string(json_object_get(t, names[i])))
            printf(" %s=%s", names[i], hob_json_text(t, names[i]));
}

static void print_span(const json_t *span, const json_t *parent, double total_ms, int columns)
{
    const double from_ms = number(span, "from_ms"), ms = number(span, "ms"),
                 scale = total_ms > 0 ? columns / total_ms : 0;
    int first = (int)(from_ms * scale), end = (int)ceil((from_ms + ms) * scale);
    first = first < 0 ? 0 : first >= columns ? columns - 1 : first;
    end = end <= first ? first + 1 : end > columns ? columns : end;
    printf("%s%-*s %9.1f %12.3f ms |", parent ? "  " : "", parent ? NAMES - 2 : NAMES,
           hob_json_text(span, "name"), from_ms, ms);
    for (int i = 0; i < columns; i++)
        putchar(i < first || i >= end ? ' ' : parent ? '-' : '=');
    const long long count = hob_json_number(span, "count");
    if (count > 0)
        printf("| %lld", count);
    else
        printf("|");
    putchar('\n');
}

static void print_trace(const json_t *t)
{
    const json_t *spans = json_object_get(t, "spans");
    const int columns = width() - NAMES - TIMES - 8;
    const double total_ms = number(t, "ms");
    size_t i, k;
    json_t *span, *part;

    printf("trace %s  %s  %s\n", hob_json_text(t, "id"), hob_json_text(t, "request"),
           json_is_string(json_object_get(t, "response")) ? hob_json_text(t, "response") : "");
    print_began(t);
    printf(" UTC  status=%lld", hob_json_number(t, "status"));
    print_words(t);
    printf("\n%.1f ms", total_ms);
    if (json_is_number(json_object_get(t, "ttft_ms")))
        printf(
            ", first token %.1f ms after the head; %lld prompt tokens (%lld cached), %lld of the "
            "answer",
            number(t, "ttft_ms"), hob_json_number(t, "prompt_tokens"),
            hob_json_number(t, "cached_tokens"), hob_json_number(t, "answer_tokens"));
    putchar('\n');
    json_array_foreach(spans, i, span)
    {
        if (json_object_get(span, "part_of"))
            continue;
        print_span(span, NULL, total_ms, columns);
        json_array_foreach(spans, k, part)
        {
            if (json_object_get(part, "part_of") &&
                hob_json_number(part, "part_of") == (long long)i)
                print_span(part, span, total_ms, columns);
        }
    }
    if (hob_json_number(t, "left_out") > 0)
        printf("%lld further spans are left out\n", hob_json_number(t, "left_out"));
}

static void print_traces(const json_t *answer)
{
    const json_t *list = json_object_get(answer, "data");
    for (size_t i = json_array_size(list); i-- > 0;)
        print_trace(json_array_get(list, i));
}

static void print_list(const json_t *answer)
{
    const json_t *list = json_object_get(answer, "data");
    for (size_t i = json_array_size(list); i-- > 0;) { /* the newest last */
        const json_t *t = json_array_get(list, i);
        print_began(t);
        printf("  %s %10.1f ms  %3lld%s%s", hob_json_text(t, "id"), number(t, "ms"),
               hob_json_number(t, "status"),
               json_is_true(json_object_get(t, "slow")) ? " slow" : "",
               json_is_true(json_object_get(t, "failed")) ? " failed" : "");
        print_words(t);
        putchar('\n');
    }
}

/* Names of traces and requests hold nothing else, and go into a path. */
static bool id_ok(const char *id)
{
    const size_t len = strlen(id);
    return len > 0 && len < ID_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

int hob_ctl_trace(int argc, char **argv)
{
    const char *socket = NULL;
    uint32_t lines = 50;
    bool json = false;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_U32("--lines", &lines, 1, 1000, "without ID: of the last ones, how many (50)"),
        HOB_FLAG("--json", &json, "print hobd's answer as it is")};
    const hob_syntax syntax = {
        .command = "trace",
        .summary = "Draws where the time of a request went; without ID lists the traces there are.",
        .positional = "[ID]",
        .notes = "ID is a trace's, a request's (x-request-id) or an answer's. Kept are the last "
                 "ones that "
                 "were sampled,\nwere slow or have failed: traces in hob.conf.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int ids = 0;
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &ids);
    char path[200];

    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (ids > 1 || (ids == 1 && !id_ok(argv[1]))) {
        fprintf(stderr, "hobctl trace: one ID of letters, digits, _ and - is allowed\n");
        return HOB_EXIT_USAGE;
    }
    if (ids)
        snprintf(path, sizeof path, "/hob/v1/traces/%s", argv[1]);
    else
        snprintf(path, sizeof path, "/hob/v1/traces?limit=%u", lines);
    const hob_report report = {
        .command = syntax.command, .path = path, .print = ids ? print_traces : print_list};
    return hob_report_show(&report, socket, json);
}
