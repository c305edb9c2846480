/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop's table of keys. See keyring.h. */
#include "daemon/gateway/keyring.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY_S = 86400 };

void hob_keyring_free(hob_keyring *r)
{
    for (size_t i = 0; i < r->count; i++)
        free(r->list[i]);
    free(r->list);
    *r = (hob_keyring){0};
}

hob_key *hob_keyring_get(const hob_keyring *r, int64_t id)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->list[i]->record.id == id)
            return r->list[i];
    return NULL;
}

int hob_keyring_put(hob_keyring *r, const hob_key_record *record)
{
    hob_key *k = hob_keyring_get(r, record->id);
    if (!k) {
        if (r->count == r->capacity) {
            const size_t capacity = r->capacity ? r->capacity * 2 : 16;
            hob_key **grown = realloc(r->list, capacity * sizeof *grown);
            if (!grown)
                return HOB_ENOMEM;
            r->list = grown;
            r->capacity = capacity;
        }
        if (!(k = calloc(1, sizeof *k)))
            return HOB_ENOMEM;
        r->list[r->count++] = k;
    }
    k->record = *record;
    k->gone = record->revoked_s > 0;
    return 0;
}

/* All ones or 0, in the same time. */
static size_t answers_to(const hob_key *k, const uint8_t hash[32], int64_t now_s)
{
    const size_t old_counts = (size_t)0 - (size_t)(k->record.old_until_s > now_s);
    return hob_key_equal(k->record.hash, hash) |
           (hob_key_equal(k->record.old_hash, hash) & old_counts);
}

bool hob_key_answers_to(const hob_key *k, const uint8_t hash[32], int64_t now_s)
{
    return answers_to(k, hash, now_s) != 0;
}

hob_key *hob_keyring_find(const hob_keyring *r, const uint8_t hash[32], int64_t now_s)
{
    size_t found = 0; /* index + 1 */
    for (size_t i = 0; i < r->count; i++)
        found |=
            answers_to(r->list[i], hash, now_s) & ((size_t)0 - (size_t)!r->list[i]->gone) & (i + 1);
    return found ? r->list[found - 1] : NULL;
}

hob_key *hob_keyring_find_label(const hob_keyring *r, const char *label)
{
    for (size_t i = 0; i < r->count; i++)
        if (!r->list[i]->gone && strcmp(r->list[i]->record.label, label) == 0)
            return r->list[i];
    return NULL;
}

hob_key *hob_key_ref(hob_key *k)
{
    if (k)
        k->refs++;
    return k;
}

void hob_key_unref(hob_key *k)
{
    assert(!k || k->refs > 0);
    if (k)
        k->refs--;
}

bool hob_key_valid(const hob_key *k, int64_t now_s)
{
    return !k->gone && (k->record.expires_s == 0 || now_s < k->record.expires_s);
}

bool hob_key_allows_model(const hob_key *k, const char *model)
{
    char spaced[80];
    const int n = snprintf(spaced, sizeof spaced, " %s ", model);
    return k->record.all_models || (n > 0 && (size_t)n < sizeof spaced && !strchr(model, ' ') &&
                                    strstr(k->record.models, spaced));
}

/* ---- usage ---- */

static void add(hob_key_usage *to, const hob_key_usage *more)
{
    to->requests += more->requests;
    to->prompt_tokens += more->prompt_tokens;
    to->cached_tokens += more->cached_tokens;
    to->answer_tokens += more->answer_tokens;
}

void hob_key_note(hob_key *k, int64_t now_s, const hob_key_usage *more)
{
    if (k->usage.day == 0) /* around midnight some of it may count as the day's before */
        k->usage.day = now_s / DAY_S;
    k->usage.last_used_s = now_s;
    add(&k->usage, more);
}

size_t hob_keyring_take_usage(hob_keyring *r, hob_key_usage *rows, size_t most)
{
    size_t count = 0, kept = 0;
    for (size_t i = 0; i < r->count; i++) {
        hob_key *k = r->list[i];
        if (k->usage.day != 0 && count < most) {
            rows[count] = k->usage;
            rows[count++].key = k->record.id;
            k->usage = (hob_key_usage){0};
        }
        if (k->gone && k->refs == 0 && k->usage.day == 0)
            free(k);
        else
            r->list[kept++] = k;
    }
    r->count = kept;
    return count;
}
