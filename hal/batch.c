/* SPDX-License-Identifier: Apache-2.0
 *
 * What every device asks of a step's batch before it computes anything. */
#include "hal/hal.h"

int hob_batch_check(const hob_batch *batch, uint32_t block_count)
{
    uint32_t row = 0;

    for (uint32_t i = 0; i < batch->span_count; i++) {
        const hob_span *s = &batch->spans[i];
        if (s->first_row != row || s->row_count == 0 || s->row_count > batch->row_count - row ||
            s->first_position > UINT32_MAX - s->row_count)
            return HOB_EINVAL;
        row += s->row_count;
        for (uint32_t b = 0; block_count && b < hob_span_blocks(s); b++)
            if (s->blocks[b] >= block_count)
                return HOB_EINVAL;
    }
    if (row != batch->row_count)
        return HOB_EINVAL;
    for (uint32_t i = 0; i < batch->logit_count; i++)
        if (batch->logit_rows[i] >= batch->row_count ||
            (i && batch->logit_rows[i] <= batch->logit_rows[i - 1]))
            return HOB_EINVAL;
    return 0;
}

hob_batch hob_batch_narrowed(const hob_batch *batch)
{
    return (hob_batch){.row_count = batch->logit_count, .logit_count = batch->logit_count};
}
