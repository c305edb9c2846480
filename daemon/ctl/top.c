/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl top: how the running hobd does, on the whole screen and again and again. Three things come in, keys, signals and
 * what a thread has asked of hobd (top_feed.h); what is to be seen is made as a page (top_view.h), of which the screen shows
 * a part. */
#include <curses.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/ctl/server.h"
#include "daemon/ctl/terminal.h"
#include "daemon/ctl/top_feed.h"

typedef struct top {
    hob_terminal *terminal;
    hob_feed *feed;
    int signals;
    hob_top_look now, before;
    hob_diag trouble; /* of the last look; "": it was answered */
    hob_page page;
    hob_top_view view;
    uint32_t window, scrolled;
    bool paused, dirty, done;
    int status; /* to exit with */
} top;

/* ---- drawing ---- */

static void start_styles(attr_t ret[HOB_STYLES], bool colours)
{
    static const short pairs[HOB_STYLES] = {[HOB_STYLE_GOOD] = COLOR_GREEN,
                                            [HOB_STYLE_WARN] = COLOR_YELLOW,
                                            [HOB_STYLE_BAD] = COLOR_RED};
    static const attr_t plain[HOB_STYLES] = {[HOB_STYLE_BOLD] = A_BOLD,
                                             [HOB_STYLE_DIM] = A_DIM,
                                             [HOB_STYLE_HEAD] = A_UNDERLINE,
                                             [HOB_STYLE_CHOSEN] = A_REVERSE,
                                             [HOB_STYLE_BAD] = A_BOLD};
    for (short i = 0; i < HOB_STYLES; i++) {
        ret[i] = plain[i];
        if (colours && pairs[i] && init_pair(i, pairs[i], -1) == OK)
            ret[i] |= COLOR_PAIR(i);
    }
}

static void draw_line(int row, const hob_page_line *l, const attr_t styles[HOB_STYLES])
{
    const int whole = (int)strlen(l->text), len = whole < COLS ? whole : COLS;
    for (int i = 0, end; i < len; i = end) {
        for (end = i + 1; end < len && l->styles[end] == l->styles[i]; end++)
            ;
        attrset((int)styles[l->styles[i]]);
        mvaddnstr(row, i, l->text + i, end - i);
    }
    attrset(A_NORMAL);
}

/* more: there is something below. */
static void draw_foot(const top *t, bool more, const attr_t styles[HOB_STYLES])
{
    char text[HOB_PAGE_COLUMNS_MOST + 1];
    const bool trouble = t->trouble.text[0];
    more = more && COLS > HOB_PAGE_COLUMNS_LEAST;
    if (trouble)
        snprintf(text, sizeof text, "trying again: %s", t->trouble.text);
    else
        snprintf(text, sizeof text, "%sq quit  Tab view  Left/Right time  Up/Down scroll  p %s",
                 t->paused ? "PAUSED  " : "", t->paused ? "go on" : "pause");
    attrset((int)styles[trouble ? HOB_STYLE_BAD : t->paused ? HOB_STYLE_WARN : HOB_STYLE_DIM]);
    /* Not into the corner, which would scroll. */
    mvaddnstr(LINES - 1, 0, text, more ? COLS - 7 : COLS - 1);
    if (more)
        mvaddstr(LINES - 1, COLS - 6, " more");
    attrset(A_NORMAL);
}

/* True: there is more below. */
static bool draw_page(top *t, const attr_t styles[HOB_STYLES])
{
    const int room = LINES - 1;
    hob_page *p = &t->page;

    hob_top_draw(&t->now, &t->before, t->view, t->window, (uint32_t)COLS, p);
    const uint32_t fixed = p->fixed < (uint32_t)room ? p->fixed : (uint32_t)room,
                   rest = (uint32_t)room - fixed, lines = p->count - 1 - p->fixed,
                   most = lines > rest ? lines - rest : 0;
    t->scrolled = t->scrolled < most ? t->scrolled : most;
    for (uint32_t i = 0; i < fixed; i++)
        draw_line((int)i, &p->lines[i], styles);
    for (uint32_t i = 0; i < rest && t->scrolled + i < lines; i++)
        draw_line((int)(fixed + i), &p->lines[p->fixed + t->scrolled + i], styles);
    return t->scrolled < most;
}

static void draw(top *t, const attr_t styles[HOB_STYLES])
{
    bool more = false;
    erase();
    if (t->now.at_us > 0)
        more = draw_page(t, styles);
    else if (!t->trouble.text[0])
        mvaddnstr(0, 0, "asking hobd", COLS - 1);
    draw_foot(t, more, styles);
    hob_terminal_show(t->terminal);
    t->dirty = false;
}

/* ---- what comes in ---- */

