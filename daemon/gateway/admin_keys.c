/* SPDX-License-Identifier: Apache-2.0
 *
 * Administration of keys: made, listed, changed, revoked, rotated; and what they used. A request is checked here, done by
 * the store's thread, and answered when it is durable and the keyring has it: what is answered is in effect.
 *
 * A key's secret is in the answer to the request that made it, and nowhere else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "daemon/gateway/query.h"

enum {
    USAGE_ROWS_MAX = 50000,
    PAGE_BYTES = 1 << 20, /* about, of a list of keys: what follows is another page */
    DAY_S = 86400,
    GRACE_MAX_S = 30 * DAY_S,
};

typedef struct key_job {
    hob_store_job job;
    hob_gateway *g;
    hob_conn *c;    /* NULL: it has gone */
    json_t *fields; /* the request's, this job's own */
    char name[HOB_KEY_WORD_MAX];
    int (*act)(sqlite3 *db, hob_store_job *j, hob_diag *diag); /* of a change; and who does it: */
    hob_audit_entry audit;
    bool changes;     /* record goes to the keyring */
    bool client_keys; /* labels are what certificates name */
    hob_key_record record;
    char secret[HOB_KEY_TEXT_MAX];
    uint32_t grace_s, rows;
    int64_t now_s, from_day, after; /* after: the number of a key */
    hob_text answer;                /* of a list */
} key_job;

/* ---- a key as JSON ---- */

static void add_time(hob_text *t, const char *name, int64_t value)
{
    if (value > 0)
        hob_text_format(t, ",\"%s\":%lld", name, (long long)value);
    else
        hob_text_format(t, ",\"%s\":null", name);
}

static void add_names(hob_text *t, const char *name, bool all, const char *names)
{
    bool first = true;
    hob_text_format(t, ",\"%s\":%s", name, all ? "null" : "[");
    for (const char *p = names; !all && *p; first = false) {
        p += strspn(p, " ");
        const size_t len = strcspn(p, " ");
        if (len == 0)
            break;
        hob_text_puts(t, first ? "" : ",");
        hob_text_string(t, p, len);
        p += len;
    }
    if (!all)
        hob_text_puts(t, "]");
}

/* Without its closing brace. */
static void add_key(hob_text *t, const hob_key_record *r)
{
    hob_text_format(t,
                    "{\"object\":\"hob.key\",\"id\":%lld,\"label\":\"%s\",\"tenant\":\"%s\","
                    "\"role\":\"%s\",\"class\":\"%s\",\"log_content\":%s",
                    (long long)r->id, r->label, r->tenant, r->admin ? "admin" : "user",
                    hob_class_name(r->priority), r->log_content ? "true" : "false");
    add_names(t, "models", r->all_models, r->models);
    add_names(t, "collections", r->all_collections, r->collections);
    add_time(t, "created", r->created_s);
    add_time(t, "expires", r->expires_s);
    add_time(t, "last_used", r->last_used_s);
    add_time(t, "revoked", r->revoked_s);
    hob_text_puts(t, ",\"limits\":{");
    for (int i = 0; i < HOB_LIMITS; i++) {
        hob_text_format(t, "%s\"%s\":", i ? "," : "", hob_limit_name((hob_limit)i));
        if (r->limits[i] == HOB_KEY_LIMIT_DEFAULT)
            hob_text_puts(t, "null");
        else
            hob_text_format(t, "%lld", (long long)r->limits[i]);
    }
    hob_text_puts(t, "}");
}

/* ---- a key from JSON ---- */

static int take_word(json_t *v, const char *name, char ret[HOB_KEY_WORD_MAX], hob_api_error *e)
{
    const char *text = json_string_value(v);
    if (!text || strlen(text) != json_string_length(v) || !hob_key_word_ok(text))
        return hob_api_bad(e, "invalid_value", name,
                           "%s: 1 to 63 letters, digits or . _ @ + - are allowed", name);
    memcpy(ret, text, strlen(text) + 1);
    return 0;
}

