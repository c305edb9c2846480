/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl setup on an installed system. It writes what an administrator decides: hob.conf, and for systemd the memory that
 * follows from it and, if asked, the way to the GPU. Certificates and the first key are hobd's own business, at its first
 * start, as the user it runs as. What there is to decide is asked at a terminal, but for what options have said; what is
 * in hob.conf is what Enter answers. See setup.h. */
#include "daemon/ctl/setup.h"

#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/prompt.h"
#include "hal/select.h"
#include "models/model.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MODELS_MAX = 32,
    BUDGET_STEP_MB = 64,
    EXTRACTION_MB = 512, /* a document that is read, which is not in the budget */
    SHARE = 8, /* of the budget: what the kernel holds for sockets, files and page tables */
    EXAMPLE_MAX = 65536,
};

/* What the package brings as /etc/hob/hob.conf. */
/* clang-format off */
__asm__(".section .rodata\n.global hob_packaged_conf\n.global hob_packaged_conf_end\nhob_packaged_conf:\n"
        ".incbin \"config/hob.conf\"\nhob_packaged_conf_end:\n.previous\n");
/* clang-format on */
extern const char hob_packaged_conf[], hob_packaged_conf_end[];

/* ---- models ---- */

typedef struct found {
    char path[PATH_MAX];
    bool embeds;
    uint64_t bytes;
} found;

typedef struct shelf {
    found list[MODELS_MAX]; /* by folder and name */
    uint32_t count;
} shelf;

static int is_gguf(const struct dirent *e)
{
    const size_t len = strlen(e->d_name);
    return len > 5 && strcmp(e->d_name + len - 5, ".gguf") == 0;
}

/* What hob cannot run is left out; hobctl inspect says why. */
static void look_at(shelf *s, const char *path)
{
    hob_gguf *g = NULL;
    hob_model_info info;
    if (s->count == MODELS_MAX || hob_gguf_open(path, &g, NULL) < 0)
        return;
    if (hob_model_inspect(g, path, &info, NULL) == 0) {
        found *f = &s->list[s->count++];
        snprintf(f->path, sizeof f->path, "%s", path);
        f->embeds = info.pooling != HOB_POOLING_NONE;
        f->bytes = hob_gguf_file_bytes(g);
    }
    hob_gguf_close(g);
}

static void look_into(shelf *s, const char *dir)
{
    struct dirent **entries = NULL;
    char path[PATH_MAX];
    const int n = scandir(dir, &entries, is_gguf, alphasort);
    for (int i = 0; i < n; i++) {
        if (hob_path_join(path, sizeof path, dir, entries[i]->d_name, NULL) == 0)
            look_at(s, path);
        free(entries[i]);
    }
    free(entries);
}

static const found *first_of(const shelf *s, bool embeds)
{
    for (uint32_t i = 0; i < s->count; i++)
        if (s->list[i].embeds == embeds)
            return &s->list[i];
    return NULL;
}

/* A number of the list, a file, or "none" where that is allowed, as a path; "" for none. */
static int choose(const shelf *s, const char *text, bool embeds, char ret[PATH_MAX], hob_diag *diag)
{
    char path[PATH_MAX], *end;
    const unsigned long number = strtoul(text, &end, 10);
    if (embeds && strcmp(text, "none") == 0) {
        ret[0] = '\0';
        return 0;
    }
    if (text[0] >= '0' && text[0] <= '9' && !*end) {
        if (number < 1 || number > s->count)
            return hob_fail(diag, HOB_EINVAL, "got %.20s, allowed: 1 to %u, or a file", text,
                            s->count);
        snprintf(path, sizeof path, "%s", s->list[number - 1].path);
    } else {
        const int code = hob_setup_find_model(text, path, diag);
        if (code < 0)
            return code;
    }
    hob_gguf *g = NULL;
    hob_model_info info;
    int code = hob_gguf_open(path, &g, diag);
    if (code == 0)
        code = hob_model_inspect(g, path, &info, diag);
    hob_gguf_close(g);
    if (code == 0 && (info.pooling != HOB_POOLING_NONE) != embeds)
        code = hob_fail(diag, HOB_EINVAL,
                        embeds ? "%s generates text: one that makes embeddings is needed"
                               : "%s makes embeddings: one that generates text is needed",
                        path);
    if (code == 0)
        memcpy(ret, path, strlen(path) + 1);
    return code;
}

