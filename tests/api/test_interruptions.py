# SPDX-License-Identifier: Apache-2.0
"""Searches and answers from documents that nobody waits for any more: clients that go, keys that are revoked, a hobd that ends
while a search waits for its query's vector. What was reserved comes back, and what goes on is nobody's. And what searches and
downloads may take: requests of their key, memory of the gateway."""
import contextlib
import os
import signal
import socket
import time

import openai
import pytest

from conftest import limited_server, openai_client, started
from websockets.sync.client import connect
from wire import get, post

TEXT = "# Harbour\n\nThe crane of the harbour lifts nine tons.\n"
QUESTION = "How many tons does the crane of the harbour lift?"
MESSAGES = [{"role": "user", "content": QUESTION}]
LIMITS = "key_limits = { tokens_per_minute = 20000; concurrent_requests = 8; };\nretrieval = { timeout_ms = 60000; };\n"


def harbour_server(folder, var, embedder):
    return limited_server(folder, var, "hang_timeout_ms = 120000;", tenants=("anna", "ben"), embedder=embedder, more=LIMITS)


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    with started(harbour_server(tmp_path_factory.mktemp("interruptions"), var, embedder)) as s:
        yield s


def fill(client):
    store = client.vector_stores.create(name="harbour")
    assert client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("a.md", TEXT.encode())).status == "completed"
    return store.id


@pytest.fixture(scope="module")
def store(server):
    with openai_client(server, "hob_anna") as anna:
        return fill(anna)


@contextlib.contextmanager
def held_embedder(server):
    """No query gets its vector meanwhile."""
    engine = next(p for p in server.engines() if b"MiniLM" in open(f"/proc/{p}/cmdline", "rb").read())
    os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has gone with its hobd
            os.kill(engine, signal.SIGCONT)


def sent(stack, server, key, data, receive_bytes=None):
    """A connection on which the request is."""
    s = socket.socket()
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.settimeout(60)
    s.connect(("127.0.0.1", server.port))
    s = stack.enter_context(server.context.wrap_socket(s, server_hostname="127.0.0.1"))
    s.sendall(data.replace(b"Host: localhost\r\n", f"Host: localhost\r\nAuthorization: Bearer {key}\r\n".encode(), 1))
    return s


def requests(store):
    """One of each kind that looks something up."""
    chat = {"model": "default", "messages": MESSAGES, "max_tokens": 100, "hob_retrieval": {"stores": ["harbour"]}}
    response = {"model": "default", "input": QUESTION, "max_output_tokens": 100,
                "tools": [{"type": "file_search", "vector_store_ids": [store]}]}
    return [post("/v1/chat/completions", chat), post("/v1/chat/completions", {**chat, "stream": True}),
            post("/v1/chat/completions", {**chat, "n": 3, "stream": True}), post("/v1/responses", response),
            post("/v1/responses", {**response, "background": True}),
            post("/v1/responses", {**response, "background": True, "stream": True}),
            post(f"/v1/vector_stores/{store}/search", {"query": [QUESTION, "crane"]})]


def wait_idle(server, client):
    """Nothing is reserved, nothing runs: all of what the key may use at once is there again."""
    end = time.monotonic() + 60
    while True:
        try:
            raw = client.chat.completions.with_raw_response.create(model="default", max_tokens=1,
                                                                   messages=[{"role": "user", "content": "Hi"}])
            break
        except openai.RateLimitError:
            assert time.monotonic() < end
            time.sleep(0.1)
    return int(raw.headers["x-ratelimit-remaining-tokens"]), raw.parse().usage.total_tokens


@pytest.mark.parametrize("held", [True, False])
def test_clients_that_go(server, store, held):
    """While the query's vector is made, and at any time of what follows."""
    with openai_client(server, "hob_anna") as anna:
        before, _ = wait_idle(server, anna)
        spent = server.metric("hob_prompt_tokens_total") + server.metric("hob_answer_tokens_total")
        for turn in range(1 if held else 6):
            with contextlib.ExitStack() as stack:
                if held:
                    stack.enter_context(held_embedder(server))
                connections = stack.enter_context(contextlib.ExitStack())
                for request in requests(store):
                    sent(connections, server, "hob_anna", request)
                time.sleep(0.5 if held else 0.05 * turn)
                connections.close()
                if held:
                    time.sleep(0.5)  # the ends are seen while it is held, too
        # Those in the background may have begun, and run to their end.
        server.wait_metric("hob_requests_background", lambda n: n == 0)
        time.sleep(0.3)
        after, own = wait_idle(server, anna)
        used = server.metric("hob_prompt_tokens_total") + server.metric("hob_answer_tokens_total") - spent
        assert before - after <= used + own
        # Eight at once fit again, and none more.
        with held_embedder(server), contextlib.ExitStack() as stack:
            for _ in range(8):
                sent(stack, server, "hob_anna", requests(store)[6])
            time.sleep(0.5)
            with pytest.raises(openai.RateLimitError) as e:
                anna.vector_stores.search(store, query=QUESTION)
            assert e.value.body["hob_reason"] == "concurrent_requests"
        assert [r.filename for r in anna.vector_stores.search(store, query=QUESTION)] == ["a.md"]


def test_a_websocket_that_goes(server, store):
    event = ('{"type": "response.create", "model": "default", "input": "%s", "max_output_tokens": 50, "stream_id": "%%d", '
             '"tools": [{"type": "file_search", "vector_store_ids": ["%s"]}]}' % (QUESTION, store))
    with openai_client(server, "hob_anna") as anna:
        with held_embedder(server), connect(f"wss://127.0.0.1:{server.port}/v1/responses", ssl=server.context, proxy=None,
                                            additional_headers={"Authorization": "Bearer hob_anna"}) as ws:
            for i in range(4):
                ws.send(event % i)
            time.sleep(0.3)
            ws.send('{"type": "response.cancel", "response_id": "resp_0"}')
            ws.close()
        wait_idle(server, anna)
        for _ in range(8):
            assert [r.filename for r in anna.vector_stores.search(store, query=QUESTION)] == ["a.md"]


