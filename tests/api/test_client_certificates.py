# SPDX-License-Identifier: Apache-2.0
"""Certificates of clients: none, of another authority, expired, for another use, right; over HTTP and on the WebSocket
upgrade; on every listener with TLS, before and after a reload. Only the right one gets in."""
import http.client
import json
import signal
import ssl
import time

import pytest
from conftest import HOBD, Server, free_port
from pki import Authority
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wire import error_of

KINDS = ["none", "wrong CA", "expired", "of a server", "right"]


def context_with(server, certificate):
    context = ssl.create_default_context(cafile=str(server.ca))
    context.check_hostname = False
    if certificate:
        context.load_cert_chain(*map(str, certificate))
    return context


def over_http(server, port, certificate, key=True):
    """The status, or None when there was no way in."""
    c = http.client.HTTPSConnection("127.0.0.1", port, context=context_with(server, certificate), timeout=30)
    try:
        c.request("GET", "/v1/models", headers={"Authorization": f"Bearer {server.key}"} if key else {})
        return c.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        c.close()


def over_websocket(server, port, certificate, key=True):
    headers = {"Authorization": f"Bearer {server.key}"} if key else {}
    try:
        with connect(f"wss://127.0.0.1:{port}/v1/responses", ssl=context_with(server, certificate), additional_headers=headers,
                     open_timeout=20, proxy=None) as ws:
            ws.send("{}")
            return 101 if json.loads(ws.recv(timeout=20))["type"] == "error" else None
    except InvalidStatus as e:
        return e.response.status_code
    except Exception:
        return None


def write_conf(server, auth, client_keys=False):
    text = server.base.replace('key = "key.pem";', f'key = "key.pem"; client_ca = "{server.authority.file}"; '
                               f'client_auth = "{auth}"; client_keys = {str(client_keys).lower()};')
    text += "limits = { auth_failures_per_minute = 0; };\n"  # many here are strangers
    (server.folder / "hob.conf").write_text(text + f'listeners = ( {{ listen = "127.0.0.1"; port = {server.second}; }} );\n')


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, model, hobctl):
    folder = tmp_path_factory.mktemp("guarded") / "var"
    port = free_port()
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    server = Server([HOBD, "--config", folder / "hob.conf"], port, folder.parent / "hobd.log",
                    (folder / "api_key").read_text().strip(), folder / "ca.pem", cwd=folder.parent)
    server.folder, server.second, server.base = folder, free_port(), (folder / "hob.conf").read_text()
    right, wrong = (Authority(folder, name) for name in ("clients", "others"))
    server.authority = right
    server.certificates = {"none": None, "wrong CA": wrong.issue("a", "first"), "expired": right.issue("b", "first", expired=True),
                           "of a server": right.issue("c", "first", usage="serverAuth"), "right": right.issue("d", "first"),
                           "unknown": right.issue("e", "nobody"), "first of two": right.issue("f", "first/CN=other"),
                           "second of two": right.issue("g", "other/CN=first")}
    write_conf(server, "required")
    with open(server.log, "ab") as out:
        import subprocess
        server.process = subprocess.Popen([str(c) for c in server.command], stdin=subprocess.DEVNULL, stdout=out,
                                          stderr=subprocess.STDOUT, cwd=server.cwd)
    try:
        end = time.monotonic() + 60
        while over_http(server, port, server.certificates["right"]) != 200:
            assert server.process.poll() is None and time.monotonic() < end, server.log_tail()
            time.sleep(0.1)
        yield server
    finally:
        server.stop()
    server.check_sanitizers()


def reload(server, wanted="reloaded "):
    before = server.log.read_text().count(wanted)
    server.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while server.log.read_text().count(wanted) == before:
        assert time.monotonic() < end, server.log_tail()
        time.sleep(0.02)


def matrix(server):
    return {(kind, way.__name__, port): way(server, port, server.certificates[kind])
            for kind in KINDS for way in (over_http, over_websocket) for port in (server.port, server.second)}


def test_only_the_right_one_gets_in(guarded):
    for result in (matrix(guarded), (reload(guarded), matrix(guarded))[1]):  # the vhosts of a reload ask as well
        for (kind, way, port), status in result.items():
            wanted = None if kind != "right" else 200 if way == "over_http" else 101
            assert status == wanted, (kind, way, port == guarded.second, status)


