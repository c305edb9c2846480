/* SPDX-License-Identifier: Apache-2.0
 *
 * Checks of an installation. See installation.h. hobd runs as the user who owns its state: what it can read is tried as that
 * user, in a child, when root asks. */
#include "daemon/ctl/installation.h"

#include "daemon/conf/certificate.h"
#include "daemon/conf/conf.h"
#include "daemon/conf/file.h"
#include "daemon/conf/keys.h"
#include "daemon/conf/pki.h"
#include "daemon/ctl/client.h"
#include "daemon/ctl/offline.h"
#include "daemon/extract/formats.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    DAY_S = 86400,
    CONTEXT_LEAST = 256, /* tokens: with less a model does not start */
    STATUS_MS = 5000,
};

typedef struct visit {
    hob_findings *found;
    const hob_conf *c;
    bool packaged; /* systemd has hobd */
    bool running;
    bool has_owner; /* of the state, which is there */
    uid_t owner;
    gid_t owner_group;
    char state[PATH_MAX]; /* the store's folder */
    char start[PATH_MAX + 32], restart[PATH_MAX + 64], look[64];
} visit;

static void note(visit *v, const char *check, hob_finding_state state, const char *mend,
                 const char *format, ...) HOB_PRINTF(5, 6);
static void note(visit *v, const char *check, hob_finding_state state, const char *mend,
                 const char *format, ...)
{
    if (v->found->count == HOB_FINDINGS_MAX)
        return;
    hob_finding *f = &v->found->list[v->found->count++];
    va_list args;
    f->check = check;
    f->state = state;
    snprintf(f->mend, sizeof f->mend, "%s", mend);
    va_start(args, format);
    vsnprintf(f->what, sizeof f->what, format, args);
    va_end(args);
}

/* A command with a path in it, for a shell. */
static const char *command(char ret[400], const char *verb, const char *path)
{
    const bool plain = path[strspn(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                         "0123456789._/+@%:,-")] == '\0';
    snprintf(ret, 400, plain || strchr(path, '\'') ? "%s %s" : "%s '%s'", verb, path);
    return ret;
}

static void folder_of(const char *path, char *ret, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(ret, size, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1,
             slash ? path : ".");
}

/* Whether hobd's user can open the file to read it; errno says why not. */
static bool hobd_can_read(const visit *v, const char *path)
{
    int status = 0;
    if (geteuid() != 0 || !v->has_owner || v->owner == 0) {
        const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        return fd >= 0 && close(fd) == 0;
    }
    const pid_t pid = fork();
    if (pid == 0) {
        const struct passwd *user = getpwuid(v->owner);
        if ((user ? initgroups(user->pw_name, user->pw_gid) : setgroups(0, NULL)) != 0 ||
            setgid(user ? user->pw_gid : v->owner_group) != 0 || setuid(v->owner) != 0)
            _exit(0); /* cannot be told */
        _exit(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) >= 0 ? 0 : errno & 0xff);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    return pid < 0 || errno == 0;
}

/* ---- the checks ---- */

static void check_clock(visit *v)
{
    static const char mend[] = "timedatectl set-ntp true, or: date --set '2030-12-31 23:59'";
    const int64_t now = (int64_t)time(NULL);
    struct stat st;
    char text[32];
    struct tm tm;
    const time_t shown = (time_t)now;
    if (!gmtime_r(&shown, &tm) || strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm) == 0)
        snprintf(text, sizeof text, "an impossible time");
    if (now < HOB_CLOCK_LEAST_S)
        note(v, "clock", HOB_FINDING_WRONG, mend, "the clock shows %s UTC: hob is younger", text);
    else if (stat(v->found->config, &st) == 0 && st.st_mtime > now + DAY_S)
        note(v, "clock", HOB_FINDING_WRONG, mend,
             "the clock shows %s UTC, but %.200s was written after that", text, v->found->config);
    else
        note(v, "clock", HOB_FINDING_GOOD, "", "%s UTC", text);
}

