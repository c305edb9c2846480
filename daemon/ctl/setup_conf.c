/* SPDX-License-Identifier: Apache-2.0
 *
 * The files that hobctl setup writes again each time it runs, as long as their first line says so: hob.conf, and what goes
 * with it for systemd. See setup.h. */
#include "daemon/ctl/setup.h"

#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 1024 * 1024 };

static const char mark[] = "# Written by hobctl setup, and again each time it runs. Remove this "
                           "line to keep your changes.\n";

int hob_setup_find_model(const char *model, char ret[PATH_MAX], hob_diag *diag)
{
    return realpath(model, ret) && access(ret, R_OK) == 0
               ? 0
               : hob_fail(diag, HOB_EIO, "the model %s: %s", model, strerror(errno));
}

/* libconfig's strings: quotes and backslashes are escaped; a path with control characters is refused. */
static int quote(char *ret, size_t size, const char *text, hob_diag *diag)
{
    size_t n = 0;
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20)
            return hob_fail(diag, HOB_EINVAL,
                            "%.100s: a path with control characters cannot be configured", text);
        if (n + 3 > size)
            return hob_fail(diag, HOB_ELIMIT, "%.100s: the path is too long", text);
        if (*c == '"' || *c == '\\')
            ret[n++] = '\\';
        ret[n++] = *c;
    }
    ret[n] = 0;
    return 0;
}

/* What clients call a model: its file's name without .gguf, with what a name may not have replaced. */
static void model_name(const char *path, char *ret, size_t size)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t len = strlen(base);
    if (len > 5 && strcmp(base + len - 5, ".gguf") == 0)
        len -= 5;
    if (len >= size)
        len = size - 1;
    memcpy(ret, base, len);
    ret[len] = 0;
    for (char *c = ret; *c; c++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@+-", *c))
            *c = '-';
    if (!ret[0] || strcmp(ret, "default") == 0)
        snprintf(ret, size, "model");
}

/* name: "": as its file. */
static int print_model(FILE *f, const char *name, const char *path, hob_diag *diag)
{
    char quoted[2 * PATH_MAX + 1], named[64];
    const int code = quote(quoted, sizeof quoted, path, diag);
    if (code < 0)
        return code;
    model_name(path, named, sizeof named);
    fprintf(f, "    {\n        name = \"%s\";\n        path = \"%s\";\n    }",
            name[0] ? name : named, quoted);
    return 0;
}

/* key = "state/name"; */
static int print_path(FILE *f, const char *indent, const char *key, const char *state,
                      const char *name, hob_diag *diag)
{
    char path[PATH_MAX], quoted[2 * PATH_MAX + 1];
    int code = hob_path_join(path, sizeof path, state, name, diag);
    if (code == 0)
        code = quote(quoted, sizeof quoted, path, diag);
    if (code == 0)
        fprintf(f, "%s%s = \"%s\";\n", indent, key, quoted);
    return code;
}

static int print_conf(FILE *f, const hob_setup_conf *c, hob_diag *diag)
{
    int code = 0;
    fprintf(f,
            "%s# config/hob.conf of the sources, and hob.conf(5), describe every key.\n"
            "listen = \"%s\";\nport = %u;\n",
            mark, c->listen, c->port);
    if (c->socket[0])
        code = print_path(f, "", "admin_socket", "", c->socket, diag);
    fprintf(f, "tls = {\n");
    if (code < 0 || (code = print_path(f, "    ", "cert", c->state, "cert.pem", diag)) < 0 ||
        (code = print_path(f, "    ", "key", c->state, "key.pem", diag)) < 0)
        return code;
    fprintf(f, "};\n");
    if (c->state[0] && (code = print_path(f, "", "store", c->state, "hob.db", diag)) < 0)
        return code;
    if ((code = print_path(f, "", "keys", c->state, "keys", diag)) < 0)
        return code;
    fprintf(f, "models = (\n");
    if ((code = print_model(f, c->name, c->model, diag)) < 0)
        return code;
    if (c->embedding[0]) {
        fprintf(f, ",\n");
        if ((code = print_model(f, "", c->embedding, diag)) < 0)
            return code;
    }
    fprintf(f, "\n);\n");
    if (c->memory_mb)
        fprintf(f, "limits = {\n    memory_mb = %u;\n};\n", c->memory_mb);
    if (c->tokens_per_minute || c->tokens_per_day)
        fprintf(f, "key_limits = {\n    tokens_per_minute = %u;\n    tokens_per_day = %u;\n};\n",
                c->tokens_per_minute, c->tokens_per_day);
    return 0;
}

int hob_setup_may_write(const char *path, const char *pristine, size_t pristine_len, bool *ret,
                        hob_diag *diag)
{
    char *old = NULL;
    size_t len = 0;
    const int code = hob_file_read(path, FILE_MAX, &old, &len, diag);
    *ret = code == HOB_ENOENT ||
           (code == 0 && (strncmp(old, mark, sizeof mark - 1) == 0 ||
                          (pristine && len == pristine_len && memcmp(old, pristine, len) == 0)));
    free(old);
    return code == HOB_ENOENT ? 0 : code;
}

/* A file that would not change is not written: who watches it is not woken. */
static int write_changed(const char *path, const char *text, size_t text_len, hob_diag *diag)
{
    char *old = NULL;
    size_t len = 0;
    const bool same = hob_file_read(path, FILE_MAX, &old, &len, NULL) == 0 && len == text_len &&
                      memcmp(old, text, len) == 0;
    free(old);
    return same ? 0 : hob_file_write(path, text, text_len, 0644, diag);
}

int hob_setup_write_conf(const hob_setup_conf *c, const char *path, const char *pristine,
                         size_t pristine_len, hob_diag *diag)
{
    static hob_conf conf;
    char trial[PATH_MAX], *text = NULL;
    size_t len = 0;
    bool ours;
    int code = hob_setup_may_write(path, pristine, pristine_len, &ours, diag);
    if (code < 0)
        return code;
    if (!ours) {
        code = hob_conf_load(path, &conf, diag);
        return code < 0 ? code : 1;
    }
    FILE *f = open_memstream(&text, &len);
    code = f ? print_conf(f, c, diag) : hob_fail(diag, HOB_ENOMEM, "%s: no memory", path);
    if (f && fclose(f) != 0 && code == 0)
        code = hob_fail(diag, HOB_ENOMEM, "%s: no memory", path);
    const int n = snprintf(trial, sizeof trial, "%s.new", path);
    if (code == 0 && (n < 0 || (size_t)n >= sizeof trial))
        code = hob_fail(diag, HOB_ELIMIT, "%.100s: the path is too long", path);
    /* What is written must be what hobd accepts: an address and a name are checked here. */
    if (code == 0 && (code = hob_file_write(trial, text, len, 0644, diag)) == 0) {
        code = hob_conf_load(trial, &conf, diag);
        unlink(trial);
    }
    if (code == 0)
        code = write_changed(path, text, len, diag);
    free(text);
    return code;
}

int hob_setup_write_marked(const char *path, const char *text, hob_diag *diag)
{
    char whole[4096];
    bool ours;
    const int code = hob_setup_may_write(path, NULL, 0, &ours, diag);
    if (code < 0)
        return code;
    if (!ours)
        return 1;
    if (!text)
        return unlink(path) == 0 || errno == ENOENT
                   ? 0
                   : hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    const int n = snprintf(whole, sizeof whole, "%s%s", mark, text);
    return n > 0 && (size_t)n < sizeof whole
               ? write_changed(path, whole, (size_t)n, diag)
               : hob_fail(diag, HOB_ELIMIT, "%s: would be too long", path);
}
