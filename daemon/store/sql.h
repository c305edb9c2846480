/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tables share: statements with parameters by name, whose rows they may see, lists in pages.
 *
 * Isolation is in each statement: those that answer somebody are prepared with his scope, and name :tenant. A parameter that
 * a statement does not name is not bound.
 * Thread: the owner's of the connection. */
#ifndef HOB_DAEMON_STORE_SQL_H
#define HOB_DAEMON_STORE_SQL_H

#include "daemon/store/key_table.h"

enum { HOB_PUBLIC_ID_MAX = 40 }; /* bytes of "file-…", "vs_…", "vsfb_…" with its NUL */

/* On whose behalf. A key that is restricted to some collections sees these, by name or id, and of files those that it has
 * uploaded and those that are in these collections. */
typedef struct hob_scope {
    uint32_t tenant;
    int64_t key;
    bool all;                      /* collections */
    char names[HOB_KEY_NAMES_MAX]; /* else these: " a b " */
} hob_scope;

/* In a statement's WHERE, where c is the alias of collections. Names with spaces are in nobody's list. */
#define HOB_MAY_USE(c)                                                                             \
    "(" c ".tenant = :tenant AND (:all OR instr(:names, ' ' || " c ".public || ' ') > 0 OR"        \
    " (" c ".name <> '' AND instr(" c ".name, ' ') = 0 AND"                                        \
    " instr(:names, ' ' || " c ".name || ' ') > 0)))"
/* The same for a file that is there. */
#define HOB_MAY_SEE(f)                                                                             \
    "(" f ".tenant = :tenant AND " f ".state = 1 AND (:all OR " f ".key = :key OR EXISTS"          \
    " (SELECT 1 FROM attachments AS mine JOIN collections AS his ON his.id = mine.collection"      \
    "  WHERE mine.file = " f ".id AND " HOB_MAY_USE("his") ")))"

/* scope may be NULL: for hob's own work. */
HOB_MUST_CHECK int hob_sql_prepare(sqlite3 *db, const char *sql, const hob_scope *scope,
                                   sqlite3_stmt **ret, hob_diag *diag);
void hob_sql_int(sqlite3_stmt *s, const char *name, int64_t value);
/* None of these is copied: they live until the statement is finished. NULL is NULL. */
void hob_sql_text(sqlite3_stmt *s, const char *name, const char *value);
void hob_sql_bytes(sqlite3_stmt *s, const char *name, const char *text, size_t len);
void hob_sql_blob(sqlite3_stmt *s, const char *name, const void *data, size_t len);
/* 1: there is a row; 0: no more. On failure too the statement is the caller's to finalize. */
HOB_MUST_CHECK int hob_sql_step(sqlite3_stmt *s, hob_diag *diag);
/* Runs a statement without rows and finalizes it. s may be NULL after a failed prepare, whose code is passed on. */
HOB_MUST_CHECK int hob_sql_finish(int code, sqlite3_stmt *s, hob_diag *diag);
/* The first column of its first row, an integer, and finalizes it. HOB_ENOENT, with no diagnosis: there is none. */
HOB_MUST_CHECK int hob_sql_value(int code, sqlite3_stmt *s, int64_t *ret, hob_diag *diag);
/* A text that has to fit. HOB_EFORMAT. */
HOB_MUST_CHECK int hob_sql_copy(sqlite3_stmt *s, int column, char *ret, size_t size,
                                hob_diag *diag);

/* ---- pages ---- */

typedef struct hob_page {
    uint32_t limit;
    bool ascending;                 /* in the order in which they were made */
    bool before;                    /* those in front of the cursor, not behind it */
    char cursor[HOB_PUBLIC_ID_MAX]; /* "": from the beginning */
} hob_page;

/* Reads a page: each row that visit is called for; a negative result ends it and is returned. `select` is a statement that
 * ends in a WHERE, with the list's number as its first column, named by `number`. at: the cursor's number, 0: none.
 * bind may be NULL. */
typedef int hob_sql_visit(void *user, sqlite3_stmt *s, hob_diag *diag);
HOB_MUST_CHECK int hob_sql_page(sqlite3 *db, const char *select, const char *number,
                                const hob_scope *scope, const hob_page *page, int64_t at,
                                void (*bind)(void *user, sqlite3_stmt *s), hob_sql_visit *visit,
                                void *user, bool *ret_more, hob_diag *diag);

#endif
