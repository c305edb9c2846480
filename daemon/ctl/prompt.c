/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions at a terminal. See prompt.h. */
#include "daemon/ctl/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

bool hob_prompt_possible(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

/* A line without its end and the blanks around it. HOB_ELIMIT: it is longer than size, and was read to its end. */
static int read_answer(char *ret, size_t size, hob_diag *diag)
{
    char line[LINE_MAX_BYTES];
    if (!fgets(line, sizeof line, stdin))
        return hob_fail(diag, HOB_ECANCELED, "the answers have ended: nothing was written");
    size_t len = strcspn(line, "\n");
    if (!line[len] && !feof(stdin)) {
        for (int c = 0; c != '\n' && c != EOF;)
            c = getchar();
        return hob_fail(diag, HOB_ELIMIT, "at most %zu bytes are allowed", size - 1);
    }
    while (len > 0 && strchr(" \t\r", line[len - 1]))
        len--;
    line[len] = 0;
    const char *at = line + strspn(line, " \t");
    if (strlen(at) >= size)
        return hob_fail(diag, HOB_ELIMIT, "at most %zu bytes are allowed", size - 1);
    memcpy(ret, at, strlen(at) + 1);
    return 0;
}

int hob_prompt_text(const char *question, hob_prompt_check *check, void *user, char *ret,
                    size_t size, hob_diag *diag)
{
    char answer[LINE_MAX_BYTES];
    for (;;) {
        hob_diag why = {""};
        if (ret[0])
            fprintf(stderr, "%s [%s]: ", question, ret);
        else
            fprintf(stderr, "%s: ", question);
        int code = read_answer(answer, size < sizeof answer ? size : sizeof answer, &why);
        if (code == HOB_ECANCELED) {
            fprintf(stderr, "\n");
            return hob_fail(diag, code, "%s", why.text);
        }
        const char *text = code == 0 && !answer[0] ? ret : answer;
        if (code == 0 && (!check || check(user, text, &why))) {
            if (text == answer)
                memcpy(ret, answer, strlen(answer) + 1);
            return 0;
        }
        fprintf(stderr, "  %s\n", why.text);
    }
}

typedef struct range {
    uint32_t min, max;
} range;

static bool check_number(void *user, const char *text, hob_diag *why)
{
    const range *r = user;
    char *end;
    errno = 0;
    const unsigned long long n = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && !*end && !errno && n >= r->min && n <= r->max)
        return true;
    (void)hob_fail(why, HOB_EINVAL, "got \"%.40s\", allowed: an integer from %u to %u", text,
                   r->min, r->max);
    return false;
}

int hob_prompt_number(const char *question, uint32_t min, uint32_t max, uint32_t *ret,
                      hob_diag *diag)
{
    range r = {min, max};
    char text[16];
    snprintf(text, sizeof text, "%u", *ret);
    const int code = hob_prompt_text(question, check_number, &r, text, sizeof text, diag);
    if (code == 0)
        *ret = (uint32_t)strtoul(text, NULL, 10);
    return code;
}

static bool check_yes(void *user, const char *text, hob_diag *why)
{
    (void)user;
    if (strchr("yYnN", text[0]) && text[0] && !text[1])
        return true;
    (void)hob_fail(why, HOB_EINVAL, "got \"%.40s\", allowed: y or n", text);
    return false;
}

int hob_prompt_yes(const char *question, bool *ret, hob_diag *diag)
{
    char text[4];
    snprintf(text, sizeof text, "%s", *ret ? "y" : "n");
    const int code = hob_prompt_text(question, check_yes, NULL, text, sizeof text, diag);
    if (code == 0)
        *ret = text[0] == 'y' || text[0] == 'Y';
    return code;
}
