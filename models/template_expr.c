/* SPDX-License-Identifier: Apache-2.0
 *
 * Expressions of the template language, lowest rank first: a if b else c; or; and; not; comparisons
 * (chained as in Python) and membership; + -; ~; * / // %; **; signs; then what follows a value: .
 * [ ] ( ) | is. */
#include "models/template_parse.h"

#include <string.h>

static bool parse_or(tmpl_parser *p, tmpl_node **ret);
static bool parse_unary(tmpl_parser *p, bool filters, tmpl_node **ret);

static bool binary(tmpl_parser *p, int kind, int op, uint32_t line, tmpl_node *a, tmpl_node *b,
                   tmpl_node **ret)
{
    tmpl_node *n = hob_tmpl_node(p, kind, line);
    if (!n)
        return false;
    n->op = op;
    n->a = a;
    n->b = b;
    *ret = n;
    return hob_tmpl_above(p, n, a) && hob_tmpl_above(p, n, b);
}

bool hob_tmpl_parse_expr(tmpl_parser *p, tmpl_node **ret)
{
    tmpl_node *value;
    const tmpl_node *unknown = p->unknown;
    if (!hob_tmpl_deeper(p) || !parse_or(p, &value))
        return false;
    uint32_t line = p->at->line;
    while (hob_tmpl_skip_name(p, "if")) {
        p->unknown = unknown; /* what was just parsed may never be evaluated */
        tmpl_node *n = hob_tmpl_node(p, N_COND, line);
        if (!n)
            return false;
        n->b = value;
        p->conditional++;
        if (!parse_or(p, &n->a) ||
            (hob_tmpl_skip_name(p, "else") && !hob_tmpl_parse_expr(p, &n->c)))
            return false;
        p->conditional--;
        if (!hob_tmpl_above(p, n, n->a) || !hob_tmpl_above(p, n, n->b) ||
            !hob_tmpl_above(p, n, n->c))
            return false;
        value = n;
    }
    p->depth--;
    *ret = value;
    return true;
}

static bool tuple_ends(const tmpl_parser *p)
{
    const tmpl_token *t = p->at;
    return t->kind == TOK_PRINT_END || t->kind == TOK_TAG_END ||
           (t->kind == TOK_OP && t->op == ')');
}

bool hob_tmpl_parse_tuple(tmpl_parser *p, bool conditional, tmpl_node **ret)
{
    tmpl_node *first, *tuple, *next;
    uint32_t line = p->at->line;
    if (tuple_ends(p))
        return hob_tmpl_unexpected(p, "an expression");
    if (!(conditional ? hob_tmpl_parse_expr(p, &first) : parse_or(p, &first)))
        return false;
    if (p->at->kind != TOK_OP || p->at->op != ',') {
        *ret = first;
        return true;
    }
    if (!(tuple = hob_tmpl_node(p, N_TUPLE, line)) || !hob_tmpl_add_item(p, tuple, first))
        return false;
    while (hob_tmpl_skip_op(p, ',') && !tuple_ends(p)) {
        if (!(conditional ? hob_tmpl_parse_expr(p, &next) : parse_or(p, &next)) ||
            !hob_tmpl_add_item(p, tuple, next))
            return false;
    }
    *ret = tuple;
    return true;
}

static bool parse_not(tmpl_parser *p, tmpl_node **ret);

static bool parse_and(tmpl_parser *p, tmpl_node **ret)
{
    tmpl_node *left, *right;
    if (!parse_not(p, &left))
        return false;
    for (uint32_t line = p->at->line; hob_tmpl_skip_name(p, "and"); line = p->at->line) {
        if (!parse_not(p, &right) || !binary(p, N_AND, 0, line, left, right, &left))
            return false;
    }
    *ret = left;
    return true;
}

static bool parse_or(tmpl_parser *p, tmpl_node **ret)
{
    tmpl_node *left, *right;
    if (!hob_tmpl_deeper(p) || !parse_and(p, &left))
        return false;
    for (uint32_t line = p->at->line; hob_tmpl_skip_name(p, "or"); line = p->at->line) {
        if (!parse_and(p, &right) || !binary(p, N_OR, 0, line, left, right, &left))
            return false;
    }
    p->depth--;
    *ret = left;
    return true;
}

