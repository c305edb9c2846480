/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to whoever sits at the terminal, one a line, with what Enter answers in brackets. They stand on the standard error,
 * answers come from the standard input. Thread: the command's only one. */
#ifndef HOB_DAEMON_CTL_PROMPT_H
#define HOB_DAEMON_CTL_PROMPT_H

#include "hal/base.h"

/* Somebody can be asked: both are a terminal. */
bool hob_prompt_possible(void);
/* Whether text will do as the answer; what is wrong with it goes to why. */
typedef bool hob_prompt_check(void *user, const char *text, hob_diag *why);
/* Asks until check (NULL: anything will do) takes the answer. ret holds what Enter answers, "" if that is nothing, and then
 * the answer, without blanks around it. HOB_ECANCELED: the input has ended. */
HOB_MUST_CHECK int hob_prompt_text(const char *question, hob_prompt_check *check, void *user,
                                   char *ret, size_t size, hob_diag *diag);
/* A number from min to max; *ret likewise. */
HOB_MUST_CHECK int hob_prompt_number(const char *question, uint32_t min, uint32_t max,
                                     uint32_t *ret, hob_diag *diag);
/* y or n. */
HOB_MUST_CHECK int hob_prompt_yes(const char *question, bool *ret, hob_diag *diag);

#endif
