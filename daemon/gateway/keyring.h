/* SPDX-License-Identifier: Apache-2.0
 *
 * The API keys as the loop knows them: what the store says of each, what it has used, and what of that is still
 * to be told to the store. Authentication and limits look here only, never into the store. A change that the store has made durable
 * is put here before anybody is told of it, so that it counts from the next request on.
 *
 * A key lives as long as somebody holds it, a revoked one too: what runs under it ends as it would have.
 * Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_KEYRING_H
#define HOB_DAEMON_GATEWAY_KEYRING_H

#include "daemon/gateway/quota.h"
#include "daemon/store/key_table.h"
#include "daemon/store/usage_table.h"

typedef struct hob_key {
    hob_key_record record;
    hob_quota quota;
    hob_key_usage usage; /* since it was last taken; day 0: nothing */
    uint32_t refs;
    bool gone; /* revoked */
} hob_key;

/* What authentication looks at: all of it for each stranger, so it lies close together. */
typedef struct hob_key_texts {
    uint8_t hash[32], old_hash[32];
    int64_t old_until_s;
    bool gone;
} hob_key_texts;

typedef struct hob_keyring { /* zero-initialize */
    hob_key **list;          /* in the order of their numbers */
    hob_key_texts *texts;    /* of each in the list */
    size_t count, capacity;
} hob_keyring;

void hob_keyring_free(hob_keyring *r);
/* A new key, or a known one's new record. Cheap for a number above all others. HOB_ENOMEM. */
HOB_MUST_CHECK int hob_keyring_put(hob_keyring *r, const hob_key_record *record);
/* By its number; NULL. */
hob_key *hob_keyring_get(const hob_keyring *r, int64_t id);
/* The key whose text has this hash, or had it until it was rotated, expired or not; NULL. Compares with every key and takes
 * the same time whatever it finds. */
hob_key *hob_keyring_find(const hob_keyring *r, const uint8_t hash[32], int64_t now_s);
/* The one with this label that is not revoked; NULL. */
hob_key *hob_keyring_find_label(const hob_keyring *r, const char *label);
hob_key *hob_key_ref(hob_key *k); /* NULL is fine, below too */
void hob_key_unref(hob_key *k);
/* Whether it may begin something new. */
bool hob_key_valid(const hob_key *k, int64_t now_s);
/* Whether the text with this hash still stands for it: not one that was rotated away and whose grace is over. */
bool hob_key_answers_to(const hob_key *k, const uint8_t hash[32], int64_t now_s);
bool hob_key_allows_model(const hob_key *k, const char *model);

/* Adds to what the key has used; its key, day and last_used_s do not matter. */
void hob_key_note(hob_key *k, int64_t now_s, const hob_key_usage *more);
/* What the store has to be told, at most `most` rows, which are the caller's from here on, until the store has them. Frees
 * revoked keys that nobody holds and that have nothing to tell. */
size_t hob_keyring_take_usage(hob_keyring *r, hob_key_usage *rows, size_t most);

#endif
