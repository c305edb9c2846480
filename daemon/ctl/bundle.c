/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl bundle: one signed file that updates a box without a network. Here is what makes and checks bundles; bundle_install.c
 * has what changes a box. See daemon/bundle/container.h. */
#include "daemon/ctl/bundle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"

void hob_bundle_show(void *user, uint64_t bytes)
{
    hob_bundle_shown *s = user;
    s->done += bytes;
    const int percent = s->total ? (int)(100.0 * (double)s->done / (double)s->total) : 100;
    if (percent == s->percent || !isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r%.1f of %.1f MB, %d %%%s", (double)s->done / 1e6, (double)s->total / 1e6,
            percent, s->done >= s->total ? "\n" : "");
    s->percent = percent;
}

int hob_bundle_end(const char *command, int code, bool json, json_t *result, const hob_diag *diag)
{
    hob_diag why = {""};
    if (code >= 0) {
        code = json ? hob_json_print(result, &why) : 0;
        if (!json)
            json_decref(result);
        return code < 0 ? hob_ctl_failed(command, &why) : HOB_EXIT_OK;
    }
    if (json && hob_json_print(json_pack("{s:s, s:{s:s, s:s}}", "object", "hob.bundle", "error",
                                         "code", hob_error_name(code), "message", diag->text),
                               &why) < 0)
        return hob_ctl_failed(command, &why);
    fflush(stdout);
    fprintf(stderr, "hobctl %s: %s: %s\n", command, hob_error_name(code), diag->text);
    return HOB_EXIT_FAILURE;
}

