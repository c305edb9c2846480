/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl bench: prefill and decode speed by llama-bench's protocol, on the batcher that serves.
 * Prefill: a prompt of random ids into an empty context, logits of its last token only. Decode: one
 * random id into an empty context, then one token a step, N steps in all; with --sequences as many
 * of these side by side, with --context after a prompt of that length that is not timed. f16 KV, no
 * speculation; a warm-up of each, then the repeats; speeds are the mean over repeats, as
 * llama-bench's avg_ts. What llama-bench does not do and this does: the token of every step is
 * sampled (the likeliest) and turned into text, because the server does so as well. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/engine/batcher.h"
#include "daemon/observe/process.h"

enum { SEQUENCES_MOST = 256 };

typedef struct counter {
    uint32_t tokens;
    hob_finish finish;
} counter;

typedef struct rate { /* mean and deviation of tokens per second */
    double mean, deviation;
} rate;

static void count_token(void *user, const hob_token_event *event)
{
    counter *c = user;
    c->tokens += event->token != HOB_TOKEN_NONE;
    if (event->finish != HOB_FINISH_NONE)
        c->finish = event->finish;
}

/* xorshift64*: the ids only have to be spread over the vocabulary. */
static uint32_t random_id(uint64_t *state, uint32_t vocab)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * 0x2545F4914F6CDD1Dull >> 32) % vocab);
}

/* Requests that run side by side. after_prompt: only what follows their first tokens is timed. */
typedef struct load {
    uint32_t sequences, prompt_tokens, answer_tokens;
    bool after_prompt;
} load;

static int run_steps(hob_batcher *batcher, counter *c, hob_diag *diag)
{
    while (hob_batcher_has_work(batcher)) {
        int r = hob_batcher_step(batcher, count_token, c);
        if (r < 0)
            return hob_fail(diag, r, "the device failed in a step (%s)", hob_error_name(r));
    }
    return 0;
}

/* Time from submission, or from the first tokens, to the last token. */
static int run_once(hob_batcher *batcher, uint32_t vocab, uint32_t *prompt, const load *l,
                    uint64_t *random, uint64_t *ret_us, hob_diag *diag)
{
    hob_sampling sampling;
    hob_sampling_default(&sampling);
    sampling.temperature = 0;
    sampling.ignore_eos = true;
    counter c = {0};
    uint64_t start = hob_now_us();
    int r = 0;
    for (uint32_t id = 1; id <= l->sequences; id++) {
        for (uint32_t i = 0; i < l->prompt_tokens; i++)
            prompt[i] = random_id(random, vocab);
        hob_request request = {.id = id,
                               .tokens = prompt,
                               .token_count = l->prompt_tokens,
                               .max_tokens = l->answer_tokens,
                               .credit = l->after_prompt ? 1 : l->answer_tokens,
                               .sampling = &sampling};
        r = hob_batcher_submit(batcher, &request, diag);
        if (r < 0)
            return r;
    }
    if (l->after_prompt) {
        r = run_steps(batcher, &c, diag);
        if (r < 0)
            return r;
        for (uint32_t id = 1; id <= l->sequences; id++)
            hob_batcher_credit(batcher, id, l->answer_tokens - 1);
        start = hob_now_us();
    }
    r = run_steps(batcher, &c, diag);
    if (r < 0)
        return r;
    *ret_us = hob_now_us() - start;
    if (c.finish != HOB_FINISH_LENGTH || c.tokens != l->sequences * l->answer_tokens)
        return hob_fail(diag, HOB_EDEVICE,
                        "got %" PRIu32 " of %" PRIu32 " tokens: the figures would be wrong",
                        c.tokens, l->sequences * l->answer_tokens);
    return 0;
}

static int run_test(hob_batcher *batcher, uint32_t vocab, uint32_t *prompt, const load *l,
                    uint32_t counted, uint32_t repeats, uint64_t *random, rate *ret, hob_diag *diag)
{
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i <= repeats; i++) {
        uint64_t us = 0;
        int r = run_once(batcher, vocab, prompt, l, random, &us, diag);
        if (r < 0)
            return r;
        if (i == 0)
            continue; /* the warm-up */
        double speed = counted * 1e6 / (us ? (double)us : 1.0);
        sum += speed;
        squares += speed * speed;
    }
    double n = repeats, mean = sum / n;
    double variance = repeats > 1 ? (squares - sum * mean) / (n - 1) : 0;
    *ret = (rate){mean, sqrt(variance > 0 ? variance : 0)};
    return 0;
}

