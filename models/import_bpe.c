/* SPDX-License-Identifier: Apache-2.0
 *
 * A byte-level BPE vocabulary, out of tokenizer.json. How a text is split before the merges is written there as regular
 * expressions; GGUF has names for them (tokenizer.ggml.pre). Those that are known here are the splits of GPT-2, SmolLM,
 * Llama 3 and Qwen 2; others are refused, because a wrong split changes the ids and nothing else would tell. The
 * normalization to NFC that Qwen's files ask for is left out, as it is in every GGUF file of theirs. */
#include <stdlib.h>
#include <string.h>

#include "models/import_private.h"
#include "models/tokenizer_load.h"

enum { MERGES_MAX = 1 << 23 };

/* Behind a contraction in any case: letters, numbers, other characters, and white space in three ways. */
#define SPLIT(numbers)                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers                          \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *pattern, *pre;
    bool ignores_merges; /* a piece that is a token is taken whole */
} splits[] = {
    {SPLIT("\\p{N}{1,3}"), "llama-bpe", true},
    {SPLIT("\\p{N}"), "qwen2", false},
};

/* Steps of the pre-tokenizer, of which a sequence has several. */
static const json_t *step(const json_t *pre, size_t i)
{
    const json_t *steps = json_object_get(pre, "pretokenizers");
    return steps ? json_array_get(steps, i) : i == 0 ? pre : NULL;
}

static bool is_type(const json_t *o, const char *type)
{
    const char *text = json_string_value(json_object_get(o, "type"));
    return text && strcmp(text, type) == 0;
}

static bool flag_or(const json_t *o, const char *key, bool missing)
{
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : missing;
}

/* The bytes-to-characters step, with GPT-2's own split or without. */
static bool is_byte_level(const json_t *o, bool splits_too)
{
    return is_type(o, "ByteLevel") && !flag_or(o, "add_prefix_space", true) &&
           flag_or(o, "use_regex", true) == splits_too;
}

/* GGUF's name of the split; NULL: it has none that is known here. */
static const char *find_pre(const json_t *pre, bool ignores_merges)
{
    const json_t *first = step(pre, 0), *second = step(pre, 1);
    if (step(pre, 2))
        return NULL;
    if (!second)
        return is_byte_level(first, true) && !ignores_merges ? "gpt-2" : NULL;
    if (is_type(first, "Digits"))
        return flag_or(first, "individual_digits", false) && is_byte_level(second, true) &&
                       !ignores_merges
                   ? "smollm"
                   : NULL;
    const char *behavior = json_string_value(json_object_get(first, "behavior"));
    const char *pattern =
        json_string_value(json_object_get(json_object_get(first, "pattern"), "Regex"));
    if (!is_type(first, "Split") || !behavior || strcmp(behavior, "Isolated") != 0 ||
        flag_or(first, "invert", false) || !pattern || !is_byte_level(second, false))
        return NULL;
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++)
        if (strcmp(splits[i].pattern, pattern) == 0 && splits[i].ignores_merges == ignores_merges)
            return splits[i].pre;
    return NULL;
}

/* What changes a text before it is split, or tokens in a way that hob does not have. */
static int check_model(const json_t *tokenizer, const json_t *model, hob_diag *diag)
{
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *normalizer = json_object_get(tokenizer, "normalizer");
    int rc = hob_import_must_be(model, "type", "BPE", diag);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const char *text = json_string_value(json_object_get(model, empty[i]));
        if (text && text[0])
            return hob_fail(diag, HOB_EUNSUPPORTED, "%s: %s: got \"%.40s\", supported is none",
                            HOB_IMPORT_TOKENIZER, empty[i], text);
    }
    if (flag_or(model, "byte_fallback", false))
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: byte_fallback: got true (a SentencePiece vocabulary), supported is "
                        "byte-level BPE",
                        HOB_IMPORT_TOKENIZER);
    if (normalizer && !json_is_null(normalizer))
        return hob_import_must_be(normalizer, "type", "NFC", diag);
    return 0;
}

/* --- what is put in front and behind --- */

typedef struct frame {
    const char *first, *last; /* texts of special tokens; NULL: none */
} frame;

/* One processor: it adds nothing, or a token at either end. */
static int read_processor(const json_t *o, frame *ret, hob_diag *diag)
{
    if (is_type(o, "ByteLevel"))
        return 0;
    const json_t *single = json_object_get(o, "single");
    const size_t count = json_array_size(single);
    size_t text_at = count;
    for (size_t i = 0; i < count; i++)
        if (json_object_get(json_array_get(single, i), "Sequence"))
            text_at = i;
    if (!is_type(o, "TemplateProcessing") || text_at == count || text_at > 1 || count - text_at > 2)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: post_processor: supported are ByteLevel, and TemplateProcessing with "
                        "at most one token before the text and one behind",
                        HOB_IMPORT_TOKENIZER);
    for (size_t i = 0; i < count; i++) {
        const char *id = json_string_value(
            json_object_get(json_object_get(json_array_get(single, i), "SpecialToken"), "id"));
        if (i < text_at)
            ret->first = id;
        else if (i > text_at)
            ret->last = id;
    }
    return 0;
}

