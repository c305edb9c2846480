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
    free(r->texts);
    *r = (hob_keyring){0};
}

/* Where the key with this number is, or would be. */
static size_t place_of(const hob_keyring *r, int64_t id)
{
    size_t low = 0, high = r->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (r->list[middle]->record.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const hob_keyring *r, size_t place, int64_t id)
{
    return place < r->count && r->list[place]->record.id == id;
}

hob_key *hob_keyring_get(const hob_keyring *r, int64_t id)
{
    const size_t place = place_of(r, id);
    return is_at(r, place, id) ? r->list[place] : NULL;
}

static int grow(hob_keyring *r)
{
    const size_t capacity = r->capacity ? r->capacity * 2 : 16;
    hob_key **list = realloc(r->list, capacity * sizeof *list);
    if (!list)
        return HOB_ENOMEM;
    r->list = list;
    hob_key_texts *texts = realloc(r->texts, capacity * sizeof *texts);
    if (!texts)
        return HOB_ENOMEM;
    r->texts = texts;
    r->capacity = capacity;
    return 0;
}

static int insert(hob_keyring *r, size_t place)
{
    if (r->count == r->capacity && grow(r) < 0)
        return HOB_ENOMEM;
    hob_key *k = calloc(1, sizeof *k);
    if (!k)
        return HOB_ENOMEM;
    memmove(r->list + place + 1, r->list + place, (r->count - place) * sizeof *r->list);
    memmove(r->texts + place + 1, r->texts + place, (r->count - place) * sizeof *r->texts);
    r->list[place] = k;
    r->count++;
    return 0;
}

int hob_keyring_put(hob_keyring *r, const hob_key_record *record)
{
    const size_t place = place_of(r, record->id);
    if (!is_at(r, place, record->id) && insert(r, place) < 0)
        return HOB_ENOMEM;
    hob_key *k = r->list[place];
    hob_key_texts *t = &r->texts[place];
    k->record = *record;
    k->gone = record->revoked_s > 0;
    *t = (hob_key_texts){.old_until_s = record->old_until_s, .gone = k->gone};
    memcpy(t->hash, record->hash, sizeof t->hash);
    memcpy(t->old_hash, record->old_hash, sizeof t->old_hash);
    return 0;
}

bool hob_key_answers_to(const hob_key *k, const uint8_t hash[32], int64_t now_s)
{
    const hob_key_record *r = &k->record;
    return hob_key_equal(r->hash, hash) ||
           (r->old_until_s > now_s && hob_key_equal(r->old_hash, hash));
}

hob_key *hob_keyring_find(const hob_keyring *r, const uint8_t hash[32], int64_t now_s)
{
    size_t found = 0; /* index + 1 */
    for (size_t i = 0; i < r->count; i++) {
        const hob_key_texts *t = &r->texts[i];
        const size_t old_counts = (size_t)0 - (size_t)(t->old_until_s > now_s);
        const size_t equal =
            hob_key_equal(t->hash, hash) | (hob_key_equal(t->old_hash, hash) & old_counts);
        found |= equal & ((size_t)0 - (size_t)!t->gone) & (i + 1);
    }
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
        else {
            r->list[kept] = k;
            r->texts[kept++] = r->texts[i];
        }
    }
    r->count = kept;
    return count;
}
