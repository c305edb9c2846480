/* SPDX-License-Identifier: Apache-2.0
 *
 * Command-line options from a table: the same table parses, checks ranges and prints the help, so
 * that none of the three can differ from the others. Accepts `--name value` and `--name=value`;
 * `--` ends the options. What is not in the table is refused with the list of what is. */
#ifndef HOB_DAEMON_CTL_OPTIONS_H
#define HOB_DAEMON_CTL_OPTIONS_H

#include "hal/base.h"

typedef enum hob_option_kind {
    HOB_OPTION_FLAG,   /* value: bool * */
    HOB_OPTION_TEXT,   /* value: const char **, pointing into argv */
    HOB_OPTION_CHOICE, /* the same, one of choices */
    HOB_OPTION_U32,    /* value: uint32_t *, min .. max */
    HOB_OPTION_U64,    /* value: uint64_t *, any */
    HOB_OPTION_NUMBER, /* value: double *, finite, min .. max */
} hob_option_kind;

typedef struct hob_option {
    const char *name;     /* "--model" */
    const char *argument; /* "FILE"; the choices of one that has them; NULL for a flag */
    hob_option_kind kind;
    void *value;
    bool required;
    double min, max;
    const char *choices; /* "f16|q8_0" */
    const char *help;
} hob_option;

/* One line an option in a command's table. */
#define HOB_FLAG(name_, value_, help_)                                                             \
    {                                                                                              \
        .name = name_, .kind = HOB_OPTION_FLAG, .value = value_, .help = help_                     \
    }
#define HOB_TEXT(name_, argument_, value_, help_)                                                  \
    {                                                                                              \
        .name = name_, .argument = argument_, .kind = HOB_OPTION_TEXT, .value = value_,            \
        .help = help_                                                                              \
    }
#define HOB_REQUIRED(name_, argument_, value_, help_)                                              \
    {                                                                                              \
        .name = name_, .argument = argument_, .kind = HOB_OPTION_TEXT, .value = value_,            \
        .required = true, .help = help_                                                            \
    }
#define HOB_CHOICE(name_, value_, choices_, help_)                                                 \
    {                                                                                              \
        .name = name_, .argument = choices_, .kind = HOB_OPTION_CHOICE, .value = value_,           \
        .choices = choices_, .help = help_                                                         \
    }
#define HOB_U32(name_, value_, min_, max_, help_)                                                  \
    {                                                                                              \
        .name = name_, .argument = "N", .kind = HOB_OPTION_U32, .value = value_, .min = min_,      \
        .max = max_, .help = help_                                                                 \
    }
#define HOB_U64(name_, value_, help_)                                                              \
    {                                                                                              \
        .name = name_, .argument = "N", .kind = HOB_OPTION_U64, .value = value_, .help = help_     \
    }
#define HOB_NUMBER(name_, value_, min_, max_, help_)                                               \
    {                                                                                              \
        .name = name_, .argument = "X", .kind = HOB_OPTION_NUMBER, .value = value_, .min = min_,   \
        .max = max_, .help = help_                                                                 \
    }

typedef struct hob_syntax {
    const char *command;    /* "bench" */
    const char *summary;    /* one sentence */
    const char *positional; /* "[QUESTION…]", NULL: none are taken */
    const char *notes;      /* printed below the options, or NULL */
    const hob_option *options;
    size_t option_count;
} hob_syntax;

typedef enum hob_parsed {
    HOB_PARSED_RUN,   /* go on */
    HOB_PARSED_HELP,  /* the help was printed: exit 0 */
    HOB_PARSED_USAGE, /* the mistake was printed: exit 2 */
} hob_parsed;

/* argv[0] is the command's name. Positional arguments are moved to the front of argv + 1; their
 * number goes to *ret_positional (may be NULL when none are taken). */
HOB_MUST_CHECK hob_parsed hob_options_parse(const hob_syntax *s, int argc, char **argv,
                                            int *ret_positional);
/* The same for a command that takes least to most positional arguments. False: *ret_status is the exit status. */
HOB_MUST_CHECK bool hob_options_parse_count(const hob_syntax *s, int argc, char **argv, int least,
                                            int most, int *ret_count, int *ret_status);
void hob_options_help(const hob_syntax *s);

#endif
