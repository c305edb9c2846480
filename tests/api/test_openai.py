# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own client against the TLS server: answers, streams, usage, logprobs, stop strings and the shapes of errors."""
import openai
import pytest

QUESTION = [{"role": "user", "content": "Name three colours and say what each reminds you of."}]


def ask(client, **fields):
    fields = {"model": "default", "messages": QUESTION, "max_tokens": 24, "temperature": 0, **fields}
    return client.chat.completions.create(**fields)


def text_of(answer):
    return answer.choices[0].message.content


def test_models(client):
    models = client.models.list().data
    assert len(models) == 1
    assert client.models.retrieve(models[0].id).id == models[0].id
    assert client.models.retrieve("default").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.parametrize("sampling", [{"temperature": 0}, {"temperature": 0.9, "seed": 7, "top_p": 0.95}])
def test_chat_streamed_equals_plain(client, sampling):
    plain = ask(client, **sampling)
    assert plain.choices[0].finish_reason in ("length", "stop")
    assert plain.choices[0].message.role == "assistant"
    assert text_of(plain)
    usage = plain.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 24

    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, **sampling))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text_of(plain)
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert reasons == [plain.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == usage.total_tokens
    assert {c.id for c in chunks} == {chunks[0].id} and chunks[0].id != plain.id


def test_completion_streamed_equals_plain(client):
    fields = {"model": "default", "prompt": "The capital of France is", "max_tokens": 12, "temperature": 0}
    plain = client.completions.create(**fields)
    assert "Paris" in plain.choices[0].text
    chunks = list(client.completions.create(stream=True, **fields))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == plain.choices[0].text


def test_max_tokens_is_kept(client):
    answer = ask(client, max_tokens=5, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"
    answer = ask(client, max_tokens=openai.NOT_GIVEN, max_completion_tokens=3, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3


def test_logprobs(client):
    answer = ask(client, max_tokens=8, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens or answer.choices[0].finish_reason == "stop"
    for t in tokens:
        assert t.logprob <= 0 and len(t.top_logprobs) == 3
        tops = [x.logprob for x in t.top_logprobs]
        assert tops == sorted(tops, reverse=True)
        assert t.logprob == tops[0] and t.token == t.top_logprobs[0].token  # temperature 0 takes the likeliest
    joined = b"".join(bytes(t.bytes) for t in tokens)
    assert joined.decode("utf-8", "replace").startswith(text_of(answer)[:8])
    streamed = list(ask(client, max_tokens=8, logprobs=True, top_logprobs=3, stream=True))
    again = [t for c in streamed if c.choices and c.choices[0].logprobs for t in c.choices[0].logprobs.content or []]
    assert [(t.token, t.logprob) for t in again] == [(t.token, t.logprob) for t in tokens]


def test_stop_strings(client):
    whole = text_of(ask(client, max_tokens=24))
    stop = whole[10:14]
    answer = ask(client, max_tokens=24, stop=[stop])
    assert text_of(answer) == whole[:whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    streamed = "".join(c.choices[0].delta.content or "" for c in ask(client, max_tokens=24, stop=stop, stream=True) if c.choices)
    assert streamed == whole[:whole.index(stop)]


def test_sampling_fields(client):
    greedy = text_of(ask(client))
    assert text_of(ask(client, temperature=1, extra_body={"top_k": 1})) == greedy
    assert text_of(ask(client, temperature=1, extra_body={"min_p": 1.0})) == greedy
    assert text_of(ask(client, temperature=1.5, seed=1)) != text_of(ask(client, temperature=1.5, seed=2))
    assert text_of(ask(client, frequency_penalty=2.0, max_tokens=32)) != text_of(ask(client, max_tokens=32))
    # values that ask for nothing pass
    same = ask(client, tools=[], response_format={"type": "text"}, store=False, n=1, extra_body={"repeat_penalty": 1.0})
    assert text_of(same) == greedy


def test_logit_bias(client):
    chosen = ask(client, max_tokens=1, logprobs=True, top_logprobs=2).choices[0].logprobs.content[0]
    # Which id that is only the server knows: forbid ids until the first token changes would be slow, so ask a completion
    # whose prompt is that id and see that its own text comes back unless forbidden.
    answer = client.completions.create(model="default", prompt=[504, 3575, 282, 4649, 314], max_tokens=1, temperature=0)
    assert answer.usage.prompt_tokens == 5
    biased = ask(client, max_tokens=4, logit_bias={"198": 100})
    assert text_of(biased).strip() == "" and "\n" in text_of(biased)
    assert chosen.token != "\n"


def test_user_text_makes_no_control_tokens(client):
    def prompt_tokens(text):
        return ask(client, messages=[{"role": "user", "content": text}], max_tokens=1).usage.prompt_tokens
    # as one control token each of these would count one; as text they are several
    assert prompt_tokens("a<|im_end|>") - prompt_tokens("a") > 3
    assert prompt_tokens("a<|im_start|>") - prompt_tokens("a") > 3


def test_unicode_passes_through(client):
    messages = [{"role": "user", "content": "Répète: 你好 🌍 \u2028 \\ \" end"}]
    assert ask(client, messages=messages, max_tokens=8).usage.prompt_tokens > 10


def refused(client, kind, **fields):
    with pytest.raises(kind) as caught:
        ask(client, **fields)
    body = caught.value.body
    assert set(body) == {"message", "type", "param", "code"}, body
    return body


def test_errors(client, tls):
    import openai as o
    with o.OpenAI(base_url=tls.url + "/v1", api_key="hob_wrong", max_retries=0,
                  http_client=o.DefaultHttpxClient(verify=tls.context)) as stranger:
        body = refused(stranger, openai.AuthenticationError)
        assert body["code"] == "invalid_api_key" and tls.key not in body["message"]
    body = refused(client, openai.NotFoundError, model="gpt-4")
    assert body["code"] == "model_not_found" and body["param"] == "model"
    body = refused(client, openai.BadRequestError, extra_body={"no_such_field": 1})
    assert "no_such_field" in body["message"] and body["param"] == "no_such_field"


@pytest.mark.parametrize("field, value", [
    ("temperature", "hot"), ("temperature", -1), ("temperature", 9), ("top_p", 0), ("max_tokens", 0), ("max_tokens", 1.5),
    ("max_tokens", -1), ("seed", "x"), ("stop", 7), ("stop", ["x"] * 40), ("n", 9), ("n", 0), ("messages", []), ("messages", "hello"),
    ("messages", [{"role": "robot", "content": "x"}]), ("messages", [{"role": "user", "content": 5}]),
    ("logit_bias", {"x": 1}), ("logit_bias", {"99999999": 1}), ("top_logprobs", 1000), ("stream", "yes"),
    ("tools", [{"type": "function", "function": {"name": "f"}}]), ("response_format", {"type": "json_object"}),
])
def test_bad_values_are_named(client, field, value):
    extra = {} if field == "messages" else {"messages": QUESTION}
    body = refused(client, openai.BadRequestError, **extra, extra_body={field: value})
    assert body["type"] == "invalid_request_error"
    assert field in (body["param"] or "") or field in body["message"], body


def test_context_too_long(client):
    body = refused(client, openai.BadRequestError, messages=[{"role": "user", "content": "one two three " * 6000}])
    assert body["code"] == "context_length_exceeded"
    assert any(c.isdigit() for c in body["message"])
    body = refused(client, openai.BadRequestError, max_tokens=1000000)
    assert body["code"] == "context_length_exceeded"


def test_responses_over_http(client):
    answer = client.responses.create(model="default", input="Say hello.", max_output_tokens=12, temperature=0)
    assert answer.output_text and answer.status in ("completed", "incomplete")
    stream = client.responses.create(model="default", input="Say hello.", max_output_tokens=12, temperature=0, stream=True)
    text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
    assert text == answer.output_text
