/* SPDX-License-Identifier: Apache-2.0
 *
 * What all views use: requests, elements, the ways in which numbers are written, the dialogs. Text from the server becomes
 * text nodes only. */

export const $ = id => document.getElementById(id);

export class Refusal extends Error {
  constructor(status, error) {
    super(error?.message ?? `the server answered with status ${status}`);
    this.status = status;
  }
}

/* Told when a request was refused because the session is over. */
export const sessionOver = new EventTarget();

async function refusal(answer) {
  let error = null;
  try { error = (await answer.json()).error; } catch { /* not of hob */ }
  if (answer.status === 401) sessionOver.dispatchEvent(new Event("over"));
  return new Refusal(answer.status, error);
}

/* The header makes sure that no page of another origin can send such a request by our cookie. */
export async function send(method, path, body, options = {}) {
  const headers = { "X-Hob-Console": "1", ...options.headers };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method, headers, signal: options.signal, body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "same-origin", cache: "no-store", redirect: "error",
  });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export async function json(method, path, body, options) {
  return (await send(method, path, body, options)).json();
}

/* A file, as OpenAI's interface takes it. progress(ratio) is called while it is on its way. fetch() tells no progress. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData(), request = new XMLHttpRequest();
    form.append("purpose", "assistants");
    form.append("file", file, file.name);
    request.open("POST", "/v1/files");
    request.setRequestHeader("X-Hob-Console", "1");
    request.responseType = "json";
    request.upload.onprogress = e => { if (e.lengthComputable) progress(e.loaded / e.total); };
    request.onload = () => {
      if (request.status === 200) resolve(request.response);
      else {
        if (request.status === 401) sessionOver.dispatchEvent(new Event("over"));
        reject(new Refusal(request.status, request.response?.error));
      }
    };
    request.onerror = () => reject(new Error("the server cannot be reached"));
    request.send(form);
  });
}

/* Every page of a list. */
export async function list(path) {
  const rows = [];
  for (let after = ""; ;) {
    const page = await json("GET", `${path}?limit=100${after && `&after=${encodeURIComponent(after)}`}`);
    rows.push(...page.data);
    if (!page.has_more || !page.data.length) return rows;
    after = page.last_id;
  }
}

/* element("td", {class: "number"}, "3"): attributes whose value is a function are listeners, null and false are left out. */
export function element(name, attributes = {}, ...children) {
  const svg = ["svg", "rect"].includes(name);
  const e = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (typeof value === "function") e.addEventListener(key, value);
    else if (value !== null && value !== undefined && value !== false) e.setAttribute(key, value === true ? "" : value);
  e.append(...children.filter(c => c !== null && c !== undefined));
  return e;
}

export const cell = (text, kind) => element("td", { class: kind }, text);
export const rowHead = (text, kind) => element("th", { scope: "row", class: kind }, text);

/* The options, [value, text], in place of those that are there; the choice stays where it can. */
export function choices(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => element("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

/* ---- numbers ---- */

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024 || unit === "GiB") return `${n < 10 && unit !== "B" ? n.toFixed(1) : Math.round(n)} ${unit}`;
    n /= 1024;
  }
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const ms = seconds * 1000;
  return ms < 10 ? `${ms.toFixed(2)} ms` : ms < 1000 ? `${Math.round(ms)} ms` : `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
}

export const percent = ratio => `${Math.round(ratio * 100)} %`;
export const time = seconds => seconds ? new Date(seconds * 1000).toLocaleString() : "–";
export const day = seconds => new Date(seconds * 1000).toLocaleDateString();
export const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

/* A bar from `from` to `to`, of 1. The numbers stand beside it. */
export function share(from, to, kind) {
  const width = Math.max(Math.min(to, 1) - from, 0.004);
  return element("svg", { class: "share", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    element("rect", { x: Math.min(from, 0.996) * 100, y: 0, width: width * 100, height: 10, class: kind }));
}

/* ---- telling and asking ---- */

export function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

/* Runs what a person has asked for; what goes wrong is shown. True when it went well. */
export async function attempt(what) {
  notice("");
  try {
    await what();
    return true;
  } catch (e) {
    if (e.name !== "AbortError" && e.status !== 401) notice(`That did not work: ${e.message}`);
    return false;
  }
}

/* Whether a person wants that. */
export function confirmed(question, action) {
  const dialog = $("confirm");
  $("confirm-text").textContent = question;
  $("confirm-yes").textContent = action;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise(resolve =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export function showPassage(title, where, text) {
  $("passage-title").textContent = title;
  $("passage-where").textContent = where;
  $("passage-text").textContent = text;
  $("passage").showModal();
}

/* Calls what() now and again after each `ms`, one at a time, until the returned function is called; not while nobody
 * sees the page. A failure is told once. */
export function repeat(ms, what) {
  let timer = 0, on = true, told = false;
  const turn = async () => {
    try {
      if (!document.hidden) await what();
      if (told) notice("");
      told = false;
    } catch (e) {
      if (on && !told && e.status !== 401) notice(`No news from the server: ${e.message}`);
      told = true;
    }
    if (on) timer = setTimeout(turn, ms);
  };
  turn();
  return () => { on = false; clearTimeout(timer); };
}
