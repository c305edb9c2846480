# SPDX-License-Identifier: Apache-2.0
"""Event streams to the byte, and what a disconnect does."""
import json
import re
import socket
import struct
import threading
import time

import pytest
from conftest import dev_server, started
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wire import Connection, chat, events, get, post

CHAT = "/v1/chat/completions"


def stream(server, body):
    with Connection(server) as c:
        c.send(post(CHAT, body))
        status, headers, data = c.response()
        assert status == 200
        assert headers["content-type"].startswith("text/event-stream")
        return events(data)


def test_frames(dev):
    frames = stream(dev, chat("Tell me a story.", stream=True, max_tokens=12))
    assert frames[-1] == "[DONE]"
    chunks = [json.loads(f) for f in frames[:-1]]
    assert len(chunks) > 3
    for c in chunks:
        assert c["object"] == "chat.completion.chunk" and c["id"] == chunks[0]["id"]
        assert c["model"] == chunks[0]["model"] and isinstance(c["created"], int)
        assert len(c["choices"]) == 1 and c["choices"][0]["index"] == 0
        assert not c.get("usage")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [c["choices"][0]["finish_reason"] for c in chunks]
    assert reasons[-1] in ("stop", "length") and not any(reasons[:-1])


def test_usage_comes_when_asked(dev):
    frames = stream(dev, chat("Hi.", stream=True, max_tokens=4, stream_options={"include_usage": True}))
    assert frames[-1] == "[DONE]"
    last = json.loads(frames[-2])
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] <= 4 and last["usage"]["prompt_tokens"] > 0
    assert last["usage"]["total_tokens"] == last["usage"]["completion_tokens"] + last["usage"]["prompt_tokens"]


def test_completion_frames(dev):
    with Connection(dev) as c:
        c.send(post("/v1/completions", {"model": "default", "prompt": "One, two,", "max_tokens": 6, "temperature": 0,
                                        "stream": True}))
        status, _, data = c.response()
    frames = events(data)
    assert status == 200 and frames[-1] == "[DONE]"
    assert all(json.loads(f)["object"] == "text_completion" for f in frames[:-1])


def test_every_piece_is_whole_utf8(dev):
    body = chat("Write ten emoji and the word for hello in Chinese, Arabic and Russian.", stream=True, max_tokens=48,
                temperature=1.2, seed=3)
    for frame in stream(dev, body)[:-1]:
        text = json.loads(frame)["choices"][0]["delta"].get("content") or ""
        assert "\ufffd" not in text or text.count("\ufffd") < 8
        text.encode("utf-8")  # no lone surrogates


def test_disconnect_cancels(dev):
    cancelled = dev.metric("hob_requests_cancelled_total")
    with Connection(dev) as c:
        c.send(post(CHAT, chat("Count to a million.", stream=True, max_tokens=1500, ignore_eos=True)))
        assert c.head()[0] == 200
        for _ in range(3):
            assert c.chunk()
        assert dev.metric("hob_engine_jobs") >= 1
    dev.wait_metric("hob_engine_jobs", lambda v: v == 0)
    dev.wait_metric("hob_engine_running", lambda v: v == 0)
    dev.wait_metric("hob_requests_cancelled_total", lambda v: v == cancelled + 1)


@pytest.mark.parametrize("behind", [[], [b"\r\n"], [get("/livez")], [get("/livez")] * 3], ids=["alone", "line", "piped", "pieces"])
def test_disconnect_cancels_a_plain_request(dev, behind):
    """Also when it has piped something behind it: more than one piece of that is not read, but a reset is noticed."""
    cancelled = dev.metric("hob_requests_cancelled_total")
    with Connection(dev) as c:
        c.send(post(CHAT, chat("Count to a million.", max_tokens=1500, ignore_eos=True)))
        dev.wait_metric("hob_engine_running", lambda v: v >= 1)
        for piece in behind:
            c.send(piece)
            time.sleep(0.05)
        if len(behind) > 1:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    dev.wait_metric("hob_engine_running", lambda v: v == 0)
    dev.wait_metric("hob_requests_cancelled_total", lambda v: v == cancelled + 1)


