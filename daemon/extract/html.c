/* SPDX-License-Identifier: Apache-2.0
 *
 * HTML, read from the tree that Gumbo builds. The walk keeps its place in the nodes themselves and uses no stack, however
 * deep they are. Blocks open when their first visible text comes: what kind they are depends on where that is (a heading,
 * an item with its marker, a row of a table), not on how many elements are around it.
 *
 * Gumbo does not look at what its allocator returns: one of ours never returns NULL to it but jumps out, and all it had
 * is then released at once. */
#include "daemon/extract/formats.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <gumbo.h>

enum {
    LISTS_MAX = 32,      /* whose numbers are counted; deeper items have a dash */
    LAYOUT_NODES = 4096, /* looked at to find out what a table is for */
    CHARSET_WITHIN = 1024,
};

/* ---- memory ---- */

typedef union allocation {
    struct {
        union allocation *next, *before;
    } link;
    max_align_t align;
} allocation;

typedef struct heap {
    allocation all; /* a ring */
    jmp_buf no_memory;
} heap;

static void *heap_allocate(void *user, size_t size)
{
    heap *h = user;
    size_t bytes;
    allocation *a = hob_add_size(size, sizeof *a, &bytes) ? malloc(bytes) : NULL;
    if (!a)
        longjmp(h->no_memory, 1);
    a->link.next = &h->all;
    a->link.before = h->all.link.before;
    a->link.before->link.next = h->all.link.before = a;
    return a + 1;
}

static void heap_release(void *user, void *p)
{
    (void)user;
    if (!p)
        return;
    allocation *a = (allocation *)p - 1;
    a->link.before->link.next = a->link.next;
    a->link.next->link.before = a->link.before;
    free(a);
}

static void heap_free(heap *h)
{
    while (h->all.link.next != &h->all)
        heap_release(h, h->all.link.next + 1);
}

/* NULL: no memory. */
static GumboOutput *parse(heap *h, const char *text, size_t len)
{
    GumboOptions options = kGumboDefaultOptions;
    options.allocator = heap_allocate;
    options.deallocator = heap_release;
    options.userdata = h;
    options.max_errors = 0;
    h->all.link.next = h->all.link.before = &h->all;
    if (setjmp(h->no_memory))
        return NULL;
    return gumbo_parse_with_options(&options, text, len);
}

/* ---- the walk ---- */

typedef struct walk {
    hob_document *d;
    unsigned depth;
    bool open;       /* a block of the document */
    uint8_t heading; /* inside h1 to h6: which; else 0 */
    unsigned pre;    /* elements around that keep white space */
    bool marker;     /* an item has begun and has no text yet */
    unsigned lists;  /* around */
    struct {
        bool numbered;
        unsigned next;
    } list[LISTS_MAX];
    const GumboNode *table; /* of data, around; NULL: none */
    bool row;               /* inside a row of it */
    bool cell;              /* of which a cell has begun */
    unsigned separators;    /* that are to be written before the next text of the row */
} walk;

static int end_block(walk *w)
{
    w->open = false;
    return hob_document_end(w->d);
}

/* A block-level element begins or ends. */
static int boundary(walk *w)
{
    if (w->row)
        return w->open ? hob_document_text(w->d, " ", 1) : 0;
    return w->open ? end_block(w) : 0;
}

static int put_marker(walk *w)
{
    char text[16] = "- ";
    w->marker = false;
    if (w->lists > 0 && w->lists <= LISTS_MAX && w->list[w->lists - 1].numbered)
        snprintf(text, sizeof text, "%u. ", w->list[w->lists - 1].next++);
    return hob_document_text(w->d, text, strlen(text));
}

