# SPDX-License-Identifier: Apache-2.0
"""What is one tenant's is nobody else's: attempts on the files, stores, batches, responses and cached prompts of another tenant, over
every route, over WebSocket and with hobctl, with ids that exist, with such that look like them, and by way of answers. A key
that is confined to some collections of its own tenant is an attacker as well. None succeeds, nothing of the victim's changes,
and no answer says more than that there is nothing.

The short form makes some hundred attempts; the long one, marked slow, 10,000."""
import http.client
import json
import random
import re
import socket
import urllib.parse

import pytest

from conftest import ROOT, limited_server, openai_client, started
from websockets.sync.client import connect

SHORT, LONG = 400, 10000
SECRET = "xylophone"
TEXT = f"# Vault\n\nThe word that opens the vault of the bank is {SECRET}.\n"
QUESTION = "Which word opens the vault of the bank?"
OWN_TEXT = "# Vault\n\nThe vault of the museum is opened by a guard.\n"


class Caller:
    """Requests on one connection."""

    def __init__(self, server, key):
        self.server, self.key, self.connection = server, key, None

    def __call__(self, method, path, body=None):
        headers, data = {"Authorization": f"Bearer {self.key}"}, b"" if method == "POST" else None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode()
        for _ in range(2):
            if not self.connection:
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.server.port, context=self.server.context, timeout=60)
            try:
                self.connection.request(method, path, data, headers)
                answer = self.connection.getresponse()
                return answer.status, answer.read().decode("utf-8", "replace")
            except (http.client.RemoteDisconnected, ConnectionError):
                self.connection = None
        return 400, ""  # a path that HTTP itself does not allow ends the connection


class Socket:
    """Events on one WebSocket, each answered by an error before the next is sent."""

    def __init__(self, server, key):
        self.connection = connect(f"wss://127.0.0.1:{server.port}/v1/responses", ssl=server.context, proxy=None,
                                  additional_headers={"Authorization": f"Bearer {key}"}, ping_interval=None)

    def __call__(self, event):
        self.connection.send(json.dumps(event))
        answer = json.loads(self.connection.recv(timeout=60))
        assert answer["type"] == "error", (event, answer)
        return answer["status"], json.dumps(answer, separators=(",", ":"))


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    # On a busy machine a search may be late, and its answer is made without it: here each is waited for.
    with started(limited_server(tmp_path_factory.mktemp("isolation"), var, "", tenants=("victim", "attacker"), embedder=embedder,
                                more="retrieval = { timeout_ms = 60000; };\n")) as s:
        yield s


def own(client, name, text):
    store = client.vector_stores.create(name=name)
    f = client.files.create(file=(f"{name}.md", text.encode()), purpose="assistants")
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[f.id])
    assert batch.file_counts.completed == 1
    response = client.responses.create(model="default", input=QUESTION, max_output_tokens=8,
                                       tools=[{"type": "file_search", "vector_store_ids": [store.id]}])
    assert response.output[1].content[0].annotations
    return {"store": store.id, "file": f.id, "batch": batch.id, "response": response.id, "name": name}


@pytest.fixture(scope="module")
def scene(server, hobctl):
    with openai_client(server, "hob_victim") as victim, openai_client(server, "hob_attacker") as attacker:
        theirs, mine = own(victim, "vault", TEXT), own(attacker, "mine", OWN_TEXT)
        allowed = victim.vector_stores.create(name="lobby").id
        socket = server.ca.parent / "hob.sock"
        confined = json.loads(hobctl("keys", "add", "confined", "--tenant", "victim", "--collections", "lobby", "--socket", socket,
                                     "--json").stdout)
        restricted = {**mine, "store": allowed}
        yield {"victim": victim, "theirs": theirs, "keys": [("hob_attacker", mine), (confined["key"], restricted)]}


