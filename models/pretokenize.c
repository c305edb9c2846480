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
#define NOT_SPACE "[^" SPACE "]"
#define NOT_WORD "[^" SPACE "\\p{L}\\p{N}]"
#define SPACES "[" SPACE "]+(?!" NOT_SPACE ")|[" SPACE "]+"
#define LINES "[" SPACE "]*[\\r\\n]+"
#define CONTRACTIONS "'(?:s|t|re|ve|m|ll|d)"
#define CONTRACTIONS_ANY_CASE "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
#define ASCII_PUNCTUATION "!-/:-@\\[-`{-~"
#define UP_TO_3 "\\p{N}{1,3}"
#define ONE "\\p{N}"

/* The split of GPT-2. */
#define GPT2 CONTRACTIONS "| ?\\p{L}+| ?\\p{N}+| ?" NOT_WORD "+|" SPACES
/* The split of cl100k, which Llama 3 and Qwen 2 took over with different numbers. */
#define CL100K_WORDS(numbers)                                                                      \
    "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?" NOT_WORD "+[\\r\\n]*|" LINES "|" SPACES
#define CL100K(numbers) CONTRACTIONS_ANY_CASE "|" CL100K_WORDS(numbers)
/* The split of o200k: words change from upper to lower case once; those of Kimi have no Han. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(upper, lower, ending)                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower  \
    "*" ending
#define O200K_REST(numbers, after) numbers "| ?" NOT_WORD "+[\\r\\n" after "]*|" LINES "|" SPACES
#define ENDING "(?:" CONTRACTIONS_ANY_CASE ")?"
#define O200K CASED(UPPER, LOWER, ENDING) "|" O200K_REST(UP_TO_3, "/")
#define HAN "\\p{sc:Han}"
#define UPPER_NOT_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
#define LOWER_NOT_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
/* The split of DeepSeek V3, without its numbers and CJK. */
#define DEEPSEEK3_WORDS(after)                                                                     \
    "[" ASCII_PUNCTUATION "][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}" \
    "]+" after "|" SPACES
#define CJK "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
/* Threes counted from the end of a number. The condition is looked at where the number begins; each
 * further three is known by the match before it, or a long number would take quadratic time. */
#define THREES(digit, end)                                                                         \
    "(?<!" digit ")" digit "{1,3}(?=(?:" digit "{3})*+" end ")|\\G(?<=" digit ")" digit "{3}"
#define WORD_END "(?![\\p{L}\\p{M}\\p{Nd}\\p{Pc}])"
#define BLOOM " ?[^(" SPACE "|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
/* White space that CL100K leaves whole, in powers of two. */
#define SPACE_POWERS                                                                               \
    "(?:\\A(?=[" SPACE "]++\\z(?<![\\r\\n]))|(?!\\A)\\G)(?:[" SPACE "]{512}|[" SPACE               \
    "]{256}|[" SPACE "]{128}|[" SPACE "]{64}|[" SPACE "]{32}|[" SPACE "]{16}|[" SPACE              \
    "]{8}|[" SPACE "]{4}|[" SPACE "]{1,2})"
/* Cased letters, and punctuation, of DeepSeek's first models. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af"   \
    "\u0370-\u0373\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1"           \
    "\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd"  \
    "\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d"  \
    "\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"          \
    "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"         \
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"     \
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b"    \
    "\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"   \
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"               \
    "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"         \
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
#define CASED_PUNCTUATION "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
#define OLD_CJK "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

enum { PATTERNS_MAX = 6 };

typedef struct pre_entry {
    const char *names; /* each with a space behind */
    const char *patterns[PATTERNS_MAX];
    bool adds_bos, ignores_merges;
} pre_entry;

