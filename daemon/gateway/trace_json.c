/* SPDX-License-Identifier: Apache-2.0
 *
 * A trace as JSON: hob's own form, and OpenTelemetry's (OTLP, protobuf's JSON mapping: numbers of 64 bits are strings, ids
 * are hexadecimal). Nothing in it comes from what a client wrote but its trace's number and its key's label. */
#include <string.h>

#include "daemon/gateway/otlp.h"

static void add_hex(hob_text *t, const char *name, const uint8_t *bytes, size_t count)
{
    char hex[2 * 16 + 1];
    hob_trace_hex(bytes, count, hex);
    hob_text_format(t, "\"%s\":\"%s\"", name, hex);
}

static void add_word(hob_text *t, const char *name, const char *value)
{
    hob_text_format(t, ",\"%s\":", name);
    if (value && value[0])
        hob_text_string(t, value, strlen(value));
    else
        hob_text_puts(t, "null");
}

static void add_spans(hob_text *t, const hob_trace_record *r)
{
    hob_text_format(t, ",\"left_out\":%u,\"spans\":[", r->left_out);
    for (uint32_t i = 0; i < r->span_count; i++) {
        const hob_trace_span *s = &r->spans[i];
        hob_text_format(t, "%s{\"name\":\"%s\",\"from_ms\":%.3f,\"ms\":%.3f", i ? "," : "",
                        hob_span_name((hob_span_kind)s->kind), (double)s->from_us / 1000,
                        (double)s->us / 1000);
        if (s->parent >= 0)
            hob_text_format(t, ",\"part_of\":%d", s->parent);
        if (s->count > 0)
            hob_text_format(t, ",\"count\":%u", s->count);
        hob_text_puts(t, "}");
    }
    hob_text_puts(t, "]");
}

void hob_trace_json(hob_text *t, const hob_trace_record *r, bool spans)
{
    hob_text_puts(t, "{\"object\":\"hob.trace\",");
    add_hex(t, "id", r->context.trace, sizeof r->context.trace);
    hob_text_puts(t, ",");
    add_hex(t, "span", r->context.span, sizeof r->context.span);
    if (r->has_parent) {
        hob_text_puts(t, ",");
        add_hex(t, "parent", r->parent, sizeof r->parent);
    } else
        hob_text_puts(t, ",\"parent\":null");
    add_word(t, "request", r->request_id);
    add_word(t, "response", r->response_id);
    add_word(t, "tenant", r->tenant);
    add_word(t, "key", r->label);
    add_word(t, "route", r->route);
    add_word(t, "model", r->model);
    add_word(t, "class", r->class_name);
    add_word(t, "finish", r->finish);
    add_word(t, "reason", r->reason);
    hob_text_format(t,
                    ",\"status\":%d,\"failed\":%s,\"slow\":%s,\"began\":%.6f,\"ms\":%.3f,"
                    "\"accept_ms\":%.3f,\"prompt_tokens\":%u,\"cached_tokens\":%u,"
                    "\"answer_tokens\":%u,\"bytes_in\":%llu,\"bytes_out\":%llu,\"ttft_ms\":",
                    r->status, r->failed ? "true" : "false", r->slow ? "true" : "false",
                    (double)r->began_unix_us / 1e6, (double)r->end_us / 1000,
                    (double)r->head_us / 1000, r->prompt_tokens, r->cached_tokens, r->answer_tokens,
                    (unsigned long long)r->bytes_in, (unsigned long long)r->bytes_out);
    if (r->first_token_us)
        hob_text_format(t, "%.3f", (double)(r->first_token_us - r->head_us) / 1000);
    else
        hob_text_puts(t, "null");
    if (spans)
        add_spans(t, r);
    hob_text_puts(t, "}");
}

/* ---- OTLP ---- */

static void add_text_attribute(hob_text *t, bool *first, const char *name, const char *value)
{
    if (!value || !value[0])
        return;
    hob_text_format(t, "%s{\"key\":\"%s\",\"value\":{\"stringValue\":", *first ? "" : ",", name);
    hob_text_string(t, value, strlen(value));
    hob_text_puts(t, "}}");
    *first = false;
}

static void add_number_attribute(hob_text *t, bool *first, const char *name, uint64_t value)
{
    hob_text_format(t, "%s{\"key\":\"%s\",\"value\":{\"intValue\":\"%llu\"}}", *first ? "" : ",",
                    name, (unsigned long long)value);
    *first = false;
}

