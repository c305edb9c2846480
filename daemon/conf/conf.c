/* SPDX-License-Identifier: Apache-2.0
 *
 * hob.conf. One table describes every key: where it lies in the file and in the struct, its type and range. The reader,
 * the refusal of unknown keys and hob_conf_check all walk that table, so that they cannot disagree. See conf.h. */
#include "daemon/conf/conf.h"

#include "daemon/conf/file.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libconfig.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONF_FILE_MAX = 1024 * 1024 };

typedef enum kind { KIND_TEXT, KIND_PATH, KIND_U16, KIND_U32, KIND_KV } kind;

typedef struct field {
    const char *group; /* "" at top level */
    const char *key;
    kind kind;
    size_t offset, size;
    uint32_t min, max; /* of a number */
    const char *words; /* the values allowed of a text, between spaces; NULL: any */
} field;

#define TEXT(g, k, s, m, w)                                                                        \
    {                                                                                              \
        g, k, KIND_TEXT, offsetof(s, m), sizeof((s *)0)->m, 0, 0, w                                \
    }
#define PATH(g, k, s, m)                                                                           \
    {                                                                                              \
        g, k, KIND_PATH, offsetof(s, m), sizeof((s *)0)->m, 0, 0, NULL                             \
    }
#define NUMBER(g, s, m, low, high)                                                                 \
    {                                                                                              \
        g, #m, KIND_U32, offsetof(s, m), sizeof((s *)0)->m, low, high, NULL                        \
    }

static const field top_fields[] = {
    TEXT("", "listen", hob_conf, listen, NULL),
    {"", "port", KIND_U16, offsetof(hob_conf, port), sizeof(uint16_t), 0, 65535, NULL},
    PATH("", "keys", hob_conf, keys),
    TEXT("", "log_level", hob_conf, log_level, " error warn info debug "),
    PATH("tls", "cert", hob_conf, tls_cert),
    PATH("tls", "key", hob_conf, tls_key),
    NUMBER("limits", hob_conf, default_output_tokens, 1, 1 << 20),
    NUMBER("limits", hob_conf, max_body_bytes, 1024, 32 << 20),
    NUMBER("limits", hob_conf, max_connections, 1, 65535),
    NUMBER("limits", hob_conf, max_connections_per_address, 1, 65535),
    NUMBER("limits", hob_conf, header_timeout_ms, 100, 600000),
    NUMBER("limits", hob_conf, body_timeout_ms, 100, 3600000),
    NUMBER("limits", hob_conf, body_min_bytes_per_s, 0, 1 << 30),
    NUMBER("limits", hob_conf, idle_timeout_ms, 100, 86400000),
    NUMBER("limits", hob_conf, stall_timeout_ms, 100, 86400000),
    NUMBER("limits", hob_conf, outbox_bytes, 4096, 64 << 20),
    NUMBER("limits", hob_conf, heartbeat_ms, 100, 3600000),
    NUMBER("limits", hob_conf, response_store_count, 0, 1 << 20),
    NUMBER("limits", hob_conf, response_store_bytes, 0, 1 << 30),
    NUMBER("limits", hob_conf, response_store_ttl_s, 1, 30 * 86400),
    NUMBER("limits", hob_conf, max_background, 0, 1 << 16),
    NUMBER("limits", hob_conf, background_timeout_s, 1, 7 * 86400),
    NUMBER("limits", hob_conf, drain_timeout_ms, 0, 3600000),
    NUMBER("limits", hob_conf, hang_timeout_ms, 500, 3600000),
    NUMBER("limits", hob_conf, memory_mb, 0, 1 << 30),
};

