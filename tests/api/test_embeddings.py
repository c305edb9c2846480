# SPDX-License-Identifier: Apache-2.0
"""/v1/embeddings: vectors like those that sentence-transformers gives, by OpenAI's own client and by hand; what it refuses,
with which words; keys, their limits and usage; one server with a chat model beside it; engines that die."""
import base64
import json
import os
import signal
import struct
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from conftest import DEVICE, HOBD, ROOT, Server, dev_server, free_port, openai_client, started
from wire import Connection, chat, error_of, post

EMBEDDINGS = "/v1/embeddings"
REFERENCE = json.loads((ROOT / "tests/data/embedding_reference.json").read_text())
MOST = 256  # tokens of a text


@pytest.fixture(scope="session")
def server(tmp_path_factory, embedder):
    with started(dev_server(tmp_path_factory.mktemp("embed"), embedder)) as s:
        yield s


def floats(text):
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def cosine(a, b):
    dot, aa, bb = (sum(x * y for x, y in zip(p, q)) for p, q in ((a, b), (a, a), (b, b)))
    return dot / (aa * bb) ** 0.5


def ask(server, body, status=200):
    with Connection(server, timeout=120) as c:
        c.send(post(EMBEDDINGS, body))
        got, headers, answer = c.response()
    assert got == status, answer
    return json.loads(answer) if status == 200 else error_of(answer)


def embed(server, texts, **fields):
    answer = ask(server, {"input": texts, "encoding_format": "base64", **fields})
    assert [d["index"] for d in answer["data"]] == list(range(len(answer["data"])))
    return [floats(d["embedding"]) for d in answer["data"]], answer["usage"]


# ---- the vectors ----

def test_vectors_are_those_of_sentence_transformers(server):
    texts = [t["text"] for t in REFERENCE["texts"]]
    vectors, usage = embed(server, texts, hob_truncate=True)
    similar = [cosine(v, floats(t["vector"])) for v, t in zip(vectors, REFERENCE["texts"])]
    assert min(similar) >= 0.995, sorted(zip(similar, texts))[:3]
    assert all(len(v) == REFERENCE["dimensions"] and abs(sum(x * x for x in v) - 1) < 1e-5 for v in vectors)
    assert usage["prompt_tokens"] == usage["total_tokens"] == sum(t["tokens"] for t in REFERENCE["texts"])


def test_openai_client(server):
    with openai_client(server) as client:
        one = client.embeddings.create(model="default", input="What is a hearth?")
        assert one.object == "list" and one.data[0].object == "embedding" and len(one.data[0].embedding) == 384
        both = client.embeddings.create(model=Path(server.command[3]).stem, input=["hearth", "What is a hearth?"],
                                        encoding_format="float", dimensions=384, user="anna")
        assert both.data[1].embedding == pytest.approx(one.data[0].embedding, abs=1e-7) and both.data[1].index == 1
        assert both.usage.prompt_tokens == both.usage.total_tokens == 10
        [model] = client.models.list().data
        assert model.hob_dimensions == 384 and model.hob_context_tokens == MOST and model.id == both.model
        with pytest.raises(openai.BadRequestError, match="it generates no text"):
            client.chat.completions.create(model="default", messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.skipif(DEVICE not in (None, "cpu"), reason="a GPU adds up in other orders")
def test_company_changes_nothing(server):
    """The same bits alone, in a batch, as ids, and among the texts of others."""
    texts = [t["text"] for t in REFERENCE["texts"]][:20]
    alone = [embed(server, t)[0][0] for t in texts]
    assert embed(server, texts)[0] == alone
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda t: embed(server, [t] * 9)[0][4], texts)) == alone


def test_token_ids(server):
    [words], usage = embed(server, "hello world")
    assert usage["prompt_tokens"] == 4
    for ids in ([101, 7592, 2088, 102], [[101, 7592, 2088, 102]]):
        assert embed(server, ids)[0] == [words]
    assert embed(server, [[101, 7592, 2088, 102], [101, 7592, 102]])[1]["prompt_tokens"] == 7
    assert "input 0: element 1 is no token id, 0 to 30521" in ask(server, {"input": [101, 30522]}, 400)["message"]


