/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat templates: what jinja2 makes of them, byte for byte (tests/data/template_reference.json,
 * whose maker says how); errors with line and construct; bounds; and which bytes of the output are
 * trusted. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/fuzz/fuzz_template.c"
#include "tests/support/vocabulary.h"

#define REFERENCE "tests/data/template_reference.json"

/* --- jinja2's answers --- */
static void shows_what_jinja2_shows(void **state)
{
    (void)state;
    json_error_t where;
    json_t *all = json_load_file(REFERENCE, JSON_ALLOW_NUL, &where), *c;
    assert_non_null(all);
    json_t *templates = json_object_get(all, "templates"),
           *trusted = json_object_get(all, "trusted");
    size_t i, wrong = 0, errors = 0;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *name = json_string_value(json_object_get(c, "template"));
        json_t *source = json_object_get(templates, name),
               *variables = json_object_get(c, "variables");
        json_t *text = json_object_get(c, "text");
        if (json_is_string(variables))
            variables =
                json_object_get(json_object_get(all, "shared"), json_string_value(variables));
        hob_template *t = NULL;
        hob_rendered r = {0};
        hob_diag diag = {""};
        int rc =
            hob_template_compile(json_string_value(source), json_string_length(source), &t, &diag);
        if (rc == 0)
            rc = hob_template_render(t, variables, trusted, 0, &r, &diag);
        if (!text) {
            errors++;
            if (rc == 0) {
                print_message("case %zu, %s: %s\n  jinja2: %s\n  got: %s\n", i, name,
                              json_string_value(source),
                              json_string_value(json_object_get(c, "error")), r.text);
                wrong++;
            } else if (diag.text[0] == 0) {
                print_message("case %zu, %s: an error without words\n", i, name);
                wrong++;
            }
        } else if (rc < 0 || r.len != json_string_length(text) ||
                   memcmp(r.text, json_string_value(text), r.len) != 0) {
            print_message("case %zu, %s: %.300s\n  jinja2: %s\n  got: %s %s\n", i, name,
                          json_string_value(source), json_string_value(text), r.text ? r.text : "",
                          diag.text);
            wrong++;
        }
        hob_rendered_free(&r);
        hob_template_free(t);
    }
    assert_true(i > 400 && errors > 40);
    json_decref(all);
    assert_int_equal(wrong, 0);
}

/* --- helpers for the rest: one template, variables as JSON --- */
static int render(const char *source, const char *variables, size_t max_bytes, hob_rendered *ret,
                  hob_diag *diag)
{
    hob_template *t;
    int rc = hob_template_compile(source, strlen(source), &t, diag);
    if (rc < 0)
        return rc;
    json_error_t where;
    json_t *v = json_loads(variables, 0, &where),
           *trusted = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    assert_non_null(v);
    rc = hob_template_render(t, v, trusted, max_bytes, ret, diag);
    json_decref(v);
    json_decref(trusted);
    hob_template_free(t);
    return rc;
}

/* Fails with this code and these words. */
static void refuses(const char *source, const char *variables, int code, const char *words)
{
    hob_rendered r = {0};
    hob_diag diag = {""};
    int rc = render(source, variables, 1 << 20, &r, &diag);
    if (rc != code || !strstr(diag.text, words))
        print_message("%.200s\n  %s: %s\n", source, rc < 0 ? hob_error_name(rc) : "no error",
                      diag.text);
    assert_int_equal(rc, code);
    assert_non_null(strstr(diag.text, words));
    assert_null(r.text);
}

