/* SPDX-License-Identifier: Apache-2.0
 *
 * CLBlast (Nugteren 2018), opened at run time like the OpenCL loader: its absence is normal. Only its SGEMM is used, declared
 * here as its C interface has it, so that building hob does not need it. HGEMM is not: it adds up in half precision. */
#include "hal/cl/cl.h"

#include <dlfcn.h>
#include <pthread.h>

enum { ROW_MAJOR = 101, NOT_TRANSPOSED = 111 };

typedef int (*sgemm_fn)(int layout, int a_transposed, int b_transposed, size_t m, size_t n,
                        size_t k, float alpha, cl_mem a, size_t a_offset, size_t a_stride, cl_mem b,
                        size_t b_offset, size_t b_stride, float beta, cl_mem c, size_t c_offset,
                        size_t c_stride, cl_command_queue *queue, cl_event *event);

static sgemm_fn sgemm;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    void *library = dlopen("libclblast.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library)
        *(void **)&sgemm = dlsym(library, "CLBlastSgemm");
}

bool hob_cl_blas_found(void)
{
    pthread_once(&once, load);
    return sgemm != NULL;
}

int hob_cl_blas_multiply(hob_cl_device *dev, cl_mem a, cl_mem b, uint32_t b_stride, uint32_t rows,
                         uint32_t count, uint32_t inner, bool add, cl_mem c, uint32_t first,
                         uint32_t c_stride)
{
    const int status =
        sgemm(ROW_MAJOR, NOT_TRANSPOSED, NOT_TRANSPOSED, rows, count, inner, 1, a, 0, inner, b, 0,
              b_stride, add ? 1 : 0, c, first, c_stride, &dev->queue, NULL);
    dev->waiting = true;
    return status == 0 ? 0 : hob_cl_failed(dev, status, "CLBlast's SGEMM");
}
