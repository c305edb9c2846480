# SPDX-License-Identifier: Apache-2.0
"""Responses that outlive their request: stored, continued, resumed, cancelled, deleted, with OpenAI's client."""
import json
import threading
import time
import urllib.error
import urllib.request

import openai
import pytest
from conftest import limited_server, openai_client, started
from websockets.sync.client import connect

ENDED = ("completed", "incomplete", "cancelled", "failed")
LONG = {"max_output_tokens": 1500, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def small(tmp_path_factory, var):
    """Stores little, and for a short time; a second tenant, `other`."""
    limits = ("response_store_count = 6; response_store_bytes = 300000; max_background = 2; background_timeout_s = 4;"
              "response_store_ttl_s = 5; header_timeout_ms = 1000; idle_timeout_ms = 1000;")
    with started(limited_server(tmp_path_factory.mktemp("small"), var, limits, tenants=["other"])) as server:
        yield server


@pytest.fixture(scope="module")
def small_client(small):
    with openai_client(small) as c:
        yield c


def create(client, text="Say hello.", **fields):
    return client.responses.create(**{"model": "default", "input": text, "max_output_tokens": 12, "temperature": 0, **fields})


def wait_for(client, response_id, wanted=ENDED, limit_s=30):
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        answer = client.responses.retrieve(response_id)
        if answer.status in wanted:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{response_id} stayed {answer.status}")


def refused(kind, call, *args, **fields):
    with pytest.raises(kind) as caught:
        call(*args, **fields)
    assert set(caught.value.body) == {"message", "type", "param", "code"}, caught.value.body
    return caught.value.body


def text_of(events):
    return "".join(e.delta for e in events if e.type == "response.output_text.delta")


def test_stored_is_what_was_answered(client):
    made = create(client, metadata={"a": "b"}, instructions="Be brief.", top_logprobs=2, include=["message.output_text.logprobs"])
    assert made.store and made.status in ENDED and made.completed_at >= made.created_at
    assert client.responses.retrieve(made.id) == made
    items = client.responses.input_items.list(made.id).data
    assert [(i.role, i.content[0].text) for i in items] == [("user", "Say hello.")]
    client.responses.delete(made.id)
    assert refused(openai.NotFoundError, client.responses.retrieve, made.id)["code"] == "response_not_found"
    refused(openai.NotFoundError, client.responses.delete, made.id)


def test_not_stored(client):
    made = create(client, store=False)
    assert made.store is False
    refused(openai.NotFoundError, client.responses.retrieve, made.id)
    refused(openai.BadRequestError, create, client, previous_response_id=made.id)


def test_streamed_is_stored(client):
    events = list(create(client, stream=True))
    last = events[-1].response
    assert client.responses.retrieve(last.id) == last and last.output_text == text_of(events)


def test_conversation(client):
    first = create(client, "My name is Ada.", instructions="Answer in capitals.")
    second = create(client, "What is my name?", previous_response_id=first.id)
    assert second.previous_response_id == first.id and second.instructions is None
    by_hand = create(client, [{"role": "user", "content": "My name is Ada."},
                              {"role": "assistant", "content": first.output_text},
                              {"role": "user", "content": "What is my name?"}], store=False)
    assert second.output_text == by_hand.output_text and second.usage.input_tokens == by_hand.usage.input_tokens
    third = create(client, "Thanks.", previous_response_id=second.id)
    client.responses.delete(first.id)  # what follows it does not need it
    pages = list(client.responses.input_items.list(third.id, order="asc", limit=2))
    assert [i.role for i in pages] == ["user", "assistant", "user", "assistant", "user"]
    assert pages[1].content[0].text == first.output_text and len({i.id for i in pages}) == 5
    newest = client.responses.input_items.list(third.id, limit=1)
    assert newest.data[0].content[0].text == "Thanks." and newest.has_more
    body = refused(openai.BadRequestError, create, client, previous_response_id=first.id)
    assert body["code"] == "previous_response_not_found" and body["param"] == "previous_response_id"


def test_background(client):
    made = create(client, background=True)
    assert made.status == "queued" and made.background and made.output == []
    done = wait_for(client, made.id)
    assert done.output_text == create(client).output_text
    assert done.usage.output_tokens > 0


def test_background_resumed_after_a_dropped_connection(client, tls):
    stream = create(client, "Count from one to fifty.", background=True, stream=True, max_output_tokens=120,
                    extra_body={"ignore_eos": True})
    seen = []
    for event in stream:
        seen.append(event)
        if sum(e.type == "response.output_text.delta" for e in seen) == 5:
            break
    stream.close()
    assert [e.type for e in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    response_id = seen[0].response.id
    resumed = list(client.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number))
    events = seen + resumed
    assert [e.sequence_number for e in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.incomplete" and last.response.usage.output_tokens == 120
    assert text_of(events) == last.response.output_text == client.responses.retrieve(response_id).output_text
    # again from the beginning, and from its end, after it has ended
    again = list(client.responses.retrieve(response_id, stream=True))
    assert [e.to_dict() for e in again[len(seen):]] == [e.to_dict() for e in resumed]
    assert [e.type for e in again] == [e.type for e in events]
    assert list(client.responses.retrieve(response_id, stream=True, starting_after=last.sequence_number)) == []
    assert tls.metric("hob_requests_background") == 0


def test_at_rest(client, tls):
    """Once it has ended and nobody reads it, it is kept as text: what is told of it stays the same."""
    turns = [{"role": role, "content": f'{role} {i}: "\\caf\u00e9\u0001"'} for i in range(10) for role in ("user", "assistant")]
    turns.append({"role": "user", "content": "Count.", "id": "mine"})
    before = tls.metric("hob_stored_responses_bytes")
    events = list(create(client, turns, background=True, stream=True, instructions="Be brief.", metadata={"a": "b\n"}, top_p=0.7,
                         top_logprobs=2, include=["message.output_text.logprobs"]))
    response_id, text = events[0].response.id, text_of(events)
    tls.wait_metric("hob_stored_responses_bytes", lambda v: v < before + len(turns) * 512)
    assert client.responses.retrieve(response_id) == events[-1].response
    assert [e.to_dict() for e in client.responses.retrieve(response_id, stream=True)] == [e.to_dict() for e in events]
    items = list(client.responses.input_items.list(response_id, order="asc", limit=7))
    assert [(i.role, i.content[0].text) for i in items] == [(t["role"], t["content"]) for t in turns] and items[-1].id == "mine"
    answer = {"role": "assistant", "content": text}
    second = create(client, "Go on.", previous_response_id=response_id, store=False)
    by_hand = create(client, [*turns, answer, {"role": "user", "content": "Go on."}], store=False)
    assert text and second.output_text == by_hand.output_text and second.usage.input_tokens == by_hand.usage.input_tokens
    tls.wait_metric("hob_stored_responses_bytes", lambda v: v < before + len(turns) * 512)  # it rests again


def test_background_followed_by_several(client):
    made = create(client, "Count.", background=True, max_output_tokens=60, extra_body={"ignore_eos": True})
    streams = [client.responses.retrieve(made.id, stream=True) for _ in range(3)]
    texts = {text_of(list(s)) for s in streams}
    assert len(texts) == 1 and texts == {client.responses.retrieve(made.id).output_text}


def test_cancel_in_the_background(client, tls):
    stream = create(client, "Count to a million.", background=True, stream=True, **LONG)
    seen = []
    for event in stream:
        seen.append(event)
        if len(seen) == 12:
            cancelled = client.responses.cancel(seen[0].response.id)
            assert cancelled.status == "cancelled"
    assert seen[-1].type == "response.incomplete" and seen[-1].response.status == "cancelled"
    assert seen[-1].response.output_text == text_of(seen) != ""
    assert client.responses.cancel(cancelled.id).status == "cancelled"
    assert create(client, "Go on.", previous_response_id=cancelled.id).usage.input_tokens > cancelled.usage.output_tokens
    tls.wait_metric("hob_engine_running", lambda v: v == 0)
    done = create(client)
    assert refused(openai.BadRequestError, client.responses.cancel, done.id)["code"] == "response_already_finished"
    refused(openai.NotFoundError, client.responses.cancel, "resp_none")


def test_cancel_of_one_that_streams(client):
    seen = []
    for event in create(client, "Count to a million.", stream=True, **LONG):
        seen.append(event)
        if len(seen) == 10:
            assert client.responses.cancel(seen[0].response.id).status == "cancelled"
    assert seen[-1].response.status == "cancelled" and seen[-1].response.output_text == text_of(seen)


def test_delete_while_it_runs(client, tls):
    stream = create(client, "Count to a million.", background=True, stream=True, **LONG)
    seen = [next(stream) for _ in range(8)]
    client.responses.delete(seen[0].response.id)
    refused(openai.NotFoundError, client.responses.retrieve, seen[0].response.id)
    seen += list(stream)
    assert seen[-1].response.status == "cancelled" and seen[-1].response.output_text == text_of(seen)
    tls.wait_metric("hob_engine_running", lambda v: v == 0)
    tls.wait_metric("hob_requests_background", lambda v: v == 0)


def test_dropped_connection_leaves_what_there_was(client, tls):
    stream = create(client, "Count to a million.", stream=True, **LONG)
    seen = [next(stream) for _ in range(10)]
    stream.close()
    left = wait_for(client, seen[0].response.id)
    assert left.status == "cancelled" and left.output_text.startswith(text_of(seen))
    tls.wait_metric("hob_engine_running", lambda v: v == 0)


def test_running_response(client):
    made = create(client, "Count to a million.", background=True, **LONG)
    running = wait_for(client, made.id, ("in_progress",))
    assert running.usage is None
    body = refused(openai.BadRequestError, create, client, previous_response_id=made.id)
    assert body["code"] == "previous_response_not_finished"
    client.responses.cancel(made.id)


def test_background_that_cannot_be_done(client):
    made = create(client, "one two three " * 6000, background=True)
    failed = wait_for(client, made.id)
    assert failed.status == "failed" and failed.error.code == "context_length_exceeded" and failed.output == []
    events = list(client.responses.retrieve(made.id, stream=True))
    assert [e.type for e in events] == ["response.created", "response.queued", "response.failed"]
    assert events[-1].response.error.code == "context_length_exceeded"


@pytest.mark.parametrize("fields, param", [
    ({"background": True, "store": False}, "background"), ({"background": "yes"}, "background"), ({"store": 1}, "store"),
    ({"previous_response_id": 5}, "previous_response_id"), ({"previous_response_id": ""}, "previous_response_id"),
    ({"input": []}, "input"), ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
    ({"input": [{"role": "user", "content": "x", "id": 5}]}, "input[0].id"), ({"conversation": "x"}, "conversation"),
    ({"tools": [{"type": "web_search"}]}, "tools"), ({"text": {"format": {"type": "json_object"}}}, "text.format"),
    ({"hob_queue_events": True}, "hob_queue_events"),
    ({"hob_queue_events": True, "stream": True, "background": True}, "hob_queue_events"), ({"n": 2}, "n"), ({"max_output_tokens": 0}, "max_output_tokens"),
])
def test_bad_values_are_named(client, fields, param):
    body = refused(openai.BadRequestError, client.responses.create,
                   **{"model": "default", "input": "x", "extra_body": fields})
    assert param in (body["param"] or "")


@pytest.mark.parametrize("path, status", [
    ("?stream=maybe", 400), ("?starting_after=5", 400), ("?stream=true&starting_after=-1", 400), ("?&stream=false&&no_such=1", 400),
    ("?stream=false&include=" + "x" * 300, 400), ("?no_such=1", 400),
    ("?stream=true", 400), ("/input_items?limit=0", 400), ("/input_items?order=up", 400), ("/input_items?after=x", 400),
    ("/nothing", 404), ("/cancel", 405), ("?include=message.output_text.logprobs", 200), ("/input_items?limit=1", 200)])
def test_queries(client, tls, path, status):
    made = create(client, max_output_tokens=1)
    got, body = tls.get(f"/v1/responses/{made.id}{path}")
    assert got == status, body


def test_other_tenant(small, small_client):
    mine = create(small_client)
    with openai_client(small, "hob_other") as other:
        for call in (other.responses.retrieve, other.responses.delete, other.responses.cancel, other.responses.input_items.list):
            assert refused(openai.NotFoundError, call, mine.id)["code"] == "response_not_found"
        refused(openai.BadRequestError, create, other, previous_response_id=mine.id)
        assert create(other).output_text == mine.output_text
    assert small_client.responses.retrieve(mine.id).id == mine.id


def padded(server, size, tokens=2, **fields):
    """The id of a response to a request of so many bytes."""
    body = json.dumps({"model": "default", "input": "Hi.", "max_output_tokens": tokens, **fields}).encode()
    request = urllib.request.Request(server.url + "/v1/responses", body.ljust(size), {
        "Authorization": f"Bearer {server.key}", "Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60, context=server.context) as answer:
        return json.load(answer)["id"]


def test_store_is_bounded(small, small_client):
    made = [create(small_client, f"Say {i}.", max_output_tokens=2).id for i in range(8)]
    kept = [i for i in made if small.get(f"/v1/responses/{i}")[0] == 200]
    assert kept == made[-6:]
    large = [padded(small, 0, input="-" * 90000) for _ in range(4)]  # 64 bytes a token
    kept = [i for i in large if small.get(f"/v1/responses/{i}")[0] == 200]
    assert kept == large[-3:]
    assert small.metric("hob_stored_responses_bytes") <= 300000
    small.wait_metric("hob_stored_responses", lambda v: v == 0, 10)  # their time is over
    assert small.metric("hob_stored_responses_bytes") == 0


def test_background_is_bounded(small, small_client):
    fields = {"background": True, "max_output_tokens": 4000, "extra_body": {"ignore_eos": True}}
    running = [create(small_client, "Count.", **fields) for _ in range(2)]
    with pytest.raises(openai.RateLimitError) as caught:
        create(small_client, "Count.", **fields)
    assert caught.value.body["code"] == "too_many_background" and int(caught.value.response.headers["retry-after"]) > 0
    # followed for longer than a connection may be without a request
    followed = list(small_client.responses.retrieve(running[0].id, stream=True))
    ended = [followed[-1].response, wait_for(small_client, running[1].id)]
    assert followed[-1].type == "response.failed" and text_of(followed) == ended[0].output_text
    assert all(e.status == "failed" and e.error.code == "background_timeout" and e.output_text for e in ended)
    small.wait_metric("hob_engine_running", lambda v: v == 0)


def test_background_is_not_ended_by_others(small, small_client):
    """Neither by large requests in the foreground nor by one in the background that finds no room."""
    running = create(small_client, "Count.", background=True, max_output_tokens=160, extra_body={"ignore_eos": True})
    threads = [threading.Thread(target=padded, args=(small, 140000, 160), kwargs={"ignore_eos": True}) for _ in range(2)]
    for t in threads:
        t.start()
    for size, status in ((223000, 429), (230000, 413)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            padded(small, size, background=True)
        assert caught.value.code == status
        caught.value.close()
    assert wait_for(small_client, running.id).status == "incomplete"
    for t in threads:
        t.join()


def test_background_that_grows_too_large(small, small_client):
    made = create(small_client, "Count.", background=True, max_output_tokens=4000, top_logprobs=20,
                  include=["message.output_text.logprobs"], extra_body={"ignore_eos": True})
    ended = wait_for(small_client, made.id)
    assert ended.status == "failed" and ended.error.code == "response_store_full" and ended.output_text
    small.wait_metric("hob_engine_running", lambda v: v == 0)


def test_over_websocket(client, tls):
    def run(ws, text, **fields):
        ws.send(json.dumps({"type": "response.create", "model": "default", "input": text, "max_output_tokens": 12,
                            "temperature": 0, **fields}))
        event = json.loads(ws.recv(timeout=60))
        while event["type"] not in ("response.completed", "response.incomplete", "error"):
            event = json.loads(ws.recv(timeout=60))
        return event

    with connect(f"wss://127.0.0.1:{tls.port}/v1/responses", ssl=tls.context, proxy=None,
                 additional_headers={"Authorization": f"Bearer {tls.key}"}) as ws:
        first = run(ws, "My name is Ada.")["response"]
        second = run(ws, "What is my name?", previous_response_id=first["id"])["response"]
        assert second["previous_response_id"] == first["id"]
        assert client.responses.retrieve(second["id"]).output_text == second["output"][0]["content"][0]["text"]
        assert run(ws, "x", previous_response_id="resp_none")["error"]["code"] == "previous_response_not_found"
        assert run(ws, "x", background=True)["error"]["param"] == "background"
