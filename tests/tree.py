#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules that the source tree keeps, one `ok` or `not ok` line each:

- every header compiles alone (with $HOB_CC, the compiler and its flags);
- folders depend one way, hal <- models <- daemon: no file includes upwards;
- every source file begins with the licence line;
- what libhob.a exports begins with hob_."""
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORDER = ["hal", "models", "daemon"]
COMPILER = shlex.split(os.environ.get("HOB_CC", "gcc -std=gnu11 -Wall -Wextra -I. -D_GNU_SOURCE"))
ISA_FLAGS = {"_avx2": ["-mavx2", "-mfma", "-mf16c"], "_neon": ["-march=armv8.2-a+dotprod"],
             "_avx512vnni": ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx2", "-mfma", "-mf16c"]}
failed = False


def result(good, name, why=""):
    global failed
    failed |= not good
    print(f"{'ok' if good else 'not ok'} {name}" + (f"\n{why.rstrip()}" if why and not good else ""))


def compile_header(path):
    source = f'#include "{path}"\n#include "{path}"\nint hob_header_test;\n'  # twice: its guard works
    isa = next((flags for end, flags in ISA_FLAGS.items() if path.stem.endswith(end)), [])
    r = subprocess.run([*COMPILER, *isa, "-Werror", "-fsyntax-only", "-x", "c", "-"], cwd=ROOT, input=source, text=True,
                       capture_output=True)
    return r.returncode == 0, f"{path} compiles alone", r.stderr


def main():
    sources = sorted(p.relative_to(ROOT) for d in [*ORDER, "tests"] for e in ("*.c", "*.h") for p in (ROOT / d).rglob(e))
    machine = subprocess.run([COMPILER[0], "-dumpmachine"], capture_output=True, text=True).stdout.split("-")[0]
    other = {"x86_64": ("_neon",), "aarch64": ("_avx2", "_avx512vnni")}.get(machine, tuple(ISA_FLAGS))
    headers = [p for p in sources if p.suffix == ".h" and p.parts[0] in ORDER and not p.stem.endswith(other)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for r in pool.map(compile_header, headers):
            result(*r)

    for level, folder in enumerate(ORDER):
        upwards = []
        for p in sources:
            if p.parts[0] != folder:
                continue
            for number, line in enumerate((ROOT / p).read_text().splitlines(), 1):
                m = re.match(r'\s*#\s*include\s*[<"](\w+)/', line)
                if m and m[1] in [*ORDER[level + 1:], "tests"]:
                    upwards.append(f"{p}:{number}: {line.strip()}")
        result(not upwards, f"{folder}/ includes nothing above it", "\n".join(upwards))

    bare = [str(p) for p in sources if "bench" not in p.parts and not (ROOT / p).read_text().startswith("/* SPDX-License-Identifier: Apache-2.0\n")]
    result(not bare, "every C file begins with the licence line", "\n".join(bare))

    library = Path(os.environ.get("HOB_BUILD", ROOT / "build")) / "libhob.a"
    if library.exists() and not os.environ.get("HOB_SANITIZED"):
        symbols = subprocess.run(["nm", "-g", "--defined-only", str(library)], capture_output=True, text=True, check=True).stdout
        foreign = sorted({m[1] for m in re.finditer(r"^[0-9a-f]+ [A-Z] (\S+)$", symbols, re.M) if not m[1].startswith("hob_")})
        result(not foreign, "libhob.a exports only hob_ names", "\n".join(foreign))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
