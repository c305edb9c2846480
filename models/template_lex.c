/* SPDX-License-Identifier: Apache-2.0
 *
 * Template source to tokens, with the white space rules that chat templates are written for:
 * trim_blocks (the newline after a tag goes) and lstrip_blocks (blanks before a tag that begins its
 * line go), `-` and `+` overriding them, one newline at the very end dropped, all newlines made
 * "\n". Comments vanish, raw blocks become text. The rules follow jinja2's lexer, whose behaviour
 * is the reference. */
#include "models/template_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    tmpl_arena *arena;
    tmpl_tokens *out;
    hob_diag *diag;
    const char *src;
    size_t len, pos;
    size_t counted; /* bytes whose newlines are in line */
    uint32_t line;
    bool line_starting; /* what came before pos ended in a newline, or there was nothing */
    int error;
} lexer;

static uint32_t line_at(lexer *x, size_t pos)
{
    for (; x->counted < pos; x->counted++) {
        if (x->src[x->counted] == '\n')
            x->line++;
    }
    return x->line;
}

static bool push(lexer *x, tmpl_token t)
{
    tmpl_tokens *o = x->out;
    if (o->count == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 256;
        tmpl_token *data = realloc(o->data, cap * sizeof *data);
        if (!data) {
            x->error = hob_fail(x->diag, HOB_ENOMEM, "template: no memory for %zu tokens", cap);
            return false;
        }
        o->data = data;
        o->cap = cap;
    }
    o->data[o->count++] = t;
    return true;
}

static bool syntax(lexer *x, size_t at, const char *what)
{
    x->error = hob_fail(x->diag, HOB_EFORMAT, "template line %u: %s", line_at(x, at), what);
    return false;
}

static bool starts(const lexer *x, size_t pos, const char *s)
{
    size_t n = strlen(s);
    return n <= x->len - pos && memcmp(x->src + pos, s, n) == 0;
}

/* The text in front of a tag, with what its sign or lstrip_blocks takes from its end. */
static bool push_data(lexer *x, size_t start, size_t end, char sign, bool lstrip)
{
    const char *s = x->src + start;
    size_t n = end - start;
    if (sign == '-') {
        n -= hob_tmpl_space_suffix(s, n);
    } else if (sign != '+' && lstrip) {
        size_t l = n;
        while (l > 0 && s[l - 1] != '\n')
            l--;
        if ((l > 0 || x->line_starting) && hob_tmpl_space_prefix(s + l, n - l) == n - l)
            n = l;
    }
    if (n == 0)
        return true;
    return push(x, (tmpl_token){.kind = TOK_DATA, .line = line_at(x, start), .text = s, .len = n});
}

/* Whether a closing delimiter (two characters) is at pos; *ret_end is past it and the white space
 * it takes along. */
static bool closes(const lexer *x, size_t pos, const char *delimiter, bool trim, size_t *ret_end)
{
    size_t p = pos;
    char sign = 0;
    if (x->src[p] == '-' || (x->src[p] == '+' && trim))
        sign = x->src[p++];
    if (!starts(x, p, delimiter))
        return false;
    p += 2;
    if (sign == '-')
        p += hob_tmpl_space_prefix(x->src + p, x->len - p);
    else if (sign == 0 && trim && p < x->len && x->src[p] == '\n')
        p++;
    *ret_end = p;
    return true;
}

