/* SPDX-License-Identifier: Apache-2.0
 *
 * Programs and kernels, built when they are first wanted. The sources are in the binary; a program is common.clh and one
 * file, for typed kernels with one kind's numbers as macros. */
#include "hal/cl/cache.h"
#include "hal/cl/cl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
#define EMBED(symbol, path)                                                                        \
    __asm__(".section .rodata\n" ".global hob_cl_source_" #symbol "\n" "hob_cl_source_" #symbol ":\n" \
            ".incbin \"" path "\"\n.byte 0\n.previous\n");                                         \
    extern const char hob_cl_source_##symbol[];
EMBED(common, "kernels_cl/common.clh")
#define EMBED_FILE(file) EMBED(file, "kernels_cl/" #file ".cl")
HOB_CL_FILES(EMBED_FILE)
/* clang-format on */

#define SOURCE(file) hob_cl_source_##file,
static const char *const sources[HOB_CL_FILE_COUNT] = {HOB_CL_FILES(SOURCE)};
#undef SOURCE
#define FILE_NAME(file) #file ".cl",
static const char *const file_names[HOB_CL_FILE_COUNT] = {HOB_CL_FILES(FILE_NAME)};
#undef FILE_NAME

typedef struct kernel_row {
    hob_cl_file file;
    const char *function;
    bool typed;
} kernel_row;

#define ROW(identifier, file, function, typed) {HOB_CL_FILE_##file, #function, typed},
static const kernel_row rows[HOB_CL_KERNEL_COUNT] = {HOB_CL_KERNELS(ROW)};
#undef ROW

/* The macros that common.clh names, for a kind of weights or of the KV cache. */
static void write_options(const hob_cl_device *dev, hob_cl_file file, uint32_t kind, char *text,
                          size_t size)
{
    const hob_type type = hob_kind_type((hob_kind)kind);
    const hob_type_info *t = hob_type_find(type);
    cl_device_fp_config floats = 0;

    dev->api->GetDeviceInfo(dev->id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof floats, &floats, NULL);
    size_t n = (size_t)snprintf(text, size, "-cl-std=CL1.2 -DDOT=%d -DFMA=%d", dev->dot[kind],
                                (floats & CL_FP_FMA) != 0);

    if (dev->wanted_splits == 0)
        n += (size_t)snprintf(text + n, size - n, " -DSPLITS=%u", dev->tuning.splits);
    if (file == HOB_CL_FILE_rope_kv || file == HOB_CL_FILE_attention) {
        snprintf(text + n, size - n, " -DKV_Q8=%d -DKV_ROWS=%d", type == HOB_TYPE_Q8_0,
                 type == HOB_TYPE_F32);
        return;
    }
    if (t->to_float) {
        snprintf(text + n, size - n, " -DFLOAT_BITS=%u -DBFLOAT=%d", t->block_bytes * 8,
                 type == HOB_TYPE_BF16);
        return;
    }
    n += (size_t)snprintf(text + n, size - n,
                          " -DFLOAT_BITS=0 -DLOW_BITS=%u -DHIGH_BITS=%u -DOFFSET=%u -DGROUP=%u "
                          "-DMINIMUM=%d -DSHIFT=%d",
                          t->low_bits, t->high_bits, t->offset, t->group, t->minimum,
                          t->block_len == 32 ? 0 : 3);
    for (int i = 0; t->table && i < 16; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%d", i ? "," : " -DTABLE=", t->table[i]);
}

/* The program that an earlier run has compiled; NULL when there is none that the driver takes. */
static cl_program load_program(hob_cl_device *dev, const char *path, const char *options)
{
    void *data = NULL;
    size_t bytes = 0;
    cl_int status = CL_SUCCESS, error = CL_SUCCESS;

    if (hob_cl_cache_read(path, &data, &bytes) < 0)
        return NULL;
    const unsigned char *binary = data;
    cl_program p = dev->api->CreateProgramWithBinary(dev->context, 1, &dev->id, &bytes, &binary,
                                                     &status, &error);
    free(data);
    if (p && (status != CL_SUCCESS ||
              dev->api->BuildProgram(p, 1, &dev->id, options, NULL, NULL) != CL_SUCCESS)) {
        dev->api->ReleaseProgram(p);
        p = NULL;
    }
    return p;
}

static void save_program(hob_cl_device *dev, const char *path, cl_program p)
{
    size_t bytes = 0;

    if (dev->api->GetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) !=
            CL_SUCCESS ||
        bytes == 0 || bytes > HOB_CL_CACHE_BYTES_MAX)
        return;
    unsigned char *binary = malloc(bytes);
    if (binary && dev->api->GetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) ==
                      CL_SUCCESS)
        hob_cl_cache_write(path, binary, bytes);
    free(binary);
}

