/* SPDX-License-Identifier: Apache-2.0
 *
 * Versions. See version.h. */
#include "daemon/bundle/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

enum { FOLDER_NUMBER_MAX = 9 }; /* digits */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool hob_bundle_version_ok(const char *version)
{
    const size_t len = strlen(version);
    return is_digit(version[0]) && len <= HOB_BUNDLE_VERSION_MAX &&
           strspn(version, DIGITS LETTERS ".+~-") == len;
}

/* Where a character of a run without digits stands; 0: the run's end. */
static int rank(char c)
{
    if (c == '~')
        return -1;
    if (c == '\0' || is_digit(c))
        return 0;
    return strchr(LETTERS, c) ? c : c + 256;
}

static int compare_part(const char *a, const char *b)
{
    while (*a || *b) {
        while ((*a && !is_digit(*a)) || (*b && !is_digit(*b))) {
            if (rank(*a) != rank(*b))
                return rank(*a) - rank(*b);
            a++; /* both are the same character, and not the end */
            b++;
        }
        a += strspn(a, "0");
        b += strspn(b, "0");
        const size_t m = strspn(a, DIGITS), n = strspn(b, DIGITS);
        if (m != n)
            return m < n ? -1 : 1;
        const int order = memcmp(a, b, m);
        if (order != 0)
            return order;
        a += m;
        b += n;
    }
    return 0;
}

/* The part before the last hyphen, and the one behind it, "" where there is none. */
static void split(const char *version, char ret_upstream[HOB_BUNDLE_VERSION_MAX + 1],
                  const char **ret_revision)
{
    const char *mark = strrchr(version, '-');
    const size_t len = mark ? (size_t)(mark - version) : strlen(version);
    snprintf(ret_upstream, HOB_BUNDLE_VERSION_MAX + 1, "%.*s", (int)len, version);
    *ret_revision = mark ? mark + 1 : "";
}

int hob_bundle_version_compare(const char *a, const char *b)
{
    char upstream[2][HOB_BUNDLE_VERSION_MAX + 1];
    const char *revision[2];
    split(a, upstream[0], &revision[0]);
    split(b, upstream[1], &revision[1]);
    const int order = compare_part(upstream[0], upstream[1]);
    return order != 0 ? order : compare_part(revision[0], revision[1]);
}

void hob_bundle_folder_version(const char *folder, char ret[HOB_BUNDLE_VERSION_MAX + 1])
{
    snprintf(ret, HOB_BUNDLE_VERSION_MAX + 1, "%.*s", (int)strcspn(folder, "#"), folder);
}

bool hob_bundle_folder_ok(const char *folder)
{
    char version[HOB_BUNDLE_VERSION_MAX + 1];
    const char *mark = strchr(folder, '#');
    if (strcspn(folder, "#") > HOB_BUNDLE_VERSION_MAX)
        return false;
    hob_bundle_folder_version(folder, version);
    if (!hob_bundle_version_ok(version))
        return false;
    return !mark || (mark[1] != '0' && mark[1] && strlen(mark + 1) <= FOLDER_NUMBER_MAX &&
                     strspn(mark + 1, DIGITS) == strlen(mark + 1));
}

int hob_bundle_folder_compare(const char *a, const char *b)
{
    char versions[2][HOB_BUNDLE_VERSION_MAX + 1];
    hob_bundle_folder_version(a, versions[0]);
    hob_bundle_folder_version(b, versions[1]);
    const int order = hob_bundle_version_compare(versions[0], versions[1]);
    if (order != 0)
        return order;
    const char *marks[2] = {strchr(a, '#'), strchr(b, '#')};
    const long numbers[2] = {marks[0] ? atol(marks[0] + 1) : 1, marks[1] ? atol(marks[1] + 1) : 1};
    return (numbers[0] > numbers[1]) - (numbers[0] < numbers[1]);
}
