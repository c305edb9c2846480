# SPDX-License-Identifier: Apache-2.0
"""Keys, their rights and limits, and what they used: administrated by hobctl over the admin socket while the server runs,
seen through OpenAI's client, bare HTTP and WebSocket."""
import hashlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from conftest import HOBCTL, started
from office import Office
from websockets.sync.client import connect
from wire import chat, error_of, post


@pytest.fixture(scope="module")
def office(tmp_path_factory, model, hobctl):
    office = Office(tmp_path_factory.mktemp("office") / "var", model, hobctl,
                    "limits = { auth_failures_per_minute = 0; handshakes_per_s = 0; };\n")
    with started(office.server):
        yield office


def refused(answer, status, code, reason=None):
    assert answer[0] == status, answer
    error = answer[2]["error"]
    assert error["code"] == code and error.get("hob_reason") == reason, error
    return error


# ---- administration ----

def test_the_first_key_comes_from_the_key_file(office):
    assert not (office.folder / "keys").exists() and (office.folder / "keys.imported").exists()
    assert (office.folder / "hob.db").stat().st_mode & 0o777 == 0o600
    first = office.keys()["first"]
    assert first["role"] == "admin" and first["class"] == "interactive" and first["tenant"] == "local"
    assert first["models"] is None and first["revoked"] is None and all(v is None for v in first["limits"].values())
    again = office.run("setup", "--dir", office.folder, "--model", os.environ["HOB_TEST_MODEL"], "--port", office.server.port)
    assert b"API key" not in again.stderr and not (office.folder / "keys").exists()


def test_add_and_revoke_count_at_once(office):
    key = office.add("anna", "--class", "standard", "--tenant", "sales", "--expires-days", "3", "--tokens-per-day", "5000000")
    assert key.startswith("hob_") and len(key) == 47
    assert office.ask("/v1/models", key)[0] == 200
    listed = office.keys()["anna"]
    assert listed["tenant"] == "sales" and listed["class"] == "standard" and listed["role"] == "user"
    assert listed["limits"]["tokens_per_day"] == 5000000 and listed["limits"]["tokens_per_minute"] is None
    assert 2.9 * 86400 < listed["expires"] - time.time() <= 3 * 86400
    assert abs(listed["last_used"] - time.time()) < 30
    text = office.hobctl("keys", "list").stdout.decode()
    assert "anna" in text and "tokens_per_day=5000000" in text and "expires in 3 d" in text
    assert b'"anna" is another key' in office.hobctl("keys", "add", "anna", check=False).stderr
    office.hobctl("keys", "revoke", "anna")
    refused(office.ask("/v1/models", key), 401, "invalid_api_key")
    assert "anna" not in office.keys() and office.keys("--all")["anna"]["revoked"]
    assert office.hobctl("keys", "revoke", "anna", check=False).returncode == 1
    assert office.add("anna") != key  # the label is free again
    secrets = [key, office.server.key]
    held = (office.folder / "hob.db").read_bytes() + office.server.log.read_bytes()
    assert not any(s.encode() in held for s in secrets)


def test_rotate_gives_a_new_text(office):
    old = office.add("rota", "--requests-per-minute", "1000")
    new = office.hobctl("keys", "rotate", "rota", "--grace", "2").stdout.decode().strip()
    assert new != old and office.ask("/v1/models", new)[0] == office.ask("/v1/models", old)[0] == 200
    time.sleep(2.1)
    assert office.ask("/v1/models", new)[0] == 200
    refused(office.ask("/v1/models", old), 401, "invalid_api_key")
    newer = json.loads(office.hobctl("keys", "rotate", "rota", "--json").stdout)
    assert newer["limits"]["requests_per_minute"] == 1000
    refused(office.ask("/v1/models", new), 401, "invalid_api_key")
    assert office.ask("/v1/models", newer["key"])[0] == 200


