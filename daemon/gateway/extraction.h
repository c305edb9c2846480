/* SPDX-License-Identifier: Apache-2.0
 *
 * One extraction in a thread of its own, which waits for the extractor's process (daemon/extract/extractor.h) and believes
 * nothing that it says unchecked.
 * Thread: loop, but for what extraction.c runs in the thread itself. */
#ifndef HOB_DAEMON_GATEWAY_EXTRACTION_H
#define HOB_DAEMON_GATEWAY_EXTRACTION_H

#include "daemon/extract/extractor.h"

typedef struct hob_extracting hob_extracting;

/* document, vocabulary: descriptors that stay the caller's and open until the thread has ended. wake is called from it when
 * it is finished. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_extracting_start(const hob_extract_request *r, void (*wake)(void *user),
                                        void *user, hob_extracting **ret, hob_diag *diag);
/* What came of it, until it is freed; NULL: not finished. */
const hob_extraction *hob_extracting_result(const hob_extracting *x);
/* Ends it if it still runs. NULL is fine. Blocks until the thread has ended, which it does at once. */
void hob_extracting_free(hob_extracting *x);

#endif