static int bundle_keygen(int argc, char **argv)
{
    bool json = false;
    const hob_option options[] = {HOB_FLAG("--json", &json, HOB_HELP_JSON)};
    const hob_syntax syntax = {
        .command = "bundle keygen",
        .summary = "Makes a pair of keys (ECDSA P-256) to sign bundles with.",
        .positional = "FILE",
        .notes =
            "FILE is the private key, readable for this user alone: it stays where bundles are "
            "made.\nFILE.pub is the public one, for " HOB_BUNDLE_KEY " on each box.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    int files = 0, status;
    if (!hob_options_parse_count(&syntax, argc, argv, 1, 1, &files, &status))
        return status;
    const int code = hob_bundle_key_make(argv[1], &diag);
    if (code == 0 && !json)
        printf("%s: private key\n%s.pub: public key, for " HOB_BUNDLE_KEY " on each box\n", argv[1],
               argv[1]);
    return hob_bundle_end("bundle keygen", code, json,
                          json_pack("{s:s, s:s, s:s+}", "object", "hob.bundle.key", "private",
                                    argv[1], "public", argv[1], ".pub"),
                          &diag);
}

/* ---- making ---- */

static uint64_t size_of_all(char *const *paths, int count)
{
    uint64_t total = 0;
    struct stat st;
    for (int i = 0; i < count; i++)
        if (stat(paths[i], &st) == 0)
            total += (uint64_t)st.st_size;
    return total;
}

static int bundle_make(int argc, char **argv)
{
    const char *out = NULL, *version = NULL, *key_path = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_REQUIRED("--out", "FILE", &out, "the bundle to write"),
        HOB_REQUIRED("--version", "VERSION", &version,
                     "as Debian orders versions: a box takes newer ones only"),
        HOB_REQUIRED("--key", "FILE", &key_path, "private key (hobctl bundle keygen)"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "bundle make",
        .summary = "Makes a signed bundle of packages, models and copies of a store.",
        .positional = "FILE…",
        .notes =
            "What a FILE is, its name says: .deb or .rpm a package, .gguf a model, .db a copy "
            "that hobctl\nstore backup has made. The same files, version and key give the same "
            "bytes.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    hob_bundle_key key;
    int files = 0, status;
    if (!hob_options_parse_count(&syntax, argc, argv, 1, HOB_BUNDLE_FILES_MAX, &files, &status))
        return status;
    hob_bundle_shown shown = {.total = size_of_all(argv + 1, files), .percent = -1};
    int code = hob_bundle_key_load(key_path, true, &key, &diag);
    if (code == 0) {
        code = hob_bundle_make(out, version, argv + 1, (uint32_t)files, &key, hob_bundle_show,
                               &shown, &diag);
        hob_bundle_key_free(&key);
    }
    if (code == 0 && !json)
        printf("%s: version %s, %d files, %.1f MB\n", out, version, files,
               (double)shown.total / 1e6);
    return hob_bundle_end("bundle make", code, json,
                          json_pack("{s:s, s:s, s:s, s:i, s:I}", "object", "hob.bundle", "file",
                                    out, "version", version, "files", files, "bytes",
                                    (json_int_t)shown.total),
                          &diag);
}

/* ---- checking ---- */

static json_t *list_files(const hob_bundle *b)
{
    json_t *files = json_array();
    char text[HOB_DIGEST_TEXT];
    for (uint32_t i = 0; i < b->count; i++) {
        hob_digest_text(b->files[i].sha256, text);
        json_array_append_new(files,
                              json_pack("{s:s, s:s, s:I, s:s}", "name", b->files[i].name, "kind",
                                        hob_bundle_kind_name(b->files[i].kind), "bytes",
                                        (json_int_t)b->files[i].bytes, "sha256", text));
    }
    return files;
}

static void print_files(const hob_bundle *b, const char *where)
{
    char text[HOB_DIGEST_TEXT];
    printf("%s: version %s, signed and whole\n", where, b->version);
    for (uint32_t i = 0; i < b->count; i++) {
        hob_digest_text(b->files[i].sha256, text);
        printf("%s  %12" PRIu64 "  %-10s %s\n", text, b->files[i].bytes,
               hob_bundle_kind_name(b->files[i].kind), b->files[i].name);
    }
}

static int check_bundle(const char *path, hob_bundle_key *key, hob_bundle *ret, hob_diag *diag)
{
    int code = hob_bundle_open(path, key, ret, diag);
    if (code < 0)
        return code;
    hob_bundle_shown shown = {.total = ret->bytes - ret->head_bytes, .percent = -1};
    ret->progress = hob_bundle_show;
    ret->user = &shown;
    code = hob_bundle_check(ret, diag);
    if (code < 0)
        hob_bundle_close(ret);
    return code;
}

/* The version that is in use, by what was signed when it was installed. */
static int check_installed(const char *dir, hob_bundle_key *key, hob_bundle *ret, hob_diag *diag)
{
    hob_bundle_folder f;
    int code = hob_bundle_folder_open(dir, false, &f, diag);
    if (code < 0)
        return code;
    code = f.current[0] ? hob_bundle_folder_head(&f, f.current, key, ret, diag)
                        : hob_fail(diag, HOB_ENOENT, "%.150s: nothing is installed", dir);
    if (code == 0) {
        hob_bundle_shown shown = {.total = ret->bytes - ret->head_bytes, .percent = -1};
        ret->progress = hob_bundle_show;
        ret->user = &shown;
        code = hob_bundle_folder_check(&f, f.current, ret, HOB_BUNDLE_KINDS, diag);
        if (code < 0)
            hob_bundle_close(ret);
    }
    hob_bundle_folder_close(&f);
    return code;
}

static int bundle_verify(int argc, char **argv)
{
    const char *key_path = HOB_BUNDLE_KEY, *dir = HOB_BUNDLE_DIR;
    bool json = false;
    const hob_option options[] = {
        HOB_BUNDLE_KEY_OPTION(&key_path),
        HOB_BUNDLE_DIR_OPTION(&dir),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "bundle verify",
        .summary = "Checks a bundle, or what is installed, and lists what it holds.",
        .positional = "[FILE]",
        .notes =
            "Checks the manifest's signature, then the size and SHA-256 of every file. Without "
            "FILE it\nlooks at the version in use, file by file. Writes nothing.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    hob_bundle_key key;
    hob_bundle b = {.fd = -1};
    json_t *result = NULL;
    int files = 0, status;
    if (!hob_options_parse_count(&syntax, argc, argv, 0, 1, &files, &status))
        return status;
    int code = hob_bundle_key_load(key_path, false, &key, &diag);
    if (code == 0) {
        code =
            files ? check_bundle(argv[1], &key, &b, &diag) : check_installed(dir, &key, &b, &diag);
        hob_bundle_key_free(&key);
    }
    if (code == 0) {
        result = json_pack("{s:s, s:s, s:s, s:o}", "object", "hob.bundle", "result", "ok",
                           "version", b.version, "files", list_files(&b));
        if (!json)
            print_files(&b, files ? argv[1] : dir);
        hob_bundle_close(&b);
    }
    return hob_bundle_end("bundle verify", code, json, result, &diag);
}

int hob_ctl_bundle(int argc, char **argv)
{
    static const struct {
        const char *name, *help;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"keygen", "makes a pair of keys to sign bundles with", bundle_keygen},
        {"make", "makes a signed bundle", bundle_make},
        {"verify", "checks a bundle, or what is installed", bundle_verify},
        {"install", "installs a bundle and has hobd use it", hob_ctl_bundle_install},
        {"rollback", "goes back to the version before", hob_ctl_bundle_rollback},
    };
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    const bool help = strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0;
    if (!help && *name) {
        fprintf(stderr,
                "hobctl bundle: unknown command \"%s\"; allowed: keygen make verify install "
                "rollback --help\n",
                name);
        return HOB_EXIT_USAGE;
    }
    FILE *f = help ? stdout : stderr;
    fprintf(f, "Updates without a network: one signed file with packages, models and stores.\n\n"
               "usage: hobctl bundle COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(f, "  %-8s %s\n", commands[i].name, commands[i].help);
    fprintf(f, "\nhobctl bundle COMMAND --help lists a command's options.\n");
    return help ? HOB_EXIT_OK : HOB_EXIT_USAGE;
}
