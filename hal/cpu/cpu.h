/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the CPU device: its handles, shared by the files that implement hal.h's table. The device works at once:
 * an operation has finished when its function returns. Working memory only grows, and only when a larger shape than
 * before is seen, so a steady stream of steps allocates nothing. */
#ifndef HOB_HAL_CPU_CPU_H
#define HOB_HAL_CPU_CPU_H

#include "hal/cpu/kernels.h"
#include "hal/cpu/pool.h"
#include "hal/half.h"
#include "hal/rope.h"

enum {
    HOB_CPU_ATTEND_QUERIES = 48, /* queries that share one unpacked KV block */
    HOB_CPU_HEAD_DIM_MAX = 512,
};

typedef struct hob_cpu_chunk hob_cpu_chunk; /* of weight memory */

struct hob_weight {
    hob_panels matrix;
    const float *vector; /* [cols], for F32 with one row; else NULL */
    hob_type type;
    hob_cpu_chunk *chunk;
    size_t bytes;
};

struct hob_tensor {
    uint32_t rows, cols;
    float *data; /* [rows][cols] */
    size_t bytes;
};

/* A block holds, for each layer and KV head, K [head_dim][32 positions] and V [32 positions][width]; width is head_dim
 * rounded up to 16. Q8_0 adds a f16 scale for each position and 32 dimensions: K [groups][32], V [32][groups]. */
struct hob_kv {
    hob_kv_shape shape;
    uint32_t width, groups;
    size_t k_bytes, v_bytes; /* of one head of one layer of a block */
    size_t block_bytes;
    uint8_t *data;
    size_t bytes;
};

typedef struct hob_cpu_buffer {
    void *data;
    size_t bytes;
} hob_cpu_buffer;

/* out = act(gate) * up; up NULL: act(gate) */
typedef struct hob_cpu_gate {
    hob_gate_kind kind;
    const hob_tensor *gate, *up;
    hob_tensor *out;
} hob_cpu_gate;

typedef struct hob_cpu_device {
    hob_device base;
    hob_cpu_kernels kernels;
    hob_pool *pool;
    uint32_t threads;
    hob_cpu_chunk *chunks;
    uint32_t max_cols; /* of any matrix, for the workers' scratch */

    hob_kv *kv; /* of the current step */
    const hob_batch *batch;
    hob_batch narrowed; /* what `batch` is after narrow */
    hob_cpu_gate gate;  /* not done yet, as the next linear does it on the way; out NULL: none */
    hob_cpu_buffer input_f32, input_q, input_scales; /* of the current linear */
    hob_cpu_buffer scratch;                          /* threads * scratch_each */
    size_t scratch_each;
    hob_cpu_buffer candidates; /* partial results */
    hob_cpu_buffer experts;    /* which rows each of them has */
    hob_cpu_buffer rows;       /* keys and values of a step's spans, laid out as blocks */
    hob_rope_table ropes[HOB_ROPE_TABLES];
} hob_cpu_device;

/* Aligned to 64, contents not kept, zeroed when it grows. */
HOB_MUST_CHECK int hob_cpu_buffer_ensure(hob_cpu_buffer *b, size_t bytes);
/* Zeroed pages, on huge pages where the system has them; NULL when there is no memory. */
void *hob_cpu_pages_new(size_t bytes);
void hob_cpu_pages_free(void *data, size_t bytes);

/* Working memory of that many bytes for each worker. */
HOB_MUST_CHECK int hob_cpu_scratch_ensure(hob_cpu_device *dev, size_t bytes_each);

static inline void *hob_cpu_scratch(const hob_cpu_device *dev, uint32_t worker)
{
    return (uint8_t *)dev->scratch.data + worker * dev->scratch_each;
}

/* weights.c */
int hob_cpu_weight_upload(hob_device *dev, hob_type type, uint32_t rows, uint32_t cols,
                          const void *data, size_t bytes, hob_weight **ret, hob_diag *diag);
void hob_cpu_weight_free(hob_device *dev, hob_weight *w);
void hob_cpu_weights_drop(hob_cpu_device *dev);
/* One row of a matrix as floats, times scale. */
void hob_cpu_weight_row(const hob_weight *w, uint32_t row, float scale, float *ret);

/* device.c */
/* Does the gate that waits for the operation which reads its result. */
void hob_cpu_gate_now(hob_cpu_device *dev);

/* linear.c */
/* Rows of activations that matrices are to be multiplied with. */
typedef struct hob_cpu_source {
    const hob_tensor *x;
    const hob_weight *norm; /* RMSNorm weight, or NULL: x is used as it is */
    float norm_eps;
    uint32_t rows;
    const uint32_t *which; /* [rows]: rows of x; NULL: the first ones */
    const hob_cpu_gate
        *gate; /* gives x its values first, NULL: x has them; neither norm nor which */
} hob_cpu_source;

/* How the rows get the forms that kernels take. */
typedef struct hob_cpu_prepare {
    hob_cpu_device *dev;
    hob_cpu_source from;
    bool quantize, copy;
    uint32_t rows_each, items; /* rows_each: of an item */
} hob_cpu_prepare;

/* Makes room for the rows; hob_cpu_multiply, which must come next, then fills *ret_x in. It lies in the device's memory,
 * until the next call. */
HOB_MUST_CHECK int hob_cpu_prepare_plan(hob_cpu_device *dev, const hob_cpu_source *from,
                                        bool quantized, bool floats, hob_cpu_prepare *ret,
                                        hob_cpu_input *ret_x);

/* One matrix multiplied with its input. */
typedef struct hob_cpu_product {
    hob_panels w;
    hob_cpu_input x;
    hob_cpu_output out;
    uint32_t item_end; /* hob_cpu_multiply's own */
} hob_cpu_product;

/* Prepares the rows, then multiplies them. */
HOB_MUST_CHECK int hob_cpu_multiply(hob_cpu_device *dev, hob_cpu_prepare *prepare,
                                    hob_cpu_product *products, uint32_t count);

/* linear.c, experts.c, attention.c, encoder.c, candidates.c: operations of hal.h's table */
int hob_cpu_linear(hob_device *dev, const hob_linear *op);
int hob_cpu_experts(hob_device *dev, const hob_experts *op);
int hob_cpu_rope_kv(hob_device *dev, const hob_rope_kv *op);
int hob_cpu_attention(hob_device *dev, const hob_attention *op);
int hob_cpu_add_positions(hob_device *dev, const hob_weight *table, hob_tensor *x);
int hob_cpu_layer_norm(hob_device *dev, hob_tensor *x, const hob_weight *norm,
                       const hob_weight *bias, float eps);
int hob_cpu_pool(hob_device *dev, hob_pool_kind kind, const hob_tensor *x, hob_tensor *out);
int hob_cpu_candidates(hob_device *dev, const hob_tensor *logits, const hob_candidates_in *in,
                       uint32_t count, hob_candidates *ret);

#endif
