/* SPDX-License-Identifier: Apache-2.0
 *
 * DOCX: a ZIP container of XML parts (ECMA-376). Four kinds of part are read with expat, each in a stream: the package's
 * relationships, which name the main part; the styles; the main part and its notes; the core properties, for the title.
 * Elements are known by their local names, since the standard has two sets of namespaces for the same thing. A document
 * type definition, which no DOCX has, ends the parser: there is nothing to expand. */
#include "daemon/extract/formats.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/extract/styles.h"
#include "daemon/extract/zip.h"

enum { PART_NAME_MAX = 256, LEVELS = 6, TITLE_RAW_MAX = 4 * HOB_EXTRACT_TITLE_MAX };

typedef struct docx docx;

/* What is done with the elements and the text of a part; characters may be NULL. */
typedef struct handlers {
    void (*start)(docx *x, const char *name, const char **attributes);
    void (*end)(docx *x, const char *name);
    void (*characters)(docx *x, const char *text, size_t len);
} handlers;

struct docx {
    hob_document *d;
    hob_zip *zip;
    XML_Parser parser;
    const handlers *on;
    int r;          /* of a handler that has failed */
    unsigned depth; /* elements around, that at hand included */
    char main[PART_NAME_MAX];
    hob_styles styles;
    hob_style *style; /* that is being read */

    unsigned skip;         /* depth of the outermost element that is left out; 0: none */
    bool open;             /* a block of the document */
    bool text;             /* inside w:t */
    unsigned run;          /* depth of the w:r around; 0: none */
    bool hidden;           /* the run */
    uint8_t heading, item; /* level; 0: the paragraph is none */
    unsigned tables;       /* around */
    bool row, cell;        /* inside a row of the outermost one; of which a cell has begun */
    unsigned separators;   /* that are to be written before the next text of the row */
    char title[TITLE_RAW_MAX];
    size_t title_len;
    bool in_title;
};

/* ---- a part ---- */

