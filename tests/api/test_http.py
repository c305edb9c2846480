# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 by hand: what is refused and how, and that a refusal never leaves two sides of a connection disagreeing on
where the next request begins."""
import json
import socket
import time

import pytest
from wire import Connection, chat, error_of, get, post

CHAT = "/v1/chat/completions"


def once(server, data):
    with Connection(server) as c:
        c.send(data)
        return c.response()


def test_health(dev):
    for path in ("/livez", "/readyz"):
        status, headers, _ = once(dev, get(path))
        assert status == 200
    status, headers, body = once(dev, get("/metrics"))
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert b"\nhob_uptime_seconds " in body


def test_body_without_length(dev):
    status, _, body = once(dev, post(CHAT, chat("x"), length=False))
    assert status == 411
    error_of(body)


def test_chunked_body(dev):
    status, _, body = once(dev, post(CHAT, b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=False))
    assert status == 411
    error_of(body)


def test_two_lengths(dev):
    with Connection(dev) as c:
        c.send(post(CHAT, chat("x"), "Content-Length: 3"))
        status, headers, body = c.response()
        assert status == 400
        assert headers["connection"] == "close" and c.closed()


@pytest.mark.parametrize("length", ["-1", "0x10", "1 2", "+5", "99999999999999999999999", "", "12abc"])
def test_length_that_is_no_number(dev, length):
    with Connection(dev) as c:
        c.send(post(CHAT, b'{"a":1}', length=length))
        try:
            assert c.response()[0] in (400, 411, 413)
        except EOFError:
            pass  # refused without words
        assert c.closed()


def test_length_and_chunked(dev):
    """The request-smuggling pair: whichever side is believed, the connection must end."""
    with Connection(dev) as c:
        c.send(post(CHAT, b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", "Transfer-Encoding: chunked"))
        status, _, _ = c.response()
        assert status == 400
        assert c.closed()


def test_body_over_the_limit(dev):
    with Connection(dev) as c:
        c.send(post(CHAT, b"", length=1 << 30))
        status, _, body = c.response()
        assert status == 413
        assert error_of(body)["code"] == "request_too_large"
        assert c.closed()


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"7", b'{"model": "default", "model": "default"}', b'{"a": \xff}',
                                  b'{"messages": [' + b"[" * 5000 + b"]" * 5000 + b"]}", b'{"a": 1} trailing', b"null"])
def test_body_that_is_no_object(dev, body):
    status, _, answer = once(dev, post(CHAT, body))
    assert status == 400
    error_of(answer, "invalid_request_error")


def test_wrong_content_type(dev):
    data = post(CHAT, chat("x")).replace(b"application/json", b"text/plain")
    status, _, body = once(dev, data)
    assert status == 415
    error_of(body)


@pytest.mark.parametrize("path", ["/x", "/console", "/console/", "/console/none.js", "/v1", "/v1/chat", "/v1/chat/completions/", "/v2/models",
                                  "/v1/models/" + "x" * 3000, "/%2e%2e/%2e%2e/etc/passwd"])
def test_unknown_route(dev, path):
    status, _, body = once(dev, get(path))
    assert status in (400, 403, 404, 414, 431), status
    if status == 404 and body:
        error_of(body)


@pytest.mark.parametrize("path", ["/%ff%fe", "/" + "%c3%a9" * 60, "/v1/models/%ff"])
def test_odd_paths_are_quoted_in_utf8(dev, path):
    status, _, body = once(dev, get(path))
    assert status == 404
    error_of(body.decode("utf-8"))


def test_a_long_name_is_cut_between_characters(dev):
    body = json.dumps({"x" + "\u00e9" * 60: 1}, ensure_ascii=False).encode()
    status, _, body = once(dev, post(CHAT, body))
    assert status == 400
    assert error_of(body.decode("utf-8"))["code"] == "unknown_parameter"


def test_wrong_method(dev):
    for data in (get(CHAT), post("/v1/models", {}), post("/livez", {})):
        status, headers, body = once(dev, data)
        assert status == 405
        assert headers["allow"] in ("GET", "POST")
        error_of(body)
    for method in (b"DELETE", b"PUT", b"OPTIONS", b"PATCH"):
        with Connection(dev) as c:
            c.send(get("/v1/models").replace(b"GET", method, 1))
            try:
                status = c.response()[0]
            except EOFError:
                continue  # refused without words
            assert status in (400, 403, 404, 405, 501), (method, status)


def test_head_has_no_body_that_confuses(dev):
    with Connection(dev) as c:
        c.send(get("/livez", "Connection: close").replace(b"GET", b"HEAD", 1))
        try:
            status, headers, _ = c.response(has_body=False)
        except EOFError:
            return
        assert status in (200, 405)


@pytest.mark.parametrize("data", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                                  b"GET / HTTP/9.9\r\n\r\n", b"A" * 100000, b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 20000])
def test_garbage_ends_the_connection(dev, data):
    with Connection(dev) as c:
        try:
            c.send(data)
            c.socket.shutdown(1)
        except OSError:
            pass
        while c.more():
            pass
        assert b" 200 " not in c.buffer[:20]
    assert dev.get("/livez")[0] == 200


def test_keep_alive_and_piped_gets(dev):
    body = chat("hi", max_tokens=2)
    with Connection(dev) as c:
        for _ in range(2):
            c.send(post(CHAT, body))
            status, headers, answer = c.response()
            assert status == 200 and headers["connection"] == "keep-alive"
            assert json.loads(answer)["object"] == "chat.completion"
        c.send(post(CHAT, b"{"))  # a refused body does not cost the connection
        assert c.response()[0] == 400
        c.send(get("/livez") + get("/nowhere") + get("/readyz"))
        assert [c.response()[0] for _ in range(3)] == [200, 404, 200]
        c.send(get("/livez", "Connection: close"))
        assert c.response()[1]["connection"] == "close"
        assert c.closed()


PIPED = {"get": (get("/livez"), 200, b'{"status":"ok"}'), "metrics": (get("/metrics"), 200, b"hob_connections "),
         "unknown": (get("/nowhere"), 404, b"unknown_url"), "bad": (post(CHAT, b"{"), 400, b"not valid JSON"),
         "empty": (post(CHAT, b""), 400, b"error"), "long": (post(CHAT, b"[" + b" " * 40000 + b"]"), 400, b"error"),
         "post": (post(CHAT, chat("hi", max_tokens=2)), 200, b'"object":"chat.completion"'),
         "stream": (post(CHAT, chat("hi", max_tokens=2, stream=True)), 200, b"data: [DONE]")}


@pytest.mark.parametrize("names", ["get post", "post get", "stream stream", "bad post get", "empty post", "unknown long post",
                                   "metrics stream metrics post long get bad empty stream unknown get"])
@pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
def test_requests_piped_behind_others(dev, names, together):
    """Each gets its own answer, in their order, whatever comes behind which and in which pieces."""
    requests = [PIPED[name] for name in names.split()]
    with Connection(dev) as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = b"".join(request for request, _, _ in requests)
        pieces = [data] if together else [data[i:i + 150] for i in range(0, 3000, 150)] + [data[3000:]]
        for piece in filter(None, pieces):
            c.send(piece)
        for _, status, wanted in requests:
            answer = c.response()
            assert answer[0] == status and wanted in answer[2], (wanted, answer)
        c.send(get("/livez", "Connection: close"))
        assert c.response()[0] == 200
        assert c.closed()


def test_body_in_pieces(dev):
    data = post(CHAT, chat("hi", max_tokens=2))
    with Connection(dev) as c:
        for i in range(0, len(data), 17):
            c.send(data[i:i + 17])
        assert c.response()[0] == 200


def test_body_that_drips(dev):
    """A byte now and then keeps a connection busy for nobody: the server gives it up."""
    with Connection(dev) as c:
        c.send(post(CHAT, b"", length=5000))
        c.socket.settimeout(0.2)
        end = time.monotonic() + 45
        while time.monotonic() < end:
            try:
                c.send(b" ")
                if not c.more():
                    return
                if c.buffer:
                    assert c.buffer.startswith(b"HTTP/1.1 408") or c.buffer.startswith(b"HTTP/1.1 400")
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        pytest.fail("the dripping connection was still open after 45 s")


def test_other_sites_cannot_use_a_server_without_keys(dev):
    assert once(dev, get("/v1/models").replace(b"localhost", b"evil.example"))[0] == 403
    assert once(dev, get("/v1/models", "Origin: https://evil.example"))[0] == 403
    assert once(dev, get("/v1/models", f"Origin: http://localhost:{dev.port}"))[0] == 200


def test_key_is_needed_and_told_nothing_else(tls):
    import http.client
    for path in ("/v1/models", "/v1/unknown", CHAT):
        c = http.client.HTTPSConnection("127.0.0.1", tls.port, context=tls.context, timeout=20)
        c.request("GET", path)
        answer = c.getresponse()
        assert answer.status == 401
        assert error_of(answer.read())["code"] == "invalid_api_key"
        c.close()
