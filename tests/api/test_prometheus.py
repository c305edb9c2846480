# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus (packaging/setup/packages prometheus) scrapes hobd under load: promtool has nothing to say, every rule is
evaluated, every expression of the dashboard and every metric of the alerts yields data."""
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import openai
import pytest

from conftest import ROOT, free_port, limited_server, openai_client, started
from exposition import names_in

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("prometheus") or not shutil.which("promtool"),
                                                   reason="Prometheus is not installed")]
RULES, DASHBOARD = ROOT / "config/prometheus/hob.rules.yml", ROOT / "config/grafana/hob.json"
RULES_TEST = ROOT / "tests/data/hob.rules.test.yml"
LOAD_S, INTERVAL = 45, "20s"


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    folder = tmp_path_factory.mktemp("prometheus")
    with started(limited_server(folder, var, "memory_mb = 2000;", "max_sequences = 4; max_waiting = 0;", tenants=("anna",),
                                embedder=embedder)) as s:
        yield s


@pytest.fixture(scope="module")
def prometheus(server, tmp_path_factory):
    """Its URL; it scrapes the server each second."""
    folder, port = tmp_path_factory.mktemp("scrapes"), free_port()
    text = (ROOT / "config/prometheus/prometheus.yml").read_text()
    for old, new in (("/etc/hob/ca.pem", str(server.ca)), ("127.0.0.1:8443", f"127.0.0.1:{server.port}"), ("15s", "1s"),
                     ("- hob.rules.yml", f"- {RULES}")):
        assert old in text
        text = text.replace(old, new)
    (folder / "prometheus.yml").write_text(text)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                                    f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def api(url, path, **query):
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        return json.load(answer)["data"]


def keep_busy(server, over):
    """Chats, some about documents, more at once than there are places, and somebody without a key."""
    with openai_client(server, "hob_anna") as c:
        store = c.vector_stores.create(name="notes")
        c.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=("n.md", b"# Hearth\n\nThe hob is by the fire.\n"))

        def chats(i):
            while not over.is_set():
                more = {"hob_retrieval": {"stores": ["notes"]}} if i % 2 else {}
                try:
                    for _ in c.chat.completions.create(model="default", max_tokens=40, stream=True, extra_body=more,
                                                       messages=[{"role": "user", "content": "What is a hob?"}]):
                        pass
                except openai.RateLimitError:
                    time.sleep(0.2)

        threads = [threading.Thread(target=chats, args=(i,)) for i in range(6)]
        for t in threads:
            t.start()
        while not over.wait(1):
            with openai_client(server, "hob_nobody") as stranger, pytest.raises(openai.AuthenticationError):
                stranger.models.list()
        for t in threads:
            t.join()


def test_promtool(server):
    text = server.get("/metrics")[1]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stdout + done.stderr, done.stdout + done.stderr
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_each_alert_fires_and_is_quiet():
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert len(alerts) > 10 and sorted(re.findall(r'alertname="(\w+)"', RULES_TEST.read_text())) == sorted(alerts)
    done = subprocess.run(["promtool", "test", "rules", str(RULES_TEST)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_every_expression_yields_data(server, prometheus):
    over = threading.Event()
    busy = threading.Thread(target=keep_busy, args=(server, over))
    busy.start()
    time.sleep(LOAD_S)
    try:
        targets = api(prometheus, "targets")["activeTargets"]
        assert [t["health"] for t in targets] == ["up"], targets
        rules = [r for g in api(prometheus, "rules")["groups"] for r in g["rules"]]
        assert len(rules) > 10 and all(r["health"] == "ok" for r in rules), [r for r in rules if r["health"] != "ok"]
        for rule in rules:
            for name in names_in(rule["query"]):
                assert api(prometheus, "query", query=name)["result"], (rule["name"], name)
        empty = []
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"].replace("$instance", ".*").replace("$__rate_interval", INTERVAL)
                found = api(prometheus, "query", query=expression)["result"]
                if not any(sample["value"][1] != "NaN" for sample in found):
                    empty.append(expression)
        assert not empty, empty
        moving = {m: float(api(prometheus, "query", query=f"sum(rate({m}[{INTERVAL}]))")["result"][0]["value"][1])
                  for m in ("hob_requests_shed_total", "hob_answer_tokens_total", "hob_authentication_failures_total",
                            "hob_retrievals_total", "hob_requests_ended_total")}
        assert min(moving.values()) > 0, moving
    finally:
        over.set()
        busy.join()
