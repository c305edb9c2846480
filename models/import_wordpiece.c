/* SPDX-License-Identifier: Apache-2.0
 *
 * A WordPiece vocabulary, out of tokenizer.json, which is what transformers uses where it is there, or out of vocab.txt, one
 * token a line. hob's tokenizer is BERT's (models/wordpiece.c); settings of the folder under which its own would split a text
 * otherwise are refused.
 *
 * In GGUF a token that begins a word has U+2581 in front, and one that continues it has lost its ##. Control tokens are as
 * they are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/import_private.h"
#include "models/tokenizer_load.h"

static const char vocab_name[] = "vocab.txt";

typedef struct special {
    const char *role;  /* in tokenizer_config.json */
    const char *usual; /* its text where that does not say */
    const char *key;   /* GGUF's */
    const char *text;
    uint32_t id; /* HOB_TOKEN_NONE: the vocabulary has none */
} special;

enum { UNK, SEP, PAD, CLS, MASK, SPECIALS };

typedef struct wordpiece {
    const hob_import_texts *texts;
    json_t *ids; /* token to id */
    hob_import_vocab vocab;
    special specials[SPECIALS];
    bool lowercase, strip_accents;
    hob_diag *diag;
} wordpiece;

/* --- settings --- */

/* A boolean of an object, which may be missing or null. */
static int flag(wordpiece *w, const char *what, const json_t *o, const char *key, bool *ret)
{
    const int rc = o ? hob_strict_bool(what, o, key, ret, w->diag) : HOB_ENOENT;
    return hob_strict_optional(rc);
}

/* One that must be true, which is what it is when it is missing. */
static int must_be_true(wordpiece *w, const char *what, const json_t *o, const char *key)
{
    bool value = true;
    const int rc = flag(w, what, o, key, &value);
    if (rc == 0 && !value)
        return hob_fail(w->diag, HOB_EUNSUPPORTED, "%s: %s: got false, supported is true", what,
                        key);
    return rc;
}

/* tokenizer_config.json repeats settings of tokenizer.json, and which of them wins where they differ has changed between
 * versions of transformers. */
static int read_case(wordpiece *w, const char *what, const json_t *o, const char *lowercase_key)
{
    bool lower = w->lowercase, strip;
    int rc = flag(w, what, o, lowercase_key, &lower);
    if (rc < 0)
        return rc;
    strip = lower; /* BERT strips accents where it lower-cases, unless it is told otherwise */
    if ((rc = flag(w, what, o, "strip_accents", &strip)) < 0)
        return rc;
    if (w->texts->tokenizer && o == w->texts->config &&
        (lower != w->lowercase ||
         (json_is_boolean(json_object_get(o, "strip_accents")) && strip != w->strip_accents)))
        return hob_fail(w->diag, HOB_EUNSUPPORTED,
                        "%s: %s or strip_accents: other than the normalizer's in %s", what,
                        lowercase_key, HOB_IMPORT_TOKENIZER);
    if (w->texts->tokenizer && o == w->texts->config)
        return 0;
    w->lowercase = lower;
    w->strip_accents = strip;
    return 0;
}

static int read_settings(wordpiece *w, const json_t **ret_model)
{
    const json_t *t = w->texts->tokenizer, *c = w->texts->config;
    json_t *normalizer, *pre, *model;
    uint64_t longest = 100;
    int rc;
    w->lowercase = true;
    if (t) {
        if ((rc = hob_strict_member(HOB_IMPORT_TOKENIZER, t, "normalizer", JSON_OBJECT, &normalizer,
                                    w->diag)) < 0 ||
            (rc = hob_strict_member(HOB_IMPORT_TOKENIZER, t, "pre_tokenizer", JSON_OBJECT, &pre,
                                    w->diag)) < 0 ||
            (rc = hob_strict_member(HOB_IMPORT_TOKENIZER, t, "model", JSON_OBJECT, &model,
                                    w->diag)) < 0)
            return hob_strict_required(rc);
        *ret_model = model;
        /* Files of the first versions do not name the model's type. */
        if ((json_object_get(model, "type") &&
             (rc = hob_import_must_be(model, "type", "WordPiece", w->diag)) < 0) ||
            (rc = hob_import_must_be(normalizer, "type", "BertNormalizer", w->diag)) < 0 ||
            (rc = hob_import_must_be(pre, "type", "BertPreTokenizer", w->diag)) < 0 ||
            (rc = hob_import_must_be(model, "continuing_subword_prefix", "##", w->diag)) < 0 ||
            (rc = must_be_true(w, HOB_IMPORT_TOKENIZER, normalizer, "clean_text")) < 0 ||
            (rc = must_be_true(w, HOB_IMPORT_TOKENIZER, normalizer, "handle_chinese_chars")) < 0 ||
            (rc = read_case(w, HOB_IMPORT_TOKENIZER, normalizer, "lowercase")) < 0)
            return rc;
        rc = hob_strict_u64(HOB_IMPORT_TOKENIZER, model, "max_input_chars_per_word", 100, 100,
                            &longest, w->diag);
        if (rc < 0 && rc != HOB_ENOENT)
            return rc == HOB_EFORMAT ? HOB_EUNSUPPORTED : rc;
    }
    if ((rc = must_be_true(w, HOB_IMPORT_TOKENIZER_CONFIG, c, "tokenize_chinese_chars")) < 0 ||
        (rc = must_be_true(w, HOB_IMPORT_TOKENIZER_CONFIG, c, "do_basic_tokenize")) < 0)
        return rc;
    return c || !t ? read_case(w, HOB_IMPORT_TOKENIZER_CONFIG, c, "do_lower_case") : 0;
}

