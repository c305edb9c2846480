/* SPDX-License-Identifier: Apache-2.0
 *
 * Versions of bundles, and the names of the folders that they are installed in. Versions are ordered as Debian orders them
 * (deb-version(7)): runs of digits as numbers, the rest as text in which letters come before other characters and a tilde
 * before everything, the end included; what stands behind the last hyphen counts last. Thread: any. */
#ifndef HOB_DAEMON_BUNDLE_VERSION_H
#define HOB_DAEMON_BUNDLE_VERSION_H

#include "hal/base.h"

enum {
    HOB_BUNDLE_VERSION_MAX = 64,
    HOB_BUNDLE_FOLDER_MAX = HOB_BUNDLE_VERSION_MAX + 1 + 10, /* VERSION#N */
};

/* 1 to 64 letters, digits or . + ~ -, the first a digit: no path, and no name that hob gives a folder itself. */
bool hob_bundle_version_ok(const char *version);
/* Negative, 0 or positive, as a comes before b. */
int hob_bundle_version_compare(const char *a, const char *b);

/* A folder is called after the version; one that was installed again, without another in between, VERSION#2 and so on. */
bool hob_bundle_folder_ok(const char *folder);
/* The version before the '#'. */
void hob_bundle_folder_version(const char *folder, char ret[HOB_BUNDLE_VERSION_MAX + 1]);
int hob_bundle_folder_compare(const char *a, const char *b);

#endif
