/* SPDX-License-Identifier: Apache-2.0
 *
 * A small certificate authority for one box, through mbedTLS: an ECDSA P-256 CA and a server certificate (825 days, RFC
 * 5280 extensions: basic constraints, key usage, extended key usage, subject and authority key id, subject alternative
 * names). Files in dir: ca.pem ca.key cert.pem (leaf then CA) key.pem; keys are 0600, written atomically.
 *
 * A wrong clock does no lasting harm. The CA, which clients are given once, takes nothing from the clock: it is valid
 * from HOB_CLOCK_LEAST_S on, without an end (RFC 5280, 4.1.2.5). A leaf is renewed as soon as the clock says that it was
 * signed in the future, that it ends soon, or that it ends later than one signed today would. A clock before
 * HOB_CLOCK_LEAST_S says nothing about a leaf that is there; one that is signed then has no end either, so that it serves
 * clients whose clocks are right, until ours is. */
#ifndef HOB_DAEMON_CONF_PKI_H
#define HOB_DAEMON_CONF_PKI_H

#include "hal/base.h"

enum { HOB_PKI_RENEW_DAYS = 30 }; /* before its end a leaf is renewed */

/* Whether a server's certificate and key are hob's to make and to renew: they are called as above, in one folder, which
 * goes to ret; and its authority is beside them with its key, or neither of them is there yet. */
bool hob_pki_owns(const char *cert, const char *key, char *ret, size_t size);
/* Subject names: localhost, 127.0.0.1, ::1, the host name and this machine's addresses. What exists is kept; a leaf
 * that lacks one of today's names, or is not good at now_s (since 1970, this machine's clock), is renewed under the same
 * CA, with the same key. Returns 1 when something was written, 0 when all was there. Thread: any; blocks on the file
 * system. */
HOB_MUST_CHECK int hob_pki_ensure(const char *dir, int64_t now_s, hob_diag *diag);

/* Random bytes from the kernel, as mbedTLS wants them; 0 or an error of mbedTLS's. Thread: any */
int hob_pki_random(void *unused, unsigned char *out, size_t len);

#endif
