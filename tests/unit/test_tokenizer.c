/* SPDX-License-Identifier: Apache-2.0
 *
 * The tokenizer: against llama.cpp's ids for SmolLM2 (tests/data/tokenizer_smollm2.json, made by
 * tests/data/make_tokenizer_reference.py; the model is named by HOB_TEST_MODEL), against what other
 * programs recorded, and on a small byte-level vocabulary made in memory. SentencePiece's and
 * WordPiece's small vocabularies are test_tokenizer_texts.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "models/pretokenize.h"
#include "tests/support/tokenizer_check.h"

static hob_tokenizer *smollm2; /* NULL without HOB_TEST_MODEL */

static int open_model(void **state)
{
    const char *path = getenv("HOB_TEST_MODEL");
    hob_gguf *g;
    hob_diag diag;
    (void)state;
    if (!path || !*path)
        return 0;
    if (hob_gguf_open(path, &g, &diag) < 0 || hob_tokenizer_open(g, &smollm2, &diag) < 0) {
        print_error("%s: %s\n", path, diag.text);
        return -1;
    }
    hob_gguf_close(g);
    return 0;
}

static int close_model(void **state)
{
    (void)state;
    hob_tokenizer_close(smollm2);
    return 0;
}

/* Whether ids give text back, apart from bytes that the vocabulary has no token for. */
static bool round_trips(const hob_tokenizer *t, const hob_ids *ids, const char *text, size_t len)
{
    hob_detokenizer d = {0};
    size_t cap = 3 * (hob_tokenizer_longest_piece(t) + 4), at = 0;
    char *part = malloc(cap);
    for (size_t i = 0; i <= ids->count; i++) {
        size_t n = i < ids->count ? hob_detokenize(t, &d, ids->data[i], true, part, cap)
                                  : hob_detokenize_end(&d, part, cap);
        if (n > len - at || memcmp(part, text + at, n) != 0) {
            free(part);
            return false;
        }
        at += n;
    }
    free(part);
    return at == len;
}

static void gives_llama_cpps_ids(void **state)
{
    static const char *const groups[] = {"plain", "special"};
    json_error_t error;
    json_t *all = json_load_file("tests/data/tokenizer_smollm2.json", JSON_ALLOW_NUL, &error);
    bool has_byte[256];
    (void)state;
    if (!smollm2) {
        json_decref(all);
        skip();
    }
    if (!all)
        fail_msg("%s", error.text);
    for (int b = 0; b < 256; b++) {
        hob_ids ids = {0};
        char c = (char)b;
        assert_int_equal(hob_tokenize(smollm2, &c, 1, NULL, 0, false, 0, &ids, NULL), 0);
        assert_in_range(ids.count, 0, 1);
        has_byte[b] = ids.count == 1;
        hob_ids_free(&ids);
    }
    for (int special = 0; special < 2; special++) {
        json_t *cases = json_object_get(all, groups[special]);
        assert_in_range(json_array_size(cases), special ? 100 : 2000, 10000);
        for (size_t i = 0; i < json_array_size(cases); i++) {
            json_t *string = json_array_get(json_array_get(cases, i), 0),
                   *want = json_array_get(json_array_get(cases, i), 1);
            const char *text = json_string_value(string);
            hob_ids ids = {0};
            hob_text_range range = {0, json_string_length(string)};
            bool whole = true;
            assert_int_equal(hob_tokenize(smollm2, text, range.end, &range, (size_t)special, false,
                                          0, &ids, NULL),
                             0);
            bool equal = ids.count == json_array_size(want);
            for (size_t j = 0; equal && j < ids.count; j++)
                equal = ids.data[j] == json_integer_value(json_array_get(want, j));
            if (!equal)
                fail_msg("%s case %zu: %s", groups[special], i, text);
            for (size_t j = 0; j < range.end; j++)
                whole = whole && has_byte[(unsigned char)text[j]];
            if (whole != round_trips(smollm2, &ids, text, range.end))
                fail_msg("%s case %zu does not come back: %s", groups[special], i, text);
            hob_ids_free(&ids);
        }
    }
    json_decref(all);
}

