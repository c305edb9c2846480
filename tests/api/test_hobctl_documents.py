# SPDX-License-Identifier: Apache-2.0
"""hobctl ingest, search and store against a running server: what is sent and what is not, what takes the place of what, what an
interrupted run leaves, and copies of the store that are put back."""
import json
import os
import signal
import subprocess
import time

import pytest

from conftest import HOBCTL, limited_server, openai_client, started


@pytest.fixture(scope="module")
def server(tmp_path_factory, var):
    """Without a model that embeds: words decide."""
    with started(limited_server(tmp_path_factory.mktemp("commands"), var, "", tenants=("anna", "ben"))) as s:
        yield s


@pytest.fixture
def env(server):
    return {"HOB_URL": server.url, "HOB_API_KEY": "hob_anna", "HOB_CACERT": str(server.ca)}


@pytest.fixture
def folder(tmp_path):
    """Two files to be found, and others that are none."""
    (tmp_path / "notes/deep").mkdir(parents=True)
    (tmp_path / "notes/a.md").write_text("# Harbour\n\nThe crane lifts nine tons.\n")
    (tmp_path / "notes/deep/b.txt").write_text("The gulls follow the tide.\n")
    (tmp_path / "notes/.hidden.txt").write_text("nobody sees this\n")
    (tmp_path / "notes/deep/loop").symlink_to(tmp_path / "notes")
    return tmp_path / "notes"


def ingest(hobctl, env, *args, **options):
    done = hobctl("ingest", "--json", *args, env=env, **options)
    return json.loads(done.stdout)


def test_folders_patterns_and_what_has_changed(server, hobctl, env, folder):
    store = ["--store", "notes"]
    first = ingest(hobctl, env, *store, folder)
    assert {k: first[k] for k in ("files", "ingested", "unchanged", "failed")} == {"files": 2, "ingested": 2, "unchanged": 0, "failed": 0}
    with openai_client(server, "hob_anna") as c:
        files = lambda: {f.hob_filename: f.id for f in c.vector_stores.files.list(first["vector_store_id"])}
        before = files()
        assert set(before) == {"a.md", "b.txt"}
        assert ingest(hobctl, env, *store, folder, folder / "a.md", f"{folder}/*/b.*")["unchanged"] == 2
        assert files() == before
        (folder / "a.md").write_text("# Harbour\n\nThe crane lifts eleven tons.\n")
        assert ingest(hobctl, env, *store, folder)["ingested"] == 1
        after = files()
        assert after["b.txt"] == before["b.txt"] and after["a.md"] != before["a.md"]
        assert {f.id for f in c.files.list()} == set(after.values())
    found = hobctl("search", *store, "How many tons does the crane lift?", env=env).stdout.decode()
    assert found.startswith("1. a.md (") and "eleven tons" in found and "nine" not in found
    assert hobctl("ingest", *store, folder / "none.txt", env=env, check=False).returncode == 1
    assert hobctl("ingest", *store, f"{folder}/*.pdf", env=env, check=False).returncode == 1
    assert hobctl("search", "--store", "notes", "crane", env={**env, "HOB_API_KEY": "hob_ben"}, check=False).returncode == 1


def test_a_file_that_cannot_be_used(server, hobctl, env, folder):
    (folder / "bad.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "empty.txt").write_text("")
    done = hobctl("ingest", "--store", "bad", folder, env=env, check=False)
    assert done.returncode == 1 and b"bad.bin" in done.stderr and b"empty.txt" in done.stderr
    with openai_client(server, "hob_anna") as c:
        store = next(s for s in c.vector_stores.list() if s.name == "bad")
        assert sorted(f.hob_filename for f in c.vector_stores.files.list(store.id)) == ["a.md", "b.txt"]


@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.3])
def test_an_interrupted_run_leaves_nothing_loose(server, hobctl, env, folder, delay_s):
    """What was sent is in the vector store, so that the next run does not send it again."""
    env = {**env, "HOB_API_KEY": "hob_ben"}
    for i in range(30):
        (folder / f"{i:02}.txt").write_text(f"Number {i} {delay_s}.\n")
    run = subprocess.Popen([HOBCTL, "ingest", "--store", "slow", folder], env={**os.environ, **env}, stderr=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL)
    time.sleep(delay_s)
    run.send_signal(signal.SIGINT)
    run.wait(60)
    with openai_client(server, "hob_ben") as c:
        stores = [s.id for s in c.vector_stores.list() if s.name == "slow"]
        attached = {f.id for s in stores for f in c.vector_stores.files.list(s, limit=100)}
        assert {f.id for f in c.files.list()} == attached
        again = ingest(hobctl, env, "--store", "slow", folder)
        assert again["unchanged"] == len(attached) and again["ingested"] == 32 - len(attached)
        for f in c.files.list():
            c.files.delete(f.id)


def test_copies_of_the_store(server, hobctl, env, folder, tmp_path):
    socket, copy, store = server.cwd / "var/hob.sock", tmp_path / "copy.db", server.cwd / "var/hob.db"
    ingest(hobctl, env, "--store", "kept", folder)
    assert hobctl("store", "backup", copy, "--socket", socket).stdout == b"complete\n" and copy.stat().st_mode & 0o777 == 0o600
    assert hobctl("store", "backup", copy, "--socket", socket, check=False).returncode == 1  # it is there
    assert hobctl("store", "check", "--socket", socket).stdout == b"ok\n" and hobctl("store", "check", copy).stdout == b"ok\n"
    assert hobctl("store", "restore", copy, store, check=False).returncode == 1  # it is in use
    (folder / "later.txt").write_text("A lantern that came later.\n")
    ingest(hobctl, env, "--store", "kept", folder)
    server.stop()
    assert hobctl("store", "restore", copy, store).stdout == b"restored\n"
    server.start()
    names = lambda: [f.filename for f in c.files.list()]
    with openai_client(server, "hob_anna") as c:
        assert "later.txt" not in names() and "b.txt" in names()
    assert ingest(hobctl, env, "--store", "kept", folder)["ingested"] == 1


def test_more_files_than_connections(tmp_path, var, hobctl):
    """A server lets in so many connections of an address a second; the rest of the files are sent when it does again."""
    (tmp_path / "many").mkdir()
    for i in range(24):
        (tmp_path / f"many/{i}.txt").write_text(f"Lantern {i}.\n")
    with started(limited_server(tmp_path, var, "handshakes_per_s = 8;", tenants=("anna",))) as s:
        env = {"HOB_URL": s.url, "HOB_API_KEY": "hob_anna", "HOB_CACERT": str(s.ca)}
        done = ingest(hobctl, env, "--store", "many", tmp_path / "many")
        assert (done["ingested"], done["failed"]) == (24, 0)
