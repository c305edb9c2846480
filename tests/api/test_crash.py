# SPDX-License-Identifier: Apache-2.0
"""An engine that dies or hangs is replaced: the gateway stays, streams go on to the byte, the next request works. A request
that kills every engine that it is given to ends with a typed error, and only that one. A gateway that dies takes its engines along. A gateway that is asked to end finishes what runs."""
import json
import os
import signal
import threading
import time

import pytest

from conftest import DEVICE, PACE, dev_server, started
from websockets.sync.client import connect
from wire import Connection, chat, error_of, events, post, token_of

CHAT = "/v1/chat/completions"
EXACT = DEVICE in (None, "cpu")  # a GPU adds up a recomputed prompt in another order, and the CPU that takes over in its own
LONG = {"stream": True, "max_tokens": 160, "ignore_eos": True, "temperature": 0.7, "seed": 11,
        "stream_options": {"include_usage": True}}


def answer(server, **fields):
    with Connection(server, timeout=120) as c:
        c.send(post(CHAT, chat("Say hello.", **fields)))
        status, _, body = c.response()
    return status, json.loads(body)


def one_engine(server):
    pids = server.engines()
    assert len(pids) == 1, pids
    return pids[0]


def text_of(frames):
    return "".join(json.loads(f)["choices"][0]["delta"].get("content") or "" for f in frames
                   if f != "[DONE]" and json.loads(f).get("choices"))


def test_engine_killed_idle(own):
    gateway, engine = own.process.pid, one_engine(own)
    before = answer(own)
    os.kill(engine, signal.SIGKILL)
    own.wait_metric("hob_engine_restarts_total", lambda v: v == 1)
    assert own.get("/livez")[0] == 200
    own.wait_ready(60)
    assert one_engine(own) != engine and own.process.pid == gateway and own.process.poll() is None
    after = answer(own)
    assert after[0] == 200 and after[1]["choices"] == before[1]["choices"]


def test_request_while_the_engine_restarts(own):
    os.kill(one_engine(own), signal.SIGKILL)
    own.wait_metric("hob_engine_restarts_total", lambda v: v == 1)
    status, body = answer(own)  # waits for the new engine, or is told when to come again
    assert status in (200, 503)
    if status == 503:
        assert body["error"]["type"] == "server_error"


def read_stream(server, words, **fields):
    """A whole stream's text and the errors in it; ([], error) when it was refused."""
    with Connection(server, timeout=240) as c:
        c.send(post(CHAT, chat(words, **{**LONG, **fields})))
        status, _, body = c.response()
    if status != 200:
        return None, [error_of(body)]
    frames = events(body)
    errors = [json.loads(f)["error"] for f in frames if f != "[DONE]" and "error" in json.loads(f)]
    assert errors or frames[-1] == "[DONE]"
    return text_of(frames), errors


def at_once(server, count, **fields):
    """Starts `count` streams that differ by words and seed; the function it returns waits for their texts and errors."""
    results = {}

    def run(i):
        results[i] = read_stream(server, f"Count from {i}.", seed=i, **fields)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()

    def wait():
        for t in threads:
            t.join(240)
        assert len(results) == count
        return results
    return wait


def check_same(after, before):
    for i, (text, errors) in after.items():
        assert not errors, (i, errors)
        if EXACT:
            assert text == before[i][0], f"stream {i} went on with other tokens"


def test_engine_killed_in_mid_stream(own):
    undisturbed = read_stream(own, "Tell me a long story.")
    with Connection(own, timeout=120) as c:
        c.send(post(CHAT, chat("Tell me a long story.", **LONG)))
        assert c.head()[0] == 200
        whole = b"".join(c.chunk() for _ in range(8))
        os.kill(one_engine(own), signal.SIGKILL)
        while piece := c.chunk():
            whole += piece
    frames = events(whole)
    assert own.metric("hob_engine_restarts_total") == 1
    assert frames[-1] == "[DONE]" and not any('"error"' in f for f in frames)
    assert json.loads(frames[-2])["usage"]["completion_tokens"] == LONG["max_tokens"]
    check_same({0: (text_of(frames), [])}, {0: undisturbed})
    assert answer(own)[0] == 200


def test_several_streams_survive_one_crash(own):
    calm = at_once(own, 3, max_tokens=100)()
    wait = at_once(own, 3, max_tokens=100)
    own.wait_metric("hob_engine_jobs", lambda v: v == 3)
    os.kill(one_engine(own), signal.SIGKILL)
    check_same(wait(), calm)
    assert own.metric("hob_requests_suspect") == 0
    assert answer(own)[0] == 200