static void XMLCALL start_element(void *user, const char *name, const char **attributes)
{
    docx *x = user;
    if (++x->depth > HOB_EXTRACT_DEPTH_MAX)
        x->r = hob_document_fail(x->d, HOB_EXTRACT_TOO_LARGE,
                                 "the file nests elements deeper than %d, which is the limit",
                                 HOB_EXTRACT_DEPTH_MAX);
    else if (x->on->start)
        x->on->start(x, name, attributes);
    if (x->r < 0)
        XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL end_element(void *user, const char *name)
{
    docx *x = user;
    if (x->on->end)
        x->on->end(x, name);
    x->depth--;
    if (x->r < 0)
        XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL characters(void *user, const char *text, int len)
{
    docx *x = user;
    if (x->on->characters && x->r == 0)
        x->on->characters(x, text, (size_t)len);
    if (x->r < 0)
        XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL refuse_doctype(void *user, const char *name, const char *system,
                                   const char *public, int has_internal)
{
    docx *x = user;
    (void)name;
    (void)system;
    (void)public;
    (void)has_internal;
    x->r = hob_document_fail(x->d, HOB_EXTRACT_MALFORMED,
                             "the file has a document type definition, which no DOCX file has");
    XML_StopParser(x->parser, XML_FALSE);
}

static int parse(docx *x, const char *data, size_t len, bool last)
{
    if (XML_Parse(x->parser, data, (int)len, last) == XML_STATUS_OK)
        return 0;
    const enum XML_Error e = XML_GetErrorCode(x->parser);
    if (x->r < 0)
        return x->r;
    if (e == XML_ERROR_NO_MEMORY)
        return hob_document_no_memory(x->d);
    return hob_document_fail(x->d, HOB_EXTRACT_MALFORMED,
                             "XML inside the file, line %lu: %s: it is damaged",
                             XML_GetCurrentLineNumber(x->parser), XML_ErrorString(e));
}

static int take(void *user, const char *data, size_t len)
{
    return parse(user, data, len, false);
}

static int read_part(docx *x, const char *name, const handlers *on)
{
    x->on = on;
    x->depth = 0;
    x->parser = XML_ParserCreateNS(NULL, '|');
    if (!x->parser)
        return hob_document_no_memory(x->d);
    XML_SetUserData(x->parser, x);
    XML_SetElementHandler(x->parser, start_element, end_element);
    XML_SetCharacterDataHandler(x->parser, characters);
    XML_SetStartDoctypeDeclHandler(x->parser, refuse_doctype);
    int r = hob_zip_unpack(x->zip, name, take, x, x->d);
    if (r == 0)
        r = parse(x, "", 0, true);
    XML_ParserFree(x->parser);
    x->parser = NULL;
    return r;
}

/* ---- names and attributes ---- */

static const char *local(const char *name)
{
    const char *bar = strrchr(name, '|');
    return bar ? bar + 1 : name;
}

static bool is(const char *name, const char *wanted)
{
    return strcmp(local(name), wanted) == 0;
}

/* "": there is none. */
static const char *attribute(const char **list, const char *name)
{
    for (; *list; list += 2)
        if (is(list[0], name))
            return list[1];
    return "";
}

/* An on-off property is on unless it says otherwise. */
static bool is_on(const char **list)
{
    const char *value = attribute(list, "val");
    return strcmp(value, "0") != 0 && strcmp(value, "false") != 0 && strcmp(value, "off") != 0;
}

/* Of a level that counts from "0"; "9" is body text. */
static uint8_t level_of(const char *value)
{
    if (value[0] < '0' || value[0] > '8' || value[1])
        return 0;
    return value[0] < '0' + LEVELS ? (uint8_t)(value[0] - '0' + 1) : LEVELS;
}

/* ---- the package ---- */

static void start_relationship(docx *x, const char *name, const char **list)
{
    static const char kind[] = "/officeDocument";
    const char *type = attribute(list, "Type"), *target = attribute(list, "Target");
    const size_t len = strlen(type);
    if (!is(name, "Relationship") || len < sizeof kind - 1 ||
        strcmp(type + len - (sizeof kind - 1), kind) != 0)
        return;
    target += target[0] == '/';
    if (strlen(target) < sizeof x->main)
        snprintf(x->main, sizeof x->main, "%s", target);
}

static int fail_other(docx *x)
{
    static const struct {
        const char *part, *name;
    } kinds[] = {
        {"xl/workbook.xml", "an Excel file"},       {"ppt/presentation.xml", "a PowerPoint file"},
        {"META-INF/container.xml", "an EPUB book"}, {"content.xml", "an OpenDocument file"},
        {"META-INF/MANIFEST.MF", "a Java archive"},
    };
    const char *what = "a ZIP archive";
    for (size_t i = sizeof kinds / sizeof *kinds; i-- > 0;)
        if (hob_zip_has(x->zip, kinds[i].part))
            what = kinds[i].name;
    return hob_document_fail(x->d, HOB_EXTRACT_UNSUPPORTED,
                             "the file is %s; hob reads plain text, Markdown, HTML, PDF and DOCX",
                             what);
}

/* ---- styles ---- */

static void start_style(docx *x, const char *name, const char **list)
{
    const char *value = attribute(list, "val");
    if (is(name, "style")) {
        const bool paragraph = strcmp(attribute(list, "type"), "paragraph") == 0;
        x->style = paragraph ? hob_styles_add(&x->styles, attribute(list, "styleId")) : NULL;
    } else if (!x->style) {
        return;
    } else if (is(name, "name")) {
        hob_style_name(x->style, value);
    } else if (is(name, "basedOn")) {
        if (strlen(value) < sizeof x->style->based_on)
            snprintf(x->style->based_on, sizeof x->style->based_on, "%s", value);
    } else if (is(name, "outlineLvl") && !x->style->heading) {
        x->style->heading = level_of(value);
    } else if (is(name, "numPr") && !x->style->heading) {
        x->style->item = true;
    }
}

static void end_style(docx *x, const char *name)
{
    if (is(name, "style"))
        x->style = NULL;
}

/* A part beside the main one, if it is there. */
static int read_beside(docx *x, const char *file, const handlers *on)
{
    char name[PART_NAME_MAX + 32];
    const char *slash = strrchr(x->main, '/');
    snprintf(name, sizeof name, "%.*s%s", slash ? (int)(slash + 1 - x->main) : 0, x->main, file);
    return hob_zip_has(x->zip, name) ? read_part(x, name, on) : 0;
}

/* ---- text ---- */

static int end_block(docx *x)
{
    x->open = false;
    return hob_document_end(x->d);
}

static int open_block(docx *x)
{
    int r;
    x->open = true;
    if (x->row)
        return hob_document_begin(x->d, HOB_BLOCK_ROW, 0);
    if (x->heading)
        return hob_document_begin(x->d, HOB_BLOCK_HEADING, x->heading);
    if (!x->item)
        return hob_document_begin(x->d, HOB_BLOCK_PARAGRAPH, 0);
    r = hob_document_begin(x->d, HOB_BLOCK_ITEM, x->item);
    return r < 0 ? r : hob_document_text(x->d, "- ", 2);
}

static int put(docx *x, const char *text, size_t len)
{
    int r = 0;
    if (x->hidden)
        return 0;
    if (!x->open)
        r = open_block(x);
    for (; r == 0 && x->row && x->separators > 0; x->separators--)
        r = hob_document_text(x->d, " | ", 3);
    return r < 0 ? r : hob_document_text(x->d, text, len);
}

/* A paragraph begins or ends; inside a row it is a piece of its cell. */
static int boundary(docx *x)
{
    x->heading = x->item = 0;
    if (!x->open)
        return 0;
    return x->row ? hob_document_text(x->d, " ", 1) : end_block(x);
}

static void characters_of_body(docx *x, const char *text, size_t len)
{
    if (x->text && !x->skip)
        x->r = put(x, text, len);
}

static int start_table_part(docx *x, const char *name)
{
    if (is(name, "tbl")) {
        hob_document_part(x->d);
        return x->tables++ == 0 ? boundary(x) : 0;
    }
    if (is(name, "tr") && x->tables == 1) {
        x->row = true;
        x->cell = false;
        x->separators = 0;
        return x->open ? end_block(x) : 0;
    }
    if (is(name, "tc") && x->tables == 1 && x->row) {
        x->separators += x->cell;
        x->cell = true;
    }
    return 0;
}

static void paragraph_property(docx *x, const char *name, const char **list)
{
    const char *value = attribute(list, "val");
    if (is(name, "pStyle")) {
        const hob_style style = hob_styles_find(&x->styles, value);
        x->heading = style.title ? 1 : style.heading;
        x->item = style.item;
    } else if (is(name, "outlineLvl")) {
        x->heading = level_of(value);
    } else if (is(name, "numId")) {
        x->item = strcmp(value, "0") != 0 && !x->item ? 1 : x->item;
    } else if (is(name, "ilvl")) {
        x->item = level_of(value);
    }
}

static void start_body(docx *x, const char *name, const char **list)
{
    if (x->r < 0 || x->skip)
        return;
    /* What was deleted or moved away, and the copy of a drawing for programs that cannot show it. */
    if (is(name, "del") || is(name, "moveFrom") || is(name, "Fallback")) {
        x->skip = x->depth;
    } else if (is(name, "p")) {
        x->r = boundary(x);
    } else if (is(name, "r")) {
        x->run = x->depth;
        x->hidden = false;
    } else if (is(name, "vanish") && x->run && is_on(list)) {
        x->hidden = true;
        x->d->stripped.hidden++;
    } else if (is(name, "t")) {
        x->text = true;
    } else if (is(name, "tab") && x->run && x->open) {
        x->r = put(x, "\t", 1);
    } else if ((is(name, "br") || is(name, "cr")) && x->open) {
        x->r = put(x, x->row ? " " : "\n", 1);
    } else if (is(name, "noBreakHyphen")) {
        x->r = put(x, "-", 1);
    } else {
        paragraph_property(x, name, list);
        x->r = start_table_part(x, name);
    }
}

static void end_body(docx *x, const char *name)
{
    if (x->skip) {
        if (x->depth == x->skip)
            x->skip = 0;
        return;
    }
    if (x->r < 0)
        return;
    if (is(name, "t")) {
        x->text = false;
    } else if (is(name, "r") && x->run == x->depth) {
        x->run = 0;
        x->hidden = false;
    } else if (is(name, "p")) {
        x->r = boundary(x);
    } else if (is(name, "tr") && x->tables == 1) {
        x->row = false;
        x->r = x->open ? end_block(x) : 0;
    } else if (is(name, "tbl") && x->tables > 0 && --x->tables == 0) {
        hob_document_part(x->d);
    }
}

/* ---- title ---- */

static void start_property(docx *x, const char *name, const char **list)
{
    (void)list;
    x->in_title = is(name, "title");
}

static void end_property(docx *x, const char *name)
{
    (void)name;
    x->in_title = false;
}

static void characters_of_property(docx *x, const char *text, size_t len)
{
    if (!x->in_title || len > sizeof x->title - x->title_len)
        return;
    memcpy(x->title + x->title_len, text, len);
    x->title_len += len;
}

/* ---- a part ---- */

/* ---- the file ---- */

static int read_all(docx *x)
{
    static const handlers relationships = {.start = start_relationship},
                          styles = {.start = start_style, .end = end_style},
                          properties = {start_property, end_property, characters_of_property},
                          body = {start_body, end_body, characters_of_body};
    int r = 0;
    if (hob_zip_has(x->zip, "_rels/.rels"))
        r = read_part(x, "_rels/.rels", &relationships);
    if (r < 0)
        return r;
    if (strncmp(x->main, "word/", 5) != 0 || !hob_zip_has(x->zip, x->main))
        return fail_other(x);
    if ((r = read_beside(x, "styles.xml", &styles)) < 0)
        return r;
    if (hob_zip_has(x->zip, "docProps/core.xml") &&
        ((r = read_part(x, "docProps/core.xml", &properties)) < 0 ||
         (r = hob_document_title(x->d, x->title, x->title_len)) < 0))
        return r;
    if ((r = read_part(x, x->main, &body)) < 0 || (r = end_block(x)) < 0 ||
        (r = read_beside(x, "footnotes.xml", &body)) < 0 ||
        (r = read_beside(x, "endnotes.xml", &body)) < 0)
        return r;
    return end_block(x);
}

int hob_read_docx(const uint8_t *data, size_t bytes, hob_document *d)
{
    docx *x = calloc(1, sizeof *x);
    int r;
    if (!x)
        return hob_document_no_memory(d);
    x->d = d;
    r = hob_zip_open(data, bytes, &x->zip, d);
    if (r == 0)
        r = read_all(x);
    hob_zip_close(x->zip);
    hob_styles_free(&x->styles);
    free(x);
    return r;
}
