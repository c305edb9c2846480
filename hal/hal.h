/* SPDX-License-Identifier: Apache-2.0
 *
 * The hardware abstraction layer: one table of operations that a compute device implements, and the handles that
 * pass through it. A model's graph is written once against this table; nothing above hal/ knows which device runs it.
 *
 * Weights, tensors and the KV arena are opaque handles of the device that made them. Operations are enqueued between
 * step_begin and step_end; step_end is the one fence of a step, after which candidates and read_rows may look at
 * results. A device that works at once (CPU) and one that queues (OpenCL) both fit. One step runs at a time per device.
 *
 * Determinism (CPU devices): a row's results depend on that row's tokens and positions alone, never on the other
 * rows of the step, on how a prompt was cut into steps, on the number of threads, nor on the ISA tier.
 *
 * Does not own: token ids' meaning, block allocation (models/kv.h), sampling (models/sampler.h).
 * Thread: all operations of one device come from one thread (`step`); probe, open and weight_upload may come from
 * another before the first step. */
#ifndef HOB_HAL_HAL_H
#define HOB_HAL_HAL_H

#include "hal/base.h"

enum {
    HOB_KV_BLOCK_TOKENS = 32, /* positions in one KV block */
    HOB_LINEAR_MAX = 3,       /* weights that may share one input */
    HOB_EXPERTS_MAX = 512,    /* in one layer */
    HOB_CANDIDATES_MAX = 256, /* most candidates returned for one row */
};

/* Element types, with the numbers of GGUF's tensor types. */
typedef enum hob_type {
    HOB_TYPE_F32 = 0,
    HOB_TYPE_F16 = 1,
    HOB_TYPE_Q4_0 = 2,
    HOB_TYPE_Q4_1 = 3,
    HOB_TYPE_Q5_0 = 6,
    HOB_TYPE_Q5_1 = 7,
    HOB_TYPE_Q8_0 = 8,
    HOB_TYPE_Q2_K = 10,
    HOB_TYPE_Q3_K = 11,
    HOB_TYPE_Q4_K = 12,
    HOB_TYPE_Q5_K = 13,
    HOB_TYPE_Q6_K = 14,
    HOB_TYPE_IQ4_NL = 20,
    HOB_TYPE_IQ4_XS = 23,
    HOB_TYPE_BF16 = 30,
} hob_type;

enum { HOB_BLOCK_MAX = 256 }; /* weights in the largest block */

/* A block of a quantized type, spread out. Weight i is
 *     d * sub[i / group] * value(codes[i])  [- m * sub_min[i / group]]     with groups
 *     d * value(codes[i])                   [+ m]                         without */
typedef struct hob_block {
    uint16_t d, m; /* f16 */
    uint8_t codes[HOB_BLOCK_MAX];
    int8_t sub[HOB_BLOCK_MAX / 16];
    uint8_t sub_min[HOB_BLOCK_MAX / 16];
} hob_block;

typedef struct hob_type_info {
    hob_type type;
    const char *name;     /* "Q4_1" */
    uint32_t block_len;   /* weights in a block; a row is a whole number of blocks */
    uint32_t block_bytes; /* bytes of a block in a GGUF file */
    /* Quantized types only, for the others 0: a code has low_bits + high_bits bits, and its value is table[code] where
     * there is a table, (int8_t)code where it has 8 bits, else code - offset. */
    uint8_t low_bits, high_bits, offset;
    uint8_t d_at;  /* where d lies in a block of the file; m is behind it */
    uint8_t group; /* weights that share a sub-scale: 16 or 32; 0: the block has none */
    bool minimum;
    const int8_t *table;                                   /* [16] or NULL */
    void (*unpack)(const uint8_t *block, hob_block *ret);  /* block may be unaligned */
    void (*to_float)(const void *src, float *dst, size_t); /* of the types that are not quantized */
} hob_type_info;

/* NULL when hob cannot compute with this GGUF tensor type. */
const hob_type_info *hob_type_find(uint32_t gguf_type);
/* The names of all types, for messages: "F32 F16 …". */
const char *hob_type_names(void);

static inline int hob_code_value(const hob_type_info *t, uint8_t code)
{
    if (t->table)
        return t->table[code];
    return t->low_bits == 8 ? (int8_t)code : code - t->offset;
}

