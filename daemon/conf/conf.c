/* SPDX-License-Identifier: Apache-2.0
 *
 * What hob.conf may say: one table describes every key, where it lies in the file and in the struct, its type and range.
 * See conf.h. */
#include "daemon/conf/conf.h"

#include "daemon/conf/fields.h"
#include "models/digest.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define FIELD(g, k, how, s, m, low, high, w, at_start)                                             \
    {                                                                                              \
        g, k, how, offsetof(s, m), sizeof((s *)0)->m, low, high, w, at_start                       \
    }
#define TEXT(g, k, s, m, w) FIELD(g, k, HOB_FIELD_TEXT, s, m, 0, 0, w, false)
#define PATH(g, k, s, m) FIELD(g, k, HOB_FIELD_PATH, s, m, 0, 0, NULL, false)
#define NUMBER(g, s, m, low, high) FIELD(g, #m, HOB_FIELD_U32, s, m, low, high, NULL, false)
#define LIST(g, s, m) FIELD(g, #m, HOB_FIELD_LIST, s, m, 0, 0, NULL, false)

#define LIMITS(X)                                                                                  \
    X("key_limits", REQUESTS_PER_MINUTE, "requests_per_minute", 0, 1000000)                        \
    X("key_limits", TOKENS_PER_MINUTE, "tokens_per_minute", 0, 1000000000)                         \
    X("key_limits", TOKENS_PER_DAY, "tokens_per_day", 0, 4000000000)                               \
    X("key_limits", CONCURRENT_REQUESTS, "concurrent_requests", 0, 65535)                          \
    X("key_limits", MAX_PROMPT_TOKENS, "max_prompt_tokens", 0, 1 << 20)                            \
    X("key_limits", MAX_OUTPUT_TOKENS, "max_output_tokens", 0, 1 << 20)                            \
    X("key_limits", PATIENCE_MS, "patience_ms", 0, 3600000)                                        \
    X("limits", DEFAULT_OUTPUT_TOKENS, "default_output_tokens", 1, 1 << 20)                        \
    X("key_limits", STORED_MB, "stored_mb", 0, 1 << 24)

