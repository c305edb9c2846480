/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the header Cookie: what is found is hexadecimal, stands behind the name and a name's beginning,
 * and is found in a header of nothing else, too. */
#include <stdlib.h>
#include <string.h>

#include "daemon/gateway/sessions.h"

enum { LENGTH = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1), value[LENGTH + 1] = "",
         alone[LENGTH + 8] = "hob=", again[LENGTH + 1];
    if (!text)
        abort();
    memcpy(text, data, bytes); /* a NUL ends it, as one would in libwebsockets */
    text[bytes] = '\0';
    if (hob_session_cookie(text, "hob", LENGTH, value)) {
        memcpy(alone + 4, value, LENGTH + 1);
        const char *at = strstr(text, alone);
        while (at && at != text && !strchr("; ", at[-1]))
            at = strstr(at + 1, alone);
        if (!at || strspn(value, "0123456789abcdef") != LENGTH || value[LENGTH] != '\0' ||
            !hob_session_cookie(alone, "hob", LENGTH, again) || strcmp(again, value) != 0)
            abort();
    } else if (value[0] != '\0')
        abort();
    free(text);
    return 0;
}
