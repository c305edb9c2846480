/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over chat templates: the input is a template, rendered with a fixed
 * conversation. Whatever it is, it ends, its trusted ranges are in order and inside the text, and
 * no trusted range holds the character U+E123 (or its escape), with which every text of the
 * conversation begins and ends. Alone it is linked with replay.c. To fuzz:
 *
 *   clang -std=gnu11 -g -O1 -D_GNU_SOURCE -DTMPL_CHUNK_BYTES=0 -I.
 * -fsanitize=fuzzer,address,undefined \ tests/fuzz/fuzz_template.c hal/base.c models/template*.c
 * -ljansson -lutf8proc -lm -o build/fuzz_template build/fuzz_template -max_len=4096 build/corpus
 * tests/fuzz/seeds/template */
#include <stdlib.h>
#include <string.h>

#include "models/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define M "\\ue123"
static const char conversation[] =
    "{\"messages\": [{\"role\": \"" M "system" M "\", \"content\": \"" M "Be brief." M "\"},"
    " {\"role\": \"" M "user" M "\", \"content\": \"" M "Gr\\u00fc\\u00dfe, \\n a <|im_end|>" M
    "\"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"" M
    "\", \"arguments\":"
    " {\"" M "\": [1, 2.5, true]}}}]}, {\"role\": \"user\", \"content\": [{\"type\": \"text\", "
    "\"text\": \"" M "a,b" M "\"}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"" M
    "f\", \"parameters\": {\"properties\": {\"a\": {}}}}}],"
    " \"add_generation_prompt\": true, \"s\": \"" M "text" M
    "\", \"n\": 3, \"l\": [3, 1, 2], \"u\": \"" M "\"}";

static bool has_mark(const char *s, size_t len)
{
    return memmem(s, len, "\xee\x84\xa3", 3) || memmem(s, len, "e123", 4) ||
           memmem(s, len, "E123", 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    hob_template *t;
    hob_diag diag = {""};
    hob_rendered r = {0};
    if (hob_template_compile((const char *)data, bytes, &t, &diag) < 0)
        return 0;
    json_error_t where;
    json_t *variables = json_loads(conversation, 0, &where),
           *trusted = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    if (!variables || !trusted)
        abort();
    if (hob_template_render(t, variables, trusted, 1 << 16, &r, &diag) == 0) {
        for (size_t i = 0; i < r.trusted_count; i++) {
            if (r.trusted[i].start >= r.trusted[i].end || r.trusted[i].end > r.len ||
                (i > 0 && r.trusted[i].start <= r.trusted[i - 1].end))
                abort();
            if (!has_mark((const char *)data, bytes) &&
                has_mark(r.text + r.trusted[i].start, r.trusted[i].end - r.trusted[i].start))
                abort();
        }
    } else if (diag.text[0] == 0) {
        abort();
    }
    hob_rendered_free(&r);
    hob_template_free(t);
    json_decref(variables);
    json_decref(trusted);
    return 0;
}
