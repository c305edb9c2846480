/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of sessions. See sessions.h. */
#include "daemon/gateway/sessions.h"

#include <string.h>

#include "daemon/conf/keys.h"

static bool is_over(const hob_sessions *s, const hob_session *one, uint64_t now_ms)
{
    return one->key == 0 || now_ms >= one->ends_ms || now_ms - one->used_ms >= s->idle_ms;
}

void hob_session_end(hob_session *one)
{
    *one = (hob_session){0};
}

/* Of those of the key, or of all (0), the one that was used the longest ago. */
static hob_session *oldest(hob_sessions *s, int64_t key, uint32_t *ret_count)
{
    hob_session *found = NULL;
    *ret_count = 0;
    for (size_t i = 0; i < HOB_SESSIONS_MAX; i++) {
        hob_session *one = &s->table[i];
        if (one->key == 0 || (key != 0 && one->key != key))
            continue;
        ++*ret_count;
        if (!found || one->used_ms < found->used_ms)
            found = one;
    }
    return found;
}

void hob_sessions_begin(hob_sessions *s, int64_t key, const uint8_t text_hash[32],
                        const uint8_t hash[32], uint64_t length_ms, uint64_t now_ms)
{
    uint32_t of_key, of_all;
    for (size_t i = 0; i < HOB_SESSIONS_MAX; i++)
        if (is_over(s, &s->table[i], now_ms))
            hob_session_end(&s->table[i]);
    hob_session *at = oldest(s, key, &of_key);
    hob_session *other = oldest(s, 0, &of_all);
    if (of_key < HOB_SESSIONS_OF_KEY)
        at = other;
    if (of_key < HOB_SESSIONS_OF_KEY && of_all < HOB_SESSIONS_MAX)
        for (at = s->table; at->key != 0; at++)
            ;
    *at = (hob_session){.key = key, .ends_ms = now_ms + length_ms, .used_ms = now_ms};
    memcpy(at->hash, hash, sizeof at->hash);
    memcpy(at->text_hash, text_hash, sizeof at->text_hash);
}

hob_session *hob_sessions_find(hob_sessions *s, const uint8_t hash[32], uint64_t now_ms)
{
    size_t found = 0; /* index + 1 */
    for (size_t i = 0; i < HOB_SESSIONS_MAX; i++) {
        if (s->table[i].key != 0 && is_over(s, &s->table[i], now_ms))
            hob_session_end(&s->table[i]);
        const size_t taken = (size_t)0 - (size_t)(s->table[i].key != 0);
        found |= hob_key_equal(s->table[i].hash, hash) & taken & (i + 1);
    }
    if (found == 0)
        return NULL;
    s->table[found - 1].used_ms = now_ms;
    return &s->table[found - 1];
}

bool hob_session_cookie(const char *header, const char *name, size_t len, char *ret)
{
    const size_t name_len = strlen(name);
    for (const char *p = header; *p; p += strcspn(p, ";")) {
        p += strspn(p, "; ");
        if (strncmp(p, name, name_len) != 0 || p[name_len] != '=')
            continue;
        p += name_len + 1;
        if (strspn(p, "0123456789abcdef") != len || (p[len] && !strchr("; ", p[len])))
            continue;
        memcpy(ret, p, len);
        ret[len] = '\0';
        return true;
    }
    return false;
}

uint32_t hob_sessions_count(const hob_sessions *s, uint64_t now_ms)
{
    uint32_t n = 0;
    for (size_t i = 0; i < HOB_SESSIONS_MAX; i++)
        n += !is_over(s, &s->table[i], now_ms);
    return n;
}