static void knows_smollm2s_special_tokens(void **state)
{
    (void)state;
    if (!smollm2)
        skip();
    assert_int_equal(hob_tokenizer_size(smollm2), 49152);
    assert_int_equal(hob_tokenizer_bos(smollm2), 1);
    assert_int_equal(hob_tokenizer_eos(smollm2), 2);
    assert_false(hob_tokenizer_adds_bos(smollm2));
    assert_true(hob_tokenizer_is_end(smollm2, 0) && hob_tokenizer_is_end(smollm2, 2));
    assert_false(hob_tokenizer_is_end(smollm2, 1) || hob_tokenizer_is_end(smollm2, 17));
    assert_true(hob_tokenizer_is_control(smollm2, 16));
    assert_false(hob_tokenizer_is_control(smollm2, 17) || hob_tokenizer_is_control(smollm2, 49152));
    assert_int_equal(hob_tokenizer_piece(smollm2, 49152).len, 0);
}

typedef struct pieces {
    char text[512];
    size_t len;
} pieces;

static int add_piece(void *context, const char *piece, size_t len)
{
    pieces *p = context;
    assert_true(len > 0 && p->len + len + 2 < sizeof p->text);
    memcpy(p->text + p->len, piece, len);
    p->len += len;
    p->text[p->len++] = '|';
    p->text[p->len] = 0;
    return 0;
}

