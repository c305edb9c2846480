# SPDX-License-Identifier: Apache-2.0
"""Folders as Hugging Face's libraries store a model, made and damaged for the tests of hobctl import."""
import json
import struct

import numpy as np


def write_safetensors(path, tensors, dtype="F32"):
    """dtype: that of the floats."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, w in tensors.items():
        kind = dtype if w.dtype == np.float32 else "I64"
        if kind == "F16":
            w = w.astype("<f2")
        elif kind == "BF16":
            w = (w.view("<u4") >> 16).astype("<u2")
        raw = w.tobytes()
        header[name] = {"dtype": kind, "shape": list(w.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    raw = path.read_bytes()
    length, = struct.unpack_from("<Q", raw)
    for name, t in json.loads(raw[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + n for n in t["data_offsets"])
            yield name, np.frombuffer(raw[begin:end], {"F32": "<f4", "I64": "<i8"}[t["dtype"]]).reshape(t["shape"])


def write_folder(folder, texts, tensors):
    """texts: by name, what is not text becomes JSON. Returns the folder."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text if isinstance(text, str) else json.dumps(text))
    if tensors:
        write_safetensors(folder / "model.safetensors", tensors)
    return folder


def keys_of(reader):
    return {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}


def set_key(name, *path_and_value):
    """A change of one key in one of the folder's texts."""
    *path, last, value = path_and_value

    def change(texts, tensors):
        at = texts[name]
        for key in path:
            at = at[key]
        at[last] = value
    change.__name__ = f"{name}:{last}={str(value)[:20]}"
    return change


def drop(*path):
    """Without a key of one of the texts, or without the text."""
    def change(texts, tensors):
        at = texts
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]
    change.__name__ = f"-{path[-1]}"
    return change


def tensor(name, w, dtype=None):
    def change(texts, tensors):
        tensors.pop(name, None)
        if w is not None:
            tensors[name] = w if dtype is None else w.astype(dtype)
    change.__name__ = f"tensor:{name[-24:]}"
    return change


def check_refused(hobctl, tmp_path, texts, tensors, message):
    """A folder that is refused with the message: what was under the result's name stays, and nothing else is left."""
    folder = write_folder(tmp_path / "bad", texts, tensors)
    out = tmp_path / "out.gguf"
    out.write_text("what was there before")
    done = hobctl("import", folder, "--out", out, check=False)
    assert done.returncode == 1 and done.stdout == b"" and message in done.stderr.decode(), done.stderr.decode()
    assert out.read_text() == "what was there before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad", "out.gguf"]