def test_streams_survive_many_crashes(own):
    """Whoever was at the engine twice runs alone for a while, is cleared, and goes on among the others."""
    calm = at_once(own, 3)()
    wait = at_once(own, 3)
    for n in range(4):
        own.wait_metric("hob_requests_suspect", lambda v: v == 0)
        own.wait_metric("hob_engine_jobs", lambda v: v >= 2)
        os.kill(one_engine(own), signal.SIGKILL)
        own.wait_metric("hob_engine_restarts_total", lambda v, n=n: v == n + 1)
        own.wait_ready(60)
    check_same(wait(), calm)
    assert own.metric("hob_requests_poisoned_total") == 0


def test_hung_engine_is_replaced(tmp_path, model):
    with started(dev_server(tmp_path, model, "--hang-timeout-ms", "1000")) as server:
        undisturbed = read_stream(server, "Tell me a long story.")
        with Connection(server, timeout=120) as c:
            c.send(post(CHAT, chat("Tell me a long story.", **LONG)))
            assert c.head()[0] == 200
            whole = b"".join(c.chunk() for _ in range(8))
            engine, stopped = one_engine(server), time.monotonic()
            os.kill(engine, signal.SIGSTOP)
            server.wait_metric("hob_engine_restarts_total", lambda v: v == 1, 5)
            assert 0.7 < time.monotonic() - stopped
            while piece := c.chunk():
                whole += piece
        assert one_engine(server) != engine and not os.path.exists(f"/proc/{engine}")
        check_same({0: (text_of(events(whole)), [])}, {0: undisturbed})


def test_idle_engine_is_not_taken_for_hung(tmp_path, model):
    with started(dev_server(tmp_path, model, "--hang-timeout-ms", "500")) as server:
        engine = one_engine(server)
        os.kill(server.process.pid, signal.SIGSTOP)  # a gateway that stood still must not blame the engine
        time.sleep(1)
        os.kill(server.process.pid, signal.SIGCONT)
        time.sleep(1)
        for pid in (engine, server.process.pid):  # as on a machine that was suspended
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(server.process.pid, signal.SIGCONT)
        time.sleep(0.25)
        os.kill(engine, signal.SIGCONT)
        time.sleep(1)
        assert one_engine(server) == engine and server.metric("hob_engine_restarts_total") == 0


# ---- a request that kills the engine ----

@pytest.fixture(params=["poison", "prepare"])
def deadly(request, tmp_path, model, hobctl, monkeypatch):
    """A server whose engine dies in the step, or in the tokenizer, of a request with the word zebra in it."""
    monkeypatch.setenv("HOB_ENGINE_FAULT", f"{request.param}:{token_of(hobctl, model, ' zebra')}")
    with started(dev_server(tmp_path, model)) as server:
        yield server


