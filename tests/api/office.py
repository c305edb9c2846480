# SPDX-License-Identifier: Apache-2.0
"""A server with a store of its own, and hobctl as its administrator."""
import json
import urllib.error
import urllib.request

import openai
from conftest import HOBD, Server, free_port
from wire import chat


class Office:
    """A server with its folder, and hobctl as its administrator."""

    def __init__(self, folder, model, hobctl, more=""):
        self.folder, self.run = folder, hobctl
        port = free_port()
        hobctl("setup", "--dir", folder, "--model", model, "--port", port)
        conf = folder / "hob.conf"
        conf.write_text(conf.read_text().split("\n", 1)[1] + more)  # without its first line it counts as edited
        self.server = Server([HOBD, "--config", folder / "hob.conf"], port, folder.parent / "hobd.log",
                             (folder / "api_key").read_text().strip(), folder / "ca.pem", cwd=folder.parent)

    def hobctl(self, *args, **kwargs):
        return self.run(*args, "--socket", self.folder / "hob.sock", **kwargs)

    def add(self, label, *args):
        """The new key's text."""
        return self.hobctl("keys", "add", label, *args).stdout.decode().strip()

    def keys(self, *args):
        return {k["label"]: k for k in json.loads(self.hobctl("keys", "list", "--json", *args).stdout)["data"]}

    def usage(self, *args):
        return json.loads(self.hobctl("usage", "--json", *args).stdout)["data"]

    def ask(self, path, key, body=None):
        """Status, headers and body."""
        request = urllib.request.Request(self.server.url + path, json.dumps(body).encode() if body is not None else None,
                                         {"Content-Type": "application/json"} if body is not None else {})
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.server.context) as answer:
                return answer.status, answer.headers, json.loads(answer.read())
        except urllib.error.HTTPError as e:
            with e:
                return e.code, e.headers, json.loads(e.read())

    def chat(self, key, content="Count.", **fields):
        return self.ask("/v1/chat/completions", key, chat(content, **fields))

    def client(self, key, retries=0):
        return openai.OpenAI(base_url=self.server.url + "/v1", api_key=key, max_retries=retries, timeout=120,
                             http_client=openai.DefaultHttpxClient(verify=self.server.context))
