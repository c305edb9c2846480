# SPDX-License-Identifier: Apache-2.0
"""Words that stand in prompts, answers, documents and keys alone, and where they must not turn up: in files beside the store,
in temporary folders, in what processes hold open, in logs, traces and metrics, and in core dumps, of which there are none even
where the machine makes them. A document is in the store; nothing else of what was said is anywhere."""
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest

from conftest import limited_server, openai_client
from websockets.sync.client import connect

PROMPT, DOCUMENT, KEY = b"zebraprompt", b"zebradocument", b"hob_zebrakey"
NOTES = b"# Boiler\n\nThe Hendrick valve " + DOCUMENT + b" opens at 4.2 bar.\n"
ASK = [{"role": "user", "content": f"{PROMPT.decode()}: at how many bar does the Hendrick valve open?"}]


def unlimited():
    """As on a machine that makes core dumps, as large as they get."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@pytest.fixture
def server(tmp_path, var, embedder):
    """Its working folder, its temporary folder and its store are under tmp_path, with nothing else."""
    s = limited_server(tmp_path, var, "", tenants=("zebrakey",), embedder=embedder,
                       more="traces = { sample_percent = 100; };\nretrieval = { timeout_ms = 20000; };\n")
    s.socket, s.temporary = tmp_path / "var/hob.sock", tmp_path / "tmp"
    s.temporary.mkdir()
    with open(s.log, "ab") as out:
        s.process = subprocess.Popen([str(c) for c in s.command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                     cwd=tmp_path, env={**os.environ, "TMPDIR": str(s.temporary)}, preexec_fn=unlimited)
    try:
        s.wait_ready(120)
        s.wait_metric("hob_engine_up", lambda v: v == 2)
        yield s
    finally:
        if s.process.poll() is None:
            s.process.kill()
            s.process.wait()


def say_it_all(server):
    """By every way on which something is said."""
    with openai_client(server, KEY.decode()) as c:
        store = c.vector_stores.create(name="house")
        f = c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("boiler.md", NOTES))
        assert f.status == "completed", f
        answer = c.chat.completions.create(model="default", max_tokens=8, messages=ASK, extra_body={"hob_retrieval": {"stores": ["house"]}})
        assert answer.choices[0].message.annotations
        for _ in c.chat.completions.create(model="default", max_tokens=8, messages=ASK, stream=True):
            pass
        c.completions.create(model="default", prompt=PROMPT.decode(), max_tokens=4)
        c.responses.create(model="default", input=PROMPT.decode(), max_output_tokens=4, metadata={"a": PROMPT.decode()})
        c.embeddings.create(model="embedder", input=[PROMPT.decode()])
        c.vector_stores.search(store.id, query=PROMPT.decode())
        with pytest.raises(Exception):
            c.chat.completions.create(model=PROMPT.decode(), messages=ASK)
        with pytest.raises(Exception):
            c.chat.completions.create(model="default", messages=ASK, max_tokens=10**7, user=PROMPT.decode())
    with openai_client(server, f"{KEY.decode()}ish") as stranger, pytest.raises(Exception):
        stranger.chat.completions.create(model="default", messages=ASK)
    with connect(server.url.replace("https", "wss") + "/v1/responses", ssl=server.context,
                 additional_headers={"Authorization": f"Bearer {KEY.decode()}"}) as ws:
        ws.send(json.dumps({"type": "response.create", "model": "default", "input": PROMPT.decode(), "max_output_tokens": 4}))
        while json.loads(ws.recv())["type"] not in ("response.completed", "response.incomplete"):
            pass


def processes(server):
    return [server.process.pid, *server.engines()]


def files_of(folder):
    return [p for p in Path(folder).rglob("*") if p.is_file() and not p.is_symlink()]


def opened_by(pid):
    """What a process has open that is a file, deleted ones too."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(entry)
        if target.startswith("/") and not target.startswith(("/dev/", "/proc/", "/sys/")) and not target.endswith(".gguf"):
            yield target, entry


def holds(path):
    try:
        data = path.read_bytes()
    except OSError:  # a file of another kind
        return set()
    return {canary for canary in (PROMPT, DOCUMENT, KEY) if canary in data}


def check_files(server, tmp_path):
    for path in files_of(tmp_path):
        stored = path.name.startswith("hob.db")
        assert holds(path) <= ({DOCUMENT} if stored else set()), path
    assert not files_of(server.temporary)
    for pid in processes(server):
        for target, entry in opened_by(pid):
            assert holds(entry) <= ({DOCUMENT} if Path(target).name.startswith("hob.db") else set()), (pid, target)


def test_nothing_is_left_of_what_was_said(server, tmp_path, hobctl):
    before = {folder: set(os.listdir(folder)) for folder in ("/tmp", "/var/tmp", "/dev/shm")}
    say_it_all(server)
    check_files(server, tmp_path)
    for folder, names in before.items():
        for name in set(os.listdir(folder)) - names:  # another program's, or ours
            for path in [Path(folder, name)] if Path(folder, name).is_file() else []:
                assert not holds(path), path
    told = server.get("/metrics")[1] + server.get("/hob/v1/stats")[1]
    for words in (["logs", "--lines", "10000"], ["trace", "--json"], ["audit"], ["status"], ["keys", "list"], ["usage"]):
        told += hobctl(*words, "--socket", server.socket).stdout.decode()
    names = [t["id"] for t in json.loads(hobctl("trace", "--json", "--socket", server.socket).stdout)["data"]]
    assert len(names) > 5
    for name in names:
        told += hobctl("trace", name, "--json", "--socket", server.socket).stdout.decode()
    for canary in (PROMPT, DOCUMENT, KEY):
        assert canary.decode() not in told
    assert {DOCUMENT} <= set().union(*(holds(p) for p in files_of(tmp_path)))  # the search finds what is there


def test_no_process_leaves_a_core(server, tmp_path):
    for pid in processes(server):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_CORE)
        assert soft <= 1 and hard <= 1, pid  # 1 byte: also where cores are piped to a program
    with openai_client(server, KEY.decode()) as c:
        stream = c.chat.completions.create(model="default", max_tokens=200, messages=ASK, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        for pid in server.engines():
            os.kill(pid, signal.SIGSEGV)
        server.wait_metric("hob_engine_restarts_total", lambda v: v >= 2)
        server.wait_metric("hob_engine_up", lambda v: v == 2)
        os.kill(server.process.pid, signal.SIGABRT)
        _, status = os.waitpid(server.process.pid, 0)
        server.process.returncode = -signal.SIGABRT
        assert os.WTERMSIG(status) == signal.SIGABRT and not os.WCOREDUMP(status)
        stream.close()
    time.sleep(0.2)
    assert not [p for p in files_of(tmp_path) if "core" in p.name]
    assert not files_of(server.temporary)
    for path in files_of(tmp_path):
        assert holds(path) <= ({DOCUMENT} if path.name.startswith("hob.db") else set()), path
