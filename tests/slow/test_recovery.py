# SPDX-License-Identifier: Apache-2.0
"""Crashes and hangs at random moments: eight streams with fixed seeds, the engine killed or stopped once in each batch of
them, every text the same to the byte as in an undisturbed run. And one poisonous request among eight: only it fails.

HOB_RECOVERY_ROUNDS is the number of moments (100), HOB_RECOVERY_SEED where they come from (1), HOB_RECOVERY_HANG_MS after
which silence an engine is given up (1000). Printed and not judged are the pauses that the streams saw, and the engines that
were given up though nobody had touched them (unasked_restarts), which is what a box that is too busy for that limit does."""
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import DEVICE, HOBCTL, HOBD, dev_server, started  # noqa: E402
from wire import Connection, chat, post  # noqa: E402

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(DEVICE not in (None, "cpu"), reason="a GPU adds up a recomputed prompt in another order")]
ROUNDS = int(os.environ.get("HOB_RECOVERY_ROUNDS", 100))
SEED = int(os.environ.get("HOB_RECOVERY_SEED", 1))
HANG_MS = os.environ.get("HOB_RECOVERY_HANG_MS", "1000")
HANG_EVERY = 5
STREAMS = [("Tell me a long story about the sea.", 64), ("Count from one to a hundred.", 48), ("Why is the sky blue?", 40),
           ("Write a poem about rain.", 56), ("The harbour master writes a letter. " * 60, 32), ("List ten animals.", 24),
           ("Explain gravity to a child.", 60), ("def fibonacci(n):", 36)]
SYMBOLS = "\u2603\ua66e\u9f98\u265e\u16a0\u2e2e\u13a3\u2d30"  # the poison is a token of one of these


class Stream:
    """One stream's text, end and the times of its pieces, read by a thread of its own."""

    def __init__(self, server, number, prompt, max_tokens):
        self.server, self.text, self.times, self.end, self.status = server, "", [], None, None
        self.body = chat(prompt, stream=True, max_tokens=max_tokens, ignore_eos=True, temperature=0.8, seed=1000 + number)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            with Connection(self.server, timeout=180) as c:
                c.send(post("/v1/chat/completions", self.body))
                self.status, headers = c.head()
                if self.status != 200:
                    self.end = json.loads(c.take(int(headers["content-length"])))["error"]
                    return
                data = b""
                while piece := c.chunk():
                    self.times.append(time.monotonic())
                    data += piece
                    while b"\n\n" in data:
                        frame, data = data.split(b"\n\n", 1)
                        self.take(frame.decode().removeprefix("data: "))
        except (OSError, EOFError, ValueError, KeyError) as e:
            self.end = self.end or repr(e)

    def take(self, frame):
        if frame == "[DONE]":
            self.end = self.end or frame
            return
        event = json.loads(frame)
        if "error" in event:
            self.end = event["error"]
        elif event["choices"]:
            self.text += event["choices"][0]["delta"].get("content") or ""

    def pause_ms(self, since):
        """The longest wait for a piece that began or went on after `since`."""
        ends = [t for t in self.times if t > since]
        before = max([t for t in self.times if t <= since], default=since)
        return max((y - max(x, since) for x, y in zip([before, *ends], ends)), default=0) * 1e3


def together(server, requests):
    return [Stream(server, i, *r) for i, r in enumerate(requests)]


def wait_all(streams, limit_s=200):
    end = time.monotonic() + limit_s
    for s in streams:
        s.thread.join(max(0, end - time.monotonic()))
        assert not s.thread.is_alive(), "a stream neither goes on nor ends"


def undisturbed(server, requests):
    start = time.monotonic()
    streams = together(server, requests)
    wait_all(streams)
    assert [s.end for s in streams] == ["[DONE]"] * len(streams), [s.end for s in streams]
    return [s.text for s in streams], time.monotonic() - start


def disturb(server, moment_s, sig):
    """One batch with one signal: the streams and when it was sent."""
    before = server.metric("hob_engine_restarts_total")
    streams = together(server, STREAMS)
    time.sleep(moment_s)
    while not (pids := server.engines()):  # given up as hanging, of its own accord
        time.sleep(0.05)
    at = time.monotonic()
    os.kill(pids[0], sig)
    try:
        wait_all(streams)
        server.wait_metric("hob_engine_restarts_total", lambda v: v > before)
    finally:
        if pids[0] in server.engines():
            os.kill(pids[0], signal.SIGKILL)  # a stopped process stays behind otherwise
    server.wait_ready(60)
    return streams, at


