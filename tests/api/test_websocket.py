# SPDX-License-Identifier: Apache-2.0
"""Responses over WebSocket: plain `websockets`, then OpenAI's own client."""
import contextlib
import json
import socket
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from wire import Connection, get

ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")


def open_socket(tls, key=True, **options):
    headers = {"Authorization": f"Bearer {tls.key}"} if key else {}
    return connect(f"wss://127.0.0.1:{tls.port}/v1/responses", ssl=tls.context, additional_headers=headers, max_size=None,
                   open_timeout=20, proxy=None, **options)


def create(text, stream_id=None, **fields):
    event = {"type": "response.create", "model": "default", "input": text, "max_output_tokens": 16, "temperature": 0, **fields}
    if stream_id:
        event["stream_id"] = stream_id
    return json.dumps(event)


def receive(ws):
    return json.loads(ws.recv(timeout=60))


def until_end(ws):
    """Events up to and including one that ends a response."""
    events = [receive(ws)]
    while events[-1]["type"] not in ENDS:
        events.append(receive(ws))
    return events


def deltas(events):
    return "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")


def final_text(event):
    return "".join(part["text"] for item in event["response"]["output"] for part in item["content"])


def test_one_response(tls):
    with open_socket(tls) as ws:
        ws.send(create("Say hello."))
        events = until_end(ws)
    assert events[0]["type"] == "response.created"
    last = events[-1]
    assert last["type"] in ("response.completed", "response.incomplete")
    assert deltas(events) and final_text(last) == deltas(events)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert not any("stream_id" in e for e in events)
    usage = last["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_two_streams_at_once(tls):
    with open_socket(tls) as ws:
        ws.send(create("Count from one to fifty.", "a", max_output_tokens=40, ignore_eos=True))
        ws.send(create("Tell me about the sea.", "b", max_output_tokens=40, ignore_eos=True))
        ended, seen = [], []
        while len(ended) < 2:
            e = receive(ws)
            seen.append(e)
            assert e["stream_id"] in ("a", "b")
            if e["type"] in ENDS:
                ended.append(e)
        first_end = seen.index(ended[0])
        other = "b" if ended[0]["stream_id"] == "a" else "a"
        assert any(e["stream_id"] == other and e["type"] == "response.output_text.delta" for e in seen[:first_end]), \
            "the streams ran one after the other"
        for end in ended:
            mine = [e for e in seen if e["stream_id"] == end["stream_id"]]
            assert final_text(end) == deltas(mine)
            assert end["response"]["usage"]["output_tokens"] == 40
        # the same again on the same lanes, alone: the same text
        for lane, text in (("a", "Count from one to fifty."), ("b", "Tell me about the sea.")):
            ws.send(create(text, lane, max_output_tokens=40, ignore_eos=True))
            alone = until_end(ws)
            assert deltas(alone) == deltas([e for e in seen if e["stream_id"] == lane])


def test_same_stream_runs_in_order(tls):
    with open_socket(tls) as ws:
        for i in range(3):
            ws.send(create(f"Say the number {i}.", "lane", max_output_tokens=4))
        open_response = None
        ended = 0
        while ended < 3:
            e = receive(ws)
            if e["type"] == "response.created":
                assert open_response is None
                open_response = e["response"]["id"]
            if e["type"] in ENDS:
                assert e["response"]["id"] == open_response
                open_response = None
                ended += 1


def test_cancel(tls):
    with open_socket(tls) as ws:
        ws.send(create("Count to a million.", "long", max_output_tokens=1500, ignore_eos=True))
        first = receive(ws)
        assert first["type"] == "response.created"
        while receive(ws)["type"] != "response.output_text.delta":
            pass
        ws.send(json.dumps({"type": "response.cancel", "response_id": first["response"]["id"]}))
        last = until_end(ws)[-1]
        assert last["response"]["status"] in ("cancelled", "incomplete"), last
        assert last["response"]["usage"]["output_tokens"] < 1500
        ws.send(create("Say hello.", "long"))
        assert until_end(ws)[-1]["type"] in ("response.completed", "response.incomplete")
        ws.send(json.dumps({"type": "response.cancel", "response_id": first["response"]["id"]}))
        error = receive(ws)
        assert error["type"] == "error" and error["error"]["code"] == "response_not_found"
    tls.wait_metric("hob_engine_running", lambda v: v == 0)


@pytest.mark.parametrize("message", ["{", "", "[]", '{"type": "no.such.event"}', '{"no": "type"}',
                                     '{"type": "response.create"}',
                                     '{"type": "response.create", "input": "x", "no_such_field": 1}',
                                     '{"type": "response.create", "input": "x", "model": "gpt-4", "stream_id": "s"}',
                                     '{"type": "response.cancel"}'])
def test_bad_events_are_told_and_the_connection_lives(tls, message):
    with open_socket(tls) as ws:
        ws.send(message)
        error = receive(ws)
        assert error["type"] == "error", error
        assert set(error["error"]) == {"message", "type", "param", "code"}
        if '"stream_id": "s"' in message:
            assert error["stream_id"] == "s" and error["error"]["code"] == "model_not_found"
        ws.send(create("Say hello.", max_output_tokens=2))
        assert until_end(ws)[-1]["type"] in ("response.completed", "response.incomplete")


def test_error_that_quotes_a_cut_name_is_utf8(tls):
    """A text message that is not UTF-8 would cost the client its connection."""
    with open_socket(tls) as ws:
        ws.send(json.dumps({"type": "response.create", "input": "x", "x" + "\u00e9" * 60: 1}, ensure_ascii=False))
        assert receive(ws)["error"]["code"] == "unknown_parameter"


@contextlib.contextmanager
def raw_socket(dev):
    """The bare bytes of a WebSocket after its handshake."""
    with Connection(dev) as c:
        c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.send(get("/v1/responses", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                   "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="))
        assert c.head()[0] == 101
        yield c


def test_message_that_comes_in_many_pieces(dev):
    """How TCP cuts a message says nothing about its fragments."""
    text = json.dumps({"type": "no.such.event", "padding": "x" * 36000}).encode()
    with raw_socket(dev) as c:
        c.send(b"\x81\xfe" + len(text).to_bytes(2, "big") + bytes(4))
        for at in range(0, len(text), 8):  # more of them than fragments are allowed, and not too slow on a busy machine
            c.send(text[at:at + 8])
            time.sleep(0.0002)
        assert c.take(1) == b"\x81", c.buffer


def test_message_that_never_ends(dev):
    with raw_socket(dev) as c:
        c.send(b"\x01\x83" + bytes(4) + b'{"t')
        c.socket.settimeout(45)
        assert c.closed()


def test_message_over_the_limit(tls):
    with open_socket(tls) as ws:
        with pytest.raises(ConnectionClosed):
            ws.send(create("x" * (9 * 1024 * 1024)))
            while True:
                receive(ws)
        assert ws.close_code in (1009, 1006), ws.close_code
    assert tls.get("/livez")[0] == 200


def test_binary_message(tls):
    with open_socket(tls) as ws:
        with pytest.raises(ConnectionClosed):
            ws.send(b"\x00\x01")
            while True:
                receive(ws)
        assert ws.close_code == 1003


def test_no_key(tls):
    with pytest.raises(InvalidStatus) as caught:
        open_socket(tls, key=False).close()
    assert caught.value.response.status_code == 401


def test_other_path(tls):
    with pytest.raises(InvalidStatus) as caught:
        connect(f"wss://127.0.0.1:{tls.port}/v1/other", ssl=tls.context, proxy=None,
                additional_headers={"Authorization": f"Bearer {tls.key}"}).close()
    assert caught.value.response.status_code == 404


def test_disconnect_cancels(tls):
    with open_socket(tls) as ws:
        ws.send(create("Count to a million.", max_output_tokens=1500, ignore_eos=True))
        while receive(ws)["type"] != "response.output_text.delta":
            pass
    tls.wait_metric("hob_engine_jobs", lambda v: v == 0)
    tls.wait_metric("hob_engine_running", lambda v: v == 0)


def test_openai_client(client, tls):
    """responses.connect(): two stream_ids at once and a cancel."""
    with client.responses.connect(websocket_connection_options={"ssl": tls.context, "proxy": None}) as connection:
        connection.response.create(model="default", input="Count from one to fifty.", max_output_tokens=32, stream_id="one")
        connection.response.create(model="default", input="Tell me about the sea.", max_output_tokens=32, stream_id="two")
        text, final = {"one": "", "two": ""}, {}
        for event in connection:
            lane = event.stream_id
            if event.type == "response.output_text.delta":
                text[lane] += event.delta
            elif event.type in ENDS:
                final[lane] = event
            if len(final) == 2:
                break
        for lane, event in final.items():
            assert event.type in ("response.completed", "response.incomplete")
            assert event.response.output_text == text[lane] and text[lane]

        connection.send_raw(create("Count to a million.", "three", max_output_tokens=1500, ignore_eos=True))
        response_id = None
        for event in connection:
            if event.type == "response.created":
                response_id = event.response.id
            elif event.type == "response.output_text.delta":
                break
        connection.send_raw(json.dumps({"type": "response.cancel", "response_id": response_id}))
        for event in connection:
            if event.type in ENDS:
                assert event.response.id == response_id
                assert event.response.status in ("cancelled", "incomplete")
                break