/* What tokenizer.json puts around a text is [CLS] and [SEP], as hob does. */
static int check_frame(wordpiece *w)
{
    const char *type = NULL, *cls = NULL, *sep = NULL;
    json_t *post;
    if (!w->texts->tokenizer)
        return 0;
    int rc = hob_strict_member(HOB_IMPORT_TOKENIZER, w->texts->tokenizer, "post_processor",
                               JSON_OBJECT, &post, w->diag);
    if (rc == 0)
        rc = hob_strict_string(HOB_IMPORT_TOKENIZER, post, "type", &type, w->diag);
    if (rc < 0)
        return hob_strict_required(rc);
    if (strcmp(type, "BertProcessing") == 0) {
        cls = json_string_value(json_array_get(json_object_get(post, "cls"), 0));
        sep = json_string_value(json_array_get(json_object_get(post, "sep"), 0));
    } else if (strcmp(type, "TemplateProcessing") == 0) {
        const json_t *single = json_object_get(post, "single");
        const char *text = NULL;
        if (json_array_size(single) == 3) {
            cls = json_string_value(
                json_object_get(json_object_get(json_array_get(single, 0), "SpecialToken"), "id"));
            text = json_string_value(
                json_object_get(json_object_get(json_array_get(single, 1), "Sequence"), "id"));
            sep = json_string_value(
                json_object_get(json_object_get(json_array_get(single, 2), "SpecialToken"), "id"));
        }
        cls = text && strcmp(text, "A") == 0 ? cls : NULL;
    }
    if (!cls || !sep || strcmp(cls, w->specials[CLS].text) != 0 ||
        strcmp(sep, w->specials[SEP].text) != 0)
        return hob_fail(w->diag, HOB_EUNSUPPORTED,
                        "%s: post_processor: supported is %.40s, the text, %.40s",
                        HOB_IMPORT_TOKENIZER, w->specials[CLS].text, w->specials[SEP].text);
    return 0;
}

/* --- tokens --- */

/* vocab.txt as the object that tokenizer.json has. */
static int parse_lines(wordpiece *w)
{
    const char *text = w->texts->vocab_txt, *end = text + w->texts->vocab_txt_len;
    char line[HOB_TOKEN_BYTES_MAX + 1];
    w->ids = json_object();
    if (!w->ids)
        return hob_fail(w->diag, HOB_ENOMEM, "%s: no memory", vocab_name);
    for (uint32_t id = 0; text < end; id++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t len = (size_t)((stop ? stop : end) - text);
        const char *next = stop ? stop + 1 : end;
        if (len > 0 && text[len - 1] == '\r')
            len--;
        if (id >= w->vocab.rows)
            return hob_fail(w->diag, HOB_EFORMAT, "%s: more lines than the %u of vocab_size",
                            vocab_name, w->vocab.rows);
        if (len == 0 || len > HOB_TOKEN_BYTES_MAX || memchr(text, 0, len))
            return hob_fail(w->diag, HOB_EFORMAT,
                            "%s: line %u: got %zu bytes, allowed are 1 to %d and none that is zero",
                            vocab_name, id + 1, len, HOB_TOKEN_BYTES_MAX);
        memcpy(line, text, len);
        line[len] = 0;
        if (json_object_get(w->ids, line))
            return hob_fail(w->diag, HOB_EFORMAT, "%s: line %u: the token is in line %lld already",
                            vocab_name, id + 1,
                            (long long)json_integer_value(json_object_get(w->ids, line)) + 1);
        if (json_object_set_new(w->ids, line, json_integer(id)) != 0)
            return hob_fail(w->diag, HOB_EFORMAT, "%s: line %u: it is not UTF-8", vocab_name,
                            id + 1);
        text = next;
    }
    return 0;
}

