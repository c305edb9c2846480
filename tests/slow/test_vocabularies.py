# SPDX-License-Identifier: Apache-2.0
"""hob's token ids against those that llama.cpp gave (tests/data/llama_cpp_ids.json), with real vocabularies: those in llama.cpp's
source, which tests/bench/build_peer.sh fetches, and model files named in HOB_TEST_VOCABULARIES as NAME=FILE, separated by colons."""
import glob
import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(json.loads((ROOT / "tests/data/llama_cpp_ids.json").read_text())["vocabularies"])


@pytest.mark.parametrize("name", NAMES)
def test_ids(name):
    peer = os.environ.get("PEER_DIR", str(Path.home() / ".cache/hob-peer"))
    given = dict(entry.split("=", 1) for entry in os.environ.get("HOB_TEST_VOCABULARIES", "").split(":") if entry)
    found = [given[name]] if name in given else glob.glob(f"{peer}/src/*/vendor/llama.cpp/models/ggml-vocab-{name}.gguf")
    if not found:
        pytest.skip(f"no vocabulary {name}: run tests/bench/build_peer.sh, or name a file in HOB_TEST_VOCABULARIES={name}=FILE")
    build = os.environ.get("HOB_BUILD", str(ROOT / "build"))
    done = subprocess.run([f"{build}/unit/test_tokenizer"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, "HOB_TEST_VOCABULARY": f"{name}={found[0]}"})
    assert done.returncode == 0, done.stdout
