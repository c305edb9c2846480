/* SPDX-License-Identifier: Apache-2.0
 *
 * Sessions of the console: what a browser's cookie stands for. A session is begun with a key and acts as that key as
 * long as its text is good. Kept are hashes, as of keys: what is in memory opens nothing. The table is bounded, and each
 * key has its share of it; where there is no room the session that was used the longest ago ends. Pure: the caller
 * brings time and random numbers. Lengths of time and where they end after OWASP's Session Management Cheat Sheet: a
 * time without use, and one in all. Thread: loop. */
#ifndef HOB_DAEMON_GATEWAY_SESSIONS_H
#define HOB_DAEMON_GATEWAY_SESSIONS_H

#include "hal/base.h"

enum { HOB_SESSIONS_MAX = 512, HOB_SESSIONS_OF_KEY = 16 };

typedef struct hob_session {
    uint8_t hash[32];      /* SHA-256 of the cookie's value */
    uint8_t text_hash[32]; /* of the key's text that it was begun with */
    int64_t key;           /* the key's number; 0: a free place */
    uint64_t ends_ms, used_ms;
} hob_session;

typedef struct hob_sessions { /* zero-initialize */
    uint64_t idle_ms;         /* one that is not used for so long ends */
    hob_session table[HOB_SESSIONS_MAX];
} hob_sessions;

/* A new one of the key for `length_ms` at most. It may take the place of another. */
void hob_sessions_begin(hob_sessions *s, int64_t key, const uint8_t text_hash[32],
                        const uint8_t hash[32], uint64_t length_ms, uint64_t now_ms);
/* The one whose cookie has this hash, which is used now; NULL. Compares with all of them. Those that are over leave. */
hob_session *hob_sessions_find(hob_sessions *s, const uint8_t hash[32], uint64_t now_ms);
void hob_session_end(hob_session *one);
/* The value of a cookie in a request's header (RFC 6265, 4.2.1) that has exactly `len` bytes, each a lower-case
 * hexadecimal digit; ret gets a NUL too. False when there is none, ret is untouched then. (libwebsockets' own search
 * takes a name at the end of another, or within a value, for it, which undoes what the prefix __Host- is for.) */
bool hob_session_cookie(const char *header, const char *name, size_t len, char *ret);
uint32_t hob_sessions_count(const hob_sessions *s, uint64_t now_ms);

#endif