/* Names after OpenTelemetry's semantic conventions where they have one. */
static void add_attributes(hob_text *t, const hob_trace_record *r)
{
    bool first = true;
    hob_text_puts(t, "\"attributes\":[");
    add_number_attribute(t, &first, "http.response.status_code", (uint64_t)r->status);
    add_text_attribute(t, &first, "http.route", r->route);
    add_text_attribute(t, &first, "hob.request.id", r->request_id);
    add_text_attribute(t, &first, "gen_ai.response.id", r->response_id);
    add_text_attribute(t, &first, "gen_ai.request.model", r->model);
    add_text_attribute(t, &first, "gen_ai.response.finish_reason", r->finish);
    add_text_attribute(t, &first, "error.type", r->reason);
    add_text_attribute(t, &first, "hob.tenant", r->tenant);
    add_text_attribute(t, &first, "hob.key", r->label);
    add_text_attribute(t, &first, "hob.class", r->class_name);
    if (r->model[0]) {
        add_number_attribute(t, &first, "gen_ai.usage.input_tokens", r->prompt_tokens);
        add_number_attribute(t, &first, "hob.cached_tokens", r->cached_tokens);
        add_number_attribute(t, &first, "gen_ai.usage.output_tokens", r->answer_tokens);
    }
    hob_text_puts(t, "]");
}

static void add_times(hob_text *t, const hob_trace_record *r, uint64_t from_us, uint64_t us)
{
    const uint64_t at_us = r->began_unix_us + from_us;
    hob_text_format(t, ",\"startTimeUnixNano\":\"%llu000\",\"endTimeUnixNano\":\"%llu000\",",
                    (unsigned long long)at_us, (unsigned long long)(at_us + us));
}

/* Of a span within the request: as good as random, and always the same (splitmix64). */
static void span_id(const hob_trace_record *r, uint32_t i, uint8_t ret[8])
{
    uint64_t x = hob_get_u64(r->context.span) + (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    hob_put_u64(ret, (x ^ x >> 31) | 1);
}

static void add_inner(hob_text *t, const hob_trace_record *r, uint32_t i)
{
    const hob_trace_span *s = &r->spans[i];
    uint8_t id[8], parent[8];
    bool first = true;

    span_id(r, i, id);
    if (s->parent >= 0)
        span_id(r, (uint32_t)s->parent, parent);
    else
        memcpy(parent, r->context.span, sizeof parent);
    hob_text_puts(t, ",{");
    add_hex(t, "traceId", r->context.trace, sizeof r->context.trace);
    hob_text_puts(t, ",");
    add_hex(t, "spanId", id, sizeof id);
    hob_text_puts(t, ",");
    add_hex(t, "parentSpanId", parent, sizeof parent);
    hob_text_format(t, ",\"name\":\"%s\",\"kind\":1", hob_span_name((hob_span_kind)s->kind));
    add_times(t, r, s->from_us, s->us);
    hob_text_puts(t, "\"attributes\":[");
    if (s->count > 0)
        add_number_attribute(t, &first, s->kind == HOB_SPAN_PREFILL ? "hob.chunks" : "hob.tokens",
                             s->count);
    hob_text_puts(t, "]}");
}

static void add_request(hob_text *t, const hob_trace_record *r)
{
    hob_text_puts(t, "{");
    add_hex(t, "traceId", r->context.trace, sizeof r->context.trace);
    hob_text_puts(t, ",");
    add_hex(t, "spanId", r->context.span, sizeof r->context.span);
    if (r->has_parent) {
        hob_text_puts(t, ",");
        add_hex(t, "parentSpanId", r->parent, sizeof r->parent);
    }
    hob_text_puts(t, ",\"name\":");
    hob_text_string(t, r->route, strlen(r->route));
    hob_text_puts(t, ",\"kind\":2"); /* a server's */
    add_times(t, r, 0, r->end_us);
    add_attributes(t, r);
    hob_text_format(t, ",\"status\":{\"code\":%d}}", r->failed ? 2 : 0); /* an error's, or unset */
}

void hob_otlp_begin(hob_text *t)
{
    hob_text_puts(t, "{\"resourceSpans\":[{\"resource\":{\"attributes\":["
                     "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"hob\"}},"
                     "{\"key\":\"service.version\",\"value\":{\"stringValue\":\"" HOB_VERSION
                     "\"}}]},\"scopeSpans\":[{\"scope\":{\"name\":\"hob\"},\"spans\":[");
}

void hob_otlp_add(hob_text *t, const hob_trace_record *r, bool first)
{
    hob_text_puts(t, first ? "" : ",");
    add_request(t, r);
    for (uint32_t i = 0; i < r->span_count; i++)
        add_inner(t, r, i);
}

void hob_otlp_end(hob_text *t)
{
    hob_text_puts(t, "]}]}]}");
}
