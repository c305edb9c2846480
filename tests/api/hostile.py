# SPDX-License-Identifier: Apache-2.0
"""Clients that mean harm, each kind a function that keeps many connections from one process, at the lowest CPU priority and
from loopback addresses of its own. `python hostile.py KIND '{"tls": port, "plain": port, "key": …, "count": n, "seconds": s}'`
runs one and prints its CPU seconds; test_hostile.py starts them and looks at what becomes of the server."""
import json
import os
import random
import resource
import socket
import ssl
import sys
import time

PER_ADDRESS = 100


def dial(port, number, block, receive_bytes=None):
    """A connection from 127.block.x.1, a hundred to an address."""
    s = socket.socket()
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.settimeout(10)
    s.bind((f"127.{block}.{number // PER_ADDRESS + 1}.1", 0))
    s.connect(("127.0.0.1", port))
    return s


def drip(o, block, head):
    """Keeps `count` connections, each of which sends a byte a second behind its head; the lost ones are opened again."""
    end, connections, number = time.monotonic() + o["seconds"], [], 0
    while time.monotonic() < end:
        begin = time.monotonic()
        while len(connections) < o["count"]:
            try:
                s = dial(o["plain"], number % o["count"], block)
                s.sendall(head)
                s.setblocking(False)
                connections.append(s)
            except OSError:
                break
            finally:
                number += 1
        alive = []
        for s in connections:
            try:
                s.send(b"x")
                if s.recv(4096) == b"":
                    raise ConnectionError
                alive.append(s)
            except BlockingIOError:
                alive.append(s)
            except OSError:
                s.close()
        connections = alive
        time.sleep(max(0, min(1, end - begin, begin + 1 - time.monotonic())))


def headers(o):
    drip(o, 1, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")


def bodies(o):
    drip(o, 2, f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               f"Authorization: Bearer {o['key']}\r\nContent-Length: 50000\r\n\r\n".encode() + b"{")


def readers(o):
    """Ask and never read: half for a long stream, half for the metrics, again and again on one connection."""
    stream = json.dumps({"model": "default", "messages": [{"role": "user", "content": "Count."}], "stream": True,
                         "max_tokens": 2000, "ignore_eos": True})
    auth = f"Host: localhost\r\nAuthorization: Bearer {o['key']}\r\n"
    asks = [f"POST /v1/chat/completions HTTP/1.1\r\n{auth}Content-Type: application/json\r\nContent-Length: {len(stream)}\r\n\r\n"
            f"{stream}".encode(), f"GET /metrics HTTP/1.1\r\n{auth}\r\n".encode() * 200]
    held = []
    for i in range(o["count"]):
        try:
            s = dial(o["plain"], i, 3, receive_bytes=4096)
            s.setblocking(False)
            s.send(asks[i % 2])
            held.append(s)
        except OSError:
            pass
    time.sleep(o["seconds"])


def websockets(o):
    """Messages that are too long, have no end, or come in too many fragments."""
    end, number = time.monotonic() + o["seconds"], 0
    upgrade = (f"GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {o['key']}\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode()
    mask = b"\0\0\0\0"
    long = b"\x81\xff" + (1 << 40).to_bytes(8, "big") + mask + b" " * 65536
    fragment = b"\x01\x80" + mask
    more = (b"\x00\x80" + mask) * 4000
    while time.monotonic() < end and number < o["count"]:
        number += 1
        try:
            with dial(o["plain"], number % 50, 4) as s:
                s.sendall(upgrade)
                s.recv(4096)
                for _ in range(200):
                    s.sendall(long if number % 2 else fragment + more)
                    long = b" " * 65536 if number % 2 else long
        except OSError:
            pass


def garbage(o):
    rng, end, number = random.Random(1), time.monotonic() + o["seconds"], 0
    while time.monotonic() < end and number < o["count"]:
        number += 1
        try:
            with dial(o["tls"], number % 300, 5) as s:
                s.settimeout(0.2)
                s.sendall(rng.choice([b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]) + rng.randbytes(rng.randrange(1, 2000)))
                s.recv(100)
        except OSError:
            pass


def handshakes(o):
    """Makes the server compute its half of a handshake, and leaves: one greeting serves for all."""
    context, out = ssl.create_default_context(), ssl.MemoryBIO()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    end, number, good, turned_away = time.monotonic() + o["seconds"], 0, 0, 0
    while time.monotonic() < end and number < o["count"]:
        number += 1
        try:
            with dial(o["tls"], number % 1600, 6) as s:
                s.sendall(hello)
                good += len(s.recv(4096)) > 100
        except OSError:
            turned_away += 1
    return {"tried": number, "good": good, "turned_away": turned_away}


KINDS = {f.__name__: f for f in (headers, bodies, readers, websockets, garbage, handshakes)}


def burn(o):
    """The control: as many CPU seconds, evenly, for nothing."""
    end = time.monotonic() + o["seconds"]
    share = o["cpu_s"] / o["seconds"]
    while (now := time.monotonic()) < end:
        while time.monotonic() < now + share * 0.1:
            pass
        time.sleep(max(0, (1 - share) * 0.1))


if __name__ == "__main__":
    os.nice(19)
    result = {**KINDS, "burn": burn}[sys.argv[1]](json.loads(sys.argv[2])) or {}
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"kind": sys.argv[1], "cpu_s": usage.ru_utime + usage.ru_stime, **result}))
