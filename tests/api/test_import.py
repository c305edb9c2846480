# SPDX-License-Identifier: Apache-2.0
"""hobctl import: what becomes of a Hugging Face folder, held against the GGUF project's own package (names and quantization),
and how it refuses. The folder is a tiny sentence-transformers model made here, and the real all-MiniLM-L6-v2."""
import hashlib
import json
import os
import resource
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
from conftest import HOBCTL, ROOT
from hf_folder import check_refused, drop, keys_of, read_safetensors, set_key, tensor, write_folder, write_safetensors

LAYERS, WIDTH, FF, POSITIONS = 2, 64, 96, 24
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##s", "##é", "é", "#"]
SPECIAL = WORDS[:5]
VOCAB = len(WORDS) + 1  # the table has a row without a token
NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, LAYERS)


def bert_tensors(seed=1):
    random = np.random.default_rng(seed)
    shapes = {"embeddings.word_embeddings.weight": (VOCAB, WIDTH), "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
              "embeddings.token_type_embeddings.weight": (2, WIDTH), "pooler.dense.weight": (WIDTH, WIDTH), "pooler.dense.bias": (WIDTH,)}
    norms = ["embeddings.LayerNorm"]
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}."
        dense = {"attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH), "attention.self.value": (WIDTH, WIDTH),
                 "attention.output.dense": (WIDTH, WIDTH), "intermediate.dense": (FF, WIDTH), "output.dense": (WIDTH, FF)}
        for name, shape in dense.items():
            shapes |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
        norms += [f"{layer}attention.output.LayerNorm", f"{layer}output.LayerNorm"]
    for name in norms:
        shapes |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
    tensors = {name: random.normal(0, 0.3, shape).astype("<f4") for name, shape in shapes.items()}
    tensors["embeddings.position_ids"] = np.arange(POSITIONS, dtype="<i8").reshape(1, -1)
    return tensors


def documents():
    """The text files of the tiny model, by name."""
    special = [{"id": WORDS.index(w), "content": w, "special": True, "normalized": False} for w in SPECIAL]
    return {
        "config.json": {"_name_or_path": "/home/someone/models/tiny-bert", "architectures": ["BertModel"], "model_type": "bert",
                        "hidden_act": "gelu", "hidden_size": WIDTH, "intermediate_size": FF, "layer_norm_eps": 1e-12,
                        "max_position_embeddings": POSITIONS, "num_attention_heads": 4, "num_hidden_layers": LAYERS,
                        "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": VOCAB, "torch_dtype": "float32"},
        "tokenizer.json": {
            "version": "1.0", "truncation": None, "added_tokens": special,
            "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing", "single": [
                {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                      "vocab": {w: i for i, w in enumerate(WORDS)}}},
        "tokenizer_config.json": {"do_lower_case": True, "strip_accents": None, "model_max_length": 512, "mask_token": {"content": "[MASK]"}},
        "modules.json": [{"idx": i, "path": path, "type": f"sentence_transformers.models.{kind}"} for i, (path, kind) in enumerate(
            [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])],
        "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
    }


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "tiny", documents(), bert_tensors())


