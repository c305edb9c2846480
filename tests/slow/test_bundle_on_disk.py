# SPDX-License-Identifier: Apache-2.0
"""Installations of bundles that are killed, at random moments and at every single step, and the order in which one writes to
the disk.

HOB_BUNDLE_ROUNDS is the number of kills (100), HOB_BUNDLE_SEED where the moments come from (1)."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
from bundles import Maker  # noqa: E402
from conftest import HOBCTL, hobctl  # noqa: E402, F401

pytestmark = pytest.mark.slow
ROUNDS = int(os.environ.get("HOB_BUNDLE_ROUNDS", 100))
SEED = int(os.environ.get("HOB_BUNDLE_SEED", 1))


def command(maker, bundle, folder):
    return [str(x) for x in (HOBCTL, "bundle", "install", "--key", maker.public, "--dir", folder, "--no-restart", bundle)]


class Reader(threading.Thread):
    """Opens the current model again and again, as an engine would: it has to be there, and one of those that were made."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.ended, self.wrong, self.reads = path, threading.Event(), [], 0

    def run(self):
        while not self.ended.wait(0.0005):
            try:
                with open(self.path, "rb") as f:
                    start, size = f.read(16), os.fstat(f.fileno()).st_size
            except OSError as e:
                self.wrong.append(repr(e))
                continue
            self.reads += 1
            if not re.fullmatch(rb"GGUFversion \d{4}", start) or size != self.size:
                self.wrong.append((start, size))


def contents(version):
    return f"version {version:04}".encode() * 300_000  # 3.6 MB


