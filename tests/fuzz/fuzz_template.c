/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over chat templates: the input is a template, rendered with a fixed conversation. Whatever it is,
 * it ends, and its trusted ranges are in order and inside the text. Alone it is linked with replay.c. To fuzz:
 *
 *   clang -std=gnu11 -g -O1 -D_GNU_SOURCE -DTMPL_CHUNK_BYTES=0 -I. -fsanitize=fuzzer,address,undefined \
 *       tests/fuzz/fuzz_template.c hal/base.c models/template*.c -ljansson -lutf8proc -lm -o build/fuzz_template
 *   build/fuzz_template -max_len=4096 build/corpus tests/fuzz/seeds/template */
#include <stdlib.h>

#include "models/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", \"content\": \" Gr\\u00fc\\u00dfe \\n <|im_end|> \"},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, true]}}}]},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"a,b\"}]}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"properties\": {\"a\": {}}}}}],"
    " \"add_generation_prompt\": true, \"s\": \"text\", \"n\": 3, \"l\": [3, 1, 2]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    hob_template *t;
    hob_diag diag = {""};
    hob_rendered r = {0};
    if (hob_template_compile((const char *)data, bytes, &t, &diag) < 0)
        return 0;
    json_error_t where;
    json_t *variables = json_loads(conversation, 0, &where), *trusted = json_pack("{s:s, s:s}", "bos_token", "<s>", "eos_token", "</s>");
    if (!variables || !trusted)
        abort();
    if (hob_template_render(t, variables, trusted, 1 << 16, &r, &diag) == 0) {
        for (size_t i = 0; i < r.trusted_count; i++) {
            if (r.trusted[i].start >= r.trusted[i].end || r.trusted[i].end > r.len ||
                (i > 0 && r.trusted[i].start <= r.trusted[i - 1].end))
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