static void splits_as_named(void **state)
{
    static const struct {
        const char *pre, *text, *want;
    } cases[] = {
        {"gpt-2", "Hello  world's 1234 \n\nX", "Hello| | world|'s| 1234| \n|\n|X|"},
        {"gpt-2", "don't DON'T", "don|'t| DON|'|T|"},
        {"gpt-2", "a\u00a0\u00a0b\u180e  ", "a|\u00a0|\u00a0|b|\u180e|  |"},
        {"smollm", "in 2024, x=12 ", "in| |2|0|2|4|,| x|=|1|2| |"},
        {"smollm", "a  1", "a|  |1|"},
        {"llama-bpe", "DON'T 12345 x\n\n  y!?\n", "DON|'T| |123|45| x|\n\n| | y|!?\n|"},
        {"llama-bpe", "(hello) \u4f60\u597d", "(hello|)| \u4f60\u597d|"},
        {"qwen2", "abc 123", "abc| |1|2|3|"},
        {"default", "a,b 12345 c", "a|,|b| |123|45| c|"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_pretokenizer *p;
        hob_pretokenizing *run;
        pieces got = {.len = 0};
        assert_int_equal(
            hob_pretokenizer_open((hob_string){cases[i].pre, strlen(cases[i].pre)}, &p, NULL), 0);
        assert_int_equal(hob_pretokenizing_new(p, strlen(cases[i].text), &run), 0);
        assert_int_equal(
            hob_pretokenize(run, cases[i].text, strlen(cases[i].text), add_piece, &got, NULL), 0);
        assert_string_equal(got.text, cases[i].want);
        hob_pretokenizing_free(run);
        hob_pretokenizer_close(p);
    }
}

/* FNV-1a over numbers: digests in tests/data have its low 16 bits, in hexadecimal. */
static uint32_t fnv(uint32_t hash, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        hash = (hash ^ (uint8_t)(number >> 8 * i)) * 0x01000193u;
    return hash;
}

enum { FNV_START = 0x811C9DC5 };

static bool is_digest(uint32_t hash, const char *digits)
{
    char got[5];
    snprintf(got, sizeof got, "%04x", (unsigned)(hash & 0xFFFF));
    return memcmp(got, digits, 4) == 0;
}

static int add_length(void *context, const char *piece, size_t len)
{
    uint32_t *hash = context;
    (void)piece;
    *hash = fnv(*hash, (uint32_t)len);
    return 0;
}

/* tests/data/pretokenizer_splits.json, made by make_split_reference.py. */
static void splits_like_the_published_patterns(void **state)
{
    json_t *all = json_load_file("tests/data/pretokenizer_splits.json", 0, NULL);
    json_t *cases = json_load_file("tests/data/tokenizer_smollm2.json", JSON_ALLOW_NUL, NULL);
    json_t *texts = json_object_get(cases, "plain"), *digests;
    const char *name;
    (void)state;
    assert_in_range(json_object_size(all), 25, 100);
    json_object_foreach(all, name, digests)
    {
        hob_pretokenizer *p;
        assert_int_equal(hob_pretokenizer_open((hob_string){name, strlen(name)}, &p, NULL), 0);
        assert_int_equal(json_string_length(digests), 4 * json_array_size(texts));
        for (size_t i = 0; i < json_array_size(texts); i++) {
            json_t *text = json_array_get(json_array_get(texts, i), 0);
            uint32_t hash = FNV_START;
            hob_pretokenizing *run;
            assert_int_equal(hob_pretokenizing_new(p, json_string_length(text), &run), 0);
            assert_int_equal(hob_pretokenize(run, json_string_value(text), json_string_length(text),
                                             add_length, &hash, NULL),
                             0);
            hob_pretokenizing_free(run);
            if (!is_digest(hash, json_string_value(digests) + 4 * i))
                fail_msg("%s case %zu: %s", name, i, json_string_value(text));
        }
        hob_pretokenizer_close(p);
    }
    json_decref(all);
    json_decref(cases);
}

/* How many of texts do not give the ids of digests; the first is printed. */
static size_t count_differences(const hob_tokenizer *t, const json_t *texts, bool special,
                                const json_t *digests, const char *name)
{
    size_t differences = 0;
    assert_int_equal(json_string_length(digests), 4 * json_array_size(texts));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i);
        if (json_is_array(text))
            text = json_array_get(text, 0);
        uint32_t hash = FNV_START;
        hob_ids ids = {0};
        hob_text_range all = {0, json_string_length(text)};
        assert_int_equal(
            hob_tokenize(t, json_string_value(text), all.end, &all, special, false, 0, &ids, NULL),
            0);
        for (size_t j = 0; j < ids.count; j++)
            hash = fnv(hash, ids.data[j]);
        hob_ids_free(&ids);
        if (!is_digest(hash, json_string_value(digests) + 4 * i) && differences++ == 0)
            print_error("%s case %zu: %s\n", name, i, json_string_value(text));
    }
    return differences;
}

/* tests/data/small_vocabularies.json, made by make_small_vocabularies.py. */
static void gives_the_ids_of_the_libraries(void **state)
{
    json_t *all = json_load_file("tests/data/small_vocabularies.json", 0, NULL), *made;
    json_t *cases = json_load_file("tests/data/tokenizer_smollm2.json", JSON_ALLOW_NUL, NULL);
    const char *name;
    (void)state;
    assert_int_equal(json_object_size(all), 4);
    json_object_foreach(all, name, made)
    {
        json_t *list = json_object_get(made, "tokens");
        v_token *tokens = calloc(json_array_size(list), sizeof *tokens);
        assert_non_null(tokens);
        for (size_t i = 0; i < json_array_size(list); i++) {
            json_t *token = json_array_get(list, i);
            tokens[i] = (v_token){json_string_value(json_array_get(token, 0)),
                                  (float)json_number_value(json_array_get(token, 1)),
                                  (int32_t)json_integer_value(json_array_get(token, 2))};
        }
        texts_vocabulary v = texts_vocabulary_of(json_string_value(json_object_get(made, "model")),
                                                 tokens, (uint32_t)json_array_size(list));
        v.add_space = json_is_true(json_object_get(made, "add_space"));
        v.lowercase = json_is_true(json_object_get(made, "lowercase"));
        hob_tokenizer *t = of_texts(v);
        assert_int_equal(count_differences(t, json_object_get(cases, "plain"), false,
                                           json_object_get(made, "ids"), name),
                         0);
        hob_tokenizer_close(t);
        free(tokens);
    }
    json_decref(all);
    json_decref(cases);
}

