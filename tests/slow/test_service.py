# SPDX-License-Identifier: Apache-2.0
"""hob.service under the real systemd: with all of its hardening hobd gets ready, answers, reads a PDF file, reloads, is restarted
when it hangs, and stops; with render.conf an OpenCL driver compiles and computes. The machine has no network but lo."""
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/api"))
sys.path.insert(0, str(ROOT / "tests/slow"))
from conftest import HOBCTL, HOBD  # noqa: E402
from machine import CannotBoot, Machine  # noqa: E402

pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(bool(os.environ.get("HOB_SANITIZED")), reason="a sanitizer's shadow is not what the unit is for")]
MODEL = "/usr/share/hob/models/small.gguf"
CONF = """
listen = "127.0.0.1"; port = 8443;
listeners = ( { listen = "127.0.0.1"; port = 8080; protocol = "http"; } );
admin_socket = "/run/hob/hob.sock";
tls = { cert = "/var/lib/hob/cert.pem"; key = "/var/lib/hob/key.pem"; };
store = "/var/lib/hob/hob.db";
keys = "/var/lib/hob/keys";
models = ( { name = "small"; path = "%s"; device = "%s"; threads = 2; } );
"""


class Box(Machine):
    """A machine with hob in it."""

    def install(self, model):
        for source, to, mode in ((HOBD, "usr/sbin/hobd", 0o755), (HOBCTL, "usr/bin/hobctl", 0o755), (model, MODEL[1:], 0o644),
                                 (ROOT / "packaging/systemd/hob.service", "usr/lib/systemd/system/hob.service", 0o644),
                                 (ROOT / "packaging/systemd/hob.sysusers", "usr/lib/sysusers.d/hob.conf", 0o644)):
            target = self.root / to
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(mode)
        self.run("ip", "link", "set", "lo", "up")
        self.run("systemd-sysusers", "hob.conf")
        self.run("install", "-d", "-o", "hob", "-g", "hob", "-m", "0750", "/var/lib/hob")
        self.run("runuser", "-u", "hob", "--", "hobctl", "setup", "--dir", "/var/lib/hob", "--model", MODEL, "--port", "8443")
        self.write("/etc/hob/hob.conf", CONF % (MODEL, "cpu"))
        self.run("systemctl", "daemon-reload")
        self.client = {"HOB_URL": "https://localhost:8443", "HOB_CACERT": "/var/lib/hob/ca.pem",
                       "HOB_API_KEY": (self.root / "var/lib/hob/api_key").read_text().strip()}

    def drop_in(self, name, text):
        self.write(f"/etc/systemd/system/hob.service.d/{name}", text)
        self.run("systemctl", "daemon-reload")

    def show(self, name):
        return self.run("systemctl", "show", "--property", name, "--value", "hob").stdout.strip()

    def journal(self):
        return self.run("journalctl", "--no-pager", "--output", "cat", "--lines", "1000").stdout

    def systemctl(self, verb, timeout=1000):
        done = self.run("systemctl", verb, "hob", check=False, timeout=timeout)
        assert done.returncode == 0, done.stderr + self.journal()

    def hobctl(self, *args, **options):
        return self.run("hobctl", *args, env=self.client, timeout=600, **options).stdout

    def processes(self, word):
        """Process ids, as the machine has them, of the unit's processes that were started with `word`."""
        found = self.run("pgrep", "-u", "hob", "-f", f"hobd {word}", check=False).stdout.split()
        return [int(pid) for pid in found]

    def proc(self, pid, name):
        return self.run("cat", f"/proc/{pid}/{name}").stdout


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    try:
        with Box(tmp_path_factory.mktemp("box")) as b:
            b.install(os.environ["HOB_TEST_MODEL"])
            yield b
    except CannotBoot as e:
        pytest.skip(f"systemd cannot be started here: {e}")


@pytest.fixture(autouse=True)
def stopped(box):
    yield
    box.run("systemctl", "kill", "--signal", "KILL", "hob", check=False)
    box.run("systemctl", "stop", "hob", check=False)
    shutil.rmtree(box.root / "etc/systemd/system/hob.service.d", ignore_errors=True)
    box.run("systemctl", "daemon-reload")


def test_first_answer_with_lo_alone(box):
    assert [line.split(":")[1].strip() for line in box.run("ip", "-o", "link").stdout.splitlines()] == ["lo"]
    box.systemctl("start")
    assert box.show("ActiveState") == "active" and box.show("StatusText").startswith("1 of 1 models ready")
    assert box.hobctl("chat", "--max-tokens", "8", "Say hello.").strip()


