# SPDX-License-Identifier: Apache-2.0
"""hobctl top on real terminals: what tmux shows of it, at any size, while hobd works, hangs, ends and comes back; and on a pseudo
terminal whose reader is slow, or that has no colours or no cursor. Whatever it waits for, q quits."""
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from conftest import HOBCTL, limited_server, openai_client, started

LIMIT_S = 60


def until(wanted, what, limit_s=LIMIT_S):
    """Waits for it; what() is shown when it does not come."""
    end = time.monotonic() + limit_s
    while not wanted():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


class Screen:
    """hobctl top in a tmux of its own."""

    def __init__(self, folder, socket, columns=80, rows=24):
        self.tmux_socket, self.ended = folder / "tmux", folder / "ended"
        # tmux 3.3 does not always notice that a program has ended: the shell tells.
        command = (f"trap : INT; '{HOBCTL}' top --interval 0.2 --socket '{socket}'; "
                   f"echo $? > '{folder}/status'; mv '{folder}/status' '{self.ended}'")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), command, ";", "set-option", "-g",
                  "remain-on-exit", "on")

    def tmux(self, *words):
        return subprocess.run(["tmux", "-S", self.tmux_socket, *words], check=True, capture_output=True, text=True, timeout=30).stdout

    def lines(self):
        return self.tmux("capture-pane", "-p").split("\n")[:-1]

    def text(self):
        return "\n".join(self.lines())

    def keys(self, *names):
        self.tmux("send-keys", *names)

    def wait(self, *patterns):
        """Until the screen matches each of them."""
        until(lambda: all(re.search(p, self.text()) for p in patterns), lambda: f"{patterns} not in\n{self.text()}")

    def status(self):
        """Of the program, once it has ended."""
        until(self.ended.exists, self.text)
        return int(self.ended.read_text())


@contextlib.contextmanager
def screen(folder, server, **size):
    s = Screen(folder, server.socket, **size)
    try:
        yield s
    finally:
        s.tmux("kill-server")


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    folder = tmp_path_factory.mktemp("top")
    s = limited_server(folder, var, "memory_mb = 2000;", "max_sequences = 1; max_waiting = 0; context = 2048;", tenants=("anna",),
                       embedder=embedder)
    s.socket = folder / "var/hob.sock"
    with started(s):
        yield s


@contextlib.contextmanager
def load(server):
    """Somebody chats all the time."""
    over = threading.Event()

    def chat():
        with openai_client(server, "hob_anna") as c:
            while not over.is_set():
                stream = c.chat.completions.create(model="default", stream=True, max_tokens=300, extra_body={"ignore_eos": True},
                                                   messages=[{"role": "user", "content": "Tell me about hobs."}])
                for _ in stream:
                    if over.is_set():
                        stream.close()
                        break
    t = threading.Thread(target=chat)
    t.start()
    try:
        yield
    finally:
        over.set()
        t.join()


def test_views_and_keys(server, tmp_path):
    with screen(tmp_path, server) as s, load(server):
        s.wait(r"hobd \S+ running, up .*, \d+ connections", r"Tokens .*[1-9][\d.]*k?/s out", r"\S+ ready +1 +0 +0 ", r"embedder +ready",
               r"Memory +\[\|+ *\] +\d+ %  \d+ MiB of 2.0 GiB", r"chat +\S+ +interactive +\d+ +\d+(\.\d)?/\d+(\.\d)?/\d+(\.\d)? ",
               r"last 1 min")
        lines = s.lines()
        assert len(lines) == 24 and lines[0].startswith("hobd ") and lines[-1].startswith("q quit")
        assert [line.split()[0] for line in lines if line.strip()][2:8] == ["Requests", "Refused", "Tokens", "Waiting", "CPU", "Memory"]
        s.keys("Right")
        s.wait("last 10 min")
        s.keys("Right", "Right")
        s.wait("last 1 h")
        s.keys("Left")
        s.wait("last 10 min")
        s.keys("Tab")
        s.wait(r"COUNT +P50 +P95 +P99", r"first token +\d+ ", r"between tokens +\d+ ")
        s.keys("Tab")
        s.wait(r"steps +\S+/s of \S+ rows", r"KV cache +\[.*\] +\d+ %  of \d+ blocks", r"embedder  ready  bert")
        s.keys("Tab")
        s.wait("RESIDENT", r"weights +\[\|+ *\]", r"kv_cache +\[")
        s.keys("BTab")
        s.wait(r"KV cache +\[")
        s.keys("Tab", "Tab", "p")
        s.wait("PAUSED", r"up \d+ ")
        before = s.text()
        time.sleep(1.2)
        assert s.text() == before
        s.keys("p")
        until(lambda: s.text() != before and "PAUSED" not in s.text(), s.text)
        s.keys("q")
        assert s.status() == 0


def test_the_same_for_programs(server, hobctl):
    for words, wanted in ((["status"], "models"), (["stats"], "series"), (["trace"], "data"), (["logs"], "data"), (["audit"], "data"),
                          (["keys", "list"], "data"), (["usage"], "data"), (["store", "check"], "result")):
        assert wanted in json.loads(hobctl(*words, "--json", "--socket", server.socket).stdout), words
    assert {m["state"] for m in json.loads(hobctl("models", "list", "--json", "--socket", server.socket).stdout)} == {"ready"}


