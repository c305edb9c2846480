/* SPDX-License-Identifier: Apache-2.0
 *
 * The table-driven option parser. See options.h. Mistakes are reported once, on stderr, with what
 * was got and what is allowed; nothing is guessed and no abbreviation is taken. */
#include "daemon/ctl/options.h"

#include "daemon/ctl/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const hob_option *find_option(const hob_syntax *s, const char *name, size_t len)
{
    for (size_t i = 0; i < s->option_count; i++) {
        const hob_option *o = &s->options[i];
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

/* "f16|q8_0" holds "f16". */
static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (const char *c = choices; *c;) {
        size_t n = strcspn(c, "|");
        if (n == len && memcmp(c, text, n) == 0)
            return true;
        c += n;
        c += *c == '|';
    }
    return false;
}

static bool parse_unsigned(const char *text, uint64_t *ret)
{
    if (*text < '0' || *text > '9')
        return false; /* strtoull would take blanks and a sign */
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end)
        return false;
    *ret = v;
    return true;
}

static bool parse_number(const char *text, double *ret)
{
    if (!*text || strchr(" \t\n", *text))
        return false;
    char *end;
    double v = strtod(text, &end);
    if (*end || !isfinite(v))
        return false;
    *ret = v;
    return true;
}

static bool take_value(const hob_syntax *s, const hob_option *o, const char *text)
{
    uint64_t u;
    double d;
    switch (o->kind) {
    case HOB_OPTION_TEXT: *(const char **)o->value = text; return true;
    case HOB_OPTION_CHOICE:
        if (!is_choice(o->choices, text)) {
            fprintf(stderr, "hobctl %s: %s: got \"%s\", allowed: %s\n", s->command, o->name, text,
                    o->choices);
            return false;
        }
        *(const char **)o->value = text;
        return true;
    case HOB_OPTION_U32:
        if (!parse_unsigned(text, &u) || (double)u < o->min || (double)u > o->max) {
            fprintf(stderr, "hobctl %s: %s: got \"%s\", allowed: an integer from %.0f to %.0f\n",
                    s->command, o->name, text, o->min, o->max);
            return false;
        }
        *(uint32_t *)o->value = (uint32_t)u;
        return true;
    case HOB_OPTION_U64:
        if (!parse_unsigned(text, &u)) {
            fprintf(stderr,
                    "hobctl %s: %s: got \"%s\", allowed: an integer from 0 to %" PRIu64 "\n",
                    s->command, o->name, text, UINT64_MAX);
            return false;
        }
        *(uint64_t *)o->value = u;
        return true;
    case HOB_OPTION_NUMBER:
        if (!parse_number(text, &d) || d < o->min || d > o->max) {
            fprintf(stderr, "hobctl %s: %s: got \"%s\", allowed: a number from %g to %g\n",
                    s->command, o->name, text, o->min, o->max);
            return false;
        }
        *(double *)o->value = d;
        return true;
    case HOB_OPTION_FLAG: break;
    }
    return false;
}

static void print_allowed(const hob_syntax *s)
{
    fprintf(stderr, "allowed:");
    for (size_t i = 0; i < s->option_count; i++)
        fprintf(stderr, " %s", s->options[i].name);
    fprintf(stderr, " --help\n");
}

void hob_options_help(const hob_syntax *s)
{
    printf("%s\n\nusage: hobctl %s", s->summary, s->command);
    for (size_t i = 0; i < s->option_count; i++) {
        const hob_option *o = &s->options[i];
        if (o->required)
            printf(" %s %s", o->name, o->argument);
    }
    printf(" [options]%s%s\n\n", s->positional ? " " : "", s->positional ? s->positional : "");
    for (size_t i = 0; i < s->option_count; i++) {
        const hob_option *o = &s->options[i];
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("  %-24s %s\n", left, o->help);
    }
    printf("  %-24s %s\n", "--help", "print this");
    if (s->notes)
        printf("\n%s\n", s->notes);
}

hob_parsed hob_options_parse(const hob_syntax *s, int argc, char **argv, int *ret_positional)
{
    uint64_t seen = 0; /* bit i: options[i] was given */
    int positional = 0;
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i];
        if (ended || arg[0] != '-' || !arg[1]) {
            if (!s->positional) {
                fprintf(stderr, "hobctl %s: unexpected argument \"%s\"; ", s->command, arg);
                print_allowed(s);
                return HOB_PARSED_USAGE;
            }
            argv[1 + positional++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            ended = true;
            continue;
        }
        if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            hob_options_help(s);
            return HOB_PARSED_HELP;
        }
        size_t name_len = strcspn(arg, "=");
        const hob_option *o = find_option(s, arg, name_len);
        if (!o) {
            fprintf(stderr, "hobctl %s: unknown option \"%.*s\"; ", s->command, (int)name_len, arg);
            print_allowed(s);
            return HOB_PARSED_USAGE;
        }
        uint64_t bit = 1ull << (o - s->options);
        if (seen & bit) {
            fprintf(stderr, "hobctl %s: %s is given twice\n", s->command, o->name);
            return HOB_PARSED_USAGE;
        }
        seen |= bit;
        if (o->kind == HOB_OPTION_FLAG) {
            if (arg[name_len]) {
                fprintf(stderr, "hobctl %s: %s takes no value\n", s->command, o->name);
                return HOB_PARSED_USAGE;
            }
            *(bool *)o->value = true;
            continue;
        }
        const char *value = arg[name_len] ? arg + name_len + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (!value) {
            fprintf(stderr, "hobctl %s: %s needs a value: %s\n", s->command, o->name, o->argument);
            return HOB_PARSED_USAGE;
        }
        if (!take_value(s, o, value))
            return HOB_PARSED_USAGE;
    }
    for (size_t i = 0; i < s->option_count; i++) {
        if (s->options[i].required && !(seen >> i & 1)) {
            fprintf(stderr, "hobctl %s: %s %s is missing (see hobctl %s --help)\n", s->command,
                    s->options[i].name, s->options[i].argument, s->command);
            return HOB_PARSED_USAGE;
        }
    }
    if (ret_positional)
        *ret_positional = positional;
    return HOB_PARSED_RUN;
}

bool hob_options_parse_count(const hob_syntax *s, int argc, char **argv, int least, int most,
                             int *ret_count, int *ret_status)
{
    const hob_parsed parsed = hob_options_parse(s, argc, argv, ret_count);
    *ret_status = parsed != HOB_PARSED_HELP ? HOB_EXIT_USAGE : HOB_EXIT_OK;
    if (parsed != HOB_PARSED_RUN)
        return false;
    if (*ret_count >= least && *ret_count <= most)
        return true;
    fprintf(stderr, "hobctl %s: %s is needed (see hobctl %s --help)\n", s->command, s->positional,
            s->command);
    return false;
}
