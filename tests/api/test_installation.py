# SPDX-License-Identifier: Apache-2.0
"""hobctl setup and hobctl doctor for an installed hob, in folders that stand for those of the package."""
import json
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import time

import pytest
from conftest import HOBCTL, HOBD, ROOT, Server, free_port, started
from pki import Authority
from test_first_boot import Clock


class Installation:
    def __init__(self, root, model, embedder):
        self.root = root
        for name in ("etc", "state", "run", "models", "examples"):
            (root / name).mkdir(mode=0o750)
        os.symlink(model, root / "models/smollm2.gguf")
        os.symlink(embedder, root / "models/minilm.gguf")
        (root / "models/broken.gguf").write_bytes(b"GGUF")  # is not offered
        (root / "examples/render.conf").write_text("[Service]\nDeviceAllow=char-drm rw\n")
        self.conf, self.units, self.port = root / "etc/hob.conf", root / "hob.service.d", free_port()
        shutil.copy(ROOT / "config/hob.conf", self.conf)
        self.options = ["--config", self.conf, "--state", root / "state", "--socket", root / "run/hob.sock", "--models",
                        root / "models", "--units", self.units, "--examples", root / "examples"]

    def command(self, *args):
        return [str(a) for a in (HOBCTL, "setup", *self.options, *args)]

    def setup(self, *args):
        return subprocess.run(self.command(*args), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def answer(self, *answers, options=()):
        """Sits at the terminal: pairs of a question's beginning and what is typed. Returns the status and what was shown."""
        screen, terminal = pty.openpty()
        process = subprocess.Popen(self.command(*options), stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        shown, end = "", time.monotonic() + 60
        left = list(answers)
        while time.monotonic() < end:
            if not select.select([screen], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                piece = os.read(screen, 65536).decode()
            except OSError:
                break
            shown += piece
            if left and re.search(re.escape(left[0][0]) + r"[^\n]*: $", shown):
                os.write(screen, left.pop(0)[1].encode())
        os.close(screen)
        assert not left, (left, shown)
        return process.wait(10), shown.replace("\r", "")

    def server(self):
        server = Server([HOBD, "--config", self.conf], self.port, self.root / "hobd.log", ca=self.root / "state/ca.pem", cwd=self.root)
        server.wait_ready = lambda limit_s: (wait_file(self.root / "run/hob.sock", server), wait_file(self.root / "state/ca.pem", server),
                                             Server.wait_ready(server, limit_s))
        return server


def wait_file(path, server):
    end = time.monotonic() + 30
    while not path.exists():
        assert server.process.poll() is None and time.monotonic() < end, server.log_tail()
        time.sleep(0.02)


@pytest.fixture
def installed(tmp_path, model, embedder):
    (tmp_path / "root").mkdir()
    return Installation(tmp_path / "root", model, embedder)


def values(conf):
    return dict(re.findall(r'(?m)^ *(\w+) = "?([^";{(\n]+)"?;', conf.read_text()))


# ---- setup ----

def test_setup_takes_its_answers_from_options(installed):
    done = installed.setup("--port", 9443, "--listen", "::1", "--memory-mb", 1600, "--tokens-per-day", 50000, "--gpu")
    assert done.returncode == 0 and not done.stdout, done.stderr
    assert "systemctl daemon-reload" in done.stderr and "hobctl doctor" in done.stderr
    v = values(installed.conf)
    assert v["listen"] == "::1" and v["port"] == "9443" and v["memory_mb"] == "1600" and v["tokens_per_day"] == "50000"
    assert v["admin_socket"] == str(installed.root / "run/hob.sock") and v["store"] == str(installed.root / "state/hob.db")
    text = installed.conf.read_text()
    assert text.index("smollm2.gguf") < text.index("minilm.gguf") and "broken" not in text
    assert not list((installed.root / "state").iterdir())  # what is secret is hobd's business
    assert "MemoryMax=2312M\n" in (installed.units / "memory.conf").read_text()
    assert (installed.units / "render.conf").read_bytes() == (installed.root / "examples/render.conf").read_bytes()
    assert (installed.conf.stat().st_mode | (installed.units / "memory.conf").stat().st_mode) & 0o777 == 0o644
    # Again, with one thing changed: the others stay.
    before = values(installed.conf)
    assert installed.setup("--memory-mb", 0).returncode == 0
    after = values(installed.conf)
    assert {k for k in before if before.get(k) != after.get(k)} == {"memory_mb"}
    assert not (installed.units / "memory.conf").exists()  # no budget, no bound
    assert installed.setup("--embedding", "none").returncode == 0 and "minilm" not in installed.conf.read_text()


def test_setup_keeps_edits(installed):
    edited = installed.conf.read_text().replace("memory_mb = 0;", "memory_mb = 800;").replace("port = 8443;", "port = 7443;", 1)
    installed.conf.write_text(edited)  # the package's, with two changes
    done = installed.setup("--port", 9443)
    assert done.returncode == 0 and "was edited and stays" in done.stderr
    assert installed.conf.read_text() == edited
    assert "MemoryMax=1412M\n" in (installed.units / "memory.conf").read_text()  # but what follows from them is done
    mine = "[Service]\nMemoryMax=3G\n"
    (installed.units / "memory.conf").write_text(mine)
    (installed.units / "render.conf").write_text("[Service]\n# mine\n")
    done = installed.setup("--gpu")
    assert done.returncode == 0 and done.stderr.count("was edited and stays") == 3
    assert (installed.units / "memory.conf").read_text() == mine and "mine" in (installed.units / "render.conf").read_text()
    installed.conf.write_text(edited + "nonsense = 1;\n")
    done = installed.setup()
    assert done.returncode == 1 and f"{installed.conf}:{edited.count(chr(10)) + 1}: nonsense: unknown key" in done.stderr


@pytest.mark.parametrize("args, why", [(["--listen", "everywhere"], "listen is"), (["--model", "/no/such.gguf"], "/no/such.gguf"),
                                       (["--name", "de fault"], "models[0].name"), (["--embedding", "smollm2"], "generates text"),
                                       (["--model", "minilm"], "makes embeddings"), (["--model", "broken"], "broken.gguf")])
def test_setup_writes_nothing_that_hobd_would_refuse(installed, args, why):
    before = installed.conf.read_bytes()
    args = [str(installed.root / f"models/{a}.gguf") if a in ("smollm2", "minilm", "broken") else a for a in args]
    done = installed.setup(*args)
    assert done.returncode == 1 and why in done.stderr and done.stderr.startswith("setup: "), done.stderr
    assert installed.conf.read_bytes() == before and [p.name for p in installed.conf.parent.iterdir()] == ["hob.conf"]
    assert not installed.units.exists()


def test_setup_without_models_or_a_folder(installed):
    shutil.rmtree(installed.root / "models")
    assert "install hob-model-smollm2" in installed.setup().stderr
    shutil.rmtree(installed.root / "etc")
    done = installed.setup()
    assert done.returncode == 1 and "hob is not installed on this machine. --dir DIR" in done.stderr
    done = subprocess.run([HOBCTL, "setup", "--dir", installed.root / "var"], capture_output=True, text=True)
    assert done.returncode == 2 and "--dir needs --model" in done.stderr


def test_setup_asks_at_a_terminal(installed):
    status, shown = installed.answer(
        ("Address", "here\n"), ("Address", "127.0.0.1\n"), ("Port", "99999\n"), ("Port", "7\x7f7443\n"), ("Model that answers", "1\n"),
        ("Model that answers", "2\n"), ("Model that embeds", "\n"), ("Memory", "1000\n"), ("a minute", "\n"), ("a day", "77\n"),
        options=["--no-gpu"])
    assert status == 0, shown
    assert 'got "here", allowed: an IPv4 or IPv6 address' in shown and "an integer from 1 to 65535" in shown
    assert "makes embeddings: one that generates text is needed" in shown  # minilm is the first of the list
    assert "1  minilm.gguf" in shown and "2  smollm2.gguf" in shown and "broken" not in shown
    v = values(installed.conf)
    assert v["listen"] == "127.0.0.1" and v["port"] == "7443" and v["memory_mb"] == "1000" and v["tokens_per_day"] == "77"
    assert "MemoryMax=1637M" in (installed.units / "memory.conf").read_text()
    before = installed.conf.read_bytes()
    questions = [(q, "\n") for q in ("Address", "Port", "answers", "embeds", "Memory", "minute", "day")]
    status, shown = installed.answer(*questions, options=["--no-gpu"])  # Enter takes what is there
    assert status == 0 and installed.conf.read_bytes() == before
    status, shown = installed.answer(("Address", "10.0.0.1\n"), ("Port", "\x04"))
    assert status == 1 and "nothing was written" in shown and installed.conf.read_bytes() == before
    status, shown = installed.answer(options=["--yes"])
    assert status == 0 and "[" not in shown and installed.conf.read_bytes() == before
    status, shown = installed.answer(("Memory", "\n"), options=["--listen", "127.0.0.1", "--port", "7443", "--no-gpu", "--tokens-per-day",
                                     "77", "--tokens-per-minute", "0", "--embedding", installed.root / "models/minilm.gguf",
                                     "--model", installed.root / "models/smollm2.gguf"])
    assert status == 0 and "Address" not in shown and values(installed.conf)["tokens_per_day"] == "77"


# ---- doctor ----

def doctor(conf, env=None, text=False):
    """The exit status and what is not good, by check."""
    done = subprocess.run([HOBCTL, "doctor", "--config", conf, *([] if text else ["--json"])], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})
    if text:
        return done.returncode, done.stdout
    found = {}
    for f in json.loads(done.stdout)["installation"]["findings"]:
        if f["state"] == "good":
            assert f["mend"] == ""
        else:
            assert f["mend"], f
            found.setdefault(f["check"], []).append(f)
    assert done.returncode == any(f["state"] == "wrong" for l in found.values() for f in l), (done.returncode, found)
    return done.returncode, found


def one(found, check, state="wrong"):
    assert len(found[check]) == 1 and found[check][0]["state"] == state, found
    return found[check][0]


@pytest.fixture
def plain(installed):
    """One that is set up and not running, on an address of its own."""
    done = installed.setup("--port", installed.port, "--listen", "127.0.0.1", "--memory-mb", 4000)
    assert done.returncode == 0, done.stderr
    return installed


def change(installed, old, new):
    text = installed.conf.read_text()
    assert old in text
    installed.conf.write_text(text.replace(old, new, 1))


def test_an_installation_from_setup_to_an_answer(plain, hobctl, tmp_path):
    """As an administrator's first ten minutes go: set up, start, look, ask."""
    change(plain, "path =", 'device = "cpu"; threads = 2; path =')
    status, found = doctor(plain.conf)
    assert status == 1 and set(found) == {"certificate", "hobd"}, found
    assert one(found, "hobd")["mend"] == one(found, "certificate", "advice")["mend"] == f"hobd --config {plain.conf}"
    with started(plain.server()) as server:
        end = time.monotonic() + 60
        while doctor(plain.conf)[1]:
            assert time.monotonic() < end, doctor(plain.conf)
        status, text = doctor(plain.conf, text=True)
        assert status == 0 and "hobd           good" in text and "->" not in text.split(str(plain.conf), 1)[1]
        # The commands find it by its hob.conf, with the key and the CA that hobd has made.
        env = {"HOB_CONFIG": str(plain.conf)}
        assert b"smollm2" in hobctl("models", env=env, cwd=tmp_path).stdout
        assert b"running" in hobctl("status", env=env, cwd=tmp_path).stdout
        assert hobctl("chat", "Hi.", "--max-tokens", "2", env=env, cwd=tmp_path).stdout
        assert server.get("/readyz")[0] == 200
    clock = Clock(tmp_path)
    env = {"LD_PRELOAD": str(clock.library), "HOB_TEST_CLOCK": str(clock.file)}
    for days, state, what in ((800, "advice", "expires in 24 days"), (900, "wrong", "has expired"), (-300, "wrong", "is not valid yet")):
        clock.shift(days * 86400)
        f = one(doctor(plain.conf, env)[1], "certificate", state)
        assert what in f["what"] and f["mend"] == f"end hobd, then: hobd --config {plain.conf}"


def test_doctor_names_the_line(plain):
    text = plain.conf.read_text()
    plain.conf.write_text(text.replace("port = ", "port = 1", 1).replace("listen", "lisen", 1))
    line = text[:text.index("listen")].count("\n") + 1
    status, found = doctor(plain.conf)
    assert status == 1 and f"{plain.conf}:{line}: lisen: unknown key" in one(found, "configuration")["what"]
    plain.conf.write_text(text + "more = ;\n")
    assert f"{plain.conf}:{text.count(chr(10)) + 1}: syntax error" in one(doctor(plain.conf)[1], "configuration")["what"]
    plain.conf.unlink()
    assert one(doctor(plain.conf)[1], "configuration")["mend"] == "hobctl setup"


def test_doctor_on_models_and_memory(plain):
    change(plain, "smollm2.gguf", "gone.gguf")
    change(plain, "minilm.gguf", "broken.gguf")
    status, found = doctor(plain.conf)
    assert status == 1 and [f["state"] for f in found["models"]] == ["wrong", "wrong"]
    assert "No such file" in found["models"][0]["what"] and "hobctl inspect" in found["models"][1]["mend"]
    change(plain, "gone.gguf", "smollm2.gguf")
    change(plain, "broken.gguf", "minilm.gguf")
    assert "models" not in doctor(plain.conf)[1]
    change(plain, "memory_mb = 4000", "memory_mb = 90")
    assert "but limits.memory_mb is 90 MiB" in one(doctor(plain.conf)[1], "memory")["what"]
    change(plain, "memory_mb = 90", "memory_mb = 100000000")
    assert "but this machine has" in one(doctor(plain.conf)[1], "memory")["what"]
    change(plain, "memory_mb = 100000000", "memory_mb = 0")
    one(doctor(plain.conf)[1], "memory", "advice")
    change(plain, "path =", 'device = "opencl:77"; path =')
    assert "device opencl:77" in one(doctor(plain.conf)[1], "opencl")["what"]
    if os.geteuid() == 0:  # hobd is its state's owner: not root, then
        os.chown(plain.root / "state", 65534, 65534)
        private = plain.root / "private.gguf"
        shutil.copy(plain.root / "models/minilm.gguf", private)
        private.chmod(0o600)
        change(plain, str(plain.root / "models/minilm.gguf"), str(private))
        wrong = [f for f in doctor(plain.conf)[1]["models"] if "private" in f["what"]]
        assert "Permission denied" in wrong[0]["what"] and wrong[0]["mend"] == f"chmod a+r {private}"


def test_doctor_on_secrets(plain):
    state = plain.root / "state"
    for name in ("key.pem", "ca.key", "api_key", "hob.db"):
        (state / name).write_text("")
        (state / name).chmod(0o600)
    assert "permissions" not in doctor(plain.conf)[1]
    for name in ("key.pem", "ca.key", "api_key", "hob.db"):
        (state / name).chmod(0o640)
        f = one(doctor(plain.conf)[1], "permissions")
        assert "0640" in f["what"] and f["mend"] == f"chmod 600 {state / name}"
        subprocess.run(f["mend"], shell=True, check=True)
    assert "permissions" not in doctor(plain.conf)[1]
    if os.geteuid() == 0:
        os.chown(state / "ca.key", 65534, -1)
        f = one(doctor(plain.conf)[1], "permissions")
        assert f["mend"] == f"chown root: {state / 'ca.key'}"


def test_doctor_on_certificates(plain, tmp_path):
    state, authority = plain.root / "state", Authority(tmp_path, "office")
    for expired, state_of, what in ((True, "wrong", "has expired"), (False, None, None)):
        crt, key = authority.issue("box", "localhost", usage="serverAuth", names="DNS:localhost", expired=expired)
        crt.replace(state / "cert.pem")
        key.replace(state / "key.pem")
        (state / "key.pem").chmod(0o600)
        found = doctor(plain.conf)[1]
        if what:
            assert what in one(found, "certificate", state_of)["what"] and "SIGHUP" in found["certificate"][0]["mend"]
        else:
            assert "certificate" not in found
    (state / "key.pem").write_bytes(authority.key.read_bytes())
    assert "is not the key of the certificate" in one(doctor(plain.conf)[1], "certificate")["what"]


def test_doctor_on_the_clock(plain, tmp_path):
    clock = Clock(tmp_path)
    env = {"LD_PRELOAD": str(clock.library), "HOB_TEST_CLOCK": str(clock.file)}
    assert "clock" not in doctor(plain.conf, env)[1]
    clock.shift(-time.time())
    assert "1970-01-01" in one(doctor(plain.conf, env)[1], "clock")["what"]
    clock.shift(-5 * 86400)  # files from the future
    f = one(doctor(plain.conf, env)[1], "clock")
    assert str(plain.conf) in f["what"] and "timedatectl" in f["mend"]


def test_doctor_on_a_port_that_is_taken(plain):
    with socket.socket() as s:
        s.bind(("127.0.0.1", plain.port))
        s.listen()
        f = one(doctor(plain.conf)[1], "port")
    assert "another program listens" in f["what"] and f"sport = :{plain.port}" in f["mend"]
    assert "port" not in doctor(plain.conf)[1]
    change(plain, '"127.0.0.1"', '"192.0.2.1"')
    assert "Cannot assign requested address" in one(doctor(plain.conf)[1], "port")["what"]


def test_doctor_for_somebody_without_rights(plain, tmp_path):
    """What one may not see is not wrong."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    with open(plain.conf, "rb") as conf, open(HOBCTL, "rb") as program:  # the rest of the way may be closed to others
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"/dev/fd/{program.fileno()}", "doctor",
                               "--json", "--config", f"/dev/fd/{conf.fileno()}"], pass_fds=(conf.fileno(), program.fileno()),
                              capture_output=True, text=True)
    states = {f["check"]: f["state"] for f in json.loads(done.stdout)["installation"]["findings"]}
    for check in ("models", "permissions", "certificate", "hobd"):
        assert states[check] == "advice", states
    assert done.returncode == 0, done.stdout