static int compile(hob_cl_device *dev, hob_cl_file file, const char *options, cl_program *ret)
{
    const char *const text[2] = {hob_cl_source_common, sources[file]};
    char what[96];
    cl_int error;

    snprintf(what, sizeof what, "building %s", file_names[file]);
    cl_program p =
        dev->api->CreateProgramWithSource(dev->context, 2, (const char **)text, NULL, &error);
    if (!p)
        return hob_cl_failed(dev, error, what);
    error = dev->api->BuildProgram(p, 1, &dev->id, options, NULL, NULL);
    if (error != CL_SUCCESS) {
        char log[4096] = "";
        dev->api->GetProgramBuildInfo(p, dev->id, CL_PROGRAM_BUILD_LOG, sizeof log - 1, log, NULL);
        const char *first = strstr(log, "error");
        snprintf(what, sizeof what, "building %s: %.60s", file_names[file], first ? first : log);
        dev->api->ReleaseProgram(p);
        return hob_cl_failed(dev, error, what);
    }
    *ret = p;
    return 0;
}

static int build(hob_cl_device *dev, hob_cl_file file, uint32_t kind, bool typed, cl_program *ret)
{
    char options[512] = "-cl-std=CL1.2", path[4096 + 128] = "";
    const char *const all[] = {hob_cl_source_common, sources[file], options, dev->identity};

    if (typed)
        write_options(dev, file, kind, options, sizeof options);
    if (hob_cl_fault("build"))
        strcat(options, " -DFAULT_BUILD");
    if (hob_cl_fault("wrong"))
        strcat(options, " -DFAULT_WRONG");
    if (dev->cache[0] &&
        hob_cl_cache_path(dev->cache, all, sizeof all / sizeof *all, path, sizeof path) == 0 &&
        (*ret = load_program(dev, path, options)))
        return 0;
    const int rc = compile(dev, file, options, ret);
    if (rc == 0 && path[0])
        save_program(dev, path, *ret);
    return rc;
}

const char *hob_cl_source(hob_cl_file file)
{
    return sources[file];
}

int hob_cl_build(hob_cl_device *dev, hob_cl_kernel kernel, uint32_t kind)
{
    const kernel_row *row = &rows[kernel];
    cl_program *program = &dev->programs[row->file][kind];
    cl_int error;

    if (!dev->kernels[kernel][kind]) {
        if (!*program) {
            const int rc = build(dev, row->file, kind, row->typed, program);
            if (rc < 0)
                return rc;
        }
        dev->kernels[kernel][kind] = dev->api->CreateKernel(*program, row->function, &error);
        if (!dev->kernels[kernel][kind])
            return hob_cl_failed(dev, error, row->function);
        size_t most = 0;
        if (dev->api->GetKernelWorkGroupInfo(dev->kernels[kernel][kind], dev->id,
                                             CL_KERNEL_WORK_GROUP_SIZE, sizeof most, &most,
                                             NULL) != CL_SUCCESS)
            most = 0;
        dev->group_most[kernel][kind] =
            most < dev->group_max ? (uint32_t)most : (uint32_t)dev->group_max;
    }
    return 0;
}

int hob_cl_run(hob_cl_device *dev, hob_cl_kernel kernel, uint32_t kind, const size_t groups[3],
               const size_t group_size[3], const hob_cl_arg *args, uint32_t arg_count)
{
    size_t global[3];
    int rc = dev->base.failure.text[0] ? HOB_EDEVICE : hob_cl_build(dev, kernel, kind);

    if (rc < 0 || (rc = hob_cl_gate_now(dev)) < 0)
        return rc;
    const cl_kernel k = dev->kernels[kernel][kind];
    for (uint32_t i = 0; i < arg_count; i++) {
        const cl_int error = dev->api->SetKernelArg(k, i, args[i].bytes, args[i].value);
        if (error != CL_SUCCESS)
            return hob_cl_failed(dev, error, rows[kernel].function);
    }
    for (int i = 0; i < 3; i++)
        global[i] = groups[i] * group_size[i];
    const cl_int error =
        dev->api->EnqueueNDRangeKernel(dev->queue, k, 3, NULL, global, group_size, 0, NULL,
                                       dev->batch && !dev->began ? &dev->began : NULL);
    dev->waiting = true;
    return error == CL_SUCCESS ? 0 : hob_cl_failed(dev, error, rows[kernel].function);
}

void hob_cl_programs_drop(hob_cl_device *dev, hob_cl_file file, uint32_t kind)
{
    for (int i = 0; i < HOB_CL_KERNEL_COUNT; i++)
        if (rows[i].file == file && dev->kernels[i][kind]) {
            dev->api->ReleaseKernel(dev->kernels[i][kind]);
            dev->kernels[i][kind] = NULL;
        }
    if (dev->programs[file][kind])
        dev->api->ReleaseProgram(dev->programs[file][kind]);
    dev->programs[file][kind] = NULL;
}

void hob_cl_programs_free(hob_cl_device *dev)
{
    for (uint32_t kind = 0; kind < HOB_KINDS; kind++)
        for (int file = 0; file < HOB_CL_FILE_COUNT; file++)
            hob_cl_programs_drop(dev, (hob_cl_file)file, kind);
}