def test_processes_and_their_order_when_memory_runs_out(box):
    box.systemctl("start")
    gateway, (engine,) = int(box.show("MainPID")), box.processes("--engine")
    for pid in gateway, engine:
        status = box.proc(pid, "status")
        assert "CapEff:\t0000000000000000\n" in status and "CapBnd:\t0000000000000000\n" in status
        assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status
    scores = [int(box.proc(pid, "oom_score_adj")) for pid in (gateway, engine)]
    assert scores[0] <= 0 and scores[1] == 500
    seen = box.run("nsenter", "--target", gateway, "--mount", "sh", "-c", "ls -A /root /home /tmp | grep -v : ; touch /usr/x /etc/x", check=False)
    assert seen.stdout.strip() == "" and seen.stderr.count("Read-only file system") == 2, seen


def test_administration(box):
    box.systemctl("start")
    for who in (["-u", "root"], ["-u", "hob"], ["-u", "daemon", "-G", "hob"]):
        assert "small" in box.run("runuser", *who, "--", "hobctl", "status", "--socket", "/run/hob/hob.sock").stdout
    refused = box.run("runuser", "-u", "daemon", "--", "hobctl", "status", "--socket", "/run/hob/hob.sock", check=False)
    assert refused.returncode == 1 and "ermission denied" in refused.stderr


def test_documents(box):
    """The extractor, pdftotext in it, their sandboxes and the unit's filter, each within the other."""
    shutil.copy(ROOT / "tests/data/documents/letter.pdf", box.root / "usr/share/hob/letter.pdf")
    shutil.copy(ROOT / "tests/data/documents/report.docx", box.root / "usr/share/hob/report.docx")
    box.systemctl("start")
    done = json.loads(box.hobctl("ingest", "--json", "--store", "papers", "/usr/share/hob/letter.pdf", "/usr/share/hob/report.docx"))
    assert done["ingested"] == 2 and done["failed"] == 0
    assert "letter.pdf" in box.hobctl("search", "--store", "papers", "letter")


def test_reload(box):
    box.systemctl("start")
    pid = box.show("MainPID")
    box.write("/etc/hob/hob.conf", CONF % (MODEL, "cpu") + 'log_level = "debug";\n')
    box.systemctl("reload")
    end = time.monotonic() + 20
    while "reloaded /etc/hob/hob.conf" not in box.journal():
        assert time.monotonic() < end, box.journal()
        time.sleep(0.1)
    assert box.show("MainPID") == pid and box.show("ActiveState") == "active"


def test_hang_is_noticed(box):
    box.drop_in("quick.conf", "[Service]\nWatchdogSec=2\nRestartSec=0\n")
    box.systemctl("start")
    before = box.show("MainPID")
    box.run("kill", "-STOP", before)
    end = time.monotonic() + 60
    while (box.show("ActiveState"), box.show("SubState")) != ("active", "running") or box.show("MainPID") in ("0", before):
        assert time.monotonic() < end, box.journal()
        time.sleep(0.2)
    assert "watchdog" in box.run("journalctl", "--no-pager", "--unit", "hob").stdout.lower() and box.show("NRestarts") == "1"
    assert box.hobctl("chat", "--max-tokens", "4", "Say hello.").strip()


def test_an_engine_that_is_killed_is_hobds_to_restart(box):
    box.systemctl("start")
    pid, (engine,) = box.show("MainPID"), box.processes("--engine")
    box.run("kill", f"-{signal.SIGKILL}", engine)
    end = time.monotonic() + 60
    while box.processes("--engine") in ([], [engine]):
        assert time.monotonic() < end, box.journal()
        time.sleep(0.1)
    assert box.hobctl("chat", "--max-tokens", "4", "Say hello.").strip()
    assert box.show("MainPID") == pid and box.show("NRestarts") == "0"


def test_stop(box):
    box.systemctl("start")
    engines = box.processes("--engine")
    box.systemctl("stop")
    assert box.show("Result") == "success" and box.show("ActiveState") == "inactive" and engines
    assert not box.processes("") and box.run("test", "-e", "/run/hob", check=False).returncode == 1


@pytest.mark.skipif(not Path("/etc/OpenCL/vendors/pocl.icd").exists(), reason="no OpenCL driver")
def test_an_opencl_driver_with_the_drop_in(box):
    """On the processor: it compiles, runs a linker and loads what comes out, which is more than a GPU's does."""
    box.drop_in("render.conf", (ROOT / "packaging/systemd/render.conf").read_text())
    box.write("/etc/hob/hob.conf", CONF % (MODEL, "opencl:0"))
    box.systemctl("start", timeout=1000)
    assert "device opencl:0" in box.journal()
    assert box.hobctl("chat", "--max-tokens", "4", "Say hello.").strip()
    assert "hob_engine_device_failed" not in box.journal()
    assert any((box.root / "var/cache/hob/opencl").iterdir())