static void says_where_it_fails(void **state)
{
    (void)state;
    refuses("a\nb\n{{ 1 + }}", "{}", HOB_EFORMAT, "line 3: in {{ }}: expected an expression");
    refuses("\n{% for x in %}\n{% endfor %}", "{}", HOB_EFORMAT, "line 2: in {% for %}");
    refuses("{% if a %}\n\n{% endfor %}", "{}", HOB_EFORMAT,
            "line 3: in {% if %}: unknown tag \"endfor\"");
    refuses("x\n{% if a %}\n", "{}", HOB_EFORMAT, "in {% if %}: opened before line 2");
    refuses("\n\n{{ 'abc }}", "{}", HOB_EFORMAT, "line 3: a string is not closed");
    refuses("\n{% raw %}\n", "{}", HOB_EFORMAT, "line 2: {% raw %} is not closed");
    refuses("\n{# x\n", "{}", HOB_EFORMAT, "line 2: {# is not closed");
    refuses("{{ x ! y }}", "{}", HOB_EFORMAT, "line 1: an unexpected character");
    refuses("{{ (1] }}", "{}", HOB_EFORMAT, "closing bracket");
    refuses("{{ 99999999999999999999 }}", "{}", HOB_EFORMAT, "64 bits");
    refuses("{{ '\\ud800' }}", "{}", HOB_EFORMAT, "no character");
    refuses("{{ '\xff' }}", "{}", HOB_EFORMAT, "UTF-8");
    refuses("\n{% include 'x' %}", "{}", HOB_EUNSUPPORTED,
            "line 2: in the template: the tag \"include\"");
    refuses("{{ a | frob }}", "{}", HOB_EUNSUPPORTED, "no filter named \"frob\"");
    refuses("{{ a is frob }}", "{}", HOB_EUNSUPPORTED, "no test named \"frob\"");
    refuses("{% if true %}\n{{ a | frob }}{% endif %}", "{}", HOB_EUNSUPPORTED,
            "line 2: no filter named \"frob\"");
    refuses("a\n\n{{ missing.x }}", "{}", HOB_EINVAL, "line 3: 'missing' is undefined");
    refuses("{% for m in ms %}\n{{ m.a.b }}\n{% endfor %}", "{\"ms\": [{\"a\": 1}, {}]}",
            HOB_EINVAL, "line 2: 'a' is undefined");
    refuses("{{\n1 +\n'a' }}", "{}", HOB_EINVAL,
            "\"+\" cannot combine a whole number and a string");
    refuses("\n{{ raise_exception('roles must ' ~ 'alternate') }}", "{}", HOB_EINVAL,
            "line 2: roles must alternate");
    refuses("{{ x }}", "[]", HOB_EINVAL, "not an object");
}

/* What a message says may be cut anywhere, and may hold anything, but a diagnosis is one line of
 * UTF-8. */
static void diagnoses_in_clean_text(void **state)
{
    (void)state;
    for (int shift = 0; shift < 4; shift++) {
        hob_rendered r = {0};
        hob_diag diag = {""};
        char source[100];
        snprintf(source, sizeof source, "{{ raise_exception('%.*s\\n\\x1b' ~ u * 100) }}", shift,
                 "xxx");
        assert_int_equal(render(source, "{\"u\": \"\\ud83d\\ude00\"}", 0, &r, &diag), HOB_EINVAL);
        json_t *s = json_string(diag.text); /* NULL unless valid UTF-8 */
        assert_non_null(s);
        json_decref(s);
        assert_null(strpbrk(diag.text, "\n\x1b"));
        assert_true(strlen(diag.text) > 100);
    }
}

static char *repeated(const char *front, const char *s, size_t n, const char *back)
{
    size_t len = strlen(s), at = strlen(front);
    char *text = malloc(at + len * n + strlen(back) + 1);
    assert_non_null(text);
    memcpy(text, front, at);
    for (size_t i = 0; i < n; i++, at += len)
        memcpy(text + at, s, len);
    strcpy(text + at, back);
    return text;
}

static void refuses_repeated(const char *front, const char *s, size_t n, const char *back, int code,
                             const char *words)
{
    char *text = repeated(front, s, n, back);
    refuses(text, "{}", code, words);
    free(text);
}

