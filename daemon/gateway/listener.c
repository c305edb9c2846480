/* SPDX-License-Identifier: Apache-2.0
 *
 * The listening sockets. They are our own, not libwebsockets': it can neither close one nor hand what it accepts to
 * another vhost, and both are needed (SIGTERM, SIGHUP). Each is a raw descriptor in the inner vhost; what it accepts
 * passes the door (door.c), waits for its source's turn (loop.c) and is then given to the front of the day (front.c).
 *
 * A Unix socket's file is ours while we run: one left by a process that is gone is replaced, one that answers is not. */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/gateway/state.h"

enum {
    BACKLOG = 1024,
    BINDS = 10,
    BIND_AGAIN_MS = 100,
    ACCEPTS_AT_ONCE = 64, /* then others get their turn */
    SOCKET_MODE = 0660,
    GROUPS_MAX = 256,
};

/* ---- opening ---- */

/* A child of a hobd that was killed may hold its socket for a moment more. Thread: that of the start, with no loop yet. */
static int bind_patiently(int fd, const struct sockaddr *to, socklen_t len)
{
    for (int left = BINDS;; left--) {
        const int code = bind(fd, to, len);
        if (code == 0 || errno != EADDRINUSE || left == 1)
            return code;
        poll(NULL, 0, BIND_AGAIN_MS);
    }
}

static int bind_address(hob_listener *l, const char *address, uint16_t port, hob_diag *diag)
{
    const int one = 1;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    const bool is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
    const struct sockaddr *to = is_six ? (void *)&six : (void *)&four;
    socklen_t len = is_six ? sizeof six : sizeof four;
    struct sockaddr_storage bound;

    if (!is_six && inet_pton(AF_INET, address, &four.sin_addr) != 1)
        return hob_fail(diag, HOB_EINVAL, "%s is no address", address);
    l->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind_patiently(l->fd, to, len) < 0 || listen(l->fd, BACKLOG) < 0)
        return hob_fail(diag, HOB_EIO, "cannot listen on %s port %u: %s", address, port,
                        strerror(errno));
    len = sizeof bound; /* port 0 took any */
    if (getsockname(l->fd, (struct sockaddr *)&bound, &len) == 0)
        port = ntohs(is_six ? ((struct sockaddr_in6 *)&bound)->sin6_port
                            : ((struct sockaddr_in *)&bound)->sin_port);
    snprintf(l->name, sizeof l->name, is_six ? "%s://[%s]:%u" : "%s://%s:%u",
             l->tls ? "https" : "http", address, port);
    return 0;
}

/* Whether path is free for a new socket: nothing is there, or a socket that nobody answers. */
static int clear_path(const char *path, const struct sockaddr_un *to, hob_diag *diag)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return hob_fail(diag, HOB_EINVAL, "%s: is there and is no socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    const bool dead =
        connect(fd, (const struct sockaddr *)to, sizeof *to) < 0 && errno == ECONNREFUSED;
    close(fd);
    if (!dead)
        return hob_fail(diag, HOB_EINVAL, "%s: another process answers there", path);
    return unlink(path) == 0 ? 0 : hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
}

static int bind_socket(hob_listener *l, const char *path, hob_diag *diag)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct stat st;

    if (strlen(path) >= sizeof to.sun_path)
        return hob_fail(diag, HOB_EINVAL, "%s: longer than %zu bytes", path,
                        sizeof to.sun_path - 1);
    memcpy(to.sun_path, path, strlen(path) + 1);
    int code = clear_path(path, &to, diag);
    if (code < 0)
        return code;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const mode_t before = umask(0177); /* nobody's but ours until its group is set */
    const bool bound = l->fd >= 0 && bind(l->fd, (struct sockaddr *)&to, sizeof to) == 0;
    const int why = errno;
    umask(before);
    if (!bound)
        return hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(why));
    snprintf(l->path, sizeof l->path, "%s", path);
    if (lstat(path, &st) < 0)
        return hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    /* Under hob.service it has the group already, and changing owners is not permitted. */
    const bool other = l->g->has_group && l->g->group != st.st_gid;
    if ((other && chown(path, (uid_t)-1, l->g->group) < 0) || chmod(path, SOCKET_MODE) < 0 ||
        listen(l->fd, BACKLOG) < 0)
        return hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    l->inode = st.st_ino;
    snprintf(l->name, sizeof l->name, "%s%s", l->admin ? "admin socket " : "", path);
    return 0;
}

