# SPDX-License-Identifier: Apache-2.0
"""hobd with its model on an OpenCL device (PoCL, which is the processor: right, and slow), and what becomes of a device that
fails: the service comes up, or goes on, on the CPU and says why. HOB_CL_FAULT makes the faults."""
import contextlib
import json
import os
import subprocess

import pytest
from conftest import HOBCTL, dev_server, started
from wire import Connection, chat, events, post

CHAT = "/v1/chat/completions"
FIXED = {"temperature": 0, "ignore_eos": True}


def devices():
    done = subprocess.run([HOBCTL, "doctor", "--json"], stdout=subprocess.PIPE)
    return json.loads(done.stdout)["devices"]


pytestmark = [
    pytest.mark.skipif(bool(os.environ.get("HOB_SANITIZED")), reason="a driver is not built for sanitizers"),
    pytest.mark.skipif(not any(d["name"] == "opencl:0" for d in devices()), reason="no OpenCL device"),
]


def answer(server, question, **fields):
    with Connection(server, timeout=300) as c:
        c.send(post(CHAT, chat(question, **FIXED, **fields)))
        status, _, body = c.response()
    assert status == 200, body
    return json.loads(body)


def log_has(server, *words):
    text = server.log.read_text()
    assert all(w in text for w in words), text


@pytest.fixture(scope="module")
def cpu(tmp_path_factory, model):
    with started(dev_server(tmp_path_factory.mktemp("cpu"), model, "--device", "cpu")) as server:
        yield server


@pytest.fixture(scope="module")
def opencl(tmp_path_factory, model):
    with started(dev_server(tmp_path_factory.mktemp("opencl"), model, "--device", "opencl:0")) as server:
        yield server


def test_answers_as_the_cpu_does(opencl, cpu):
    log_has(opencl, "llama, opencl:0")
    question = "Name three colours."
    got, want = (answer(s, question, max_tokens=12)["choices"][0]["message"]["content"] for s in (opencl, cpu))
    assert got == want


def test_streams_side_by_side(opencl):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(opencl, timeout=300)) for _ in range(3)]
        for i, c in enumerate(connections):
            c.send(post(CHAT, chat(f"Count to {i + 5}.", stream=True, max_tokens=6 + i, **FIXED,
                                   stream_options={"include_usage": True})))
        for i, c in enumerate(connections):
            assert c.head()[0] == 200
            body = b""
            while piece := c.chunk():
                body += piece
            frames = [json.loads(f) for f in events(body) if f != "[DONE]"]
            assert frames[-1]["usage"]["completion_tokens"] == 6 + i


@pytest.mark.parametrize("fault, reason", [
    ("probe", "ended the probing process by signal 6"),
    ("build", "building"),
    ("wrong", "self-test: gate"),
    ("memory", "out of memory"),
])
def test_faults_before_the_first_answer(tmp_path, model, monkeypatch, fault, reason):
    monkeypatch.setenv("HOB_CL_FAULT", fault)
    with started(dev_server(tmp_path, model, "--device", "opencl:0")) as server:
        assert answer(server, "Hi", max_tokens=4)["usage"]["completion_tokens"] == 4
        assert server.metric("hob_engine_device_failed") == 1
        log_has(server, reason, "device opencl:0 has failed: the engine runs on the CPU", "llama, cpu")


def test_no_driver(tmp_path, model, monkeypatch):
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path / "none"))
    with started(dev_server(tmp_path, model, "--device", "opencl:0")) as server:
        assert answer(server, "Hi", max_tokens=4)["usage"]["completion_tokens"] == 4
        log_has(server, "found none of that name", "llama, cpu")


def test_device_lost_in_mid_answer(tmp_path, model, monkeypatch, cpu):
    monkeypatch.setenv("HOB_CL_FAULT", "step")
    question = "Name three colours."
    with started(dev_server(tmp_path, model, "--device", "opencl:0")) as server:
        log_has(server, "llama, opencl:0")
        got = answer(server, question, max_tokens=40)
        assert server.metric("hob_engine_device_failed") == 1
        assert server.metric("hob_engine_restarts_total") == 1
        log_has(server, "a step failed: HOB_EDEVICE: opencl:0: a step: CL_OUT_OF_RESOURCES")
    want = answer(cpu, question, max_tokens=40)
    assert got["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}  # a new engine; the other knows the question
    assert {**got["usage"], "prompt_tokens_details": 0} == {**want["usage"], "prompt_tokens_details": 0}
    assert got["choices"][0]["message"]["content"] == want["choices"][0]["message"]["content"]


def test_auto_takes_the_cpu_where_opencl_is_the_processor(hobctl):
    report = json.loads(hobctl("doctor", "--json").stdout)
    assert report["chosen"] == "cpu"
    own = next(d for d in report["devices"] if d["name"] == "opencl:0")
    assert own["usable"] and "only when it is named" in own["reason"]
