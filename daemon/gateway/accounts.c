/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and the store. What keys there are, and what each has used today, is read at the start; who a request comes from
 * is told from the keyring alone; what was used goes to the store about once a second, all of it in one transaction, and
 * at the end. When the gateway is killed, the last second is lost.
 *
 * What the store cannot take, because the disk is full for example, is kept and tried again each second. What is used
 * meanwhile stays in the keyring, but for what is there when a day ends: so memory grows with days, not with seconds, and
 * each day gets its own. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "daemon/conf/keys.h"
#include "daemon/gateway/ingest.h"

enum { DAY_S = 86400, TELL_US = 1000000, ROWS_MAX = 1000 };

/* What is too old to be kept. Thread: store, or at the start. */
static int prune(sqlite3 *db, int64_t now_s, hob_diag *diag)
{
    const int code = hob_usage_table_prune(db, now_s / DAY_S - HOB_USAGE_DAYS_MAX, diag);
    return code < 0 ? code
                    : hob_key_table_prune(db, now_s - HOB_KEY_REVOKED_DAYS * (int64_t)DAY_S, diag);
}

/* ---- at the start ---- */

static int take_key(void *user, const hob_key_record *r, hob_diag *diag)
{
    hob_gateway *g = user;
    return hob_keyring_put(&g->keys, r) < 0
               ? hob_fail(diag, HOB_ENOMEM, "no memory for the API keys")
               : 0;
}

static int take_usage(void *user, const hob_key_usage *u, const char *label, hob_diag *diag)
{
    hob_gateway *g = user;
    hob_key *k = hob_keyring_get(&g->keys, u->key);
    (void)label;
    (void)diag;
    if (k && u->day == (int64_t)time(NULL) / DAY_S) {
        k->quota.day = u->day;
        k->quota.day_spent = u->prompt_tokens + u->answer_tokens;
    }
    return 0;
}

static void wake(void *user)
{
    hob_gateway *g = user;
    lws_cancel_service(g->context); /* Thread: store */
}

/* A store that never had a key, and no key file that brings one: the first start. Its key takes the way that those of a key
 * file take. */
static int make_first_key(hob_gateway *g, sqlite3 *db, hob_diag *diag)
{
    const char *keys_path = g->conf->keys;
    char text_path[sizeof g->conf->keys + 8];
    hob_key_file keys = {0};
    bool any = true;

    if (!keys_path[0])
        return 0;
    int code = hob_key_table_has_any(db, &any, diag);
    if (code < 0 || any)
        return code;
    code = hob_key_file_load(keys_path, &keys, diag);
    const bool brings = keys.count > 0;
    hob_key_file_free(&keys);
    if ((code < 0 && code != HOB_ENOENT) || brings)
        return code;
    if ((code = hob_key_file_text_path(keys_path, text_path, sizeof text_path, diag)) < 0 ||
        (code = hob_key_file_add_first(keys_path, text_path, diag)) < 0)
        return code;
    hob_log(HOB_LOG_INFO, "first start: made an administrator's key: %s, for its owner alone",
            text_path);
    return 0;
}

int hob_accounts_open(hob_gateway *g, hob_diag *diag)
{
    const int64_t now_s = (int64_t)time(NULL), today = now_s / DAY_S;
    uint32_t imported;
    int code;

    if (g->conf->plain)
        return 0;
    if (getrandom(&g->failures.seed, sizeof g->failures.seed, 0) < 0)
        return hob_fail(diag, HOB_EIO, "no random numbers from the system");
    if ((code = hob_store_open(g->conf->store, &g->store, diag)) < 0)
        return code;
    sqlite3 *db = hob_store_database(g->store);
    if ((code = make_first_key(g, db, diag)) < 0 ||
        (code = hob_key_table_import(db, g->conf->keys, now_s, &imported, diag)) < 0 ||
        (code = prune(db, now_s, diag)) < 0 ||
        (code = hob_key_table_each(db, 0, false, take_key, g, diag)) < 0 ||
        (code = hob_usage_table_each(db, 0, today, take_usage, g, diag)) < 0)
        return code;
    g->pruned_day = today;
    if ((code = hob_ingest_open(g, diag)) < 0)
        return code;
    if (imported > 0)
        hob_log(HOB_LOG_INFO, "%u API keys were taken from %s, which is retired", imported,
                g->conf->keys);
    if (g->keys.count == 0)
        hob_log(HOB_LOG_WARN, "there is no API key: hobctl keys add makes one");
    return hob_store_start(g->store, wake, g, diag);
}

