/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl ingest: files and folders into a server's vector store. A file is known there by this machine's name and its path
 * (the attribute `source`) and by its SHA-256: what is there already is left alone, what has changed takes the place of
 * what it was once the server has made something of it. */
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/documents.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "models/digest.h"

enum {
    BATCH = 50, /* files that are put into the store with one request */
    POLL_US = 200000,
    SOURCE_MAX = 512, /* characters of an attribute */
    DEPTH_MAX = 64,
    BAR = 30,
};

typedef struct item {
    char *path, *source;
    uint64_t bytes;
    char sha256[HOB_DIGEST_TEXT];
    char id[HOB_CTL_ID_MAX];  /* of the file on the server; "": not sent */
    char old[HOB_CTL_ID_MAX]; /* of what it takes the place of */
    bool unchanged, failed;
} item;

typedef struct batch {
    char id[HOB_CTL_ID_MAX];
    size_t files, finished;
} batch;

typedef struct ingest {
    hob_server server;
    const char *store_name;
    hob_ctl_collection store;
    char host[256];
    item *items;
    size_t count, capacity;
    batch *batches;
    size_t batch_count;
    size_t sent, unchanged, finished, failed;
    uint64_t bytes, sent_bytes;
    bool json;
} ingest;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* ---- which files ---- */

static int add_file(ingest *in, const char *path, uint64_t bytes, hob_diag *diag)
{
    char full[PATH_MAX];
    if (in->count == in->capacity) {
        const size_t capacity = in->capacity ? 2 * in->capacity : 64;
        item *grown = realloc(in->items, capacity * sizeof *grown);
        if (!grown)
            return hob_fail(diag, HOB_ENOMEM, "no memory for the list of files");
        in->items = grown;
        in->capacity = capacity;
    }
    if (!realpath(path, full))
        return hob_fail(diag, HOB_EIO, "%.150s: %s", path, strerror(errno));
    item *it = &in->items[in->count];
    *it = (item){.path = strdup(path), .bytes = bytes};
    const size_t size = strlen(in->host) + strlen(full) + 2;
    it->source = malloc(size);
    if (!it->path || !it->source)
        return hob_fail(diag, HOB_ENOMEM, "no memory for the list of files");
    snprintf(it->source, size, "%s:%s", in->host, full);
    in->bytes += bytes;
    in->count++;
    return 0;
}

static int add_path(ingest *in, const char *path, int depth, hob_diag *diag);

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int add_folder(ingest *in, const char *path, int depth, hob_diag *diag)
{
    struct dirent **names = NULL;
    char inside[PATH_MAX];
    int r = 0;
    const int n = depth > DEPTH_MAX ? -1 : scandir(path, &names, is_visible, by_name);
    if (n < 0)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", path,
                        depth > DEPTH_MAX ? "folders are nested too deep" : strerror(errno));
    for (int i = 0; i < n; i++) {
        if (r == 0 &&
            snprintf(inside, sizeof inside, "%s/%s", path, names[i]->d_name) < (int)sizeof inside)
            r = add_path(in, inside, depth + 1, diag);
        free(names[i]);
    }
    free(names);
    return r;
}

/* In folders symbolic links are left out: they may lead in a circle. */
static int add_path(ingest *in, const char *path, int depth, hob_diag *diag)
{
    struct stat st;
    if ((depth ? lstat(path, &st) : stat(path, &st)) != 0)
        return hob_fail(diag, HOB_ENOENT, "%.150s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return add_folder(in, path, depth, diag);
    if (S_ISREG(st.st_mode))
        return add_file(in, path, (uint64_t)st.st_size, diag);
    return depth ? 0 : hob_fail(diag, HOB_EINVAL, "%.150s: not a file and not a folder", path);
}

/* A path, or where there is none of that name a pattern. */
static int add_argument(ingest *in, const char *argument, hob_diag *diag)
{
    glob_t found = {0};
    int r = 0;
    if (access(argument, F_OK) == 0 || !strpbrk(argument, "*?["))
        return add_path(in, argument, 0, diag);
    if (glob(argument, 0, NULL, &found) != 0)
        r = hob_fail(diag, HOB_ENOENT, "%.150s: no file matches", argument);
    for (size_t i = 0; r == 0 && i < found.gl_pathc; i++)
        r = add_path(in, found.gl_pathv[i], 0, diag);
    globfree(&found);
    return r;
}

static int hash_file(item *it, hob_diag *diag)
{
    uint8_t buffer[65536], hash[HOB_DIGEST_BYTES];
    hob_digest sha;
    size_t n;
    FILE *f = fopen(it->path, "re");
    if (!f)
        return hob_fail(diag, HOB_EIO, "%.150s: %s", it->path, strerror(errno));
    hob_digest_begin(&sha);
    it->bytes = 0;
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0 && !interrupted) {
        hob_digest_add(&sha, buffer, n);
        it->bytes += n;
    }
    hob_digest_end(&sha, hash);
    const bool bad = ferror(f);
    fclose(f);
    hob_digest_text(hash, it->sha256);
    return bad ? hob_fail(diag, HOB_EIO, "%.150s cannot be read", it->path) : 0;
}

