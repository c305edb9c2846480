/* SPDX-License-Identifier: Apache-2.0
 *
 * Compiling and rendering: puts the parts together, sets the bounds of a rendering and hands out
 * its text with the ranges that are trusted. See template.h and template_internal.h. */
#include "models/template_internal.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_BASE 1000000u /* from_json adds to it for each value of the input */
#define VALUES_BASE ((size_t)16 << 20)

int hob_template_compile(const char *source, size_t len, hob_template **ret, hob_diag *diag)
{
    tmpl_tokens tokens = {0};
    int rc;
    hob_template *t = calloc(1, sizeof *t);
    if (!t)
        return hob_fail(diag, HOB_ENOMEM, "template: no memory");
    t->arena.max_bytes = TMPL_COMPILED_MAX;
    if ((rc = hob_tmpl_lex(&t->arena, source, len, &tokens, diag)) < 0)
        goto fail;
    if ((rc = hob_tmpl_parse(&t->arena, &tokens, &t->root, diag)) < 0)
        goto fail;
    free(tokens.data);
    *ret = t;
    return 0;
fail:
    free(tokens.data);
    hob_template_free(t);
    return rc;
}

void hob_template_free(hob_template *t)
{
    if (!t)
        return;
    hob_tmpl_arena_free(&t->arena);
    free(t);
}

void hob_rendered_free(hob_rendered *r)
{
    free(r->text);
    free(r->trusted);
    *r = (hob_rendered){0};
}

static bool load_variables(tmpl_run *r, json_t *from, bool trusted)
{
    const char *key;
    json_t *item;
    if (from && !json_is_object(from))
        return hob_tmpl_fail(r, HOB_EINVAL, "the variables are not an object");
    json_object_foreach(from, key, item)
    {
        tmpl_value name, value;
        if (!hob_tmpl_str_ref(r, key, strlen(key), trusted, &name) ||
            !hob_tmpl_from_json(r, item, trusted, 0, &value) ||
            !hob_tmpl_dict_set(r, r->variables, name, value))
            return false;
    }
    return true;
}

static size_t input_bytes(json_t *j, unsigned depth)
{
    size_t n = 64, i;
    const char *key;
    json_t *item;
    if (depth > TMPL_DATA_DEPTH)
        return n; /* refused when it is loaded */
    if (json_is_string(j))
        return n + json_string_length(j);
    if (json_is_array(j)) {
        json_array_foreach(j, i, item) n += input_bytes(item, depth + 1);
    } else if (json_is_object(j)) {
        json_object_foreach(j, key, item) n += 64 + strlen(key) + input_bytes(item, depth + 1);
    }
    return n;
}

int hob_template_render(const hob_template *t, json_t *variables, json_t *trusted_variables,
                        size_t max_bytes, hob_rendered *ret, hob_diag *diag)
{
    tmpl_scope scope = {0};
    tmpl_buf out = {0};
    tmpl_value text = {0};
    hob_rendered made = {0};
    tmpl_run r = {.diag = diag, .scope = &scope, .out = &out, .line = 1};
    r.max_bytes = max_bytes ? max_bytes : TMPL_OUTPUT_DEFAULT;
    r.steps_left = r.steps_max = STEPS_BASE;
    size_t input = input_bytes(variables, 0), room;
    if (!hob_mul_size(r.max_bytes, 4, &r.arena.max_bytes) || !hob_mul_size(input, 4, &room) ||
        !hob_add_size(room, VALUES_BASE, &room) ||
        !hob_add_size(r.arena.max_bytes, room, &r.arena.max_bytes))
        return hob_fail(diag, HOB_ELIMIT, "template: bounds of %zu bytes are too large",
                        r.max_bytes);
    /* trusted variables last: no field of a request can stand in for bos_token */
    if (!hob_tmpl_dict_new(&r, 8, &r.variables) || !load_variables(&r, variables, false) ||
        !load_variables(&r, trusted_variables, true))
        goto fail;
    if (!hob_tmpl_exec(&r, t->root) || !hob_tmpl_buf_str(&r, &out, &text))
        goto fail;
    made.len = text.u.s->len;
    made.text = malloc(made.len + 1);
    if (out.range_count > 0)
        made.trusted = malloc(out.range_count * sizeof *made.trusted);
    if (!made.text || (out.range_count > 0 && !made.trusted)) {
        hob_tmpl_fail(&r, HOB_ENOMEM, "no memory for %zu bytes of output", made.len);
        goto fail;
    }
    memcpy(made.text, text.u.s->s, made.len);
    made.text[made.len] = 0;
    if (out.range_count > 0)
        memcpy(made.trusted, out.ranges, out.range_count * sizeof *made.trusted);
    made.trusted_count = out.range_count;
    hob_tmpl_arena_free(&r.arena);
    *ret = made;
    return 0;
fail:
    hob_rendered_free(&made);
    hob_tmpl_arena_free(&r.arena);
    return r.error;
}
