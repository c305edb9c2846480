/* SPDX-License-Identifier: Apache-2.0
 *
 * Telling the service manager how we are: systemd's notification protocol, which is one datagram of KEY=VALUE lines a
 * message. READY comes when each model answers, has failed once or was unloaded: a model that cannot be loaded does not keep
 * the others from being used. The watchdog is fed by the loop's timer, and only while every running engine is heard of or has been
 * replaced in time: when neither happens, supervision itself is broken. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/gateway/state.h"

void hob_notify_open(hob_gateway *g)
{
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"),
               *pid = getenv("WATCHDOG_PID");
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    g->notify_fd = -1;
    if (path && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof to.sun_path) {
        memcpy(to.sun_path, path, strlen(path));
        if (path[0] == '@') /* Linux's abstract names begin with a NUL */
            to.sun_path[0] = '\0';
        g->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (g->notify_fd >= 0 &&
            connect(g->notify_fd, (struct sockaddr *)&to,
                    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path))) < 0) {
            close(g->notify_fd);
            g->notify_fd = -1;
        }
    }
    if (usec && (!pid || strtol(pid, NULL, 10) == getpid()))
        g->watchdog_us = strtoull(usec, NULL, 10);
    (void)unsetenv("NOTIFY_SOCKET"); /* not the engines' */
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
}

bool hob_notify(hob_gateway *g, const char *state)
{
    char text[256], status[128];
    uint32_t ready = 0;

    if (g->notify_fd < 0)
        return true;
    for (uint32_t i = 0; i < g->link_count; i++)
        ready += g->links[i].state == HOB_LINK_READY;
    snprintf(status, sizeof status, "STATUS=%s%u of %u models ready, %u connections",
             g->draining ? "draining: " : "", ready, g->link_count, g->conn_count);
    int n =
        snprintf(text, sizeof text, "%s%s%s\n", state ? state : "", state ? "=1\n" : "", status);
    if (state && strcmp(state, "RELOADING") == 0)
        n += snprintf(text + n, sizeof text - (size_t)n, "MONOTONIC_USEC=%llu\n",
                      (unsigned long long)hob_now_us());
    return send(g->notify_fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

static bool is_settled(const hob_gateway *g)
{
    for (uint32_t i = 0; i < g->link_count; i++)
        if (g->links[i].state != HOB_LINK_READY && g->links[i].failures == 0 &&
            !g->links[i].unloading)
            return false;
    return true;
}

static bool is_supervised(const hob_gateway *g, uint64_t now_us)
{
    for (uint32_t i = 0; i < g->link_count; i++)
        if (g->links[i].state == HOB_LINK_READY &&
            now_us - g->links[i].heard_us > 2 * hob_link_patience_us(&g->links[i]))
            return false;
    return true;
}

void hob_notify_tick(hob_gateway *g, uint64_t now_us)
{
    if (g->notify_fd < 0)
        return;
    if (!g->notified && is_settled(g))
        g->notified = hob_notify(g, "READY");
    if (g->watchdog_us && now_us - g->watchdog_fed_us > g->watchdog_us / 3 &&
        is_supervised(g, now_us) && hob_notify(g, "WATCHDOG"))
        g->watchdog_fed_us = now_us;
}
