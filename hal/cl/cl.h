/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of the OpenCL device: the loader's functions, kernels by name, handles, and what the files here share. One
 * in-order queue; operations only enqueue. The host waits where it reads: candidates and read_rows.
 *
 * The first failing call is kept in the device's `failure`, and every later operation refuses: results after it mean nothing.
 * Thread: as hal.h says; the device makes no threads of its own. */
#ifndef HOB_HAL_CL_CL_H
#define HOB_HAL_CL_CL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "hal/panels.h"
#include "hal/rope.h"

/* X(name): what hob calls, without the prefix cl. */
#define HOB_CL_FUNCTIONS(X)                                                                        \
    X(GetPlatformIDs)                                                                              \
    X(GetPlatformInfo)                                                                             \
    X(GetDeviceIDs)                                                                                \
    X(GetDeviceInfo)                                                                               \
    X(CreateContext)                                                                               \
    X(ReleaseContext)                                                                              \
    X(CreateCommandQueue)                                                                          \
    X(ReleaseCommandQueue)                                                                         \
    X(CreateBuffer)                                                                                \
    X(ReleaseMemObject)                                                                            \
    X(CreateProgramWithSource)                                                                     \
    X(CreateProgramWithBinary)                                                                     \
    X(BuildProgram)                                                                                \
    X(GetProgramBuildInfo)                                                                         \
    X(GetProgramInfo)                                                                              \
    X(ReleaseProgram)                                                                              \
    X(CreateKernel)                                                                                \
    X(ReleaseKernel)                                                                               \
    X(GetKernelWorkGroupInfo)                                                                      \
    X(SetKernelArg)                                                                                \
    X(EnqueueNDRangeKernel)                                                                        \
    X(EnqueueWriteBuffer)                                                                          \
    X(EnqueueReadBuffer)                                                                           \
    X(EnqueueCopyBuffer)                                                                           \
    X(EnqueueFillBuffer)                                                                           \
    X(EnqueueMapBuffer)                                                                            \
    X(EnqueueUnmapMemObject)                                                                       \
    X(EnqueueMarkerWithWaitList)                                                                   \
    X(WaitForEvents)                                                                               \
    X(GetEventProfilingInfo)                                                                       \
    X(ReleaseEvent)                                                                                \
    X(Flush)                                                                                       \
    X(Finish)

#define HOB_CL_POINTER(name) __typeof__(&cl##name) name;
typedef struct hob_cl_api {
    HOB_CL_FUNCTIONS(HOB_CL_POINTER)
} hob_cl_api;
#undef HOB_CL_POINTER

/* The loader's functions, NULL when the machine has no loader; opened once. Thread: any. */
const hob_cl_api *hob_cl_load(void);
const char *hob_cl_error_name(cl_int error);

/* X(identifier, file, function, typed): typed kernels are built once a kind, of weights or of the KV cache; attention has F32 for
 * rows. */
#define HOB_CL_KERNELS(X)                                                                          \
    X(EMBED, embed, embed, true)                                                                   \
    X(LINEAR_1, linear, linear_rows_1, true)                                                       \
    X(LINEAR_2, linear, linear_rows_2, true)                                                       \
    X(LINEAR_4, linear, linear_rows_4, true)                                                       \
    X(LINEAR_8, linear, linear_rows_8, true)                                                       \
    X(LINEAR_EXPERTS, linear, linear_experts, true)                                                \
    X(LINEAR_TILE, tile, linear_tile, true)                                                        \
    X(LINEAR_MMA_8, mma, linear_mma_8, true)                                                       \
    X(LINEAR_MMA_32, mma, linear_mma_32, true)                                                     \
    X(TILE_EXPERTS, tile, tile_experts, true)                                                      \
    X(DEQUANTIZE, dequantize, dequantize, true)                                                    \
    X(ADD_BIAS, bias, add_bias, false)                                                             \
    X(PREPARE, norm, prepare, false)                                                               \
    X(PREPARE_BYTES, norm, prepare_bytes, false)                                                   \
    X(NORM_ADD, norm, norm_add, false)                                                             \
    X(LAYER_NORM, norm, layer_norm, false)                                                         \
    X(POOL, pool, pool, false)                                                                     \
    X(GATE, gate, gate, false)                                                                     \
    X(ROPE_KV, rope_kv, rope_kv, true)                                                             \
    X(ATTEND, attention, attend, true)                                                             \
    X(ATTEND_JOIN, attention, attend_join, true)                                                   \
    X(ROUTE, experts, route, false)                                                                \
    X(GROUP_SLOTS, experts, group_slots, false)                                                    \
    X(ADD_SHARES, experts, add_shares, false)                                                      \
    X(EDIT_LOGITS, candidates, edit_logits, false)                                                 \
    X(PACK_ROWS, pack_rows, pack_rows, false)                                                      \
    X(COPY_ROWS, candidates, copy_rows, false)                                                     \
    X(LOG_SUM_PARTS, candidates, log_sum_parts, false)                                             \
    X(BEST_LOGITS, candidates, best_logits, false)                                                 \
    X(BEST_KEYS, candidates, best_keys, false)                                                     \
    X(RAW_LOGITS, candidates, raw_logits, false)

