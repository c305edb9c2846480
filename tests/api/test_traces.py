# SPDX-License-Identifier: Apache-2.0
"""Logs, traces and the audit log of a server that answers from documents: a line and a trace for each request, whose spans sum up
to its time; the caller's traceparent; export to a collector of OpenTelemetry's, here a small one; and of what clients say, and of
their keys, not a word anywhere. A standard error that nobody reads stops nothing."""
import base64
import contextlib
import fcntl
import http.client
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import openai
import pytest

from conftest import BUILD, dev_server, limited_server, openai_client, started
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from websockets.sync.client import connect

CANARIES = ("canaryprompt", "canarydocument", "canaryanswer")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NOTES = "# Boiler room\n\nThe Hendrick valve canarydocument of the boiler opens at 4.2 bar. Mrs Okafor has the key.\n"


def with_ids(body, change):
    for r in body["resourceSpans"]:
        for scope in r["scopeSpans"]:
            for span in scope["spans"]:
                span.update({k: change(span[k]) for k in ("traceId", "spanId", "parentSpanId") if k in span})
    return body


def read_back(text):
    """Through OpenTelemetry's own message, which takes no unknown name and no wrong type. Ids are hexadecimal in OTLP's JSON, and
    base64 in that of protobuf."""
    sent = with_ids(json.loads(text), lambda hex: base64.b64encode(bytes.fromhex(hex)).decode())
    message = json_format.ParseDict(sent, ExportTraceServiceRequest())
    message = ExportTraceServiceRequest.FromString(message.SerializeToString())
    return with_ids(json_format.MessageToDict(message, use_integers_for_enums=True), lambda text: base64.b64decode(text).hex())


class Collector:
    """Takes OTLP/HTTP with JSON. `answers`: what it says to the next requests, then 200; 400 to what it cannot read."""

    def __init__(self):
        self.requests, self.answers, self.seen, self.delay_s = [], [], threading.Event(), 0
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                time.sleep(collector.delay_s)
                status, body = collector.answers.pop(0) if collector.answers else 200, None
                try:
                    body = read_back(self.rfile.read(int(self.headers["content-length"])))
                except (ValueError, json_format.ParseError) as e:
                    status, body = 400, str(e)
                collector.requests.append((self.path, self.headers["content-type"], status, body))
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                collector.seen.set()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self):
        """Those that it has said 200 to."""
        return [span for _, _, status, body in self.requests if status == 200 for r in body["resourceSpans"]
                for scope in r["scopeSpans"] for span in scope["spans"]]

    def wait(self, found, limit_s=60):
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if found(self.spans()):
                return
            self.seen.wait(0.2)
            self.seen.clear()
        raise AssertionError(f"{len(self.requests)} requests came: {self.requests[-2:]}")


@pytest.fixture(scope="module")
def collector():
    c = Collector()
    c.answers = [503]  # it is not up yet: the same is sent again
    yield c
    c.server.shutdown()
    c.server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder, collector):
    folder = tmp_path_factory.mktemp("traces")
    more = f'traces = {{ sample_percent = 0; slow_ms = 0; otlp_endpoint = "{collector.url}"; }};\nretrieval = {{ timeout_ms = 20000; }};\n'
    with started(limited_server(folder, var, "", tenants=("anna", "canarykey"), embedder=embedder, more=more)) as s:
        s.folder = folder / "var"
        yield s


@pytest.fixture(scope="module")
def anna(server):
    with openai_client(server, "hob_canarykey") as c:
        yield c


@pytest.fixture(scope="module")
def store(anna):
    s = anna.vector_stores.create(name="house")
    f = anna.vector_stores.files.upload_and_poll(vector_store_id=s.id, file=("boiler.md", NOTES.encode()))
    assert f.status == "completed", f
    return s


@pytest.fixture(scope="module")
def admin(server, hobctl):
    def run(*args, **options):
        return hobctl(*args, "--socket", server.folder / "hob.sock", **options)
    return run


