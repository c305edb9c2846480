/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl setup. Of an installed system it writes the configuration (setup_system.c). With --dir it makes a folder from which
 * hobd can serve: a certificate authority and a certificate, a first API key, a configuration. Run again it keeps what is
 * there, renews the certificate when that is due, and rewrites hob.conf only while its first line says that nobody has
 * edited it. A first key that was revoked or rotated is not replaced behind the administrator's back: setup says how to
 * make another.
 *
 *     ca.pem ca.key cert.pem key.pem   see daemon/conf/pki.h
 *     keys, api_key                    the hash that hobd takes into its store; the key itself, for its owner alone
 *     hob.conf, url                    what hobd reads; where hobctl finds it */
#include "daemon/ctl/setup.h"

#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"
#include "daemon/conf/keys.h"
#include "daemon/conf/pki.h"
#include "daemon/ctl/ctl.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/server.h"
#include "daemon/store/key_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int write_url(const char *path, const char *listen, unsigned port, hob_diag *diag)
{
    char text[128], *old = NULL;
    size_t len;
    hob_server_local_url(listen, port, text, sizeof text - 1);
    strcat(text, "\n");
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
    char taken[PATH_MAX + 16], *old = NULL;
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
    code = hob_key_file_add_first(keys_path, key_path, diag);
    return code < 0 ? code : 1;
}

/* Everything in one folder of its own. */
static int set_up_folder(const hob_setup_options *o, const char *dir, hob_diag *diag)
{
    static const char *const names[] = {"hob.conf", "url", "keys", "api_key", "ca.pem"};
    static hob_setup_conf conf;
    char path[5][PATH_MAX], store[PATH_MAX];
    int code = 0;

    conf = (hob_setup_conf){.state = "",
                            .socket = "",
                            .port = o->port == HOB_SETUP_OPEN ? 8443 : o->port,
                            .memory_mb = o->memory_mb == HOB_SETUP_OPEN ? 0 : o->memory_mb};
    if (o->tokens_per_minute != HOB_SETUP_OPEN)
        conf.tokens_per_minute = o->tokens_per_minute;
    if (o->tokens_per_day != HOB_SETUP_OPEN)
        conf.tokens_per_day = o->tokens_per_day;
    snprintf(conf.listen, sizeof conf.listen, "%s", o->listen ? o->listen : "0.0.0.0");
    snprintf(conf.name, sizeof conf.name, "%s", o->name ? o->name : "");
    if ((code = hob_setup_find_model(o->model, conf.model, diag)) < 0)
        return code;
    if (o->embedding && strcmp(o->embedding, "none") != 0 &&
        (code = hob_setup_find_model(o->embedding, conf.embedding, diag)) < 0)
        return code;
    for (size_t i = 0; i < 5; i++)
        if ((code = hob_path_join(path[i], sizeof path[i], dir, names[i], diag)) < 0)
            return code;
    code = hob_pki_ensure(dir, (int64_t)time(NULL), diag);
    if (code < 0)
        return code;
    if (code > 0)
        fprintf(stderr, "setup: made a certificate; clients verify it with %s\n", path[4]);
    if ((code = store_path(path[0], dir, store, sizeof store, diag)) < 0)
        return code;
    code = first_key(path[3], path[2], store, diag);
    if (code < 0)
        return code;
    if (code > 0)
        fprintf(stderr, "setup: made an API key: %s\n", path[3]);
    code = hob_setup_write_conf(&conf, path[0], NULL, 0, diag);
    if (code < 0)
        return code;
    if (code > 0)
        fprintf(stderr, "setup: %s was edited and stays as it is\n", path[0]);
    return write_url(path[1], conf.listen, conf.port, diag);
}

int hob_ctl_setup(int argc, char **argv)
{
    const char *dir = NULL;
    hob_setup_options o = {.port = HOB_SETUP_OPEN,
                           .memory_mb = HOB_SETUP_OPEN,
                           .tokens_per_minute = HOB_SETUP_OPEN,
                           .tokens_per_day = HOB_SETUP_OPEN,
                           .config = "/etc/hob/hob.conf",
                           .state = "/var/lib/hob",
                           .socket = "/run/hob/hob.sock",
                           .models = "/usr/share/hob/models",
                           .units = "/etc/systemd/system/hob.service.d",
                           .examples = "/usr/share/doc/hob/examples"};
    const hob_option options[] = {
        HOB_TEXT("--dir", "DIR", &dir, "fill this folder instead: certificates and a key, too"),
        HOB_TEXT("--model", "FILE", &o.model, "the GGUF file that answers"),
        HOB_TEXT("--name", "NAME", &o.name, "what clients call it (the file's name)"),
        HOB_TEXT("--embedding", "FILE", &o.embedding,
                 "the GGUF file that embeds documents and questions, or none"),
        HOB_TEXT("--listen", "ADDRESS", &o.listen, "where to listen (0.0.0.0)"),
        HOB_U32("--port", &o.port, 1, 65535, "(8443)"),
        HOB_U32("--memory-mb", &o.memory_mb, 0, 1 << 30,
                "MiB that all of hob may use, 0 for any (three quarters of the machine's)"),
        HOB_U32("--tokens-per-minute", &o.tokens_per_minute, 0, 1000000000,
                "that a key may use, 0 for any (0)"),
        HOB_U32("--tokens-per-day", &o.tokens_per_day, 0, 4000000000,
                "that a key may use, 0 for any (0)"),
        HOB_FLAG("--gpu", &o.gpu, "let the service use the GPU"),
        HOB_FLAG("--no-gpu", &o.no_gpu, "do not ask whether it may"),
        HOB_FLAG("--yes", &o.yes, "ask nothing: take what is there, or the values in brackets"),
        HOB_TEXT("--config", "FILE", &o.config, "(/etc/hob/hob.conf)"),
        HOB_TEXT("--state", "DIR", &o.state, "hobd's folder (/var/lib/hob)"),
        HOB_TEXT("--socket", "FILE", &o.socket, "hobd's admin socket (/run/hob/hob.sock)"),
        HOB_TEXT("--models", "DIR", &o.models, "where models are (/usr/share/hob/models)"),
        HOB_TEXT("--units", "DIR", &o.units,
                 "systemd's folder for hob (/etc/systemd/system/hob.service.d)"),
        HOB_TEXT("--examples", "DIR", &o.examples,
                 "where render.conf is (/usr/share/doc/hob/examples)"),
    };
    const hob_syntax syntax = {
        .command = "setup",
        .summary = "Sets up the hob of this machine: asks, at a terminal, what options do not say.",
        .notes = "It writes hob.conf, unless that was edited, and for systemd the bound of the "
                 "service's memory.\nWith --dir it makes a folder from which hobd serves on its "
                 "own, and asks nothing; --model is needed then.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_diag diag = {""};
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (!dir)
        return hob_setup_system(&o);
    if (!o.model) {
        fprintf(stderr, "hobctl setup: --dir needs --model FILE\n");
        return HOB_EXIT_USAGE;
    }
    const int code = set_up_folder(&o, dir, &diag);
    if (code == 0)
        return HOB_EXIT_OK;
    fprintf(stderr, "setup: %s\n", diag.text[0] ? diag.text : hob_error_name(code));
    return HOB_EXIT_FAILURE;
}
