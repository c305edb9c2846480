/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl setup: makes a folder from which hobd can serve: a certificate authority and a certificate, a first API key, a
 * configuration. Run again it keeps what is there, renews the certificate when that is due, and rewrites hob.conf only
 * while its first line says that nobody has edited it. A first key that was revoked or rotated is not replaced behind the
 * administrator's back: setup says how to make another.
 *
 *     ca.pem ca.key cert.pem key.pem   see daemon/conf/pki.h
 *     keys, api_key                    the hash that hobd takes into its store; the key itself, for its owner alone
 *     hob.conf, url                    what hobd reads; where hobctl finds it */
#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"
#include "daemon/conf/keys.h"
#include "daemon/conf/pki.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/options.h"
#include "daemon/store/key_table.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char mark[] = "# Written by hobctl setup, and again each time it runs. Remove this "
                           "line to keep your changes.\n";

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

/* A model of the list, as hob.conf has it. */
static int write_model(char *ret, size_t size, const char *name, const char *file, hob_diag *diag)
{
    char quoted[2 * PATH_MAX + 1];
    const int code = quote(quoted, sizeof quoted, file, diag);
    if (code < 0)
        return code;
    const int n = snprintf(
        ret, size, "    {\n        name = \"%s\";\n        path = \"%s\";\n    }", name, quoted);
    return n > 0 && (size_t)n < size ? 0
                                     : hob_fail(diag, HOB_ELIMIT, "%s: would be too long", file);
}

/* models: as hob.conf has them. */
static int write_conf(const char *path, const char *listen, unsigned port, const char *models,
                      hob_diag *diag)
{
    static hob_conf conf;
    char text[6 * PATH_MAX + 1024], *old = NULL;
    size_t old_len;
    int code, n;
    code = hob_file_read(path, 1024 * 1024, &old, &old_len, diag);
    if (code < 0 && code != HOB_ENOENT)
        return code;
    bool edited = code == 0 && strncmp(old, mark, sizeof mark - 1) != 0;
    if (edited) {
        free(old);
        fprintf(stderr, "setup: %s was edited and stays as it is\n", path);
        return hob_conf_load(path, &conf, diag);
    }
    n = snprintf(text, sizeof text,
                 "%s# config/hob.conf of the sources describes every key.\n"
                 "listen = \"%s\";\nport = %u;\ntls = {\n    cert = \"cert.pem\";\n    key = "
                 "\"key.pem\";\n};\nkeys = \"keys\";\n"
                 "models = (\n%s\n);\n",
                 mark, listen, port, models);
    if (n < 0 || (size_t)n >= sizeof text)
        code = hob_fail(diag, HOB_ELIMIT, "%s: would be too long", path);
    else if (!old || strcmp(old, text) != 0)
        code = hob_file_write(path, text, (size_t)n, 0644, diag);
    free(old);
    /* What was written must be what hobd accepts: --listen and --name are checked here. */
    return code < 0 ? code : hob_conf_load(path, &conf, diag);
}

static int write_url(const char *path, const char *listen, unsigned port, hob_diag *diag)
{
    char text[128], *old = NULL;
    size_t len;
    const char *host =
        strcmp(listen, "0.0.0.0") == 0 || strcmp(listen, "::") == 0 ? "127.0.0.1" : listen;
    snprintf(text, sizeof text, strchr(host, ':') ? "https://[%s]:%u\n" : "https://%s:%u\n", host,
             port);
    if (hob_file_read(path, 4096, &old, &len, NULL) == 0 && strcmp(old, text) == 0) {
        free(old);
        return 0;
    }
    free(old);
    return hob_file_write(path, text, strlen(text), 0644, diag);
}

/* Whether the file of hashes knows the key; one that is not there knows none. */
static int knows(const char *keys_path, const char *text, hob_diag *diag)
{
    hob_key_file keys = {0};
    const int code = hob_key_file_load(keys_path, &keys, diag);
    const bool known = hob_key_file_has(&keys, text, strcspn(text, "\r\n"));
    hob_key_file_free(&keys);
    return code == HOB_ENOENT ? 0 : code < 0 ? code : known;
}

/* Where the hobd of this configuration has its store. */
static int store_path(const char *conf_path, const char *dir, char *ret, size_t size,
                      hob_diag *diag)
{
    static hob_conf conf;
    hob_diag unread = {""};
    if (hob_conf_load(conf_path, &conf, &unread) < 0) /* not there yet, or about to be replaced */
        return hob_path_join(ret, size, dir, "hob.db", diag);
    snprintf(ret, size, "%s", conf.store);
    return 0;
}

/* Whether the key that was taken from the key file is of use: 1, or 0: its store is gone, and it with it. One that the store
 * does not accept any more is an administrator's doing: says so. */
