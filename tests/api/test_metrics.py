# SPDX-License-Identifier: Apache-2.0
"""/metrics and /hob/v1/stats after a short load: the text is what Prometheus takes, counts are those of the requests that were
made, quantiles and histograms tell the same, every name that config/prometheus and config/grafana ask for is there, and only
those may look who should."""
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
from datetime import datetime, timezone

import openai
import pytest

from conftest import ROOT, dev_server, free_port, limited_server, openai_client, started
from exposition import SUFFIXES, names_in, parse
from wire import error_of

STATS, METRICS = "/hob/v1/stats", "/metrics"
SCRAPE_LABELS = {"instance", "job"}  # what a scrape adds
QUANTITIES = {"time_to_first_token_s": "hob_time_to_first_token_seconds", "inter_token_latency_s": "hob_inter_token_latency_seconds",
              "duration_s": "hob_request_duration_seconds"}
HELLO = [{"role": "user", "content": "Say hello to the hob by the fire."}]


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    folder, port = tmp_path_factory.mktemp("metrics"), free_port()
    s = limited_server(folder, var, "memory_mb = 2000;", "max_sequences = 1; max_waiting = 0; context = 2048;", tenants=("anna",),
                       embedder=embedder,
                       more=f'listeners = ( {{ listen = "0.0.0.0"; port = {port}; protocol = "http"; metrics = true; }} );\n')
    s.metrics_port, s.folder, s.socket = port, folder / "var", folder / "var/hob.sock"
    with started(s):
        s.wait_metric("hob_engine_up", lambda v: v == 2)
        yield s


def chat(client, tokens, extra=None, **more):
    return client.chat.completions.create(model="default", messages=HELLO, max_tokens=tokens,
                                          extra_body={"ignore_eos": True, **(extra or {})}, **more)


@pytest.fixture(scope="module")
def load(server):
    """A little of everything, once. Returns the model's name and the families of /metrics after it."""
    with openai_client(server, "hob_anna") as c:
        name = c.models.list().data[0].id
        for _ in range(3):
            assert chat(c, 12, {"hob_class": "standard"}).choices[0].finish_reason == "length"
        list(chat(c, 4, {"hob_class": "batch"}, stream=True))
        c.responses.create(model="default", input="Hello.", max_output_tokens=3, extra_body={"ignore_eos": True})
        c.completions.create(model="default", prompt="One, two,", max_tokens=2, extra_body={"ignore_eos": True})
        stream = chat(c, 1000, stream=True)
        next(iter(stream))
        with pytest.raises(openai.RateLimitError):
            chat(c, 2)
        stream.close()  # its client leaves
        server.wait_metric("hob_engine_jobs", lambda v: v == 0)
        c.embeddings.create(model="default", input=["a hearth", "a hob"])
        store = c.vector_stores.create(name="notes")
        note = ("n.md", b"# Hearth\n\nThe hob is the shelf by the fire.\n")
        assert c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=note).status == "completed"
        c.chat.completions.create(model="default", messages=[{"role": "user", "content": "What is the hob?"}], max_tokens=3,
                                  extra_body={"hob_retrieval": {"stores": ["notes"]}, "ignore_eos": True})
        with pytest.raises(openai.BadRequestError):
            c.chat.completions.create(model="default", messages=[{"role": "user", "content": "word " * 3000}], max_tokens=3)
    with openai_client(server, "hob_nobody") as c, pytest.raises(openai.AuthenticationError):
        c.models.list()
    steps = server.metric("hob_engine_steps_total")
    time.sleep(1.1)  # engines tell what they did once a second
    assert server.wait_metric("hob_engine_steps_total", lambda v: v > 20) >= steps
    return name, parse(server.get(METRICS)[1])


def test_requests_are_counted(load):
    name, families = load
    ended = families["hob_requests_ended_total"]
    chats = {"route": "chat", "model": name}
    assert ended.get(status="200", finish="length", **chats) == 5
    assert ended.get(status="499", finish="cancelled", **chats) == 1
    assert ended.get(status="429", finish="error", **chats) == 1
    assert ended.get(status="400", finish="error", **chats) == 1
    assert ended.get(route="responses", status="200") == ended.get(route="completions", status="200") == 1
    assert ended.get(route="embeddings", model="embedder", status="200") >= 3  # the route's, the document's, the question's
    assert ended.get() == families["hob_requests_total"].get()
    assert families["hob_requests_shed_total"].get(reason="max_waiting") == families["hob_requests_shed_total"].get() == 1
    assert families["hob_authentication_failures_total"].get(reason="no_valid_key") == 1
    assert families["hob_responses_total"].get(route="chat", code="200") == 6
    assert families["hob_responses_total"].get(route="chat", code="429") == 1
    assert families["hob_responses_total"].get(route="models", code="401") == 1
    assert families["hob_prompt_tokens_total"].get(model=name) > 100 > families["hob_prompt_tokens_total"].get(model="embedder") > 0
    assert families["hob_cached_tokens_total"].get(model=name) > 0
    assert families["hob_documents_completed_total"].get() == 1 and families["hob_vector_index_rows"].get() >= 1


