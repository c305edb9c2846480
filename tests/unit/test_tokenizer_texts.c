/* SPDX-License-Identifier: Apache-2.0
 *
 * SentencePiece and WordPiece on small vocabularies made in memory: what they give, against their definitions written
 * plainly, that texts come back, and what damaged tables say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/tokenizer_check.h"

static void sentencepiece_merges_by_score(void **state)
{
    texts_vocabulary v = spm_vocabulary();
    hob_tokenizer *t = of_texts(v);
    (void)state;
    CHECK_IDS(t, "", false, HOB_TOKEN_NONE);
    CHECK_IDS(t, "ab", false, S_SPACE_A, S_B); /* equal scores: the leftmost */
    CHECK_IDS(t, "cab", false, S_SPACE, S_C, S_AB);
    CHECK_IDS(t, "cabab", false, S_SPACE, S_C, S_ABAB);
    CHECK_IDS(t, "c b", false, S_SPACE, S_C, S_SPACE_B);
    CHECK_IDS(t, "cb ", false, S_SPACE, S_C, S_B_SPACE);
    CHECK_IDS(t, "cb" V_MARK "b", false, S_SPACE, S_C, S_B_SPACE, S_B); /* it is a space */
    /* Characters without a token are bytes; the text of a byte token is only text. */
    CHECK_IDS(t, "c\u00e9", false, S_SPACE, S_C, S_BYTES + 0xC3, S_BYTES + 0xA9);
    CHECK_IDS(t, "c\n\xFF", false, S_SPACE, S_C, S_BYTES + '\n', S_BYTES + 0xFF);
    CHECK_IDS(t, "<0x0A>", true, S_SPACE, S_LESS, S_BYTES + '0', S_BYTES + 'x', S_BYTES + '0',
              S_BYTES + 'A', S_GREATER);
    /* User-defined tokens are parsed everywhere, controls only where trusted; what follows either
     * begins as a text does. */
    CHECK_IDS(t, "c<u>ab  c", false, S_SPACE, S_C, S_USER, S_SPACE_A, S_B, S_USER2, S_SPACE, S_C);
    CHECK_IDS(t, "c</s>b", true, S_SPACE, S_C, S_EOS, S_SPACE_B);
    CHECK_IDS(t, "<s>b", true, S_BOS, S_SPACE_B);
    CHECK_IDS(t, "c<s>", false, S_SPACE, S_C, S_LESS_S, S_GREATER);
    assert_int_equal(hob_tokenizer_bos(t), S_BOS);
    assert_int_equal(hob_tokenizer_eos(t), S_EOS);
    assert_int_equal(hob_tokenizer_unknown(t), S_UNKNOWN);
    assert_true(hob_tokenizer_adds_bos(t) && hob_tokenizer_is_end(t, S_EOS));
    hob_tokenizer_close(t);

    v.add_space = 0;
    t = of_texts(v);
    CHECK_IDS(t, "ab<u>b c", false, S_AB, S_USER, S_B_SPACE, S_C);
    hob_tokenizer_close(t);

    /* Phi-3's control and user-defined tokens eat the white space behind them, <s> does not. */
    v.name = "My Phi-3 mini";
    t = of_texts(v);
    CHECK_IDS(t, "<s> b</s> \n b<u> b", true, S_BOS, S_SPACE_B, S_EOS, S_B, S_USER, S_B);
    hob_tokenizer_close(t);

    v.name = "modern-bert"; /* whose mask eats what is in front of it */
    v_token masked[S_COUNT];
    memcpy(masked, v.tokens, sizeof masked);
    masked[S_USER].text = "[MASK]";
    v.tokens = masked;
    t = of_texts(v);
    CHECK_IDS(t, "c \t[MASK] b", false, S_C, S_USER, S_SPACE_B);
    hob_tokenizer_close(t);

    /* Without byte tokens, neighbors without a token are one unknown token. */
    v = spm_vocabulary();
    v.count = v.score_count = v.type_count = S_BYTES;
    v.add_eos = 1;
    t = of_texts(v);
    CHECK_IDS(t, "xyc\u00e9b", false, S_SPACE, S_UNKNOWN, S_C, S_UNKNOWN, S_B);
    hob_ids ids = {0};
    assert_int_equal(hob_tokenize(t, "c", 1, NULL, 0, true, 0, &ids, NULL), 0);
    assert_int_equal(ids.count, 4);
    assert_int_equal(ids.data[0], S_BOS);
    assert_int_equal(ids.data[3], S_EOS);
    hob_ids_free(&ids);
    hob_tokenizer_close(t);

    /* Without types, a text like <0x0A> is a byte. */
    v = spm_vocabulary();
    v.type_count = UINT32_MAX;
    t = of_texts(v);
    CHECK_IDS(t, "c\n", false, S_SPACE, S_C, S_BYTES + '\n');
    hob_tokenizer_close(t);
}

