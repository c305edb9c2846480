/* SPDX-License-Identifier: Apache-2.0
 *
 * Text to ids. See tokenizer.h.
 *
 * One pass looks at every byte that may begin a control or user-defined token and takes the longest
 * one there; the text between two of them is one fragment, whatever trust ranges it spans. A
 * fragment is cut where it is not UTF-8 and the rest goes through the model's algorithm straight
 * into the ids: nothing is allocated for a token or a piece. For byte-level BPE that is the
 * pre-tokenizer and BPE on each of its pieces; a byte for which such a vocabulary has no token is
 * dropped, since the only id left for it would be a control token. */
#include "models/tokenizer_private.h"

#include <stdlib.h>
#include <string.h>

#include "models/utf8.h"

typedef struct tokenizing {
    const hob_tokenizer *t;
    hob_ids *ids;
    size_t first;      /* ids that were there before */
    size_t max_tokens; /* 0: none */
    bool has_bos;      /* BOS was put in front and nothing has followed yet */
    size_t len;        /* of the whole text */
    hob_pretokenizing *run;
    hob_bpe_work work;
    hob_spm_work spm;
    bool space; /* SentencePiece: the next fragment gets a space in front */
    hob_diag *diag;
} tokenizing;

void hob_ids_free(hob_ids *ids)
{
    free(ids->data);
    *ids = (hob_ids){0};
}

int hob_ids_push(hob_ids *ids, uint32_t id)
{
    if (ids->count == ids->capacity) {
        size_t capacity = ids->capacity ? ids->capacity : 32, bytes;
        if (!hob_mul_size(capacity, 2 * sizeof *ids->data, &bytes))
            return HOB_ENOMEM;
        uint32_t *data = realloc(ids->data, bytes);
        if (!data)
            return HOB_ENOMEM;
        ids->data = data;
        ids->capacity = capacity * 2;
    }
    ids->data[ids->count++] = id;
    return 0;
}

static int push(void *context, uint32_t id)
{
    tokenizing *k = context;
    if (k->has_bos && id == k->t->bos) {
        k->has_bos = false;
        return 0;
    }
    k->has_bos = false;
    if (k->max_tokens && k->ids->count - k->first >= k->max_tokens)
        return hob_fail(k->diag, HOB_ELIMIT, "a text of %zu bytes has more than %zu tokens", k->len,
                        k->max_tokens);
    return hob_ids_push(k->ids, id);
}

static int encode_piece(void *context, const char *piece, size_t len)
{
    tokenizing *k = context;
    if (k->t->by_piece && len <= k->t->longest_piece) {
        uint32_t id = hob_tokenizer_find(k->t, piece, len);
        if (id != HOB_TOKEN_NONE)
            return push(k, id);
    }
    return hob_bpe_encode(&k->t->bpe, &k->work, piece, len, push, k);
}

/* Valid UTF-8. */
static int encode_valid(tokenizing *k, const char *text, size_t len)
{
    if (k->t->kind == HOB_TOKENIZER_SPM) {
        const bool space = k->space;
        k->space = false;
        return hob_spm_encode(k->t, &k->spm, text, len, space, push, k);
    }
    if (len == 0)
        return 0;
    if (!k->run) {
        int r = hob_pretokenizing_new(k->t->pre, k->len, &k->run);
        if (r < 0)
            return r;
    }
    return hob_pretokenize(k->run, text, len, encode_piece, k, k->diag);
}

/* Any bytes without a parsed token among them. */
static int encode_fragment(tokenizing *k, const char *text, size_t len)
{
    size_t done = 0, i = 0;
    int r;
    if (len == 0)
        return 0;
    if (k->t->kind == HOB_TOKENIZER_WORDPIECE)
        return hob_wordpiece_encode(k->t, text, len, push, k);
    while (i < len) {
        int step = hob_utf8_step(text + i, len - i);
        if (step > 0) {
            i += (size_t)step;
            continue;
        }
        if ((r = encode_valid(k, text + done, i - done)) < 0)
            return r;
        size_t end = step ? i + (size_t)-step : len;
        for (; i < end; i++) {
            uint32_t id = k->t->bpe.byte_ids[(unsigned char)text[i]];
            if (id == HOB_TOKEN_NONE)
                id = k->t->unknown;
            if (id != HOB_TOKEN_NONE && (r = push(k, id)) < 0)
                return r;
        }
        done = end;
    }
    return encode_valid(k, text + done, len - done);
}

/* The longest token parsed at the beginning of text; control tokens must end within the first
 * `trusted` bytes. Returns its length, 0: none. */
static size_t match_special(const hob_tokenizer *t, const char *text, size_t len, size_t trusted,
                            uint32_t *ret_id)
{
    uint32_t node = 0;
    size_t best = 0;
    for (size_t i = 0; i < len; i++) {
        node = hob_trie_step(&t->parsed, node, text[i]);
        if (node == HOB_INTMAP_NONE)
            break;
        uint32_t id = t->parsed.ids[node];
        if (id != HOB_TOKEN_NONE && ((t->flags[id] & HOB_TOKEN_USER) || i < trusted)) {
            *ret_id = id;
            best = i + 1;
        }
    }
    return best;
}

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

int hob_tokenize(const hob_tokenizer *t, const char *text, size_t len,
                 const hob_text_range *trusted, size_t trusted_count, bool add_bos,
                 size_t max_tokens, hob_ids *ids, hob_diag *diag)
{
    tokenizing k = {.t = t,
                    .ids = ids,
                    .first = ids->count,
                    .max_tokens = max_tokens,
                    .len = len,
                    .space = t->adds_space,
                    .diag = diag};
    size_t done = 0, range = 0, i = 0;
    int r = 0;
    if (len > INT32_MAX)
        return hob_fail(diag, HOB_ELIMIT, "a text of %zu bytes; allowed are %d", len, INT32_MAX);
    if (add_bos && t->bos != HOB_TOKEN_NONE) {
        if ((r = push(&k, t->bos)) < 0)
            goto fail;
        k.has_bos = true;
    }
    while (i < len) {
        if (!t->starts[(unsigned char)text[i]]) {
            i++;
            continue;
        }
        while (range < trusted_count && trusted[range].end <= i)
            range++;
        size_t limit =
            range < trusted_count && trusted[range].start <= i ? trusted[range].end - i : 0;
        uint32_t id;
        size_t matched = match_special(t, text + i, len - i, limit, &id);
        if (matched == 0) {
            i++;
            continue;
        }
        size_t end = i;
        while ((t->flags[id] & HOB_TOKEN_LSTRIP) && end > done && is_white(text[end - 1]))
            end--;
        if ((r = encode_fragment(&k, text + done, end - done)) < 0 || (r = push(&k, id)) < 0)
            goto fail;
        i += matched;
        while ((t->flags[id] & HOB_TOKEN_RSTRIP) && i < len && is_white(text[i]))
            i++;
        done = i;
        k.space = t->adds_space;
    }
    r = encode_fragment(&k, text + done, len - done);
    if (r >= 0 && add_bos && t->separator != HOB_TOKEN_NONE)
        r = push(&k, t->separator);
    else if (r >= 0 && add_bos && t->adds_eos && t->eos != HOB_TOKEN_NONE)
        r = push(&k, t->eos);

fail:
    hob_pretokenizing_free(k.run);
    hob_bpe_work_free(&k.work);
    hob_spm_work_free(&k.spm);
    if (r < 0)
        ids->count = k.first;
    if (r == HOB_ENOMEM)
        hob_fail(diag, r, "out of memory tokenizing %zu bytes", len);
    return r < 0 ? r : 0;
}
