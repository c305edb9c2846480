/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /hob/v1/stats: quantiles of the last minute, ten minutes and hour, by route, model and class, and of all that generates
 * together, which is the sum of their sketches. */
#include <stdlib.h>

#include "daemon/gateway/meter.h"

static const char *quantity_name(hob_quantity q)
{
    static const char *const names[] = {"time_to_first_token_s", "inter_token_latency_s",
                                        "duration_s", "queue_s"};
    return names[q];
}

static void add_window(hob_text *t, const hob_sketch *s, uint32_t window)
{
    static const int percents[] = {50, 95, 99};
    const uint64_t count = hob_sketch_count(s);

    hob_text_format(t, "{\"window_s\":%u,\"count\":%llu", hob_recent_windows_s[window],
                    (unsigned long long)count);
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++)
        if (count > 0)
            hob_text_format(t, ",\"p%d\":%.6g", percents[i],
                            hob_sketch_quantile(s, percents[i] / 100.0) / 1e6);
        else
            hob_text_format(t, ",\"p%d\":null", percents[i]);
    hob_text_puts(t, "}");
}

/* Of the series in a list together. */
static void add_quantities(hob_text *t, hob_series *const *list, uint32_t count, uint64_t now_us)
{
    for (int q = 0; q < HOB_QUANTITIES; q++) {
        hob_text_format(t, ",\"%s\":[", quantity_name((hob_quantity)q));
        for (uint32_t w = 0; w < HOB_RECENT_WINDOWS; w++) {
            hob_sketch sum = {0};
            for (uint32_t i = 0; i < count; i++)
                if (list[i])
                    hob_recent_read(&list[i]->quantities[q], w, now_us, &sum);
            hob_text_puts(t, w ? "," : "");
            add_window(t, &sum, w);
        }
        hob_text_puts(t, "]");
    }
}

void hob_stats_serve(hob_conn *c)
{
    hob_series **const series = c->g->meter->series;
    const uint64_t now_us = hob_now_us();
    hob_text t = {0};

    hob_text_format(&t,
                    "{\"object\":\"hob.stats\",\"relative_error\":%g,\"all\":{\"route\":\"all\","
                    "\"model\":\"all\",\"class\":\"all\"",
                    HOB_SKETCH_ERROR);
    /* Routes stand one behind another: those that generate are the first. */
    add_quantities(&t, series, hob_meter_series(HOB_METER_EMBEDDINGS, 0, HOB_ARBITER_QUERY),
                   now_us);
    hob_text_puts(&t, "},\"series\":[");
    bool more = false;
    for (int r = 0; r < HOB_METER_ESTIMATE; r++)
        for (uint32_t m = 0; m < c->g->link_count; m++)
            for (int k = 0; k < HOB_ARBITER_CLASSES; k++) {
                hob_series **at =
                    &series[hob_meter_series((hob_meter_route)r, m, (hob_arbiter_class)k)];
                if (!*at)
                    continue;
                hob_text_format(&t, "%s{\"route\":\"%s\",\"model\":\"%s\",\"class\":\"%s\"",
                                more ? "," : "", hob_meter_route_name((hob_meter_route)r),
                                c->g->links[m].model->name,
                                hob_meter_class_name((hob_arbiter_class)k));
                add_quantities(&t, at, 1, now_us);
                hob_text_puts(&t, "}");
                more = true;
            }
    hob_text_puts(&t, "]}\n");
    hob_http_respond_json(c, &t);
    hob_text_free(&t);
}