static bool parse_product(tmpl_parser *p, tmpl_node **ret)
{
    /* powers bind tighter and, unlike Python's, nest to the left */
    tmpl_node *left = NULL, *right, *power;
    int op = 0;
    uint32_t line = p->at->line;
    for (;;) {
        if (!parse_unary(p, true, &right))
            return false;
        while (hob_tmpl_skip_op(p, TMPL_OP2('*', '*'))) {
            if (!parse_unary(p, true, &power) ||
                !binary(p, N_BINARY, TMPL_OP2('*', '*'), line, right, power, &right))
                return false;
        }
        if (!left)
            left = right;
        else if (!binary(p, N_BINARY, op, line, left, right, &left))
            return false;
        line = p->at->line;
        op = p->at->kind == TOK_OP ? p->at->op : 0;
        if (op != '*' && op != '/' && op != '%' && op != TMPL_OP2('/', '/'))
            break;
        p->at++;
    }
    *ret = left;
    return true;
}

static bool parse_concat(tmpl_parser *p, tmpl_node **ret)
{
    tmpl_node *first, *n, *next;
    uint32_t line = p->at->line;
    if (!parse_product(p, &first))
        return false;
    if (p->at->kind != TOK_OP || p->at->op != '~') {
        *ret = first;
        return true;
    }
    if (!(n = hob_tmpl_node(p, N_CONCAT, line)) || !hob_tmpl_add_item(p, n, first))
        return false;
    while (hob_tmpl_skip_op(p, '~')) {
        if (!parse_product(p, &next) || !hob_tmpl_add_item(p, n, next))
            return false;
    }
    *ret = n;
    return true;
}

static bool parse_sum(tmpl_parser *p, tmpl_node **ret)
{
    tmpl_node *left, *right;
    if (!parse_concat(p, &left))
        return false;
    for (;;) {
        uint32_t line = p->at->line;
        int op = p->at->kind == TOK_OP ? p->at->op : 0;
        if (op != '+' && op != '-')
            break;
        p->at++;
        if (!parse_concat(p, &right) || !binary(p, N_BINARY, op, line, left, right, &left))
            return false;
    }
    *ret = left;
    return true;
}

static bool parse_compare(tmpl_parser *p, tmpl_node **ret)
{
    tmpl_node *first, *n = NULL;
    if (!parse_sum(p, &first))
        return false;
    for (;;) {
        uint32_t line = p->at->line;
        int op = p->at->kind == TOK_OP ? p->at->op : 0;
        if (op == '<' || op == '>' || op == TMPL_OP2('=', '=') || op == TMPL_OP2('!', '=') ||
            op == TMPL_OP2('<', '=') || op == TMPL_OP2('>', '=')) {
            p->at++;
        } else if (hob_tmpl_skip_name(p, "in")) {
            op = TMPL_OP_IN;
        } else if (hob_tmpl_at_name(p, "not") && p->at[1].kind == TOK_NAME && p->at[1].len == 2 &&
                   memcmp(p->at[1].text, "in", 2) == 0) {
            p->at += 2;
            op = TMPL_OP_NOT_IN;
        } else {
            break;
        }
        tmpl_node *operand = hob_tmpl_node(p, N_OPERAND, line);
        if (!n) {
            if (!(n = hob_tmpl_node(p, N_COMPARE, line)))
                return false;
            n->a = first;
            if (!hob_tmpl_above(p, n, first))
                return false;
        }
        if (!operand || !parse_sum(p, &operand->a))
            return false;
        operand->op = op;
        if (!hob_tmpl_above(p, operand, operand->a) || !hob_tmpl_add_item(p, n, operand))
            return false;
    }
    *ret = n ? n : first;
    return true;
}

static bool parse_not(tmpl_parser *p, tmpl_node **ret)
{
    uint32_t line = p->at->line;
    if (!hob_tmpl_skip_name(p, "not"))
        return parse_compare(p, ret);
    tmpl_node *n = hob_tmpl_node(p, N_NOT, line);
    if (!n || !hob_tmpl_deeper(p) || !parse_not(p, &n->a))
        return false;
    p->depth--;
    *ret = n;
    return hob_tmpl_above(p, n, n->a);
}

