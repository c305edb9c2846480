/* SPDX-License-Identifier: Apache-2.0
 *
 * Vector stores and files of a server. See documents.h. */
#include "daemon/ctl/documents.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOUNDARY "hobctl-7d41f2c9a85e"

int hob_documents_call(const hob_server *s, const char *method, const char *path, json_t *body,
                       json_t **ret, hob_diag *diag)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    hob_call call = {
        .method = method, .path = path, .body = text, .body_len = text ? strlen(text) : 0};
    const int r = body && !text ? hob_fail(diag, HOB_ENOMEM, "no memory for a request")
                                : hob_client_json(s, &call, ret, diag);
    free(text);
    json_decref(body);
    return r;
}

static int take_id(const json_t *answer, char ret[HOB_CTL_ID_MAX], hob_diag *diag)
{
    const char *id = json_string_value(json_object_get(answer, "id"));
    if (!id || strlen(id) >= HOB_CTL_ID_MAX ||
        strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") !=
            strlen(id))
        return hob_fail(diag, HOB_EFORMAT, "the server's answer has no id");
    snprintf(ret, HOB_CTL_ID_MAX, "%s", id);
    return 0;
}

static int take_store(const json_t *answer, hob_ctl_collection *ret, hob_diag *diag)
{
    const long long most = hob_json_number(answer, "hob_max_file_bytes");
    ret->max_file_bytes = most > 0 ? (uint64_t)most : 0;
    return take_id(answer, ret->id, diag);
}

static int take_named(void *user, const json_t *one, hob_diag *diag)
{
    void **u = user;
    hob_ctl_collection *ret = u[1];
    const char *name = json_string_value(json_object_get(one, "name"));
    return ret->id[0] || !name || strcmp(name, u[0]) != 0 ? 0 : take_store(one, ret, diag);
}

int hob_documents_store(const hob_server *s, const char *name, bool make, hob_ctl_collection *ret,
                        hob_diag *diag)
{
    json_t *answer = NULL, *body;
    *ret = (hob_ctl_collection){0};
    if (!make) { /* the first that was made, as the server finds it, too */
        void *user[] = {(void *)(uintptr_t)name, ret};
        const int r = hob_documents_each(s, "/v1/vector_stores?order=asc&", take_named, user, diag);
        return r < 0 || ret->id[0]
                   ? r
                   : hob_fail(diag, HOB_ENOENT,
                              "the server has no vector store with the name \"%.100s\"", name);
    }
    body = json_pack("{s:s, s:b}", "name", name, "hob_if_missing", 1);
    if (!body)
        return hob_fail(diag, HOB_EINVAL, "--store: the name is not valid UTF-8");
    int r = hob_documents_call(s, "POST", "/v1/vector_stores", body, &answer, diag);
    if (r == 0)
        r = take_store(answer, ret, diag);
    json_decref(answer);
    return r;
}

/* path ends in '?' or '&'. */
int hob_documents_each(const hob_server *s, const char *path, hob_documents_visit *visit,
                       void *user, hob_diag *diag)
{
    char page[400], last[HOB_CTL_ID_MAX] = "";
    bool more = true;
    int r = 0;
    while (r == 0 && more) {
        json_t *answer = NULL, *list, *one;
        size_t i;
        snprintf(page, sizeof page, "%slimit=100%s%s", path, last[0] ? "&after=" : "", last);
        if ((r = hob_documents_call(s, "GET", page, NULL, &answer, diag)) < 0)
            return r;
        list = json_object_get(answer, "data");
        json_array_foreach(list, i, one)
        {
            if (r == 0 && (r = visit(user, one, diag)) == 0)
                r = take_id(one, last, diag);
        }
        more = json_is_true(json_object_get(answer, "has_more")) && json_array_size(list) > 0;
        json_decref(answer);
    }
    return r;
}

/* ---- upload ---- */

typedef struct upload {
    FILE *file;
    const char *path, *head, *tail;
    size_t head_len, tail_len, at;
    uint64_t bytes;
} upload;

/* Head, file, tail, whatever of them the next len bytes are. */
static int read_form(void *user, char *to, size_t len, hob_diag *diag)
{
    upload *u = user;
    while (len > 0) {
        size_t n;
        if (u->at < u->head_len) {
            n = u->head_len - u->at < len ? u->head_len - u->at : len;
            memcpy(to, u->head + u->at, n);
        } else if (u->at < u->head_len + u->bytes) {
            const uint64_t left = u->head_len + u->bytes - u->at;
            n = left < len ? (size_t)left : len;
            if (fread(to, 1, n, u->file) != n)
                return hob_fail(diag, HOB_EIO, "%.150s: %s", u->path,
                                ferror(u->file) ? strerror(errno)
                                                : "it became shorter while it was read");
        } else {
            const size_t from = u->at - u->head_len - (size_t)u->bytes;
            n = u->tail_len - from < len ? u->tail_len - from : len;
            memcpy(to, u->tail + from, n);
        }
        u->at += n;
        to += n;
        len -= n;
    }
    return 0;
}

/* A file's name as the form has it: quotation marks and line ends would end it. */
static void quote(const char *name, char *ret, size_t size)
{
    size_t n = 0;
    for (; *name && n + 4 < size; name++)
        if (*name == '"')
            n += (size_t)snprintf(ret + n, size - n, "%%22");
        else
            ret[n++] = (unsigned char)*name < 0x20 || *name == 0x7f ? '_' : *name;
    ret[n] = '\0';
}

int hob_documents_upload(const hob_server *s, const char *path, const char *name, uint64_t bytes,
                         const volatile sig_atomic_t *stop, char ret[HOB_CTL_ID_MAX],
                         hob_diag *diag)
{
    static const char tail[] = "\r\n--" BOUNDARY "--\r\n";
    char quoted[1600], head[2048];
    json_t *answer = NULL;
    upload u = {
        .path = path, .head = head, .tail = tail, .tail_len = sizeof tail - 1, .bytes = bytes};
    quote(name, quoted, sizeof quoted);
    u.head_len = (size_t)snprintf(
        head, sizeof head,
        "--" BOUNDARY "\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\n"
        "assistants\r\n--" BOUNDARY
        "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"%s\"\r\n\r\n",
        quoted);
    if (!(u.file = fopen(path, "re")))
        return hob_fail(diag, HOB_EIO, "%.150s: %s", path, strerror(errno));
    hob_call call = {.method = "POST",
                     .path = "/v1/files",
                     .body_len = u.head_len + (size_t)bytes + u.tail_len,
                     .source = read_form,
                     .source_user = &u,
                     .type = "multipart/form-data; boundary=" BOUNDARY,
                     .stop = stop};
    int r = hob_client_json(s, &call, &answer, diag);
    fclose(u.file);
    if (r == 0)
        r = take_id(answer, ret, diag);
    json_decref(answer);
    return r;
}
