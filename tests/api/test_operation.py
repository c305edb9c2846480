# SPDX-License-Identifier: Apache-2.0
"""What an administrator and a service manager see: models unloaded and loaded, notifications, names and web pages that are let
in, limits at the door, WebSockets that fall silent."""
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import HOBD, PACE, Server, free_port, started
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from wire import Connection, chat, error_of, events, get, post

CHAT = "/v1/chat/completions"


def make(folder, model, hobctl, extra=""):
    """A server that also listens without TLS (`plain`)."""
    var, port, plain = folder / "var", free_port(), free_port()
    hobctl("setup", "--dir", var, "--model", model, "--port", port)
    text = (var / "hob.conf").read_text().replace("path =", "threads = 2; path =", 1)
    (var / "hob.conf").write_text(text + f'listeners = ( {{ listen = "127.0.0.1"; port = {plain}; protocol = "http"; }} );\n{extra}')
    server = Server([HOBD, "--config", var / "hob.conf"], port, folder / "hobd.log", (var / "api_key").read_text().strip(),
                    var / "ca.pem", cwd=folder)
    server.var, server.plain = var, plain
    server.auth = f"Authorization: Bearer {server.key}"
    return server


@pytest.fixture(scope="module")
def site(tmp_path_factory, model, hobctl):
    server = make(tmp_path_factory.mktemp("site"), model, hobctl,
                  'hosts = ( "box.example" );\ncors_origins = ( "https://app.example" );\n'
                  "limits = { websocket_ping_ms = 400; websocket_pong_ms = 600; websocket_idle_ms = 3000; handshakes_per_s = 40; "
                  "websocket_fragments = 20; drain_timeout_ms = 120000; header_timeout_ms = 2000; };\n")
    with started(server):
        yield server


class Plain:
    """The plain listener, for wire.Connection."""

    def __init__(self, server):
        self.port = server.plain


def once(site, data):
    with Connection(Plain(site)) as c:
        c.send(data)
        return c.response()


# ---- models ----

def test_unload_and_load(site, hobctl):
    where = ["--socket", site.var / "hob.sock"]
    name = json.loads(hobctl("models", "list", "--json", *where).stdout)[0]["name"]
    with Connection(Plain(site)) as c:
        c.send(post(CHAT, chat("Count.", stream=True, max_tokens=80, ignore_eos=True), site.auth))
        assert c.head()[0] == 200
        first = c.chunk()
        engines = site.engines()
        answer = {}
        t = threading.Thread(target=lambda: answer.update(done=hobctl("models", "unload", name, *where)))
        t.start()
        body = first
        while piece := c.chunk():
            body += piece
        assert events(body)[-1] == "[DONE]"  # what ran was answered in full
        t.join()
        assert answer["done"].stdout == f"{name}: unloaded\n".encode()
    status, _, body = once(site, post(CHAT, chat("x"), site.auth))
    assert status == 503 and error_of(body)["code"] == "model_unloaded"
    assert not set(engines) & set(site.engines())
    assert once(site, get("/readyz"))[0] == 503
    assert hobctl("models", "list", *where).stdout.startswith(f"{name}: unloaded".encode())
    assert hobctl("models", "load", name, *where).stdout == f"{name}: ready\n".encode()
    assert once(site, post(CHAT, chat("x", max_tokens=2), site.auth))[0] == 200
    assert once(site, get("/readyz"))[0] == 200
    done = hobctl("models", "load", "nobody", *where, check=False)
    assert done.returncode == 1 and b"does not exist" in done.stderr
    assert hobctl("models", "drop", name, *where, check=False).returncode == 2


def test_unload_waits_for_choices_that_have_not_begun(site, hobctl):
    """Accepted: they begin when the prompt that they share is computed."""
    where = ["--socket", site.var / "hob.sock"]
    name = json.loads(hobctl("models", "list", "--json", *where).stdout)[0]["name"]
    with Connection(Plain(site)) as c:
        c.send(post(CHAT, chat("Count slowly. " * (1200 if PACE == 1 else 300), n=3, max_tokens=4), site.auth))
        site.wait_metric("hob_engine_running", lambda v: v == 1)
        hobctl("models", "unload", name, *where)
        status, _, body = c.response()
    assert hobctl("models", "load", name, *where).stdout == f"{name}: ready\n".encode()
    assert status == 200 and len(json.loads(body)["choices"]) == 3