static int still_counts(const char *key_path, const char *text, const char *store, hob_diag *diag)
{
    uint8_t hash[32];
    bool valid = false;
    if (hob_key_hash(text, strcspn(text, "\r\n"), hash) < 0)
        return hob_fail(diag, HOB_EDEVICE, "SHA-256 failed");
    const int code = hob_key_table_peek(store, hash, (int64_t)time(NULL), &valid, diag);
    if (code < 0)
        return code == HOB_ENOENT ? 0 : code;
    if (!valid)
        fprintf(stderr,
                "setup: the key in %s is not valid any more. While hobd runs, this makes another:\n"
                "    hobctl keys add LABEL --role admin > %s\n",
                key_path, key_path);
    return 1;
}

/* The first key reaches the store by way of the key file, which hobd takes over when it starts. One whose hash is gone is
 * useless: then there is a new one. Returns 1 when one was made. */
static int first_key(const char *key_path, const char *keys_path, const char *store, hob_diag *diag)
{
    char text[HOB_KEY_TEXT_MAX], line[HOB_KEY_TEXT_MAX + 1], taken[PATH_MAX + 16], *old = NULL;
    size_t len;
    int code = hob_file_read(key_path, 4096, &old, &len, diag);
    if (code == 0) {
        snprintf(taken, sizeof taken, "%s" HOB_KEY_FILE_TAKEN, keys_path);
        code = knows(keys_path, old, diag);
        if (code == 0 && (code = knows(taken, old, diag)) > 0)
            code = still_counts(key_path, old, store, diag);
        free(old);
        if (code != 0)
            return code < 0 ? code : 0;
    } else if (code != HOB_ENOENT)
        return code;
    code = hob_key_file_add(keys_path, "first", "local", "interactive", true, text, diag);
    if (code < 0)
        return code;
    snprintf(line, sizeof line, "%s\n", text);
    code = hob_file_write(key_path, line, strlen(line), 0600, diag);
    return code < 0 ? code : 1;
}

/* The path of a model's file. */
static int find_model(const char *model, char ret[PATH_MAX], hob_diag *diag)
{
    return realpath(model, ret) && access(ret, R_OK) == 0
               ? 0
               : hob_fail(diag, HOB_EIO, "the model %s: %s", model, strerror(errno));
}

/* embedding: NULL: none. */
static int write_models(char *ret, size_t size, const char *model, const char *name,
                        const char *embedding, hob_diag *diag)
{
    char file[PATH_MAX], named[64];
    int code = find_model(model, file, diag);
    if (code < 0)
        return code;
    model_name(file, named, sizeof named);
    code = write_model(ret, size, name ? name : named, file, diag);
    if (code < 0 || !embedding)
        return code;
    if ((code = find_model(embedding, file, diag)) < 0)
        return code;
    model_name(file, named, sizeof named);
    const size_t n = strlen(ret);
    if (size - n < 3)
        return hob_fail(diag, HOB_ELIMIT, "%s: would be too long", file);
    strcpy(ret + n, ",\n");
    return write_model(ret + n + 2, size - n - 2, named, file, diag);
}

int hob_ctl_setup(int argc, char **argv)
{
    const char *dir = "var", *model = NULL, *embedding = NULL, *listen = "0.0.0.0", *name = NULL;
    uint32_t port = 8443;
    const hob_option options[] = {
        HOB_TEXT("--dir", "DIR", &dir, "the folder to fill (var)"),
        HOB_REQUIRED("--model", "FILE", &model, "the GGUF file to serve"),
        HOB_TEXT("--name", "NAME", &name, "what clients call it (the file's name)"),
        HOB_TEXT("--embedding", "FILE", &embedding,
                 "the GGUF file of a model that embeds documents and questions (none)"),
        HOB_TEXT("--listen", "ADDRESS", &listen, "where to listen (0.0.0.0)"),
        HOB_U32("--port", &port, 1, 65535, "(8443)"),
    };
    const hob_syntax syntax = {.command = "setup",
                               .summary =
                                   "Makes certificates, a first API key and a configuration.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    char path[5][PATH_MAX], store[PATH_MAX], models[5 * PATH_MAX];
    static const char *const names[] = {"hob.conf", "url", "keys", "api_key", "ca.pem"};
    hob_diag diag = {""};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    int code = 0;
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    if ((code = write_models(models, sizeof models, model, name, embedding, &diag)) < 0)
        goto fail;
    for (size_t i = 0; i < 5; i++)
        if ((code = hob_path_join(path[i], sizeof path[i], dir, names[i], &diag)) < 0)
            goto fail;
    code = hob_pki_ensure(dir, &diag);
    if (code < 0)
        goto fail;
    if (code > 0)
        fprintf(stderr, "setup: made a certificate; clients verify it with %s\n", path[4]);
    if ((code = store_path(path[0], dir, store, sizeof store, &diag)) < 0)
        goto fail;
    code = first_key(path[3], path[2], store, &diag);
    if (code < 0)
        goto fail;
    if (code > 0)
        fprintf(stderr, "setup: made an API key: %s\n", path[3]);
    code = write_conf(path[0], listen, port, models, &diag);
    if (code < 0 || (code = write_url(path[1], listen, port, &diag)) < 0)
        goto fail;
    return HOB_EXIT_OK;
fail:
    fprintf(stderr, "setup: %s\n", diag.text[0] ? diag.text : hob_error_name(code));
    return HOB_EXIT_FAILURE;
}
