/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl bundle install and rollback: what changes a box. Nothing of a bundle is written before all of it was checked; hobd is
 * switched to it as a whole, and switched back when it does not get ready. */
#include <stdio.h>
#include <string.h>

#include "daemon/ctl/bundle.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"

typedef struct installation { /* what became of it, for the end of the command */
    char version[HOB_BUNDLE_VERSION_MAX + 1];
    char name[HOB_BUNDLE_FOLDER_MAX + 1], before[HOB_BUNDLE_FOLDER_MAX + 1]; /* "": none */
    uint32_t packages;
    bool restarted;
} installation;

/* Back to the version that was in use, after the new one has failed with `why`. Returns its code. */
static int go_back(hob_bundle_folder *f, const installation *done, const hob_bundle_service *s,
                   hob_bundle_key *key, int failed, const hob_diag *why, hob_diag *diag)
{
    hob_diag again = {""};
    if (!done->before[0])
        return hob_fail(diag, failed, "%.120s; there is no version to go back to", why->text);
    int code = hob_bundle_folder_switch(f, done->before, &again);
    if (code == 0)
        code = hob_bundle_service_apply(s, f, key, &again);
    return code < 0
               ? hob_fail(diag, failed, "%.90s; back to %.76s, which fails, too: %.60s", why->text,
                          done->before, again.text)
               : hob_fail(diag, failed, "%.120s; %.76s is in use again", why->text, done->before);
}

/* Points hobd to the version in `done`, and back if that does not work. */
static int use(hob_bundle_folder *f, installation *done, const hob_bundle_service *s,
               hob_bundle_key *key, hob_diag *diag)
{
    hob_diag why = {""};
    snprintf(done->before, sizeof done->before, "%s", f->current);
    int code = hob_bundle_folder_switch(f, done->name, diag);
    if (code < 0)
        return code;
    code = hob_bundle_service_apply(s, f, key, &why);
    done->restarted = code == 0;
    return code < 0 && code != HOB_ECANCELED ? go_back(f, done, s, key, code, &why, diag) : 0;
}

/* Every check, and only then the first write. */
static int install(hob_bundle_folder *f, hob_bundle *b, bool again, const hob_bundle_service *s,
                   hob_bundle_key *key, installation *done, hob_diag *diag)
{
    hob_bundle_shown shown = {.total = 2 * (b->bytes - b->head_bytes), .percent = -1};
    int code = hob_bundle_folder_admit(f, b->version, again, diag);
    if (code < 0)
        return code;
    b->progress = hob_bundle_show;
    b->user = &shown;
    if ((code = hob_bundle_check(b, diag)) < 0 ||
        (code = hob_bundle_folder_unpack(f, b, done->name, diag)) < 0)
        return code;
    snprintf(done->version, sizeof done->version, "%s", b->version);
    for (uint32_t i = 0; i < b->count; i++)
        done->packages += b->files[i].kind == HOB_BUNDLE_PACKAGE;
    if ((code = use(f, done, s, key, diag)) < 0)
        return code;
    hob_diag unpruned = {""};
    if (hob_bundle_folder_prune(f, &unpruned) < 0) /* what is installed is installed */
        fprintf(stderr, "hobctl bundle install: old versions stay: %s\n", unpruned.text);
    return 0;
}

static void print_done(const installation *done, const char *verb, const char *dir, bool packages)
{
    printf("%s %s", verb, done->name);
    printf(done->before[0] ? " in place of %s" : "%s", done->before);
    printf(done->restarted ? ", hobd is ready\n" : "; hobd uses it when it starts again\n");
    if (done->packages && !packages)
        printf("its packages lie in %s/current/packages: --packages would have installed them\n",
               dir);
}

static json_t *done_json(const installation *done, const char *verb)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s*, s:b}", "object", "hob.bundle", "result", verb,
                     "version", done->version, "folder", done->name, "before",
                     done->before[0] ? done->before : NULL, "ready", done->restarted);
}

