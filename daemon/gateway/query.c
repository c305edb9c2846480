/* SPDX-License-Identifier: Apache-2.0
 *
 * Query parameters. See query.h. */
#include "daemon/gateway/query.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int hob_query_bad(const char *name, const char *value, const char *allowed, hob_api_error *e)
{
    return hob_api_bad(e, "invalid_value", name, "%s: got '%.40s', allowed: %s", name, value,
                       allowed);
}

int hob_query_unknown(const char *name, hob_api_error *e)
{
    return hob_api_bad(e, "unknown_parameter", name, "unknown or unsupported parameter '%.60s'",
                       name);
}

int hob_query_number(const char *name, const char *value, uint64_t least, uint64_t most,
                     uint64_t *ret, hob_api_error *e)
{
    char allowed[64];
    const size_t digits = strspn(value, "0123456789");
    const uint64_t n = digits > 0 && digits < 18 ? strtoull(value, NULL, 10) : UINT64_MAX;
    if (value[digits] || n < least || n > most) {
        snprintf(allowed, sizeof allowed, "%" PRIu64 " to %" PRIu64, least, most);
        return hob_query_bad(name, value, allowed, e);
    }
    *ret = n;
    return 0;
}

int hob_query_each(const hob_conn *c, hob_query_take *take, void *user, hob_api_error *e)
{
    char argument[400];

    for (int i = 0;; i++) {
        if (lws_hdr_copy_fragment(c->wsi, argument, sizeof argument, WSI_TOKEN_HTTP_URI_ARGS, i) <
            0) {
            if (lws_hdr_fragment_length(c->wsi, WSI_TOKEN_HTTP_URI_ARGS, i) > 0)
                return hob_api_bad(e, "invalid_value", NULL,
                                   "a parameter of the URL is longer than %zu bytes",
                                   sizeof argument - 1);
            return 0;
        }
        char *value = strchr(argument, '=');
        if (value)
            *value++ = '\0';
        if (argument[0] && take(user, argument, value ? value : "", e) < 0)
            return HOB_EINVAL;
    }
}
