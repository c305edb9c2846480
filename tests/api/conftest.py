# SPDX-License-Identifier: Apache-2.0
"""Servers for the API tests: one with TLS and a key, made by `hobctl setup`, and one `--dev` without either. Both are real
processes on loopback with the test model, started once a session and ended by their process id. When a test fails, the
end of the servers' logs is part of its report.

HOB_BUILD names the build folder (a sanitizer's build, for example), HOB_TEST_MODEL the model, HOB_TEST_DEVICE a device."""
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("HOB_BUILD", ROOT / "build"))
HOBD = Path(os.environ.get("HOBD", BUILD / "hobd"))
HOBCTL = Path(os.environ.get("HOBCTL", BUILD / "hobctl"))
START_LIMIT_S = 120  # a sanitizer's build loads slowly
THREADS = "2"
DEVICE = os.environ.get("HOB_TEST_DEVICE")  # all servers' instead of auto
# Times that are a matter of how fast a server answers are configured so much longer on a test device, OpenCL on a processor.
PACE = 1 if DEVICE in (None, "cpu") else 20
# Proxies are for the internet: no client in these tests may send loopback traffic to one.
for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(name, None)


def free_port():
    """Below those that the kernel gives to clients: one of theirs may be taken again before a server listens on it."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("0.0.0.0", port))
            return port


class Server:
    """One hobd. `key` and `ca` are None without TLS."""

    def __init__(self, command, port, log, key=None, ca=None, cwd=None):
        self.command, self.port, self.log, self.key, self.ca, self.cwd = command, port, Path(log), key, ca, cwd
        self.url = f"{'https' if ca else 'http'}://127.0.0.1:{port}"
        self.process = None

    @property
    def context(self):
        return ssl.create_default_context(cafile=str(self.ca)) if self.ca else None

    def start(self):
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([str(c) for c in self.command], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, cwd=self.cwd)
        self.wait_ready(START_LIMIT_S)

    def wait_ready(self, limit_s):
        end = time.monotonic() + limit_s
        last = "no answer"
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"hobd ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                status, _ = self.get("/readyz", 5)
                if status == 200:
                    return
                last = f"status {status}"
            except OSError as e:
                last = str(e)
            time.sleep(0.05)
        raise AssertionError(f"hobd was not ready after {limit_s} s ({last}):\n{self.log_tail()}")

    def get(self, path, timeout=20):
        """Status and body, whatever the status."""
        request = urllib.request.Request(self.url + path)
        if self.key:
            request.add_header("Authorization", f"Bearer {self.key}")
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=self.context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.read().decode()

    def metric(self, name):
        """The sum of a metric's samples; None when there is none of that name."""
        values = [float(line.rsplit(" ", 1)[1]) for line in self.get("/metrics")[1].splitlines()
                  if line.startswith((name + " ", name + "{"))]
        return sum(values) if values else None

    def wait_metric(self, name, wanted, limit_s=30):
        """Waits until wanted(value) holds; fails with the last value."""
        end = time.monotonic() + limit_s
        value = None
        while time.monotonic() < end:
            value = self.metric(name)
            if value is not None and wanted(value):
                return value
            time.sleep(0.1)
        raise AssertionError(f"{name} stayed at {value}:\n{self.log_tail()}")

    def engines(self):
        """Process ids of the engines: children of the gateway."""
        pids = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            if parent == self.process.pid and b"--engine" in command:
                pids.append(int(entry.name))
        return pids

    def stop(self, limit_s=60):
        """Ends it as a service manager would; returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(limit_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def log_tail(self, lines=60):
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""


    def check_sanitizers(self):
        """A sanitizer's report of gateway or engine fails the run, whatever the clients saw."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        for i, line in enumerate(lines):
            if "Sanitizer" in line or "runtime error:" in line:
                raise AssertionError(f"{' '.join(map(str, self.command[:2]))}:\n" + "\n".join(lines[i:i + 60]))


running = []


@contextlib.contextmanager
def started(server):
    try:
        running.append(server)
        server.start()
        yield server
    finally:
        if server.process:
            server.stop()
        running.remove(server)
    server.check_sanitizers()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for s in running:
            report.sections.append((f"log of {' '.join(str(c) for c in s.command[:2])} port {s.port}", s.log_tail()))


def dev_server(folder, model, *extra):
    port = free_port()
    if DEVICE and "--device" not in extra:
        extra = ("--device", DEVICE, *extra)
    return Server([HOBD, "--dev", "--model", model, "--port", port, "--threads", THREADS, *extra], port,
                  folder / f"dev-{port}.log", cwd=folder)


