# SPDX-License-Identifier: Apache-2.0
"""HTTP by hand, for tests that must see or send exact bytes."""
import json
import socket

WORDS = ("harbour crane lifts red container above quiet water while gulls follow tide clerk writes weight crate long paper ledger "
         "noon bright engine counts slow river seven lantern copper window market early signal north garden stone").split()


class Connection:
    """A plain TCP connection that reads HTTP/1.1 responses one by one."""

    def __init__(self, server, timeout=60, receive_bytes=None):
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_bytes:  # of the kernel's buffer; has to be known before the connection
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect(("127.0.0.1", server.port))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        """False at the end of the connection."""
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.buffer += data
        return bool(data)

    def take(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError(f"{count} bytes wanted, got {self.buffer!r}")
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                raise EOFError(f"a line wanted, got {self.buffer!r}")
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def head(self):
        """Status and headers (names in lower case)."""
        version, status = self.line().split(" ", 2)[:2]
        assert version in ("HTTP/1.1", "HTTP/1.0"), version
        headers = {}
        while line := self.line():
            name, value = line.split(":", 1)
            assert name.lower() not in headers, f"header twice: {name}"
            headers[name.lower()] = value.strip()
        return int(status), headers

    def chunk(self):
        """One piece of a chunked body; b"" at its end."""
        size = int(self.line(), 16)
        data = self.take(size)
        assert self.take(2) == b"\r\n"
        return data

    def response(self, has_body=True):
        status, headers = self.head()
        body = b""
        if has_body and headers.get("transfer-encoding") == "chunked":
            while piece := self.chunk():
                body += piece
        elif has_body and "content-length" in headers:
            body = self.take(int(headers["content-length"]))
        elif has_body:
            while self.more():
                pass
            body, self.buffer = self.buffer, b""
        return status, headers, body

    def closed(self):
        """True when the server ends the connection without sending anything more."""
        return not self.buffer and not self.more()


def post(path, body, *headers, length=None):
    """The bytes of a POST; body may be an object for JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    if length is not False:
        lines.append(f"Content-Length: {len(data) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def get(path, *headers):
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers]).encode() + b"\r\n\r\n"


def prose(rng, words):
    """A prompt of so many words, drawn with rng."""
    return " ".join(rng.choice(WORDS) for _ in range(words))


def chat(content, **fields):
    return {"model": "default", "messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0,
            **fields}


def events(body):
    """The data of each event of a whole event stream, checked to the byte."""
    text = body.decode("utf-8")
    assert text.endswith("\n\n"), text[-80:]
    result = []
    for frame in text[:-2].split("\n\n"):
        if frame == ": hob":  # the heartbeat of one that waits
            continue
        assert frame.startswith("data: ") and "\n" not in frame, frame
        result.append(frame[6:])
    return result


def token_of(hobctl, model, word):
    """The id of a word that is one token."""
    ids = json.loads(hobctl("tokenize", "--model", model, input=word).stdout)["ids"]
    assert len(ids) == 1, ids
    return ids[0]


def error_of(body, status_type=None):
    """The error object of a refusal, checked to have OpenAI's shape."""
    answer = json.loads(body)
    assert set(answer) == {"error"}, answer
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["type"], str)
    if status_type:
        assert error["type"] == status_type
    return error
