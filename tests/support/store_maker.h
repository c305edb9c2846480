/* SPDX-License-Identifier: Apache-2.0
 *
 * A store in a folder of its own, with two tenants and keys to them, for tests. Include after cmocka.h. */
#ifndef HOB_TESTS_STORE_MAKER_H
#define HOB_TESTS_STORE_MAKER_H

#include "daemon/store/attachment_table.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct made_store {
    char dir[64], path[80];
    hob_store *store;
    sqlite3 *db;
    hob_scope mine, theirs; /* two tenants, all collections */
    uint32_t serial;
} made_store;

/* Runs code and tells what it said. */
#define ok(code_)                                                                                  \
    do {                                                                                           \
        const int code__ = (code_);                                                                \
        if (code__ < 0)                                                                            \
            fail_msg("line %d: %d: %s", __LINE__, code__, diag.text);                              \
    } while (0)

static inline hob_scope made_scope(made_store *m, const char *tenant, const char *label)
{
    hob_diag diag = {""};
    hob_key_record r = {.all_models = true, .all_collections = true, .created_s = 1};
    snprintf(r.label, sizeof r.label, "%s", label);
    snprintf(r.tenant, sizeof r.tenant, "%s", tenant);
    r.hash[0] = (uint8_t)++m->serial;
    for (int i = 0; i < HOB_LIMITS; i++)
        r.limits[i] = HOB_KEY_LIMIT_DEFAULT;
    ok(hob_key_table_add(m->db, &r, &diag));
    return (hob_scope){.tenant = r.tenant_number, .key = r.id, .all = true};
}

static inline void made_store_open(made_store *m)
{
    hob_diag diag = {""};
    *m = (made_store){.dir = "/tmp/hob-documents-XXXXXX"};
    assert_non_null(mkdtemp(m->dir));
    snprintf(m->path, sizeof m->path, "%s/hob.db", m->dir);
    ok(hob_store_open(m->path, &m->store, &diag));
    m->db = hob_store_database(m->store);
    m->mine = made_scope(m, "mine", "me");
    m->theirs = made_scope(m, "theirs", "they");
}

static inline int made_remove(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void made_store_close(made_store *m)
{
    hob_store_close(m->store);
    (void)nftw(m->dir, made_remove, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void made_id(made_store *m, const char *prefix, char ret[HOB_PUBLIC_ID_MAX])
{
    snprintf(ret, HOB_PUBLIC_ID_MAX, "%s%u", prefix, ++m->serial);
}

/* A file of one part, with its bytes for a hash: files of equal text are equal. */
static inline hob_file made_file(made_store *m, const hob_scope *scope, const char *name,
                                 const char *text)
{
    hob_diag diag = {""};
    hob_file f = {.tenant = scope->tenant, .key = scope->key, .created_s = 100};
    made_id(m, "file-", f.public);
    snprintf(f.name, sizeof f.name, "%s", name);
    snprintf(f.purpose, sizeof f.purpose, "assistants");
    strncpy((char *)f.sha256, text, sizeof f.sha256 - 1);
    ok(hob_file_begin(m->db, &f, &diag));
    ok(hob_file_add_part(m->db, &f, 0, text, strlen(text), 0, &diag));
    ok(hob_file_complete(m->db, &f, &diag));
    return f;
}

static inline hob_collection made_collection(made_store *m, const hob_scope *scope,
                                             const char *name)
{
    hob_diag diag = {""};
    hob_collection c = {.metadata = "{}", .created_s = 100};
    made_id(m, "vs_", c.public);
    snprintf(c.name, sizeof c.name, "%s", name);
    ok(hob_collection_add(m->db, scope, &c, &diag));
    return c;
}

static inline void made_attachment(made_store *m, const hob_scope *scope, const hob_collection *c,
                                   const hob_file *f, const char *attributes)
{
    hob_diag diag = {""};
    const hob_attachment_wish w = {.file = f->public,
                                   .attributes = attributes,
                                   .chunk_tokens = 200,
                                   .overlap_tokens = 32,
                                   .extractor = 1,
                                   .now_s = 100};
    ok(hob_attachment_add(m->db, scope, c->id, &w, &diag));
}

/* Makes the next content of the given texts, as far as it goes: with vectors of `dim` halves where vectors is given. */
static inline hob_content made_content(made_store *m, const char *const *texts, uint32_t count,
                                       const uint16_t *vectors, uint32_t dim)
{
    static const int64_t none[HOB_CONTENTS_BUSY];
    hob_diag diag = {""};
    hob_content t = {0};
    uint64_t at = 0;
    ok(hob_content_next(m->db, none, 0, &t, &diag));
    for (uint32_t i = 0; i < count; i++) {
        const hob_stored_chunk c = {at,       at + strlen(texts[i]), 10, "Heading",
                                    texts[i], strlen(texts[i])};
        ok(hob_content_add_chunks(m->db, &t, &c, 1, 1, &diag));
        at = c.end_byte + 1;
    }
    ok(hob_content_extracted(m->db, &t, &diag));
    if (vectors)
        ok(hob_content_add_vectors(m->db, &t, 0, count, "model", vectors, dim * sizeof *vectors,
                                   &diag));
    ok(hob_content_complete(m->db, &t, vectors ? "model" : "", &diag));
    t.chunks = count;
    return t;
}

#endif
