/* SPDX-License-Identifier: Apache-2.0
 *
 * The question. See question.h. */
#include "daemon/gateway/question.h"

#include <math.h>
#include <string.h>

enum { TURNS_BEFORE = 3, TURN_BYTES = HOB_HISTORY_BYTES / TURNS_BEFORE };

/* The text of a user's message that has one; NULL for others. */
static const char *turn_of(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role")),
               *text = json_string_value(json_object_get(message, "content"));
    return role && strcmp(role, "user") == 0 && text && text[strspn(text, " \t\r\n")] ? text : NULL;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* s with its white space made even, as much of its beginning as fits cap bytes: whole characters, with no space at the
 * end. Returns the bytes. */
static size_t copy_beginning(const char *s, size_t len, char *ret, size_t cap)
{
    size_t n = 0;
    for (size_t i = 0; i < len && n < cap; i++) {
        if (!is_space(s[i]))
            ret[n++] = s[i];
        else if (n > 0 && ret[n - 1] != ' ')
            ret[n++] = ' ';
    }
    if (n == cap) { /* it may have been cut within a character */
        size_t begin = n;
        while (begin > 0 && ((unsigned char)ret[begin - 1] & 0xc0) == 0x80)
            begin--;
        const unsigned char lead = begin > 0 ? (unsigned char)ret[begin - 1] : 0;
        const size_t wanted = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
        if (n - begin < wanted)
            n = begin - 1;
    }
    while (n > 0 && ret[n - 1] == ' ')
        n--;
    return n;
}

static void copy_turn(const char *s, char *ret, size_t cap)
{
    const size_t len = strlen(s);
    size_t n = copy_beginning(s, len, ret, len > cap ? cap / 2 : cap);
    if (len > cap) {
        const char *end = s + len - (cap / 2 - 1);
        while (((unsigned char)*end & 0xc0) == 0x80)
            end++;
        ret[n++] = ' ';
        n += copy_beginning(end, strlen(end), ret + n, cap - n);
    }
    ret[n] = '\0';
}

int hob_question_read(const json_t *messages, hob_question *ret)
{
    const char *turns[TURNS_BEFORE + 1]; /* the last ones, the newest first */
    size_t count = 0, used = 0;

    *ret = (hob_question){0};
    for (size_t i = json_array_size(messages); i-- > 0;) {
        const char *turn = turn_of(json_array_get(messages, i));
        if (!turn)
            continue;
        ret->first = i;
        if (count < TURNS_BEFORE + 1)
            turns[count++] = turn;
    }
    if (count == 0)
        return HOB_ENOENT;
    copy_turn(turns[0], ret->text, HOB_QUESTION_BYTES);
    for (size_t i = count; i-- > 1;) {
        if (used > 0)
            ret->history[used++] = ' ';
        used += copy_beginning(turns[i], strlen(turns[i]), ret->history + used, TURN_BYTES - 1);
    }
    ret->history[used] = '\0';
    return 0;
}

void hob_question_add_history(float *question, const float *history, uint32_t dim)
{
    double length = 0;
    for (uint32_t i = 0; i < dim; i++) {
        question[i] += HOB_HISTORY_WEIGHT * history[i];
        length += (double)question[i] * question[i];
    }
    for (uint32_t i = 0; i < dim && length > 0; i++)
        question[i] = (float)(question[i] / sqrt(length));
}
