/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to models/template_*.c: the arena that owns everything of one compilation or one
 * rendering, the values of the template language, the tree, and the state of a rendering.
 *
 * A compiled template is a tree in an arena; it is never written after hob_template_compile
 * returns. A rendering has an arena of its own, with a cap, so that nothing a template does can
 * hold more memory than that, and no value needs a reference count. Functions that can fail return
 * false after hob_tmpl_fail has recorded the first failure in the run; callers only pass the false
 * on.
 *
 * Bounds, all answered with HOB_ELIMIT: source bytes, nesting while parsing, height of a tree (so
 * that evaluating it cannot exhaust the C stack), depth of evaluation (recursive macros), depth of
 * data, steps, arena bytes, bytes of a string. Work that is not constant is charged to the steps in
 * proportion to its size. */
#ifndef HOB_MODELS_TEMPLATE_INTERNAL_H
#define HOB_MODELS_TEMPLATE_INTERNAL_H

#include "models/template.h"

#define TMPL_SOURCE_MAX                                                                            \
    ((size_t)256 << 10) /* bytes; the longest published template has about 30 KiB */
#define TMPL_COMPILED_MAX ((size_t)64 << 20)   /* bytes of tree */
#define TMPL_OUTPUT_DEFAULT ((size_t)16 << 20) /* bytes */
#define TMPL_PARSE_DEPTH 200
#define TMPL_TREE_HEIGHT 200
#define TMPL_EVAL_DEPTH 400
#define TMPL_DATA_DEPTH 100
#define TMPL_RANGE_MAX 100000 /* items, jinja2's own bound in its sandbox */

/* --- arena --- */
typedef struct tmpl_chunk tmpl_chunk;
typedef struct tmpl_arena { /* zero-initialize, set max_bytes */
    tmpl_chunk *chunks;
    size_t used_bytes, max_bytes;
} tmpl_arena;
void *hob_tmpl_alloc(tmpl_arena *a, size_t bytes); /* zeroed, aligned to 16; NULL past the cap */
void hob_tmpl_arena_free(tmpl_arena *a);

/* --- values --- */
typedef struct tmpl_run tmpl_run;
typedef struct tmpl_node tmpl_node;
typedef struct tmpl_value tmpl_value;

/* Grows at its end only; a string that is the whole of a buffer can be appended to without copying
 * it, so that a template which accumulates text in a loop stays linear. */
typedef struct tmpl_buf {
    char *data;
    size_t len, cap;
    hob_text_range *ranges;
    size_t range_count, range_cap;
} tmpl_buf;

enum { TMPL_UNTRUSTED = 0, TMPL_TRUSTED = 1, TMPL_MIXED = 2 };
typedef struct tmpl_str { /* valid UTF-8, not NUL-terminated, never changed */
    const char *s;
    size_t len;
    tmpl_buf *owner; /* the buffer it is a prefix of, or NULL */
    const hob_text_range
        *ranges; /* TMPL_MIXED: trusted ranges; the last may reach past len and is clamped */
    size_t range_count;
    int trust;
} tmpl_str;

typedef struct tmpl_list {
    tmpl_value *items;
    size_t count, cap;
} tmpl_list;

typedef struct tmpl_entry tmpl_entry;
typedef struct tmpl_dict { /* in order of insertion */
    tmpl_entry *entries;
    size_t count, cap;
} tmpl_dict;

typedef struct tmpl_args {
    tmpl_value *pos;
    size_t count;
    const tmpl_str *const *names; /* keyword arguments */
    tmpl_value *named;
    size_t named_count;
} tmpl_args;

typedef bool tmpl_fn(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret);
typedef struct tmpl_builtin {
    const char *name;
    tmpl_fn *call;
} tmpl_builtin;

typedef enum {
    TV_MISSING, /* no value at all: an argument not given, a variable of an earlier iteration */
    TV_UNDEFINED,
    TV_NONE,
    TV_BOOL,
    TV_INT,
    TV_FLOAT,
    TV_STRING,
    TV_LIST,
    TV_TUPLE,
    TV_DICT,
    TV_NAMESPACE,
    TV_BUILTIN,
    TV_METHOD,
    TV_MACRO,
    TV_LOOP,
    TV_CYCLER,
    TV_JOINER,
} tmpl_kind;

