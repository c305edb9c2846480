/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl logs and hobctl audit: the last lines of the running hobd's log, which it keeps in memory, and what administrators
 * have done, over its admin socket. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/client.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/report.h"

enum { POLL_US = 300000, LINES_MAX = 10000 };

/* ---- logs ---- */

static void print_line(const char *line)
{
    hob_print_text(stdout, line, strlen(line));
    putchar('\n');
}

static void print_lines(const json_t *answer)
{
    const long long missed = hob_json_number(answer, "missed");
    size_t i;
    json_t *line;
    if (missed > 0) {
        fflush(stdout);
        fprintf(stderr, "hobctl logs: %lld lines came faster than they could be read\n", missed);
    }
    json_array_foreach(json_object_get(answer, "data"), i, line)
    {
        print_line(json_string_value(line) ? json_string_value(line) : "?");
    }
}

/* Another run of hobd than before: its lines count from 0. */
static bool is_new_run(const json_t *answer, char run[32])
{
    const char *name = hob_json_text(answer, "run");
    const bool is_new = run[0] && strcmp(run, name) != 0;
    snprintf(run, 32, "%s", name);
    return is_new;
}

static int print_answer(json_t *answer, bool json, hob_diag *diag)
{
    int r = 0;
    if (!json)
        print_lines(answer);
    else if (json_array_size(json_object_get(answer, "data")) > 0)
        r = hob_json_print(json_incref(answer), diag);
    fflush(stdout);
    return r;
}

/* What there is when it is asked first, in as many answers as that takes. Then, to follow, what comes: also of another hobd
 * in this one's place. */
static int show(const hob_server *server, uint32_t lines, bool follow, bool json, hob_diag *diag)
{
    char path[96], run[32] = "";
    hob_call call = {.method = "GET", .path = path};
    long long next = 0, end = -1;
    bool away = false;

    snprintf(path, sizeof path, "/hob/v1/admin/log?lines=%u", lines);
    for (;;) {
        json_t *answer = NULL;
        int r = hob_client_json(server, &call, &answer, diag);
        if (r < 0 && !(follow && run[0] && r == HOB_EIO))
            return r;
        if (r < 0 && !away)
            fprintf(stderr, "hobctl logs: waits for hobd: %s\n", diag->text);
        away = r < 0;
        if (r == 0 && is_new_run(answer, run))
            next = 0;
        else if (r == 0) {
            r = print_answer(answer, json, diag);
            next = hob_json_number(answer, "next");
            end = end < 0 ? hob_json_number(answer, "count") : end;
            if (r < 0 || ferror(stdout) || (!follow && next >= end)) {
                json_decref(answer);
                return r;
            }
        }
        json_decref(answer);
        snprintf(path, sizeof path, "/hob/v1/admin/log?after=%lld", next);
        if (follow)
            usleep(POLL_US);
    }
}

int hob_ctl_logs(int argc, char **argv)
{
    const char *socket = NULL;
    uint32_t lines = 100;
    bool follow = false, json = false;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_U32("--lines", &lines, 1, LINES_MAX, "of the last ones, how many (100)"),
        HOB_FLAG("--follow", &follow, "goes on with those that come, until it is interrupted"),
        HOB_FLAG("--json", &json, "print hobd's answers as they are")};
    const hob_syntax syntax = {
        .command = "logs",
        .summary = "Prints the last lines of the running hobd's log, as hobd writes them.",
        .notes =
            "hobd keeps the last MiB of its log in memory. Its format is log_format in hob.conf: "
            "logfmt, or json, an\nobject a line.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    hob_diag diag = {""};
    hob_server server;

    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    int r = hob_server_find_socket(socket, &server, &diag);
    if (r == 0)
        r = show(&server, lines, follow, json, &diag);
    return r < 0 ? hob_ctl_failed("logs", &diag) : HOB_EXIT_OK;
}

/* ---- audit ---- */

static void print_acts(const json_t *answer)
{
    const json_t *list = json_object_get(answer, "data");
    for (size_t i = json_array_size(list); i-- > 0;) { /* the newest last, as in a log */
        const json_t *act = json_array_get(list, i);
        const time_t at = (time_t)hob_json_number(act, "time");
        char text[32] = "?";
        struct tm tm;
        if (gmtime_r(&at, &tm))
            strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
        printf("%s  %-20s %-16s %s\n", text, hob_json_text(act, "who"), hob_json_text(act, "act"),
               hob_json_text(act, "object"));
    }
}

int hob_ctl_audit(int argc, char **argv)
{
    const char *socket = NULL;
    uint32_t lines = 50;
    bool json = false;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_U32("--lines", &lines, 1, LINES_MAX, "of the last ones, how many (50)"),
        HOB_FLAG("--json", &json, "print hobd's answer as it is, the newest first")};
    const hob_syntax syntax = {
        .command = "audit",
        .summary = "Lists what administrators have done: when (UTC), who, what, to what.",
        .notes =
            "key:LABEL is an administrator's key, uid:N a user of this machine. The last 10000 are "
            "kept.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    char path[64];

    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    snprintf(path, sizeof path, "/hob/v1/admin/audit?limit=%u", lines);
    const hob_report report = {.command = syntax.command, .path = path, .print = print_acts};
    return hob_report_show(&report, socket, json);
}
