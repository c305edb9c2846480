/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens to a tree, by recursive descent with jinja2's precedences. Recursion is bounded by
 * TMPL_PARSE_DEPTH and the height of every tree by TMPL_TREE_HEIGHT, because operators and filters
 * of equal rank nest to the left without recursion here, yet would recurse when evaluated.
 * Expressions are in template_expr.c. */
#include "models/template_parse.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool hob_tmpl_syntax(tmpl_parser *p, int code, const char *format, ...)
{
    if (p->error)
        return false;
    char what[160], where[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    snprintf(where, sizeof where, "in %s: %s", p->construct, what);
    p->error = hob_tmpl_report(p->diag, code, p->at->line, where);
    return false;
}

bool hob_tmpl_unexpected(tmpl_parser *p, const char *wanted)
{
    const tmpl_token *t = p->at;
    if (t->kind == TOK_EOF)
        return hob_tmpl_syntax(p, HOB_EFORMAT, "expected %s, the template ends", wanted);
    if (t->kind == TOK_TAG_END || t->kind == TOK_PRINT_END)
        return hob_tmpl_syntax(p, HOB_EFORMAT, "expected %s, got the end of the tag", wanted);
    return hob_tmpl_syntax(p, HOB_EFORMAT, "expected %s, got \"%.*s\"", wanted,
                           (int)(t->len < 40 ? t->len : 40), t->text);
}

bool hob_tmpl_deeper(tmpl_parser *p)
{
    if (++p->depth > TMPL_PARSE_DEPTH)
        return hob_tmpl_syntax(p, HOB_ELIMIT, "nested deeper than %d", TMPL_PARSE_DEPTH);
    return true;
}

void *hob_tmpl_parser_alloc(tmpl_parser *p, size_t bytes)
{
    void *m = hob_tmpl_alloc(p->arena, bytes);
    if (!m)
        hob_tmpl_syntax(p, HOB_ELIMIT, "more than %zu bytes of tree", p->arena->max_bytes);
    return m;
}

tmpl_node *hob_tmpl_node(tmpl_parser *p, int kind, uint32_t line)
{
    tmpl_node *n = hob_tmpl_parser_alloc(p, sizeof *n);
    if (n) {
        n->kind = (uint8_t)kind;
        n->line = line;
        n->height = 1;
    }
    return n;
}

bool hob_tmpl_above(tmpl_parser *p, tmpl_node *n, const tmpl_node *child)
{
    if (child && child->height >= n->height)
        n->height = (uint16_t)(child->height + 1);
    if (n->height > TMPL_TREE_HEIGHT)
        return hob_tmpl_syntax(p, HOB_ELIMIT, "an expression or block of more than %d levels",
                               TMPL_TREE_HEIGHT);
    return true;
}

/* Room for one more in an array of pointers, whose capacity is the power of two at or above its
 * count. */
static bool grow(tmpl_parser *p, void *array, size_t count)
{
    void **old;
    memcpy(&old, array, sizeof old);
    if (count >= 4 ? (count & (count - 1)) != 0 : count != 0)
        return true;
    void **more = hob_tmpl_parser_alloc(p, (count >= 4 ? count * 2 : 4) * sizeof *more);
    if (!more)
        return false;
    if (count > 0)
        memcpy(more, old, count * sizeof *more);
    memcpy(array, &more, sizeof more);
    return true;
}

bool hob_tmpl_add_item(tmpl_parser *p, tmpl_node *n, tmpl_node *item)
{
    if (!grow(p, &n->items, n->count))
        return false;
    n->items[n->count++] = item;
    return hob_tmpl_above(p, n, item);
}

bool hob_tmpl_add_named(tmpl_parser *p, tmpl_node *n, const tmpl_str *name, tmpl_node *item)
{
    if (!grow(p, &n->names, n->named_count) || !grow(p, &n->named, n->named_count))
        return false;
    n->names[n->named_count] = name;
    n->named[n->named_count++] = item;
    return hob_tmpl_above(p, n, item);
}

const tmpl_str *hob_tmpl_token_str(tmpl_parser *p, const tmpl_token *t)
{
    tmpl_str *s = hob_tmpl_parser_alloc(p, sizeof *s);
    if (s)
        *s = (tmpl_str){.s = t->text, .len = t->len, .trust = TMPL_TRUSTED};
    return s;
}

bool hob_tmpl_at_name(const tmpl_parser *p, const char *name)
{
    return p->at->kind == TOK_NAME && p->at->len == strlen(name) &&
           memcmp(p->at->text, name, p->at->len) == 0;
}

bool hob_tmpl_skip_name(tmpl_parser *p, const char *name)
{
    if (!hob_tmpl_at_name(p, name))
        return false;
    p->at++;
    return true;
}

bool hob_tmpl_skip_op(tmpl_parser *p, int op)
{
    if (p->at->kind != TOK_OP || p->at->op != op)
        return false;
    p->at++;
    return true;
}

bool hob_tmpl_expect_op(tmpl_parser *p, int op)
{
    char wanted[4] = {'"', (char)op, '"', 0};
    return hob_tmpl_skip_op(p, op) || hob_tmpl_unexpected(p, wanted);
}

bool hob_tmpl_expect_name(tmpl_parser *p, const tmpl_str **ret)
{
    if (p->at->kind != TOK_NAME)
        return hob_tmpl_unexpected(p, "a name");
    *ret = hob_tmpl_token_str(p, p->at);
    p->at++;
    return *ret != NULL;
}

static bool expect_tag_end(tmpl_parser *p)
{
    if (p->at->kind != TOK_TAG_END)
        return hob_tmpl_unexpected(p, "the end of the tag");
    p->at++;
    return true;
}

/* --- assignment targets: a name, a namespace's attribute, or a tuple of them --- */
static bool parse_target(tmpl_parser *p, bool with_namespace, tmpl_node **ret);

static bool parse_one_target(tmpl_parser *p, bool with_namespace, tmpl_node **ret)
{
    uint32_t line = p->at->line;
    if (hob_tmpl_skip_op(p, '('))
        return hob_tmpl_deeper(p) && parse_target(p, false, ret) && hob_tmpl_expect_op(p, ')') &&
               p->depth-- > 0;
    static const char *const reserved[] = {"true", "false", "none", "True", "False",
                                           "None", "in",    "if",   "else"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (hob_tmpl_at_name(p, reserved[i]))
            return hob_tmpl_unexpected(p, "a variable to assign to");
    }
    tmpl_node *n = hob_tmpl_node(p, N_NAME, line);
    if (!n || !hob_tmpl_expect_name(p, &n->name))
        return false;
    if (with_namespace && hob_tmpl_skip_op(p, '.')) {
        tmpl_node *attr = hob_tmpl_node(p, N_ATTR, line);
        if (!attr || !hob_tmpl_expect_name(p, &attr->name))
            return false;
        attr->a = n;
        n = attr;
    }
    *ret = n;
    return true;
}

static bool parse_target(tmpl_parser *p, bool with_namespace, tmpl_node **ret)
{
    tmpl_node *first, *tuple;
    uint32_t line = p->at->line;
    if (!parse_one_target(p, with_namespace, &first))
        return false;
    if (p->at->kind != TOK_OP || p->at->op != ',') {
        *ret = first;
        return true;
    }
    if (!(tuple = hob_tmpl_node(p, N_TUPLE, line)) || !hob_tmpl_add_item(p, tuple, first))
        return false;
    while (hob_tmpl_skip_op(p, ',')) {
        tmpl_node *next;
        if (p->at->kind != TOK_NAME && !(p->at->kind == TOK_OP && p->at->op == '('))
            break;
        if (hob_tmpl_at_name(p, "in"))
            break;
        if (!parse_one_target(p, with_namespace, &next) || !hob_tmpl_add_item(p, tuple, next))
            return false;
    }
    *ret = tuple;
    return true;
}

/* --- statements --- */

/* A body up to a tag whose name is in ends (separated by blanks). p->at is left at that name. */
static bool parse_body(tmpl_parser *p, const char *ends, tmpl_node **ret);

/* A body with its one end tag, which is consumed. */
static bool parse_block(tmpl_parser *p, const char *end, tmpl_node **ret)
{
    if (!expect_tag_end(p) || !parse_body(p, end, ret))
        return false;
    p->at++;
    return expect_tag_end(p);
}

static bool parse_if(tmpl_parser *p, tmpl_node *n)
{
    p->conditional++;
    for (;;) {
        tmpl_node *condition, *body;
        if (!hob_tmpl_parse_tuple(p, false, &condition) || !hob_tmpl_add_item(p, n, condition) ||
            !expect_tag_end(p) || !parse_body(p, "elif else endif", &body) ||
            !hob_tmpl_add_item(p, n, body))
            return false;
        if (hob_tmpl_skip_name(p, "elif"))
            continue;
        if (hob_tmpl_skip_name(p, "else")) {
            if (!expect_tag_end(p) || !parse_body(p, "endif", &n->c) || !hob_tmpl_above(p, n, n->c))
                return false;
        }
        p->at++; /* endif */
        p->conditional--;
        return expect_tag_end(p);
    }
}

static bool parse_for(tmpl_parser *p, tmpl_node *n)
{
    tmpl_node *body, *otherwise = NULL;
    if (!parse_target(p, false, &n->a))
        return false;
    if (!hob_tmpl_skip_name(p, "in"))
        return hob_tmpl_unexpected(p, "\"in\"");
    if (!hob_tmpl_parse_tuple(p, false, &n->b) || !hob_tmpl_above(p, n, n->b))
        return false;
    if (hob_tmpl_skip_name(p, "if") &&
        (!hob_tmpl_parse_expr(p, &n->c) || !hob_tmpl_above(p, n, n->c)))
        return false;
    if (hob_tmpl_at_name(p, "recursive"))
        return hob_tmpl_syntax(p, HOB_EUNSUPPORTED, "recursive loops are not supported");
    p->loops++;
    bool ok = expect_tag_end(p) && parse_body(p, "else endfor", &body);
    p->loops--;
    if (!ok || !hob_tmpl_add_item(p, n, body))
        return false;
    if (hob_tmpl_skip_name(p, "else") &&
        (!expect_tag_end(p) || !parse_body(p, "endfor", &otherwise)))
        return false;
    if (!hob_tmpl_add_item(p, n, otherwise))
        return false;
    p->at++; /* endfor */
    return expect_tag_end(p);
}

static bool block_value(tmpl_parser *p, tmpl_node **ret)
{
    *ret = hob_tmpl_node(p, N_BLOCK_VALUE, p->at->line);
    return *ret != NULL;
}

static bool parse_set(tmpl_parser *p, tmpl_node *n)
{
    if (!parse_target(p, true, &n->a) || !hob_tmpl_above(p, n, n->a))
        return false;
    if (hob_tmpl_skip_op(p, '='))
        return hob_tmpl_parse_tuple(p, true, &n->b) && hob_tmpl_above(p, n, n->b) &&
               expect_tag_end(p);
    n->kind = N_SET_BLOCK;
    return block_value(p, &n->b) && hob_tmpl_parse_filters(p, &n->b) &&
           hob_tmpl_above(p, n, n->b) && parse_block(p, "endset", &n->c) &&
           hob_tmpl_above(p, n, n->c);
}

/* Parameters in brackets, which a call block may leave out. */
static bool parse_parameters(tmpl_parser *p, tmpl_node *macro)
{
    if (hob_tmpl_skip_op(p, '(')) {
        while (!hob_tmpl_skip_op(p, ')')) {
            const tmpl_str *name = NULL;
            tmpl_node *value = NULL;
            if (macro->named_count > 0 && !hob_tmpl_expect_op(p, ','))
                return false;
            if (!hob_tmpl_expect_name(p, &name))
                return false;
            if (hob_tmpl_skip_op(p, '=')) {
                if (!hob_tmpl_parse_expr(p, &value))
                    return false;
            } else if (macro->named_count > 0 && macro->named[macro->named_count - 1]) {
                return hob_tmpl_syntax(p, HOB_EFORMAT,
                                       "a parameter without a default follows one with a default");
            }
            if (!hob_tmpl_add_named(p, macro, name, value))
                return false;
        }
    }
    return true;
}

/* The body is a function of its own: it cannot break a loop around it. */
static bool parse_function(tmpl_parser *p, tmpl_node *macro, const char *end)
{
    size_t loops = p->loops;
    tmpl_node *outer = p->macro;
    p->loops = 0;
    p->macro = macro;
    bool ok = parse_block(p, end, &macro->a) && hob_tmpl_above(p, macro, macro->a);
    p->loops = loops;
    p->macro = outer;
    return ok;
}

static bool parse_call_block(tmpl_parser *p, tmpl_node *n)
{
    static const tmpl_str caller = {.s = "caller", .len = 6, .trust = TMPL_TRUSTED};
    n->b = hob_tmpl_node(p, N_MACRO, n->line);
    if (!n->b)
        return false;
    n->b->name = &caller;
    if (!parse_parameters(p, n->b) || !hob_tmpl_parse_expr(p, &n->a) || !hob_tmpl_above(p, n, n->a))
        return false;
    if (n->a->kind != N_CALL)
        return hob_tmpl_syntax(p, HOB_EFORMAT, "expected a call");
    return parse_function(p, n->b, "endcall") && hob_tmpl_above(p, n, n->b);
}

static bool parse_filter_block(tmpl_parser *p, tmpl_node *n)
{
    return block_value(p, &n->b) && hob_tmpl_parse_filter(p, &n->b) &&
           hob_tmpl_parse_filters(p, &n->b) && hob_tmpl_above(p, n, n->b) &&
           parse_block(p, "endfilter", &n->c) && hob_tmpl_above(p, n, n->c);
}

static bool parse_with(tmpl_parser *p, tmpl_node *n)
{
    while (p->at->kind != TOK_TAG_END) {
        tmpl_node *target, *value;
        if (n->count > 0 && !hob_tmpl_expect_op(p, ','))
            return false;
        if (!parse_one_target(p, false, &target) || !hob_tmpl_expect_op(p, '=') ||
            !hob_tmpl_parse_expr(p, &value) || !hob_tmpl_add_item(p, n, target) ||
            !hob_tmpl_add_item(p, n, value))
            return false;
    }
    return parse_block(p, "endwith", &n->c) && hob_tmpl_above(p, n, n->c);
}

static bool parse_statement(tmpl_parser *p, tmpl_node **ret)
{
    static const char *const unsupported[] = {"include", "import",     "from", "extends",
                                              "block",   "autoescape", "do",   "trans"};
    if (p->at->kind != TOK_NAME)
        return hob_tmpl_unexpected(p, "the name of a tag");
    const char *outer = p->construct;
    uint32_t line = p->at->line;
    static const struct {
        const char *name, *construct;
        tmpl_node_kind kind;
        bool (*parse)(tmpl_parser *p, tmpl_node *n);
    } tags[] = {
        {"if", "{% if %}", N_IF, parse_if},
        {"for", "{% for %}", N_FOR, parse_for},
        {"set", "{% set %}", N_SET, parse_set},
        {"call", "{% call %}", N_CALL_BLOCK, parse_call_block},
        {"filter", "{% filter %}", N_FILTER_BLOCK, parse_filter_block},
        {"with", "{% with %}", N_WITH, parse_with},
    };
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (!hob_tmpl_at_name(p, tags[i].name))
            continue;
        p->at++;
        p->construct = tags[i].construct;
        *ret = hob_tmpl_node(p, tags[i].kind, line);
        if (!*ret || !tags[i].parse(p, *ret))
            return false;
        p->construct = outer;
        return true;
    }
    if (hob_tmpl_skip_name(p, "macro")) {
        p->construct = "{% macro %}";
        tmpl_node *n = *ret = hob_tmpl_node(p, N_MACRO, line);
        if (!n || !hob_tmpl_expect_name(p, &n->name) || !parse_parameters(p, n) ||
            !parse_function(p, n, "endmacro"))
            return false;
        p->construct = outer;
        return true;
    }
    if (hob_tmpl_skip_name(
            p, "generation")) { /* marks what a model wrote, for training; prints as it is */
        p->construct = "{% generation %}";
        tmpl_node *n = *ret = hob_tmpl_node(p, N_SCOPE, line);
        if (!n || !parse_block(p, "endgeneration", &n->a) || !hob_tmpl_above(p, n, n->a))
            return false;
        p->construct = outer;
        return true;
    }
    if (hob_tmpl_at_name(p, "break") || hob_tmpl_at_name(p, "continue")) {
        if (p->loops == 0)
            return hob_tmpl_syntax(p, HOB_EFORMAT, "\"%.*s\" outside a loop", (int)p->at->len,
                                   p->at->text);
        *ret = hob_tmpl_node(p, hob_tmpl_at_name(p, "break") ? N_BREAK : N_CONTINUE, line);
        p->at++;
        return *ret && expect_tag_end(p);
    }
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        if (hob_tmpl_at_name(p, unsupported[i]))
            return hob_tmpl_syntax(p, HOB_EUNSUPPORTED, "the tag \"%s\" is not supported",
                                   unsupported[i]);
    }
    return hob_tmpl_syntax(p, HOB_EFORMAT, "unknown tag \"%.*s\"",
                           (int)(p->at->len < 40 ? p->at->len : 40), p->at->text);
}

