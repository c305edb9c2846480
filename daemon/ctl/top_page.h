/* SPDX-License-Identifier: Apache-2.0
 *
 * A page of text with styles, as wide as a screen and as long as it is: what hobctl top shows a part of. Nothing is ever
 * wider than the page, and nothing but printable ASCII. Pure. */
#ifndef HOB_DAEMON_CTL_TOP_PAGE_H
#define HOB_DAEMON_CTL_TOP_PAGE_H

#include "hal/base.h"

enum {
    HOB_PAGE_COLUMNS_LEAST = 20,
    HOB_PAGE_COLUMNS_MOST = 240,
    HOB_PAGE_LINES = 1024, /* what comes behind them is left out */
};

typedef enum hob_style {
    HOB_STYLE_PLAIN,
    HOB_STYLE_BOLD,
    HOB_STYLE_DIM,
    HOB_STYLE_HEAD, /* of a table */
    HOB_STYLE_CHOSEN,
    HOB_STYLE_GOOD,
    HOB_STYLE_WARN,
    HOB_STYLE_BAD,
    HOB_STYLES,
} hob_style;

typedef struct hob_page_line {
    char text[HOB_PAGE_COLUMNS_MOST + 1];
    uint8_t styles[HOB_PAGE_COLUMNS_MOST]; /* hob_style, one a character */
} hob_page_line;

typedef struct hob_page {
    uint32_t columns;
    uint32_t count; /* lines; the last one is written to */
    uint32_t fixed; /* of those, the first ones stay when one scrolls */
    uint32_t at;    /* column where the next character goes */
    hob_page_line lines[HOB_PAGE_LINES];
} hob_page;

void hob_page_begin(hob_page *p, uint32_t columns); /* within the bounds above */
void hob_page_line_end(hob_page *p);
void hob_page_put(hob_page *p, hob_style style, const char *format, ...) HOB_PRINTF(3, 4);
/* Blanks up to a column; what stands there already is cut. */
void hob_page_column(hob_page *p, uint32_t column);
/* text, at the end of the line. */
void hob_page_right(hob_page *p, hob_style style, const char *text);
/* "[||||    ]", so many columns wide in all, at least 3. NaN: an empty one. */
void hob_page_bar(hob_page *p, uint32_t columns, double ratio);

/* Numbers for people; "-" for NaN. Rates and milliseconds have 6 characters at most, bytes 7. */
typedef struct hob_figure {
    char text[16];
} hob_figure;
hob_figure hob_figure_of(double value);         /* "4.2", "310", "12.3k" */
hob_figure hob_figure_ms(double seconds);       /* "8.2", "310", from 10 s on "12s": milliseconds */
hob_figure hob_figure_percent(double ratio);    /* "43 %" */
hob_figure hob_figure_bytes(double bytes);      /* "1.2 GiB" */
hob_figure hob_figure_duration(double seconds); /* "59 s", "3 h 10 m", "12 d" */

#endif
