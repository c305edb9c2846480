/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the time of requests went: those there are traces of, and of one its stages as a waterfall. */
import { $, attempt, cell, duration, element, json, plural, rowHead, share, time } from "/console/common.js";

const SHOWN = 100;

const ms = n => n === null ? "–" : duration(n / 1000);

function fact(name, value) {
  return element("div", {}, element("dt", {}, name), element("dd", {}, value));
}

function spanRow(trace, span) {
  const part = span.part_of !== undefined, all = Math.max(trace.ms, 0.001);
  return element("tr", {}, rowHead(span.name, part ? "part" : null), cell(ms(span.from_ms), "number"),
    cell(ms(span.ms), "number"),
    element("td", {}, share(span.from_ms / all, (span.from_ms + span.ms) / all, part ? "part" : null)),
    cell(span.count === undefined ? "" : String(span.count), "number"));
}

function showOne(trace) {
  $("waterfall").hidden = false;
  $("waterfall-title").textContent = `${trace.route} ${trace.request}`;
  $("waterfall-facts").replaceChildren(
    fact("Began", time(trace.began)), fact("Status", String(trace.status)), fact("Time", ms(trace.ms)),
    fact("First token", ms(trace.ttft_ms)), fact("Model", trace.model ?? "–"), fact("Class", trace.class ?? "–"),
    fact("Key", trace.key ?? "–"), fact("Tenant", trace.tenant ?? "–"),
    fact("Ended by", trace.finish ?? trace.reason ?? "–"),
    fact("Tokens", `${trace.prompt_tokens} read, ${trace.cached_tokens} of them cached, ${trace.answer_tokens} written`),
    fact("Trace", trace.id), ...(trace.response ? [fact("Response", trace.response)] : []));
  $("spans").replaceChildren(...trace.spans.map(span => spanRow(trace, span)));
  if (trace.left_out)
    $("spans").append(element("tr", {}, element("td", { colspan: 5 }, `${plural(trace.left_out, "span")} left out`)));
  $("waterfall-title").focus();
}

async function open(id) {
  const found = (await json("GET", `/hob/v1/traces/${encodeURIComponent(id)}`)).data;
  showOne(found[0]);
}

function row(trace) {
  return element("tr", {}, cell(time(trace.began)),
    element("th", { scope: "row" }, element("button", {
      type: "button", class: "link", click: () => attempt(() => open(trace.request)),
    }, trace.request)),
    cell(trace.route),
    cell(`${trace.status}${trace.reason ? ` ${trace.reason}` : ""}`, trace.failed ? "bad" : null),
    cell(`${ms(trace.ms)}${trace.slow ? ", slow" : ""}`, trace.slow ? "bad number" : "number"), cell(ms(trace.ttft_ms), "number"),
    cell(trace.model ? `${trace.prompt_tokens} + ${trace.answer_tokens}` : "–", "number"),
    cell(trace.model ?? "–"), cell(trace.key ?? "–"));
}

async function refresh() {
  const found = (await json("GET", `/hob/v1/traces?limit=${SHOWN}`)).data;
  $("traces").replaceChildren(...found.map(row));
  $("traces-status").textContent = found.length ? `${plural(found.length, "request")}.`
    : "No traces yet: traces.sample_percent of requests are kept, and all that are slow or fail.";
}

$("traces-refresh").addEventListener("click", () => attempt(refresh));
$("trace-find").addEventListener("submit", event => {
  event.preventDefault();
  attempt(() => open($("trace-id").value.trim()));
});

export function show() {
  attempt(refresh);
}

export function forget() {
  $("waterfall").hidden = true;
  $("traces").replaceChildren();
  $("spans").replaceChildren();
}
