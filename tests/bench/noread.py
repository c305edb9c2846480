#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A client that never reads: how much is generated for it, what it costs another stream, and how it is ended.

    $(packaging/setup/venv) tests/bench/noread.py --model FILE [--build build] [--rcvbuf BYTES] [--stall-timeout-ms 5000]

One JSON line each for: `before`, the other stream's speed without it; `stopped`, the tokens generated for it once their number
has not changed for --still-s, where they lie (the client's socket, the server's, the outbox; the rest was not sent) and how
many are not yet on the wire, against the credit of 32 and what the outbox holds; `beside`, the other stream's speed now;
`ended`, how long it took, which counters moved, and what the client finds when it reads at last. Run it with the Python that
packaging/setup/venv prints.
"""
import argparse, fcntl, json, signal, socket, struct, subprocess, sys, tempfile, termios, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "api"))
from conftest import Server, free_port, started  # noqa: E402
from wire import Connection, chat, post  # noqa: E402

CREDIT_TOKENS = 32
COUNTERS = ["hob_connections_stalled_total", "hob_requests_failed_total", "hob_requests_cancelled_total",
            "hob_requests_finished_total"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="GGUF file")
    p.add_argument("--build", default="build", help="the folder of hobd")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rcvbuf", type=int, help="SO_RCVBUF of the client; default: the system's")
    p.add_argument("--tokens", type=int, default=7000, help="that it asks for")
    p.add_argument("--still-s", type=float, default=3)
    p.add_argument("--stall-timeout-ms", type=int, default=5000, help="given to hobd where it knows it, else its default of 60 s")
    return p.parse_args()


def say(**fields):
    print(json.dumps(fields), flush=True)


def speed(server, tokens=96):
    """Tokens a second of one stream that is read, and its worst gap."""
    times = []
    with Connection(server, timeout=120) as c:
        c.send(post("/v1/chat/completions", chat("Tell me about rivers.", stream=True, max_tokens=tokens, ignore_eos=True)))
        assert c.head()[0] == 200
        while piece := c.chunk():
            times += [time.perf_counter()] if b'"content"' in piece else []
    gaps = [(y - x) * 1e3 for x, y in zip(times, times[1:])]
    return {"tok_per_s": round((tokens - 1) / (times[-1] - times[0]), 1), "worst_gap_ms": round(max(gaps), 1)}


def unread(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))[0]


def unsent(port, client_port):
    """Bytes in the server's socket that the client's kernel has not taken."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        if int(local.split(":")[1], 16) == port and int(remote.split(":")[1], 16) == client_port:
            return int(queues.split(":")[0], 16)
    return None


def wait_still(server, already, still_s, limit_s=300):
    """Until no tokens have been added for still_s; their number and the seconds until the last was."""
    start = changed = time.monotonic()
    tokens = 0
    while time.monotonic() < changed + still_s and time.monotonic() < start + limit_s:
        now = server.metric("hob_answer_tokens_total") - already
        if now != tokens:
            tokens, changed = now, time.monotonic()
        time.sleep(0.1)
    return int(tokens), changed - start


def wait_end(server, limit_s=150):
    """Seconds until the engine has no job any more."""
    start = time.monotonic()
    while server.metric("hob_engine_jobs"):
        if time.monotonic() > start + limit_s:
            return None
        time.sleep(0.05)
    return time.monotonic() - start


def read_rest(c):
    """What there is to read: bytes, tokens, the last event, and how the connection ends."""
    data, c.buffer, end = c.buffer, b"", "closed"
    c.socket.settimeout(10)
    try:
        while piece := c.socket.recv(65536):
            data += piece
            if data.endswith(b"\r\n0\r\n\r\n"):
                end = "complete, connection open"
                break
    except TimeoutError:
        end = "open, nothing more comes"
    except OSError as e:
        end = type(e).__name__
    lines = [line[6:] for line in data.splitlines() if line.startswith(b"data: ")]
    error = next((json.loads(l)["error"] for l in lines if l.startswith(b'{"error"')), None)
    return {"bytes": len(data), "content_events": sum(b'"content":"' in l for l in lines), "error": error, "connection": end,
            "last_bytes": None if error else data[-80:].decode(errors="replace")}


def measure(a, server):
    say(result="before", **speed(server))
    before = {n: server.metric(n) for n in COUNTERS}
    already = server.metric("hob_answer_tokens_total")
    with Connection(server) as c:
        if a.rcvbuf:
            c.socket.close()  # the buffer decides the window, so it has to be set before the connection is made
            c.socket = socket.socket()
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, a.rcvbuf)
            c.socket.connect(("127.0.0.1", server.port))
        c.send(post("/v1/chat/completions", chat("Count.", stream=True, max_tokens=a.tokens, ignore_eos=True)))
        begin = time.monotonic()
        tokens, seconds = wait_still(server, already, a.still_s)
        client, sending = unread(c.socket), unsent(server.port, c.socket.getsockname()[1])
        peek = c.socket.recv(min(client, 65536), socket.MSG_PEEK)
        frames = peek.count(b"data: ")
        event_bytes = len(peek) / max(1, frames)
        on_the_wire = (client + (sending or 0)) / event_bytes
        say(result="stopped", tokens=tokens, after_s=round(seconds, 2), ran_to_the_end=tokens >= a.tokens,
            client_socket_bytes=client, server_socket_bytes=sending, outbox_bytes=int(server.metric("hob_outbox_bytes")),
            event_bytes=round(event_bytes, 1), tokens_in_sockets=round(on_the_wire), tokens_not_sent=round(tokens - on_the_wire), credit_tokens=CREDIT_TOKENS,
            stalled=server.metric("hob_engine_stalled"))
        say(result="beside", **speed(server))
        waited = wait_end(server)
        say(result="ended", after_s=None if waited is None else round(time.monotonic() - begin, 2),
            after_last_token_s=None if waited is None else round(time.monotonic() - begin - seconds, 2),
            counters={n: server.metric(n) - v for n, v in before.items() if server.metric(n) != v},
            outbox_bytes=int(server.metric("hob_outbox_bytes")), reads=read_rest(c))
    say(result="after", **speed(server))


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is ended on the way out
options = arguments()
known = subprocess.run([f"{options.build}/hobd", "--help"], stdout=subprocess.PIPE, text=True).stdout
flags = ["--stall-timeout-ms", options.stall_timeout_ms] if "--stall-timeout-ms" in known else []
with tempfile.TemporaryDirectory() as made:
    number = free_port()
    command = [f"{options.build}/hobd", "--dev", "--model", options.model, "--port", number, "--threads", options.threads, *flags]
    with started(Server(command, number, Path(made) / "log")) as hob:
        measure(options, hob)
