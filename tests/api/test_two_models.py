# SPDX-License-Identifier: Apache-2.0
"""Two engines on one machine take turns: both answer as they would alone, and one that dies or hangs with the turn in its
hand holds the other up no longer than the gateway takes to notice."""
import os
import signal
import threading

import pytest

from conftest import DEVICE, HOBD, Server, free_port, started

BODY = {"messages": [{"role": "user", "content": "Count."}], "max_tokens": 120, "ignore_eos": True, "temperature": 0.7}


@pytest.fixture
def pair(tmp_path, model, hobctl):
    folder, port = tmp_path / "var", free_port()
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    conf = folder / "hob.conf"
    text = conf.read_text()
    at = text.index("models")
    one = f'path = "{model}"; device = "{DEVICE or "cpu"}"; threads = 2;'
    end = text.index(");", at) + 2
    models = f'models = ( {{ name = "a"; {one} }}, {{ name = "b"; {one} }} );'
    conf.write_text(text[:at] + models + text[end:] + "\nlimits = { hang_timeout_ms = 1000; };\n")
    server = Server([HOBD, "--config", conf], port, tmp_path / "hobd.log", (folder / "api_key").read_text().strip(),
                    folder / "ca.pem", cwd=tmp_path)
    with started(server):
        yield server


@pytest.fixture
def ask(pair):
    import openai
    with openai.OpenAI(base_url=pair.url + "/v1", api_key=pair.key, max_retries=0, timeout=240,
                       http_client=openai.DefaultHttpxClient(verify=pair.context)) as client:
        def run(name, seed, seen=None, **more):
            text = ""
            fields = {**BODY, "seed": seed, **more}
            extra = {"ignore_eos": fields.pop("ignore_eos")}
            for chunk in client.chat.completions.create(model=name, stream=True, extra_body=extra, **fields):
                text += chunk.choices[0].delta.content or ""
                if seen and text:
                    seen.set()
            return text
        yield run


def both(ask, count=2, disturb=None):
    results, begun = {}, {name: threading.Event() for name in "ab"}

    def run(name, i):
        results[name, i] = ask(name, i, begun[name])

    threads = [threading.Thread(target=run, args=(name, i)) for name in "ab" for i in range(count)]
    for t in threads:
        t.start()
    if disturb:
        assert all(e.wait(60) for e in begun.values())
        disturb()
    for t in threads:
        t.join(240)
    assert len(results) == 2 * count
    return results


def test_both_answer(pair, ask):
    calm = {(name, i): ask(name, i) for name in "ab" for i in range(2)}
    assert calm["a", 0] == calm["b", 0] and calm["a", 0] != calm["a", 1]
    assert both(ask) == calm
    assert pair.metric("hob_engine_restarts_total") == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_one_dies_or_hangs(pair, ask, how):
    """Whichever of them has the turn: each is disturbed once."""
    calm = both(ask)
    for n in (1, 2):
        engine = sorted(pair.engines())[0]  # the second time it is the other's turn: a new one has a higher id
        after = both(ask, disturb=lambda engine=engine: os.kill(engine, how))
        assert after == calm
        assert pair.metric("hob_engine_restarts_total") == n
    assert pair.metric("hob_requests_poisoned_total") == 0