typedef struct tmpl_method tmpl_method;
typedef struct tmpl_macro tmpl_macro;
typedef struct tmpl_loop tmpl_loop;
typedef struct tmpl_counter tmpl_counter;

struct tmpl_value {
    uint8_t kind;
    bool trusted; /* scalars and the container itself; strings carry their own ranges */
    union {
        bool b;
        int64_t i;
        double f;
        const tmpl_str *s; /* TV_STRING; TV_UNDEFINED: what was not defined, or NULL */
        tmpl_list *list;   /* TV_LIST, TV_TUPLE */
        tmpl_dict *dict;   /* TV_DICT, TV_NAMESPACE */
        const tmpl_builtin *builtin;
        tmpl_method *method;
        tmpl_macro *macro;
        tmpl_loop *loop;
        tmpl_counter *counter; /* TV_CYCLER, TV_JOINER */
    } u;
};

struct tmpl_entry {
    tmpl_value key, value;
};
struct tmpl_method {
    tmpl_value self;
    const tmpl_builtin *builtin;
};
struct tmpl_counter {
    tmpl_list items; /* cycler: what it goes through; joiner: items[0] is the separator */
    size_t next;
};

typedef struct tmpl_var {
    struct tmpl_var *next;
    const tmpl_str *name;
    tmpl_value value;
} tmpl_var;
typedef struct tmpl_scope {
    struct tmpl_scope *parent;
    tmpl_var *vars;
} tmpl_scope;
struct tmpl_macro {
    const tmpl_node *node;
    tmpl_scope *scope; /* where it was defined */
};
struct tmpl_loop {
    const tmpl_list *items;
    size_t index; /* from 0 */
    size_t depth; /* from 1 */
    tmpl_list changed;
    bool changed_set;
};

/* --- tokens --- */
typedef enum {
    TOK_DATA,
    TOK_PRINT_BEGIN,
    TOK_PRINT_END,
    TOK_TAG_BEGIN,
    TOK_TAG_END,
    TOK_NAME,
    TOK_STRING,
    TOK_INT,
    TOK_FLOAT,
    TOK_OP,
    TOK_EOF,
} tmpl_token_kind;
#define TMPL_OP2(a, b) ((a) | ((b) << 8))
enum { TMPL_OP_IN = 1, TMPL_OP_NOT_IN = 2 }; /* comparisons that are words */
typedef struct tmpl_token {
    tmpl_token_kind kind;
    uint32_t line; /* from 1 */
    int op;        /* the character, or TMPL_OP2 of both */
    const char *text;
    size_t len;
    int64_t i;
    double f;
} tmpl_token;
typedef struct tmpl_tokens { /* data from malloc */
    tmpl_token *data;
    size_t count, cap;
} tmpl_tokens;

/* Cuts source into tokens, ended by one TOK_EOF; text lies in the arena. On failure ret holds what
 * was cut so far. */
HOB_MUST_CHECK int hob_tmpl_lex(tmpl_arena *a, const char *source, size_t len, tmpl_tokens *ret,
                                hob_diag *diag);

