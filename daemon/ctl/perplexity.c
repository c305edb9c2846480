/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl perplexity: how well a model predicts a text, by the protocol of llama.cpp's perplexity
 * tool, so that figures compare: the whole text is tokenized once (BOS in front where the model
 * adds one) and cut into windows of ctx tokens; in each, the first token is replaced by BOS where
 * the model adds one, and positions ctx/2 .. ctx-2 are scored on the token that follows them. A
 * rest shorter than a window is left out. ppl = exp(mean negative log probability).
 *
 * Log probabilities are taken in double from whole rows of logits. Only a few rows of logits are
 * held at a time. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

enum {
    PREFILL_ROWS = 256, /* rows of a step whose logits nobody wants */
    SCORE_ROWS = 64,    /* rows of a step that is scored: bounds the memory for logits */
};

typedef struct scorer {
    hob_context *context;
    uint32_t vocab;
    uint32_t *blocks; /* KV blocks of the one sequence: 0, 1, 2, … */
    float *logits;    /* [vocab] */
    FILE *lines;      /* --logprobs, or NULL */
    double nll;       /* sum */
    uint64_t scored, argmax_hits;
} scorer;

/* Log probability of id, and the likeliest id, of one row of logits. */
static double log_probability(const float *logits, uint32_t vocab, uint32_t id, uint32_t *ret_top)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[top])
            top = i;
    double sum = 0, max = logits[top];
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - max);
    *ret_top = top;
    return logits[id] - max - log(sum);
}

/* Runs positions first .. first + rows - 1 of a window; with `score`, each predicts the token after
 * it. window: its tokens; offset: the window's place in the text. */
static int run_rows(scorer *s, const uint32_t *window, uint64_t offset, uint32_t first,
                    uint32_t rows, bool score, hob_diag *diag)
{
    uint32_t logit_rows[SCORE_ROWS];
    uint32_t logit_count = score ? rows : 0;
    for (uint32_t i = 0; i < logit_count; i++)
        logit_rows[i] = i;
    hob_span span = {
        .first_row = 0, .row_count = rows, .first_position = first, .blocks = s->blocks};
    hob_batch batch = {.row_count = rows,
                       .tokens = window + first,
                       .span_count = 1,
                       .spans = &span,
                       .logit_count = logit_count,
                       .logit_rows = logit_rows};
    int r = hob_context_step(s->context, &batch);
    if (r < 0)
        return hob_fail(diag, r, "the device failed in a step (%s)", hob_error_name(r));
    for (uint32_t i = 0; i < logit_count; i++) {
        r = hob_context_logits(s->context, i, s->logits);
        if (r < 0)
            return hob_fail(diag, r, "the device failed to return logits (%s)", hob_error_name(r));
        uint32_t id = window[first + i + 1], top;
        double logprob = log_probability(s->logits, s->vocab, id, &top);
        if (!isfinite(logprob))
            return hob_fail(diag, HOB_EDEVICE, "the logits at position %" PRIu64 " are not finite",
                            offset + first + i);
        s->nll -= logprob;
        s->scored++;
        s->argmax_hits += top == id;
        if (s->lines)
            fprintf(s->lines,
                    "{\"pos\":%" PRIu64 ",\"id\":%" PRIu32 ",\"logprob\":%.9g,\"top_id\":%" PRIu32
                    "}\n",
                    offset + first + i + 1, id, logprob, top);
    }
    return 0;
}

static int run_window(scorer *s, const uint32_t *window, uint64_t offset, uint32_t ctx,
                      hob_diag *diag)
{
    for (uint32_t at = 0; at + 1 < ctx;) {
        bool score = at >= ctx / 2;
        uint32_t end = score ? ctx - 1 : ctx / 2;
        uint32_t most = score ? SCORE_ROWS : PREFILL_ROWS;
        uint32_t rows = end - at < most ? end - at : most;
        int r = run_rows(s, window, offset, at, rows, score, diag);
        if (r < 0)
            return r;
        at += rows;
    }
    return 0;
}

static void show_progress(const scorer *s, uint32_t done, uint32_t windows)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\rwindow %" PRIu32 " of %" PRIu32 ", ppl %.4f%s", done, windows,
                exp(s->nll / (double)s->scored), done == windows ? "\n" : "");
}