static void check_certificate(visit *v)
{
    const hob_conf *c = v->c;
    const int64_t now = (int64_t)time(NULL);
    hob_certificate certificate = {0};
    hob_diag diag = {""};
    char dir[PATH_MAX], mend[400];
    const bool ours = hob_pki_owns(c->tls_cert, c->tls_key, dir, sizeof dir);
    /* What hobd renews itself is renewed by a start, at the latest. */
    const char *renew = ours          ? v->restart
                        : v->packaged ? "put a new one there, then: systemctl reload hob"
                                      : "put a new one there, then send hobd SIGHUP";

    if (ours && access(c->tls_cert, F_OK) != 0 && errno == ENOENT) {
        note(v, "certificate", HOB_FINDING_ADVICE, v->start,
             "%.200s is not there yet: hobd makes it when it starts", c->tls_cert);
        return;
    }
    if (hob_certificate_load(c->tls_cert, c->tls_key, c->client_ca, &certificate, &diag) < 0) {
        const bool denied = access(c->tls_cert, R_OK) != 0 && errno == EACCES;
        note(v, "certificate", denied && geteuid() != 0 ? HOB_FINDING_ADVICE : HOB_FINDING_WRONG,
             denied && geteuid() != 0 ? "sudo hobctl doctor"
                                      : command(mend, "look at tls in", v->found->config),
             "%s", diag.text);
        return;
    }
    const long long days = (certificate.ends_s - now) / DAY_S;
    if (hob_certificate_expired(&certificate, now))
        note(v, "certificate", HOB_FINDING_WRONG, renew, "%.200s %s", c->tls_cert,
             now < certificate.begins_s ? "is not valid yet, by this machine's clock"
                                        : "has expired");
    else if (days < HOB_PKI_RENEW_DAYS && !(ours && v->running && days > 0))
        note(v, "certificate", HOB_FINDING_ADVICE, renew, "%.200s expires in %lld days",
             c->tls_cert, days);
    else
        note(v, "certificate", HOB_FINDING_GOOD, "", "%.200s, for %lld days; %s", c->tls_cert, days,
             ours ? "hobd renews it" : "not hob's to renew");
    hob_certificate_free(&certificate);
}

/* A secret is for hobd's user alone. One that is not there is none. */
static bool check_secret(visit *v, const char *path)
{
    struct stat st;
    char mend[400], verb[64];
    if (lstat(path, &st) != 0 || S_ISLNK(st.st_mode))
        return true;
    if (st.st_mode & 077) {
        note(v, "permissions", HOB_FINDING_WRONG, command(mend, "chmod 600", path),
             "%.200s has the mode %04o: others than its owner may use it", path,
             (unsigned)(st.st_mode & 07777));
        return false;
    }
    if (v->has_owner && st.st_uid != v->owner) {
        const struct passwd *user = getpwuid(v->owner);
        snprintf(verb, sizeof verb, "chown %.40s:", user ? user->pw_name : "hob");
        note(v, "permissions", HOB_FINDING_WRONG, command(mend, verb, path),
             "%.200s is owned by user %u, not by hobd's", path, (unsigned)st.st_uid);
        return false;
    }
    return true;
}

static void check_permissions(visit *v)
{
    char path[PATH_MAX], dir[PATH_MAX];
    bool good = check_secret(v, v->c->tls_key);
    good &= check_secret(v, v->c->store);
    if (hob_pki_owns(v->c->tls_cert, v->c->tls_key, dir, sizeof dir) &&
        hob_path_join(path, sizeof path, dir, "ca.key", NULL) == 0)
        good &= check_secret(v, path);
    if (v->c->keys[0]) {
        good &= check_secret(v, v->c->keys);
        if (hob_key_file_text_path(v->c->keys, path, sizeof path, NULL) == 0)
            good &= check_secret(v, path);
    }
    if (good)
        note(v, "permissions", HOB_FINDING_GOOD, "", "keys and store are for hobd's user alone");
}

/* What the model needs at the least, in bytes; 0: it cannot be used, which is noted. */
static uint64_t check_model(visit *v, const hob_conf_model *m)
{
    char mend[400];
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    hob_model_info info = {0};
    uint64_t bytes = 0;

    if (access(m->path, F_OK) != 0) {
        note(v, "models", HOB_FINDING_WRONG, v->packaged ? "hobctl setup" : "hobctl setup --help",
             "model %s: %.200s: %s", m->name, m->path, strerror(errno));
        return 0;
    }
    if (!hobd_can_read(v, m->path)) {
        note(v, "models", HOB_FINDING_WRONG, command(mend, "chmod a+r", m->path),
             "model %s: hobd cannot read %.200s: %s", m->name, m->path, strerror(errno));
        return 0;
    }
    int code = hob_gguf_open(m->path, &g, &diag);
    if (code == 0)
        code = hob_model_inspect(g, m->path, &info, &diag);
    if (code < 0)
        note(v, "models", HOB_FINDING_WRONG, command(mend, "hobctl inspect", m->path),
             "model %s: %.300s", m->name, diag.text);
    else {
        bytes = info.weight_bytes + CONTEXT_LEAST * hob_model_kv_token_bytes(&info, m->kv_type);
        note(v, "models", HOB_FINDING_GOOD, "", "%s: %.200s, %.0f MB", m->name, m->path,
             (double)hob_gguf_file_bytes(g) / 1e6);
    }
    hob_gguf_close(g);
    return bytes;
}