/* ---- what is there ---- */

static int by_source(const void *a, const void *b)
{
    return strcmp(((const item *)a)->source, ((const item *)b)->source);
}

/* Paths may have been named twice. */
static void sort_items(ingest *in)
{
    size_t kept = 0;
    qsort(in->items, in->count, sizeof *in->items, by_source);
    for (size_t i = 0; i < in->count; i++) {
        if (kept > 0 && strcmp(in->items[i].source, in->items[kept - 1].source) == 0) {
            in->bytes -= in->items[i].bytes;
            free(in->items[i].path);
            free(in->items[i].source);
        } else
            in->items[kept++] = in->items[i];
    }
    in->count = kept;
}

/* Notes which of our files the server has, and in which state. */
static int compare_file(void *user, const json_t *one, hob_diag *diag)
{
    ingest *in = user;
    const char *source =
        json_string_value(json_object_get(json_object_get(one, "attributes"), "source"));
    const item key = {.source = (char *)(uintptr_t)source};
    item *it = source ? bsearch(&key, in->items, in->count, sizeof key, by_source) : NULL;
    const char *id = hob_json_text(one, "id");
    if (!it || strlen(id) >= sizeof it->old)
        return 0;
    int r = it->sha256[0] ? 0 : hash_file(it, diag);
    if (r < 0)
        return r;
    if (strcmp(hob_json_text(one, "hob_sha256"), it->sha256) == 0 &&
        (strcmp(hob_json_text(one, "status"), "completed") == 0 ||
         strcmp(hob_json_text(one, "status"), "in_progress") == 0))
        it->unchanged = true;
    else
        snprintf(it->old, sizeof it->old, "%s", id);
    return 0;
}

/* ---- progress ---- */

static void show(const ingest *in, const char *what, size_t done, size_t of)
{
    char bar[BAR + 1];
    if (!isatty(STDERR_FILENO) || in->json || of == 0)
        return;
    for (size_t i = 0; i < BAR; i++)
        bar[i] = i < BAR * done / of ? '#' : '.';
    bar[BAR] = '\0';
    fprintf(stderr, "\r[%s] %s: %zu of %zu files, %.1f of %.1f MB \x1b[K", bar, what, done, of,
            (double)in->sent_bytes / 1e6, (double)in->bytes / 1e6);
}

static void tell(const ingest *in, const char *path, const char *why)
{
    if (isatty(STDERR_FILENO) && !in->json)
        fprintf(stderr, "\r\x1b[K");
    fprintf(stderr, "hobctl ingest: ");
    hob_print_text(stderr, path, strlen(path));
    fprintf(stderr, ": ");
    hob_print_text(stderr, why, strlen(why));
    fputc('\n', stderr);
}

/* ---- sending ---- */

static int put_into_store(ingest *in, size_t first, size_t end, hob_diag *diag)
{
    char path[200];
    json_t *files = json_array(), *answer = NULL;
    size_t n = 0;
    for (size_t i = first; i < end; i++) {
        const item *it = &in->items[i];
        if (it->failed || it->unchanged || !it->id[0])
            continue;
        n++;
        json_array_append_new(files, json_pack("{s:s, s:{s:s}}", "file_id", it->id, "attributes",
                                               "source", it->source));
    }
    if (n == 0) {
        json_decref(files);
        return 0;
    }
    batch *grown = realloc(in->batches, (in->batch_count + 1) * sizeof *grown);
    if (!grown) {
        json_decref(files);
        return hob_fail(diag, HOB_ENOMEM, "no memory for a request");
    }
    in->batches = grown;
    in->batches[in->batch_count] = (batch){.files = n};
    snprintf(path, sizeof path, "/v1/vector_stores/%s/file_batches", in->store.id);
    int r = hob_documents_call(&in->server, "POST", path, json_pack("{s:o}", "files", files),
                               &answer, diag);
    if (r == 0)
        snprintf(in->batches[in->batch_count++].id, HOB_CTL_ID_MAX, "%s",
                 hob_json_text(answer, "id"));
    json_decref(answer);
    return r;
}