def test_a_key_that_is_revoked(server, hobctl, store):
    """What runs under it ends; nothing begins any more."""
    admin = ["--socket", server.cwd / "var/hob.sock"]
    hobctl("keys", "add", "carl", "--tenant", "anna", *admin)
    key = hobctl("keys", "rotate", "carl", *admin).stdout.decode().strip()
    with contextlib.ExitStack() as stack:
        with held_embedder(server):
            answers = [sent(stack, server, key, r) for r in requests(store)]
            time.sleep(0.5)
            hobctl("keys", "revoke", "carl", *admin)
        for s in answers:
            assert s.recv(100).startswith(b"HTTP/1.1 200 ")
    with openai_client(server, key) as c, pytest.raises(openai.AuthenticationError):
        c.vector_stores.search(store, query=QUESTION)
    server.wait_metric("hob_requests_background", lambda n: n == 0)


@pytest.mark.parametrize("signals", [1, 2])
def test_hobd_ends(tmp_path, var, embedder, hobctl, signals):
    """With requests in every stage, a copy of its store in the making too; a sanitizer sees what is touched or left behind."""
    s = harbour_server(tmp_path, var, embedder)
    conf = s.cwd / "var/hob.conf"
    conf.write_text(conf.read_text().replace("hang_timeout_ms", "drain_timeout_ms = 1000; hang_timeout_ms"))
    with started(s), contextlib.ExitStack() as stack:
        with openai_client(s, "hob_anna") as anna, openai_client(s, "hob_ben") as ben:
            store = fill(anna)
            f = ben.files.create(file=("a.bin", os.urandom(30 << 20)), purpose="user_data")
        with held_embedder(s):
            for r in requests(store):
                sent(stack, s, "hob_anna", r)
            sent(stack, s, "hob_ben", get(f"/v1/files/{f.id}/content"), receive_bytes=4096)
            upload = post("/v1/files", b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\n" + b"x" * (3 << 20),
                          length=30 << 20).replace(b"application/json", b"multipart/form-data; boundary=b", 1)
            sent(stack, s, "hob_ben", upload)
            admin = stack.enter_context(socket.socket(socket.AF_UNIX))
            admin.connect(str(s.cwd / "var/hob.sock"))
            admin.sendall(post("/hob/v1/admin/store/backup", {"path": str(tmp_path / "copy")}))
            time.sleep(0.02)
            for _ in range(signals):
                s.process.send_signal(signal.SIGTERM)
                time.sleep(0.05)
            s.process.wait(60)
        assert s.process.returncode == signals - 1
        assert hobctl("store", "check", s.cwd / "var/hob.db").stdout == b"ok\n"
        copy = tmp_path / "copy"  # there is none, or all of it was made in time
        assert not copy.exists() or hobctl("store", "check", copy).stdout == b"ok\n"


def test_searches_are_requests(tmp_path, var, embedder):
    limits = "key_limits = { requests_per_minute = 5; };\n"
    with started(limited_server(tmp_path, var, "", tenants=("anna", "ben"), embedder=embedder, more=limits)) as s, \
            openai_client(s, "hob_anna") as anna, openai_client(s, "hob_ben") as ben:
        store = fill(anna)
        for _ in range(5):
            anna.vector_stores.search(store, query=QUESTION)
        with pytest.raises(openai.RateLimitError) as e:
            anna.vector_stores.search(store, query=QUESTION)
        assert e.value.body["hob_reason"] == "requests_per_minute" and int(e.value.response.headers["retry-after"]) > 0
        with pytest.raises(openai.NotFoundError):
            ben.vector_stores.search(store, query=QUESTION)


def test_downloads_that_nobody_reads(server):
    """They take little, and it is counted."""
    count = 100
    with openai_client(server, "hob_ben") as ben:
        f = ben.files.create(file=("a.bin", os.urandom(4 << 20)), purpose="user_data")
    resident = lambda: int(next(line for line in open(f"/proc/{server.process.pid}/status") if "VmRSS" in line).split()[1]) << 10
    before, buffers = resident(), server.metric("hob_buffers_bytes")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            sent(stack, server, "hob_ben", get(f"/v1/files/{f.id}/content"), receive_bytes=4096)
        server.wait_metric("hob_buffers_bytes", lambda n: n - buffers > count * (100 << 10))
        assert resident() - before < count * (512 << 10)


def test_a_reserved_answer_larger_than_any(tmp_path, var, embedder):
    """What is asked for is more than 32 bits count: all of it comes back."""
    s = limited_server(tmp_path, var, "", tenants=("anna",), embedder=embedder)
    with started(s), openai_client(s, "hob_anna") as anna:
        fill(anna)
        for _ in range(3):
            with pytest.raises(openai.BadRequestError) as e:
                anna.chat.completions.create(model="default", messages=MESSAGES, n=5, max_tokens=1 << 30,
                                             extra_body={"hob_retrieval": {"stores": ["harbour"]}})
            assert e.value.code == "context_length_exceeded"
        conf = s.cwd / "var/hob.conf"
        conf.write_text(conf.read_text() + "key_limits = { tokens_per_minute = 3000; };\n")
        s.process.send_signal(signal.SIGHUP)
        s.wait_metric("hob_reloads_total", lambda n: n == 1)
        anna.chat.completions.create(model="default", messages=MESSAGES, max_tokens=4)