# ---- names and pages ----

@pytest.mark.parametrize("host, good", [
    ("localhost", 1), ("127.0.0.1:8443", 1), ("[::1]:1", 1), ("192.0.2.1", 1), ("box.example", 1), ("BOX.example.:443", 1),
    ("evil.example", 0), ("box.example.evil", 0), ("127.evil.example", 0), ("localhost.evil", 0), ("a" * 290, 0)])
def test_names(site, host, good):
    status, _, body = once(site, get("/v1/models", site.auth).replace(b"Host: localhost", b"Host: " + host.encode()))
    assert status == (200 if good else 403)
    if not good:
        assert error_of(body)["code"] == "forbidden_host"


def test_the_names_of_the_certificate(site):
    name = socket.gethostname()
    if name in ("", "localhost"):
        pytest.skip("this machine has no name")
    assert once(site, get("/v1/models", site.auth).replace(b"Host: localhost", b"Host: " + name.encode()))[0] == 200


@pytest.mark.parametrize("origin, good", [("https://app.example", 1), ("https://app.example:8", 0), ("http://app.example", 0),
                                          ("https://evil.example", 0), ("null", 0), ("http://localhost", 1)])
def test_pages(site, origin, good):
    status, headers, body = once(site, get("/v1/models", site.auth, f"Origin: {origin}"))
    assert status == (200 if good else 403)
    allowed = origin if origin == "https://app.example" else None  # our own page needs no permission
    assert headers.get("access-control-allow-origin") == allowed
    if not good:
        assert error_of(body)["code"] == "forbidden_origin"
    try:
        with connect(f"ws://127.0.0.1:{site.plain}/v1/responses", proxy=None, open_timeout=20,
                     additional_headers={"Authorization": f"Bearer {site.key}", "Origin": origin}):
            status = 200
    except InvalidStatus as e:
        status = e.response.status_code
    assert status == (200 if good and origin != "http://localhost" else 403)  # there the Host is 127.0.0.1:port


def test_preflight(site):
    ask = get(CHAT, "Origin: https://app.example", "Access-Control-Request-Method: POST",
              "Access-Control-Request-Headers: authorization,content-type").replace(b"GET", b"OPTIONS", 1)
    status, headers, _ = once(site, ask)
    assert status == 200 and headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in headers["access-control-allow-methods"] and "authorization" in headers["access-control-allow-headers"]
    status, headers, _ = once(site, ask.replace(b"app.example", b"evil.example"))
    assert status == 403 and "access-control-allow-origin" not in headers


# ---- the door ----

def test_handshakes_are_counted_by_address(site):
    def refused():
        lines = once(site, get("/metrics"))[2].decode().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("hob_connections_refused_total "))

    def handshakes(address, count):
        before = refused()
        for _ in range(count):
            with socket.socket() as s:
                s.bind((address, 0))
                s.connect(("127.0.0.1", site.port))
        time.sleep(0.3)
        return count - (refused() - before)

    begin = time.monotonic()
    good = handshakes("127.0.0.9", 200)
    assert 40 <= good <= 42 + 40 * (time.monotonic() - begin) and good < 200, good
    assert handshakes("127.0.0.10", 10) == 10  # others are not held up


# ---- WebSockets that fall silent ----

def open_socket(site, **options):
    return connect(f"ws://127.0.0.1:{site.plain}/v1/responses", proxy=None, open_timeout=20,
                   additional_headers={"Authorization": f"Bearer {site.key}"}, **options)


def test_silence_is_pinged_and_idleness_ends(site):
    begin = time.monotonic()
    with open_socket(site, ping_interval=None) as ws:  # answers pings by itself
        with pytest.raises(ConnectionClosed) as e:
            ws.recv(timeout=30)
    assert e.value.rcvd.code == 1001 and 2.5 < time.monotonic() - begin < 20


