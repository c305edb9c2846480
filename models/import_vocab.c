/* SPDX-License-Identifier: Apache-2.0
 *
 * What all vocabularies of Hugging Face folders have in common: the files, and a table of tokens by id in which each id is
 * given once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/import_private.h"
#include "models/tokenizer_load.h"

enum { TOKEN_TYPE_UNUSED = 5, SPELL_MORE = 3 };

static const char vocab_name[] = "vocab.txt", template_name[] = "chat_template.jinja";

int hob_import_texts_read(const char *folder, hob_import_texts *ret, hob_diag *diag)
{
    hob_import_texts t = {0};
    size_t len;
    int rc =
        hob_strict_read(folder, HOB_IMPORT_TOKENIZER, HOB_IMPORT_TOKENIZER_MAX, &t.tokenizer, diag);
    if (rc == HOB_ENOENT)
        rc = hob_strict_read_text(folder, vocab_name, HOB_IMPORT_TOKENIZER_MAX, &t.vocab_txt,
                                  &t.vocab_txt_len, diag);
    if (rc == HOB_ENOENT)
        rc = hob_fail(diag, rc, "the folder has neither %s nor %s", HOB_IMPORT_TOKENIZER,
                      vocab_name);
    if (rc == 0)
        rc = hob_strict_optional(hob_strict_read(folder, HOB_IMPORT_TOKENIZER_CONFIG,
                                                 HOB_IMPORT_CONFIG_MAX, &t.config, diag));
    if (rc == 0)
        rc = hob_strict_optional(hob_strict_read_text(folder, template_name, HOB_IMPORT_CONFIG_MAX,
                                                      &t.chat_template, &len, diag));
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
    free(t->chat_template);
    *t = (hob_import_texts){0};
}

const char *hob_import_role(const hob_import_texts *t, const char *role)
{
    const json_t *v = json_object_get(t->config, role);
    const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
    return text && text[0] ? text : NULL;
}

int hob_import_must_be(const json_t *o, const char *key, const char *wanted, hob_diag *diag)
{
    const char *text;
    const int rc = hob_strict_string(HOB_IMPORT_TOKENIZER, o, key, &text, diag);
    if (rc == 0 && strcmp(text, wanted) != 0)
        return hob_fail(diag, HOB_EUNSUPPORTED, "%s: %s: got \"%.60s\", supported is %s",
                        HOB_IMPORT_TOKENIZER, key, text, wanted);
    return hob_strict_required(rc);
}

int hob_import_vocab_new(uint32_t rows, hob_import_vocab *ret, hob_diag *diag)
{
    hob_import_vocab v = {.rows = rows};
    v.tokens = calloc(rows, sizeof *v.tokens);
    v.types = calloc(rows, sizeof *v.types);
    if (!v.tokens || !v.types) {
        hob_import_vocab_free(&v);
        return hob_fail(diag, HOB_ENOMEM, "no memory for %u tokens", rows);
    }
    *ret = v;
    return 0;
}

void hob_import_vocab_free(hob_import_vocab *v)
{
    free(v->tokens);
    free(v->types);
    free(v->bytes);
    *v = (hob_import_vocab){0};
}

int hob_import_vocab_place(hob_import_vocab *v, const char *text, const json_t *id_value,
                           int32_t type, hob_diag *diag)
{
    const json_int_t id = json_integer_value(id_value);
    const size_t len = strlen(text);
    if (!json_is_integer(id_value) || id < 0 || id >= v->rows)
        return hob_fail(diag, HOB_EFORMAT,
                        "%s: token \"%.40s\": id: got %lld, allowed are 0 to %u (vocab_size)",
                        HOB_IMPORT_TOKENIZER, text, (long long)id, v->rows - 1);
    hob_string *t = &v->tokens[id];
    if (v->types[id] != 0 && !hob_text_is(*t, text))
        return hob_fail(diag, HOB_EFORMAT, "%s: id %lld: both \"%.40s\" and \"%.*s\" have it",
                        HOB_IMPORT_TOKENIZER, (long long)id, text, t->len < 40 ? (int)t->len : 40,
                        t->data);
    if (len == 0 || len > HOB_TOKEN_BYTES_MAX)
        return hob_fail(diag, HOB_EFORMAT, "%s: id %lld: got %zu bytes, allowed are 1 to %d",
                        HOB_IMPORT_TOKENIZER, (long long)id, len, HOB_TOKEN_BYTES_MAX);
    *t = (hob_string){text, len};
    v->types[id] = type;
    return 0;
}

int hob_import_vocab_place_all(hob_import_vocab *v, json_t *ids, hob_diag *diag)
{
    const char *text;
    json_t *id;
    json_object_foreach(ids, text, id)
    {
        const int rc = hob_import_vocab_place(v, text, id, HOB_TOKEN_TYPE_NORMAL, diag);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* A token that takes white space along, or is only found between words: its text would be split otherwise. */