static int open_listener(hob_gateway *g, const hob_conf_listener *conf, bool plain, bool admin,
                         hob_diag *diag)
{
    hob_listener *l = &g->listeners[g->listener_count++];
    lws_sock_file_fd_type fd;

    *l = (hob_listener){.g = g,
                        .fd = -1,
                        .admin = admin,
                        .is_unix = conf->socket[0] != '\0',
                        .metrics = conf->metrics};
    l->tls = !plain && !l->is_unix;
    int code = l->is_unix ? bind_socket(l, conf->socket, diag)
                          : bind_address(l, conf->listen, conf->port, diag);
    if (code < 0)
        return code;
    fd.filefd = l->fd;
    l->wsi = lws_adopt_descriptor_vhost(g->inner, LWS_ADOPT_RAW_FILE_DESC, fd, "hob-listen", NULL);
    if (!l->wsi) { /* which has closed the descriptor */
        l->fd = -1;
        return hob_fail(diag, HOB_ENOMEM, "%s: no memory", l->name);
    }
    lws_set_opaque_user_data(l->wsi, l);
    hob_log(HOB_LOG_INFO, "hobd " HOB_VERSION " listens on %s", l->name);
    return 0;
}

int hob_listeners_open(hob_gateway *g, hob_diag *diag)
{
    const hob_conf *c = g->conf;
    hob_conf_listener first = {.port = c->port}, admin = {0};
    const struct group *group = getgrnam("hob");

    if ((g->has_group = group != NULL))
        g->group = group->gr_gid;
    memcpy(first.listen, c->listen, sizeof first.listen);
    memcpy(admin.socket, c->admin_socket, sizeof admin.socket);
    int code = open_listener(g, &first, c->plain, false, diag);
    for (uint32_t i = 0; i < c->listener_count && code == 0; i++)
        code = open_listener(g, &c->listeners[i], strcmp(c->listeners[i].protocol, "http") == 0,
                             false, diag);
    if (code == 0 && admin.socket[0])
        code = open_listener(g, &admin, true, true, diag);
    return code;
}

void hob_listeners_close(hob_gateway *g)
{
    for (uint32_t i = 0; i < g->listener_count; i++) {
        hob_listener *l = &g->listeners[i];
        struct stat st;
        if (l->path[0] && lstat(l->path, &st) == 0 && st.st_ino == l->inode)
            (void)unlink(l->path);
        if (l->wsi) { /* owns the descriptor; the loop may have ended: no later than now */
            lws_set_opaque_user_data(l->wsi, NULL);
            (void)shutdown(l->fd, SHUT_RDWR);
            lws_set_timeout(l->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        } else if (l->fd >= 0)
            close(l->fd);
    }
    g->listener_count = 0;
}

/* ---- accepting ---- */

/* Root, our own user, or a member of the group hob. */
static bool may_administrate(const hob_gateway *g, int fd)
{
    struct ucred peer;
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof peer;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    if (!g->has_group)
        return false;
    if (peer.gid == g->group)
        return true;
    len = sizeof groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) < 0)
        return false; /* in more groups than we look at */
    for (size_t i = 0; i < len / sizeof *groups; i++)
        if (groups[i] == g->group)
            return true;
    return false;
}

void hob_listener_take_in(void *listener, int fd)
{
    hob_listener *l = listener;
    hob_gateway *g = l->g;
    hob_door_prepare(g, fd, l->is_unix);
    g->accepting = l;
    /* On failure it has closed the descriptor, and freed the connection if there was one. */
    (void)lws_adopt_socket_vhost(l->tls ? g->front->tls : g->front->plain, fd);
    g->accepting = NULL;
}

static void refuse(hob_gateway *g, int fd)
{
    g->metrics.refused_connections++;
    close(fd);
}

static void on_accepted(hob_listener *l, int fd)
{
    hob_gateway *g = l->g;
    uint8_t address[16], source[16];
    bool local;

    if (l->admin && !may_administrate(g, fd)) {
        hob_log(HOB_LOG_WARN, "admin socket: a user who is neither root, hobd's nor in the group "
                              "hob was sent away");
        close(fd);
        return;
    }
    hob_peer_address(fd, address, &local);
    hob_source_of(address, source);
    if (!hob_door_admits(l, source))
        refuse(g, fd);
    else if (l->is_unix)
        hob_listener_take_in(l, fd);
    else if (hob_loop_take_in(&g->loop, l, fd, source, l->tls) < 0)
        refuse(g, fd);
}

int hob_listener_callback(hob_listener *l, enum lws_callback_reasons reason)
{
    if (reason != LWS_CALLBACK_RAW_RX_FILE)
        return 0;
    for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            on_accepted(l, fd);
        else if (errno != ECONNABORTED && errno != EINTR)
            break;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        hob_log(HOB_LOG_WARN, "%s: accept: %s", l->name, strerror(errno));
        (void)lws_rx_flow_control(l->wsi, 0); /* until the next tick: it would be polled at once */
        l->paused = true;
    }
    return 0;
}

void hob_listeners_tick(hob_gateway *g)
{
    for (uint32_t i = 0; i < g->listener_count; i++)
        if (g->listeners[i].paused) {
            g->listeners[i].paused = false;
            (void)lws_rx_flow_control(g->listeners[i].wsi, 1);
        }
}
