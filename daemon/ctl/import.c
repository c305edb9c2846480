/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl import: a folder as Hugging Face's libraries store a model, turned into a GGUF file. See models/import.h. */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "models/import.h"

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* context: the per cent that was shown last. */
static bool show_progress(void *context, uint64_t done, uint64_t total)
{
    int *shown = context;
    const int percent = (int)(100.0 * (double)done / (double)total);
    if (percent != *shown && isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%.1f of %.1f MB, %d %%%s", (double)done / 1e6, (double)total / 1e6,
                percent, done == total ? "\n" : "");
        *shown = percent;
    }
    return !interrupted;
}

int hob_ctl_import(int argc, char **argv)
{
    const char *out = NULL, *type = "q8_0", *name = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_REQUIRED("--out", "FILE", &out, "the GGUF file to write"),
        HOB_CHOICE("--type", &type, "q8_0|f16", "of the weight matrices (default q8_0)"),
        HOB_TEXT("--name", "NAME", &name, "general.name of the result (default: config.json's)"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "import",
        .summary = "Turns a Hugging Face folder (safetensors) into a GGUF file.",
        .positional = "DIR",
        .notes =
            "Reads config.json, model.safetensors or the shards of model.safetensors.index.json,\n"
            "tokenizer.json or vocab.txt, tokenizer_config.json, chat_template.jinja, and of\n"
            "sentence-transformers modules.json, the pooling's config.json and\n"
            "sentence_bert_config.json. Architectures: bert, llama, qwen2. The same folder gives "
            "the\n"
            "same bytes. FILE is replaced as a whole, or, when something is wrong, left as it was.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int folders = 0, shown = -1;
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &folders);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (folders != 1) {
        fprintf(stderr, "hobctl import: got %d folders, one is needed\n", folders);
        return HOB_EXIT_USAGE;
    }
    hob_diag diag = {""};
    hob_import_result result;
    const hob_import_options import = {.folder = argv[1],
                                       .out = out,
                                       .name = name,
                                       .type =
                                           strcmp(type, "f16") == 0 ? HOB_TYPE_F16 : HOB_TYPE_Q8_0,
                                       .progress = show_progress,
                                       .context = &shown};
    if (name && hob_check_utf8("--name", name, strlen(name), &diag) < 0)
        return hob_ctl_failed("import", &diag);
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    if (hob_import(&import, &result, &diag) < 0) {
        if (shown >= 0 && shown < 100)
            fputc('\n', stderr);
        return interrupted ? HOB_EXIT_INTERRUPTED : hob_ctl_failed("import", &diag);
    }
    if (json)
        return hob_json_print(json_pack("{s:s, s:s, s:I, s:I, s:I}", "file", out, "architecture",
                                        result.architecture, "tensors", (json_int_t)result.tensors,
                                        "tensor_bytes", (json_int_t)result.bytes, "context_tokens",
                                        (json_int_t)result.context),
                              &diag) < 0
                   ? hob_ctl_failed("import", &diag)
                   : HOB_EXIT_OK;
    printf("%s: %s, %" PRIu64 " tensors, %.1f MB, contexts of %" PRIu32 " tokens\n", out,
           result.architecture, result.tensors, (double)result.bytes / 1e6, result.context);
    return HOB_EXIT_OK;
}