def test_any_size(server, tmp_path):
    with screen(tmp_path, server, columns=60, rows=15) as s:
        s.wait("hobd ", "embedder")
        for columns, rows in ((60, 15), (200, 50), (33, 7), (10, 2), (80, 24)):
            s.tmux("resize-window", "-x", str(columns), "-y", str(rows))
            if rows > 2:
                until(lambda: len(s.lines()) == rows and s.lines()[0].startswith("hobd ") and s.lines()[-1].startswith("q quit"), s.text)
            assert max(map(len, s.lines())) <= columns
        s.tmux("resize-window", "-x", "60", "-y", "15")
        s.keys("BTab")  # memory, the longest
        s.wait("RESIDENT", r" more$")
        assert "LIMITS" not in s.text()
        s.keys("NPage", "NPage", "NPage", "NPage")
        until(lambda: "index of vectors" in s.text() and "more" not in s.text(), s.text)
        assert "RESIDENT" not in s.text() and s.lines()[0].startswith("hobd ")
        s.keys("Up")
        s.wait(" more$")
        s.keys("C-c")
        assert s.status() == 130


def test_hobd_hangs_ends_and_comes_back(tmp_path, var):
    s = limited_server(tmp_path, var, "")
    s.socket = tmp_path / "var/hob.sock"
    with screen(tmp_path, s) as seen:
        seen.wait("trying again: no hobd answers at /")  # not there yet
        with started(s):
            seen.wait("hobd .* running", "ready", "q quit")
            s.process.send_signal(signal.SIGSTOP)
            seen.keys("Tab")
            seen.wait("milliseconds")
            s.process.send_signal(signal.SIGCONT)
            seen.keys("BTab")
            seen.wait("ready", "q quit")
        seen.wait("trying again: ", "hobd .* (running|draining), up")  # with what was seen last
        s.start()
        try:
            seen.wait("q quit", r"up \d s", r"ready")
            assert "trying again" not in seen.text()
        finally:
            s.stop()
        seen.wait("trying again")
        seen.keys("q")
        assert seen.status() == 0


# ---- on a pseudo terminal ----

class Terminal:
    """A program on a pseudo terminal of 80 columns and 24 rows; what it writes stays there until it is read here."""

    def __init__(self, *words, **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(words[0], [str(w) for w in words], {**os.environ, **env})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def read(self, count=1 << 16, limit_s=LIMIT_S):
        """b"" at the end, or when nothing comes."""
        if not select.select([self.fd], [], [], limit_s)[0]:
            return b""
        try:
            return os.read(self.fd, count)
        except OSError:  # EIO: nobody has it open any more
            return b""

    def read_until(self, *wanted):
        text, end = b"", time.monotonic() + LIMIT_S
        while not all(w in text for w in wanted) and time.monotonic() < end:
            text += self.read(limit_s=1)
        assert all(w in text for w in wanted), text[-2000:]
        return text

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def ended(self, options=0):
        """The status once it has changed (os.waitpid), while nothing is read."""
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG | options)
            if pid:
                return status
            time.sleep(0.02)
        raise AssertionError("it goes on")

    def close(self):
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextlib.contextmanager
def terminal(*words, **env):
    t = Terminal(*words, **{"TERM": "xterm-256color", "NO_COLOR": "", **env})
    try:
        yield t
    finally:
        t.close()


def test_a_reader_that_is_slow(server):
    """It takes a byte each 50 ms. Frames are left out: else what is on its way would be far more than it takes in an hour."""
    with terminal(HOBCTL, "top", "--interval", "0.2", "--socket", server.socket) as t:
        for i in range(200):
            os.write(t.fd, b"\t")
            time.sleep(0.01)
            if i % 5 == 0:
                assert t.read(1)
        assert not t.echoes()
        os.write(t.fd, b"q")
        assert os.waitstatus_to_exitcode(t.ended()) == 0
        assert t.echoes()
        rest = b""
        while piece := t.read():
            rest += piece
        assert b"\x1b[?1049l" in rest  # the screen is as it was


def test_stopped_and_continued(server):
    with terminal(HOBCTL, "top", "--socket", server.socket) as t:
        t.read_until(b"embedder")
        os.write(t.fd, b"\x1a")
        assert os.WIFSTOPPED(t.ended(os.WUNTRACED)) and t.echoes()
        t.read_until(b"\x1b[?1049l")
        os.kill(t.pid, signal.SIGCONT)
        t.read_until(b"embedder")
        assert not t.echoes()
        os.kill(t.pid, signal.SIGTERM)
        t.read_until(b"\x1b[?1049l")
        assert os.waitstatus_to_exitcode(t.ended()) == 130 and t.echoes()


def test_colours(server):
    colour = re.compile(rb"\x1b\[(?:[\d;]*;)?3[1-7][;m]")
    for env, wanted in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "vt100"}, False)):
        with terminal(HOBCTL, "top", "--socket", server.socket, **env) as t:
            text = t.read_until(b"quit", b"embedder")
            os.write(t.fd, b"q")
            assert os.waitstatus_to_exitcode(t.ended()) == 0
            assert bool(colour.search(text)) == wanted, (env, text)


def test_where_there_is_no_screen(server, hobctl):
    for env in ({"TERM": "dumb"}, {"TERM": ""}, {"TERM": "nosuchterminal"}):
        with terminal(HOBCTL, "top", "--socket", server.socket, **env) as t:
            text = t.read_until(b"cannot move its cursor", b"hobctl status", b"hobctl stats", b"--json")
            assert b"\x1b" not in text and os.waitstatus_to_exitcode(t.ended()) == 1
    done = hobctl("top", "--socket", server.socket, check=False)
    assert done.returncode == 1 and b"no terminal" in done.stderr and b"hobctl stats" in done.stderr and not done.stdout
    assert hobctl("top", "--interval", "0.1", check=False).returncode == 2
