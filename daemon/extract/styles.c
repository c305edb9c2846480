/* SPDX-License-Identifier: Apache-2.0
 *
 * See styles.h. */
#include "daemon/extract/styles.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { BASES_MAX = 12, LEVELS = 6 };

void hob_styles_free(hob_styles *s)
{
    free(s->list);
    *s = (hob_styles){0};
}

hob_style *hob_styles_add(hob_styles *s, const char *id)
{
    if (s->count == HOB_STYLES_MAX)
        return NULL;
    if (s->count == s->capacity) {
        const uint32_t capacity = s->capacity ? 2 * s->capacity : 64;
        hob_style *list = realloc(s->list, capacity * sizeof *list);
        if (!list)
            return NULL;
        s->list = list;
        s->capacity = capacity;
    }
    hob_style *style = &s->list[s->count++];
    *style = (hob_style){0};
    if (strlen(id) < sizeof style->id)
        snprintf(style->id, sizeof style->id, "%s", id);
    return style;
}

void hob_style_name(hob_style *style, const char *name)
{
    if (strncasecmp(name, "heading ", 8) == 0 && name[8] >= '1' && name[8] <= '9' && !name[9])
        style->heading = name[8] - '0' <= LEVELS ? (uint8_t)(name[8] - '0') : LEVELS;
    style->title = strcasecmp(name, "title") == 0;
    style->item =
        strncasecmp(name, "list bullet", 11) == 0 || strncasecmp(name, "list number", 11) == 0;
}

static const hob_style *find(const hob_styles *s, const char *id)
{
    for (uint32_t i = 0; id[0] && i < s->count; i++)
        if (strcmp(s->list[i].id, id) == 0)
            return &s->list[i];
    return NULL;
}

hob_style hob_styles_find(const hob_styles *s, const char *id)
{
    const hob_style *style = find(s, id);
    for (int i = 0; style && i < BASES_MAX; i++) {
        if (style->heading || style->item || style->title)
            return *style;
        style = find(s, style->based_on);
    }
    return (hob_style){0};
}