static void ends_what_would_not_end(void **state)
{
    (void)state;
    refuses("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{}", HOB_ELIMIT, "");
    refuses("{% set l = [1] %}{% for a in l %}{% set x = l.append(a) %}{% endfor %}", "{}",
            HOB_ELIMIT, "");
    refuses("{% set ns = namespace(s='ab') %}{% for a in range(1000) %}{% set ns.s = ns.s + ns.s "
            "%}{% endfor %}",
            "{}", HOB_ELIMIT, "text of more than");
    refuses("{% set ns = namespace(l=[1]) %}{% for a in range(1000) %}{% set ns.l = ns.l + ns.l "
            "%}{% endfor %}",
            "{}", HOB_ELIMIT, "");
    refuses("{{ 'x' * 1000000000000 }}", "{}", HOB_ELIMIT, "text of more than");
    refuses("{{ [1] * 1000000000000 }}", "{}", HOB_ELIMIT, "");
    refuses("{{ '' * 1000000000000 }}{{ range(100001) }}", "{}", HOB_ELIMIT, "range()");
    refuses("{{ range(-9223372036854775807 - 1, 0, -1) }}{{ range(0, 9223372036854775807) }}", "{}",
            HOB_ELIMIT, "range()");
    refuses("{{ 9223372036854775807 + 1 }}", "{}", HOB_ELIMIT, "64 bits");
    refuses("{{ (-9223372036854775807 - 1) // -1 }}", "{}", HOB_ELIMIT, "64 bits");
    refuses("{{ 1e20 | int }}", "{}", HOB_ELIMIT, "64 bits");
    refuses("{{ 10 ** 100 }}", "{}", HOB_ELIMIT, "64 bits");
    refuses("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{}", HOB_ELIMIT, "deeper");
    refuses("{% macro f(x) %}{{ f(x) ~ f(x) }}{% endmacro %}{{ f(1) }}", "{}", HOB_ELIMIT,
            "deeper");
    refuses("{% set l = [] %}{% set x = l.append(l) %}{{ l }}", "{}", HOB_ELIMIT, "deeper");
    refuses("{% set l = [] %}{% set x = l.append(l) %}{{ l | tojson }}", "{}", HOB_ELIMIT,
            "deeper");
    refuses("{% set l = [] %}{% set x = l.append(l) %}{% set k = [l] %}{% set x = k.append(k) %}{{ "
            "l == k }}"
            "{% set m = [] %}{% set x = m.append(m) %}{{ l == m }}",
            "{}", HOB_ELIMIT, "deeper");
    refuses("{{ 'a' | indent(100000) }}", "{}", HOB_ELIMIT, "indent");
    refuses(
        "{% macro f(x) %}{% if x %}{{ f(x - 1) }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(60) "
        "}}",
        "{}", HOB_ELIMIT, "more than");
    refuses("{{ range(99999) | map('string') | join('x' * 99999) }}", "{}", HOB_ELIMIT,
            "more than");
    refuses("{{ ('a' * 99999) | replace('a', 'b' * 99999) }}", "{}", HOB_ELIMIT, "more than");
    refuses(
        "{% set s = 'a' * 99999 %}{% for i in range(99999) %}{% set x = ('a' * 9999 ~ 'b') in s "
        "%}{% endfor %}",
        "{}", HOB_ELIMIT, "more than");
    refuses(
        "{% set s = 'a' * 999999 %}{% for i in range(99999) %}{% set x = s | upper %}{% endfor %}",
        "{}", HOB_ELIMIT, "more than");
    refuses("{% for i in range(9999) %}{% set x = range(99999) | sort(reverse=true) %}{% endfor %}",
            "{}", HOB_ELIMIT, "more than");
    refuses("{{ '{:1000000000}'.format(1) }}", "{}", HOB_EUNSUPPORTED, "format()");
    refuses("{% for i in range(2000) %}{{ "
            "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 100 }}{% "
            "endfor %}",
            "{}", HOB_ELIMIT, "text of more than 1048576 bytes");
}

