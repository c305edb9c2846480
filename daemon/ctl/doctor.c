/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl doctor: which devices there are, whether each is usable and why, which one `device =
 * "auto"` would take, the limits of this machine that matter to hob, and what is wrong with its
 * installation. Reads only; changes nothing. */
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/installation.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/server.h"

typedef struct machine {
    struct utsname system;
    uint32_t cores; /* this process may use */
    uint64_t memory_bytes, available_bytes;
    char huge_pages[64]; /* "always [madvise] never" with the brackets */
    uint64_t open_files; /* soft limit */
    uint64_t locked_bytes;
} machine;

/* "MemTotal:  123 kB" of /proc/meminfo, in bytes; 0 when absent. */
static uint64_t meminfo(const char *key)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    uint64_t kib = 0;
    size_t len = strlen(key);
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, len) == 0 && sscanf(line + len, ": %" SCNu64, &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

static uint64_t soft_limit(__rlimit_resource_t what)
{
    struct rlimit limit;
    return getrlimit(what, &limit) == 0 ? (uint64_t)limit.rlim_cur : 0;
}

static void look_at_machine(machine *m)
{
    memset(m, 0, sizeof *m);
    uname(&m->system);
    cpu_set_t set;
    m->cores = sched_getaffinity(0, sizeof set, &set) == 0
                   ? (uint32_t)CPU_COUNT(&set)
                   : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    m->memory_bytes = meminfo("MemTotal");
    m->available_bytes = meminfo("MemAvailable");
    m->open_files = soft_limit(RLIMIT_NOFILE);
    m->locked_bytes = soft_limit(RLIMIT_MEMLOCK);
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
    if (f && fgets(m->huge_pages, sizeof m->huge_pages, f))
        m->huge_pages[strcspn(m->huge_pages, "\n")] = 0;
    else
        snprintf(m->huge_pages, sizeof m->huge_pages, "unknown");
    if (f)
        fclose(f);
}

static json_t *limit_json(uint64_t v)
{
    return v == (uint64_t)RLIM_INFINITY ? json_null() : json_integer((json_int_t)v);
}

static const char *const state_names[] = {
    [HOB_FINDING_GOOD] = "good", [HOB_FINDING_ADVICE] = "advice", [HOB_FINDING_WRONG] = "wrong"};

/* NULL: no memory. */
static json_t *findings_json(const hob_findings *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->count; i++) {
        const hob_finding *one = &f->list[i];
        if (json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "check", one->check, "state",
                                                  state_names[one->state], "what", one->what,
                                                  "mend", one->mend)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:s,s:o}", "config", f->config, "findings", list);
}

/* found: NULL: there is no installation. */
static int print_json(const machine *m, const hob_choice *choices, int count, int chosen,
                      const hob_findings *found, hob_diag *diag)
{
    json_t *installation = found ? findings_json(found) : json_null();
    json_t *devices = json_array();
    for (int i = 0; devices && i < count; i++) {
        const hob_device_info *d = &choices[i].info;
        json_t *one = json_pack("{s:s,s:s,s:s,s:I,s:I,s:b,s:b,s:f,s:s}", "name", d->name,
                                "description", d->description, "isa", d->isa, "threads",
                                (json_int_t)d->threads, "memory_bytes", (json_int_t)d->memory_bytes,
                                "usable", (int)choices[i].usable, "chosen", i == chosen, "speed",
                                (double)choices[i].speed, "reason", choices[i].reason);
        if (json_array_append_new(devices, one) != 0) {
            json_decref(devices);
            devices = NULL;
        }
    }
    return hob_json_print(json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:o,s:o,s:o,s:o?,s:o}", "version",
                                    HOB_VERSION, "kernel", m->system.release, "architecture",
                                    m->system.machine, "cores", (json_int_t)m->cores,
                                    "memory_bytes", (json_int_t)m->memory_bytes, "available_bytes",
                                    (json_int_t)m->available_bytes, "huge_pages", m->huge_pages,
                                    "open_files", limit_json(m->open_files), "locked_bytes",
                                    limit_json(m->locked_bytes), "devices", devices, "chosen",
                                    chosen < 0 ? NULL : json_string(choices[chosen].info.name),
                                    "installation", installation),
                          diag);
}