/* ---- who is it ---- */

void hob_accounts_forget(hob_conn *c)
{
    hob_key_unref(c->key);
    c->key = NULL;
    c->by_text = c->by_session = false;
}

int hob_accounts_authenticate(hob_conn *c, const char *authorization, const char *label,
                              hob_api_error *e)
{
    const int64_t now_s = (int64_t)time(NULL);
    hob_gateway *g = c->g;
    hob_key *key = NULL;
    uint8_t hash[32];
    bool by_text = false;

    if (strncasecmp(authorization, "Bearer ", 7) == 0) {
        const char *text = authorization + 7 + strspn(authorization + 7, " ");
        by_text = hob_key_hash(text, strlen(text), hash) == 0;
        key = by_text ? hob_keyring_find(&g->keys, hash, now_s) : NULL;
    } else if (!authorization[0] && label[0])
        key = hob_keyring_find_label(&g->keys, label);
    if (key && hob_key_valid(key, now_s)) {
        c->key = hob_key_ref(key);
        if ((c->by_text = by_text))
            memcpy(c->text_hash, hash, sizeof hash);
        else
            memcpy(c->label, key->record.label, sizeof c->label);
        hob_key_note(key, now_s, &(hob_key_usage){0});
        return 0;
    }
    const uint32_t wait_ms =
        c->is_unix ? 0
                   : hob_failures_count(&g->failures, c->address, g->conf->auth_failures_per_minute,
                                        hob_now_us() / 1000);
    g->metrics.strangers[wait_ms > 0 ? HOB_STRANGER_TOO_MANY
                         : key       ? HOB_STRANGER_EXPIRED
                                     : HOB_STRANGER_NO_KEY]++;
    if (wait_ms > 0) {
        hob_api_fail(e, 429, "invalid_request_error", "rate_limit_exceeded", NULL,
                     "too many requests without a valid API key came from this address: limit %u a "
                     "minute",
                     g->conf->auth_failures_per_minute);
        e->reason = "auth_failures_per_minute";
        e->retry_after_ms = wait_ms;
        return HOB_EINVAL;
    }
    hob_api_fail(e, 401, "invalid_request_error", "invalid_api_key", NULL,
                 key ? "this API key is expired"
                     : "no valid API key was given; send it as 'Authorization: Bearer KEY'");
    if (key)
        e->reason = "key_expired";
    return HOB_EINVAL;
}

int hob_accounts_recheck(const hob_conn *c, hob_api_error *e)
{
    const int64_t now_s = (int64_t)time(NULL);
    const hob_key *k = c->key;
    const char *why = NULL;

    if (!k) /* --dev, the admin socket, routes that need no key */
        return 0;
    if (!hob_key_valid(k, now_s))
        why = k->gone ? "this API key is revoked" : "this API key is expired";
    else if (c->by_text && !hob_key_answers_to(k, c->text_hash, now_s))
        why = "this API key is rotated: it has a new text";
    else if (!c->by_text && !c->g->conf->client_keys)
        why = "certificates are no keys any more";
    else if (!c->by_text && strcmp(k->record.label, c->label) != 0)
        why = "the certificate names no key any more: the label of its key was changed";
    if (why)
        return hob_api_fail(e, 401, "invalid_request_error", "invalid_api_key", NULL, "%s", why);
    if (c->route == HOB_ROUTE_ADMIN && !k->record.admin)
        return hob_api_fail(e, 403, "invalid_request_error", "not_an_administrator", NULL,
                            "this API key has lost the role admin");
    return 0;
}

/* ---- usage ---- */

typedef struct hob_usage_job {
    hob_store_job job;
    hob_gateway *g;
    struct hob_usage_job *next; /* of usage_kept */
    size_t count;
    hob_key_usage rows[];
} hob_usage_job;

/* Thread: store. */
static int tell_run(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    const hob_usage_job *u = (const hob_usage_job *)j;
    int code = 0;
    for (size_t i = 0; i < u->count && code == 0; i++)
        code = hob_usage_table_add(db, &u->rows[i], diag);
    return code;
}

