/* SPDX-License-Identifier: Apache-2.0
 *
 * See top_page.h. */
#include "daemon/ctl/top_page.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WARN_PERCENT = 75, BAD_PERCENT = 90 };

/* ---- lines ---- */

static hob_page_line *line_of(hob_page *p)
{
    return &p->lines[p->count - 1];
}

static void begin_line(hob_page *p)
{
    hob_page_line *l = line_of(p);
    memset(l->styles, HOB_STYLE_PLAIN, sizeof l->styles);
    l->text[0] = '\0';
    p->at = 0;
}

void hob_page_begin(hob_page *p, uint32_t columns)
{
    p->columns = columns < HOB_PAGE_COLUMNS_LEAST  ? HOB_PAGE_COLUMNS_LEAST
                 : columns > HOB_PAGE_COLUMNS_MOST ? HOB_PAGE_COLUMNS_MOST
                                                   : columns;
    p->count = 1;
    p->fixed = 0;
    begin_line(p);
}

void hob_page_line_end(hob_page *p)
{
    p->count += p->count < HOB_PAGE_LINES;
    begin_line(p);
}

static void put_text(hob_page *p, hob_style style, const char *text)
{
    hob_page_line *l = line_of(p);
    for (; *text && p->at < p->columns; text++) {
        const bool printable = *text >= 0x20 && *text < 0x7f;
        l->styles[p->at] = (uint8_t)style;
        l->text[p->at++] = printable ? *text : '?';
    }
    l->text[p->at] = '\0';
}

void hob_page_put(hob_page *p, hob_style style, const char *format, ...)
{
    char text[HOB_PAGE_COLUMNS_MOST + 1];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put_text(p, style, text);
}

void hob_page_column(hob_page *p, uint32_t column)
{
    column = column < p->columns ? column : p->columns;
    if (p->at > column) {
        p->at = column;
        line_of(p)->text[column] = '\0';
        if (column > 0) /* what is cut does not run into what comes */
            line_of(p)->text[column - 1] = ' ';
    }
    while (p->at < column)
        put_text(p, HOB_STYLE_PLAIN, " ");
}

void hob_page_right(hob_page *p, hob_style style, const char *text)
{
    const size_t len = strlen(text);
    hob_page_column(p, len < p->columns ? p->columns - (uint32_t)len : 0);
    put_text(p, style, text);
}

void hob_page_bar(hob_page *p, uint32_t columns, double ratio)
{
    const uint32_t inner = columns > 3 ? columns - 2 : 1;
    const double full = isnan(ratio) || ratio < 0 ? 0 : ratio > 1 ? 1 : ratio;
    const uint32_t filled = (uint32_t)lround(full * inner);

    put_text(p, HOB_STYLE_PLAIN, "[");
    for (uint32_t i = 0; i < inner; i++) {
        const uint32_t percent = (i + 1) * 100 / inner;
        const hob_style style = percent > BAD_PERCENT    ? HOB_STYLE_BAD
                                : percent > WARN_PERCENT ? HOB_STYLE_WARN
                                                         : HOB_STYLE_GOOD;
        put_text(p, i < filled ? style : HOB_STYLE_PLAIN, i < filled ? "|" : " ");
    }
    put_text(p, HOB_STYLE_PLAIN, "]");
}

/* ---- numbers ---- */

static const hob_figure none = {"-"};

hob_figure hob_figure_of(double value)
{
    static const char units[] = "kMGTPE";
    hob_figure f = none;
    int unit = -1;
    if (isnan(value))
        return f;
    if (value < 9.95)
        snprintf(f.text, sizeof f.text, "%.1f", value > 0 ? value : 0);
    else if (value < 9999.5)
        snprintf(f.text, sizeof f.text, "%.0f", value);
    else {
        while (value >= 999.5 && unit + 1 < (int)sizeof units - 1) {
            value /= 1000;
            unit++;
        }
        snprintf(f.text, sizeof f.text, value < 99.95 ? "%.1f%c" : "%.0f%c",
                 value < 9999 ? value : 9999, units[unit]);
    }
    return f;
}

hob_figure hob_figure_ms(double seconds)
{
    hob_figure f = none;
    if (isnan(seconds))
        return f;
    if (seconds < 0.00995)
        snprintf(f.text, sizeof f.text, "%.1f", seconds > 0 ? seconds * 1000 : 0);
    else if (seconds < 9.9995)
        snprintf(f.text, sizeof f.text, "%.0f", seconds * 1000);
    else
        snprintf(f.text, sizeof f.text, "%.0fs", seconds < 99999 ? seconds : 99999);
    return f;
}

hob_figure hob_figure_percent(double ratio)
{
    hob_figure f = none;
    if (!isnan(ratio))
        snprintf(f.text, sizeof f.text, "%.0f %%",
                 ratio < 0      ? 0
                 : ratio < 9.99 ? ratio * 100
                                : 999);
    return f;
}

hob_figure hob_figure_bytes(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    hob_figure f = none;
    size_t unit = 0;
    if (isnan(bytes))
        return f;
    for (bytes = bytes > 0 ? bytes : 0; bytes >= 999.5 && unit + 1 < sizeof units / sizeof *units;
         unit++)
        bytes /= 1024;
    snprintf(f.text, sizeof f.text, unit > 0 && bytes < 9.95 ? "%.1f %s" : "%.0f %s",
             bytes < 999 ? bytes : 999, units[unit]);
    return f;
}

hob_figure hob_figure_duration(double seconds)
{
    const long s = seconds > 0 && seconds < 1e9 ? (long)seconds : 0;
    hob_figure f;
    if (s < 60)
        snprintf(f.text, sizeof f.text, "%ld s", s);
    else if (s < 3600)
        snprintf(f.text, sizeof f.text, "%ld min", s / 60);
    else if (s < 86400)
        snprintf(f.text, sizeof f.text, "%ld h %ld m", s / 3600, s / 60 % 60);
    else
        snprintf(f.text, sizeof f.text, "%ld d", s / 86400);
    return f;
}