static void check_memory(visit *v, uint64_t needed)
{
    char mend[400];
    const uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
                   budget = (uint64_t)v->c->memory_mb << 20, room = budget ? budget : machine;
    snprintf(mend, sizeof mend, "%s, then: %s",
             v->packaged ? "hobctl setup (or change limits.memory_mb of hob.conf)"
                         : "change limits.memory_mb of hob.conf",
             v->restart);
    if (budget > machine)
        note(v, "memory", HOB_FINDING_WRONG, mend,
             "limits.memory_mb is %u, but this machine has %llu MiB", v->c->memory_mb,
             (unsigned long long)(machine >> 20));
    else if (needed > room)
        note(v, "memory", HOB_FINDING_WRONG, mend,
             "the models need at least %llu MiB, but %s %llu MiB",
             (unsigned long long)(needed >> 20),
             budget ? "limits.memory_mb is" : "this machine has", (unsigned long long)(room >> 20));
    else if (budget)
        note(v, "memory", HOB_FINDING_GOOD, "", "%u of this machine's %llu MiB are hob's",
             v->c->memory_mb, (unsigned long long)(machine >> 20));
    else
        note(v, "memory", HOB_FINDING_ADVICE, mend,
             "limits.memory_mb is 0: hob may use all of this machine's %llu MiB",
             (unsigned long long)(machine >> 20));
}

/* OpenCL is needed only where a model is to run there. */
static void check_opencl(visit *v, const hob_choice *choices, int count)
{
    static const char install[] =
        "apt install ocl-icd-libopencl1, and the OpenCL driver of the GPU";
    bool any = false;
    for (uint32_t i = 0; i < v->c->model_count; i++) {
        const hob_conf_model *m = &v->c->models[i];
        const hob_choice *named = NULL;
        if (strncmp(m->device, "opencl:", 7) != 0)
            continue;
        for (int k = 0; k < count; k++)
            if (strcmp(choices[k].info.name, m->device) == 0)
                named = &choices[k];
        if (!named || !named->usable)
            note(v, "opencl", HOB_FINDING_WRONG, install, "model %s: device %s: %s", m->name,
                 m->device, named ? named->reason : "there is no such device");
    }
    for (int k = 0; k < count; k++)
        any |= strncmp(choices[k].info.name, "opencl:", 7) == 0;
    if (any)
        note(v, "opencl", HOB_FINDING_GOOD, "", "there is a device");
    else
        note(v, "opencl", HOB_FINDING_ADVICE, install,
             "there is no OpenCL device: models run on the processor");
}

static void check_helper(visit *v)
{
    if (access(HOB_PDFTOTEXT, X_OK) == 0)
        note(v, "pdftotext", HOB_FINDING_GOOD, "", HOB_PDFTOTEXT);
    else
        note(v, "pdftotext", HOB_FINDING_ADVICE, "apt install poppler-utils",
             HOB_PDFTOTEXT " is not there: PDF files are refused");
}

/* ---- hobd ---- */

static void check_state(visit *v, const json_t *status)
{
    size_t i;
    json_t *m;
    bool good = true;
    json_array_foreach(json_object_get(status, "models"), i, m)
    {
        const char *state = hob_json_text(m, "state");
        if (strcmp(state, "ready") == 0 || strcmp(state, "unloaded") == 0)
            continue;
        good = false;
        note(v, "hobd", HOB_FINDING_WRONG, v->look, "model %.60s is not ready: %.60s",
             hob_json_text(m, "name"), state);
    }
    if (good)
        note(v, "hobd", HOB_FINDING_GOOD, "", "runs, process %lld; its models are ready",
             hob_json_number(status, "pid"));
}

