#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes llama_cpp_ids.json: what llama.cpp makes of the strings of tokenizer_smollm2.json, and of some with control tokens,
with the vocabularies that come with it and with model files that are given.

    make_vocabulary_reference.py [NAME=FILE.gguf ...] > llama_cpp_ids.json

The peer is built by tests/bench/build_peer.sh. {"special": [texts], "vocabularies": {name: [plain ids, special ids]}}, ids as
4 hexadecimal digits a string: the low 16 bits of FNV-1a over the ids, each as 4 little-endian bytes. tests/slow replays it."""
import glob
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PEER = Path(os.environ.get("PEER_DIR", Path.home() / ".cache/hob-peer"))
NAMES = ["llama-spm", "phi-3", "baichuan", "llama-bpe", "qwen2", "qwen35", "gpt-2", "falcon", "mpt", "starcoder", "refact", "command-r",
         "deepseek-llm", "deepseek-coder"]
SPECIAL = ["<s>", "</s>", "<s>a", "a</s> b", " <s> a  b</s>  c", "<unk>", "<unk> x", "<pad><mask>", "<bos>a", "hi<eos> there", "<|endoftext|>",
           "a <|endoftext|>  b", "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n", "<|user|> \n hi<|end|>\n <|assistant|>\n x",
           "<|system|>\n\n\nx<|end|>  y", "<|im_start|>user\n\nhi <|im_end|> \n", "<|begin_of_text|>a<|eot_id|>\n", "[INST] hi [/INST]", "<0x0A>",
           "a<0x41>b", "▁a▁", "a ▁ b", "▁", " ▁", "<table> a </table>", "\n\n\n\n x", "     x     y", "<unused0><unused1> a", "<start_of_image>",
           "<｜begin▁of▁sentence｜>a<｜end▁of▁sentence｜>", "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>a<|END_OF_TURN_TOKEN|>", ">>TITLE<<a>>ABSTRACT<<",
           "<fim_prefix>a<fim_suffix>b<fim_middle>", "<|fim_hole|>", "<|placeholder1|> a", "[multimodal]", "<s", "s>", "<<s>>", "</s></s>"]


def digest(numbers):
    h = 0x811C9DC5
    for n in numbers:
        for byte in n.to_bytes(4, "little"):
            h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{h & 0xFFFF:04x}"


def build(source, folder):
    libraries = [f"{next(source.glob('build-*/src/libllama.a')).parents[1]}/{lib}" for lib in
                 ("src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a", "ggml/src/libggml-base.a")]
    program = f"{folder}/llama_ids"
    subprocess.run(["g++", "-std=c++17", "-O1", f"-I{source}/include", f"-I{source}/ggml/include", HERE / "llama_ids.cpp", "-o", program,
                    *libraries, "-fopenmp", "-lpthread", "-ldl", "-lm"], check=True)
    return program


def digests(program, model, texts, special):
    data = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    done = subprocess.run([program, model] + (["special"] if special else []), input=data, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(texts)
    return "".join(digest(map(int, line.split())) for line in lines)


def main():
    source = Path(glob.glob(f"{PEER}/src/*/vendor/llama.cpp")[0])
    plain = [c[0] for c in json.loads((HERE / "tokenizer_smollm2.json").read_text())["plain"]]
    files = {name: f"{source}/models/ggml-vocab-{name}.gguf" for name in NAMES} | dict(a.split("=", 1) for a in sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        program = build(source, folder)
        lines = [f'{json.dumps(name)}:[{json.dumps(digests(program, file, plain, False))},\n{json.dumps(digests(program, file, SPECIAL, True))}]'
                 for name, file in files.items()]
    print('{"special":' + json.dumps(SPECIAL, ensure_ascii=False) + ',\n"vocabularies":{\n' + ",\n".join(lines) + "\n}}")


main()
