# SPDX-License-Identifier: Apache-2.0
"""hobctl import of decoders, Llama and Qwen 2, held against the GGUF project's own package and against what hob makes of the
result; and what it refuses of them. The models are tiny and made here."""
import json

import gguf
import numpy as np
import pytest
from hf_folder import check_refused, drop, keys_of, set_key, tensor, write_folder

LAYERS, WIDTH, FF, HEADS, KV_HEADS, HEAD = 2, 128, 96, 4, 2, 32
SPECIAL = ["<|begin_of_text|>", "<|end|>", "<tool>"]
MERGES = [["Ġ", "t"], ["h", "e"], ["Ġt", "he"]]


def byte_words():
    """GPT-2's alphabet, by byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(others)) for b in range(256)]


WORDS = byte_words() + ["".join(m) for m in MERGES]
VOCAB = len(WORDS) + len(SPECIAL) + 2  # two rows without a token


def tensors_of(arch, tied):
    random = np.random.default_rng(2)
    shapes = {"model.embed_tokens.weight": (VOCAB, WIDTH), "model.norm.weight": (WIDTH,)}
    if not tied:
        shapes["lm_head.weight"] = (VOCAB, WIDTH)
    q, kv = HEADS * HEAD, KV_HEADS * HEAD
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        shapes |= {f"{layer}input_layernorm.weight": (WIDTH,), f"{layer}post_attention_layernorm.weight": (WIDTH,),
                   f"{layer}self_attn.q_proj.weight": (q, WIDTH), f"{layer}self_attn.k_proj.weight": (kv, WIDTH),
                   f"{layer}self_attn.v_proj.weight": (kv, WIDTH), f"{layer}self_attn.o_proj.weight": (WIDTH, q),
                   f"{layer}mlp.gate_proj.weight": (FF, WIDTH), f"{layer}mlp.up_proj.weight": (FF, WIDTH), f"{layer}mlp.down_proj.weight": (WIDTH, FF)}
        if arch == "qwen2":
            shapes |= {f"{layer}self_attn.{n}_proj.bias": (size,) for n, size in (("q", q), ("k", kv), ("v", kv))}
    return {n: (random.normal(0, 0.2, shape) + n.endswith("norm.weight")).astype("<f4") for n, shape in shapes.items()}


def split(numbers):
    return (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|" + numbers + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_level(use_regex):
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def sequence(first, use_regex):
    return {"type": "Sequence", "pretokenizers": [first, byte_level(use_regex)]}


def split_step(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def documents(arch="llama"):
    llama = arch == "llama"
    begin = {"SpecialToken": {"id": SPECIAL[0], "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}]}
    return {
        "config.json": {"architectures": ["LlamaForCausalLM" if llama else "Qwen2ForCausalLM"], "model_type": arch, "hidden_act": "silu",
                        "hidden_size": WIDTH, "intermediate_size": FF, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
                        "num_key_value_heads": KV_HEADS, "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 500000.0,
                        "rope_scaling": None, "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": VOCAB,
                        "bos_token_id": 3, "eos_token_id": [len(WORDS) + 1, 5]},
        "tokenizer.json": {
            "added_tokens": [{"id": len(WORDS) + i, "content": w, "special": w == SPECIAL[0], "lstrip": False, "rstrip": False,
                              "single_word": False, "normalized": False} for i, w in enumerate(SPECIAL)],
            "normalizer": None if llama else {"type": "NFC"},
            "pre_tokenizer": sequence(split_step(split(r"\p{N}{1,3}" if llama else r"\p{N}")), False),
            "post_processor": {"type": "Sequence", "processors": [byte_level(True), template]} if llama else byte_level(False),
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": None,
                      "fuse_unk": False, "byte_fallback": False, "ignore_merges": llama, "vocab": {w: i for i, w in enumerate(WORDS)},
                      "merges": [list(m) for m in MERGES] if llama else [" ".join(m) for m in MERGES]}},
        "tokenizer_config.json": {"bos_token": SPECIAL[0], "chat_template": "{{ messages[0]['content'] }}"},
    }


def pairs(w, heads):
    """The order of rows in which llama.cpp's converter writes what is rotated."""
    return np.ascontiguousarray(w.reshape(heads, 2, -1, w.shape[1]).swapaxes(1, 2).reshape(w.shape))


