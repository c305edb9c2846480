# SPDX-License-Identifier: Apache-2.0
"""Memory under a mixed load: hob may take 400 MiB in all its processes together, from start-up on, and does not grow.

Resident bytes of the gateway and the processes below it are added up ten times a second. HOB_MEMORY_MINUTES is how long the
load lasts (10): in short runs, what comes and goes at random outweighs what a leak would add. HOB_MEMORY_CSV names a file
that is given the samples."""
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import HOBD, dev_server, started  # noqa: E402
from wire import Connection, chat, get, post, prose  # noqa: E402

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(bool(os.environ.get("HOB_SANITIZED")), reason="a sanitizer's shadow memory counts too")]
MINUTES = float(os.environ.get("HOB_MEMORY_MINUTES", 10))
LIMIT_MB, GROWTH_LIMIT_KB, WARM_UP, PERIOD_S = 400, 1024, 0.2, 0.1
PAGE = os.sysconf("SC_PAGESIZE")
ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")
CHAT = "/v1/chat/completions"


def family(pid):
    """A process and those below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                found += family(int(child))
    return found


class Sampler(threading.Thread):
    """Seconds and bytes, from the process's first moment to stop()."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.samples, self.ended, self.late = server, [], threading.Event(), 0
        self.most = (0, 0, [])  # bytes, when, of which processes

    def run(self):
        start = due = time.monotonic()
        while not self.ended.is_set():
            if self.server.process:
                parts = []
                for pid in family(self.server.process.pid):
                    with contextlib.suppress(OSError):
                        parts.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE)
                now = time.monotonic() - start
                self.samples.append((now, sum(parts)))
                self.most = max(self.most, (sum(parts), round(now, 1), parts))
            due += PERIOD_S
            self.late += due < time.monotonic()
            self.ended.wait(max(0, due - time.monotonic()))

    def stop(self):
        self.ended.set()
        self.join(10)


def line(points):
    """Least squares: slope, and the value at the first point's x."""
    mean_x, mean_y = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / (sum((x - mean_x) ** 2 for x, _ in points) or 1)
    return slope, mean_y + slope * (points[0][0] - mean_x)


