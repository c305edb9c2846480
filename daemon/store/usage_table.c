/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of usage. See usage_table.h. */
#include "daemon/store/usage_table.h"

static int add_row(sqlite3 *db, const hob_key_usage *u, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db,
                           "INSERT INTO usage (key, day, requests, prompt_tokens, cached_tokens, "
                           "answer_tokens) VALUES (?,?,?,?,?,?) ON CONFLICT (key, day) DO UPDATE "
                           "SET requests = requests + excluded.requests, "
                           "prompt_tokens = prompt_tokens + excluded.prompt_tokens, "
                           "cached_tokens = cached_tokens + excluded.cached_tokens, "
                           "answer_tokens = answer_tokens + excluded.answer_tokens",
                           -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    const int64_t values[] = {u->key,
                              u->day,
                              (int64_t)u->requests,
                              (int64_t)u->prompt_tokens,
                              (int64_t)u->cached_tokens,
                              (int64_t)u->answer_tokens};
    for (int i = 0; i < 6; i++)
        sqlite3_bind_int64(s, i + 1, values[i]);
    if (sqlite3_step(s) != SQLITE_DONE)
        code = hob_store_fail(db, diag);
    sqlite3_finalize(s);
    return code;
}

static int note_use(sqlite3 *db, const hob_key_usage *u, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db, "UPDATE keys SET last_used = ?1 WHERE id = ?2", -1, &s, NULL) !=
        SQLITE_OK)
        return hob_store_fail(db, diag);
    sqlite3_bind_int64(s, 1, u->last_used_s);
    sqlite3_bind_int64(s, 2, u->key);
    if (sqlite3_step(s) != SQLITE_DONE)
        code = hob_store_fail(db, diag);
    sqlite3_finalize(s);
    return code;
}

int hob_usage_table_add(sqlite3 *db, const hob_key_usage *u, hob_diag *diag)
{
    int code = 0;
    if (u->requests > 0 || u->prompt_tokens > 0 || u->answer_tokens > 0)
        code = add_row(db, u, diag);
    if (code == 0 && u->last_used_s > 0)
        code = note_use(db, u, diag);
    return code;
}

int hob_usage_table_each(sqlite3 *db, int64_t key, int64_t from_day, hob_usage_visit *visit,
                         void *user, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0, step = SQLITE_DONE;
    if (sqlite3_prepare_v2(
            db,
            "SELECT key, day, requests, prompt_tokens, cached_tokens, answer_tokens, label "
            "FROM usage JOIN keys ON keys.id = key WHERE day >= ?1 AND (?2 = 0 OR key = ?2) "
            "ORDER BY day, key",
            -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    sqlite3_bind_int64(s, 1, from_day);
    sqlite3_bind_int64(s, 2, key);
    while (code >= 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
        const hob_key_usage u = {.key = sqlite3_column_int64(s, 0),
                                 .day = sqlite3_column_int64(s, 1),
                                 .requests = (uint64_t)sqlite3_column_int64(s, 2),
                                 .prompt_tokens = (uint64_t)sqlite3_column_int64(s, 3),
                                 .cached_tokens = (uint64_t)sqlite3_column_int64(s, 4),
                                 .answer_tokens = (uint64_t)sqlite3_column_int64(s, 5)};
        const char *label = (const char *)sqlite3_column_text(s, 6);
        code = label ? visit(user, &u, label, diag) : hob_store_fail(db, diag);
    }
    if (code >= 0 && step != SQLITE_DONE)
        code = hob_store_fail(db, diag);
    sqlite3_finalize(s);
    return code;
}

int hob_usage_table_prune(sqlite3 *db, int64_t before_day, hob_diag *diag)
{
    sqlite3_stmt *s = NULL;
    int code = 0;
    if (sqlite3_prepare_v2(db, "DELETE FROM usage WHERE day < ?1", -1, &s, NULL) != SQLITE_OK)
        return hob_store_fail(db, diag);
    sqlite3_bind_int64(s, 1, before_day);
    if (sqlite3_step(s) != SQLITE_DONE)
        code = hob_store_fail(db, diag);
    sqlite3_finalize(s);
    return code;
}
