# SPDX-License-Identifier: Apache-2.0
"""hobd's first start, which makes the certificates and the first key, and the renewal of the certificate while it runs, with a
clock that the test sets (shifted_clock.c)."""
import http.client
import json
import os
import shlex
import ssl
import stat
import struct
import subprocess
import time

import pytest
from conftest import HOBD, ROOT, Server, free_port, started
from test_reload import serial_of
from wire import chat, events

SECRETS = ("ca.key", "key.pem", "api_key", "hob.db")
DAY_S = 86400


class Box(Server):
    """A hobd with nothing but a configuration. Without a model it is never ready, but serves what needs none."""
    verified = True  # its certificate, by us

    def __init__(self, folder, model=None, clock=None):
        self.folder, self.clock = folder, clock
        folder.mkdir()
        port = free_port()
        (folder / "hob.conf").write_text(
            f'listen = "127.0.0.1"; port = {port}; keys = "keys"; tls = {{ cert = "cert.pem"; key = "key.pem"; }};\n'
            f'models = ( {{ name = "m"; path = "{model or folder / "none.gguf"}"; threads = 2; device = "cpu"; }} );\n')
        super().__init__([HOBD, "--config", folder / "hob.conf"], port, folder.parent / f"{folder.name}.log", ca=folder / "ca.pem")
        self.model = model

    def start(self):
        before = dict(os.environ)
        if self.clock:
            os.environ.update(LD_PRELOAD=str(self.clock.library), HOB_TEST_CLOCK=str(self.clock.file))
        try:
            super().start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        if (self.folder / "api_key").exists():
            self.key = (self.folder / "api_key").read_text().strip()

    def wait_ready(self, limit_s):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log_tail()
            try:
                if self.get("/readyz" if self.model else "/livez", 5)[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(self.log_tail())

    @property
    def context(self):
        return super().context if self.verified else ssl._create_unverified_context()

    def connect(self):
        c = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=60)
        c.connect()
        return c

    def serial(self):
        c = self.connect()  # which verifies it, by the real clock
        try:
            return serial_of(c.sock)
        finally:
            c.close()

    def wait_serial(self, wanted):
        """Of a certificate that verifies and for which wanted(serial) holds."""
        end, last = time.monotonic() + 30, None
        while time.monotonic() < end:
            try:
                last = self.serial()
                if wanted(last):
                    return last
            except ssl.SSLError as e:
                last = e
            time.sleep(0.05)
        raise AssertionError(f"{last}\n{self.log_tail()}")

    def days(self, name="cert.pem"):
        """From its begin to its end, and from now to its end."""
        text = subprocess.run(["openssl", "x509", "-noout", "-dates", "-in", self.folder / name], capture_output=True, text=True,
                              check=True).stdout
        begin, end = (ssl.cert_time_to_seconds(line.split("=")[1]) for line in text.splitlines())
        return (end - begin) / DAY_S, (end - time.time()) / DAY_S

    def state(self):
        return {n: (self.folder / n).read_bytes() for n in ("ca.pem", "ca.key", "cert.pem", "key.pem", "api_key")}


class Clock:
    def __init__(self, folder):
        if os.environ.get("HOB_SANITIZED"):
            pytest.skip("a sanitizer has to be the first library")
        compiler = shlex.split(os.environ.get("HOB_CC", "gcc"))[0]
        self.library, self.file = folder / "clock.so", folder / "clock"
        subprocess.run([compiler, "-D_GNU_SOURCE", "-O1", "-shared", "-fPIC", "-o", self.library,
                        ROOT / "tests/api/shifted_clock.c"], check=True)
        self.file.write_bytes(bytes(4096))

    def shift(self, seconds):
        with open(self.file, "r+b") as f:
            f.write(struct.pack("=q", int(seconds)))


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


def test_the_first_start_makes_what_is_secret(tmp_path):
    boxes = [Box(tmp_path / name) for name in ("one", "two")]
    states = []
    for box in boxes:
        with started(box):
            status, body = box.get("/hob/v1/admin/keys")
            assert status == 200 and [k["label"] for k in json.loads(body)["data"]] == ["first"]
            states.append(box.state())
            for name in SECRETS:
                found = (box.folder / name).stat()
                assert stat.S_IMODE(found.st_mode) == 0o600 and found.st_uid == os.geteuid(), name
            log = box.log.read_text()
            assert log.count(str(box.folder / "api_key")) == 1 and box.key not in log and box.key[4:] not in log
            assert log.count("made a certificate") == 1 and str(box.folder / "ca.pem") in log
            assert box.days("ca.pem")[1] > 36500
    for name in states[0]:
        assert states[0][name] != states[1][name], name  # nothing is the same on two boxes
    box = boxes[0]
    with started(box):  # again: nothing is made
        assert box.state() == states[0] and box.get("/hob/v1/admin/keys")[0] == 200
    (box.folder / "api_key").unlink()  # kept elsewhere now
    with started(box):
        assert not (box.folder / "api_key").exists() and box.get("/hob/v1/admin/keys")[0] == 200
    log = box.log.read_text()
    assert log.count("first start") == 1 and log.count("made a certificate") == 1
    for name in ("hob.db", "hob.db-wal", "hob.db-shm"):
        (box.folder / name).unlink(missing_ok=True)
    with started(box):  # with its store the key is gone
        assert box.key != states[0]["api_key"].decode().strip() and box.get("/hob/v1/admin/keys")[0] == 200


