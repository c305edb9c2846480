# SPDX-License-Identifier: Apache-2.0
"""A request that would wait too long is refused at once and told when to come back; what one would take can be asked."""
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import PACE, dev_server, limited_server, started
from wire import Connection, chat, post

CHAT = "/v1/chat/completions"
PATIENCE_MS = 2000 * PACE
BUSY_TOKENS = 6000 if PACE == 1 else 3000  # longer than the patience, shorter than the longest Retry-After
LONG = [{"role": "user", "content": "harbour " * 300}]


def message(server, path, body):
    return post(path, body, *([f"Authorization: Bearer {server.key}"] if server.key else []))


def open_to(server):
    c = Connection(server, timeout=60 * PACE)
    if server.ca:
        c.socket = server.context.wrap_socket(c.socket, server_hostname="localhost")
    return c


def ask(server, path, body):
    """Status, headers and body."""
    with open_to(server) as c:
        c.send(message(server, path, body))
        status, headers, answer = c.response()
        return status, headers, json.loads(answer)


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, model):
    """One request at a time; others wait PATIENCE_MS for their first token at most."""
    folder = tmp_path_factory.mktemp("impatient")
    with started(dev_server(folder, model, "--max-sequences", "1", "--patience-ms", str(PATIENCE_MS))) as server:
        server.wait_metric("hob_engine_cost_step_1_us", lambda v: v > 0)
        yield server


class Busy:
    """The server's one place is taken."""
    def __init__(self, server, **options):
        self.c = open_to(server)
        self.c.send(message(server, CHAT, {**chat("Count.", stream=True, max_tokens=BUSY_TOKENS), "ignore_eos": True, **options}))

    def __enter__(self):
        assert self.c.head()[0] == 200
        while b'"content":"' not in self.c.chunk():
            pass
        return self

    def __exit__(self, *_):
        self.c.__exit__(None, None, None)


def estimate(server, **body):
    return ask(server, "/hob/v1/estimate", {"model": "default", **body})


def test_estimate_tells_the_usage(impatient):
    for path, body, tokens in ((CHAT, {"messages": LONG, "max_tokens": 3}, "prompt_tokens"),
                               ("/v1/completions", {"prompt": "harbour " * 90, "max_tokens": 3}, "prompt_tokens"),
                               ("/v1/responses", {"input": "seven cranes " * 90, "max_output_tokens": 3}, "input_tokens")):
        before = impatient.metric("hob_engine_prefill_tokens_total")
        status, _, first = estimate(impatient, **body)
        assert status == 200 and first["object"] == "hob.estimate" and first["admitted"] is True, first
        assert first["max_tokens"] == 3 and 0 < first["predicted_ttft_ms"] <= first["predicted_duration_ms"]
        assert impatient.metric("hob_engine_prefill_tokens_total") == before, "it was computed"
        status, _, answer = ask(impatient, path, {"model": "default", **body})
        assert status == 200 and answer["usage"][tokens] == first["prompt_tokens"]
        _, _, second = estimate(impatient, **body)
        assert second["cached_tokens"] == (first["prompt_tokens"] - 1) // 32 * 32 > first["cached_tokens"]
        assert second["predicted_ttft_ms"] < first["predicted_ttft_ms"] or first["prompt_tokens"] < 100


def test_estimate_refuses_what_a_request_would(impatient):
    status, _, body = estimate(impatient, messages=[{"role": "user", "content": "x"}], temperature=9)
    assert status == 400 and body["error"]["param"] == "temperature"
    status, _, body = estimate(impatient)
    assert status == 400 and body["error"]["param"] == "messages"
    status, _, body = estimate(impatient, prompt=["one", "two"])
    assert status == 400 and body["error"]["param"] == "prompt"
    status, _, body = estimate(impatient, messages=[{"role": "user", "content": "harbour " * 20000}])
    assert status == 400 and body["error"]["code"] == "context_length_exceeded"


def test_patience(impatient):
    shed = impatient.metric("hob_requests_shed_total")
    question = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 4}
    with Busy(impatient):
        status, _, body = estimate(impatient, **question)
        assert status == 200 and body["admitted"] is False and body["reason"] == "patience_ms", body
        assert body["predicted_ttft_ms"] > PATIENCE_MS
        assert impatient.metric("hob_requests_shed_total") == shed
        status, headers, body = ask(impatient, CHAT, {"model": "default", **question})
        error = body["error"]
        assert status == 429 and error["code"] == "server_busy" and error["hob_reason"] == "patience_ms", body
        assert int(headers["retry-after"]) >= 1 and error["hob_retry_after_ms"] >= 1000
        # who comes next is told a later time
        _, _, later = ask(impatient, CHAT, {"model": "default", **question, "max_tokens": 200})
        _, _, last = ask(impatient, CHAT, {"model": "default", **question})
        assert last["error"]["hob_retry_after_ms"] > error["hob_retry_after_ms"], (error, later, last)
        assert impatient.metric("hob_requests_shed_total") == shed + 3
    impatient.wait_metric("hob_engine_running", lambda v: v == 0)
    assert ask(impatient, CHAT, {"model": "default", **question})[0] == 200


