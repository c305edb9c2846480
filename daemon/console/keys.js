/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys and their limits, for administrators: listed, added, changed, rotated, revoked. A new key's text is shown once and is in this page
 * until it is closed. */
import { $, attempt, cell, confirmed, day, element, json, rowHead, time } from "/console/common.js";

const DAY_S = 86400;
const LIMITS = ["requests_per_minute", "tokens_per_minute", "tokens_per_day", "concurrent_requests", "max_prompt_tokens",
  "max_output_tokens", "default_output_tokens", "stored_mb", "patience_ms"];
const LEAST = { default_output_tokens: 1 };

const words = text => text.trim().split(/\s+/).filter(Boolean);
const spoken = name => name.replaceAll("_", " ").replace(/ mb$/, " MiB").replace(/ ms$/, " (ms)");

function names(list) {
  return list === null ? "all" : list.join(" ") || "none";
}

function limits(key) {
  const own = LIMITS.filter(name => key.limits[name] !== null);
  return own.map(name => `${spoken(name)}: ${key.limits[name] || "no limit"}`).join(", ") || "default";
}

async function revoke(key) {
  if (!await confirmed(`Revoke the key “${key.label}”? Requests with it are refused from then on.`, "Revoke")) return;
  await attempt(async () => {
    await json("POST", "/hob/v1/admin/keys/revoke", { key: key.label });
    await refresh();
    $("keys-status").textContent = `${key.label} is revoked.`;
    $("keys-title").focus();
  });
}

/* The old text ends at once: a person who wants both for a while has `hobctl keys rotate --grace`. */
async function rotate(key) {
  if (!await confirmed(`Give the key “${key.label}” a new text? Requests with the old one are refused from then on.`, "Rotate")) return;
  await attempt(async () => {
    const made = await json("POST", "/hob/v1/admin/keys/rotate", { key: key.label });
    showMade(made);
    $("keys-status").textContent = `${made.label} has a new text.`;
    await refresh();
  });
}

/* ---- limits of a key that is there ---- */

let edited = null; /* as it was listed */

function edit(key) {
  edited = key;
  $("limits-title").textContent = `Limits of ${key.label}`;
  for (const name of LIMITS) $(`edit-${name}`).value = key.limits[name] ?? "";
  $("limits").showModal();
  $(`edit-${LIMITS[0]}`).focus();
}

/* Only what was changed: another administrator may have changed the rest meanwhile. */
function changed() {
  const body = {};
  for (const name of LIMITS) {
    const text = $(`edit-${name}`).value, value = text === "" ? null : Number(text);
    if (value !== edited.limits[name]) body[name] = value;
  }
  return body;
}

$("limits-form").addEventListener("submit", async event => {
  event.preventDefault();
  const { label } = edited;
  try {
    await json("POST", "/hob/v1/admin/keys/set", { key: label, limits: changed() });
  } catch (e) { /* where a person looks, with all that was written */
    $("limits-error").textContent = e.message;
    return;
  }
  $("limits").close();
  $("keys-status").textContent = `The limits of ${label} are changed.`;
  await attempt(refresh);
  focusOn(`Limits of ${label}`);
});
$("limits-cancel").addEventListener("click", () => $("limits").close());
$("limits").addEventListener("close", () => { $("limits-error").textContent = ""; });

/* The rows are made anew: the focus goes to the button of that name again. */
function focusOn(name) {
  [...$("keys").querySelectorAll("button")].find(b => b.getAttribute("aria-label") === name)?.focus();
}

/* ---- the list ---- */

function expiry(key) {
  if (!key.expires) return cell("never");
  return key.expires * 1000 < Date.now() ? cell(`${day(key.expires)}, expired`, "bad") : cell(day(key.expires));
}

function row(key) {
  return element("tr", {}, rowHead(key.label), cell(key.tenant), cell(key.role), cell(key.class), cell(names(key.models), "wrap"),
    cell(names(key.collections), "wrap"), cell(limits(key), "wrap"), expiry(key), cell(time(key.last_used)),
    element("td", {}, element("div", { class: "row" },
      element("button", { type: "button", "aria-label": `Limits of ${key.label}`, click: () => edit(key) }, "Limits"),
      element("button", { type: "button", "aria-label": `Rotate ${key.label}`, click: () => rotate(key) }, "Rotate"),
      element("button", { type: "button", class: "danger", "aria-label": `Revoke ${key.label}`, click: () => revoke(key) },
        "Revoke"))));
}

/* Revoked ones are listed for a while, so that their usage has a name: they are left out here. */
async function refresh() {
  const rows = [];
  for (let after = 0; ;) {
    const page = await json("GET", `/hob/v1/admin/keys?after=${after}`);
    rows.push(...page.data);
    if (!page.has_more) break;
    after = page.data.at(-1).id;
  }
  $("keys").replaceChildren(...rows.filter(key => !key.revoked).map(row));
}

function wanted() {
  const body = { label: $("key-label").value, role: $("key-role").value, class: $("key-class").value, limits: {} };
  if ($("key-tenant").value) body.tenant = $("key-tenant").value;
  for (const field of ["models", "collections"])
    if (words($(`key-${field}`).value).length) body[field] = words($(`key-${field}`).value);
  if ($("key-days").value) body.expires = Math.floor(Date.now() / 1000) + Number($("key-days").value) * DAY_S;
  for (const name of LIMITS)
    if ($(`limit-${name}`).value !== "") body.limits[name] = Number($(`limit-${name}`).value);
  return body;
}

function showMade(made) {
  $("made-title").textContent = `The key of ${made.label}`;
  $("made-key").value = made.key;
  $("made").hidden = false;
  $("made-title").focus();
}

function hideMade() {
  $("made-key").value = "";
  $("made").hidden = true;
}

$("key-form").addEventListener("submit", event => {
  event.preventDefault();
  attempt(async () => {
    const made = await json("POST", "/hob/v1/admin/keys/add", wanted());
    $("key-form").reset();
    showMade(made);
    $("keys-status").textContent = `${made.label} is added.`;
    await refresh();
  });
});
$("made-copy").addEventListener("click", async () => {
  $("made-key").select();
  try {
    await navigator.clipboard.writeText($("made-key").value);
    $("keys-status").textContent = "The key is in the clipboard.";
  } catch { /* it is selected: a person can copy it */
    $("keys-status").textContent = "The key is selected.";
  }
});
$("made-close").addEventListener("click", () => {
  hideMade();
  $("keys-title").focus();
});

const limitFields = prefix => LIMITS.map(name => element("div", {},
  element("label", { for: `${prefix}-${name}` }, spoken(name)),
  element("input", { id: `${prefix}-${name}`, type: "number", min: LEAST[name] ?? 0, step: 1 })));
$("key-limits").append(...limitFields("limit"));
$("edit-limits").append(...limitFields("edit"));

export function show() {
  $("keys-status").textContent = "";
  attempt(refresh);
}

export const hide = hideMade;

export function forget() {
  hideMade();
  $("limits").close();
  $("key-form").reset();
  $("keys").replaceChildren();
}