/* One file cannot be sent: the others can. */
static void give_up(ingest *in, item *it, const char *why)
{
    it->failed = true;
    in->failed++;
    tell(in, it->path, why);
}

static int send_file(ingest *in, item *it, hob_diag *diag)
{
    if (in->store.max_file_bytes && it->bytes > in->store.max_file_bytes) {
        char why[96];
        snprintf(why, sizeof why, "it has %llu bytes; the server takes files of at most %llu",
                 (unsigned long long)it->bytes, (unsigned long long)in->store.max_file_bytes);
        give_up(in, it, why);
        return 0;
    }
    if (!it->sha256[0] && hash_file(it, diag) < 0) {
        give_up(in, it, diag->text);
        return 0;
    }
    json_t *text = json_string(it->source);
    const bool utf8 = text != NULL;
    json_decref(text);
    if (!utf8 || strlen(it->source) > SOURCE_MAX) {
        give_up(in, it, utf8 ? "its path is too long" : "its path is not UTF-8");
        return 0;
    }
    const char *slash = strrchr(it->path, '/');
    const int r = hob_documents_upload(&in->server, it->path, slash ? slash + 1 : it->path,
                                       it->bytes, &interrupted, it->id, diag);
    if (r == HOB_ECANCELED)
        return r;
    if (r < 0) {
        it->id[0] = '\0';
        give_up(in, it, diag->text);
        return 0;
    }
    in->sent++;
    return 0;
}

static int send_all(ingest *in, hob_diag *diag)
{
    size_t first = 0, waiting = 0;
    int r = 0;
    for (size_t i = 0; r == 0 && i < in->count; i++) {
        item *it = &in->items[i];
        show(in, "sending", i, in->count);
        if (it->unchanged)
            in->unchanged++;
        else {
            r = send_file(in, it, diag);
            waiting += it->id[0] != '\0';
        }
        in->sent_bytes += it->bytes;
        if (r == 0 && (waiting == BATCH || i + 1 == in->count)) {
            r = put_into_store(in, first, i + 1, diag);
            first = i + 1;
            waiting = 0;
        }
    }
    hob_diag other;
    if (r == HOB_ECANCELED && waiting > 0) /* what is there already is not sent another time */
        (void)put_into_store(in, first, in->count, &other);
    return r;
}

/* ---- waiting ---- */

static int look(ingest *in, batch *b, hob_diag *diag)
{
    char path[300];
    json_t *answer = NULL;
    snprintf(path, sizeof path, "/v1/vector_stores/%s/file_batches/%s", in->store.id, b->id);
    const int r = hob_documents_call(&in->server, "GET", path, NULL, &answer, diag);
    const long long left = hob_json_number(json_object_get(answer, "file_counts"), "in_progress");
    if (r == 0)
        b->finished = left >= 0 && (size_t)left <= b->files ? b->files - (size_t)left : 0;
    json_decref(answer);
    return r;
}

static int note_failure(void *user, const json_t *one, hob_diag *diag)
{
    ingest *in = user;
    const json_t *error = json_object_get(one, "last_error");
    const char *id = hob_json_text(one, "id");
    (void)diag;
    for (size_t i = 0; i < in->count; i++)
        if (strcmp(in->items[i].id, id) == 0)
            give_up(in, &in->items[i], hob_json_text(error, "message"));
    return 0;
}

static int remove_file(ingest *in, const char *id, hob_diag *diag)
{
    char path[120];
    json_t *answer = NULL;
    snprintf(path, sizeof path, "/v1/files/%s", id);
    const int r = hob_documents_call(&in->server, "DELETE", path, NULL, &answer, diag);
    json_decref(answer);
    return r;
}

