#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes minilm_ids.json: texts and the token ids that Hugging Face's own tokenizers package gives them with the folder of
all-MiniLM-L6-v2 (`packaging/setup/model minilm`), without truncation and padding. Made with tokenizers 0.23.3.

    make_minilm_reference.py FOLDER > minilm_ids.json"""
import json
import sys

from tokenizers import Tokenizer

TEXTS = [
    "", " ", "Hello, world!", "The quick brown fox jumps over the lazy dog.", "unaffable", "HELLO wOrLd", "Größe Straße naïve café",
    "don't can't we'll I'm", "e-mail: someone@example.com, http://example.com/a_b?c=d&e=f#g", "3.14159 1,000,000 $5.99 50% 1e-12",
    "tabs\tand\nnew\r\nlines   and  spaces", "日本語のテキスト", "中文和English混在", "한국어 텍스트", "Привет, мир!", "Ελληνικά ώ", "عربي نص",
    "हिन्दी पाठ", "emoji 🙂👍🏽 and ❤️", "zero\u200bwidth and soft\u00adhyphen", "control\x01char\x7f", "ﬁ ﬂ ligatures ½ ² ™",
    "İstanbul ıspanak ǅ", "a" * 100, "a" * 101, "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "int main(void) { return x[i] != NULL && y == 0x1F; }", "snake_case camelCase kebab-case", "¿Qué? ¡Sí! «guillemets» “quotes” ‘single’",
    "x² + y² = z²; ∑ ∫ √ ≠ ≤", "Dr. Smith's 1st-class ticket (No. 42)", "\u0301combining at the start", "e\u0301 and \u00e9",
    "fullwidth ＡＢＣ１２３", "Vietnamese: Tiếng Việt", "Zażółć gęślą jaźń", "##s ##ing [unused0]", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛", "\u2581 lower one eighth block",
    "What is the capital of France? Paris is the capital and largest city of France, on the river Seine.",
]


def main():
    tokenizer = Tokenizer.from_file(sys.argv[1] + "/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    print("[\n" + ",\n".join(json.dumps([text, tokenizer.encode(text).ids]) for text in TEXTS) + "\n]")


main()
