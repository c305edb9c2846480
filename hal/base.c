/* SPDX-License-Identifier: Apache-2.0
 *
 * Error names, diagnoses and the monotonic clock. See base.h. */
#include "hal/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

int hob_fail(hob_diag *diag, int code, const char *format, ...)
{
    if (diag) {
        va_list args;
        va_start(args, format);
        vsnprintf(diag->text, sizeof diag->text, format, args);
        va_end(args);
        for (char *c = diag->text; *c;
             c++) /* what it quotes may come from a hostile file; terminals and logs obey it */
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                *c = '?';
    }
    return code;
}

const char *hob_error_name(int code)
{
    switch (code) {
    case HOB_EINVAL: return "HOB_EINVAL";
    case HOB_ENOMEM: return "HOB_ENOMEM";
    case HOB_EIO: return "HOB_EIO";
    case HOB_EFORMAT: return "HOB_EFORMAT";
    case HOB_EUNSUPPORTED: return "HOB_EUNSUPPORTED";
    case HOB_ELIMIT: return "HOB_ELIMIT";
    case HOB_ENOENT: return "HOB_ENOENT";
    case HOB_EDEVICE: return "HOB_EDEVICE";
    case HOB_ECANCELED: return "HOB_ECANCELED";
    case HOB_ENOSPC: return "HOB_ENOSPC";
    case HOB_EDIGEST: return "HOB_EDIGEST";
    case HOB_ESIGNATURE: return "HOB_ESIGNATURE";
    case HOB_EOLD: return "HOB_EOLD";
    default: return "HOB_E?";
    }
}

uint64_t hob_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}
