/* SPDX-License-Identifier: Apache-2.0
 *
 * Which device is used. Backends are asked in order, their devices tested and ranked; `auto` takes the first usable. */
#include "hal/cpu/kernels.h"
#include "hal/hal.h"

#include <stdio.h>
#include <string.h>

enum { DEVICES_MAX = 16 };

static const hob_backend *const backends[] = {&hob_backend_cpu, &hob_backend_cl};

/* A CPU is always usable; the reason says at which tier and why not at a better one. */
static void judge_cpu(hob_choice *c)
{
    hob_cpu_tier tier;
    hob_diag diag = {""};

    if (hob_cpu_best_tier(&tier, &diag) < 0) {
        c->usable = false;
        snprintf(c->reason, sizeof c->reason, "%.150s", diag.text);
        return;
    }
    c->usable = true;
    for (;; tier--) {
        hob_cpu_kernels k;
        hob_cpu_kernels_fill(tier, &k);
        if (tier == HOB_CPU_SCALAR || hob_cpu_self_test(&k, &diag) == 0)
            break;
    }
    snprintf(c->info.isa, sizeof c->info.isa, "%s", hob_cpu_tier_name(tier));
    if (diag.text[0])
        snprintf(c->reason, sizeof c->reason, "%.150s", diag.text);
    else
        snprintf(c->reason, sizeof c->reason, "%s kernels agree with the scalar reference",
                 hob_cpu_tier_name(tier));
}

int hob_hal_list(hob_choice *ret, size_t cap)
{
    size_t count = 0;

    for (size_t b = 0; b < sizeof backends / sizeof backends[0]; b++) {
        hob_device_info found[DEVICES_MAX];
        int n = backends[b]->probe(found, DEVICES_MAX);
        for (int i = 0; i < n && count < cap; i++) {
            hob_choice *c = &ret[count++];
            *c = (hob_choice){.info = found[i]};
            judge_cpu(c);
        }
    }
    return (int)count;
}

int hob_hal_open(const char *name, const hob_device_options *options, hob_device **ret,
                 hob_diag *diag)
{
    bool any = !name || strcmp(name, "auto") == 0;

    for (size_t b = 0; b < sizeof backends / sizeof backends[0]; b++) {
        hob_device_info found[DEVICES_MAX];
        int n = backends[b]->probe(found, DEVICES_MAX);
        for (int i = 0; i < n; i++)
            if (any || strcmp(name, found[i].name) == 0)
                return backends[b]->open(&found[i], options, ret, diag);
    }
    return hob_fail(diag, HOB_ENOENT,
                    "device: got \"%.60s\", found none of that name; \"hobctl doctor\" lists them",
                    name ? name : "auto");
}
