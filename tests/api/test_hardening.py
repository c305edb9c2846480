# SPDX-License-Identifier: Apache-2.0
"""The unit: what systemd-analyze thinks of it and of its drop-in, what it must not lack, and what only a process shows: who goes
first when memory runs out, and that a start and an answer need no network. tests/slow/test_service.py runs it under systemd."""
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import HOBCTL, dev_server, openai_client, started

UNITS = Path(__file__).resolve().parents[2] / "packaging/systemd"
CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def analyze(*args, cwd=None):
    return subprocess.run(["systemd-analyze", "--no-pager", *args], capture_output=True, text=True, cwd=cwd)


@pytest.fixture
def folder(tmp_path):
    """The unit as it is installed; its drop-in is added by who wants it."""
    shutil.copy(UNITS / "hob.service", tmp_path)
    (tmp_path / "hob.service.d").mkdir()
    return tmp_path


# Tenths. What is given up for what: README.md.
@pytest.mark.parametrize("drop_in, threshold", [(None, 15), ("render.conf", 20)])
def test_exposure(folder, drop_in, threshold):
    if drop_in:
        shutil.copy(UNITS / drop_in, folder / "hob.service.d")
    security = ["security", "--offline=true"]
    done = analyze(*security, f"--threshold={threshold}", "./hob.service", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ignoring" not in done.stderr  # lines that systemd does not understand count as not there
    rows = json.loads(analyze(*security, "--json=short", "./hob.service", cwd=folder).stdout)
    devices = next(r for r in rows if r["json_field"] == "PrivateDevices")
    assert devices["set"] == (drop_in is None)  # the drop-in was read


def test_what_is_analysed_can_fail(folder):
    """Without the hardening the same check refuses it."""
    (folder / "hob.service.d/open.conf").write_text("[Service]\nNoNewPrivileges=no\nCapabilityBoundingSet=~\nSystemCallFilter=\n")
    assert analyze("security", "--offline=true", "--threshold=15", "./hob.service", cwd=folder).returncode == 1


def test_unit_is_understood(folder):
    unit = (folder / "hob.service").read_text()
    (folder / "hob.service").write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit))  # hobd is not installed
    done = analyze("verify", "--man=no", "./hob.service", cwd=folder)
    about = [line for line in done.stderr.splitlines() if "hob.service" in line and "Transaction" not in line]
    assert not about, done.stderr


@pytest.mark.parametrize("line", ["Type=notify", "WatchdogSec=30", "Restart=always", "OOMPolicy=continue", "KillMode=mixed", "User=hob",
                                  "ExecStart=/usr/sbin/hobd --config /etc/hob/hob.conf", "StateDirectory=hob", "RuntimeDirectory=hob",
                                  "CacheDirectory=hob"])
def test_unit_has(line):
    assert line in (UNITS / "hob.service").read_text().splitlines()


def test_sysusers(tmp_path):
    shutil.copy(UNITS / "hob.sysusers", tmp_path / "hob.conf")
    (tmp_path / "etc").mkdir()
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", tmp_path / "hob.conf"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, _, _, _, _, home, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, home, shell) == ("hob", "/var/lib/hob", "/usr/sbin/nologin")
    assert "\nhob:" in "\n" + (tmp_path / "etc/group").read_text()


def score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def wait_for_extractor(parent, limit_s=20):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            try:
                if b"--extract" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
            except OSError:
                continue
    raise AssertionError("no extractor")


def test_engines_go_before_the_gateway(own):
    engine, = own.engines()
    assert score(own.process.pid) < score(engine) == 500


def test_extractors_go_first(tmp_path):
    document = tmp_path / "long.md"
    document.write_text("*word* [link](x) `code` " * 200_000)
    with subprocess.Popen([HOBCTL, "extract", document], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
        pid = wait_for_extractor(p.pid)
        os.kill(pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + 20
            while score(pid) != 900:  # its parent says so once it runs
                assert time.monotonic() < end, score(pid)
                time.sleep(0.01)
            assert score(p.pid) < 900
        finally:
            os.kill(pid, signal.SIGKILL)


def lo_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        flags, = struct.unpack_from("h", fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0)), 16)
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def test_first_answer_without_a_network(tmp_path, model):
    """This thread, and hobd that it starts, are in a network namespace of their own, where there is only lo."""
    libc, result = ctypes.CDLL(None, use_errno=True), {}

    def ask():
        if libc.unshare(CLONE_NEWNET) < 0:
            result["skip"] = os.strerror(ctypes.get_errno())
            return
        lo_up()
        result["interfaces"] = [name for _, name in socket.if_nameindex()]
        with started(dev_server(tmp_path, model)) as server, openai_client(server) as client:
            said = client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Say hello."}], max_tokens=4)
            result["tokens"] = said.usage.completion_tokens

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    if "skip" in result:
        pytest.skip(f"no network namespace: {result['skip']}")
    assert result == {"interfaces": ["lo"], "tokens": 4}
