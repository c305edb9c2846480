/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the reader of /metrics: names and labels of what it takes lie within the text, and hobctl top draws it
 * at any width in lines that are no longer and hold printable ASCII alone. */
#include "daemon/ctl/samples.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/top_view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void check_samples(const hob_samples *s, size_t bytes)
{
    char value[16];
    for (uint32_t i = 0; i < s->count; i++) {
        const hob_sample *one = &s->list[i];
        if (one->name_len == 0 || one->name + (size_t)one->name_len > bytes ||
            one->labels + (size_t)one->labels_len > bytes)
            abort();
        if (hob_sample_label(s, one, "model", value, sizeof value) && strlen(value) >= sizeof value)
            abort();
    }
}

static void check_page(const hob_page *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        const char *text = p->lines[i].text;
        if (strlen(text) > p->columns)
            abort();
        for (; *text; text++)
            if (*text < 0x20 || *text >= 0x7f)
                abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static hob_page page; /* large */
    hob_top_look look = {.at_us = 2000000}, before = {.at_us = 1000000};
    char *text = malloc(bytes ? bytes : 1);
    if (!text)
        abort();
    memcpy(text, data, bytes);
    if (hob_samples_read(text, bytes, &look.metrics, NULL) == 0) {
        check_samples(&look.metrics, bytes);
        for (int view = 0; view < HOB_TOP_VIEWS; view++) {
            const uint32_t columns = bytes ? 20 + data[bytes - 1] : 80;
            hob_top_draw(&look, &before, (hob_top_view)view, 0, columns, &page);
            check_page(&page);
        }
    }
    hob_top_look_free(&look);
    return 0;
}
