/* SPDX-License-Identifier: Apache-2.0
 *
 * A file system for SQLite that loses power, or becomes full. Writes go to the real files, and what a sector of 512 bytes held
 * when its file was last synced is remembered. At the chosen write or sync everything fails from then on; torn_apply then gives
 * each sector that was not synced its old or its new content, by chance, and files that had grown any length in between. Or
 * the disk is full from then on, and writes fail until there is room again: those that make a file longer, or all. Registered
 * as the default, over the usual one. Thread: one. */
#ifndef HOB_TESTS_TORN_VFS_H
#define HOB_TESTS_TORN_VFS_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TORN_SECTOR = 512, TORN_FILES = 16 };

typedef struct torn_sector {
    int64_t at;
    uint8_t old[TORN_SECTOR];
} torn_sector;

typedef struct torn_disk { /* what is known of one file */
    char path[256];
    int64_t synced_bytes;
    torn_sector *list;
    size_t count, capacity;
} torn_disk;

typedef struct torn_file {
    sqlite3_file base;
    torn_disk *disk; /* NULL: not the store's or its log's */
    sqlite3_file *real;
} torn_file;

typedef enum torn_failure { TORN_POWER, TORN_NO_GROWTH, TORN_NO_WRITES } torn_failure;

static struct {
    sqlite3_vfs vfs, *real;
    torn_disk disks[TORN_FILES];
    int64_t operations, fail_at; /* fail_at: -1 never */
    torn_failure how;
    bool failing;   /* it has failed */
    bool in_file;   /* which was at work on the store's own file, not its log */
    uint64_t fulls; /* writes for which there was no room */
    sqlite3_io_methods methods;
} torn;

/* False: the power is gone. disk: that is written to, or NULL. */
static inline bool torn_step(const torn_disk *disk)
{
    if (torn.operations++ == torn.fail_at) {
        torn.failing = true;
        torn.in_file = disk && !strstr(disk->path, "-wal");
    }
    return !torn.failing || torn.how != TORN_POWER;
}

static inline sqlite3_file *torn_real(sqlite3_file *f)
{
    return ((torn_file *)f)->real;
}

/* Notes what the sectors hold that are about to be written. */
static inline void torn_remember(torn_file *f, int64_t at, int64_t len)
{
    torn_disk *d = f->disk;
    for (int64_t s = at / TORN_SECTOR * TORN_SECTOR; s < at + len; s += TORN_SECTOR) {
        bool known = s >= d->synced_bytes; /* it did not exist */
        for (size_t i = 0; i < d->count && !known; i++)
            known = d->list[i].at == s;
        if (known)
            continue;
        if (d->count == d->capacity) {
            d->capacity = d->capacity ? 2 * d->capacity : 64;
            d->list = realloc(d->list, d->capacity * sizeof *d->list);
        }
        torn_sector *t = &d->list[d->count++];
        *t = (torn_sector){.at = s};
        (void)torn_real(&f->base)->pMethods->xRead(torn_real(&f->base), t->old, TORN_SECTOR, s);
    }
}

static inline bool torn_is_full(sqlite3_file *f, sqlite3_int64 end)
{
    sqlite3_int64 bytes = 0;
    if (!torn.failing || torn.how == TORN_POWER || !((torn_file *)f)->disk)
        return false;
    (void)torn_real(f)->pMethods->xFileSize(torn_real(f), &bytes);
    const bool full = torn.how == TORN_NO_WRITES || end > bytes;
    torn.fulls += full;
    return full;
}

static inline int torn_write(sqlite3_file *f, const void *data, int len, sqlite3_int64 at)
{
    if (!torn_step(((torn_file *)f)->disk))
        return SQLITE_IOERR_WRITE;
    if (torn_is_full(f, at + len))
        return SQLITE_FULL;
    if (((torn_file *)f)->disk)
        torn_remember((torn_file *)f, at, len);
    return torn_real(f)->pMethods->xWrite(torn_real(f), data, len, at);
}

static inline int torn_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    if (!torn_step(((torn_file *)f)->disk))
        return SQLITE_IOERR_TRUNCATE;
    return torn_real(f)->pMethods->xTruncate(torn_real(f), size);
}

static inline int torn_sync(sqlite3_file *f, int flags)
{
    torn_disk *d = ((torn_file *)f)->disk;
    sqlite3_int64 bytes = 0;
    (void)flags; /* the real one need not be synced: only what is remembered can be lost */
    if (!torn_step(d))
        return SQLITE_IOERR_FSYNC;
    if (d) {
        (void)torn_real(f)->pMethods->xFileSize(torn_real(f), &bytes);
        d->synced_bytes = bytes;
        d->count = 0;
    }
    return SQLITE_OK;
}

