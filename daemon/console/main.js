/* SPDX-License-Identifier: Apache-2.0
 *
 * Who it is and which view is shown. The server says what there is for this key; the address's fragment says which of them. */
import { $, attempt, json, notice, send, sessionOver } from "/console/common.js";
import * as chat from "/console/chat.js";
import * as documents from "/console/documents.js";
import * as dashboard from "/console/dashboard.js";
import * as traces from "/console/traces.js";
import * as keys from "/console/keys.js";

/* show(session) is called each time a view comes to the front, hide() when it leaves it, forget() when somebody else may come. */
const views = { chat, documents, dashboard, traces, keys };
let session = null, current = null;

function showSection(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== `view-${name}`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = $(`${name}-title`);
  document.title = `${title.textContent} – hob`;
  return title;
}

function leave() {
  if (current) views[current].hide?.();
  current = null;
}

/* byPerson: the focus follows, so that a screen reader says where one is. */
function go(byPerson) {
  const wanted = location.hash.slice(1);
  const name = session.views.includes(wanted) ? wanted : session.views[0];
  leave();
  notice("");
  const title = showSection(name);
  current = name;
  if (byPerson) title.focus();
  views[name].show(session);
}

function askForKey(why) {
  leave();
  for (const view of Object.values(views)) view.forget?.();
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  session = null;
  $("nav").hidden = $("who").hidden = $("logout").hidden = true;
  notice(why);
  showSection("login");
  $("login-key").value = "";
  $("login-key").focus();
}

function begin(answer) {
  session = answer;
  if (session.needs_key) {
    askForKey("");
    return;
  }
  for (const link of document.querySelectorAll("#nav a")) link.hidden = !session.views.includes(link.hash.slice(1));
  $("nav").hidden = false;
  $("who").hidden = !session.key;
  $("who").textContent = session.key ? `${session.key.label}${session.key.role === "admin" ? " (admin)" : ""}` : "";
  $("logout").hidden = !session.session;
  go(false);
}

$("login").addEventListener("submit", async event => {
  event.preventDefault();
  const key = $("login-key").value.trim();
  await attempt(async () => {
    if (!/^[\x21-\x7e]+$/.test(key)) throw new Error("an API key has no blanks and no letters beyond ASCII");
    try {
      begin(await json("POST", "/hob/v1/console/login", undefined, { headers: { Authorization: `Bearer ${key}` } }));
    } catch (e) {
      if (e.status === 401) notice("This is no valid API key.");
      throw e;
    }
  });
  $("login-key").value = "";
});

$("logout").addEventListener("click", () => attempt(async () => {
  await send("POST", "/hob/v1/console/logout");
  askForKey("");
}));

$("skip").addEventListener("click", event => {
  event.preventDefault();
  $("main").focus();
});

sessionOver.addEventListener("over", () => {
  if (session) askForKey("Your session is over. Log in again.");
});
addEventListener("hashchange", () => { if (session) go(true); });

attempt(async () => begin(await json("GET", "/hob/v1/console/session")));