/* As it is defined: look at all neighbors, merge the leftmost of the best score, again. */
static size_t merge_texts_plainly(char (*texts)[64], size_t count)
{
    const v_token *tokens = spm_tokens();
    for (;;) {
        size_t best = count;
        float best_score = 0;
        char merged[64] = {0};
        for (size_t i = 0; i + 1 < count; i++) {
            char joined[128] = {0};
            snprintf(joined, sizeof joined, "%s%s", texts[i], texts[i + 1]);
            for (size_t k = S_SPACE; k < S_BYTES; k++)
                if (strcmp(tokens[k].text, joined) == 0 &&
                    (best == count || tokens[k].score > best_score)) {
                    best = i;
                    best_score = tokens[k].score;
                    memcpy(merged, joined, sizeof merged);
                }
        }
        if (best == count)
            return count;
        memcpy(texts[best], merged, sizeof merged);
        memmove(texts + best + 1, texts + best + 2, (count - best - 2) * sizeof *texts);
        count--;
    }
}

static void sentencepiece_merges_like_the_definition(void **state)
{
    hob_tokenizer *t = of_texts(spm_vocabulary());
    (void)state;
    for (int round = 0; round < 2000; round++) {
        char text[32], texts[33][64] = {V_MARK};
        size_t len = 1 + random_below(sizeof text);
        hob_ids ids = {0};
        for (size_t i = 0; i < len; i++) {
            text[i] = "aaabbc "[random_below(7)];
            if (text[i] == ' ' && (i == 0 || text[i - 1] == ' '))
                text[i] = 'c'; /* two spaces are user-defined */
            snprintf(texts[i + 1], sizeof *texts, "%s",
                     text[i] == ' ' ? V_MARK : (char[]){text[i], 0});
        }
        size_t count = merge_texts_plainly(texts, len + 1);
        assert_int_equal(hob_tokenize(t, text, len, NULL, 0, false, 0, &ids, NULL), 0);
        assert_int_equal(ids.count, count);
        for (size_t i = 0; i < count; i++)
            assert_string_equal(spm_tokens()[ids.data[i]].text, texts[i]);
        hob_ids_free(&ids);
    }
    hob_tokenizer_close(t);
}

/* The whole text of ids. */
static void check_text(const hob_tokenizer *t, bool whole, const uint32_t *ids, size_t count,
                       const char *want)
{
    hob_detokenizer d = {.drops_space = whole};
    char out[256];
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        used += hob_detokenize(t, &d, ids[i], false, out + used, sizeof out - used);
    used += hob_detokenize_end(&d, out + used, sizeof out - used);
    out[used] = 0;
    assert_string_equal(out, want);
}