def test_promises_to_one_tenant_hold_up_no_other(tmp_path, var):
    """Who asks again and again is told later and later times; of others only a few count."""
    server = limited_server(tmp_path, var, "", "max_sequences = 1;", tenants=("b",))
    with Path(server.command[2]).open("a") as conf:
        conf.write(f"key_limits = {{ patience_ms = {PATIENCE_MS}; }};\n")
    question = {"model": "default", "messages": [{"role": "user", "content": "Count."}], "max_tokens": 200 // PACE}
    with started(server):
        server.wait_metric("hob_engine_cost_step_1_us", lambda v: v > 0)
        with Busy(server):
            told, turns = [], []
            for _ in range(24):
                told.append(ask(server, CHAT, question)[2]["error"]["hob_retry_after_ms"])
                turns.append(time.monotonic() * 1000 + told[-1])
            key, server.key = server.key, "hob_b"
            other = ask(server, CHAT, question)[2]["error"]["hob_retry_after_ms"]
            server.key = key
            last = ask(server, CHAT, question)[2]["error"]["hob_retry_after_ms"]
    assert all(a < b for a, b in zip(turns, turns[1:])), (told, turns)  # whatever is learnt meanwhile of the engine's speed
    assert told[0] < told[7] < told[23] and other < last, (told, other, last)


def test_one_that_waits_little_is_let_in(impatient):
    """The place is free soon: the one before has few tokens left."""
    with Busy(impatient, max_tokens=40):
        status, _, body = ask(impatient, CHAT, {"model": "default", "messages": [{"role": "user", "content": "Count."}],
                                                "max_tokens": 4})
    assert status == 200, body


def test_queue_is_bounded_in_tokens(tmp_path, var):
    with started(limited_server(tmp_path, var, "heartbeat_ms = 10000;",
                                "max_sequences = 1; max_waiting_tokens = 1000;")) as server:
        small = {"model": "default", "messages": [{"role": "user", "content": "Count."}], "max_tokens": 60}
        with Busy(server):
            def wait():
                answers.append(ask(server, CHAT, {**small, "max_tokens": 350}))
            answers = []
            thread = threading.Thread(target=wait)
            thread.start()
            server.wait_metric("hob_engine_waiting", lambda v: v == 1)
            status, headers, body = ask(server, CHAT, {**small, "max_tokens": 350})  # large, beside a large one
            assert status == 429 and body["error"]["hob_reason"] == "large_requests", body
            assert int(headers["retry-after"]) >= 1
            for more in ({"max_tokens": 900}, {"max_tokens": 300, "n": 3}):
                status, _, body = ask(server, CHAT, {**small, **more})
                assert status == 429 and body["error"]["hob_reason"] == "max_waiting_tokens", body
            began = time.monotonic()
            with open_to(server) as c:  # a small one may wait
                c.send(message(server, CHAT, {**small, "stream": True, "hob_queue_events": True}))
                assert c.head()[0] == 200
                assert time.monotonic() - began < 20
        thread.join(60 * PACE)
        assert answers[0][0] == 200, answers


def test_estimate_of_what_would_be_refused(tmp_path, var, hobctl):
    with started(limited_server(tmp_path, var, "heartbeat_ms = 10000;", "max_sequences = 1; max_waiting = 0;")) as server:
        question = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 4}
        assert estimate(server, **question)[2]["admitted"] is True
        with Busy(server):
            _, _, body = estimate(server, **question)
            assert body["admitted"] is False and body["reason"] == "max_waiting", body
            assert ask(server, CHAT, {"model": "default", **question})[2]["error"]["hob_reason"] == "max_waiting"
        add = ["keys", "add", "poor", "--tokens-per-minute", "100", "--requests-per-minute", "2", "--socket",
               tmp_path / "var/hob.sock"]
        server.key = hobctl(*add).stdout.decode().strip()
        limited = server.metric("hob_requests_limited_total")
        server.wait_metric("hob_engine_jobs", lambda v: v == 0)
        status, _, body = estimate(server, **{**question, "max_tokens": 200})
        assert status == 200 and body["admitted"] is False and body["reason"] == "request_too_large", body
        assert server.metric("hob_requests_limited_total") == limited
        assert estimate(server, **question)[2]["admitted"] is True  # it counts, as the one before
        status, _, body = estimate(server, **question)
        assert status == 429 and body["error"]["hob_reason"] == "requests_per_minute", body
        assert server.metric("hob_requests_limited_total") == limited + 1


def test_estimates_under_way_are_bounded(tmp_path, var):
    """Of one key, and in all: while the engine stands still they pile up."""
    server = limited_server(tmp_path, var, "max_estimates = 3;", tenants=("b",))
    question = {"model": "default", "messages": [{"role": "user", "content": "Count."}]}

    def begin(key):
        c = open_to(server)
        c.send(post("/hob/v1/estimate", question, f"Authorization: Bearer {key}"))
        return c

    with started(server):
        engine, = server.engines()
        os.kill(engine, signal.SIGSTOP)
        try:
            under_way = [begin(server.key), begin(server.key)]
            time.sleep(0.3)
            refusals = [begin(server.key)]
            time.sleep(0.1)
            under_way.append(begin("hob_b"))
            time.sleep(0.1)
            refusals.append(begin("hob_b"))
            for c in refusals:
                status, headers, body = c.response()
                error = json.loads(body)["error"]
                assert status == 429 and error["code"] == "server_busy" and error["hob_reason"] == "max_estimates", error
                assert int(headers["retry-after"]) >= 1
        finally:
            os.kill(engine, signal.SIGCONT)
        for c in under_way:
            assert c.response()[0] == 200
        for c in under_way + refusals:
            c.socket.close()
        assert estimate(server, **{"messages": question["messages"]})[0] == 200
