/* SPDX-License-Identifier: Apache-2.0
 *
 * Query parameters of a URL: known by name like fields of a body, and refused in the same words.
 * Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_QUERY_H
#define HOB_DAEMON_GATEWAY_QUERY_H

#include "daemon/gateway/state.h"

/* 0, or HOB_EINVAL with the error, which ends the walk. value: "" where there is none. */
typedef int hob_query_take(void *user, const char *name, const char *value, hob_api_error *e);
int hob_query_each(const hob_conn *c, hob_query_take *take, void *user, hob_api_error *e);

int hob_query_bad(const char *name, const char *value, const char *allowed, hob_api_error *e);
int hob_query_unknown(const char *name, hob_api_error *e);
int hob_query_number(const char *name, const char *value, uint64_t least, uint64_t most,
                     uint64_t *ret, hob_api_error *e);

#endif
