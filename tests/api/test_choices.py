# SPDX-License-Identifier: Apache-2.0
"""Several choices and several prompts in one request, with OpenAI's client."""
import openai
import pytest

QUESTION = [{"role": "user", "content": "Name three colours and say what each reminds you of. " + "Take your time. " * 12}]


def ask(client, **fields):
    fields = {"model": "default", "messages": QUESTION, "max_tokens": 24, "temperature": 0.9, "seed": 40, **fields}
    return client.chat.completions.create(**fields)


def test_choice_is_what_its_seed_gives_alone(client):
    answer = ask(client, n=4)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    alone = [ask(client, seed=40 + i) for i in range(4)]
    assert [c.message.content for c in answer.choices] == [a.choices[0].message.content for a in alone]
    assert len({c.message.content for c in answer.choices}) > 1
    assert [c.finish_reason for c in answer.choices] == [a.choices[0].finish_reason for a in alone]
    usage = answer.usage
    assert usage.prompt_tokens == alone[0].usage.prompt_tokens  # once
    assert usage.completion_tokens == sum(a.usage.completion_tokens for a in alone)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_prompt_is_computed_once(client, tls):
    cached, prompts = tls.metric("hob_cached_tokens_total"), tls.metric("hob_prompt_tokens_total")
    answer = ask(client, n=3, messages=[{"role": "user", "content": "Seven otters. " * 40}], max_tokens=4)
    tokens = answer.usage.prompt_tokens
    assert tls.metric("hob_prompt_tokens_total") - prompts == tokens
    assert tls.metric("hob_cached_tokens_total") - cached >= 2 * (tokens - 64)


def test_streamed_choices(client):
    whole = ask(client, n=3)
    text, ends, usage = {}, {}, None
    for part in ask(client, n=3, stream=True, stream_options={"include_usage": True}):
        usage = part.usage or usage
        for c in part.choices:
            assert c.index not in ends
            text[c.index] = text.get(c.index, "") + (c.delta.content or "")
            if c.finish_reason:
                ends[c.index] = c.finish_reason
    assert [text[i] for i in range(3)] == [c.message.content for c in whole.choices]
    assert [ends[i] for i in range(3)] == [c.finish_reason for c in whole.choices]
    assert usage.completion_tokens == whole.usage.completion_tokens and usage.prompt_tokens == whole.usage.prompt_tokens


@pytest.mark.parametrize("n", [3, 8])
def test_streamed_choices_get_all_their_credit_back(client, n):
    tokens = [0] * n
    for part in ask(client, n=n, stream=True, max_tokens=120, logprobs=True, timeout=60, extra_body={"ignore_eos": True}):
        for c in part.choices:
            tokens[c.index] += len(c.logprobs.content) if c.logprobs else 0
    assert tokens == [120] * n


def test_choices_that_stop_at_once(client):
    first = ask(client, temperature=0, max_tokens=1).choices[0].message.content
    answer = ask(client, n=3, temperature=0, stop=[first])
    assert [c.message.content for c in answer.choices] == ["", "", ""]
    assert {c.finish_reason for c in answer.choices} == {"stop"}


def test_batched_prompts(client):
    prompts = ["The capital of France is", "One, two, three,"]
    fields = {"model": "default", "max_tokens": 8, "temperature": 0, "logprobs": 1}
    alone = [client.completions.create(prompt=p, **fields) for p in prompts]
    both = client.completions.create(prompt=prompts, n=2, **fields)
    assert [c.index for c in both.choices] == [0, 1, 2, 3]
    assert [c.text for c in both.choices] == [a.choices[0].text for a in alone for _ in range(2)]
    assert both.choices[3].logprobs.tokens == alone[1].choices[0].logprobs.tokens
    assert both.usage.prompt_tokens == sum(a.usage.prompt_tokens for a in alone)
    assert both.usage.completion_tokens == 2 * sum(a.usage.completion_tokens for a in alone)
    streamed = [""] * 4
    for part in client.completions.create(prompt=prompts, n=2, stream=True, **fields):
        for c in part.choices:
            streamed[c.index] += c.text
    assert streamed == [c.text for c in both.choices]
    ids = client.completions.create(prompt=[[504, 3575, 282, 4649, 314], [504, 3575]], model="default", max_tokens=2)
    assert len(ids.choices) == 2 and ids.usage.prompt_tokens == 7
    assert len(client.completions.create(prompt=[504, 3575], model="default", max_tokens=2).choices) == 1


@pytest.mark.parametrize("field, value", [
    ("n", 9), ("n", 0), ("n", "2"), ("best_of", 3), ("echo", True), ("suffix", "x"), ("prompt", []), ("prompt", [""] * 33),
    ("prompt", ["a", 5]), ("prompt", [["a"]]), ("prompt", [[]]), ("prompt", 5), ("logprobs", 21), ("logprobs", True),
    ("max_completion_tokens", 5), ("metadata", {"a": "b"}), ("store", True),
])
def test_bad_completion_fields_are_named(client, field, value):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": "default", "prompt": "x", "max_tokens": 2, "extra_body": {field: value}})
    assert caught.value.body["param"] == field


def test_best_of_as_many_as_asked(client):
    assert len(client.completions.create(model="default", prompt="x", max_tokens=2, n=2, best_of=2).choices) == 2


def test_bad_prompt_among_good_ones(client, tls):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="default", prompt=["Count.", "one two three " * 6000], max_tokens=200, n=2,
                                  extra_body={"ignore_eos": True})
    assert caught.value.body["code"] == "context_length_exceeded"
    tls.wait_metric("hob_engine_jobs", lambda v: v == 0)
    tls.wait_metric("hob_engine_running", lambda v: v == 0)


def test_disconnect_cancels_all_choices(client, tls):
    stream = ask(client, n=4, stream=True, max_tokens=1500, extra_body={"ignore_eos": True})
    seen = set()
    for part in stream:
        seen |= {c.index for c in part.choices}
        if len(seen) == 4:
            break
    stream.close()
    tls.wait_metric("hob_engine_jobs", lambda v: v == 0)
    tls.wait_metric("hob_engine_running", lambda v: v == 0)