static void bounds_nesting(void **state)
{
    (void)state;
    refuses_repeated("{{ ", "(", 100000, "", HOB_ELIMIT, "open brackets");
    char *closed = repeated("", "]", 150, " }}");
    refuses_repeated("{{ ", "[", 150, closed, HOB_ELIMIT, "deeper");
    free(closed);
    refuses_repeated("{{ ", "not ", 50000, "x }}", HOB_ELIMIT, "deeper");
    refuses_repeated("{{ ", "- ", 50000, "x }}", HOB_ELIMIT, "deeper");
    refuses_repeated("{{ x", " + x", 50000, " }}", HOB_ELIMIT, "levels");
    refuses_repeated("{{ x", ".x", 50000, " }}", HOB_ELIMIT, "levels");
    refuses_repeated("{{ x", "|trim", 40000, " }}", HOB_ELIMIT, "levels");
    refuses_repeated("{{ x", " if x else x", 20000, " }}", HOB_ELIMIT, "deeper");
    refuses_repeated("{{ x", " and x", 40000, " }}", HOB_ELIMIT, "levels");
    refuses_repeated("", "{% if x %}", 20000, "", HOB_ELIMIT, "deeper");
    refuses_repeated("", "{% for x in x %}", 15000, "", HOB_ELIMIT, "deeper");
    refuses_repeated("{% set ", "(", 190, "a", HOB_EFORMAT, "");
    refuses_repeated("", "x", 300000, "", HOB_ELIMIT, "bytes");
    /* what nests sideways has no such bound */
    char *wide = repeated("{% if a %}0", "{% elif b == 1 %}x", 5000, "{% else %}end{% endif %}");
    hob_rendered r = {0};
    hob_diag diag = {""};
    assert_int_equal(render(wide, "{}", 0, &r, &diag), 0);
    assert_string_equal(r.text, "end");
    hob_rendered_free(&r);
    free(wide);
}

static void refuses_deep_variables(void **state)
{
    (void)state;
    char *deep = repeated("{\"x\": ", "[", 1000, ""), *whole = repeated(deep, "]", 1000, "}");
    refuses("{{ 1 }}", whole, HOB_ELIMIT, "nest deeper");
    free(deep);
    free(whole);
}

/* What is linear in its input stays within the bounds, however long the input. */
static void renders_long_conversations(void **state)
{
    (void)state;
    json_t *messages = json_array(), *v = json_pack("{s:o}", "messages", messages);
    char *content = repeated("", "some words ", 100, "");
    for (int i = 0; i < 4000; i++)
        json_array_append_new(
            messages,
            json_pack("{s:s, s:s}", "role", i % 2 ? "assistant" : "user", "content", content));
    static const char source[] =
        "{% set ns = namespace(all='') %}{% for m in messages %}{% if m.role == 'user' and not "
        "loop.last %}"
        "{% set ns.all = ns.all + '<' + m.role + '>' + m.content | trim + '\\n' %}{% else %}"
        "{% set ns.all = ns.all ~ m.content %}{% endif %}{% endfor %}{{ ns.all }}";
    hob_template *t;
    hob_rendered r = {0};
    hob_diag diag = {""};
    assert_int_equal(hob_template_compile(source, strlen(source), &t, &diag), 0);
    int rc = hob_template_render(t, v, NULL, 0, &r, &diag);
    if (rc < 0)
        print_message("%s\n", diag.text);
    assert_int_equal(rc, 0);
    assert_int_equal(r.len, 2000 * (6 + 1099 + 1) + 2000 * 1100);
    assert_int_equal(r.trusted_count, 2000 * 3);
    hob_rendered_free(&r);
    hob_template_free(t);
    json_decref(v);
    free(content);
}

/* --- trust --- */