def summary(pauses):
    xs = sorted(pauses)
    if not xs:
        return None
    return {"n": len(xs), "median": round(statistics.median(xs)), "p90": round(xs[int(len(xs) * 0.9)]), "max": round(xs[-1])}


def test_random_moments(tmp_path, capsys):
    rng = random.Random(SEED)
    known = "--hang-timeout-ms" in subprocess.run([HOBD, "--help"], stdout=subprocess.PIPE, text=True).stdout
    flags = ["--hang-timeout-ms", HANG_MS] if known else []  # ten seconds otherwise
    equal, wrong, pauses = 0, [], {"kill": [], "stop": []}
    with started(dev_server(tmp_path, os.environ["HOB_TEST_MODEL"], *flags)) as server:
        calm, _ = undisturbed(server, STREAMS)
        assert len(set(calm)) == len(calm)
        again, duration_s = undisturbed(server, STREAMS)  # with the prompts known already, as in the rounds
        assert again == calm
        for i in range(ROUNDS):
            kind = "stop" if i % HANG_EVERY == HANG_EVERY - 1 else "kill"
            moment_s = rng.uniform(0, 0.85 * duration_s)
            streams, at = disturb(server, moment_s, signal.SIGSTOP if kind == "stop" else signal.SIGKILL)
            same = [s.end == "[DONE]" and s.text == text for s, text in zip(streams, calm)]
            equal += sum(same)
            hit = [s.pause_ms(at) for s in streams if s.times and s.times[-1] > at]
            pauses[kind] += [max(hit)] if hit else []
            for n, s in enumerate(streams):
                if not same[n]:
                    wrong.append(f"round {i} ({kind} after {moment_s:.2f} s), stream {n}: {s.status} {s.end},"
                                 f" {len(s.text)} of {len(calm[n])} characters")
            with capsys.disabled():
                print(json.dumps({"round": i, "kind": kind, "moment_s": round(moment_s, 2), "streams_hit": len(hit),
                                  "equal": sum(same), "pause_ms": round(max(hit)) if hit else None}), flush=True)
        restarts = server.metric("hob_engine_restarts_total")
        recovered, gateway = server.metric("hob_requests_recovered_total"), server.process.poll()
    with capsys.disabled():
        print(json.dumps({"moments": ROUNDS, "streams": ROUNDS * len(STREAMS), "equal": equal, "recovered": recovered,
                          "unasked_restarts": restarts - ROUNDS, "undisturbed_s": round(duration_s, 2),
                          "hang_timeout_ms": int(HANG_MS) if known else 10000,
                          "pause_ms_kill": summary(pauses["kill"]), "pause_ms_stop": summary(pauses["stop"])}), flush=True)
    assert gateway is None and not wrong, "\n".join(wrong)
    assert equal == ROUNDS * len(STREAMS) and recovered > 0


def ids_of(text):
    done = subprocess.run([HOBCTL, "tokenize", "--model", os.environ["HOB_TEST_MODEL"]], input=text.encode(),
                          stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)["ids"]


def test_poison_among_eight(tmp_path, monkeypatch, capsys):
    poisoned = 3
    with started(dev_server(tmp_path, os.environ["HOB_TEST_MODEL"])) as server:
        requests = [(p + f" {SYMBOLS}" if i == poisoned else p, n) for i, (p, n) in enumerate(STREAMS)]
        calm, _ = undisturbed(server, requests)
    harmless = {i for n, (prompt, _) in enumerate(requests) if n != poisoned for i in ids_of(prompt + "\n" + calm[n])}
    poison = max(i for i in ids_of(SYMBOLS) if i not in harmless)
    monkeypatch.setenv("HOB_ENGINE_FAULT", f"poison:{poison}")
    with started(dev_server(tmp_path, os.environ["HOB_TEST_MODEL"])) as server:
        streams = together(server, requests)
        wait_all(streams)
        restarts = server.metric("hob_engine_restarts_total")
        server.wait_ready(60)
        assert undisturbed(server, requests[:2])[0] == calm[:2] and server.process.poll() is None
    bad = streams[poisoned]
    with capsys.disabled():
        print(json.dumps({"poison": poison, "restarts": restarts, "status": bad.status, "end": bad.end,
                          "others_equal": sum(s.text == t and s.end == "[DONE]" for s, t in zip(streams, calm))}), flush=True)
    assert [s.end for i, s in enumerate(streams) if i != poisoned] == ["[DONE]"] * 7
    assert [s.text for i, s in enumerate(streams) if i != poisoned] == [t for i, t in enumerate(calm) if i != poisoned]
    assert isinstance(bad.end, dict) and bad.end["type"] == "server_error" and bad.end["code"], (bad.status, bad.end)
