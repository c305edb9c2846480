# SPDX-License-Identifier: Apache-2.0
"""hobctl bundle: what is made is checked to the byte and refused before anything is written; hobd is switched to it and, when
it does not get ready, back; and engines check the digest of their model."""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bundles import Maker, head_bytes, install, snapshot
from conftest import HOBD, dev_server, limited_server, started
from hf_folder import write_folder
from test_import_decoder import documents, tensors_of

CODES = {"altered": "HOB_EDIGEST", "signature": "HOB_ESIGNATURE", "format": "HOB_EFORMAT", "old": "HOB_EOLD"}


@pytest.fixture
def maker(hobctl, tmp_path):
    return Maker(hobctl, tmp_path / "made")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundles"


@pytest.fixture
def everything(maker):
    """Files of every kind."""
    return [maker.file("hob_1.0_amd64.deb"), maker.file("hob-1.0.x86_64.rpm"), maker.file("a.gguf", b"model a" * 1000),
            maker.file("b.gguf", b"model b"), maker.file("store.db", b"documents")]


def current(folder):
    return os.readlink(folder / "current")


def test_made_and_checked(hobctl, maker, everything, folder):
    bundle = maker.bundle("1.0", *everything)
    again = maker.folder / "again.bundle"
    hobctl("bundle", "make", "--out", again, "--version", "1.0", "--key", maker.key, *reversed(everything))
    assert again.read_bytes() == bundle.read_bytes()
    found = json.loads(hobctl("bundle", "verify", "--key", maker.public, "--json", bundle).stdout)
    assert found["version"] == "1.0" and found["result"] == "ok"
    assert {f["name"]: (f["bytes"], f["sha256"]) for f in found["files"]} == {
        p.name: (p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()) for p in everything}
    assert [f["kind"] for f in found["files"]] == ["package"] * 2 + ["model"] * 2 + ["collection"]
    text = hobctl("bundle", "verify", "--key", maker.public, bundle).stdout.decode()
    assert text.startswith(f"{bundle}: version 1.0") and "a.gguf" in text
    done, _ = install(hobctl, maker, bundle, folder)
    version = folder / "current"
    assert current(folder) == "1.0"
    for p in everything:
        kind = {".deb": "packages", ".rpm": "packages", ".gguf": "models", ".db": "collections"}[p.suffix]
        assert (version / kind / p.name).read_bytes() == p.read_bytes()
    assert (version / "collections").stat().st_mode & 0o777 == 0o700
    assert (version / "collections/store.db").stat().st_mode & 0o777 == 0o600
    assert (version / "models/a.gguf").stat().st_mode & 0o777 == 0o644
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "a.gguf.sha256", "b.gguf.sha256"], cwd=version / "models", check=True)
    checked = json.loads(hobctl("bundle", "verify", "--key", maker.public, "--dir", folder, "--json").stdout)
    assert checked["version"] == "1.0"
    (version / "models/b.gguf").write_bytes(b"GGUFmodel c")
    done = hobctl("bundle", "verify", "--key", maker.public, "--dir", folder, check=False)
    assert done.returncode == 1 and b"HOB_EDIGEST: b.gguf" in done.stderr


def test_what_cannot_be_made(hobctl, maker, tmp_path):
    out = tmp_path / "out.bundle"
    model = maker.file("a.gguf")
    hidden, plain = maker.folder / ".a.gguf", maker.folder / "a.txt"
    hidden.write_bytes(b"GGUF")
    plain.write_text("GGUF")
    wrong, empty, other = maker.folder / "b.gguf", maker.folder / "c.gguf", maker.folder / "same" / "a.gguf"
    wrong.write_bytes(b"not one")
    empty.write_bytes(b"")
    other.parent.mkdir()
    other.write_bytes(b"GGUF")
    for version, files, key, code in [("1", [hidden], maker.key, "EINVAL"), ("1", [plain], maker.key, "EINVAL"), ("1", [wrong], maker.key, "EFORMAT"),
                                      ("1", [empty], maker.key, "EINVAL"), ("1", [model, other], maker.key, "EINVAL"),
                                      ("../1", [model], maker.key, "EINVAL"), ("1", [maker.folder / "none.gguf"], maker.key, "ENOENT"),
                                      ("1", [model], maker.public, "EFORMAT"), ("1", [model], maker.folder / "none", "ENOENT")]:
        done = hobctl("bundle", "make", "--out", out, "--version", version, "--key", key, *files, check=False)
        assert done.returncode == 1 and f"HOB_{code}: " in done.stderr.decode(), (files, done.stderr)
    assert not out.exists() and not list(tmp_path.glob("out.bundle*"))
    done = hobctl("bundle", "keygen", maker.key, check=False)
    assert done.returncode == 1 and b"never replaced" in done.stderr