static int take_names(json_t *v, const char *name, bool *ret_all, char ret[HOB_KEY_NAMES_MAX],
                      hob_api_error *e)
{
    char names[HOB_KEY_NAMES_MAX] = " ";
    size_t i, n = 1;
    json_t *one;

    *ret_all = json_is_null(v);
    ret[0] = '\0';
    if (*ret_all)
        return 0;
    if (!json_is_array(v))
        return hob_api_bad(e, "invalid_type", name, "%s: a list of names, or null for all", name);
    json_array_foreach(v, i, one)
    {
        const char *text = json_string_value(one);
        const size_t len = text ? strlen(text) : 0;
        if (len == 0 || len != json_string_length(one) || len > 63 || strchr(text, ' '))
            return hob_api_bad(e, "invalid_value", name,
                               "%s: a name of 1 to 63 bytes without spaces is needed", name);
        if (n + len + 2 > sizeof names)
            return hob_api_bad(e, "invalid_value", name,
                               "%s: the names have more than %zu bytes in all", name,
                               sizeof names - 2);
        n += (size_t)snprintf(names + n, sizeof names - n, "%s ", text);
    }
    memcpy(ret, names, n + 1);
    return 0;
}

static int take_limits(json_t *v, hob_key_record *r, hob_api_error *e)
{
    const char *name;
    json_t *value;
    if (!json_is_object(v))
        return hob_api_bad(e, "invalid_type", "limits", "limits: an object is needed");
    json_object_foreach(v, name, value)
    {
        uint32_t least, most;
        int i = 0;
        while (i < HOB_LIMITS && strcmp(hob_limit_name((hob_limit)i), name) != 0)
            i++;
        if (i == HOB_LIMITS)
            return hob_api_bad(e, "unknown_parameter", "limits", "limits: unknown limit '%.40s'",
                               name);
        if (json_is_null(value)) {
            r->limits[i] = HOB_KEY_LIMIT_DEFAULT;
            continue;
        }
        const int64_t n = json_is_integer(value) ? json_integer_value(value) : -1;
        if (!hob_limit_ok((hob_limit)i, n, &least, &most))
            return hob_api_bad(e, "invalid_value", "limits",
                               "limits.%s: %u to %u are allowed, or null for the default", name,
                               least, most);
        r->limits[i] = n;
    }
    return 0;
}

/* One field into the record; 1: there is no such field. */
static int take_field(const char *name, json_t *v, hob_key_record *r, hob_api_error *e)
{
    const char *text = json_string_value(v);
    if (strcmp(name, "label") == 0)
        return take_word(v, name, r->label, e);
    if (strcmp(name, "tenant") == 0)
        return take_word(v, name, r->tenant, e);
    if (strcmp(name, "models") == 0)
        return take_names(v, name, &r->all_models, r->models, e);
    if (strcmp(name, "collections") == 0)
        return take_names(v, name, &r->all_collections, r->collections, e);
    if (strcmp(name, "limits") == 0)
        return take_limits(v, r, e);
    if (strcmp(name, "role") == 0) {
        if (!text || (strcmp(text, "user") != 0 && strcmp(text, "admin") != 0))
            return hob_api_bad(e, "invalid_value", name, "role: user or admin is allowed");
        r->admin = strcmp(text, "admin") == 0;
        return 0;
    }
    if (strcmp(name, "class") == 0) {
        const int priority = text ? hob_class_find(text) : -1;
        if (priority < 0)
            return hob_api_bad(e, "invalid_value", name,
                               "class: interactive, standard or batch is allowed");
        r->priority = (uint8_t)priority;
        return 0;
    }
    if (strcmp(name, "log_content") == 0) {
        if (!json_is_boolean(v))
            return hob_api_bad(e, "invalid_type", name, "log_content: true or false is allowed");
        r->log_content = json_is_true(v);
        return 0;
    }
    if (strcmp(name, "expires") == 0) {
        const int64_t n = json_is_integer(v) ? json_integer_value(v) : 0;
        if (!json_is_null(v) && (n <= 0 || n > INT64_C(1) << 40))
            return hob_api_bad(e, "invalid_value", name,
                               "expires: seconds since 1970, or null for never");
        r->expires_s = n;
        return 0;
    }
    return 1;
}

