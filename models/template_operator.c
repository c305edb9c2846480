/* SPDX-License-Identifier: Apache-2.0
 *
 * Arithmetic and comparison with Python's meaning, on 64-bit integers: what would need a longer one
 * is HOB_ELIMIT. A number is trusted if both operands are; joined strings keep their ranges. */
#include "models/template_internal.h"

#include <math.h>
#include <string.h>

bool hob_tmpl_require(tmpl_run *r, tmpl_value v)
{
    if (v.kind == TV_MISSING)
        return hob_tmpl_fail(r, HOB_EINVAL, "a value is undefined");
    if (v.kind != TV_UNDEFINED)
        return true;
    size_t n = v.u.s->len < 80 ? v.u.s->len : 80;
    return hob_tmpl_fail(r, HOB_EINVAL, "'%.*s' is undefined", (int)n, v.u.s->s);
}

static int64_t int_of(tmpl_value v)
{
    return v.kind == TV_INT ? v.u.i : v.u.b;
}
static double double_of(tmpl_value v)
{
    return v.kind == TV_FLOAT ? v.u.f : (double)int_of(v);
}

static bool overflow(tmpl_run *r)
{
    return hob_tmpl_fail(r, HOB_ELIMIT, "an integer beyond 64 bits");
}

static bool int_power(tmpl_run *r, int64_t base, int64_t exponent, int64_t *ret)
{
    int64_t result = 1;
    for (;;) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return overflow(r);
        exponent >>= 1;
        if (exponent == 0)
            break;
        if (__builtin_mul_overflow(base, base, &base))
            return overflow(r);
    }
    *ret = result;
    return true;
}

static bool int_binary(tmpl_run *r, int op, int64_t a, int64_t b, int64_t *ret)
{
    bool over = false;
    switch (op) {
    case '+': over = __builtin_add_overflow(a, b, ret); break;
    case '-': over = __builtin_sub_overflow(a, b, ret); break;
    case '*': over = __builtin_mul_overflow(a, b, ret); break;
    case TMPL_OP2('*', '*'): return int_power(r, a, b, ret);
    default: /* // and %, rounding down; b is not 0 */
        if (b == -1) {
            over = op != '%' && __builtin_sub_overflow((int64_t)0, a, ret);
            if (op == '%')
                *ret = 0;
            break;
        }
        *ret = op == '%' ? a % b : a / b;
        if (a % b != 0 && (a < 0) != (b < 0))
            *ret += op == '%' ? b : -1;
    }
    return over ? overflow(r) : true;
}

static bool number_binary(tmpl_run *r, int op, tmpl_value a, tmpl_value b, tmpl_value *ret)
{
    bool trusted = a.trusted && b.trusted, ints = a.kind != TV_FLOAT && b.kind != TV_FLOAT;
    bool division = op == '/' || op == '%' || op == TMPL_OP2('/', '/');
    double x = double_of(a), y = double_of(b), f;
    if (division && y == 0)
        return hob_tmpl_fail(r, HOB_EINVAL, "division by zero");
    if (ints && op != '/' && !(op == TMPL_OP2('*', '*') && y < 0)) {
        int64_t i = 0;
        if (!int_binary(r, op, int_of(a), int_of(b), &i))
            return false;
        *ret = tmpl_int(i, trusted);
        return true;
    }
    switch (op) {
    case '+': f = x + y; break;
    case '-': f = x - y; break;
    case '*': f = x * y; break;
    case '/': f = x / y; break;
    case '%':
        f = fmod(x, y);
        if (f != 0 && (f < 0) != (y < 0))
            f += y;
        break;
    case TMPL_OP2('/', '/'): { /* from the exact remainder, so that 1 // 0.1 is 9 */
        double rest = fmod(x, y);
        f = (x - rest) / y;
        if (rest != 0 && (rest < 0) != (y < 0))
            f -= 1;
        f = round(f);
        break;
    }
    default:
        if (x == 0 && y < 0)
            return hob_tmpl_fail(r, HOB_EINVAL, "zero to a negative power");
        f = pow(x, y);
        if (f != f && x == x && y == y)
            return hob_tmpl_fail(r, HOB_EINVAL, "a power that is not a real number");
    }
    *ret = tmpl_float(f, trusted);
    return true;
}

