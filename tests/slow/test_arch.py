# SPDX-License-Identifier: Apache-2.0
"""The tiny model of each architecture: hob's logits against llama.cpp's. Needs the peer that tests/bench/build_peer.sh builds.

llama-server gives log probabilities of the whole vocabulary, which are the logits less a constant: both sides are compared
with their mean taken off."""
import json
import os
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("HOB_BUILD", ROOT / "build"))
LENGTH, VOCAB, LETTER = 100, 267, 3 + ord("a")


def peer():
    folder = Path(os.environ.get("PEER_DIR", Path.home() / ".cache/hob-peer"))
    found = next((folder / b for b in ("bin-avx2", "bin") if (folder / b / "llama-server").exists()), None)
    if not found:
        pytest.skip("llama-server is not built: run tests/bench/build_peer.sh")
    return found


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    subprocess.run([BUILD / "unit/test_arch", "--write", folder], check=True)
    return sorted(folder.glob("*.gguf"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def peer_log_probs(program, model, prompts, log):
    port = free_port()
    with open(log, "w") as f:
        server = subprocess.Popen([program, "-m", model, "-c", "512", "-t", "2", "-np", "1", "--port", str(port), "-fa", "off",
                                   "-ctk", "f32", "-ctv", "f32", "--no-warmup", "-fit", "off"], stdout=f, stderr=subprocess.STDOUT)
    try:
        for _ in range(300):
            if server.poll() is not None:
                raise RuntimeError(f"llama-server ended:\n{Path(log).read_text()[-2000:]}")
            try:
                if urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200:
                    break
            except OSError:
                time.sleep(0.1)
        rows = []
        for prompt in prompts:
            # an answer's probabilities come with text only: the bias, which they do not show, makes it the letter a
            answer = ask(f"http://127.0.0.1:{port}/completion", {
                "prompt": prompt, "n_predict": 1, "n_probs": VOCAB, "temperature": 0, "cache_prompt": False,
                "logit_bias": [[LETTER, 1000]]})
            row = np.full(VOCAB, np.nan)
            for one in answer["completion_probabilities"][0]["top_logprobs"]:
                row[one["id"]] = one["logprob"]
            rows.append(row)
        return rows
    finally:
        server.kill()
        server.wait()


def hob_logits(model, prompt):
    done = subprocess.run([BUILD / "unit/test_arch", "--logits", model], input="\n".join(map(str, prompt)), stdout=subprocess.PIPE,
                          check=True, text=True)
    return np.array([float(line) for line in done.stdout.split()])


def test_logits(models, tmp_path, capsys):
    assert len(models) >= 10
    program = peer() / "llama-server"
    prompts = [[int(i) for i in np.random.default_rng(seed).integers(3, VOCAB, LENGTH)] for seed in range(3)]
    wrong = []
    for model in models:
        theirs = peer_log_probs(program, model, prompts, tmp_path / "log")
        errors = []
        for prompt, row in zip(prompts, theirs):
            ours = hob_logits(model, prompt)
            assert not np.isnan(row).any()
            a, b = ours - ours.mean(), row - row.mean()
            errors.append(float(np.sqrt(((a - b) ** 2).mean() / (b ** 2).mean())))
        with capsys.disabled():
            print(f"{model.stem}: relative RMS of the logits against llama.cpp {max(errors):.1e}")
        # two experts with nearly the same score: the smallest rounding decides which one a row takes, so one text may be off
        if max(errors) > (1e-2 if "moe" in model.stem or "experts" in model.stem else 1e-3) or sorted(errors)[1] > 1e-3:
            wrong.append((model.stem, errors))
    assert not wrong
