# SPDX-License-Identifier: Apache-2.0
"""SIGHUP and SIGTERM while clients are connected. The long forms are marked slow."""
import contextlib
import http.client
import json
import signal
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import HOBD, PACE, Server, free_port, started
from pki import Authority
from wire import chat, error_of, events


class Site:
    """A server whose certificate and configuration the test replaces."""

    def __init__(self, folder, model, hobctl, limits="", threads=2):
        self.folder, self.port = folder / "var", free_port()
        hobctl("setup", "--dir", self.folder, "--model", model, "--port", self.port)
        self.authority = Authority(self.folder, "site")
        self.conf = self.folder / "hob.conf"
        self.base = self.conf.read_text().replace("path =", f"threads = {threads}; max_sequences = 32; path =", 1)
        self.write(limits)
        self.serial = self.certify()
        self.server = Server([HOBD, "--config", self.conf], self.port, folder / "hobd.log",
                             (self.folder / "api_key").read_text().strip(), self.authority.file, cwd=folder)

    def write(self, limits):
        self.conf.write_text(self.base + f"limits = {{ {limits} }};\n")

    def certify(self):
        """Puts a new certificate and a new key in place; returns its serial number."""
        crt, key = self.authority.issue("server", "localhost", usage="serverAuth", names="DNS:localhost,IP:127.0.0.1")
        key.replace(self.folder / "key.pem")
        crt.replace(self.folder / "cert.pem")
        return subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", self.folder / "cert.pem"], capture_output=True,
                              text=True, check=True).stdout.split("=")[1].strip()

    def reload(self, wanted="reloaded "):
        log = self.server.log
        before = log.read_text().count(wanted)
        self.server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 30
        while log.read_text().count(wanted) == before:
            assert self.server.process.poll() is None and time.monotonic() < end, self.server.log_tail()
            time.sleep(0.01)
        return log.read_text().splitlines()

    def connect(self, timeout=60):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.server.context, timeout=timeout)

    def shown_serial(self):
        c = self.connect()
        c.connect()
        try:
            return serial_of(c.sock)
        finally:
            c.close()

    def post(self, c, body):
        c.request("POST", "/v1/chat/completions", json.dumps(body),
                  {"Content-Type": "application/json", "Authorization": f"Bearer {self.server.key}"})
        return c.getresponse()

    def resident_kib(self):
        return int(Path(f"/proc/{self.server.process.pid}/status").read_text().split("VmRSS:")[1].split()[0])


def serial_of(sock):
    der = sock.getpeercert(binary_form=True)
    done = subprocess.run(["openssl", "x509", "-noout", "-serial", "-inform", "DER"], input=der, capture_output=True, check=True)
    return done.stdout.decode().split("=")[1].strip()


@contextlib.contextmanager
def open_streams(site, count, tokens):
    """Streams that have begun; each is (connection, answer)."""
    streams = []
    try:
        for i in range(count):
            c = site.connect(180)
            streams.append((c, site.post(c, chat(f"Count to {i + 50}.", stream=True, max_tokens=tokens, ignore_eos=True))))
        for _, answer in streams:
            assert answer.status == 200, answer.read()
        yield streams
    finally:
        for c, _ in streams:
            c.close()


def newcomers(site, stop, seen):
    """Connects, asks and leaves, again and again."""
    while not stop.is_set():
        c = site.connect()
        try:
            c.request("GET", "/v1/models", headers={"Authorization": f"Bearer {site.server.key}"})
            seen.append(c.getresponse().status)
        except (OSError, http.client.HTTPException) as e:
            seen.append(repr(e))
        finally:
            c.close()


@pytest.mark.parametrize("swaps, streams, clients", [(8, 4, 2), pytest.param(200, 32, 4, marks=pytest.mark.slow)])
def test_swaps_drop_nobody(tmp_path, model, hobctl, swaps, streams, clients):
    limits = "stall_timeout_ms = 600000; handshakes_per_s = 0;"
    site = Site(tmp_path, model, hobctl, limits)
    with started(site.server), open_streams(site, streams, 48) as opened:
        stop, seen = threading.Event(), []
        threads = [threading.Thread(target=newcomers, args=(site, stop, seen)) for _ in range(clients)]
        for t in threads:
            t.start()
        begin = None
        try:
            for i in range(swaps):
                serial = site.certify()
                site.write(f"{limits} max_body_bytes = {100000 + i};")
                site.reload()
                assert site.shown_serial() == serial
                begin = begin if i != swaps // 4 else site.resident_kib()
            grown = site.resident_kib() - begin
        finally:
            stop.set()
            for t in threads:
                t.join()
        assert seen and set(seen) == {200}, set(seen)
        for _, answer in opened:  # as if nothing had happened
            assert events(answer.read())[-1] == "[DONE]"
        assert site.server.metric("hob_reloads_total") == swaps
    if swaps >= 200:
        print(f"\n{swaps} swaps, {len(seen)} newcomers, resident {grown} KiB more than after the first quarter")
        assert grown < 8192, grown


