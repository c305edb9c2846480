/* SPDX-License-Identifier: Apache-2.0
 *
 * What hobctl top shows of hobd's answers, view by view, at any width. Pure. */
#ifndef HOB_DAEMON_CTL_TOP_VIEW_H
#define HOB_DAEMON_CTL_TOP_VIEW_H

#include <jansson.h>

#include "daemon/ctl/samples.h"
#include "daemon/ctl/top_page.h"

typedef enum hob_top_view {
    HOB_TOP_OVERVIEW,
    HOB_TOP_LATENCY,
    HOB_TOP_ENGINES,
    HOB_TOP_MEMORY,
    HOB_TOP_VIEWS,
} hob_top_view;

enum { HOB_TOP_WINDOWS = 3 }; /* of /hob/v1/stats: 1 min, 10 min, 1 h */

/* One look at hobd. */
typedef struct hob_top_look { /* zero-initialize */
    json_t *status, *stats;   /* of /hob/v1/admin/status and /hob/v1/stats; owned */
    hob_samples metrics;
    uint64_t at_us; /* 0: there was none yet */
} hob_top_look;

void hob_top_look_free(hob_top_look *l);

/* Rates are between the two looks; without `before`, or when hobd was started anew in between, there are none. */
void hob_top_draw(const hob_top_look *now, const hob_top_look *before, hob_top_view view,
                  uint32_t window, uint32_t columns, hob_page *ret);

#endif
