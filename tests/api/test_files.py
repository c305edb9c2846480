# SPDX-License-Identifier: Apache-2.0
"""/v1/files with OpenAI's own client and by hand: uploads that stream into the store, what is refused and how, pages, bytes
back as they came, and what one tenant or key sees of another's."""
import contextlib
import hashlib
import io
import json
import os
import socket
import ssl
import threading
import time

import openai
import pytest

from conftest import limited_server, openai_client, started


@pytest.fixture(scope="module")
def server(tmp_path_factory, var):
    """With two further tenants."""
    folder = tmp_path_factory.mktemp("files")
    with started(limited_server(folder, var, "max_file_mb = 40; max_body_bytes = 100000;", tenants=("anna", "ben"))) as s:
        yield s


@pytest.fixture(scope="module")
def anna(server):
    with openai_client(server, "hob_anna") as c:
        yield c


@pytest.fixture(scope="module")
def ben(server):
    with openai_client(server, "hob_ben") as c:
        yield c


def upload(client, data, name="a.txt", purpose="assistants"):
    return client.files.create(file=(name, data), purpose=purpose)


def test_a_file_comes_back_as_it_was(anna):
    data = bytes(range(256)) * 40 + b"\r\n--x\r\n"
    f = upload(anna, data, "Größe, \"quoted\".bin", "user_data")
    assert f.id.startswith("file-") and f.bytes == len(data) and f.filename == "Größe, \"quoted\".bin"
    assert f.purpose == "user_data" and f.object == "file" and abs(f.created_at - time.time()) < 60
    assert f.hob_sha256 == hashlib.sha256(data).hexdigest()
    assert anna.files.retrieve(f.id) == f
    assert anna.files.content(f.id).read() == data
    gone = anna.files.delete(f.id)
    assert gone.deleted and gone.id == f.id
    for call in (anna.files.retrieve, anna.files.content, anna.files.delete):
        with pytest.raises(openai.NotFoundError) as e:
            call(f.id)
        assert e.value.code == "not_found"


def test_an_empty_file(anna):
    f = upload(anna, b"")
    assert f.bytes == 0 and anna.files.content(f.id).read() == b""
    anna.files.delete(f.id)


def test_a_large_file_is_never_in_memory_whole(server, anna):
    """More parts than fit into what the process may grow by."""
    data = os.urandom(1 << 20) * 36
    resident = lambda: int(next(line for line in open(f"/proc/{server.process.pid}/status") if "VmHWM" in line).split()[1]) << 10
    before = resident()
    f = upload(anna, data)
    assert f.bytes == len(data) and f.hob_sha256 == hashlib.sha256(data).hexdigest()
    assert hashlib.sha256(anna.files.content(f.id).read()).hexdigest() == f.hob_sha256
    assert resident() - before < 16 << 20
    anna.files.delete(f.id)


def test_pages(server, ben):
    files = [upload(ben, b"x" * i, f"{i}.txt", "batch" if i % 2 else "assistants") for i in range(7)]
    ids = [f.id for f in reversed(files)]
    assert [f.id for f in ben.files.list()] == ids
    assert [f.id for f in ben.files.list(limit=2)] == ids  # the client follows the pages
    page = ben.files.list(limit=3, order="asc")
    assert [f.filename for f in page.data] == ["0.txt", "1.txt", "2.txt"] and page.has_more
    page = ben.files.list(limit=3, after=ids[2])
    assert [f.id for f in page.data] == ids[3:6] and page.has_more
    assert [f.filename for f in ben.files.list(purpose="batch")] == ["5.txt", "3.txt", "1.txt"]
    for query in ({"limit": 0}, {"limit": 10001}, {"order": "up"}, {"extra_query": {"colour": "red"}}):
        with pytest.raises(openai.BadRequestError):
            ben.files.list(**query)
    with pytest.raises(openai.NotFoundError):
        ben.files.list(after="file-none")
    for f in files:
        ben.files.delete(f.id)
    assert list(ben.files.list()) == []


