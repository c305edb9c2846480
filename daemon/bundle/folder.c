/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder of installed bundles. See folder.h. */
#include "daemon/bundle/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "daemon/bundle/private.h"

enum {
    DEPTH_MAX = 4,              /* of what is removed: version, kind, file */
    BLOCKS_BYTES = 1024 * 1024, /* that folders and small files take beside the bundle's own */
};

static const char current[] = "current", current_new[] = ".current.new", new_folder[] = ".new",
                  old_folder[] = ".old", head_file[] = "bundle.head";

static int fail_errno(hob_diag *diag, const char *what)
{
    return hob_fail(diag, errno == ENOSPC || errno == EDQUOT ? HOB_ENOSPC : HOB_EIO,
                    "bundles: %.100s: %s", what, strerror(errno));
}

/* ---- opening ---- */

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int hob_bundle_folder_version_fd(const hob_bundle_folder *f, const char *name, hob_diag *diag)
{
    const int fd = open_folder(f->fd, name);
    return fd >= 0 ? fd : fail_errno(diag, name);
}

static int read_current(hob_bundle_folder *f, hob_diag *diag)
{
    struct stat st;
    char target[sizeof f->current];
    const ssize_t n = readlinkat(f->fd, current, target, sizeof target);
    if (n < 0 && errno == ENOENT) {
        f->current[0] = 0;
        return 0;
    }
    if (n < 0)
        return fail_errno(diag, current);
    if ((size_t)n < sizeof target)
        target[n] = 0;
    if ((size_t)n >= sizeof target || !hob_bundle_folder_ok(target))
        return hob_fail(diag, HOB_EFORMAT, "bundles: current names no version");
    if (fstatat(f->fd, target, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
        return hob_fail(diag, HOB_EFORMAT, "bundles: current names %s, which is not there", target);
    snprintf(f->current, sizeof f->current, "%s", target);
    return 0;
}

int hob_bundle_folder_open(const char *path, bool change, hob_bundle_folder *ret, hob_diag *diag)
{
    struct stat st;
    hob_bundle_folder f = {.fd = -1};
    int code = 0;
    if (change && mkdir(path, 0755) != 0 && errno != EEXIST)
        return hob_fail(diag, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%.150s: %s", path,
                        strerror(errno));
    f.fd = open_folder(AT_FDCWD, path);
    if (f.fd < 0 || fstat(f.fd, &st) != 0)
        code = hob_fail(diag, errno == ENOENT ? HOB_ENOENT : HOB_EIO, "%.150s: %s", path,
                        strerror(errno));
    else if (change && (st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))))
        code =
            hob_fail(diag, HOB_EINVAL,
                     "%.150s: it is user %u's with mode %o, allowed is one that only user %u may "
                     "write",
                     path, (unsigned)st.st_uid, (unsigned)st.st_mode & 0777, (unsigned)geteuid());
    else if (flock(f.fd, (change ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0)
        code = errno == EWOULDBLOCK
                   ? hob_fail(diag, HOB_ELIMIT, "%.150s: another hobctl bundle works there", path)
                   : hob_fail(diag, HOB_EIO, "%.150s: %s", path, strerror(errno));
    else
        code = read_current(&f, diag);
    if (code < 0) {
        hob_bundle_folder_close(&f);
        return code;
    }
    *ret = f;
    return 0;
}

void hob_bundle_folder_close(hob_bundle_folder *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

/* ---- looking ---- */

int hob_bundle_folder_admit(const hob_bundle_folder *f, const char *version, bool again,
                            hob_diag *diag)
{
    char installed[HOB_BUNDLE_VERSION_MAX + 1];
    if (!f->current[0])
        return 0;
    hob_bundle_folder_version(f->current, installed);
    const int order = hob_bundle_version_compare(version, installed);
    if (order > 0 || (order == 0 && again))
        return 0;
    return hob_fail(diag, HOB_EOLD,
                    order < 0 ? "got version %s, installed is %s: an older one is never installed"
                              : "got version %s, installed is %s: --again installs it once more",
                    version, installed);
}

/* Calls visit with each version's folder; a negative result ends it. */
typedef int visit_folder(void *user, const char *name, hob_diag *diag);

static int each_folder(const hob_bundle_folder *f, visit_folder *visit, void *user, hob_diag *diag)
{
    const int fd = open_folder(f->fd, ".");
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int code = 0;
    if (!dir) {
        code = fail_errno(diag, "cannot be listed");
        if (fd >= 0)
            close(fd);
        return code;
    }
    for (struct dirent *e; code == 0 && (e = readdir(dir));)
        if (strlen(e->d_name) <= HOB_BUNDLE_FOLDER_MAX && hob_bundle_folder_ok(e->d_name))
            code = visit(user, e->d_name, diag);
    closedir(dir);
    return code;
}

typedef struct search {
    const char *below;
    char best[HOB_BUNDLE_FOLDER_MAX + 1]; /* "": none */
} search;

static int look_below(void *user, const char *name, hob_diag *diag)
{
    search *s = user;
    (void)diag;
    if (hob_bundle_folder_compare(name, s->below) < 0 &&
        (!s->best[0] || hob_bundle_folder_compare(name, s->best) > 0))
        snprintf(s->best, sizeof s->best, "%s", name);
    return 0;
}

int hob_bundle_folder_before(const hob_bundle_folder *f, char ret_name[HOB_BUNDLE_FOLDER_MAX + 1],
                             hob_diag *diag)
{
    search s = {.below = f->current};
    if (!f->current[0])
        return hob_fail(diag, HOB_ENOENT, "bundles: nothing is installed");
    const int code = each_folder(f, look_below, &s, diag);
    if (code < 0)
        return code;
    if (!s.best[0])
        return hob_fail(diag, HOB_ENOENT, "bundles: nothing older than %s is installed",
                        f->current);
    memcpy(ret_name, s.best, sizeof s.best);
    return 0;
}

int hob_bundle_folder_head(const hob_bundle_folder *f, const char *name, hob_bundle_key *key,
                           hob_bundle *ret, hob_diag *diag)
{
    hob_diag why = {""};
    const int folder = hob_bundle_folder_version_fd(f, name, diag);
    if (folder < 0)
        return folder;
    const int fd = openat(folder, head_file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    close(folder);
    if (fd < 0)
        return fail_errno(diag, head_file);
    const int code = hob_bundle_open_fd(fd, true, key, ret, &why);
    return code < 0 ? hob_fail(diag, code, "%s: %s", name, why.text) : 0;
}

/* A version's folder, and in it that of a kind; -1 with errno. */
static int open_kind(int version, hob_bundle_kind kind)
{
    return open_folder(version, hob_bundle_kind_folder(kind));
}

int hob_bundle_folder_check(const hob_bundle_folder *f, const char *name, const hob_bundle *head,
                            hob_bundle_kind kind, hob_diag *diag)
{
    const int version = hob_bundle_folder_version_fd(f, name, diag);
    int code = version < 0 ? version : 0;
    for (uint32_t i = 0; i < head->count && code == 0; i++) {
        const hob_bundle_file *file = &head->files[i];
        if (kind != HOB_BUNDLE_KINDS && file->kind != kind)
            continue;
        const int folder = open_kind(version, file->kind);
        const int fd =
            folder < 0 ? -1
                       : openat(folder, file->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        code = fd < 0 ? fail_errno(diag, file->name) : hob_bundle_check_file(head, i, fd, diag);
        if (fd >= 0)
            close(fd);
        if (folder >= 0)
            close(folder);
    }
    if (version >= 0)
        close(version);
    return code;
}

/* ---- removing ---- */

static int remove_tree(int at, const char *name, int depth)
{
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR || depth == 0)
        return -1;
    const int fd = open_folder(at, name);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    int code = dir ? 0 : -1;
    if (!dir && fd >= 0)
        close(fd);
    for (struct dirent *e; code == 0 && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            code = remove_tree(dirfd(dir), e->d_name, depth - 1);
    if (dir)
        closedir(dir);
    return code == 0 ? unlinkat(at, name, AT_REMOVEDIR) : code;
}

/* One that is half removed has no version's name. */
static int remove_version(int at, const char *name, hob_diag *diag)
{
    return remove_tree(at, old_folder, DEPTH_MAX) == 0 && renameat(at, name, at, old_folder) == 0 &&
                   fsync(at) == 0 && remove_tree(at, old_folder, DEPTH_MAX) == 0
               ? 0
               : fail_errno(diag, name);
}

typedef struct removal {
    const hob_bundle_folder *f;
    const char *kept; /* below the current one */
    bool above;       /* those above it, else those below */
} removal;

static int remove_some(void *user, const char *name, hob_diag *diag)
{
    const removal *r = user;
    const int order = r->f->current[0] ? hob_bundle_folder_compare(name, r->f->current) : 1;
    return (r->above ? order > 0 : order < 0 && strcmp(name, r->kept) != 0)
               ? remove_version(r->f->fd, name, diag)
               : 0;
}

int hob_bundle_folder_prune(hob_bundle_folder *f, hob_diag *diag)
{
    char kept[HOB_BUNDLE_FOLDER_MAX + 1];
    const removal r = {.f = f, .kept = kept};
    const int code = hob_bundle_folder_before(f, kept, diag);
    if (code < 0)
        return code == HOB_ENOENT ? 0 : code;
    return each_folder(f, remove_some, (void *)(uintptr_t)&r, diag);
}

/* What an installation that was stopped has left, and what was rolled back from. */
static int remove_leftovers(hob_bundle_folder *f, hob_diag *diag)
{
    const removal r = {.f = f, .kept = "", .above = true};
    if (remove_tree(f->fd, new_folder, DEPTH_MAX) != 0 ||
        remove_tree(f->fd, old_folder, DEPTH_MAX) != 0 || remove_tree(f->fd, current_new, 0) != 0)
        return fail_errno(diag, "what is left of an earlier attempt cannot be removed");
    return each_folder(f, remove_some, (void *)(uintptr_t)&r, diag);
}

/* ---- unpacking ---- */

static int check_room(int fd, const hob_bundle *b, hob_diag *diag)
{
    struct statvfs v;
    uint64_t needed = b->bytes + BLOCKS_BYTES;
    if (fstatvfs(fd, &v) != 0)
        return fail_errno(diag, "free space");
    const uint64_t block = v.f_frsize ? v.f_frsize : 1, room = v.f_bavail;
    needed += b->count * 2 * block; /* each is rounded up, and may have a file beside it */
    return room >= needed / block + 1
               ? 0
               : hob_fail(diag, HOB_ENOSPC, "bundles: %llu MB are free, %llu are needed",
                          (unsigned long long)(room * block / 1000000),
                          (unsigned long long)(needed / 1000000));
}

/* A new file; negative as ever. */
static int create_file(int folder, const char *name, mode_t mode, hob_diag *diag)
{
    const int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    return fd >= 0 ? fd : fail_errno(diag, name);
}

/* Syncs and closes it after `code`, which counts if it is negative; mode: whatever the umask is. */
static int finish_file(int fd, const char *name, mode_t mode, int code, hob_diag *diag)
{
    if (code == 0 && (fchmod(fd, mode) != 0 || fsync(fd) != 0))
        code = fail_errno(diag, name);
    close(fd);
    return code;
}

static int put_file(int folder, const char *name, const void *data, size_t len, hob_diag *diag)
{
    const int fd = create_file(folder, name, 0644, diag);
    return fd < 0 ? fd
                  : finish_file(fd, name, 0644, hob_bundle_write_all(fd, data, len, diag), diag);
}

/* The digest that an engine checks when it loads a model. */
static int put_digest(int folder, const hob_bundle_file *file, hob_diag *diag)
{
    char name[sizeof file->name + 8], hex[HOB_DIGEST_TEXT],
        text[HOB_DIGEST_TEXT + sizeof file->name + 4];
    hob_digest_text(file->sha256, hex);
    snprintf(name, sizeof name, "%s.sha256", file->name);
    const int len = snprintf(text, sizeof text, "%s  %s\n", hex, file->name);
    return put_file(folder, name, text, (size_t)len, diag);
}

static int sync_folder(int at, const char *name, hob_diag *diag)
{
    const int fd = open_folder(at, name);
    const int code = fd >= 0 && fsync(fd) == 0 ? 0 : fail_errno(diag, name);
    if (fd >= 0)
        close(fd);
    return code;
}

static int make_folder(int at, const char *name, mode_t mode)
{
    if (mkdirat(at, name, mode) != 0)
        return errno == EEXIST ? 0 : -1;
    return fchmodat(at, name, mode, 0);
}

static int unpack_file(int version, const hob_bundle *b, uint32_t i, hob_diag *diag)
{
    const hob_bundle_file *file = &b->files[i];
    const char *kind = hob_bundle_kind_folder(file->kind);
    /* A copy of a store holds documents and hashes of keys. */
    const bool secret = file->kind == HOB_BUNDLE_COLLECTION;
    const int folder =
        make_folder(version, kind, secret ? 0700 : 0755) == 0 ? open_kind(version, file->kind) : -1;
    if (folder < 0)
        return fail_errno(diag, kind);
    const mode_t mode = secret ? 0600 : 0644;
    const int fd = create_file(folder, file->name, mode, diag);
    int code =
        fd < 0 ? fd : finish_file(fd, file->name, mode, hob_bundle_copy(b, i, fd, diag), diag);
    if (code == 0 && file->kind == HOB_BUNDLE_MODEL)
        code = put_digest(folder, file, diag);
    close(folder);
    return code;
}

static int unpack_all(int version, const hob_bundle *b, hob_diag *diag)
{
    int code = 0;
    for (uint32_t i = 0; i < b->count && code == 0; i++)
        code = unpack_file(version, b, i, diag);
    for (int kind = 0; kind < HOB_BUNDLE_KINDS && code == 0; kind++)
        if (faccessat(version, hob_bundle_kind_folder((hob_bundle_kind)kind), F_OK, 0) == 0)
            code = sync_folder(version, hob_bundle_kind_folder((hob_bundle_kind)kind), diag);
    if (code == 0)
        code = put_file(version, head_file, b->head, b->head_bytes, diag);
    if (code == 0 && fsync(version) != 0)
        code = fail_errno(diag, new_folder);
    return code;
}

int hob_bundle_folder_unpack(hob_bundle_folder *f, const hob_bundle *b,
                             char ret_name[HOB_BUNDLE_FOLDER_MAX + 1], hob_diag *diag)
{
    char name[HOB_BUNDLE_FOLDER_MAX + 1], installed[HOB_BUNDLE_VERSION_MAX + 1];
    int code = remove_leftovers(f, diag);
    if (code < 0 || (code = check_room(f->fd, b, diag)) < 0)
        return code;
    snprintf(name, sizeof name, "%s", b->version);
    hob_bundle_folder_version(f->current, installed);
    if (f->current[0] && hob_bundle_version_compare(installed, b->version) == 0) {
        const char *mark = strchr(f->current, '#');
        snprintf(name, sizeof name, "%s#%ld", b->version, mark ? atol(mark + 1) + 1 : 2);
    }
    const int version =
        make_folder(f->fd, new_folder, 0755) == 0 ? open_folder(f->fd, new_folder) : -1;
    if (version < 0)
        return fail_errno(diag, new_folder);
    code = unpack_all(version, b, diag);
    close(version);
    if (code == 0 && (renameat(f->fd, new_folder, f->fd, name) != 0 || fsync(f->fd) != 0))
        code = fail_errno(diag, name);
    if (code < 0)
        (void)remove_tree(f->fd, new_folder, DEPTH_MAX);
    else
        memcpy(ret_name, name, sizeof name);
    return code;
}

int hob_bundle_folder_switch(hob_bundle_folder *f, const char *name, hob_diag *diag)
{
    if (remove_tree(f->fd, current_new, 0) != 0 || symlinkat(name, f->fd, current_new) != 0 ||
        renameat(f->fd, current_new, f->fd, current) != 0 || fsync(f->fd) != 0)
        return fail_errno(diag, current);
    snprintf(f->current, sizeof f->current, "%s", name);
    return 0;
}
