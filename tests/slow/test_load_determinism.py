# SPDX-License-Identifier: Apache-2.0
"""The CPU's contract under a random load: requests with fixed seeds, of all kinds, give the same bytes one at a time and twice
among a changing number of others, with clients beside them that leave in the middle. The KV cache is small enough for
prefixes to be found, shared and thrown out again.

HOB_LOAD_REQUESTS is their number (200), HOB_LOAD_SEED where they come from (1)."""
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
from conftest import DEVICE, HOBD, dev_server, started  # noqa: E402
from wire import Connection, events, post, prose  # noqa: E402

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(DEVICE not in (None, "cpu"), reason="the contract is the CPU's: a GPU sums in any order")]
COUNT = int(os.environ.get("HOB_LOAD_REQUESTS", 200))
SEED = int(os.environ.get("HOB_LOAD_SEED", 1))
MOST_AT_ONCE, CANCELLERS = 24, 3
SAMPLINGS = [{"temperature": 0}, {"temperature": 0.8}, {"temperature": 1.2, "top_p": 0.9}, {"temperature": 0.7, "top_k": 20},
             {"temperature": 1.0, "min_p": 0.05}, {"temperature": 0, "repeat_penalty": 1.3},
             {"temperature": 0.9, "presence_penalty": 0.8}, {"temperature": 0.6, "frequency_penalty": 0.5, "top_p": 0.95}]


def make_requests(seed, count):
    """Paths and bodies; about a third begin alike, up to a point that is rarely the end of a block."""
    rng = random.Random(seed)
    systems = [prose(rng, n) for n in (40, 150, 400)]
    made = []
    for i in range(count):
        common = {"model": "default", "max_tokens": rng.choice([1, 4, 12, 24, 48]), "seed": i + 1, **rng.choice(SAMPLINGS)}
        if rng.random() < 0.3:
            common["ignore_eos"] = True
        if rng.random() < 0.2:
            common["stop"] = ["\n", "the "]
        if rng.random() < 0.5:
            common |= {"stream": True, "stream_options": {"include_usage": True}}
        kind = rng.random()
        user = {"role": "user", "content": prose(rng, rng.choice([1, 5, 12, 30, 60]))}
        if kind < 0.35:
            system = {"role": "system", "content": rng.choice(systems)}
            made.append(("/v1/chat/completions", {**common, "messages": [system, user]}))
        elif kind < 0.5:
            made.append(("/v1/completions", {**common, "prompt": rng.choice(systems) + " " + prose(rng, rng.randint(0, 8))}))
        elif kind < 0.6:
            user["content"] = prose(rng, rng.randint(100, 500))
            made.append(("/v1/chat/completions", {**common, "messages": [user]}))
        else:
            made.append(("/v1/chat/completions", {**common, "messages": [user]}))
    return made


def ask(server, path, body):
    """Text, finish reason, and how many tokens: what has to be the same. Told to come again, it does."""
    while True:
        with Connection(server, timeout=180) as c:
            c.send(post(path, body))
            status, headers, data = c.response()
        if status not in (429, 503):
            break
        time.sleep(float(headers.get("retry-after", 1)))
    assert status == 200, (status, data)
    if not body.get("stream"):
        answer = json.loads(data)
        choice, usage = answer["choices"][0], answer["usage"]
        return choice["message"]["content"] if "message" in choice else choice["text"], choice["finish_reason"], *counts(usage)
    frames = events(data)
    assert frames[-1] == "[DONE]", frames[-1]
    text, reason, usage = "", None, None
    for event in map(json.loads, frames[:-1]):
        assert "error" not in event, event
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            text += choice["delta"].get("content") or "" if "delta" in choice else choice["text"]
            reason = choice["finish_reason"] or reason
    return text, reason, *counts(usage)


def counts(usage):
    return usage["prompt_tokens"], usage["completion_tokens"]


