/* SPDX-License-Identifier: Apache-2.0
 *
 * hob.conf, read with libconfig into one checked struct. Unknown keys, wrong types and values out of range are errors
 * that name file, line, key, what was found and what is allowed. config/hob.conf documents every key. */
#ifndef HOB_DAEMON_CONF_CONF_H
#define HOB_DAEMON_CONF_CONF_H

#include "hal/hal.h"

enum {
    HOB_CONF_MODELS_MAX = 8,
    HOB_CONF_LISTENERS_MAX = 8,
    HOB_CONF_TEXTS_MAX = 16, /* in a list */
    HOB_CONF_CONNECTIONS_MAX =
        65000, /* libwebsockets counts in 16 bits, and the gateway needs a few more */
    HOB_CONF_SOCKET_MAX = 108, /* bytes of a Unix socket's path with its NUL: the kernel's bound */
};

/* What a key may use. hob.conf sets the limits of all keys; a key may have its own. 0: no limit. */
typedef enum hob_limit {
    HOB_LIMIT_REQUESTS_PER_MINUTE,
    HOB_LIMIT_TOKENS_PER_MINUTE,
    HOB_LIMIT_TOKENS_PER_DAY,
    HOB_LIMIT_CONCURRENT_REQUESTS,
    HOB_LIMIT_MAX_PROMPT_TOKENS,
    HOB_LIMIT_MAX_OUTPUT_TOKENS,
    HOB_LIMIT_PATIENCE_MS,
    HOB_LIMIT_DEFAULT_OUTPUT_TOKENS, /* when a request names none */
    HOB_LIMIT_STORED_MB,             /* MiB of files that the key has uploaded and not deleted */
    HOB_LIMITS,
} hob_limit;
const char *hob_limit_name(hob_limit l); /* "requests_per_minute" */
/* Whether value is in its range, and what that is. */
bool hob_limit_ok(hob_limit l, int64_t value, uint32_t *ret_min, uint32_t *ret_max);

typedef struct hob_conf_model {
    char name[64];
    char path[4096];
    char sha256[65];  /* hexadecimal, of the file; "": what PATH.sha256 says, if anything */
    char device[32];  /* "auto" */
    uint32_t threads; /* 0: one a core */
    uint32_t
        context; /* tokens of one request at most; 0: what the model was trained for, at most 8192 */
    uint32_t kv_tokens; /* of all sequences; 0: 2 * context, or what memory_mb leaves */
    hob_type kv_type;   /* "f16" or "q8_0" */
    uint32_t
        prefix_tokens; /* of finished requests, kept for prompts that begin alike; 2^26: all there is room for */
    uint32_t itl_target_ms;      /* what a step should take at most while streams run; 40 */
    uint32_t max_sequences;      /* in a step; default 16 */
    uint32_t max_waiting;        /* default 64 */
    uint32_t max_waiting_tokens; /* prompts and answers of those that wait; default 131072 */
} hob_conf_model;

typedef struct hob_conf_listener { /* an address and a port, or a Unix socket */
    char listen[64];
    uint16_t port;
    char protocol[8]; /* "https", or "http" on loopback; "": as it has to be */
    bool metrics;     /* for those who watch, without a key; then "http" is for any address */
    char socket[HOB_CONF_SOCKET_MAX];
} hob_conf_listener;

typedef struct hob_conf_list {
    uint32_t count;
    char text[HOB_CONF_TEXTS_MAX][256];
} hob_conf_list;