/* Arguments after the opening bracket, into n->items and n->named. */
static bool parse_arguments(tmpl_parser *p, tmpl_node *n)
{
    while (!hob_tmpl_skip_op(p, ')')) {
        tmpl_node *value;
        if (n->count + n->named_count > 0) {
            if (!hob_tmpl_expect_op(p, ','))
                return false;
            if (hob_tmpl_skip_op(p, ')'))
                break;
        }
        if (p->at->kind == TOK_OP && (p->at->op == '*' || p->at->op == TMPL_OP2('*', '*')))
            return hob_tmpl_syntax(p, HOB_EUNSUPPORTED, "* and ** arguments are not supported");
        if (p->at->kind == TOK_NAME && p->at[1].kind == TOK_OP && p->at[1].op == '=') {
            const tmpl_str *name;
            if (!hob_tmpl_expect_name(p, &name))
                return false;
            p->at++;
            if (!hob_tmpl_parse_expr(p, &value) || !hob_tmpl_add_named(p, n, name, value))
                return false;
        } else {
            if (n->named_count > 0)
                return hob_tmpl_syntax(p, HOB_EFORMAT,
                                       "a positional argument follows a keyword argument");
            if (!hob_tmpl_parse_expr(p, &value) || !hob_tmpl_add_item(p, n, value))
                return false;
        }
    }
    return true;
}

/* A dotted name of a filter or test; none of ours has a dot, so that the name stays unknown. */
static bool resolve(tmpl_parser *p, tmpl_node *n, const tmpl_builtin *(*find)(const char *, size_t))
{
    if (!hob_tmpl_expect_name(p, &n->name))
        return false;
    n->builtin = find(n->name->s, n->name->len);
    if (!n->builtin && p->conditional == 0 && !p->unknown)
        p->unknown = n;
    return true;
}

bool hob_tmpl_parse_filter(tmpl_parser *p, tmpl_node **io)
{
    tmpl_node *n = hob_tmpl_node(p, N_FILTER, p->at->line);
    if (!n || !resolve(p, n, hob_tmpl_filter))
        return false;
    n->a = *io;
    *io = n;
    if (hob_tmpl_skip_op(p, '(') && !parse_arguments(p, n))
        return false;
    return hob_tmpl_above(p, n, n->a);
}

bool hob_tmpl_parse_filters(tmpl_parser *p, tmpl_node **io)
{
    while (hob_tmpl_skip_op(p, '|')) {
        if (!hob_tmpl_parse_filter(p, io))
            return false;
    }
    return true;
}

static bool parse_call(tmpl_parser *p, tmpl_node **io)
{
    tmpl_node *n = hob_tmpl_node(p, N_CALL, p->at->line);
    if (!n || !hob_tmpl_expect_op(p, '(') || !parse_arguments(p, n))
        return false;
    n->a = *io;
    *io = n;
    return hob_tmpl_above(p, n, n->a);
}

static bool parse_primary(tmpl_parser *p, tmpl_node **ret);
static bool parse_postfix(tmpl_parser *p, tmpl_node **io);

/* After "is": an argument may follow without brackets, as in "is equalto 1". */
static bool parse_test(tmpl_parser *p, tmpl_node **io)
{
    tmpl_node *n = hob_tmpl_node(p, N_TEST, p->at->line);
    if (!n)
        return false;
    n->op = hob_tmpl_skip_name(p, "not");
    if (!resolve(p, n, hob_tmpl_test))
        return false;
    n->a = *io;
    *io = n;
    const tmpl_token *t = p->at;
    if (hob_tmpl_skip_op(p, '(')) {
        if (!parse_arguments(p, n))
            return false;
    } else if ((t->kind >= TOK_NAME && t->kind <= TOK_FLOAT && !hob_tmpl_at_name(p, "else") &&
                !hob_tmpl_at_name(p, "or") && !hob_tmpl_at_name(p, "and")) ||
               (t->kind == TOK_OP && (t->op == '[' || t->op == '{'))) {
        tmpl_node *argument;
        if (hob_tmpl_at_name(p, "is"))
            return hob_tmpl_syntax(p, HOB_EFORMAT, "tests cannot be chained with \"is\"");
        if (!hob_tmpl_deeper(p) || !parse_primary(p, &argument) || !parse_postfix(p, &argument) ||
            !hob_tmpl_add_item(p, n, argument))
            return false;
        p->depth--;
    }
    return hob_tmpl_above(p, n, n->a);
}

