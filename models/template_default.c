/* SPDX-License-Identifier: Apache-2.0
 *
 * The chat template of a model file: its own, or for a file that holds none one by the turn tokens in the vocabulary: who
 * trained a model with such tokens trained it with that format. A message's text stays untrusted, so turn tokens are literals here, never put together. */
#include "models/template.h"

#include <string.h>

#define GENERATION(text) "{{- '" text "' if add_generation_prompt }}"
/* The first system message, for formats without that role: it goes before the first user's text. */
#define SYSTEM                                                                                     \
    "{%- set system = messages[0].content ~ '\\n\\n' if messages and messages[0].role == "         \
    "'system' else '' %}{%- for m in (messages[1:] if system else messages) %}"
#define WITH_SYSTEM "(system if loop.first else '') ~ m.content"

static const struct {
    const char *token; /* in the vocabulary as a token of its own */
    const char *source;
} formats[] = {
    {"<|im_start|>", "{%- for m in messages %}"
                     "{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
                     "{%- endfor %}" GENERATION("<|im_start|>assistant\\n")},
    {"<start_of_turn>",
     "{{- bos_token }}" SYSTEM "{{- '<start_of_turn>' ~ ('model' if m.role == 'assistant' else "
     "m.role) ~ '\\n' ~ (" WITH_SYSTEM ") | trim ~ '<end_of_turn>\\n' }}"
     "{%- endfor %}" GENERATION("<start_of_turn>model\\n")},
    {"<|start_header_id|>",
     "{{- bos_token }}{%- for m in messages %}"
     "{{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' ~ m.content | trim ~ "
     "'<|eot_id|>' }}"
     "{%- endfor %}" GENERATION("<|start_header_id|>assistant<|end_header_id|>\\n\\n")},
    {"<|start_of_role|>",
     "{%- for m in messages %}"
     "{{- '<|start_of_role|>' ~ m.role ~ '<|end_of_role|>' ~ m.content ~ '<|end_of_text|>\\n' }}"
     "{%- endfor %}" GENERATION("<|start_of_role|>assistant<|end_of_role|>")},
    {"<|assistant|>",
     "{%- for m in messages %}"
     "{%- if m.role == 'user' %}{{- '<|user|>' }}{%- elif m.role == 'assistant' %}"
     "{{- '<|assistant|>' }}{%- elif m.role == 'system' %}{{- '<|system|>' }}{%- else %}"
     "{{- raise_exception('role ' ~ m.role ~ ': allowed are system, user and assistant') }}"
     "{%- endif %}{{- '\\n' ~ m.content ~ '<|end|>\\n' }}"
     "{%- endfor %}" GENERATION("<|assistant|>\\n")},
    {"[INST]",
     "{{- bos_token }}" SYSTEM "{%- if m.role == 'assistant' %}{{- ' ' ~ m.content ~ eos_token }}"
     "{%- else %}{{- '[INST] ' ~ " WITH_SYSTEM " ~ '[/INST]' }}{%- endif %}{%- endfor %}"},
};

static bool has_token(const hob_tokenizer *t, const char *text)
{
    const size_t len = strlen(text);
    const hob_text_range whole = {0, len};
    hob_ids ids = {0};
    bool found = hob_tokenize(t, text, len, &whole, 1, false, 0, &ids, NULL) == 0 && ids.count == 1;
    if (found) { /* and not the unknown token */
        const hob_string piece = hob_tokenizer_piece(t, ids.data[0]);
        found = piece.len == len && memcmp(piece.data, text, len) == 0;
    }
    hob_ids_free(&ids);
    return found;
}

const char *hob_template_default(const hob_tokenizer *t)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (has_token(t, formats[i].token))
            return formats[i].source;
    return NULL;
}

int hob_template_of_file(const hob_gguf *g, const hob_tokenizer *t, hob_template **ret,
                         hob_diag *diag)
{
    hob_string source;
    int rc = hob_gguf_string(g, "tokenizer.chat_template", &source, diag);
    if (rc == HOB_ENOENT && (source.data = hob_template_default(t)) != NULL) {
        source.len = strlen(source.data);
        rc = 0;
    }
    return rc < 0 ? rc : hob_template_compile(source.data, source.len, ret, diag);
}
