/* SPDX-License-Identifier: Apache-2.0
 *
 * A WordPiece vocabulary, out of tokenizer.json, which is what transformers uses where it is there, or out of vocab.txt, one
 * token a line. hob's tokenizer is BERT's (models/wordpiece.c); settings of the folder under which its own would split a text
 * otherwise are refused.
 *
 * In GGUF a token that begins a word has U+2581 in front, and one that continues it has lost its ##. Control tokens are as
 * they are. Ids that no token has become "[PAD<id>]" of type unused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/import_private.h"
#include "models/tokenizer_load.h"

enum { TOKEN_TYPE_UNUSED = 5 };

static const char tokenizer_name[] = "tokenizer.json", config_name[] = "tokenizer_config.json",
                  vocab_name[] = "vocab.txt";

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
    json_t *vocab; /* token to id */
    uint32_t rows;
    special specials[SPECIALS];
    bool lowercase, strip_accents;
    hob_string *tokens; /* [rows] */
    int32_t *types;     /* [rows], 0: no token yet */
    char *bytes;        /* what tokens is in */
    hob_diag *diag;
} wordpiece;

int hob_import_texts_read(const char *folder, hob_import_texts *ret, hob_diag *diag)
{
    hob_import_texts t = {0};
    int rc = hob_strict_read(folder, tokenizer_name, HOB_IMPORT_TOKENIZER_MAX, &t.tokenizer, diag);
    if (rc == HOB_ENOENT)
        rc = hob_strict_read_text(folder, vocab_name, HOB_IMPORT_TOKENIZER_MAX, &t.vocab_txt,
                                  &t.vocab_txt_len, diag);
    if (rc == HOB_ENOENT)
        rc = hob_fail(diag, rc, "the folder has neither %s nor %s", tokenizer_name, vocab_name);
    if (rc == 0) {
        rc = hob_strict_read(folder, config_name, HOB_IMPORT_CONFIG_MAX, &t.config, diag);
        rc = hob_strict_optional(rc);
    }
    if (rc < 0)
        hob_import_texts_free(&t);
    else
        *ret = t;
    return rc;
}

void hob_import_texts_free(hob_import_texts *t)
{
    json_decref(t->tokenizer);
    json_decref(t->config);
    free(t->vocab_txt);
    *t = (hob_import_texts){0};
}

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

static int must_be_text(wordpiece *w, const json_t *o, const char *key, const char *wanted)
{
    const char *text;
    const int rc = hob_strict_string(tokenizer_name, o, key, &text, w->diag);
    if (rc == 0 && strcmp(text, wanted) != 0)
        return hob_fail(w->diag, HOB_EUNSUPPORTED, "%s: %s: got \"%.60s\", supported is %s",
                        tokenizer_name, key, text, wanted);
    return hob_strict_required(rc);
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
                        lowercase_key, tokenizer_name);
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
        if ((rc = hob_strict_member(tokenizer_name, t, "normalizer", JSON_OBJECT, &normalizer,
                                    w->diag)) < 0 ||
            (rc = hob_strict_member(tokenizer_name, t, "pre_tokenizer", JSON_OBJECT, &pre,
                                    w->diag)) < 0 ||
            (rc = hob_strict_member(tokenizer_name, t, "model", JSON_OBJECT, &model, w->diag)) < 0)
            return hob_strict_required(rc);
        *ret_model = model;
        /* Files of the first versions do not name the model's type. */
        if ((json_object_get(model, "type") &&
             (rc = must_be_text(w, model, "type", "WordPiece")) < 0) ||
            (rc = must_be_text(w, normalizer, "type", "BertNormalizer")) < 0 ||
            (rc = must_be_text(w, pre, "type", "BertPreTokenizer")) < 0 ||
            (rc = must_be_text(w, model, "continuing_subword_prefix", "##")) < 0 ||
            (rc = must_be_true(w, tokenizer_name, normalizer, "clean_text")) < 0 ||
            (rc = must_be_true(w, tokenizer_name, normalizer, "handle_chinese_chars")) < 0 ||
            (rc = read_case(w, tokenizer_name, normalizer, "lowercase")) < 0)
            return rc;
        rc = hob_strict_u64(tokenizer_name, model, "max_input_chars_per_word", 100, 100, &longest,
                            w->diag);
        if (rc < 0 && rc != HOB_ENOENT)
            return rc == HOB_EFORMAT ? HOB_EUNSUPPORTED : rc;
    }
    if ((rc = must_be_true(w, config_name, c, "tokenize_chinese_chars")) < 0 ||
        (rc = must_be_true(w, config_name, c, "do_basic_tokenize")) < 0)
        return rc;
    return c || !t ? read_case(w, config_name, c, "do_lower_case") : 0;
}

