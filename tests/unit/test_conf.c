/* SPDX-License-Identifier: Apache-2.0
 *
 * hob.conf: the annotated file in config/ loads and holds the defaults; each kind of mistake is refused with its line. */
#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static int make_file(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/hob-conf-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int drop_file(void **state)
{
    (void)state;
    return unlink(path);
}

static int load(const char *text, hob_conf *ret, hob_diag *diag)
{
    assert_int_equal(hob_file_write(path, text, strlen(text), 0600, NULL), 0);
    return hob_conf_load(path, ret, diag);
}

#define BASE "tls = { cert = \"c\"; key = \"/k\"; };\nkeys = \"keys\";\n"
#define MODEL "models = ( { name = \"m\"; path = \"m.gguf\"; } );\n"

static void test_annotated_file_is_the_default(void **state)
{
    (void)state;
    static hob_conf c, d;
    hob_diag diag = {""};
    int code = hob_conf_load("config/hob.conf", &c, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    hob_conf_default(&d);
    assert_string_equal(c.listen, d.listen);
    assert_int_equal(c.port, d.port);
    assert_string_equal(c.log_level, d.log_level);
    assert_false(c.plain);
    assert_string_equal(c.tls_cert, "/var/lib/hob/cert.pem"); /* the package's paths */
    assert_string_equal(c.tls_key, "/var/lib/hob/key.pem");
    assert_string_equal(c.keys, "/var/lib/hob/keys");
    assert_string_equal(c.store, "/var/lib/hob/hob.db");
    assert_string_equal(c.admin_socket, "/run/hob/hob.sock");
    for (int i = 0; i < HOB_LIMITS; i++) {
        uint32_t least, most;
        assert_true(hob_limit_ok((hob_limit)i, c.key_limits[i], &least, &most));
        assert_false(hob_limit_ok((hob_limit)i, (int64_t)most + 1, &least, &most));
        assert_true(strlen(hob_limit_name((hob_limit)i)) > 0);
    }
    /* The numbers stand together in the struct, from key_limits to memory_mb. */
    assert_memory_equal(&c.key_limits, &d.key_limits,
                        offsetof(hob_conf, log_level) - offsetof(hob_conf, key_limits));
    assert_int_equal(c.model_count, 1);
    assert_string_equal(c.models[0].path, "/usr/share/hob/models/smollm2-135m-instruct-q4_1.gguf");
    /* What the file says of a model is what a model gets that says nothing. */
    assert_int_equal(
        load(BASE "models = ( { name = \"smollm2\"; path = \"model.gguf\"; } );", &d, &diag), 0);
    assert_string_equal(c.models[0].name, d.models[0].name);
    assert_memory_equal(c.models[0].device, d.models[0].device,
                        sizeof(hob_conf_model) - offsetof(hob_conf_model, device));
}

/* config/hob.conf with its commented examples made real: what it explains must exist. */
static void test_every_documented_key_exists(void **state)
{
    (void)state;
    static hob_conf c;
    static char out[65536];
    hob_diag diag = {""};
    char *text = NULL;
    size_t len = 0, n = 0;
    assert_int_equal(hob_file_read("config/hob.conf", sizeof out, &text, &len, &diag), 0);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const bool example = line[0] == '#' && strpbrk(line, "={}") &&
                             strchr(" {abcdefghijklmnopqrstuvwxyz", line[1]) && line[1] != '\0' &&
                             (line[1] != ' ' || strncmp(line, "#    ", 5) == 0);
        if (example &&
            strncmp(line, "#cors_origins", 13) == 0) /* it is there with its default, too */
            continue;
        n += (size_t)snprintf(out + n, sizeof out - n, "%s\n", line + example);
    }
    free(text);
    int code = load(out, &c, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    assert_int_equal(c.listener_count, 4);
    assert_int_equal(c.model_count, 2);
    assert_string_equal(c.client_ca, "/tmp/clients.pem");
}

static void find_key(void *user, const char *group, const char *key)
{
    const char *text = user, *at = text, *end = text + strlen(text);
    char line[80];
    if (group[0]) { /* its part of the file */
        snprintf(line, sizeof line, "\n%s =", group);
        at = strstr(text, line);
        assert_non_null(at);
        end = strstr(at, group[0] == 'm' || strcmp(group, "listeners") == 0 ? "\n);" : "\n};");
        assert_non_null(end);
    }
    snprintf(line, sizeof line, "%s = ", key);
    for (const char *p = at; (p = strstr(p, line)) && p < end; p++)
        if (p[-1] == ' ' || p[-1] == '\n' || p[-1] == '#')
            return;
    fail_msg("config/hob.conf does not document %s%s%s", group, group[0] ? "." : "", key);
}

static void test_every_key_is_documented(void **state)
{
    (void)state;
    char *text = NULL;
    size_t len = 0;
    assert_int_equal(hob_file_read("config/hob.conf", 65536, &text, &len, NULL), 0);
    hob_conf_each_key(find_key, text);
    free(text);
}

static void test_what_a_reload_keeps(void **state)
{
    (void)state;
    static hob_conf now, next;
    hob_diag diag;
    char names[256];
    assert_int_equal(load(BASE MODEL, &now, &diag), 0);
    assert_int_equal(load("limits = { max_body_bytes = 4096; };\n" BASE MODEL, &next, &diag), 0);
    hob_conf_keep(&next, &now, names, sizeof names);
    assert_string_equal(names, "");
    assert_int_equal(next.max_body_bytes, 4096);
    assert_int_equal(load("port = 9; limits = { max_connections = 7; };\n" BASE
                          "models = ( { name = \"m\"; path = \"other.gguf\"; } );\n"
                          "listeners = ( { socket = \"s\"; } );",
                          &next, &diag),
                     0);
    hob_conf_keep(&next, &now, names, sizeof names);
    assert_string_equal(names, "port, max_connections, listeners, models");
    assert_int_equal(next.port, now.port);
    assert_int_equal(next.max_connections, now.max_connections);
    assert_int_equal(next.listener_count, 0);
    assert_string_equal(next.models[0].path, now.models[0].path);
}

static void test_values_are_taken(void **state)
{
    (void)state;
    static hob_conf c;
    hob_diag diag = {""};
    int code = load("listen = \"::1\"; port = 1;\n" BASE
                    "models = ( { name = \"a\"; path = \"/a\"; kv_type = \"q8_0\"; context = 64; "
                    "kv_tokens = 64; },\n"
                    "{ name = \"b/c:1\"; path = \"b\"; device = \"opencl:1\"; threads = 3; "
                    "max_waiting = 0; } );\n"
                    "limits = { max_body_bytes = 1024; }; log_level = \"debug\";\n"
                    "listeners = ( { listen = \"127.0.0.1\"; port = 2; protocol = \"http\"; },\n"
                    "{ socket = \"api.sock\"; },\n"
                    "{ listen = \"0.0.0.0\"; protocol = \"http\"; metrics = true; } );",
                    &c, &diag);
    assert_string_equal(diag.text, "");
    assert_int_equal(code, 0);
    assert_string_equal(c.listen, "::1");
    assert_int_equal(c.port, 1);
    assert_string_equal(c.tls_cert, "/tmp/c");
    assert_string_equal(c.tls_key, "/k");
    assert_int_equal(c.model_count, 2);
    assert_string_equal(c.models[0].path, "/a");
    assert_int_equal(c.models[0].kv_type, HOB_TYPE_Q8_0);
    assert_int_equal(c.models[0].kv_tokens, 64);
    assert_string_equal(c.models[1].name, "b/c:1");
    assert_string_equal(c.models[1].path, "/tmp/b");
    assert_string_equal(c.models[1].device, "opencl:1");
    assert_int_equal(c.models[1].threads, 3);
    assert_int_equal(c.models[1].max_sequences, 16);
    assert_int_equal(c.models[1].max_waiting, 0);
    assert_int_equal(c.max_body_bytes, 1024);
    assert_string_equal(c.log_level, "debug");
    assert_int_equal(c.listener_count, 3);
    assert_true(c.listeners[2].metrics && !c.listeners[0].metrics && !c.listeners[1].metrics);
    assert_string_equal(c.listeners[0].listen, "127.0.0.1");
    assert_int_equal(c.listeners[0].port, 2);
    assert_string_equal(c.listeners[0].protocol, "http");
    assert_string_equal(c.listeners[1].socket, "/tmp/api.sock");
    assert_string_equal(c.admin_socket, "/tmp/hob.sock");
}

static void test_mistakes_are_refused_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *line, *says;
    } cases[] = {
        {"prot = 1;\n" BASE MODEL, ":1:", "prot: unknown key"},
        {"\n\nlimits = { max_connection = 1; };\n" BASE MODEL,
         ":3:", "max_connection: unknown key"},
        {"tls = { cert = \"a\"; key = \"b\"; ca = \"c\"; };", ":1:", "ca: unknown key"},
        {BASE "models = ( { name = \"m\";\n path = \"p\";\n thread = 1; } );",
         ":5:", "thread: unknown key"},
        {"name = \"x\";\n" BASE MODEL, ":1:", "unknown key"},
        {BASE "cert = \"x\";" MODEL, ":3:", "unknown key"},
        {"key_limits = { tokens_per_minute = -1; };\n" BASE MODEL, ":1:", "0 to 1000000000"},
        {"key_limits = { tokens = 1; };\n" BASE MODEL, ":1:", "tokens: unknown key"},
        {"limits = { default_output_tokens = 0; };\n" BASE MODEL, ":1:", "1 to 1048576"},
        {"port = 65536;\n" BASE MODEL, ":1:", "0 to 65535"},
        {"limits = { max_header_bytes = 65536; };\n" BASE MODEL, ":1:", "1024 to 65535"},
        {"limits = { max_connections = 65001; };\n" BASE MODEL, ":1:", "1 to 65000"},
        {"port = -1;\n" BASE MODEL, ":1:", "is -1"},
        {"port = 4294967297L;\n" BASE MODEL, ":1:", "is 4294967297"},
        {"port = \"80\";\n" BASE MODEL, ":1:", "is a string: an integer is allowed"},
        {"port = 1.5;\n" BASE MODEL, ":1:", "is a fraction"},
        {"listen = 1;\n" BASE MODEL, ":1:", "a string is allowed"},
        {"listen = \"\";\n" BASE MODEL, ":1:", "is empty"},
        {"limits = 3;\n" BASE MODEL, ":1:", "a group { } is allowed"},
        {"log_level = \"loud\";\n" BASE MODEL, ":1:", "error warn info debug"},
        {"log_level = \"warn info\";\n" BASE MODEL, ":1:", "is \"warn info\""},
        {"port = 1;\nport = 2;\n" BASE MODEL, ":2:", "duplicate"},
        {"port = ;\n" BASE MODEL, ":1:", "syntax error"},
        {BASE "models = ();", ":3:", "is empty"},
        {BASE "models = { };", ":3:", "a list ( ) is allowed"},
        {BASE "models = ( 1 );", ":3:", "a group { } is allowed"},
        {BASE "models = ( { path = \"p\"; } );", ":3:", "models[0].name"},
        {BASE "models = ( { name = \"m\"; } );", ":3:", "path is missing"},
        {BASE "models = ( { name = \"default\"; path = \"p\"; } );",
         ":3:", "always means the first"},
        {BASE "models = ( { name = \"a b\"; path = \"p\"; } );", ":3:", "letters, digits"},
        {BASE "models = ( { name = \"m\"; path = \"p\"; },\n{ name = \"m\"; path = \"q\"; } );",
         ":4:", "has that name"},
        {BASE "models = ( { name = \"m\"; path = \"p\"; device = \"gpu\"; } );",
         ":3:", "opencl:<n>"},
        {BASE "models = ( { name = \"m\"; path = \"p\"; device = \"opencl:\"; } );",
         ":3:", "opencl:<n>"},
        {BASE "models = ( { name = \"m\"; path = \"p\"; kv_type = \"q4_0\"; } );",
         ":3:", "f16 q8_0"},
        {BASE "models = ( { name = \"m\"; path = \"p\"; context = 65; kv_tokens = 64; } );",
         ":3:", "at least the context"},
        {BASE "models = ( { name = \"m\"; path = \"p\"; max_sequences = 0; } );",
         ":3:", "1 to 256"},
        {"keys = \"k\";\n" MODEL, "", "tls.cert is missing"},
        {"tls = { cert = \"c\"; };\nkeys = \"k\";\n" MODEL, "", "tls.key is missing"},
        {BASE, "", "models has 0 entries"},
        {"listen = \"localhost\";\n" BASE MODEL, "", "IPv4 or IPv6"},
        {BASE MODEL "listeners = ( { port = 1; } );", ":4:", "listen is missing"},
        {BASE MODEL "listeners = ( { listen = \"x\"; } );", ":4:", "IPv4 or IPv6"},
        {BASE MODEL "listeners = ( { listen = \"::1\"; socket = \"s\"; } );", ":4:", "either"},
        {BASE MODEL "listeners = ( { socket = \"s\"; port = 1; } );", ":4:", "port is given"},
        {BASE MODEL "listeners = ( { socket = \"s\"; protocol = \"https\"; } );",
         ":4:", "has none"},
        {BASE MODEL "listeners = ( { listen = \"0.0.0.0\"; protocol = \"http\"; } );",
         ":4:", "loopback"},
        {BASE MODEL "listeners = ( { listen = \"::1\"; metrics = 1; } );", ":4:", "true or false"},
        {BASE MODEL "listeners = ( { listen = \"x\"; protocol = \"http\"; metrics = true; } );",
         ":4:", "IPv4 or IPv6"},
        {BASE MODEL "listeners = ( { listen = \"::1\"; protocol = \"tcp\"; } );",
         ":4:", "https http"},
        {"tls = { cert = \"c\"; key = \"k\"; client_auth = \"required\"; };\nkeys = \"k\";\n" MODEL,
         "", "tls.client_ca is needed"},
        {"tls = { cert = \"c\"; key = \"k\"; client_keys = true; };\nkeys = \"k\";\n" MODEL, "",
         "tls.client_auth has to be"},
        {BASE MODEL "hosts = \"a\";", ":4:", "a list ( ) is allowed"},
        {BASE MODEL "hosts = ( 1 );", ":4:", "no text"},
        {BASE MODEL "cors_origins = ( \"https://a/b\" );", "", "without a path"},
        {BASE MODEL "listeners = { };", ":4:", "a list ( ) is allowed"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static hob_conf c, untouched;
        hob_diag diag = {""};
        char where[128];
        memset(&c, 0x5a, sizeof c);
        untouched = c;
        int code = load(cases[i].text, &c, &diag);
        snprintf(where, sizeof where, "%s%s", path, cases[i].line);
        if (code >= 0 || !strstr(diag.text, where) || !strstr(diag.text, cases[i].says))
            fail_msg("case %zu: code %d, \"%s\", expected %s ... %s", i, code, diag.text, where,
                     cases[i].says);
        assert_memory_equal(&c, &untouched, sizeof c);
    }
}