#define LIMIT(group, id, name, low, high)                                                          \
    FIELD(group, name, HOB_FIELD_U32, hob_conf, key_limits[HOB_LIMIT_##id], low, high, NULL, false),

static const hob_field top_fields[] = {
    FIELD("", "listen", HOB_FIELD_TEXT, hob_conf, listen, 0, 0, NULL, true),
    FIELD("", "port", HOB_FIELD_U16, hob_conf, port, 0, 65535, NULL, true),
    FIELD("", "admin_socket", HOB_FIELD_PATH, hob_conf, admin_socket, 0, 0, NULL, true),
    FIELD("", "store", HOB_FIELD_PATH, hob_conf, store, 0, 0, NULL, true),
    FIELD("", "keys", HOB_FIELD_PATH, hob_conf, keys, 0, 0, NULL, true),
    LIST("", hob_conf, hosts),
    LIST("", hob_conf, cors_origins),
    TEXT("", "log_level", hob_conf, log_level, " error warn info debug "),
    TEXT("", "log_format", hob_conf, log_format, " logfmt json "),
    FIELD("traces", "keep", HOB_FIELD_U32, hob_conf, traces_keep, 0, 100000, NULL, true),
    FIELD("traces", "sample_percent", HOB_FIELD_U32, hob_conf, traces_sample_percent, 0, 100, NULL,
          false),
    FIELD("traces", "slow_ms", HOB_FIELD_U32, hob_conf, traces_slow_ms, 0, 86400000, NULL, false),
    FIELD("traces", "otlp_endpoint", HOB_FIELD_TEXT, hob_conf, otlp_endpoint, 0, 0, NULL, true),
    FIELD("traces", "otlp_ca", HOB_FIELD_PATH, hob_conf, otlp_ca, 0, 0, NULL, true),
    FIELD("console", "enabled", HOB_FIELD_BOOL, hob_conf, console, 0, 1, NULL, false),
    FIELD("console", "session_s", HOB_FIELD_U32, hob_conf, console_session_s, 1, 30 * 86400, NULL,
          false),
    FIELD("console", "session_idle_s", HOB_FIELD_U32, hob_conf, console_session_idle_s, 1,
          30 * 86400, NULL, false),
    PATH("tls", "cert", hob_conf, tls_cert),
    PATH("tls", "key", hob_conf, tls_key),
    PATH("tls", "client_ca", hob_conf, client_ca),
    TEXT("tls", "client_auth", hob_conf, client_auth, " none optional required "),
    FIELD("tls", "client_keys", HOB_FIELD_BOOL, hob_conf, client_keys, 0, 1, NULL, false),
    NUMBER("limits", hob_conf, max_body_bytes, 1024, 32 << 20),
    NUMBER("limits", hob_conf, max_file_mb, 1, 1 << 20),
    FIELD("limits", "vector_index_mb", HOB_FIELD_U32, hob_conf, vector_index_mb, 4, 1 << 20, NULL,
          true),
    FIELD("limits", "max_connections", HOB_FIELD_U32, hob_conf, max_connections, 1,
          HOB_CONF_CONNECTIONS_MAX, NULL, true),
    NUMBER("limits", hob_conf, max_connections_per_address, 1, 65535),
    NUMBER("limits", hob_conf, auth_failures_per_minute, 0, 1000000),
    NUMBER("limits", hob_conf, handshakes_per_s, 0, 1 << 20),
    FIELD("limits", "max_header_bytes", HOB_FIELD_U32, hob_conf, max_header_bytes, 1024, UINT16_MAX,
          NULL, true),
    NUMBER("limits", hob_conf, header_timeout_ms, 100, 600000),
    NUMBER("limits", hob_conf, body_timeout_ms, 100, 3600000),
    NUMBER("limits", hob_conf, body_min_bytes_per_s, 0, 1 << 30),
    NUMBER("limits", hob_conf, idle_timeout_ms, 100, 86400000),
    NUMBER("limits", hob_conf, stall_timeout_ms, 100, 86400000),
    NUMBER("limits", hob_conf, websocket_idle_ms, 100, 86400000),
    NUMBER("limits", hob_conf, websocket_ping_ms, 100, 3600000),
    NUMBER("limits", hob_conf, websocket_pong_ms, 100, 3600000),
    NUMBER("limits", hob_conf, websocket_fragments, 1, 1 << 20),
    NUMBER("limits", hob_conf, outbox_bytes, 4096, 64 << 20),
    NUMBER("limits", hob_conf, heartbeat_ms, 100, 3600000),
    NUMBER("limits", hob_conf, response_store_count, 0, 1 << 20),
    NUMBER("limits", hob_conf, response_store_bytes, 0, 1 << 30),
    NUMBER("limits", hob_conf, response_store_ttl_s, 1, 30 * 86400),
    NUMBER("limits", hob_conf, max_background, 0, 1 << 16),
    NUMBER("limits", hob_conf, max_estimates, 1, 1 << 16),
    NUMBER("limits", hob_conf, background_timeout_s, 1, 7 * 86400),
    NUMBER("limits", hob_conf, drain_timeout_ms, 0, 3600000),
    NUMBER("limits", hob_conf, hang_timeout_ms, 500, 3600000),
    FIELD("retrieval", "timeout_ms", HOB_FIELD_U32, hob_conf, retrieval_timeout_ms, 1, 60000, NULL,
          false),
    FIELD("retrieval", "max_tokens", HOB_FIELD_U32, hob_conf, retrieval_max_tokens, 64, 1 << 20,
          NULL, false),
    FIELD("retrieval", "min_score_percent", HOB_FIELD_U32, hob_conf, retrieval_min_score_percent, 0,
          100, NULL, false),
    FIELD("limits", "memory_mb", HOB_FIELD_U32, hob_conf, memory_mb, 0, 1 << 30, NULL, true),
    LIMITS(LIMIT)};

static const hob_field model_fields[] = {
    TEXT("", "name", hob_conf_model, name, NULL),
    PATH("", "path", hob_conf_model, path),
    TEXT("", "sha256", hob_conf_model, sha256, NULL),
    TEXT("", "device", hob_conf_model, device, NULL),
    NUMBER("", hob_conf_model, threads, 0, 256),
    NUMBER("", hob_conf_model, context, 0, 1 << 20),
    NUMBER("", hob_conf_model, kv_tokens, 0, 1 << 26),
    FIELD("", "kv_type", HOB_FIELD_KV, hob_conf_model, kv_type, 0, 0, " f16 q8_0 ", false),
    NUMBER("", hob_conf_model, prefix_tokens, 0, 1 << 26),
    NUMBER("", hob_conf_model, itl_target_ms, 1, 10000),
    NUMBER("", hob_conf_model, max_sequences, 1, 256),
    NUMBER("", hob_conf_model, max_waiting, 0, 65536),
    NUMBER("", hob_conf_model, max_waiting_tokens, 1, 1 << 30),
};

static const hob_field listener_fields[] = {
    TEXT("", "listen", hob_conf_listener, listen, NULL),
    FIELD("", "port", HOB_FIELD_U16, hob_conf_listener, port, 0, 65535, NULL, false),
    TEXT("", "protocol", hob_conf_listener, protocol, " https http "),
    PATH("", "socket", hob_conf_listener, socket),
    FIELD("", "metrics", HOB_FIELD_BOOL, hob_conf_listener, metrics, 0, 0, NULL, false),
};

#define TABLE(a)                                                                                   \
    {                                                                                              \
        a, sizeof(a) / sizeof *(a)                                                                 \
    }
const hob_field_table hob_top_fields = TABLE(top_fields);
const hob_field_table hob_model_fields = TABLE(model_fields);
const hob_field_table hob_listener_fields = TABLE(listener_fields);

const hob_conf_model hob_conf_model_default = {
    .device = "auto",
    .kv_type = HOB_TYPE_F16,
    .prefix_tokens = 1 << 26,
    .itl_target_ms = 40,
    .max_sequences = 16,
    .max_waiting = 64,
    .max_waiting_tokens = 131072,
};

void hob_conf_default(hob_conf *c)
{
    *c = (hob_conf){
        .listen = "0.0.0.0",
        .port = 8443,
        .key_limits[HOB_LIMIT_DEFAULT_OUTPUT_TOKENS] = 1024,
        .max_body_bytes = 8 << 20,
        .max_file_mb = 512,
        .vector_index_mb = 512,
        .max_connections = 512,
        .max_connections_per_address = 128,
        .auth_failures_per_minute = 10,
        .handshakes_per_s = 128,
        .max_header_bytes = 8192,
        .client_auth = "none",
        .header_timeout_ms = 10000,
        .body_timeout_ms = 30000,
        .body_min_bytes_per_s = 1024,
        .idle_timeout_ms = 60000,
        .stall_timeout_ms = 60000,
        .websocket_idle_ms = 3600000,
        .websocket_ping_ms = 30000,
        .websocket_pong_ms = 20000,
        .websocket_fragments = 4096,
        .outbox_bytes = 256 << 10,
        .heartbeat_ms = 10000,
        .response_store_count = 1000,
        .response_store_bytes = 16 << 20,
        .response_store_ttl_s = 3600,
        .max_background = 32,
        .max_estimates = 32,
        .background_timeout_s = 3600,
        .drain_timeout_ms = 30000,
        .hang_timeout_ms = 10000,
        .retrieval_timeout_ms = 200,
        .retrieval_max_tokens = 1024,
        .retrieval_min_score_percent = 30,
        .console = true,
        .console_session_s = 43200,
        .console_session_idle_s = 3600,
        .log_level = "info",
        .log_format = "logfmt",
        .traces_keep = 512,
        .traces_sample_percent = 10,
        .traces_slow_ms = 10000,
    };
}

static const struct {
    const char *name;
    uint32_t min, max;
} limits[] = {
#define DESCRIPTION(group, id, name, low, high) [HOB_LIMIT_##id] = {name, low, high},
    LIMITS(DESCRIPTION)
#undef DESCRIPTION
};

const char *hob_limit_name(hob_limit l)
{
    return limits[l].name;
}

bool hob_limit_ok(hob_limit l, int64_t value, uint32_t *ret_min, uint32_t *ret_max)
{
    *ret_min = limits[l].min;
    *ret_max = limits[l].max;
    return value >= limits[l].min && value <= limits[l].max;
}

/* Checks that do not depend on a file */

bool hob_field_word(const char *words, const char *s)
{
    char spaced[64];
    int n = snprintf(spaced, sizeof spaced, " %s ", s);
    return n > 2 && (size_t)n < sizeof spaced && !strchr(s, ' ') && strstr(words, spaced);
}

static uint32_t number_at(const hob_field *f, const void *base)
{
    uint16_t small;
    uint32_t value;
    if (f->kind == HOB_FIELD_U16) {
        memcpy(&small, (const char *)base + f->offset, sizeof small);
        return small;
    }
    memcpy(&value, (const char *)base + f->offset, sizeof value);
    return value;
}

static int check_fields(const hob_field_table *table, const void *base, const char *where,
                        hob_diag *diag)
{
    for (size_t i = 0; i < table->count; i++) {
        const hob_field *f = &table->list[i];
        if (f->kind == HOB_FIELD_U16 || f->kind == HOB_FIELD_U32) {
            uint32_t v = number_at(f, base);
            if (v < f->min || v > f->max)
                return hob_fail(diag, HOB_EINVAL, "%s%s is %u: %u to %u are allowed", where, f->key,
                                v, f->min, f->max);
        } else if (f->kind == HOB_FIELD_TEXT && f->words && ((const char *)base)[f->offset]) {
            const char *s = (const char *)base + f->offset;
            if (!hob_field_word(f->words, s))
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

int hob_conf_check_model(const hob_conf *c, uint32_t index, hob_diag *diag)
{
    uint8_t digest[HOB_DIGEST_BYTES];
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
    code = check_fields(&hob_model_fields, m, where, diag);
    if (code < 0)
        return code;
    if (!m->path[0])
        return hob_fail(diag, HOB_EINVAL, "%spath is missing: the GGUF file", where);
    if (m->sha256[0] && !hob_digest_parse(m->sha256, strlen(m->sha256), digest))
        return hob_fail(diag, HOB_EINVAL,
                        "%ssha256 is \"%.64s\": 64 hexadecimal digits are allowed", where,
                        m->sha256);
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

/* Without TLS an address has to be this machine's own. */
static int check_address(const char *where, const char *address, bool plain, hob_diag *diag)
{
    struct in_addr four;
    struct in6_addr six;
    bool is_four = inet_pton(AF_INET, address, &four) == 1,
         is_six = inet_pton(AF_INET6, address, &six) == 1;
    if (!is_four && !is_six)
        return hob_fail(diag, HOB_EINVAL, "%slisten is \"%s\": an IPv4 or IPv6 address is allowed",
                        where, address);
    if (plain && (is_four ? ntohl(four.s_addr) >> 24 != 127 : !IN6_IS_ADDR_LOOPBACK(&six)))
        return hob_fail(diag, HOB_EINVAL,
                        "%slisten is \"%s\": without TLS only a loopback address is allowed", where,
                        address);
    return 0;
}

int hob_conf_check_listener(const hob_conf_listener *l, uint32_t index, hob_diag *diag)
{
    char where[32];
    snprintf(where, sizeof where, "listeners[%u].", index);
    const bool plain = strcmp(l->protocol, "http") == 0;
    int code = check_fields(&hob_listener_fields, l, where, diag);
    if (code < 0)
        return code;
    if (!l->socket[0] == !l->listen[0])
        return hob_fail(diag, HOB_EINVAL, "%s%s: either listen, an address, or socket is needed",
                        where,
                        l->socket[0] ? "socket has a listen beside it" : "listen is missing");
    if (l->listen[0])
        return check_address(where, l->listen, plain && !l->metrics, diag);
    if (l->port || (l->protocol[0] && !plain))
        return hob_fail(diag, HOB_EINVAL, "%s%s: a Unix socket has none", where,
                        l->port ? "port is given" : "protocol is \"https\"");
    return 0;
}

/* scheme://host[:port], as a browser writes it. */
static bool origin_ok(const char *s)
{
    const char *host = strstr(s, "://");
    return host && host != s && host[3] && !strpbrk(host + 3, "/?#@ ") &&
           strspn(s, "abcdefghijklmnopqrstuvwxyz") == (size_t)(host - s);
}

static int check_endpoint(const hob_conf *c, hob_diag *diag)
{
    const bool tls = strncmp(c->otlp_endpoint, "https://", 8) == 0;
    if (!tls && strncmp(c->otlp_endpoint, "http://", 7) != 0)
        return hob_fail(diag, HOB_EINVAL,
                        "traces.otlp_endpoint is \"%.80s\": http://host[:port] or "
                        "https://host[:port] is allowed",
                        c->otlp_endpoint);
    return tls && !c->otlp_ca[0]
               ? hob_fail(diag, HOB_EINVAL,
                          "traces.otlp_endpoint is \"%.80s\": traces.otlp_ca is needed, a PEM "
                          "file of the authority that signs its certificate",
                          c->otlp_endpoint)
               : 0;
}

int hob_conf_check(const hob_conf *c, hob_diag *diag)
{
    int code = check_fields(&hob_top_fields, c, "", diag);
    if (code < 0 || (code = check_address("", c->listen, c->plain, diag)) < 0)
        return code;
    for (uint32_t i = 0; i < c->listener_count; i++)
        if ((code = hob_conf_check_listener(&c->listeners[i], i, diag)) < 0)
            return code;
    if (!c->plain) {
        if (!c->tls_cert[0] || !c->tls_key[0])
            return hob_fail(diag, HOB_EINVAL,
                            "tls.%s is missing: a PEM file (hobctl setup makes one)",
                            c->tls_cert[0] ? "key" : "cert");
    }
    if (strcmp(c->client_auth, "none") != 0 && !c->client_ca[0])
        return hob_fail(diag, HOB_EINVAL,
                        "tls.client_auth is \"%s\": tls.client_ca is needed, a PEM file of the "
                        "authorities that sign clients' certificates",
                        c->client_auth);
    if (c->client_keys && strcmp(c->client_auth, "none") == 0)
        return hob_fail(diag, HOB_EINVAL,
                        "tls.client_keys is true: tls.client_auth has to be \"optional\" or "
                        "\"required\"");
    if (c->otlp_endpoint[0] && (code = check_endpoint(c, diag)) < 0)
        return code;
    for (uint32_t i = 0; i < c->cors_origins.count; i++)
        if (!origin_ok(c->cors_origins.text[i]))
            return hob_fail(diag, HOB_EINVAL,
                            "cors_origins has \"%.80s\": an origin is allowed, such as "
                            "https://app.example:8443, without a path",
                            c->cors_origins.text[i]);
    if (c->model_count == 0 || c->model_count > HOB_CONF_MODELS_MAX)
        return hob_fail(diag, HOB_EINVAL, "models has %u entries: 1 to %d are allowed",
                        c->model_count, HOB_CONF_MODELS_MAX);
    for (uint32_t i = 0; i < c->model_count; i++) {
        code = hob_conf_check_model(c, i, diag);
        if (code < 0)
            return code;
    }
    return 0;
}

/* What a reload leaves as it is */

static bool same_field(const hob_field *f, const void *a, const void *b)
{
    const char *left = (const char *)a + f->offset, *right = (const char *)b + f->offset;
    return f->kind == HOB_FIELD_TEXT || f->kind == HOB_FIELD_PATH
               ? strcmp(left, right) == 0
               : memcmp(left, right, f->size) == 0;
}

static bool same_fields(const hob_field_table *table, const void *a, const void *b)
{
    for (size_t i = 0; i < table->count; i++)
        if (!same_field(&table->list[i], a, b))
            return false;
    return true;
}

static void add_name(char *names, size_t size, const char *name)
{
    const size_t len = strlen(names);
    snprintf(names + len, size - len, len ? ", %s" : "%s", name);
}

void hob_conf_keep(hob_conf *next, const hob_conf *now, char *ret_names, size_t size)
{
    bool same = next->listener_count == now->listener_count;
    ret_names[0] = '\0';
    for (size_t i = 0; i < hob_top_fields.count; i++) {
        const hob_field *f = &hob_top_fields.list[i];
        if (!f->fixed || same_field(f, next, now))
            continue;
        add_name(ret_names, size, f->key);
        memcpy((char *)next + f->offset, (const char *)now + f->offset, f->size);
    }
    for (uint32_t i = 0; i < now->listener_count && same; i++)
        same = same_fields(&hob_listener_fields, &next->listeners[i], &now->listeners[i]);
    if (!same)
        add_name(ret_names, size, "listeners");
    same = next->model_count == now->model_count;
    for (uint32_t i = 0; i < now->model_count && same; i++)
        same = same_fields(&hob_model_fields, &next->models[i], &now->models[i]);
    if (!same)
        add_name(ret_names, size, "models");
    next->listener_count = now->listener_count;
    next->model_count = now->model_count;
    memcpy(next->listeners, now->listeners, sizeof next->listeners);
    memcpy(next->models, now->models, sizeof next->models);
}

void hob_conf_each_key(void (*each)(void *user, const char *group, const char *key), void *user)
{
    static const struct {
        const char *group;
        const hob_field_table *table;
    } tables[] = {
        {"", &hob_top_fields}, {"models", &hob_model_fields}, {"listeners", &hob_listener_fields}};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (size_t i = 0; i < tables[t].table->count; i++) {
            const hob_field *f = &tables[t].table->list[i];
            each(user, f->group[0] ? f->group : tables[t].group, f->key);
        }
}
