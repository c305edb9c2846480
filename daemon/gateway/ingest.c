/* SPDX-License-Identifier: Apache-2.0
 *
 * What is made of files, and what is removed of them. */
#include <stdlib.h>

#include "daemon/gateway/documents.h"
#include "daemon/store/sweep.h"

void hob_documents_wake(hob_gateway *g)
{
    (void)g;
}