/* --- tree --- */
typedef enum {
    /* expressions */
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT, /* items: key, value, key, value, … */
    N_UNARY,
    N_BINARY,
    N_AND,
    N_OR,
    N_NOT,
    N_COMPARE, /* a, then items: N_OPERAND each with op and a */
    N_OPERAND,
    N_CONCAT,      /* items */
    N_COND,        /* a ? b : c; c may be NULL */
    N_ATTR,        /* a . name */
    N_INDEX,       /* a [ b ] */
    N_SLICE,       /* a [ items[0] : items[1] : items[2] ], each may be NULL */
    N_CALL,        /* a ( items, names = named ) */
    N_FILTER,      /* a | name ( … ) */
    N_TEST,        /* a is [op: not] name ( … ) */
    N_BLOCK_VALUE, /* what a block gave, as the input of its filters */
    /* statements */
    N_TEXT,
    N_PRINT,
    N_BODY,
    N_IF,  /* items: condition, body, condition, body, …; c: else, or NULL */
    N_FOR, /* a: target, b: iterable, c: filter or NULL, items[0]: body, items[1]: else or NULL */
    N_SET, /* a: target, b: value */
    N_SET_BLOCK,    /* a: target, b: filters over N_BLOCK_VALUE, c: body */
    N_MACRO,        /* name, names: parameters, named: defaults (NULL: none), a: body */
    N_CALL_BLOCK,   /* a: call, b: N_MACRO of the body */
    N_FILTER_BLOCK, /* b: filters, c: body */
    N_WITH,         /* items: target, value, …; c: body */
    N_SCOPE,        /* a: body */
    N_BREAK,
    N_CONTINUE,
} tmpl_node_kind;
enum { TMPL_USES_VARARGS = 1, TMPL_USES_KWARGS = 2, TMPL_USES_CALLER = 4 };

struct tmpl_node {
    uint8_t kind, flags;
    uint16_t height;
    uint32_t line;
    int op;
    const tmpl_str *name;
    tmpl_node *a, *b, *c;
    tmpl_node **items;
    size_t count;
    const tmpl_str **names;
    tmpl_node **named;
    size_t named_count;
    tmpl_value value;
    const tmpl_builtin
        *builtin; /* N_FILTER, N_TEST; NULL: not known, an error only if it is reached */
};

struct hob_template {
    tmpl_arena arena;
    tmpl_node *root;
};

HOB_MUST_CHECK int hob_tmpl_parse(tmpl_arena *a, const tmpl_tokens *tokens, tmpl_node **ret,
                                  hob_diag *diag);

/* --- a rendering --- */
struct tmpl_run {
    tmpl_arena arena;
    size_t max_bytes;
    uint64_t steps_left, steps_max;
    unsigned depth;
    uint32_t line; /* of what is being evaluated */
    int error;     /* the first failure's code, or 0 */
    hob_diag *diag;
    tmpl_scope *scope;
    tmpl_dict *variables;
    tmpl_buf *out;
    tmpl_value block_value;
};

/* Writes a diagnosis of one line of valid UTF-8, whatever text of a message was cut into it.
 * Returns code. */
int hob_tmpl_report(hob_diag *diag, int code, uint32_t line, const char *what);
bool hob_tmpl_fail(tmpl_run *r, int code, const char *format, ...) HOB_PRINTF(3, 4);
bool hob_tmpl_charge(tmpl_run *r, size_t steps);
void *hob_tmpl_run_alloc(tmpl_run *r, size_t count, size_t size);

/* --- template_value.c: strings, containers, equality, conversion --- */
static inline tmpl_value tmpl_none(void)
{
    return (tmpl_value){.kind = TV_NONE, .trusted = true};
}
static inline tmpl_value tmpl_bool(bool b, bool trusted)
{
    return (tmpl_value){.kind = TV_BOOL, .trusted = trusted, .u.b = b};
}
static inline tmpl_value tmpl_int(int64_t i, bool trusted)
{
    return (tmpl_value){.kind = TV_INT, .trusted = trusted, .u.i = i};
}
static inline tmpl_value tmpl_float(double f, bool trusted)
{
    return (tmpl_value){.kind = TV_FLOAT, .trusted = trusted, .u.f = f};
}
static inline tmpl_value tmpl_string(const tmpl_str *s)
{
    return (tmpl_value){.kind = TV_STRING, .trusted = true, .u.s = s};
}
static inline bool tmpl_given(tmpl_value v)
{
    return v.kind != TV_MISSING;
}
static inline bool tmpl_is_number(tmpl_value v)
{
    return v.kind >= TV_BOOL && v.kind <= TV_FLOAT;
}
/* Of the value itself, without looking into a container: enough for what says only yes or no about
 * it. */