/* Renders and marks each trusted byte with "T" and each other with "-"; both are compared. */
static void trusts(const char *source, const char *variables, const char *text, const char *marks)
{
    hob_rendered r = {0};
    hob_diag diag = {""};
    int rc = render(source, variables, 0, &r, &diag);
    if (rc < 0)
        print_message("%s: %s\n", source, diag.text);
    assert_int_equal(rc, 0);
    assert_string_equal(r.text, text);
    char *got = malloc(r.len + 1);
    assert_non_null(got);
    memset(got, '-', r.len);
    got[r.len] = 0;
    for (size_t i = 0; i < r.trusted_count; i++) {
        assert_true(r.trusted[i].start < r.trusted[i].end && r.trusted[i].end <= r.len);
        assert_true(i == 0 || r.trusted[i].start > r.trusted[i - 1].end);
        memset(got + r.trusted[i].start, 'T', r.trusted[i].end - r.trusted[i].start);
    }
    if (strcmp(got, marks) != 0)
        print_message("%s\n  %s\n  %s, wanted\n  %s\n", source, r.text, got, marks);
    assert_string_equal(got, marks);
    free(got);
    hob_rendered_free(&r);
}

static void knows_who_wrote_what(void **state)
{
    (void)state;
    static const char v[] = "{\"u\": \"user\", \"l\": [\"a\", \"b\"], \"n\": 5, \"p\": \" x \", "
                            "\"d\": {\"k\": \"v\"}, \"bos_token\": \"evil\"}";
    trusts("abc{{ u }}def", v, "abcuserdef", "TTT----TTT");
    trusts("{{ '<' + u + '>' }}", v, "<user>", "T----T");
    trusts("{{ '<' ~ u ~ '>' ~ n }}", v, "<user>5", "T----T-");
    trusts("{{ bos_token }}{{ eos_token }}", v, "<s></s>", "TTTTTTT");
    trusts("{{ ('<' + u + '>')[0:3] }}{{ ('<' + u + '>')[-2:] }}", v, "<usr>", "T---T");
    trusts("{{ ('<' + u + '>')[1] }}{{ ('<' + u + '>')[0] }}", v, "u<", "-T");
    trusts("{{ ('<' + u + '>')[::-1] }}", v, ">resu<", "T----T");
    trusts("{{ (' <' + p + '> ') | trim }}", v, "< x >", "T---T");
    trusts("{{ (' <' + p).strip() }}|{{ (p + '> ').strip() }}", v, "< x|x >", "T--T--T");
    trusts("{{ (' <' + p + '>') | upper }}", v, " < X >", "------");
    trusts("{{ '<a>' | upper }}{{ u | upper }}", v, "<A>USER", "TTT----");
    trusts("{{ 'x<y'.replace('<', u) }}{{ 'x<y'.replace('<', '>') }}{{ u.replace('user', '<s>') }}",
           v, "xuseryx>y<s>", "------TTT---");
    trusts("{{ l | join('<|>') }}", v, "a<|>b", "-TTT-");
    trusts("{{ '<|>'.join(l) }}{{ ['x', u] | join }}", v, "a<|>bxuser", "-TTT-T----");
    trusts("{{ ('<' + u + '>').split('s') | join('s') }}", v, "<user>", "T-T--T");
    trusts("{{ u | tojson }}{{ 'x' | tojson }}{{ ['x', u] | tojson }}", v,
           "\"user\"\"x\"[\"x\", \"user\"]", "------TTT-------------");
    trusts("{{ {'a': u} | tojson }}{{ {u: 'a'} | tojson }}{{ {'a': 1} | tojson }}", v,
           "{\"a\": \"user\"}{\"user\": \"a\"}{\"a\": 1}",
           "------------"
           "------------"
           "--"
           "TTTTTTTT");
    trusts("{{ 'a' | tojson(separators=(u, u)) }}", v, "\"a\"", "---");
    trusts("{{ n }}{{ n + 1 }}{{ 1 + 1 }}{{ l | length }}{{ 'ab' | length }}", v, "56222", "--T-T");
    trusts("{{ u == 'user' }}{{ 1 == 1 }}", v, "TrueTrue", "----TTTT");
    trusts("{{ missing | default('<s>') }}{{ u | default('<s>') }}{{ u if true else '' }}", v,
           "<s>useruser", "TTT--------");
    trusts("{{ 'user' if u == 'user' else 'other' }}", v, "user", "TTTT");
    trusts("{% for k, x in d.items() %}{{ k }}={{ x }}{% endfor %}", v, "k=v", "-T-");
    trusts("{% for c in '<' + u %}{{ c }}{{ loop.index }}{% endfor %}", v, "<1u2s3e4r5",
           "TT-T-T-T-T");
    trusts("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(u) }}{{ m('a') }}", v, "<user><a>",
           "T----TTTT");
    trusts("{% set b %}<{{ u }}>{% endset %}{{ b }}{{ b + b }}", v, "<user><user><user>",
           "T----TT----TT----T");
    trusts("{% filter trim %} <{{ u }}> {% endfilter %}{% filter upper %}<{{ u }}{% endfilter %}",
           v, "<user><USER", "T----T-----");
    trusts("{% set ns = namespace(s='') %}{% for x in l %}{% set ns.s = ns.s + '<' + x %}{% endfor "
           "%}{{ ns.s }}",
           v, "<a<b", "T-T-");
    trusts("{{ [u, '<s>'] }}{{ ['<s>'] }}", v, "['user', '<s>']['<s>']", "---------------TTTTTTT");
    trusts("{{ ['<', u] | sort | join }}{{ ['<', u] | reverse | join }}{{ ['<', u] | last }}", v,
           "<useruser<user", "T--------T----");
    trusts("{{ ('<' + u) | indent(1, true) }}{{ '<' | indent(1, true) }}", v, " <user <",
           "------TT");
    trusts("{{ u * 2 }}{{ '<' * 3 }}{{ ('<' + u) * 2 }}", v, "useruser<<<<user<user",
           "--------TTTT----T----");
    trusts("{{ '{0}' | replace('0', n) }}{{ n | string }}{{ 5 | string }}", v, "{5}55", "----T");
    trusts("{{ u.split('e')[0] }}{{ 'a,b'.split(',')[1] }}", v, "usb", "--T");
    trusts("{{ ('<' + u) | reverse }}{{ '<>' | reverse }}", v, "resu<><", "-----TT");
}