#define HOB_CL_IDENTIFIER(identifier, file, function, typed) HOB_CL_##identifier,
typedef enum hob_cl_kernel { HOB_CL_KERNELS(HOB_CL_IDENTIFIER) HOB_CL_KERNEL_COUNT } hob_cl_kernel;
#undef HOB_CL_IDENTIFIER

#define HOB_CL_FILES(X)                                                                            \
    X(embed)                                                                                       \
    X(linear)                                                                                      \
    X(tile)                                                                                        \
    X(mma)                                                                                         \
    X(dequantize)                                                                                  \
    X(bias)                                                                                        \
    X(pack_rows) X(norm) X(gate) X(pool) X(rope_kv) X(attention) X(experts) X(candidates)
#define HOB_CL_FILE(file) HOB_CL_FILE_##file,
typedef enum hob_cl_file { HOB_CL_FILES(HOB_CL_FILE) HOB_CL_FILE_COUNT } hob_cl_file;
#undef HOB_CL_FILE

enum {
    HOB_CL_PARTS_MAX = 32,
    HOB_CL_CHUNK = 1024,
    HOB_CL_ROWS_MAX = 8, /* that one pass of linear.cl's kernels takes */
};

/* How a device multiplies four pairs of bytes and adds them up: not at all (the kernels compute with floats), by
 * cl_khr_integer_dot_product, by cl_arm_integer_dot_product_accumulate_int8, by NVIDIA's dp4a, one by one, which only a test
 * asks for, or by NVIDIA's matrix units (mma.cl), and dp4a where those do not fit. The numbers are the kernels' DOT. */
typedef enum hob_cl_dot {
    HOB_CL_DOT_NONE,
    HOB_CL_DOT_KHR,
    HOB_CL_DOT_ARM,
    HOB_CL_DOT_NVIDIA,
    HOB_CL_DOT_PLAIN,
    HOB_CL_DOT_MMA,
} hob_cl_dot;

/* What is measured once on a device, see tune.c. */
typedef struct hob_cl_tuning {
    uint32_t
        splits; /* of a matrix's columns, among the items of a work-group: at least 4, 8 or 16 */
    uint32_t few_rows;  /* up to here rows go in passes of HOB_CL_ROWS_MAX, beyond it in tiles */
    uint32_t gemm_rows; /* from here on CLBlast multiplies; UINT32_MAX: never */
} hob_cl_tuning;

/* Memory on the device that grows; contents are not kept. */
typedef struct hob_cl_buffer {
    cl_mem mem;
    size_t bytes;
} hob_cl_buffer;

/* Memory of the host that the device reaches without a copy in between; it grows, and contents are not kept. */
typedef struct hob_cl_pinned {
    cl_mem mem;
    void *data;
    size_t bytes;
    cl_event busy; /* until this the device reads it; NULL: it does not */
} hob_cl_pinned;

typedef struct hob_cl_staged {
    hob_cl_pinned host; /* uint32_t [count] */
    uint32_t count;
    hob_cl_buffer buffer;
} hob_cl_staged;

/* Panels first .. first + count - 1 of a matrix. */
typedef struct hob_cl_part {
    cl_mem mem;
    uint32_t first, count;
} hob_cl_part;

struct hob_weight {
    hob_panels panels; /* data NULL: it is on the device */
    float *vector;     /* [cols] on the host too, for F32 with one row; else NULL */
    hob_cl_part parts[HOB_CL_PARTS_MAX];
    uint32_t part_count;
    size_t bytes;
};

struct hob_tensor {
    uint32_t rows, cols;
    cl_mem mem; /* float [rows][cols] */
    size_t bytes;
};

/* One buffer a layer, [block][KV head], each K then V as rope_kv.cl has them. */
struct hob_kv {
    hob_kv_shape shape;
    uint32_t width;
    size_t k_bytes, head_bytes; /* K; K and V of one head of one block */
    cl_mem *layers;             /* [shape.layers] */
    size_t bytes;
};

typedef struct hob_cl_rope {
    uint32_t generation, positions;
    hob_cl_buffer cosine, sine;
} hob_cl_rope;

