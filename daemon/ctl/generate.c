/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl generate: continues one prompt on a model file, without a server. One request through the
 * batcher that also serves, so the same seed gives the same bytes here and there. Text streams to
 * stdout as it becomes certain. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/engine/batcher.h"

typedef struct answer {
    bool json;
    hob_ids ids;
    char *text;
    size_t len, capacity;
    hob_finish finish;
    bool out_of_memory;
    char error[200];
} answer;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static bool keep_text(answer *a, const char *text, size_t len)
{
    if (a->capacity - a->len < len) {
        size_t wanted;
        if (!hob_add_size(a->len, len, &wanted) || !hob_mul_size(wanted, 2, &wanted))
            return false;
        char *grown = realloc(a->text, wanted);
        if (!grown)
            return false;
        a->text = grown;
        a->capacity = wanted;
    }
    if (len)
        memcpy(a->text + a->len, text, len);
    a->len += len;
    return true;
}

static void take_token(void *user, const hob_token_event *event)
{
    answer *a = user;
    if (event->token != HOB_TOKEN_NONE && hob_ids_push(&a->ids, event->token) < 0)
        a->out_of_memory = true;
    if (a->json) {
        a->out_of_memory |= !keep_text(a, event->text, event->text_len);
    } else if (event->text_len) {
        hob_print_text(stdout, event->text, event->text_len);
        fflush(stdout);
    }
    if (event->finish != HOB_FINISH_NONE)
        a->finish = event->finish;
    if (event->finish == HOB_FINISH_ERROR)
        snprintf(a->error, sizeof a->error, "%s",
                 event->error ? event->error : "the engine failed");
}

/* Runs the one request to its end. */
static int run_request(hob_model *model, const hob_ids *prompt, const hob_sampling *sampling,
                       uint32_t max_tokens, hob_type kv_type, answer *a, hob_diag *diag)
{
    const hob_model_info *info = hob_model_get_info(model);
    if (prompt->count >= info->context_train || prompt->count + max_tokens > info->context_train)
        return hob_fail(diag, HOB_ELIMIT,
                        "prompt of %zu tokens and --max-tokens %" PRIu32 ": allowed: %" PRIu32
                        " in all for this model",
                        prompt->count, max_tokens, info->context_train);
    uint32_t context = (uint32_t)prompt->count + max_tokens;
    hob_batcher_options options = {.max_sequences = 1,
                                   .max_waiting = 1,
                                   .step_rows = HOB_CTL_STEP_ROWS,
                                   .context = context,
                                   .kv_tokens = hob_kv_blocks_for(context) * HOB_KV_BLOCK_TOKENS,
                                   .kv_type = kv_type};
    hob_batcher *batcher;
    int r = hob_batcher_new(model, &options, &batcher, diag);
    if (r < 0)
        return r;
    hob_request request = {.id = 1,
                           .tokens = prompt->data,
                           .token_count = (uint32_t)prompt->count,
                           .max_tokens = max_tokens,
                           .credit = max_tokens,
                           .sampling = sampling};
    r = hob_batcher_submit(batcher, &request, diag);
    while (r >= 0 && hob_batcher_has_work(batcher) && !a->out_of_memory) {
        if (interrupted)
            hob_batcher_cancel(batcher, request.id);
        r = hob_batcher_step(batcher, take_token, a);
        if (r < 0)
            hob_fail(diag, r, "the device failed in a step (%s)", hob_error_name(r));
    }
    hob_batcher_free(batcher);
    if (r >= 0 && a->out_of_memory)
        r = hob_fail(diag, HOB_ENOMEM, "no memory for the answer");
    if (r >= 0 && a->finish == HOB_FINISH_ERROR)
        r = hob_fail(diag, HOB_EDEVICE, "%s", a->error);
    if (r >= 0 && a->finish == HOB_FINISH_NONE)
        r = hob_fail(diag, HOB_EDEVICE, "the engine stopped before the answer ended");
    return r < 0 ? r : 0;
}

static int print_answer(const answer *a, const hob_ids *prompt, hob_diag *diag)
{
    if (!a->json) {
        putchar('\n');
        return 0;
    }
    return hob_json_print(json_pack("{s:o,s:o,s:o,s:s}", "text",
                                    json_stringn(a->text ? a->text : "", a->len), "ids",
                                    hob_json_ids(a->ids.data, a->ids.count), "prompt_ids",
                                    hob_json_ids(prompt->data, prompt->count), "finish_reason",
                                    hob_finish_name(a->finish)),
                          diag);
}