def test_set_changes_what_is_named(office):
    key = office.add("setting", "--models", "no-such-model", "--tokens-per-minute", "7")
    office.hobctl("keys", "set", "setting", "--models", "all", "--tokens-per-minute", "default", "--class", "batch")
    found = office.keys()["setting"]
    assert found["models"] is None and found["limits"]["tokens_per_minute"] is None and found["class"] == "batch"
    office.hobctl("keys", "set", str(found["id"]), "--label", "renamed", "--expires-days", "never")
    assert office.keys()["renamed"]["class"] == "batch" and office.chat(key, max_tokens=1)[0] == 200
    for args, says in [(["keys", "set", "nobody"], b"nobody"), (["keys", "set", "renamed", "--label", "first"], b"first"),
                       (["keys", "add", "a b"], b"label"), (["keys", "rotate", "nobody"], b"nobody"),
                       (["usage", "--key", "nobody"], b"nobody")]:
        done = office.hobctl(*args, check=False)
        assert done.returncode == 1 and says in done.stderr, done
    for args in (["keys", "set", "renamed", "--tokens-per-day", "x"], ["keys", "add"], ["keys", "frobnicate"],
                 ["keys", "add", "x", "--expires-days", "0"], ["keys", "set", "renamed", "--default-output-tokens", "0"]):
        assert office.run(*args, check=False).returncode == 2


def test_an_argument_that_is_no_text_is_refused(office):
    bad = b"\xff"
    for args in (["keys", "add", bad], ["keys", "add", "badly", "--tenant", bad], ["keys", "add", "badly", "--models", b"a," + bad],
                 ["keys", "set", "first", "--collections", bad], ["keys", "set", "first", "--label", bad], ["keys", "revoke", bad],
                 ["keys", "rotate", bad], ["usage", "--key", bad]):
        done = subprocess.run([HOBCTL, *args, "--socket", office.folder / "hob.sock"], capture_output=True)
        assert done.returncode == 2 and b"not valid UTF-8" in done.stderr, done
    assert "badly" not in office.keys("--all") and office.keys()["first"]["collections"] is None


def test_an_expired_key_is_none(office):
    key = office.add("brief")
    soon = int(time.time()) + 2
    status, _, answer = office.ask("/hob/v1/admin/keys/set", office.server.key, {"key": "brief", "expires": soon})
    assert status == 200 and answer["expires"] == soon and "key" not in answer
    assert office.ask("/v1/models", key)[0] == 200
    time.sleep(max(0, soon - time.time()) + 0.1)
    refused(office.ask("/v1/models", key), 401, "invalid_api_key", "key_expired")
    assert b"expired" in office.hobctl("keys", "list").stdout


def test_admin_routes_are_for_administrators(office):
    user = office.add("mere-user")
    assert office.ask("/hob/v1/admin/keys", office.server.key)[0] == 200
    for path, body in (("/hob/v1/admin/keys", None), ("/hob/v1/admin/keys/add", {"label": "x"}), ("/hob/v1/admin/usage", {})):
        refused(office.ask(path, user, body), 404, "unknown_url")
        refused(office.ask(path, None, body), 401, "invalid_api_key")
    assert "x" not in office.keys()


@pytest.mark.parametrize("path, body, param", [
    ("add", {}, "label"), ("add", {"label": 5}, "label"), ("add", {"label": "x", "colour": 1}, "colour"),
    ("add", {"label": "x", "role": "king"}, "role"), ("add", {"label": "x", "class": 1}, "class"),
    ("add", {"label": "x", "models": "all"}, "models"), ("add", {"label": "x", "models": ["a b"]}, "models"),
    ("add", {"label": "x", "models": ["m" * 63] * 40}, "models"), ("add", {"label": "x", "expires": -1}, "expires"),
    ("add", {"label": "x", "limits": {"tokens": 1}}, "limits"), ("add", {"label": "x", "limits": {"tokens_per_day": -1}}, "limits"),
    ("add", {"label": "x", "key": "y"}, "key"), ("set", {"label": "x"}, "key"), ("set", {"key": "first", "x": 1}, "x"),
    ("revoke", {"key": 1}, "key"), ("revoke", {"key": "nobody", "x": 1}, "x"), ("rotate", {"key": "first", "grace_s": -1}, "grace_s"),
])
def test_mistakes_are_named(office, path, body, param):
    status, _, answer = office.ask(f"/hob/v1/admin/keys/{path}", office.server.key, body)
    assert status == 400 and answer["error"]["param"] == param, answer


