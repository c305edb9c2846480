# SPDX-License-Identifier: Apache-2.0
"""Writes embedding_reference.json: vectors of texts by sentence-transformers, in float32, of the model in the folder given
(packaging/setup/model minilm prints it). Longer texts are cut as its configuration says.

    python3 -m venv v && v/bin/pip install sentence-transformers
    v/bin/python tests/data/make_embedding_reference.py FOLDER > tests/data/embedding_reference.json"""
import base64
import json
import sys

import numpy
import sentence_transformers
import torch

TEXTS = [
    "hearth", "What is a hearth?", "A hob is the shelf by the fire.", "THE QUICK BROWN FOX jumps over the lazy dog!",
    "How do I renew the certificate of the server?",
    "Certificates are renewed by building a new vhost and moving accepts over; the old one stays until its last connection ends.",
    "def add(a, b):\n    return a + b", "SELECT name FROM users WHERE id = 42;", "E = mc^2, a² + b² = c², 10^-12",
    "naïve façade coöperation Ångström", "Größenwahn und Überschwang", "¿Dónde está la biblioteca?",
    "Привет, как дела?", "日本語の文章を書く", "中文句子没有空格", "안녕하세요 세계", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया",
    "emoji 😀 and 👍🏽", "tabs\tand\nlines\r\nand  spaces ", "e\u0301 combined, é composed", "zero\u200bwidth and nbsp\u00a0here",
    "https://example.com/a/b?c=d&e=f#g", "$1,234.56 + 7% (approx.)", "antidisestablishmentarianism", "x" * 120, "!!! ??? ...",
    "A long one. " + "The tide clerk counts crates by the quay while the red crane turns above the quiet water. " * 10,
    "Longer than the model takes. " + "Sales rose in the third quarter, costs fell, and the board was pleased with neither. " * 40,
]


def main():
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    cut = {"truncation": True, "max_length": model.max_seq_length}
    vectors = model.encode(TEXTS, normalize_embeddings=True).astype(numpy.float32)
    print(json.dumps({
        "made_with": f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}",
        "model": "all-MiniLM-L6-v2", "dimensions": vectors.shape[1],
        "texts": [{"text": t, "tokens": len(model.tokenizer(t, **cut)["input_ids"]),
                   "vector": base64.b64encode(v.astype("<f4").tobytes()).decode()} for t, v in zip(TEXTS, vectors)],
    }, indent=0, ensure_ascii=False))


if __name__ == "__main__":
    main()
