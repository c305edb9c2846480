/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder of installed bundles: one folder a version, and the symbolic link `current`, which names the one that counts.
 *
 *     bundles/1.2.0/models/a.gguf, a.gguf.sha256    bundles/1.2.0/packages/…    bundles/1.2.0/bundle.head
 *     bundles/current -> 1.2.0
 *
 * Whatever stops an installation, `current` names a version that is whole: a bundle is unpacked under another name (.new), its
 * files and folders are synced, the folder gets its name by rename, and only then a new link takes `current`'s name. Whoever
 * may write there could exchange what root installs: the folder belongs to the user who calls, and nobody else may write it.
 * Everything is reached from its descriptor, so that it cannot be moved away between two steps. Versions above the current
 * one are left from an installation that was stopped, or were rolled back from: the next installation removes them.
 * Thread: one; an flock(2) keeps other processes out. Everything here blocks on the file system. */
#ifndef HOB_DAEMON_BUNDLE_FOLDER_H
#define HOB_DAEMON_BUNDLE_FOLDER_H

#include "daemon/bundle/container.h"

enum { HOB_BUNDLE_KEEP = 2 }; /* versions that stay: the current one and the one to go back to */

typedef struct hob_bundle_folder { /* released by hob_bundle_folder_close */
    int fd;
    char current[HOB_BUNDLE_FOLDER_MAX + 1]; /* "": nothing is installed */
} hob_bundle_folder;

/* change: it is made if only its last part is missing; else it is only looked at, by any user. HOB_ELIMIT: another process has it; HOB_EINVAL: somebody else may write
 * there; HOB_EFORMAT: `current` is none of ours; HOB_ENOENT, HOB_EIO. */
HOB_MUST_CHECK int hob_bundle_folder_open(const char *path, bool change, hob_bundle_folder *ret,
                                          hob_diag *diag);
void hob_bundle_folder_close(hob_bundle_folder *f);

/* Whether this version may be installed: it is newer than the current one, or the same and `again`. HOB_EOLD. */
HOB_MUST_CHECK int hob_bundle_folder_admit(const hob_bundle_folder *f, const char *version,
                                           bool again, hob_diag *diag);
/* Unpacks b, whose version was admitted and whose files were checked; they are checked again as they are written. `current`
 * stays. ret_name: the version's folder. HOB_EDIGEST, HOB_ENOSPC, HOB_EIO, with nothing left of it. */
HOB_MUST_CHECK int hob_bundle_folder_unpack(hob_bundle_folder *f, const hob_bundle *b,
                                            char ret_name[HOB_BUNDLE_FOLDER_MAX + 1],
                                            hob_diag *diag);
/* Points `current` to a version's folder, atomically and for good. HOB_EIO. */
HOB_MUST_CHECK int hob_bundle_folder_switch(hob_bundle_folder *f, const char *name, hob_diag *diag);
/* The highest version below the current one. HOB_ENOENT. */
HOB_MUST_CHECK int hob_bundle_folder_before(const hob_bundle_folder *f,
                                            char ret_name[HOB_BUNDLE_FOLDER_MAX + 1],
                                            hob_diag *diag);
/* Removes the versions below the current one but for HOB_BUNDLE_KEEP - 1. HOB_EIO. */
HOB_MUST_CHECK int hob_bundle_folder_prune(hob_bundle_folder *f, hob_diag *diag);

/* Opens a version's signed head; *ret holds no descriptor. As hob_bundle_open. */
HOB_MUST_CHECK int hob_bundle_folder_head(const hob_bundle_folder *f, const char *name,
                                          hob_bundle_key *key, hob_bundle *ret, hob_diag *diag);
/* Whether the installed files of a kind (HOB_BUNDLE_KINDS: of all) are what the head says. HOB_EDIGEST, HOB_EIO. */
HOB_MUST_CHECK int hob_bundle_folder_check(const hob_bundle_folder *f, const char *name,
                                           const hob_bundle *head, hob_bundle_kind kind,
                                           hob_diag *diag);
/* The descriptor of a version's folder, for the caller to close. HOB_EIO. */
HOB_MUST_CHECK int hob_bundle_folder_version_fd(const hob_bundle_folder *f, const char *name,
                                                hob_diag *diag);

#endif