static void name_specials(wordpiece *w)
{
    static const special known[SPECIALS] = {
        [UNK] = {"unk_token", "[UNK]", "tokenizer.ggml.unknown_token_id", NULL, 0},
        [SEP] = {"sep_token", "[SEP]", "tokenizer.ggml.seperator_token_id", NULL, 0},
        [PAD] = {"pad_token", "[PAD]", "tokenizer.ggml.padding_token_id", NULL, 0},
        [CLS] = {"cls_token", "[CLS]", "tokenizer.ggml.cls_token_id", NULL, 0},
        [MASK] = {"mask_token", "[MASK]", "tokenizer.ggml.mask_token_id", NULL, 0},
    };
    memcpy(w->specials, known, sizeof known);
    for (size_t i = 0; i < SPECIALS; i++) {
        const char *text = hob_import_role(w->texts, known[i].role);
        w->specials[i].text = text ? text : known[i].usual;
    }
}

/* The ids of the five roles, whose tokens are control tokens. Without [PAD] and [MASK] text can be embedded. */
static int place_specials(wordpiece *w)
{
    for (size_t i = 0; i < SPECIALS; i++) {
        special *s = &w->specials[i];
        s->id = hob_import_vocab_find(&w->vocab, s->text);
        if (s->id != HOB_TOKEN_NONE)
            w->vocab.types[s->id] = HOB_TOKEN_TYPE_CONTROL;
        else if (i != PAD && i != MASK)
            return hob_fail(w->diag, HOB_EFORMAT, "%s: \"%.40s\" is not in the vocabulary", s->role,
                            s->text);
    }
    return 0;
}

static int fill(wordpiece *w, const json_t *model)
{
    json_t *ids;
    int rc;
    if (model) {
        if ((rc = hob_strict_member(HOB_IMPORT_TOKENIZER, model, "vocab", JSON_OBJECT, &ids,
                                    w->diag)) < 0 ||
            (rc = hob_import_must_be(model, "unk_token", w->specials[UNK].text, w->diag)) < 0)
            return hob_strict_required(rc);
        w->ids = json_incref(ids);
    } else if ((rc = parse_lines(w)) < 0) {
        return rc;
    }
    rc = hob_import_vocab_place_all(&w->vocab, w->ids, w->diag);
    return rc == 0 && model
               ? hob_import_vocab_place_added(&w->vocab, w->texts->tokenizer, 0, w->diag)
               : rc;
}

/* In GGUF's form. */
static size_t spell(hob_string t, int32_t type, char *to)
{
    static const char mark[3] = "\xE2\x96\x81";
    if (type == HOB_TOKEN_TYPE_CONTROL) {
        memcpy(to, t.data, t.len);
        return t.len;
    }
    if (t.len >= 2 && memcmp(t.data, "##", 2) == 0) {
        memcpy(to, t.data + 2, t.len - 2);
        return t.len - 2;
    }
    memcpy(to, mark, sizeof mark);
    memcpy(to + sizeof mark, t.data, t.len);
    return t.len + sizeof mark;
}

int hob_import_wordpiece(const hob_import_texts *texts, uint32_t rows, bool lowercases,
                         hob_gguf_writer *out, hob_diag *diag)
{
    wordpiece w = {.texts = texts, .diag = diag};
    const json_t *model = NULL;
    int rc = hob_import_vocab_new(rows, &w.vocab, diag);
    if (rc < 0)
        return rc;
    name_specials(&w);
    if ((rc = read_settings(&w, &model)) < 0 || (rc = check_frame(&w)) < 0 ||
        (rc = fill(&w, model)) < 0 || (rc = place_specials(&w)) < 0)
        goto fail;
    if (lowercases && !w.lowercase) {
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "do_lower_case: true before a tokenizer that keeps case is not supported");
        goto fail;
    }
    if ((rc = hob_import_vocab_spell(&w.vocab, spell, diag)) < 0)
        goto fail;
    hob_import_vocab_put(&w.vocab, "bert", out);
    for (size_t i = 0; i < SPECIALS; i++)
        if (w.specials[i].id != HOB_TOKEN_NONE)
            hob_gguf_put_u32(out, w.specials[i].key, w.specials[i].id);
    hob_gguf_put_u32(out, "tokenizer.ggml.bos_token_id", w.specials[CLS].id);
    hob_gguf_put_bool(out, "tokenizer.ggml.normalizer.lowercase", w.lowercase);
    hob_gguf_put_bool(out, "tokenizer.ggml.normalizer.strip_accents", w.strip_accents);
fail:
    json_decref(w.ids);
    hob_import_vocab_free(&w.vocab);
    return rc;
}
