/* SPDX-License-Identifier: Apache-2.0
 *
 * What this processor can run. On x86-64 an ISA counts only when CPUID has its bits and XGETBV says that the operating
 * system saves its registers; on aarch64 the kernel says both in AT_HWCAP. HOB_CPU=scalar|neon|avx2|avx512vnni in the
 * environment masks to a lower tier; one of another family stands for the best tier below it in that order. */
#include "hal/cpu/kernels.h"
#include "hal/cpu/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tier_names[HOB_CPU_TIERS] = {"scalar", "neon", "avx2", "avx512vnni"};

#if defined __x86_64__
#include <cpuid.h>

/* What each tier adds; NULL where it is of another family. */
static void (*const fills[HOB_CPU_TIERS])(hob_cpu_kernels *k) = {
    [HOB_CPU_SCALAR] = hob_cpu_fill_scalar,
    [HOB_CPU_AVX2] = hob_cpu_fill_avx2,
    [HOB_CPU_AVX512VNNI] = hob_cpu_fill_avx512vnni,
};

static uint64_t enabled_state(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

bool hob_cpu_has_tier(hob_cpu_tier tier)
{
    enum { YMM = 0x6, ZMM = 0xe6 };
    uint32_t a, b, c, d, b7 = 0, c7 = 0;

    if (tier == HOB_CPU_SCALAR)
        return true;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
        return false;
    uint64_t state = enabled_state();
    if (__get_cpuid_count(7, 0, &a, &b7, &c7, &d) == 0)
        return false;
    bool avx2 =
        (c & bit_AVX) && (c & bit_FMA) && (c & bit_F16C) && (b7 & bit_AVX2) && (state & YMM) == YMM;
    if (tier == HOB_CPU_AVX2)
        return avx2;
    return tier == HOB_CPU_AVX512VNNI && avx2 && (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) &&
           (b7 & bit_AVX512VL) && (b7 & bit_AVX512DQ) && (c7 & bit_AVX512VNNI) &&
           (state & ZMM) == ZMM;
}

hob_sha256_compress *hob_cpu_sha256(void)
{
    const char *word = getenv("HOB_CPU");
    uint32_t a, b, c, d;

    if ((word && strcmp(word, tier_names[HOB_CPU_SCALAR]) == 0) ||
        !__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSE4_1) ||
        !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return NULL;
    return b & bit_SHA ? hob_cpu_sha256_shani : NULL;
}

void hob_cpu_describe(char *text, size_t size)
{
    uint32_t words[12], highest = __get_cpuid_max(0x80000000u, NULL);
    char name[sizeof words + 1] = "x86-64 processor";

    if (highest >= 0x80000004u) {
        for (uint32_t i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                        &words[4 * i + 3]);
        memcpy(name, words, sizeof words);
        name[sizeof words] = 0;
    }
    snprintf(text, size, "%s", name + strspn(name, " "));
}
#elif defined __aarch64__
#include <sys/auxv.h>

static void (*const fills[HOB_CPU_TIERS])(hob_cpu_kernels *k) = {
    [HOB_CPU_SCALAR] = hob_cpu_fill_scalar,
    [HOB_CPU_NEON] = hob_cpu_fill_neon,
};

bool hob_cpu_has_tier(hob_cpu_tier tier)
{
    return tier == HOB_CPU_SCALAR ||
           (tier == HOB_CPU_NEON && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP));
}

void hob_cpu_describe(char *text, size_t size)
{
    uint64_t id = 0;

    if (getauxval(AT_HWCAP) & HWCAP_CPUID) /* then the kernel emulates the read */
        __asm__("mrs %0, midr_el1" : "=r"(id));
    snprintf(text, size, "aarch64 processor, MIDR 0x%08x", (unsigned)id);
}
#else
static void (*const fills[HOB_CPU_TIERS])(hob_cpu_kernels *k) = {
    [HOB_CPU_SCALAR] = hob_cpu_fill_scalar,
};

bool hob_cpu_has_tier(hob_cpu_tier tier)
{
    return tier == HOB_CPU_SCALAR;
}

void hob_cpu_describe(char *text, size_t size)
{
    snprintf(text, size, "processor without a tuned tier");
}
#endif

#if !defined __x86_64__
hob_sha256_compress *hob_cpu_sha256(void)
{
    return NULL;
}
#endif

const char *hob_cpu_tier_name(hob_cpu_tier tier)
{
    return tier_names[tier];
}

int hob_cpu_best_tier(hob_cpu_tier *ret, hob_diag *diag)
{
    const char *word = getenv("HOB_CPU");
    int most = HOB_CPU_TIERS - 1;

    if (word && *word) {
        for (most = HOB_CPU_TIERS - 1; most >= 0 && strcmp(word, tier_names[most]) != 0; most--)
            ;
        if (most < 0)
            return hob_fail(diag, HOB_EINVAL,
                            "HOB_CPU: got \"%.40s\", allowed scalar, neon, avx2, avx512vnni", word);
    }
    while (most > 0 && !hob_cpu_has_tier((hob_cpu_tier)most))
        most--;
    *ret = (hob_cpu_tier)most;
    return 0;
}

bool hob_cpu_builds_tier(hob_cpu_tier tier)
{
    return fills[tier] != NULL;
}

void hob_cpu_kernels_fill(hob_cpu_tier tier, hob_cpu_kernels *ret)
{
    for (int t = HOB_CPU_SCALAR; t <= (int)tier; t++)
        if (fills[t])
            fills[t](ret);
}