def test_a_large_answer_comes_in_pieces(server):
    """2,048 inputs are one request; their floats are 8 MB of text."""
    texts = [f"number {i}" for i in range(2048)]
    with Connection(server, timeout=120) as c:
        c.send(post(EMBEDDINGS, {"input": texts, "encoding_format": "float"}))
        status, headers, body = c.response()
        assert status == 200 and headers["transfer-encoding"] == "chunked" and len(body) > 5e6
        c.send(post(EMBEDDINGS, {"input": "the same connection"}))
        assert c.response()[0] == 200
    data = json.loads(body)["data"]
    assert len(data) == 2048
    for i in (0, 777, 2047):
        assert data[i]["index"] == i and cosine(data[i]["embedding"], embed(server, texts[i])[0][0]) > 0.999999


# ---- refusals ----

@pytest.mark.parametrize("body, code, words", [
    ({}, "missing_required_parameter", "input"),
    ({"input": ""}, "invalid_value", "element 0 is an empty string"),
    ({"input": ["a", ""]}, "invalid_value", "element 1 is an empty string"),
    ({"input": []}, "invalid_value", "got 0 inputs, allowed are 1 to 2048"),
    ({"input": ["a"] * 2049}, "invalid_value", "got 2049 inputs"),
    ({"input": ["a", 3]}, "invalid_value", "element 1 is neither"),
    ({"input": ["a", {}]}, "invalid_value", "element 1 is neither"),
    ({"input": [[]]}, "invalid_value", "element 0 is neither"),
    ({"input": [1, "a"]}, "invalid_type", "list of token ids"),
    ({"input": [-1]}, "invalid_type", "list of token ids"),
    ({"input": 5}, "invalid_type", "a string, a list of token ids"),
    ({"input": "a", "dimensions": 256}, "invalid_value", "got 256, this model's vectors have 384"),
    ({"input": "a", "dimensions": "384"}, "invalid_type", "an integer"),
    ({"input": "a", "encoding_format": "int8"}, "unsupported_value", '"float", "base64"'),
    ({"input": "a", "temperature": 1}, "unknown_parameter", "temperature"),
    ({"input": "a", "hob_class": "query"}, "invalid_value", "hob_class"),
    ({"input": "a", "hob_truncate": 1}, "invalid_type", "true or false"),
])
def test_refusals(server, body, code, words):
    error = ask(server, body, 400)
    assert error["code"] == code and error["type"] == "invalid_request_error" and words in error["message"], error


def test_over_long_input(server):
    """A 400 with both counts; cut, when that is asked for, as the reference cuts: [SEP] stays."""
    text = "word " * 300
    error = ask(server, {"input": ["fine", text]}, 400)
    assert error["code"] == "context_length_exceeded" and error["param"] == "input"
    assert "input 1 has 302 tokens" in error["message"] and f"takes {MOST} at most" in error["message"]
    [cut], usage = embed(server, text, hob_truncate=True)
    assert usage["prompt_tokens"] == MOST
    [word] = {2773}  # of the vocabulary of BERT
    assert embed(server, [101] + [word] * (MOST - 2) + [102])[0] == [cut]
    assert embed(server, [101] + [word] * 300 + [102], hob_truncate=True)[0] == [cut]


def test_chat_asked_of_an_embedder(server):
    for path, body in (("/v1/chat/completions", chat("Hi")), ("/v1/completions", {"prompt": "Hi"}),
                       ("/v1/responses", {"input": "Hi"}), ("/hob/v1/estimate", {"prompt": "Hi"})):
        with Connection(server) as c:
            c.send(post(path, body))
            status, _, answer = c.response()
        error = error_of(answer)
        assert status == 400 and error["code"] == "unsupported_model" and error["param"] == "model", (path, error)


def test_embeddings_asked_of_a_chat_model(dev):
    assert ask(dev, {"input": "Hi"}, 400)["message"] == "no model here makes embeddings"
    name = Path(dev.command[3]).stem
    error = ask(dev, {"input": "Hi", "model": name}, 400)
    assert error["code"] == "unsupported_model" and "it makes no embeddings" in error["message"]
    assert ask(dev, {"input": "Hi", "model": "nobody"}, 404)["code"] == "model_not_found"


def test_a_client_that_leaves(server):
    """What it asked for is dropped: the next one does not wait for it."""
    before = server.metric("hob_requests_cancelled_total")
    with Connection(server) as c:
        c.send(post(EMBEDDINGS, {"input": ["word " * 200] * 500}))
        server.wait_metric("hob_engine_jobs", lambda v: v == 1)
    server.wait_metric("hob_requests_cancelled_total", lambda v: v == before + 1)
    server.wait_metric("hob_engine_waiting_texts", lambda v: v == 0)
    assert embed(server, "still here")[1]["prompt_tokens"] == 4