static int wait_for_all(ingest *in, hob_diag *diag)
{
    int r = 0;
    for (;;) {
        /* In their order, as the server takes them: those behind the first that is not done can wait. */
        bool done = true;
        in->finished = 0;
        for (size_t i = 0; r == 0 && done && i < in->batch_count; i++) {
            if (in->batches[i].finished < in->batches[i].files)
                r = look(in, &in->batches[i], diag);
            in->finished += in->batches[i].finished;
            done = in->batches[i].finished == in->batches[i].files;
        }
        show(in, "processing", in->finished, in->sent);
        if (r < 0 || in->finished >= in->sent)
            break;
        if (interrupted)
            return hob_fail(diag, HOB_ECANCELED,
                            "interrupted; the server goes on with what it has");
        usleep(POLL_US);
    }
    for (size_t i = 0; r == 0 && i < in->batch_count; i++) {
        char path[300];
        snprintf(path, sizeof path, "/v1/vector_stores/%s/file_batches/%s/files?filter=failed&",
                 in->store.id, in->batches[i].id);
        r = hob_documents_each(&in->server, path, note_failure, in, diag);
    }
    return r;
}

/* Of a file that was sent, what it takes the place of goes, or where it failed itself. */
static int clean_up(ingest *in, hob_diag *diag)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < in->count; i++) {
        const item *it = &in->items[i];
        if (!it->id[0])
            continue;
        if (it->failed)
            r = remove_file(in, it->id, diag);
        else if (it->old[0])
            r = remove_file(in, it->old, diag);
    }
    return r;
}

/* ---- the command ---- */

static int report(const ingest *in, hob_diag *diag)
{
    const size_t done = in->count - in->unchanged - in->failed;
    if (in->json)
        return hob_json_print(
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I}", "store", in->store_name, "vector_store_id",
                      in->store.id, "files", (json_int_t)in->count, "ingested", (json_int_t)done,
                      "unchanged", (json_int_t)in->unchanged, "failed", (json_int_t)in->failed),
            diag);
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\x1b[K");
    printf("%s: %zu ingested, %zu unchanged, %zu failed\n", in->store_name, done, in->unchanged,
           in->failed);
    return 0;
}

static int run(ingest *in, const hob_server_options *where, int count, char **paths, hob_diag *diag)
{
    char path[200];
    int r = hob_server_find(where, &in->server, diag);
    for (int i = 0; r == 0 && i < count; i++)
        r = add_argument(in, paths[i], diag);
    if (r == 0)
        r = hob_documents_store(&in->server, in->store_name, true, &in->store, diag);
    if (r < 0)
        return r;
    sort_items(in);
    snprintf(path, sizeof path, "/v1/vector_stores/%s/files?", in->store.id);
    if ((r = hob_documents_each(&in->server, path, compare_file, in, diag)) < 0 ||
        (r = send_all(in, diag)) < 0 || (r = wait_for_all(in, diag)) < 0 ||
        (r = clean_up(in, diag)) < 0)
        return r;
    return report(in, diag);
}

int hob_ctl_ingest(int argc, char **argv)
{
    hob_server_options where = {0};
    ingest in = {.store_name = "default"};
    const hob_option options[] = {HOB_SERVER_OPTIONS(&where), HOB_STORE_OPTION(&in.store_name),
                                  HOB_FLAG("--json", &in.json, HOB_HELP_JSON)};
    const hob_syntax syntax = {
        .command = "ingest",
        .summary =
            "Puts files into a vector store of the server, those that are not there as they are.",
        .positional = "PATH...",
        .notes =
            "Folders are walked through; hidden files and symbolic links in them are left out. A "
            "PATH with * ? or [ ]\nmay be a pattern. Files that have changed take the place of "
            "what they were.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int paths = 0;
    hob_diag diag = {""};
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &paths);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (paths == 0) {
        fprintf(stderr, "hobctl ingest: a PATH is needed (see hobctl ingest --help)\n");
        return HOB_EXIT_USAGE;
    }
    if (gethostname(in.host, sizeof in.host - 1) != 0)
        snprintf(in.host, sizeof in.host, "localhost");
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    const int r = run(&in, &where, paths, argv + 1, &diag);
    for (size_t i = 0; i < in.count; i++) {
        free(in.items[i].path);
        free(in.items[i].source);
    }
    free(in.items);
    free(in.batches);
    if (r == HOB_ECANCELED)
        return HOB_EXIT_INTERRUPTED;
    return r < 0 ? hob_ctl_failed("ingest", &diag) : in.failed ? HOB_EXIT_FAILURE : HOB_EXIT_OK;
}