typedef struct choice {
    const shelf *shelf;
    bool embeds;
} choice;

static bool check_choice(void *user, const char *text, hob_diag *why)
{
    const choice *c = user;
    char path[PATH_MAX];
    return choose(c->shelf, text, c->embeds, path, why) == 0;
}

/* model holds what Enter answers, a path or "". */
static int ask_model(const shelf *s, bool embeds, const char *question, char model[PATH_MAX],
                     hob_diag *diag)
{
    char text[PATH_MAX];
    choice c = {s, embeds};
    snprintf(text, sizeof text, "%s", embeds && !model[0] ? "none" : model);
    for (uint32_t i = 0; i < s->count; i++)
        if (strcmp(s->list[i].path, model) == 0)
            snprintf(text, sizeof text, "%u", i + 1);
    const int code = hob_prompt_text(question, check_choice, &c, text, sizeof text, diag);
    return code < 0 ? code : choose(s, text, embeds, model, diag);
}

/* ---- what is decided ---- */

static uint32_t machine_mb(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && bytes > 0 ? (uint32_t)(((uint64_t)pages * (uint64_t)bytes) >> 20) : 0;
}

/* What hob.conf says. A new installation has the package's, which knows neither how much memory there is nor what models. */
static void begin(const hob_setup_options *o, const shelf *s, bool fresh, hob_setup_conf *ret)
{
    static hob_conf conf;
    const found *model = first_of(s, false), *embedding = first_of(s, true);
    *ret = (hob_setup_conf){.state = o->state, .socket = o->socket, .port = 8443};
    snprintf(ret->listen, sizeof ret->listen, "0.0.0.0");
    ret->memory_mb = machine_mb() / 4 * 3 / BUDGET_STEP_MB * BUDGET_STEP_MB;
    if (model)
        memcpy(ret->model, model->path, sizeof ret->model);
    if (embedding)
        memcpy(ret->embedding, embedding->path, sizeof ret->embedding);
    if (hob_conf_load(o->config, &conf, NULL) < 0)
        return;
    memcpy(ret->listen, conf.listen, sizeof ret->listen);
    ret->port = conf.port;
    ret->tokens_per_minute = conf.key_limits[HOB_LIMIT_TOKENS_PER_MINUTE];
    ret->tokens_per_day = conf.key_limits[HOB_LIMIT_TOKENS_PER_DAY];
    if (fresh && access(conf.models[0].path, F_OK) != 0)
        return;
    memcpy(ret->model, conf.models[0].path, sizeof ret->model);
    memcpy(ret->name, conf.models[0].name, sizeof ret->name);
    if (fresh)
        return;
    ret->memory_mb = conf.memory_mb;
    ret->embedding[0] = '\0';
    if (conf.model_count > 1)
        memcpy(ret->embedding, conf.models[1].path, sizeof ret->embedding);
}

static bool check_address(void *user, const char *text, hob_diag *why)
{
    struct in6_addr six;
    (void)user;
    if (inet_pton(AF_INET, text, &six) == 1 || inet_pton(AF_INET6, text, &six) == 1)
        return true;
    (void)hob_fail(why, HOB_EINVAL, "got \"%.60s\", allowed: an IPv4 or IPv6 address", text);
    return false;
}

static int decide_number(const char *question, uint32_t given, uint32_t min, uint32_t max, bool ask,
                         uint32_t *ret, hob_diag *diag)
{
    if (given != HOB_SETUP_OPEN)
        *ret = given;
    else if (ask)
        return hob_prompt_number(question, min, max, ret, diag);
    return 0;
}

/* given: an option's text, or NULL. */
static int decide_model(const shelf *s, const char *given, bool embeds, const char *question,
                        bool ask, char model[PATH_MAX], hob_diag *diag)
{
    if (given)
        return choose(s, given, embeds, model, diag);
    if (ask)
        return ask_model(s, embeds, question, model, diag);
    return embeds && !model[0] ? 0 : choose(s, model, embeds, model, diag);
}