/* Reference: the count weights (a multiple of block_len) at src, which may be unaligned, as floats. */
void hob_type_dequantize(const hob_type_info *t, const void *src, float *dst, size_t count);

typedef struct hob_device hob_device;
typedef struct hob_weight
    hob_weight; /* a matrix [rows, cols] or vector [1, cols] in the device's own layout */
typedef struct hob_tensor hob_tensor; /* f32 activations [rows, cols] */
typedef struct hob_kv hob_kv;         /* arena of KV blocks of all layers */

typedef struct hob_device_info {
    char name[32];         /* what `device =` selects: "cpu", "opencl:0" */
    char description[128]; /* processor or board */
    char isa
        [32]; /* "scalar", "avx2"; an open OpenCL device's ways of multiplying: "dp4a, CLBlast from 256" */
    uint32_t threads;      /* workers, 0 where it has no meaning */
    uint64_t memory_bytes; /* of the device, 0 unknown */
    bool processor;        /* an OpenCL device that is the processor itself */
} hob_device_info;

typedef struct hob_device_options {
    uint32_t threads; /* CPU workers; 0: one a core available to the process */
    const char
        *cache; /* folder for compiled kernels, of devices that compile them; NULL: none are kept */
} hob_device_options;

/* Consecutive rows of one sequence in a step: positions first_position .. first_position + row_count - 1. */
typedef struct hob_span {
    uint32_t first_row, row_count;
    uint32_t first_position;
    const uint32_t *blocks; /* KV block of position p is blocks[p / HOB_KV_BLOCK_TOKENS] */
} hob_span;

typedef struct hob_batch {
    uint32_t row_count;
    const uint32_t *tokens; /* [row_count] */
    uint32_t span_count;
    const hob_span *spans; /* ascending, covering every row once */
    uint32_t logit_count;
    const uint32_t *logit_rows; /* [logit_count], ascending: rows whose logits are wanted */
} hob_batch;

/* Whether the spans cover all rows once and name blocks below block_count (0: there is no KV cache), and the logit rows ascend.
 * HOB_EINVAL. */
HOB_MUST_CHECK int hob_batch_check(const hob_batch *batch, uint32_t block_count);
/* What is left of a step for its logit rows: no tokens, no spans. logit_rows NULL: all rows. */
hob_batch hob_batch_narrowed(const hob_batch *batch);

/* Blocks that a span's positions, and those before it, lie in. */
static inline uint32_t hob_span_blocks(const hob_span *s)
{
    return (s->first_position + s->row_count - 1) / HOB_KV_BLOCK_TOKENS + 1;
}

/* y[i] = W[i] * norm(x) + bias[i], added onto y[i] when `add` (the residual stream). */
typedef struct hob_linear {
    const hob_tensor *x;    /* [rows, cols] */
    const hob_weight *norm; /* RMSNorm weight [1, cols], or NULL: x is used as it is */
    float norm_eps;
    uint32_t count;                         /* 1 .. HOB_LINEAR_MAX */
    const hob_weight *w[HOB_LINEAR_MAX];    /* [out_i, cols] */
    const hob_weight *bias[HOB_LINEAR_MAX]; /* [1, out_i] or NULL */
    hob_tensor *y[HOB_LINEAR_MAX]; /* [rows, out_i]; [logit_count, out_i] when logit_rows */
    bool add;
    bool logit_rows; /* only the batch's logit_rows, packed */
} hob_linear;

/* In place on q and k: optional RMSNorm of each head, then rotary embedding; then k and v into the KV cache.
 * Rotation of pair i of n_rot / 2 at position p: angle = p * freq_base^(-2 i / n_rot) * freq_scale / factors[i]. */
typedef struct hob_rope_kv {
    hob_tensor *q; /* [rows, heads * head_dim] */
    hob_tensor *k; /* [rows, kv_heads * head_dim] */
    hob_tensor *v; /* [rows, kv_heads * head_dim] */
    uint32_t layer, heads, kv_heads, head_dim;
    uint32_t n_rot; /* leading dimensions rotated; 0: no rotation */
    bool neox;      /* pairs (i, i + n_rot/2) instead of (2i, 2i+1) */
    float freq_base, freq_scale;
    float magnitude;                   /* cosine and sine are multiplied with it; usually 1 */
    const hob_weight *factors;         /* [1, n_rot / 2] or NULL */
    const hob_weight *q_norm, *k_norm; /* [1, head_dim] or NULL */
    float norm_eps;
} hob_rope_kv;