static bool parse_subscript(tmpl_parser *p, tmpl_node **io)
{
    tmpl_node *n = hob_tmpl_node(p, N_INDEX, p->at->line), *bounds[3] = {NULL, NULL, NULL};
    if (!n || !hob_tmpl_expect_op(p, '['))
        return false;
    size_t part = 0;
    bool slice = false;
    for (;;) {
        if (p->at->kind == TOK_OP && p->at->op == ':' && part < 2) {
            slice = true;
            part++;
            p->at++;
        } else if (p->at->kind == TOK_OP && p->at->op == ']') {
            break;
        } else if (!bounds[part]) {
            if (!hob_tmpl_parse_expr(p, &bounds[part]))
                return false;
        } else {
            break;
        }
    }
    if (!slice && !bounds[0])
        return hob_tmpl_unexpected(p, "an index");
    if (p->at->kind == TOK_OP && p->at->op == ',')
        return hob_tmpl_syntax(p, HOB_EUNSUPPORTED, "an index of several parts is not supported");
    if (!hob_tmpl_expect_op(p, ']'))
        return false;
    n->a = *io;
    *io = n;
    if (slice) {
        n->kind = N_SLICE;
        for (size_t i = 0; i < 3; i++) {
            if (!hob_tmpl_add_item(p, n, bounds[i]))
                return false;
        }
    } else {
        n->b = bounds[0];
    }
    return hob_tmpl_above(p, n, n->a) && hob_tmpl_above(p, n, n->b);
}

static bool parse_postfix(tmpl_parser *p, tmpl_node **io)
{
    for (;;) {
        const tmpl_token *t = p->at;
        if (t->kind != TOK_OP)
            return true;
        if (t->op == '.') {
            p->at++;
            tmpl_node *n = hob_tmpl_node(p, N_ATTR, t->line);
            if (!n)
                return false;
            if (p->at->kind == TOK_INT) {
                n->kind = N_INDEX;
                if (!(n->b = hob_tmpl_node(p, N_CONST, t->line)))
                    return false;
                n->b->value = tmpl_int(p->at->i, true);
                p->at++;
            } else if (!hob_tmpl_expect_name(p, &n->name)) {
                return false;
            }
            n->a = *io;
            *io = n;
            if (!hob_tmpl_above(p, n, n->a) || !hob_tmpl_above(p, n, n->b))
                return false;
        } else if (t->op == '[') {
            if (!parse_subscript(p, io))
                return false;
        } else if (t->op == '(') {
            if (!parse_call(p, io))
                return false;
        } else {
            return true;
        }
    }
}

static bool parse_unary(tmpl_parser *p, bool filters, tmpl_node **ret)
{
    tmpl_node *n;
    uint32_t line = p->at->line;
    int op = p->at->kind == TOK_OP && (p->at->op == '-' || p->at->op == '+') ? p->at->op : 0;
    if (op) {
        p->at++;
        n = hob_tmpl_node(p, N_UNARY, line);
        if (!n || !hob_tmpl_deeper(p) || !parse_unary(p, false, &n->a) ||
            !hob_tmpl_above(p, n, n->a))
            return false;
        n->op = op;
        p->depth--;
    } else if (!parse_primary(p, &n)) {
        return false;
    }
    if (!parse_postfix(p, &n))
        return false;
    while (filters) {
        if (hob_tmpl_skip_op(p, '|')) {
            if (!hob_tmpl_parse_filter(p, &n))
                return false;
        } else if (hob_tmpl_skip_name(p, "is")) {
            if (!parse_test(p, &n))
                return false;
        } else if (p->at->kind == TOK_OP && p->at->op == '(') {
            if (!parse_call(p, &n))
                return false;
        } else {
            break;
        }
    }
    *ret = n;
    return true;
}

