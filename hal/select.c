/* SPDX-License-Identifier: Apache-2.0
 *
 * Which device is used, and why. A driver may crash or hang, so OpenCL devices are looked at in a child process, which
 * opens each, compares it with the CPU on golden inputs, times both, and reports through a pipe; its end by a signal, or
 * none in time, is a reason not to use OpenCL. `auto` does not load drivers at all on a machine without a GPU's node. */
#include "hal/select.h"
#include "hal/golden.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hal/cpu/kernels.h"

enum { PROBE_TIMEOUT_MS = 120000, TIMED_ROWS = 4096, TIMED_COLS = 4096, TIMED_RUNS = 20 };

/* A CPU is always usable; the reason says at which tier and why not at a better one. */
static int judge_cpu(hob_choice *c)
{
    hob_cpu_tier tier;
    hob_diag diag = {""};

    if (hob_backend_cpu.probe(&c->info, 1) != 1)
        return 0;
    if (hob_cpu_best_tier(&tier, &diag) < 0) {
        snprintf(c->reason, sizeof c->reason, "%.150s", diag.text);
        return 1;
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
    return 1;
}

/* Seconds for one row through a Q4_0 matrix of 9 MB, the best of several; negative: it failed. */
static double time_decode(hob_device *dev)
{
    const size_t bytes = (size_t)TIMED_ROWS * TIMED_COLS / 32 * 18;
    static float row[TIMED_COLS];
    uint8_t *data = calloc(1, bytes);
    hob_weight *w = NULL, *table = NULL;
    hob_tensor *x = NULL, *y = NULL;
    const uint32_t zero = 0;
    const hob_span span = {0, 1, 0, &zero};
    const hob_batch batch = {1, &zero, 1, &span, 0, NULL};
    double best = -1;

    if (data &&
        dev->ops->weight_upload(dev, HOB_TYPE_Q4_0, TIMED_ROWS, TIMED_COLS, data, bytes, &w,
                                NULL) == 0 &&
        dev->ops->weight_upload(dev, HOB_TYPE_F32, 1, TIMED_COLS, row, sizeof row, &table, NULL) ==
            0 &&
        dev->ops->tensor_new(dev, 1, TIMED_COLS, &x, NULL) == 0 &&
        dev->ops->tensor_new(dev, 1, TIMED_ROWS, &y, NULL) == 0) {
        const hob_linear op = {.x = x, .count = 1, .w = {w}, .y = {y}};
        for (int i = 0; i < 3; i++) {
            const uint64_t start = hob_now_us();
            int rc = dev->ops->step_begin(dev, NULL, &batch);
            for (int k = 0; rc == 0 && k < TIMED_RUNS; k++)
                rc = dev->ops->linear(dev, &op);
            rc = dev->ops->step_end(dev) < 0 ? -1 : rc;
            if (rc < 0 || dev->ops->read_rows(dev, y, 0, 1, row) < 0)
                break;
            const double seconds = (double)(hob_now_us() - start) / 1e6 / TIMED_RUNS;
            best = best < 0 || seconds < best ? seconds : best;
        }
    }
    dev->ops->weight_free(dev, w);
    dev->ops->weight_free(dev, table);
    dev->ops->tensor_free(dev, x);
    dev->ops->tensor_free(dev, y);
    free(data);
    return best;
}

static double time_cpu(void)
{
    hob_device *cpu = NULL;
    const double seconds =
        hob_backend_cpu.open(NULL, NULL, &cpu, NULL) == 0 ? time_decode(cpu) : -1;
    hob_device_close(cpu);
    return seconds;
}

/* In the child. name NULL: all devices, those that are the processor itself unopened. */
static void judge_cl(hob_choice *c, const char *name, const hob_device_options *options,
                     double cpu_seconds)
{
    hob_device *dev = NULL;
    hob_diag diag = {""};

    if (c->info.processor && !name) {
        c->usable = true;
        snprintf(c->reason, sizeof c->reason,
                 "the processor itself, which the cpu device uses better: only when it is named");
        return;
    }
    /* the processor's compiled kernels are its driver's to keep */
    int rc = hob_backend_cl.open(&c->info, c->info.processor ? NULL : options, &dev, &diag);
    if (rc == 0) {
        c->info = dev->info; /* with its ways of multiplying */
        rc = hob_golden_operations(dev, &diag);
    }
    if (rc < 0) {
        snprintf(c->reason, sizeof c->reason, "%.159s", diag.text);
    } else if (name) {
        c->usable = true;
        snprintf(c->reason, sizeof c->reason, "it is named, and its kernels agree with the CPU's");
    } else {
        const double seconds = time_decode(dev);
        c->usable = seconds > 0;
        c->speed = seconds > 0 && cpu_seconds > 0 ? (float)(cpu_seconds / seconds) : 0;
        snprintf(c->reason, sizeof c->reason,
                 c->usable ? "its kernels agree with the CPU's; %.1f times as fast in decoding"
                           : "it failed while it was timed",
                 (double)c->speed);
    }
    hob_device_close(dev);
}

static int judge_in_child(const char *name, const hob_device_options *options, hob_choice *ret,
                          size_t cap)
{
    hob_device_info found[HOB_CHOICES_MAX];
    const int n = hob_backend_cl.probe(found, HOB_CHOICES_MAX);
    const double cpu_seconds = n > 0 && !name ? time_cpu() : 0;
    size_t count = 0;

    for (int i = 0; i < n && count < cap; i++)
        if (!name || strcmp(name, found[i].name) == 0) {
            ret[count] = (hob_choice){.info = found[i]};
            judge_cl(&ret[count++], name, options, cpu_seconds);
        }
    return (int)count;
}

/* All of what the child writes, or what it did instead. Returns the number of choices. */
static int collect(int fd, pid_t child, hob_choice *ret, size_t cap)
{
    const uint64_t end = hob_now_us() + PROBE_TIMEOUT_MS * (uint64_t)1000;
    size_t got = 0;
    bool late = false;
    int status = 0;

    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        const uint64_t now = hob_now_us();
        const int ready = now < end ? poll(&p, 1, (int)((end - now) / 1000 + 1)) : 0;
        if (ready <= 0) {
            late = true;
            break;
        }
        const ssize_t n = read(fd, (uint8_t *)ret + got, cap * sizeof *ret - got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    if (late)
        (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    if (!late && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return (int)(got / sizeof *ret);
    *ret = (hob_choice){.info = {.name = "opencl"}};
    snprintf(ret->info.description, sizeof ret->info.description, "OpenCL drivers of this machine");
    if (late)
        snprintf(ret->reason, sizeof ret->reason, "looking at the devices took more than %d s",
                 PROBE_TIMEOUT_MS / 1000);
    else if (WIFSIGNALED(status))
        snprintf(ret->reason, sizeof ret->reason,
                 "a driver ended the probing process by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(ret->reason, sizeof ret->reason,
                 "a driver ended the probing process with status %d", WEXITSTATUS(status));
    return 1;
}

static int look_at_opencl(const char *name, const hob_device_options *options, hob_choice *ret,
                          size_t cap)
{
    int pipes[2];

    if (cap == 0 || pipe(pipes) < 0)
        return 0;
    const pid_t child = fork();
    if (child < 0) {
        close(pipes[0]);
        close(pipes[1]);
        return 0;
    }
    if (child == 0) {
        static hob_choice choices[HOB_CHOICES_MAX];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pipes[0]);
        const int n = judge_in_child(name, options, choices, HOB_CHOICES_MAX);
        const size_t bytes = (size_t)n * sizeof *choices;
        _exit(write(pipes[1], choices, bytes) == (ssize_t)bytes ? 0 : 1);
    }
    close(pipes[1]);
    const int n = collect(pipes[0], child, ret, cap < HOB_CHOICES_MAX ? cap : HOB_CHOICES_MAX);
    close(pipes[0]);
    return n;
}

static int list(const hob_device_options *options, hob_choice *ret, size_t cap)
{
    if (cap == 0)
        return 0;
    memset(ret, 0, cap * sizeof *ret);
    size_t count = (size_t)judge_cpu(ret);
    count += (size_t)look_at_opencl(NULL, options, ret + count, cap - count);
    for (size_t i = 1; i < count; i++) /* those that are faster than the CPU go before it */
        for (size_t k = i;
             k > 0 && ret[k].usable && ret[k].speed > 1 && ret[k].speed > ret[k - 1].speed; k--) {
            const hob_choice c = ret[k];
            ret[k] = ret[k - 1];
            ret[k - 1] = c;
        }
    return (int)count;
}

int hob_hal_list(hob_choice *ret, size_t cap)
{
    return list(NULL, ret, cap);
}

/* The nodes that a GPU's driver makes. */
static bool has_gpu_node(void)
{
    static const char *const nodes[] = {"/dev/dri",   "/dev/nvidiactl", "/dev/kfd",
                                        "/dev/mali0", "/dev/kgsl-3d0",  "/dev/dxg"};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        if (access(nodes[i], F_OK) == 0)
            return true;
    return false;
}

bool hob_hal_tries_drivers(const char *name)
{
    if (name && strcmp(name, "auto") != 0)
        return strncmp(name, "opencl:", 7) == 0;
    return has_gpu_node();
}

int hob_hal_choose(const char *name, const hob_device_options *options, hob_choice *ret,
                   hob_diag *diag)
{
    hob_choice choices[HOB_CHOICES_MAX] = {0};
    int count;

    if (!name)
        name = "auto";
    const bool automatic = strcmp(name, "auto") == 0;
    if (!automatic && strcmp(name, "cpu") != 0 && strncmp(name, "opencl:", 7) != 0)
        return hob_fail(diag, HOB_ENOENT,
                        "device: got \"%.60s\", allowed are auto, cpu and opencl:<n>", name);
    if (!hob_hal_tries_drivers(name))
        count = judge_cpu(choices);
    else if (automatic)
        count = list(options, choices, HOB_CHOICES_MAX);
    else
        count = look_at_opencl(name, options, choices, HOB_CHOICES_MAX);
    for (int i = 0; i < count; i++)
        if (choices[i].usable) {
            *ret = choices[i];
            return 0;
        }
    if (count > 0)
        return hob_fail(diag, HOB_EDEVICE, "device %.40s: %s", name, choices[0].reason);
    return hob_fail(diag, HOB_ENOENT,
                    "device: got \"%.60s\", found none of that name; \"hobctl doctor\" lists them",
                    name);
}

int hob_hal_open_chosen(const hob_choice *c, const hob_device_options *options, hob_device **ret,
                        hob_diag *diag)
{
    const bool cpu = strcmp(c->info.name, "cpu") == 0;
    return (cpu ? &hob_backend_cpu : &hob_backend_cl)->open(&c->info, options, ret, diag);
}

int hob_hal_open(const char *name, const hob_device_options *options, hob_device **ret,
                 hob_diag *diag)
{
    hob_choice choice;
    const int rc = hob_hal_choose(name, options, &choice, diag);
    return rc < 0 ? rc : hob_hal_open_chosen(&choice, options, ret, diag);
}