/* What tokenizer.json puts around a text is [CLS] and [SEP], as hob does. */
static int check_frame(wordpiece *w)
{
    const char *type = NULL, *cls = NULL, *sep = NULL;
    json_t *post;
    if (!w->texts->tokenizer)
        return 0;
    int rc = hob_strict_member(tokenizer_name, w->texts->tokenizer, "post_processor", JSON_OBJECT,
                               &post, w->diag);
    if (rc == 0)
        rc = hob_strict_string(tokenizer_name, post, "type", &type, w->diag);
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
                        "%s: post_processor: supported is %.40s, the text, %.40s", tokenizer_name,
                        w->specials[CLS].text, w->specials[SEP].text);
    return 0;
}

/* --- tokens --- */

/* vocab.txt as the object that tokenizer.json has. */
static int parse_lines(wordpiece *w)
{
    const char *text = w->texts->vocab_txt, *end = text + w->texts->vocab_txt_len;
    char line[HOB_TOKEN_BYTES_MAX + 1];
    w->vocab = json_object();
    if (!w->vocab)
        return hob_fail(w->diag, HOB_ENOMEM, "%s: no memory", vocab_name);
    for (uint32_t id = 0; text < end; id++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t len = (size_t)((stop ? stop : end) - text);
        const char *next = stop ? stop + 1 : end;
        if (len > 0 && text[len - 1] == '\r')
            len--;
        if (id >= w->rows)
            return hob_fail(w->diag, HOB_EFORMAT, "%s: more lines than the %u of vocab_size",
                            vocab_name, w->rows);
        if (len == 0 || len > HOB_TOKEN_BYTES_MAX || memchr(text, 0, len))
            return hob_fail(w->diag, HOB_EFORMAT,
                            "%s: line %u: got %zu bytes, allowed are 1 to %d and none that is zero",
                            vocab_name, id + 1, len, HOB_TOKEN_BYTES_MAX);
        memcpy(line, text, len);
        line[len] = 0;
        if (json_object_get(w->vocab, line))
            return hob_fail(w->diag, HOB_EFORMAT, "%s: line %u: the token is in line %lld already",
                            vocab_name, id + 1,
                            (long long)json_integer_value(json_object_get(w->vocab, line)) + 1);
        if (json_object_set_new(w->vocab, line, json_integer(id)) != 0)
            return hob_fail(w->diag, HOB_EFORMAT, "%s: line %u: it is not UTF-8", vocab_name,
                            id + 1);
        text = next;
    }
    return 0;
}

/* Gives an id its token. */
static int place(wordpiece *w, const char *text, const json_t *id_value, int32_t type)
{
    const json_int_t id = json_integer_value(id_value);
    if (!json_is_integer(id_value) || id < 0 || id >= w->rows)
        return hob_fail(w->diag, HOB_EFORMAT,
                        "%s: token \"%.40s\": id: got %lld, allowed are 0 to %u (vocab_size)",
                        tokenizer_name, text, (long long)id, w->rows - 1);
    hob_string *t = &w->tokens[id];
    if (w->types[id] != 0 && !hob_text_is(*t, text))
        return hob_fail(w->diag, HOB_EFORMAT, "%s: id %lld: both \"%.40s\" and \"%.*s\" have it",
                        tokenizer_name, (long long)id, text, t->len < 40 ? (int)t->len : 40,
                        t->data);
    *t = (hob_string){text, strlen(text)};
    w->types[id] = type;
    if (t->len > HOB_TOKEN_BYTES_MAX)
        return hob_fail(w->diag, HOB_EFORMAT, "%s: id %lld: got %zu bytes, allowed are %d",
                        tokenizer_name, (long long)id, t->len, HOB_TOKEN_BYTES_MAX);
    return 0;
}