static bool parse_name(tmpl_parser *p, tmpl_node *n)
{
    static const struct {
        const char *name;
        int kind;
        bool value;
    } words[] = {{"true", TV_BOOL, true},   {"True", TV_BOOL, true},  {"false", TV_BOOL, false},
                 {"False", TV_BOOL, false}, {"none", TV_NONE, false}, {"None", TV_NONE, false}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (hob_tmpl_skip_name(p, words[i].name)) {
            n->value = words[i].kind == TV_NONE ? tmpl_none() : tmpl_bool(words[i].value, true);
            return true;
        }
    }
    n->kind = N_NAME;
    if (p->macro) {
        if (hob_tmpl_at_name(p, "varargs"))
            p->macro->flags |= TMPL_USES_VARARGS;
        else if (hob_tmpl_at_name(p, "kwargs"))
            p->macro->flags |= TMPL_USES_KWARGS;
        else if (hob_tmpl_at_name(p, "caller"))
            p->macro->flags |= TMPL_USES_CALLER;
    }
    return hob_tmpl_expect_name(p, &n->name);
}

/* Adjacent string literals are one string. */
static bool parse_strings(tmpl_parser *p, tmpl_node *n)
{
    const tmpl_token *first = p->at;
    size_t len = 0;
    for (; p->at->kind == TOK_STRING; p->at++)
        len += p->at->len;
    tmpl_str *s = hob_tmpl_parser_alloc(p, sizeof *s);
    if (!s)
        return false;
    *s = (tmpl_str){.s = first->text, .len = len, .trust = TMPL_TRUSTED};
    if (p->at - first > 1) {
        char *joined = hob_tmpl_parser_alloc(p, len + 1);
        if (!joined)
            return false;
        s->s = joined;
        for (const tmpl_token *t = first; t < p->at; t++) {
            memcpy(joined, t->text, t->len);
            joined += t->len;
        }
    }
    n->value = tmpl_string(s);
    return true;
}

static bool parse_sequence(tmpl_parser *p, tmpl_node *n, int kind, int end)
{
    n->kind = (uint8_t)kind;
    while (!hob_tmpl_skip_op(p, end)) {
        tmpl_node *item;
        if (n->count > 0) {
            if (!hob_tmpl_expect_op(p, ','))
                return false;
            if (hob_tmpl_skip_op(p, end))
                break;
        }
        if (!hob_tmpl_parse_expr(p, &item) || !hob_tmpl_add_item(p, n, item))
            return false;
        if (kind != N_DICT)
            continue;
        if (!hob_tmpl_expect_op(p, ':') || !hob_tmpl_parse_expr(p, &item) ||
            !hob_tmpl_add_item(p, n, item))
            return false;
    }
    return true;
}

static bool parse_primary(tmpl_parser *p, tmpl_node **ret)
{
    const tmpl_token *t = p->at;
    tmpl_node *n = *ret = hob_tmpl_node(p, N_CONST, t->line);
    if (!n)
        return false;
    switch (t->kind) {
    case TOK_NAME: return parse_name(p, n);
    case TOK_STRING: return parse_strings(p, n);
    case TOK_INT:
        n->value = tmpl_int(t->i, true);
        p->at++;
        return true;
    case TOK_FLOAT:
        n->value = tmpl_float(t->f, true);
        p->at++;
        return true;
    default: break;
    }
    if (hob_tmpl_skip_op(p, '[')) {
        bool ok = hob_tmpl_deeper(p) && parse_sequence(p, n, N_LIST, ']');
        p->depth--;
        return ok;
    }
    if (hob_tmpl_skip_op(p, '{')) {
        bool ok = hob_tmpl_deeper(p) && parse_sequence(p, n, N_DICT, '}');
        p->depth--;
        return ok;
    }
    if (hob_tmpl_skip_op(p, '(')) {
        if (hob_tmpl_skip_op(p, ')')) {
            n->kind = N_TUPLE;
            return true;
        }
        return hob_tmpl_deeper(p) && hob_tmpl_parse_tuple(p, true, ret) &&
               hob_tmpl_expect_op(p, ')') && p->depth-- > 0;
    }
    return hob_tmpl_unexpected(p, "an expression");
}