def fields_of(line):
    """A line of logfmt as a dictionary."""
    found = re.findall(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)(?: |$)', line)
    return {name: json.loads(value) if value.startswith('"') else value for name, value in found}


def lines_of(admin, wanted, limit_s=20):
    """The log's lines once wanted(lines) holds."""
    end = time.monotonic() + limit_s
    while True:
        lines = [fields_of(line) for line in admin("logs", "--lines", 10000).stdout.decode().splitlines()]
        if wanted(lines) or time.monotonic() > end:
            assert wanted(lines), lines[-20:]
            return lines
        time.sleep(0.1)


def request_line(admin, request_id):
    is_it = lambda f: f.get("msg") == "request" and f.get("id") == request_id
    return next(f for f in lines_of(admin, lambda lines: any(map(is_it, lines))) if is_it(f))


def trace_of(admin, name):
    return json.loads(admin("trace", name, "--json").stdout)["data"]


def ask(client, text="canaryprompt: at how many bar does the Hendrick valve open?", headers=None, **options):
    options = {"model": "default", "max_tokens": 12, "temperature": 0, **options}
    return client.chat.completions.with_raw_response.create(messages=[{"role": "user", "content": text}],
                                                            extra_headers=headers or {}, **options)


def sum_of(trace):
    stages = [s for s in trace["spans"] if "part_of" not in s]
    for before, after in zip(stages, stages[1:]):
        assert abs(before["from_ms"] + before["ms"] - after["from_ms"]) < 0.01, trace
    return sum(s["ms"] for s in stages)


def test_a_retrieval_chat_with_a_callers_trace(server, anna, store, admin, collector):
    start = time.monotonic()
    answer = ask(anna, headers={"traceparent": PARENT}, extra_body={"hob_retrieval": {"stores": ["house"]}})
    took_ms = (time.monotonic() - start) * 1000
    usage = answer.parse().usage
    ours = answer.headers["traceparent"].split("-")
    assert ours[:2] == PARENT.split("-")[:2] and ours[2] != PARENT.split("-")[2] and ours[3] == "01"
    line = request_line(admin, answer.headers["x-request-id"])
    assert line["trace"] == ours[1] and line["key"] == line["tenant"] == "canarykey" and line["route"] == "chat"
    assert (line["status"], line["finish"], line["level"], line["class"]) == ("200", answer.parse().choices[0].finish_reason, "info", "interactive")
    assert int(line["prompt_tokens"]) == usage.prompt_tokens and int(line["answer_tokens"]) == usage.completion_tokens
    assert 0 < float(line["ttft_ms"]) <= float(line["duration_ms"]) <= took_ms and int(line["bytes_out"]) > 200
    for name in (ours[1], answer.headers["x-request-id"], answer.parse().id):
        trace, = trace_of(admin, name)
    assert trace["parent"] == PARENT.split("-")[2] and trace["span"] == ours[2] and trace["finish"] == line["finish"]
    assert abs(sum_of(trace) - trace["ms"]) <= 0.02 * trace["ms"]
    assert trace["ms"] - trace["accept_ms"] <= took_ms
    names = [s["name"] for s in trace["spans"]]
    stages = [s["name"] for s in trace["spans"] if "part_of" not in s]
    assert stages[-7:] == ["retrieve", "tokenize", "admission", "queue", "prefill", "decode", "send"], stages
    assert {"auth", "receive"} < set(stages)
    parts = [s for s in trace["spans"] if "part_of" in s]
    assert {s["name"] for s in parts} == {"embed", "words", "vectors", "fuse"}
    retrieve = trace["spans"][names.index("retrieve")]
    assert all(trace["spans"][s["part_of"]] is retrieve for s in parts)
    assert sum(s["ms"] for s in parts) <= retrieve["ms"] + 0.01
    assert trace["spans"][names.index("decode")]["count"] == usage.completion_tokens
    assert trace["spans"][names.index("prefill")]["count"] >= 1

    collector.wait(lambda spans: any(s["traceId"] == ours[1] for s in spans))
    assert [r[2] for r in collector.requests][:2] == [503, 200]
    assert {r[:2] for r in collector.requests} == {("/v1/traces", "application/json")}
    spans = [s for s in collector.spans() if s["traceId"] == ours[1]]
    root, = [s for s in spans if s["spanId"] == ours[2]]
    assert root["parentSpanId"] == PARENT.split("-")[2] and root["name"] == "chat" and root["kind"] == 2
    assert sorted(s["name"] for s in spans) == sorted([*names, "chat"]) and len({s["spanId"] for s in spans}) == len(spans)
    known = {s["spanId"]: s for s in spans}
    length = lambda s: int(s["endTimeUnixNano"]) - int(s["startTimeUnixNano"])
    inner = [s for s in spans if s is not root]
    assert all(s["parentSpanId"] in known for s in inner)
    assert abs(sum(length(s) for s in inner if s["parentSpanId"] == ours[2]) - length(root)) <= 0.02 * length(root)
    attributes = {a["key"]: next(iter(a["value"].values())) for a in root["attributes"]}
    assert attributes["gen_ai.usage.input_tokens"] == str(usage.prompt_tokens) and attributes["hob.key"] == "canarykey"
    assert abs(int(root["endTimeUnixNano"]) / 1e9 - time.time()) < 120