static int read_frame(const json_t *tokenizer, frame *ret, hob_diag *diag)
{
    const json_t *post = json_object_get(tokenizer, "post_processor");
    if (!post || json_is_null(post))
        return 0;
    if (!is_type(post, "Sequence"))
        return read_processor(post, ret, diag);
    const json_t *list = json_object_get(post, "processors");
    int rc = 0;
    for (size_t i = 0; i < json_array_size(list) && rc == 0; i++)
        rc = read_processor(json_array_get(list, i), ret, diag);
    return rc;
}

/* Whether the token of this id is put there: as the frame says, which knows it by its text, and tokenizer_config.json may
 * overrule. */
static int put_adds(const hob_import_texts *texts, const hob_import_vocab *v, const char *text,
                    uint32_t id, const char *role, const char *key, hob_gguf_writer *out,
                    hob_diag *diag)
{
    bool adds = text != NULL;
    if (adds && hob_import_vocab_find(v, text) != id)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: post_processor: it adds \"%.40s\", which is another token than the "
                        "one of %s",
                        HOB_IMPORT_TOKENIZER, text, key);
    const int rc = texts->config ? hob_strict_bool(HOB_IMPORT_TOKENIZER_CONFIG, texts->config, role,
                                                   &adds, diag)
                                 : 0;
    if (rc < 0 && rc != HOB_ENOENT)
        return rc;
    hob_gguf_put_bool(out, key, adds && id != HOB_TOKEN_NONE);
    return 0;
}

/* --- ids --- */

/* The token of a role: its text in tokenizer_config.json, or its id in config.json, of which there may be several. */
static int find_role(const hob_import_texts *texts, const json_t *config, const hob_import_vocab *v,
                     const char *role, const char *id_key, uint32_t *ret, hob_diag *diag)
{
    const char *text = hob_import_role(texts, role);
    const json_t *id = json_object_get(config, id_key);
    *ret = HOB_TOKEN_NONE;
    if (text) {
        *ret = hob_import_vocab_find(v, text);
        if (*ret == HOB_TOKEN_NONE)
            return hob_fail(diag, HOB_EFORMAT, "%s: %s: \"%.40s\" is not in the vocabulary",
                            HOB_IMPORT_TOKENIZER_CONFIG, role, text);
        return 0;
    }
    if (json_is_array(id))
        id = json_array_get(id, 0);
    if (!id || json_is_null(id))
        return 0;
    const json_int_t n = json_integer_value(id);
    if (!json_is_integer(id) || n < 0 || n >= v->rows)
        return hob_fail(diag, HOB_EFORMAT, "%s: %s: allowed are 0 to %u", HOB_IMPORT_CONFIG, id_key,
                        v->rows - 1);
    *ret = (uint32_t)n;
    return 0;
}