static void on_key(top *t, int key)
{
    t->dirty = true;
    switch (key) {
    case 'q': t->done = true; break;
    case 'p': t->paused = !t->paused; break;
    case '\t':
        t->view = (t->view + 1) % HOB_TOP_VIEWS;
        t->scrolled = 0;
        break;
    case KEY_BTAB:
        t->view = (t->view + HOB_TOP_VIEWS - 1) % HOB_TOP_VIEWS;
        t->scrolled = 0;
        break;
    case KEY_RIGHT: t->window += t->window + 1 < HOB_TOP_WINDOWS; break;
    case KEY_LEFT: t->window -= t->window > 0; break;
    case KEY_DOWN: t->scrolled++; break;
    case KEY_UP: t->scrolled -= t->scrolled > 0; break;
    case KEY_NPAGE: t->scrolled += (uint32_t)LINES / 2; break;
    case KEY_PPAGE:
        t->scrolled -= t->scrolled < (uint32_t)LINES / 2 ? t->scrolled : (uint32_t)LINES / 2;
        break;
    default: break;
    }
}

static void on_signal(top *t)
{
    struct signalfd_siginfo info;
    if (read(t->signals, &info, sizeof info) != sizeof info)
        return;
    t->dirty = true;
    if (info.ssi_signo == SIGWINCH)
        hob_terminal_resize(t->terminal);
    else if (info.ssi_signo == SIGTSTP)
        hob_terminal_suspend(t->terminal);
    else {
        t->status = HOB_EXIT_INTERRUPTED;
        t->done = true;
    }
}

static void on_feed(top *t)
{
    hob_top_look l;
    hob_diag diag;
    if (hob_feed_take(t->feed, &l, &diag)) {
        t->trouble.text[0] = '\0';
        t->dirty = true;
        if (t->paused) {
            hob_top_look_free(&l);
            return;
        }
        hob_top_look_free(&t->before);
        t->before = t->now;
        t->now = l;
    } else if (diag.text[0]) {
        t->trouble = diag;
        t->dirty = true;
    }
}

/* HOB_EIO: the terminal is gone. */
static int run(top *t, hob_diag *diag)
{
    attr_t styles[HOB_STYLES];
    int code = 0;

    start_styles(styles, hob_terminal_colours(t->terminal));
    for (t->dirty = true; !t->done && code == 0;) {
        if (t->dirty && !hob_terminal_busy(t->terminal))
            draw(t, styles);
        if ((code = hob_terminal_write(t->terminal, diag)) < 0)
            break;
        struct pollfd p[] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = t->signals, .events = POLLIN},
            {.fd = hob_feed_fd(t->feed), .events = POLLIN},
            {.fd = hob_terminal_busy(t->terminal) ? hob_terminal_fd(t->terminal) : -1,
             .events = POLLOUT},
        };
        if (poll(p, sizeof p / sizeof *p, -1) < 0)
            continue;
        if (p[0].revents & (POLLHUP | POLLERR | POLLNVAL))
            code = hob_fail(diag, HOB_EIO, "the terminal is gone");
        else if (p[0].revents)
            for (int key; (key = hob_terminal_key(t->terminal)) >= 0;)
                on_key(t, key);
        if (p[1].revents)
            on_signal(t);
        if (p[2].revents)
            on_feed(t);
    }
    return code;
}

/* ---- the command ---- */

/* ncurses and the thread are to leave these alone. */
static int take_signals(hob_diag *diag)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGTSTP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : hob_fail(diag, HOB_EIO, "signals cannot be taken");
}

static int show(const hob_server *server, uint32_t interval_ms, hob_diag *diag)
{
    static top t; /* large */
    int code = t.signals = take_signals(diag);

    if (code >= 0 && (code = hob_terminal_open(&t.terminal, diag)) >= 0 &&
        (code = hob_feed_open(server, interval_ms, &t.feed, diag)) >= 0)
        code = run(&t, diag);
    hob_terminal_close(t.terminal); /* at once; the thread may be asking */
    hob_feed_close(t.feed);
    hob_top_look_free(&t.now);
    hob_top_look_free(&t.before);
    if (t.signals >= 0)
        close(t.signals);
    return code < 0 ? code : t.status;
}

int hob_ctl_top(int argc, char **argv)
{
    const char *socket = NULL;
    double interval_s = 1;
    const hob_option options[] = {
        HOB_SOCKET_OPTION(&socket),
        HOB_NUMBER("--interval", &interval_s, 0.2, 3600, "seconds between two looks (1)")};
    const hob_syntax syntax = {
        .command = "top",
        .summary = "Shows how the running hobd does, on the whole screen.",
        .notes = "q quits, Tab and Shift-Tab change the view, Left and Right the time that "
                 "percentiles are of,\nUp and Down scroll, p stops the picture. NO_COLOR=1 does "
                 "without colours. For programs:\nhobctl status, stats and trace with --json.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    hob_diag diag = {""};
    hob_server server;

    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    int r = hob_server_find_socket(socket, &server, &diag);
    if (r == 0)
        r = show(&server, (uint32_t)(interval_s * 1000), &diag);
    if (r >= 0)
        return r;
    const int status = hob_ctl_failed("top", &diag);
    if (r == HOB_EUNSUPPORTED)
        fprintf(stderr, "It needs a screen. hobctl status and hobctl stats print the same figures "
                        "anywhere, with --json for programs.\n");
    return status;
}