static inline bool tmpl_trusted(tmpl_value v)
{
    return v.kind == TV_STRING ? v.u.s->trust == TMPL_TRUSTED : v.trusted;
}

bool hob_tmpl_buf_put(tmpl_run *r, tmpl_buf *b, const char *s, size_t len, bool trusted);
bool hob_tmpl_buf_put_str(tmpl_run *r, tmpl_buf *b, const tmpl_str *s); /* with its ranges */
bool hob_tmpl_buf_str(tmpl_run *r, tmpl_buf *b, tmpl_value *ret);
bool hob_tmpl_str_ref(tmpl_run *r, const char *s, size_t len, bool trusted,
                      tmpl_value *ret); /* not copied */
bool hob_tmpl_substr(tmpl_run *r, const tmpl_str *s, size_t start, size_t end,
                     tmpl_value *ret); /* bytes */
bool hob_tmpl_concat(tmpl_run *r, const tmpl_str *a, const tmpl_str *b, tmpl_value *ret);
bool hob_tmpl_undefined(tmpl_run *r, const char *text, size_t len, tmpl_value *ret);

bool hob_tmpl_list_new(tmpl_run *r, size_t cap, tmpl_list **ret);
bool hob_tmpl_list_push(tmpl_run *r, tmpl_list *l, tmpl_value v);
bool hob_tmpl_dict_new(tmpl_run *r, size_t cap, tmpl_dict **ret);
bool hob_tmpl_dict_get(tmpl_run *r, const tmpl_dict *d, tmpl_value key,
                       tmpl_value **ret); /* *ret NULL: absent */
bool hob_tmpl_dict_find(tmpl_run *r, const tmpl_dict *d, const char *key, size_t len,
                        tmpl_value **ret);
bool hob_tmpl_dict_set(tmpl_run *r, tmpl_dict *d, tmpl_value key, tmpl_value value);

bool hob_tmpl_truthy(tmpl_value v);
bool hob_tmpl_equal(tmpl_run *r, tmpl_value a, tmpl_value b, bool *ret);
bool hob_tmpl_order(tmpl_run *r, tmpl_value a, tmpl_value b, int *ret); /* -1, 0, 1; 2: a NaN */
bool hob_tmpl_contains(tmpl_run *r, tmpl_value container, tmpl_value item, bool *ret);
bool hob_tmpl_iterate(tmpl_run *r, tmpl_value v,
                      tmpl_list **ret); /* may be v's own list: read only */
bool hob_tmpl_is_trusted(tmpl_run *r, tmpl_value v, bool *ret);
bool hob_tmpl_from_json(tmpl_run *r, json_t *j, bool trusted, unsigned depth, tmpl_value *ret);
const char *hob_tmpl_type_name(tmpl_value v);

/* --- template_format.c: values as text --- */
typedef struct tmpl_json_style {
    const char *item, *key; /* separators */
    size_t item_len, key_len;
    const char *indent; /* NULL: one line */
    size_t indent_len;
    bool ascii, sort_keys;
} tmpl_json_style;
bool hob_tmpl_to_text(tmpl_run *r, tmpl_value v,
                      tmpl_value *ret); /* Python's str(); a string is itself */
bool hob_tmpl_text_of(tmpl_run *r, tmpl_value v, const tmpl_str **ret); /* the same, as a string */
bool hob_tmpl_to_json(tmpl_run *r, tmpl_value v, const tmpl_json_style *style, tmpl_value *ret);
size_t hob_tmpl_format_float(double f, char ret[40]);

/* --- template_string.c: UTF-8 and the methods of strings --- */
size_t hob_tmpl_chars(const char *s, size_t len); /* code points */
size_t hob_tmpl_char_offset(const char *s, size_t len,
                            size_t chars); /* bytes before the given code point */
