#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Embeddings beside sentence-transformers: the same texts on the same cores, in turn, through hobd over HTTP and through
SentenceTransformer.encode; tokens a second of each, their ratio, and how alike the vectors are.

    python3 -m venv v && v/bin/pip install sentence-transformers
    v/bin/python tests/bench/embeddings.py [--types f16 q8_0] [--texts 1000] [--threads 2] [--rounds 3]

A round is one run of each, so that what else the machine does meets all of them; the best of the rounds count. Texts longer
than the model takes are cut by both. Needs `make`, and what packaging/setup/embedding fetches."""
import argparse
import base64
import contextlib
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("HOB_BUILD", ROOT / "build"))
BATCH, IN_FLIGHT = 128, 2  # texts of a request; requests at once


def make_texts(count):
    """Sentences, paragraphs and pages of the repository's own prose, in a fixed order: most short, some longer than 256 tokens.
    Without brackets, as the peer takes "[SEP]" in a text for the token, which no text may give in hob."""
    prose = "\n\n".join((ROOT / p).read_text() for p in ("README.md", "LICENSE", "tests/data/forward_text.txt")).replace("[", "(")
    parts = [re.sub(r"\s+", " ", p).strip() for p in re.split(r"\n\s*\n|(?<=[.!?:])\s", prose)]
    parts = [p for p in parts if len(p) > 15]
    rng = random.Random(20)
    return [" ".join(rng.choice(parts) for _ in range(rng.choice((1, 1, 1, 2, 3, 5, 12)))) for _ in range(count)]


@contextlib.contextmanager
def hobd(kind, threads):
    model = subprocess.run([ROOT / "packaging/setup/embedding", kind], check=True, stdout=subprocess.PIPE, text=True,
                           env={**os.environ, "BUILD": str(BUILD)}).stdout.strip()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with subprocess.Popen([BUILD / "hobd", "--dev", "--model", model, "--port", str(port), "--threads", str(threads),
                           "--patience-ms", "0", "--log", "error"], stdin=subprocess.DEVNULL) as p:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5)
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/v1/embeddings"
        finally:
            p.terminate()


def ask(url, texts):
    body = json.dumps({"input": texts, "encoding_format": "base64", "hob_truncate": True}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read())


def run_hob(url, texts):
    """Seconds, tokens, vectors."""
    import numpy
    start = time.monotonic()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        answers = list(pool.map(lambda i: ask(url, texts[i:i + BATCH]), range(0, len(texts), BATCH)))
    seconds = time.monotonic() - start
    rows = [numpy.frombuffer(base64.b64decode(d["embedding"]), "<f4") for a in answers for d in a["data"]]
    return seconds, sum(a["usage"]["prompt_tokens"] for a in answers), numpy.stack(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--types", nargs="+", default=["f16", "q8_0"])
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    o = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS=str(o.threads), TOKENIZERS_PARALLELISM="true")  # as it is used
    import numpy
    import sentence_transformers
    import torch
    torch.set_num_threads(o.threads)
    folder = subprocess.run([ROOT / "packaging/setup/model", "minilm"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    peer = sentence_transformers.SentenceTransformer(folder, device="cpu")
    texts = make_texts(o.texts)

    with contextlib.ExitStack() as stack:
        urls = {kind: stack.enter_context(hobd(kind, o.threads)) for kind in o.types}
        peer.encode(texts[:64])
        for url in urls.values():
            run_hob(url, texts[:256])
        best, vectors, tokens = {}, {}, 0
        for _ in range(o.rounds):
            start = time.monotonic()
            vectors["peer"] = peer.encode(texts, normalize_embeddings=True, show_progress_bar=False)
            best["peer"] = min(best.get("peer", 1e9), time.monotonic() - start)
            for kind, url in urls.items():
                seconds, tokens, vectors[kind] = run_hob(url, texts)
                best[kind] = min(best.get(kind, 1e9), seconds)
    print(f"{len(texts)} texts, {tokens} tokens, {o.threads} threads")
    print(f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}: "
          f"{tokens / best['peer']:.0f} tokens/s, {len(texts) / best['peer']:.0f} texts/s")
    for kind in o.types:
        alike = (vectors[kind].astype(numpy.float64) * vectors["peer"].astype(numpy.float64)).sum(1)
        print(f"hob {kind}: {tokens / best[kind]:.0f} tokens/s, {len(texts) / best[kind]:.0f} texts/s, "
              f"{best['peer'] / best[kind]:.2f} times as fast; cosine at least {alike.min():.6f}, mean {alike.mean():.6f}")


if __name__ == "__main__":
    sys.exit(main())