/* All fields but "key", which names the one to be changed. */
static int take_fields(json_t *fields, hob_key_record *r, hob_api_error *e)
{
    const char *name;
    json_t *value;
    json_object_foreach(fields, name, value)
    {
        if (strcmp(name, "key") == 0)
            continue;
        const int code = take_field(name, value, r, e);
        if (code > 0)
            return hob_api_bad(e, "unknown_parameter", name, "unknown field '%.60s'", name);
        if (code < 0)
            return code;
    }
    return 0;
}

/* ---- jobs ---- */

static void job_free(key_job *k)
{
    json_decref(k->fields);
    hob_text_free(&k->answer);
    lws_explicit_bzero(k, sizeof *k);
    free(k);
}

static void fail(hob_conn *c, int code, const char *why)
{
    hob_api_error e;
    if (code == HOB_EINVAL || code == HOB_ELIMIT)
        hob_api_bad(&e, "invalid_value", NULL, "%s", why);
    else if (code == HOB_ENOENT)
        hob_api_fail(&e, 404, "invalid_request_error", "key_not_found", "key", "%s", why);
    else
        hob_api_fail(&e, 503, "server_error", "store_failed", NULL, "%s", why);
    hob_http_error(c, &e);
}

static void done(hob_store_job *j)
{
    key_job *k = (key_job *)j;
    int code = j->code;
    if (code >= 0 && k->changes && (code = hob_keyring_put(&k->g->keys, &k->record)) < 0)
        hob_fail(&j->diag, code, "no memory: the change counts from the next start on");
    if (code >= 0 && k->changes)
        hob_audit_log(&k->audit);
    if (k->c)
        k->c->asked = NULL;
    if (k->c && code < 0)
        fail(k->c, code, j->diag.text);
    else if (k->c && k->changes) {
        hob_text t = {0};
        add_key(&t, &k->record);
        if (k->secret[0])
            hob_text_format(&t, ",\"key\":\"%s\"", k->secret);
        hob_text_puts(&t, "}\n");
        hob_http_respond_json(k->c, &t);
        if (!t.failed)
            lws_explicit_bzero(t.bytes.data, t.bytes.len);
        hob_text_free(&t);
    } else if (k->c)
        hob_http_respond_json(k->c, &k->answer);
    job_free(k);
}

/* NULL: the client has been told. */
static key_job *job_new(hob_conn *c, json_t *fields,
                        int (*run)(sqlite3 *db, hob_store_job *j, hob_diag *diag))
{
    key_job *k = calloc(1, sizeof *k);
    if (!c->g->store) { /* --dev has no admin socket */
        fail(c, HOB_EIO, "this server has no store");
        free(k);
        return NULL;
    }
    if (k && fields && !(k->fields = json_deep_copy(fields))) {
        free(k);
        k = NULL;
    }
    if (!k) {
        fail(c, HOB_ENOMEM, "no memory for the request");
        return NULL;
    }
    k->job.run = run;
    k->job.done = done;
    k->g = c->g;
    k->client_keys = c->g->conf->client_keys;
    k->now_s = (int64_t)time(NULL);
    return k;
}

static int run_add(sqlite3 *db, hob_store_job *j, hob_diag *diag);

/* Cut with dots where there is no room. */
static void add_field(char *text, size_t size, bool first, const char *name, const char *value)
{
    const size_t n = strlen(text);
    if ((size_t)snprintf(text + n, size - n, "%s%s=%s", first ? ": " : ", ", name, value) >=
        size - n)
        memcpy(text + size - sizeof "...", "...", sizeof "...");
}

/* Into what the act was done to: the label that the key has; what a new one may, or the fields that are set and their
 * values, none of which is a secret. */