def state(client):
    """All that the victim has, as it sees it."""
    stores = {s.id: (s.to_dict(), [f.to_dict() for f in client.vector_stores.files.list(s.id)]) for s in client.vector_stores.list()}
    for s, _ in stores.values():
        s.pop("last_active_at")
    return stores, [f.to_dict() for f in client.files.list()]


def spellings(rng, id):
    """An id as somebody might try to get past a check with it."""
    return rng.choice([id, id, id, id.upper(), id + "%00", id + "/", id + "%20", "%2e%2e/" + id, id[:-1], id + "'--", "*", "%25",
                       id.replace("_", "%5F"), f"{id}%27%20OR%201=1--", id[:3] + "0" * (len(id) - 3)])


def routes(theirs, mine, rng):
    """Requests (method, path, body) that name what is theirs, in the path or in the body."""
    q = lambda s: urllib.parse.quote(s, safe="%*/")
    store, file, batch, response = (q(spellings(rng, theirs[k])) for k in ("store", "file", "batch", "response"))
    search = {"query": rng.choice([QUESTION, SECRET]), "max_num_results": 50}
    if rng.random() < 0.3:
        search["filters"] = {"type": "ne", "key": "no", "value": "such"}
    chat = lambda stores, **more: ("POST", "/v1/chat/completions", {
        "model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": QUESTION}], "stream": rng.random() < 0.5,
        "hob_retrieval": {"stores": stores, "score_threshold": 0, **more}})
    ask = lambda ids, **more: ("POST", "/v1/responses", {
        "model": "default", "max_output_tokens": 1, "input": QUESTION, "stream": rng.random() < 0.3, "background": rng.random() < 0.3,
        "tools": [{"type": "file_search", "vector_store_ids": ids}], "include": ["file_search_call.results"], **more})
    real, mine_store = theirs["store"], mine["store"]
    return [
        ("GET", f"/v1/files/{file}", None), ("DELETE", f"/v1/files/{file}", None), ("GET", f"/v1/files/{file}/content", None),
        ("GET", f"/v1/files?after={file}", None), ("POST", "/v1/files", {"file": theirs["file"], "purpose": "assistants"}),
        ("GET", f"/v1/vector_stores/{store}", None), ("DELETE", f"/v1/vector_stores/{store}", None),
        ("POST", f"/v1/vector_stores/{store}", {"name": "taken"}), ("POST", f"/v1/vector_stores/{store}", {"metadata": {"a": "b"}}),
        ("GET", f"/v1/vector_stores?after={store}", None), ("GET", f"/v1/vector_stores?before={store}", None),
        ("POST", f"/v1/vector_stores/{store}/search", search),
        ("GET", f"/v1/vector_stores/{store}/files", None), ("POST", f"/v1/vector_stores/{store}/files", {"file_id": mine["file"]}),
        ("POST", f"/v1/vector_stores/{store}/files", {"file_id": theirs["file"]}),
        ("GET", f"/v1/vector_stores/{store}/files/{file}", None), ("DELETE", f"/v1/vector_stores/{store}/files/{file}", None),
        ("POST", f"/v1/vector_stores/{store}/files/{file}", {"attributes": {"a": "b"}}),
        ("GET", f"/v1/vector_stores/{store}/files/{file}/content", None),
        ("POST", f"/v1/vector_stores/{store}/file_batches", {"file_ids": [mine["file"]]}),
        ("GET", f"/v1/vector_stores/{store}/file_batches/{batch}", None),
        ("POST", f"/v1/vector_stores/{store}/file_batches/{batch}/cancel", None),
        ("GET", f"/v1/vector_stores/{store}/file_batches/{batch}/files", None),
        ("GET", f"/v1/vector_stores/{mine_store}/files/{file}", None),
        ("GET", f"/v1/vector_stores/{mine_store}/files/{file}/content", None),
        ("GET", f"/v1/vector_stores/{mine_store}/file_batches/{batch}", None),
        ("POST", f"/v1/vector_stores/{mine_store}/files", {"file_id": theirs["file"]}),
        ("POST", f"/v1/vector_stores/{mine_store}/file_batches", {"file_ids": [mine["file"], theirs["file"]]}),
        ("POST", "/v1/vector_stores", {"name": "mine too", "file_ids": [theirs["file"]]}),
        ("GET", f"/v1/responses/{response}", None), ("DELETE", f"/v1/responses/{response}", None),
        ("GET", f"/v1/responses/{response}?stream=true", None),
        ("GET", f"/v1/responses/{response}/input_items", None), ("POST", f"/v1/responses/{response}/cancel", None),
        chat([real]), chat([theirs["name"]]), chat([mine_store, real]), chat([real, mine_store]),
        chat([real], filters={"type": "eq", "key": "a", "value": "b"}),
        ask([real]), ask([mine_store, real]), ask([mine_store], previous_response_id=theirs["response"]),
        ("POST", "/hob/v1/estimate", {"model": "default", "messages": [{"role": "user", "content": QUESTION}],
                                      "hob_retrieval": {"stores": [real]}}),
        ("POST", "/v1/completions", {"model": "default", "prompt": QUESTION, "max_tokens": 1, "hob_retrieval": {"stores": [real]}}),
        ("POST", "/v1/embeddings", {"model": rng.choice([real, theirs["file"]]), "input": QUESTION}),
        ("GET", f"/v1/models/{store}", None),
        ("POST", rng.choice(["/hob/v1/admin/keys/rotate", "/hob/v1/admin/keys/set", "/hob/v1/admin/store/backup", "/hob/v1/admin/usage"]),
         {"label": "victim", "path": "/tmp/stolen.db"}),
        ("GET", rng.choice(["/hob/v1/admin/keys", "/hob/v1/admin/status"]), None),
    ]


