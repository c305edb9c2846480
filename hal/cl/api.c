/* SPDX-License-Identifier: Apache-2.0
 *
 * The OpenCL ICD loader, opened at run time: a machine without it runs the same hob. */
#include "hal/cl/cl.h"

#include <dlfcn.h>
#include <pthread.h>

static hob_cl_api api;
static const hob_cl_api *loaded;

static void load(void)
{
    void *library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return;
#define FIND(name)                                                                                 \
    if (!(api.name = (__typeof__(api.name))dlsym(library, "cl" #name)))                            \
        return;
    HOB_CL_FUNCTIONS(FIND)
#undef FIND
    loaded = &api;
}

const hob_cl_api *hob_cl_load(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return loaded;
}

const char *hob_cl_error_name(cl_int error)
{
    switch (error) {
#define NAME(e)                                                                                    \
    case e: return #e;
        NAME(CL_DEVICE_NOT_FOUND)
        NAME(CL_DEVICE_NOT_AVAILABLE)
        NAME(CL_COMPILER_NOT_AVAILABLE)
        NAME(CL_MEM_OBJECT_ALLOCATION_FAILURE)
        NAME(CL_OUT_OF_RESOURCES)
        NAME(CL_OUT_OF_HOST_MEMORY)
        NAME(CL_BUILD_PROGRAM_FAILURE)
        NAME(CL_INVALID_VALUE)
        NAME(CL_INVALID_DEVICE)
        NAME(CL_INVALID_CONTEXT)
        NAME(CL_INVALID_COMMAND_QUEUE)
        NAME(CL_INVALID_MEM_OBJECT)
        NAME(CL_INVALID_BINARY)
        NAME(CL_INVALID_BUILD_OPTIONS)
        NAME(CL_INVALID_PROGRAM)
        NAME(CL_INVALID_KERNEL_NAME)
        NAME(CL_INVALID_KERNEL_ARGS)
        NAME(CL_INVALID_ARG_INDEX)
        NAME(CL_INVALID_ARG_VALUE)
        NAME(CL_INVALID_ARG_SIZE)
        NAME(CL_INVALID_WORK_GROUP_SIZE)
        NAME(CL_INVALID_WORK_ITEM_SIZE)
        NAME(CL_INVALID_BUFFER_SIZE)
#undef NAME
    default: return "an OpenCL error";
    }
}
