/* SPDX-License-Identifier: Apache-2.0
 *
 * See spawn.h. */
#include "daemon/engine/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <unistd.h>

extern char **environ;

/* Copies of the descriptors where none of them is a place that another one goes to. */
enum { ASIDE = 64 };

static int add_files(posix_spawn_file_actions_t *files, const int *aside, int count, bool quiet)
{
    int rc = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    for (int fd = STDOUT_FILENO; quiet && fd <= STDERR_FILENO; fd++)
        rc |= posix_spawn_file_actions_addopen(files, fd, "/dev/null", O_WRONLY, 0);
    for (int i = 0; i < count; i++)
        rc |= posix_spawn_file_actions_adddup2(files, aside[i], HOB_SPAWN_FD + i);
    return rc | posix_spawn_file_actions_addclosefrom_np(files, HOB_SPAWN_FD + count);
}

static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, defaults;
    sigemptyset(&none);
    sigfillset(&defaults);
    int rc = posix_spawnattr_setsigmask(attributes, &none);
    rc |= posix_spawnattr_setsigdefault(attributes, &defaults);
    /* A group of its own: Ctrl-C at the terminal is for the parent. */
    rc |= posix_spawnattr_setpgroup(attributes, 0);
    return rc |
           posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                    POSIX_SPAWN_SETPGROUP);
}

/* Raising it needs no privilege; below what the parent has, or where /proc cannot be written, the child keeps the parent's. */
static void set_oom_score(pid_t pid, int score)
{
    char path[48], text[16];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    const int n = snprintf(text, sizeof text, "%d", score), fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)!write(fd, text, (size_t)n);
    close(fd);
}

int hob_spawn_self(const char *const *argv, const int *fds, int count, bool quiet, int oom_score,
                   pid_t *ret)
{
    static char locale[] = "LC_ALL=C.UTF-8";
    char *const bare[] = {locale, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    int aside[HOB_SPAWN_FDS_MAX], made = 0, rc = 0;

    if (posix_spawn_file_actions_init(&files) != 0)
        return HOB_ENOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        posix_spawn_file_actions_destroy(&files);
        return HOB_ENOMEM;
    }
    for (; rc == 0 && made < count; made++) {
        aside[made] = fcntl(fds[made], F_DUPFD_CLOEXEC, ASIDE);
        if (aside[made] < 0) {
            rc = errno;
            break;
        }
    }
    if (rc == 0 && (add_files(&files, aside, count, quiet) | set_attributes(&attributes)) != 0)
        rc = ENOMEM;
    if (rc == 0)
        rc = posix_spawn(ret, "/proc/self/exe", &files, &attributes, (char *const *)(uintptr_t)argv,
                         quiet ? bare : environ);
    if (rc == 0)
        set_oom_score(*ret, oom_score);
    while (made-- > 0)
        close(aside[made]);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    if (rc != 0)
        errno = rc;
    return rc == 0 ? 0 : HOB_EIO;
}
