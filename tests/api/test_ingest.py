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
                    c.vector_stores.files.create(self.store, file_id=f.id, attributes={"word": word})
                    self.attached.add(f.id)
                    if i % 5 == 0:
                        gone = next(iter(self.attached))
                        self.attached.discard(gone)  # whether it went is not known until it is answered
                        self.files.pop(gone)
                        c.files.delete(gone)
                        self.deleted.add(gone)
            except openai.APIConnectionError:
                return
            except openai.APIStatusError as e:
                assert e.status_code == 408, e  # a machine that stands still


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
        first = client.vector_stores.search(store, query=word, max_num_results=1).data
        assert [h.file_id for h in first] == [f] and word in first[0].content[0].text
        near = client.vector_stores.search(store, query=word, max_num_results=50, ranking_options={"ranker": "none"},
                                           filters={"type": "eq", "key": "word", "value": word})
        assert not near.hob_by_words and {h.file_id for h in near} == {f}
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
            if turn == rounds:
                check_found(c, server, hobctl, store, attached)
                print(f"{turn} kills, {acknowledged} files answered, none lost", flush=True)
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
@pytest.mark.parametrize("seed", range(20))
def test_500_kills_during_ingest(server, hobctl, seed):
    kill_and_check(server, hobctl, random.Random(seed), rounds=25, most_s=1.5)


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


@pytest.mark.parametrize("in_place", [False, True])
def test_another_embedding_model(tmp_path, var, model, embedder, hobctl, in_place):
    """Vectors are made anew, after a restart and when the model's file is replaced; until they are, words find the documents."""
    data = bytearray(open(embedder, "rb").read())
    path = tmp_path / "embedder.gguf"
    path.write_bytes(data)
    s = documents_server(tmp_path, var, model, path)
    with started(s):
        with openai_client(s) as c:
            store = c.vector_stores.create()
            f = c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", text("zqa", 30).encode()))
            before = c.vector_stores.search(store.id, query="zqa")
            assert not before.hob_by_words
        data[-1000] ^= 1  # a weight
        if not in_place:
            s.stop()
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").rename(path)
        if in_place:
            os.kill(s.engines()[0], signal.SIGKILL)
        else:
            s.start()
        with openai_client(s) as c:
            assert c.vector_stores.files.retrieve(f.id, vector_store_id=store.id).status == "completed"
            assert [r.file_id for r in c.vector_stores.search(store.id, query="zqa", max_num_results=1)] == [f.id]
            end = time.monotonic() + 30
            while "1 documents have to be embedded anew" not in s.log_tail(1000) or \
                    c.vector_stores.files.retrieve(f.id, vector_store_id=store.id).hob_chunks_embedded != f.hob_chunks:
                assert time.monotonic() < end
                time.sleep(0.1)
            s.wait_metric("hob_documents_completed_total", lambda n: n == 1 + in_place)
            after = c.vector_stores.search(store.id, query="zqa", ranking_options={"ranker": "none"})
            assert not after.hob_by_words and [r.file_id for r in after][0] == f.id
        check_store(s, hobctl)