def test_no_pong_ends_it(site):
    with Connection(Plain(site)) as c:
        c.send(get("/v1/responses", site.auth, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
        assert c.head()[0] == 101
        begin = time.monotonic()
        while c.more():
            pass
        assert c.buffer[:5] == b"\x89\x03hob" and time.monotonic() - begin < 20  # a ping came first


def test_fragments_are_counted(site):
    with open_socket(site) as ws:
        with pytest.raises(ConnectionClosed) as e:
            ws.send(["{"] + [" "] * 19)  # and an empty one behind them
            ws.recv(timeout=20)
    assert e.value.rcvd.code == 1009


def test_head_that_never_ends(site):
    with Connection(Plain(site)) as c:
        c.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow:")
        c.socket.settimeout(45)
        while c.more():
            pass
        assert b" 200 " not in c.buffer[:20]


# ---- the service manager ----

@pytest.fixture
def manager(tmp_path):
    """The service manager's socket, for the server that is started next."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        os.environ.update(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="600000")
        yield listening
        os.environ.pop("NOTIFY_SOCKET", None)
        os.environ.pop("WATCHDOG_USEC", None)


def until_told(listening, wanted):
    seen = []
    while not seen or wanted not in seen[-1]:
        seen.append(dict(line.split("=", 1) for line in listening.recv(4096).decode().splitlines()))
    return seen


def test_notifications(tmp_path, model, hobctl, manager):
    server, listening = make(tmp_path, model, hobctl), manager

    def until(wanted):
        return until_told(listening, wanted)

    with started(server):
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]
        ready = until("READY")[-1]
        assert ready["READY"] == "1" and ready["STATUS"].startswith("1 of 1 models ready")
        assert b"NOTIFY_SOCKET" not in open(f"/proc/{server.engines()[0]}/environ", "rb").read()
        begin = time.monotonic()
        for _ in range(5):
            until("WATCHDOG")
        assert time.monotonic() - begin < 5 * 0.6
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        server.process.send_signal(signal.SIGHUP)
        reloading = until("RELOADING")[-1]
        assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        until("READY")
        conf = server.var / "hob.conf"
        conf.write_text(conf.read_text() + "nonsense = 1;\n")  # refused: it goes on as it was, and the manager is told so
        server.process.send_signal(signal.SIGHUP)
        until("RELOADING")
        assert until("READY")[-1]["STATUS"].startswith("1 of 1 models ready")
        server.wait_metric("hob_reloads_refused_total", lambda n: n == 1)
        # An engine that hangs is the supervisor's to deal with; a loop that does not turn feeds nobody.
        server.process.send_signal(signal.SIGSTOP)
        listening.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                until("WATCHDOG")
        server.process.send_signal(signal.SIGCONT)
        listening.settimeout(20)
        until("WATCHDOG")
        server.process.send_signal(signal.SIGTERM)
        assert "draining" in until("STOPPING")[-1]["STATUS"]
        assert server.process.wait(30) == 0


def test_another_process_watchdog(tmp_path, model, hobctl, manager, monkeypatch):
    """What hobd inherits is not always its own: sd_watchdog_enabled(3)."""
    monkeypatch.setenv("WATCHDOG_PID", "1")
    with started(make(tmp_path, model, hobctl)):
        until_told(manager, "READY")
        manager.settimeout(1.5)
        with pytest.raises(TimeoutError):
            until_told(manager, "WATCHDOG")


def test_ready_is_said_when_the_manager_listens_again(tmp_path, model, hobctl, manager):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"STATUS=busy", str(tmp_path / "notify"))
    with started(make(tmp_path, model, hobctl)):
        until_told(manager, "READY")


def test_ready_comes_once_and_not_too_early(tmp_path, model, hobctl, manager):
    """A model that is unloaded while it first loads keeps READY back no longer; a reload before says nothing of it."""
    server = make(tmp_path, model, hobctl)
    with open(server.log, "wb") as out:
        server.process = subprocess.Popen([str(c) for c in server.command], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=subprocess.STDOUT, cwd=server.cwd)
    try:
        while not (engines := server.engines()):
            time.sleep(0.002)
        os.kill(engines[0], signal.SIGSTOP)
        server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while "reloaded " not in server.log.read_text():
            assert time.monotonic() < end, server.log_tail()
            time.sleep(0.02)
        seen = until_told(manager, "WATCHDOG")
        assert not any("READY" in m or "RELOADING" in m for m in seen), seen
        name = json.loads(hobctl("models", "list", "--json", "--socket", server.var / "hob.sock").stdout)[0]["name"]
        hobctl("models", "unload", name, "--socket", server.var / "hob.sock")
        assert until_told(manager, "READY")[-1]["STATUS"].startswith("0 of 1 models ready")
    finally:
        server.stop()
    server.check_sanitizers()