static void tell_done(hob_store_job *j)
{
    hob_usage_job *u = (hob_usage_job *)j, **end;
    hob_gateway *g = u->g;

    g->usage_in_flight--;
    if (j->code < 0) {
        if (!g->usage_failing)
            hob_log(HOB_LOG_WARN, "usage is kept in memory until it can be stored: %s",
                    j->diag.text);
        g->usage_failing = true;
        for (end = &g->usage_kept; *end; end = &(*end)->next)
            ;
        *end = u;
        return;
    }
    free(u);
    if (g->usage_failing && !g->usage_kept && g->usage_in_flight == 0) {
        g->usage_failing = false;
        hob_log(HOB_LOG_INFO, "usage is stored again");
    }
}

static void tell(hob_usage_job *u)
{
    u->next = NULL;
    u->g->usage_in_flight++;
    hob_store_post(u->g->store, &u->job);
}

/* True when there may be more. */
static bool tell_some(hob_gateway *g)
{
    const size_t most = g->keys.count < ROWS_MAX ? g->keys.count : ROWS_MAX;
    hob_usage_job *u = malloc(sizeof *u + most * sizeof *u->rows);
    if (!u)
        return false; /* at the next tick */
    *u = (hob_usage_job){.job = {.run = tell_run, .done = tell_done}, .g = g};
    u->count = hob_keyring_take_usage(&g->keys, u->rows, most);
    if (u->count == 0) {
        free(u);
        return false;
    }
    const bool full = u->count == most;
    tell(u);
    return full;
}

static void tell_kept(hob_gateway *g)
{
    for (hob_usage_job *u; (u = g->usage_kept);) {
        g->usage_kept = u->next;
        tell(u);
    }
}

void hob_accounts_tell(hob_gateway *g)
{
    const int64_t today = (int64_t)time(NULL) / DAY_S;
    tell_kept(g);
    if (g->usage_failing && g->usage_day == today)
        return;
    g->usage_day = today;
    while (tell_some(g))
        ;
}

/* ---- once a day ---- */

typedef struct prune_job {
    hob_store_job job;
    int64_t now_s;
} prune_job;

/* Thread: store. */
static int prune_run(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    return prune(db, ((const prune_job *)j)->now_s, diag);
}

static void prune_done(hob_store_job *j)
{
    prune_job *p = (prune_job *)j;
    if (j->code < 0)
        hob_log(HOB_LOG_WARN, "old usage and revoked keys stay until tomorrow: %s", j->diag.text);
    free(p);
}

static void prune_daily(hob_gateway *g)
{
    const int64_t now_s = (int64_t)time(NULL);
    if (now_s / DAY_S == g->pruned_day || g->usage_failing)
        return;
    prune_job *p = malloc(sizeof *p);
    if (!p)
        return; /* at the next tick */
    *p = (prune_job){.job = {.run = prune_run, .done = prune_done}, .now_s = now_s};
    g->pruned_day = now_s / DAY_S;
    hob_store_post(g->store, &p->job);
}

void hob_accounts_tick(hob_gateway *g, uint64_t now_us)
{
    if (!g->store || g->usage_in_flight > 0 || now_us - g->usage_us < TELL_US)
        return;
    g->usage_us = now_us;
    hob_accounts_tell(g);
    prune_daily(g);
}

static void lose_kept(hob_gateway *g)
{
    uint64_t requests = 0, tokens = 0;

    if (!g->usage_kept)
        return;
    for (hob_usage_job *u; (u = g->usage_kept); free(u)) {
        g->usage_kept = u->next;
        for (size_t i = 0; i < u->count; i++) {
            requests += u->rows[i].requests;
            tokens += u->rows[i].prompt_tokens + u->rows[i].answer_tokens;
        }
    }
    hob_log(HOB_LOG_ERROR, "usage that could not be stored is lost: %llu requests with %llu tokens",
            (unsigned long long)requests, (unsigned long long)tokens);
}

void hob_accounts_close(hob_gateway *g)
{
    if (g->store) {
        tell_kept(g);
        while (tell_some(g))
            ;
    }
    hob_ingest_close(g);
    hob_store_close(g->store);
    g->store = NULL;
    hob_uploads_free(g);
    hob_ingest_free(g);
    lose_kept(g);
}