static int place_added(wordpiece *w)
{
    json_t *list, *o;
    size_t i;
    int rc = hob_strict_member(tokenizer_name, w->texts->tokenizer, "added_tokens", JSON_ARRAY,
                               &list, w->diag);
    if (rc < 0)
        return hob_strict_optional(rc);
    json_array_foreach(list, i, o)
    {
        const char *text;
        bool is_special = false;
        if ((rc = hob_strict_string(tokenizer_name, o, "content", &text, w->diag)) < 0 ||
            (rc = hob_strict_bool(tokenizer_name, o, "special", &is_special, w->diag)) < 0)
            return hob_strict_required(rc);
        if (!is_special)
            return hob_fail(w->diag, HOB_EUNSUPPORTED,
                            "%s: added_tokens: \"%.40s\": supported are special tokens only",
                            tokenizer_name, text);
        if (!text[0])
            return hob_fail(w->diag, HOB_EFORMAT, "%s: added_tokens: got an empty one",
                            tokenizer_name);
        if ((rc = place(w, text, json_object_get(o, "id"), HOB_TOKEN_TYPE_CONTROL)) < 0)
            return rc;
    }
    return 0;
}

/* The text of a role: a string, or an object with one. */
static const char *role_text(const json_t *config, const special *s)
{
    const json_t *v = json_object_get(config, s->role);
    const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
    return text && text[0] ? text : s->usual;
}

static int name_specials(wordpiece *w)
{
    static const special known[SPECIALS] = {
        [UNK] = {"unk_token", "[UNK]", "tokenizer.ggml.unknown_token_id", NULL, 0},
        [SEP] = {"sep_token", "[SEP]", "tokenizer.ggml.seperator_token_id", NULL, 0},
        [PAD] = {"pad_token", "[PAD]", "tokenizer.ggml.padding_token_id", NULL, 0},
        [CLS] = {"cls_token", "[CLS]", "tokenizer.ggml.cls_token_id", NULL, 0},
        [MASK] = {"mask_token", "[MASK]", "tokenizer.ggml.mask_token_id", NULL, 0},
    };
    memcpy(w->specials, known, sizeof known);
    for (size_t i = 0; i < SPECIALS; i++)
        w->specials[i].text = role_text(w->texts->config, &w->specials[i]);
    return 0;
}

/* The ids of the five roles, whose tokens are control tokens. Without [PAD] and [MASK] text can be embedded. */
static int place_specials(wordpiece *w)
{
    for (size_t i = 0; i < SPECIALS; i++) {
        special *s = &w->specials[i];
        s->id = HOB_TOKEN_NONE;
        for (uint32_t id = 0; id < w->rows && s->id == HOB_TOKEN_NONE; id++)
            if (w->types[id] != 0 && hob_text_is(w->tokens[id], s->text))
                s->id = id;
        if (s->id != HOB_TOKEN_NONE)
            w->types[s->id] = HOB_TOKEN_TYPE_CONTROL;
        else if (i != PAD && i != MASK)
            return hob_fail(w->diag, HOB_EFORMAT, "%s: \"%.40s\" is not in the vocabulary", s->role,
                            s->text);
    }
    return 0;
}