static void print_shelf(const hob_setup_options *o, const shelf *s)
{
    fprintf(stderr, "Models in %s and %s/models:%s\n", o->models, o->state,
            s->count ? "" : " none; a file's path is needed");
    for (uint32_t i = 0; i < s->count; i++) {
        const char *base = strrchr(s->list[i].path, '/');
        fprintf(stderr, "  %u  %-44s %6.0f MB  %s\n", i + 1, base ? base + 1 : s->list[i].path,
                (double)s->list[i].bytes / 1e6,
                s->list[i].embeds ? "embeds documents" : "generates text");
    }
}

static int decide(const hob_setup_options *o, const shelf *s, bool ask, hob_setup_conf *c,
                  hob_diag *diag)
{
    char question[128], model[PATH_MAX];
    int code = 0;
    if (ask)
        fprintf(stderr, "Enter takes what is in brackets; Ctrl-D leaves everything as it is.\n");
    if (o->listen)
        snprintf(c->listen, sizeof c->listen, "%s", o->listen);
    else if (ask)
        code = hob_prompt_text("Address to listen on, 0.0.0.0 for all", check_address, NULL,
                               c->listen, sizeof c->listen, diag);
    if (code < 0 || (code = decide_number("Port", o->port, 1, 65535, ask, &c->port, diag)) < 0)
        return code;
    if (ask && (!o->model || !o->embedding))
        print_shelf(o, s);
    if (!o->model && !ask && !c->model[0])
        return hob_fail(diag, HOB_ENOENT,
                        "there is no model in %s and %s/models: give --model FILE, or install "
                        "hob-model-smollm2",
                        o->models, o->state);
    memcpy(model, c->model, sizeof model);
    code = decide_model(s, o->model, false, "Model that answers, a number or a file", ask, c->model,
                        diag);
    if (code < 0)
        return code;
    if (o->name || strcmp(model, c->model) != 0) /* another model is not called as the last one */
        snprintf(c->name, sizeof c->name, "%s", o->name ? o->name : "");
    code =
        decide_model(s, o->embedding, true, "Model that embeds documents, a number, a file or none",
                     ask, c->embedding, diag);
    if (code < 0)
        return code;
    snprintf(question, sizeof question,
             "Memory that hob may use in MiB, 0 for any (this machine has %u)", machine_mb());
    if ((code = decide_number(question, o->memory_mb, 0, 1 << 30, ask, &c->memory_mb, diag)) < 0 ||
        (code = decide_number("Tokens that a key may use a minute, 0 for any", o->tokens_per_minute,
                              0, 1000000000, ask, &c->tokens_per_minute, diag)) < 0 ||
        (code = decide_number("Tokens that a key may use a day, 0 for any", o->tokens_per_day, 0,
                              4000000000, ask, &c->tokens_per_day, diag)) < 0)
        return code;
    return 0;
}

static int decide_gpu(const hob_setup_options *o, bool ask, bool *ret, hob_diag *diag)
{
    *ret = o->gpu;
    if (!ask || o->gpu || o->no_gpu || !hob_hal_tries_drivers("auto"))
        return 0;
    *ret = true;
    return hob_prompt_yes("May hob use this machine's GPU (y or n)", ret, diag);
}

/* ---- systemd ---- */

static int make_folder(const char *path, hob_diag *diag)
{
    return mkdir(path, 0755) == 0 || errno == EEXIST
               ? 0
               : hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
}

static void say_written(const char *path, int code)
{
    fprintf(stderr, code > 0 ? "setup: %s was edited and stays as it is\n" : "setup: wrote %s\n",
            path);
}