/* tests/data/llama_cpp_ids.json, made by make_vocabulary_reference.py, for the one vocabulary that
 * HOB_TEST_VOCABULARY names as NAME=FILE: tests/slow does that for all. */
static void gives_llama_cpps_ids_for_a_vocabulary(void **state)
{
    const char *given = getenv("HOB_TEST_VOCABULARY");
    const char *path = given ? strchr(given, '=') : NULL;
    (void)state;
    if (!path)
        fail_msg("HOB_TEST_VOCABULARY=%s is not NAME=FILE", given ? given : "");
    char *name = strndup(given, (size_t)(path - given));
    json_t *all = json_load_file("tests/data/llama_cpp_ids.json", 0, NULL);
    json_t *cases = json_load_file("tests/data/tokenizer_smollm2.json", JSON_ALLOW_NUL, NULL);
    json_t *want = json_object_get(json_object_get(all, "vocabularies"), name);
    hob_gguf *g;
    hob_tokenizer *t;
    hob_diag diag;
    if (hob_gguf_open(path + 1, &g, &diag) < 0 || hob_tokenizer_open(g, &t, &diag) < 0)
        fail_msg("%s", diag.text);
    assert_int_equal(count_differences(t, json_object_get(cases, "plain"), false,
                                       json_array_get(want, 0), name) +
                         count_differences(t, json_object_get(all, "special"), true,
                                           json_array_get(want, 1), name),
                     0);
    hob_tokenizer_close(t);
    hob_gguf_close(g);
    json_decref(all);
    json_decref(cases);
    free(name);
}

static void merges_by_rank(void **state)
{
    hob_tokenizer *t = small("gpt-2");
    (void)state;
    CHECK_IDS(t, "", false, HOB_TOKEN_NONE);
    CHECK_IDS(t, "abab", false, V_ABAB);
    CHECK_IDS(t, "ababab", false, V_ABAB, V_AB);
    CHECK_IDS(t, "baab", false, V_BA, V_AB);
    CHECK_IDS(t, "aaaaa", false, V_AAAA, V_BYTES + 'a');
    CHECK_IDS(t, "x a", false, V_BYTES + 'x', V_SPACE_A);
    CHECK_IDS(t, "\u4e2d", false, V_ZHONG);
    CHECK_IDS(t, "zz", false, V_BYTES + 'z', V_BYTES + 'z');
    hob_tokenizer_close(t);
    t = small("llama-bpe"); /* a piece that is a token is taken whole */
    CHECK_IDS(t, "zz", false, V_WHOLE);
    assert_true(hob_tokenizer_adds_bos(t));
    hob_tokenizer_close(t);
}

/* BPE as it is defined: look at all pairs, merge the leftmost of the lowest rank, again. */
static size_t merge_plainly(uint32_t *ids, size_t count)
{
    static const uint32_t merges[][3] = {
        {V_BYTES + 'a', V_BYTES + 'b', V_AB}, {V_AB, V_AB, V_ABAB},
        {V_BYTES + 'a', V_BYTES + 'a', V_AA}, {V_AA, V_AA, V_AAAA},
        {V_BYTES + 'b', V_BYTES + 'a', V_BA},
    };
    for (size_t rank = 0; rank < sizeof merges / sizeof *merges;) {
        size_t i = 0;
        while (i + 1 < count && (ids[i] != merges[rank][0] || ids[i + 1] != merges[rank][1]))
            i++;
        if (i + 1 >= count) {
            rank++;
            continue;
        }
        ids[i] = merges[rank][2];
        memmove(ids + i + 1, ids + i + 2, (count - i - 2) * sizeof *ids);
        count--;
        rank = 0;
    }
    return count;
}