static int fill(wordpiece *w, const json_t *model)
{
    const char *text;
    json_t *id, *vocab;
    int rc;
    if (model) {
        if ((rc = hob_strict_member(tokenizer_name, model, "vocab", JSON_OBJECT, &vocab, w->diag)) <
            0)
            return hob_strict_required(rc);
        w->vocab = json_incref(vocab);
        if ((rc = must_be_text(w, model, "unk_token", w->specials[UNK].text)) < 0)
            return rc;
    } else if ((rc = parse_lines(w)) < 0) {
        return rc;
    }
    json_object_foreach(w->vocab, text, id)
    {
        if ((rc = place(w, text, id, HOB_TOKEN_TYPE_NORMAL)) < 0)
            return rc;
    }
    return model ? place_added(w) : 0;
}

/* Rewrites the tokens in GGUF's form, into memory of their own. */
static int spell(wordpiece *w)
{
    static const char mark[] = "\xE2\x96\x81";
    size_t total = 1, used = 0;
    for (uint32_t id = 0; id < w->rows; id++)
        if (!hob_add_size(total, w->tokens[id].len + sizeof "[PAD4294967295]", &total))
            return hob_fail(w->diag, HOB_ENOMEM, "no memory for the vocabulary");
    w->bytes = malloc(total);
    if (!w->bytes)
        return hob_fail(w->diag, HOB_ENOMEM, "no memory for %zu bytes of tokens", total);
    for (uint32_t id = 0; id < w->rows; id++) {
        const hob_string t = w->tokens[id];
        const bool continues = t.len >= 2 && memcmp(t.data, "##", 2) == 0;
        char *to = w->bytes + used;
        size_t len = 0;
        if (w->types[id] == 0) {
            len = (size_t)snprintf(to, sizeof "[PAD4294967295]", "[PAD%u]", id);
            w->types[id] = TOKEN_TYPE_UNUSED;
        } else if (w->types[id] == HOB_TOKEN_TYPE_CONTROL) {
            memcpy(to, t.data, len = t.len);
        } else if (continues) {
            memcpy(to, t.data + 2, len = t.len - 2);
        } else {
            memcpy(to, mark, 3);
            memcpy(to + 3, t.data, t.len);
            len = t.len + 3;
        }
        w->tokens[id] = (hob_string){to, len};
        used += len;
    }
    return 0;
}

int hob_import_wordpiece(const hob_import_texts *texts, uint32_t rows, bool lowercases,
                         hob_gguf_writer *out, hob_diag *diag)
{
    wordpiece w = {.texts = texts, .rows = rows, .diag = diag};
    const json_t *model = NULL;
    int rc;
    w.tokens = calloc(rows, sizeof *w.tokens);
    w.types = calloc(rows, sizeof *w.types);
    if (!w.tokens || !w.types) {
        rc = hob_fail(diag, HOB_ENOMEM, "no memory for %u tokens", rows);
        goto fail;
    }
    if ((rc = read_settings(&w, &model)) < 0 || (rc = name_specials(&w)) < 0 ||
        (rc = check_frame(&w)) < 0 || (rc = fill(&w, model)) < 0 || (rc = place_specials(&w)) < 0)
        goto fail;
    if (lowercases && !w.lowercase) {
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "do_lower_case: true before a tokenizer that keeps case is not supported");
        goto fail;
    }
    if ((rc = spell(&w)) < 0)
        goto fail;
    hob_gguf_put_string(out, "tokenizer.ggml.model", "bert", 4);
    hob_gguf_put_strings(out, "tokenizer.ggml.tokens", w.tokens, rows);
    hob_gguf_put_i32s(out, "tokenizer.ggml.token_type", w.types, rows);
    for (size_t i = 0; i < SPECIALS; i++)
        if (w.specials[i].id != HOB_TOKEN_NONE)
            hob_gguf_put_u32(out, w.specials[i].key, w.specials[i].id);
    hob_gguf_put_bool(out, "tokenizer.ggml.normalizer.lowercase", w.lowercase);
    hob_gguf_put_bool(out, "tokenizer.ggml.normalizer.strip_accents", w.strip_accents);
fail:
    json_decref(w.vocab);
    free(w.tokens);
    free(w.types);
    free(w.bytes);
    return rc;
}