# ---- rights ----

def test_models_that_a_key_may_not_use(office):
    name = office.ask("/v1/models", office.server.key)[2]["data"][0]["id"]
    other, same = office.add("other-model", "--models", "a,b"), office.add("this-model", "--models", f"a,{name}")
    assert office.ask("/v1/models", other)[2]["data"] == []
    refused(office.ask("/v1/models/default", other), 403, "model_not_allowed")
    refused(office.chat(other), 403, "model_not_allowed")
    with office.client(other) as client, pytest.raises(openai.PermissionDeniedError):
        client.responses.create(model="default", input="x", max_output_tokens=1)
    assert [m["id"] for m in office.ask("/v1/models", same)[2]["data"]] == [name]
    assert office.chat(same, max_tokens=1)[0] == 200


def test_a_class_at_or_below_the_keys(office):
    key = office.add("middle", "--class", "standard")
    assert "interactive" in refused(office.chat(key, hob_class="interactive"), 403, "class_not_allowed")["message"]
    assert office.chat(key, hob_class="standard", max_tokens=1)[0] == office.chat(key, hob_class="batch", max_tokens=1)[0] == 200
    refused(office.chat(key, hob_class="urgent"), 400, "invalid_value")


# ---- limits ----

def test_sizes(office):
    key = office.add("sizes", "--max-prompt-tokens", "40", "--max-output-tokens", "20", "--default-output-tokens", "3")
    body = chat("Count.", ignore_eos=True)
    del body["max_tokens"]
    status, _, answer = office.ask("/v1/chat/completions", key, body)
    assert status == 200 and answer["usage"]["completion_tokens"] == 3
    refused(office.chat(key, max_tokens=21), 400, "invalid_value", "max_output_tokens")
    assert "40 tokens" in refused(office.chat(key, "word " * 60), 400, "prompt_too_long", "max_prompt_tokens")["message"]
    assert office.chat(key, max_tokens=20)[0] == 200


def test_requests_a_minute(office):
    key = office.add("rpm", "--requests-per-minute", "2")
    limited = office.server.metric('hob_requests_limited_total{reason="requests_per_minute"}')
    refused(office.chat(key, temperature=9), 400, "invalid_value")  # what is refused does not count
    refused(office.chat(key, "word " * 20000), 400, "context_length_exceeded")
    _, headers, _ = office.chat(key, max_tokens=1)
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert headers["x-ratelimit-reset-requests"].endswith("s") and "x-ratelimit-limit-tokens" not in headers
    assert office.chat(key, max_tokens=1)[0] == 200
    answer = office.chat(key, max_tokens=1)
    error = refused(answer, 429, "rate_limit_exceeded", "requests_per_minute")
    assert error["type"] == "requests" and answer[1]["x-ratelimit-remaining-requests"] == "0"
    assert 50 < int(answer[1]["retry-after"]) <= 61
    assert 0 <= 1000 * int(answer[1]["retry-after"]) - int(answer[1]["retry-after-ms"]) < 1000
    assert error["hob_retry_after_ms"] == int(answer[1]["retry-after-ms"])
    with office.client(key) as client, pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**chat("x"))
    assert caught.value.code == "rate_limit_exceeded"
    assert office.server.metric('hob_requests_limited_total{reason="requests_per_minute"}') == limited + 2
    office.hobctl("keys", "set", "rpm", "--requests-per-minute", "0")
    status, headers, _ = office.chat(key, max_tokens=1)
    assert status == 200 and "x-ratelimit-limit-requests" not in headers


def remaining(office, key):
    """Tokens that the key may still use, from the headers of a request that uses none."""
    status, headers, _ = office.chat(key, max_tokens=10 ** 6)
    assert status in (400, 429)
    return int(headers["x-ratelimit-remaining-tokens"])