/* A string that shares its buffer with longer ones made from it keeps its own bytes and ranges. */
static void keeps_strings_apart(void **state)
{
    (void)state;
    static const char v[] = "{\"u\": \"user\"}";
    trusts("{% set a = '<' + u %}{% set b = a + '|1' %}{% set c = a + u %}{% set d = b + '2' %}{{ "
           "a }} {{ b }} {{ c }} {{ d }}",
           v, "<user <user|1 <useruser <user|12", "T----TT----TTTT--------TT----TTT");
    trusts("{% set a = u + '<' %}{% set b = a + '>' %}{{ a }}{{ u }}{{ b }}", v, "user<useruser<>",
           "----T--------TT");
    trusts("{% set a = u + '<' %}{% set b = a + a %}{{ b }}", v, "user<user<", "----T----T");
}

static void tells_the_date(void **state)
{
    (void)state;
    trusts("{{ strftime_now('%%') }}{{ strftime_now('') }}{{ strftime_now('%d %b %Y') | length }}",
           "{}", "%11", "TTT");
    trusts("{{ strftime_now(f) }}", "{\"f\": \"x\"}", "x", "-");
    refuses("{{ strftime_now(f) }}",
            "{\"f\": "
            "\"%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c%c\"}",
            HOB_ELIMIT, "strftime_now");
}

