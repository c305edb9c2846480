#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what llama.cpp predicts for tests/data/forward_text.txt: the token ids, and for the second half of every
window of 256 tokens the best next token and the log probability of the one that came.

    make_forward_reference.py LLAMA_PERPLEXITY MODEL.gguf > tests/data/forward_reference.json

LLAMA_PERPLEXITY is the peer that tests/bench/build_peer.sh builds (AVX2 tier for the file in the tree). Its
--kl-divergence-base file holds, after the magic, the window length, vocabulary, windows and ids, one row a scored
position: two floats (scale, least log probability) and 16-bit steps between."""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

CTX, WINDOWS = 256, 2

here = os.path.dirname(os.path.abspath(__file__))
with tempfile.TemporaryDirectory() as d:
    out = os.path.join(d, "logits")
    subprocess.run([sys.argv[1], "-m", sys.argv[2], "-f", os.path.join(here, "forward_text.txt"), "-c", str(CTX), "--chunks", str(WINDOWS),
                    "-t", "2", "--kl-divergence-base", out], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    raw = open(out, "rb").read()
assert raw[:8] == b"_logits_"
ctx, vocab, windows = struct.unpack_from("<Iii", raw, 8)
assert (ctx, windows) == (CTX, WINDOWS)
ids = np.frombuffer(raw, "<i4", ctx * windows, 20)
at = 20 + 4 * ctx * windows
row_bytes = 2 * (2 * ((vocab + 1) // 2) + 4)
scored = []
for w in range(windows):
    for pos in range(ctx // 2, ctx - 1):
        scale, least = struct.unpack_from("<ff", raw, at)
        logp = least + scale * np.frombuffer(raw, "<u2", vocab, at + 8).astype(np.float64)
        at += row_bytes
        scored.append([int(logp.argmax()), round(float(logp[ids[w * ctx + pos + 1]]), 4)])
json.dump({"made_by": "tests/data/make_forward_reference.py", "ctx": ctx, "windows": windows, "ids": ids.tolist(),
           "scored": scored}, sys.stdout)
print()