def check_tensors(reader, tensors, kind, context, names):
    """Every tensor of the folder has its place, and its bytes are those that gguf-py makes of it."""
    found = {t.name: t for t in reader.tensors}
    for name, w in tensors.items():
        if "pooler" in name or "position_ids" in name:
            continue
        t = found.pop(names.get_name(name, (".weight", ".bias")))
        stays = w.ndim == 1 or t.name in ("position_embd.weight", "token_types.weight")
        q = gguf.GGMLQuantizationType.F32 if stays else gguf.GGMLQuantizationType[kind.upper()]
        w = w[:context] if t.name == "position_embd.weight" else w
        assert t.tensor_type == q and list(t.shape) == list(w.shape)[::-1], t.name
        assert t.data.tobytes() == gguf.quants.quantize(w, q).tobytes(), t.name
    assert not found


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_bert(hobctl, folder, tmp_path, kind):
    out = tmp_path / "out.gguf"
    done = hobctl("import", folder, "--out", out, "--type", kind)
    assert f"{out}: bert, 37 tensors, ".encode() in done.stdout and b"contexts of 16 tokens" in done.stdout
    found = gguf.GGUFReader(out)
    assert keys_of(found) == {
        "general.architecture": "bert", "general.name": "tiny-bert", "general.file_type": 1 if kind == "f16" else 7,
        "general.quantization_version": 2, "bert.block_count": LAYERS, "bert.context_length": 16, "bert.embedding_length": WIDTH,
        "bert.feed_forward_length": FF, "bert.attention.head_count": 4, "bert.attention.layer_norm_epsilon": np.float32(1e-12),
        "bert.attention.causal": False, "bert.pooling_type": 1, "tokenizer.ggml.token_type_count": 2, "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": [*SPECIAL, "▁hello", "▁world", "s", "é", "▁é", "▁#", f"[PAD{VOCAB - 1}]"],
        "tokenizer.ggml.token_type": [3] * 5 + [1] * 6 + [5], "tokenizer.ggml.unknown_token_id": 1, "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0, "tokenizer.ggml.cls_token_id": 2, "tokenizer.ggml.mask_token_id": 4,
        "tokenizer.ggml.bos_token_id": 2, "tokenizer.ggml.normalizer.lowercase": True, "tokenizer.ggml.normalizer.strip_accents": True}
    check_tensors(found, bert_tensors(), kind, 16, NAMES)


