#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a llama model with its width zero-padded to a multiple of 256 as F32: the same function, in rows that the 256-weight
block types can quantize.

    pad_model.py IN.gguf OUT.gguf

Heads are added in whole groups, with zero weights. RMSNorm divides by the root of the mean of squares, which shrinks with
the added zeros: so norm weights are multiplied by sqrt(old / new width) and epsilon by old / new. SmolLM2: 576 to 768, 9 to
12 heads, 3 to 4 KV heads."""
import sys

import gguf
import numpy as np


def padded(a, shape):
    out = np.zeros(shape, np.float32)
    out[tuple(slice(0, n) for n in a.shape)] = a
    return out


def main(source, target):
    reader = gguf.GGUFReader(source)
    get = {f.name: f.contents() for f in reader.fields.values() if not f.name.startswith("GGUF.")}
    width, heads, kv_heads = (get["llama." + k] for k in ("embedding_length", "attention.head_count", "attention.head_count_kv"))
    dim, group = width // heads, heads // kv_heads
    new_width = -(-width // 256) * 256
    while (new_width // dim) % group or new_width % dim:
        new_width += 256
    new_heads = new_width // dim
    changed = {"llama.embedding_length": new_width, "llama.attention.head_count": new_heads,
               "llama.attention.head_count_kv": new_heads // group,
               "llama.attention.layer_norm_rms_epsilon": get["llama.attention.layer_norm_rms_epsilon"] * width / new_width}
    writer = gguf.GGUFWriter(target, "llama")
    for f in reader.fields.values():
        if f.name.startswith("GGUF.") or f.name == "general.architecture":
            continue
        kind, sub = f.types[0], f.types[1] if len(f.types) > 1 else None
        writer.add_key_value(f.name, changed.get(f.name, f.contents()), kind, sub)
    sizes = {width: new_width, heads * dim: new_heads * dim, kv_heads * dim: new_heads // group * dim}
    for t in reader.tensors:
        a = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        a = a.reshape([int(n) for n in reversed(t.shape)])
        if a.ndim == 1:
            a = a * np.float32(np.sqrt(width / new_width))
        # a vocabulary or feed-forward size is kept even if it equals one of the others
        keep = {"token_embd.weight": [0], "output.weight": [0]}.get(t.name, [0] if "ffn_gate" in t.name or "ffn_up" in t.name
                                                                    else [1] if "ffn_down" in t.name else [])
        shape = [n if i in keep else sizes[n] for i, n in enumerate(a.shape)]
        writer.add_tensor(t.name, padded(a, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
