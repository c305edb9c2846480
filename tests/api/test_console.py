# SPDX-License-Identifier: Apache-2.0
"""The console's files and sessions, over HTTP as a browser speaks it: what each file comes with, login and its limits, the cookie,
requests that another site has forged, what ends a session, and what a session may do."""
import http.client
import json
import re
import signal
import ssl
import time
from http.cookies import SimpleCookie

import pytest
from conftest import ROOT, started
from office import Office
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wire import chat, events

CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; form-action 'self'; "
       "frame-ancestors 'none'; base-uri 'none'")
FILES = {"/": "text/html", **{f"/console/{p.name}": kind for kind, pattern in (
    ("text/javascript", "*.js"), ("text/css", "*.css"), ("image/svg+xml", "*.svg"))
    for p in (ROOT / "daemon/console").glob(pattern)}}


class Browser:
    """One origin's cookies, and the headers that the console's pages send."""

    def __init__(self, server):
        self.server, self.cookies = server, {}
        self.origin = f"{'https' if server.ca else 'http'}://localhost:{server.port}"

    def send(self, method, path, body=None, key=None, **headers):
        """Status, headers and body. A header whose value is None is left out."""
        known = {"Host": f"localhost:{self.server.port}", "X-Hob-Console": "1", "Origin": self.origin if method != "GET" else None,
                 "Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()) or None,
                 "Authorization": f"Bearer {key}" if key else None,
                 "Content-Type": "application/json" if body is not None else None}
        known.update({k.replace("_", "-"): v for k, v in headers.items()})
        kind = http.client.HTTPSConnection if self.server.ca else http.client.HTTPConnection
        more = {"context": ssl.create_default_context(cafile=str(self.server.ca))} if self.server.ca else {}
        c = kind("127.0.0.1", self.server.port, timeout=60, **more)
        try:
            data = b"" if method == "POST" and body is None else json.dumps(body).encode() if body is not None else None
            c.request(method, path, data, {k: v for k, v in known.items() if v is not None})
            answer = c.getresponse()
            for text in answer.headers.get_all("set-cookie", []):
                for name, morsel in SimpleCookie(text).items():
                    self.cookies.pop(name, None)
                    if morsel["max-age"] != "0":
                        self.cookies[name] = morsel.value
            return answer.status, answer.headers, answer.read()
        finally:
            c.close()

    def login(self, key, **headers):
        return self.send("POST", "/hob/v1/console/login", key=key, **headers)

    def session(self):
        status, _, body = self.send("GET", "/hob/v1/console/session")
        assert status == 200, body
        return json.loads(body)

    def models(self):
        """The status: whether the session is good."""
        return self.send("GET", "/v1/models")[0]


def logged_in(server, key):
    browser = Browser(server)
    status, _, body = browser.login(key)
    assert status == 200, body
    return browser


def code_of(answer):
    return answer[0], json.loads(answer[2])["error"]["code"]


@pytest.fixture(scope="module")
def office(tmp_path_factory, model, hobctl):
    office = Office(tmp_path_factory.mktemp("console") / "var", model, hobctl,
                    "limits = { auth_failures_per_minute = 0; handshakes_per_s = 0; };\n"
                    'cors_origins = ( "https://elsewhere.example" );\nconsole = { session_s = 600; session_idle_s = 500; };\n')
    with started(office.server):
        yield office


@pytest.fixture(scope="module")
def brief(tmp_path_factory, model, hobctl):
    """Its sessions are short."""
    office = Office(tmp_path_factory.mktemp("brief") / "var", model, hobctl,
                    "console = { session_s = 2; session_idle_s = 1; };\nlimits = { auth_failures_per_minute = 6; };\n")
    with started(office.server):
        yield office


# ---- files ----

def test_files(office):
    assert len(FILES) >= 10
    browser, tags = Browser(office.server), {}
    for path, kind in FILES.items():
        status, headers, body = browser.send("GET", path)
        assert status == 200 and headers["content-type"].startswith(kind), path
        assert headers["content-security-policy"] == CSP and headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-cache" and "set-cookie" not in headers
        name = "index.html" if path == "/" else path.rsplit("/", 1)[1]
        assert body == (ROOT / "daemon/console" / name).read_bytes()
        tags[path] = headers["etag"]
        status, headers, body = browser.send("GET", path, If_None_Match=f'"other", {tags[path]}')
        assert status == 304 and body == b"" and headers["etag"] == tags[path] and "content-length" not in headers
        assert browser.send("GET", path, If_None_Match='"0123456789abcdef"')[0] == 200
    assert len(set(tags.values())) == len(tags)
    assert code_of(browser.send("POST", "/"))[0] == 405
    assert browser.send("GET", "/console/../hob.conf")[0] == browser.send("GET", "/console/none.js")[0] == 401


