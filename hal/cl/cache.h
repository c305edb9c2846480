/* SPDX-License-Identifier: Apache-2.0
 *
 * Compiled OpenCL programs on disk. A file is named by the SHA-256 of everything that goes into the compiled program, and
 * begins with the SHA-256 of its contents: one that is stale is never found, one that is damaged is not used. */
#ifndef HOB_HAL_CL_CACHE_H
#define HOB_HAL_CL_CACHE_H

#include "hal/base.h"

enum { HOB_CL_CACHE_BYTES_MAX = 64 << 20 };

/* The file for texts [count] in that folder. HOB_EINVAL: the path would not fit. */
HOB_MUST_CHECK int hob_cl_cache_path(const char *folder, const char *const *texts, size_t count,
                                     char *ret, size_t size);
/* Its contents, from malloc; HOB_ENOENT when there is none or it is damaged. Thread: any. */
HOB_MUST_CHECK int hob_cl_cache_read(const char *path, void **ret, size_t *ret_bytes);
/* Replaces it at once or not at all; what cannot be written is left out. Thread: any. */
void hob_cl_cache_write(const char *path, const void *data, size_t bytes);

#endif
