#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes type_reference.json: random blocks of each quantized type and the floats that gguf-py (the GGUF project's own
package) makes of them.

    make_type_reference.py > type_reference.json

One line a type: [name, block bytes in hex, the floats' bits in hex]. The blocks come from a fixed seed; their scales are
of a usual size, everything else is any bits."""
import json

import gguf
import numpy as np
from gguf import quants

BLOCKS = 3
# where the f16 scales lie in a block
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2],
          "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}


def main():
    random = np.random.default_rng(4)
    lines = []
    for name in list(SCALES) + ["F16", "BF16"]:
        kind = gguf.GGMLQuantizationType[name]
        length, size = gguf.GGML_QUANT_SIZES[kind]
        count = BLOCKS if name in SCALES else 64
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for at in SCALES.get(name, []):
            blocks[:, at:at + 2] = random.normal(0, 0.05, (count, 1)).astype("<f2").view(np.uint8)
        if name not in SCALES:  # finite numbers
            values = random.normal(0, 2, count).astype("<f4")
            blocks = (values.astype("<f2").view(np.uint8) if name == "F16" else values.view("<u2")[1::2].copy().view(np.uint8)).reshape(count, size)
        floats = quants.dequantize(blocks.reshape(1, -1), kind).astype("<f4").ravel()
        assert floats.size == count * length
        lines.append(json.dumps([name, blocks.tobytes().hex(), floats.view(np.uint32).byteswap().tobytes().hex()]))
    print("[\n" + ",\n".join(lines) + "\n]")


main()