def test_the_waterfall(server, anna, admin):
    answer = ask(anna, headers={"traceparent": PARENT.replace("0af7", "1af7")})
    request_line(admin, answer.headers["x-request-id"])
    text = admin("trace", answer.headers["x-request-id"]).stdout.decode()
    rows = {row.split()[0]: row for row in text.splitlines() if row.endswith("|") or re.search(r"\| \d+$", row)}
    assert {"auth", "tokenize", "prefill", "decode"} <= set(rows) and all("=" in row for row in rows.values())
    assert rows["decode"].index("=") > rows["auth"].index("=")
    assert answer.headers["traceparent"].split("-")[1] in admin("trace").stdout.decode()
    missing = admin("trace", "0" * 32, check=False)
    assert missing.returncode == 1 and b"no trace of" in missing.stderr
    assert admin("trace", "a/b", check=False).returncode == 2
    assert server.get("/hob/v1/traces?limit=1")[0] == 200  # to an administrator's key
    with pytest.raises(openai.NotFoundError):  # and not to others
        anna.get("/../hob/v1/traces", cast_to=object)


def test_what_is_not_sampled_is_kept_only_when_it_fails(server, anna, admin):
    answer = ask(anna)
    assert "traceparent" not in answer.headers
    unsampled = ask(anna, headers={"traceparent": PARENT[:-1] + "0"}).headers["traceparent"]
    assert unsampled.startswith(PARENT[:36]) and unsampled.endswith("-00")
    request_line(admin, answer.headers["x-request-id"])
    assert admin("trace", answer.headers["x-request-id"], check=False).returncode == 1
    stale = ask(anna, headers={"traceparent": PARENT.upper()})  # not as the standard has it: a new trace
    assert stale.headers["traceparent"].split("-")[1] != PARENT.split("-")[1]
    with pytest.raises(Exception) as e:
        ask(anna, max_tokens=10**6)
    line = request_line(admin, e.value.response.headers["x-request-id"])
    assert line["status"] == "400" and line["reason"] and "finish" not in line
    assert admin("trace", line["id"], check=False).returncode == 1  # a client's own mistake
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as raw, server.context.wrap_socket(
            raw, server_hostname="127.0.0.1") as s:
        body = json.dumps({"model": "default", "stream": True, "max_tokens": 4000, "ignore_eos": True,
                           "messages": [{"role": "user", "content": "canaryprompt"}]})
        s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hob_canarykey\r\n"
                  f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        head = s.recv(4000).decode()
    gone = request_line(admin, re.search("x-request-id: (\\S+)", head)[1])
    assert gone["finish"] == "abandoned" and gone["status"] == "200"