def test_tokens_are_reserved_and_given_back(office):
    key = office.add("tokens", "--tokens-per-minute", "5000")
    assert remaining(office, key) == 5000
    _, headers, answer = office.chat(key, max_tokens=1000, stop=["\n", " "])
    used = answer["usage"]["total_tokens"]
    assert used < 1000 and remaining(office, key) == 5000 - used
    answer = office.chat(key, max_tokens=5000)
    assert refused(answer, 429, "rate_limit_exceeded", "request_too_large")["type"] == "tokens"
    assert answer[1]["x-should-retry"] == "false" and "retry-after" not in answer[1]
    # One that runs holds its reservation; one that is cancelled pays for what was computed.
    with office.client(key) as client:
        stream = client.chat.completions.create(**chat("Tell a long story.", max_tokens=2000, stream=True,
                                                       extra_body={"ignore_eos": True}))
        next(stream)
        left = remaining(office, key)
        assert left <= 5000 - used - 2000
        refused(office.chat(key, max_tokens=4000), 429, "rate_limit_exceeded", "tokens_per_minute")
        stream.close()
    end = time.monotonic() + 20
    while remaining(office, key) < 4000 and time.monotonic() < end:
        time.sleep(0.1)
    assert 4000 < remaining(office, key) < 5000 - used - 10
    row, = office.usage("--key", "tokens")
    assert row["prompt_tokens"] + row["answer_tokens"] == 5000 - remaining(office, key) and row["requests"] == 2


def test_all_prompts_are_reserved_or_none(office):
    key = office.add("several", "--tokens-per-minute", "1000")
    answer = office.ask("/v1/completions", key, {"model": "default", "prompt": ["One,", "Two,"], "n": 2, "max_tokens": 300})
    refused(answer, 429, "rate_limit_exceeded", "request_too_large")
    assert office.usage("--key", "several") == []


def test_choices_asked_for_before_the_model_is_loaded(tmp_path, model, hobctl):
    office = Office(tmp_path / "var", model, hobctl, "key_limits = { tokens_per_minute = 2000; };\n")
    office.server.wait_ready = lambda limit_s: None
    with started(office.server):
        end = time.monotonic() + 60
        while True:
            try:
                status, _, answer = office.chat(office.server.key, n=2, max_tokens=4)
                break
            except urllib.error.URLError:
                assert time.monotonic() < end
                time.sleep(0.01)
        assert status == 200 and len(answer["choices"]) == 2, answer


def test_requests_at_once(office):
    key = office.add("once", "--concurrent-requests", "1")
    with office.client(key) as client:
        stream = client.chat.completions.create(**chat("Tell a long story.", max_tokens=1500, stream=True,
                                                       extra_body={"ignore_eos": True}))
        next(stream)
        answer = office.chat(key)
        refused(answer, 429, "rate_limit_exceeded", "concurrent_requests")
        assert int(answer[1]["retry-after"]) >= 1
        stream.close()
    end = time.monotonic() + 20
    while office.chat(key, max_tokens=1)[0] == 429 and time.monotonic() < end:
        time.sleep(0.1)
    assert office.chat(key, max_tokens=1)[0] == 200


def test_a_websocket_outlives_its_key_but_asks_for_nothing_new(office):
    key = office.add("socket", "--tokens-per-minute", "3000")
    create = {"type": "response.create", "model": "default", "input": "Tell a story.", "ignore_eos": True}
    with connect(office.server.url.replace("https", "wss") + "/v1/responses", ssl=office.server.context,
                 additional_headers={"Authorization": f"Bearer {key}"}) as ws:
        ws.send(json.dumps({**create, "max_output_tokens": 100}))
        while json.loads(ws.recv())["type"] != "response.output_text.delta":
            pass
        ws.send(json.dumps({**create, "max_output_tokens": 2950, "stream_id": "b"}))
        kinds = []
        while "error" not in kinds:
            event = json.loads(ws.recv())
            kinds.append(event["type"])
        assert event["status"] == 429 and event["error"]["hob_reason"] == "tokens_per_minute", event
        assert event["error"]["hob_retry_after_ms"] > 0 and event["stream_id"] == "b"
        office.hobctl("keys", "revoke", "socket")
        while kinds[-1] not in ("response.completed", "response.incomplete"):  # what ran goes on to its end
            event = json.loads(ws.recv())
            kinds.append(event["type"])
        assert event["response"]["usage"]["output_tokens"] == 100
        ws.send(json.dumps({**create, "max_output_tokens": 1}))
        event = json.loads(ws.recv())
        assert event["type"] == "error" and event["status"] == 401 and "revoked" in event["error"]["message"]


