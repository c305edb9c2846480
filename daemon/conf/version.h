/* SPDX-License-Identifier: Apache-2.0
 *
 * The version of hob. packaging/deb/changelog begins with the same; a test holds them together. */
#ifndef HOB_DAEMON_CONF_VERSION_H
#define HOB_DAEMON_CONF_VERSION_H

#define HOB_VERSION "0.1.0"

#endif