static void leave(lexer *x, size_t end)
{
    x->pos = end;
    x->line_starting = end > 0 && x->src[end - 1] == '\n';
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Whether `word` and then white space are at pos; *ret_end is past them. */
static bool keyword(const lexer *x, size_t pos, const char *word, size_t *ret_end)
{
    pos += hob_tmpl_space_prefix(x->src + pos, x->len - pos);
    if (!starts(x, pos, word))
        return false;
    pos += strlen(word);
    *ret_end = pos + hob_tmpl_space_prefix(x->src + pos, x->len - pos);
    return true;
}

/* After "{%" and its sign: the "raw %}" of a raw block. Its end takes a newline along only with
 * "-". */
static bool raw_begins(const lexer *x, size_t pos, size_t *ret_end)
{
    size_t p;
    if (!keyword(x, pos, "raw", &p))
        return false;
    if (starts(x, p, "-%}"))
        *ret_end = p + 3 + hob_tmpl_space_prefix(x->src + p + 3, x->len - p - 3);
    else if (starts(x, p, "%}"))
        *ret_end = p + 2;
    else
        return false;
    return true;
}

static bool lex_raw(lexer *x, size_t opened)
{
    size_t start = x->pos;
    for (size_t p = start; p + 2 <= x->len; p++) {
        if (!starts(x, p, "{%"))
            continue;
        size_t q = p + 2, end;
        char sign = 0;
        if (q < x->len && (x->src[q] == '-' || x->src[q] == '+'))
            sign = x->src[q++];
        if (!keyword(x, q, "endraw", &q) || q >= x->len || !closes(x, q, "%}", true, &end))
            continue;
        if (!push_data(x, start, p, sign, true))
            return false;
        leave(x, end);
        return true;
    }
    return syntax(x, opened, "{% raw %} is not closed by {% endraw %}");
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* A string literal with Python's escapes; *ret is arena memory. pos is at the opening quote. */
static bool lex_string(lexer *x, tmpl_token *ret)
{
    const char *s = x->src;
    size_t start = x->pos, p = start + 1;
    char quote = s[start];
    bool escaped = false;
    while (p < x->len && s[p] != quote) {
        if (s[p] == '\\') {
            escaped = true;
            p++;
        }
        p++;
    }
    if (p >= x->len)
        return syntax(x, start, "a string is not closed by its quote");
    *ret = (tmpl_token){
        .kind = TOK_STRING, .line = line_at(x, start), .text = s + start + 1, .len = p - start - 1};
    x->pos = p + 1;
    if (!escaped)
        return true;
    char *out = hob_tmpl_alloc(x->arena, ret->len + 1);
    if (!out) {
        x->error =
            hob_fail(x->diag, HOB_ELIMIT, "template line %u: too large to compile", ret->line);
        return false;
    }
    size_t n = 0;
    for (size_t i = start + 1; i < p;) {
        if (s[i] != '\\') {
            out[n++] = s[i++];
            continue;
        }
        char c = s[i + 1];
        static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
        const char *hit = c ? strchr(from, c) : NULL;
        size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
        if (hit) {
            out[n++] = to[hit - from];
            i += 2;
        } else if (c == '\n') {
            i += 2;
        } else if (digits > 0 || (c >= '0' && c <= '7')) {
            uint32_t v = 0;
            size_t k = 0, from_digit = digits > 0 ? i + 2 : i + 1, base = digits > 0 ? 16 : 8;
            for (; k < (digits > 0 ? digits : 3) && from_digit + k < p; k++) {
                int d = hex_digit(s[from_digit + k]);
                if (d < 0 || (size_t)d >= base || v > 0xfffffff)
                    break;
                v = v * (uint32_t)base + (uint32_t)d;
            }
            if ((digits > 0 && k < digits) || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
                return syntax(x, i,
                              "a string has a \\x, \\u or \\U escape that names no character");
            n += hob_tmpl_char_put(out + n, v); /* never longer than its escape */
            i = from_digit + k;
        } else if (c == 'N') {
            x->error = hob_fail(x->diag, HOB_EUNSUPPORTED,
                                "template line %u: a \\N{} escape in a string", ret->line);
            return false;
        } else {
            out[n++] = s[i++];
        }
    }
    ret->text = out;
    ret->len = n;
    return true;
}

static bool lex_number(lexer *x, tmpl_token *ret)
{
    const char *s = x->src;
    size_t start = x->pos, p = start;
    char digits[64];
    size_t n = 0;
    bool real = false, after_dot = start > 0 && s[start - 1] == '.';
    *ret = (tmpl_token){.kind = TOK_INT, .line = line_at(x, start), .text = s + start};
    int base = 10;
    if (s[p] == '0' && p + 1 < x->len && memchr("xXoObB", s[p + 1], 6)) {
        char c = (char)(s[p + 1] | 0x20);
        base = c == 'x' ? 16 : c == 'o' ? 8 : 2;
        p += 2;
    }
    for (; p < x->len && n < sizeof digits - 1; p++) {
        char c = s[p];
        bool digit = hex_digit(c) >= 0 && hex_digit(c) < base;
        bool next_digit = p + 1 < x->len && s[p + 1] >= '0' && s[p + 1] <= '9';
        if (digit) {
            digits[n++] = c;
        } else if (c == '_') {
            continue;
        } else if (base == 10 && c == '.' && !real && !after_dot && next_digit) {
            real = true;
            digits[n++] = c;
        } else if (base == 10 && (c == 'e' || c == 'E') && !after_dot && p + 1 < x->len &&
                   (next_digit || ((s[p + 1] == '-' || s[p + 1] == '+') && p + 2 < x->len &&
                                   s[p + 2] >= '0' && s[p + 2] <= '9'))) {
            real = true;
            digits[n++] = c;
            if (!next_digit && n < sizeof digits - 1)
                digits[n++] = s[++p];
        } else {
            break;
        }
    }
    digits[n] = 0;
    if (n == 0 || n == sizeof digits - 1)
        return syntax(x, start, "a number is malformed or too long");
    x->pos = p;
    ret->len = p - start;
    if (real) {
        ret->kind = TOK_FLOAT;
        ret->f = strtod(digits, NULL);
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (__builtin_mul_overflow(ret->i, (int64_t)base, &ret->i) ||
            __builtin_add_overflow(ret->i, (int64_t)hex_digit(digits[i]), &ret->i))
            return syntax(x, start, "an integer does not fit 64 bits");
    }
    return true;
}

/* The inside of {{ }} or {% %}, from pos to past its end. */
static bool lex_inside(lexer *x, size_t opened, bool tag)
{
    char open[TMPL_PARSE_DEPTH];
    size_t depth = 0;
    const char *s = x->src;
    for (;;) {
        x->pos += hob_tmpl_space_prefix(s + x->pos, x->len - x->pos);
        size_t p = x->pos, end;
        if (p >= x->len)
            return syntax(x, opened, tag ? "{% is not closed by %}" : "{{ is not closed by }}");
        tmpl_token t = {.kind = TOK_OP,
                        .line = line_at(x, p),
                        .text = s + p,
                        .len = 1,
                        .op = (unsigned char)s[p]};
        if (depth == 0 && closes(x, p, tag ? "%}" : "}}", tag, &end)) {
            t.kind = tag ? TOK_TAG_END : TOK_PRINT_END;
            leave(x, end);
            return push(x, t);
        }
        if (s[p] >= '0' && s[p] <= '9') {
            if (!lex_number(x, &t))
                return false;
        } else if (s[p] == '"' || s[p] == '\'') {
            if (!lex_string(x, &t))
                return false;
        } else if (is_name_char(s[p])) {
            t.kind = TOK_NAME;
            while (p + t.len < x->len && is_name_char(s[p + t.len]))
                t.len++;
            x->pos += t.len;
        } else {
            static const char pairs[][3] = {"//", "**", "==", "!=", ">=", "<="};
            if (s[p] == 0 || (!strchr("+-/*%~[](){}=<>.:|,;", s[p]) && !starts(x, p, "!=")))
                return syntax(x, p, "an unexpected character in an expression");
            for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
                if (starts(x, p, pairs[i])) {
                    t.op = TMPL_OP2(pairs[i][0], pairs[i][1]);
                    t.len = 2;
                }
            }
            if (t.len == 1 && strchr("([{", s[p])) {
                if (depth == sizeof open) {
                    x->error = hob_fail(x->diag, HOB_ELIMIT,
                                        "template line %u: more than %zu open brackets", t.line,
                                        sizeof open);
                    return false;
                }
                open[depth++] = s[p] == '(' ? ')' : s[p] == '[' ? ']' : '}';
            } else if (t.len == 1 && strchr(")]}", s[p])) {
                if (depth == 0 || open[depth - 1] != s[p])
                    return syntax(x, p, "a closing bracket that does not fit");
                depth--;
            }
            x->pos += t.len;
        }
        if (!push(x, t))
            return false;
    }
}

static bool lex_root(lexer *x)
{
    for (;;) {
        size_t start = x->pos, p = start;
        const char *s = x->src;
        for (;; p++) {
            const char *brace = memchr(s + p, '{', x->len - p);
            if (!brace || (size_t)(brace - s) + 1 >= x->len) {
                p = x->len;
                break;
            }
            p = (size_t)(brace - s);
            if (s[p + 1] == '{' || s[p + 1] == '%' || s[p + 1] == '#')
                break;
        }
        if (p == x->len) {
            x->pos = p;
            return push_data(x, start, p, '+', false);
        }
        char kind = s[p + 1];
        size_t q = p + 2, end;
        char sign = 0;
        if (q < x->len && (s[q] == '-' || s[q] == '+'))
            sign = s[q++];
        if (!push_data(x, start, p, sign, kind != '{'))
            return false;
        x->pos = q;
        if (kind == '#') {
            while (q < x->len && !closes(x, q, "#}", true, &end))
                q++;
            if (q >= x->len)
                return syntax(x, p, "{# is not closed by #}");
            leave(x, end);
        } else if (kind == '%' && raw_begins(x, q, &end)) {
            leave(x, end);
            if (!lex_raw(x, p))
                return false;
        } else {
            tmpl_token t = {.kind = kind == '%' ? TOK_TAG_BEGIN : TOK_PRINT_BEGIN,
                            .line = line_at(x, p)};
            t.text = s + p;
            t.len = 2;
            if (!push(x, t) || !lex_inside(x, p, kind == '%'))
                return false;
        }
    }
}

int hob_tmpl_lex(tmpl_arena *a, const char *source, size_t len, tmpl_tokens *ret, hob_diag *diag)
{
    if (len > TMPL_SOURCE_MAX)
        return hob_fail(diag, HOB_ELIMIT, "template: %zu bytes, at most %zu are compiled", len,
                        TMPL_SOURCE_MAX);
    if (!hob_tmpl_utf8_ok(source, len))
        return hob_fail(diag, HOB_EFORMAT, "template: not valid UTF-8");
    char *text = hob_tmpl_alloc(a, len + 1);
    if (!text)
        return hob_fail(diag, HOB_ENOMEM, "template: no memory for %zu bytes of source", len);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r' && i + 1 < len && source[i + 1] == '\n')
            continue;
        text[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n > 0 && text[n - 1] == '\n')
        n--;
    text[n] = 0; /* a look one byte past the end sees no delimiter */
    lexer x = {.arena = a,
               .out = ret,
               .diag = diag,
               .src = text,
               .len = n,
               .line = 1,
               .line_starting = true};
    if (!lex_root(&x))
        return x.error;
    if (!push(&x, (tmpl_token){.kind = TOK_EOF, .line = line_at(&x, n), .text = text + n}))
        return x.error;
    return 0;
}
