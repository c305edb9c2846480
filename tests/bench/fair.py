#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How hobd shares itself between tenants and classes: TLS and keys as `hobctl setup` makes them, eight sequences a step,
tenants a and b (standard), c (interactive) and d (batch).

    $(packaging/setup/venv) tests/bench/fair.py --model FILE [--build build] [--parts share,class,prefix] [--requests 8]

share   a keeps 16 requests outstanding, b one. For each request of b: how many of a's ended between its arrival and its first
        token, and its tokens per second; against b's rate beside seven streams of a
class   d keeps 16 requests outstanding; c's requests come one after another: their TTFT against c's on the idle box
prefix  the same long system prompt from a, again from a, then from b: a's second finds it cached, b's first does not

One JSON line a result. The exit status is 1 when prefix finds cached tokens where there may be none, or none where there
should be, or when a request failed. Run it with the Python that packaging/setup/venv prints.
"""
import argparse, asyncio, hashlib, json, random, secrets, signal, statistics as st, subprocess, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "api"))
from conftest import Server, free_port, started  # noqa: E402
from wire import post  # noqa: E402

WORDS = ("harbour crane lifts red container above quiet water while gulls follow tide clerk writes weight crate long paper ledger "
         "noon bright engine counts slow river seven lantern copper window market early signal north garden stone").split()
CLASSES = {"a": "standard", "b": "standard", "c": "interactive", "d": "batch"}
failures = []


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", default="build", help="the folder of hobd and hobctl")
    p.add_argument("--model", required=True, help="GGUF file")
    p.add_argument("--parts", default="share,class,prefix")
    p.add_argument("--requests", type=int, default=8, help="of the tenant that is measured")
    p.add_argument("--tokens", type=int, default=64, help="of each of these requests")
    p.add_argument("--words", type=int, default=40, help="of each prompt")
    p.add_argument("--outstanding", type=int, default=16, help="requests of the tenant that loads the box")
    p.add_argument("--salt", default="0", help="another salt, other prompts")
    return p.parse_args()


def say(**fields):
    print(json.dumps(fields), flush=True)


class Box(Server):
    """A hobd with TLS; `keys` by tenant."""

    def __init__(self, a, folder):
        port, self.keys = free_port(), {}
        subprocess.run([f"{a.build}/hobctl", "setup", "--dir", folder, "--model", a.model, "--port", str(port)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        conf = folder / "hob.conf"  # without its first line it counts as edited
        text = "".join(conf.read_text().splitlines(True)[1:])
        conf.write_text(text.replace("path =", "max_sequences = 8; context = 2048; kv_tokens = 16384; path =", 1))
        with open(folder / "keys", "a") as f:
            for tenant, kind in CLASSES.items():
                self.keys[tenant] = "hob_" + secrets.token_urlsafe(32)
                f.write(f"{hashlib.sha256(self.keys[tenant].encode()).hexdigest()} {tenant} {tenant} {kind}\n")
        super().__init__([f"{a.build}/hobd", "--config", conf], port, folder / "log", self.keys["a"], folder / "ca.pem")
        self.tls = self.context  # made once


async def ask(box, tenant, messages, tokens):
    """One streamed chat: t0, at (the times of its pieces), end, cached, tokens, error."""
    body = {"model": "default", "messages": messages, "max_tokens": tokens, "stream": True, "temperature": 0, "ignore_eos": True,
            "stream_options": {"include_usage": True}}
    r = {"t0": time.perf_counter(), "at": [], "end": None, "tokens": 0, "cached": None, "error": "ended without [DONE]"}
    rd, wr = await asyncio.open_connection("127.0.0.1", box.port, ssl=box.tls, limit=1 << 22)
    try:
        wr.write(post("/v1/chat/completions", body, "Connection: close", f"Authorization: Bearer {box.keys[tenant]}"))
        while line := await rd.readline():  # an event's data is a line of its chunk; no size or header begins with "data:"
            if line.startswith(b"HTTP/") and line.split()[1] != b"200":
                r["error"] = line.decode().strip()
            if not line.startswith(b"data:"):
                continue
            if line[5:].strip() == b"[DONE]":
                r["error"] = None
                break
            event = json.loads(line[5:])
            if event.get("error"):
                r["error"] = event["error"]
            if usage := event.get("usage"):
                r["tokens"] = usage["completion_tokens"]
                r["cached"] = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
            if event.get("choices") and event["choices"][0]["delta"].get("content"):
                r["at"].append(time.perf_counter())
    except (OSError, asyncio.IncompleteReadError) as e:
        r["error"] = repr(e)
    finally:
        wr.close()
    r["end"] = time.perf_counter()
    r["ttft_ms"] = (r["at"][0] - r["t0"]) * 1e3 if r["at"] else None
    r["rate"] = (r["tokens"] - 1) / (r["at"][-1] - r["at"][0]) if len(r["at"]) > 1 else None
    if r["error"]:
        failures.append(f"{tenant}: {r['error']}")
    return r


class Load:
    """`count` clients of one tenant, each with one request after another of between a half and one and a half times `tokens`."""

    def __init__(self, a, box, tenant, count, tokens):
        self.a, self.box, self.tenant, self.count, self.tokens, self.done = a, box, tenant, count, tokens, []

    async def client(self, i):
        rng = random.Random(f"{self.a.salt}/{self.tenant}/{self.count}/{i}")
        while True:
            r = await ask(self.box, self.tenant, prompt(self.a, rng.random()), rng.randint(self.tokens // 2, self.tokens * 3 // 2))
            self.done.append(r)
            if r["error"]:
                await asyncio.sleep(0.5)

    async def __aenter__(self):
        self.tasks = [asyncio.create_task(self.client(i)) for i in range(self.count)]
        while len(self.done) < min(self.count, 8):  # until the box is busy and its clients are out of step
            await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *_):
        for t in self.tasks:
            t.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def prompt(a, seed, words=None):
    rng = random.Random(f"{a.salt}/{seed}")
    return [{"role": "user", "content": " ".join(rng.choice(WORDS) for _ in range(words or a.words))}]


async def one_by_one(a, box, tenant, name):
    return [await ask(box, tenant, prompt(a, f"{name}/{i}"), a.tokens) for i in range(a.requests)]


def figures(rs, key):
    xs = [r[key] for r in rs if r[key] is not None] or [float("nan")]
    return {"median": round(st.median(xs), 1), "worst": round(max(xs) if key == "ttft_ms" else min(xs), 1)}


async def share(a, box):
    async with Load(a, box, "a", 7, a.tokens) as seven:
        beside_seven = await one_by_one(a, box, "b", "seven")
    async with Load(a, box, "a", a.outstanding, a.tokens) as load:
        crowded = await one_by_one(a, box, "b", "share")
    # b starts its prompt about as long before its first token as it takes where nothing has to be waited for
    prompt_s = min(r["ttft_ms"] for r in beside_seven if r["ttft_ms"]) / 1e3
    overtaken, waited_for = ([sum(r["t0"] < x["end"] < (r["at"] or [r["end"]])[0] - back_s for x in load.done) for r in crowded]
                             for back_s in (0, prompt_s))
    rates = figures(crowded, "rate"), figures(beside_seven, "rate")
    say(part="share", outstanding_a=a.outstanding, finished_a=len(load.done), finished_a_seven=len(seven.done),
        ended_before_first_token=overtaken, ended_before_start=waited_for, most=max(waited_for), b_tok_per_s=rates[0], b_tok_per_s_beside_seven=rates[1],
        ratio=round(rates[0]["median"] / rates[1]["median"], 3), b_ttft_ms=figures(crowded, "ttft_ms"),
        b_ttft_ms_beside_seven=figures(beside_seven, "ttft_ms"))


async def priority(a, box):
    idle = figures(await one_by_one(a, box, "c", "idle"), "ttft_ms")
    async with Load(a, box, "d", a.outstanding, 4 * a.tokens) as load:
        before = len(load.done)
        busy = figures(await one_by_one(a, box, "c", "busy"), "ttft_ms")
    say(part="class", outstanding_d=a.outstanding, finished_d_meanwhile=len(load.done) - before, idle_ttft_ms=idle,
        busy_ttft_ms=busy, **{f"ratio_{k}": round(busy[k] / idle[k], 2) for k in idle})


async def prefix(a, box):
    system = {"role": "system", "content": prompt(a, "system", 500)[0]["content"]}
    rows = []
    for tenant in "aabba":
        before = box.metric("hob_cached_tokens_total")
        r = await ask(box, tenant, [system, *prompt(a, f"prefix/{len(rows)}", 12)], 8)
        rows.append({"tenant": tenant, "cached": r["cached"], "metric": int(box.metric("hob_cached_tokens_total") - before),
                     "ttft_ms": round(r["ttft_ms"] or 0, 1)})
    good = [bool(r["cached"]) for r in rows] == [False, True, False, True, True] and all(r["cached"] == r["metric"] for r in rows)
    say(part="prefix", requests=rows, ok=good)
    if not good:
        failures.append("prefix: cached tokens are not where they should be")


async def main(a, box):
    for name, part in (("share", share), ("class", priority), ("prefix", prefix)):
        if name in a.parts.split(","):
            await part(a, box)


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the server is ended on the way out
options = arguments()
with tempfile.TemporaryDirectory() as made, started(Box(options, Path(made) / "var")) as server:
    asyncio.run(main(options, server))
if failures:
    say(failures=len(failures), first=failures[0])
sys.exit(bool(failures))
