/* SPDX-License-Identifier: Apache-2.0
 *
 * What is made of files that were put into collections: text, chunks, vectors. The queue is in the store's table of
 * contents, so that a restart goes on where the last run was. A few contents are made at once, each in a place: copied out
 * of the store, extracted (extraction.c), stored chunk by chunk, embedded (embedding.c). Each step ends in a transaction,
 * and the last one makes the content visible.
 *
 * A place's fields belong to the store's thread while a job of it runs, else to the loop. */
#ifndef HOB_DAEMON_GATEWAY_INGEST_H
#define HOB_DAEMON_GATEWAY_INGEST_H

#include <sys/stat.h>

#include "daemon/gateway/documents.h"
#include "daemon/gateway/embed.h"
#include "daemon/gateway/extraction.h"
#include "daemon/store/sweep.h"
#include "daemon/store/vectors.h"

enum {
    HOB_INGEST_PLACES = 2, /* contents that are made at once */
    HOB_EMBED_BATCH = 32,  /* chunks embedded with one call */
};
_Static_assert((int)HOB_INGEST_PLACES <= (int)HOB_CONTENTS_BUSY, "all of them can be named");

typedef enum hob_place_state {
    HOB_PLACE_FREE,
    HOB_PLACE_STORE,   /* a job of the store's runs */
    HOB_PLACE_EXTRACT, /* the extractor works */
    HOB_PLACE_EMBED,   /* an embedding engine works, or is waited for */
} hob_place_state;

typedef struct hob_place {
    hob_store_job job;
    struct hob_ingest *ingest;
    hob_place_state state;
    bool found, again; /* by a claim: there is something; it has to be asked once more */
    int64_t busy[HOB_CONTENTS_BUSY]; /* of a claim */
    hob_content content;
    hob_file file;
    /* extraction */
    int document, vocabulary; /* descriptors; -1: none */
    hob_file_place at;        /* copied so far */
    uint64_t copied;
    uint8_t *buffer; /* [HOB_PART_BYTES] */
    hob_extracting *extracting;
    const hob_extraction *text; /* the extractor's */
    uint32_t chunk;             /* stored so far */
    /* embedding */
    json_t *inputs;                          /* texts: of each chunk one or more */
    uint32_t pieces[HOB_EMBED_BATCH], batch; /* of each chunk of a batch; chunks in it */
    hob_embed *embed;                        /* the engine works on them */
    uint64_t embed_us;                       /* when to try again; 0: now */
    uint64_t index_us; /* the index that was there when they were sent: when it was begun */
    uint16_t *halves;  /* [batch][dimensions] */
    bool indexed;      /* it may be in the index though its transaction failed */
} hob_place;

/* The index of vectors, in step with the store: what one has the other has, but for what is just being removed. */
typedef enum hob_index_state {
    HOB_INDEX_NONE, /* no embedding model is known yet */
    HOB_INDEX_WORK, /* jobs of the store's and of the search thread's make it, or are its last */
    HOB_INDEX_READY,
    HOB_INDEX_UNUSABLE, /* vectors of this model cannot be searched */
} hob_index_state;

typedef struct hob_index {
    hob_store_job job;
    hob_gateway *g;
    hob_index_state state;
    uint32_t model, dimensions; /* model: in the configuration */
    char id[HOB_MODEL_ID_MAX];  /* what the store knows the model's vectors by */
    struct stat file;           /* of the model, when that was found out, */
    uint64_t engine_us;         /* and when its engine had started */
    hob_vectors *vectors;
    int64_t next; /* chunk that is read next while it is built */
    uint64_t retry_us, began_us, rows, stale;
} hob_index;

typedef struct hob_ingest {
    hob_gateway *g;
    hob_place places[HOB_INGEST_PLACES];
    bool claiming, wanted; /* wanted: the queue may have grown since it was last asked */
    uint32_t last_tenant;
    hob_store_job sweep;
    hob_swept swept;
    bool sweeping, sweep_wanted;
    hob_index index;
    uint64_t retry_us;           /* the store has failed: when to try again */
    bool failing, sweep_failing; /* and that has been logged */
} hob_ingest;

/* Opens and closes with the store; blocks. */
HOB_MUST_CHECK int hob_ingest_open(hob_gateway *g, hob_diag *diag);
void hob_ingest_close(hob_gateway *g);   /* before the store: it waits for nothing more */
void hob_ingest_free(hob_gateway *g);    /* after it */
void hob_ingest_collect(hob_gateway *g); /* an extractor may have finished */
void hob_ingest_tick(hob_gateway *g, uint64_t now_us);

/* ---- indexing.c ---- */

void hob_index_tick(hob_index *x, uint64_t now_us);
void hob_index_free(hob_index *x);
/* Whether it is known which model embeds, or that none does. */
bool hob_index_is_settled(const hob_index *x);
/* Bytes of memory that it may take. */
size_t hob_index_limit(const hob_conf *conf);
/* Adds the vectors of a content that is complete in this transaction. Thread: store. */
HOB_MUST_CHECK int hob_index_add(hob_index *x, sqlite3 *db, int64_t content, hob_diag *diag);
void hob_index_remove(hob_index *x, int64_t content);

/* ---- within: ingest.c, embedding.c ---- */

/* Runs it in the store's thread; done comes back with the place. */
void hob_place_post(hob_place *p, int (*run)(sqlite3 *db, hob_store_job *j, hob_diag *diag),
                    void (*done)(hob_store_job *j));
/* Done with its content, or not: another one. */
void hob_place_leave(hob_place *p);
/* The store could not do it: tried again later, from what is stored; what never gets better fails. */
void hob_place_retry(hob_place *p, int code, const char *why);
/* A nameless file beside the store: a descriptor, or HOB_EIO, HOB_ENOSPC. */
HOB_MUST_CHECK int hob_ingest_file(sqlite3 *db, hob_diag *diag);
/* Its content is extracted: makes its vectors, and then it is complete. */
void hob_place_embed(hob_place *p);
void hob_place_embed_tick(hob_place *p, uint64_t now_us);
void hob_place_embed_drop(hob_place *p); /* what it holds for that */
/* The content cannot be made. code: as the API has it. */
void hob_place_fail(hob_place *p, const char *code, const char *why);

#endif