static inline int torn_read(sqlite3_file *f, void *to, int len, sqlite3_int64 at)
{
    return torn_real(f)->pMethods->xRead(torn_real(f), to, len, at);
}
static inline int torn_close(sqlite3_file *f)
{
    return torn_real(f)->pMethods->xClose(torn_real(f));
}
static inline int torn_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return torn_real(f)->pMethods->xFileSize(torn_real(f), ret);
}
static inline int torn_lock(sqlite3_file *f, int how)
{
    return torn_real(f)->pMethods->xLock(torn_real(f), how);
}
static inline int torn_unlock(sqlite3_file *f, int how)
{
    return torn_real(f)->pMethods->xUnlock(torn_real(f), how);
}
static inline int torn_check_lock(sqlite3_file *f, int *ret)
{
    return torn_real(f)->pMethods->xCheckReservedLock(torn_real(f), ret);
}
static inline int torn_control(sqlite3_file *f, int what, void *arg)
{
    return torn_real(f)->pMethods->xFileControl(torn_real(f), what, arg);
}
static inline int torn_sector_size(sqlite3_file *f)
{
    (void)f;
    return TORN_SECTOR;
}
static inline int torn_abilities(sqlite3_file *f)
{
    (void)f;
    return 0; /* no write is safe from being torn, or from overwriting its neighbours */
}
static inline int torn_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
    return torn_real(f)->pMethods->xShmMap(torn_real(f), page, size, extend, ret);
}
static inline int torn_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return torn_real(f)->pMethods->xShmLock(torn_real(f), offset, n, flags);
}
static inline void torn_shm_barrier(sqlite3_file *f)
{
    torn_real(f)->pMethods->xShmBarrier(torn_real(f));
}
static inline int torn_shm_unmap(sqlite3_file *f, int remove_it)
{
    return torn_real(f)->pMethods->xShmUnmap(torn_real(f), remove_it);
}

static inline torn_disk *torn_find(const char *path)
{
    for (int i = 0; i < TORN_FILES; i++) {
        torn_disk *d = &torn.disks[i];
        if (!d->path[0])
            snprintf(d->path, sizeof d->path, "%s", path);
        if (strcmp(d->path, path) == 0)
            return d;
    }
    abort();
}

static inline int torn_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                            int *ret_flags)
{
    torn_file *f = (torn_file *)file;
    (void)vfs;
    f->real = (sqlite3_file *)(f + 1);
    f->disk = name && (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)) ? torn_find(name) : NULL;
    const int code = torn.real->xOpen(torn.real, name, f->real, flags, ret_flags);
    f->base.pMethods = f->real->pMethods ? &torn.methods : NULL;
    if (code == SQLITE_OK && f->disk && f->disk->count == 0) {
        struct stat st;
        f->disk->synced_bytes = stat(name, &st) == 0 ? st.st_size : 0;
    }
    return code;
}

static inline int torn_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    return torn_step(NULL) ? torn.real->xDelete(torn.real, name, sync) : SQLITE_IOERR_DELETE;
}

static inline void torn_register(void)
{
    torn.real = sqlite3_vfs_find(NULL);
    torn.vfs = *torn.real;
    torn.vfs.zName = "torn";
    torn.vfs.szOsFile = (int)sizeof(torn_file) + torn.real->szOsFile;
    torn.vfs.xOpen = torn_open;
    torn.vfs.xDelete = torn_delete;
    torn.methods = (sqlite3_io_methods){.iVersion = 2,
                                        .xClose = torn_close,
                                        .xRead = torn_read,
                                        .xWrite = torn_write,
                                        .xTruncate = torn_truncate,
                                        .xSync = torn_sync,
                                        .xFileSize = torn_size,
                                        .xLock = torn_lock,
                                        .xUnlock = torn_unlock,
                                        .xCheckReservedLock = torn_check_lock,
                                        .xFileControl = torn_control,
                                        .xSectorSize = torn_sector_size,
                                        .xDeviceCharacteristics = torn_abilities,
                                        .xShmMap = torn_shm_map,
                                        .xShmLock = torn_shm_lock,
                                        .xShmBarrier = torn_shm_barrier,
                                        .xShmUnmap = torn_shm_unmap};
    (void)sqlite3_vfs_register(&torn.vfs, 1);
}

/* All that is written is safe; the n-th operation from now on fails, -1: none does. */
static inline void torn_begin(torn_failure how, int64_t n)
{
    for (int i = 0; i < TORN_FILES; i++) {
        torn_disk *d = &torn.disks[i];
        struct stat st;
        d->count = 0;
        d->synced_bytes = d->path[0] && stat(d->path, &st) == 0 ? st.st_size : 0;
    }
    torn.operations = 0;
    torn.fail_at = n;
    torn.how = how;
    torn.failing = torn.in_file = false;
}

/* What the disk is left with. draw: a random number below its argument. The files are closed. */
static inline void torn_apply(uint32_t (*draw)(uint32_t below))
{
    for (int i = 0; i < TORN_FILES; i++) {
        torn_disk *d = &torn.disks[i];
        struct stat st;
        FILE *f = d->path[0] && stat(d->path, &st) == 0 ? fopen(d->path, "r+b") : NULL;
        if (!f)
            continue;
        for (size_t k = 0; k < d->count; k++)
            if (draw(2)) {
                (void)fseek(f, (long)d->list[k].at, SEEK_SET);
                (void)fwrite(d->list[k].old, 1, TORN_SECTOR, f);
            }
        for (int64_t at = d->synced_bytes; at < st.st_size; at += TORN_SECTOR)
            if (draw(2)) { /* written past the end: zeros where it did not arrive */
                static const uint8_t zeros[TORN_SECTOR];
                (void)fseek(f, (long)at, SEEK_SET);
                (void)fwrite(zeros, 1, TORN_SECTOR, f);
            }
        fclose(f);
        if (st.st_size > d->synced_bytes) {
            const int64_t more = st.st_size - d->synced_bytes;
            (void)!truncate(d->path, d->synced_bytes + (draw(2) ? more : draw((uint32_t)more)));
        }
    }
}

#endif
