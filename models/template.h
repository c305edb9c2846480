/* SPDX-License-Identifier: Apache-2.0
 *
 * Chat templates: the subset of Jinja that published chat templates use, compiled to a tree and run by a small
 * interpreter with no I/O and hard limits on steps, depth and output bytes. A template is untrusted (it comes from a
 * model file) and so are the messages (they come from a user).
 *
 * The output knows where each byte came from: bytes written by the template itself, or by variables that the caller
 * calls trusted (bos_token, eos_token), are trusted; bytes that came from a message are not, whatever filters they
 * passed through. The tokenizer parses control tokens in trusted bytes only.
 * Thread: a compiled template is immutable; any thread may render it. */
#ifndef HOB_MODELS_TEMPLATE_H
#define HOB_MODELS_TEMPLATE_H

#include <jansson.h>

#include "models/tokenizer.h"

typedef struct hob_template hob_template;

typedef struct hob_rendered { /* zero-initialize; released by hob_rendered_free */
    char *text;               /* NUL-terminated, len bytes before it */
    size_t len;
    hob_text_range *trusted; /* ascending, disjoint, not adjacent */
    size_t trusted_count;
} hob_rendered;
void hob_rendered_free(hob_rendered *r);

/* HOB_EFORMAT (syntax; the diagnosis has line and construct), HOB_EUNSUPPORTED, HOB_ELIMIT (too large or too deep). */
HOB_MUST_CHECK int hob_template_compile(const char *source, size_t len, hob_template **ret,
                                        hob_diag *diag);
void hob_template_free(hob_template *t);

/* The source of a template for a file that holds none, by the turn tokens in its vocabulary (ChatML, Gemma, Llama 3,
 * Granite, Phi 3, Mistral). NULL: it has none of them. */
const char *hob_template_default(const hob_tokenizer *t);
/* The file's own template, else that of its turn tokens, compiled. HOB_ENOENT when there is neither. */
HOB_MUST_CHECK int hob_template_of_file(const hob_gguf *g, const hob_tokenizer *t,
                                        hob_template **ret, hob_diag *diag);

/* variables: a JSON object (messages, tools, documents, add_generation_prompt, …), all untrusted. trusted_variables:
 * an object of strings (bos_token, eos_token), or NULL. HOB_EINVAL with raise_exception's message; HOB_ELIMIT past
 * max_bytes of output (0: 16 MiB) or the step limit, which grows with the size of the variables. */
HOB_MUST_CHECK int hob_template_render(const hob_template *t, json_t *variables,
                                       json_t *trusted_variables, size_t max_bytes,
                                       hob_rendered *ret, hob_diag *diag);

#endif