static void test_files_that_are_none(void **state)
{
    (void)state;
    static hob_conf c;
    hob_diag diag = {""};
    assert_int_equal(hob_conf_load("/tmp/hob-no-such-file/hob.conf", &c, &diag), HOB_ENOENT);
    assert_int_equal(hob_conf_load("/tmp", &c, &diag), HOB_EIO);
    assert_int_equal(hob_file_write(path, "port = 1;\0port = 2;", 19, 0600, NULL), 0);
    assert_int_equal(hob_conf_load(path, &c, &diag), HOB_EFORMAT);
    assert_non_null(strstr(diag.text, "NUL"));
}

static void test_check_of_dev_settings(void **state)
{
    (void)state;
    static hob_conf c;
    hob_diag diag;
    assert_int_equal(load(BASE MODEL, &c, &diag), 0);
    c.plain = true;
    assert_int_equal(hob_conf_check(&c, &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "loopback"));
    strcpy(c.listen, "127.0.0.2");
    assert_int_equal(hob_conf_check(&c, &diag), 0);
    strcpy(c.listen, "::1");
    c.tls_cert[0] = c.keys[0] = 0;
    assert_int_equal(hob_conf_check(&c, &diag), 0);
    c.outbox_bytes = 1;
    assert_int_equal(hob_conf_check(&c, &diag), HOB_EINVAL);
    assert_non_null(strstr(diag.text, "outbox_bytes is 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_annotated_file_is_the_default),
        cmocka_unit_test(test_every_documented_key_exists),
        cmocka_unit_test(test_every_key_is_documented),
        cmocka_unit_test(test_what_a_reload_keeps),
        cmocka_unit_test(test_values_are_taken),
        cmocka_unit_test(test_mistakes_are_refused_with_their_line),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_check_of_dev_settings),
    };
    return cmocka_run_group_tests_name("conf", tests, make_file, drop_file);
}
