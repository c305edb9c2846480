# SPDX-License-Identifier: Apache-2.0
"""Published chat templates, rendered by hob and by jinja2 set up as transformers does, byte for byte.

The templates are those that llama.cpp's source tree carries (tests/bench/build_peer.sh fetches it). Where jinja2 refuses, hob
must refuse too."""
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import jinja2
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/data"))
from template_environment import environment  # noqa: E402

HOBCTL = Path(os.environ.get("HOB_BUILD", ROOT / "build")) / "hobctl"
# llama.cpp's own template for DeepSeek R1 gives tojson a generator, which only hob takes for a list. `safe` changes nothing in
# hob: jinja2 escapes what is added to a safe string, which Functionary's author cannot have wanted.
DIFFERENT = {"llama-cpp-deepseek-r1.jinja", "meetkai-functionary-medium-v3.1.jinja"}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def user(text):
    return message("user", text)


def assistant(text, **more):
    return message("assistant", text, **more)


def call(name, arguments, number=0):
    return {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name, description, **properties):
    return {"type": "function", "function": {
        "name": name, "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(properties)[:1]}}}


WEATHER = tool("get_weather", "The weather in a city, <now> & \"soon\"",
               city={"type": "string", "description": "city, e.g. Zürich"},
               unit={"type": "string", "enum": ["C", "F"], "default": "C"})
ADD = tool("add", "Adds numbers", a={"type": "number"}, b={"type": ["number", "null"]},
           many={"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}})
NOTHING = {"type": "function", "function": {"name": "now", "description": "The time", "parameters": {"type": "object", "properties": {}}}}
SYSTEM = message("system", "You are terse.\nVery.")
CALLED = [user("Weather in Zürich?"), assistant("", tool_calls=[call("get_weather", {"city": "Zürich", "unit": "C"})]),
          message("tool", "{\"t\": 21.5}", tool_call_id="call00000", name="get_weather")]

CASES = {
    "one": {"messages": [user("Hello")]},
    "no-generation": {"messages": [user("Hello")], "add_generation_prompt": False},
    "system": {"messages": [SYSTEM, user("Hi")]},
    "turns": {"messages": [user("One"), assistant("Two"), user("Three")]},
    "system-turns": {"messages": [SYSTEM, user("1"), assistant("2"), user("3"), assistant("4"), user("5")]},
    "ends-with-assistant": {"messages": [user("One"), assistant("Two")], "add_generation_prompt": False},
    "empty": {"messages": [user("")]},
    "spaces": {"messages": [message("system", "  s \n"), user("   padded \n\n"), assistant("\ttabs\t "), user(" \n ")]},
    "unicode": {"messages": [user("Привет 你好 こんにちは مرحبا 👩‍🚀 e\u0301"), assistant("ﬁ"), user("ß\u00a0\u2028x")]},
    "markup": {"messages": [user("{{ x }} {% raw %} <b>&amp;\"'</b> <|im_end|></s>[INST]")]},
    "two-users": {"messages": [user("a"), user("b")]},
    "begins-with-assistant": {"messages": [assistant("a"), user("b")]},
    "late-system": {"messages": [user("a"), assistant("b"), message("system", "s"), user("c")]},
    "unknown-role": {"messages": [user("a"), message("critic", "b")]},
    "thinking": {"messages": [user("a"), assistant("<think>\nhm\n</think>\n\nb"), user("c")]},
    "reasoning": {"messages": [user("a"), assistant("b", reasoning_content="hm"), user("c")]},
    "enable-thinking": {"messages": [SYSTEM, user("a")], "enable_thinking": True},
    "no-thinking": {"messages": [SYSTEM, user("a")], "enable_thinking": False},
    "tools": {"messages": [user("Weather?")], "tools": [WEATHER]},
    "tools-system": {"messages": [SYSTEM, user("Weather?")], "tools": [WEATHER, ADD, NOTHING]},
    "called": {"messages": CALLED, "tools": [WEATHER]},
    "called-on": {"messages": [SYSTEM, *CALLED, assistant("21.5 °C"), user("Thanks")], "tools": [WEATHER, ADD]},
    "called-text": {"messages": [user("a"), assistant("let me see", tool_calls=[call("add", "{\"a\": 1, \"b\": null}", 1)]),
                                 message("tool", "1", tool_call_id="call00001", name="add")], "tools": [ADD]},
    "called-twice": {"messages": [user("a"), assistant(None, tool_calls=[call("add", {"a": 1, "many": [{"x": 1}]}, 1),
                                                                        call("now", {}, 2)]),
                                  message("tool", "1", tool_call_id="call00001", name="add"),
                                  message("tool", "12:00", tool_call_id="call00002", name="now"), assistant("done"), user("more")],
                     "tools": [ADD, NOTHING]},
    "called-without-tools": {"messages": CALLED},
    "parts": {"messages": [user([{"type": "text", "text": "Hello"}, {"type": "text", "text": " there"}])]},
    "documents": {"messages": [user("What?")], "documents": [{"title": "T", "text": "Some <text>", "contents": "c"},
                                                             {"title": "U", "text": "More", "snippet": "s"}]},
    "no-messages": {"messages": []},
}


def folder():
    peer = Path(os.environ.get("PEER_DIR", Path.home() / ".cache/hob-peer"))
    found = sorted(peer.glob("src/llama_cpp_python-*/vendor/llama.cpp/models/templates"))
    if not found:
        pytest.skip("llama.cpp's templates are not there: run tests/bench/build_peer.sh")
    return found[-1]


def by_jinja(source, variables):
    try:
        return environment(datetime.now()).from_string(source).render(bos_token="<s>", eos_token="</s>", **variables)
    except Exception as e:  # whatever jinja2 or Python says
        return e


def by_hob(path, variables):
    done = subprocess.run([HOBCTL, "template", "--template", path, "--bos", "<s>", "--eos", "</s>"],
                          input=json.dumps(variables).encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return done.stdout.decode() if done.returncode == 0 else RuntimeError(done.stderr.decode().strip())


def compare(path):
    """The cases that differ: name, what jinja2 says, what hob says."""
    wrong = []
    for name, variables in CASES.items():
        variables = {"add_generation_prompt": True, **variables}
        want, got = by_jinja(path.read_text(), variables), by_hob(path, variables)
        if isinstance(want, Exception) != isinstance(got, Exception) or isinstance(want, str) and want != got:
            wrong.append((name, want, got))
    return wrong


def test_published_templates(capsys):
    files = sorted(folder().glob("*.jinja"))
    assert len(files) >= 10 and len(CASES) >= 20
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(files, pool.map(compare, files)))
    with capsys.disabled():
        equal = sum(not wrong for wrong in results.values())
        total = len(files) * len(CASES)
        print(f"{equal} of {len(files)} templates equal in all {len(CASES)} cases;"
              f" {total - sum(map(len, results.values()))} of {total} cases; jinja2 {jinja2.__version__}")
        for path, wrong in results.items():
            for name, want, got in wrong[:3]:
                print(f"{path.name}: {name} and {len(wrong) - 1} more\n  jinja2: {str(want)!r:.300}\n  hob:    {str(got)!r:.300}")
    assert not [path.name for path, wrong in results.items() if wrong and path.name not in DIFFERENT]
