/* SPDX-License-Identifier: Apache-2.0
 *
 * The samples in a text of Prometheus' exposition format (version 0.0.4), as /metrics gives it: read once, then looked up by
 * name and one label. Buckets of histograms are left out. Pure. */
#ifndef HOB_DAEMON_CTL_SAMPLES_H
#define HOB_DAEMON_CTL_SAMPLES_H

#include "hal/base.h"

enum { HOB_SAMPLES_MAX = 65536 };

typedef struct hob_sample { /* the offsets are into the text */
    uint32_t name, name_len;
    uint32_t labels, labels_len; /* what is between the braces */
    double value;
} hob_sample;

typedef struct hob_samples { /* zero-initialize */
    char *text;              /* owned */
    hob_sample *list;        /* [count], in the text's order */
    uint32_t count;
} hob_samples;

/* Takes text (of malloc, len bytes below 4 GiB) over whatever happens. *ret is to be freed also after a failure. HOB_EFORMAT:
 * with the line's number; HOB_ELIMIT: more than HOB_SAMPLES_MAX samples; HOB_ENOMEM. */
HOB_MUST_CHECK int hob_samples_read(char *text, size_t len, hob_samples *ret, hob_diag *diag);
void hob_samples_free(hob_samples *s);

/* The sum of the samples of this name, with label (NULL: any labels) having this value; NaN: there are none. */
double hob_samples_sum(const hob_samples *s, const char *name, const char *label,
                       const char *value);
/* The next sample of that name, behind `after` (NULL: the first); NULL: there are no more. */
const hob_sample *hob_samples_next(const hob_samples *s, const char *name, const hob_sample *after);
/* A label's value, unescaped and cut to size; false: it has no such label. */
bool hob_sample_label(const hob_samples *s, const hob_sample *one, const char *label, char *ret,
                      size_t size);

#endif