@pytest.fixture(scope="session")
def model():
    path = os.environ.get("HOB_TEST_MODEL")
    if not path or not Path(path).is_file():
        pytest.fail("HOB_TEST_MODEL must name the test model (packaging/setup/model prints it)")
    return path


@pytest.fixture(scope="session")
def embedder():
    """The path of all-MiniLM-L6-v2 as Q8_0."""
    path = os.environ.get("HOB_TEST_EMBEDDING")
    if not path or not Path(path).is_file():
        pytest.fail("HOB_TEST_EMBEDDING must name the embedding model (packaging/setup/embedding prints it)")
    return path


@pytest.fixture(scope="session")
def hobctl():
    """Runs hobctl and returns the finished process; check=False lets it fail. The model of what `setup` makes is on the test
    device."""
    def run(*args, input=None, check=True, env=None, timeout=300, cwd=None):
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run([str(HOBCTL), *map(str, args)], input=data if data is not None else b"",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout, cwd=cwd,
                              env={**os.environ, **(env or {})})
        if check:
            assert done.returncode == 0, f"hobctl {args}: {done.returncode}\n{done.stderr.decode()}"
        if DEVICE and args[:1] == ("setup",) and "--dir" in args:
            conf = Path(args[args.index("--dir") + 1]) / "hob.conf"
            text = conf.read_text()
            if "device =" not in text:
                conf.write_text(text.replace("path =", f'device = "{DEVICE}"; path =', 1))
        return done
    return run


@pytest.fixture(scope="session")
def var(tmp_path_factory, model, hobctl):
    """What `hobctl setup` makes, with its port."""
    folder = tmp_path_factory.mktemp("installation") / "var"
    port = free_port()
    hobctl("setup", "--dir", folder, "--model", model, "--port", port)
    conf = folder / "hob.conf"
    text = conf.read_text()
    conf.write_text(text + "limits = { auth_failures_per_minute = 0; };\n")  # many tests are strangers
    return folder, port


def limited_server(folder, var, limits, model_options="", tenants=(), embedder=None, more=""):
    """A TLS server with keys like `tls`, its limits and the options of its model as given. Further tenants get the key
    `hob_` and their name. embedder: the file of a model that embeds, beside the other. more: text of its configuration."""
    source, _ = var
    port = free_port()
    shutil.copytree(source, folder / "var", ignore=shutil.ignore_patterns("*.sock", "hob.db*"))
    conf, keys = folder / "var/hob.conf", folder / "var/keys"
    if not keys.exists():  # a server that ran there has taken them into its store
        keys.with_name("keys.imported").rename(keys)
    text = re.sub(r"(?m)^port = .*;", f"port = {port};", conf.read_text())
    text = text if "limits = {" in text else text + "limits = { };\n"  # it may have been written anew
    if embedder:
        text = re.sub(r"(?m)^    }\n\);", f'    }},\n    {{ name = "embedder"; device = "{DEVICE or "auto"}"; path = "{embedder}"; }}\n);',
                      text, count=1)
        assert "embedder" in text
    conf.write_text(text.replace("path =", f"{model_options} path =", 1).replace("limits = {", f"limits = {{ {limits}", 1) + more)
    with keys.open("a") as out:
        for name in tenants:
            out.write(f"{hashlib.sha256(b'hob_' + name.encode()).hexdigest()} {name} {name} interactive\n")
    return Server([HOBD, "--config", conf], port, folder / "limited.log", (folder / "var/api_key").read_text().strip(),
                  folder / "var/ca.pem", cwd=folder)


def openai_client(server, key=None, **options):
    """OpenAI's own client, over TLS verified by the server's CA."""
    import openai
    options = {"max_retries": 0, "timeout": 120, **options}
    return openai.OpenAI(base_url=server.url + "/v1", api_key=key or server.key or "none",
                         http_client=openai.DefaultHttpxClient(verify=server.context or True), **options)


@pytest.fixture(scope="session")
def tls(var, tmp_path_factory):
    folder, port = var
    key = (folder / "api_key").read_text().strip()
    server = Server([HOBD, "--config", folder / "hob.conf"], port, tmp_path_factory.mktemp("log") / "tls.log", key,
                    folder / "ca.pem", cwd=folder.parent)
    with started(server):
        yield server


@pytest.fixture(scope="session")
def dev(tmp_path_factory, model):
    with started(dev_server(tmp_path_factory.mktemp("dev"), model)) as server:
        yield server


@pytest.fixture
def own(tmp_path, model):
    """A --dev server for one test, which may do to it what it likes."""
    with started(dev_server(tmp_path, model)) as server:
        yield server


@pytest.fixture(scope="session")
def client(tls):
    with openai_client(tls) as c:
        yield c


@pytest.fixture(scope="session")
def dev_client(dev):
    with openai_client(dev) as c:
        yield c