def test_what_is_wrong_is_refused_whole(tmp_path, model, hobctl):
    site = Site(tmp_path, model, hobctl)
    with started(site.server):
        site.write("max_body_bytes = 2000; idle_timeout = 1;")
        last = site.reload("reload refused")[-1]
        assert f"{site.conf}:" in last and "idle_timeout: unknown key" in last
        c = site.connect()
        assert site.post(c, chat("x" * 3000, max_tokens=1)).status == 200  # max_body_bytes was not taken either
        site.write("max_body_bytes = 2000;")
        key = (site.folder / "key.pem").read_bytes()
        (site.folder / "key.pem").write_bytes((site.folder / "key.pem").read_bytes()[:-40])
        assert "key.pem: not a PEM private key" in site.reload("reload refused")[-1]
        (site.folder / "key.pem").write_bytes((site.folder / "site.key").read_bytes())
        assert "is not the key of the certificate" in site.reload("reload refused")[-1]
        assert site.shown_serial() == site.serial
        (site.folder / "key.pem").write_bytes(key)
        expired, expired_key = site.authority.issue("old", "localhost", usage="serverAuth", names="DNS:localhost", expired=True)
        good = (site.folder / "cert.pem").read_bytes()
        (site.folder / "cert.pem").write_bytes(expired.read_bytes())
        (site.folder / "key.pem").write_bytes(expired_key.read_bytes())
        assert "has expired" in site.reload("reload refused")[-1]
        (site.folder / "cert.pem").write_bytes(good)
        (site.folder / "key.pem").write_bytes(key)
        site.base = site.base.replace('name = "', 'max_waiting = 3; name = "')
        site.write("max_body_bytes = 2000; max_connections = 99;")
        lines = site.reload()
        assert any("take effect at the next start only: max_connections, models" in l for l in lines)
        answer = site.post(site.connect(), chat("x" * 3000, max_tokens=1))
        assert answer.status == 413 and error_of(answer.read())["code"] == "request_too_large"
        assert site.server.metric("hob_reloads_refused_total") == 4


def test_a_full_chain_is_served(tmp_path, model, hobctl):
    """The certificate, then the one that signed it: a client that knows the root alone can verify."""
    site = Site(tmp_path, model, hobctl)
    root = Authority(tmp_path, "root")
    middle, middle_key = root.issue("middle", "middle", usage="serverAuth")
    # As an authority of its own, signed by the root.
    (tmp_path / "ca.ext").write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
    subprocess.run(["openssl", "ca", "-batch", "-notext", "-config", tmp_path / "root.cnf", "-cert", root.file, "-keyfile",
                    root.key, "-in", tmp_path / "root-middle.csr", "-out", middle, "-extfile", tmp_path / "ca.ext",
                    "-startdate", "20200101000000Z", "-enddate", "20491231000000Z"], check=True, capture_output=True)
    inner = site.authority
    inner.file.write_bytes(middle.read_bytes())
    inner.key.write_bytes(middle_key.read_bytes())
    site.certify()
    with open(site.folder / "cert.pem", "ab") as f:
        f.write(middle.read_bytes())
    site.server.ca = root.file
    with started(site.server):
        assert site.server.get("/v1/models")[0] == 200


@pytest.mark.parametrize("streams, tokens, timeout_ms",
                         [(4, 500 // PACE, 30000), (4, 4000, 3000), pytest.param(32, 100, 120000, marks=pytest.mark.slow),
                          pytest.param(32, 4000, 10000, marks=pytest.mark.slow)])
def test_the_end_is_orderly(tmp_path, model, hobctl, streams, tokens, timeout_ms):
    """SIGTERM: answers that can finish do, the others end with a typed error, all inside the deadline."""
    site = Site(tmp_path, model, hobctl, f"drain_timeout_ms = {timeout_ms};")
    with started(site.server), open_streams(site, streams, tokens) as opened:
        bodies = [None] * streams
        threads = [threading.Thread(target=lambda i=i, a=a: bodies.__setitem__(i, a.read())) for i, (_, a) in enumerate(opened)]
        for t in threads:
            t.start()
        begin = time.monotonic()
        site.server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        answer = site.post(site.connect(), chat("Too late."))
        assert answer.status == 503 and int(answer.getheader("retry-after")) > 0
        assert answer.getheader("connection") == "close" and error_of(answer.read())["code"] == "draining"
        assert site.server.get("/readyz")[0] == 503 and site.server.get("/livez")[0] == 200
        assert site.server.process.wait(timeout_ms / 1000 + 30) == 0
        took = time.monotonic() - begin
        for t in threads:
            t.join(10)
        assert took < timeout_ms / 1000 + 1, took
        ends = {"done": 0, "draining": 0}
        for body in bodies:
            last = events(body)
            error = next((json.loads(e)["error"] for e in last if e != "[DONE]" and "error" in json.loads(e)), None)
            ends["draining" if error else "done"] += 1
            assert error["code"] == "draining" if error else last[-1] == "[DONE]", last[-2:]
        assert ends["done" if tokens < 1000 else "draining"] == streams, ends
        assert "are cut off" not in site.server.log_tail()