static bool repeat(tmpl_run *r, tmpl_value v, tmpl_value times, tmpl_value *ret)
{
    int64_t n = int_of(times);
    if (v.kind == TV_STRING) {
        tmpl_buf *b = hob_tmpl_run_alloc(r, 1, sizeof *b);
        if (!b)
            return false;
        if (v.u.s->len > 0 && n > 0 && (uint64_t)n > r->max_bytes / v.u.s->len)
            return hob_tmpl_fail(r, HOB_ELIMIT, "a text of more than %zu bytes", r->max_bytes);
        for (int64_t i = 0; i < n && v.u.s->len > 0; i++) {
            if (!hob_tmpl_charge(r, 1) || !hob_tmpl_buf_put_str(r, b, v.u.s))
                return false;
        }
        return hob_tmpl_buf_str(r, b, ret);
    }
    tmpl_list *l, *from = v.u.list;
    if (!hob_tmpl_list_new(r, 0, &l))
        return false;
    for (int64_t i = 0; i < n && from->count > 0; i++) {
        for (size_t k = 0; k < from->count; k++) {
            if (!hob_tmpl_charge(r, 1) || !hob_tmpl_list_push(r, l, from->items[k]))
                return false;
        }
    }
    *ret = (tmpl_value){.kind = v.kind, .trusted = v.trusted && times.trusted, .u.list = l};
    return true;
}

bool hob_tmpl_binary(tmpl_run *r, int op, tmpl_value a, tmpl_value b, tmpl_value *ret)
{
    if (!hob_tmpl_require(r, a) || !hob_tmpl_require(r, b))
        return false;
    if (tmpl_is_number(a) && tmpl_is_number(b))
        return number_binary(r, op, a, b, ret);
    bool list_a = a.kind == TV_LIST || a.kind == TV_TUPLE,
         list_b = b.kind == TV_LIST || b.kind == TV_TUPLE;
    if (op == '+' && a.kind == TV_STRING && b.kind == TV_STRING)
        return hob_tmpl_concat(r, a.u.s, b.u.s, ret);
    if (op == '+' && list_a && a.kind == b.kind) {
        tmpl_list *l;
        size_t n = a.u.list->count, m = b.u.list->count;
        if (!hob_tmpl_list_new(r, n + m, &l))
            return false;
        if (n > 0)
            memcpy(l->items, a.u.list->items, n * sizeof *l->items);
        if (m > 0)
            memcpy(l->items + n, b.u.list->items, m * sizeof *l->items);
        l->count = n + m;
        *ret = (tmpl_value){.kind = a.kind, .trusted = a.trusted && b.trusted, .u.list = l};
        return true;
    }
    if (op == '*' && (a.kind == TV_STRING || list_a) && tmpl_is_number(b) && b.kind != TV_FLOAT)
        return repeat(r, a, b, ret);
    if (op == '*' && (b.kind == TV_STRING || list_b) && tmpl_is_number(a) && a.kind != TV_FLOAT)
        return repeat(r, b, a, ret);
    if (op == '%' && a.kind == TV_STRING)
        return hob_tmpl_fail(r, HOB_EUNSUPPORTED, "formatting with \"%%\" is not supported");
    char name[3] = {(char)(op & 0xff), (char)(op >> 8), 0};
    return hob_tmpl_fail(r, HOB_EINVAL, "\"%s\" cannot combine a %s and a %s", name,
                         hob_tmpl_type_name(a), hob_tmpl_type_name(b));
}

bool hob_tmpl_negate(tmpl_run *r, tmpl_value v, tmpl_value *ret)
{
    if (!hob_tmpl_require(r, v))
        return false;
    if (!tmpl_is_number(v))
        return hob_tmpl_fail(r, HOB_EINVAL, "a sign in front of a %s", hob_tmpl_type_name(v));
    if (v.kind == TV_FLOAT) {
        *ret = tmpl_float(-v.u.f, v.trusted);
        return true;
    }
    return hob_tmpl_binary(r, '-', tmpl_int(0, true), v, ret);
}

bool hob_tmpl_compare(tmpl_run *r, int op, tmpl_value a, tmpl_value b, bool *ret)
{
    if (op == TMPL_OP2('=', '=') || op == TMPL_OP2('!', '=')) {
        if (!hob_tmpl_equal(r, a, b, ret))
            return false;
        *ret = *ret == (op == TMPL_OP2('=', '='));
        return true;
    }
    if (op == TMPL_OP_IN || op == TMPL_OP_NOT_IN) {
        if (!hob_tmpl_contains(r, b, a, ret))
            return false;
        *ret = *ret == (op == TMPL_OP_IN);
        return true;
    }
    int order;
    if (!hob_tmpl_require(r, a) || !hob_tmpl_require(r, b) || !hob_tmpl_order(r, a, b, &order))
        return false;
    *ret = order != 2 && (op == '<'                  ? order < 0
                          : op == '>'                ? order > 0
                          : op == TMPL_OP2('<', '=') ? order <= 0
                                                     : order >= 0);
    return true;
}