static void name_object(const key_job *k, char *ret, size_t size)
{
    const hob_key_record *r = &k->record;
    const char *name;
    json_t *value;
    bool first = true;
    snprintf(ret, size, "%s", r->label);
    if (k->act == run_add) {
        add_field(ret, size, true, "role", r->admin ? "admin" : "user");
        add_field(ret, size, false, "class", hob_class_name(r->priority));
        add_field(ret, size, false, "log_content", r->log_content ? "true" : "false");
    }
    json_object_foreach(k->fields, name, value)
    {
        if (strcmp(name, "key") == 0 || (json_is_object(value) && json_object_size(value) == 0))
            continue;
        char *text =
            json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        add_field(ret, size, first, name,
                  text                    ? text
                  : json_is_string(value) ? json_string_value(value)
                                          : "?");
        free(text);
        first = false;
    }
}

/* A change and the note of it, both or neither. Thread: store. */
static int run_change(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    const int code = k->act(db, j, diag);
    if (code < 0)
        return code;
    name_object(k, k->audit.object, sizeof k->audit.object);
    return hob_audit_table_add(db, &k->audit, diag);
}

static void post(hob_conn *c, key_job *k)
{
    if (k->changes) {
        hob_audit_describe(c, NULL, "", &k->audit);
        k->act = k->job.run;
        k->job.run = run_change;
    }
    k->c = c;
    c->asked = &k->c;
    hob_store_post(c->g->store, &k->job);
}

static void refuse(hob_conn *c, key_job *k, const hob_api_error *e)
{
    hob_http_error(c, e);
    job_free(k);
}

/* ---- changes ---- */

/* Where certificates name keys, the label of a revoked one stays taken: its certificate would be valid again.
 * Thread: store. */
static int check_label(sqlite3 *db, const key_job *k, hob_diag *diag)
{
    bool revoked = false;
    const int code =
        k->client_keys ? hob_key_table_was_revoked(db, k->record.label, &revoked, diag) : 0;
    return revoked ? hob_fail(diag, HOB_EINVAL,
                              "label: \"%s\" was a revoked key's, and with tls.client_keys a "
                              "certificate of that name would be valid again",
                              k->record.label)
                   : code;
}

/* Thread: store. */
static int run_add(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    const int code = check_label(db, k, diag);
    return code < 0 ? code : hob_key_table_add(db, &k->record, diag);
}

static void serve_add(hob_conn *c, json_t *body)
{
    key_job *k = job_new(c, NULL, run_add);
    hob_api_error e = {0};
    hob_diag diag;

    if (!k)
        return;
    hob_key_record *r = &k->record;
    *r = (hob_key_record){
        .priority = 0, .all_models = true, .all_collections = true, .created_s = k->now_s};
    for (int i = 0; i < HOB_LIMITS; i++)
        r->limits[i] = HOB_KEY_LIMIT_DEFAULT;
    if (json_object_get(body, "key"))
        hob_api_bad(&e, "unknown_parameter", "key", "unknown field 'key'");
    else if (take_fields(body, r, &e) == 0 && !r->label[0])
        hob_api_bad(&e, "missing_required_parameter", "label", "label: a name is needed");
    else if (!e.status && hob_key_make(k->secret, r->hash, &diag) < 0)
        hob_api_fail(&e, 503, "server_error", "no_random_numbers", NULL, "%s", diag.text);
    if (e.status) {
        refuse(c, k, &e);
        return;
    }
    if (!r->tenant[0]) /* each label a tenant of its own, unless it is told otherwise */
        memcpy(r->tenant, r->label, sizeof r->tenant);
    k->changes = true;
    post(c, k);
}

/* Thread: store. */
static int run_set(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    hob_api_error e = {0};
    char label[HOB_KEY_WORD_MAX];
    int code = hob_key_table_find(db, k->name, &k->record, diag);
    if (code < 0)
        return code;
    memcpy(label, k->record.label, sizeof label);
    if (take_fields(k->fields, &k->record, &e) < 0)
        return hob_fail(diag, HOB_EINVAL, "%s", e.message);
    if (strcmp(k->record.label, label) != 0 && (code = check_label(db, k, diag)) < 0)
        return code;
    return hob_key_table_update(db, &k->record, diag);
}