def test_only_the_poison_fails(deadly):
    calm = at_once(deadly, 8, max_tokens=100)()
    wait = at_once(deadly, 8, max_tokens=100)
    deadly.wait_metric("hob_engine_jobs", lambda v: v == 8)
    poisoned, crowds = [], []
    over = threading.Event()

    def watch():  # how many were at the engine whenever there were suspects
        while not over.wait(0.02):
            values = dict(line.rsplit(" ", 1) for line in deadly.get("/metrics")[1].splitlines() if line[0] != "#")
            if float(values["hob_requests_suspect"]) > 0:
                crowds.append(float(next(v for k, v in values.items() if k.startswith("hob_engine_jobs{"))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    thread = threading.Thread(target=lambda: poisoned.append(read_stream(deadly, "Draw a zebra.")))
    thread.start()
    deadly.wait_metric("hob_engine_restarts_total", lambda v: v >= 2)
    status, body = answer(deadly)  # a newcomer waits until the suspects have run
    assert status == 200 and body["choices"][0]["message"]["content"]
    check_same(wait(), calm)
    thread.join(60)
    over.set()
    watcher.join(20)
    [(_, [error])] = poisoned
    assert len(crowds) > 3 and max(crowds) == 1 and sum(crowds) > 0
    assert error["type"] == "server_error" and error["code"] == "request_poisoned"
    assert deadly.metric("hob_requests_poisoned_total") == 1 and deadly.metric("hob_requests_suspect") == 0
    assert deadly.metric("hob_engine_restarts_total") == 3 and deadly.metric("hob_engine_device_failed") == 0
    assert deadly.metric("hob_requests_failed_total") == 1
    assert deadly.metric("hob_requests_recovered_total") >= 16  # else the streams were over before it came
    assert answer(deadly)[0] == 200


def test_tokenizer_that_hangs(tmp_path, model, hobctl, monkeypatch):
    """The step thread's heartbeat goes on, and says how long the other one has been at its request."""
    monkeypatch.setenv("HOB_ENGINE_FAULT", f"hang:{token_of(hobctl, model, ' zebra')}")
    with started(dev_server(tmp_path, model, "--hang-timeout-ms", "700")) as server:
        calm = at_once(server, 2)()
        wait = at_once(server, 2)
        server.wait_metric("hob_engine_jobs", lambda v: v == 2)
        status, body = answer(server, messages=[{"role": "user", "content": "Draw a zebra."}])
        assert status == 500 and body["error"]["code"] == "request_poisoned", body
        check_same(wait(), calm)
        assert server.metric("hob_requests_failed_total") == 1
        assert answer(server)[0] == 200


def test_suspended_machine_is_not_taken_for_a_hanging_tokenizer(tmp_path, model, hobctl, monkeypatch):
    monkeypatch.setenv("HOB_ENGINE_FAULT", f"hang:{token_of(hobctl, model, ' zebra')}")
    with started(dev_server(tmp_path, model, "--hang-timeout-ms", "1500")) as server, Connection(server) as c:
        c.send(post(CHAT, chat("Draw a zebra.")))
        server.wait_metric("hob_engine_jobs", lambda v: v == 1)
        pids = server.process.pid, one_engine(server)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        time.sleep(0.8)
        assert server.metric("hob_engine_restarts_total") == 0
        server.wait_metric("hob_engine_restarts_total", lambda v: v > 0)


def test_two_poisons_fail_one_by_one(deadly):
    wait = at_once(deadly, 1, max_tokens=40)
    results = []
    threads = [threading.Thread(target=lambda: results.append(answer(deadly, messages=[{
        "role": "user", "content": "Draw a zebra."}]))) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert [status for status, _ in results] == [500, 500]
    assert all(body["error"]["code"] == "request_poisoned" for _, body in results)
    assert not wait()[0][1]
    assert deadly.metric("hob_requests_poisoned_total") == 2


def test_poison_whose_client_leaves(deadly):
    """Nobody is blamed for it once it is gone."""
    calm = at_once(deadly, 4)()
    wait = at_once(deadly, 4)
    deadly.wait_metric("hob_engine_jobs", lambda v: v == 4)
    with Connection(deadly) as c:
        c.send(post(CHAT, chat("Draw a zebra.", **LONG)))
        deadly.wait_metric("hob_engine_restarts_total", lambda v: v == 2)
    check_same(wait(), calm)
    deadly.wait_metric("hob_requests_suspect", lambda v: v == 0)
    assert deadly.metric("hob_requests_cancelled_total") + deadly.metric("hob_requests_poisoned_total") == 1
    assert answer(deadly)[0] == 200


def test_what_a_client_left_behind_is_not_blamed_on_the_next(own):
    """A suspect that starts while the engine may still be busy with the one before is not alone yet."""
    calm = read_stream(own, "Tell me a long story.")
    older = Connection(own)
    older.send(post(CHAT, chat("Count. " * 800, **{**LONG, "max_tokens": 1000})))  # long to read again
    own.wait_metric("hob_engine_jobs", lambda v: v == 1)
    result = []
    thread = threading.Thread(target=lambda: result.append(read_stream(own, "Tell me a long story.")))
    thread.start()
    for n in (1, 2):
        own.wait_metric("hob_engine_jobs", lambda v: v == 2)
        os.kill(one_engine(own), signal.SIGKILL)
        own.wait_metric("hob_engine_restarts_total", lambda v, n=n: v == n)

    def wait_alone(count):
        end = time.monotonic() + 30
        while own.log.read_text().count("it runs alone") < count:
            assert time.monotonic() < end, own.log_tail()
            time.sleep(0.002)

    wait_alone(1)
    os.kill(one_engine(own), signal.SIGSTOP)
    assert own.metric("hob_requests_suspect") == 2  # else the first has been cleared already
    older.socket.close()
    wait_alone(2)
    os.kill(one_engine(own), signal.SIGKILL)
    thread.join(120)
    check_same({0: result[0]}, {0: calm})
    assert own.metric("hob_requests_poisoned_total") == 0


def test_suspects_that_nobody_reads_hold_up_nobody(deadly):
    """Suspects that have used up their credit are given enough of it to be cleared."""
    with Connection(deadly, receive_bytes=4096) as slow:
        slow.send(post(CHAT, chat("Count.", **{**LONG, "max_tokens": 1500}, logprobs=True, top_logprobs=20)))
        deadly.wait_metric("hob_engine_stalled", lambda v: v == 1)
        status, body = answer(deadly, messages=[{"role": "user", "content": "Draw a zebra."}])
        assert (status, body["error"]["code"]) == (500, "request_poisoned")
        assert answer(deadly)[0] == 200
        assert deadly.metric("hob_requests_suspect") == 0


def test_cancel_while_suspects_run(deadly):
    """Over one WebSocket: responses are cancelled while they wait as suspects, or for the suspects; the rest go on."""
    def create(words, lane, tokens):
        return json.dumps({"type": "response.create", "model": "default", "input": words, "stream_id": lane,
                           "max_output_tokens": tokens, "ignore_eos": True, "temperature": 0.7, "seed": 3})

    ids, texts, ends, tokens = {}, {}, {}, {}
    with connect(f"ws://127.0.0.1:{deadly.port}/v1/responses", max_size=None, proxy=None) as ws:
        def receive():
            e = json.loads(ws.recv(timeout=120))
            lane = e["stream_id"]
            if e["type"] == "response.created":
                ids[lane] = e["response"]["id"]
            elif e["type"] == "response.output_text.delta":
                texts[lane] = texts.get(lane, "") + e["delta"]
            elif e["type"] in ("error", "response.failed"):  # before, and after, it has begun
                ends[lane] = (e["error"] if e["type"] == "error" else e["response"]["error"])["code"]
            elif e["type"] in ("response.completed", "response.incomplete"):
                ends[lane] = (e["response"]["incomplete_details"] or {"reason": e["response"]["status"]})["reason"]
                tokens[lane] = e["response"]["usage"]["output_tokens"]

        for lane in "abcd":
            ws.send(create("Count.", lane, 400))
        while len(texts) < 4:
            receive()
        ws.send(create("Draw a zebra.", "z", 400))
        deadly.wait_metric("hob_requests_suspect", lambda v: v >= 3)
        ws.send(create("Count.", "e", 40))  # waits for them
        for lane in "bd":
            ws.send(json.dumps({"type": "response.cancel", "response_id": ids[lane]}))
        while len(ends) < 6:
            receive()
    assert ends["z"] == "request_poisoned" and ends["e"] == "max_output_tokens"
    assert ends["a"] == ends["c"] == "max_output_tokens" and tokens["a"] == tokens["c"] == 400
    for lane in "bd":
        assert ends[lane] != "max_output_tokens" and len(texts[lane]) < len(texts["a"])
    if EXACT:
        assert texts["a"] == texts["c"] != "" and all(texts["a"].startswith(texts[lane]) for lane in "bd")
    assert deadly.metric("hob_requests_poisoned_total") == 1 and deadly.metric("hob_requests_cancelled_total") == 2
    assert deadly.metric("hob_requests_suspect") == 0 and deadly.metric("hob_engine_jobs") == 0


def test_drain_while_suspects_run(deadly):
    """All must end in the time to drain, most of them on a device that is loaded again meanwhile."""
    wait = at_once(deadly, 3, max_tokens=160 if PACE == 1 else 40)
    deadly.wait_metric("hob_engine_jobs", lambda v: v == 3)
    with Connection(deadly) as c:
        c.send(post(CHAT, chat("Draw a zebra.", **LONG)))
        deadly.wait_metric("hob_engine_restarts_total", lambda v: v == 2)
        deadly.process.send_signal(signal.SIGTERM)
        assert not any(errors for _, errors in wait().values())
        assert error_of(c.response()[2])["code"] == "request_poisoned"
    assert deadly.process.wait(60) == 0


def test_engine_ends_with_its_gateway(own):
    engine = one_engine(own)
    own.process.kill()
    own.process.wait()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if "Z" == open(f"/proc/{engine}/stat").read().rsplit(")", 1)[1].split()[0]:
                return
        except OSError:
            return
        time.sleep(0.1)
    os.kill(engine, signal.SIGKILL)
    raise AssertionError("the engine outlived its gateway")


def test_terminate_drains(own):
    with Connection(own) as c:
        c.send(post(CHAT, chat("Tell me a story.", stream=True, max_tokens=80, ignore_eos=True)))
        assert c.head()[0] == 200
        whole = c.chunk()
        own.process.send_signal(signal.SIGTERM)
        while piece := c.chunk():
            whole += piece
    frames = events(whole)
    assert frames[-1] == "[DONE]"
    assert own.process.wait(60) == 0
    assert own.engines() == []


def test_dev_writes_no_files(own, tmp_path):
    assert answer(own)[0] == 200
    assert [p.name for p in tmp_path.iterdir() if p != own.log] == []