static void sentencepiece_text_comes_back(void **state)
{
    static const uint32_t ids[] = {S_BOS,  S_SPACE_A, S_B,       S_BYTES + 0xC3, S_BYTES + 0xA9,
                                   S_USER, S_USER2,   S_SPACE_B, S_EOS};
    texts_vocabulary v = spm_vocabulary();
    hob_tokenizer *t = of_texts(v);
    (void)state;
    check_text(t, true, ids, sizeof ids / sizeof *ids, "ab\u00e9<u>   b");
    check_text(t, false, ids, sizeof ids / sizeof *ids, " ab\u00e9<u>   b");
    for (int round = 0; round < 1000; round++) {
        char text[64];
        size_t len = random_below(sizeof text);
        hob_ids made = {0};
        for (size_t i = 0; i < len; i++)
            text[i] = "ab c<u>s\n\x7f"[random_below(10)];
        text[len] = 0;
        if (strstr(text, "<u>") || strstr(text, "  ")) /* these get a space behind */
            continue;
        assert_int_equal(hob_tokenize(t, text, len, NULL, 0, true, 0, &made, NULL), 0);
        check_text(t, true, made.data, made.count, text);
        hob_ids_free(&made);
    }
    hob_tokenizer_close(t);
    v.add_space = 0;
    t = of_texts(v);
    check_text(t, true, ids, sizeof ids / sizeof *ids, " ab\u00e9<u>   b");
    hob_tokenizer_close(t);
}

static void wordpiece_covers_words(void **state)
{
    texts_vocabulary v = wordpiece_vocabulary();
    hob_tokenizer *t = of_texts(v);
    char longest[128];
    hob_ids ids = {0};
    (void)state;
    CHECK_IDS(t, "", false, HOB_TOKEN_NONE);
    CHECK_IDS(t, "unaffable", false, W_UN, W_AFF, W_ABLE);
    CHECK_IDS(t, " UNAFFABLE\tTh\u00e9\n", false, W_UN, W_AFF, W_ABLE, W_THE);
    CHECK_IDS(t, "the!the", false, W_THE, W_BANG, W_THE);
    CHECK_IDS(t, "the\u4e2da", false, W_THE, W_ZHONG, W_A);
    CHECK_IDS(t, "unaffables the", false, W_UNKNOWN, W_THE);
    CHECK_IDS(t, "able ale", false, W_UNKNOWN, W_A, W_LE); /* "able" only goes on a word */
    CHECK_IDS(t, "t\xFFh\x01\ufeff\u00ade", false, W_THE);
    CHECK_IDS(t, "[CLS] a", true, W_CLS, W_A);
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i == 0 ? 'a' : i % 2 ? 'l' : 'e';
    longest[99] = 0; /* a and 49 times "le" */
    assert_int_equal(hob_tokenize(t, longest, 99, NULL, 0, true, 0, &ids, NULL), 0);
    assert_int_equal(ids.count, 52);
    assert_int_equal(ids.data[0], W_CLS);
    assert_int_equal(ids.data[1], W_A);
    assert_int_equal(ids.data[51], W_SEP);
    hob_ids_free(&ids);
    longest[99] = 'l';
    longest[101] = 0;
    CHECK_IDS(t, longest, false, W_UNKNOWN);
    check_text(t, true, (const uint32_t[]){W_CLS, W_UN, W_AFF, W_THE, W_SEP}, 5, "unaff the");
    assert_int_equal(hob_tokenizer_bos(t), W_CLS);
    assert_int_equal(hob_tokenizer_unknown(t), W_UNKNOWN);
    hob_tokenizer_close(t);

    v.lowercase = 0; /* and accents stay, unless the file says otherwise */
    t = of_texts(v);
    CHECK_IDS(t, "The a\u00e9", false, W_UNKNOWN, W_A, W_E_ACUTE);
    hob_tokenizer_close(t);
    v.strip_accents = 1;
    t = of_texts(v);
    CHECK_IDS(t, "th\u00e9", false, W_THE);
    hob_tokenizer_close(t);
}

