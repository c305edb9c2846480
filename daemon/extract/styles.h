/* SPDX-License-Identifier: Apache-2.0
 *
 * The paragraph styles of a DOCX file: which of them are headings or items of a list. A style is known by its id, which
 * Word translates ("berschrift1"), and means what its built-in name ("heading 1") or its outline level says, or those of
 * the style that it is based on. Thread: one. */
#ifndef HOB_DAEMON_EXTRACT_STYLES_H
#define HOB_DAEMON_EXTRACT_STYLES_H

#include "hal/base.h"

enum {
    HOB_STYLES_MAX = 2048,   /* further ones are plain */
    HOB_STYLE_ID_BYTES = 64, /* with its NUL; longer ids are plain */
};

typedef struct hob_style {
    char id[HOB_STYLE_ID_BYTES], based_on[HOB_STYLE_ID_BYTES];
    uint8_t heading; /* 1 to 6; 0: none */
    bool item, title;
} hob_style;

typedef struct hob_styles { /* zero-initialize */
    hob_style *list;        /* [count] */
    uint32_t count, capacity;
} hob_styles;
void hob_styles_free(hob_styles *s);

/* A new style with this id; NULL: no memory, or no room for more. */
hob_style *hob_styles_add(hob_styles *s, const char *id);
/* What a style's name says about it. */
void hob_style_name(hob_style *style, const char *name);
/* What the style with this id says, by itself or by those that it is based on. */
hob_style hob_styles_find(const hob_styles *s, const char *id);

#endif
