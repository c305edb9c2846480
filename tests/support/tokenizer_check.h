/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tokenizer tests share: tokenizers of small vocabularies made in memory, and the check of a text's ids.
 * Include it after cmocka.h. */
#ifndef HOB_TESTS_TOKENIZER_CHECK_H
#define HOB_TESTS_TOKENIZER_CHECK_H

#include "models/tokenizer.h"
#include "tests/support/vocabulary.h"

static inline int open_vocabulary(const vocabulary *v, hob_tokenizer **ret, hob_diag *diag)
{
    mk m = {0};
    hob_gguf *g = NULL;
    mk_small_vocabulary(&m, v);
    assert_int_equal(hob_gguf_parse(m.data, m.bytes, &g, diag), 0);
    int r = hob_tokenizer_open(g, ret, diag);
    hob_gguf_close(g);
    mk_free(&m); /* the tokenizer keeps nothing of the file */
    return r;
}

static inline hob_tokenizer *small(const char *pre)
{
    hob_tokenizer *t = NULL;
    hob_diag diag = {{0}};
    vocabulary v = vocabulary_default();
    v.pre = pre;
    if (open_vocabulary(&v, &t, &diag) < 0)
        fail_msg("%s", diag.text);
    return t;
}

static inline int open_texts(const texts_vocabulary *v, hob_tokenizer **ret, hob_diag *diag)
{
    mk m = {0};
    hob_gguf *g = NULL;
    mk_texts_vocabulary(&m, v);
    assert_int_equal(hob_gguf_parse(m.data, m.bytes, &g, diag), 0);
    int r = hob_tokenizer_open(g, ret, diag);
    hob_gguf_close(g);
    mk_free(&m);
    return r;
}

static inline hob_tokenizer *of_texts(texts_vocabulary v)
{
    hob_tokenizer *t = NULL;
    hob_diag diag = {{0}};
    if (open_texts(&v, &t, &diag) < 0)
        fail_msg("%s", diag.text);
    return t;
}

/* Checks the ids of text; trusted is all of it when `special`. want ends in HOB_TOKEN_NONE. */
static inline void check_ids(const hob_tokenizer *t, const char *text, bool special,
                             const uint32_t *want)
{
    hob_ids ids = {0};
    hob_text_range all = {0, strlen(text)};
    size_t n = 0;
    assert_int_equal(hob_tokenize(t, text, strlen(text), &all, special, false, 0, &ids, NULL), 0);
    for (; want[n] != HOB_TOKEN_NONE; n++) {
        assert_true(n < ids.count);
        assert_int_equal(ids.data[n], want[n]);
    }
    assert_int_equal(ids.count, n);
    hob_ids_free(&ids);
}
#define CHECK_IDS(t, text, special, ...)                                                           \
    check_ids(t, text, special, (const uint32_t[]){__VA_ARGS__, HOB_TOKEN_NONE})

/* The same numbers every time. */
static inline uint32_t random_below(uint32_t n)
{
    static uint64_t random_state = 2463534242u;
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 33) % n;
}

#endif