def test_refused_before_unpacking(hobctl, maker, everything, folder):
    """Each file altered in turn, truncations, another key, an older version, the same one: the folder is not touched."""
    install(hobctl, maker, maker.bundle("2.0", *everything), folder)
    before = snapshot(folder)
    bundle = maker.bundle("2.1", *everything)
    whole, head = bundle.read_bytes(), head_bytes(bundle)
    files = json.loads(hobctl("bundle", "verify", "--key", maker.public, "--json", bundle).stdout)["files"]
    stranger = Maker(hobctl, maker.folder / "stranger")
    damaged = maker.folder / "damaged.bundle"

    def refused(kind, bundle=damaged, by=maker, says=""):
        done, answer = install(hobctl, by, bundle, folder, check=False)
        assert done.returncode == 1 and answer["error"]["code"] == CODES[kind] and says in answer["error"]["message"], answer
        assert CODES[kind] in done.stderr.decode()
        assert snapshot(folder) == before

    at = head
    for f in files:
        for place in {0, f["bytes"] // 2, f["bytes"] - 1}:
            data = bytearray(whole)
            data[at + place] ^= 1
            damaged.write_bytes(data)
            refused("altered", says=f["name"])
        at += f["bytes"]
    assert at == len(whole)
    for place in (0, 9, 13, 17, 24, head - 64, head - 1):
        data = bytearray(whole)
        data[place] ^= 1
        damaged.write_bytes(data)
        done, answer = install(hobctl, maker, damaged, folder, check=False)
        assert done.returncode == 1 and answer["error"]["code"] in ("HOB_EFORMAT", "HOB_EUNSUPPORTED", "HOB_ESIGNATURE")
        assert snapshot(folder) == before
    for length in {0, 1, 23, 24, head - 64, head - 1, head, head + 1, len(whole) // 2, len(whole) - 1}:
        damaged.write_bytes(whole[:length])
        refused("format", says="truncated")
    damaged.write_bytes(whole + b"\0")
    refused("format")
    refused("signature", bundle=bundle, by=stranger, says="trusted is")
    refused("signature", bundle=stranger.bundle("2.1", *everything))
    refused("old", bundle=maker.bundle("1.9", *everything), says="installed is 2.0")
    refused("old", bundle=maker.bundle("2.0~rc1", *everything))
    refused("old", bundle=maker.bundle("2.0", *everything), says="--again")
    done, answer = install(hobctl, maker, maker.folder / "none", folder, check=False)
    assert answer["error"]["code"] == "HOB_ENOENT"
    done = hobctl("bundle", "install", "--key", maker.folder / "none.pem", "--dir", folder, bundle, check=False)
    assert done.returncode == 1 and b"HOB_ENOENT" in done.stderr and snapshot(folder) == before
    assert install(hobctl, maker, bundle, folder)[1]["before"] == "2.0"


def test_versions_in_turn(hobctl, maker, folder):
    bundles = [maker.bundle(v, maker.file("a.gguf", v.encode())) for v in ("1.9", "1.10", "1.11")]
    for b in bundles:
        install(hobctl, maker, b, folder)
    assert current(folder) == "1.11" and sorted(p.name for p in folder.iterdir()) == ["1.10", "1.11", "current"]
    rollback = ["bundle", "rollback", "--key", maker.public, "--dir", folder, "--no-restart", "--json"]
    answer = json.loads(hobctl(*rollback).stdout)
    assert (answer["version"], answer["before"], answer["ready"]) == ("1.10", "1.11", False)
    assert (folder / "current/models/a.gguf").read_bytes() == b"GGUF1.10"
    done = hobctl(*rollback, check=False)
    assert done.returncode == 1 and json.loads(done.stdout)["error"]["code"] == "HOB_ENOENT"
    assert install(hobctl, maker, bundles[2], folder)[1]["folder"] == "1.11"
    assert install(hobctl, maker, bundles[2], folder, "--again")[1]["folder"] == "1.11#2"
    assert sorted(p.name for p in folder.iterdir()) == ["1.11", "1.11#2", "current"]
    done = hobctl("bundle", "install", "--key", maker.public, "--dir", folder, "--no-restart", "--restart", "true", bundles[2], check=False)
    assert done.returncode == 1 and b"one of them" in done.stderr
    assert hobctl("bundle", check=False).returncode == 2 and hobctl("bundle", "--help").stdout
    assert hobctl("bundle", "install", check=False).returncode == 2


FAKE_DPKG = """#!/bin/sh
echo "$PWD $*" >>"$LOG"
[ -e "$BREAK" ] && rm "$BREAK" && exit 3
exit 0
"""


@pytest.mark.skipif(not os.path.exists("/usr/bin/dpkg"), reason="without dpkg packages are rpm's")
def test_packages(hobctl, maker, folder, tmp_path):
    """They are handed to dpkg in one call, from the version's own folder; when that fails, those of the version before are."""
    tools, log, broken = tmp_path / "tools", tmp_path / "log", tmp_path / "break"
    tools.mkdir()
    (tools / "dpkg").write_text(FAKE_DPKG)
    (tools / "dpkg").chmod(0o755)
    env = {"PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(log), "BREAK": str(broken)}
    bundles = [maker.bundle(v, maker.file(f"hob_{v}_amd64.deb"), maker.file(f"hob-model_{v}_all.deb"), maker.file(f"hob-{v}.x86_64.rpm"))
               for v in ("1", "2")]
    options = "--force-confdef --force-confold --install"
    install(hobctl, maker, bundles[0], folder, "--packages", env=env)
    assert log.read_text() == f"{folder}/1 {options} ./packages/hob-model_1_all.deb ./packages/hob_1_amd64.deb\n"
    log.write_text("")
    broken.write_text("")
    done, answer = install(hobctl, maker, bundles[1], folder, "--packages", check=False, env=env)
    assert done.returncode == 1 and "dpkg ended with status 3" in answer["error"]["message"], answer
    assert [line.split()[0] for line in log.read_text().splitlines()] == [f"{folder}/2", f"{folder}/1"] and current(folder) == "1"
    (folder / "1/packages/hob_1_amd64.deb").write_bytes(b"!<arch>\nother")
    install(hobctl, maker, bundles[1], folder, env=env)
    log.write_text("")
    done = hobctl("bundle", "rollback", "--key", maker.public, "--dir", folder, "--no-restart", "--packages", check=False, env=env)
    assert done.returncode == 1 and b"HOB_EDIGEST" in done.stderr and current(folder) == "2"
    assert str(folder / "1") not in log.read_text()


# ---- with a server ----

@pytest.fixture(scope="module")
def tiny(hobctl, tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    hobctl("import", write_folder(out.parent / "folder", documents(), tensors_of("llama", False)), "--out", out)
    return out


RESTART = """#!/bin/sh
# Ends the hobd that runs, waits until it is gone, and starts another.
pid=$(cat pid) && kill "$pid" && while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
setsid "$HOBD" --config var/hob.conf >>log 2>&1 </dev/null &
echo $! >pid
"""


@pytest.fixture
def box(hobctl, maker, tmp_path, tiny):
    """A hobd that serves the current bundle's model, and what restarts it."""
    place = tmp_path / "box"
    place.mkdir()
    (place / "restart").write_text(RESTART)
    env = {"HOBD": str(HOBD)}
    first = maker.bundle("1", shutil.copy(tiny, maker.folder / "m.gguf"))
    install(hobctl, maker, first, place / "bundles")
    hobctl("setup", "--dir", place / "var", "--model", place / "bundles/current/models/m.gguf", "--port", "1", cwd=place)
    conf = place / "var/hob.conf"
    text = conf.read_text().replace("port = 1;", "port = 0;").replace(str((place / "bundles/1").resolve()), str(place / "bundles/current"))
    assert "bundles/current/models/m.gguf" in text
    conf.write_text(text.replace("path =", 'device = "cpu"; threads = 1; path ='))
    (place / "pid").write_text("")
    subprocess.run(["sh", "restart"], cwd=place, env={**os.environ, **env}, check=True)
    yield place
    pid = int((place / "pid").read_text())
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        for _ in range(500):
            os.kill(pid, 0)
            time.sleep(0.02)
        os.kill(pid, signal.SIGKILL)


def test_ready_or_back(hobctl, maker, box, tiny):
    """One that loads is in use once hobd is ready; after one that does not, the one before is, and hobd is ready with it."""
    def update(version, content, seconds):
        (maker.folder / "m.gguf").write_bytes(content)
        return install(hobctl, maker, maker.bundle(version, maker.folder / "m.gguf"), box / "bundles", "--ready-s", seconds, "--socket",
                       "var/hob.sock", check=False, restart=["--restart", "sh restart"], cwd=box, env={"HOBD": str(HOBD)})

    def loaded():
        return json.loads(hobctl("status", "--json", "--socket", "var/hob.sock", cwd=box).stdout)["models"][0]["state"]

    done, answer = update("2", tiny.read_bytes() + b"\0" * 32, 60)
    assert done.returncode == 0 and answer["ready"] and answer["before"] == "1", (answer, (box / "log").read_text())
    assert current(box / "bundles") == "2" and loaded() == "ready"
    pid = (box / "pid").read_text()
    done, answer = update("3", b"GGUF, but nothing that can be loaded", 2)
    assert done.returncode == 1 and "not ready after 2 s" in answer["error"]["message"], answer
    assert "2 is in use again" in answer["error"]["message"]
    assert current(box / "bundles") == "2" and loaded() == "ready" and (box / "pid").read_text() != pid
    assert "GGUF" in (box / "log").read_text()


def test_a_restart_that_does_nothing(hobctl, maker, box, tiny):
    """The hobd that ran before is no sign of readiness."""
    (maker.folder / "m.gguf").write_bytes(tiny.read_bytes())
    deadline = time.monotonic() + 60
    while json.loads(hobctl("status", "--json", "--socket", "var/hob.sock", cwd=box, check=False).stdout or "{}").get("state") != "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done, answer = install(hobctl, maker, maker.bundle("2", maker.folder / "m.gguf"), box / "bundles", "--ready-s", "1", "--socket",
                           "var/hob.sock", check=False, restart=["--restart", "true"], cwd=box)
    assert done.returncode == 1 and "it was not restarted" in answer["error"]["message"] and current(box / "bundles") == "1"
    done, answer = install(hobctl, maker, maker.bundle("2", maker.folder / "m.gguf"), box / "bundles", "--ready-s", "1",
                           check=False, restart=["--restart", "exit 9"], cwd=box)
    assert done.returncode == 1 and "status 9" in answer["error"]["message"] and current(box / "bundles") == "1"


def test_the_digest_of_a_model(tmp_path, var, model, hobctl):
    """hob.conf's counts before that of the file beside the model; a model with another one is not used."""
    good = hashlib.sha256(Path(model).read_bytes()).hexdigest()
    bad = "0" * 63 + "1"
    link = tmp_path / "linked.gguf"
    link.symlink_to(model)
    beside = tmp_path / "linked.gguf.sha256"
    beside.write_text(f"{bad}  linked.gguf\n")
    server = dev_server(tmp_path, link)
    with pytest.raises(AssertionError, match="hobd ended with 1"):
        with started(server):
            pass
    assert f"linked.gguf: its SHA-256 is {good}, wanted is {bad}" in server.log_tail()
    beside.write_text("?\n")
    with pytest.raises(AssertionError, match="64 hexadecimal digits"):
        with started(dev_server(tmp_path, link)):
            pass
    beside.write_text(f"{good.upper()}  linked.gguf\n")
    with started(dev_server(tmp_path, link)) as s:
        assert s.get("/readyz")[0] == 200
    beside.write_text(f"{bad}  linked.gguf\n")
    server = limited_server(tmp_path, var, "", f'sha256 = "{good}";')
    conf = tmp_path / "var/hob.conf"
    text = conf.read_text().replace(os.path.realpath(model), str(link))
    assert str(link) in text
    conf.write_text(text)
    with started(server) as s:
        assert s.get("/readyz")[0] == 200
    conf.write_text(text.replace(good, good[:63]))
    done = subprocess.run([HOBD, "--config", conf], stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 1 and b"64 hexadecimal digits are allowed" in done.stderr
    conf.write_text(text.replace(good, bad))
    with open(tmp_path / "refused.log", "wb") as out:
        process = subprocess.Popen([HOBD, "--config", conf], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while f"wanted is {bad}" not in (tmp_path / "refused.log").read_text():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        assert json.loads(hobctl("status", "--json", "--socket", tmp_path / "var/hob.sock").stdout)["models"][0]["state"] != "ready"
    finally:
        process.terminate()
        process.wait(60)
