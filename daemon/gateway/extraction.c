/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that waits for an extractor. See extraction.h. */
#include "daemon/gateway/extraction.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOOK_MS = 50 }; /* how often it looks whether it is still wanted */

struct hob_extracting {
    hob_extract_request request;
    char name[HOB_EXTRACT_NAME_MAX];
    void (*wake)(void *user);
    void *user;
    pthread_t thread;
    atomic_bool unwanted, finished;
    /* The thread's until it has finished. */
    hob_extractor *extractor;
    hob_extraction failed; /* when there is no extractor */
};

/* Thread: extract. */
static void *run(void *user)
{
    hob_extracting *x = user;
    if (hob_extractor_start(&x->request, &x->extractor, &x->failed.why) < 0)
        x->failed.error = HOB_EXTRACT_INTERNAL;
    else
        while (!atomic_load(&x->unwanted) && !hob_extractor_step(x->extractor, LOOK_MS))
            ;
    atomic_store(&x->finished, true);
    x->wake(x->user);
    return NULL;
}

int hob_extracting_start(const hob_extract_request *r, void (*wake)(void *user), void *user,
                         hob_extracting **ret, hob_diag *diag)
{
    hob_extracting *x = calloc(1, sizeof *x);
    if (!x)
        return hob_fail(diag, HOB_ENOMEM, "no memory for an extraction");
    x->request = *r;
    snprintf(x->name, sizeof x->name, "%s", r->name);
    x->request.name = x->name;
    x->wake = wake;
    x->user = user;
    if (pthread_create(&x->thread, NULL, run, x) != 0) {
        free(x);
        return hob_fail(diag, HOB_ENOMEM, "no thread for an extraction");
    }
    (void)pthread_setname_np(x->thread, "extract");
    *ret = x;
    return 0;
}

const hob_extraction *hob_extracting_result(const hob_extracting *x)
{
    if (!atomic_load(&x->finished))
        return NULL;
    return x->extractor ? hob_extractor_result(x->extractor) : &x->failed;
}

void hob_extracting_free(hob_extracting *x)
{
    if (!x)
        return;
    atomic_store(&x->unwanted, true);
    pthread_join(x->thread, NULL);
    hob_extractor_free(x->extractor);
    free(x);
}