/* A file without a template, but with these turn tokens. */
static void default_gives(const char *token, const char *messages, const char *text)
{
    const v_token tokens[] = {
        {"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}, {token, 0, 3}, {"a", -1, 1}};
    texts_vocabulary v = texts_vocabulary_of("llama", tokens, 5);
    mk file = {0};
    hob_gguf *g = NULL;
    hob_tokenizer *tokenizer = NULL;
    hob_template *t = NULL;
    hob_rendered r = {0};
    hob_diag diag = {""};
    v.unknown = 0;
    v.bos = 1;
    v.eos = 2;
    mk_texts_vocabulary(&file, &v);
    if (hob_gguf_parse(file.data, file.bytes, &g, &diag) < 0 ||
        hob_tokenizer_open(g, &tokenizer, &diag) < 0)
        fail_msg("%s", diag.text);
    const char *source = hob_template_default(tokenizer);
    if (!text) {
        assert_null(source);
    } else {
        json_t *variables = json_pack("{s:o,s:b}", "messages", json_loads(messages, 0, NULL),
                                      "add_generation_prompt", 1),
               *names = json_pack("{s:s,s:s}", "bos_token", "<s>", "eos_token", "</s>");
        assert_non_null(source);
        if (hob_template_compile(source, strlen(source), &t, &diag) < 0 ||
            hob_template_render(t, variables, names, 0, &r, &diag) < 0)
            fail_msg("%s", diag.text);
        assert_string_equal(r.text, text);
        json_decref(variables);
        json_decref(names);
    }
    hob_rendered_free(&r);
    hob_template_free(t);
    hob_tokenizer_close(tokenizer);
    hob_gguf_close(g);
    mk_free(&file);
}

static void has_templates_for_turn_tokens(void **state)
{
    static const char messages[] = "[{\"role\":\"system\",\"content\":\"S\"},"
                                   "{\"role\":\"user\",\"content\":\"A\"},"
                                   "{\"role\":\"assistant\",\"content\":\"B\"},"
                                   "{\"role\":\"user\",\"content\":\"C\"}]";
    (void)state;
    default_gives("<|im_start|>", messages,
                  "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n"
                  "<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\nC<|im_end|>\n"
                  "<|im_start|>assistant\n");
    default_gives(
        "<start_of_turn>", messages,
        "<s><start_of_turn>user\nS\n\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>"
        "\n<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n");
    default_gives("<|start_header_id|>", messages,
                  "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
                  "<|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|>"
                  "<|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>"
                  "<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|>"
                  "<|start_header_id|>assistant<|end_header_id|>\n\n");
    default_gives("<|start_of_role|>", "[{\"role\":\"user\",\"content\":\"A\"}]",
                  "<|start_of_role|>user<|end_of_role|>A<|end_of_text|>\n"
                  "<|start_of_role|>assistant<|end_of_role|>");
    default_gives("<|assistant|>", messages,
                  "<|system|>\nS<|end|>\n<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n"
                  "<|user|>\nC<|end|>\n<|assistant|>\n");
    default_gives("[INST]", messages, "<s>[INST] S\n\nA[/INST] B</s>[INST] C[/INST]");
    default_gives("<other>", messages, NULL);
}

static void appends_to_lists(void **state)
{
    (void)state;
    trusts("{% set l = [] %}{% for x in v %}{% set t = l.append(x + '!') %}{% endfor %}{{ l | "
           "join(',') }}",
           "{\"v\": [\"a\", \"b\"]}", "a!,b!", "-TT-T");
}

/* What the fuzzer begins with, without the fuzzer. */
static void stands_the_seeds(void **state)
{
    (void)state;
    static const char folder[] = "tests/fuzz/seeds/template";
    static uint8_t seed[1 << 16];
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int seeds = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!f)
            continue;
        size_t bytes = fread(seed, 1, sizeof seed, f);
        fclose(f);
        for (size_t cut = 0; cut <= bytes; cut += 1 + bytes / 500)
            LLVMFuzzerTestOneInput(seed, cut);
        seeds++;
    }
    closedir(dir);
    assert_true(seeds >= 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_what_jinja2_shows),
        cmocka_unit_test(says_where_it_fails),
        cmocka_unit_test(ends_what_would_not_end),
        cmocka_unit_test(bounds_nesting),
        cmocka_unit_test(refuses_deep_variables),
        cmocka_unit_test(renders_long_conversations),
        cmocka_unit_test(knows_who_wrote_what),
        cmocka_unit_test(keeps_strings_apart),
        cmocka_unit_test(tells_the_date),
        cmocka_unit_test(appends_to_lists),
        cmocka_unit_test(has_templates_for_turn_tokens),
        cmocka_unit_test(stands_the_seeds),
        cmocka_unit_test(diagnoses_in_clean_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
