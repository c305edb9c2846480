/* SPDX-License-Identifier: Apache-2.0
 *
 * What an engine and an extractor may ask of the kernel. Model files and documents are untrusted input: should a parser
 * or kernel have a hole, the code that gets in finds no network, no files but its own model, and no way to start a
 * program. Landlock bounds the paths, seccomp the calls; a call that is not listed fails with EPERM, so that a library's
 * fallback can work.
 *
 * An extractor's helper has to be executed inside its filter. Landlock lets it execute that program and the loader only.
 * seccomp cannot read a path, so it allows execveat by one descriptor, which closes as the program starts and whose number
 * is past the helper's limit of open files: nothing can take its place. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/engine/sandbox.h"

static const uint64_t all_access =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
    LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM;

static int allow_path(int ruleset, const char *path, uint64_t access)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return -1;
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    int rc = (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    close(fd);
    return rc;
}

static int enter_landlock(hob_sandbox_for what, const char *readable, const char *cache,
                          hob_diag *diag)
{
    const long version =
        syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    /* Files may move from folder to folder only where the kernel knows that right. */
    const uint64_t move = version >= 2 ? LANDLOCK_ACCESS_FS_REFER : 0;
    const uint64_t look = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
                   execute = what == HOB_SANDBOX_COMPILER ? LANDLOCK_ACCESS_FS_EXECUTE : 0,
                   program = LANDLOCK_ACCESS_FS_READ_FILE |
                             (what == HOB_SANDBOX_HELPER ? LANDLOCK_ACCESS_FS_EXECUTE : 0);
    const bool driver = what == HOB_SANDBOX_DRIVER || what == HOB_SANDBOX_COMPILER,
               engine = driver || what == HOB_SANDBOX_CPU, helper = what == HOB_SANDBOX_HELPER;
    const struct {
        const char *path;
        uint64_t access;
        bool wanted, needed;
    } rules[] = {
        {readable, program, readable, true},
        {"/proc", look, engine, true},
        {"/sys", look, engine, true},
        {"/usr", look | execute, driver, true},
        {"/lib", look | execute, driver || helper, false},
        {"/lib64", look | execute, driver || helper, false},
        {"/etc", look, driver, false},
        {"/opt", look, driver, false}, /* where some vendors put their drivers */
        {"/dev", look | LANDLOCK_ACCESS_FS_WRITE_FILE, driver, true},
        {cache, (all_access & ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE) | move, driver && cache,
         false},
        {"/lib64/ld-linux-x86-64.so.2", program, helper, false},
        {"/lib/ld-linux-aarch64.so.1", program, helper, false},
        {"/usr/lib", look, helper, false},
        {"/usr/local/lib", look, helper, false},
        {"/usr/share", look, helper, false}, /* fonts and the tables of CJK encodings */
        {"/etc/ld.so.cache", LANDLOCK_ACCESS_FS_READ_FILE, helper, false},
        {"/etc/fonts", look, helper, false},
    };
    struct landlock_ruleset_attr attr = {.handled_access_fs = all_access | move};
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (ruleset < 0)
        return errno == ENOSYS || errno == EOPNOTSUPP
                   ? 0
                   : hob_fail(diag, HOB_EIO, "sandbox: landlock: %s", strerror(errno));
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wanted && allow_path(ruleset, rules[i].path, rules[i].access) < 0 &&
            rules[i].needed)
            rc = hob_fail(diag, HOB_EIO, "%s: %s", rules[i].path, strerror(errno));
    if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
        rc = hob_fail(diag, HOB_EIO, "sandbox: landlock: %s", strerror(errno));
    close(ruleset);
    return rc;
}

/* What glibc, the thread pool, the file map and the socketpair need, and nothing that reaches another process. */
static const int allowed[] = {
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(stat),
    SCMP_SYS(statx),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(getdents64),
    SCMP_SYS(fcntl),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(eventfd2),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(shutdown),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(mincore),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(getcpu),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(getrlimit),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(arch_prctl),
};

/* What an OpenCL driver needs besides: its device, its caches, and memory for code. */
static const int for_drivers[] = {
    SCMP_SYS(ioctl),
    SCMP_SYS(openat),
    SCMP_SYS(open),
    SCMP_SYS(mmap),
    SCMP_SYS(mprotect),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rmdir),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(pwrite64),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(flock),
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(utimensat),
    SCMP_SYS(umask),
    SCMP_SYS(lstat),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(getcwd),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(memfd_create),
    SCMP_SYS(membarrier),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(prlimit64),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(get_mempolicy),
    SCMP_SYS(set_mempolicy),
    SCMP_SYS(mbind),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(set_tid_address),
};

/* To run a linker and wait for it. */
static const int for_compilers[] = {SCMP_SYS(execve), SCMP_SYS(vfork), SCMP_SYS(fork),
                                    SCMP_SYS(wait4), SCMP_SYS(waitid)};

/* To read a document that is in memory and write what it says to a descriptor that is open. */
static const int for_documents[] = {
    SCMP_SYS(newfstatat),     SCMP_SYS(read),
    SCMP_SYS(pread64),        SCMP_SYS(write),
    SCMP_SYS(writev),         SCMP_SYS(close),
    SCMP_SYS(lseek),          SCMP_SYS(fstat),
    SCMP_SYS(poll),           SCMP_SYS(ppoll),
    SCMP_SYS(munmap),         SCMP_SYS(mremap),
    SCMP_SYS(madvise),        SCMP_SYS(brk),
    SCMP_SYS(futex),          SCMP_SYS(wait4),
    SCMP_SYS(gettid),         SCMP_SYS(getpid),
    SCMP_SYS(sched_yield),    SCMP_SYS(clock_gettime),
    SCMP_SYS(rt_sigaction),   SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(sigaltstack),
    SCMP_SYS(getrandom),      SCMP_SYS(exit),
    SCMP_SYS(exit_group),     SCMP_SYS(restart_syscall),
};

