/* SPDX-License-Identifier: Apache-2.0
 *
 * Pre-tokenizers: the table of names and patterns, and their application. See pretokenize.h.
 *
 * The text is checked to be UTF-8 once by the caller, so PCRE2 is told not to check it again:
 * otherwise every match would rescan all of the text. Each pattern sees its piece as the whole
 * subject, because `\s+(?!\S)` must see the end of a piece as the end of the text. White space is
 * Unicode's White_Space property; PCRE2's \s has U+180E too.
 *
 * Which names share patterns is what llama.cpp and the models' tokenizer.json files agree on. */
#include "models/pretokenize.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define SPACE "\\p{Z}\\t-\\r\\x{85}"
#define NOT_WORD "[^" SPACE "\\p{L}\\p{N}]"
#define SPACES "[" SPACE "]+(?![^" SPACE "])"
#define CONTRACTIONS "'(?:s|t|re|ve|m|ll|d)"
#define CONTRACTIONS_ANY_CASE "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"

/* The split of GPT-2. */
#define GPT2 CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?" NOT_WORD "+|" SPACES "|[" SPACE "]+"
/* The split of cl100k, which Llama 3 and Qwen 2 took over with different numbers. */
#define CL100K(numbers)                                                                            \
    CONTRACTIONS_ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?" NOT_WORD                 \
                          "+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|" SPACES "|[" SPACE "]+"

enum { PATTERNS_MAX = 4 };

typedef struct pre_entry {
    const char *name;
    const char *patterns[PATTERNS_MAX];
    bool adds_bos, ignores_merges;
} pre_entry;

static const pre_entry pre_table[] = {
    {"smollm", {"\\p{N}", GPT2}, false, false},
    {"starcoder", {"\\p{N}", GPT2}, false, false},
    {"refact", {"\\p{N}", GPT2}, false, false},
    {"command-r", {"\\p{N}", GPT2}, false, false},
    {"gpt-2", {GPT2}, false, false},
    {"phi-2", {GPT2}, false, false},
    {"default", {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}, false, false},
    {"llama-bpe", {CL100K("\\p{N}{1,3}")}, true, true},
    {"llama3", {CL100K("\\p{N}{1,3}")}, true, true},
    {"llama-v3", {CL100K("\\p{N}{1,3}")}, true, true},
    {"qwen2", {CL100K("\\p{N}")}, false, false},
    {"deepseek-r1-qwen", {CL100K("\\p{N}")}, false, false},
};

struct hob_pretokenizer {
    const pre_entry *entry;
    uint32_t count;
    pcre2_code *codes[PATTERNS_MAX];
};

struct hob_pretokenizing {
    const hob_pretokenizer *pre;
    pcre2_match_context *limits;
    pcre2_match_data *match[PATTERNS_MAX]; /* one a pattern: they are in use one inside the other */
    hob_piece_fn *each;
    void *context;
    hob_diag *diag;
};

int hob_pretokenizer_open(hob_string name, hob_pretokenizer **ret, hob_diag *diag)
{
    hob_pretokenizer *p = NULL;
    const pre_entry *entry = NULL;
    int r;
    for (size_t i = 0; i < sizeof pre_table / sizeof *pre_table && !entry; i++)
        if (strlen(pre_table[i].name) == name.len &&
            memcmp(pre_table[i].name, name.data, name.len) == 0)
            entry = &pre_table[i];
    if (!entry)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tokenizer.ggml.pre: \"%.*s\" is not a pre-tokenizer that hob knows",
                        (int)(name.len < 64 ? name.len : 64), name.data);
    p = calloc(1, sizeof *p);
    if (!p) {
        r = hob_fail(diag, HOB_ENOMEM, "out of memory for the pre-tokenizer");
        goto fail;
    }
    p->entry = entry;
    for (; p->count < PATTERNS_MAX && entry->patterns[p->count]; p->count++) {
        int error;
        PCRE2_SIZE offset;
        p->codes[p->count] =
            pcre2_compile((PCRE2_SPTR)entry->patterns[p->count], PCRE2_ZERO_TERMINATED,
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, NULL);
        if (!p->codes[p->count]) {
            r = hob_fail(diag, HOB_EUNSUPPORTED,
                         "pre-tokenizer %s: pattern %u: PCRE2 error %d at offset %zu", entry->name,
                         p->count, error, (size_t)offset);
            goto fail;
        }
    }
    *ret = p;
    return 0;