/* Scores `windows` windows of ids; ids' first token of each window is put back afterwards. */
static int run_windows(hob_model *model, hob_ids *ids, uint32_t ctx, uint32_t windows, hob_type kv,
                       scorer *s, hob_diag *diag)
{
    const hob_tokenizer *tokenizer = hob_model_tokenizer(model);
    bool bos = hob_tokenizer_adds_bos(tokenizer) && hob_tokenizer_bos(tokenizer) != HOB_TOKEN_NONE;
    uint32_t block_count = hob_kv_blocks_for(ctx);
    hob_context_options options = {.max_rows = PREFILL_ROWS,
                                   .max_logit_rows = SCORE_ROWS,
                                   .kv_blocks = block_count,
                                   .kv_type = kv};
    s->vocab = hob_model_get_info(model)->vocab;
    s->blocks = calloc(block_count, sizeof *s->blocks);
    s->logits = calloc(s->vocab, sizeof *s->logits);
    if (!s->blocks || !s->logits)
        return hob_fail(diag, HOB_ENOMEM, "no memory for a row of %" PRIu32 " logits", s->vocab);
    for (uint32_t i = 0; i < block_count; i++)
        s->blocks[i] = i;
    int r = hob_context_new(model, &options, &s->context, diag);
    for (uint32_t w = 0; r >= 0 && w < windows; w++) {
        uint32_t *window = ids->data + (size_t)w * ctx;
        uint32_t first = window[0];
        if (bos)
            window[0] = hob_tokenizer_bos(tokenizer);
        r = run_window(s, window, (uint64_t)w * ctx, ctx, diag);
        window[0] = first;
        if (r >= 0)
            show_progress(s, w + 1, windows);
    }
    return r;
}

int hob_ctl_perplexity(int argc, char **argv)
{
    const char *model = NULL, *file = NULL, *device = "auto", *kv = "f16", *logprobs = NULL;
    uint32_t ctx = 512, chunks = 0, threads = 0;
    bool json = false;
    const hob_option options[] = {
        HOB_REQUIRED("--model", "FILE", &model, "GGUF file"),
        HOB_REQUIRED("--file", "TEXT", &file, "the text to predict"),
        HOB_U32("--ctx", &ctx, 8, 1 << 20, "tokens of a window (default 512)"),
        HOB_U32("--chunks", &chunks, 1, 1 << 30, "windows at most (default: all)"),
        HOB_TEXT("--logprobs", "OUT", &logprobs,
                 "write JSON lines {pos, id, logprob, top_id} of what is scored"),
        HOB_TEXT("--device", "NAME", &device, HOB_HELP_DEVICE),
        HOB_U32("--threads", &threads, 1, HOB_CTL_THREADS_MAX, HOB_HELP_THREADS),
        HOB_CHOICE("--kv", &kv, "f16|q8_0", "type of the KV cache (default f16)"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "perplexity",
        .summary = "Measures how well a model predicts a text (llama.cpp's protocol).",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;

    hob_diag diag = {""};
    hob_offline offline = {0};
    hob_ids ids = {0};
    scorer s = {0};
    char *text = NULL;
    size_t len = 0;
    int r = hob_read_all(file, &text, &len, &diag);
    if (r < 0)
        goto fail;
    if (logprobs && !(s.lines = fopen(logprobs, "we"))) {
        r = hob_fail(&diag, HOB_EIO, "cannot write %s: %s", logprobs, strerror(errno));
        goto fail;
    }
    r = hob_offline_open(model, device, threads, &offline, &diag);
    if (r < 0)
        goto fail;
    const hob_tokenizer *tokenizer = hob_model_tokenizer(offline.model);
    r = hob_tokenize(tokenizer, text, len, NULL, 0, hob_tokenizer_adds_bos(tokenizer), 0, &ids,
                     &diag);
    if (r < 0)
        goto fail;
    size_t windows = ids.count / ctx;
    if (windows == 0 || windows > UINT32_MAX) {
        r = hob_fail(&diag, HOB_EINVAL,
                     "%s has %zu tokens; allowed: at least one window of %" PRIu32, file, ids.count,
                     ctx);
        goto fail;
    }
    if (chunks && windows > chunks)
        windows = chunks;
    uint64_t start = hob_now_us();
    r = run_windows(offline.model, &ids, ctx, (uint32_t)windows,
                    strcmp(kv, "f16") == 0 ? HOB_TYPE_F16 : HOB_TYPE_Q8_0, &s, &diag);
    if (r < 0)
        goto fail;
    double seconds = (double)(hob_now_us() - start) / 1e6;
    if (s.lines && (fflush(s.lines) != 0 || ferror(s.lines))) {
        r = hob_fail(&diag, HOB_EIO, "cannot write %s: %s", logprobs, strerror(errno));
        goto fail;
    }
    double mean = s.nll / (double)s.scored;
    if (json)
        r = hob_json_print(json_pack("{s:f,s:f,s:I,s:I,s:I,s:i,s:f,s:f}", "ppl", exp(mean), "nll",
                                     mean, "tokens", (json_int_t)s.scored, "text_tokens",
                                     (json_int_t)ids.count, "windows", (json_int_t)windows, "ctx",
                                     (int)ctx, "top1", (double)s.argmax_hits / (double)s.scored,
                                     "seconds", seconds),
                           &diag);
    else
        printf("ppl %.4f over %" PRIu64 " tokens (%zu windows of %" PRIu32 "), %.1f s\n", exp(mean),
               s.scored, windows, ctx, seconds);
fail:
    hob_context_free(s.context);
    hob_offline_close(&offline);
    if (s.lines)
        fclose(s.lines);
    free(s.blocks);
    free(s.logits);
    hob_ids_free(&ids);
    free(text);
    return r < 0 ? hob_ctl_failed("perplexity", &diag) : HOB_EXIT_OK;
}