def test_options(hobctl, folder, tmp_path):
    out = tmp_path / "out.gguf"
    told = json.loads(hobctl("import", folder, "--out", out, "--name", "größer", "--json").stdout)
    assert 0 < told.pop("tensor_bytes") < out.stat().st_size
    assert told == {"file": str(out), "architecture": "bert", "tensors": 37, "context_tokens": 16}
    keys = keys_of(gguf.GGUFReader(out))
    assert keys["general.name"] == "größer" and keys["general.file_type"] == 7
    assert hobctl("import", "--out", out, check=False).returncode == 2
    assert hobctl("import", folder, folder, "--out", out, check=False).returncode == 2
    assert hobctl("import", folder, check=False).returncode == 2
    done = hobctl("import", tmp_path / "no", "--out", out, check=False)
    assert done.returncode == 1 and b"/no: not a folder: No such file or directory" in done.stderr
    assert b"out.gguf: not a folder" in hobctl("import", out, "--out", out, check=False).stderr
    done = hobctl("import", folder, "--out", out, "--type", "q4_0", check=False)
    assert done.returncode == 2 and b"allowed: q8_0|f16" in done.stderr


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_is_reproducible(hobctl, folder, tmp_path):
    """Neither the place, nor the time, nor the order of anything in the folder's files is in the result; shards or not."""
    one, two, three = (tmp_path / f"{n}.gguf" for n in (1, 2, 3))
    hobctl("import", folder, "--out", one)
    other = tmp_path / "elsewhere" / "under another name"
    other.parent.mkdir()
    turned = {k: dict(reversed(v.items())) if isinstance(v, dict) else v for k, v in documents().items()}
    turned["tokenizer.json"]["model"]["vocab"] = dict(reversed(turned["tokenizer.json"]["model"]["vocab"].items()))
    tensors = dict(reversed(bert_tensors().items()))
    write_folder(other, turned, tensors)
    os.utime(other / "model.safetensors", (1, 1))
    hobctl("import", other, "--out", two, cwd=other)
    assert digest(one) == digest(two)

    (other / "model.safetensors").unlink()
    shards = {n: f"model-0000{1 + i % 3}-of-00003.safetensors" for i, n in enumerate(tensors)}
    for file in set(shards.values()):
        write_safetensors(other / file, {n: w for n, w in tensors.items() if shards[n] == file})
    (other / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": shards}))
    hobctl("import", other, "--out", three)
    assert digest(one) == digest(three)
    assert sorted(p.name for p in tmp_path.glob("*.gguf*")) == ["1.gguf", "2.gguf", "3.gguf"]


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_weights(hobctl, folder, tmp_path, dtype):
    out = tmp_path / "out.gguf"
    tensors = bert_tensors()
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    hobctl("import", folder, "--out", out)
    rounded = {n: w.astype("<f2").astype("<f4") if dtype == "F16" else (w.view("<u4") & 0xffff0000).view("<f4")
               for n, w in tensors.items() if w.dtype == np.float32}
    check_tensors(gguf.GGUFReader(out), rounded, "q8_0", 16, NAMES)


def test_spellings(hobctl, tmp_path):
    """A model for masked words with early names, its transformer in a folder of its own, vocab.txt, CLS pooling, no limit."""
    texts = documents()
    texts["config.json"]["architectures"] = ["BertForMaskedLM"]
    texts["modules.json"][0]["path"] = "0_Transformer"
    texts["1_Pooling/config.json"] |= {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    texts["tokenizer_config.json"] = {"do_lower_case": False, "model_max_length": 1e30}
    texts["vocab.txt"] = "\n".join(WORDS) + "\n"
    del texts["tokenizer.json"], texts["sentence_bert_config.json"]
    inner = {f"0_Transformer/{n}": texts.pop(n) for n in ("config.json", "tokenizer_config.json", "vocab.txt")}
    tensors = bert_tensors()
    early = {"bert." + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): w for n, w in tensors.items()}
    early["cls.predictions.bias"] = np.zeros(VOCAB, "<f4")
    folder = write_folder(tmp_path / "early", texts | inner, {})
    write_safetensors(folder / "0_Transformer/model.safetensors", early)
    out = tmp_path / "out.gguf"
    hobctl("import", folder, "--out", out, "--type", "f16")
    found = gguf.GGUFReader(out)
    check_tensors(found, tensors, "f16", POSITIONS, NAMES)
    keys = keys_of(found)
    assert keys["bert.context_length"] == POSITIONS and keys["bert.pooling_type"] == 2
    assert keys["tokenizer.ggml.tokens"][5:8] == ["▁hello", "▁world", "s"]
    assert keys["tokenizer.ggml.normalizer.lowercase"] is False and keys["tokenizer.ggml.normalizer.strip_accents"] is False


def test_without_sentence_transformers(hobctl, folder, tmp_path):
    for name in ("modules.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 20}))
    out = tmp_path / "out.gguf"
    hobctl("import", folder, "--out", out)
    keys = keys_of(gguf.GGUFReader(out))
    assert keys["bert.context_length"] == 20 and keys["bert.pooling_type"] == 1


def test_newer_sentence_transformers(hobctl, folder, tmp_path):
    """As its version 6 writes a folder: other names, and the longest input is the tokenizer's."""
    old, new = tmp_path / "old.gguf", tmp_path / "new.gguf"
    hobctl("import", folder, "--out", old)
    modules = [("base.modules.transformer", "Transformer"), ("sentence_transformer.modules.pooling", "Pooling"), ("base.modules.normalize", "Normalize")]
    texts = documents() | {"1_Pooling/config.json": {"embedding_dimension": WIDTH, "pooling_mode": "mean", "include_prompt": True},
                           "sentence_bert_config.json": {"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}}
    for module, (place, name) in zip(texts["modules.json"], modules):
        module["type"] = f"sentence_transformers.{place}.{name}"
    texts["tokenizer_config.json"]["model_max_length"] = 16
    hobctl("import", write_folder(tmp_path / "newer", texts, bert_tensors()), "--out", new)
    assert old.read_bytes() == new.read_bytes()


def test_narrow_rows_stay_f16(hobctl, tmp_path):
    """Rows that are no whole number of blocks."""
    texts = documents()
    texts["config.json"]["intermediate_size"] = FF - 1
    tensors = {n: w[..., :-1] if n.endswith("intermediate.dense.bias") or (n.endswith(".output.dense.weight") and w.shape[-1] == FF)
               else w[:-1] if n.endswith("intermediate.dense.weight") else w for n, w in bert_tensors().items()}
    folder = write_folder(tmp_path / "narrow", texts, {n: np.ascontiguousarray(w) for n, w in tensors.items()})
    out = tmp_path / "out.gguf"
    hobctl("import", folder, "--out", out)
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    assert types["blk.0.ffn_down.weight"] == "F16" and types["blk.0.ffn_up.weight"] == "Q8_0"


def poke(value):
    def change(texts, tensors):
        tensors["encoder.layer.1.attention.self.key.weight"][1, 7] = value
    change.__name__ = f"weight:{value}"
    return change


QUERY = "encoder.layer.0.attention.self.query.weight"
VOCABULARY = ("tokenizer.json", "model", "vocab")
REFUSALS = [
    (set_key("config.json", "model_type", "roberta"), 'config.json: model_type: got "roberta", supported:'),
    (drop("config.json", "model_type"), "config.json: model_type: the key is missing"),
    (set_key("config.json", "architectures", ["BertForSequenceClassification"]), "architectures: got BertForSequenceClassification"),
    (set_key("config.json", "hidden_act", "relu"), 'hidden_act: got "relu", supported is gelu'),
    (set_key("config.json", "position_embedding_type", "relative_key"), 'position_embedding_type: got "relative_key"'),
    (set_key("config.json", "is_decoder", True), "is_decoder: got true, supported is false"),
    (set_key("config.json", "hidden_size", "64"), "hidden_size: got a string, allowed is an integer"),
    (set_key("config.json", "hidden_size", -1), "hidden_size: got -1, allowed are 1 to 65536"),
    (set_key("config.json", "hidden_size", 2**80), "config.json: line 1"),
    (set_key("config.json", "num_attention_heads", 5), "hidden_size: got 64, which is no multiple of num_attention_heads 5"),
    (set_key("config.json", "num_hidden_layers", 3), "tensor encoder.layer.2.attention.self.query.weight: not in model.safetensors"),
    (set_key("config.json", "num_hidden_layers", 1), "tensor encoder.layer.1.attention.output.LayerNorm.bias: the architecture has no place for it"),
    (set_key("config.json", "vocab_size", VOCAB + 1), "tensor embeddings.word_embeddings.weight: got 12 x 64, config.json says 13 x 64"),
    (set_key("config.json", "vocab_size", 4), 'token "[MASK]": id: got 4, allowed are 0 to 3'),
    (drop("config.json", "intermediate_size"), "intermediate_size: the key is missing"),
    (set_key("config.json", "layer_norm_eps", 2), "layer_norm_eps: got 2, allowed are 1e-30 to 1"),
    (set_key("modules.json", 2, "type", "sentence_transformers.models.Dense"), "modules.json: module 2: got sentence_transformers.models.Dense"),
    (set_key("modules.json", 0, "type", "custom.Transformer"), "module 0: got custom.Transformer, supported is Transformer"),
    (set_key("modules.json", 0, "path", "../tiny"), 'module 0: path: got "../tiny", allowed is a folder\'s name'),
    (set_key("1_Pooling/config.json", "pooling_mode_cls_token", True), "1_Pooling/config.json: pooling_mode: supported are"),
    (set_key("1_Pooling/config.json", "pooling_mode_max_tokens", True), "1_Pooling/config.json: pooling_mode: supported are"),
    (set_key("1_Pooling/config.json", "pooling_mode_mean_tokens", False), "1_Pooling/config.json: pooling_mode: supported are"),
    (set_key("1_Pooling/config.json", "pooling_mode", "lasttoken"), "1_Pooling/config.json: pooling_mode: supported are"),
    (set_key("1_Pooling/config.json", "pooling_mode", ["mean", "cls"]), "1_Pooling/config.json: pooling_mode: supported are"),
    (set_key("sentence_bert_config.json", "transformer_task", "fill-mask"), 'transformer_task: got "fill-mask"'),
    (set_key("1_Pooling/config.json", "word_embedding_dimension", 65), "word_embedding_dimension: got 65, hidden_size is 64"),
    (set_key("sentence_bert_config.json", "max_seq_length", 0), "max_seq_length: got 0, allowed are 1 to"),
    (lambda texts, _: texts.update({"config_sentence_transformers.json": {"default_prompt_name": "query"}}), 'default_prompt_name: got "query"'),
    (set_key("tokenizer.json", "model", "type", "Unigram"), 'tokenizer.json: type: got "Unigram", supported is WordPiece'),
    (set_key("tokenizer.json", "model", "continuing_subword_prefix", "@@"), 'continuing_subword_prefix: got "@@"'),
    (set_key("tokenizer.json", "model", "max_input_chars_per_word", 50), "max_input_chars_per_word: got 50, allowed are 100 to 100"),
    (set_key("tokenizer.json", "model", "unk_token", "[NO]"), 'unk_token: got "[NO]", supported is [UNK]'),
    (set_key("tokenizer.json", "normalizer", "type", "NFC"), 'type: got "NFC", supported is BertNormalizer'),
    (set_key("tokenizer.json", "normalizer", None), "normalizer: the key is missing"),
    (set_key("tokenizer.json", "normalizer", "handle_chinese_chars", False), "handle_chinese_chars: got false, supported is true"),
    (set_key("tokenizer.json", "normalizer", "lowercase", False), "do_lower_case or strip_accents: other than the normalizer's"),
    (set_key("tokenizer.json", "post_processor", "single", 2, "SpecialToken", "id", "[PAD]"), "post_processor: supported is [CLS], the text, [SEP]"),
    (set_key("tokenizer.json", "post_processor", "single", []), "post_processor: supported is [CLS], the text, [SEP]"),
    (set_key("tokenizer.json", "added_tokens", 0, "special", False), '"[PAD]": supported are special tokens only'),
    (set_key(*VOCABULARY, "hello", VOCAB), 'token "hello": id: got 12, allowed are 0 to 11'),
    (set_key(*VOCABULARY, "hello", "5"), 'token "hello": id: got 0, allowed are 0 to 11'),
    (set_key(*VOCABULARY, "again", 5), 'id 5: both "again" and "hello" have it'),
    (set_key("tokenizer_config.json", "cls_token", "[NO]"), "post_processor: supported is [NO], the text, [SEP]"),
    (lambda texts, _: texts.update({"config.json": "{\"a\": 1, \"a\": 1}"}), "config.json: line 1 column 12: duplicate object key"),
    (lambda texts, _: texts.update({"config.json": "[" * 40 + "]" * 40}), "config.json: JSON nested deeper than the 32 levels allowed"),
    (lambda texts, _: texts.update({"config.json": "7"}), "config.json: line 1 column 1: '[' or '{' expected"),
    (lambda texts, _: texts.update({"tokenizer.json": "{\"model\": "}), "tokenizer.json: line 1"),
    (tensor(QUERY, None), f"tensor {QUERY}: not in model.safetensors"),
    (tensor(QUERY, np.zeros((WIDTH, WIDTH - 1)), "<f4"), f"model.safetensors: tensor {QUERY}: got 64 x 63, config.json says 64 x 64"),
    (tensor(QUERY, np.zeros(WIDTH * WIDTH), "<f4"), f"tensor {QUERY}: got 4096, config.json says 64 x 64"),
    (tensor(QUERY, np.zeros((WIDTH, WIDTH)), "<i8"), f"tensor {QUERY}: got I64, supported are F32, F16 and BF16"),
    (tensor("classifier.weight", np.zeros(3), "<f4"), "tensor classifier.weight: the architecture has no place for it"),
    (poke(np.nan), "tensor encoder.layer.1.attention.self.key.weight: element 71 is nan, which Q8_0 cannot hold"),
    (poke(-np.inf), "element 71 is -inf, which Q8_0 cannot hold"),
    (poke(1e9), "element 71 is 1e+09, which Q8_0 cannot hold"),
]


@pytest.mark.parametrize("change, message", REFUSALS, ids=[c.__name__ for c, _ in REFUSALS])
def test_refuses(hobctl, tmp_path, change, message):
    texts, tensors = documents(), bert_tensors()
    change(texts, tensors)
    check_refused(hobctl, tmp_path, texts, tensors, message)


@pytest.mark.parametrize("lines, message", [
    (WORDS + ["hello"], "vocab.txt: line 12: the token is in line 6 already"),
    (WORDS[:3] + ["", "x"], "vocab.txt: line 4: got 0 bytes"),
    (WORDS + ["a", "b"], "vocab.txt: more lines than the 12 of vocab_size"),
    (WORDS + ["a\0b"], "vocab.txt: line 12: got 3 bytes, allowed are 1 to 65535 and none that is zero"),
    (WORDS + ["\udcff"], "vocab.txt: line 12: it is not UTF-8"),
    (WORDS[1:], None),
    (WORDS[4:], 'unk_token: "[UNK]" is not in the vocabulary'),
])
def test_vocab_txt(hobctl, folder, tmp_path, lines, message):
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_bytes("\r\n".join(lines).encode("utf-8", "surrogateescape"))
    done = hobctl("import", folder, "--out", tmp_path / "out.gguf", check=False)
    if message:
        assert done.returncode == 1 and message in done.stderr.decode()
    else:  # [PAD] is not needed
        assert done.returncode == 0 and "tokenizer.ggml.padding_token_id" not in keys_of(gguf.GGUFReader(tmp_path / "out.gguf"))


@pytest.mark.parametrize("name, message", [
    ("../tiny/model.safetensors", "allowed is the name of a .safetensors file beside it"),
    ("/etc/passwd", "allowed is the name of a .safetensors file beside it"),
    (7, "allowed is the name of a .safetensors file beside it"),
    ("no.safetensors", "no.safetensors: cannot open: No such file or directory"),
    ("a.safetensors", "tensor embeddings.LayerNorm.bias: it is in b.safetensors, which the index does not say"),
])
def test_index(hobctl, folder, tmp_path, name, message):
    tensors = bert_tensors()
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "a.safetensors", tensors)
    write_safetensors(folder / "b.safetensors", {"embeddings.LayerNorm.bias": tensors["embeddings.LayerNorm.bias"], "x": np.zeros(1, "<f4")})
    shards = {n: "a.safetensors" for n in tensors} | {"embeddings.LayerNorm.bias": name, "x": "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    done = hobctl("import", folder, "--out", tmp_path / "out.gguf", check=False)
    assert done.returncode == 1 and message in done.stderr.decode() and not list(tmp_path.glob("out*"))


def test_full_disk(folder, tmp_path):
    """A limit of the process stands for a disk's: a typed error, and nothing is left."""
    out = tmp_path / "out" / "model.gguf"
    out.parent.mkdir()
    done = subprocess.run([HOBCTL, "import", folder, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)), restore_signals=False)
    assert done.returncode == 1 and b"model.gguf: cannot " in done.stderr and b"File too large" in done.stderr
    assert not list(out.parent.iterdir())


@pytest.fixture(scope="session")
def minilm():
    done = subprocess.run([ROOT / "packaging/setup/model", "minilm"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def minilm_files(hobctl, minilm, tmp_path_factory):
    """What becomes of it, by type."""
    files = {kind: tmp_path_factory.mktemp("minilm") / f"{kind}.gguf" for kind in ("f16", "q8_0")}
    for kind, out in files.items():
        hobctl("import", minilm, "--out", out, "--type", kind, "--name", "all-MiniLM-L6-v2")
    return files


def test_minilm(minilm, minilm_files):
    weights = dict(read_safetensors(minilm / "model.safetensors"))
    readers = {kind: gguf.GGUFReader(path) for kind, path in minilm_files.items()}
    for kind, reader in readers.items():
        check_tensors(reader, weights, kind, 256, gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, 6))
    keys = keys_of(readers["f16"])
    assert keys["bert.context_length"] == 256 and keys["bert.pooling_type"] == 1 and keys["bert.attention.head_count"] == 12
    words = json.loads((minilm / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = keys["tokenizer.ggml.tokens"]
    assert len(tokens) == len(words) == 30522
    for word, i in words.items():
        plain = word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        assert tokens[i] == (word if plain else word[2:] if word.startswith("##") else "▁" + word)


def test_minilm_token_ids(hobctl, minilm_files):
    """As Hugging Face's tokenizers gives them: tests/data/make_minilm_reference.py."""
    for text, ids in json.loads((ROOT / "tests/data/minilm_ids.json").read_text()):
        found = json.loads(hobctl("tokenize", "--model", minilm_files["q8_0"], "--bos", input=text.encode()).stdout)["ids"]
        assert found == ids, text