static const field model_fields[] = {
    TEXT("", "name", hob_conf_model, name, NULL),
    PATH("", "path", hob_conf_model, path),
    TEXT("", "device", hob_conf_model, device, NULL),
    NUMBER("", hob_conf_model, threads, 0, 256),
    NUMBER("", hob_conf_model, context, 0, 1 << 20),
    NUMBER("", hob_conf_model, kv_tokens, 0, 1 << 26),
    {"", "kv_type", KIND_KV, offsetof(hob_conf_model, kv_type), sizeof(hob_type), 0, 0,
     " f16 q8_0 "},
    NUMBER("", hob_conf_model, prefix_tokens, 0, 1 << 26),
    NUMBER("", hob_conf_model, itl_target_ms, 1, 10000),
    NUMBER("", hob_conf_model, max_sequences, 1, 256),
    NUMBER("", hob_conf_model, max_waiting, 0, 65536),
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

const hob_conf_model hob_conf_model_default = {
    .device = "auto",
    .kv_type = HOB_TYPE_F16,
    .prefix_tokens = 1 << 26,
    .itl_target_ms = 40,
    .max_sequences = 16,
    .max_waiting = 64,
};

void hob_conf_default(hob_conf *c)
{
    *c = (hob_conf){
        .listen = "0.0.0.0",
        .port = 8443,
        .default_output_tokens = 1024,
        .max_body_bytes = 8 << 20,
        .max_connections = 512,
        .max_connections_per_address = 128,
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .body_min_bytes_per_s = 1024,
        .idle_timeout_ms = 60000,
        .stall_timeout_ms = 60000,
        .outbox_bytes = 256 << 10,
        .heartbeat_ms = 10000,
        .response_store_count = 1000,
        .response_store_bytes = 16 << 20,
        .response_store_ttl_s = 3600,
        .max_background = 32,
        .background_timeout_s = 3600,
        .drain_timeout_ms = 30000,
        .hang_timeout_ms = 10000,
        .log_level = "info",
    };
}

/* Checks that do not depend on a file */

static bool word_in(const char *words, const char *s)
{
    char spaced[64];
    int n = snprintf(spaced, sizeof spaced, " %s ", s);
    return n > 2 && (size_t)n < sizeof spaced && !strchr(s, ' ') && strstr(words, spaced);
}

static uint32_t number_at(const field *f, const void *base)
{
    uint16_t small;
    uint32_t value;
    if (f->kind == KIND_U16) {
        memcpy(&small, (const char *)base + f->offset, sizeof small);
        return small;
    }
    memcpy(&value, (const char *)base + f->offset, sizeof value);
    return value;
}

static int check_fields(const field *fields, size_t count, const void *base, const char *where,
                        hob_diag *diag)
{
    for (size_t i = 0; i < count; i++) {
        const field *f = &fields[i];
        if (f->kind == KIND_U16 || f->kind == KIND_U32) {
            uint32_t v = number_at(f, base);
            if (v < f->min || v > f->max)
                return hob_fail(diag, HOB_EINVAL, "%s%s is %u: %u to %u are allowed", where, f->key,
                                v, f->min, f->max);
        } else if (f->kind == KIND_TEXT && f->words) {
            const char *s = (const char *)base + f->offset;
            if (!word_in(f->words, s))
                return hob_fail(diag, HOB_EINVAL, "%s%s is \"%.20s\": one of%sis allowed", where,
                                f->key, s, f->words);
        }
    }
    return 0;
}

static bool device_ok(const char *s)
{
    if (strcmp(s, "auto") == 0 || strcmp(s, "cpu") == 0)
        return true;
    if (strncmp(s, "opencl:", 7) != 0)
        return false;
    s += 7;
    return *s && strlen(s) <= 3 && strspn(s, "0123456789") == strlen(s);
}

static bool name_ok(const char *s)
{
    size_t len = strlen(s);
    return len > 0 &&
           strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:/@+-") ==
               len;
}

static int check_model(const hob_conf *c, uint32_t index, hob_diag *diag)
{
    const hob_conf_model *m = &c->models[index];
    char where[96];
    int code;
    if (!name_ok(m->name))
        return hob_fail(
            diag, HOB_EINVAL,
            "models[%u].name is \"%.64s\": 1 to 63 letters, digits or . _ : / @ + - are allowed",
            index, m->name);
    if (strcmp(m->name, "default") == 0)
        return hob_fail(diag, HOB_EINVAL,
                        "models[%u].name is \"default\": that name always means the first model",
                        index);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(c->models[i].name, m->name) == 0)
            return hob_fail(diag, HOB_EINVAL, "models[%u].name is \"%s\": models[%u] has that name",
                            index, m->name, i);
    snprintf(where, sizeof where, "model %s: ", m->name);
    code = check_fields(model_fields, COUNT(model_fields), m, where, diag);
    if (code < 0)
        return code;
    if (!m->path[0])
        return hob_fail(diag, HOB_EINVAL, "%spath is missing: the GGUF file", where);
    if (!device_ok(m->device))
        return hob_fail(diag, HOB_EINVAL,
                        "%sdevice is \"%.31s\": auto, cpu or opencl:<n> are allowed", where,
                        m->device);
    if (m->kv_type != HOB_TYPE_F16 && m->kv_type != HOB_TYPE_Q8_0)
        return hob_fail(diag, HOB_EINVAL, "%skv_type is type %d: f16 or q8_0 are allowed", where,
                        (int)m->kv_type);
    if (m->context && m->kv_tokens && m->kv_tokens < m->context)
        return hob_fail(diag, HOB_EINVAL,
                        "%skv_tokens is %u: at least the context of %u is allowed, or 0", where,
                        m->kv_tokens, m->context);
    return 0;
}