/* Attention of each row. Without k and v it is causal, over its sequence's cached positions, its own included; with them a row
 * sees every row of its span, those behind it too, and no cache is needed. */
typedef struct hob_attention {
    const hob_tensor *q;     /* [rows, heads * head_dim] */
    const hob_tensor *k, *v; /* [rows, kv_heads * head_dim], both or neither (NULL) */
    hob_tensor *out;         /* [rows, heads * head_dim] */
    uint32_t layer, heads, kv_heads, head_dim; /* layer: of the cache */
    float scale;
    uint32_t window; /* positions seen at most, 0: all, as it must be with k and v */
} hob_attention;

/* GELU is x Phi(x) (Hendrycks and Gimpel 2016), Phi the normal distribution's: exactly, or by its approximation with tanh. */
typedef enum hob_gate_kind { HOB_GATE_SILU, HOB_GATE_GELU_TANH, HOB_GATE_GELU } hob_gate_kind;

/* What one vector is made of a span's rows: their mean, or the first (the class token's). */
typedef enum hob_pool_kind { HOB_POOL_MEAN, HOB_POOL_FIRST } hob_pool_kind;

/* A mixture of gated feed-forward experts (Shazeer et al. 2017), onto the residual stream. With h = norm(x), each row takes
 * the `used` experts e with the largest scores s[e] = router[e] h, ties to the lower number, and p, the softmax of their s:
 *     x += sum of p[e] * down[e] (act(gate[e] h) * (up[e] h)), e ascending */
typedef struct hob_experts {
    hob_tensor *x;          /* [rows, width] */
    const hob_weight *norm; /* [1, width] */
    float norm_eps;
    uint32_t count, used;     /* 1 <= used <= count <= HOB_EXPERTS_MAX */
    const hob_weight *router; /* [count, width] */
    const hob_weight *gate,
        *up;                /* [count * ff, width], one expert after another; ff a multiple of 16 */
    const hob_weight *down; /* [count * width, ff]; width a multiple of 16 */
    hob_gate_kind kind;
    /* Working memory, whose contents are undefined afterwards. */
    hob_tensor *scores;         /* [rows, count] */
    hob_tensor *gated, *up_out; /* [rows * used, ff] */
    hob_tensor *down_out;       /* [rows * used, width] */
} hob_experts;

typedef struct hob_kv_shape {
    uint32_t layers, kv_heads, head_dim, block_count;
    hob_type type; /* HOB_TYPE_F16 or HOB_TYPE_Q8_0 */
} hob_kv_shape;

/* One change to a row's logits before candidates are taken: logit = (logit > 0 ? logit / divide : logit * divide) + add. */
typedef struct hob_logit_edit {
    uint32_t token;
    float divide; /* 1: none */
    float add;    /* -INFINITY forbids the token */
} hob_logit_edit;

typedef struct hob_candidates_in {
    uint32_t row;              /* row of the logits tensor */
    uint32_t k;                /* 1 .. HOB_CANDIDATES_MAX, cut to the vocabulary */
    float inverse_temperature; /* 1/T; for T = 0 pass 1 */
    uint32_t edit_count;
    const hob_logit_edit *edits; /* distinct tokens */
} hob_candidates_in;

typedef struct hob_candidates {
    uint32_t count;
    uint32_t ids[HOB_CANDIDATES_MAX]; /* by descending edited logit, ties by ascending id */
    float logits[HOB_CANDIDATES_MAX]; /* edited, before temperature */
    float raw[HOB_CANDIDATES_MAX];    /* as the model gave them */
    float lse; /* log sum exp of edited logit * inverse_temperature over the whole row */
    float
        lse_raw; /* log sum exp of raw logits over the whole row: raw[i] - lse_raw is a log probability */
} hob_candidates;