def test_choices_end_as_their_answer(server, load):
    name, _ = load
    with openai_client(server, "hob_anna") as c:
        before = parse(server.get(METRICS)[1])["hob_requests_ended_total"]
        with pytest.raises(openai.BadRequestError):
            c.completions.create(model="default", prompt=["Hello.", "word " * 3000], max_tokens=3)
    after = parse(server.get(METRICS)[1])["hob_requests_ended_total"]
    assert after.get() - before.get() == 2
    assert after.get(status="499") == before.get(status="499")
    ended = {"status": "400", "finish": "error"}
    assert after.get(route="completions", model=name, **ended) == 2


def test_times_are_counted(load):
    name, families = load
    first, gaps = families["hob_time_to_first_token_seconds"], families["hob_inter_token_latency_seconds"]
    assert first.get("_count", model=name, **{"class": "standard"}) == 3
    assert gaps.get("_count", model=name, **{"class": "standard"}) == 3 * 11
    assert first.get("_count", **{"class": "batch"}) == 1 and gaps.get("_count", **{"class": "batch"}) == 3
    assert families["hob_request_duration_seconds"].get("_count", model=name) == 7
    assert families["hob_request_duration_seconds"].get("_count", model="embedder", **{"class": "query"}) == 1
    answered = families["hob_answer_tokens_total"].get(model=name)
    assert first.get("_count") + gaps.get("_count") == answered
    stages = families["hob_request_stage_seconds"]
    counts = {s: stages.get("_count", model=name, stage=s) for s in ("queue", "tokenize", "retrieve", "prefill", "decode")}
    assert counts == {"queue": 8, "tokenize": 8, "retrieve": 1, "prefill": 8, "decode": 7}
    parts = sum(stages.get("_sum", model=name, stage=s) for s in ("queue", "tokenize", "retrieve", "prefill"))
    assert parts == pytest.approx(first.get("_sum", model=name), rel=0.02, abs=0.002 * 8)
    for stage in ("embed", "words", "vectors", "fuse"):
        assert families["hob_retrieval_stage_seconds"].get("_count", stage=stage) == 1
    for model in (name, "embedder"):
        assert families["hob_engine_step_seconds"].get("_count", model=model) == families["hob_engine_steps_total"].get(model=model)


def test_figures(server, load):
    name, families = load
    assert families["hob_build_info"].get() == 1 and families["hob_engine_info"].get(model=name, architecture="llama") == 1
    lines = {dict(labels)["line"]: v for (_, labels), v in families["hob_memory_bytes"].samples.items()}
    assert set(lines) == {"weights", "kv_cache", "vector_index", "requests", "outboxes", "stored_responses", "quantiles", "traces",
                          "log"}
    assert min(lines["weights"], lines["kv_cache"], lines["quantiles"], lines["stored_responses"], lines["traces"], lines["log"]) > 0
    assert families["hob_memory_limit_bytes"].get() == 2000 * 2**20
    text = subprocess.run(["openssl", "x509", "-enddate", "-noout", "-in", server.folder / "cert.pem"], capture_output=True, text=True,
                          check=True).stdout
    ends = datetime.strptime(text.strip().split("=")[1], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=timezone.utc)
    assert families["hob_certificate_expiry_timestamp_seconds"].get() == ends.timestamp()
    for ratio in ("hob_cpu_busy_ratio", "hob_engine_device_busy_ratio", "hob_engine_prefix_hit_ratio"):
        assert all(0 <= v <= 1.1 for v in families[ratio].samples.values()), ratio
    for family in families.values():  # nothing that a client chose is a label
        for _, labels in family.samples:
            for key, value in labels:
                assert key in {"route", "model", "class", "status", "finish", "reason", "code", "stage", "line", "le", "version",
                               "device", "isa", "architecture"}, (family.name, key)
                assert "anna" not in value