def test_a_websocket_opened_with_a_text_that_is_rotated_away(office):
    old = office.add("stale")
    create = json.dumps({"type": "response.create", "model": "default", "input": "Tell a story.", "ignore_eos": True,
                         "max_output_tokens": 60})

    def until(ws, *ends):
        while (event := json.loads(ws.recv()))["type"] not in ends:
            pass
        return event

    with connect(office.server.url.replace("https", "wss") + "/v1/responses", ssl=office.server.context,
                 additional_headers={"Authorization": f"Bearer {old}"}) as ws:
        ws.send(create)
        until(ws, "response.output_text.delta")
        office.hobctl("keys", "rotate", "stale", "--grace", "3")
        assert until(ws, "response.incomplete", "error")["type"] == "response.incomplete"  # what ran is not touched
        ws.send(create)
        assert until(ws, "response.incomplete", "error")["type"] == "response.incomplete"  # within its grace
        time.sleep(3.1)
        ws.send(create)
        event = until(ws, "response.incomplete", "error")
        assert event["status"] == 401 and "rotated" in event["error"]["message"], event


def test_rights_are_those_of_when_the_body_has_come(office):
    """An administrator's head, whose key is revoked, rotated or made a user's before the body is complete."""
    for i, (way, status) in enumerate([(["revoke"], 401), (["rotate"], 401), (["set", "--role", "user"], 403)]):
        key, body = office.add(f"slow{i}", "--role", "admin"), json.dumps({"label": f"made-by-slow{i}"}).encode()
        with socket.create_connection(("127.0.0.1", office.server.port), 20) as raw, \
                office.server.context.wrap_socket(raw, server_hostname="127.0.0.1") as c:
            c.sendall(f"POST /hob/v1/admin/keys/add HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
                      f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:5])
            time.sleep(0.3)
            office.hobctl("keys", way[0], f"slow{i}", *way[1:])
            c.sendall(body[5:])
            assert int(c.recv(65536).split(b" ", 2)[1]) == status
    assert not any(label.startswith("made-by") for label in office.keys())


def hammer(office, key, seconds, clients, enough=None):
    """Many clients that ask as soon as they may, until the time is over or so many tokens are used and more were refused.
    Returns (begin, end, tokens) of each answer, and the refusals' delays."""
    begin = time.monotonic()
    end = begin + seconds
    answers, refusals, lock = [], [], threading.Lock()

    def one(i):
        n = 0
        while time.monotonic() < end:
            if enough and refusals and sum(t for _, _, t in answers) >= enough:
                return
            n += 1
            asked = time.monotonic()
            status, headers, body = office.chat(key, f"Client {i} asks question {n}.", max_tokens=4 + (i + n) % 13,
                                                stop=["e"] if n % 3 == 0 else None)
            now = time.monotonic()
            with lock:
                if status == 200:
                    answers.append((asked, now, body["usage"]["total_tokens"]))
                else:
                    refused((status, headers, body), 429, "rate_limit_exceeded", "tokens_per_minute")
                    refusals.append(now - asked)
            if status != 200:
                wait = int(headers["retry-after-ms"]) / 1000
                time.sleep(max(0, min(wait, 0.5 if enough else wait, end - time.monotonic())))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(clients)))
    return answers, refusals


def test_a_budget_is_exact(office):
    """One minute's budget, used up by many at once."""
    limit = 2000
    key = office.add("exact", "--tokens-per-minute", str(limit))
    answers, refusals = hammer(office, key, 55, 32, enough=0.95 * limit)
    used = sum(tokens for _, _, tokens in answers)
    assert 0.95 * limit <= used <= limit and refusals
    assert remaining(office, key) == limit - used
    row, = office.usage("--key", "exact")
    assert row["prompt_tokens"] + row["answer_tokens"] == used and row["requests"] == len(answers)