/* Thread: store. */
static int run_revoke(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    const int code = hob_key_table_find(db, k->name, &k->record, diag);
    k->record.revoked_s = k->now_s;
    return code < 0 ? code : hob_key_table_update(db, &k->record, diag);
}

/* Thread: store. */
static int run_rotate(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    uint8_t hash[32];
    int code;
    if ((code = hob_key_table_find(db, k->name, &k->record, diag)) < 0 ||
        (code = hob_key_make(k->secret, hash, diag)) < 0)
        return code;
    return hob_key_table_rotate(db, &k->record, hash, k->grace_s > 0 ? k->now_s + k->grace_s : 0,
                                diag);
}

/* The job for a change of the key that body names; NULL: the client has been told. */
static key_job *change_new(hob_conn *c, json_t *body,
                           int (*run)(sqlite3 *db, hob_store_job *j, hob_diag *diag))
{
    const char *name = json_string_value(json_object_get(body, "key"));
    hob_api_error e;
    if (!name || strlen(name) >= HOB_KEY_WORD_MAX) {
        hob_api_bad(&e, "missing_required_parameter", "key",
                    "key: the label or the number of a key is needed, as a string");
        hob_http_error(c, &e);
        return NULL;
    }
    key_job *k = job_new(c, body, run);
    if (k) {
        snprintf(k->name, sizeof k->name, "%s", name);
        k->changes = true;
    }
    return k;
}

static void serve_set(hob_conn *c, json_t *body)
{
    static const hob_key_record any;
    key_job *k = change_new(c, body, run_set);
    hob_key_record scratch = any;
    hob_api_error e = {0};
    if (!k)
        return;
    if (take_fields(k->fields, &scratch, &e) < 0) {
        refuse(c, k, &e);
        return;
    }
    post(c, k);
}

/* Fields beside "key" are refused, but for one. */
static bool only(json_t *body, const char *other, hob_api_error *e)
{
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        if (strcmp(name, "key") != 0 && (!other || strcmp(name, other) != 0)) {
            hob_api_bad(e, "unknown_parameter", name, "unknown field '%.60s'", name);
            return false;
        }
    }
    return true;
}

static void serve_revoke(hob_conn *c, json_t *body)
{
    key_job *k = change_new(c, body, run_revoke);
    hob_api_error e = {0};
    if (!k)
        return;
    if (only(body, NULL, &e))
        post(c, k);
    else
        refuse(c, k, &e);
}

static void serve_rotate(hob_conn *c, json_t *body)
{
    json_t *grace = json_object_get(body, "grace_s");
    const int64_t grace_s = json_is_integer(grace) ? json_integer_value(grace) : grace ? -1 : 0;
    key_job *k = change_new(c, body, run_rotate);
    hob_api_error e = {0};
    if (!k)
        return;
    if (only(body, "grace_s", &e) && (grace_s < 0 || grace_s > GRACE_MAX_S))
        hob_api_bad(&e, "invalid_value", "grace_s", "grace_s: 0 to %d seconds are allowed",
                    GRACE_MAX_S);
    if (e.status) {
        refuse(c, k, &e);
        return;
    }
    k->grace_s = (uint32_t)grace_s;
    post(c, k);
}

/* ---- lists ---- */

static int list_key(void *user, const hob_key_record *r, hob_diag *diag)
{
    key_job *k = user;
    (void)diag;
    if (hob_text_len(&k->answer) > PAGE_BYTES)
        return 1; /* there is more */
    hob_text_puts(&k->answer, k->rows++ ? "," : "");
    add_key(&k->answer, r);
    hob_text_puts(&k->answer, "}");
    return 0;
}

/* Thread: store. */
static int run_list(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    hob_text_puts(&k->answer, "{\"object\":\"list\",\"data\":[");
    const int code = hob_key_table_each(db, k->after, true, list_key, k, diag);
    hob_text_puts(&k->answer, code > 0 ? "],\"has_more\":true}\n" : "],\"has_more\":false}\n");
    return code;
}