def test_what_is_the_owners_is_left_alone(tmp_path):
    """A certificate of another authority, and a key that waits to be taken over."""
    box = Box(tmp_path / "box")
    other = Box(tmp_path / "other")
    with started(other):
        pass
    for name in ("cert.pem", "key.pem", "keys.imported"):
        (other.folder / name).rename(box.folder / name.removesuffix(".imported"))
    before = (box.folder / "cert.pem").read_bytes()
    box.ca, box.key = other.folder / "ca.pem", other.key
    with started(box):
        assert box.get("/hob/v1/admin/keys")[0] == 200
        assert (box.folder / "cert.pem").read_bytes() == before
        for name in ("ca.pem", "ca.key", "api_key"):
            assert not (box.folder / name).exists()


def test_the_certificate_is_renewed_while_answers_run(tmp_path, model, clock):
    box = Box(tmp_path / "box", model, clock)
    with started(box):
        first, span = box.serial(), box.days()
        assert 824 < span[0] <= 825
        kept = box.connect()
        headers = {"Authorization": f"Bearer {box.key}", "Content-Type": "application/json"}
        kept.request("POST", "/v1/chat/completions", json.dumps(chat("Count.", stream=True, max_tokens=64, ignore_eos=True)), headers)
        answer = kept.getresponse()
        assert answer.status == 200
        before = box.state()
        clock.shift((span[1] - 29) * DAY_S)
        end = time.monotonic() + 30  # the new one is valid for those whose clock shows the same: not yet, by ours
        while box.state()["cert.pem"] == before["cert.pem"]:
            assert time.monotonic() < end, box.log_tail()
            time.sleep(0.05)
        clock.shift(0)
        assert box.wait_serial(lambda s: s != first)
        assert events(answer.read())[-1] == "[DONE]"
        kept.request("GET", "/v1/models", headers=headers)
        assert kept.getresponse().status == 200 and serial_of(kept.sock) == first
        after = box.state()
        assert {n for n in after if after[n] != before[n]} == {"cert.pem"}
        assert box.log.read_text().count("act=certificate/renewed") == 2 and "not renewed" not in box.log.read_text()


def test_a_wrong_clock_at_the_first_start(tmp_path, clock):
    """It stands at 1970: who has the right time is served all the same, and when it is set all is as it should be."""
    clock.shift(60 - time.time())
    box = Box(tmp_path / "box", clock=clock)
    with started(box):  # ready: its certificate verifies by the real clock
        first = box.serial()
        ca = (box.folder / "ca.pem").read_bytes()
        assert box.days()[0] > 36500
        clock.shift(0)
        second = box.wait_serial(lambda s: s != first)
        assert 824 < box.days()[0] <= 825 and box.days()[1] > 800
        clock.shift(40 * 365 * DAY_S)  # far ahead
        end = time.monotonic() + 30
        while box.log.read_text().count("certificate/renewed") < 2:
            assert time.monotonic() < end, box.log_tail()
            time.sleep(0.05)
        clock.shift(0)
        third = box.wait_serial(lambda s: s not in (first, second))
        clock.shift(-time.time())  # back at 1970: what is there stays
        box.process.send_signal(1)
        end = time.monotonic() + 30
        while "reloaded" not in box.log.read_text():  # which is not refused for a clock that is wrong
            assert time.monotonic() < end, box.log_tail()
            time.sleep(0.05)
        assert box.serial() == third and (box.folder / "ca.pem").read_bytes() == ca
    with started(box):  # and at a start
        assert box.serial() == third
    clock.shift(50 * 365 * DAY_S)
    box.verified = False  # nobody's clock agrees
    with started(box):
        box.verified = True
        clock.shift(0)
        assert box.wait_serial(lambda s: s != third)


def test_an_authority_of_its_owner_is_not_renewed(tmp_path, clock):
    """ca.key is kept elsewhere: the certificate stays until its owner puts another there."""
    box = Box(tmp_path / "box", clock=clock)
    with started(box):
        pass
    (box.folder / "ca.key").rename(tmp_path / "safe.key")
    before = (box.folder / "cert.pem").read_bytes()
    with started(box):
        first = box.serial()
        clock.shift(810 * DAY_S)
        time.sleep(1)
        assert box.serial() == first and (box.folder / "cert.pem").read_bytes() == before
        assert "certificate" not in box.log.read_text().split("listens on")[-1]