class Crowd:
    """The requests in a random order; how many clients ask at once is drawn again every third of a second."""

    def __init__(self, server, requests, seed):
        self.server, self.requests, self.rng, self.results, self.errors = server, requests, random.Random(seed), {}, []
        self.order, self.lock, self.active, self.allowed = list(range(len(requests))), threading.Condition(), 0, MOST_AT_ONCE
        self.rng.shuffle(self.order)
        self.left, self.most, self.ended = 0, 0, threading.Event()

    def client(self, seed):
        rng = random.Random(seed)
        while True:
            with self.lock:
                self.lock.wait_for(lambda: self.active < self.allowed or not self.order)
                if not self.order:
                    return
                i = self.order.pop()
                self.active += 1
                self.most = max(self.most, self.active)
            try:
                self.results[i] = ask(self.server, *self.requests[i])
            except Exception as e:  # noqa: BLE001: the test reports it
                self.errors.append(f"request {i}: {e!r}")
            with self.lock:
                self.active -= 1
                self.lock.notify_all()
            time.sleep(rng.expovariate(8))

    def canceller(self, seed):
        """Asks what others ask too, and leaves at a random moment."""
        rng = random.Random(seed)
        while not self.ended.wait(rng.expovariate(4)):
            path, body = rng.choice(self.requests)
            with Connection(self.server, timeout=60) as c:
                c.send(post(path, {**body, "max_tokens": 400, "ignore_eos": True, "seed": rng.randrange(1 << 30)}))
                self.ended.wait(rng.choice([0, 0.05, rng.uniform(0, 1.5)]))
            self.left += 1

    def run(self):
        clients = [threading.Thread(target=self.client, args=(i,), daemon=True) for i in range(MOST_AT_ONCE)]
        others = [threading.Thread(target=self.canceller, args=(1000 + i,), daemon=True) for i in range(CANCELLERS)]
        for t in clients + others:
            t.start()
        while any(t.is_alive() for t in clients):
            with self.lock:
                self.allowed = self.rng.randint(1, MOST_AT_ONCE)
                self.lock.notify_all()
            time.sleep(0.3)
        self.ended.set()
        for t in others:
            t.join(60)
        assert not self.errors, self.errors[:5]
        return self.results


def test_random_load(tmp_path, capsys):
    requests = make_requests(SEED, COUNT)
    flags = ["--context", "2048", "--kv-tokens", "8192"]
    if "--max-sequences" in subprocess.run([HOBD, "--help"], stdout=subprocess.PIPE, text=True).stdout:
        flags += ["--max-sequences", "12"]  # fewer than there may be: some wait
    with started(dev_server(tmp_path, os.environ["HOB_TEST_MODEL"], *flags)) as server:
        begin = time.monotonic()
        crowds = [Crowd(server, requests, SEED + 1), Crowd(server, requests, SEED + 2)]
        loaded = [crowd.run() for crowd in crowds]
        server.wait_metric("hob_engine_running", lambda v: v == 0)
        half = time.monotonic()
        alone = {i: ask(server, *r) for i, r in enumerate(requests)}
        figures = {"requests": COUNT, "loaded_s": round(half - begin, 1), "alone_s": round(time.monotonic() - half, 1),
                   "most_at_once": [c.most for c in crowds], "left": [c.left for c in crowds],
                   "tokens": sum(a[3] for a in alone.values()), "cached_tokens": server.metric("hob_cached_tokens_total"),
                   "cancelled": server.metric("hob_requests_cancelled_total"),
                   "different_texts": len({a[0] for a in alone.values()}),
                   "equal": [sum(run.get(i) == a for i, a in alone.items()) for run in loaded]}
        assert server.metric("hob_engine_restarts_total") == 0
    with capsys.disabled():
        print(json.dumps(figures), flush=True)
    for name, run in zip(("first", "second"), loaded):
        wrong = [(i, requests[i][1]["seed"], run.get(i), alone[i]) for i in alone if run.get(i) != alone[i]]
        assert not wrong, f"{name} run, {len(wrong)} of {COUNT} differ: {wrong[:3]}"
    assert figures["different_texts"] > COUNT // 2, "different requests gave the same answers"