def events(theirs, mine, rng):
    """The same over WebSocket."""
    create = lambda **more: {"type": "response.create", "model": "default", "input": QUESTION, "max_output_tokens": 1, **more}
    tool = lambda *ids: [{"type": "file_search", "vector_store_ids": list(ids), "ranking_options": {"score_threshold": 0}}]
    return [create(tools=tool(theirs["store"])), create(tools=tool(theirs["name"], mine["store"])),
            create(tools=tool(mine["store"]), previous_response_id=theirs["response"]), create(previous_response_id=theirs["response"]),
            {"type": "response.cancel", "response_id": theirs["response"]}]


def test_every_route_is_attempted():
    """Those of documents and responses, as the sources list them; models and stats are nobody's own."""
    theirs = {"store": "vs_1", "file": "file-1", "batch": "vsfb_1", "response": "resp_1", "name": "vault"}
    rng = random.Random(1)
    made = {(m, urllib.parse.urlsplit(p).path) for _ in range(40) for m, p, _ in routes(theirs, theirs, rng)}
    table = re.findall(r'\{"(GET|POST|DELETE)", "(/v1/[^"]+)", HOB_BODY_', (ROOT / "daemon/gateway/documents_http.c").read_text())
    plain = re.findall(r'\{"(/(?:v1|hob)/[^"]+)", HOB_ROUTE_(?!MODELS|STATS)', (ROOT / "daemon/gateway/http.c").read_text())
    table += [("POST", p) for p in plain]
    table += [("GET", "/v1/responses/*"), ("DELETE", "/v1/responses/*"), ("POST", "/v1/responses/*/cancel"),
              ("GET", "/v1/responses/*/input_items"), ("GET", "/v1/models/*")]
    assert len(table) > 25
    own = {("GET", "/v1/vector_stores"), ("GET", "/v1/files")}  # lists: with a cursor here, and of the attacker's own below
    for method, pattern in table:
        form = re.compile(re.escape(pattern).replace(r"\*", "[a-z_-]+1"))
        assert (method, pattern) in own or any(m == method and form.fullmatch(p) for m, p in made), (method, pattern)


def told(body):
    """What an answer says, without what the request itself has said."""
    return re.sub(r'"(message|search_query|queries)":"(\\.|[^"\\])*"', "", body)