static void check_port(visit *v)
{
    const hob_conf *c = v->c;
    const int one = 1;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(c->port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(c->port)};
    const bool is_six = inet_pton(AF_INET6, c->listen, &six.sin6_addr) == 1;
    char mend[400];
    snprintf(mend, sizeof mend, "ss -ltnp 'sport = :%u' shows who; stop that, or change port in %s",
             c->port, v->found->config);
    if (!is_six)
        inet_pton(AF_INET, c->listen, &four.sin_addr);
    const int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    const bool ok = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                    bind(fd, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
                         is_six ? sizeof six : sizeof four) == 0 &&
                    listen(fd, 1) == 0;
    const int why = errno;
    close(fd);
    if (ok)
        note(v, "port", HOB_FINDING_GOOD, "", "%s port %u is free", c->listen, c->port);
    else if (why == EACCES) /* systemd lets hobd have it; whoever asks has not the right */
        note(v, "port", HOB_FINDING_ADVICE, "sudo hobctl doctor", "%s port %u: %s", c->listen,
             c->port, strerror(why));
    else
        note(v, "port", HOB_FINDING_WRONG,
             why == EADDRINUSE ? mend : command(mend, "change listen in", v->found->config),
             "%s port %u: %s", c->listen, c->port,
             why == EADDRINUSE ? "another program listens there" : strerror(why));
}

/* Asks before the other checks, which know then whether it runs. */
static json_t *ask_hobd(visit *v, hob_diag *diag)
{
    json_t *status = NULL;
    hob_server server;
    hob_call call = {.method = "GET", .path = "/hob/v1/admin/status", .limit_ms = STATUS_MS};
    int code = hob_server_find_socket(v->c->admin_socket, &server, diag);
    if (code == 0)
        code = hob_client_json(&server, &call, &status, diag);
    v->running = code == 0;
    return status;
}

/* Who may not use the socket cannot tell. */
static void note_silent(visit *v, const hob_diag *diag)
{
    if (access(v->c->admin_socket, W_OK) != 0 && errno == EACCES)
        note(v, "hobd", HOB_FINDING_ADVICE, "sudo hobctl doctor", "%.200s: %s", v->c->admin_socket,
             strerror(EACCES));
    else
        note(v, "hobd", HOB_FINDING_WRONG, v->start, "hobd is not running, or does not answer: %s",
             diag->text);
}

/* ---- all of it ---- */

static void prepare(visit *v)
{
    struct stat st;
    v->packaged = strcmp(v->found->config, "/etc/hob/hob.conf") == 0;
    folder_of(v->c->store, v->state, sizeof v->state);
    if ((v->has_owner = stat(v->state, &st) == 0)) {
        v->owner = st.st_uid;
        v->owner_group = st.st_gid;
    }
    if (v->packaged)
        snprintf(v->start, sizeof v->start, "systemctl start hob");
    else
        snprintf(v->start, sizeof v->start, "hobd --config %.300s", v->found->config);
    snprintf(v->restart, sizeof v->restart,
             v->packaged ? "systemctl restart hob" : "end hobd, then: %s", v->start);
    snprintf(v->look, sizeof v->look, v->packaged ? "journalctl -u hob -n 50" : "hobctl logs");
}

void hob_installation_check(const char *config, const hob_choice *choices, int count,
                            hob_findings *ret)
{
    static hob_conf conf; /* large */
    visit v = {.found = ret, .c = &conf};
    hob_diag diag = {""};
    char mend[400];
    uint64_t needed = 0;
    bool usable = true;

    memset(ret, 0, sizeof *ret);
    snprintf(ret->config, sizeof ret->config, "%s", config);
    check_clock(&v);
    const int code = hob_conf_load(config, &conf, &diag);
    if (code < 0) {
        snprintf(mend, sizeof mend, "change that line of %.200s, then: hobctl doctor", config);
        note(&v, "configuration", HOB_FINDING_WRONG, code == HOB_ENOENT ? "hobctl setup" : mend,
             "%s", diag.text);
        return;
    }
    prepare(&v);
    note(&v, "configuration", HOB_FINDING_GOOD, "", "%.300s", config);
    json_t *status = ask_hobd(&v, &diag);
    for (uint32_t i = 0; i < conf.model_count; i++) {
        const uint64_t bytes = check_model(&v, &conf.models[i]);
        usable &= bytes > 0;
        needed += bytes;
    }
    if (usable)
        check_memory(&v, needed);
    check_opencl(&v, choices, count);
    check_helper(&v);
    check_permissions(&v);
    check_certificate(&v);
    if (v.running)
        check_state(&v, status);
    else {
        check_port(&v);
        note_silent(&v, &diag);
    }
    json_decref(status);
}

bool hob_findings_good(const hob_findings *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        if (f->list[i].state == HOB_FINDING_WRONG)
            return false;
    return true;
}
