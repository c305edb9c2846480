# SPDX-License-Identifier: Apache-2.0
"""What is acknowledged stays: hobd is killed while it stores and makes documents, its disk becomes full, its embedding model
changes, its engine dies. Afterwards everything that was answered is there, what was completed is found, and the store is sound.

Power loss is in tests/unit/test_durability.c."""
import contextlib
import os
import random
import re
import signal
import sqlite3
import subprocess
import threading
import time

import openai
import pytest

from conftest import limited_server, openai_client, started


def documents_server(folder, var, model, embedder):
    s = limited_server(folder, var, "")
    conf = s.cwd / "var/hob.conf"
    conf.write_text(conf.read_text().replace(str(model), str(embedder)))
    return s


@pytest.fixture
def server(tmp_path, var, model, embedder):
    with started(documents_server(tmp_path, var, model, embedder)) as s:
        yield s


def text(word, paragraphs):
    return "\n\n".join(f"Paragraph {i} is about {word} and what it does to {w} things over the years of waiting."
                       for i, w in zip(range(paragraphs), ["old", "new", "red", "far"] * paragraphs))


def wait_completed(client, store, limit_s=60):
    end = time.monotonic() + limit_s
    while (counts := client.vector_stores.retrieve(store).file_counts).in_progress:
        assert time.monotonic() < end, counts
        time.sleep(0.05)
    return counts


def check_store(server, hobctl):
    """A copy of the store is sound, and the index of vectors has what its table has."""
    copy = server.cwd / "var/copy.db"
    copy.unlink(missing_ok=True)
    hobctl("store", "backup", copy, "--socket", server.cwd / "var/hob.sock")
    assert hobctl("store", "check", copy).stdout == b"ok\n"
    with contextlib.closing(sqlite3.connect(copy)) as db:
        rows, = db.execute("SELECT count(*) FROM vectors JOIN contents ON contents.id = chunk >> 20"
                           " WHERE state = 3 AND model <> ''").fetchone()
    server.wait_metric("hob_vector_index_rows", lambda n: n == rows)


class Writer(threading.Thread):
    """Uploads documents, each with a word of its own, until hobd is gone; remembers what was answered."""

    def __init__(self, server, store, number):
        super().__init__(daemon=True)
        self.server, self.store, self.number = server, store, number
        self.files, self.attached, self.deleted = {}, set(), set()

    def text(self, i):
        return f"zq{self.number}x{i}", text(f"zq{self.number}x{i}", 12 if i % 4 else 60).encode()

    def run(self):
        i = 0
        with openai_client(self.server, timeout=10) as c:
            try:
                while True:
                    i += 1
                    word, data = self.text(i)
                    f = c.files.create(file=(f"{word}.txt", data), purpose="assistants")
                    self.files[f.id] = i
                    c.vector_stores.files.create(self.store, file_id=f.id)
                    self.attached.add(f.id)
                    if i % 5 == 0:
                        gone = next(iter(self.attached))
                        self.attached.discard(gone)  # whether it went is not known until it is answered
                        self.files.pop(gone)
                        c.files.delete(gone)
                        self.deleted.add(gone)
            except openai.APIConnectionError:
                return


def kill(server):
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()


def start_again(server, rng):
    """Some of the times hobd is killed while it starts and takes up what was left, too."""
    if rng.random() < 0.1:
        with open(server.log, "ab") as out:
            server.process = subprocess.Popen([str(c) for c in server.command], stdin=subprocess.DEVNULL, stdout=out,
                                              stderr=subprocess.STDOUT, cwd=server.cwd)
        time.sleep(rng.uniform(0, 1.5))
        kill(server)
    server.start()


def check_found(client, server, hobctl, store, attached):
    """attached: words by id."""
    counts = wait_completed(client, store, 300)
    assert counts.failed == 0 and counts.completed >= len(attached)
    for f, word in attached.items():
        for ranker in ("auto", "none"):
            hits = client.vector_stores.search(store, query=word, max_num_results=50, ranking_options={"ranker": ranker})
            assert not hits.hob_by_words
            assert any(h.file_id == f and word in h.content[0].text for h in hits.data[:1 if ranker == "auto" else 50]), (ranker, word)
    check_store(server, hobctl)