/* What its loader, C++ library and own code need besides to read libraries, fonts and its standard input. */
static const int for_helpers[] = {
    SCMP_SYS(readv),     SCMP_SYS(newfstatat), SCMP_SYS(stat),         SCMP_SYS(lstat),
    SCMP_SYS(statx),     SCMP_SYS(access),     SCMP_SYS(faccessat),    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),  SCMP_SYS(readlinkat), SCMP_SYS(fcntl),        SCMP_SYS(getdents64),
    SCMP_SYS(getcwd),    SCMP_SYS(uname),      SCMP_SYS(sysinfo),      SCMP_SYS(set_tid_address),
    SCMP_SYS(rseq),      SCMP_SYS(arch_prctl), SCMP_SYS(getppid),      SCMP_SYS(set_robust_list),
    SCMP_SYS(prlimit64), SCMP_SYS(getrusage),  SCMP_SYS(getuid),       SCMP_SYS(geteuid),
    SCMP_SYS(getgid),    SCMP_SYS(getegid),    SCMP_SYS(dup),          SCMP_SYS(sched_getaffinity),
    SCMP_SYS(statfs),    SCMP_SYS(fstatfs),    SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday),
};

static int allow_all(scmp_filter_ctx f, const int *calls, size_t count)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
    return rc;
}
#define ALLOW_ALL(f, calls) allow_all(f, calls, sizeof(calls) / sizeof *(calls))

static int allow_reading(scmp_filter_ctx f) /* files are opened for reading only */
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
                            SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
}

static int allow_memory(scmp_filter_ctx f) /* but no new executable memory */
{
    const int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                    SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    return rc < 0 ? rc
                  : seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                                     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* Threads, and processes where `processes`, in the namespaces that there are: new ones would make it root of its own. clone3
 * has its flags in memory, where no filter sees them; told that it is missing, glibc takes clone. */
static int allow_starting(scmp_filter_ctx f, bool processes)
{
    const uint64_t spaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET,
                   thread = processes ? 0 : CLONE_THREAD;
    const int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                    SCMP_A0(SCMP_CMP_MASKED_EQ, spaces | thread, thread));
    return rc < 0 ? rc : seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

static int allow_own_signals(
    scmp_filter_ctx f) /* abort() and the like; a child's are not its own */
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
}

static int allow_naming(scmp_filter_ctx f) /* threads and memory */
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
                            SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
}

/* Which is how glibc asks about a descriptor. */
static int allow_stat(scmp_filter_ctx f)
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                            SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH));
}

static int allow_helper(scmp_filter_ctx f)
{
    int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(execveat), 2,
                              SCMP_A0(SCMP_CMP_EQ, HOB_SANDBOX_PROGRAM_FD),
                              SCMP_A4(SCMP_CMP_EQ, AT_EMPTY_PATH));
    /* The loader maps code, which is a file's and not writable. */
    if (rc == 0)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2,
                              SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_WRITE | PROT_EXEC, PROT_EXEC),
                              SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0));
    return rc;
}

static int add_rules(scmp_filter_ctx f, hob_sandbox_for what)
{
    int rc = allow_own_signals(f);
    if (rc < 0)
        return HOB_EIO;
    switch (what) {
    case HOB_SANDBOX_CPU:
        rc = ALLOW_ALL(f, allowed) || allow_starting(f, false) || allow_reading(f) ||
             allow_memory(f) || allow_naming(f);
        break;
    case HOB_SANDBOX_DRIVER:
        rc = ALLOW_ALL(f, allowed) || ALLOW_ALL(f, for_drivers) || allow_starting(f, true) ||
             allow_naming(f);
        break;
    case HOB_SANDBOX_COMPILER:
        rc = ALLOW_ALL(f, allowed) || ALLOW_ALL(f, for_drivers) || ALLOW_ALL(f, for_compilers) ||
             allow_starting(f, true) || allow_naming(f);
        break;
    case HOB_SANDBOX_DOCUMENT:
        rc = ALLOW_ALL(f, for_documents) || allow_memory(f) || allow_stat(f);
        break;
    case HOB_SANDBOX_HELPER:
        rc = ALLOW_ALL(f, for_documents) || ALLOW_ALL(f, for_helpers) || allow_reading(f) ||
             allow_memory(f) || allow_helper(f);
        break;
    }
    return rc ? HOB_EIO : 0;
}

static int enter_seccomp(hob_sandbox_for what, hob_diag *diag)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!f)
        return hob_fail(diag, HOB_EIO, "sandbox: seccomp: no memory");
    int rc = add_rules(f, what);
    if (rc < 0)
        hob_fail(diag, HOB_EIO, "sandbox: seccomp: a rule is refused");
    else if ((rc = seccomp_load(f)) < 0)
        hob_fail(diag, HOB_EIO, "sandbox: seccomp: %s", strerror(-rc));
    seccomp_release(f);
    return rc < 0 ? HOB_EIO : 0;
}

int hob_sandbox_enter(hob_sandbox_for what, const char *readable, const char *cache, hob_diag *diag)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return hob_fail(diag, HOB_EIO, "sandbox: no_new_privs: %s", strerror(errno));
    int rc = enter_landlock(what, readable, cache, diag);
    return rc < 0 ? rc : enter_seccomp(what, diag);
}
