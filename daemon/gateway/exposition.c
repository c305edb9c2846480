/* SPDX-License-Identifier: Apache-2.0
 *
 * Prometheus' text format. See exposition.h. */
#include "daemon/gateway/exposition.h"

void hob_expose_family(hob_text *t, const char *name, const char *type, const char *help)
{
    hob_text_format(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void hob_expose_sample(hob_text *t, const char *name, const char *labels, double value)
{
    if (labels[0])
        hob_text_format(t, "%s{%s} %.15g\n", name, labels, value);
    else
        hob_text_format(t, "%s %.15g\n", name, value);
}

void hob_expose_counter(hob_text *t, const char *name, const char *help, double value)
{
    hob_expose_family(t, name, "counter", help);
    hob_expose_sample(t, name, "", value);
}

void hob_expose_gauge(hob_text *t, const char *name, const char *help, double value)
{
    hob_expose_family(t, name, "gauge", help);
    hob_expose_sample(t, name, "", value);
}

void hob_expose_histogram(hob_text *t, const char *name, const char *labels, const hob_histogram *h)
{
    const char *comma = labels[0] ? "," : "", *open = labels[0] ? "{" : "",
               *close = labels[0] ? "}" : "";
    uint64_t sum = 0;

    for (uint32_t i = 0; i <= HOB_HISTOGRAM_BOUNDS; i++) {
        sum += h->counts[i];
        if (i < HOB_HISTOGRAM_BOUNDS)
            hob_text_format(t, "%s_bucket{%s%sle=\"%.10g\"} %llu\n", name, labels, comma,
                            hob_histogram_bounds_us[i] / 1e6, (unsigned long long)sum);
        else
            hob_text_format(t, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, labels, comma,
                            (unsigned long long)sum);
    }
    hob_text_format(t, "%s_sum%s%s%s %.6f\n%s_count%s%s%s %llu\n", name, open, labels, close,
                    (double)h->sum_us / 1e6, name, open, labels, close, (unsigned long long)sum);
}