int hob_ctl_bundle_install(int argc, char **argv)
{
    const char *key_path = HOB_BUNDLE_KEY, *dir = HOB_BUNDLE_DIR;
    bool again = false, json = false;
    hob_bundle_service s = {.ready_s = 300};
    const hob_option options[] = {
        HOB_BUNDLE_KEY_OPTION(&key_path),
        HOB_BUNDLE_DIR_OPTION(&dir),
        HOB_FLAG("--again", &again, "even if this very version is installed"),
        HOB_BUNDLE_SERVICE_OPTIONS(&s),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "bundle install",
        .summary = "Installs a bundle, has hobd use it, and goes back if hobd does not get ready.",
        .positional = "FILE",
        .notes =
            "Before anything is written the manifest's signature, the version and every file's "
            "SHA-256 are\nchecked. Errors: HOB_ESIGNATURE (another key, or an altered manifest), "
            "HOB_EDIGEST (an altered\nfile), HOB_EFORMAT (truncated, or no bundle), HOB_EOLD (no "
            "newer than what is installed),\nHOB_ENOSPC. DIR/current names the version in use at "
            "every moment, whatever happens; models are\nDIR/current/models/NAME. The version "
            "before stays, older ones go.\nCMD has to end once the hobd that ran has ended.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    hob_bundle_key key;
    hob_bundle b;
    hob_bundle_folder f;
    installation done = {.packages = 0};
    int files = 0, status, code;
    if (!hob_options_parse_count(&syntax, argc, argv, 1, 1, &files, &status))
        return status;
    if ((code = hob_bundle_service_resolve(&s, &diag)) < 0 ||
        (code = hob_bundle_key_load(key_path, false, &key, &diag)) < 0)
        goto end;
    if ((code = hob_bundle_open(argv[1], &key, &b, &diag)) == 0) {
        if ((code = hob_bundle_folder_open(dir, true, &f, &diag)) == 0) {
            code = install(&f, &b, again, &s, &key, &done, &diag);
            hob_bundle_folder_close(&f);
        }
        hob_bundle_close(&b);
    }
    hob_bundle_key_free(&key);
end:
    if (code == 0 && !json)
        print_done(&done, "installed", dir, s.packages);
    return hob_bundle_end("bundle install", code, json,
                          code == 0 ? done_json(&done, "installed") : NULL, &diag);
}

int hob_ctl_bundle_rollback(int argc, char **argv)
{
    const char *key_path = HOB_BUNDLE_KEY, *dir = HOB_BUNDLE_DIR;
    bool json = false;
    hob_bundle_service s = {.ready_s = 300};
    const hob_option options[] = {
        HOB_BUNDLE_KEY_OPTION(&key_path),
        HOB_BUNDLE_DIR_OPTION(&dir),
        HOB_BUNDLE_SERVICE_OPTIONS(&s),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "bundle rollback",
        .summary = "Has hobd use the version before the current one.",
        .notes = "If hobd does not get ready with it, the current one stays in use. The next "
                 "installation removes\nwhat was rolled back from.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    hob_bundle_key key;
    hob_bundle_folder f;
    installation done = {.packages = 0};
    int code;
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if ((code = hob_bundle_service_resolve(&s, &diag)) < 0 ||
        (code = hob_bundle_key_load(key_path, false, &key, &diag)) < 0)
        goto end;
    if ((code = hob_bundle_folder_open(dir, true, &f, &diag)) == 0) {
        if ((code = hob_bundle_folder_before(&f, done.name, &diag)) == 0)
            code = use(&f, &done, &s, &key, &diag);
        hob_bundle_folder_close(&f);
    }
    hob_bundle_key_free(&key);
    hob_bundle_folder_version(done.name, done.version);
end:
    if (code == 0 && !json)
        print_done(&done, "back to", dir, s.packages);
    return hob_bundle_end("bundle rollback", code, json,
                          code == 0 ? done_json(&done, "back") : NULL, &diag);
}
