/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading hob.conf with libconfig, key by key along the table of fields.h. */
#include <errno.h>
#include <libconfig.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/conf/fields.h"
#include "daemon/conf/file.h"

enum { CONF_FILE_MAX = 1024 * 1024 };

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

static int read_number(const reader *r, const hob_field *f, const config_setting_t *s, void *base)
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
    if (f->kind == HOB_FIELD_U16) {
        uint16_t small = (uint16_t)v;
        memcpy((char *)base + f->offset, &small, sizeof small);
    } else {
        uint32_t value = (uint32_t)v;
        memcpy((char *)base + f->offset, &value, sizeof value);
    }
    return 0;
}

static int read_text(const reader *r, const hob_field *f, const config_setting_t *s, void *base)
{
    char what[80], allowed[64];
    const char *text;
    if (config_setting_type(s) != CONFIG_TYPE_STRING)
        return fail_type(r, s, CONFIG_TYPE_STRING);
    text = config_setting_get_string(s);
    if (f->words && !hob_field_word(f->words, text)) {
        snprintf(what, sizeof what, "is \"%.40s\"", text);
        snprintf(allowed, sizeof allowed, "one of%sis allowed", f->words);
        return fail_at(r, s, what, allowed);
    }
    if (f->kind == HOB_FIELD_KV) {
        hob_type type = strcmp(text, "q8_0") == 0 ? HOB_TYPE_Q8_0 : HOB_TYPE_F16;
        memcpy((char *)base + f->offset, &type, sizeof type);
        return 0;
    }
    if (!text[0])
        return fail_at(r, s, "is empty", "a text is needed");
    if (f->kind == HOB_FIELD_PATH) {
        snprintf(allowed, sizeof allowed, "%zu bytes with the folder are allowed", f->size - 1);
        if (hob_path_join((char *)base + f->offset, f->size, r->dir, text, NULL) < 0)
            return fail_at(r, s, "is too long", allowed);
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

static int read_bool(const reader *r, const hob_field *f, const config_setting_t *s, void *base)
{
    if (config_setting_type(s) != CONFIG_TYPE_BOOL)
        return fail_type(r, s, CONFIG_TYPE_BOOL);
    const bool value = config_setting_get_bool(s) != 0;
    memcpy((char *)base + f->offset, &value, sizeof value);
    return 0;
}

static int read_list(const reader *r, const hob_field *f, const config_setting_t *s, void *base)
{
    hob_conf_list *list = (hob_conf_list *)(void *)((char *)base + f->offset);
    char allowed[64];
    const int n = config_setting_length(s);
    if (config_setting_type(s) != CONFIG_TYPE_LIST && config_setting_type(s) != CONFIG_TYPE_ARRAY)
        return fail_type(r, s, CONFIG_TYPE_LIST);
    snprintf(allowed, sizeof allowed, "%d are allowed", HOB_CONF_TEXTS_MAX);
    if (n > HOB_CONF_TEXTS_MAX)
        return fail_at(r, s, "too many entries", allowed);
    for (int i = 0; i < n; i++) {
        const char *text = config_setting_get_string_elem(s, i);
        if (!text || !text[0] || strlen(text) >= sizeof list->text[0])
            return fail_at(r, s, "has an entry that is no text of 1 to 255 bytes",
                           "texts between quotes are allowed");
        snprintf(list->text[list->count++], sizeof list->text[0], "%s", text);
    }
    return 0;
}

static int read_field(const reader *r, const hob_field *f, const config_setting_t *s, void *base)
{
    switch (f->kind) {
    case HOB_FIELD_U16:
    case HOB_FIELD_U32: return read_number(r, f, s, base);
    case HOB_FIELD_BOOL: return read_bool(r, f, s, base);
    case HOB_FIELD_LIST: return read_list(r, f, s, base);
    default: return read_text(r, f, s, base);
    }
}

static int read_group(const reader *r, const config_setting_t *group, const char *group_name,
                      const hob_field_table *table, void *base);

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
        code = read_group(r, entry, "", &hob_model_fields, &c->models[i]);
        if (code < 0)
            return code;
        c->model_count = (uint32_t)i + 1;
        code = hob_conf_check_model(c, (uint32_t)i, &text);
        if (code < 0)
            return hob_fail(r->diag, HOB_EFORMAT, "%.100s:%u: %.150s", r->path,
                            config_setting_source_line(entry), text.text);
    }
    return 0;
}

static int read_listeners(const reader *r, const config_setting_t *list, hob_conf *c)
{
    int n = config_setting_length(list);
    if (config_setting_type(list) != CONFIG_TYPE_LIST)
        return fail_type(r, list, CONFIG_TYPE_LIST);
    if (n > HOB_CONF_LISTENERS_MAX)
        return fail_at(r, list, "too many entries", "8 are allowed");
    for (int i = 0; i < n; i++) {
        const config_setting_t *entry = config_setting_get_elem(list, (unsigned)i);
        hob_conf_listener *l = &c->listeners[c->listener_count++];
        hob_diag text;
        if (config_setting_type(entry) != CONFIG_TYPE_GROUP)
            return fail_type(r, entry, CONFIG_TYPE_GROUP);
        int code = read_group(r, entry, "", &hob_listener_fields, l);
        if (code < 0)
            return code;
        code = hob_conf_check_listener(l, (uint32_t)i, &text);
        if (code < 0)
            return hob_fail(r->diag, HOB_EFORMAT, "%.100s:%u: %.150s", r->path,
                            config_setting_source_line(entry), text.text);
    }
    return 0;
}

static bool is_group(const hob_field_table *table, const char *name)
{
    for (size_t i = 0; i < table->count; i++)
        if (name[0] && strcmp(table->list[i].group, name) == 0)
            return true;
    return false;
}

static int read_group(const reader *r, const config_setting_t *group, const char *group_name,
                      const hob_field_table *table, void *base)
{
    int n = config_setting_length(group), code = 0;
    for (int i = 0; i < n && code == 0; i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(s);
        const hob_field *f = NULL;
        for (size_t j = 0; j < table->count; j++)
            if (strcmp(table->list[j].group, group_name) == 0 &&
                strcmp(table->list[j].key, name) == 0)
                f = &table->list[j];
        if (f) {
            code = read_field(r, f, s, base);
        } else if (!group_name[0] && table == &hob_top_fields && is_group(table, name)) {
            code = config_setting_type(s) != CONFIG_TYPE_GROUP
                       ? fail_type(r, s, CONFIG_TYPE_GROUP)
                       : read_group(r, s, name, table, base);
        } else if (!group_name[0] && table == &hob_top_fields && strcmp(name, "models") == 0) {
            code = read_models(r, s, base);
        } else if (!group_name[0] && table == &hob_top_fields && strcmp(name, "listeners") == 0) {
            code = read_listeners(r, s, base);
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
    code = read_group(&r, config_root_setting(&file), "", &hob_top_fields, c);
    if (code == 0 && !c->store[0])
        code = hob_path_join(c->store, sizeof c->store, r.dir, "hob.db", diag);
    if (code == 0 && !c->admin_socket[0])
        code =
            hob_path_join(c->admin_socket, sizeof c->admin_socket, r.dir, "hob.sock", NULL) < 0
                ? hob_fail(diag, HOB_EFORMAT,
                           "%.150s: admin_socket is missing, and hob.sock beside this file would "
                           "have a path longer than %zu bytes",
                           path, sizeof c->admin_socket - 1)
                : 0;
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
