# SPDX-License-Identifier: Apache-2.0
"""What a stream says before its first token and when its reader is slow, and how errors reach OpenAI's client."""
import contextlib
import json
import os
import signal
import threading
import time

import openai
import pytest
from conftest import dev_server, limited_server, openai_client, started
from websockets.sync.client import connect
from wire import Connection, chat, events, post, token_of

CHAT = "/v1/chat/completions"
BEAT = b": hob\n\n"
QUESTION = [{"role": "user", "content": "Count."}]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory, var):
    """One request at a time, two may wait; heartbeats come soon."""
    with started(limited_server(tmp_path_factory.mktemp("narrow"), var, "heartbeat_ms = 100; max_body_bytes = 200000;",
                                "max_sequences = 1; max_waiting = 2;")) as server:
        yield server


@pytest.fixture(scope="module")
def narrow_client(narrow):
    with openai_client(narrow) as c:
        yield c


@contextlib.contextmanager
def busy(client):
    """The server's one place is taken until what this yields is called."""
    stream = client.chat.completions.create(model="default", messages=QUESTION, stream=True, max_tokens=4000,
                                            extra_body={"ignore_eos": True})
    try:
        while not (part := next(stream)).choices or not part.choices[0].delta.content:
            pass
        yield stream.close
    finally:
        stream.close()


@contextlib.contextmanager
def ask(server, path, body):
    """A connection over TLS that shows every byte of the answer."""
    with Connection(server) as c:
        c.socket = server.context.wrap_socket(c.socket, server_hostname="127.0.0.1")
        c.send(post(path, body, f"Authorization: Bearer {server.key}"))
        yield c


def rest_of(c):
    whole = b""
    while piece := c.chunk():
        whole += piece
    return whole


@pytest.mark.parametrize("path, body, first, last", [
    (CHAT, chat("Hi.", stream=True, max_tokens=4), b'data: {"id":"chatcmpl-', b"data: [DONE]"),
    ("/v1/responses", {"model": "default", "input": "Hi.", "stream": True, "max_output_tokens": 4},
     b"event: response.created\n", b"event: response.")])
def test_heartbeats(narrow, narrow_client, path, body, first, last):
    with busy(narrow_client) as stop, ask(narrow, path, body) as c:
        status, headers = c.head()
        assert status == 200 and headers["content-type"].startswith("text/event-stream")
        pieces = [c.chunk() for _ in range(8)]
        assert pieces.count(BEAT) >= 3
        stop()
        pieces += rest_of(c).decode().replace("\n\n", "\n\n\0").encode().split(b"\0")[:-1]
        pieces = [p for p in pieces if p != BEAT]
        assert pieces[0].startswith(first) and pieces[-1].startswith(last)


def test_heartbeats_do_not_disturb_the_client(narrow, narrow_client):
    result = []

    def read():
        result.extend(narrow_client.chat.completions.create(model="default", messages=QUESTION, stream=True, max_tokens=4,
                                                            extra_body={"ignore_eos": True}))
    with busy(narrow_client) as stop:
        reader = threading.Thread(target=read)
        reader.start()
        time.sleep(1)
        stop()
        reader.join(60)
    assert result[-1].choices[0].finish_reason == "length"