static int open_block(walk *w)
{
    int r;
    w->open = true;
    if (w->row)
        return hob_document_begin(w->d, HOB_BLOCK_ROW, 0);
    if (w->heading) {
        w->marker = false;
        return hob_document_begin(w->d, HOB_BLOCK_HEADING, w->heading);
    }
    if (w->pre)
        return hob_document_begin(w->d, HOB_BLOCK_CODE, 0);
    if (!w->marker)
        return hob_document_begin(w->d, HOB_BLOCK_PARAGRAPH, 0);
    r = hob_document_begin(w->d, HOB_BLOCK_ITEM, w->lists < 255 ? (uint8_t)w->lists : 255);
    return r < 0 ? r : put_marker(w);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int put_text(walk *w, const char *text)
{
    const size_t len = strlen(text);
    size_t at = 0;
    int r = 0;
    while (at < len && is_space(text[at]))
        at++;
    if (at == len && (!w->open || w->row))
        return w->open ? hob_document_text(w->d, " ", 1) : 0;
    if (w->open) {
        at = 0;
    } else {
        while (w->pre && at > 0 && text[at - 1] != '\n') /* the first line's indentation */
            at--;
        r = open_block(w);
    }
    for (; r == 0 && w->row && w->separators > 0; w->separators--)
        r = hob_document_text(w->d, " | ", 3);
    if (w->pre && !w->row)
        return r < 0 ? r : hob_document_text(w->d, text + at, len - at);
    while (r == 0 && at < len) { /* where white space is just that, line ends are spaces */
        size_t end = at;
        while (end < len && !(text[end] >= '\t' && text[end] <= '\r'))
            end++;
        r = hob_document_text(w->d, text + at, end - at);
        if (r == 0 && end < len)
            r = hob_document_text(w->d, " ", 1);
        at = end + 1;
    }
    return r;
}

static const char *attribute(const GumboElement *e, const char *name)
{
    const GumboAttribute *a = gumbo_get_attribute(&e->attributes, name);
    return a ? a->value : NULL;
}

/* Whether an inline style sets property to value, white space and case aside; after a value of zero no digit may follow. */
static bool sets(const char *style, const char *property, const char *value)
{
    const size_t property_len = strlen(property), value_len = strlen(value);
    for (; (style = strcasestr(style, property)); style++) {
        const char *at = style + property_len;
        while (is_space(*at))
            at++;
        if (*at != ':')
            continue;
        for (at++; is_space(*at); at++)
            ;
        if (strncasecmp(at, value, value_len) == 0 &&
            !(value[0] == '0' && at[value_len] && strchr(".0123456789", at[value_len])))
            return true;
    }
    return false;
}

/* An element that Gumbo does not know by name. */
static bool is_dialog(const GumboElement *e)
{
    static const char start[] = "<dialog";
    return e->tag == GUMBO_TAG_UNKNOWN && e->original_tag.length >= sizeof start - 1 &&
           strncasecmp(e->original_tag.data, start, sizeof start - 1) == 0;
}

static bool is_hidden(const GumboElement *e)
{
    const char *style = attribute(e, "style");
    if (attribute(e, "hidden") || (is_dialog(e) && !attribute(e, "open")))
        return true;
    return style && (sets(style, "display", "none") || sets(style, "visibility", "hidden") ||
                     sets(style, "font-size", "0") || sets(style, "opacity", "0"));
}

static const GumboVector *children_of(const GumboNode *n)
{
    return n->type == GUMBO_NODE_ELEMENT || n->type == GUMBO_NODE_TEMPLATE ? &n->v.element.children
                                                                           : NULL;
}

/* The node behind n and what it contains, within root. */
static const GumboNode *skip_node(const GumboNode *n, const GumboNode *root)
{
    for (; n != root; n = n->parent) {
        const GumboVector *siblings = children_of(n->parent);
        if (n->index_within_parent + 1 < siblings->length)
            return siblings->data[n->index_within_parent + 1];
    }
    return NULL;
}

/* Whether a table only places other things: it has tables, lists, headings or preformatted text inside. */
static bool is_layout(const GumboNode *table)
{
    unsigned seen = 0;
    for (const GumboNode *n = table; n && seen < LAYOUT_NODES; seen++) {
        const GumboVector *children = children_of(n);
        if (n != table && n->type == GUMBO_NODE_ELEMENT)
            switch (n->v.element.tag) {
            case GUMBO_TAG_TABLE:
            case GUMBO_TAG_UL:
            case GUMBO_TAG_OL:
            case GUMBO_TAG_PRE:
            case GUMBO_TAG_H1:
            case GUMBO_TAG_H2:
            case GUMBO_TAG_H3:
            case GUMBO_TAG_H4:
            case GUMBO_TAG_H5:
            case GUMBO_TAG_H6: return true;
            default: break;
            }
        n = children && children->length ? children->data[0] : skip_node(n, table);
    }
    return false;
}

static int read_title(walk *w, const GumboNode *n)
{
    const GumboVector *children = children_of(n);
    if (children->length == 0)
        return 0;
    const GumboNode *text = children->data[0];
    if (text->type != GUMBO_NODE_TEXT && text->type != GUMBO_NODE_WHITESPACE)
        return 0;
    return hob_document_title(w->d, text->v.text.text, strlen(text->v.text.text));
}

static bool is_block(GumboTag tag)
{
    switch (tag) {
    case GUMBO_TAG_ADDRESS:
    case GUMBO_TAG_ARTICLE:
    case GUMBO_TAG_ASIDE:
    case GUMBO_TAG_BLOCKQUOTE:
    case GUMBO_TAG_BODY:
    case GUMBO_TAG_CAPTION:
    case GUMBO_TAG_CENTER:
    case GUMBO_TAG_DD:
    case GUMBO_TAG_DETAILS:
    case GUMBO_TAG_DIV:
    case GUMBO_TAG_DL:
    case GUMBO_TAG_DT:
    case GUMBO_TAG_FIELDSET:
    case GUMBO_TAG_FIGCAPTION:
    case GUMBO_TAG_FIGURE:
    case GUMBO_TAG_FOOTER:
    case GUMBO_TAG_FORM:
    case GUMBO_TAG_HEADER:
    case GUMBO_TAG_HGROUP:
    case GUMBO_TAG_HR:
    case GUMBO_TAG_HTML:
    case GUMBO_TAG_LEGEND:
    case GUMBO_TAG_MAIN:
    case GUMBO_TAG_NAV:
    case GUMBO_TAG_P:
    case GUMBO_TAG_SECTION:
    case GUMBO_TAG_SUMMARY:
    case GUMBO_TAG_TBODY:
    case GUMBO_TAG_TD:
    case GUMBO_TAG_TFOOT:
    case GUMBO_TAG_TH:
    case GUMBO_TAG_THEAD:
    case GUMBO_TAG_TR: return true;
    default: return false;
    }
}

static uint8_t heading_level(GumboTag tag)
{
    switch (tag) {
    case GUMBO_TAG_H1: return 1;
    case GUMBO_TAG_H2: return 2;
    case GUMBO_TAG_H3: return 3;
    case GUMBO_TAG_H4: return 4;
    case GUMBO_TAG_H5: return 5;
    case GUMBO_TAG_H6: return 6;
    default: return 0;
    }
}

static bool keeps_space(GumboTag tag)
{
    return tag == GUMBO_TAG_PRE || tag == GUMBO_TAG_LISTING || tag == GUMBO_TAG_XMP ||
           tag == GUMBO_TAG_PLAINTEXT;
}

static bool is_list(GumboTag tag)
{
    return tag == GUMBO_TAG_UL || tag == GUMBO_TAG_OL || tag == GUMBO_TAG_MENU ||
           tag == GUMBO_TAG_DIR;
}

/* Elements whose content no reader sees, or that are there to be filled in. */
static bool is_dropped(GumboTag tag)
{
    switch (tag) {
    case GUMBO_TAG_APPLET:
    case GUMBO_TAG_AUDIO:
    case GUMBO_TAG_BUTTON:
    case GUMBO_TAG_CANVAS:
    case GUMBO_TAG_DATALIST:
    case GUMBO_TAG_DESC:
    case GUMBO_TAG_EMBED:
    case GUMBO_TAG_IFRAME:
    case GUMBO_TAG_NOEMBED:
    case GUMBO_TAG_NOFRAMES:
    case GUMBO_TAG_NOSCRIPT:
    case GUMBO_TAG_OBJECT:
    case GUMBO_TAG_SCRIPT:
    case GUMBO_TAG_SELECT:
    case GUMBO_TAG_STYLE:
    case GUMBO_TAG_TEMPLATE:
    case GUMBO_TAG_TEXTAREA:
    case GUMBO_TAG_VIDEO: return true;
    default: return false;
    }
}

static int enter_list(walk *w, const GumboElement *e)
{
    const char *start = attribute(e, "start");
    if (w->lists < LISTS_MAX) {
        w->list[w->lists].numbered = e->tag == GUMBO_TAG_OL;
        w->list[w->lists].next = start ? (unsigned)strtoul(start, NULL, 10) : 1;
    }
    w->lists++;
    w->marker = false;
    return boundary(w);
}

static int put_checkbox(walk *w, const GumboElement *e)
{
    const char *type = attribute(e, "type");
    if (!type || strcasecmp(type, "checkbox") != 0)
        return 0;
    return put_text(w, attribute(e, "checked") ? "[x] " : "[ ] ");
}

/* *ret_inside: whether to go on with what the element contains. */
static int enter(walk *w, const GumboNode *n, bool *ret_inside)
{
    const GumboElement *e = &n->v.element;
    const uint8_t level = heading_level(e->tag);
    *ret_inside = false;
    if (e->tag == GUMBO_TAG_TITLE)
        return e->tag_namespace == GUMBO_NAMESPACE_HTML ? read_title(w, n) : 0;
    if (is_dropped(e->tag))
        return 0;
    if (is_hidden(e)) {
        w->d->stripped.hidden++;
        return 0;
    }
    if (e->tag == GUMBO_TAG_BR)
        return w->open ? hob_document_text(w->d, w->row ? " " : "\n", 1) : 0;
    if (e->tag == GUMBO_TAG_INPUT)
        return put_checkbox(w, e);
    *ret_inside = true;
    if (is_list(e->tag))
        return enter_list(w, e);
    if (level) {
        w->heading = level;
        return boundary(w);
    }
    if (keeps_space(e->tag)) {
        w->pre++;
        return boundary(w);
    }
    switch (e->tag) {
    case GUMBO_TAG_LI: w->marker = true; return boundary(w);
    case GUMBO_TAG_TABLE:
        if (!w->table && !is_layout(n))
            w->table = n;
        hob_document_part(w->d);
        return boundary(w);
    case GUMBO_TAG_TR:
        w->row = w->table != NULL;
        w->cell = false;
        w->separators = 0;
        return w->open ? end_block(w) : 0;
    case GUMBO_TAG_TD:
    case GUMBO_TAG_TH:
        if (!w->row)
            return boundary(w);
        w->separators += w->cell;
        w->cell = true;
        return 0;
    default: return is_block(e->tag) ? boundary(w) : 0;
    }
}

static int leave(walk *w, const GumboNode *n)
{
    const GumboElement *e = &n->v.element;
    int r = 0;
    if (is_list(e->tag)) {
        r = boundary(w);
        w->marker = false;
        if (--w->lists == 0)
            hob_document_part(w->d);
    } else if (heading_level(e->tag)) {
        r = boundary(w);
        w->heading = 0;
    } else if (keeps_space(e->tag)) {
        r = boundary(w);
        w->pre--;
    } else if (e->tag == GUMBO_TAG_LI) {
        r = boundary(w);
        w->marker = false;
    } else if (e->tag == GUMBO_TAG_TR && w->row) {
        r = w->open ? end_block(w) : 0;
        w->row = false;
    } else if (is_block(e->tag)) {
        r = boundary(w);
    }
    if (n == w->table)
        w->table = NULL;
    if (e->tag == GUMBO_TAG_TABLE)
        hob_document_part(w->d);
    return r;
}

static int visit(walk *w, const GumboNode *n, bool *ret_inside)
{
    *ret_inside = false;
    switch (n->type) {
    case GUMBO_NODE_TEXT:
    case GUMBO_NODE_CDATA:
    case GUMBO_NODE_WHITESPACE: return put_text(w, n->v.text.text);
    case GUMBO_NODE_ELEMENT: return enter(w, n, ret_inside);
    default: return 0; /* comments, templates */
    }
}

static int walk_tree(walk *w, const GumboNode *root)
{
    bool inside;
    int r = 0;
    for (const GumboNode *n = root;;) {
        if ((r = visit(w, n, &inside)) < 0)
            return r;
        if (inside && children_of(n)->length > 0) {
            if (++w->depth > HOB_EXTRACT_DEPTH_MAX)
                return hob_document_fail(w->d, HOB_EXTRACT_TOO_LARGE,
                                         "the page nests elements deeper than %d, which is the "
                                         "limit",
                                         HOB_EXTRACT_DEPTH_MAX);
            n = children_of(n)->data[0];
            continue;
        }
        if (inside && (r = leave(w, n)) < 0)
            return r;
        /* Up to the first element that has a next sibling. */
        while (n != root && n->index_within_parent + 1 == children_of(n->parent)->length) {
            n = n->parent;
            w->depth--;
            if ((r = leave(w, n)) < 0)
                return r;
        }
        if (n == root)
            return 0;
        n = children_of(n->parent)->data[n->index_within_parent + 1];
    }
}

int hob_read_html(const char *text, size_t len, hob_document *d)
{
    heap *h = malloc(sizeof *h); /* a jmp_buf is large, and must outlive the jump */
    walk w = {.d = d};
    int r;
    if (!h)
        return hob_document_no_memory(d);
    const GumboOutput *tree = parse(h, text, len);
    r = tree ? walk_tree(&w, tree->root) : hob_document_no_memory(d);
    heap_free(h);
    free(h);
    return r < 0 ? r : hob_document_end(d);
}

/* ---- character set ---- */

void hob_html_charset(const uint8_t *data, size_t bytes, char *ret, size_t ret_size)
{
    static const char *const keys[] = {"charset", "encoding"};
    char head[CHARSET_WITHIN + 1];
    const size_t len = bytes < CHARSET_WITHIN ? bytes : CHARSET_WITHIN;
    for (size_t i = 0; i < len; i++) /* so that it is one string */
        head[i] = data[i] ? (char)data[i] : ' ';
    head[len] = 0;
    ret[0] = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        for (const char *at = head; (at = strcasestr(at, keys[i]));) {
            at += strlen(keys[i]);
            at += strspn(at, " \t\r\n");
            if (*at != '=')
                continue;
            at++;
            at += strspn(at, " \t\r\n\"'");
            const size_t n = strcspn(at, " \t\r\n\"'>/;?");
            if (n == 0 || n >= ret_size)
                continue;
            for (size_t k = 0; k < n; k++)
                ret[k] = at[k] >= 'A' && at[k] <= 'Z' ? (char)(at[k] | 0x20) : at[k];
            ret[n] = 0;
            return;
        }
}