static void merges_like_the_definition(void **state)
{
    hob_tokenizer *t = small("gpt-2");
    (void)state;
    for (int round = 0; round < 2000; round++) {
        char text[64];
        uint32_t want[64];
        size_t len = 1 + random_below(sizeof text);
        hob_ids ids = {0};
        for (size_t i = 0; i < len; i++) {
            text[i] = "aaabbc"[random_below(6)];
            want[i] = V_BYTES + (uint32_t)text[i];
        }
        size_t count = merge_plainly(want, len);
        assert_int_equal(hob_tokenize(t, text, len, NULL, 0, false, 0, &ids, NULL), 0);
        assert_int_equal(ids.count, count);
        assert_memory_equal(ids.data, want, count * sizeof *want);
        hob_ids_free(&ids);
    }
    hob_tokenizer_close(t);
}

/* Would take hours where a step is quadratic. */
static void long_pieces_are_linear(void **state)
{
    static const char *const pres[] = {
        "gpt-2",        "smollm",         "llama-bpe",   "qwen2",    "default",  "falcon",
        "jais-2",       "tekken",         "gpt-4o",      "tiny_aya", "kimi-k2",  "exaone-moe",
        "deepseek-llm", "deepseek-coder", "deepseek-v3", "superbpe", "chameleon"};
    enum { BYTES = 1 << 18 };
    char *text = malloc(BYTES);
    (void)state;
    for (size_t p = 0; p < sizeof pres / sizeof *pres; p++) {
        hob_tokenizer *t = small(pres[p]);
        for (int i = 0; i < 6; i++) {
            hob_ids ids = {0};
            memset(text, "a =\n'1"[i], BYTES);
            assert_int_equal(hob_tokenize(t, text, BYTES, NULL, 0, false, 0, &ids, NULL), 0);
            assert_int_equal(ids.count, i == 0 ? BYTES / 4 : BYTES);
            ids.count = 0;
            text[0] = '\n';
            text[BYTES - 1] = 'x';
            assert_int_equal(hob_tokenize(t, text, BYTES, NULL, 0, false, 0, &ids, NULL), 0);
            assert_int_equal(ids.count, i == 0 ? BYTES / 4 + 2 : BYTES);
            hob_ids_free(&ids);
        }
        hob_tokenizer_close(t);
    }
    free(text);
}

static void controls_need_trust(void **state)
{
    static const char text[] = "a<|im_end|>b";
    hob_tokenizer *t = small("gpt-2");
    hob_text_range ranges[] = {{0, 1}, {1, 11}};
    (void)state;
    CHECK_IDS(t, text, true, V_BYTES + 'a', V_IM_END, V_BYTES + 'b');
    for (size_t start = 0; start <= 12; start++)
        for (size_t end = start; end <= 12; end++) {
            hob_ids ids = {0};
            ranges[1] = (hob_text_range){start, end};
            ranges[0] = (hob_text_range){0, start < 1 ? start : 1};
            assert_int_equal(hob_tokenize(t, text, 12, ranges, 2, false, 0, &ids, NULL), 0);
            assert_int_equal(ids.count == 3, start <= 1 && end >= 11);
            for (size_t i = 0; i < ids.count && ids.count != 3; i++)
                assert_false(hob_tokenizer_is_control(t, ids.data[i]));
            hob_ids_free(&ids);
        }
    /* User-defined tokens are parsed everywhere, the longest one; the text between stays one. */
    CHECK_IDS(t, "ab<think>ab", false, V_AB, V_THINK, V_AB);
    CHECK_IDS(t, "<thinking", false, V_TH, V_BYTES + 'i', V_BYTES + 'n', V_BYTES + 'k',
              V_BYTES + 'i', V_BYTES + 'n', V_BYTES + 'g');
    CHECK_IDS(t, "<<th", false, V_BYTES + '<', V_TH);
    ranges[0] = (hob_text_range){0, 1};
    ranges[1] = (hob_text_range){1, 2};
    hob_ids ids = {0};
    assert_int_equal(hob_tokenize(t, "abab", 4, ranges, 2, false, 0, &ids, NULL), 0);
    assert_int_equal(ids.count, 1);
    hob_ids_free(&ids);
    hob_tokenizer_close(t);

    /* Neither a merge nor a piece taken whole gives a control token. */
    for (int type = 1; type <= 3; type += 2)
        for (int whole = 0; whole < 2; whole++) {
            vocabulary v = vocabulary_default();
            v.added_merge = "z z";
            v.type_of_whole = type;
            v.pre = whole ? "llama-bpe" : "gpt-2";
            assert_int_equal(open_vocabulary(&v, &t, NULL), 0);
            if (type == 1)
                CHECK_IDS(t, "zz", false, V_WHOLE);
            else
                CHECK_IDS(t, "zz", false, V_BYTES + 'z', V_BYTES + 'z');
            CHECK_IDS(t, "zz", true, V_WHOLE);
            hob_tokenizer_close(t);
        }
}