typedef struct hob_cl_gate {
    hob_gate_kind kind;
    const hob_tensor *gate, *up; /* up NULL: there is none */
    hob_tensor *out;             /* NULL: none */
} hob_cl_gate;

typedef struct hob_cl_device {
    hob_device base;
    const hob_cl_api *api;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    size_t allocation_max, local_bytes; /* of one allocation; of a work-group */
    size_t part_max;                    /* of a part of a matrix */
    uint32_t group_max;                 /* items of a work-group, of any kernel */
    uint32_t large_group; /* items that work together on much: 256, or 64 where that is too many */
    uint32_t
        wanted_splits; /* of all matrices of a launch together, so that the device is full; 0: any */
    uint32_t wanted_groups; /* of attention, likewise */
    cl_program programs[HOB_CL_FILE_COUNT][HOB_KINDS];
    cl_kernel kernels[HOB_CL_KERNEL_COUNT][HOB_KINDS];
    uint32_t group_most[HOB_CL_KERNEL_COUNT]
                       [HOB_KINDS]; /* items of a work-group, of a kernel that is built */
    bool tested[HOB_KINDS];         /* types of weights */
    hob_cl_dot dot[HOB_KINDS];
    hob_cl_tuning tuning;
    char cache[4096];   /* folder, or empty */
    char identity[256]; /* device, driver and platform, as they name themselves */
    uint32_t steps;
    cl_event began,
        ended; /* of the last step's first and last command, until the host has waited */

    hob_kv *kv; /* of the current step */
    const hob_batch *batch;
    hob_batch narrowed; /* what `batch` is after narrow */
    bool waiting;       /* work was enqueued that the host has not waited for */
    hob_cl_gate gate;   /* enqueued when it turns out not to be the next linear's input */
    /* uint32 arrays of the step, on the host until it has waited. */
    hob_cl_staged tokens, positions, block_starts, blocks, logit_rows, tiles, spans;
    hob_cl_staged asked, inverse, edits; /* of candidates */
    uint32_t tile_rows, tile_count;      /* 0: the step has no tiles yet */
    bool tiles_whole;                    /* they are of rows that see all of their span */
    hob_cl_buffer input, sums;           /* of the current linear, as floats */
    hob_cl_buffer bytes, side;           /* and as bytes: see norm.cl */
    hob_cl_buffer slice;                 /* of a matrix, for CLBlast */
    hob_cl_buffer partial;               /* attention's parts */
    hob_cl_buffer experts, shares, starts, order;
    hob_cl_buffer rows, keys[2], results; /* of candidates */
    hob_cl_pinned pieces[2];              /* of weights on their way */
    hob_cl_pinned host_results;
    hob_rope_table ropes[HOB_ROPE_TABLES];
    hob_cl_rope rope_buffers[HOB_ROPE_TABLES];
} hob_cl_device;

/* An argument of a kernel; value NULL: that many bytes of local memory. */
typedef struct hob_cl_arg {
    size_t bytes;
    const void *value;
} hob_cl_arg;
#define HOB_CL_ARG(x)                                                                              \
    {                                                                                              \
        sizeof(x), &(x)                                                                            \
    }

/* Whether a test wants this fault: the environment's HOB_CL_FAULT is its name (probe: a driver that crashes, build, wrong:
 * results, memory: allocations fail, step: a device that is lost after some steps, poison: new memory holds NaN). */
bool hob_cl_fault(const char *name);

/* HOB_EDEVICE. The first failure is the one that is kept. */
int hob_cl_failed(hob_cl_device *dev, cl_int error, const char *what);

/* device.c */
/* HOB_ENOMEM when there is no room, which is no failure of the device. */
HOB_MUST_CHECK int hob_cl_memory_new(hob_cl_device *dev, size_t bytes, cl_mem *ret);
HOB_MUST_CHECK int hob_cl_buffer_ensure(hob_cl_device *dev, hob_cl_buffer *b, size_t bytes);
void hob_cl_buffer_free(hob_cl_device *dev, hob_cl_buffer *b);
HOB_MUST_CHECK int hob_cl_write(hob_cl_device *dev, cl_mem to, size_t offset, size_t bytes,
                                const void *from); /* from may be changed afterwards */
HOB_MUST_CHECK int hob_cl_read(hob_cl_device *dev, cl_mem from, size_t offset, size_t bytes,
                               void *to); /* waits */

HOB_MUST_CHECK int hob_cl_pinned_ensure(hob_cl_device *dev, hob_cl_pinned *p, size_t bytes);
/* Enqueues a copy of its first bytes; waits for the one before. */
HOB_MUST_CHECK int hob_cl_pinned_send(hob_cl_device *dev, hob_cl_pinned *p, cl_mem to,
                                      size_t offset, size_t bytes);
