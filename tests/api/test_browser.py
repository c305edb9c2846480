# SPDX-License-Identifier: Apache-2.0
"""The console in a real browser, headless Chromium (packaging/setup/packages browser; packaging/setup/venv browser): each of its pages
does what it is for, without an error on the browser's console and without a violation of its policy; every field has a name,
every text a contrast of 4.5:1 in both schemes, and the tabulator goes through a page in the order in which it is read.
HOB_SCREENSHOTS names a folder for pictures of the pages."""
import contextlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from conftest import limited_server, openai_client, started

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("chromium") or not shutil.which("chromedriver"),
                                                   reason="Chromium is not installed")]
VIEWS = ("chat", "documents", "dashboard", "traces", "keys")
NOTES = """# Boiler room

The Hendrick valve of the boiler opens at 4.2 bar. Mrs Okafor has the key of the boiler room.

# Garden

The hedge is cut in February. The roses by the gate are watered on Tuesdays.
"""
LEAST_CONTRAST = 4.5

# Of each visible text: what it is written in and on, and their contrast by WCAG 2.1.
CONTRASTS = """
function channels(color) {
  const [r, g, b, a] = color.match(/[\\d.]+/g).map(Number);
  return [r, g, b, a === undefined ? 1 : a];
}
function over(top, below) {
  return [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
}
function luminance(color) {
  const [r, g, b] = color.slice(0, 3).map(c => c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function behind(element) {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.push(channels(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
}
function contrast(element) {
  const below = behind(element), text = over(channels(getComputedStyle(element).color), below);
  const [dark, light] = [luminance(text), luminance(below)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const elements = new Set(document.querySelectorAll("input, select, textarea, button"));
while (walker.nextNode()) if (walker.currentNode.data.trim()) elements.add(walker.currentNode.parentElement);
for (const e of elements) if (e.checkVisibility() && !["SCRIPT", "STYLE", "OPTION", "TITLE"].includes(e.tagName))
  found.push([e.outerHTML.slice(0, 100), contrast(e)]);
return found;
"""

