#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hob against llama.cpp on one model file: perplexity and the agreement of teacher-forced predictions.

    tests/slow/compare_llama.py --model F [--tokens 20000] [--ctx 512] [--peer DIR] [--hobctl build/hobctl] [--threads 2]

The text is prose (licences that every Debian machine has) and code (this repository's C sources), cut so that about --tokens
predictions are scored: both programs score the second half of each window. llama-perplexity writes the log probabilities of
whole rows (--kl-divergence-base); they pass through a pipe, a window at a time, and only each row's best is kept. It rounds
them to 16 bits (steps of about 0.0002), so a row can have several best tokens: hob agrees when its own is one of them; how
many rows that concerned is printed. The peer is built by tests/bench/build_peer.sh."""
import argparse
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def make_text(characters):
    """Half prose, half code, alternating in pieces so that every stretch of the text has both."""
    prose = "".join(p.read_text(errors="replace") for p in sorted(Path("/usr/share/common-licenses").glob("*")) if p.is_file())
    prose = re.sub(r"[ \t]+", " ", prose)
    listed = subprocess.run(["git", "ls-files", "*.c", "*.h", "*.py"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.split()
    files = [ROOT / f for f in sorted(listed)] or sorted((ROOT / "models").glob("*.[ch]"))
    code = "".join(p.read_text(errors="replace") for p in files if p.is_file())
    half = characters // 2
    if len(prose) < half or len(code) < half:
        raise SystemExit(f"not enough text: {len(prose)} characters of prose, {len(code)} of code, {half} of each are needed")
    piece = 4000
    parts = []
    for i in range(0, half, piece):
        parts += [prose[i:i + piece], code[i:i + piece]]
    return "".join(parts).rstrip("\n")  # llama-perplexity drops a last newline


def read_exactly(f, count):
    data = f.read(count)
    if len(data) != count:
        raise EOFError(f"{count} bytes wanted, got {len(data)}")
    return data


def read_best(path, result):
    """Reads llama.cpp's log-probability stream: for each scored row the log probability of the token that came, and the
    set of best tokens."""
    try:
        with open(path, "rb", buffering=1 << 20) as f:
            assert read_exactly(f, 8) == b"_logits_"
            ctx, vocab, windows = struct.unpack("<iii", read_exactly(f, 12))
            tokens = np.frombuffer(read_exactly(f, 4 * ctx * windows), "<i4").reshape(windows, ctx)
            first, width = ctx // 2, 2 * ((vocab + 1) // 2) + 4
            result.update(ctx=ctx, vocab=vocab, windows=windows, tokens=tokens)
            best, ties = [], 0
            for w in range(windows):
                rows = np.frombuffer(read_exactly(f, 2 * width * (ctx - 1 - first)), "<u2").reshape(-1, width)
                q = rows[:, 4:4 + vocab]
                tops = q == q.max(axis=1)[:, None]
                for i, row in enumerate(tops):
                    ids = set(np.flatnonzero(row).tolist())
                    ties += len(ids) > 1
                    best.append((w * ctx + first + i + 1, int(tokens[w, first + i + 1]), ids))
            result.update(best=best, ties=ties)
    except Exception as e:  # told by the main thread
        result["error"] = repr(e)


def run_peer(args, model, text_file, folder, *extra):
    pipe = os.path.join(folder, "logits")
    if os.path.exists(pipe):
        os.unlink(pipe)
    os.mkfifo(pipe)
    result = {}
    reader = threading.Thread(target=read_best, args=(pipe, result), daemon=True)
    reader.start()
    done = subprocess.run([os.path.join(args.peer, "llama-perplexity"), "-m", model, "-f", text_file, "-c", str(args.ctx),
                           "-t", str(args.threads), "-tb", str(args.threads), "--kl-divergence-base", pipe, *extra],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SystemExit(f"llama-perplexity failed:\n{done.stdout[-2000:]}")
    reader.join(60)
    if "best" not in result:
        raise SystemExit(f"llama.cpp's log probabilities could not be read: {result.get('error', 'they did not end')}")
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout)
    if not found:
        raise SystemExit(f"llama-perplexity printed no figure:\n{done.stdout[-2000:]}")
    return float(found.group(1)), result


def run_hob(args, text_file, folder):
    lines = os.path.join(folder, "lines.jsonl")
    done = subprocess.run([args.hobctl, "perplexity", "--model", args.model, "--file", text_file, "--ctx", str(args.ctx),
                           "--threads", str(args.threads), "--device", args.device, "--logprobs", lines, "--json"],
                          stdout=subprocess.PIPE, check=True, text=True)
    with open(lines) as f:
        return json.loads(done.stdout), [json.loads(line) for line in f]


def write_floats(args, folder):
    """The model's weights as 32-bit floats: the same numbers, without the rounding of what they are multiplied by."""
    path = os.path.join(folder, "f32.gguf")
    subprocess.run([os.path.join(args.peer, "llama-quantize"), "--allow-requantize", args.model, path, "F32", str(args.threads)],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return path


def agreement(a, b):
    """The share of rows whose sets of best tokens meet."""
    return round(sum(not x.isdisjoint(y) for x, y in zip(a, b)) / len(a), 5)


def tensor_types(args):
    """How many tensors of each type the file holds, as hobctl inspect says: a quantizer may have substituted some."""
    out = subprocess.run([args.hobctl, "inspect", "--json", args.model], stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)["types"] if out.startswith("{") else None


def compare(args):
    """A dict of figures; raises SystemExit when the programs did not even score the same tokens."""
    runs = {"llama": []}
    if args.itself:  # the same sums in another order
        runs["other"] = ["-fa", "off"]
    if args.exact:  # the weights as 32-bit floats, nothing rounded on the way
        runs["exact"] = ["-fa", "off", "-ctk", "f32", "-ctv", "f32"]
    with tempfile.TemporaryDirectory() as folder:
        text_file = os.path.join(folder, "text.txt")
        with open(text_file, "w", encoding="utf-8", newline="") as f:
            f.write(make_text(args.tokens * 7))  # about 3.4 characters a token, half of the tokens scored
        hob, rows = run_hob(args, text_file, folder)
        ppl, peers = {}, {}
        for name, flags in runs.items():
            model = write_floats(args, folder) if name == "exact" else args.model
            ppl[name], peers[name] = run_peer(args, model, text_file, folder, *flags)
    scored = [(r["pos"], r["id"]) for r in rows]
    for run in peers.values():
        if scored != [(pos, token) for pos, token, _ in run["best"]]:
            raise SystemExit("hob and llama.cpp did not score the same tokens at the same positions")
    best = {name: [b[2] for b in run["best"]] for name, run in peers.items()}
    best["hob"] = [{r["top_id"]} for r in rows]
    figures = {"model": os.path.basename(args.model), "types": tensor_types(args), "scored": len(rows),
               "windows": peers["llama"]["windows"], "ctx": args.ctx, "ppl_hob": round(hob["ppl"], 5), "ppl_llama": ppl["llama"],
               "ratio": round(hob["ppl"] / ppl["llama"], 5), "top1_hob_llama": agreement(best["hob"], best["llama"]),
               "ties": sum(run["ties"] for run in peers.values())}
    if args.itself:
        figures.update(ppl_other=ppl["other"], top1_llama_itself=agreement(best["llama"], best["other"]))
    if args.exact:
        figures.update(ppl_exact=ppl["exact"], top1_hob_exact=agreement(best["hob"], best["exact"]),
                       top1_llama_exact=agreement(best["llama"], best["exact"]))
    return figures


def parser():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True)
    p.add_argument("--tokens", type=int, default=20000)
    p.add_argument("--ctx", type=int, default=512)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--device", default="cpu")
    p.add_argument("--exact", action="store_true", help="also how far both are from exact arithmetic on the same weights")
    p.add_argument("--itself", action="store_true", help="also how far llama.cpp is from itself without flash attention")
    p.add_argument("--hobctl", default=str(ROOT / "build" / "hobctl"))
    p.add_argument("--peer", default=os.path.expanduser("~/.cache/hob-peer/bin"))
    return p


if __name__ == "__main__":
    print(json.dumps(compare(parser().parse_args())))
    sys.exit(0)
