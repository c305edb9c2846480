/* SPDX-License-Identifier: Apache-2.0
 *
 * The door: which connections are let in, before a byte of theirs is read. Connections in all and an address, those that
 * wait to be taken in among them; handshakes an address and second, from a token bucket. An IPv6 address counts with its /64. Unix sockets have no address: only
 * connections in all count there, and the admin socket has places of its own, so that a full house can be administrated. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include "daemon/gateway/state.h"

enum {
    SEND_BUFFER_BYTES = 32 * 1024,
    NOT_SENT_BYTES = 16 * 1024,
    WAYS = 4,
    BURST_US = 1000000,
};

/* The peer's address, IPv4 mapped into IPv6; all zero when there is none. */
void hob_peer_address(int fd, uint8_t ret[16], bool *ret_local)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t loopback[16] = {[15] = 1};

    memset(ret, 0, 16);
    *ret_local = false;
    if (getpeername(fd, (struct sockaddr *)&peer, &len) < 0)
        return;
    if (peer.ss_family == AF_INET) {
        memcpy(ret, mapped, 12);
        memcpy(ret + 12, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    } else if (peer.ss_family == AF_INET6)
        memcpy(ret, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
    else {
        *ret_local = peer.ss_family == AF_UNIX;
        return;
    }
    *ret_local = memcmp(ret, mapped, 12) == 0 ? ret[12] == 127 : memcmp(ret, loopback, 16) == 0;
}

void hob_door_prepare(const hob_gateway *g, int fd, bool is_unix)
{
    const int one = 1, send_bytes = SEND_BUFFER_BYTES, unsent = NOT_SENT_BYTES;
    /* A reader's stall is ours to notice: the kernel would end it without a word. */
    const unsigned timeout_ms = g->conf->stall_timeout_ms + 2 * HOB_STALL_GRACE_MS;

    /* Options that fail leave a socket that works, only with the kernel's own bounds. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof send_bytes);
    if (is_unix)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
}

/* A bucket that fills at the allowed rate and holds a second's worth. The table is bounded: of four places that an address
 * may have, the one longest unused goes. */
static bool takes_token(hob_gateway *g, const uint8_t source[16])
{
    const uint32_t rate = g->conf->handshakes_per_s;
    const uint64_t now = hob_now_us();

    if (rate == 0)
        return true;
    const uint64_t hash = hob_source_hash(g->loop.sources.seed, source);
    hob_door_slot *set = &g->door[hash % (HOB_DOOR_SLOTS / WAYS) * WAYS], *slot = set;
    for (size_t i = 0; i < WAYS; i++) {
        if (memcmp(set[i].address, source, sizeof set[i].address) == 0) {
            slot = &set[i];
            break;
        }
        if (set[i].due_us < slot->due_us)
            slot = &set[i];
    }
    if (memcmp(slot->address, source, sizeof slot->address) != 0 || slot->due_us < now) {
        memcpy(slot->address, source, sizeof slot->address);
        slot->due_us = now;
    }
    if (slot->due_us - now > BURST_US)
        return false;
    slot->due_us += 1000000 / rate;
    return true;
}

bool hob_door_admits(const hob_listener *l, const uint8_t source[16])
{
    hob_gateway *g = l->g;
    const hob_conf *conf = g->conf;

    if (l->admin)
        return g->admin_count < HOB_ADMIN_CONNECTIONS;
    if (g->conn_count - g->admin_count + g->loop.waiting >= conf->max_connections)
        return false;
    return l->is_unix ||
           (hob_loop_connections(&g->loop, source) < conf->max_connections_per_address &&
            (!l->tls || takes_token(g, source)));
}