def check_tensors(reader, arch, tensors, kind):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA if arch == "llama" else gguf.MODEL_ARCH.QWEN2, LAYERS)
    found = {t.name: t for t in reader.tensors}
    for name, w in tensors.items():
        t = found.pop(names.get_name(name, (".weight", ".bias")))
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            w = pairs(w, HEADS if "q_proj" in name else KV_HEADS)
        q = gguf.GGMLQuantizationType.F32 if w.ndim == 1 else gguf.GGMLQuantizationType[kind.upper()]
        assert t.tensor_type == q and list(t.shape) == list(w.shape)[::-1], t.name
        assert t.data.tobytes() == gguf.quants.quantize(w, q).tobytes(), t.name
    return found


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
@pytest.mark.parametrize("arch", ["llama", "qwen2"])
def test_decoders(hobctl, tmp_path, arch, kind):
    tensors = tensors_of(arch, False)
    folder = write_folder(tmp_path / arch, documents(arch), tensors)
    out = tmp_path / "out.gguf"
    hobctl("import", folder, "--out", out, "--type", kind)
    reader = gguf.GGUFReader(out)
    assert not check_tensors(reader, arch, tensors, kind)
    keys = keys_of(reader)
    first = len(WORDS)
    assert keys.pop("tokenizer.ggml.tokens") == [*WORDS, *SPECIAL, f"[PAD{VOCAB - 2}]", f"[PAD{VOCAB - 1}]"]
    assert keys.pop("tokenizer.ggml.token_type") == [1] * first + [3, 3, 4, 5, 5]
    assert keys == {
        "general.architecture": arch, "general.name": arch, "general.file_type": 1 if kind == "f16" else 7, "general.quantization_version": 2,
        f"{arch}.block_count": LAYERS, f"{arch}.context_length": 512, f"{arch}.embedding_length": WIDTH, f"{arch}.feed_forward_length": FF,
        f"{arch}.attention.head_count": HEADS, f"{arch}.attention.head_count_kv": KV_HEADS, f"{arch}.attention.key_length": HEAD,
        f"{arch}.attention.value_length": HEAD, f"{arch}.attention.layer_norm_rms_epsilon": np.float32(1e-6), f"{arch}.vocab_size": VOCAB,
        f"{arch}.rope.dimension_count": HEAD, f"{arch}.rope.freq_base": 500000, "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe" if arch == "llama" else "qwen2", "tokenizer.ggml.merges": [" ".join(m) for m in MERGES],
        "tokenizer.ggml.bos_token_id": first, "tokenizer.ggml.eos_token_id": first + 1, "tokenizer.ggml.add_bos_token": arch == "llama",
        "tokenizer.ggml.add_eos_token": False, "tokenizer.chat_template": "{{ messages[0]['content'] }}"}
    answer = json.loads(hobctl("generate", "--model", out, "--prompt", "the the 12", "--max-tokens", 4, "--ignore-eos", "--json").stdout)
    assert len(answer["ids"]) == 4
    assert answer["prompt_ids"] == ([first] if arch == "llama" else []) + [ord("t"), WORDS.index("he"), WORDS.index("Ġthe"),
                                                                        *(WORDS.index(c) for c in "Ġ12")]