def test_strangers_leave_no_traces(tmp_path, var, hobctl):
    server = limited_server(tmp_path, var, "", more="traces = { keep = 4; sample_percent = 0; slow_ms = 100; };\n")
    with started(server):
        def wire(text, pause_s=0):
            with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as raw, server.context.wrap_socket(
                    raw, server_hostname="127.0.0.1") as s:
                s.settimeout(20)
                s.sendall(text.encode())
                time.sleep(pause_s)
                if pause_s:
                    s.sendall(b"}")
                answer = s.recv(4000)
                return int(answer.split()[1])

        def traces():
            return json.loads(hobctl("trace", "--json", "--socket", tmp_path / "var/hob.sock").stdout)["data"]

        trickled = ("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                    "Content-Length: 2\r\n{}\r\n{{")
        key = f"Authorization: Bearer {server.key}\r\n"
        assert wire(trickled.format(key), 0.3) == 400
        kept = [t["request"] for t in traces()]
        assert len(kept) == 1  # it is slow, and somebody's
        for _ in range(6):
            assert wire(f"GET / HTTP/2.0\r\nHost: localhost\r\ntraceparent: {PARENT}\r\nConnection: close\r\n\r\n") == 505
        assert wire(f"GET / HTTP/2.0\r\nHost: localhost\r\n{key}Connection: close\r\n\r\n") == 505
        assert wire(trickled.format(""), 0.3) == 401
        assert wire(trickled.format("Authorization: Bearer hob_nobody\r\n"), 0.3) == 401
        assert [t["request"] for t in traces()] == kept


def test_responses_over_a_websocket(server, admin):
    url = server.url.replace("https", "wss") + "/v1/responses"
    with connect(url, ssl=server.context, additional_headers={"Authorization": "Bearer hob_canarykey", "traceparent": PARENT.replace("0af7", "2af7")}) as ws:
        ids, sizes = [], []
        for _ in range(2):
            size = 0
            ws.send(json.dumps({"type": "response.create", "model": "default", "input": "canaryprompt", "max_output_tokens": 4,
                                "ignore_eos": True}))
            while True:
                text = ws.recv()
                event, size = json.loads(text), size + len(text.encode())
                if event["type"] in ("response.completed", "response.incomplete"):
                    ids.append(event["response"]["id"])
                    sizes.append(size)
                    break
        ws.send('{"type": "no.such.event"}')
        refusal = ws.recv()
        refused = lambda f: f.get("route") == "responses_websocket" and f["status"] == "400"
        lines = lines_of(admin, lambda lines: {f.get("response") for f in lines} >= set(ids) and any(map(refused, lines)))
    line, = filter(refused, lines)
    assert line["reason"] == json.loads(refusal)["error"]["code"] and line["key"] == "canarykey"
    assert (line["bytes_in"], line["bytes_out"]) == ("25", str(len(refusal)))
    for name, size in zip(ids, sizes):
        line, = [f for f in lines if f.get("response") == name]
        assert line["route"] == "responses_websocket" and line["status"] == "200" and line["answer_tokens"] == "4"
        assert line["bytes_out"] == str(size)
        trace, = trace_of(admin, name)
        assert trace["id"].startswith("2af7") and trace["parent"] == PARENT.split("-")[2] and abs(sum_of(trace) - trace["ms"]) <= 0.02 * trace["ms"] + 0.01


def test_chance_is_each_responses_own(tmp_path, var):
    server = limited_server(tmp_path, var, "", more="traces = { sample_percent = 50; };\n")
    with started(server):
        parents = [PARENT.replace("0af7", f"0af{i}")[:-1] + "0" for i in range(8)]
        for parent in parents:
            headers = {"Authorization": f"Bearer {server.key}", "traceparent": parent}
            with connect(server.url.replace("https", "wss") + "/v1/responses", ssl=server.context, additional_headers=headers) as ws:
                for _ in range(20):
                    ws.send(json.dumps({"type": "response.create", "model": "default", "input": "Hello.", "max_output_tokens": 1}))
                    while json.loads(ws.recv())["type"] not in ("response.completed", "response.incomplete"):
                        pass
        listed = server.get("/hob/v1/traces?limit=1000")[1]
        kept = [t["id"] for t in json.loads(listed)["data"] if t["route"] == "responses_websocket"]
        for parent in parents:  # not all, whatever was decided of the socket's own trace
            assert 0 < kept.count(parent.split("-")[1]) < 20


def test_an_engine_that_dies_is_in_the_trace(server, anna, admin):
    stream = anna.chat.completions.with_raw_response.create(
        model="default", max_tokens=40, temperature=0, stream=True, messages=[{"role": "user", "content": "canaryprompt"}],
        extra_headers={"traceparent": PARENT.replace("0af7", "4af7")}, extra_body={"ignore_eos": True})
    name, chunks = stream.headers["x-request-id"], iter(stream.parse())
    for _ in range(3):
        next(chunks)
    for pid in server.engines():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"MiniLM" not in command and b"embedder" not in command:
            os.kill(pid, signal.SIGKILL)
    assert list(chunks)[-1].choices[0].finish_reason == "length"
    assert request_line(admin, name)["answer_tokens"] == "40"
    trace, = trace_of(admin, name)
    stages = [s["name"] for s in trace["spans"] if "part_of" not in s]
    assert stages[-5:] == ["prefill", "decode", "recovery", "decode", "send"], stages
    assert abs(sum_of(trace) - trace["ms"]) <= 0.02 * trace["ms"]
    assert sum(s.get("count", 0) for s in trace["spans"] if s["name"] == "decode") == 40


def test_a_reader_that_stalls_is_in_the_trace(server, admin):
    """Log probabilities make an event of a few KB: the buffers in between are soon full."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", server.port))
    with server.context.wrap_socket(raw, server_hostname="127.0.0.1") as s:
        s.settimeout(60)
        body = json.dumps({"model": "default", "stream": True, "max_tokens": 120, "ignore_eos": True, "logprobs": True,
                           "top_logprobs": 20, "messages": [{"role": "user", "content": "canaryprompt"}]})
        s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hob_canarykey\r\n"
                  f"TraceParent: {PARENT.replace('0af7', '5af7')}\r\nConnection: close\r\n"
                  f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        head = s.recv(2000)
        server.wait_metric("hob_engine_stalled", lambda v: v > 0)
        time.sleep(0.2)
        with contextlib.suppress(ssl.SSLEOFError):
            while s.recv(1 << 16):
                pass
    name = re.search(b"x-request-id: (\\S+)", head)[1].decode()
    assert request_line(admin, name)["answer_tokens"] == "120"
    trace, = trace_of(admin, name)
    stalls = [s for s in trace["spans"] if s["name"] == "stall"]
    assert stalls and max(s["ms"] for s in stalls) >= 100
    assert {trace["spans"][s["part_of"]]["name"] for s in stalls} == {"decode"}


def test_embeddings(server, anna, admin):
    answer = anna.embeddings.with_raw_response.create(model="embedder", input=["canaryprompt", "a valve"],
                                                      extra_headers={"traceparent": PARENT.replace("0af7", "6af7")})
    line = request_line(admin, answer.headers["x-request-id"])
    assert line["model"] == "embedder" and int(line["prompt_tokens"]) == answer.parse().usage.prompt_tokens
    trace, = trace_of(admin, answer.headers["x-request-id"])
    assert [s["name"] for s in trace["spans"]][-3:] == ["admission", "embed", "send"]
    assert abs(sum_of(trace) - trace["ms"]) <= 0.02 * trace["ms"]


def test_administrators_leave_tracks(server, anna, admin, hobctl, tmp_path):
    key = admin("keys", "add", "boss", "--role", "admin").stdout.decode().strip()
    admin("keys", "add", "temp")
    admin("keys", "set", "temp", "--class", "batch")
    admin("keys", "rotate", "temp")
    admin("keys", "revoke", "temp")
    assert admin("keys", "revoke", "nobody", check=False).returncode == 1  # not done: not noted
    admin("models", "unload", "embedder")
    admin("models", "load", "embedder")
    copy = tmp_path / "copy.db"
    admin("store", "backup", copy)
    with openai_client(server, key) as boss:
        f = boss.files.create(file=("a.txt", b"nothing"), purpose="assistants")
        boss.files.delete(f.id)
    user = f"uid:{os.getuid()}"
    end = time.monotonic() + 10
    while True:
        acts = json.loads(admin("audit", "--json").stdout)["data"]
        if len(acts) >= 9 or time.monotonic() > end:
            break
    added = "role={}, class=interactive, log_content=false"
    wanted = [(user, "keys/add", "boss: " + added.format("admin")), (user, "keys/add", "temp: " + added.format("user")),
              (user, "keys/set", "temp: class=batch"), (user, "keys/rotate", "temp: grace_s=0"), (user, "keys/revoke", "temp"), (user, "models/unload", "embedder"),
              (user, "models/load", "embedder"), (user, "store/backup", str(copy)), ("key:boss", "documents/delete", f.id)]
    assert [(a["who"], a["act"], a["object"]) for a in reversed(acts)] == wanted
    assert all(abs(a["time"] - time.time()) < 60 for a in acts)
    text = admin("audit", "--lines", 1).stdout.decode()
    assert text.split()[2:] == ["key:boss", "documents/delete", f.id]
    assert key not in server.log.read_text() + admin("audit").stdout.decode()
    lines = lines_of(admin, lambda lines: any(f.get("act") == "documents/delete" for f in lines))
    assert [f["object"] for f in lines if f.get("act") == "keys/add"] == [w[2] for w in wanted[:2]]


def test_nothing_of_what_was_said_is_written(server, anna, store, admin, collector):
    answer = ask(anna, "canaryprompt and say canaryanswer", headers={"traceparent": PARENT.replace("0af7", "3af7")},
                 extra_body={"hob_retrieval": {"stores": ["house"]}}, stop=["canaryanswer"])
    request_line(admin, answer.headers["x-request-id"])
    collector.wait(lambda spans: any(s["traceId"].startswith("3af7") for s in spans))
    with pytest.raises(Exception):
        ask(anna, model="canaryprompt")
    everything = (server.log.read_text() + admin("logs", "--lines", 10000).stdout.decode() + admin("trace", "--json").stdout.decode()
                  + admin("trace", answer.headers["x-request-id"], "--json").stdout.decode() + json.dumps([r[3] for r in collector.requests])
                  + server.get("/metrics")[1])
    for canary in (*CANARIES, "hob_canarykey", server.key):
        assert canary not in everything, canary
    admin("keys", "set", "canarykey", "--log-content", "yes")
    line = request_line(admin, ask(anna, "canaryprompt is \"said\"\n").headers["x-request-id"])
    assert json.loads(line["prompt"])[0]["content"] == "canaryprompt is \"said\"\n" and line["answer"]
    admin("keys", "set", "canarykey", "--log-content", "no")
    line = request_line(admin, ask(anna).headers["x-request-id"])
    assert "prompt" not in line and "answer" not in line


def test_lines_as_json(tmp_path, var, hobctl):
    server = limited_server(tmp_path, var, "", more='log_format = "json";\n')
    with started(server):
        with openai_client(server) as client:
            name = ask(client).headers["x-request-id"]
        assert client
        deadline = time.monotonic() + 20
        while name not in server.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        followed = subprocess.Popen([BUILD / "hobctl", "logs", "--follow", "--lines", "1", "--socket", tmp_path / "var/hob.sock"],
                                    stdout=subprocess.PIPE)
        followed.stdout.readline()
        server.get("/v1/models")
        while (line := json.loads(followed.stdout.readline())).get("route") != "models":
            pass
        followed.terminate()
        followed.communicate()
        assert line["level"] == "info" and line["status"] == 200
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    line, = [line for line in lines if line.get("id") == name]
    assert line["status"] == 200 and line["answer_tokens"] == 12 and line["duration_ms"] > line["ttft_ms"] > 0
    assert lines[-1]["msg"] == "ended with 0"


def lost(server):
    return server.metric("hob_traces_dropped_total")


def test_what_the_collector_refuses(tmp_path, var):
    """It is asked again after the statuses that say so, and after no other; what is left at the end is lost, and said."""
    c, refusals = Collector(), (500, 400, 301)
    server = limited_server(tmp_path, var, "", more=f'traces = {{ sample_percent = 100; otlp_endpoint = "{c.url}"; }};\n')
    with started(server), openai_client(server) as client:
        for n, status in enumerate(refusals):
            c.answers = [status]
            ask(client, max_tokens=1)
            server.wait_metric("hob_traces_dropped_total", lambda v: v == n + 1)
        c.answers = [504, 502]
        ask(client, max_tokens=1)
        c.wait(lambda spans: spans)
        assert [r[2] for r in c.requests] == [*refusals, 504, 502, 200] and lost(server) == len(refusals)
        c.answers = [503] * 100
        ask(client, max_tokens=1)
        server.wait_metric("hob_traces_total", lambda v: v == len(refusals) + 2)
        assert server.stop(30) == 0
    assert "1 traces are lost: the server answered 503" in server.log.read_text().splitlines()[-2]
    c.server.shutdown()
    c.server.server_close()


def test_a_collector_that_is_slow_at_the_end(tmp_path, var):
    """All that waits has one deadline: not each batch of 64 one of its own."""
    c, traces = Collector(), 150
    server = limited_server(tmp_path, var, "", more=f'traces = {{ sample_percent = 100; otlp_endpoint = "{c.url}"; }};\n')
    with started(server), openai_client(server) as client:
        c.answers = [503] * 100
        for _ in range(traces):
            with pytest.raises(openai.BadRequestError):
                ask(client, max_tokens=10**6)
        server.wait_metric("hob_traces_total", lambda v: v == traces)
        c.answers, c.delay_s = [], 1.5
        assert server.stop(60) == 0
    c.delay_s = 0
    left = re.search(r"(\d+) traces are lost: ", server.log.read_text())
    assert left and int(left[1]) > 0
    c.server.shutdown()
    c.server.server_close()


def test_a_standard_error_that_nobody_reads(tmp_path, model):
    server = dev_server(tmp_path, model, "--log", "debug")
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, 1031, 4096)  # F_SETPIPE_SZ: soon full
    with open(theirs, "wb") as out:
        server.process = subprocess.Popen([str(c) for c in server.command], stdin=subprocess.DEVNULL, stderr=out)
    try:
        server.wait_ready(60)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(9000):  # more lines than are kept
            connection.request("GET", "/livez")
            assert connection.getresponse().read()
            if server.metric("hob_log_dropped_total") if _ % 1000 == 999 else 0:
                break
        assert server.metric("hob_log_dropped_total") > 0
        with openai_client(server) as client:
            assert ask(client).parse().usage.completion_tokens == 12
        text, end = b"", time.monotonic() + 20
        while b"dropped=" not in text and time.monotonic() < end:
            text += os.read(ours, 1 << 16)
        assert b"lines were dropped" in text
        reader = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(ours, 1 << 16), b"")], daemon=True)
        reader.start()
        assert server.stop(20) == 0
        reader.join(10)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        os.close(ours)