size_t hob_tmpl_char_len(const char *s);   /* bytes, by the lead byte */
uint32_t hob_tmpl_char_at(const char *s);
size_t hob_tmpl_char_put(char ret[4], uint32_t c);
bool hob_tmpl_utf8_ok(const char *s, size_t len);
size_t hob_tmpl_space_prefix(const char *s, size_t len); /* bytes of leading Unicode white space */
size_t hob_tmpl_space_suffix(const char *s, size_t len);
bool hob_tmpl_strip(tmpl_run *r, const tmpl_str *s, const tmpl_str *chars, bool left, bool right,
                    tmpl_value *ret);
bool hob_tmpl_replace(tmpl_run *r, const tmpl_str *s, const tmpl_str *from, const tmpl_str *to,
                      int64_t count, tmpl_value *ret);
typedef enum { TMPL_UPPER, TMPL_LOWER, TMPL_TITLE, TMPL_CAPITALIZE } tmpl_case;
bool hob_tmpl_change_case(tmpl_run *r, const tmpl_str *s, tmpl_case to, tmpl_value *ret);
const tmpl_builtin *hob_tmpl_string_method(const char *name, size_t len);

/* --- template_method.c: attributes, items, methods of containers, globals --- */
bool hob_tmpl_attr(tmpl_run *r, tmpl_value v, const tmpl_str *name, tmpl_value *ret);
bool hob_tmpl_item(tmpl_run *r, tmpl_value v, tmpl_value key, tmpl_value *ret);
bool hob_tmpl_slice(tmpl_run *r, tmpl_value v, const tmpl_value bounds[3], tmpl_value *ret);
const tmpl_builtin *hob_tmpl_global(const char *name, size_t len);
/* Distributes arguments over named parameters; those not given are TV_MISSING. what: for messages.
 */
bool hob_tmpl_bind(tmpl_run *r, const char *what, const tmpl_args *args, const char *const *names,
                   size_t count, size_t required, tmpl_value *ret);
bool hob_tmpl_want_string(tmpl_run *r, const char *what, tmpl_value v, const tmpl_str **ret);
bool hob_tmpl_want_int(tmpl_run *r, const char *what, tmpl_value v, int64_t *ret);

/* --- template_filter.c, template_sequence.c, template_test.c --- */
const tmpl_builtin *hob_tmpl_filter(const char *name, size_t len);
const tmpl_builtin *hob_tmpl_sequence_filter(const char *name, size_t len);
const tmpl_builtin *hob_tmpl_test(const char *name, size_t len); /* gives a TV_BOOL */
const tmpl_builtin *hob_tmpl_find_builtin(const tmpl_builtin *table, size_t count, const char *name,
                                          size_t len);

/* order[] (template_sequence.c): indices of keys[count], sorted stably. */
bool hob_tmpl_sort(tmpl_run *r, const tmpl_value *keys, size_t count, bool reverse, size_t *order);

/* --- template_operator.c --- */
bool hob_tmpl_binary(tmpl_run *r, int op, tmpl_value a, tmpl_value b, tmpl_value *ret);
bool hob_tmpl_negate(tmpl_run *r, tmpl_value v, tmpl_value *ret);
bool hob_tmpl_compare(tmpl_run *r, int op, tmpl_value a, tmpl_value b, bool *ret);
bool hob_tmpl_require(tmpl_run *r, tmpl_value v); /* fails on an undefined value, by its name */

/* --- template_eval.c --- */
bool hob_tmpl_exec(tmpl_run *r, const tmpl_node *root); /* writes to r->out */
bool hob_tmpl_call(tmpl_run *r, tmpl_value callee, const tmpl_args *args, tmpl_value *ret);

/* The head of a filter, and the binding of its arguments to v[] by the names that follow; what names the filter in errors. */
#define FILTER(name)                                                                               \
    static bool name(tmpl_run *r, tmpl_value self, const tmpl_args *args, tmpl_value *ret)
#define BIND(what, required, ...)                                                                  \
    static const char *const names[] = {__VA_ARGS__};                                              \
    tmpl_value v[sizeof names / sizeof names[0]];                                                  \
    (void)self;                                                                                    \
    if (!hob_tmpl_bind(r, "filter \"" what "\"", args, names, sizeof names / sizeof names[0],      \
                       required, v))                                                               \
    return false

#endif