def test_killed_installations(hobctl, tmp_path, capsys):
    rng = random.Random(SEED)
    maker, folder = Maker(hobctl, tmp_path / "made"), tmp_path / "bundles"

    def make(version):
        return maker.bundle(f"1.{version}", maker.file("a.gguf", contents(version)), maker.file("b.gguf", contents(version)[:1000]),
                            maker.file("hob.deb", contents(version)[:500_000]))

    start = time.monotonic()
    subprocess.run(command(maker, make(0), folder), check=True, capture_output=True)
    reader = Reader(folder / "current/models/a.gguf")
    reader.size = 4 + len(contents(0))
    reader.start()
    bundle = make(1)
    start = time.monotonic()
    subprocess.run(command(maker, bundle, folder), check=True, capture_output=True)
    duration_s = time.monotonic() - start
    most_s = duration_s
    installed, outcomes = 1, {"old": 0, "new": 0, "complete": 0}
    for i in range(ROUNDS):
        version = 2 + i
        bundle = make(version)
        moment_s = rng.uniform(0, most_s)
        process = subprocess.Popen(command(maker, bundle, folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(moment_s)
        process.send_signal(signal.SIGKILL)
        status = process.wait()
        bundle.unlink()
        assert status in (0, -signal.SIGKILL), process.stderr.read().decode()
        found = json.loads(hobctl("bundle", "verify", "--key", maker.public, "--dir", folder, "--json").stdout)  # signed and whole
        assert found["version"] in (f"1.{installed}", f"1.{version}"), found["version"]
        outcomes["complete" if status == 0 else "new" if found["version"] == f"1.{version}" else "old"] += 1
        assert status != 0 or found["version"] == f"1.{version}"
        most_s *= 1.1 if found["version"] != f"1.{version}" else 0.9  # how long one takes changes with what else runs
        installed = int(found["version"][2:])
        assert (folder / "current/models/a.gguf").read_bytes() == b"GGUF" + contents(installed)
    bundle = make(2 + ROUNDS)
    subprocess.run(command(maker, bundle, folder), check=True, capture_output=True)
    reader.ended.set()
    reader.join()
    left = sorted(p.name for p in folder.iterdir())
    with capsys.disabled():
        print(json.dumps({"kills": ROUNDS, **outcomes, "undisturbed_ms": round(1000 * duration_s), "reads": reader.reads}), flush=True)
    assert not reader.wrong and reader.reads > ROUNDS
    assert len(left) <= 3 and "current" in left and not [n for n in left if n.startswith(".")], left
    assert outcomes["old"] > 0 and outcomes["new"] + outcomes["complete"] > 0, outcomes


CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) += (-?\d+)")


def test_order_on_the_disk(hobctl, tmp_path):
    """Files, folders, rename, folder, link, rename, folder; and no write before all of the bundle was read."""
    maker, folder, trace = Maker(hobctl, tmp_path / "made"), tmp_path / "bundles", tmp_path / "trace"
    first = maker.bundle("1", maker.file("a.gguf", b"x" * 2_500_000))
    subprocess.run(command(maker, first, folder), check=True, capture_output=True)
    bundle = maker.bundle("2", maker.file("a.gguf", b"y" * 2_500_000), maker.file("hob.deb"))
    calls = "openat,mkdirat,pread64,write,fsync,fdatasync,rename,renameat,renameat2,symlinkat,unlinkat,unlink,mkdir"
    done = subprocess.run(["strace", "-f", "-y", "-s", "0", "-e", f"trace={calls}", "-o", trace, *command(maker, bundle, folder)],
                          capture_output=True)
    if done.returncode != 0 and b"ptrace" in done.stderr.lower():
        pytest.skip("no process may be traced here")
    assert done.returncode == 0, done.stderr.decode()
    lines = [m.groups() for m in map(CALL.match, trace.read_text().splitlines()) if m]
    here = re.escape(str(folder))

    def places(name, pattern):
        found = [i for i, (call, args, result) in enumerate(lines) if re.fullmatch(name, call) and re.search(pattern, args) and int(result) >= 0]
        assert found, (name, pattern)
        return found

    first_write = min(places("mkdirat|openat|symlinkat|renameat", rf"<{here}[^>]*>.*(\.new|O_CREAT)"))
    read_before = sum(int(result) for call, args, result in lines[:first_write] if call == "pread64" and str(bundle) in args)
    assert read_before >= bundle.stat().st_size
    new = rf"<{here}/\.new"
    order = [max(places("fsync", rf"{new}/models/a\.gguf>")), max(places("fsync", rf"{new}/packages/hob\.deb>"))]
    files = max(order + places("fsync", rf"{new}/models/a\.gguf\.sha256>") + places("fsync", rf"{new}/bundle\.head>"))
    last_write = max(places("write", rf"{new}/"))
    kinds = places("fsync", rf"{new}/models>") + places("fsync", rf"{new}/packages>")
    version, = places("fsync", rf"{new}>")
    named, = places("renameat2?", r'"\.new", .*"2"')
    linked, = places("symlinkat", r'"2", .*"\.current\.new"')
    switched, = places("renameat2?", r'"\.current\.new", .*"current"')
    synced = places("fsync", rf"<{here}>")
    assert last_write < files < version and max(order) < min(kinds) and max(kinds) < version < named
    assert [i for i in synced if named < i < linked], "the version's name is on the disk before the link is made"
    assert named < linked < switched and [i for i in synced if i > switched], "and the link's after it has changed"
    assert os.readlink(folder / "current") == "2"


def test_killed_at_every_step(hobctl, tmp_path, capsys):
    """Killed as it enters each of the calls that change something: what is current is whole, and the next one installs."""
    maker, folder = Maker(hobctl, tmp_path / "made"), tmp_path / "bundles"
    model, number, steps, seen = maker.file("a.gguf"), 0, {}, set()
    for _ in range(3):  # then an old version is pruned each time
        number += 1
        subprocess.run(command(maker, maker.bundle(f"1.{number}", model), folder), check=True, capture_output=True)
    for call in ("mkdirat", "write", "fsync", "renameat", "symlinkat", "unlinkat"):
        for nth in range(1, 100):
            before, number = os.readlink(folder / "current"), number + 1
            bundle = maker.bundle(f"1.{number}", model)
            done = subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
                                   "-e", f"inject={call}:signal=SIGKILL:when={nth}", *command(maker, bundle, folder)], capture_output=True)
            if b"ptrace" in done.stderr.lower():
                pytest.skip("no process may be traced here")
            found = json.loads(hobctl("bundle", "verify", "--key", maker.public, "--dir", folder, "--json").stdout)
            assert found["version"] in (before, f"1.{number}") and os.readlink(folder / "current") == found["version"]
            seen.add(found["version"] == before)
            bundle.unlink()
            if done.returncode == 0:  # it has fewer of them
                break
            assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr.decode()
            steps[call] = nth
    with capsys.disabled():
        print(json.dumps(steps), flush=True)
    assert all(steps.get(call, 0) > 0 for call in ("mkdirat", "write", "fsync", "renameat", "symlinkat", "unlinkat")), steps
    assert seen == {True, False}
    subprocess.run(command(maker, maker.bundle(f"1.{number + 1}", model), folder), check=True, capture_output=True)
    assert len(list(folder.iterdir())) == 3