static void any_bytes_come_back(void **state)
{
    static const char *const pres[] = {"gpt-2", "smollm", "llama-bpe", "qwen2", "default"};
    (void)state;
    for (size_t p = 0; p < sizeof pres / sizeof *pres; p++) {
        hob_tokenizer *t = small(pres[p]);
        for (int round = 0; round < 400; round++) {
            char text[96];
            size_t len = random_below(sizeof text + 1), at = 0;
            bool ascii = random_below(2);
            hob_ids ids = {0};
            for (size_t i = 0; i < len; i++)
                text[i] = (char)(ascii ? 9 + random_below(118) : random_below(256));
            assert_int_equal(hob_tokenize(t, text, len, NULL, 0, false, 0, &ids, NULL), 0);
            for (size_t i = 0; i < ids.count; i++) {
                hob_string piece = hob_tokenizer_piece(t, ids.data[i]);
                assert_true(piece.len > 0 && piece.len <= len - at);
                assert_memory_equal(piece.data, text + at, piece.len);
                at += piece.len;
            }
            assert_int_equal(at, len);
            hob_ids_free(&ids);
        }
        CHECK_IDS(t,
                  "a\xE4\xB8"
                  "a",
                  false, V_BYTES + 'a', V_BYTES + 0xE4, V_BYTES + 0xB8, V_BYTES + 'a');
        CHECK_IDS(t, "\xC0\x80", false, V_BYTES + 0xC0, V_BYTES + 0x80);
        hob_tokenizer_close(t);
    }
}

static void bos_and_limits(void **state)
{
    hob_tokenizer *t = small("gpt-2");
    hob_ids ids = {0};
    hob_diag diag;
    hob_text_range all = {0, 13};
    (void)state;
    assert_int_equal(hob_ids_push(&ids, 7), 0);
    assert_int_equal(hob_tokenize(t, "x", 1, NULL, 0, true, 0, &ids, NULL), 0);
    assert_int_equal(ids.count, 3);
    assert_int_equal(ids.data[1], V_IM_START);
    assert_int_equal(hob_tokenize(t, "<|im_start|>x", 13, &all, 1, true, 0, &ids, NULL), 0);
    assert_int_equal(ids.count, 5);
    assert_int_equal(ids.data[3], V_IM_START);
    assert_int_equal(ids.data[4], V_BYTES + 'x');
    assert_int_equal(hob_tokenize(t, "<|im_start|><|im_start|>", 24, &(hob_text_range){0, 24}, 1,
                                  true, 0, &ids, NULL),
                     0);
    assert_int_equal(ids.count, 7);
    assert_int_equal(hob_tokenize(t, "xyz", 3, NULL, 0, true, 4, &ids, &diag), 0);
    assert_int_equal(hob_tokenize(t, "xyz", 3, NULL, 0, true, 3, &ids, &diag), HOB_ELIMIT);
    assert_non_null(strstr(diag.text, "more than 3 tokens"));
    assert_int_equal(ids.count, 11); /* as before the failure */
    assert_int_equal(ids.data[0], 7);
    hob_ids_free(&ids);
    hob_tokenizer_close(t);
}