class Load:
    """Clients, each a thread that repeats one kind of request until the end."""

    def __init__(self, server):
        self.server, self.ended, self.seen, self.errors = server, threading.Event(), Counter(), []
        kinds = [self.short, self.short, self.short_stream, self.short_stream, self.long, self.long_stream, self.cancel,
                 self.slow, self.invalid, self.websocket]
        self.threads = [threading.Thread(target=self.repeat, args=(k, i), daemon=True) for i, k in enumerate(kinds)]

    def repeat(self, kind, seed):
        rng = random.Random(seed)
        while not self.ended.is_set():
            try:
                self.seen[f"{kind.__name__} {kind(rng)}"] += 1
            except Exception as e:  # noqa: BLE001: the test reports it
                if not self.ended.is_set():
                    self.errors.append(f"{kind.__name__}: {e!r}")
            self.ended.wait(rng.expovariate(5))

    def exchange(self, data):
        with Connection(self.server, timeout=240) as c:
            c.send(data)
            return c.response()[0]

    def short(self, rng):
        body = chat(prose(rng, rng.randint(1, 30)), max_tokens=rng.randint(1, 32), temperature=0.8, logprobs=True)
        return self.exchange(post(CHAT, body))

    def short_stream(self, rng):
        return self.exchange(post(CHAT, chat(prose(rng, rng.randint(1, 30)), max_tokens=rng.randint(1, 64), stream=True)))

    def long(self, rng):
        return self.exchange(post(CHAT, chat(prose(rng, rng.randint(300, 1100)), max_tokens=8)))

    def long_stream(self, rng):
        body = chat(prose(rng, rng.randint(100, 600)), max_tokens=rng.randint(16, 256), stream=True, ignore_eos=True)
        return self.exchange(post(CHAT, body))

    def cancel(self, rng):
        with Connection(self.server, timeout=240) as c:
            c.send(post(CHAT, chat(prose(rng, rng.randint(1, 600)), max_tokens=500, stream=rng.random() < 0.7, ignore_eos=True)))
            self.ended.wait(rng.uniform(0, 2))
        return "left"

    def slow(self, rng):
        """A small window and a reader that dozes: its credit runs out and comes back."""
        with Connection(self.server, timeout=240) as c:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            body = chat(prose(rng, rng.randint(1, 30)), max_tokens=300, stream=True, ignore_eos=True)
            c.send(post(CHAT, body, "Connection: close"))
            status, _ = c.head()
            while not self.ended.is_set() and c.socket.recv(1024):
                self.ended.wait(0.05 if rng.random() < 0.98 else 2)
        return status

    def invalid(self, rng):
        return self.exchange(rng.choice([
            post(CHAT, b"{"), post(CHAT, b"\xff" * 1000), post(CHAT, b" " * 100000), post(CHAT, b"[" * 5000), get("/nothing"),
            post(CHAT, chat("x", no_such_field=1)), post(CHAT, chat("x", max_tokens=-1)), post(CHAT, b"{}", length=9 << 20),
            post(CHAT, {"model": "nothing", "messages": []}), post("/v1/completions", {"model": "default", "prompt": 7}),
            post(CHAT, chat(prose(rng, rng.randint(20000, 30000))))]))

    def websocket(self, rng):
        with connect(f"ws://127.0.0.1:{self.server.port}/v1/responses", max_size=None, open_timeout=60, proxy=None) as ws:
            for _ in range(rng.randint(1, 4)):
                ws.send(json.dumps({"type": "response.create", "model": "default", "input": prose(rng, rng.randint(1, 100)),
                                    "temperature": 0, "max_output_tokens": rng.randint(16, 48)}))
                while (event := json.loads(ws.recv(timeout=240)))["type"] not in ENDS:
                    pass
        return event["type"]

    def run(self, seconds):
        for t in self.threads:
            t.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.server.process.poll() is None:
            time.sleep(0.2)
        self.ended.set()
        for t in self.threads:
            t.join(300)
        assert not any(t.is_alive() for t in self.threads), "a request neither goes on nor ends"


def test_memory(tmp_path, capsys):
    flags = ["--context", "2048"]
    if "--memory-mb" in subprocess.run([HOBD, "--help"], stdout=subprocess.PIPE, text=True).stdout:
        flags += ["--memory-mb", str(LIMIT_MB)]
    server = dev_server(tmp_path, os.environ["HOB_TEST_MODEL"], *flags)
    sampler = Sampler(server)
    sampler.start()
    try:
        with started(server):
            ready_s = sampler.samples[-1][0]
            load = Load(server)
            load.run(MINUTES * 60)
            sampler.stop()
            alive = server.process.poll() is None
            restarts = server.metric("hob_engine_restarts_total") if alive else None
    finally:
        sampler.stop()
    if os.environ.get("HOB_MEMORY_CSV"):
        Path(os.environ["HOB_MEMORY_CSV"]).write_text("".join(f"{t:.2f},{b}\n" for t, b in sampler.samples))
    warm = [(t, b) for t, b in sampler.samples if ready_s + WARM_UP * MINUTES * 60 <= t <= ready_s + MINUTES * 60]
    slope, first = line(warm)
    growth = slope * (warm[-1][0] - warm[0][0])
    with capsys.disabled():
        print(json.dumps({"minutes": MINUTES, "samples": len(sampler.samples), "late_samples": sampler.late, "limit_mib": LIMIT_MB,
                          "peak_mib": round(sampler.most[0] / 2**20, 1), "peak_at_s": sampler.most[1],
                          "peak_parts_mib": [round(b / 2**20, 1) for b in sampler.most[2]],
                          "after_warm_up_mib": round(first / 2**20, 2),
                          "slope_kb_per_minute": round(slope * 60 / 1024, 2), "growth_mb": round(growth / 2**20, 3),
                          "requests": dict(sorted(load.seen.items())), "errors": len(load.errors)}), flush=True)
    assert alive and restarts == 0 and not load.errors, load.errors[:5]
    assert sampler.most[0] <= LIMIT_MB << 20
    assert growth < GROWTH_LIMIT_KB << 10
