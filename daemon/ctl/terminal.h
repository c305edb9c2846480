/* SPDX-License-Identifier: Apache-2.0
 *
 * A full-screen terminal that never holds its program up. ncurses draws into memory (stdscr is what to draw on); what it would
 * have written goes to the terminal through a description of its own that does not block, and the next frame is drawn only
 * when the last one is written. So a slow terminal gets fewer frames, and keys count at once. Thread: one. */
#ifndef HOB_DAEMON_CTL_TERMINAL_H
#define HOB_DAEMON_CTL_TERMINAL_H

#include "hal/base.h"

typedef struct hob_terminal hob_terminal;

/* Standard input and output are to be a terminal that can move its cursor. SIGWINCH, SIGTSTP, SIGINT and SIGTERM should be
 * blocked: ncurses would take them. HOB_EUNSUPPORTED: it is none; HOB_EIO, HOB_ENOMEM. */
HOB_MUST_CHECK int hob_terminal_open(hob_terminal **ret, hob_diag *diag);
/* What is not written yet is dropped, and the terminal is as it was. NULL is fine. */
void hob_terminal_close(hob_terminal *t);

int hob_terminal_fd(const hob_terminal *t);       /* to be written to when hob_terminal_busy */
bool hob_terminal_busy(const hob_terminal *t);    /* a frame is not all written */
bool hob_terminal_colours(const hob_terminal *t); /* it has some, and NO_COLOR is not set */
/* Takes what was drawn on stdscr as the next frame, unless one is being written. */
void hob_terminal_show(hob_terminal *t);
/* Writes what can be written at once. HOB_EIO: the terminal is gone. */
HOB_MUST_CHECK int hob_terminal_write(hob_terminal *t, hob_diag *diag);
void hob_terminal_resize(hob_terminal *t); /* to the size it has now; all is drawn anew */
/* A key that was pressed: a character or ncurses' KEY_…; negative: there is none. */
int hob_terminal_key(hob_terminal *t);
/* Gives the terminal back until the process is continued (SIGTSTP). */
void hob_terminal_suspend(hob_terminal *t);

#endif