static int check_added(const json_t *o, const char *text, hob_diag *diag)
{
    static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (json_is_true(json_object_get(o, flags[i])))
            return hob_fail(diag, HOB_EUNSUPPORTED,
                            "%s: added_tokens: \"%.40s\": %s: got true, supported is false",
                            HOB_IMPORT_TOKENIZER, text, flags[i]);
    return 0;
}

/* Some folders do not say of such a token that it is special; text of a user's must not become one all the same. */
static bool looks_special(const char *text)
{
    const size_t len = strlen(text);
    return len > 4 && memcmp(text, "<|", 2) == 0 && memcmp(text + len - 2, "|>", 2) == 0;
}

int hob_import_vocab_place_added(hob_import_vocab *v, const json_t *tokenizer, int32_t other_type,
                                 hob_diag *diag)
{
    json_t *list, *o;
    size_t i;
    int rc =
        hob_strict_member(HOB_IMPORT_TOKENIZER, tokenizer, "added_tokens", JSON_ARRAY, &list, diag);
    if (rc < 0)
        return hob_strict_optional(rc);
    json_array_foreach(list, i, o)
    {
        const char *text;
        bool special = false;
        if ((rc = hob_strict_string(HOB_IMPORT_TOKENIZER, o, "content", &text, diag)) < 0 ||
            (rc = hob_strict_bool(HOB_IMPORT_TOKENIZER, o, "special", &special, diag)) < 0)
            return hob_strict_required(rc);
        special = special || looks_special(text);
        if (!special && !other_type)
            return hob_fail(diag, HOB_EUNSUPPORTED,
                            "%s: added_tokens: \"%.40s\": supported are special tokens only",
                            HOB_IMPORT_TOKENIZER, text);
        if (!special && (rc = check_added(o, text, diag)) < 0)
            return rc;
        rc = hob_import_vocab_place(v, text, json_object_get(o, "id"),
                                    special ? HOB_TOKEN_TYPE_CONTROL : other_type, diag);
        if (rc < 0)
            return rc;
    }
    return 0;
}

uint32_t hob_import_vocab_find(const hob_import_vocab *v, const char *text)
{
    for (uint32_t id = 0; id < v->rows; id++)
        if (v->types[id] != 0 && hob_text_is(v->tokens[id], text))
            return id;
    return HOB_TOKEN_NONE;
}

int hob_import_vocab_spell(hob_import_vocab *v, hob_import_spell *spell, hob_diag *diag)
{
    static const char longest[] = "[PAD4294967295]";
    size_t total = 1, used = 0;
    bool fits = true;
    for (uint32_t id = 0; id < v->rows; id++)
        fits = fits && hob_add_size(total, v->tokens[id].len + SPELL_MORE + sizeof longest, &total);
    v->bytes = fits ? malloc(total) : NULL;
    if (!v->bytes)
        return hob_fail(diag, HOB_ENOMEM, "no memory for %u tokens", v->rows);
    for (uint32_t id = 0; id < v->rows; id++) {
        char *to = v->bytes + used;
        size_t len;
        if (v->types[id] == 0) {
            len = (size_t)snprintf(to, sizeof longest, "[PAD%u]", id);
            v->types[id] = TOKEN_TYPE_UNUSED;
        } else if (spell) {
            len = spell(v->tokens[id], v->types[id], to);
        } else {
            continue;
        }
        v->tokens[id] = (hob_string){to, len};
        used += len;
    }
    return 0;
}

void hob_import_vocab_put(const hob_import_vocab *v, const char *model, hob_gguf_writer *out)
{
    hob_gguf_put_string(out, "tokenizer.ggml.model", model, strlen(model));
    hob_gguf_put_strings(out, "tokenizer.ggml.tokens", v->tokens, v->rows);
    hob_gguf_put_i32s(out, "tokenizer.ggml.token_type", v->types, v->rows);
}