static const pre_entry pre_table[] = {
    {.names = "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat a.x-4.0 mellum exaone4 "
              "modern-bert jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code "
              "roberta-bpe ",
     .patterns = {GPT2}},
    {.names = "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2 ",
     .patterns = {ONE, GPT2}},
    {.names = "default ", .patterns = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {.names = "falcon ", .patterns = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.names = "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ",
     .patterns = {CL100K(UP_TO_3)},
     .adds_bos = true,
     .ignores_merges = true},
    {.names = "glm4 glm5 ", .patterns = {CL100K(UP_TO_3)}, .ignores_merges = true},
    {.names = "dbrx smaug-bpe chatglm-bpe ", .patterns = {CL100K(UP_TO_3)}},
    {.names = "jais-2 ", .patterns = {CL100K(UP_TO_3), SPACE_POWERS}},
    {.names = "minicpm5 ", .patterns = {UP_TO_3, CL100K("\\p{N}+")}, .ignores_merges = true},
    {.names = "qwen2 deepseek-r1-qwen stablelm2 megrez hunyuan solar-open grok-2 kormo f2llmv2 ",
     .patterns = {CL100K(ONE)}},
    {.names = "laguna ", .patterns = {"[^\\n]+|\\n+", CL100K(ONE)}},
    {.names = "ufakzeka ", .patterns = {CL100K_WORDS(ONE)}},
    {.names = "qwen35 ",
     .patterns = {CONTRACTIONS_ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|" ONE "| ?[^" SPACE
                                        "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES "|" SPACES}},
    {.names = "bailingmoe bailingmoe2 llada-moe ",
     .patterns = {CONTRACTIONS_ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" ONE "| ?" NOT_WORD
                                        "+[\\r\\n]*|[" SPACE "]*[\\r\\n]|" SPACES}},
    {.names = "seed-coder ",
     .patterns = {CONTRACTIONS_ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" ONE "| ?[^" SPACE
                                        "\\p{L}\\p{N}\\r\\n]+|" LINES "|" SPACES}},
    {.names = "exaone-moe ",
     .patterns = {CONTRACTIONS_ANY_CASE
                  "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|" ONE
                  "| ?" NOT_WORD "+[\\r\\n/]?|[" SPACE "]*[\\r\\n]|" SPACES}},
    {.names = "tekken ",
     .patterns = {CASED(UPPER, LOWER, "") "|" O200K_REST(ONE, "/")},
     .adds_bos = true,
     .ignores_merges = true},
    {.names = "gpt-4o llama4 kanana2 talkie minimax-m2 ", .patterns = {O200K}},
    {.names = "granite-embed-multi-97m ", .patterns = {O200K}, .ignores_merges = true},
    {.names = "tiny_aya cohere2moe ", .patterns = {THREES("\\p{Nd}", WORD_END), O200K}},
    {.names = "kimi-k2 ",
     .patterns = {HAN
                  "+|" CASED(UPPER_NOT_HAN, LOWER_NOT_HAN, ENDING) "|" O200K_REST(UP_TO_3, "")}},
    {.names = "youtu ",
     .patterns = {"[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a"
                  "\uff1b\uff0c\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|" CJK,
                  CASED(UPPER, LOWER, ENDING) "|" O200K_REST(ONE, "/")},
     .ignores_merges = true},
    {.names = "deepseek-llm ",
     .patterns = {"[\\r\\n]", "[" SPACE "]?[" CASED_LETTERS "]+",
                  "[" SPACE "]?[" CASED_PUNCTUATION "]+", "(?<![" SPACE "])[" SPACE "]++$", OLD_CJK,
                  "\\p{N}+"}},
    {.names = "deepseek-coder ",
     .patterns = {"[\\r\\n]", "[" SPACE "]?\\p{L}+", "[" SPACE "]?\\p{P}+", OLD_CJK, ONE}},
    {.names = "deepseek-v3 hunyuan-dense joyai-llm hy_v4 ",
     .patterns = {UP_TO_3, CJK, DEEPSEEK3_WORDS("[\\r\\n]*|" LINES)}},
    {.names = "spark2_5 ", .patterns = {UP_TO_3, CJK, DEEPSEEK3_WORDS("|[\\r\\n]"), ONE}},
    {.names = "bloom poro-chat gpt3-finnish ", .patterns = {BLOOM}},
    {.names = "viking ", .patterns = {BLOOM, ONE}},
    {.names = "superbpe ", .patterns = {"\\p{N}+", THREES("\\p{Nd}", "(?!\\p{Nd})")}},
    {.names = "afmoe ",
     .patterns = {THREES("\\p{Nd}", "(?!\\p{Nd})"),
                  "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f"
                  "\u2f00-\u2fdf\u0e00-\u0e7f\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f"
                  "\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+",
                  DEEPSEEK3_WORDS("[\\r\\n]*|" LINES)}},
    {.names = "chameleon ",
     .patterns = {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", ONE,
                  "[\\p{P}" ASCII_PUNCTUATION "]", GPT2},
     .adds_bos = true},
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

static bool has_name(const pre_entry *entry, hob_string name)
{
    for (const char *at = entry->names; *at; at += strcspn(at, " ") + 1)
        if (strcspn(at, " ") == name.len && memcmp(at, name.data, name.len) == 0)
            return true;
    return false;
}

int hob_pretokenizer_open(hob_string name, hob_pretokenizer **ret, hob_diag *diag)
{
    hob_pretokenizer *p = NULL;
    const pre_entry *entry = NULL;
    int r;
    for (size_t i = 0; i < sizeof pre_table / sizeof *pre_table && !entry; i++)
        if (has_name(&pre_table[i], name))
            entry = &pre_table[i];
    if (!entry)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "tokenizer.ggml.pre: got \"%.*s\", for which hob has no patterns; "
                        "if the model splits text like another (gpt-2, llama-bpe, qwen2, "
                        "tekken, gpt-4o, deepseek-v3, ...), set the key to that one's name",
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
                         "pre-tokenizer %.*s: pattern %u: PCRE2 error %d at offset %zu",
                         (int)name.len, name.data, p->count, error, (size_t)offset);
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
                "pre-tokenizer %.*s: pattern %u gave up on a text of %zu bytes (PCRE2 error %d)",
                (int)strcspn(run->pre->entry->names, " "), run->pre->entry->names, level, len, n);
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
