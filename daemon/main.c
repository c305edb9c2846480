/* SPDX-License-Identifier: Apache-2.0
 *
 * hobd: the gateway, or, started by the gateway itself, with --engine the process of one model and with --extract that of
 * one document. */
#include <errno.h>
#include <psa/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/engine/engine.h"
#include "daemon/extract/extract.h"
#include "daemon/gateway/gateway.h"
#include "daemon/gateway/log.h"
#include "daemon/observe/process.h"

static const char usage_text[] =
    "usage: hobd --config FILE\n"
    "       hobd --dev --model FILE [--port N] [--device NAME] [--threads N]\n"
    "            [--context N] [--max-sequences N] [--kv-tokens N] [--prefix-tokens N]\n"
    "            [--itl-target-ms N] [--memory-mb N] [--hang-timeout-ms N]\n"
    "            [--stall-timeout-ms N] [--patience-ms N] [--log LEVEL]\n"
    "       hobd --help | --version\n"
    "\n"
    "--config serves what FILE says, over TLS, to those with a key. SIGHUP reads FILE and the "
    "certificates\n"
    "again; SIGTERM lets running answers finish.\n"
    "--dev serves one GGUF file on 127.0.0.1 over plain HTTP without a key, and writes no files:\n"
    "for developers and benchmarks.\n";

static int usage_error(const char *what, const char *value)
{
    fprintf(stderr, "hobd: %s%s%s\n%s", what, value ? ": " : "", value ? value : "", usage_text);
    return 2;
}

static int parse_number(const char *text, uint32_t least, uint32_t most, uint32_t *ret)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || n < least || n > most)
        return HOB_EINVAL;
    *ret = (uint32_t)n;
    return 0;
}

/* A model served by its file is called as the file is, without .gguf. */
static int name_model(hob_conf_model *m, const char *path)
{
    const char *name = strrchr(path, '/');
    size_t len;
    name = name ? name + 1 : path;
    len = strlen(name);
    if (len > 5 && strcmp(name + len - 5, ".gguf") == 0)
        len -= 5;
    if (strlen(path) >= sizeof m->path || len == 0)
        return HOB_EINVAL;
    if (len >= sizeof m->name)
        len = sizeof m->name - 1;
    snprintf(m->path, sizeof m->path, "%s", path);
    snprintf(m->name, sizeof m->name, "%.*s", (int)len, name);
    for (char *p = m->name; *p; p++) /* whatever the file is called, its name is plain text */
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f || *p == '"' || *p == '\\' ||
            *p == '/')
            *p = '_';
    return 0;
}

static int run_dev(int argc, char **argv)
{
    static hob_conf conf; /* large */
    hob_conf_model *m = &conf.models[0];
    uint32_t port = 8080;
    hob_diag diag;

    hob_conf_default(&conf);
    *m = hob_conf_model_default;
    conf.plain = true;
    conf.model_count = 1;
    snprintf(conf.listen, sizeof conf.listen, "127.0.0.1");
    for (int i = 2; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        int rc = 0;
        if (!value)
            return usage_error("a value is missing after", name);
        if (strcmp(name, "--model") == 0)
            rc = name_model(m, value);
        else if (strcmp(name, "--port") == 0)
            rc = parse_number(value, 0, 65535, &port);
        else if (strcmp(name, "--threads") == 0)
            rc = parse_number(value, 0, 1024, &m->threads);
        else if (strcmp(name, "--context") == 0)
            rc = parse_number(value, 0, 1 << 24, &m->context);
        else if (strcmp(name, "--max-sequences") == 0)
            rc = parse_number(value, 1, 4096, &m->max_sequences);
        else if (strcmp(name, "--kv-tokens") == 0)
            rc = parse_number(value, 0, 1 << 30, &m->kv_tokens);
        else if (strcmp(name, "--prefix-tokens") == 0)
            rc = parse_number(value, 0, 1 << 26, &m->prefix_tokens);
        else if (strcmp(name, "--itl-target-ms") == 0)
            rc = parse_number(value, 1, 10000, &m->itl_target_ms);
        else if (strcmp(name, "--memory-mb") == 0)
            rc = parse_number(value, 0, 1 << 30, &conf.memory_mb);
        else if (strcmp(name, "--hang-timeout-ms") == 0)
            rc = parse_number(value, 500, 3600000, &conf.hang_timeout_ms);
        else if (strcmp(name, "--patience-ms") == 0)
            rc = parse_number(value, 0, 3600000, &conf.key_limits[HOB_LIMIT_PATIENCE_MS]);
        else if (strcmp(name, "--stall-timeout-ms") == 0)
            rc = parse_number(value, 100, 86400000, &conf.stall_timeout_ms);
        else if (strcmp(name, "--device") == 0 && strlen(value) < sizeof m->device)
            snprintf(m->device, sizeof m->device, "%s", value);
        else if (strcmp(name, "--log") == 0 && strlen(value) < sizeof conf.log_level)
            snprintf(conf.log_level, sizeof conf.log_level, "%s", value);
        else
            return usage_error("unknown option", name);
        if (rc < 0)
            return usage_error("this value is not possible", value);
        i++;
    }
    conf.port = (uint16_t)port;
    if (!m->path[0])
        return usage_error("--dev needs --model FILE", NULL);
    if (access(m->path, R_OK) < 0) {
        fprintf(stderr, "hobd: %s: %s\n", m->path, strerror(errno));
        return 1;
    }
    if (hob_log_open(conf.log_level, conf.log_format) < 0)
        return usage_error("unknown log level", conf.log_level);
    if (hob_conf_check(&conf, &diag) < 0) {
        fprintf(stderr, "hobd: %s\n", diag.text);
        return 1;
    }
    return hob_gateway_run(&conf, NULL);
}

static int run_config(const char *path)
{
    static hob_conf conf; /* large */
    hob_diag diag;

    if (hob_conf_load(path, &conf, &diag) < 0) {
        fprintf(stderr, "hobd: %s\n", diag.text);
        return 1;
    }
    if (hob_log_open(conf.log_level, conf.log_format) < 0) {
        fprintf(stderr, "hobd: %s: unknown log level '%s'\n", path, conf.log_level);
        return 1;
    }
    return hob_gateway_run(&conf, path);
}

int main(int argc, char **argv)
{
    hob_forbid_core_dumps();
    if (argc >= 2 && strcmp(argv[1], "--engine") == 0)
        return hob_engine_main(argc - 2, argv + 2);
    if (argc >= 2 && strcmp(argv[1], "--extract") == 0)
        return hob_extract_main(argc - 2, argv + 2);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage_text, stdout);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("hobd " HOB_VERSION);
        return 0;
    }
    /* mbedTLS needs it for TLS 1.3, before the first handshake. */
    if (psa_crypto_init() != PSA_SUCCESS) {
        fputs("hobd: mbedTLS cannot start\n", stderr);
        return 1;
    }
    unsetenv("http_proxy"); /* traces go where they are told to: daemon/ctl/client.h */
    if (argc >= 2 && strcmp(argv[1], "--dev") == 0)
        return run_dev(argc, argv);
    if (argc == 3 && strcmp(argv[1], "--config") == 0)
        return run_config(argv[2]);
    return usage_error(argc < 2 ? "nothing to do" : "unknown option", argc < 2 ? NULL : argv[1]);
}
