#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes small_vocabularies.json: small vocabularies trained by SentencePiece and by Hugging Face's tokenizers on the 2,000
plain strings of tokenizer_smollm2.json, and what those libraries make of the same strings.

    python -m pip install sentencepiece==0.2.3 tokenizers==0.23.3
    make_small_vocabularies.py > small_vocabularies.json

{name: {"model", flags, "tokens": [[text as a GGUF file has it, score, type], ...], "ids": "..."}}, where ids has 4
hexadecimal digits a string: the low 16 bits of FNV-1a over the ids, each as 4 little-endian bytes. With --print NAME INDEX
it prints the pieces themselves."""
import io
import json
import sys
from pathlib import Path

import sentencepiece
from tokenizers import BertWordPieceTokenizer

from make_split_reference import digest

TEXTS = [c[0] for c in json.loads((Path(__file__).parent / "tokenizer_smollm2.json").read_text())["plain"]]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def train_spm(**options):
    model = io.BytesIO()
    lines = [t for t in TEXTS if "\x00" not in t and "\n" not in t]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", normalization_rule_name="identity",
        remove_extra_whitespaces=False, num_threads=1, minloglevel=2, max_sentence_length=1 << 20, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def spm(add_space, options):
    p = train_spm(add_dummy_prefix=add_space, **options)
    tokens = []
    for i in range(p.get_piece_size()):
        kind = (UNKNOWN if p.is_unknown(i) else CONTROL if p.is_control(i) else BYTE if p.is_byte(i) else UNUSED if p.is_unused(i)
                else USER if p.id_to_piece(i) in options.get("user_defined_symbols", []) else NORMAL)
        tokens.append([p.id_to_piece(i), p.get_score(i), kind])
    return {"model": "llama", "add_space": add_space, "tokens": tokens}, lambda t: p.encode(t), lambda t: p.encode(t, out_type=str)


def wordpiece(lowercase):
    t = BertWordPieceTokenizer(lowercase=lowercase)
    t.train_from_iterator(TEXTS, vocab_size=1500, min_frequency=2, limit_alphabet=600, show_progress=False)
    tokens = []
    for text, _ in sorted(t.get_vocab().items(), key=lambda item: item[1]):
        special = text in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        tokens.append([text if special else text[2:] if text.startswith("##") else "\u2581" + text, 0.0, CONTROL if special else NORMAL])
    return ({"model": "bert", "lowercase": lowercase, "tokens": tokens}, lambda s: t.encode(s, add_special_tokens=False).ids,
            lambda s: t.encode(s, add_special_tokens=False).tokens)


# SentencePiece begins what follows a user-defined token as it stands, llama.cpp and hob as a new text: none where add_space.
VOCABULARIES = {
    "sentencepiece_bytes": lambda: spm(True, {"vocab_size": 1200, "byte_fallback": True, "character_coverage": 0.98}),
    "sentencepiece_unknown": lambda: spm(False, {"vocab_size": 1200, "character_coverage": 0.98,
                                                 "user_defined_symbols": ["return", "12", "ing"]}),
    "wordpiece_uncased": lambda: wordpiece(True),
    "wordpiece_cased": lambda: wordpiece(False),
}


def main():
    if len(sys.argv) == 4:
        print(VOCABULARIES[sys.argv[2]]()[2](TEXTS[int(sys.argv[3])]))
        return
    lines = []
    for name, make in VOCABULARIES.items():
        vocabulary, encode, _ = make()
        vocabulary["ids"] = "".join(f"{digest(encode(t)):04x}" for t in TEXTS)
        lines.append(json.dumps(name) + ":" + json.dumps(vocabulary, ensure_ascii=False, separators=(",", ":")))
    print("{\n" + ",\n".join(lines) + "\n}")


if __name__ == "__main__":
    main()