static int put_ids(const hob_import_texts *texts, const json_t *config, const hob_import_vocab *v,
                   hob_gguf_writer *out, hob_diag *diag)
{
    static const struct {
        const char *role, *id_key, *key;
    } ids[] = {{"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id"},
               {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id"},
               {"unk_token", "unk_token_id", "tokenizer.ggml.unknown_token_id"},
               {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id"}};
    uint32_t found[sizeof ids / sizeof *ids];
    frame around = {NULL, NULL};
    int rc;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        rc = find_role(texts, config, v, ids[i].role, ids[i].id_key, &found[i], diag);
        if (rc < 0)
            return rc;
        if (found[i] != HOB_TOKEN_NONE)
            hob_gguf_put_u32(out, ids[i].key, found[i]);
    }
    if ((rc = read_frame(texts->tokenizer, &around, diag)) < 0 ||
        (rc = put_adds(texts, v, around.first, found[0], "add_bos_token",
                       "tokenizer.ggml.add_bos_token", out, diag)) < 0)
        return rc;
    return put_adds(texts, v, around.last, found[1], "add_eos_token",
                    "tokenizer.ggml.add_eos_token", out, diag);
}

/* --- merges and template --- */

/* "a b", or ["a", "b"], as the text with the space. joined: memory for those that are pairs. */
static bool merge_text(const json_t *merge, char *joined, size_t *used, hob_string *ret)
{
    if (json_is_string(merge)) {
        *ret = (hob_string){json_string_value(merge), json_string_length(merge)};
        return true;
    }
    const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
    if (json_array_size(merge) != 2 || !json_is_string(a) || !json_is_string(b) ||
        strchr(json_string_value(a), ' ') || strchr(json_string_value(b), ' '))
        return false;
    char *to = joined + *used;
    const size_t len = json_string_length(a), more = json_string_length(b);
    memcpy(to, json_string_value(a), len);
    to[len] = ' ';
    memcpy(to + len + 1, json_string_value(b), more);
    *ret = (hob_string){to, len + 1 + more};
    *used += ret->len;
    return true;
}

static int put_merges(const json_t *model, hob_gguf_writer *out, hob_diag *diag)
{
    json_t *list;
    size_t bytes = 1, used = 0;
    char *joined = NULL;
    hob_string *merges = NULL;
    int rc = hob_strict_member(HOB_IMPORT_TOKENIZER, model, "merges", JSON_ARRAY, &list, diag);
    if (rc < 0)
        return hob_strict_required(rc);
    const size_t count = json_array_size(list);
    if (count > MERGES_MAX)
        return hob_fail(diag, HOB_EFORMAT, "%s: merges: got %zu, allowed are %d",
                        HOB_IMPORT_TOKENIZER, count, MERGES_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *m = json_array_get(list, i);
        bytes +=
            json_string_length(json_array_get(m, 0)) + json_string_length(json_array_get(m, 1)) + 1;
    }
    joined = malloc(bytes);
    merges = calloc(count + 1, sizeof *merges);
    if (!joined || !merges) {
        rc = hob_fail(diag, HOB_ENOMEM, "no memory for %zu merges", count);
        goto fail;
    }
    for (size_t i = 0; i < count; i++)
        if (!merge_text(json_array_get(list, i), joined, &used, &merges[i])) {
            rc =
                hob_fail(diag, HOB_EFORMAT, "%s: merges[%zu]: allowed are two texts without spaces",
                         HOB_IMPORT_TOKENIZER, i);
            goto fail;
        }
    hob_gguf_put_strings(out, "tokenizer.ggml.merges", merges, count);
fail:
    free(joined);
    free(merges);
    return rc;
}

/* chat_template.jinja, or what tokenizer_config.json has: one, or several by name. */
static void put_template(const hob_import_texts *texts, hob_gguf_writer *out)
{
    const json_t *v = json_object_get(texts->config, "chat_template");
    const char *text = texts->chat_template ? texts->chat_template : json_string_value(v);
    for (size_t i = 0; !text && i < json_array_size(v); i++) {
        const json_t *one = json_array_get(v, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (name && strcmp(name, "default") == 0)
            text = json_string_value(json_object_get(one, "template"));
    }
    if (text)
        hob_gguf_put_string(out, "tokenizer.chat_template", text, strlen(text));
}

int hob_import_bpe(const hob_import_texts *texts, const json_t *config, uint32_t rows,
                   hob_gguf_writer *out, hob_diag *diag)
{
    hob_import_vocab v = {0};
    json_t *model, *ids, *pre_tokenizer;
    if (!texts->tokenizer)
        return hob_fail(diag, HOB_ENOENT, "%s: the folder has none", HOB_IMPORT_TOKENIZER);
    int rc;
    if ((rc = hob_strict_member(HOB_IMPORT_TOKENIZER, texts->tokenizer, "model", JSON_OBJECT,
                                &model, diag)) < 0 ||
        (rc = hob_strict_member(HOB_IMPORT_TOKENIZER, model, "vocab", JSON_OBJECT, &ids, diag)) <
            0 ||
        (rc = hob_strict_member(HOB_IMPORT_TOKENIZER, texts->tokenizer, "pre_tokenizer",
                                JSON_OBJECT, &pre_tokenizer, diag)) < 0 ||
        (rc = check_model(texts->tokenizer, model, diag)) < 0)
        return hob_strict_required(rc);
    const char *pre = find_pre(pre_tokenizer, flag_or(model, "ignore_merges", false));
    if (!pre)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: pre_tokenizer: supported are the splits of GPT-2, SmolLM, Llama 3 and "
                        "Qwen 2",
                        HOB_IMPORT_TOKENIZER);
    if ((rc = hob_import_vocab_new(rows, &v, diag)) < 0 ||
        (rc = hob_import_vocab_place_all(&v, ids, diag)) < 0 ||
        (rc = hob_import_vocab_place_added(&v, texts->tokenizer, HOB_TOKEN_TYPE_USER_DEFINED,
                                           diag)) < 0 ||
        (rc = hob_import_vocab_spell(&v, NULL, diag)) < 0)
        goto fail;
    hob_import_vocab_put(&v, "gpt2", out);
    hob_gguf_put_string(out, "tokenizer.ggml.pre", pre, strlen(pre));
    if ((rc = put_merges(model, out, diag)) < 0 || (rc = put_ids(texts, config, &v, out, diag)) < 0)
        goto fail;
    put_template(texts, out);
fail:
    hob_import_vocab_free(&v);
    return rc;
}