def test_files_are_whole_without_others():
    """Nothing inline, which the policy would refuse, and nothing from another place."""
    for p in (ROOT / "daemon/console").iterdir():
        text = p.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), p
        if p.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", text), p
            for path in re.findall(r'(?:src|href)="(/[^"]*)"', text):
                assert path in FILES, path
        if p.suffix == ".js":
            assert not re.search(r"\binnerHTML\b|\bouterHTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function", text), p
            for path in re.findall(r'from "(/[^"]*)"', text):
                assert path in FILES, path


# ---- login ----

def test_login_and_logout(office):
    key = office.add("anna")
    browser = Browser(office.server)
    before = browser.session()
    assert before["needs_key"] and before["key"] is None and before["views"] == []
    assert browser.models() == 401
    status, headers, body = browser.login(key)
    assert status == 200 and key not in body.decode() and headers["cache-control"] == "no-store"
    name, rest = headers["set-cookie"].split("=", 1)
    value, *attributes = rest.split("; ")
    assert name == "__Host-hob_session" and re.fullmatch("[0-9a-f]{64}", value) and value not in body.decode()
    assert set(attributes) == {"Path=/", "Max-Age=600", "HttpOnly", "SameSite=Strict", "Secure"}
    after = browser.session()
    assert after["key"] == {"label": "anna", "tenant": "anna", "role": "user"} and not after["needs_key"] and after["session"]
    assert after["views"] == ["chat", "documents"]
    assert browser.models() == 200
    again = logged_in(office.server, key)
    assert again.cookies != browser.cookies
    old = dict(browser.cookies)
    status, headers, _ = browser.send("POST", "/hob/v1/console/logout")
    assert status == 200 and "Max-Age=0" in headers["set-cookie"] and not browser.cookies
    browser.cookies = old
    assert browser.models() == 401 and again.models() == 200


def test_bad_logins(office):
    browser = Browser(office.server)
    for key in ("hob_" + "x" * 43, "nonsense"):
        assert code_of(browser.login(key)) == (401, "invalid_api_key") and not browser.cookies
    assert code_of(browser.login(None)) == (401, "invalid_api_key")
    for value in ("0" * 64, "0" * 63, "", "x" * 5000):
        browser.cookies = {"__Host-hob_session": value}
        assert browser.models() == 401 and browser.session()["needs_key"]
    assert code_of(browser.send("GET", "/hob/v1/console/login"))[0] in (401, 405)
    # A cookie whose name only ends like ours, as another host of the domain can set it.
    good = logged_in(office.server, office.server.key)
    good.cookies = {"x__Host-hob_session": good.cookies["__Host-hob_session"]}
    assert good.models() == 401
    good.cookies = {"a": "b", "__Host-hob_session": good.cookies["x__Host-hob_session"], "c": "d"}
    assert good.models() == 200


def test_logins_are_limited(brief):
    browser = Browser(brief.server)
    statuses = [browser.login("hob_" + "x" * 43)[0] for _ in range(9)]
    assert statuses == sorted(statuses) and {401, 429} == set(statuses)
    assert browser.login(brief.server.key)[0] == 200  # others may sit behind the same address
    assert browser.models() == 200


# ---- forged requests ----