static void broken_tables_are_named(void **state)
{
    hob_tokenizer *t = NULL;
    hob_diag diag;
    vocabulary v;
    (void)state;
#define REFUSES(change, code, key)                                                                 \
    do {                                                                                           \
        v = vocabulary_default();                                                                  \
        change;                                                                                    \
        assert_int_equal(open_vocabulary(&v, &t, &diag), code);                                    \
        if (!strstr(diag.text, key))                                                               \
            fail_msg("\"%s\" does not name %s", diag.text, key);                                   \
        assert_null(t);                                                                            \
    } while (0)
    REFUSES(v.model = NULL, HOB_EFORMAT, "tokenizer.ggml.model");
    REFUSES(v.model = "t5", HOB_EUNSUPPORTED, "\"t5\"");
    REFUSES(v.pre = "gpt-3", HOB_EUNSUPPORTED, "\"gpt-3\"");
    REFUSES(v.no_tokens = true, HOB_EFORMAT, "tokenizer.ggml.tokens");
    REFUSES(v.no_merges = true, HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.type_count = V_COUNT - 1, HOB_EFORMAT, "tokenizer.ggml.token_type");
    REFUSES(v.type_of_whole = 7, HOB_EFORMAT, "tokenizer.ggml.token_type");
    REFUSES(v.type_of_whole = -1, HOB_EFORMAT, "tokenizer.ggml.token_type");
    REFUSES(v.merge = "", HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.merge = "ab", HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.merge = " ab", HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.merge = "ab ", HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.merge = "a nothing", HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.merge = "a z", HOB_EFORMAT, "tokenizer.ggml.merges");
    REFUSES(v.bos = V_COUNT, HOB_EFORMAT, "tokenizer.ggml.bos_token_id");
    REFUSES(v.eos = V_COUNT, HOB_EFORMAT, "tokenizer.ggml.eos_token_id");
    REFUSES(v.eot = V_COUNT, HOB_EFORMAT, "tokenizer.ggml.eot_token_id");

    v = vocabulary_default();
    v.bos = v.eos = UINT32_MAX;
    v.eot = V_WHOLE;
    v.pre = NULL;
    v.add_bos = 1;
    v.merge = "a b"; /* twice */
    assert_int_equal(open_vocabulary(&v, &t, &diag), 0);
    assert_int_equal(hob_tokenizer_bos(t), HOB_TOKEN_NONE);
    assert_int_equal(hob_tokenizer_eos(t), HOB_TOKEN_NONE);
    assert_true(hob_tokenizer_is_end(t, V_WHOLE));
    assert_true(hob_tokenizer_is_end(t, V_IM_END)); /* by its text */
    assert_true(hob_tokenizer_adds_bos(t));
    hob_tokenizer_close(t);
}

/* Detokenizes bytes one a token; parts of the output are separated by "|". */
static const char *detokenized(const hob_tokenizer *t, const char *bytes, size_t len)
{
    static char out[256];
    hob_detokenizer d = {0};
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        used += hob_detokenize(t, &d, V_BYTES + (unsigned char)bytes[i], false, out + used, 64);
        out[used++] = '|';
    }
    used += hob_detokenize_end(&d, out + used, 64);
    out[used] = 0;
    assert_int_equal(d.held_len, 0);
    return out;
}

