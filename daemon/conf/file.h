/* SPDX-License-Identifier: Apache-2.0
 *
 * Small files read and written whole: keys, certificates, configurations. A write is atomic: the bytes and the mode are
 * on disk under another name before the file gets its own, so that a reader or a crash sees the old file or the new one. */
#ifndef HOB_DAEMON_CONF_FILE_H
#define HOB_DAEMON_CONF_FILE_H

#include "hal/base.h"

#include <sys/types.h>

/* The whole file, followed by a NUL that is not counted; the caller frees it. HOB_ENOENT, HOB_EIO, HOB_ENOMEM,
 * HOB_ELIMIT when it has more than max bytes. Blocks on the file system. */
HOB_MUST_CHECK int hob_file_read(const char *path, size_t max, char **ret, size_t *ret_len,
                                 hob_diag *diag);
/* Replaces the file. HOB_EIO, HOB_EINVAL. Blocks on the file system. */
HOB_MUST_CHECK int hob_file_write(const char *path, const void *data, size_t len, mode_t mode,
                                  hob_diag *diag);
/* Writes all of it, however many calls that takes. False: errno says why. Blocks on the file system. */
HOB_MUST_CHECK bool hob_write_all(int fd, const void *data, size_t len);
/* The folder that path lies in reaches the disk: what was renamed there has its name after a crash. HOB_EIO. Blocks. */
HOB_MUST_CHECK int hob_sync_parent(const char *path, hob_diag *diag);
/* a + "/" + b into ret of size bytes; b alone when it is absolute or a is empty. HOB_ELIMIT. */
HOB_MUST_CHECK int hob_path_join(char *ret, size_t size, const char *a, const char *b,
                                 hob_diag *diag);

#endif