def test_other_tenants_see_nothing(anna, ben):
    f = upload(anna, b"secret")
    for call in (ben.files.retrieve, ben.files.content, ben.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(f.id)
    with pytest.raises(openai.NotFoundError):
        ben.files.list(after=f.id)
    assert f.id not in [g.id for g in ben.files.list()]
    assert anna.files.content(f.id).read() == b"secret"
    anna.files.delete(f.id)


def test_what_is_refused(server, anna):
    with pytest.raises(openai.BadRequestError) as e:
        upload(anna, b"x", purpose="anything")
    assert e.value.param == "purpose"
    with pytest.raises(openai.BadRequestError) as e:
        anna.files.create(file=("a", b"x"), purpose="assistants", expires_after={"anchor": "created_at", "seconds": 3600})
    assert e.value.param.startswith("expires_after")
    with pytest.raises(openai.APIStatusError) as e:
        upload(anna, b"\0" * (41 << 20))
    assert e.value.status_code == 413
    with openai_client(server, "hob_nobody") as c, pytest.raises(openai.AuthenticationError):
        upload(c, b"x")
    assert list(anna.files.list()) == []


class Raw:
    """A TLS connection for bytes that no client library sends."""

    def __init__(self, server):
        self.socket = server.context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), 30), server_hostname="127.0.0.1")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def head(self, length, boundary="b", type="multipart/form-data", more=""):
        self.socket.sendall((f"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hob_anna\r\n{more}"
                             f"Content-Type: {type}; boundary={boundary}\r\nContent-Length: {length}\r\n\r\n").encode())

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.socket.recv(65536)
            assert piece, data
            data += piece
        head, body = data.split(b"\r\n\r\n", 1)
        length = int(next(line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")))
        while len(body) < length:
            body += self.socket.recv(65536)
        return int(head.split()[1]), json.loads(body)


def form(*fields, boundary=b"b", end=b"--"):
    return b"".join(b"--" + boundary + b"\r\nContent-Disposition: form-data; " + head + b"\r\n\r\n" + data + b"\r\n"
                    for head, data in fields) + b"--" + boundary + end + b"\r\n"


FILE = (b'name="file"; filename="a.txt"', b"hello")
PURPOSE = (b'name="purpose"', b"assistants")


@pytest.mark.parametrize("body, param", [
    (form(FILE), "purpose"), (form(PURPOSE), "file"), (form(FILE, FILE, PURPOSE), "file"), (form(FILE, PURPOSE, PURPOSE), "purpose"),
    (form((b'name="file"', b"x"), PURPOSE), "file"), (form((b'name="purpose"; filename="p"', b"x"), FILE), "purpose"),
    (form((b'name="file"; filename=""', b"x"), PURPOSE), "file"), (form((b'name="other"', b"x"), FILE, PURPOSE), "other"),
    (form((b'name="purpose"', b"x" * 300), FILE), "purpose"), (form((b'name="purpose"', b"a b"), FILE), "purpose"),
    (form(FILE, PURPOSE, end=b"xx"), None), (form(FILE, PURPOSE)[:-6], None), (b"", None), (b"no form at all", None),
    (b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\xff\"\r\n\r\nx\r\n--b--", None),
    (b"--b\r\n" + b"x" * 5000, None),
    (form((b"name=\"file\"; filename*=utf-8''a%00b", b"x"), PURPOSE), None),
])
def test_broken_forms(server, anna, body, param):
    with Raw(server) as raw:
        for _ in range(2):  # the connection lives on
            raw.head(len(body))
            raw.send(body)
            status, answer = raw.answer()
            assert status == 400 and answer["error"]["param"] == param, answer
    assert list(anna.files.list()) == []


def test_other_bodies(server):
    with Raw(server) as raw:
        raw.head(2, type="application/json")
        raw.send(b"{}")
        assert raw.answer()[0] == 415
        raw.head(5, boundary='"')
        raw.send(b"--b--")
        assert raw.answer()[0] == 400
        body = form(PURPOSE, (b"name=\"file\"; filename*=utf-8'%00'a%27b.txt", b"x"))  # a NUL where the language stands
        raw.head(len(body))
        raw.send(body)
        status, answer = raw.answer()
        assert status == 200 and answer["filename"] == "a'b.txt"
        body = form(PURPOSE, FILE)
        raw.head(len(body), more="Expect: 100-continue\r\n")
        assert raw.socket.recv(1000).startswith(b"HTTP/1.1 100 ")
        for i in range(len(body)):  # byte by byte
            raw.send(body[i:i + 1])
        status, answer = raw.answer()
        assert status == 200 and answer["bytes"] == 5


def test_an_upload_that_is_cut_off_leaves_nothing(server, anna):
    before = {f.id for f in anna.files.list()}
    with Raw(server) as raw:
        raw.head(30 << 20)
        raw.send(form(PURPOSE, FILE)[:-9] + b"x" * (5 << 20))
        time.sleep(0.3)
    time.sleep(0.3)
    assert {f.id for f in anna.files.list()} == before


def test_a_keys_bytes(server, hobctl):
    folder = server.cwd / "var"
    hobctl("keys", "add", "carl", "--socket", folder / "hob.sock", "--stored-mb", 3)
    key = hobctl("keys", "rotate", "carl", "--socket", folder / "hob.sock").stdout.decode().strip()
    with openai_client(server, key) as c:
        first = upload(c, b"1" * (2 << 20))
        with pytest.raises(openai.PermissionDeniedError) as e:
            upload(c, io.BytesIO(b"2" * (5 << 20)))
        assert e.value.code == "limit_reached" and e.value.body["hob_reason"] == "stored_mb"
        upload(c, b"3" * (1 << 20))
        with pytest.raises(openai.PermissionDeniedError):
            upload(c, b"4")
        c.files.delete(first.id)
        upload(c, b"4")
        assert len(list(c.files.list())) == 2


# ---- hobctl ingest ----

def ingest(hobctl, url, ca, path, bytes):
    path.touch()
    os.truncate(path, bytes)
    began = time.monotonic()
    done = hobctl("ingest", path, check=False, env={"HOB_URL": url, "HOB_API_KEY": "hob_anna", "HOB_CACERT": str(ca)})
    assert done.returncode == 1 and b"0 ingested, 0 unchanged, 1 failed" in done.stdout
    assert time.monotonic() - began < 20
    return done.stderr.decode()


def test_hobctl_sends_nothing_that_is_too_large(server, hobctl, tmp_path):
    said = ingest(hobctl, server.url, server.ca, tmp_path / "a.txt", 1 << 40)  # a hole
    assert f"it has {1 << 40} bytes; the server takes files of at most {40 << 20}" in said


class HangsUp(threading.Thread):
    """A server that closes while a file is sent to it."""

    def __init__(self, context):
        super().__init__(daemon=True)
        self.context, self.listener = context, socket.create_server(("127.0.0.1", 0))

    def run(self):
        while True:
            with contextlib.suppress(OSError), self.context.wrap_socket(self.listener.accept()[0], server_side=True) as s:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += s.recv(4096)
                if not head.startswith(b"POST /v1/files "):
                    answer = b'{"id": "vs_1", "name": "default", "data": [], "has_more": false}'
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
                    s.recv(4096)
                else:
                    time.sleep(0.2)


def test_hobctl_sees_that_a_server_hangs_up(server, hobctl, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cwd / "var/cert.pem", server.cwd / "var/key.pem")
    other = HangsUp(context)
    other.start()
    said = ingest(hobctl, f"https://127.0.0.1:{other.listener.getsockname()[1]}", server.ca, tmp_path / "a.txt", 200 << 20)
    assert "a.txt: 127.0.0.1 closed the connection before" in said