static bool is_one_of(const tmpl_token *t, const char *words)
{
    for (const char *w = words; t->kind == TOK_NAME && *w;) {
        size_t n = strcspn(w, " ");
        if (n == t->len && memcmp(w, t->text, n) == 0)
            return true;
        w += n + (w[n] == ' ');
    }
    return false;
}

static bool parse_body(tmpl_parser *p, const char *ends, tmpl_node **ret)
{
    tmpl_node *body = hob_tmpl_node(p, N_BODY, p->at->line), *child = NULL;
    uint32_t opened = p->at->line;
    if (!body || !hob_tmpl_deeper(p))
        return false;
    for (;;) {
        const tmpl_token *t = p->at++;
        if (t->kind == TOK_DATA) {
            if (!(child = hob_tmpl_node(p, N_TEXT, t->line)))
                return false;
            const tmpl_str *s = hob_tmpl_token_str(p, t);
            if (!s)
                return false;
            child->value = tmpl_string(s);
        } else if (t->kind == TOK_PRINT_BEGIN) {
            const char *outer = p->construct;
            p->construct = "{{ }}";
            if (!(child = hob_tmpl_node(p, N_PRINT, t->line)) ||
                !hob_tmpl_parse_tuple(p, true, &child->a) || !hob_tmpl_above(p, child, child->a))
                return false;
            if (p->at->kind != TOK_PRINT_END)
                return hob_tmpl_unexpected(p, "\"}}\"");
            p->at++;
            p->construct = outer;
        } else if (t->kind == TOK_TAG_BEGIN) {
            if (is_one_of(p->at, ends))
                break;
            if (!parse_statement(p, &child))
                return false;
        } else {
            p->at = t;
            if (*ends == 0)
                break;
            return hob_tmpl_syntax(p, HOB_EFORMAT,
                                   "opened before line %u, but the template ends without \"%s\"",
                                   opened, ends);
        }
        const tmpl_node *unknown = p->unknown;
        if (unknown)
            return hob_tmpl_syntax(p, HOB_EUNSUPPORTED, "no %s named \"%.*s\"",
                                   unknown->kind == N_TEST ? "test" : "filter",
                                   (int)(unknown->name->len < 40 ? unknown->name->len : 40),
                                   unknown->name->s);
        if (!hob_tmpl_add_item(p, body, child))
            return false;
    }
    p->depth--;
    *ret = body;
    return true;
}

int hob_tmpl_parse(tmpl_arena *a, const tmpl_tokens *tokens, tmpl_node **ret, hob_diag *diag)
{
    tmpl_parser p = {.arena = a, .at = tokens->data, .diag = diag, .construct = "the template"};
    tmpl_node *root;
    if (!parse_body(&p, "", &root))
        return p.error;
    *ret = root;
    return 0;
}