def kill_and_check(server, hobctl, rng, rounds, most_s):
    """Kills hobd at random moments of concurrent ingest."""
    with openai_client(server) as c:
        store = c.vector_stores.create(name="crash").id
    files, attached, number, acknowledged = {}, {}, 0, 0
    for turn in range(1, rounds + 1):
        writers = []
        for _ in range(2):
            number += 1
            writers.append(Writer(server, store, number))
            writers[-1].start()
        time.sleep(rng.uniform(0.02, most_s))
        kill(server)
        for w in writers:
            w.join(20)
            assert not w.is_alive()
        start_again(server, rng)
        with openai_client(server) as c:
            there = {f.id for f in c.files.list()}
            inside = {f.id for f in c.vector_stores.files.list(store, limit=100)}
            for w in writers:
                acknowledged += len(w.files)
                for f, i in w.files.items():
                    files[f], data = w.text(i)
                    assert f in there and c.files.content(f).read() == data
                attached.update((f, files[f]) for f in w.attached)
                assert not w.deleted & there
            assert set(files) <= there and set(attached) <= inside
            if turn % 25 == 0 or turn == rounds:
                check_found(c, server, hobctl, store, attached)
                print(f"{turn} kills, {acknowledged} files acknowledged, none lost", flush=True)
            # The oldest go, so that the lists stay short; so does what was stored though the answer was lost.
            for f in [*list(attached)[:-20], *(there - set(files))]:
                c.files.delete(f)
                attached.pop(f, None)
                files.pop(f, None)
            for f in set(files) - set(attached):
                c.files.delete(f)
                files.pop(f)


def test_kills_during_ingest(server, hobctl):
    kill_and_check(server, hobctl, random.Random(4), rounds=5, most_s=0.8)


@pytest.mark.slow
def test_500_kills_during_ingest(server, hobctl):
    kill_and_check(server, hobctl, random.Random(5), rounds=500, most_s=1.5)


def test_an_engine_that_dies(server):
    with openai_client(server) as c:
        store = c.vector_stores.create()
        files = [c.vector_stores.files.upload(vector_store_id=store.id, file=(f"{i}.txt", text(f"zq{i}", 80).encode())) for i in range(3)]
        for _ in range(2):
            time.sleep(0.2)
            for pid in server.engines():
                os.kill(pid, signal.SIGKILL)
        assert wait_completed(c, store.id).completed == 3
        assert [r.file_id for r in c.vector_stores.search(store.id, query="zq1", max_num_results=1)] == [files[1].id]


def test_what_is_deleted_or_cancelled_on_the_way(server, hobctl):
    with openai_client(server) as c:
        store = c.vector_stores.create()
        files = [c.files.create(file=(f"{i}.txt", text(f"zq{i}", 150).encode()), purpose="assistants") for i in range(8)]
        batch = c.vector_stores.file_batches.create(store.id, file_ids=[f.id for f in files[:4]])
        c.vector_stores.file_batches.create(store.id, file_ids=[f.id for f in files[4:]])
        time.sleep(0.1)
        cancelled = c.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
        assert cancelled.status == "cancelled" and cancelled.file_counts.in_progress == 0
        c.files.delete(files[4].id)
        c.vector_stores.files.delete(files[5].id, vector_store_id=store.id)
        counts = wait_completed(c, store.id)
        assert counts.cancelled >= 2 and counts.failed == 0 and counts.total == 6
        assert {r.file_id for r in c.vector_stores.search(store.id, query="zq6 zq7 zq4 zq5", max_num_results=50)} \
            & {f.id for f in files[4:]} == {files[6].id, files[7].id}
        again = c.vector_stores.files.create_and_poll(files[3].id, vector_store_id=store.id)
        assert again.status == "completed"
    check_store(server, hobctl)