int hob_ctl_bench(int argc, char **argv)
{
    const char *model = NULL, *device = "auto", *kv = "f16";
    uint32_t prompt_tokens = 512, generate_tokens = 64, threads = 0, repeats = 5;
    uint32_t sequences = 1, depth = 0;
    bool json = false;
    const hob_option options[] = {
        HOB_REQUIRED("--model", "FILE", &model, "GGUF file"),
        HOB_U32("--prompt", &prompt_tokens, 1, 1 << 20, "tokens of the prefill test (default 512)"),
        HOB_U32("--generate", &generate_tokens, 1, 1 << 20,
                "tokens of the decode test (default 64)"),
        HOB_U32("--sequences", &sequences, 1, SEQUENCES_MOST,
                "sequences that the decode test runs at once (default 1); its speed is their sum"),
        HOB_U32("--context", &depth, 0, 1 << 20,
                "tokens in each context before the decode test begins (default 0)"),
        HOB_U32("--repeat", &repeats, 1, 1000, "measured runs of each test (default 5)"),
        HOB_TEXT("--device", "NAME", &device, HOB_HELP_DEVICE),
        HOB_U32("--threads", &threads, 1, HOB_CTL_THREADS_MAX, HOB_HELP_THREADS),
        HOB_CHOICE("--kv", &kv, "f16|q8_0", "type of the KV cache (default f16)"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {.command = "bench",
                               .summary = "Measures prefill and decode speed (llama-bench's "
                                          "protocol, on the server's own step path).",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    hob_offline offline = {0};
    hob_batcher *batcher = NULL;
    rate prefill = {0}, decode = {0};
    uint64_t random = 0x9E3779B97F4A7C15ull;
    const load fill = {1, prompt_tokens, 1, false},
               answer = {sequences, depth ? depth : 1, generate_tokens + (depth > 0), depth > 0};
    const uint32_t longest = prompt_tokens > depth ? prompt_tokens : depth;
    uint32_t *prompt = calloc(longest, sizeof *prompt);
    int r = prompt ? 0 : hob_fail(&diag, HOB_ENOMEM, "no memory for %" PRIu32 " ids", longest);
    if (r < 0)
        goto fail;
    r = hob_offline_open(model, device, threads, &offline, &diag);
    if (r < 0)
        goto fail;
    const uint32_t answered = answer.prompt_tokens + answer.answer_tokens,
                   context = (prompt_tokens > answered ? prompt_tokens : answered) + 1;
    hob_batcher_options batching = {
        .max_sequences = sequences,
        .max_waiting = sequences,
        .step_rows = HOB_CTL_STEP_ROWS,
        .context = context,
        .kv_tokens = sequences * hob_kv_blocks_for(context) * HOB_KV_BLOCK_TOKENS,
        .kv_type = strcmp(kv, "f16") == 0 ? HOB_TYPE_F16 : HOB_TYPE_Q8_0};
    r = hob_batcher_new(offline.model, &batching, &batcher, &diag);
    if (r < 0)
        goto fail;
    const hob_model_info *info = hob_model_get_info(offline.model);
    r = run_test(batcher, info->vocab, prompt, &fill, prompt_tokens, repeats, &random, &prefill,
                 &diag);
    if (r < 0)
        goto fail;
    /* Without a context the step of the one-token prompt gives the first token: generate_tokens steps
     * in all, as llama-bench counts. */
    r = run_test(batcher, info->vocab, prompt, &answer, sequences * generate_tokens, repeats,
                 &random, &decode, &diag);
    if (r < 0)
        goto fail;

    const hob_device_info *dev = &offline.device->info;
    uint64_t rss_bytes = hob_resident_bytes();
    double load_ms = (double)offline.load_us / 1e3;
    if (json) {
        r = hob_json_print(
            json_pack("{s:s,s:s,s:s,s:s,s:i,s:s,s:i,s:i,s:i,s:i,s:i,s:f,s:f,s:f,s:f,s:f,s:I,s:I}",
                      "model", info->name, "file", model, "device", dev->name, "isa", dev->isa,
                      "threads", (int)dev->threads, "kv", kv, "prompt", (int)prompt_tokens,
                      "generate", (int)generate_tokens, "sequences", (int)sequences, "context",
                      (int)depth, "repeat", (int)repeats, "prefill_tok_s", prefill.mean,
                      "prefill_stddev", prefill.deviation, "decode_tok_s", decode.mean,
                      "decode_stddev", decode.deviation, "load_ms", load_ms, "rss_bytes",
                      (json_int_t)rss_bytes, "weight_bytes", (json_int_t)info->weight_bytes),
            &diag);
    } else {
        printf("model    %s\ndevice   %s %s, %" PRIu32 " threads, %s KV\n", info->name, dev->name,
               dev->isa, dev->threads, kv);
        printf("prefill  %8.1f tok/s  (+- %.1f, %" PRIu32 " tokens)\n", prefill.mean,
               prefill.deviation, prompt_tokens);
        printf("decode   %8.1f tok/s  (+- %.1f, %" PRIu32 " tokens, %" PRIu32 " sequences, %" PRIu32
               " tokens before them)\n",
               decode.mean, decode.deviation, generate_tokens, sequences, depth);
        printf("load     %8.0f ms\nresident %8.1f MB\n", load_ms, (double)rss_bytes / 1e6);
    }
fail:
    hob_batcher_free(batcher);
    hob_offline_close(&offline);
    free(prompt);
    return r < 0 ? hob_ctl_failed("bench", &diag) : HOB_EXIT_OK;
}