typedef struct hob_conf {
    char listen[64]; /* address; "0.0.0.0" */
    uint16_t port;   /* 8443 */
    bool plain;      /* no TLS and no keys: --dev only, loopback only */
    uint32_t listener_count;
    hob_conf_listener listeners[HOB_CONF_LISTENERS_MAX]; /* beside listen and port */
    char admin_socket[HOB_CONF_SOCKET_MAX]; /* hob.sock beside the file; "": none, --dev only */
    char
        tls_cert[4096]; /* PEM, full chain; relative paths are relative to the configuration file */
    char tls_key[4096];
    char client_ca[4096]; /* PEM, one or more authorities of clients' certificates; "": none */
    char client_auth[16]; /* "none" "optional" "required" */
    bool client_keys;     /* a certificate's common name is a key's label */
    hob_conf_list hosts;  /* beside the certificate's names, localhost and addresses */
    hob_conf_list cors_origins; /* pages of which may use the interface */
    char store[4096];           /* SQLite file: keys, usage; "hob.db" beside the configuration */
    char keys[4096];            /* file of key hashes to take into the store once; "": none */
    uint32_t model_count;
    hob_conf_model models[HOB_CONF_MODELS_MAX]; /* the first is `default` */
    uint32_t key_limits[HOB_LIMITS];            /* of a key that has none of its own */
    uint32_t max_body_bytes;                    /* of a request; 8 MiB */
    uint32_t max_file_mb;                       /* MiB of one that is uploaded; 512 */
    uint32_t vector_index_mb;                   /* MiB of memory of the index of vectors; 512 */
    uint32_t max_connections;                   /* 512 */
    uint32_t max_connections_per_address;       /* 128 */
    uint32_t auth_failures_per_minute;          /* of an address, before it is slowed down; 10 */
    uint32_t handshakes_per_s;                  /* of an address; 128; 0: any */
    uint32_t max_header_bytes;                  /* of a request's head; 8192 */
    uint32_t header_timeout_ms;                 /* 10000 */
    uint32_t body_timeout_ms;                   /* whole body; 30000 */
    uint32_t body_min_bytes_per_s;              /* after the first second; 1024 */
    uint32_t idle_timeout_ms;                   /* keep-alive; 60000 */
    uint32_t stall_timeout_ms;                  /* a reader that takes nothing; 60000 */
    uint32_t websocket_idle_ms;                 /* without a response; 3600000 */
    uint32_t websocket_ping_ms;                 /* of silence before a ping; 30000 */
    uint32_t websocket_pong_ms;                 /* for its answer; 20000 */
    uint32_t websocket_fragments;               /* of one message; 4096 */
    uint32_t outbox_bytes;                      /* per connection; 256 KiB */
    uint32_t heartbeat_ms;                      /* of a stream that has nothing to say; 10000 */
    uint32_t response_store_count;              /* stored responses; 1000 */
    uint32_t response_store_bytes;              /* of all of them; 16 MiB */
    uint32_t response_store_ttl_s;              /* after their end; 3600 */
    uint32_t max_background;                    /* running without a connection; 32 */
    uint32_t max_estimates;                     /* under way at once, half of them of one key; 32 */
    uint32_t background_timeout_s;              /* for one of them; 3600 */
    uint32_t drain_timeout_ms;                  /* after SIGTERM; 30000 */
    uint32_t hang_timeout_ms; /* an engine without a heartbeat is taken for dead; 10000 */
    uint32_t
        retrieval_timeout_ms; /* for what documents say; then the answer goes on without; 200 */
    uint32_t retrieval_max_tokens; /* of it, in a prompt, when a request does not say; 1024 */
    uint32_t retrieval_min_score_percent; /* of a passage, as cosine, likewise; 30 */
    uint32_t memory_mb;                   /* MiB resident in all processes at most; 0: no limit */
    uint32_t traces_keep;                 /* in memory; 512 */
    uint32_t traces_sample_percent;       /* of requests; slow and failed ones beside; 10 */
    uint32_t traces_slow_ms;         /* a request that takes so long is slow; 0: none is; 10000 */
    bool console;                    /* whether the console is served; true */
    uint32_t console_session_s;      /* how long a session of it lasts at most; 43200 */
    uint32_t console_session_idle_s; /* and without being used; 3600 */
    char log_level[16];              /* "error" "warn" "info" "debug" */
    char log_format[8];              /* "logfmt" "json" */
    char otlp_endpoint[256];         /* where traces are sent; "": nowhere */
    char otlp_ca[4096];              /* PEM, for https; "": none */
} hob_conf;

void hob_conf_default(hob_conf *c);                 /* no model */
extern const hob_conf_model hob_conf_model_default; /* no name, no path */
HOB_MUST_CHECK int hob_conf_load(const char *path, hob_conf *ret, hob_diag *diag);
/* Ranges and combinations; hob_conf_load calls it, --dev calls it after its flags. */
HOB_MUST_CHECK int hob_conf_check(const hob_conf *c, hob_diag *diag);
/* Puts what takes effect at a start only back from `now` into `next`; ret_names lists, by name, what differed. */
void hob_conf_keep(hob_conf *next, const hob_conf *now, char *ret_names, size_t size);
/* Every key that there is; group is "" at top level, "models" and "listeners" for what stands in their lists. */
void hob_conf_each_key(void (*each)(void *user, const char *group, const char *key), void *user);

#endif