static void characters_come_out_whole(void **state)
{
    hob_tokenizer *t = small("gpt-2");
    hob_detokenizer d = {0};
    char out[64];
    (void)state;
    assert_string_equal(detokenized(t, "a\xC3\xA9", 3), "a||\u00e9|");
    assert_string_equal(detokenized(t, "\xF0\x9F\x98\x80", 4), "|||\U0001F600|");
    assert_string_equal(detokenized(t, "\xFFz", 2), "\uFFFD|z|");
    assert_string_equal(detokenized(t, "\x80", 1), "\uFFFD|");
    assert_string_equal(detokenized(t, "\xE4\xB8z", 3), "||\uFFFDz|");
    assert_string_equal(detokenized(t, "\xE4\xE4\xB8\xAD", 4), "|\uFFFD||\u4e2d|");
    assert_string_equal(detokenized(t, "\xF0\x9F\x98", 3), "|||\uFFFD");
    assert_string_equal(detokenized(t, "\xED\xA0\x80", 3), "|\uFFFD\uFFFD|\uFFFD|");
    assert_string_equal(detokenized(t, "\xF4\x90", 2), "|\uFFFD\uFFFD|");
    assert_int_equal(hob_detokenize(t, &d, V_IM_END, false, out, sizeof out), 0);
    assert_int_equal(hob_detokenize(t, &d, V_IM_END, true, out, sizeof out), 10);
    assert_memory_equal(out, "<|im_end|>", 10);
    assert_int_equal(hob_detokenize(t, &d, V_THINK, false, out, sizeof out), 7);
    assert_int_equal(hob_detokenize(t, &d, V_COUNT, true, out, sizeof out), 0);
    assert_int_equal(hob_detokenize(t, &d, V_E4B8, true, out, sizeof out), 0);
    assert_int_equal(hob_detokenize(t, &d, V_BYTES + 0xAD, true, out, sizeof out), 3);
    assert_memory_equal(out, "\u4e2d", 3);
    assert_int_equal(hob_detokenize(t, &d, V_THINK, false, out, 3),
                     3); /* too small: cut, no overrun */
    assert_int_equal(hob_tokenizer_longest_piece(t), 13);
    hob_tokenizer_close(t);
}

static void *tokenize_often(void *shared)
{
    static const char text[] = "abab 1234 don't \u4e2d\xFF<think> aaaaa";
    size_t *failures = calloc(1, sizeof *failures);
    hob_ids first = {0};
    if (!failures ||
        hob_tokenize(shared, text, sizeof text - 1, NULL, 0, false, 0, &first, NULL) < 0)
        return failures;
    for (int i = 0; i < 300; i++) {
        hob_ids ids = {0};
        if (hob_tokenize(shared, text, sizeof text - 1, NULL, 0, false, 0, &ids, NULL) < 0 ||
            ids.count != first.count ||
            memcmp(ids.data, first.data, ids.count * sizeof *ids.data) != 0)
            ++*failures;
        hob_ids_free(&ids);
    }
    hob_ids_free(&first);
    return failures;
}

/* Of use under ThreadSanitizer above all. */
static void threads_share_a_tokenizer(void **state)
{
    hob_tokenizer *t = small("smollm");
    pthread_t threads[4];
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, tokenize_often, t), 0);
    for (int i = 0; i < 4; i++) {
        void *failures = NULL;
        assert_int_equal(pthread_join(threads[i], &failures), 0);
        assert_non_null(failures);
        assert_int_equal(*(size_t *)failures, 0);
        free(failures);
    }
    hob_tokenizer_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_llama_cpps_ids),
        cmocka_unit_test(knows_smollm2s_special_tokens),
        cmocka_unit_test(splits_as_named),
        cmocka_unit_test(splits_like_the_published_patterns),
        cmocka_unit_test(gives_the_ids_of_the_libraries),
        cmocka_unit_test(merges_by_rank),
        cmocka_unit_test(merges_like_the_definition),
        cmocka_unit_test(long_pieces_are_linear),
        cmocka_unit_test(controls_need_trust),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(bos_and_limits),
        cmocka_unit_test(broken_tables_are_named),
        cmocka_unit_test(characters_come_out_whole),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    const struct CMUnitTest of_a_vocabulary[] = {
        cmocka_unit_test(gives_llama_cpps_ids_for_a_vocabulary)};
    if (getenv("HOB_TEST_VOCABULARY"))
        return cmocka_run_group_tests(of_a_vocabulary, NULL, NULL);
    return cmocka_run_group_tests(tests, open_model, close_model);
}
