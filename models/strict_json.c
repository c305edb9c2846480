/* SPDX-License-Identifier: Apache-2.0
 *
 * Hostile JSON documents. See strict_json.h. jansson's own limit of nesting is 2,048 and a recursion each, so the text is
 * looked over before it is parsed. */
#include "models/strict_json.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The deepest nesting of brackets outside strings, wrong ones included. */
static int nesting(const char *text, size_t len)
{
    int depth = 0, most = 0;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (in_string) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                in_string = false;
            continue;
        }
        switch (text[i]) {
        case '"': in_string = true; break;
        case '{':
        case '[':
            if (++depth > most)
                most = depth;
            if (most > HOB_STRICT_DEPTH_MAX)
                return most;
            break;
        case '}':
        case ']': depth--; break;
        default: break;
        }
    }
    return most;
}

int hob_strict_parse(const char *what, const char *text, size_t len, json_t **ret, hob_diag *diag)
{
    json_error_t error;
    if (nesting(text, len) > HOB_STRICT_DEPTH_MAX)
        return hob_fail(diag, HOB_EFORMAT, "%s: JSON nested deeper than the %d levels allowed",
                        what, HOB_STRICT_DEPTH_MAX);
    json_t *parsed = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!parsed)
        return json_error_code(&error) == json_error_out_of_memory
                   ? hob_fail(diag, HOB_ENOMEM, "%s: no memory for %zu bytes of JSON", what, len)
                   : hob_fail(diag, HOB_EFORMAT, "%s: line %d column %d: %s", what, error.line,
                              error.column, error.text);
    *ret = parsed;
    return 0;
}

int hob_strict_read_text(const char *dir, const char *name, size_t max, char **ret, size_t *ret_len,
                         hob_diag *diag)
{
    char path[PATH_MAX];
    struct stat st;
    char *data = NULL;
    size_t len = 0, size;
    int rc = 0, fd, n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return hob_fail(diag, HOB_ELIMIT, "%s: its path is longer than the %d bytes allowed", name,
                        PATH_MAX - 1);
    /* O_NONBLOCK: a FIFO in the file's place must not hang the open. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return hob_fail(diag, errno == ENOENT || errno == ENOTDIR ? HOB_ENOENT : HOB_EIO, "%s: %s",
                        name, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        rc = hob_fail(diag, HOB_EIO, "%s: not a regular file", name);
        goto fail;
    }
    if ((uint64_t)st.st_size > max) {
        rc = hob_fail(diag, HOB_ELIMIT, "%s: got %lld bytes, allowed are %zu", name,
                      (long long)st.st_size, max);
        goto fail;
    }
    size = (size_t)st.st_size;
    data = malloc(size + 1);
    if (!data) {
        rc = hob_fail(diag, HOB_ENOMEM, "%s: no memory for its %zu bytes", name, size);
        goto fail;
    }
    while (len < size) {
        const ssize_t got = read(fd, data + len, size - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            rc = hob_fail(diag, HOB_EIO, "%s: cannot read byte %zu of %zu: %s", name, len, size,
                          got < 0 ? strerror(errno) : "the file has become shorter");
            goto fail;
        }
        len += (size_t)got;
    }
    data[len] = 0;
    *ret = data;
    *ret_len = len;
    data = NULL;
fail:
    free(data);
    close(fd);
    return rc;
}

int hob_strict_read(const char *dir, const char *name, size_t max, json_t **ret, hob_diag *diag)
{
    char *text = NULL;
    size_t len = 0;
    int rc = hob_strict_read_text(dir, name, max, &text, &len, diag);
    if (rc < 0)
        return rc;
    rc = hob_strict_parse(name, text, len, ret, diag);
    free(text);
    if (rc == 0 && !json_is_object(*ret) && !json_is_array(*ret)) {
        json_decref(*ret);
        *ret = NULL;
        rc = hob_fail(diag, HOB_EFORMAT, "%s: got a bare value, allowed is an object or array",
                      name);
    }
    return rc;
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: return "null";
    }
    return "nothing";
}

/* NULL, with a diagnosis for a caller who needs the key: it is missing. */
static json_t *find(const char *what, const json_t *o, const char *key, hob_diag *diag)
{
    json_t *v = json_object_get(o, key);
    if (v && !json_is_null(v))
        return v;
    hob_fail(diag, HOB_ENOENT, "%s: %s: the key is missing", what, key);
    return NULL;
}

static int wrong_type(const char *what, const char *key, const json_t *v, const char *allowed,
                      hob_diag *diag)
{
    return hob_fail(diag, HOB_EFORMAT, "%s: %s: got %s, allowed is %s", what, key, type_name(v),
                    allowed);
}

int hob_strict_u64(const char *what, const json_t *o, const char *key, uint64_t min, uint64_t max,
                   uint64_t *ret, hob_diag *diag)
{
    json_t *v = find(what, o, key, diag);
    if (!v)
        return HOB_ENOENT;
    if (!json_is_integer(v))
        return wrong_type(what, key, v, "an integer", diag);
    const json_int_t i = json_integer_value(v);
    if (i < 0 || (uint64_t)i < min || (uint64_t)i > max)
        return hob_fail(diag, HOB_EFORMAT, "%s: %s: got %lld, allowed are %llu to %llu", what, key,
                        (long long)i, (unsigned long long)min, (unsigned long long)max);
    *ret = (uint64_t)i;
    return 0;
}

int hob_strict_number(const char *what, const json_t *o, const char *key, double min, double max,
                      double *ret, hob_diag *diag)
{
    json_t *v = find(what, o, key, diag);
    if (!v)
        return HOB_ENOENT;
    if (!json_is_number(v))
        return wrong_type(what, key, v, "a number", diag);
    const double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return hob_fail(diag, HOB_EFORMAT, "%s: %s: got %g, allowed are %g to %g", what, key, d,
                        min, max);
    *ret = d;
    return 0;
}

int hob_strict_bool(const char *what, const json_t *o, const char *key, bool *ret, hob_diag *diag)
{
    json_t *v = find(what, o, key, diag);
    if (!v)
        return HOB_ENOENT;
    if (!json_is_boolean(v))
        return wrong_type(what, key, v, "true or false", diag);
    *ret = json_is_true(v);
    return 0;
}

int hob_strict_string(const char *what, const json_t *o, const char *key, const char **ret,
                      hob_diag *diag)
{
    json_t *v = find(what, o, key, diag);
    if (!v)
        return HOB_ENOENT;
    if (!json_is_string(v))
        return wrong_type(what, key, v, "a string", diag);
    *ret = json_string_value(v);
    return 0;
}

int hob_strict_member(const char *what, const json_t *o, const char *key, json_type type,
                      json_t **ret, hob_diag *diag)
{
    json_t *v = find(what, o, key, diag);
    if (!v)
        return HOB_ENOENT;
    if (json_typeof(v) != type)
        return wrong_type(what, key, v, type == JSON_OBJECT ? "an object" : "an array", diag);
    *ret = v;
    return 0;
}