@pytest.mark.slow
def test_a_budget_is_served_minute_after_minute(office):
    """64 clients that always want more of 10,000 tokens a minute, for two minutes and a half."""
    limit = 10000
    key = office.add("minutes", "--tokens-per-minute", str(limit))
    answers, refusals = hammer(office, key, 150, 64)
    used = sum(tokens for _, _, tokens in answers)
    row, = office.usage("--key", "minutes")
    assert row["prompt_tokens"] + row["answer_tokens"] == used and row["requests"] == len(answers)
    # An answer's tokens are used between its request and its end: one that lies within 60 s was used within them.
    most = max(sum(t for begin, end, t in answers if begin >= start and end < start + 60) for start, _, _ in answers)
    first = min(begin for begin, _, _ in answers)
    served = [sum(t for _, end, t in answers if end < first + s) for s in (60, 120, 150)]
    print(f"served after 60, 120, 150 s: {served}; most in 60 s: {most}; {len(answers)} answers, {len(refusals)} refusals, "
          f"the slowest in {1000 * max(refusals):.0f} ms")
    assert most <= limit and served[0] <= limit and served[1] <= 2 * limit
    assert served[0] >= 0.95 * limit and served[1] >= 0.95 * 2 * limit


@pytest.mark.parametrize("stream", [False, True])
def test_prompts_of_a_request_are_reserved_together(office, stream):
    """Each of the two would fit alone, but not both: neither begins, and nothing is used."""
    prompts = [f"Otter {i} swims down the river. " + "It is a long river. " * 12 for i in range(3)]

    def ask(prompt):
        return office.ask("/v1/completions", key, {"model": "default", "prompt": prompt, "max_tokens": 4, "ignore_eos": True,
                                                   "temperature": 0})

    key = office.server.key
    tokens = ask(prompts[0])[2]["usage"]["prompt_tokens"]
    name = f"together-{stream}"
    key = office.add(name, "--tokens-per-minute", str(3 * (tokens + 4) - 1))
    assert ask(prompts[0])[2]["usage"]["total_tokens"] == tokens + 4
    answer = office.ask("/v1/completions", key, {"model": "default", "prompt": prompts[1:], "max_tokens": 4, "stream": stream})
    error = refused(answer, 429, "rate_limit_exceeded", "tokens_per_minute")
    assert f"wanted {2 * (tokens + 4)}" in error["message"], error
    assert remaining(office, key) == 2 * (tokens + 4) - 1
    row, = office.usage("--key", name)
    assert row["prompt_tokens"] == tokens and row["requests"] == 1
    both = office.ask("/v1/completions", office.server.key, {"model": "default", "prompt": prompts[1:], "max_tokens": 4, "n": 2})
    assert both[0] == 200 and len(both[2]["choices"]) == 4 and both[2]["usage"]["prompt_tokens"] == 2 * tokens
    assert ask(prompts[1])[0] == 200  # alone it fits


def test_limits_of_the_configuration_are_reloaded(office):
    key, conf = office.add("reloaded"), office.folder / "hob.conf"
    text = conf.read_text()

    def reload(more):
        count = office.server.log_tail(1000).count("reloaded ")
        conf.write_text(text + more)
        office.server.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 20
        while office.server.log_tail(1000).count("reloaded ") == count:
            assert time.monotonic() < end, office.server.log_tail()
            time.sleep(0.02)

    reload("key_limits = { max_output_tokens = 5; };\n")
    refused(office.chat(key, max_tokens=6), 400, "invalid_value", "max_output_tokens")
    office.hobctl("keys", "set", "reloaded", "--max-output-tokens", "0")  # its own comes first
    assert office.chat(key, max_tokens=6)[0] == 200
    reload("")
    office.hobctl("keys", "set", "reloaded", "--max-output-tokens", "default")
    assert office.chat(key, max_tokens=6)[0] == 200


