/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON out of files that nobody vouches for: config.json and its like in a model's folder, and the header of a safetensors
 * file. What is read has no key twice in an object, no more nesting than HOB_STRICT_DEPTH_MAX and no byte behind its end.
 * jansson does the parsing; its objects' hash tables are keyed by a random seed.
 *
 * `what` names the document in a diagnosis. A key that is null counts as missing. */
#ifndef HOB_MODELS_STRICT_JSON_H
#define HOB_MODELS_STRICT_JSON_H

#include <jansson.h>

#include "hal/base.h"

enum { HOB_STRICT_DEPTH_MAX = 32 };

/* HOB_EFORMAT. The caller releases *ret. */
HOB_MUST_CHECK int hob_strict_parse(const char *what, const char *text, size_t len, json_t **ret,
                                    hob_diag *diag);
/* The whole of a regular file; the caller frees *ret. HOB_ENOENT, HOB_EIO, HOB_ENOMEM, HOB_ELIMIT past max bytes. */
HOB_MUST_CHECK int hob_strict_read_text(const char *dir, const char *name, size_t max, char **ret,
                                        size_t *ret_len, hob_diag *diag);
/* Both in one. */
HOB_MUST_CHECK int hob_strict_read(const char *dir, const char *name, size_t max, json_t **ret,
                                   hob_diag *diag);

/* A member of object o. Missing: HOB_ENOENT. Another type, or out of [min, max]: HOB_EFORMAT with what was got and what is
 * allowed. *ret is untouched on failure; a string lives as long as o. */
HOB_MUST_CHECK int hob_strict_u64(const char *what, const json_t *o, const char *key, uint64_t min,
                                  uint64_t max, uint64_t *ret, hob_diag *diag);
HOB_MUST_CHECK int hob_strict_number(const char *what, const json_t *o, const char *key, double min,
                                     double max, double *ret, hob_diag *diag);
HOB_MUST_CHECK int hob_strict_bool(const char *what, const json_t *o, const char *key, bool *ret,
                                   hob_diag *diag);
HOB_MUST_CHECK int hob_strict_string(const char *what, const json_t *o, const char *key,
                                     const char **ret, hob_diag *diag);
/* type: JSON_OBJECT or JSON_ARRAY. */
HOB_MUST_CHECK int hob_strict_member(const char *what, const json_t *o, const char *key,
                                     json_type type, json_t **ret, hob_diag *diag);

/* What a missing key means for a caller who must have it, and for one who needs not. */
static inline HOB_MUST_CHECK int hob_strict_required(int rc)
{
    return rc == HOB_ENOENT ? HOB_EFORMAT : rc;
}

static inline HOB_MUST_CHECK int hob_strict_optional(int rc)
{
    return rc == HOB_ENOENT ? 0 : rc;
}

#endif
