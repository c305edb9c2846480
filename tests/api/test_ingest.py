# SPDX-License-Identifier: Apache-2.0
"""What is acknowledged stays: hobd is killed while it stores and makes documents, its disk becomes full, its embedding model
changes, its engine dies. Afterwards everything that was answered is there, what was completed is found, and the store is sound."""
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import openai
import pytest

from conftest import limited_server, openai_client, started


def documents_server(folder, var, model, embedder, limits="", wrap=None):
    s = limited_server(folder, var, limits)
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


class Writer(threading.Thread):
    """Uploads documents, each with a word of its own, until hobd is gone; remembers what was answered."""

    def __init__(self, server, store, number):
        super().__init__(daemon=True)
        self.server, self.store, self.number = server, store, number
        self.files, self.attached, self.deleted = {}, set(), set()

    def run(self):
        i = 0
        with openai_client(self.server, timeout=10) as c, open(os.devnull) as _:
            try:
                while True:
                    i += 1
                    word = f"zq{self.number}x{i}"
                    f = c.files.create(file=(f"{word}.txt", text(word, 12 if i % 4 else 60).encode()), purpose="assistants")
                    self.files[f.id] = word
                    c.vector_stores.files.create(self.store, file_id=f.id)
                    self.attached.add(f.id)
                    if i % 5 == 0:
                        gone = next(iter(self.attached))
                        self.attached.discard(gone)  # whether it went is not known until it is answered
                        word = self.files.pop(gone)
                        c.files.delete(gone)
                        self.deleted.add((gone, word))
            except openai.APIConnectionError:
                return


def kill_and_check(server, hobctl, rng, rounds, most_s):
    """Kills hobd at random moments of concurrent ingest."""
    with openai_client(server) as c:
        store = c.vector_stores.create(name="crash").id
    files, attached, number = {}, set(), 0
    for _ in range(rounds):
        writers = []
        for _ in range(2):
            number += 1
            writers.append(Writer(server, store, number))
            writers[-1].start()
        time.sleep(rng.uniform(0.02, most_s))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        for w in writers:
            w.join(20)
            assert not w.is_alive()
        server.start()
        with openai_client(server) as c:
            there = {f.id for f in c.files.list()}
            inside = {f.id: f for f in c.vector_stores.files.list(store, limit=100)}
            for w in writers:
                files.update(w.files)
                attached |= w.attached
                assert not {f for f, _ in w.deleted} & there
            assert set(files) <= there and attached <= set(inside)
            for f in inside:
                files.setdefault(f, None)  # stored, but the answer was lost
            # The oldest go, so that the lists stay short.
            for f in sorted(attached)[:-20]:
                c.files.delete(f)
                attached.discard(f)
                files.pop(f)
    with openai_client(server) as c:
        counts = wait_completed(c, store, 120)
        assert counts.failed == 0 and counts.completed >= len(attached)
        for f in attached:
            if word := files[f]:
                hit = c.vector_stores.search(store, query=word, max_num_results=1).data
                assert hit and hit[0].file_id == f and word in hit[0].content[0].text, word
    hobctl("store", "check", "--socket", server.cwd / "var/hob.sock")


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
    hobctl("store", "check", "--socket", server.cwd / "var/hob.sock")


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