# ---- beside a chat model, with keys ----

@pytest.fixture(scope="module")
def pair(tmp_path_factory, model, embedder, hobctl):
    """A chat model and an embedder behind TLS, and the admin socket."""
    folder = tmp_path_factory.mktemp("pair") / "var"
    port = free_port()
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    conf = folder / "hob.conf"
    text = conf.read_text().split("\n", 1)[1]
    at = text.index("models")
    end = text.index(");", at) + 2
    device = f'device = "{DEVICE or "cpu"}"; threads = 2;'
    models = (f'models = ( {{ name = "chat"; path = "{model}"; {device} }}, '
              f'{{ name = "minilm"; path = "{embedder}"; {device} }} );')
    conf.write_text(text[:at] + models + text[end:] + "limits = { auth_failures_per_minute = 0; handshakes_per_s = 0; };\n")
    server = Server([HOBD, "--config", conf], port, folder.parent / "hobd.log", (folder / "api_key").read_text().strip(),
                    folder / "ca.pem", cwd=folder.parent)
    server.hobctl = lambda *args: hobctl(*args, "--socket", folder / "hob.sock").stdout.decode()
    with started(server):
        yield server


def post_tls(server, key, body):
    request = urllib.request.Request(server.url + EMBEDDINGS, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "Authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request, timeout=60, context=server.context) as answer:
            return answer.status, answer.headers, json.loads(answer.read())
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.headers, json.loads(e.read())


def test_both_models(pair):
    """`default` is the chat model for chat and the embedder for embeddings."""
    with openai_client(pair) as client:
        assert [m.id for m in client.models.list()] == ["chat", "minilm"]
        for name in ("default", "minilm"):
            assert client.embeddings.create(model=name, input="Hi").model == "minilm"
        for name in ("default", "chat"):
            assert client.chat.completions.create(model=name, max_tokens=4, messages=[
                {"role": "user", "content": "Hi"}]).model == "chat"
        for call, name in ((lambda n: client.embeddings.create(model=n, input="Hi"), "chat"),
                           (lambda n: client.chat.completions.create(model=n, messages=[
                               {"role": "user", "content": "Hi"}]), "minilm")):
            with pytest.raises(openai.BadRequestError) as refused:
                call(name)
            assert refused.value.code == "unsupported_model"


def test_rights_and_limits(pair):
    key = pair.hobctl("keys", "add", "limited", "--tokens-per-minute", "50", "--requests-per-minute", "20",
                      "--models", "minilm", "--class", "standard", "--max-prompt-tokens", "30").strip()
    status, headers, body = post_tls(pair, key, {"input": ["hello world"] * 5})
    assert status == 200 and body["usage"] == {"prompt_tokens": 20, "total_tokens": 20}
    status, headers, _ = post_tls(pair, key, {"input": "word " * 23})  # 25 tokens
    assert status == 200 and headers["x-ratelimit-remaining-tokens"] == "5" and headers["x-ratelimit-limit-tokens"] == "50"
    status, headers, body = post_tls(pair, key, {"input": ["hello world"] * 2})
    assert status == 429 and body["error"]["hob_reason"] == "tokens_per_minute" and int(headers["retry-after"]) > 0
    assert "limit 50, used 45" in body["error"]["message"] and "wanted 8" in body["error"]["message"]
    status, headers, body = post_tls(pair, key, {"input": "x"})  # three of the five that are left: nothing was lost
    assert status == 200 and headers["x-ratelimit-remaining-tokens"] == "2"
    status, _, body = post_tls(pair, key, {"input": ["x"] * 60})
    assert status == 429 and body["error"]["hob_reason"] == "request_too_large"
    status, _, body = post_tls(pair, key, {"input": "word " * 40})
    assert status == 400 and body["error"]["code"] == "prompt_too_long" and "input 0 has 42" in body["error"]["message"]
    status, _, body = post_tls(pair, key, {"input": "x", "hob_class": "interactive"})
    assert status == 403 and body["error"]["code"] == "class_not_allowed"
    other = pair.hobctl("keys", "add", "chatter", "--models", "chat").strip()
    assert post_tls(pair, other, {"input": "x", "model": "minilm"})[2]["error"]["code"] == "model_not_allowed"
    assert post_tls(pair, "hob_nobody", {"input": "x"})[0] == 401
    [usage] = json.loads(pair.hobctl("usage", "--json", "--key", "limited"))["data"]
    assert usage["requests"] == 3 and usage["prompt_tokens"] == 48 and usage["answer_tokens"] == 0


def test_unload_and_load(pair):
    assert json.loads(pair.hobctl("models", "unload", "minilm", "--json"))["state"] == "unloaded"
    status, _, body = post_tls(pair, pair.key, {"input": "x", "model": "minilm"})
    assert status == 503 and body["error"]["code"] == "model_unloaded"
    pair.hobctl("models", "load", "minilm")
    pair.wait_metric('hob_engine_up{model="minilm"}', lambda v: v == 1)
    assert post_tls(pair, pair.key, {"input": "x", "model": "minilm"})[0] == 200


# ---- engines that die ----

@pytest.fixture
def own_embedder(tmp_path, embedder):
    with started(dev_server(tmp_path, embedder, "--hang-timeout-ms", "1500")) as s:
        yield s


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_batch_survives_its_engine(own_embedder, how):
    """It goes on with the texts that have no vectors yet."""
    server = own_embedder
    texts = [f"{i} " + "word " * 60 for i in range(200)]
    calm, usage = embed(server, texts)
    result = {}
    thread = threading.Thread(target=lambda: result.update(zip(("vectors", "usage"), embed(server, texts))))
    thread.start()
    server.wait_metric("hob_engine_jobs", lambda v: v == 1)
    [engine] = server.engines()
    os.kill(engine, how)
    thread.join(120)
    assert result["usage"] == usage
    if DEVICE in (None, "cpu"):
        assert result["vectors"] == calm
    assert server.metric("hob_engine_restarts_total") == 1 and server.metric("hob_requests_poisoned_total") == 0


@pytest.mark.parametrize("where", ["poison", "prepare", "hang"])
def test_only_the_poison_fails(tmp_path, embedder, monkeypatch, where):
    """Requests that are there when engines die of another are answered, newcomers too."""
    zebra = 29145  # of the vocabulary of BERT
    monkeypatch.setenv("HOB_ENGINE_FAULT", f"{where}:{zebra}")
    texts = [[f"{n} {i} " + "word " * 50 for i in range(60)] for n in range(3)]
    patience = ("--hang-timeout-ms", "1500") if where == "hang" else ()
    with started(dev_server(tmp_path, embedder, *patience)) as server:
        calm = [embed(server, t)[0] for t in texts]
        with ThreadPoolExecutor(4) as pool:
            rest = [pool.submit(embed, server, t) for t in texts]
            poison = pool.submit(ask, server, {"input": ["fine", "Draw a zebra."]}, 500)
            assert poison.result(60)["code"] == "request_poisoned"
            assert all(r.result(60)[0] == c for r, c in zip(rest, calm)) or DEVICE not in (None, "cpu")
        assert embed(server, "still here")[1]["prompt_tokens"] == 4
        assert server.metric("hob_requests_poisoned_total") == 1 and server.metric("hob_engine_restarts_total") == 3


def test_patience_and_places(tmp_path, embedder, monkeypatch):
    """What would wait too long, or has no place, is a 429 that says when to come again."""
    batch = {"input": ["word " * 200] * 400, "hob_class": "batch"}
    with started(dev_server(tmp_path, embedder, "--patience-ms", "1", "--max-sequences", "2")) as server:
        embed(server, ["word " * 200] * 5)
        server.wait_metric("hob_engine_embed_tokens_per_second", lambda v: v > 0)
        with Connection(server) as c:
            c.send(post(EMBEDDINGS, batch))
            server.wait_metric("hob_engine_waiting_texts", lambda v: v > 50)
            with Connection(server) as late:
                late.send(post(EMBEDDINGS, batch))
                status, headers, body = late.response()
            error = json.loads(body)["error"]
            assert status == 429 and error["hob_reason"] == "patience_ms" and error["code"] == "server_busy"
            assert int(headers["retry-after-ms"]) >= 1000 and error["hob_retry_after_ms"] > 0
            assert embed(server, "a better class", hob_class="interactive")[1]["prompt_tokens"] == 5
