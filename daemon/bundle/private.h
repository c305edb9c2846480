/* SPDX-License-Identifier: Apache-2.0
 *
 * Private to daemon/bundle: what reading, making and unpacking have in common. */
#ifndef HOB_DAEMON_BUNDLE_PRIVATE_H
#define HOB_DAEMON_BUNDLE_PRIVATE_H

#include "daemon/bundle/container.h"

enum { HOB_BUNDLE_FORMAT = 1 };
extern const char hob_bundle_magic[8];

/* One reading of a file's part, by position. */
typedef struct hob_bundle_pass {
    int from, to; /* to: -1: nowhere */
    uint64_t at, bytes;
    hob_bundle_progress *progress; /* NULL: none */
    void *user;
} hob_bundle_pass;
/* Sums and copies. HOB_EFORMAT: the file is shorter; HOB_EIO, HOB_ENOSPC, HOB_ENOMEM. */
HOB_MUST_CHECK int hob_bundle_run_pass(const hob_bundle_pass *p, uint8_t ret[HOB_DIGEST_BYTES],
                                       hob_diag *diag);
/* HOB_EIO, HOB_ENOSPC. */
HOB_MUST_CHECK int hob_bundle_write_all(int to, const void *data, size_t len, hob_diag *diag);

#endif
