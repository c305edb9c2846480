/* SPDX-License-Identifier: Apache-2.0
 *
 * A conversation, kept in this page only. An answer comes as server-sent events; what it was made from comes with its end. */
import { $, attempt, choices, duration, element, json, list, notice, plural, send, showPassage } from "/console/common.js";

let messages = [];    /* {role, content} and, of an answer, its element */
let running = null;   /* AbortController of the answer that is coming */

function status(text) {
  $("chat-status").textContent = text;
}

function buttons() {
  const last = messages.at(-1);
  $("chat-send").disabled = running !== null;
  $("chat-stop").hidden = running === null;
  $("chat-again").hidden = running !== null || last?.role !== "assistant";
}

function add(role, content) {
  const text = element("p", { class: "text" }, content);
  const item = element("li", { class: role }, element("p", { class: "speaker" }, role === "user" ? "You" : "hob"), text);
  $("chat-messages").append(item);
  const message = { role, content, item, text };
  messages.push(message);
  return message;
}

/* ---- sources ---- */

/* The bytes from first to end of a file's text, which comes in pages of parts. Each says which bytes it has; before them may
 * stand white space, of which the text had more. */
async function passage(store, source) {
  const path = `/v1/vector_stores/${encodeURIComponent(store)}/files/${encodeURIComponent(source.file_id)}/content`;
  const decoder = new TextDecoder();
  let text = "", end = 0;
  for (let page = null; end < source.hob_end_byte;) {
    const answer = await json("GET", page === null ? path : `${path}?page=${encodeURIComponent(page)}`);
    for (const part of answer.data) {
      end = part.hob_end_byte;
      if (end <= source.hob_first_byte || part.hob_first_byte >= source.hob_end_byte) continue;
      const bytes = new TextEncoder().encode(part.text), space = bytes.length - (end - part.hob_first_byte);
      const from = text ? 0 : space + Math.max(0, source.hob_first_byte - part.hob_first_byte);
      text += decoder.decode(bytes.subarray(from, space + source.hob_end_byte - part.hob_first_byte));
    }
    if (!answer.has_more) break;
    page = answer.next_page;
  }
  return text;
}

function addSources(item, store, sources) {
  const links = sources.map((source, i) => element("li", {}, element("button", {
    type: "button", class: "link",
    click: () => attempt(async () => showPassage(source.filename, `${source.hob_heading || "Text"}, bytes ` +
      `${source.hob_first_byte} to ${source.hob_end_byte}, score ${source.hob_score.toFixed(2)}`, await passage(store, source))),
  }, `${i + 1}. ${source.filename}${source.hob_heading ? ` – ${source.hob_heading}` : ""}`)));
  item.append(element("p", { class: "speaker" }, "Made from:"), element("ol", { class: "sources" }, ...links));
}

/* ---- an answer ---- */

/* Calls take(object) for the data of each event. */
async function events(answer, take) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const frame = text.slice(0, end);
      if (frame.startsWith("data: ") && frame !== "data: [DONE]") take(JSON.parse(frame.slice(6)));
    }
  }
}

/* What a person reads below an answer. */
function facts(times, usage, finish, retrieval) {
  const lines = [];
  if (times.first) lines.push(`first token after ${duration((times.first - times.sent) / 1000)}`);
  if (usage) {
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
    lines.push(`${plural(usage.prompt_tokens, "token")} read${cached ? ` (${cached} from the cache)` : ""}`,
      `${plural(usage.completion_tokens, "token")} written`);
    if (usage.completion_tokens > 1 && times.last > times.first)
      lines.push(`${((usage.completion_tokens - 1) * 1000 / (times.last - times.first)).toFixed(1)} tokens/s`);
  }
  lines.push(`${duration((performance.now() - times.sent) / 1000)} in all`);
  if (finish === "length") lines.push("cut off at the limit of tokens");
  if (finish === "stopped") lines.push("stopped");
  if (retrieval && retrieval.status !== "completed") lines.push(`documents: ${retrieval.status}`);
  else if (retrieval?.chunks === 0) lines.push("nothing in the documents is about this");
  return lines.join(" · ");
}

async function answer() {
  const store = $("chat-store").value;
  const body = {
    model: $("chat-model").value, temperature: $("chat-temperature").valueAsNumber,
    stream: true, stream_options: { include_usage: true }, messages: messages.map(({ role, content }) => ({ role, content })),
  };
  if (store) body.hob_retrieval = { stores: [store] };
  const message = add("assistant", "");
  const times = { sent: performance.now(), first: 0, last: 0 };
  let usage = null, finish = null, sources = [], retrieval = null;
  running = new AbortController();
  message.item.setAttribute("aria-busy", "true");
  status("hob is answering …");
  buttons();
  const done = await attempt(async () => {
    try {
      const stream = await send("POST", "/v1/chat/completions", body, { signal: running.signal });
      await events(stream, event => {
        if (event.error) throw new Error(event.error.message);
        const choice = event.choices?.[0];
        usage = event.usage ?? usage;
        retrieval = event.hob_retrieval ?? retrieval;
        finish = choice?.finish_reason ?? finish;
        sources = choice?.delta.annotations ?? sources;
        if (!choice?.delta.content) return;
        times.last = performance.now();
        times.first ||= times.last;
        message.content += choice.delta.content;
        message.text.textContent = message.content;
        if (innerHeight + scrollY > document.body.scrollHeight - 200) scrollTo(0, document.body.scrollHeight);
      });
      if (finish === null) throw new Error("the answer broke off");
    } catch (e) {
      if (e.name !== "AbortError") throw e;
      finish = "stopped";
    }
  });
  running = null;
  message.item.removeAttribute("aria-busy");
  if (!done && !message.content) {
    messages.splice(messages.indexOf(message), 1);
    message.item.remove();
  } else {
    message.item.append(element("p", { class: "facts-line" }, facts(times, usage, finish, retrieval)));
    if (sources.length) addSources(message.item, store, sources);
  }
  status(!done ? "" : finish === "stopped" ? "Stopped." : "The answer is complete.");
  buttons();
}

$("chat-form").addEventListener("submit", event => {
  event.preventDefault();
  const text = $("chat-text").value.trim();
  if (!text || running || !$("chat-temperature").reportValidity()) return;
  $("chat-text").value = "";
  if (messages.at(-1)?.role === "user") /* the one before was never answered */
    messages.pop().item.remove();
  add("user", text);
  answer();
});
$("chat-text").addEventListener("keydown", event => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("chat-form").requestSubmit();
});
$("chat-stop").addEventListener("click", () => {
  running?.abort();
  $("chat-text").focus();
});
$("chat-again").addEventListener("click", () => {
  if (running || messages.at(-1)?.role !== "assistant" || !$("chat-temperature").reportValidity()) return;
  messages.pop().item.remove();
  answer();
});
$("chat-new").addEventListener("click", () => {
  forget();
  status("");
  notice("");
  $("chat-text").focus();
});

export function forget() {
  running?.abort();
  messages = [];
  $("chat-messages").replaceChildren();
  buttons();
}

export function show(session) {
  buttons();
  $("chat-store-field").hidden = !session.views.includes("documents");
  attempt(async () => {
    const models = (await json("GET", "/v1/models")).data.filter(m => !m.hob_dimensions);
    choices($("chat-model"), models.map(m => [m.id, m.hob_ready ? m.id : `${m.id} (not ready)`]));
    if (session.views.includes("documents"))
      choices($("chat-store"), [["", "None"], ...(await list("/v1/vector_stores")).map(s => [s.id, s.name || s.id])]);
  });
}