def test_tied_tables(hobctl, tmp_path):
    """There is one table, even where a folder repeats it."""
    texts = documents()
    texts["config.json"]["tie_word_embeddings"] = True
    tensors = tensors_of("llama", True)
    one, two = tmp_path / "1.gguf", tmp_path / "2.gguf"
    hobctl("import", write_folder(tmp_path / "one", texts, tensors), "--out", one)
    hobctl("import", write_folder(tmp_path / "two", texts, tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}), "--out", two)
    assert not check_tensors(gguf.GGUFReader(one), "llama", tensors, "q8_0")
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize("newer", [False, True])
def test_scaled_frequencies(hobctl, tmp_path, newer):
    """Llama 3.1's, against the formula that was published with it."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
    texts = documents()
    if newer:
        theta = texts["config.json"].pop("rope_theta")
        texts["config.json"]["rope_parameters"] = scaling | {"rope_theta": theta}
    else:
        texts["config.json"]["rope_scaling"] = scaling
    out = tmp_path / "out.gguf"
    hobctl("import", write_folder(tmp_path / "scaled", texts, tensors_of("llama", False)), "--out", out)
    reader = gguf.GGUFReader(out)
    found, = (t.data for t in reader.tensors if t.name == "rope_freqs.weight")
    frequencies = 500000.0 ** -(np.arange(0, HEAD, 2) / HEAD)
    wavelengths = 2 * np.pi / frequencies
    smooth = (128 / wavelengths - 1) / 3
    wanted = np.where(wavelengths < 128 / 4, 1, np.where(wavelengths > 128 / 1, 8, 1 / ((1 - smooth) / 8 + smooth)))
    assert np.allclose(found, wanted, rtol=1e-6) and len(set(found.tolist())) > 2
    assert keys_of(reader)["llama.rope.freq_base"] == 500000


@pytest.mark.parametrize("pre, ignores, name", [
    (byte_level(True), False, "gpt-2"),
    (sequence({"type": "Digits", "individual_digits": True}, True), False, "smollm"),
    (sequence(split_step(split(r"\p{N}{1,3}")), False), True, "llama-bpe"),
    (sequence(split_step(split(r"\p{N}")), False), False, "qwen2"),
    (sequence(split_step(split(r"\p{N}{1,3}")), False), False, None),
    (sequence(split_step(split(r"\p{N}{1,2}")), False), False, None),
    (sequence(split_step(split(r"\p{N}")), True), False, None),
    (sequence(split_step(split(r"\p{N}")) | {"behavior": "Removed"}, False), False, None),
    (sequence(split_step(split(r"\p{N}")) | {"invert": True}, False), False, None),
    (byte_level(True) | {"add_prefix_space": True}, False, None),
    ({"type": "Whitespace"}, False, None),
])
def test_splits(hobctl, tmp_path, pre, ignores, name):
    texts = documents()
    texts["tokenizer.json"]["pre_tokenizer"] = pre
    texts["tokenizer.json"]["model"]["ignore_merges"] = ignores
    if name is None:
        check_refused(hobctl, tmp_path, texts, tensors_of("llama", False), "pre_tokenizer: supported are the splits of")
        return
    out = tmp_path / "out.gguf"
    hobctl("import", write_folder(tmp_path / "tiny", texts, tensors_of("llama", False)), "--out", out)
    assert keys_of(gguf.GGUFReader(out))["tokenizer.ggml.pre"] == name


@pytest.mark.parametrize("template, wanted", [
    ("from a file", "from a file"), (None, "the default"),
])
def test_chat_template(hobctl, tmp_path, template, wanted):
    texts = documents()
    texts["tokenizer_config.json"]["chat_template"] = [{"name": "tool_use", "template": "other"}, {"name": "default", "template": "the default"}]
    if template:
        texts["chat_template.jinja"] = template
    out = tmp_path / "out.gguf"
    hobctl("import", write_folder(tmp_path / "tiny", texts, tensors_of("llama", False)), "--out", out)
    assert keys_of(gguf.GGUFReader(out))["tokenizer.chat_template"] == wanted


def framed(*items):
    parts = [{"Sequence": {"id": "A"}} if i == "A" else {"SpecialToken": {"id": i}} for i in items]
    return set_key("tokenizer.json", "post_processor", {"type": "TemplateProcessing", "single": parts})


NORM = "model.layers.1.input_layernorm.weight"
REFUSALS = [
    (set_key("config.json", "model_type", "gemma3_text"), 'model_type: got "gemma3_text", supported: bert llama qwen2'),
    (set_key("config.json", "architectures", ["LlamaForSequenceClassification"]), "architectures: got LlamaForSequenceClassification"),
    (drop("config.json", "architectures"), "config.json: architectures: the key is missing"),
    (set_key("config.json", "hidden_act", "gelu"), 'hidden_act: got "gelu", supported is silu'),
    (set_key("config.json", "use_sliding_window", True), "use_sliding_window: got true, supported is false"),
    (set_key("config.json", "rope_scaling", {"type": "yarn", "factor": 4.0}), 'rope_scaling: got "yarn", supported are default and llama3'),
    (set_key("config.json", "rope_scaling", {"rope_type": "llama3", "factor": 8.0}), "rope_scaling: low_freq_factor: the key is missing"),
    (set_key("config.json", "head_dim", 33), "heads of 33 dimensions, allowed are even numbers"),
    (set_key("config.json", "num_key_value_heads", 5), "num_key_value_heads: got 5, allowed are 1 to 4"),
    (set_key("config.json", "num_key_value_heads", 1), "tensor model.layers.0.self_attn.v_proj.weight: got 64 x 128, config.json says 32 x 128"),
    (set_key("config.json", "rms_norm_eps", None), "rms_norm_eps: the key is missing"),
    (tensor("lm_head.weight", None), "tensor lm_head.weight: not in model.safetensors"),
    (tensor(NORM, None), f"tensor {NORM}: not in model.safetensors"),
    (tensor("model.layers.0.self_attn.q_proj.bias", np.zeros(WIDTH), "<f4"), "model.layers.0.self_attn.q_proj.bias: the architecture has no place"),
    (lambda texts, _: texts.update({"modules.json": [{"path": p, "type": f"sentence_transformers.models.{t}"} for p, t in (("", "Transformer"), ("1", "Pooling"))],
                                    "1/config.json": {"pooling_mode_cls_token": True}}), "embedding models are supported of the architecture bert"),
    (drop("tokenizer.json"), "the folder has neither tokenizer.json nor vocab.txt"),
    (lambda texts, _: texts.update({"vocab.txt": "a"}) or texts.pop("tokenizer.json") and None, "tokenizer.json: the folder has none"),
    (set_key("tokenizer.json", "model", "type", "Unigram"), 'type: got "Unigram", supported is BPE'),
    (set_key("tokenizer.json", "model", "byte_fallback", True), "byte_fallback: got true (a SentencePiece vocabulary)"),
    (set_key("tokenizer.json", "model", "end_of_word_suffix", "</w>"), 'end_of_word_suffix: got "</w>", supported is none'),
    (set_key("tokenizer.json", "normalizer", {"type": "Lowercase"}), 'type: got "Lowercase", supported is NFC'),
    (set_key("tokenizer.json", "model", "merges", 0, ["Ġ t", "x"]), "merges[0]: allowed are two texts without spaces"),
    (set_key("tokenizer.json", "model", "merges", 0, ["a"]), "merges[0]: allowed are two texts without spaces"),
    (set_key("tokenizer.json", "model", "merges", 2, "Ġt xy"), "tokenizer.ggml.merges"),
    (drop("tokenizer.json", "model", "merges"), "merges: the key is missing"),
    (set_key("tokenizer.json", "model", "vocab", "other", 33), 'id 33: both "other" and "!" have it'),
    (set_key("tokenizer.json", "added_tokens", 2, "lstrip", True), '"<tool>": lstrip: got true, supported is false'),
    (set_key("tokenizer.json", "added_tokens", 2, "id", VOCAB), f'token "<tool>": id: got {VOCAB}, allowed are 0 to {VOCAB - 1}'),
    (set_key("tokenizer_config.json", "eos_token", "</s>"), 'eos_token: "</s>" is not in the vocabulary'),
    (framed("<|end|>", "A"), 'post_processor: it adds "<|end|>", which is another token'),
    (framed(SPECIAL[0], SPECIAL[0], "A"), "post_processor: supported are ByteLevel, and TemplateProcessing with"),
    (set_key("tokenizer_config.json", "add_bos_token", "yes"), "add_bos_token: got a string, allowed is true or false"),
]


@pytest.mark.parametrize("change, message", REFUSALS, ids=[c.__name__ for c, _ in REFUSALS])
def test_refuses(hobctl, tmp_path, change, message):
    texts, tensors = documents(), tensors_of("llama", False)
    change(texts, tensors)
    check_refused(hobctl, tmp_path, texts, tensors, message)