# The elements that the tabulator stops at, in the order of the document.
STOPS = """
const active = document.querySelector("dialog[open]") ?? document.body;
return [...active.querySelectorAll("a[href], button, input, select, textarea, [tabindex='0']")]
  .filter(e => !e.disabled && e.checkVisibility() && e.tabIndex >= 0);
"""
FOCUSED = """
const e = document.activeElement, s = getComputedStyle(e);
return [e, s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2];
"""
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", e => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
"""


class Page:
    """The console in one browser."""

    def __init__(self, server):
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--lang=en-GB", "--force-device-scale-factor=1",
                         "--no-proxy-server"):
            options.add_argument(argument)
        options.accept_insecure_certs = True
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        self.server, self.url = server, f"https://localhost:{server.port}/"
        self.look(1100, 800)
        self.driver.get(self.url)

    def look(self, width, height, scheme="light"):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                    {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def __getitem__(self, element):
        return self.driver.find_element(By.ID, element)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def wait(self, what, limit_s=60):
        """Until what() is true; returns that."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            with contextlib.suppress(StaleElementReferenceException):  # it was made anew meanwhile
                if found := what():
                    return found
            time.sleep(0.05)
        self.picture("stuck")
        raise AssertionError(f"waited {limit_s} s: {self['main'].text}\n{self.log()}")

    def write(self, element, text):
        self[element].clear()
        self[element].send_keys(text)

    def log(self):
        """What the browser has to say that is no recommendation, and violations of the policy."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] + \
            self.js("const v = window.violations; window.violations = []; return v")

    def login(self, key=None):
        self.wait(lambda: self["view-login"].is_displayed())
        self.write("login-key", key or self.server.key)
        self["login-key"].submit()
        self.wait(lambda: self["view-chat"].is_displayed())
        self.wait(lambda: self.all("#chat-model option"))

    def go(self, view):
        link = self.driver.find_element(By.CSS_SELECTOR, f'#nav a[href="#{view}"]')
        link.click()
        self.wait(lambda: self[f"view-{view}"].is_displayed())
        assert link.get_attribute("aria-current") == "page"
        time.sleep(0.3)

    def picture(self, name):
        if folder := os.environ.get("HOB_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.driver.save_screenshot(f"{folder}/{name}.png")

    def say(self, text):
        self.write("chat-text", text + Keys.ENTER)

    def answers(self):
        return self.all("#chat-messages li.assistant")

    def answered(self, limit_s=120):
        self.wait(lambda: self["chat-status"].text == "The answer is complete.", limit_s)
        return self.answers()[-1]

    def confirm(self):
        self.wait(lambda: self["confirm"].is_displayed())
        self["confirm-yes"].click()
        self.wait(lambda: not self["confirm"].is_displayed())


@pytest.fixture(scope="module")
def server(tmp_path_factory, var, embedder):
    folder = tmp_path_factory.mktemp("browser")
    with started(limited_server(folder, var, "default_output_tokens = 700;", tenants=("anna",), embedder=embedder,
                                more="traces = { sample_percent = 100; };\n")) as s:
        yield s


@pytest.fixture
def strange(server):
    """Nobody has logged in."""
    page = Page(server)
    yield page
    page.driver.quit()


@pytest.fixture(scope="module")
def admin(server):
    page = Page(server)
    page.login()
    yield page
    page.driver.quit()


@pytest.fixture
def page(admin):
    yield admin
    assert admin.log() == []


# ---- what the checks are worth ----

def test_the_checks_find_what_they_look_for(strange):
    strange.js("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    strange.js("document.body.setAttribute('onclick', '1')")
    strange.js("document.body.append(Object.assign(new Image(), {src: 'https://elsewhere.example/a.png'}))")
    strange.wait(lambda: len(strange.js("return window.violations")) >= 2)
    assert strange.js("return window.ran ?? 0") == 0
    found = " ".join(strange.log())
    assert "script-src" in found and "img-src" in found
    strange.js("document.querySelector('main').append(Object.assign(document.createElement('p'), {id: 'pale', textContent: 'x'}));"
               "document.getElementById('pale').style.cssText = 'color: #777; background: #fff'")
    pale = [c for html, c in strange.js(CONTRASTS) if 'id="pale"' in html]
    assert len(pale) == 1 and 4.4 < pale[0] < LEAST_CONTRAST


# ---- the pages ----

def test_login(strange):
    assert strange.log() == [] and strange["view-login"].is_displayed() and not strange["nav"].is_displayed()
    assert strange.js("return document.activeElement.id") == "login-key"
    strange.picture("login-light")
    strange.write("login-key", "hob_nothing")
    strange["login-key"].submit()
    strange.wait(lambda: strange["notice"].text == "This is no valid API key.")
    assert all("401" in line for line in strange.log())  # the browser's own word on that answer
    strange.login("hob_anna")
    assert [a.text for a in strange.all("#nav a") if a.is_displayed()] == ["Chat", "Documents"]
    assert strange["who"].text == "anna"
    assert strange.js("return document.cookie") == "" and strange.js("return localStorage.length + sessionStorage.length") == 0
    cookie = strange.driver.get_cookie("__Host-hob_session")
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/"
    strange.driver.get(strange.url + "#keys")  # not for this key
    strange.wait(lambda: strange["view-chat"].is_displayed())
    assert not strange["view-keys"].is_displayed()
    strange["logout"].click()
    strange.wait(lambda: strange["view-login"].is_displayed())
    assert strange.driver.get_cookie("__Host-hob_session") is None
    strange.driver.refresh()
    strange.wait(lambda: strange["view-login"].is_displayed())
    assert strange.log() == []


def test_chat_streams_and_stops(page, server):
    page.go("chat")
    page.say("Tell me a long story about a lighthouse keeper and his dog.")
    answer = page.wait(page.answers)[0]
    text = lambda: answer.find_element(By.CLASS_NAME, "text").text  # noqa: E731
    seen = set()
    page.wait(lambda: seen.add(text()) or len(seen) > 5)  # it grows
    assert page["chat-stop"].is_displayed() and not page["chat-again"].is_displayed() and not page["chat-send"].is_enabled()
    page["chat-stop"].click()
    page.wait(lambda: page["chat-status"].text == "Stopped.")
    stopped = text()
    server.wait_metric("hob_requests_cancelled_total", lambda n: n >= 1)
    assert max(seen, key=len) in stopped and text() == stopped and "stopped" in answer.text
    page["chat-new"].click()
    page.say("Say hello.")
    first = page.answered()
    assert "first token after" in first.text and "written" in first.text and "in all" in first.text
    page["chat-again"].click()
    page.wait(lambda: page["chat-status"].text == "hob is answering …" or len(page.answers()) == 1)
    page.answered()
    assert len(page.answers()) == 1 and len(page.all("#chat-messages li.user")) == 1
    page.say("And now goodbye.")
    page.answered()
    assert len(page.answers()) == 2
    page["chat-new"].click()
    assert not page.all("#chat-messages li")


def test_upload_then_a_cited_answer(page, server, tmp_path):
    file = tmp_path / "house <b>notes.md"
    file.write_text(NOTES)
    page.go("documents")
    page.write("store-name", "house")
    page["store-form"].find_element(By.TAG_NAME, "button").click()
    page.wait(lambda: "house is there" in page["documents-status"].text)
    page["upload-files"].send_keys(str(file))
    page.js("window.real = window.fetch; window.fetch = (path, o) => o.method === 'POST' && path.endsWith('/files')"
            " ? Promise.reject(new Error('broken off')) : window.real(path, o)")
    page["upload"].find_element(By.TAG_NAME, "button").click()
    page.wait(lambda: "broken off" in page["notice"].text)
    page.js("window.fetch = window.real")
    with openai_client(server) as c:
        assert not c.files.list().data  # what came into no store is not kept
    page["upload"].find_element(By.TAG_NAME, "button").click()
    row = page.wait(lambda: [r for r in page.all("#files tr") if file.name in r.text and "ready" in r.text])[0]
    assert "1.0 KiB" in row.text or " B" in row.text
    page.write("search-text", "When is the hedge cut?")
    page["search"].find_element(By.TAG_NAME, "button").click()
    found = page.wait(lambda: page.all("#search-results li"))
    assert "February" in found[0].text and "found in" in page["documents-status"].text
    page.picture("documents-light")
    page.go("chat")
    page.wait(lambda: any(o.text == "house" for o in Select(page["chat-store"]).options))
    Select(page["chat-store"]).select_by_visible_text("house")
    page.write("chat-temperature", "0")
    page.say("At which pressure does the Hendrick valve open?")
    answer = page.answered()
    assert "4.2 bar" in answer.find_element(By.CLASS_NAME, "text").text
    source = answer.find_elements(By.CSS_SELECTOR, ".sources button")[0]
    assert source.text.startswith(f"1. {file.name}")  # a name is never markup
    page.picture("chat-light")
    source.click()
    page.wait(lambda: page["passage"].is_displayed())
    assert "opens at 4.2 bar" in page["passage-text"].text and "score" in page["passage-where"].text
    check_focus_order(page)
    page.picture("passage-light")
    page["passage-text"].send_keys(Keys.ESCAPE)
    page.wait(lambda: not page["passage"].is_displayed())
    page.go("documents")
    page.wait(lambda: page.all("#files .danger"))[0].click()
    page["confirm-no"].click()
    assert page.all("#files .danger")
    page.all("#files .danger")[0].click()
    page.confirm()
    page.wait(lambda: "Nothing yet." in page["files"].text)
    page["store-delete"].click()
    page.confirm()
    page.wait(lambda: page["documents-status"].text == "The store is deleted.")


def test_dashboard_moves(page, server):
    over = threading.Event()

    def work():
        with openai_client(server, "hob_anna") as c:
            while not over.is_set():
                c.chat.completions.create(model="default", max_tokens=60, messages=[{"role": "user", "content": "Count to fifty."}])

    page.go("dashboard")
    rates = lambda: float(page.all("#tiles dd")[0].text)  # noqa: E731
    page.wait(lambda: page.all("#engines tr") and page.all("#tiles dd"))
    line = page["chart-tokens"].find_element(By.TAG_NAME, "polyline")
    before = line.get_attribute("points")
    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    try:
        page.wait(lambda: rates() > 0)
        page.wait(lambda: " ms" in page.all("#quantiles tr")[1].text)
        page.wait(lambda: len(line.get_attribute("points").split()) > 4)
        assert line.get_attribute("points") != before
        assert len(page.all("#quantiles tr")) == 4 and any("kv cache" in r.text for r in page.all("#ledger tr"))
        assert "cpu" in page["engines"].text and "embedder" in page["engines"].text and "ready" in page["engines"].text
        Select(page["dashboard-window"]).select_by_visible_text("1 hour")
        page.wait(lambda: len(Select(page["dashboard-series"]).options) > 1)
        Select(page["dashboard-series"]).select_by_index(1)
        page.look(1100, 800, "dark")
        time.sleep(8)  # a line worth a picture
        page.picture("dashboard-dark")
        page.look(1100, 800)
        page["dashboard-pause"].click()
        time.sleep(0.5)
        still = page["tiles"].text
        time.sleep(2.5)
        assert page["tiles"].text == still and page["dashboard-pause"].get_attribute("aria-pressed") == "true"
        page["dashboard-pause"].click()
        page.wait(lambda: page["tiles"].text != still)
    finally:
        over.set()
        for t in threads:
            t.join()


def test_traces(page, server):
    with openai_client(server, "hob_anna") as c:
        answer = c.chat.completions.create(model="default", max_tokens=8, messages=[{"role": "user", "content": "Count."}])
    page.go("traces")
    page.wait(lambda: page.all("#traces tr"))
    page.write("trace-id", answer.id)
    page["trace-find"].find_element(By.TAG_NAME, "button").click()
    page.wait(lambda: page["waterfall"].is_displayed())
    assert answer.id in page["waterfall-facts"].text and "anna" in page["waterfall-facts"].text
    stages = [r.find_element(By.TAG_NAME, "th").text for r in page.all("#spans tr")]
    assert {"auth", "queue", "prefill", "decode"} <= set(stages), stages
    bars = [(float(r.get_attribute("x")), float(r.get_attribute("width"))) for r in page.all("#spans rect:not(.part)")]
    assert all(0 <= x <= 100 and 0 < w <= 100 for x, w in bars) and bars == sorted(bars)
    assert 95 <= sum(w for _, w in bars) <= 105, bars  # the stages are the whole request
    page.look(390, 844)
    page.js("document.getElementById('waterfall').scrollIntoView()")
    page.picture("traces-phone")
    page.look(1100, 800)
    page.all("#traces button")[-1].click()
    page.wait(lambda: answer.id not in page["waterfall-facts"].text)


def button(page, name):
    return page.driver.find_element(By.CSS_SELECTOR, f'[aria-label="{name}"]')


def change_limits_and_rotate(page, server, key):
    """Of otto, by keyboard alone where a dialog is open. Returns the new text."""
    import openai
    button(page, "Limits of otto").send_keys(Keys.ENTER)
    page.wait(lambda: page["limits"].is_displayed())
    assert page["limits-title"].text == "Limits of otto" and page["edit-tokens_per_day"].get_attribute("value") == "5000"
    assert page.js("return document.activeElement.id") == "edit-requests_per_minute"
    check_focus_order(page)
    assert all(e.accessible_name.strip() for e in page.all("#limits, #limits input, #limits button"))
    for scheme in ("light", "dark"):
        page.look(390, 844, scheme)
        check_contrast(page, f"limits {scheme}")
    page.look(1100, 800)
    page.write("edit-requests_per_minute", "99999999999" + Keys.ENTER)  # too many: it is said, and nothing is lost
    page.wait(lambda: "limits.requests_per_minute" in page["limits-error"].text)
    assert all("400" in line for line in page.log()) and page["edit-tokens_per_day"].get_attribute("value") == "5000"
    page["limits-cancel"].send_keys(Keys.ENTER)
    page.wait(lambda: not page["limits"].is_displayed())
    assert page.js("return document.activeElement.getAttribute('aria-label')") == "Limits of otto"
    button(page, "Limits of otto").send_keys(Keys.ENTER)
    assert page["edit-requests_per_minute"].get_attribute("value") == "" and page["limits-error"].text == ""
    page["edit-tokens_per_day"].clear()
    page.write("edit-concurrent_requests", "3")
    page.write("edit-tokens_per_minute", "0")
    page.write("edit-requests_per_minute", "1" + Keys.ENTER)
    page.wait(lambda: page["keys-status"].text == "The limits of otto are changed.")
    row = page.wait(lambda: [r for r in page.all("#keys tr") if r.text.startswith("otto ")])[0]
    wanted = "requests per minute: 1, tokens per minute: no limit, concurrent requests: 3"
    assert wanted in row.text and "tokens per day" not in row.text
    page.wait(lambda: page.js("return document.activeElement.getAttribute('aria-label')") == "Limits of otto")
    with openai_client(server, key) as c:
        ask = lambda: c.chat.completions.create(model="default", max_tokens=1, messages=[{"role": "user", "content": "Hi"}])  # noqa: E731
        ask()
        with pytest.raises(openai.RateLimitError):
            ask()
    button(page, "Rotate otto").send_keys(Keys.ENTER)
    page.confirm()
    page.wait(lambda: page["made"].is_displayed())
    new = page["made-key"].get_attribute("value")
    assert new.startswith("hob_") and new != key and page["made-title"].text == "The key of otto"
    with openai_client(server, new) as c:
        assert c.models.list().data
    with openai_client(server, key) as c, pytest.raises(openai.AuthenticationError):
        c.models.list()
    page["made-close"].click()
    return new


def test_an_administrator_adds_and_revokes_a_key(page, server):
    page.go("keys")
    page.wait(lambda: page.all("#keys tr"))
    page.write("key-label", "otto")
    page.write("key-days", "30")
    page.write("limit-tokens_per_day", "5000")
    page["key-form"].submit()
    page.wait(lambda: page["made"].is_displayed())
    key = page["made-key"].get_attribute("value")
    assert key.startswith("hob_") and page["made-title"].text == "The key of otto"
    row = page.wait(lambda: [r for r in page.all("#keys tr") if r.text.startswith("otto ")])[0]
    assert "tokens per day: 5000" in row.text and "never" not in row.text.split("default")[0]
    page.picture("keys-light")
    with openai_client(server, key) as c:
        assert c.models.list().data
    page["made-close"].click()
    assert not page["made"].is_displayed() and page["made-key"].get_attribute("value") == ""
    key = change_limits_and_rotate(page, server, key)
    page.driver.find_element(By.CSS_SELECTOR, '[aria-label="Revoke otto"]').click()
    page.confirm()
    page.wait(lambda: not any(r.text.startswith("otto ") for r in page.all("#keys tr")))
    import openai
    with openai_client(server, key) as c, pytest.raises(openai.AuthenticationError):
        c.models.list()
    page.write("key-label", "anna")  # is taken: what goes wrong is said
    page["key-form"].submit()
    page.wait(lambda: "anna" in page["notice"].text)
    assert all("400" in line for line in page.log())
    page["key-form"].find_element(By.ID, "key-label").clear()


def test_a_session_that_is_over(strange, server):
    strange.login("hob_anna")
    strange.driver.delete_all_cookies()
    strange.driver.find_element(By.CSS_SELECTOR, '#nav a[href="#documents"]').click()
    strange.wait(lambda: strange["view-login"].is_displayed())
    assert strange["notice"].text == "Your session is over. Log in again."


# ---- for everybody ----

def check_names(page):
    for e in page.all("input, select, textarea, button, a, progress, [role=img], [role=region], dialog, table, nav"):
        if e.is_displayed():
            assert e.accessible_name.strip(), e.get_attribute("outerHTML")[:200]
    for e in page.all("input, select, textarea"):
        if e.is_displayed():
            assert e.get_attribute("id") and page.all(f'label[for="{e.get_attribute("id")}"]'), e.get_attribute("outerHTML")[:200]
    assert page.js("return document.querySelectorAll('h1').length") == 1
    ids = page.js("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def check_contrast(page, where):
    found = page.js(CONTRASTS)
    assert len(found) > 5
    assert not [(html, round(c, 2)) for html, c in found if c < LEAST_CONTRAST], where


def check_focus_order(page):
    """The tabulator stops at each element once, in the order of the document, and shows where it is."""
    stops, seen = page.js(STOPS), []
    if page.js("return document.querySelector('dialog[open]') !== null"):
        seen.append(page.js(FOCUSED)[0])  # a dialog has the focus when it opens
    else:
        page.js("const b = document.body; b.tabIndex = -1; b.focus(); b.removeAttribute('tabindex'); scrollTo(0, 0)")
    while len(seen) < len(stops):
        webdriver.ActionChains(page.driver).send_keys(Keys.TAB).perform()
        e, outlined = page.js(FOCUSED)
        assert outlined, e.get_attribute("outerHTML")[:200]
        seen.append(e)
    describe = lambda list_: [e.get_attribute("id") or e.get_attribute("outerHTML")[:60] for e in list_]  # noqa: E731
    assert describe(seen) == describe(stops)


@pytest.mark.parametrize("view", VIEWS)
def test_everybody_can_use_it(page, view):
    page.go(view)
    page.wait(lambda: view != "dashboard" or page.all("#engines tr"))
    if view == "dashboard" and page["dashboard-pause"].get_attribute("aria-pressed") == "false":
        page["dashboard-pause"].click()  # nothing moves under the tabulator
    if view == "chat":
        page.say("Hello.")
        page.answered()
    check_names(page)
    for name, width, height, scheme in (("light", 1100, 800, "light"), ("dark", 1100, 800, "dark"), ("phone", 390, 844, "light"),
                                        ("phone-dark", 390, 844, "dark")):
        page.look(width, height, scheme)
        time.sleep(0.3)
        check_contrast(page, f"{view} {name}")
        page.js("scrollTo(0, 0)")
        page.picture(f"{view}-{name}-plain")
        assert page.js("return document.documentElement.scrollWidth") <= width, name  # nothing sticks out
    page.look(1100, 800)
    page.driver.refresh()  # where one begins
    page.wait(lambda: page[f"view-{view}"].is_displayed())
    page.wait(lambda: view != "dashboard" or page.all("#engines tr"))
    time.sleep(1)
    if view == "dashboard":
        page["dashboard-pause"].click()
    check_focus_order(page)


def test_login_for_everybody(strange):
    for scheme in ("light", "dark"):
        strange.look(390, 844, scheme)
        check_contrast(strange, scheme)
        strange.picture(f"login-phone-{scheme}")
    check_names(strange)
    check_focus_order(strange)
