# SPDX-License-Identifier: Apache-2.0
"""What is one tenant's is nobody else's: attempts on the files, stores, batches, responses and cached prompts of another tenant, over
every route, with ids that exist, with such that look like them, and by way of answers. A key that is confined to some
collections of its own tenant is an attacker as well. None succeeds, nothing of the victim's changes, and no answer says more
than that there is nothing.

The short form makes some hundred attempts; the long one, marked slow, 10,000."""
import http.client
import json
import random
import re
import urllib.parse

import pytest

from conftest import limited_server, openai_client, started

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


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    with started(limited_server(tmp_path_factory.mktemp("isolation"), var, "",
                                tenants=("victim", "attacker"), embedder=embedder)) as s:
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
        ("GET", f"/v1/files?after={file}", None),
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
    ]


def told(body):
    """What an answer says, without what the request itself has said."""
    return re.sub(r'"(message|search_query|queries)":"(\\.|[^"\\])*"', "", body)


def check_refusal(status, body, request):
    assert 400 <= status < 500, (request, status, body[:500])
    assert SECRET not in told(body), (request, body[:500])
    if status == 404:
        error = json.loads(body)["error"]
        assert error["code"] in ("not_found", "unknown_url", "response_not_found", "previous_response_not_found"), (request, body)


def attempts(scene, server, count):
    rng = random.Random(count)
    theirs, made = scene["theirs"], 0
    callers = [(Caller(server, key), mine) for key, mine in scene["keys"]]
    victim = Caller(server, "hob_victim")
    while made < count:
        for call, mine in callers:
            for method, path, body in routes(theirs, mine, rng):
                status, answer = call(method, path, body)
                check_refusal(status, answer, (method, path, body))
                made += 1
        # by way of what is the attacker's own
        call, mine = callers[0]
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
    return made


@pytest.mark.parametrize("count", [SHORT, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"])
def test_nothing_is_had_of_anothers(server, scene, count):
    before = state(scene["victim"])
    made = attempts(scene, server, count)
    assert state(scene["victim"]) == before
    answer = scene["victim"].chat.completions.create(model="default", max_tokens=1, messages=[{"role": "user", "content": QUESTION}],
                                                     extra_body={"hob_retrieval": {"stores": ["vault"]}})
    assert [a.to_dict()["filename"] for a in answer.choices[0].message.annotations] == ["vault.md"]
    print(f"{made} attempts, none succeeded")