fail:
    hob_pretokenizer_close(p);
    return r;
}

void hob_pretokenizer_close(hob_pretokenizer *p)
{
    if (!p)
        return;
    for (uint32_t i = 0; i < PATTERNS_MAX; i++)
        pcre2_code_free(p->codes[i]);
    free(p);
}

bool hob_pretokenizer_adds_bos(const hob_pretokenizer *p)
{
    return p->entry->adds_bos;
}

bool hob_pretokenizer_ignores_merges(const hob_pretokenizer *p)
{
    return p->entry->ignores_merges;
}

int hob_pretokenizing_new(const hob_pretokenizer *p, size_t bytes, hob_pretokenizing **ret)
{
    hob_pretokenizing *run = calloc(1, sizeof *run);
    if (!run)
        return HOB_ENOMEM;
    run->pre = p;
    run->limits = pcre2_match_context_create(NULL);
    if (!run->limits)
        goto fail;
    /* Our patterns look at a character a small number of times in one match; the limits only stop
     * what we did not think of, long before a person would notice. */
    size_t steps = bytes < 64u << 20 ? 1000000 + 16 * bytes : UINT32_MAX;
    pcre2_set_match_limit(run->limits, (uint32_t)steps);
    pcre2_set_heap_limit(run->limits, 64 * 1024); /* KiB */
    for (uint32_t i = 0; i < p->count; i++) {
        run->match[i] = pcre2_match_data_create(1, NULL);
        if (!run->match[i])
            goto fail;
    }
    *ret = run;
    return 0;

fail:
    hob_pretokenizing_free(run);
    return HOB_ENOMEM;
}

void hob_pretokenizing_free(hob_pretokenizing *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; i < PATTERNS_MAX; i++)
        pcre2_match_data_free(run->match[i]);
    pcre2_match_context_free(run->limits);
    free(run);
}

/* Splits by pattern `level` and hands the pieces to the next one; no deeper than PATTERNS_MAX. */
static int split(hob_pretokenizing *run, uint32_t level, const char *text, size_t len)
{
    if (level == run->pre->count)
        return run->each(run->context, text, len);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(run->match[level]);
    size_t done = 0;
    while (done < len) {
        int n = pcre2_match(run->pre->codes[level], (PCRE2_SPTR)text, len, done,
                            PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, run->match[level], run->limits);
        if (n < 0 && n != PCRE2_ERROR_NOMATCH) {
            if (n == PCRE2_ERROR_NOMEMORY)
                return hob_fail(run->diag, HOB_ENOMEM,
                                "out of memory splitting a text of %zu bytes", len);
            return hob_fail(
                run->diag, HOB_ELIMIT,
                "pre-tokenizer %s: pattern %u gave up on a text of %zu bytes (PCRE2 error %d)",
                run->pre->entry->name, level, len, n);
        }
        size_t start = n < 0 ? len : span[0], end = n < 0 ? len : span[1];
        int r = 0;
        if (start > done)
            r = split(run, level + 1, text + done, start - done);
        if (r >= 0 && end > start)
            r = split(run, level + 1, text + start, end - start);
        if (r < 0)
            return r;
        done = end;
    }
    return 0;
}

int hob_pretokenize(hob_pretokenizing *run, const char *text, size_t len, hob_piece_fn *each,
                    void *context, hob_diag *diag)
{
    run->each = each;
    run->context = context;
    run->diag = diag;
    return split(run, 0, text, len);
}
