#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""load.py's flood with clients that come back: how fast refusals come, and whether those that come back when they
were told to get in.

Usage: flood.py --url http://127.0.0.1:8080 [--key K] [-n N] [--tokens T] [--salt S] [--tries K]

Prints one JSON line: of the first tries accepted, TTFT percentiles, refused, their latest answer; of those that came back,
how many got in at their first return, at any; tokens per second over all of it.
"""
import argparse, asyncio, json, random, time, urllib.parse

WORDS = ("the water runs over the stones and the people of the town walk along the river in the evening when bread is baked and "
         "boats come home with fish and news from the islands").split()


def pct(values, q):
    values = sorted(values)
    return round(values[min(len(values) - 1, int(q * len(values)))], 1) if values else None


def prose(salt, words, seed):
    rng = random.Random(f"{salt}/{seed}")
    return " ".join(rng.choice(WORDS) + ("." if i % 11 == 10 else "") for i in range(words))


async def ask(host, port, key, words, seed, a):
    """One streamed chat: dict(status, ms until the head, ttft_ms, tokens, retry_s)."""
    body = json.dumps({"model": "default", "messages": [{"role": "user", "content": prose(a.salt, words, seed)}],
                       "max_tokens": a.tokens, "stream": True, "temperature": 0, "ignore_eos": True,
                       "stream_options": {"include_usage": True}}).encode()
    began = time.perf_counter()
    rd, wr = await asyncio.open_connection(host, port)
    wr.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
             b"Connection: close\r\n" + (f"Authorization: Bearer {key}\r\n".encode() if key else b"")
             + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    status = int((await rd.readline()).split()[1])
    headers = {}
    while (line := await rd.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    r = {"status": status, "ms": (time.perf_counter() - began) * 1e3, "ttft_ms": None, "tokens": 0,
         "retry_s": float(headers.get("retry-after", 0))}
    async for line in rd:
        if b'"content":"' in line and r["ttft_ms"] is None and b'"content":""' not in line:
            r["ttft_ms"] = (time.perf_counter() - began) * 1e3
        if line.startswith(b"data: {") and b'"usage":{' in line:
            r["tokens"] = json.loads(line[6:])["usage"]["completion_tokens"]
    wr.close()
    r["end"] = time.perf_counter()
    return r


async def client(host, port, i, gate, a):
    """Its tries, until it gets in."""
    await gate.wait()
    tries = [await ask(host, port, a.key, 20 + i % 8 * 60, i, a)]
    while tries[-1]["status"] in (429, 503) and len(tries) < a.tries:
        await asyncio.sleep(tries[-1]["retry_s"])
        tries.append(await ask(host, port, a.key, 20 + i % 8 * 60, i, a))
    return tries


async def main():
    p = argparse.ArgumentParser()
    p.add_argument("--url", required=True); p.add_argument("--key"); p.add_argument("-n", type=int, default=64)
    p.add_argument("--tokens", type=int, default=64); p.add_argument("--salt", default="0")
    p.add_argument("--tries", type=int, default=6)
    a = p.parse_args()
    u = urllib.parse.urlparse(a.url)
    gate = asyncio.Event()
    tasks = [asyncio.create_task(client(u.hostname, u.port or 80, i, gate, a)) for i in range(a.n)]
    await asyncio.sleep(0.2)
    began = time.perf_counter()
    gate.set()
    all_tries = await asyncio.gather(*tasks)
    first = [t[0] for t in all_tries]
    back = [t[1:] for t in all_tries if len(t) > 1]
    ok = [r for t in all_tries for r in t if r["status"] == 200]
    refused = [r for t in all_tries for r in t if r["status"] in (429, 503)]
    print(json.dumps({
        "scenario": "flood with retries", "n": a.n,
        "accepted": sum(r["status"] == 200 for r in first), "refused": sum(r["status"] in (429, 503) for r in first),
        "other": sum(r["status"] not in (200, 429, 503) for t in all_tries for r in t),
        "ttft_p50_ms": pct([r["ttft_ms"] for r in ok if r["ttft_ms"]], .5),
        "ttft_p99_ms": pct([r["ttft_ms"] for r in ok if r["ttft_ms"]], .99),
        "refusal_p50_ms": pct([r["ms"] for r in refused], .5), "refusal_worst_ms": pct([r["ms"] for r in refused], 1.0),
        "came_back": len(back), "in_at_first_return": sum(t[0]["status"] == 200 for t in back),
        "in_at_last": sum(t[-1]["status"] == 200 for t in back),
        "tokens": sum(r["tokens"] for r in ok),
        "tok_s": round(sum(r["tokens"] for r in ok) / (max(r["end"] for r in ok) - began), 1) if ok else 0}))

asyncio.run(main())
