/* SPDX-License-Identifier: Apache-2.0
 *
 * The parts of hobctl setup: what hob.conf is to say (setup_conf.c), and setting up a hob that was installed as a package,
 * with questions for whoever sits in front of it (setup_system.c). Thread: the command's only one. */
#ifndef HOB_DAEMON_CTL_SETUP_H
#define HOB_DAEMON_CTL_SETUP_H

#include "hal/base.h"

#include <limits.h>

/* What the options say; NULL and HOB_SETUP_OPEN: nothing. */
enum { HOB_SETUP_OPEN = UINT32_MAX };
typedef struct hob_setup_options {
    const char *listen;
    uint32_t port;
    const char *model, *name, *embedding; /* files; "none" for no embedding */
    uint32_t memory_mb, tokens_per_minute, tokens_per_day;
    bool gpu, no_gpu;
    bool yes; /* asks nothing */
    /* Where things are on an installed system. */
    const char *config, *state, *socket, *models, *units, *examples;
} hob_setup_options;

/* What is written into hob.conf. */
typedef struct hob_setup_conf {
    const char *state;  /* the folder of certificates, keys and store; "": that of hob.conf */
    const char *socket; /* for administration; "": beside hob.conf */
    char listen[64];
    uint32_t port;
    char model[PATH_MAX], embedding[PATH_MAX]; /* absolute; embedding "": none */
    char name[64];                             /* what clients call the model; "": as its file */
    uint32_t memory_mb, tokens_per_minute, tokens_per_day; /* 0: no limit */
} hob_setup_conf;

/* Writes hob.conf, after a trial of what hobd would say to it, unless somebody has edited it: then it stays, is checked all
 * the same, and 1 is returned. One that is as the package brought it (pristine, NULL: there is none) is nobody's edit. */
HOB_MUST_CHECK int hob_setup_write_conf(const hob_setup_conf *c, const char *path,
                                        const char *pristine, size_t pristine_len, hob_diag *diag);
/* Whether setup may write path: nothing is there, or what setup or the package has put there. */
HOB_MUST_CHECK int hob_setup_may_write(const char *path, const char *pristine, size_t pristine_len,
                                       bool *ret, hob_diag *diag);
/* Writes a file that begins with the line which says that setup writes it; one that does not stays, and 1 is returned. text
 * NULL: removes it. */
HOB_MUST_CHECK int hob_setup_write_marked(const char *path, const char *text, hob_diag *diag);
/* The absolute path of a model's file. HOB_EIO: it cannot be read. */
HOB_MUST_CHECK int hob_setup_find_model(const char *model, char ret[PATH_MAX], hob_diag *diag);

/* Sets up an installed hob; returns the exit status. */
int hob_setup_system(const hob_setup_options *o);

#endif
