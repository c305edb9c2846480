/* SPDX-License-Identifier: Apache-2.0
 *
 * What administrators are served: on the admin socket, where who may connect is decided when a connection is accepted
 * (listener.c), by user and group, and there is no key; elsewhere to a key of the role admin. For others these routes do
 * not exist. */
#include <string.h>
#include <unistd.h>

#include "daemon/gateway/trace.h"

static const char *state_name(const hob_link *l)
{
    static const char *const names[] = {"down", "starting", "ready"};
    if (l->unloading)
        return l->unloaded ? "unloaded" : "unloading";
    return l->state == HOB_LINK_DOWN && l->failures > 0 ? "failed" : names[l->state];
}

static void add_models(const hob_gateway *g, hob_text *t)
{
    hob_text_puts(t, "\"models\":[");
    for (uint32_t i = 0; i < g->link_count; i++) {
        const hob_link *l = &g->links[i];
        hob_text_puts(t, i ? ",{\"name\":" : "{\"name\":");
        hob_text_string(t, l->model->name, strlen(l->model->name));
        hob_text_format(t,
                        ",\"state\":\"%s\",\"pid\":%d,\"requests\":%u,\"restarts\":%llu,"
                        "\"context_tokens\":%u}",
                        state_name(l), (int)l->pid, hob_link_load(l),
                        (unsigned long long)l->restarts, l->context);
    }
    hob_text_puts(t, "]");
}

static void serve_status(hob_conn *c, json_t *body)
{
    const hob_gateway *g = c->g;
    hob_text t = {0};

    (void)body;
    hob_text_format(&t,
                    "{\"version\":\"" HOB_VERSION "\",\"pid\":%d,\"uptime_s\":%llu,"
                    "\"state\":\"%s\",\"connections\":%u,\"listeners\":[",
                    (int)getpid(), (unsigned long long)((hob_now_us() - g->started_us) / 1000000),
                    g->draining ? "draining" : "running", g->conn_count - g->admin_count);
    for (uint32_t i = 0; i < g->listener_count; i++) {
        hob_text_puts(&t, i ? "," : "");
        hob_text_string(&t, g->listeners[i].name, strlen(g->listeners[i].name));
    }
    hob_text_puts(&t, "],");
    add_models(g, &t);
    hob_text_puts(&t, "}\n");
    hob_http_respond_json(c, &t);
    hob_text_free(&t);
}

/* {"model": name} */
static hob_link *named_model(hob_conn *c, json_t *body)
{
    const char *name = json_string_value(json_object_get(body, "model"));
    hob_api_error e;

    for (uint32_t i = 0; name && i < c->g->link_count; i++)
        if (strcmp(c->g->links[i].model->name, name) == 0)
            return &c->g->links[i];
    if (name)
        hob_api_fail(&e, 404, "invalid_request_error", "model_not_found", "model",
                     "the model '%.100s' does not exist", name);
    else
        hob_api_bad(&e, "missing_required_parameter", "model", "model is needed: its name");
    hob_http_error(c, &e);
    return NULL;
}

static void serve_load(hob_conn *c, json_t *body)
{
    hob_link *l = named_model(c, body);
    if (!l)
        return;
    hob_link_reload(l);
    hob_audit_act(c, l->model->name);
    serve_status(c, NULL);
}

static void serve_unload(hob_conn *c, json_t *body)
{
    hob_link *l = named_model(c, body);
    if (!l)
        return;
    hob_link_unload(l);
    hob_audit_act(c, l->model->name);
    serve_status(c, NULL);
}

static const hob_admin_route routes[] = {
    {"GET", "/hob/v1/admin/status", serve_status},
    {"POST", "/hob/v1/admin/models/load", serve_load},
    {"POST", "/hob/v1/admin/models/unload", serve_unload},
};

/* A route that ends with a slash is that of all names behind it. */
static bool is_at(const char *route, const char *path)
{
    const size_t len = strlen(route);
    return route[len - 1] == '/' ? strncmp(route, path, len) == 0 && path[len] != '\0'
                                 : strcmp(route, path) == 0;
}

static const hob_admin_route *find(const hob_admin_route *list, size_t count, const char *method,
                                   const char *path)
{
    for (size_t i = 0; i < count; i++)
        if (is_at(list[i].path, path) && (!method || strcmp(list[i].method, method) == 0))
            return &list[i];
    return NULL;
}

const hob_admin_route *hob_admin_find(const char *method, const char *path)
{
    const hob_admin_route *r = find(routes, sizeof routes / sizeof *routes, method, path);
    r = r ? r : find(hob_admin_key_routes, HOB_ADMIN_KEY_ROUTES, method, path);
    r = r ? r : find(hob_admin_store_routes, HOB_ADMIN_STORE_ROUTES, method, path);
    r = r ? r : find(hob_admin_trace_routes, HOB_ADMIN_TRACE_ROUTES, method, path);
    return r ? r : find(hob_admin_log_routes, HOB_ADMIN_LOG_ROUTES, method, path);
}