/* All return 0 or HOB_E…; a device failure is HOB_EDEVICE and leaves the device unusable. */
typedef struct hob_device_ops {
    void (*close)(hob_device *dev);

    /* Copies and repacks; the source may be unmapped or dropped afterwards. bytes is exactly rows * cols / block_len *
     * block_bytes. F32 with rows == 1 is a vector (norms, biases). */
    int (*weight_upload)(hob_device *dev, hob_type type, uint32_t rows, uint32_t cols,
                         const void *data, size_t bytes, hob_weight **ret, hob_diag *diag);
    void (*weight_free)(hob_device *dev, hob_weight *w);
    int (*tensor_new)(hob_device *dev, uint32_t rows, uint32_t cols, hob_tensor **ret,
                      hob_diag *diag);
    void (*tensor_free)(hob_device *dev, hob_tensor *t);
    int (*kv_new)(hob_device *dev, const hob_kv_shape *shape, hob_kv **ret, hob_diag *diag);
    void (*kv_free)(hob_device *dev, hob_kv *kv);
    int (*kv_copy_block)(hob_device *dev, hob_kv *kv, uint32_t from, uint32_t to); /* all layers */

    /* The batch and what it points to must live until step_end. kv may be NULL for a step without attention. */
    int (*step_begin)(hob_device *dev, hob_kv *kv, const hob_batch *batch);
    int (*embed)(hob_device *dev, const hob_weight *table, float scale,
                 hob_tensor *out); /* out[r] = table[tokens[r]] * scale */
    /* x[r] += table[position of r]; table has a row for every position of the step. */
    int (*add_positions)(hob_device *dev, const hob_weight *table, hob_tensor *x);
    int (*linear)(hob_device *dev, const hob_linear *op);
    /* x += RMSNorm(y) * norm; x, y [rows, cols], norm [1, cols]. y may be overwritten. */
    int (*norm_add)(hob_device *dev, hob_tensor *y, const hob_weight *norm, float eps,
                    hob_tensor *x);
    /* x = (x - mean) / sqrt(variance + eps) * norm + bias of each row (Ba et al. 2016); norm, bias [1, cols] */
    int (*layer_norm)(hob_device *dev, hob_tensor *x, const hob_weight *norm,
                      const hob_weight *bias, float eps);
    int (*rope_kv)(hob_device *dev, const hob_rope_kv *op);
    int (*attention)(hob_device *dev, const hob_attention *op);
    int (*gate)(hob_device *dev, hob_gate_kind kind, const hob_tensor *gate, const hob_tensor *up,
                hob_tensor *out); /* out = act(gate) * up, up NULL: act(gate); may alias */
    int (*experts)(hob_device *dev, const hob_experts *op);
    /* out[i] = what span i is pooled to, then divided by its length (L2 norm, at least 1e-12). x [rows, cols], out [at
     * least span_count, cols] */
    int (*pool)(hob_device *dev, hob_pool_kind kind, const hob_tensor *x, hob_tensor *out);
    /* From here on the step's rows are its logit rows alone, and a linear's logit_rows all of them: the tensors' rows move to
     * the front. What follows the last layer's keys and values is wanted of no other row. At least one logit row. */
    int (*narrow)(hob_device *dev, hob_tensor *const *tensors, uint32_t count);
    int (*step_end)(hob_device *dev);

    /* After step_end. */
    int (*candidates)(hob_device *dev, const hob_tensor *logits, const hob_candidates_in *in,
                      uint32_t count, hob_candidates *ret);
    int (*read_rows)(hob_device *dev, const hob_tensor *t, uint32_t first_row, uint32_t rows,
                     float *ret);
} hob_device_ops;

/* The head of every device; a backend's own struct begins with it. */
struct hob_device {
    const hob_device_ops *ops;
    hob_device_info info;
    uint64_t resident_bytes; /* weights + tensors + KV now held */
    uint64_t busy_us;        /* of steps, as a device with a queue measured it itself; else 0 */
    bool rounds;      /* quantized weights meet activations rounded to 8 bits, in blocks of 32 */
    hob_diag failure; /* why the device is lost; empty while it works */
};

typedef struct hob_backend {
    const char *name;
    /* Devices found, at most cap are written; 0 when there are none, which is normal. */
    int (*probe)(hob_device_info *ret, size_t cap);
    int (*open)(const hob_device_info *which, const hob_device_options *options, hob_device **ret,
                hob_diag *diag);
} hob_backend;

extern const hob_backend hob_backend_cpu, hob_backend_cl;

static inline void hob_device_close(hob_device *dev)
{
    if (dev)
        dev->ops->close(dev);
}

#endif
