# SPDX-License-Identifier: Apache-2.0
"""Event streams to the byte, and what a disconnect does."""
import json

from wire import Connection, chat, events, post

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


def test_disconnect_cancels_a_plain_request(dev):
    cancelled = dev.metric("hob_requests_cancelled_total")
    with Connection(dev) as c:
        c.send(post(CHAT, chat("Count to a million.", max_tokens=1500, ignore_eos=True)))
        dev.wait_metric("hob_engine_running", lambda v: v >= 1)
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