def test_pings(narrow, narrow_client):
    with busy(narrow_client) as stop, Connection(narrow) as c:
        c.socket = narrow.context.wrap_socket(c.socket, server_hostname="127.0.0.1")
        c.send(("GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                f"Authorization: Bearer {narrow.key}\r\n\r\n").encode())
        assert c.head()[0] == 101
        event = json.dumps({"type": "response.create", "input": "Hi.", "max_output_tokens": 4}).encode()
        assert len(event) < 126
        c.send(b"\x81" + bytes([0x80 | len(event)]) + bytes(4) + event)
        # RUN is accepted at once: what the response begins with comes before the pings
        seen = []
        while seen.count(0x89) < 2:
            kind, size = c.take(2)
            if size == 126:
                size = int.from_bytes(c.take(2), "big")
            data = c.take(size)
            seen.append(kind)
            if kind == 0x89:
                assert data == b"hob"
        stop()


def places(frames):
    return [f["hob_position"] for f in frames if f.get("type") == "hob.queue"]


def test_queue_events(narrow, narrow_client):
    def queue(n):
        return {**chat("Hi.", stream=True, max_tokens=4), "hob_queue_events": True, "user": str(n)}
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(busy(narrow_client))
        waiting = []
        for n in range(2):
            waiting.append(stack.enter_context(ask(narrow, CHAT, queue(n))))
            assert waiting[n].head()[0] == 200
        time.sleep(0.5)
        stop()
        seen = []
        for c in waiting:
            frames = [f[6:] for f in rest_of(c).decode().split("\n\n") if f.startswith("data: ")]
            assert frames[-1] == "[DONE]"
            frames = [json.loads(f) for f in frames[:-1]]
            seen.append(places(frames))
            assert all(f["choices"] == [] for f in frames[:len(seen[-1])])
            assert all(f["object"] == "chat.completion.chunk" for f in frames[len(seen[-1]):])
    assert seen[0] == [0] and seen[1][0] == 1 and seen[1] == sorted(seen[1], reverse=True)


def test_queue_events_over_websocket(narrow, narrow_client):
    with busy(narrow_client) as stop, \
            connect(f"wss://127.0.0.1:{narrow.port}/v1/responses", ssl=narrow.context, proxy=None,
                    additional_headers={"Authorization": f"Bearer {narrow.key}"}) as ws:
        for lane in "abb":  # the last one is behind another: it waits for that, and for no place
            ws.send(json.dumps({"type": "response.create", "input": "Hi.", "max_output_tokens": 4, "stream_id": lane,
                                "hob_queue_events": True}))
        seen, ends = {"a": [], "b": []}, 0
        while ends < 3:
            event = json.loads(ws.recv(timeout=60))
            if event["type"] == "hob.queue":
                seen[event["stream_id"]].append(event["hob_position"])
                if all(seen.values()):
                    stop()
            ends += event["type"] in ("response.completed", "response.incomplete")
    assert seen["a"][0] == 0 and seen["b"][0] == max(seen["b"]) == 1


def test_slow_reader_gets_larger_events(own):
    """Tokens that come while an event waits to be sent are joined into the next one; the answer is the same."""
    body = chat("Write ten emoji and the word for hello in Chinese, Arabic and Russian.", stream=True, max_tokens=100,
                ignore_eos=True, logprobs=True, top_logprobs=20, temperature=1.2, seed=3)

    def read(slowly):
        with Connection(own, receive_bytes=4096 if slowly else None) as c:
            c.send(post(CHAT, body))
            if slowly:  # until its credit is used up
                own.wait_metric("hob_engine_stalled", lambda v: v == 1)
            choices = [json.loads(f)["choices"][0] for f in events(c.response()[2])[:-1]]
        parts = [[t["token"] for t in c["logprobs"]["content"]] for c in choices if c["logprobs"]]
        return ("".join(c["delta"].get("content", "") for c in choices), sum(parts, []), choices[-1]["finish_reason"]), parts

    fast, _ = read(False)
    slow, parts = read(True)
    assert slow == fast
    assert max(len(p) for p in parts) >= 8


# ---- errors as OpenAI's client sees them ----

def create(client, **fields):
    return client.chat.completions.create(**{"model": "default", "messages": QUESTION, "max_tokens": 4, **fields})


def test_error_classes(narrow, narrow_client, dev):
    with pytest.raises(openai.BadRequestError):
        create(narrow_client, temperature=9)
    with openai_client(narrow, "hob_wrong") as stranger, pytest.raises(openai.AuthenticationError):
        create(stranger)
    with openai_client(dev, default_headers={"Host": "example.com"}) as other_site, \
            pytest.raises(openai.PermissionDeniedError) as caught:
        create(other_site)
    assert caught.value.body["code"] == "forbidden_host"
    with pytest.raises(openai.NotFoundError):
        create(narrow_client, model="gpt-4")
    with pytest.raises(openai.APIStatusError) as caught:
        create(narrow_client, messages=[{"role": "user", "content": "x" * 300000}])
    assert caught.value.status_code == 413 and caught.value.body["code"] == "request_too_large"


def test_busy_and_its_retry(narrow, narrow_client):
    """Refused with 429 and Retry-After, which the client keeps to; then it is served."""
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(busy(narrow_client))
        for _ in range(2):
            stack.enter_context(ask(narrow, CHAT, chat("Hi.", max_tokens=2)))
        narrow.wait_metric("hob_engine_jobs", lambda v: v == 3)
        with pytest.raises(openai.RateLimitError) as caught:
            create(narrow_client)
        wait_s = int(caught.value.response.headers["retry-after"])
        assert caught.value.body["code"] == "server_busy" and 1 <= wait_s <= 60
        with pytest.raises(openai.RateLimitError):
            create(narrow_client, n=2)
        threading.Timer(0.3, stop).start()
        began = time.monotonic()
        with openai_client(narrow, max_retries=3) as patient:
            assert create(patient).choices[0].message.content
        assert time.monotonic() - began >= 1


def test_unavailable(tmp_path, model):
    server = dev_server(tmp_path, model, "--memory-mb", "320", "--context", "2048", "--kv-tokens", "4096")
    with started(server), contextlib.ExitStack() as stack, openai_client(server) as client:
        for _ in range(4):
            c = stack.enter_context(Connection(server))
            c.send(post(CHAT, b"{" + b" " * (8 * 2**20 - 2000), length=8 * 2**20))
        server.wait_metric("hob_buffers_bytes", lambda v: v > 31 * 2**20)
        with pytest.raises(openai.InternalServerError) as caught:
            create(client, messages=[{"role": "user", "content": "x" * 8000000}])
        assert caught.value.status_code == 503 and caught.value.body["code"] == "out_of_memory"


@pytest.fixture(params=["poison", "prepare"])
def deadly(request, tmp_path, var, model, hobctl, monkeypatch):
    """A server whose engine dies in the step, or in the tokenizer, of a request with the word zebra in it."""
    monkeypatch.setenv("HOB_ENGINE_FAULT", f"{request.param}:{token_of(hobctl, model, ' zebra')}")
    with started(limited_server(tmp_path, var, "heartbeat_ms = 100;")) as server:
        yield request.param, server


def test_error_when_the_status_is_out(deadly):
    """A request that kills its engines, after heartbeats: the error is an event."""
    fault, server = deadly
    fields = {"model": "default", "input": "Draw a zebra."}
    if fault == "prepare":
        with ask(server, CHAT, chat("Draw a zebra.", stream=True)) as c:
            assert c.head()[0] == 200
            error = json.loads(rest_of(c).replace(BEAT, b"")[6:])
            assert error["error"]["code"] == "request_poisoned" and error["usage"]["completion_tokens"] == 0
        with ask(server, "/v1/responses", {**fields, "stream": True}) as c:
            assert c.head()[0] == 200 and c.chunk() == BEAT
            name, data = rest_of(c).replace(BEAT, b"").rstrip().split(b"\n")
            assert name == b"event: error" and json.loads(data[6:])["code"] == "request_poisoned"
        return
    with openai_client(server) as client:
        with pytest.raises(openai.APIError) as caught:
            list(client.chat.completions.create(model="default", stream=True,
                                                messages=[{"role": "user", "content": "Draw a zebra."}]))
        assert caught.value.body["code"] == "request_poisoned"
        made = client.responses.create(**fields, background=True)
        last = list(client.responses.retrieve(made.id, stream=True))[-1]
        assert last.type == "response.failed" and last.response.error.code == "request_poisoned"
        assert client.responses.retrieve(made.id) == last.response


def test_background_survives_its_engine(own):
    with openai_client(own) as client:
        fields = {"model": "default", "input": "Tell me a story.", "max_output_tokens": 120, "temperature": 0.7,
                  "extra_body": {"ignore_eos": True, "seed": 5}}
        calm = client.responses.create(**fields)
        texts = []
        for event in client.responses.create(background=True, stream=True, **fields):
            if event.type == "response.output_text.delta":
                texts.append(event.delta)
                if len(texts) == 10:
                    os.kill(own.engines()[0], signal.SIGKILL)
        assert event.type == "response.incomplete" and event.response.output_text == calm.output_text == "".join(texts)
    assert own.metric("hob_engine_restarts_total") == 1


def test_more_choices_than_places(narrow, narrow_client):
    for create_many, param in ((lambda: create(narrow_client, n=4), "n"),
                               (lambda: narrow_client.completions.create(model="default", prompt=["a"] * 4), "prompt")):
        with pytest.raises(openai.BadRequestError) as caught:
            create_many()
        assert caught.value.body["code"] == "invalid_value" and caught.value.body["param"] == param


def test_choices_keep_their_places(narrow, narrow_client):
    """Who comes while a prompt is computed takes no place of the choices that share it."""
    with ask(narrow, CHAT, chat("Count slowly. " * 600, n=3, max_tokens=4, stream=True)) as c:
        narrow.wait_metric("hob_engine_jobs", lambda v: v >= 1)
        with pytest.raises(openai.RateLimitError):
            create(narrow_client)
        status, _, body = c.response()
        assert status == 200 and events(body.replace(BEAT, b""))[-1] == "[DONE]"
