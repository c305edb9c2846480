/* SPDX-License-Identifier: Apache-2.0
 *
 * A small certificate authority for one box, through mbedTLS: an ECDSA P-256 CA (10 years) and a server certificate
 * (825 days, RFC 5280 extensions: basic constraints, key usage, extended key usage, subject and authority key id, subject alternative names).
 * Files in dir: ca.pem ca.key cert.pem (leaf then CA) key.pem; keys are 0600, written atomically. */
#ifndef HOB_DAEMON_CONF_PKI_H
#define HOB_DAEMON_CONF_PKI_H

#include "hal/base.h"

/* Subject names: localhost, 127.0.0.1, ::1, the host name and this machine's addresses. What exists is kept; a leaf
 * that lacks one of today's names or expires within 30 days is renewed under the same CA. Returns 1 when something was
 * written, 0 when all was there. */
HOB_MUST_CHECK int hob_pki_ensure(const char *dir, hob_diag *diag);

#endif
