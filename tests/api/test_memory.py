# SPDX-License-Identifier: Apache-2.0
"""The gateway's own buffers are bounded: what does not fit is refused with a reason, and what was admitted goes on."""
import contextlib

import pytest
from conftest import dev_server, started
from wire import Connection, chat, error_of, events, post

CHAT = "/v1/chat/completions"
MEMORY_MB = 320
LIMIT = MEMORY_MB * 2**20 // 8


@pytest.fixture(scope="module")
def bounded(tmp_path_factory, model):
    with started(dev_server(tmp_path_factory.mktemp("bounded"), model, "--memory-mb", str(MEMORY_MB),
                            "--context", "2048", "--kv-tokens", "4096")) as server:
        yield server


def refused(answer):
    status, headers, body = answer
    error = error_of(body, "server_error")
    assert status == 503 and error["code"] == "out_of_memory" and int(headers["retry-after"]) > 0
    return True


def half_sent(stack, server, size, part):
    """A request of `size` bytes of which `part` are on their way."""
    c = stack.enter_context(Connection(server))
    c.send(post(CHAT, b"{" + b" " * (part - 1), length=size))
    return c


def test_gauges(bounded, dev):
    assert bounded.metric("hob_buffers_limit_bytes") == LIMIT
    assert 0 < bounded.metric("hob_buffers_bytes") < LIMIT / 8
    assert dev.metric("hob_buffers_limit_bytes") == 0


def test_bodies_in_the_making(bounded):
    size = 8 * 2**20
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(Connection(bounded))
        stream.send(post(CHAT, chat("Count.", stream=True, max_tokens=60, ignore_eos=True)))
        assert stream.head()[0] == 200
        halves = [half_sent(stack, bounded, size, size - 1000) for _ in range(4)]
        bounded.wait_metric("hob_buffers_bytes", lambda v: v > 4 * (size - 1000))
        # A ninth of all that there is to have is announced: it is refused before it comes.
        c = stack.enter_context(Connection(bounded))
        c.send(post(CHAT, b"{", length=size))
        assert refused(c.response()) and c.closed()
        assert bounded.metric("hob_buffers_bytes") <= LIMIT
        whole = b""
        while piece := stream.chunk():
            whole += piece
        assert events(whole)[-1] == "[DONE]"
        halves[0].send(b" " * 1000)  # was admitted: it is looked at
        status, _, body = halves[0].response()
        assert status == 400 and error_of(body)["code"] != "out_of_memory"
    bounded.wait_metric("hob_buffers_bytes", lambda v: v < LIMIT / 8)
    with Connection(bounded) as c:
        c.send(post(CHAT, chat("Hi.", max_tokens=4)))
        assert c.response()[0] == 200


def test_bodies_that_grow_together(bounded):
    """Each alone had room when it was announced."""
    size, count = 8 * 2**20, 12
    refusals = 'hob_responses_total{route="chat",code="503"}'
    before = bounded.metric(refusals) or 0
    with contextlib.ExitStack() as stack:
        halves = [half_sent(stack, bounded, size, 1000) for _ in range(count)]
        for c in halves:
            with contextlib.suppress(ConnectionError):  # one that is refused is not read to its end
                c.send(b" " * (size - 2000))
        bounded.wait_metric(refusals, lambda v: v >= before + count - 5)
        assert bounded.metric("hob_buffers_bytes") <= LIMIT
    bounded.wait_metric("hob_buffers_bytes", lambda v: v < LIMIT / 8)