def rotate_under_streams(office, rotations, streams):
    """Rotates a key again and again while streams of the first text run and new ones keep asking with the newest."""
    texts, done, results = [office.add("turning")], threading.Event(), []

    def stream(i):
        with office.client(texts[0]) as client:
            parts = client.chat.completions.create(**chat(f"Story {i}.", max_tokens=200, stream=True, seed=i,
                                                          stream_options={"include_usage": True}, extra_body={"ignore_eos": True}))
            started_streams.release()
            return list(parts)[-1].usage.completion_tokens

    def ask_again():
        while not done.is_set():
            text = texts[-1]
            status = office.ask("/v1/models", text)[0]
            end = time.monotonic() + 10
            while status == 401 and text == texts[-1] and time.monotonic() < end:
                time.sleep(0.01)  # it was rotated, and who did that has not heard of it yet
            results.append(status == 200 or text != texts[-1])

    started_streams = threading.Semaphore(0)
    with ThreadPoolExecutor(streams + 4) as pool:
        running = [pool.submit(stream, i) for i in range(streams)]
        for _ in running:
            started_streams.acquire()
        asking = [pool.submit(ask_again) for _ in range(4)]
        for _ in range(rotations):
            status, _, answer = office.ask("/hob/v1/admin/keys/rotate", office.server.key, {"key": "turning", "grace_s": 0})
            assert status == 200
            texts.append(answer["key"])
            assert office.ask("/v1/models", texts[-1])[0] == 200
            refused(office.ask("/v1/models", texts[-2]), 401, "invalid_api_key")
        done.set()
        for a in asking:
            a.result()
        assert [r.result() for r in running] == [200] * streams
    assert all(results) and len(results) > rotations / 4
    office.hobctl("keys", "revoke", "turning")


def test_rotations_drop_no_stream(office):
    rotate_under_streams(office, 20, 8)


@pytest.mark.slow
def test_many_rotations_drop_no_stream(office):
    rotate_under_streams(office, 200, 32)


# ---- over a restart ----

def test_a_day_survives_a_restart_and_a_kill(tmp_path, model, hobctl):
    if 86400 - time.time() % 86400 < 120:
        time.sleep(120)  # not across midnight
    office = Office(tmp_path / "var", model, hobctl, "key_limits = { tokens_per_day = 3000; };\n")
    server = office.server
    with started(server):
        key = office.add("daily", "--tokens-per-day", "400")
        used = office.chat(key, max_tokens=100, ignore_eos=True)[2]["usage"]["total_tokens"]
        answer = office.chat(key, max_tokens=300)
        assert refused(answer, 429, "insufficient_quota", "tokens_per_day")["type"] == "insufficient_quota"
        assert abs(int(answer[1]["retry-after"]) - (86400 - time.time() % 86400)) < 30  # until midnight
        assert int(answer[1]["retry-after"]) <= 60 or answer[1]["x-should-retry"] == "false"
        refused(office.chat(server.key, max_tokens=3000), 429, "rate_limit_exceeded", "request_too_large")  # hob.conf's own
        assert server.stop() == 0
        server.start()
        row, = office.usage("--key", "daily")
        assert row["prompt_tokens"] + row["answer_tokens"] == used and row["requests"] == 1
        refused(office.chat(key, max_tokens=300), 429, "insufficient_quota", "tokens_per_day")
        used += office.chat(key, max_tokens=50, ignore_eos=True)[2]["usage"]["total_tokens"]
        time.sleep(1.5)  # after this it is in the store
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        server.start()
        row, = office.usage("--key", "daily")
        assert row["prompt_tokens"] + row["answer_tokens"] == used and row["requests"] == 2
        assert office.keys()["daily"]["limits"]["tokens_per_day"] == 400


def test_a_store_that_cannot_be_written(tmp_path, model, hobctl):
    """Another process holds it for longer than hobd waits, as a full disk would: what is used is kept, of a revoked key too, the
    log says so once, and at the end what is lost."""
    office = Office(tmp_path / "var", model, hobctl)
    server = office.server

    def wait_for(text, limit_s=40):
        end = time.monotonic() + limit_s
        while text not in server.log.read_text():
            assert time.monotonic() < end, server.log_tail()
            time.sleep(0.05)

    with started(server):
        key = office.add("leaver")
        db = sqlite3.connect(tmp_path / "var" / "hob.db", isolation_level=None)
        with office.client(key) as client:
            parts = client.chat.completions.create(**chat("Story.", max_tokens=30, stream=True, extra_body={"ignore_eos": True}))
            next(iter(parts))
            office.hobctl("keys", "revoke", "leaver")
            db.execute("BEGIN IMMEDIATE")
            assert len(list(parts)) > 20
        wait_for("usage is kept in memory until it can be stored")
        assert b"locked" in office.hobctl("keys", "revoke", "first", check=False).stderr
        time.sleep(2)
        db.execute("ROLLBACK")
        wait_for("usage is stored again")
        row, = (r for r in office.usage() if r["label"] == "leaver")
        assert row["answer_tokens"] == 30 and row["requests"] == 1
        assert server.log.read_text().count("kept in memory") == 1
        db.execute("BEGIN IMMEDIATE")
        assert office.chat(server.key, max_tokens=5, ignore_eos=True)[0] == 200
        assert server.stop() == 0
        wait_for("usage that could not be stored is lost: 1 requests")
        db.close()


