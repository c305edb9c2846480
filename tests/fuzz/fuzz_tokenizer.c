/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over tokenizing, detokenizing and stop strings with the small vocabularies of
 * tests/support/vocabulary.h. Input: a byte that chooses the pre-tokenizer, or one of the families
 * without, two that place a trusted range, then the text. The byte-level vocabulary has all bytes,
 * so the pieces must add up to the text, control tokens may come from the trusted range only, and
 * the detokenized text must be UTF-8 that does not depend on how it was cut. */
#include <string.h>

#include "models/sampler.h"
#include "models/tokenizer.h"
#include "models/utf8.h"
#include "tests/fuzz/check.h"
#include "tests/support/vocabulary.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The text of ids through the stop strings; the caller frees it. */
static char *render(const hob_tokenizer *t, const hob_ids *ids, size_t *ret_len)
{
    static const char *const strings[] = {"abab", "\n\n", "\u4e2d", "ba"};
    size_t piece = 3 * (hob_tokenizer_longest_piece(t) + 4);
    size_t cap = (ids->count + 1) * piece + HOB_STOP_BYTES_MAX, used = 0, n;
    char *part = malloc(piece), *out = malloc(cap), *kept = malloc(piece + HOB_STOP_BYTES_MAX);
    hob_detokenizer d = {.held_len = 0};
    hob_stops *stops;
    bool found = false;
    CHECK(part && out && kept && hob_stops_new(strings, 4, &stops, NULL) == 0);
    for (size_t i = 0; i <= ids->count && !found; i++) {
        size_t len = i < ids->count ? hob_detokenize(t, &d, ids->data[i], true, part, piece)
                                    : hob_detokenize_end(&d, part, piece);
        found = hob_stops_feed(stops, part, len, kept, &n);
        CHECK(n <= len + HOB_STOP_BYTES_MAX && used + n <= cap);
        for (size_t j = 0; j < n;) { /* nothing ends inside a character */
            int step = hob_utf8_step(kept + j, n - j);
            CHECK(step > 0);
            j += (size_t)step;
        }
        memcpy(out + used, kept, n);
        used += n;
    }
    if (!found)
        used += hob_stops_end(stops, out + used);
    for (size_t i = 0; i < 4; i++)
        CHECK(!memmem(out, used, strings[i], strlen(strings[i])));
    hob_stops_free(stops);
    free(part);
    free(kept);
    *ret_len = used;
    return out;
}

/* What holds where ids do not keep every byte of the text. */
static void check_texts(const hob_tokenizer *t, const char *text, size_t len,
                        const hob_text_range *trusted)
{
    hob_ids ids = {0};
    size_t used;
    CHECK(hob_tokenize(t, text, len, trusted, 1, false, 0, &ids, NULL) == 0);
    for (size_t i = 0; i < ids.count; i++)
        CHECK(ids.data[i] < hob_tokenizer_size(t) &&
              (!hob_tokenizer_is_control(t, ids.data[i]) || trusted->end > trusted->start ||
               ids.data[i] == hob_tokenizer_unknown(t)));
    free(render(t, &ids, &used));
    hob_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    enum { NAMES = 10, BYTE_LEVEL = 8 };
    static const char *const names[NAMES] = {"gpt-2",  "smollm",  "llama-bpe", "qwen2", "default",
                                             "tekken", "kimi-k2", "superbpe",  "llama", "bert"};
    static hob_tokenizer *made[NAMES];
    if (bytes < 3)
        return 0;
    const size_t which = data[0] % NAMES;
    if (!made[which])
        made[which] = small_tokenizer(names[which]);
    const hob_tokenizer *t = made[which];
    const size_t len = bytes - 3;
    char *text = malloc(len + 1);
    CHECK(text);
    memcpy(text, data + 3, len);
    hob_text_range trusted = {data[1], (size_t)data[1] + data[2]};
    hob_ids ids = {0}, single = {0};
    size_t at = 0, cut_len, single_len;
    if (which >= BYTE_LEVEL) {
        check_texts(t, text, len, &trusted);
        free(text);
        return 0;
    }
    CHECK(hob_tokenize(t, text, len, &trusted, 1, false, 0, &ids, NULL) == 0);
    for (size_t i = 0; i < ids.count; i++) {
        hob_string piece = hob_tokenizer_piece(t, ids.data[i]);
        CHECK(piece.len > 0 && piece.len <= len - at);
        CHECK(memcmp(piece.data, text + at, piece.len) == 0);
        if (hob_tokenizer_is_control(t, ids.data[i]))
            CHECK(at >= trusted.start && at + piece.len <= trusted.end);
        at += piece.len;
    }
    CHECK(at == len);
    for (size_t i = 0; i < len; i++)
        CHECK(hob_ids_push(&single, V_BYTES + (unsigned char)text[i]) == 0);
    char *cut = render(t, &ids, &cut_len), *one = render(t, &single, &single_len);
    CHECK(cut_len == single_len && memcmp(cut, one, cut_len) == 0);
    free(cut);
    free(one);
    free(text);
    hob_ids_free(&ids);
    hob_ids_free(&single);
    return 0;
}
