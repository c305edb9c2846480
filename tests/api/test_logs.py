# SPDX-License-Identifier: Apache-2.0
"""hobctl logs where reading the log could be what keeps it going, and across restarts of hobd."""
import json
import subprocess
import threading
import time

import pytest

from conftest import BUILD, limited_server, started


@pytest.fixture
def server(tmp_path, var):
    s = limited_server(tmp_path, var, "", more='log_level = "debug";\n')
    with started(s):
        s.socket = tmp_path / "var/hob.sock"
        yield s


class Follower:
    """hobctl logs --follow; `lines` grows."""

    def __init__(self, server, *options):
        self.process = subprocess.Popen([BUILD / "hobctl", "logs", "--follow", "--socket", server.socket, *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines, self.errors = [], []
        self.threads = [threading.Thread(target=lambda p=p, to=to: to.extend(p), daemon=True)
                        for p, to in ((iter(self.process.stdout.readline, ""), self.lines),
                                      (iter(self.process.stderr.readline, ""), self.errors))]
        for t in self.threads:
            t.start()

    def wait(self, word, where=None, limit_s=30):
        end = time.monotonic() + limit_s
        while not any(word in line for line in (self.lines if where is None else where)):
            assert self.process.poll() is None and time.monotonic() < end, (word, self.errors, self.lines[-20:])
            time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait()
        for t in self.threads:
            t.join()


def test_reading_at_debug_level_comes_to_an_end(server, hobctl):
    server.get("/v1/models")
    for options in ((), ("--lines", 10000), ("--json",)):
        text = hobctl("logs", "--socket", server.socket, *options, timeout=30).stdout.decode()
        assert "route=models" in text and "level=debug" in text
        assert "admin/log" not in text and text.count("route=admin") == 0
    answer = json.loads(text.splitlines()[0])
    assert answer["next"] == answer["count"] >= len(answer["data"])
    status, body = server.get("/hob/v1/admin/log?after=x")
    assert status == 400  # who asks wrongly is told, and so is the log
    assert "status=400" in hobctl("logs", "--socket", server.socket).stdout.decode()


def test_following_goes_on_with_the_next_hobd(server):
    for i in range(60):  # more lines than the next one will have
        server.get(f"/v1/models/none-{i}")
    follower = Follower(server, "--lines", "10")
    try:
        follower.wait("route=model ")
        assert server.stop() == 0
        follower.wait("waits for hobd", follower.errors)
        server.start()
        server.get("/v1/models")
        follower.wait("route=models")
        assert len(follower.errors) == 1
        seen = len(follower.lines)
        time.sleep(1)  # nothing comes: nothing is said
        assert len(follower.lines) <= seen + 2
    finally:
        follower.stop()
