#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tokenizer_smollm2.json: varied strings and the token ids that llama.cpp's llama-server gives for them.

    make_tokenizer_reference.py http://127.0.0.1:PORT > tokenizer_smollm2.json

The server runs with SmolLM2-135M-Instruct. The strings come from a fixed seed, so that a second run over the same
server gives the same file. One line a case: [text, [ids]]. "plain" was tokenized without parsing control tokens,
"special" with.
"""
import json
import random
import sys
import urllib.request

SCRIPTS = {
    "latin": "the quick brown fox jumps over a lazy dog while Señor Müller naïvely façade Ångström œuvre Straße żółć "
             "İstanbul ığdır Đặng tiếng Việt".split(),
    "cyrillic": "привет мир съешь ещё этих мягких французских булок да выпей чаю Україна їжак Ђорђе қазақ".split(),
    "greek": "Καλημέρα κόσμε ξεσκεπάζω την ψυχοφθόρα βδελυγμία ἄνθρωπος ὦ".split(),
    "arabic": "مرحبا بالعالم اللُّغَةُ العَرَبِيَّة ١٢٣ فارسی گفتگو ۴۵۶ اردو".split(),
    "hebrew": "שלום עולם עִבְרִית ירושלים אבג".split(),
    "devanagari": "नमस्ते दुनिया हिन्दी क्षत्रिय १२३ संस्कृतम्".split(),
    "thai": "สวัสดีชาวโลก ภาษาไทย กำลัง ๑๒๓ น้ำ".split(),
    "bengali": "বাংলা ভাষা ১২৩ তামিল தமிழ் తెలుగు ಕನ್ನಡ".split(),
    "cjk": "你好世界 日本語 東京都 漢字かな交じり文 カタカナ ﾊﾝｶｸ 𠮷野家 一二三 ㊗ 、。「」 １２３".split(),
    "hangul": "안녕하세요 세계 한국어 ㄱㄴㄷ 각 서울특별시".split(),
    "other": "საქართველო Հայաստան አማርኛ မြန်မာ ខ្មែរ ລາວ བོད ᠮᠣᠩᠭᠣᠯ ᚠᚢᚦ 𐍈𐌰 𝓗𝓮𝓵𝓵𝓸 ①②③ Ⅷ ½ ² ℵ".split(),
    "emoji": "😀 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 🇯🇵🇫🇷 ❤️ ☃ 1️⃣ 🧑🏿‍🚀 🫠 ✈️".split(),
    "combining": ["e\u0301", "a\u0308\u0323", "n\u0303o", "Z\u0351\u036b\u0343a\u0338l\u0321g\u0322o", "\u0301", "o\u0302\u0301n"],
    "digits": "0 7 42 007 1234 3.14159 1,000,000 -12 1e-9 0xDEADBEEF 2024-02-29 23:59:60 50% 192.168.0.1 12345678901234567890".split(),
    "code": ["int main(void) {", "return x->y[i++] != 0;", "#include <stdio.h>", "def f(self, *a, **k):", "    yield None", "\tif (a && b || !c)",
             "SELECT * FROM t WHERE id='1';--", "<div class=\"x\">&nbsp;</div>", "{\"a\": [1, 2, null]}", "a = b if c else d", "// ----", "/* ** */",
             "$HOME/.config", "x=$(ls -la | grep '^d')", "lambda: 0", "template<typename T>", "0b1010 ^ ~mask", "```python\n", "\\frac{1}{2}", "f'{x!r:>10}'"],
    "url": ["https://example.com/a?b=c&d=%20#e", "mailto:who@example.org", "ftp://[::1]:21/", "www.example.net/~x/index.html", "/usr/lib/x86_64"],
    "contractions": "don't I'll we've they're it's I'm he'd DON'T I'LL WE'VE y'all 'tis 'S 's 't 're 'd' rock'n'roll l'été ’s it’s".split(),
    "punctuation": ["!!!", "...", "…", "?!", "—", "«»", "“quoted”", "(a)", "[]{}", "***", "---", "====", "~~~", "@#$%^&*", "№", "€100", "¿Qué?", "•", "→", "_a_", "`x`", "|", "\"", "'", "''", "\"'\""],
    "markers": ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<|im_start", "im_end|>", "<|", "|>", "<file_sep>", "<empty_output>"],
}
SPACES = [" ", "  ", "   ", "    ", "        ", "\n", "\n\n", "\n\n\n", "\t", "\t\t", "\r\n", "\r", " \n", "\n ", "\n  ", " \t ", "\u00a0", "\u00a0\u00a0", " \u00a0",
          "\u2003", "\u3000", "\u2028", "\u2029", "\u0085", "\u1680", "\u202f", "\u205f", "\v", "\f", "\u180e", "\u200b", "\ufeff", "\u2060", " \u200d", "\x1c", "\x1f"]
CONTROLS = [chr(c) for c in range(1, 32)] + ["\x00", "\x7f", "\x80", "\x9f", "\u00ad", "\u200e", "\u202e", "\ufffd", "\ufffe", "\ue000", "\U000f0000", "\U0010ffff"]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>", "<gh_stars>", "<issue_start>",
           "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>", "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>"]
# Letters, marks and numbers of single blocks, assigned long before any Unicode version in use.
RANGES = [(0x21, 0x7e), (0xa1, 0x17f), (0x391, 0x3a1), (0x3a3, 0x3ff), (0x400, 0x4ff), (0x5d0, 0x5ea), (0x621, 0x64a), (0x905, 0x939), (0xe01, 0xe3a),
          (0x3041, 0x3096), (0x30a1, 0x30fa), (0x4e00, 0x9fa5), (0xac00, 0xd7a3), (0x2200, 0x22ff), (0x2500, 0x257f), (0x1f600, 0x1f64f), (0x300, 0x36f)]


def word(r):
    kind = r.random()
    if kind < 0.80:
        return r.choice(SCRIPTS[r.choice(sorted(SCRIPTS))])
    if kind < 0.90:
        low, high = r.choice(RANGES)
        return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 4)))
    if kind < 0.94:
        return r.choice(CONTROLS)
    if kind < 0.97:
        return r.choice("ab1 \n-=.é中") * r.randint(2, 40)
    return r.choice(SCRIPTS["latin"]).upper()


def text(r, words):
    out = []
    for _ in range(words):
        if r.random() < 0.7:
            out.append(" " if r.random() < 0.5 else r.choice(SPACES))
        out.append(word(r))
    if r.random() < 0.25:
        out.append(r.choice(SPACES))
    return "".join(out)


def plain_cases():
    r = random.Random(20240229)
    cases = ["", " ", "  ", "\n", "\t", "a", "é", "中", "😀", "\x00"]
    for name in sorted(SCRIPTS):
        cases += SCRIPTS[name]
        cases.append(" ".join(SCRIPTS[name][:6]))
    for s in SPACES + CONTROLS:
        cases += [s, "a" + s + "b", s + "a", "1" + s + s + "."]
    cases = list(dict.fromkeys(cases))
    while len(cases) < 2000:
        s = text(r, r.choice([1, 2, 2, 3, 3, 4, 5, 6]))
        if s not in cases:
            cases.append(s)
    return cases


def special_cases():
    r = random.Random(7)
    cases = list(SPECIAL)
    cases += ["<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|im_start|><|im_start|>", "a<|im_end|>", " <|im_end|> ", "<|im_end|", "<<|im_end|>>",
              "<|im_start<|im_end|>|>", "12<|im_end|>34", "  <file_sep>  x"]
    while len(cases) < 110:
        s = ""
        for _ in range(r.randint(1, 4)):
            s += r.choice(["", text(r, 1), text(r, 2)]) + r.choice(SPECIAL + ["<|im_", "|>", "<"])
        cases.append(s + r.choice(["", text(r, 1)]))
    return cases


def tokenize(server, content, special):
    body = json.dumps({"content": content, "add_special": False, "parse_special": special}).encode()
    request = urllib.request.Request(server + "/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)["tokens"]


def main():
    server = sys.argv[1]
    groups = {"plain": (plain_cases(), False), "special": (special_cases(), True)}
    print("{")
    for i, (name, (cases, special)) in enumerate(groups.items()):
        lines = [json.dumps([c, tokenize(server, c, special)], ensure_ascii=False, separators=(",", ":")) for c in cases]
        print(f'"{name}":[\n' + ",\n".join(lines) + "\n]" + ("," if i + 1 < len(groups) else ""))
    print("}")


main()
