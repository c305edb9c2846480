# SPDX-License-Identifier: Apache-2.0
"""Keys, bundles and folders for the tests of hobctl bundle."""
import json
import os
import struct
from pathlib import Path


class Maker:
    """A pair of keys, and bundles signed with it. Files are what their beginnings say, and no more."""

    STARTS = {".gguf": b"GGUF", ".deb": b"!<arch>\n", ".rpm": b"\xed\xab\xee\xdb", ".db": b"SQLite format 3\0"}

    def __init__(self, hobctl, folder):
        self.hobctl, self.folder, self.key = hobctl, folder, folder / "key"
        folder.mkdir(exist_ok=True)
        hobctl("bundle", "keygen", self.key)
        self.public = Path(f"{self.key}.pub")

    def file(self, name, content=b"content"):
        path = self.folder / name
        path.write_bytes(self.STARTS[path.suffix] + content)
        return path

    def bundle(self, version, *files):
        out = self.folder / f"{version}.bundle"
        self.hobctl("bundle", "make", "--out", out, "--version", version, "--key", self.key, *files)
        return out


def install(hobctl, maker, bundle, folder, *more, check=True, restart="--no-restart", **options):
    """The finished process, and the object that it has printed."""
    restarts = [restart] if isinstance(restart, str) else restart
    done = hobctl("bundle", "install", "--key", maker.public, "--dir", folder, *restarts, "--json", *more, bundle, check=check,
                  **options)
    return done, json.loads(done.stdout)


def head_bytes(bundle):
    """Of the part before the files."""
    return 24 + struct.unpack_from("<I", bundle.read_bytes()[:24], 12)[0] + 64


def snapshot(folder):
    """Everything below a folder, with what would change if somebody had made or removed a file there."""
    if not folder.exists():
        return None
    paths = [folder, *sorted(folder.rglob("*"))]
    return [(str(p), os.lstat(p).st_ino, os.lstat(p).st_mtime_ns, os.lstat(p).st_size) for p in paths]