def check_refusal(status, body, request):
    assert 400 <= status < 500, (request, status, body[:500])
    assert SECRET not in told(body), (request, body[:500])
    if status == 404:
        error = json.loads(body)["error"]
        assert error["code"] in ("not_found", "unknown_url", "response_not_found", "previous_response_not_found",
                                 "model_not_found"), (request, body)


def attempts(scene, server, count):
    rng = random.Random(count)
    theirs, made = scene["theirs"], 0
    callers = [(Caller(server, key), Socket(server, key), mine) for key, mine in scene["keys"]]
    victim = Caller(server, "hob_victim")
    while made < count:
        for call, send, mine in callers:
            for method, path, body in routes(theirs, mine, rng):
                status, answer = call(method, path, body)
                check_refusal(status, answer, (method, path, body))
                made += 1
            for event in events(theirs, mine, rng):
                check_refusal(*send(event), event)
                made += 1
        # by way of what is the attacker's own
        call, _, mine = callers[0]
        status, answer = call("POST", f"/v1/vector_stores/{mine['store']}/search", {"query": QUESTION, "max_num_results": 50})
        assert status == 200 and SECRET not in told(answer) and theirs["file"] not in answer and mine["file"] in answer
        for path in ("/v1/files", "/v1/vector_stores", f"/v1/vector_stores/{mine['store']}/files"):
            status, answer = call("GET", path)
            assert status == 200 and not any(theirs[k] in answer for k in ("file", "store")), answer
        # the cache: a prompt of the victim's, then the same of the attacker's
        word = "".join(rng.choice("abcdefghij") for _ in range(12))
        prompt = {"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": f"{word} " * 60}]}
        cached = lambda who: json.loads(who("POST", "/v1/chat/completions", prompt)[1])["usage"]["prompt_tokens_details"]["cached_tokens"]
        cached(victim)
        assert cached(victim) > 60 and cached(call) < 32, "the prefix cache is shared"
        made += 5
    for _, send, _ in callers:
        send.connection.close()
    return made


def test_commands(server, scene, hobctl):
    """hobctl with the keys of others; and the admin socket, whose users are no tenants."""
    for key, _ in scene["keys"]:
        env = {"HOB_URL": server.url, "HOB_API_KEY": key, "HOB_CACERT": str(server.ca)}
        for command in (["search", "--store", "vault", QUESTION], ["ask", "--store", "vault", "--max-tokens", "1", QUESTION],
                        ["search", "--store", scene["theirs"]["store"], QUESTION], ["keys", "list"], ["usage"]):
            done = hobctl(*command, env=env, check=False)
            assert done.returncode != 0 and SECRET.encode() not in done.stdout + done.stderr, (command, done)
    for method, path in (("GET", "/v1/files"), ("GET", f"/v1/files/{scene['theirs']['file']}/content"), ("GET", "/v1/vector_stores"),
                         ("POST", f"/v1/vector_stores/{scene['theirs']['store']}/search"), ("GET", "/v1/models"),
                         ("GET", f"/v1/responses/{scene['theirs']['response']}"), ("POST", "/v1/chat/completions")):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(server.ca.parent / "hob.sock"))
            s.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hob_victim\r\nContent-Type: application/json\r\n"
                      f"Content-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
            answer = b"".join(iter(lambda: s.recv(65536), b""))
        assert answer.split()[1] in (b"400", b"404"), answer


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def test_nothing_is_had_of_anothers(server, scene, count):
    before = state(scene["victim"])
    made = attempts(scene, server, count)
    assert state(scene["victim"]) == before
    answer = scene["victim"].chat.completions.create(model="default", max_tokens=1, messages=[{"role": "user", "content": QUESTION}],
                                                     extra_body={"hob_retrieval": {"stores": ["vault"]}})
    assert [a.to_dict()["filename"] for a in answer.choices[0].message.annotations] == ["vault.md"]
    print(f"{made} attempts, none succeeded")