static void print_limit(const char *name, uint64_t v, const char *unit)
{
    if (v == (uint64_t)RLIM_INFINITY)
        printf("%-12s no limit\n", name);
    else
        printf("%-12s %" PRIu64 "%s\n", name, v, unit);
}

static void print_text(const machine *m, const hob_choice *choices, int count, int chosen)
{
    printf("%-12s %s, Linux %s %s\n", "hob", HOB_VERSION, m->system.release, m->system.machine);
    printf("%-12s %" PRIu32 "\n", "cores", m->cores);
    printf("%-12s %.1f GB, %.1f GB available\n", "memory", (double)m->memory_bytes / 1e9,
           (double)m->available_bytes / 1e9);
    printf("%-12s %s\n", "huge pages", m->huge_pages);
    print_limit("open files", m->open_files, "");
    print_limit("locked", m->locked_bytes, " bytes");
    printf("\n%-12s %-6s %-12s %-7s %s\n", "device", "usable", "isa", "threads", "why");
    for (int i = 0; i < count; i++) {
        const hob_device_info *d = &choices[i].info;
        printf("%-12s %-6s %-12s %-7" PRIu32 " %s\n", d->name, choices[i].usable ? "yes" : "no",
               d->isa[0] ? d->isa : "-", d->threads, choices[i].reason);
        printf("%-12s %s\n", "", d->description);
    }
    if (chosen < 0)
        printf("\nno usable device: hob cannot run a model here\n");
    else
        printf("\ndevice = \"auto\" would use %s\n", choices[chosen].info.name);
    if (m->open_files < 1024)
        printf("advice: raise the limit of open files to 1024 or more (ulimit -n): each connection "
               "needs one\n");
    if (strstr(m->huge_pages, "[never]"))
        printf("advice: set /sys/kernel/mm/transparent_hugepage/enabled to madvise: weights run "
               "faster from huge pages\n");
}

static void print_findings(const hob_findings *f)
{
    printf("\n%s\n", f->config);
    for (uint32_t i = 0; i < f->count; i++) {
        const hob_finding *one = &f->list[i];
        printf("%-14s %-6s ", one->check, state_names[one->state]);
        hob_print_text(stdout, one->what, strlen(one->what));
        printf("\n");
        if (one->mend[0]) {
            printf("%-14s %-6s -> ", "", "");
            hob_print_text(stdout, one->mend, strlen(one->mend));
            printf("\n");
        }
    }
}

int hob_ctl_doctor(int argc, char **argv)
{
    const char *config = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_TEXT("--config", "FILE", &config,
                 "of the installation to look at (else HOB_CONFIG, /etc/hob/hob.conf)"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "doctor",
        .summary = "Shows devices, limits of this machine, what is wrong with its hob, and what to "
                   "type.",
        .notes = "Exit status 1: something is wrong, or no device is usable. Without --config a "
                 "machine that has\nno such file is taken for one on which hob is not installed.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    machine m;
    look_at_machine(&m);
    hob_choice choices[HOB_CHOICES_MAX];
    int count = hob_hal_list(choices, HOB_CHOICES_MAX);
    if (count < 0) {
        hob_fail(&diag, count, "cannot list the devices (%s)", hob_error_name(count));
        return hob_ctl_failed("doctor", &diag);
    }
    int chosen = -1; /* best first */
    for (int i = 0; i < count && chosen < 0; i++)
        if (choices[i].usable)
            chosen = i;
    static hob_findings found;
    const bool installed = config || access(hob_server_config(), F_OK) == 0;
    if (installed)
        hob_installation_check(config ? config : hob_server_config(), choices, count, &found);
    if (json) {
        if (print_json(&m, choices, count, chosen, installed ? &found : NULL, &diag) < 0)
            return hob_ctl_failed("doctor", &diag);
    } else {
        print_text(&m, choices, count, chosen);
        if (installed)
            print_findings(&found);
    }
    return chosen < 0 || !hob_findings_good(&found) ? HOB_EXIT_FAILURE : HOB_EXIT_OK;
}