def test_a_dead_engine_uses_nothing(tmp_path, model):
    (tmp_path / "model.gguf").symlink_to(model)
    server = dev_server(tmp_path, tmp_path / "model.gguf")
    with started(server):
        server.wait_metric("hob_engine_resident_bytes", lambda v: v > 0)
        with openai_client(server) as c:
            chat(c, 4)
        server.wait_metric("hob_engine_finished_total", lambda v: v == 1)
        (tmp_path / "model.gguf").unlink()  # no other can load it
        for pid in server.engines():
            os.kill(pid, signal.SIGKILL)
        server.wait_metric("hob_engine_up", lambda v: v == 0)
        families = parse(server.get(METRICS)[1])
        for name in ("running", "waiting", "kv_blocks", "resident_bytes", "device_busy_ratio"):
            assert f"hob_engine_{name}" not in families, name
        assert families["hob_engine_finished_total"].get() == 1
        (tmp_path / "model.gguf").symlink_to(model)
        server.wait_metric("hob_engine_resident_bytes", lambda v: v > 0, 60)


# ---- what config/ asks for ----

def expressions():
    rules = (ROOT / "config/prometheus/hob.rules.yml").read_text()
    yield from re.findall(r"(?m)^ +expr: (.+)$", rules)
    dashboard = json.loads((ROOT / "config/grafana/hob.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_names_of_alerts_and_dashboard_exist(load):
    _, families = load
    seen = set()
    for expression in expressions():
        names = names_in(expression)
        assert names, expression
        for name, wanted in names.items():
            if name == "up":  # Prometheus' own
                continue
            suffix = next((s for s in SUFFIXES if name.endswith(s) and name not in families), "")
            family = families.get(name[:len(name) - len(suffix)])
            assert family, f"{name} in {expression}"
            have = {key for s, labels in family.samples if s == suffix for key, _ in labels}
            assert wanted - SCRAPE_LABELS <= have, (expression, name, wanted - have)
            seen.add(name)
    assert len(seen) > 40


def test_rules_have_runbooks():
    rules = (ROOT / "config/prometheus/hob.rules.yml").read_text()
    alerts = re.split(r"(?m)^ +- alert: ", rules)[1:]
    assert len(alerts) > 10 and len({a.split("\n")[0] for a in alerts}) == len(alerts)
    for alert in alerts:
        for part in ("expr: ", "severity: ", "summary: ", "runbook: "):
            assert part in alert, alert


def test_dashboard():
    dashboard = json.loads((ROOT / "config/grafana/hob.json").read_text())
    ids = [p["id"] for p in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [(x, y) for p in dashboard["panels"] for g in [p["gridPos"]] for x in range(g["x"], g["x"] + g["w"])
             for y in range(g["y"], g["y"] + g["h"])]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24


# ---- quantiles ----

def bucket_of(family, labels, q):
    """The bounds between which the quantile of a histogram lies."""
    buckets = sorted((float(dict(have)["le"]), v) for (s, have), v in family.samples.items()
                     if s == "_bucket" and labels.items() <= dict(have).items())
    rank = max(1, -(-q * buckets[-1][1] // 1))
    i = next(i for i, (_, count) in enumerate(buckets) if count >= rank)
    return buckets[i - 1][0] if i else 0, buckets[i][0]


def test_stats(server, load):
    name, families = load
    status, body = server.get(STATS)
    answer = json.loads(body)
    assert status == 200 and answer["object"] == "hob.stats" and answer["relative_error"] == 0.02
    error = 1 + answer["relative_error"]
    by_class = {}
    for series in answer["series"]:
        by_class.setdefault((series["model"], series["class"]), []).append(series)
    assert {s["route"] for s in answer["series"]} == {"chat", "completions", "responses", "embeddings"}
    for (model, label), found in by_class.items():
        for quantity, family in QUANTITIES.items():
            labels = {"model": model, "class": label}
            count = families[family].get("_count", **labels) or 0
            assert sum(s[quantity][2]["count"] for s in found) == count, (quantity, labels)
            if len(found) != 1 or not count:
                continue
            for q in (50, 95, 99):
                told = found[0][quantity][2][f"p{q}"]
                low, high = bucket_of(families[family], labels, q / 100)
                assert low / error <= max(told, 1e-4) <= high * error, (quantity, labels, q)
    every = answer["all"]
    generated = [s for s in answer["series"] if s["model"] == name]
    for quantity in (*QUANTITIES, "queue_s"):
        for i, window in enumerate(every[quantity]):
            assert window["window_s"] == (60, 600, 3600)[i]
            assert window["count"] == sum(s[quantity][i]["count"] for s in generated)
            if window["count"]:
                assert window["p50"] <= window["p95"] <= window["p99"]
                parts = [s[quantity][i]["p99"] for s in generated if s[quantity][i]["count"]]
                assert min(parts) <= window["p99"] <= max(parts)
            else:
                assert window["p50"] is window["p99"] is None
    assert every["time_to_first_token_s"][2]["count"] == 8
    empty = next(s for s in answer["series"] if s["route"] == "embeddings")
    assert empty["inter_token_latency_s"][0] == {"window_s": 60, "count": 0, "p50": None, "p95": None, "p99": None}


def test_command(server, load, hobctl):
    name, _ = load
    answer = json.loads(hobctl("stats", "--socket", server.socket, "--json").stdout)
    assert answer["object"] == "hob.stats"
    lines = hobctl("stats", "--socket", server.socket).stdout.decode().splitlines()
    assert lines[0].split()[:3] == ["ROUTE", "MODEL", "CLASS"] and lines[-1].startswith("P50 / P95 / P99 in ms, within 2 %")
    row = next(line for line in lines if re.match(rf"chat +{re.escape(name[:28])} +standard +60 min +3 ", line))
    assert len(re.findall(r"\d+(?:\.\d)? / \d+(?:\.\d)? / \d+(?:\.\d)?", row)) == 4, row
    assert any(re.match(r"all +all +all +60 min +7 ", line) for line in lines)


# ---- who may look ----

def ask(connection, path, key=None, method="GET"):
    connection.request(method, path, headers={"Authorization": f"Bearer {key}"} if key else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def other_address():
    """An address of this machine that is no loopback; None: it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s, contextlib.suppress(OSError):
        s.connect(("192.0.2.250", 9))  # nothing is sent
        address = s.getsockname()[0]
        return None if address.startswith("127.") else address
    return None


def test_from_elsewhere_a_key_of_an_administrator_is_needed(server):
    address = other_address()
    if not address:
        pytest.skip("this machine has no address but loopback")
    context = ssl._create_unverified_context()  # who the server is is tested elsewhere
    for path in (METRICS, STATS):
        def tls():
            return http.client.HTTPSConnection(address, server.port, context=context, timeout=30)
        assert ask(tls(), path)[0] == 401
        status, body = ask(tls(), path, "hob_anna")
        assert status == 403 and error_of(body)["code"] == "not_an_administrator"
        assert ask(tls(), path, server.key)[0] == 200
        assert ask(http.client.HTTPConnection(address, server.metrics_port, timeout=30), path)[0] == 200


def test_listener_for_metrics_serves_nothing_else(server):
    def plain():
        return http.client.HTTPConnection("127.0.0.1", server.metrics_port, timeout=30)
    for path in (METRICS, STATS, "/livez", "/readyz"):
        assert ask(plain(), path)[0] == 200, path
    for path in ("/", "/v1/models", "/v1/responses/resp_1", "/hob/v1/admin/status", "/hob/v1/admin/keys", "/v1/files", "/v1/vector_stores"):
        for key in (None, server.key):
            status, body = ask(plain(), path, key)
            assert status == 404 and error_of(body)["code"] == "unknown_url", path
    c = plain()
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "default", "messages": HELLO}),
              {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"})
    assert c.getresponse().status == 404
    c.close()
    c = plain()
    c.request("GET", "/v1/responses", headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                                               "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": f"Bearer {server.key}"})
    assert c.getresponse().status == 404
    c.close()


def test_parser_finds_mistakes():
    good = '# HELP a_total x\n# TYPE a_total counter\na_total{b="c"} 1\n'
    assert parse(good)["a_total"].get(b="c") == 1
    for bad in (good[:-1], good + good, good.replace("counter", "gauge"), good + 'a_total{b="c"} 2\n', good + "b 1\n",
                good.replace("1\n", "NaN\n"), good.replace("a_total", "a"), "# TYPE a gauge\na 1\n", good.replace('"c"', 'c'),
                '# HELP h x\n# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 1\nh_sum 1\nh_count 1\n'):
        with pytest.raises((AssertionError, StopIteration)):
            parse(bad)
    assert names_in('sum by (x, le) (rate(a_bucket{b!="c"}[5m])) > 0.05 * d') == {"a_bucket": {"b", "x", "le"}, "d": {"x", "le"}}
