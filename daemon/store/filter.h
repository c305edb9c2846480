/* SPDX-License-Identifier: Apache-2.0
 *
 * Filters on the attributes of files, as OpenAI's search takes them: {"type": "eq", "key": "k", "value": v} with eq, ne, gt,
 * gte, lt, lte, in and nin, joined by {"type": "and" or "or", "filters": […]}. An attribute that a file does not have, or that
 * is of another kind, is equal to nothing, and neither greater nor less. Texts are ordered by their bytes.
 * Pure. */
#ifndef HOB_DAEMON_STORE_FILTER_H
#define HOB_DAEMON_STORE_FILTER_H

#include <jansson.h>

#include "hal/base.h"

enum { HOB_FILTER_DEPTH_MAX = 8, HOB_FILTER_SIZE_MAX = 500 }; /* size: comparisons and values */

/* HOB_EINVAL: it is no such filter. */
HOB_MUST_CHECK int hob_filter_check(const json_t *filter, hob_diag *diag);
/* filter: checked. attributes: an object. Only reads both. */
bool hob_filter_matches(const json_t *filter, const json_t *attributes);

#endif
