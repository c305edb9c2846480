/* SPDX-License-Identifier: Apache-2.0
 *
 * See samples.h. Format: prometheus.io/docs/instrumenting/exposition_formats. */
#include "daemon/ctl/samples.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX = 64 };

static const char bucket[] = "_bucket";

/* ---- one line ---- */

typedef struct line {
    const char *at, *end;
} line;

static bool starts_name(char c)
{
    return isalpha((unsigned char)c) || c == '_' || c == ':';
}

/* How long the name at l->at is, which l passes; 0: there is none. */
static size_t take_name(line *l)
{
    const char *begin = l->at;
    if (l->at < l->end && starts_name(*l->at))
        while (l->at < l->end && (starts_name(*l->at) || isdigit((unsigned char)*l->at)))
            l->at++;
    return (size_t)(l->at - begin);
}

static bool take(line *l, char c)
{
    if (l->at == l->end || *l->at != c)
        return false;
    l->at++;
    return true;
}

static void skip_blanks(line *l)
{
    while (l->at < l->end && (*l->at == ' ' || *l->at == '\t'))
        l->at++;
}

/* A quoted value; what is between the quotes goes to *ret, escapes as they are. */
static bool take_value(line *l, line *ret)
{
    if (!take(l, '"'))
        return false;
    ret->at = l->at;
    while (l->at < l->end && *l->at != '"') {
        if (*l->at == '\\' && l->end - l->at < 2)
            return false;
        l->at += *l->at == '\\' ? 2 : 1;
    }
    ret->end = l->at;
    return take(l, '"');
}

/* name="value", and the comma behind it. *ret_name_len 0: there are no more labels. */
static bool take_label(line *l, const char **ret_name, size_t *ret_name_len, line *ret_value)
{
    skip_blanks(l);
    *ret_name = l->at;
    *ret_name_len = take_name(l);
    if (*ret_name_len == 0)
        return true;
    skip_blanks(l);
    if (!take(l, '='))
        return false;
    skip_blanks(l);
    if (!take_value(l, ret_value))
        return false;
    skip_blanks(l);
    return take(l, ',') || l->at == l->end || *l->at == '}';
}

static bool take_labels(line *l, const char *text, hob_sample *ret)
{
    const char *name;
    size_t len;
    line value;

    ret->labels = (uint32_t)(l->at - text);
    do {
        if (!take_label(l, &name, &len, &value))
            return false;
    } while (len > 0);
    ret->labels_len = (uint32_t)(l->at - text) - ret->labels;
    return take(l, '}');
}

static bool take_number(line *l, double *ret)
{
    char text[NUMBER_MAX], *end;
    size_t n = 0;
    skip_blanks(l);
    while (l->at < l->end && *l->at != ' ' && *l->at != '\t' && n + 1 < sizeof text)
        text[n++] = *l->at++;
    text[n] = '\0';
    *ret = strtod(text, &end);
    return n > 0 && *end == '\0' && !isspace((unsigned char)text[0]);
}

/* False: the line breaks the format. */
static bool read_sample(line l, const char *text, hob_sample *ret)
{
    double time;
    ret->name = (uint32_t)(l.at - text);
    ret->name_len = (uint32_t)take_name(&l);
    if (ret->name_len == 0)
        return false;
    skip_blanks(&l);
    ret->labels = ret->labels_len = 0;
    if (take(&l, '{') && !take_labels(&l, text, ret))
        return false;
    if (!take_number(&l, &ret->value))
        return false;
    skip_blanks(&l);
    if (l.at < l.end && !take_number(&l, &time))
        return false;
    skip_blanks(&l);
    return l.at == l.end;
}

/* ---- the text ---- */

static bool is_bucket(const char *text, const hob_sample *s)
{
    const size_t n = sizeof bucket - 1;
    return s->name_len > n && memcmp(text + s->name + s->name_len - n, bucket, n) == 0;
}

static int add(hob_samples *s, uint32_t *capacity, const hob_sample *one, hob_diag *diag)
{
    if (s->count == HOB_SAMPLES_MAX)
        return hob_fail(diag, HOB_ELIMIT, "metrics: more than %d samples", HOB_SAMPLES_MAX);
    if (s->count == *capacity) {
        const uint32_t grown = *capacity ? 2 * *capacity : 256;
        hob_sample *list = realloc(s->list, grown * sizeof *list);
        if (!list)
            return hob_fail(diag, HOB_ENOMEM, "no memory for metrics");
        s->list = list;
        *capacity = grown;
    }
    s->list[s->count++] = *one;
    return 0;
}

int hob_samples_read(char *text, size_t len, hob_samples *ret, hob_diag *diag)
{
    const char *at = text, *end = text + len;
    uint32_t capacity = 0, number = 0;
    hob_sample one;
    int code;

    *ret = (hob_samples){.text = text};
    if (len > UINT32_MAX)
        return hob_fail(diag, HOB_ELIMIT, "metrics: %zu bytes; allowed are %u", len, UINT32_MAX);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        line l = {at, newline ? newline : end};
        number++;
        at = newline ? newline + 1 : end;
        skip_blanks(&l);
        if (l.at == l.end || *l.at == '#')
            continue;
        if (!read_sample(l, text, &one))
            return hob_fail(diag, HOB_EFORMAT, "metrics, line %u: \"%.*s\" is no sample", number,
                            (int)(l.end - l.at < 60 ? l.end - l.at : 60), l.at);
        if (!is_bucket(text, &one) && (code = add(ret, &capacity, &one, diag)) < 0)
            return code;
    }
    return 0;
}

void hob_samples_free(hob_samples *s)
{
    free(s->text);
    free(s->list);
    *s = (hob_samples){0};
}

/* ---- looking up ---- */

const hob_sample *hob_samples_next(const hob_samples *s, const char *name, const hob_sample *after)
{
    const size_t len = strlen(name);
    for (uint32_t i = after ? (uint32_t)(after - s->list) + 1 : 0; i < s->count; i++)
        if (s->list[i].name_len == len && memcmp(s->text + s->list[i].name, name, len) == 0)
            return &s->list[i];
    return NULL;
}

bool hob_sample_label(const hob_samples *s, const hob_sample *one, const char *label, char *ret,
                      size_t size)
{
    line l = {s->text + one->labels, s->text + one->labels + one->labels_len}, value;
    const size_t len = strlen(label);
    const char *name;
    size_t name_len, n = 0;

    do {
        if (!take_label(&l, &name, &name_len, &value) || name_len == 0)
            return false;
    } while (name_len != len || memcmp(name, label, len) != 0);
    while (value.at < value.end && n + 1 < size) {
        const bool escaped = *value.at == '\\';
        value.at += escaped;
        ret[n++] = escaped && *value.at == 'n' ? '\n' : *value.at;
        value.at++;
    }
    ret[n] = '\0';
    return true;
}

double hob_samples_sum(const hob_samples *s, const char *name, const char *label, const char *value)
{
    char have[128];
    double sum = NAN;
    for (const hob_sample *one = NULL; (one = hob_samples_next(s, name, one));) {
        if (label &&
            (!hob_sample_label(s, one, label, have, sizeof have) || strcmp(have, value) != 0))
            continue;
        sum = isnan(sum) ? one->value : sum + one->value;
    }
    return sum;
}
