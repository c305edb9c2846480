# SPDX-License-Identifier: Apache-2.0
"""The CPU's contract: the same request with the same seed gives the same bytes, alone or beside others, from the server or from
hobctl."""
import json
import threading

import pytest
from conftest import DEVICE
from wire import Connection, chat, post

pytestmark = pytest.mark.skipif(DEVICE not in (None, "cpu"), reason="the contract is the CPU's: a GPU sums in any order")

QUESTIONS = ["Tell me about rivers.", "What is 2 + 2?", "Write a poem about rain.", "Why is the sky blue?",
             "List five animals. " * 20, "Hello!", "Explain gravity to a child.", "def fibonacci(n):"]


def answer(server, i):
    body = chat(QUESTIONS[i % len(QUESTIONS)], max_tokens=24, temperature=0.9, top_p=0.95, seed=100 + i, logprobs=True,
                top_logprobs=2)
    with Connection(server, timeout=120) as c:
        c.send(post("/v1/chat/completions", body))
        status, _, data = c.response()
    assert status == 200, data
    return json.loads(data)["choices"]


def together(server, numbers):
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.__setitem__(n, answer(server, n))) for n in numbers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def test_alone_and_under_load(dev):
    alone = {i: answer(dev, i) for i in range(8)}
    crowd = together(dev, range(8))
    assert crowd == alone, "text or log probabilities differ under load"
    assert together(dev, reversed(range(8))) == alone
    assert len({json.dumps(a) for a in alone.values()}) > 4, "different requests gave the same answers"


def test_server_equals_hobctl(dev, hobctl, model):
    for temperature, seed in ((0, 0), (0.8, 5)):
        body = chat("Tell me about rivers.", max_tokens=24, temperature=temperature, seed=seed)
        with Connection(dev, timeout=120) as c:
            c.send(post("/v1/chat/completions", body))
            served = json.loads(c.response()[2])
        own = json.loads(hobctl("generate", "--model", model, "--chat", "--prompt", "Tell me about rivers.", "--max-tokens", 24,
                                "--temperature", temperature, "--seed", seed, "--threads", 1, "--json").stdout)
        assert own["text"] == served["choices"][0]["message"]["content"]
        assert len(own["prompt_ids"]) == served["usage"]["prompt_tokens"]
        assert own["finish_reason"] == served["choices"][0]["finish_reason"]


def test_threads_and_tiers_do_not_matter(hobctl, model):
    def ids(threads, **env):
        done = hobctl("generate", "--model", model, "--prompt", "Once upon a time", "--max-tokens", 16, "--temperature", 0.9,
                      "--seed", 3, "--threads", threads, "--json", env=env)
        return json.loads(done.stdout)["ids"]
    first = ids(1)
    assert len(first) == 16
    assert ids(2) == first
    assert ids(3) == first
    assert ids(2, HOB_CPU="scalar") == first