int hob_ctl_generate(int argc, char **argv)
{
    const char *model = NULL, *prompt = NULL, *device = "auto", *kv = "f16";
    bool chat = false, special = false, ignore_eos = false;
    uint32_t threads = 0, max_tokens = 128, top_k = 0;
    uint64_t seed = 0;
    double temperature = 0, top_p = 1, min_p = 0, repeat_penalty = 1;
    answer a = {0};
    const hob_option options[] = {
        HOB_REQUIRED("--model", "FILE", &model, "GGUF file"),
        HOB_TEXT("--prompt", "TEXT", &prompt, "default: standard input to its end"),
        HOB_FLAG("--chat", &chat, "the prompt is a user's message: apply the chat template"),
        HOB_FLAG("--special", &special, "parse control tokens in the prompt (not with --chat)"),
        HOB_U32("--max-tokens", &max_tokens, 1, 1 << 20, "of the answer (default 128)"),
        HOB_NUMBER("--temperature", &temperature, 0, 2, "0: the likeliest token (default 0)"),
        HOB_U64("--seed", &seed, "of the sampler (default 0)"),
        HOB_U32("--top-k", &top_k, 0, 1 << 20, "0: off (default 0)"),
        HOB_NUMBER("--top-p", &top_p, 1e-6, 1, "1: off (default 1)"),
        HOB_NUMBER("--min-p", &min_p, 0, 1, "0: off (default 0)"),
        HOB_NUMBER("--repeat-penalty", &repeat_penalty, 0.01, 10, "1: off (default 1)"),
        HOB_FLAG("--ignore-eos", &ignore_eos, "go on past the model's end"),
        HOB_TEXT("--device", "NAME", &device, HOB_HELP_DEVICE),
        HOB_U32("--threads", &threads, 1, HOB_CTL_THREADS_MAX, HOB_HELP_THREADS),
        HOB_CHOICE("--kv", &kv, "f16|q8_0", "type of the KV cache (default f16)"),
        HOB_FLAG("--json", &a.json, HOB_HELP_JSON ": text, ids, prompt_ids, finish_reason"),
    };
    const hob_syntax syntax = {.command = "generate",
                               .summary = "Continues a prompt on a model file, without a server.",
                               .options = options,
                               .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (chat && special) {
        fprintf(stderr, "hobctl generate: --chat and --special exclude each other\n");
        return HOB_EXIT_USAGE;
    }

    hob_diag diag = {""};
    hob_offline offline = {0};
    hob_ids ids = {0};
    char *input = NULL;
    size_t len = prompt ? strlen(prompt) : 0;
    int r = prompt ? 0 : hob_read_all(NULL, &input, &len, &diag);
    if (r < 0)
        goto fail;
    const char *text = prompt ? prompt : input;
    r = hob_offline_open(model, device, threads, &offline, &diag);
    if (r < 0)
        goto fail;

    const hob_tokenizer *tokenizer = hob_model_tokenizer(offline.model);
    hob_text_range all = {0, len};
    if ((r = hob_check_utf8("the prompt", text, len, &diag)) < 0)
        goto fail;
    r = chat ? hob_chat_ids(offline.model, text, len, &ids, &diag)
             : hob_tokenize(tokenizer, text, len, &all, special ? 1 : 0,
                            hob_tokenizer_adds_bos(tokenizer), 0, &ids, &diag);
    if (r < 0)
        goto fail;
    if (ids.count == 0) {
        r = hob_fail(&diag, HOB_EINVAL, "the prompt has no tokens");
        goto fail;
    }
    hob_sampling sampling;
    hob_sampling_default(&sampling);
    sampling.temperature = (float)temperature;
    sampling.top_k = top_k;
    sampling.top_p = (float)top_p;
    sampling.min_p = (float)min_p;
    sampling.repeat_penalty = (float)repeat_penalty;
    sampling.seed = seed;
    sampling.ignore_eos = ignore_eos;

    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    r = run_request(offline.model, &ids, &sampling, max_tokens,
                    strcmp(kv, "f16") == 0 ? HOB_TYPE_F16 : HOB_TYPE_Q8_0, &a, &diag);
    if (r < 0)
        goto fail;
    r = print_answer(&a, &ids, &diag);
fail:
    hob_offline_close(&offline);
    hob_ids_free(&ids);
    hob_ids_free(&a.ids);
    free(a.text);
    free(input);
    if (r < 0)
        return hob_ctl_failed("generate", &diag);
    return interrupted ? HOB_EXIT_INTERRUPTED : HOB_EXIT_OK;
}