def test_reader_that_stops_holds_up_nobody(dev):
    """A stream nobody reads runs out of credit; others go on, and it goes on too once it is read."""
    with Connection(dev) as slow:
        slow.send(post(CHAT, chat("Count.", stream=True, max_tokens=200, ignore_eos=True)))
        assert slow.head()[0] == 200
        with Connection(dev) as other:
            other.send(post(CHAT, chat("Hi.", max_tokens=4)))
            assert other.response()[0] == 200
        pieces = b""
        while piece := slow.chunk():
            pieces += piece
        assert events(pieces)[-1] == "[DONE]"


# Events so large that a few dozen tokens fill the socket's buffers.
LARGE = {"stream": True, "max_tokens": 4000, "ignore_eos": True, "logprobs": True, "top_logprobs": 20}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, model):
    with started(dev_server(tmp_path_factory.mktemp("impatient"), model, "--stall-timeout-ms", "1000")) as server:
        yield server


def wait_stalled(server, count):
    server.wait_metric("hob_connections_stalled_total", lambda v: v == count)


def answer_of(frames):
    """The text and its end, however many tokens an event joins."""
    choices = [c for f in frames[:-1] for c in json.loads(f)["choices"]]
    return "".join(c["delta"].get("content", "") for c in choices), choices[-1]["finish_reason"]


def told_tokens(server):
    """How many tokens each stalled answer had, as the log says."""
    return [int(n) for n in re.findall(r"reader_stalled.* (\d+) tokens generated, \d+ bytes queued", server.log.read_text())]


def test_reader_that_never_reads_is_ended(impatient):
    beside = chat("Tell me a story.", stream=True, max_tokens=100, ignore_eos=True, temperature=0.7, seed=5)
    calm = stream(impatient, beside)
    stalled, before = (impatient.metric(f"hob_{name}_total") for name in ("connections_stalled", "answer_tokens"))
    disturbed = []
    with Connection(impatient, receive_bytes=4096) as slow, Connection(impatient, receive_bytes=4096) as dead:
        slow.send(post(CHAT, chat("Count.", **LARGE)))
        other = threading.Thread(target=lambda: disturbed.extend(stream(impatient, beside)))
        other.start()
        wait_stalled(impatient, stalled + 1)
        status, _, body = slow.response()  # all that was generated is still to be had
        assert status == 200
        *frames, last = [json.loads(f) for f in events(body)]
        assert len(frames) > 10 and all(f["choices"] for f in frames)
        assert last["error"]["code"] == "reader_stalled" and last["error"]["type"] == "invalid_request_error"
        assert slow.closed()
        other.join(60)
        assert answer_of(disturbed) == answer_of(calm)
        tokens = told_tokens(impatient)[-1]
        assert last["usage"]["completion_tokens"] == tokens
        assert 10 < tokens < 300  # credit, and what the sockets' buffers hold
        impatient.wait_metric("hob_engine_running", lambda v: v == 0)
        assert impatient.metric("hob_answer_tokens_total") == before + 100 + tokens  # none after that

        dead.send(post(CHAT, chat("Count.", **LARGE)))
        wait_stalled(impatient, stalled + 2)
        impatient.wait_metric("hob_connections", lambda v: v == 1, 20)  # the question's own


def test_socket_that_is_never_read_is_ended(impatient):
    stalled = impatient.metric("hob_connections_stalled_total")
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", impatient.port))
    ends = {}
    with connect(f"ws://127.0.0.1:{impatient.port}/v1/responses", sock=plain, max_size=None, max_queue=1, proxy=None) as ws:
        for lane in ("a", "a", "b"):
            ws.send(json.dumps({"type": "response.create", "model": "default", "input": "Count.", "stream_id": lane,
                                "max_output_tokens": 4000, "ignore_eos": True, "top_logprobs": 20,
                                "include": ["message.output_text.logprobs"]}))
        wait_stalled(impatient, stalled + 1)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                event = json.loads(ws.recv(timeout=20))
                if event["type"] in ("error", "response.failed"):
                    error = event["error"] if event["type"] == "error" else event["response"]["error"]
                    ends.setdefault(event["stream_id"], []).append(error["code"])
    assert ends == {"a": ["reader_stalled"] * 2, "b": ["reader_stalled"]}
    assert closed.value.rcvd.code == 1008