int hob_conf_check(const hob_conf *c, hob_diag *diag)
{
    struct in_addr four;
    struct in6_addr six;
    bool is_four = inet_pton(AF_INET, c->listen, &four) == 1,
         is_six = inet_pton(AF_INET6, c->listen, &six) == 1;
    int code = check_fields(top_fields, COUNT(top_fields), c, "", diag);
    if (code < 0)
        return code;
    if (!is_four && !is_six)
        return hob_fail(diag, HOB_EINVAL, "listen is \"%s\": an IPv4 or IPv6 address is allowed",
                        c->listen);
    if (c->plain) {
        if (is_four ? ntohl(four.s_addr) >> 24 != 127 : !IN6_IS_ADDR_LOOPBACK(&six))
            return hob_fail(diag, HOB_EINVAL,
                            "listen is \"%s\": without TLS only a loopback address is allowed",
                            c->listen);
    } else {
        if (!c->tls_cert[0] || !c->tls_key[0])
            return hob_fail(diag, HOB_EINVAL,
                            "tls.%s is missing: a PEM file (hobctl setup makes one)",
                            c->tls_cert[0] ? "key" : "cert");
        if (!c->keys[0])
            return hob_fail(diag, HOB_EINVAL,
                            "keys is missing: the file of API key hashes (hobctl setup makes one)");
    }
    if (c->model_count == 0 || c->model_count > HOB_CONF_MODELS_MAX)
        return hob_fail(diag, HOB_EINVAL, "models has %u entries: 1 to %d are allowed",
                        c->model_count, HOB_CONF_MODELS_MAX);
    for (uint32_t i = 0; i < c->model_count; i++) {
        code = check_model(c, i, diag);
        if (code < 0)
            return code;
    }
    return 0;
}

/* The file */

typedef struct reader {
    const char *path;
    char dir[PATH_MAX];
    hob_diag *diag;
} reader;

static const char *type_name(int type)
{
    switch (type) {
    case CONFIG_TYPE_GROUP: return "a group { }";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64: return "an integer";
    case CONFIG_TYPE_FLOAT: return "a fraction";
    case CONFIG_TYPE_STRING: return "a string";
    case CONFIG_TYPE_BOOL: return "true or false";
    case CONFIG_TYPE_ARRAY: return "an array [ ]";
    case CONFIG_TYPE_LIST: return "a list ( )";
    default: return "nothing";
    }
}

static int fail_at(const reader *r, const config_setting_t *s, const char *what,
                   const char *allowed)
{
    const char *file = config_setting_source_file(s);
    const char *name = config_setting_name(s);
    return hob_fail(r->diag, HOB_EFORMAT, "%.100s:%u: %s: %s: %s", file ? file : r->path,
                    config_setting_source_line(s), name ? name : "(entry)", what, allowed);
}

static int fail_type(const reader *r, const config_setting_t *s, int wanted)
{
    char what[48];
    snprintf(what, sizeof what, "is %s", type_name(config_setting_type(s)));
    char allowed[48];
    snprintf(allowed, sizeof allowed, "%s is allowed", type_name(wanted));
    return fail_at(r, s, what, allowed);
}

static int read_number(const reader *r, const field *f, const config_setting_t *s, void *base)
{
    int type = config_setting_type(s);
    char what[48], allowed[64];
    long long v;
    if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
        return fail_type(r, s, CONFIG_TYPE_INT);
    v = config_setting_get_int64(s);
    if (v < (long long)f->min || v > (long long)f->max) {
        snprintf(what, sizeof what, "is %lld", v);
        snprintf(allowed, sizeof allowed, "%u to %u are allowed", f->min, f->max);
        return fail_at(r, s, what, allowed);
    }
    if (f->kind == KIND_U16) {
        uint16_t small = (uint16_t)v;
        memcpy((char *)base + f->offset, &small, sizeof small);
    } else {
        uint32_t value = (uint32_t)v;
        memcpy((char *)base + f->offset, &value, sizeof value);
    }
    return 0;
}

static int read_text(const reader *r, const field *f, const config_setting_t *s, void *base)
{
    char what[80], allowed[64];
    const char *text;
    if (config_setting_type(s) != CONFIG_TYPE_STRING)
        return fail_type(r, s, CONFIG_TYPE_STRING);
    text = config_setting_get_string(s);
    if (f->words && !word_in(f->words, text)) {
        snprintf(what, sizeof what, "is \"%.40s\"", text);
        snprintf(allowed, sizeof allowed, "one of%sis allowed", f->words);
        return fail_at(r, s, what, allowed);
    }
    if (f->kind == KIND_KV) {
        hob_type type = strcmp(text, "q8_0") == 0 ? HOB_TYPE_Q8_0 : HOB_TYPE_F16;
        memcpy((char *)base + f->offset, &type, sizeof type);
        return 0;
    }
    if (!text[0])
        return fail_at(r, s, "is empty", "a text is needed");
    if (f->kind == KIND_PATH) {
        if (hob_path_join((char *)base + f->offset, f->size, r->dir, text, NULL) < 0)
            return fail_at(r, s, "is too long", "4095 bytes with the folder are allowed");
        return 0;
    }
    if (strlen(text) >= f->size) {
        snprintf(what, sizeof what, "has %zu bytes", strlen(text));
        snprintf(allowed, sizeof allowed, "%zu are allowed", f->size - 1);
        return fail_at(r, s, what, allowed);
    }
    memcpy((char *)base + f->offset, text, strlen(text) + 1);
    return 0;
}

