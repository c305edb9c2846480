/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to template_parse.c (statements) and template_expr.c (expressions): the parser's state
 * and small steps. All functions return false once an error is recorded in the parser. */
#ifndef HOB_MODELS_TEMPLATE_PARSE_H
#define HOB_MODELS_TEMPLATE_PARSE_H

#include "models/template_internal.h"

typedef struct tmpl_parser {
    tmpl_arena *arena;
    const tmpl_token *at;
    hob_diag *diag;
    const char *construct; /* what is being parsed, for messages */
    int depth, error;
    size_t loops, conditional; /* enclosing loops of this function; enclosing if's */
    const tmpl_node *
        unknown; /* a filter or test nobody knows, an error unless it turns out to be conditional */
    tmpl_node *macro; /* the enclosing macro or NULL */
} tmpl_parser;

bool hob_tmpl_syntax(tmpl_parser *p, int code, const char *format, ...) HOB_PRINTF(3, 4);
bool hob_tmpl_unexpected(tmpl_parser *p, const char *wanted);
bool hob_tmpl_deeper(tmpl_parser *p); /* undone by p->depth-- */
void *hob_tmpl_parser_alloc(tmpl_parser *p, size_t bytes);
tmpl_node *hob_tmpl_node(tmpl_parser *p, int kind, uint32_t line);
bool hob_tmpl_above(tmpl_parser *p, tmpl_node *n,
                    const tmpl_node *child); /* n is at least one higher than child */
bool hob_tmpl_add_item(tmpl_parser *p, tmpl_node *n, tmpl_node *item); /* item may be NULL */
bool hob_tmpl_add_named(tmpl_parser *p, tmpl_node *n, const tmpl_str *name, tmpl_node *item);
const tmpl_str *hob_tmpl_token_str(tmpl_parser *p, const tmpl_token *t);
bool hob_tmpl_at_name(const tmpl_parser *p, const char *name);
bool hob_tmpl_skip_name(tmpl_parser *p, const char *name);
bool hob_tmpl_skip_op(tmpl_parser *p, int op);
bool hob_tmpl_expect_op(tmpl_parser *p, int op); /* one character */
bool hob_tmpl_expect_name(tmpl_parser *p, const tmpl_str **ret);

bool hob_tmpl_parse_expr(tmpl_parser *p, tmpl_node **ret);
/* A tuple without brackets, or a single expression; conditional: "a if b else c" may be at its top.
 */
bool hob_tmpl_parse_tuple(tmpl_parser *p, bool conditional, tmpl_node **ret);
bool hob_tmpl_parse_filter(tmpl_parser *p, tmpl_node **io); /* name and arguments, applied to *io */
bool hob_tmpl_parse_filters(tmpl_parser *p, tmpl_node **io); /* "|" filter, any number */

#endif
