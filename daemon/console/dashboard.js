/* SPDX-License-Identifier: Apache-2.0
 *
 * What the server does now: /hob/v1/stats for quantiles, /metrics for the rest. Rates are differences between two looks. */
import { $, bytes, cell, choices, duration, element, json, percent, plural, repeat, rowHead, send, share }
  from "/console/common.js";

const LOOK_MS = 2000, KEPT = 61; /* two minutes in a chart */
const QUANTITIES = [["time_to_first_token_s", "To the first token"], ["inter_token_latency_s", "Between tokens"],
  ["duration_s", "Whole requests"], ["queue_s", "In the queue"]];

let stop = null, before = null, stats = null;
let tokens = [], requests = [];

/* ---- Prometheus' text format ---- */

/* {name: [{labels: {…}, value}]}. Label values have backslashes before quotes, backslashes and n. */
function parse(text) {
  const found = {};
  for (const line of text.split("\n")) {
    const m = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!m) continue;
    const labels = {};
    for (const [, name, value] of (m[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g))
      labels[name] = value.replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
    (found[m[1]] ??= []).push({ labels, value: Number(m[3]) });
  }
  return found;
}

/* The sum of a metric's samples with these labels. */
function sum(metrics, name, labels = {}) {
  return (metrics[name] ?? []).filter(s => Object.entries(labels).every(([k, v]) => s.labels[k] === v))
    .reduce((total, s) => total + s.value, 0);
}

/* ---- parts of the page ---- */

function tile(name, value) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value));
}

function showTiles(now, rate) {
  const waiting = sum(now, "hob_queue_requests");
  $("tiles").replaceChildren(
    tile("Tokens/s, answers", rate("hob_answer_tokens_total").toFixed(1)),
    tile("Tokens/s, prompts", rate("hob_prompt_tokens_total").toFixed(1)),
    tile("No first token yet", String(waiting)),
    tile("Their tokens", String(sum(now, "hob_queue_tokens"))),
    tile("Running", String(sum(now, "hob_engine_running"))),
    tile("Connections", String(sum(now, "hob_connections"))),
    tile("Refused, no room", String(sum(now, "hob_requests_shed_total"))),
    tile("Failed", String(sum(now, "hob_requests_failed_total"))),
    tile("Processors busy", percent(sum(now, "hob_cpu_busy_ratio"))));
}

function chart(name, values, text) {
  const most = Math.max(...values), top = Math.max(1, most);
  const x = i => 120 * (KEPT - values.length + i) / (KEPT - 1), y = v => 38 - 36 * v / top;
  const points = values.map((v, i) => `${x(i).toFixed(2)},${y(v).toFixed(2)}`);
  $(name).firstElementChild.setAttribute("points", points.join(" "));
  $(`${name}-text`).textContent = `${text}; at most ${Math.round(most)} in the last two minutes`;
}

function showQuantiles() {
  const window = Number($("dashboard-window").value);
  const of = stats.series.find(s => seriesName(s) === $("dashboard-series").value) ?? stats.all;
  $("quantiles").replaceChildren(...QUANTITIES.map(([name, text]) => {
    const q = of[name][window];
    return element("tr", {}, rowHead(text), ...[q.p50, q.p95, q.p99].map(v => cell(duration(v), "number")),
      cell(String(q.count), "number"));
  }));
}

const seriesName = s => `${s.route} · ${s.model} · ${s.class}`;

function showSeries() {
  const names = ["all that generate", ...stats.series.map(seriesName)];
  if ($("dashboard-series").options.length !== names.length) choices($("dashboard-series"), names.map(n => [n, n]));
}

function showLedger(now) {
  const lines = (now.hob_memory_bytes ?? []).map(s => [s.labels.line.replaceAll("_", " "), s.value]);
  const all = lines.reduce((total, [, n]) => total + n, 0), limit = sum(now, "hob_memory_limit_bytes");
  const row = ([line, n]) => element("tr", {}, rowHead(line), cell(bytes(n), "number"),
    element("td", {}, share(0, n / (limit || all || 1))));
  $("ledger").replaceChildren(...lines.map(row), row([limit ? `all, of ${bytes(limit)}` : "all, no limit", all]));
}

function showEngines(now, status) {
  const ready = new Map((status?.models ?? []).map(m => [m.name, m.state]));
  $("engines").replaceChildren(...(now.hob_engine_up ?? []).map(({ labels: { model }, value: up }) => {
    const of = name => sum(now, name, { model });
    const info = now.hob_engine_info?.find(s => s.labels.model === model)?.labels;
    const blocks = of("hob_engine_kv_blocks");
    return element("tr", {}, rowHead(model), cell(ready.get(model) ?? (up ? "ready" : "down")),
      cell(info ? `${info.device} (${info.isa})` : "–"), cell(percent(of("hob_engine_device_busy_ratio")), "number"),
      cell(bytes(of("hob_engine_device_bytes")), "number"), cell(String(of("hob_engine_running")), "number"),
      cell(String(of("hob_engine_waiting") + of("hob_engine_waiting_texts")), "number"),
      cell(of("hob_engine_rows_per_step").toFixed(1), "number"),
      cell(blocks ? percent(1 - of("hob_engine_kv_blocks_free") / blocks) : "–", "number"),
      cell(blocks ? percent(of("hob_engine_prefix_hit_ratio")) : "–", "number"));
  }));
}

/* ---- looking ---- */

async function look(admin) {
  const [quantiles, text, status] = await Promise.all([json("GET", "/hob/v1/stats"), send("GET", "/metrics").then(a => a.text()),
    admin ? json("GET", "/hob/v1/admin/status") : null]);
  const now = { at: performance.now(), metrics: parse(text) };
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const rate = name => before ? Math.max(0, sum(now.metrics, name) - sum(before.metrics, name)) / seconds : 0;
  /* One in prefill runs and waits for its first token: it is among both of those, and once among an engine's jobs. Where the
   * engine is not up, all wait. */
  const busy = Math.max(sum(now.metrics, "hob_engine_jobs"), sum(now.metrics, "hob_queue_requests"));
  stats = quantiles;
  tokens = [...tokens, rate("hob_answer_tokens_total")].slice(-KEPT);
  requests = [...requests, busy].slice(-KEPT);
  showTiles(now.metrics, rate);
  chart("chart-tokens", tokens, `${tokens.at(-1).toFixed(1)} now`);
  chart("chart-queue", requests, `${plural(busy, "request")} now`);
  showSeries();
  showQuantiles();
  showLedger(now.metrics);
  showEngines(now.metrics, status);
  before = now;
}

let admin = false;
function run(on) {
  stop?.();
  stop = on ? repeat(LOOK_MS, () => look(admin)) : null;
  before = null;
  $("dashboard-pause").setAttribute("aria-pressed", String(!on));
}

$("dashboard-pause").addEventListener("click", () => run(stop === null));
for (const select of ["dashboard-window", "dashboard-series"])
  $(select).addEventListener("change", () => { if (stats) showQuantiles(); });

export function show(session) {
  admin = session.views.includes("keys"); /* --dev has nobody to administrate it */
  run(true);
}

export function hide() {
  stop?.();
}

export function forget() {
  tokens = [];
  requests = [];
  stats = null;
}
