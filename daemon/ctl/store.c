/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl store: the store's file. Copies of it are made by the running hobd, over its admin socket; checking and putting back
 * is done here, on a file that nobody has open. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/documents.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/store/audit_table.h"
#include "daemon/store/backup.h"

/* Where nothing is yet, in full: hobd has a folder of its own. */
static int full_path(const char *path, char ret[PATH_MAX], hob_diag *diag)
{
    char folder[PATH_MAX];
    const int n = path[0] == '/' || !getcwd(folder, sizeof folder)
                      ? snprintf(ret, PATH_MAX, "%s", path)
                      : snprintf(ret, PATH_MAX, "%s/%s", folder, path);
    return n > 0 && n < PATH_MAX
               ? 0
               : hob_fail(diag, HOB_EINVAL, "%.100s: %s", path, strerror(ENAMETOOLONG));
}

/* Of the running hobd's store, to a file that is not there. */
static int copy_store(const char *socket, const char *path, hob_diag *diag)
{
    hob_server server;
    char full[PATH_MAX];
    json_t *answer = NULL, *body;
    int r = hob_server_find_socket(socket, &server, diag);
    if (r == 0)
        r = full_path(path, full, diag);
    if (r < 0)
        return r;
    if (!(body = json_pack("{s:s}", "path", full)))
        return hob_fail(diag, HOB_EINVAL, "the path is not valid UTF-8");
    r = hob_documents_call(&server, "POST", "/hob/v1/admin/store/backup", body, &answer, diag);
    json_decref(answer);
    return r;
}

/* A copy of the running hobd's store, looked at and dropped. */
static int check_running(const char *socket, hob_diag *diag)
{
    const char *folder = getenv("TMPDIR");
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.3000s/hob-check-%ld.db", folder ? folder : "/tmp",
             (long)getpid());
    int r = copy_store(socket, path, diag);
    if (r < 0)
        return r;
    r = hob_backup_check(path, diag);
    (void)unlink(path);
    return r;
}

/* Notes in the store that it was put back, which no hobd has seen. */
static int note_restore(const char *from, const char *store, hob_diag *diag)
{
    hob_store *s = NULL;
    hob_audit_entry e = {.time_s = (int64_t)time(NULL), .act = "store/restore"};
    snprintf(e.who, sizeof e.who, "uid:%u", (unsigned)getuid());
    snprintf(e.object, sizeof e.object, "%.250s", from);
    int r = hob_store_open(store, &s, diag);
    if (r == 0)
        r = hob_audit_table_add(hob_store_database(s), &e, diag);
    hob_store_close(s);
    return r;
}

/* ---- commands ---- */

static int end(const char *command, int r, const char *done, bool json, hob_diag *diag)
{
    if (r >= 0 && json)
        r = hob_json_print(json_pack("{s:s, s:s}", "object", "hob.store", "result", done), diag);
    else if (r >= 0)
        puts(done);
    return r < 0 ? hob_ctl_failed(command, diag) : HOB_EXIT_OK;
}

static int store_check(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    const hob_option options[] = {HOB_SOCKET_OPTION(&socket),
                                  HOB_FLAG("--json", &json, HOB_HELP_JSON)};
    const hob_syntax syntax = {
        .command = "store check",
        .summary = "Looks for damage in a store: every page, every reference, every index.",
        .positional = "[FILE]",
        .notes = "Without FILE the running hobd makes a copy under $TMPDIR or /tmp, which is "
                 "checked and dropped.\nA FILE must not be in use.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    int files = 0, status;
    if (!hob_options_parse_count(&syntax, argc, argv, 0, 1, &files, &status))
        return status;
    return end("store check",
               files ? hob_backup_check(argv[1], &diag) : check_running(socket, &diag), "ok", json,
               &diag);
}

static int store_backup(int argc, char **argv)
{
    const char *socket = NULL;
    bool json = false;
    const hob_option options[] = {HOB_SOCKET_OPTION(&socket),
                                  HOB_FLAG("--json", &json, HOB_HELP_JSON)};
    const hob_syntax syntax = {
        .command = "store backup",
        .summary = "Has the running hobd copy its store to a new file, while it goes on working.",
        .positional = "FILE",
        .notes =
            "hobd makes FILE as its own user, readable for that user alone. It holds documents "
            "and hashes of keys.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    int files = 0, status;
    if (!hob_options_parse_count(&syntax, argc, argv, 1, 1, &files, &status))
        return status;
    return end("store backup", copy_store(socket, argv[1], &diag), "complete", json, &diag);
}

static int store_restore(int argc, char **argv)
{
    bool json = false;
    const hob_option options[] = {HOB_FLAG("--json", &json, HOB_HELP_JSON)};
    const hob_syntax syntax = {
        .command = "store restore",
        .summary = "Puts a copy in the place of a store whose hobd is stopped.",
        .positional = "FILE STORE",
        .notes = "FILE is checked first, and taken only if it is whole and nothing but a store of "
                 "hob's.\nWhat was at STORE stays beside it as STORE.before. Both files are this "
                 "user's.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    int files = 0, status;
    if (!hob_options_parse_count(&syntax, argc, argv, 2, 2, &files, &status))
        return status;
    int r = hob_backup_restore(argv[1], argv[2], &diag);
    if (r == 0)
        r = note_restore(argv[1], argv[2], &diag);
    return end("store restore", r, "restored", json, &diag);
}

int hob_ctl_store(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "check") == 0)
        return store_check(argc - 1, argv + 1);
    if (strcmp(name, "backup") == 0)
        return store_backup(argc - 1, argv + 1);
    if (strcmp(name, "restore") == 0)
        return store_restore(argc - 1, argv + 1);
    const bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    FILE *f = help ? stdout : stderr;
    if (!help && *name)
        fprintf(f, "hobctl store: unknown command \"%s\"; allowed: check backup restore --help\n",
                name);
    else
        fprintf(f, "The store: keys, usage, documents.\n\nusage: hobctl store COMMAND [options]\n\n"
                   "  check    looks for damage\n"
                   "  backup   copies the store of the running hobd\n"
                   "  restore  puts a copy in its place\n\n"
                   "hobctl store COMMAND --help lists a command's options.\n");
    return help ? HOB_EXIT_OK : HOB_EXIT_USAGE;
}