static void long_texts_are_linear(void **state)
{
    enum { BYTES = 1 << 18 };
    hob_tokenizer *made[] = {of_texts(spm_vocabulary()), of_texts(wordpiece_vocabulary())};
    char *text = malloc(BYTES);
    (void)state;
    for (int m = 0; m < 2; m++) {
        for (int i = 0; i < 8; i++) {
            hob_ids ids = {0};
            for (size_t k = 0; k < BYTES; k++)
                text[k] = i < 6 ? "acb <\xCC"[i] : i == 6 ? "ab"[k & 1] : "e\xCC\x81"[k % 3];
            assert_int_equal(hob_tokenize(made[m], text, BYTES, NULL, 0, false, 0, &ids, NULL), 0);
            if (m == 0 && i == 1)
                assert_int_equal(ids.count, 1 + BYTES / 2);
            hob_ids_free(&ids);
        }
        hob_tokenizer_close(made[m]);
    }
    free(text);
}

static void broken_text_tables_are_named(void **state)
{
    static v_token tokens[S_COUNT];
    hob_tokenizer *t = NULL;
    hob_diag diag;
    texts_vocabulary v;
    (void)state;
#define REFUSES_TEXTS(made, change, code, key)                                                     \
    do {                                                                                           \
        v = made;                                                                                  \
        memcpy(tokens, v.tokens, v.count * sizeof *tokens);                                        \
        v.tokens = tokens;                                                                         \
        change;                                                                                    \
        assert_int_equal(open_texts(&v, &t, &diag), code);                                         \
        if (!strstr(diag.text, key))                                                               \
            fail_msg("\"%s\" does not name %s", diag.text, key);                                   \
        assert_null(t);                                                                            \
    } while (0)
#define SPM_REFUSES(change, key) REFUSES_TEXTS(spm_vocabulary(), change, HOB_EFORMAT, key)
#define BERT_REFUSES(change, key) REFUSES_TEXTS(wordpiece_vocabulary(), change, HOB_EFORMAT, key)
    SPM_REFUSES(v.score_count = UINT32_MAX, "tokenizer.ggml.scores: the key is missing");
    SPM_REFUSES(v.score_count = S_COUNT - 1, "tokenizer.ggml.scores");
    SPM_REFUSES(v.score_count = S_COUNT + 1, "tokenizer.ggml.scores");
    SPM_REFUSES(tokens[S_AB].score = NAN, "tokenizer.ggml.scores: token 14");
    SPM_REFUSES(v.type_count = S_COUNT - 1, "tokenizer.ggml.token_type");
    SPM_REFUSES(tokens[S_AB].type = 7, "tokenizer.ggml.token_type");
    SPM_REFUSES(tokens[S_AB].type = 6, "byte token 14");
    SPM_REFUSES(tokens[S_UNKNOWN].type = 1; tokens[S_BYTES].type = 1, "255 of 256 byte tokens");
    SPM_REFUSES(v.unknown = S_COUNT, "tokenizer.ggml.unknown_token_id");
    SPM_REFUSES(v.bos = S_COUNT, "tokenizer.ggml.bos_token_id");
    SPM_REFUSES(v.eos = S_COUNT, "tokenizer.ggml.eos_token_id");
    BERT_REFUSES(v.type_count = W_COUNT + 1, "tokenizer.ggml.token_type");
    BERT_REFUSES(tokens[W_UNKNOWN].text = "[XXX]", "tokenizer.ggml.unknown_token_id");
    BERT_REFUSES(v.unknown = W_COUNT, "tokenizer.ggml.unknown_token_id");
    BERT_REFUSES(v.cls = W_COUNT, "tokenizer.ggml.cls_token_id");
    BERT_REFUSES(v.separator = W_COUNT, "tokenizer.ggml.seperator_token_id");
    static const char *const others[] = {"t5", "rwkv", "plamo2", "none", "no_vocab", "gemma4", ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        REFUSES_TEXTS(spm_vocabulary(), v.model = others[i], HOB_EUNSUPPORTED,
                      "tokenizer.ggml.model");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentencepiece_merges_by_score),
        cmocka_unit_test(sentencepiece_merges_like_the_definition),
        cmocka_unit_test(sentencepiece_text_comes_back),
        cmocka_unit_test(wordpiece_covers_words),
        cmocka_unit_test(long_texts_are_linear),
        cmocka_unit_test(broken_text_tables_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