def test_another_embedding_model(tmp_path, var, model, embedder, hobctl):
    """Vectors are made anew; until they are, words find the documents."""
    s = documents_server(tmp_path, var, model, embedder)
    other = tmp_path / "other.gguf"
    data = bytearray(open(embedder, "rb").read())
    data[-1000] ^= 1  # a weight
    other.write_bytes(data)
    with started(s):
        with openai_client(s) as c:
            store = c.vector_stores.create()
            f = c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", text("zqa", 30).encode()))
            before = c.vector_stores.search(store.id, query="zqa")
            assert not before.hob_by_words
        s.stop()
        conf = s.cwd / "var/hob.conf"
        conf.write_text(conf.read_text().replace(str(embedder), str(other)))
        s.start()
        with openai_client(s) as c:
            assert c.vector_stores.files.retrieve(f.id, vector_store_id=store.id).status == "completed"
            assert [r.file_id for r in c.vector_stores.search(store.id, query="zqa", max_num_results=1)] == [f.id]
            end = time.monotonic() + 30
            while "1 documents have to be embedded anew" not in s.log_tail(1000) or \
                    c.vector_stores.files.retrieve(f.id, vector_store_id=store.id).hob_chunks_embedded != f.hob_chunks:
                assert time.monotonic() < end
                time.sleep(0.1)
            s.wait_metric("hob_documents_completed_total", lambda n: n == 1)
            after = c.vector_stores.search(store.id, query="zqa", ranking_options={"ranker": "none"})
            assert not after.hob_by_words and [r.file_id for r in after][0] == f.id


def test_a_full_disk(tmp_path, var, model, embedder):
    """Everything is refused with its reason, what is stored is read, and with room it goes on."""
    s = documents_server(tmp_path, var, model, embedder)
    folder = s.cwd / "var"
    small = tmp_path / "small"
    small.mkdir()
    conf = folder / "hob.conf"
    conf.write_text(f'store = "{small}/hob.db";\n' + re.sub(r"(?m)^store = .*\n", "", conf.read_text()))
    mount = f"mount -t tmpfs -o size=24m tmpfs {small}"
    own = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    if subprocess.run(["unshare", *own, "--mount", "sh", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    s.command = ["unshare", *own, "--mount", "sh", "-c", mount + ' && exec "$@"', "sh", *s.command]
    rng = random.Random(6)
    with started(s), openai_client(s) as c:
        store = c.vector_stores.create()
        first = c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", text("zqa", 20).encode()))
        kept, refused = [], 0
        for i in range(40):
            try:
                data = f"zqb{i} ".encode() + rng.randbytes(3 << 19)
                kept.append(c.files.create(file=(f"{i}.bin", data), purpose="user_data"))
            except openai.InternalServerError as e:
                assert e.status_code == 507 and e.code == "disk_full", e
                refused += 1
        assert len(kept) >= 5 and refused >= 10
        # What there is can be read, found, changed and deleted.
        assert c.files.content(kept[-1].id).read().startswith(b"zqb")
        assert [r.file_id for r in c.vector_stores.search(store.id, query="zqa", max_num_results=1)] == [first.id]
        assert c.vector_stores.update(store.id, name="renamed").name == "renamed"
        waiting = c.vector_stores.files.create(store.id, file_id=kept[0].id)
        for f in kept[1:]:
            c.files.delete(f.id)
        end = time.monotonic() + 30
        while True:  # room comes back as the deleted is removed
            try:
                last = c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("z.txt", text("zqz", 20).encode()))
                break
            except openai.InternalServerError as e:
                assert e.status_code == 507 and time.monotonic() < end, e
                time.sleep(0.2)
        assert last.status == "completed"
        assert [r.file_id for r in c.vector_stores.search(store.id, query="zqz", max_num_results=1)] == [last.id]
        assert c.vector_stores.files.poll(waiting.id, vector_store_id=store.id).status == "failed"  # it is no text