def test_a_store_that_cannot_be_used_is_refused(tmp_path, model, hobctl):
    office = Office(tmp_path / "var", model, hobctl)
    (tmp_path / "var" / "hob.db").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(AssertionError, match="hob.db: .*not a database"):
        office.server.start()
    (tmp_path / "var" / "hob.db").unlink()
    with sqlite3.connect(tmp_path / "var" / "hob.db") as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("PRAGMA application_id = 1752130097")
    with pytest.raises(AssertionError, match="newer hob: schema version 99"):
        office.server.start()


def test_setup_says_when_the_first_key_is_gone(tmp_path, model, hobctl):
    """It is not replaced behind the administrator's back, but for when the store is lost."""
    office = Office(tmp_path / "var", model, hobctl)

    def again():
        return hobctl("setup", "--dir", office.folder, "--model", model, "--port", office.server.port).stderr.decode()

    with started(office.server):
        assert "API key" not in again() and "keys add" not in again()
        office.hobctl("keys", "revoke", "first")
        said = again()
        assert "is not valid any more" in said and "hobctl keys add LABEL --role admin" in said
        assert not (office.folder / "keys").exists()
    assert "is not valid any more" in again()  # hobd need not run
    for file in office.folder.glob("hob.db*"):
        file.unlink()
    assert "made an API key" in again() and (office.folder / "keys").exists()


# ---- strangers ----

def test_failures_slow_an_address_down(tmp_path, model, hobctl):
    office = Office(tmp_path / "var", model, hobctl)
    with started(office.server):
        for i in range(10):
            refused(office.ask("/v1/models", f"hob_wrong{i}"), 401, "invalid_api_key")
        for key in ("hob_wrong", None):
            answer = office.ask("/v1/models", key)
            refused(answer, 429, "rate_limit_exceeded", "auth_failures_per_minute")
            assert 1 <= int(answer[1]["retry-after"]) <= 6
        assert office.ask("/v1/models", office.server.key)[0] == 200  # from the same address
        refused(office.ask("/v1/models", None), 429, "rate_limit_exceeded", "auth_failures_per_minute")


def test_a_list_of_keys_comes_in_pages(tmp_path, model, hobctl):
    """Far more keys than one answer holds; each of them is there once, in order."""
    office = Office(tmp_path / "var", model, hobctl)
    labels = [f"client-{i:04d}-" + "x" * 50 for i in range(4000)]
    with open(office.folder / "keys", "a") as keys:
        for label in labels:
            keys.write(f"{hashlib.sha256(label.encode()).hexdigest()} {label} {label} standard\n")
    with started(office.server):
        status, _, page = office.ask("/hob/v1/admin/keys", office.server.key)
        assert status == 200 and page["has_more"] is True and 100 < len(page["data"]) < 4000
        last = page["data"][-1]["id"]
        _, _, second = office.ask(f"/hob/v1/admin/keys?after={last}", office.server.key)
        assert second["data"][0]["id"] == last + 1
        _, _, end = office.ask(f"/hob/v1/admin/keys?after={10**6}", office.server.key)
        assert end["data"] == [] and end["has_more"] is False
        for query, name in (("after=-1", "after"), ("after=x", "after"), ("before=1", "before")):
            status, _, answer = office.ask(f"/hob/v1/admin/keys?{query}", office.server.key)
            assert status == 400 and answer["error"]["param"] == name, answer
        listed = json.loads(office.hobctl("keys", "list", "--json").stdout)["data"]
        assert [k["label"] for k in listed] == ["first", *labels]
        assert office.hobctl("keys", "list").stdout.count(b"\n") == 4002