def test_forged_requests(office):
    browser = logged_in(office.server, office.server.key)
    foreign = "not_from_the_console"
    for method, path, body in (("POST", "/v1/vector_stores", {"name": "forged"}), ("GET", "/v1/models", None),
                               ("POST", "/hob/v1/console/logout", None), ("DELETE", "/v1/vector_stores/vs_0", None),
                               ("POST", "/hob/v1/admin/keys/add", {"label": "forged"})):
        assert code_of(browser.send(method, path, body, X_Hob_Console=None)) == (403, foreign), path
        assert code_of(browser.send(method, path, body, Origin="https://evil.example")) == (403, "forbidden_origin"), path
        assert code_of(browser.send(method, path, body, Origin="null")) == (403, "forbidden_origin"), path
        # The same host at another port is the same site, but not the same origin.
        assert code_of(browser.send(method, path, body, Origin=f"https://localhost:{office.server.port + 1}"))[0] == 403, path
        # One that may use the interface with keys of its own may not use its visitors' sessions.
        assert code_of(browser.send(method, path, body, Origin="https://elsewhere.example")) == (403, foreign), path
        if method != "GET":
            assert code_of(browser.send(method, path, body, Origin=None)) == (403, foreign), path
    assert browser.models() == 200
    assert browser.send("GET", "/v1/models", Origin=browser.origin)[0] == 200
    other = Browser(office.server)  # nor does anybody log somebody in from another page
    for headers in ({"X_Hob_Console": None}, {"Origin": None}, {"Origin": "https://elsewhere.example"}):
        assert code_of(other.login(office.server.key, **headers)) == (403, foreign)
    status, headers, _ = other.send("OPTIONS", "/v1/models", Origin="https://elsewhere.example", Access_Control_Request_Method="GET")
    assert status == 200 and "access-control-allow-credentials" not in headers
    assert "forged" not in office.keys()


# ---- what ends a session ----

def test_a_session_ends_with_its_key(office):
    keys = {name: office.add(name) for name in ("bert", "carl", "dora")}
    browsers = {name: logged_in(office.server, key) for name, key in keys.items()}
    late = logged_in(office.server, keys["carl"])
    office.hobctl("keys", "revoke", "bert")
    office.hobctl("keys", "rotate", "carl")
    office.hobctl("keys", "rotate", "dora", "--grace", "1000")
    assert [browsers[n].models() for n in ("bert", "carl", "dora")] == [401, 401, 200]
    assert late.models() == 401 and browsers["bert"].session()["needs_key"]
    assert browsers["dora"].session()["key"]["label"] == "dora"
    admin = Browser(office.server)
    admin.login(office.server.key)
    status, _, body = admin.send("POST", "/hob/v1/admin/keys/add", {"label": "emil", "expires": int(time.time()) + 2})
    assert status == 200, body
    emil = logged_in(office.server, json.loads(body)["key"])
    assert emil.models() == 200
    time.sleep(2.1)
    assert emil.models() == 401


def test_a_session_ends_with_its_time(brief):
    idle, used = logged_in(brief.server, brief.server.key), logged_in(brief.server, brief.server.key)
    end, seen = time.monotonic() + 2.1, []
    while time.monotonic() < end:
        seen.append(used.models())
        time.sleep(0.2)
    assert idle.models() in (401, 429) and used.models() in (401, 429)
    assert seen[:5] == [200] * 5, seen  # used all the time


def test_sessions_are_bounded(office):
    key, other = office.add("fritz"), office.add("gerda")
    guest = logged_in(office.server, other)
    browsers = [logged_in(office.server, key) for _ in range(17)]
    assert [b.models() for b in browsers] == [401] + [200] * 16 and guest.models() == 200
    assert office.server.metric("hob_console_sessions") >= 17


# ---- what a session may do ----

def test_a_session_is_its_key(office):
    key = office.add("hans", "--models", "none", "--class", "batch")
    browser = logged_in(office.server, key)
    status, _, body = browser.send("GET", "/v1/models")
    assert status == 200 and json.loads(body)["data"] == []
    assert code_of(browser.send("POST", "/v1/chat/completions", chat("Hello.")))[1] == "model_not_allowed"
    limited = office.add("ida", "--requests-per-minute", "1")
    browser = logged_in(office.server, limited)
    status, headers, body = browser.send("POST", "/v1/chat/completions", chat("Count.", stream=True, max_tokens=4))
    assert status == 200 and headers["x-ratelimit-limit-requests"] == "1"
    assert events(body)[-1] == "[DONE]"
    answer = browser.send("POST", "/v1/chat/completions", chat("Count."))
    assert code_of(answer) == (429, "rate_limit_exceeded")
    assert code_of((*office.chat(limited)[:2], json.dumps(office.chat(limited)[2])))[0] == 429  # the same minute as the key's
    assert {u["label"]: u["requests"] for u in office.usage("--key", "ida")}["ida"] >= 1