/* The kernel's bound lies above the budget that hob keeps itself: it is for when something goes wrong. */
static int write_memory(const hob_setup_options *o, uint32_t memory_mb, hob_diag *diag)
{
    char path[PATH_MAX], text[256];
    int code = hob_path_join(path, sizeof path, o->units, "memory.conf", diag);
    if (code < 0 || (memory_mb && (code = make_folder(o->units, diag)) < 0))
        return code;
    snprintf(text, sizeof text,
             "# limits.memory_mb of hob.conf, %u, an eighth more, and what reading documents "
             "takes.\n[Service]\nMemoryMax=%lluM\n",
             memory_mb, memory_mb + (unsigned long long)memory_mb / SHARE + EXTRACTION_MB);
    const bool there = access(path, F_OK) == 0;
    code = hob_setup_write_marked(path, memory_mb ? text : NULL, diag);
    if (code >= 0 && (memory_mb || (there && code > 0)))
        say_written(path, code);
    return code < 0 ? code : 0;
}

/* An administrator's file of that name stays. */
static int copy_render(const hob_setup_options *o, hob_diag *diag)
{
    char from[PATH_MAX], to[PATH_MAX], *text = NULL, *old = NULL;
    size_t len = 0, old_len = 0;
    int code;
    if ((code = hob_path_join(from, sizeof from, o->examples, "render.conf", diag)) < 0 ||
        (code = hob_path_join(to, sizeof to, o->units, "render.conf", diag)) < 0 ||
        (code = hob_file_read(from, EXAMPLE_MAX, &text, &len, diag)) < 0 ||
        (code = make_folder(o->units, diag)) < 0)
        goto end;
    code = hob_file_read(to, EXAMPLE_MAX, &old, &old_len, diag);
    if (code < 0 && code != HOB_ENOENT)
        goto end;
    const bool edited = code == 0 && (len != old_len || memcmp(old, text, len) != 0);
    code = code == 0 ? 0 : hob_file_write(to, text, len, 0644, diag);
    if (code == 0)
        say_written(to, edited);
end:
    free(text);
    free(old);
    return code;
}

/* ---- the command ---- */

static bool is_packaged(const char *path)
{
    const size_t packaged = (size_t)(hob_packaged_conf_end - hob_packaged_conf);
    char *text = NULL;
    size_t len = 0;
    const bool same = hob_file_read(path, packaged, &text, &len, NULL) == 0 && len == packaged &&
                      memcmp(text, hob_packaged_conf, len) == 0;
    free(text);
    return same;
}

int hob_setup_system(const hob_setup_options *o)
{
    static shelf s;
    static hob_setup_conf c;
    static hob_conf conf;
    char dir[PATH_MAX];
    hob_diag diag = {""};
    bool gpu = false, may_write = false;
    const bool ask = !o->yes && hob_prompt_possible();
    const size_t packaged_len = (size_t)(hob_packaged_conf_end - hob_packaged_conf);
    int code = hob_path_join(dir, sizeof dir, o->state, "models", &diag);
    if (code < 0)
        goto fail;
    look_into(&s, o->models);
    look_into(&s, dir);
    code = hob_setup_may_write(o->config, hob_packaged_conf, packaged_len, &may_write, &diag);
    if (code < 0)
        goto fail;
    if (may_write) {
        begin(o, &s, is_packaged(o->config), &c);
        if ((code = decide(o, &s, ask, &c, &diag)) < 0)
            goto fail;
    }
    if ((code = decide_gpu(o, ask, &gpu, &diag)) < 0 ||
        (may_write &&
         (code = hob_setup_write_conf(&c, o->config, hob_packaged_conf, packaged_len, &diag)) < 0))
        goto fail;
    say_written(o->config, !may_write);
    /* What counts is what hobd will read, be it edited or not. */
    if ((code = hob_conf_load(o->config, &conf, &diag)) < 0 ||
        (code = write_memory(o, conf.memory_mb, &diag)) < 0 ||
        (gpu && (code = copy_render(o, &diag)) < 0))
        goto fail;
    fprintf(stderr, "setup: now type\n"
                    "    systemctl daemon-reload && systemctl restart hob\n"
                    "    hobctl doctor\n");
    return HOB_EXIT_OK;
fail:
    fprintf(stderr, "setup: %s\n", diag.text[0] ? diag.text : hob_error_name(code));
    return HOB_EXIT_FAILURE;
}
