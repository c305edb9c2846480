/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks the tree of a template. Scopes are chained from the innermost out; a name that none has is
 * one of the caller's variables, then a global function, then undefined. Loops, macros and blocks
 * that capture text have scopes of their own, if does not. Each step is counted and the depth of
 * the walk is bounded, so that a macro that calls itself ends in HOB_ELIMIT and not at the end of
 * the C stack. */
#include "models/template_internal.h"

#include <string.h>

typedef enum { FLOW_FAILED, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

static bool eval(tmpl_run *r, const tmpl_node *n, tmpl_value *ret);
static flow exec(tmpl_run *r, const tmpl_node *n);

static bool enter(tmpl_run *r, const tmpl_node *n)
{
    r->line = n->line;
    if (++r->depth > TMPL_EVAL_DEPTH)
        return hob_tmpl_fail(r, HOB_ELIMIT, "evaluation deeper than %d", TMPL_EVAL_DEPTH);
    return hob_tmpl_charge(r, 1);
}

/* --- variables --- */
static bool same_name(const tmpl_str *a, const tmpl_str *b)
{
    return a->len == b->len && memcmp(a->s, b->s, a->len) == 0;
}

static bool set_var(tmpl_run *r, tmpl_scope *scope, const tmpl_str *name, tmpl_value value)
{
    size_t looks = 0;
    for (tmpl_var *v = scope->vars; v; v = v->next, looks++) {
        if (same_name(v->name, name)) {
            v->value = value;
            return hob_tmpl_charge(r, looks / 16);
        }
    }
    if (!hob_tmpl_charge(r, looks / 16))
        return false;
    tmpl_var *v = hob_tmpl_run_alloc(r, 1, sizeof *v);
    if (!v)
        return false;
    *v = (tmpl_var){scope->vars, name, value};
    scope->vars = v;
    return true;
}

static bool lookup(tmpl_run *r, const tmpl_str *name, tmpl_value *ret)
{
    size_t looks = 0;
    for (const tmpl_scope *s = r->scope; s; s = s->parent) {
        for (const tmpl_var *v = s->vars; v; v = v->next, looks++) {
            if (tmpl_given(v->value) && same_name(v->name, name)) {
                *ret = v->value;
                return hob_tmpl_charge(r, looks / 16);
            }
        }
    }
    tmpl_value *hit;
    if (!hob_tmpl_charge(r, looks / 16) ||
        !hob_tmpl_dict_find(r, r->variables, name->s, name->len, &hit))
        return false;
    if (hit) {
        *ret = *hit;
        return true;
    }
    const tmpl_builtin *b = hob_tmpl_global(name->s, name->len);
    if (b) {
        *ret = (tmpl_value){.kind = TV_BUILTIN, .trusted = true, .u.builtin = b};
        return true;
    }
    return hob_tmpl_undefined(r, name->s, name->len, ret);
}

static bool push_scope(tmpl_run *r)
{
    tmpl_scope *s = hob_tmpl_run_alloc(r, 1, sizeof *s);
    if (!s)
        return false;
    s->parent = r->scope;
    r->scope = s;
    return true;
}

static void pop_scope(tmpl_run *r)
{
    r->scope = r->scope->parent;
}

static bool assign(tmpl_run *r, const tmpl_node *target, tmpl_value value)
{
    if (target->kind == N_NAME)
        return set_var(r, r->scope, target->name, value);
    if (target->kind == N_ATTR) {
        tmpl_value ns, name = tmpl_string(target->name);
        if (!lookup(r, target->a->name, &ns))
            return false;
        if (ns.kind != TV_NAMESPACE)
            return hob_tmpl_fail(r, HOB_EINVAL,
                                 "set: \"%.*s\" is a %s, only a namespace's attributes can be set",
                                 (int)(target->a->name->len < 40 ? target->a->name->len : 40),
                                 target->a->name->s, hob_tmpl_type_name(ns));
        return hob_tmpl_dict_set(r, ns.u.dict, name, value);
    }
    tmpl_list *l;
    if (!hob_tmpl_require(r, value) || !hob_tmpl_iterate(r, value, &l))
        return false;
    if (l->count != target->count)
        return hob_tmpl_fail(r, HOB_EINVAL, "%zu values to unpack, %zu wanted", l->count,
                             target->count);
    for (size_t i = 0; i < target->count; i++) {
        if (!assign(r, target->items[i], l->items[i]))
            return false;
    }
    return true;
}

/* --- calls --- */
static __attribute__((noinline)) bool eval_args(tmpl_run *r, const tmpl_node *n,
                                                const tmpl_value *first, tmpl_args *ret)
{
    size_t extra = first != NULL;
    *ret = (tmpl_args){.count = n->count + extra, .names = n->names, .named_count = n->named_count};
    if (ret->count > 0 && !(ret->pos = hob_tmpl_run_alloc(r, ret->count, sizeof *ret->pos)))
        return false;
    if (n->named_count > 0 &&
        !(ret->named = hob_tmpl_run_alloc(r, n->named_count, sizeof *ret->named)))
        return false;
    if (first)
        ret->pos[0] = *first;
    for (size_t i = 0; i < n->count; i++) {
        if (!eval(r, n->items[i], &ret->pos[i + extra]))
            return false;
    }
    for (size_t i = 0; i < n->named_count; i++) {
        if (!eval(r, n->named[i], &ret->named[i]))
            return false;
    }
    r->line = n->line;
    return true;
}

/* Runs a body into a buffer of its own. */
static bool capture(tmpl_run *r, const tmpl_node *body, tmpl_value *ret)
{
    tmpl_buf *outer = r->out, *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
    if (!b)
        return false;
    r->out = b;
    bool ok = exec(r, body) != FLOW_FAILED;
    r->out = outer;
    return ok && hob_tmpl_buf_str(r, b, ret);
}

/* What a call gave beyond the parameters: varargs, kwargs and caller, each only where the macro's
 * body names it. */
static bool extra_args(tmpl_run *r, const tmpl_node *n, const tmpl_args *args, const bool *used)
{
    static const tmpl_str varargs = {.s = "varargs", .len = 7}, kwargs = {.s = "kwargs", .len = 6},
                          caller = {.s = "caller", .len = 6};
    tmpl_value rest = {.kind = TV_TUPLE, .trusted = true},
               named = {.kind = TV_DICT, .trusted = true};
    tmpl_value call = {.kind = TV_MISSING};
    if (!hob_tmpl_list_new(r, 0, &rest.u.list) || !hob_tmpl_dict_new(r, 0, &named.u.dict))
        return false;
    for (size_t i = n->named_count; i < args->count; i++) {
        if (!(n->flags & TMPL_USES_VARARGS))
            return hob_tmpl_fail(r, HOB_EINVAL, "macro \"%.*s\" takes %zu arguments, got %zu",
                                 (int)(n->name->len < 40 ? n->name->len : 40), n->name->s,
                                 n->named_count, args->count);
        if (!hob_tmpl_list_push(r, rest.u.list, args->pos[i]))
            return false;
    }
    for (size_t i = 0; i < args->named_count; i++) {
        if (used[i])
            continue;
        if ((n->flags & TMPL_USES_CALLER) && same_name(args->names[i], &caller)) {
            call = args->named[i];
            continue;
        }
        if (!(n->flags & TMPL_USES_KWARGS))
            return hob_tmpl_fail(r, HOB_EINVAL, "macro \"%.*s\" has no parameter \"%.*s\"",
                                 (int)(n->name->len < 40 ? n->name->len : 40), n->name->s,
                                 (int)(args->names[i]->len < 40 ? args->names[i]->len : 40),
                                 args->names[i]->s);
        if (!hob_tmpl_dict_set(r, named.u.dict, tmpl_string(args->names[i]), args->named[i]))
            return false;
    }
    if ((n->flags & TMPL_USES_VARARGS) && !set_var(r, r->scope, &varargs, rest))
        return false;
    if ((n->flags & TMPL_USES_KWARGS) && !set_var(r, r->scope, &kwargs, named))
        return false;
    if (!(n->flags & TMPL_USES_CALLER))
        return true;
    if (!tmpl_given(call) && !hob_tmpl_undefined(r, "caller", 6, &call))
        return false;
    return set_var(r, r->scope, &caller, call);
}

static bool call_macro(tmpl_run *r, const tmpl_macro *m, const tmpl_args *args, tmpl_value *ret)
{
    const tmpl_node *n = m->node;
    tmpl_scope *outer = r->scope;
    r->scope = m->scope;
    bool *used = hob_tmpl_run_alloc(r, args->named_count, sizeof *used);
    if (!used || !push_scope(r) || !enter(r, n))
        return false;
    for (size_t i = 0; i < n->named_count; i++) {
        tmpl_value v = i < args->count ? args->pos[i] : (tmpl_value){.kind = TV_MISSING};
        for (size_t k = 0; k < args->named_count; k++) {
            if (!same_name(args->names[k], n->names[i]))
                continue;
            if (tmpl_given(v))
                return hob_tmpl_fail(r, HOB_EINVAL, "macro \"%.*s\" is given a parameter twice",
                                     (int)(n->name->len < 40 ? n->name->len : 40), n->name->s);
            v = args->named[k];
            used[k] = true;
        }
        if (!tmpl_given(v) && n->named[i] && !eval(r, n->named[i], &v))
            return false;
        if (!tmpl_given(v) && !hob_tmpl_undefined(r, n->names[i]->s, n->names[i]->len, &v))
            return false;
        if (!set_var(r, r->scope, n->names[i], v))
            return false;
    }
    if (!extra_args(r, n, args, used) || !capture(r, n->a, ret))
        return false;
    r->depth--;
    r->scope = outer;
    return true;
}

bool hob_tmpl_call(tmpl_run *r, tmpl_value callee, const tmpl_args *args, tmpl_value *ret)
{
    switch (callee.kind) {
    case TV_BUILTIN: return callee.u.builtin->call(r, tmpl_none(), args, ret);
    case TV_METHOD: return callee.u.method->builtin->call(r, callee.u.method->self, args, ret);
    case TV_MACRO: return call_macro(r, callee.u.macro, args, ret);
    case TV_JOINER: {
        tmpl_counter *c = callee.u.counter;
        if (c->next++ > 0)
            *ret = c->items.items[0];
        else
            return hob_tmpl_str_ref(r, "", 0, true, ret);
        return true;
    }
    default:
        return hob_tmpl_require(r, callee) &&
               hob_tmpl_fail(r, HOB_EINVAL, "a %s cannot be called", hob_tmpl_type_name(callee));
    }
}

/* --- expressions --- */
static __attribute__((noinline)) bool eval_call(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    tmpl_value callee;
    tmpl_args args;
    if (!eval(r, n->a, &callee) || !eval_args(r, n, NULL, &args) ||
        !hob_tmpl_call(r, callee, &args, ret))
        return false;
    r->line = n->line;
    return true;
}

static __attribute__((noinline)) bool eval_filter(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    tmpl_value input, result;
    tmpl_args args;
    if (!eval(r, n->a, &input) || !eval_args(r, n, &input, &args))
        return false;
    if (!n->builtin)
        return hob_tmpl_fail(r, HOB_EUNSUPPORTED, "no %s named \"%.*s\"",
                             n->kind == N_TEST ? "test" : "filter",
                             (int)(n->name->len < 40 ? n->name->len : 40), n->name->s);
    if (!n->builtin->call(r, tmpl_none(), &args, &result))
        return false;
    if (n->kind == N_TEST)
        result = tmpl_bool(result.u.b != (n->op != 0), result.trusted && tmpl_trusted(input));
    r->line = n->line;
    *ret = result;
    return true;
}

static __attribute__((noinline)) bool eval_items(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    *ret = (tmpl_value){.kind = n->kind == N_LIST ? TV_LIST : TV_TUPLE, .trusted = true};
    tmpl_list *l;
    if (!hob_tmpl_list_new(r, n->count, &l))
        return false;
    for (size_t i = 0; i < n->count; i++) {
        if (!eval(r, n->items[i], &l->items[i]))
            return false;
        l->count = i + 1;
    }
    ret->u.list = l;
    return true;
}

static __attribute__((noinline)) bool eval_dict(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    tmpl_value key, value;
    tmpl_dict *d;
    if (!hob_tmpl_dict_new(r, n->count / 2, &d))
        return false;
    for (size_t i = 0; i + 1 < n->count; i += 2) {
        if (!eval(r, n->items[i], &key) || !eval(r, n->items[i + 1], &value) ||
            !hob_tmpl_dict_set(r, d, key, value))
            return false;
    }
    *ret = (tmpl_value){.kind = TV_DICT, .trusted = true, .u.dict = d};
    return true;
}

static __attribute__((noinline)) bool eval_compare(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    tmpl_value left, right;
    bool result = true, trusted = true;
    if (!eval(r, n->a, &left))
        return false;
    for (size_t i = 0; i < n->count && result; i++) {
        if (!eval(r, n->items[i]->a, &right))
            return false;
        r->line = n->line;
        if (!hob_tmpl_compare(r, n->items[i]->op, left, right, &result))
            return false;
        trusted = trusted && tmpl_trusted(left) && tmpl_trusted(right);
        left = right;
    }
    *ret = tmpl_bool(result, trusted);
    return true;
}

static __attribute__((noinline)) bool eval_concat(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    tmpl_value all, v, text;
    if (!eval(r, n->items[0], &v) || !hob_tmpl_to_text(r, v, &all))
        return false;
    for (size_t i = 1; i < n->count; i++) {
        if (!eval(r, n->items[i], &v) || !hob_tmpl_to_text(r, v, &text) ||
            !hob_tmpl_concat(r, all.u.s, text.u.s, &all))
            return false;
    }
    *ret = all;
    return true;
}

static __attribute__((noinline)) bool eval_slice(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    tmpl_value v, bounds[3];
    if (!eval(r, n->a, &v))
        return false;
    for (size_t i = 0; i < 3; i++) {
        bounds[i] = (tmpl_value){.kind = TV_MISSING};
        if (n->items[i] && !eval(r, n->items[i], &bounds[i]))
            return false;
    }
    r->line = n->line;
    return hob_tmpl_slice(r, v, bounds, ret);
}

static __attribute__((noinline)) bool eval_operator(tmpl_run *r, const tmpl_node *n,
                                                    tmpl_value *ret)
{
    tmpl_value a, b;
    if (!eval(r, n->a, &a))
        return false;
    switch (n->kind) {
    case N_AND:
    case N_OR:
        if (hob_tmpl_truthy(a) == (n->kind == N_AND))
            return eval(r, n->b, ret);
        *ret = a;
        return true;
    case N_NOT: *ret = tmpl_bool(!hob_tmpl_truthy(a), tmpl_trusted(a)); return true;
    case N_UNARY:
        r->line = n->line;
        if (n->op == '-')
            return hob_tmpl_negate(r, a, ret);
        return hob_tmpl_binary(r, '+', tmpl_int(0, true), a, ret);
    case N_COND:
        if (hob_tmpl_truthy(a))
            return eval(r, n->b, ret);
        if (n->c)
            return eval(r, n->c, ret);
        return hob_tmpl_undefined(r, "an inline if without else", 25, ret);
    case N_ATTR: r->line = n->line; return hob_tmpl_attr(r, a, n->name, ret);
    default: break;
    }
    if (!eval(r, n->b, &b))
        return false;
    r->line = n->line;
    return n->kind == N_INDEX ? hob_tmpl_item(r, a, b, ret) : hob_tmpl_binary(r, n->op, a, b, ret);
}

static bool eval(tmpl_run *r, const tmpl_node *n, tmpl_value *ret)
{
    bool ok;
    if (!enter(r, n))
        return false;
    switch (n->kind) {
    case N_CONST:
        *ret = n->value;
        ok = true;
        break;
    case N_NAME: ok = lookup(r, n->name, ret); break;
    case N_BLOCK_VALUE:
        *ret = r->block_value;
        ok = true;
        break;
    case N_LIST:
    case N_TUPLE: ok = eval_items(r, n, ret); break;
    case N_DICT: ok = eval_dict(r, n, ret); break;
    case N_COMPARE: ok = eval_compare(r, n, ret); break;
    case N_CONCAT: ok = eval_concat(r, n, ret); break;
    case N_SLICE: ok = eval_slice(r, n, ret); break;
    case N_CALL: ok = eval_call(r, n, ret); break;
    case N_FILTER:
    case N_TEST: ok = eval_filter(r, n, ret); break;
    default: ok = eval_operator(r, n, ret); break;
    }
    r->depth--;
    return ok;
}

/* --- statements --- */
static __attribute__((noinline)) flow exec_print(tmpl_run *r, const tmpl_node *n)
{
    tmpl_value v, text;
    if (!eval(r, n->a, &v) || !hob_tmpl_to_text(r, v, &text) ||
        !hob_tmpl_buf_put_str(r, r->out, text.u.s))
        return FLOW_FAILED;
    return FLOW_NEXT;
}

static flow exec_if(tmpl_run *r, const tmpl_node *n)
{
    for (size_t i = 0; i + 1 < n->count; i += 2) {
        tmpl_value v;
        if (!eval(r, n->items[i], &v))
            return FLOW_FAILED;
        if (hob_tmpl_truthy(v))
            return exec(r, n->items[i + 1]);
    }
    return n->c ? exec(r, n->c) : FLOW_NEXT;
}

/* The items that a loop's own filter lets through. */
static bool filter_items(tmpl_run *r, const tmpl_node *n, tmpl_list **io)
{
    tmpl_list *kept, *all = *io;
    if (!push_scope(r) || !hob_tmpl_list_new(r, 0, &kept))
        return false;
    for (size_t i = 0; i < all->count; i++) {
        tmpl_value v;
        if (!assign(r, n->a, all->items[i]) || !eval(r, n->c, &v) ||
            (hob_tmpl_truthy(v) && !hob_tmpl_list_push(r, kept, all->items[i])))
            return false;
    }
    pop_scope(r);
    *io = kept;
    return true;
}

static __attribute__((noinline)) flow exec_for(tmpl_run *r, const tmpl_node *n)
{
    static const tmpl_str name = {.s = "loop", .len = 4, .trust = TMPL_TRUSTED};
    tmpl_value over;
    tmpl_list *items;
    if (!eval(r, n->b, &over))
        return FLOW_FAILED;
    r->line = n->line;
    if (!hob_tmpl_iterate(r, over, &items) || (n->c && !filter_items(r, n, &items)))
        return FLOW_FAILED;
    tmpl_loop *loop = hob_tmpl_run_alloc(r, 1, sizeof *loop);
    if (!loop)
        return FLOW_FAILED;
    loop->items = items;
    loop->depth = 1; /* loops in loops count from one again: only recursive loops, which hob has
                        not, go deeper */
    const tmpl_value self = {.kind = TV_LOOP, .trusted = true, .u.loop = loop};
    if (!push_scope(r))
        return FLOW_FAILED;
    for (size_t i = 0; i < items->count; i++) {
        size_t vars = 0;
        for (tmpl_var *v = r->scope->vars; v; v = v->next, vars++)
            v->value.kind = TV_MISSING; /* each turn begins with what the scopes around it have */
        loop->index = i;
        r->line = n->line;
        if (!hob_tmpl_charge(r, 1 + vars / 16) || !set_var(r, r->scope, &name, self) ||
            !assign(r, n->a, items->items[i]))
            return FLOW_FAILED;
        flow f = exec(r, n->items[0]);
        if (f == FLOW_FAILED)
            return f;
        if (f == FLOW_BREAK)
            break;
    }
    pop_scope(r);
    if (items->count > 0 || !n->items[1])
        return FLOW_NEXT;
    if (!push_scope(r))
        return FLOW_FAILED;
    flow f = exec(r, n->items[1]);
    if (f != FLOW_FAILED)
        pop_scope(r);
    return f;
}

static bool filtered(tmpl_run *r, const tmpl_node *filters, tmpl_value text, tmpl_value *ret)
{
    tmpl_value outer = r->block_value;
    r->block_value = text;
    bool ok = eval(r, filters, ret);
    r->block_value = outer;
    return ok;
}

static __attribute__((noinline)) flow exec_block(tmpl_run *r, const tmpl_node *n)
{
    tmpl_value v, text;
    bool ok;
    if (n->kind == N_SET) {
        ok = eval(r, n->b, &v);
        r->line = n->line;
        return ok && assign(r, n->a, v) ? FLOW_NEXT : FLOW_FAILED;
    }
    if (n->kind == N_MACRO) {
        tmpl_macro *m = hob_tmpl_run_alloc(r, 1, sizeof *m);
        if (!m)
            return FLOW_FAILED;
        *m = (tmpl_macro){n, r->scope};
        v = (tmpl_value){.kind = TV_MACRO, .trusted = true, .u.macro = m};
        return set_var(r, r->scope, n->name, v) ? FLOW_NEXT : FLOW_FAILED;
    }
    if (!push_scope(r) || !capture(r, n->c, &text))
        return FLOW_FAILED;
    pop_scope(r);
    if (!filtered(r, n->b, text, &v))
        return FLOW_FAILED;
    r->line = n->line;
    if (n->kind == N_SET_BLOCK)
        ok = assign(r, n->a, v);
    else
        ok = hob_tmpl_to_text(r, v, &text) && hob_tmpl_buf_put_str(r, r->out, text.u.s);
    return ok ? FLOW_NEXT : FLOW_FAILED;
}

/* The body becomes a macro that the called one knows as caller(). */
static __attribute__((noinline)) flow exec_call_block(tmpl_run *r, const tmpl_node *n)
{
    tmpl_value callee, text;
    tmpl_args args;
    tmpl_macro *m = hob_tmpl_run_alloc(r, 1, sizeof *m);
    if (!m || !eval(r, n->a->a, &callee) || !eval_args(r, n->a, NULL, &args))
        return FLOW_FAILED;
    *m = (tmpl_macro){n->b, r->scope};
    const tmpl_str **names = hob_tmpl_run_alloc(r, args.named_count + 1, sizeof *names);
    tmpl_value *named = hob_tmpl_run_alloc(r, args.named_count + 1, sizeof *named);
    if (!names || !named)
        return FLOW_FAILED;
    for (size_t i = 0; i < args.named_count; i++) {
        names[i] = args.names[i];
        named[i] = args.named[i];
    }
    names[args.named_count] = n->b->name;
    named[args.named_count++] = (tmpl_value){.kind = TV_MACRO, .trusted = true, .u.macro = m};
    args.names = names;
    args.named = named;
    if (!hob_tmpl_call(r, callee, &args, &callee) || !hob_tmpl_to_text(r, callee, &text) ||
        !hob_tmpl_buf_put_str(r, r->out, text.u.s))
        return FLOW_FAILED;
    return FLOW_NEXT;
}

static __attribute__((noinline)) flow exec_scope(tmpl_run *r, const tmpl_node *n)
{
    tmpl_scope *outer = r->scope, *inner;
    if (!push_scope(r))
        return FLOW_FAILED;
    inner = r->scope;
    for (size_t i = 0; i + 1 < n->count; i += 2) { /* with: the values see the scope around it */
        tmpl_value v;
        r->scope = outer;
        if (!eval(r, n->items[i + 1], &v))
            return FLOW_FAILED;
        r->scope = inner;
        if (!assign(r, n->items[i], v))
            return FLOW_FAILED;
    }
    flow f = exec(r, n->kind == N_WITH ? n->c : n->a);
    r->scope = outer;
    return f;
}

static flow exec_body(tmpl_run *r, const tmpl_node *n)
{
    for (size_t i = 0; i < n->count; i++) {
        flow f = exec(r, n->items[i]);
        if (f != FLOW_NEXT)
            return f;
    }
    return FLOW_NEXT;
}

static flow exec(tmpl_run *r, const tmpl_node *n)
{
    flow f;
    if (!enter(r, n))
        return FLOW_FAILED;
    switch (n->kind) {
    case N_TEXT: f = hob_tmpl_buf_put_str(r, r->out, n->value.u.s) ? FLOW_NEXT : FLOW_FAILED; break;
    case N_PRINT: f = exec_print(r, n); break;
    case N_BODY: f = exec_body(r, n); break;
    case N_IF: f = exec_if(r, n); break;
    case N_FOR: f = exec_for(r, n); break;
    case N_CALL_BLOCK: f = exec_call_block(r, n); break;
    case N_WITH:
    case N_SCOPE: f = exec_scope(r, n); break;
    case N_BREAK: f = FLOW_BREAK; break;
    case N_CONTINUE: f = FLOW_CONTINUE; break;
    default: f = exec_block(r, n); break;
    }
    r->depth--;
    return f;
}

bool hob_tmpl_exec(tmpl_run *r, const tmpl_node *root)
{
    return exec(r, root) != FLOW_FAILED;
}
