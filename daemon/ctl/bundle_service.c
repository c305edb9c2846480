/* SPDX-License-Identifier: Apache-2.0
 *
 * How hobd comes to use an installed version: packages, restart, readiness. A command's output goes to standard error;
 * standard output is for the result. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/ctl/bundle.h"
#include "daemon/ctl/client.h"

enum {
    LOOK_MS = 250,    /* between two looks at /readyz */
    ANSWER_MS = 5000, /* for one answer */
    WORDS_MAX = 8 + HOB_BUNDLE_FILES_MAX,
};

int hob_bundle_service_resolve(hob_bundle_service *s, hob_diag *diag)
{
    if (s->restart && s->no_restart)
        return hob_fail(diag, HOB_EINVAL, "--restart and --no-restart: one of them is allowed");
    if (!s->restart && !s->no_restart && access("/run/systemd/system", F_OK) == 0)
        s->restart = "systemctl restart hob";
    return 0;
}

/* ---- commands ---- */

/* Runs a program to its end, in the folder `cwd` (-1: here). HOB_EIO with what it was. */
static int run(const char *const *argv, int cwd, hob_diag *diag)
{
    int status;
    fflush(NULL);
    const pid_t pid = fork();
    if (pid < 0)
        return hob_fail(diag, HOB_EIO, "%s cannot be started: %s", argv[0], strerror(errno));
    if (pid == 0) {
        if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || (cwd >= 0 && fchdir(cwd) != 0))
            _exit(126);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return hob_fail(diag, HOB_EIO, "%s: %s", argv[0], strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return hob_fail(diag, HOB_EIO, "%s %s %d", argv[0],
                    WIFEXITED(status) ? "ended with status" : "was ended by signal",
                    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static bool ends_with(const char *name, const char *end)
{
    const size_t len = strlen(name), n = strlen(end);
    return len > n && strcmp(name + len - n, end) == 0;
}

static bool is_there(const char *program)
{
    static const char *const folders[] = {"/usr/bin", "/bin", "/usr/sbin"};
    char path[64];
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%s/%s", folders[i], program);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

/* The packages of this system's kind, by one call that sorts out what depends on what. They are named from the version's
 * folder, which is held open: nobody can put another in its place. */
static int run_packager(int folder, const hob_bundle *head, hob_diag *diag)
{
    static const char *const dpkg[] = {"dpkg", "--force-confdef", "--force-confold", "--install"},
                             *const rpm[] = {"rpm", "--upgrade", "--oldpackage", "--replacepkgs"};
    const bool debian = is_there("dpkg");
    char paths[HOB_BUNDLE_FILES_MAX][HOB_BUNDLE_NAME_MAX + 16];
    const char *argv[WORDS_MAX];
    int words = 0, found = 0;
    for (int i = 0; i < 4; i++)
        argv[words++] = debian ? dpkg[i] : rpm[i];
    for (uint32_t i = 0; i < head->count; i++)
        if (ends_with(head->files[i].name, debian ? ".deb" : ".rpm")) {
            snprintf(paths[found], sizeof paths[found], "./packages/%s", head->files[i].name);
            argv[words++] = paths[found++];
        }
    argv[words] = NULL;
    return found > 0 ? run(argv, folder, diag) : 0;
}

static int install_packages(const hob_bundle_folder *f, hob_bundle_key *key, hob_diag *diag)
{
    hob_bundle head;
    int code = hob_bundle_folder_head(f, f->current, key, &head, diag);
    if (code < 0)
        return code;
    if ((code = hob_bundle_folder_check(f, f->current, &head, HOB_BUNDLE_PACKAGE, diag)) == 0) {
        const int folder = hob_bundle_folder_version_fd(f, f->current, diag);
        code = folder < 0 ? folder : run_packager(folder, &head, diag);
        if (folder >= 0)
            close(folder);
    }
    hob_bundle_close(&head);
    return code;
}

/* ---- readiness ---- */

/* The process that answers on the admin socket; 0: none does. */
static long long ask_pid(const hob_server *server)
{
    json_t *answer = NULL;
    hob_call call = {.method = "GET", .path = "/hob/v1/admin/status", .limit_ms = ANSWER_MS};
    if (access(server->socket, F_OK) != 0 || hob_client_json(server, &call, &answer, NULL) < 0)
        return 0;
    const long long pid = hob_json_number(answer, "pid");
    json_decref(answer);
    return pid;
}

static int drop_body(void *user, const char *data, size_t len)
{
    (void)user;
    (void)data;
    (void)len;
    return 0;
}

static bool is_ready(const hob_server *server)
{
    const hob_call call = {
        .method = "GET", .path = "/readyz", .limit_ms = ANSWER_MS, .sink = drop_body};
    int status = 0;
    return hob_client_call(server, &call, &status, NULL) == 0 && status == 200;
}

/* Until another process than `before` is ready. */
static int wait_ready(const hob_server *server, long long before, uint32_t seconds, hob_diag *diag)
{
    const uint64_t end = hob_now_us() + seconds * (uint64_t)1000000;
    long long pid = 0;
    do {
        pid = ask_pid(server);
        if (pid != 0 && pid != before && is_ready(server))
            return 0;
        poll(NULL, 0, LOOK_MS);
    } while (hob_now_us() < end);
    return hob_fail(diag, HOB_EIO, "hobd is not ready after %u s: %s", seconds,
                    pid == 0        ? "it does not answer on its admin socket"
                    : pid == before ? "it was not restarted"
                                    : "a model is not loaded (hobctl logs)");
}

int hob_bundle_service_apply(const hob_bundle_service *s, const hob_bundle_folder *f,
                             hob_bundle_key *key, hob_diag *diag)
{
    hob_server server;
    const char *const shell[] = {"sh", "-c", s->restart, NULL};
    int code = hob_server_find_socket(s->socket, &server, diag);
    if (code < 0)
        return code;
    const long long before = s->restart ? ask_pid(&server) : 0;
    if (s->packages && (code = install_packages(f, key, diag)) < 0)
        return code;
    if (!s->restart)
        return HOB_ECANCELED;
    if ((code = run(shell, -1, diag)) < 0)
        return code;
    return wait_ready(&server, before, s->ready_s, diag);
}
