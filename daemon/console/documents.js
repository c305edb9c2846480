/* SPDX-License-Identifier: Apache-2.0
 *
 * Vector stores and their files: uploaded, watched while passages and vectors are made of them, searched, deleted. */
import { $, attempt, bytes, cell, choices, confirmed, duration, element, json, list, notice, plural, repeat, rowHead,
  showPassage, time, upload } from "/console/common.js";

const BUSY_MS = 700, IDLE_MS = 30000;
let stop = null, limit = Infinity;

const store = () => $("store").value;
const path = (...parts) => `/v1/vector_stores/${[store(), ...parts].map(encodeURIComponent).join("/")}`;

function status(text) {
  $("documents-status").textContent = text;
}

/* ---- files ---- */

function progressOf(file) {
  const read = file.hob_bytes ? file.hob_bytes_read / file.hob_bytes : 0;
  const embedded = file.hob_chunks ? file.hob_chunks_embedded / file.hob_chunks : 0;
  return element("progress", { max: 1, value: (read + embedded) / 2, "aria-label": `Progress of ${file.hob_filename}` });
}

function statusOf(file) {
  if (file.status === "in_progress") return element("td", {}, progressOf(file));
  if (file.status === "failed") return cell(`failed: ${file.last_error?.message ?? "unknown"}`, "bad wrap");
  return cell(file.status === "completed" ? "ready" : file.status, "good");
}

async function remove(file) {
  if (!await confirmed(`Delete “${file.hob_filename}”? It cannot be brought back.`, "Delete")) return;
  if (await attempt(async () => {
    await json("DELETE", path("files", file.id));
    await json("DELETE", `/v1/files/${encodeURIComponent(file.id)}`);
    status(`${file.hob_filename} is deleted.`);
  })) watch();
}

function fileRow(file) {
  return element("tr", {}, rowHead(file.hob_filename, "wrap"), cell(bytes(file.hob_bytes), "number"), statusOf(file),
    cell(String(file.hob_chunks), "number"), cell(time(file.created_at)),
    element("td", {}, element("button", {
      type: "button", class: "danger", "aria-label": `Delete ${file.hob_filename}`, click: () => remove(file),
    }, "Delete")));
}

/* Rows are made anew only when something has changed: a button keeps its focus. */
let shown = "";
async function files() {
  const of = store();
  const rows = of ? await list(path("files")) : [];
  if (of !== store()) return true;
  const now = JSON.stringify([of, rows]);
  if (now !== shown) {
    shown = now;
    const focused = document.activeElement?.getAttribute("aria-label");
    $("files").replaceChildren(...rows.map(fileRow));
    if (!rows.length)
      $("files").append(element("tr", {}, element("td", { colspan: 6 }, of ? "Nothing yet." : "Create a store first.")));
    [...$("files").querySelectorAll("button")].find(b => b.getAttribute("aria-label") === focused)?.focus();
  }
  return rows.some(f => f.status === "in_progress");
}

/* Often while something is being made, rarely else. */
function watch() {
  stop?.();
  let busy = true, since = 0;
  stop = repeat(BUSY_MS, async () => {
    if (!busy && performance.now() - since < IDLE_MS) return;
    busy = await files();
    since = performance.now();
  });
}

$("upload").addEventListener("submit", async event => {
  event.preventDefault();
  const button = event.submitter, chosen = [...$("upload-files").files];
  if (!store()) {
    notice("Create a store first.");
    return;
  }
  button.disabled = true;
  await attempt(async () => {
    for (const file of chosen) {
      if (file.size > limit) throw new Error(`${file.name} has ${bytes(file.size)}; ${bytes(limit)} are allowed`);
      $("upload-state").hidden = false;
      $("upload-name").textContent = `Uploading ${file.name}`;
      $("upload-progress").value = 0;
      const stored = await upload(file, ratio => { $("upload-progress").value = ratio; });
      try {
        await json("POST", path("files"), { file_id: stored.id });
      } catch (e) { /* in no store nobody would see it again */
        await json("DELETE", `/v1/files/${encodeURIComponent(stored.id)}`).catch(() => {});
        throw e;
      }
      status(`${file.name} is uploaded.`);
      watch();
    }
    $("upload-files").value = "";
  });
  $("upload-state").hidden = true;
  button.disabled = false;
});

/* ---- search ---- */

function result(found, place) {
  const text = found.content.map(part => part.text).join("");
  const where = `${found.hob_heading || "Text"}, bytes ${found.hob_first_byte} to ${found.hob_end_byte}, ` +
    `score ${found.score.toFixed(2)}`;
  return element("li", { class: "card" },
    element("button", { type: "button", class: "link", click: () => showPassage(found.filename, where, text) },
      `${place + 1}. ${found.filename}${found.hob_heading ? ` – ${found.hob_heading}` : ""}`),
    element("p", { class: "hint" }, `Score ${found.score.toFixed(2)}`),
    element("p", { class: "text" }, text.length > 300 ? `${text.slice(0, 300)} …` : text));
}

$("search").addEventListener("submit", event => {
  event.preventDefault();
  if (!store()) return;
  attempt(async () => {
    const began = performance.now();
    const answer = await json("POST", path("search"), { query: $("search-text").value, max_num_results: 10 });
    $("search-results").replaceChildren(...answer.data.map(result));
    status(`${plural(answer.data.length, "passage")} found in ${duration((performance.now() - began) / 1000)}.`);
  });
});

/* ---- stores ---- */

async function stores(chosen) {
  const all = await list("/v1/vector_stores");
  choices($("store"), all.map(s => [s.id, s.name || s.id]));
  if (chosen) $("store").value = chosen;
  $("store-delete").disabled = !all.length;
  watch();
}

$("store").addEventListener("change", () => {
  $("search-results").replaceChildren();
  status("");
  watch();
});
$("store-form").addEventListener("submit", event => {
  event.preventDefault();
  attempt(async () => {
    const made = await json("POST", "/v1/vector_stores", { name: $("store-name").value.trim() });
    $("store-name").value = "";
    await stores(made.id);
    status(`The store ${made.name} is there.`);
  });
});
$("store-delete").addEventListener("click", async () => {
  const name = $("store").selectedOptions[0]?.textContent;
  if (!store() || !await confirmed(`Delete the store “${name}”? Its files stay, but are in no store then.`, "Delete")) return;
  attempt(async () => {
    await json("DELETE", path());
    $("search-results").replaceChildren();
    await stores();
    status("The store is deleted.");
  });
});

export function forget() {
  shown = "";
  $("files").replaceChildren();
  $("search-results").replaceChildren();
  status("");
}

export function show(session) {
  limit = session.max_file_bytes;
  attempt(() => stores());
}

export function hide() {
  stop?.();
}