class SmallDisk:
    """A server whose store is on a tmpfs of its own, which another program can fill."""

    def __init__(self, folder, var, model, embedder, size_mb):
        self.server = documents_server(folder, var, model, embedder)
        self.folder = folder / "small"
        self.folder.mkdir()
        conf = self.server.cwd / "var/hob.conf"
        conf.write_text(f'store = "{self.folder}/hob.db";\n' + re.sub(r"(?m)^store = .*\n", "", conf.read_text()))
        mount = f"mount -t tmpfs -o size={size_mb}m tmpfs {self.folder}"
        own = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        if subprocess.run(["unshare", *own, "--mount", "sh", "-c", mount], capture_output=True).returncode != 0:
            pytest.skip("no tmpfs can be mounted here")
        self.server.command = ["unshare", *own, "--mount", "sh", "-c", mount + ' && exec "$@"', "sh", *self.server.command]

    @property
    def inside(self):
        return f"/proc/{self.server.process.pid}/root{self.folder}"

    def leave(self, free):
        """Fills it until so many bytes are free, or as few as that is possible."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.inside}/ballast")
        if free is None:
            return
        with open(f"{self.inside}/ballast", "wb", buffering=0) as f, contextlib.suppress(OSError):
            while (more := os.statvfs(self.inside).f_bavail * os.statvfs(self.inside).f_frsize - free) > 0:
                f.write(bytes(min(more, 1 << 20)))


def refuses(call, *args, **options):
    """Its result; None: it was refused for the full disk."""
    try:
        return call(*args, **options)
    except openai.InternalServerError as e:
        assert e.status_code == 507 and e.code == "disk_full", e
        return None


def test_a_full_disk(tmp_path, var, model, embedder):
    """Everything is refused with its reason, what is stored is read, and with room it goes on."""
    rng = random.Random(6)
    with started(SmallDisk(tmp_path, var, model, embedder, 24).server) as s, openai_client(s) as c:
        store = c.vector_stores.create()
        first = c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.txt", text("zqa", 20).encode()))
        kept, refused = [], 0
        for i in range(40):
            f = refuses(c.files.create, file=(f"{i}.bin", f"zqb{i} ".encode() + rng.randbytes(3 << 19)), purpose="user_data")
            kept += [f] if f else []
            refused += not f
        assert len(kept) >= 5 and refused >= 10
        # What there is can be read, found, changed and deleted.
        assert c.files.content(kept[-1].id).read().startswith(b"zqb")
        assert [r.file_id for r in c.vector_stores.search(store.id, query="zqa", max_num_results=1)] == [first.id]
        assert c.vector_stores.update(store.id, name="renamed").name == "renamed"
        waiting = c.vector_stores.files.create(store.id, file_id=kept[0].id)
        for f in kept[1:]:
            c.files.delete(f.id)
        end = time.monotonic() + 30
        # Room comes back as the deleted is removed.
        while not (last := refuses(c.vector_stores.files.upload_and_poll, vector_store_id=store.id,
                                   file=("z.txt", text("zqz", 20).encode()))):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert last.status == "completed"
        assert [r.file_id for r in c.vector_stores.search(store.id, query="zqz", max_num_results=1)] == [last.id]
        assert c.vector_stores.files.poll(waiting.id, vector_store_id=store.id).status == "failed"  # it is no text


def full_at(disk, client, hobctl, rng, store, rounds):
    """The disk is filled from outside at some moment of storing documents, to some degree, and has room again later."""
    refused, found = 0, {}
    for turn in range(rounds):
        word, other = f"zq{turn}a", f"zq{turn}b"
        f = client.files.create(file=(f"{word}.txt", text(word, rng.choice([5, 40, 400])).encode()), purpose="assistants")
        client.vector_stores.files.create(store, file_id=f.id)
        found[f.id] = word
        time.sleep(rng.choice([0, 0, 0.02, 0.05, 0.1, 0.2, 0.4]))  # in which stage it is
        disk.leave(rng.choice([0, 0, 4096, 65536, 1 << 18, 1 << 20, 3 << 20]))
        calls = [lambda: client.files.create(file=(f"{other}.txt", text(other, 40).encode()), purpose="assistants"),
                 lambda: client.files.create(file=("large.bin", rng.randbytes(3 << 20)), purpose="user_data"),
                 lambda: client.vector_stores.create(name=f"s{turn}", metadata={"a": "x" * 500}),
                 lambda: client.vector_stores.update(store, metadata={"turn": str(turn)}),
                 lambda: client.vector_stores.files.update(f.id, vector_store_id=store, attributes={"turn": turn}),
                 lambda: client.vector_stores.file_batches.create(store, file_ids=[f.id])]
        rng.shuffle(calls)
        for call in calls:
            made = refuses(call)
            refused += made is None
            if getattr(made, "filename", "") == "large.bin":
                refused += refuses(client.files.delete, made.id) is None
            elif getattr(made, "filename", ""):
                if refuses(client.vector_stores.files.create, store, file_id=made.id):
                    found[made.id] = other
        # What is stored is read meanwhile.
        some = rng.choice(list(found))
        assert found[some] in client.files.content(some).read().decode()
        client.vector_stores.search(store, query=found[some])
        assert client.vector_stores.retrieve(store).id == store and len(client.vector_stores.files.list(store, limit=100).data) >= 1
        disk.leave(None)
        while len(found) > 12:  # deletions are not refused for long
            gone = next(iter(found))
            end = time.monotonic() + 20
            while not refuses(client.files.delete, gone):
                assert time.monotonic() < end
                time.sleep(0.1)
            del found[gone]
        if turn % 10 == 9:
            counts = wait_completed(client, store, 120)
            assert counts.failed == 0 and counts.completed == len(found)
            for f, word in found.items():
                assert [h.file_id for h in client.vector_stores.search(store, query=word, max_num_results=1)] == [f]
            check_store(disk.server, hobctl)
    return refused


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_disk_that_becomes_full_at_every_stage(tmp_path, var, model, embedder, hobctl, seed):
    disk = SmallDisk(tmp_path, var, model, embedder, 48)
    with started(disk.server) as s, openai_client(s) as c:
        store = c.vector_stores.create().id
        refused = full_at(disk, c, hobctl, random.Random(seed), store, 40)
        # All that was left of what was cut off has gone.
        for f in c.files.list():
            c.files.delete(f.id)
        s.wait_metric("hob_vector_index_rows", lambda n: n == 0)
        check_store(s, hobctl)
        with contextlib.closing(sqlite3.connect(s.cwd / "var/copy.db")) as db:
            assert [db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("file_parts", "chunks", "vectors")] == [0, 0, 0]
        print(f"{refused} requests refused")
        assert refused > 40 and "documents wait until the store takes them" in s.log_tail(100000)


def test_damage_holds_up_nobody(server):
    """A part that is missing, a file that has gone: what they were for fails, the next goes on."""
    with openai_client(server) as c:
        store = c.vector_stores.create()
        files = [c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(f"{i}.txt", text(f"zq{i}", 9).encode())) for i in range(4)]
    server.stop()
    with contextlib.closing(sqlite3.connect(server.cwd / "var/hob.db", isolation_level=None)) as db:
        ids = [db.execute("SELECT id FROM files WHERE public = ?", (f.id,)).fetchone()[0] for f in files]
        db.execute("UPDATE contents SET state = 0, searchable = 0")
        db.execute("DELETE FROM file_parts WHERE file = ?", (ids[0],))
        db.execute("UPDATE files SET sha256 = zeroblob(32) WHERE id = ?", (ids[1],))
        db.execute("UPDATE files SET bytes = bytes + 1 WHERE id = ?", (ids[2],))
    server.start()
    with openai_client(server) as c:
        counts = wait_completed(c, store.id)
        assert counts.failed == 3 and counts.completed == 1
        for f, why in zip(files, ("damaged", "gone", "damaged")):
            error = c.vector_stores.files.retrieve(f.id, vector_store_id=store.id).last_error
            assert error.code == "server_error" and why in error.message
        assert [r.file_id for r in c.vector_stores.search(store.id, query="zq3", max_num_results=1)] == [files[3].id]