def test_a_session_is_for_the_console(office):
    browser = logged_in(office.server, office.server.key)
    for method, path, body in (("POST", "/v1/embeddings", {"model": "default", "input": "a"}),
                               ("POST", "/v1/responses", {"model": "default", "input": "a"}),
                               ("POST", "/v1/completions", {"model": "default", "prompt": "a"}),
                               ("POST", "/hob/v1/admin/models/unload", {"model": "default"}),
                               ("POST", "/hob/v1/admin/store/backup", {"path": "/tmp/none"}),
                               ("GET", "/hob/v1/admin/log", None), ("GET", "/hob/v1/admin/audit", None),
                               ("GET", "/v1/files/file_0/content", None)):
        assert code_of(browser.send(method, path, body)) == (403, "not_for_sessions"), path
        assert browser.send(method, path, body, key="hob_" + "x" * 43)[0] == 401, path  # and a key's text comes first
    cookie = "; ".join(f"{k}={v}" for k, v in browser.cookies.items())
    with pytest.raises(InvalidStatus) as refusal:
        connect(f"wss://localhost:{office.server.port}/v1/responses", ssl=office.server.context,
                additional_headers={"Cookie": cookie, "X-Hob-Console": "1", "Origin": browser.origin})
    assert refusal.value.response.status_code == 401


def test_roles(office):
    user, admin = logged_in(office.server, office.add("julia")), logged_in(office.server, office.server.key)
    assert admin.session()["views"] == ["chat", "documents", "dashboard", "traces", "keys"]
    for path in ("/hob/v1/traces", "/hob/v1/admin/keys", "/hob/v1/admin/status"):
        assert code_of(user.send("GET", path)) == (404, "unknown_url"), path
        assert admin.send("GET", path)[0] == 200, path
    assert code_of(user.send("POST", "/hob/v1/admin/keys/add", {"label": "kurt"}))[0] == 404
    status, _, body = admin.send("POST", "/hob/v1/admin/keys/add", {"label": "kurt", "limits": {"tokens_per_day": 1000}})
    made = json.loads(body)
    assert status == 200 and made["limits"]["tokens_per_day"] == 1000
    kurt = logged_in(office.server, made["key"])
    assert kurt.models() == 200
    assert admin.send("POST", "/hob/v1/admin/keys/revoke", {"key": "kurt"})[0] == 200
    assert kurt.models() == 401
    office.hobctl("keys", "set", "julia", "--role", "admin")  # it is the key's role of now
    assert user.send("GET", "/hob/v1/traces")[0] == 200 and "traces" in user.session()["views"]
    acts = json.loads(office.hobctl("audit", "--json").stdout)["data"]
    assert any(a["who"] == "key:first" and a["act"] == "keys/add" and a["object"].startswith("kurt") for a in acts)


# ---- without ----

def test_off(brief):
    browser = logged_in(brief.server, brief.server.key)
    conf = brief.folder / "hob.conf"
    conf.write_text(conf.read_text().replace("console = {", "console = { enabled = false;"))
    brief.server.process.send_signal(signal.SIGHUP)
    brief.server.wait_metric("hob_reloads_total", lambda n: n == 1)
    for path in ("/", "/console/main.js", "/hob/v1/console/session"):
        assert browser.send("GET", path)[0] in (401, 429)
        assert code_of(browser.send("GET", path, key=brief.server.key)) == (404, "unknown_url")
    assert browser.models() in (401, 429)
    assert code_of(browser.login(brief.server.key)) == (404, "unknown_url")
    assert browser.send("GET", "/v1/models", key=brief.server.key)[0] == 200


def test_dev_needs_no_login(dev):
    browser = Browser(dev)
    assert browser.send("GET", "/")[0] == 200
    session = browser.session()
    assert session["needs_key"] is False and session["key"] is None and session["views"] == ["chat", "dashboard"]
    assert browser.send("POST", "/v1/chat/completions", chat("Count.", max_tokens=2))[0] == 200
    status, headers, _ = browser.send("POST", "/hob/v1/console/login")
    assert status == 200 and "set-cookie" not in headers
    assert browser.send("POST", "/v1/chat/completions", chat("Count."), Origin="https://evil.example")[0] == 403