static int take_after(void *user, const char *name, const char *value, hob_api_error *e)
{
    key_job *k = user;
    uint64_t n = 0;
    if (strcmp(name, "after") != 0)
        return hob_api_bad(e, "unknown_parameter", name, "unknown or unsupported parameter '%.60s'",
                           name);
    if (hob_query_number(name, value, 0, INT64_MAX, &n, e) < 0)
        return HOB_EINVAL;
    k->after = (int64_t)n;
    return 0;
}

static void serve_list(hob_conn *c, json_t *body)
{
    key_job *k = job_new(c, body, run_list);
    hob_api_error e = {0};
    if (!k)
        return;
    if (hob_query_each(c, take_after, k, &e) < 0) {
        refuse(c, k, &e);
        return;
    }
    hob_accounts_tell(c->g); /* when keys were last used */
    post(c, k);
}

static int list_usage(void *user, const hob_key_usage *u, const char *label, hob_diag *diag)
{
    key_job *k = user;
    const time_t at = (time_t)(u->day * DAY_S);
    char day[16] = "";
    struct tm tm;
    if (gmtime_r(&at, &tm))
        (void)strftime(day, sizeof day, "%Y-%m-%d", &tm);
    hob_text_format(&k->answer,
                    "%s{\"key\":%lld,\"label\":\"%.63s\",\"day\":\"%s\",\"requests\":%llu,"
                    "\"prompt_tokens\":%llu,\"cached_tokens\":%llu,\"answer_tokens\":%llu}",
                    k->rows ? "," : "", (long long)u->key, label, day,
                    (unsigned long long)u->requests, (unsigned long long)u->prompt_tokens,
                    (unsigned long long)u->cached_tokens, (unsigned long long)u->answer_tokens);
    return ++k->rows <= USAGE_ROWS_MAX
               ? 0
               : hob_fail(diag, HOB_ELIMIT, "more than %d rows: ask for fewer days, or for one key",
                          USAGE_ROWS_MAX);
}

/* Thread: store. */
static int run_usage(sqlite3 *db, hob_store_job *j, hob_diag *diag)
{
    key_job *k = (key_job *)j;
    int64_t id = 0;
    if (k->name[0]) {
        const int code = hob_key_table_find(db, k->name, &k->record, diag);
        if (code < 0)
            return code;
        id = k->record.id;
    }
    hob_text_puts(&k->answer, "{\"object\":\"list\",\"data\":[");
    const int code = hob_usage_table_each(db, id, k->from_day, list_usage, k, diag);
    hob_text_puts(&k->answer, "]}\n");
    return code;
}

static void serve_usage(hob_conn *c, json_t *body)
{
    json_t *name = json_object_get(body, "key"), *given = json_object_get(body, "days");
    const int64_t days = json_is_integer(given) ? json_integer_value(given) : given ? 0 : 30;
    hob_api_error e = {0};

    if (only(body, "days", &e) && (days < 1 || days > HOB_USAGE_DAYS_MAX))
        hob_api_bad(&e, "invalid_value", "days", "days: 1 to %d are allowed", HOB_USAGE_DAYS_MAX);
    else if (!e.status && name &&
             (!json_is_string(name) || json_string_length(name) >= HOB_KEY_WORD_MAX))
        hob_api_bad(&e, "invalid_value", "key", "key: a label or a number is needed, as a string");
    if (e.status) {
        hob_http_error(c, &e);
        return;
    }
    key_job *k = job_new(c, NULL, run_usage);
    if (!k)
        return;
    if (name)
        snprintf(k->name, sizeof k->name, "%s", json_string_value(name));
    k->from_day = k->now_s / DAY_S - days + 1;
    hob_accounts_tell(c->g);
    post(c, k);
}

const hob_admin_route hob_admin_key_routes[HOB_ADMIN_KEY_ROUTES] = {
    {"GET", "/hob/v1/admin/keys", serve_list},
    {"POST", "/hob/v1/admin/keys/add", serve_add},
    {"POST", "/hob/v1/admin/keys/set", serve_set},
    {"POST", "/hob/v1/admin/keys/revoke", serve_revoke},
    {"POST", "/hob/v1/admin/keys/rotate", serve_rotate},
    {"POST", "/hob/v1/admin/usage", serve_usage},
};
