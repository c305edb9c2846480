/* SPDX-License-Identifier: Apache-2.0
 *
 * The cosines and sines of rotary embeddings, computed in double for every position that a device has met. */
#ifndef HOB_HAL_ROPE_H
#define HOB_HAL_ROPE_H

#include "hal/hal.h"

enum { HOB_ROPE_TABLES = 4 }; /* distinct rotations in one model */

typedef struct hob_rope_table {
    uint32_t n_rot, positions, capacity;
    uint32_t generation; /* changes when the place is used for another rotation */
    float freq_base, freq_scale, magnitude;
    const float *factors; /* identity only */
    float *cosine, *sine; /* [capacity][n_rot / 2] */
} hob_rope_table;

/* The index in tables [HOB_ROPE_TABLES] of the table of op's parameters, with all positions below `positions`; factors:
 * op's, on the host, or NULL. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_rope_table_find(hob_rope_table *tables, const hob_rope_kv *op,
                                       const float *factors, uint32_t positions);
void hob_rope_tables_free(hob_rope_table *tables);

#endif
