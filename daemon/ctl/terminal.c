/* SPDX-License-Identifier: Apache-2.0
 *
 * See terminal.h. ncurses writes to a file in memory, which it takes for no terminal: modes and size are set here. */
#include "daemon/ctl/terminal.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <term.h>
#include <termios.h>
#include <unistd.h>

enum { ESCAPE_MS = 25, LAST_WRITE_MS = 200, SIZE_MOST = 1000 };

struct hob_terminal {
    struct termios before;
    FILE *drawn; /* what ncurses writes to */
    int out;
    SCREEN *screen;
    WINDOW *keys; /* a pad: reading from it draws nothing */
    char *frame;  /* [frame_len], of it frame_sent are written */
    size_t frame_len, frame_sent;
    bool colours;
};

/* ---- the way out ---- */

/* What ncurses has written is the frame, in place of an earlier one. */
static void take_frame(hob_terminal *t)
{
    const int fd = fileno(t->drawn);
    fflush(t->drawn);
    const off_t len = lseek(fd, 0, SEEK_CUR);
    char *frame = len > 0 ? malloc((size_t)len) : NULL;
    t->frame_len = t->frame_sent = 0;
    if (frame && pread(fd, frame, (size_t)len, 0) == len) {
        free(t->frame);
        t->frame = frame;
        t->frame_len = (size_t)len;
    } else if (len > 0) { /* without memory it is left out, and the next one is drawn in full */
        free(frame);
        clearok(stdscr, TRUE);
    }
    if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        t->frame_len = 0;
}

bool hob_terminal_busy(const hob_terminal *t)
{
    return t->frame_sent < t->frame_len;
}

int hob_terminal_fd(const hob_terminal *t)
{
    return t->out;
}

bool hob_terminal_colours(const hob_terminal *t)
{
    return t->colours;
}

int hob_terminal_write(hob_terminal *t, hob_diag *diag)
{
    while (hob_terminal_busy(t)) {
        const ssize_t n = write(t->out, t->frame + t->frame_sent, t->frame_len - t->frame_sent);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR)
            return hob_fail(diag, HOB_EIO, "the terminal cannot be written to: %s",
                            strerror(errno));
        t->frame_sent += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

void hob_terminal_show(hob_terminal *t)
{
    if (hob_terminal_busy(t))
        return;
    refresh();
    take_frame(t);
}

/* The last words: for a terminal that takes them. */
static void write_last(hob_terminal *t)
{
    const uint64_t end_us = hob_now_us() + LAST_WRITE_MS * (uint64_t)1000;
    hob_diag diag;
    while (hob_terminal_write(t, &diag) == 0 && hob_terminal_busy(t) && hob_now_us() < end_us) {
        struct pollfd p = {.fd = t->out, .events = POLLOUT};
        (void)poll(&p, 1, LAST_WRITE_MS / 10);
    }
}

/* ---- modes ---- */

static void set_modes(const hob_terminal *t)
{
    struct termios modes = t->before;
    modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &modes);
}

/* A frame that the terminal has not taken would be in the way of what makes it as it was. */
static void give_back(hob_terminal *t)
{
    if (hob_terminal_busy(t))
        (void)tcflush(t->out, TCOFLUSH);
    endwin();
    take_frame(t);
    write_last(t);
    (void)tcsetattr(STDIN_FILENO, TCSANOW, &t->before);
}

static void read_size(const hob_terminal *t)
{
    struct winsize w = {0};
    int height = 24, width = 80;
    if (ioctl(t->out, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0) {
        height = w.ws_row;
        width = w.ws_col;
    }
    resizeterm(height < SIZE_MOST ? height : SIZE_MOST, width < SIZE_MOST ? width : SIZE_MOST);
}

void hob_terminal_resize(hob_terminal *t)
{
    read_size(t);
    clearok(stdscr, TRUE);
}

void hob_terminal_suspend(hob_terminal *t)
{
    give_back(t);
    (void)raise(SIGSTOP);
    set_modes(t);
    hob_terminal_resize(t);
}

int hob_terminal_key(hob_terminal *t)
{
    return wgetch(t->keys);
}

/* ---- opening ---- */

/* A description of its own: that it does not block is no concern of the shell's, which shares the other. */
static int open_output(void)
{
    const int flags = O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    const int fd = open("/proc/self/fd/1", flags);
    return fd >= 0 ? fd : open("/dev/tty", flags);
}

/* Looked up first: newterm says less, and leaks, where there is no such type. */
static bool moves_cursor(const char *type, int fd)
{
    int found;
    if (setupterm(type, fd, &found) != OK)
        return false;
    const char *move = tigetstr("cup");
    del_curterm(cur_term);
    return move && move != (char *)-1;
}

static int start_curses(hob_terminal *t, const char *type, hob_diag *diag)
{
    const int memory = memfd_create("hobctl-screen", MFD_CLOEXEC);
    if (memory < 0 || !(t->drawn = fdopen(memory, "w"))) {
        if (memory >= 0)
            close(memory);
        return hob_fail(diag, HOB_EIO, "no memory for a screen: %s", strerror(errno));
    }
    if (!moves_cursor(type, memory) || !(t->screen = newterm(type, t->drawn, stdin)))
        return hob_fail(diag, HOB_EUNSUPPORTED, "the terminal \"%.40s\" cannot move its cursor",
                        type);
    const char *no_color = getenv("NO_COLOR"); /* no-color.org */
    t->colours = !(no_color && *no_color) && has_colors() && start_color() == OK &&
                 use_default_colors() == OK;
    if (!(t->keys = newpad(1, 1)))
        return hob_fail(diag, HOB_ENOMEM, "no memory for a screen");
    set_escdelay(ESCAPE_MS);
    keypad(t->keys, TRUE);
    nodelay(t->keys, TRUE);
    typeahead(-1); /* a key that waits does not put a frame off */
    curs_set(0);
    read_size(t);
    return 0;
}

int hob_terminal_open(hob_terminal **ret, hob_diag *diag)
{
    const char *type = getenv("TERM");
    hob_terminal *t = calloc(1, sizeof *t);
    int code;

    if (!t)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a screen");
    t->out = -1;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) ||
        tcgetattr(STDIN_FILENO, &t->before) < 0) {
        code = hob_fail(diag, HOB_EUNSUPPORTED, "standard input and output are no terminal");
        goto fail;
    }
    type = type && *type ? type : "unknown";
    if ((t->out = open_output()) < 0) {
        code = hob_fail(diag, HOB_EIO, "the terminal cannot be opened: %s", strerror(errno));
        goto fail;
    }
    if ((code = start_curses(t, type, diag)) < 0)
        goto fail;
    set_modes(t);
    *ret = t;
    return 0;
fail:
    hob_terminal_close(t);
    return code;
}

void hob_terminal_close(hob_terminal *t)
{
    if (!t)
        return;
    if (t->keys) {
        give_back(t);
        delwin(t->keys);
    }
    if (t->screen)
        delscreen(t->screen);
    if (t->drawn)
        fclose(t->drawn);
    if (t->out >= 0)
        close(t->out);
    free(t->frame);
    free(t);
}
