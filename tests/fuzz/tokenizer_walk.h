/* SPDX-License-Identifier: Apache-2.0
 *
 * What a fuzzer does with one file's bytes as a tokenizer: open it and, when it is taken, turn
 * texts into ids and back, in buffers of exactly the promised size. */
#ifndef HOB_TESTS_TOKENIZER_WALK_H
#define HOB_TESTS_TOKENIZER_WALK_H

#include "models/tokenizer.h"
#include "tests/fuzz/gguf_walk.h"

/* All ids through a detokenizer, with and without control tokens. */
static inline void walk_back(const hob_tokenizer *t, const hob_ids *ids)
{
    for (int special = 0; special < 2; special++) {
        hob_detokenizer d = {.drops_space = special};
        char end[3];
        for (size_t i = 0; i < ids->count; i++) {
            const size_t cap = 3 * (hob_tokenizer_piece(t, ids->data[i]).len + 4);
            char *text = malloc(cap);
            PROMISE(text);
            const size_t n = hob_detokenize(t, &d, ids->data[i], special, text, cap);
            PROMISE(n <= cap);
            walk_touch(text, n);
            free(text);
        }
        PROMISE(hob_detokenize_end(&d, end, sizeof end) <= sizeof end);
    }
}

static inline void walk_tokenizer(const hob_tokenizer *t)
{
    static const char *const texts[] = {
        "",
        "the thing and another, in 2026!\n\n  <|im_start|>user\nthe end<|im_end|>\n",
        "\xc3\xa9t\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd \xf0\x9f\x94\xa5 \xff\xc3\x28\xe2\x82 x",
    };
    const uint32_t size = hob_tokenizer_size(t);
    const uint32_t ends[] = {hob_tokenizer_bos(t), hob_tokenizer_eos(t), hob_tokenizer_unknown(t)};
    for (int i = 0; i < 3; i++)
        PROMISE(ends[i] < size || ends[i] == HOB_TOKEN_NONE);
    for (uint32_t id = 0; id < size; id++) {
        const hob_string piece = hob_tokenizer_piece(t, id);
        PROMISE(piece.len <= hob_tokenizer_longest_piece(t));
        walk_touch(piece.data, piece.len);
    }
    PROMISE(hob_tokenizer_piece(t, size).len == 0 && !hob_tokenizer_is_end(t, size) &&
            !hob_tokenizer_is_control(t, size));
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (int trusted = 0; trusted < 2; trusted++) {
            const size_t len = strlen(texts[i]);
            char *text = malloc(len + 1);
            hob_ids ids = {NULL, 0, 0};
            hob_diag diag = {""};
            const hob_text_range all = {0, len};
            PROMISE(text);
            /* The byte behind the text differs from a terminator, for a search that would run on.
             */
            memcpy(text, texts[i], len);
            text[len] = 't';
            const int rc = hob_tokenize(t, text, len, &all, (size_t)trusted, false, 0, &ids, &diag);
            PROMISE(rc >= 0 || rc == HOB_ELIMIT || rc == HOB_EFORMAT);
            for (size_t k = 0; k < ids.count; k++) {
                PROMISE(ids.data[k] < size);
                PROMISE(trusted || !hob_tokenizer_is_control(t, ids.data[k]) ||
                        ids.data[k] == hob_tokenizer_unknown(t));
            }
            walk_back(t, &ids);
            hob_ids_free(&ids);
            free(text);
        }
    }
}

/* The parser's or the tokenizer's answer. */
static inline int walk_vocabulary(const uint8_t *file, size_t file_bytes)
{
    hob_gguf *g = NULL;
    hob_tokenizer *t = NULL;
    hob_diag diag = {""};
    int rc = hob_gguf_parse(file, file_bytes, &g, &diag);
    if (rc >= 0)
        rc = hob_tokenizer_open(g, &t, &diag);
    hob_gguf_close(g); /* what the tokenizer needs it has copied */
    if (rc < 0) {
        PROMISE(!t && (rc == HOB_EFORMAT || rc == HOB_EUNSUPPORTED) && diag.text[0]);
        return rc;
    }
    walk_tokenizer(t);
    hob_tokenizer_close(t);
    return 0;
}

#endif