def test_a_certificate_is_no_key_unless_asked_for(guarded):
    assert over_http(guarded, guarded.port, guarded.certificates["right"], key=False) == 401
    assert over_websocket(guarded, guarded.port, guarded.certificates["right"], key=False) == 401


def test_a_common_name_is_a_label(guarded):
    """Optional, and in the place of a key: one that is not valid counts as none."""
    write_conf(guarded, "optional", client_keys=True)
    reload(guarded)
    for kind, certificate in guarded.certificates.items():
        wanted = 200 if kind == "right" else 401
        assert over_http(guarded, guarded.port, certificate, key=False) == wanted, kind
        assert over_websocket(guarded, guarded.second, certificate, key=False) == (101 if wanted == 200 else 401), kind
        assert over_http(guarded, guarded.port, certificate) == 200, kind  # with a key
    write_conf(guarded, "required")
    reload(guarded)


def test_the_label_of_a_revoked_key_stays_taken(guarded, hobctl):
    """Else its certificate would be valid again."""
    def keys(*args, **more):
        return hobctl("keys", *args, "--socket", guarded.folder / "hob.sock", **more)

    certificate = guarded.authority.issue("h", "leaver")
    write_conf(guarded, "optional", client_keys=True)
    reload(guarded)
    keys("add", "leaver")
    keys("add", "stayer")
    assert over_http(guarded, guarded.port, certificate, key=False) == 200
    keys("revoke", "leaver")
    for args in (["add", "leaver"], ["set", "stayer", "--label", "leaver"]):
        done = keys(*args, check=False)
        assert done.returncode == 1 and b"was a revoked key's" in done.stderr, done
    keys("set", "stayer", "--label", "stayer", "--class", "batch")
    assert over_http(guarded, guarded.port, certificate, key=False) == 401
    write_conf(guarded, "required")
    reload(guarded)
    keys("add", "leaver")  # where certificates are no keys a label is only a name


def test_a_websocket_ends_with_what_let_it_in(guarded, hobctl):
    """Its certificate's label is another key's name now, or certificates are no keys any more: no response after that."""
    certificate = guarded.authority.issue("i", "mover")
    write_conf(guarded, "optional", client_keys=True)
    reload(guarded)
    hobctl("keys", "add", "mover", "--socket", guarded.folder / "hob.sock")

    def first_event(ws):
        ws.send(json.dumps({"type": "response.create", "model": "default", "input": "Hi.", "max_output_tokens": 1}))
        while (event := json.loads(ws.recv(timeout=30)))["type"] not in ("error", "response.completed", "response.incomplete"):
            pass
        return event

    def open_socket():
        return connect(f"wss://127.0.0.1:{guarded.port}/v1/responses", ssl=context_with(guarded, certificate), proxy=None)

    with open_socket() as ws:
        assert first_event(ws)["type"] != "error"
        hobctl("keys", "set", "mover", "--label", "moved", "--socket", guarded.folder / "hob.sock")
        event = first_event(ws)
        assert event["type"] == "error" and event["status"] == 401 and "label" in event["error"]["message"], event
        hobctl("keys", "set", "moved", "--label", "mover", "--socket", guarded.folder / "hob.sock")
        assert first_event(ws)["type"] != "error"
        write_conf(guarded, "optional")
        reload(guarded)
        event = first_event(ws)
        assert event["type"] == "error" and event["status"] == 401, event
    write_conf(guarded, "optional", client_keys=True)
    reload(guarded)
    with open_socket() as ws:
        hobctl("keys", "revoke", "mover", "--socket", guarded.folder / "hob.sock")
        assert first_event(ws)["status"] == 401
    write_conf(guarded, "required")
    reload(guarded)


def test_a_broken_authority_is_refused_whole(guarded):
    good = guarded.authority.file.read_text()
    for bad in ("nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        guarded.authority.file.write_text(bad)
        reload(guarded, "reload refused")
        assert over_http(guarded, guarded.port, None) is None
        assert over_http(guarded, guarded.port, guarded.certificates["right"]) == 200
    guarded.authority.file.write_text(good)
    reload(guarded)