/* Until it may be written again. */
HOB_MUST_CHECK int hob_cl_pinned_wait(hob_cl_device *dev, hob_cl_pinned *p);

/* Room for that many numbers, NULL when there is no memory; and their way to the device, which the queue takes in order. */
uint32_t *hob_cl_stage(hob_cl_device *dev, hob_cl_staged *s, uint32_t count);
HOB_MUST_CHECK int hob_cl_send(hob_cl_device *dev, hob_cl_staged *s);
/* Until the queue is empty. */
HOB_MUST_CHECK int hob_cl_wait(hob_cl_device *dev);

/* What gate() has put off. */
HOB_MUST_CHECK int hob_cl_gate_now(hob_cl_device *dev);

/* program.c */
/* Enqueues a kernel, built first when it is new; kind: 0 for those that are not typed. */
HOB_MUST_CHECK int hob_cl_run(hob_cl_device *dev, hob_cl_kernel kernel, uint32_t kind,
                              const size_t groups[3], const size_t group_size[3],
                              const hob_cl_arg *args, uint32_t arg_count);
/* Builds a kernel unless it is there; hob_cl_run does so itself. */
HOB_MUST_CHECK int hob_cl_build(hob_cl_device *dev, hob_cl_kernel kernel, uint32_t kind);
const char *hob_cl_source(hob_cl_file file); /* without common.clh */
/* Built anew when they are wanted next, since what they were built with has changed. */
void hob_cl_programs_drop(hob_cl_device *dev, hob_cl_file file, uint32_t kind);
void hob_cl_programs_free(hob_cl_device *dev);
/* tune.c */
/* Sets dev->dot and dev->tuning: from the environment's HOB_CL_TUNING, which tests use, as earlier measured, or measured now
 * where there is a cache folder to keep it. What cannot be measured stays at its default. */
void hob_cl_tune(hob_cl_device *dev);

/* blas.c */
/* Whether CLBlast is on this machine. Thread: any. */
bool hob_cl_blas_found(void);
/* c[r][first + n] = (add: +) sum over k of a[r][k] * b[k][n], with r < rows, n < count, k < inner; only where CLBlast was found.
 * Thread: step */
HOB_MUST_CHECK int hob_cl_blas_multiply(hob_cl_device *dev, cl_mem a, cl_mem b, uint32_t b_stride,
                                        uint32_t rows, uint32_t count, uint32_t inner, bool add,
                                        cl_mem c, uint32_t first, uint32_t c_stride);

/* weights.c */
int hob_cl_weight_upload(hob_device *dev, hob_type type, uint32_t rows, uint32_t cols,
                         const void *data, size_t bytes, hob_weight **ret, hob_diag *diag);
void hob_cl_weight_free(hob_device *dev, hob_weight *w);

/* linear.c */
/* Where rows of activations come from: the first ones of x, or those that `which` names; after RMSNorm where `norm` is there; or
 * act(gate) * up, which goes to gate->out, that is x, as well. */
typedef struct hob_cl_input {
    const hob_tensor *x;
    uint32_t rows;
    cl_mem which;           /* NULL: none */
    const hob_weight *norm; /* NULL: none */
    float eps;
    const hob_cl_gate *gate; /* NULL: none; then there is neither which nor norm */
} hob_cl_input;
/* Makes of rows the forms that kernels read, in the device's memory until the next call. */
HOB_MUST_CHECK int hob_cl_prepare(hob_cl_device *dev, const hob_cl_input *from, bool bytes,
                                  bool floats);
/* How many items of a work-group share the columns of each of a matrix's rows, of so many panels in a launch. */
uint32_t hob_cl_splits(hob_cl_device *dev, hob_cl_kernel kernel, uint32_t kind, uint32_t panels,
                       uint32_t cols);

/* linear.c, experts.c, attention.c, candidates.c: operations of hal.h's table */
int hob_cl_embed(hob_device *dev, const hob_weight *table, float scale, hob_tensor *out);
int hob_cl_add_positions(hob_device *dev, const hob_weight *table, hob_tensor *x);
int hob_cl_linear(hob_device *dev, const hob_linear *op);
int hob_cl_experts(hob_device *dev, const hob_experts *op);
int hob_cl_rope_kv(hob_device *dev, const hob_rope_kv *op);
int hob_cl_attention(hob_device *dev, const hob_attention *op);
int hob_cl_candidates(hob_device *dev, const hob_tensor *logits, const hob_candidates_in *in,
                      uint32_t count, hob_candidates *ret);
#endif