static int read_group(const reader *r, const config_setting_t *group, const char *group_name,
                      const field *fields, size_t count, void *base);

static int read_models(const reader *r, const config_setting_t *list, hob_conf *c)
{
    int n = config_setting_length(list);
    if (config_setting_type(list) != CONFIG_TYPE_LIST)
        return fail_type(r, list, CONFIG_TYPE_LIST);
    if (n < 1 || n > HOB_CONF_MODELS_MAX)
        return fail_at(r, list, n ? "too many entries" : "is empty", "1 to 8 models are allowed");
    for (int i = 0; i < n; i++) {
        const config_setting_t *entry = config_setting_get_elem(list, (unsigned)i);
        hob_diag text;
        int code;
        if (config_setting_type(entry) != CONFIG_TYPE_GROUP)
            return fail_type(r, entry, CONFIG_TYPE_GROUP);
        c->models[i] = hob_conf_model_default;
        code = read_group(r, entry, "", model_fields, COUNT(model_fields), &c->models[i]);
        if (code < 0)
            return code;
        c->model_count = (uint32_t)i + 1;
        code = check_model(c, (uint32_t)i, &text);
        if (code < 0)
            return hob_fail(r->diag, HOB_EFORMAT, "%.100s:%u: %.150s", r->path,
                            config_setting_source_line(entry), text.text);
    }
    return 0;
}

static bool is_group(const field *fields, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (name[0] && strcmp(fields[i].group, name) == 0)
            return true;
    return false;
}

static int read_group(const reader *r, const config_setting_t *group, const char *group_name,
                      const field *fields, size_t count, void *base)
{
    int n = config_setting_length(group), code = 0;
    for (int i = 0; i < n && code == 0; i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(s);
        const field *f = NULL;
        for (size_t j = 0; j < count; j++)
            if (strcmp(fields[j].group, group_name) == 0 && strcmp(fields[j].key, name) == 0)
                f = &fields[j];
        if (f) {
            code = f->kind == KIND_U16 || f->kind == KIND_U32 ? read_number(r, f, s, base)
                                                              : read_text(r, f, s, base);
        } else if (!group_name[0] && fields == top_fields && is_group(fields, count, name)) {
            code = config_setting_type(s) != CONFIG_TYPE_GROUP
                       ? fail_type(r, s, CONFIG_TYPE_GROUP)
                       : read_group(r, s, name, fields, count, base);
        } else if (!group_name[0] && fields == top_fields && strcmp(name, "models") == 0) {
            code = read_models(r, s, base);
        } else {
            code = fail_at(r, s, "unknown key", "config/hob.conf lists those that are allowed");
        }
    }
    return code;
}

static void directory_of(const char *path, char *ret, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t len = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    if (len >= size)
        len = 0;
    memcpy(ret, path, len);
    ret[len] = 0;
}

int hob_conf_load(const char *path, hob_conf *ret, hob_diag *diag)
{
    reader r = {.path = path, .diag = diag};
    config_t file;
    char *text = NULL;
    size_t len;
    hob_conf *c = NULL;
    int code = hob_file_read(path, CONF_FILE_MAX, &text, &len, diag);
    if (code < 0)
        return code;
    directory_of(path, r.dir, sizeof r.dir);
    config_init(&file);
    config_set_include_dir(&file, r.dir);
    if (strlen(text) != len) {
        code = hob_fail(diag, HOB_EFORMAT, "%s: has a NUL byte: not a text file", path);
        goto fail;
    }
    if (!config_read_string(&file, text)) {
        const char *name = config_error_file(&file);
        code = hob_fail(diag, HOB_EFORMAT, "%.150s:%d: %s", name ? name : path,
                        config_error_line(&file), config_error_text(&file));
        goto fail;
    }
    c = malloc(sizeof *c); /* it holds paths of 4 KiB: too much for a thread's stack */
    if (!c) {
        code = hob_fail(diag, HOB_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    hob_conf_default(c);
    code = read_group(&r, config_root_setting(&file), "", top_fields, COUNT(top_fields), c);
    if (code == 0) {
        hob_diag why;
        code = hob_conf_check(c, &why);
        if (code < 0)
            hob_fail(diag, code, "%.100s: %.150s", path, why.text);
    }
    if (code == 0)
        *ret = *c;
fail:
    free(c);
    free(text);
    config_destroy(&file);
    return code;
}
