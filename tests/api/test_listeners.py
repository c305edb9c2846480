# SPDX-License-Identifier: Apache-2.0
"""Where hobd listens: TLS, plain HTTP on loopback, a Unix socket, and the admin socket, which alone administrates."""
import http.client
import json
import os
import socket
import stat
import subprocess
import threading

import pytest
from conftest import HOBD, Server, dev_server, free_port, started
from wire import chat, error_of

STATUS = "/hob/v1/admin/status"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(connection, path, key=None, body=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection.request("GET" if body is None else "POST", path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data


@pytest.fixture(scope="module")
def many(tmp_path_factory, model, hobctl):
    """A server that listens everywhere."""
    folder = tmp_path_factory.mktemp("many") / "var"
    port, plain, second = free_port(), free_port(), free_port()
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    with open(folder / "hob.conf", "a") as conf:
        conf.write(f'listeners = ( {{ listen = "127.0.0.1"; port = {plain}; protocol = "http"; }}, '
                   f'{{ listen = "127.0.0.2"; port = {second}; }}, {{ socket = "api.sock"; }} );\n')
    server = Server([HOBD, "--config", folder / "hob.conf"], port, folder.parent / "hobd.log",
                    (folder / "api_key").read_text().strip(), folder / "ca.pem", cwd=folder.parent)
    server.folder, server.plain, server.second = folder, plain, second
    with started(server):
        yield server


def everywhere(many):
    return {"tls": http.client.HTTPSConnection("127.0.0.1", many.port, context=many.context, timeout=30),
            "plain": http.client.HTTPConnection("127.0.0.1", many.plain, timeout=30),
            "unix": UnixConnection(many.folder / "api.sock")}


def test_each_serves_and_asks_for_a_key(many):
    for name, c in everywhere(many).items():
        assert ask(c, "/v1/models", many.key)[0] == 200, name
    for name, c in everywhere(many).items():
        assert ask(c, "/v1/models")[0] == 401, name
    for name, c in everywhere(many).items():
        status, body = ask(c, "/v1/chat/completions", many.key, chat("Hi.", max_tokens=2))
        assert status == 200 and json.loads(body)["choices"], name
    raw = socket.create_connection(("127.0.0.2", many.second), 20)  # the second with TLS
    context = many.context
    context.check_hostname = False
    with context.wrap_socket(raw) as s:
        assert s.version() == "TLSv1.3"


def test_administration_is_for_the_admin_socket(many):
    admin = many.folder / "hob.sock"
    user = json.loads(ask(UnixConnection(admin), "/hob/v1/admin/keys/add", body={"label": "user"})[1])["key"]
    for name, c in everywhere(many).items():
        status, body = ask(c, STATUS, user)
        assert status == 404 and error_of(body)["code"] == "unknown_url", name
        assert ask(c, STATUS, many.key)[0] == 200, name  # an administrator's
    status, body = ask(UnixConnection(admin), STATUS)
    answer = json.loads(body)
    assert status == 200 and answer["pid"] == many.process.pid and answer["state"] == "running"
    assert len(answer["listeners"]) == 5 and answer["models"][0]["state"] == "ready"
    assert ask(UnixConnection(admin), "/v1/models")[0] == 404  # and that is all that it serves
    assert ask(UnixConnection(admin), STATUS, body={})[0] == 405
    assert ask(UnixConnection(admin), "/readyz")[0] == 200


def test_sockets_are_private(many):
    for name in ("hob.sock", "api.sock"):
        assert stat.S_IMODE((many.folder / name).stat().st_mode) == 0o660


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_others_are_sent_away(many):
    """The file's mode keeps them out; so does the check behind it."""
    admin = many.folder / "hob.sock"
    os.chmod(admin, 0o666)
    for folder in [admin.parent, *admin.parent.parents][:4]:
        if folder != folder.parent and folder.stat().st_uid == os.geteuid() and folder.name != "tmp":
            folder.chmod(folder.stat().st_mode | 0o011)
    code = ("import os,socket,sys\nos.setgroups([]);os.setgid(65534);os.setuid(65534)\ns=socket.socket(socket.AF_UNIX)\n"
            "s.settimeout(20)\ns.connect(sys.argv[1])\n"
            "try:\n s.sendall(b'GET /hob/v1/admin/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');print(len(s.recv(9999)))\n"
            "except OSError: print(0)\n")
    done = subprocess.run(["python3", "-c", code, str(admin)], capture_output=True, text=True, timeout=60)
    os.chmod(admin, 0o660)
    assert done.stdout == "0\n", (done.stdout, done.stderr)
    assert "was sent away" in many.log_tail()


def test_status_command(many, hobctl, tmp_path):
    text = hobctl("status", "--socket", many.folder / "hob.sock").stdout.decode()
    assert f"process {many.process.pid}: running" in text and "model " in text and ": ready" in text
    assert json.loads(hobctl("status", "--json", cwd=many.folder.parent).stdout)["pid"] == many.process.pid
    done = hobctl("status", "--socket", tmp_path / "none", check=False)
    assert done.returncode == 1 and b"no hobd answers" in done.stderr


def test_socket_files(many, tmp_path, model, hobctl):
    """One that answers is not taken, one that is left over is; a file that is no socket stays."""
    folder = tmp_path / "var"
    port = free_port()
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    command = [HOBD, "--config", folder / "hob.conf"]

    def refused():
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        return done.stderr

    with open(folder / "hob.conf", "a") as conf:
        conf.write(f'admin_socket = "{many.folder}/hob.sock";\n')
    assert "another process answers there" in refused()
    text = (folder / "hob.conf").read_text()
    (folder / "hob.conf").write_text(text.replace(f"{many.folder}/hob.sock", "left.sock"))
    (folder / "left.sock").write_text("a file")
    assert "is no socket" in refused() and (folder / "left.sock").read_text() == "a file"
    (folder / "left.sock").unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "left.sock"))
    with started(Server(command, port, tmp_path / "log", (folder / "api_key").read_text().strip(), folder / "ca.pem")):
        assert ask(UnixConnection(folder / "left.sock"), STATUS)[0] == 200
    assert not (folder / "left.sock").exists()


def test_a_port_that_is_about_to_be_free(tmp_path, model):
    """A child of one that was killed may still hold it."""
    server = dev_server(tmp_path, model)
    held = socket.create_server(("127.0.0.1", server.port))
    threading.Timer(0.3, held.close).start()
    with started(server):
        assert server.get("/livez")[0] == 200
