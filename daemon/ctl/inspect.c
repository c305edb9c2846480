/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl inspect: what is in a model file, whether hob can run it, on which device, and how much memory it takes at
 * which context. Loads no weights. Exit status 1: hob cannot run it; what the file holds is printed all the same. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "hal/select.h"

enum { TYPES_MAX = 64, CONTEXTS_MAX = 8, TEXT_MAX = 160 };

typedef struct findings {
    const char *path;
    hob_gguf *g;
    uint64_t
        types[TYPES_MAX]; /* tensors of each GGUF type; the last place: of all higher numbers */
    bool runs;
    hob_diag why; /* it does not */
    hob_model_info info;
    uint64_t working_bytes; /* activations of a step, and logits */
    hob_choice device;
    uint32_t contexts[CONTEXTS_MAX], context_count;
} findings;

/* The sizes that people choose, up to what the model was trained for. */
static void choose_contexts(findings *f)
{
    static const uint32_t usual[] = {2048, 4096, 8192, 16384, 32768, 131072};
    for (size_t i = 0; i < sizeof usual / sizeof *usual && usual[i] < f->info.context_train; i++)
        f->contexts[f->context_count++] = usual[i];
    f->contexts[f->context_count++] = f->info.context_train;
}

/* Weights, KV cache of one sequence of that length, and a step's working memory. */
static uint64_t memory_at(const findings *f, uint32_t context, hob_type kv)
{
    return f->info.weight_bytes + f->info.weight_bytes / 25 + /* panels are up to 4 % larger */
           f->working_bytes + context * hob_model_kv_token_bytes(&f->info, kv);
}

static void look(findings *f)
{
    for (uint64_t i = 0; i < hob_gguf_tensor_count(f->g); i++) {
        uint32_t type = hob_gguf_tensor_at(f->g, i)->type;
        f->types[type < TYPES_MAX ? type : TYPES_MAX - 1]++;
    }
    f->runs = hob_model_inspect(f->g, f->path, &f->info, &f->why) == 0;
    if (f->runs && hob_hal_choose(NULL, NULL, &f->device, &f->why) < 0)
        f->runs = false;
    if (!f->runs)
        return;
    choose_contexts(f);
    const hob_model_info *m = &f->info;
    f->working_bytes =
        HOB_CTL_STEP_ROWS * m->row_bytes + (m->pooling == HOB_POOLING_NONE ? 4ull * m->vocab : 0);
}

static json_t *keys_json(const findings *f)
{
    json_t *list = json_object();
    hob_string key;
    char text[TEXT_MAX], name[TEXT_MAX];
    for (uint64_t i = 0; list && hob_gguf_describe_key(f->g, i, &key, text, sizeof text); i++) {
        snprintf(name, sizeof name, "%.*s", (int)(key.len < TEXT_MAX ? key.len : TEXT_MAX - 1),
                 key.data);
        json_object_set_new(list, name, json_string(text));
    }
    return list;
}

static int print_json(const findings *f, hob_diag *diag)
{
    const hob_model_info *m = &f->info;
    json_t *types = json_object(), *memory = json_array();
    for (size_t i = 0; i < TYPES_MAX; i++)
        if (f->types[i]) {
            json_object_set_new(types, hob_gguf_type_name((uint32_t)i),
                                json_integer((json_int_t)f->types[i]));
        }
    for (uint32_t i = 0; i < f->context_count; i++)
        json_array_append_new(
            memory, json_pack("{s:I,s:I,s:I}", "context", (json_int_t)f->contexts[i], "f16_bytes",
                              (json_int_t)memory_at(f, f->contexts[i], HOB_TYPE_F16), "q8_0_bytes",
                              (json_int_t)memory_at(f, f->contexts[i], HOB_TYPE_Q8_0)));
    json_t *o = json_pack("{s:s,s:I,s:b,s:o,s:o,s:o}", "file", f->path, "file_bytes",
                          (json_int_t)hob_gguf_file_bytes(f->g), "runs", (int)f->runs, "types",
                          types, "memory", memory, "keys", keys_json(f));
    if (o && !f->runs)
        json_object_set_new(o, "reason", json_string(f->why.text));
    if (o && f->runs)
        json_object_update_new(
            o,
            json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:b,s:s}", "name",
                      m->name, "architecture", m->architecture, "parameters",
                      (json_int_t)m->parameters, "layers", (json_int_t)m->layers, "width",
                      (json_int_t)m->width, "heads", (json_int_t)m->heads, "kv_heads",
                      (json_int_t)m->kv_heads, "head_dim", (json_int_t)m->head_dim, "feed_forward",
                      (json_int_t)m->ff, "experts", (json_int_t)m->experts, "experts_used",
                      (json_int_t)m->experts_used, "window", (json_int_t)m->window, "vocab",
                      (json_int_t)m->vocab, "context", (json_int_t)m->context_train, "template",
                      (int)m->has_template, "device", f->device.info.name));
    return hob_json_print(o, diag);
}

static void print_text(const findings *f, bool keys, bool tensors)
{
    const hob_model_info *m = &f->info;
    char text[TEXT_MAX];
    hob_string key;

    printf("%-13s %s, %.1f MB\n", "file", f->path, (double)hob_gguf_file_bytes(f->g) / 1e6);
    if (f->runs) {
        printf("%-13s %s, %.1f million parameters\n", "model", m->name,
               (double)m->parameters / 1e6);
        printf("%-13s %s: %" PRIu32 " layers of width %" PRIu32 ", %" PRIu32 " heads (%" PRIu32
               " KV) of %" PRIu32 ", feed-forward %" PRIu32,
               "architecture", m->architecture, m->layers, m->width, m->heads, m->kv_heads,
               m->head_dim, m->ff);
        if (m->experts)
            printf(", %" PRIu32 " of %" PRIu32 " experts", m->experts_used, m->experts);
        if (m->window)
            printf(", window %" PRIu32, m->window);
        printf("\n%-13s %" PRIu32 " tokens; trained for contexts of %" PRIu32 "\n", "vocabulary",
               m->vocab, m->context_train);
        if (m->pooling != HOB_POOLING_NONE)
            printf("%-13s vectors of %" PRIu32 ", %s: /v1/embeddings only\n", "embeddings",
                   m->width,
                   m->pooling == HOB_POOLING_CLS ? "of the class token" : "mean of the tokens");
        else
            printf("%-13s %s\n", "chat template",
                   m->has_template ? "yes" : "none: /v1/completions only");
    }
    printf("%-13s", "tensors");
    for (size_t i = 0; i < TYPES_MAX; i++)
        if (f->types[i])
            printf(" %" PRIu64 " %s", f->types[i], hob_gguf_type_name((uint32_t)i));
    printf("\n");
    if (f->runs)
        printf("%-13s yes, on %s%s%s (%s)\n", "runs", f->device.info.name,
               f->device.info.isa[0] ? " " : "", f->device.info.isa, f->device.info.description);
    else
        printf("%-13s no: %s\n", "runs", f->why.text);
    if (f->runs && m->pooling != HOB_POOLING_NONE)
        printf("%-13s %6.0f MB\n", "memory", (double)memory_at(f, 0, HOB_TYPE_F16) / 1e6);
    for (uint32_t i = 0; m->pooling == HOB_POOLING_NONE && i < f->context_count; i++)
        printf("%-13s %6.0f MB with one context of %6" PRIu32 " tokens, %6.0f MB with a q8_0 KV "
               "cache\n",
               i ? "" : "memory", (double)memory_at(f, f->contexts[i], HOB_TYPE_F16) / 1e6,
               f->contexts[i], (double)memory_at(f, f->contexts[i], HOB_TYPE_Q8_0) / 1e6);
    for (uint64_t i = 0; keys && hob_gguf_describe_key(f->g, i, &key, text, sizeof text); i++) {
        hob_print_text(stdout, key.data, key.len);
        printf(" = %s\n", text);
    }
    for (uint64_t i = 0; tensors && i < hob_gguf_tensor_count(f->g); i++) {
        const hob_gguf_tensor *t = hob_gguf_tensor_at(f->g, i);
        hob_print_text(stdout, t->name.data, t->name.len);
        printf(" %s", hob_gguf_type_name(t->type));
        for (uint32_t d = 0; d < t->dim_count; d++)
            printf("%s%" PRIu64, d ? " x " : " ", t->dims[d]);
        printf("\n");
    }
}

int hob_ctl_inspect(int argc, char **argv)
{
    bool json = false, keys = false, tensors = false;
    const hob_option options[] = {
        HOB_FLAG("--keys", &keys, "print the file's keys too"),
        HOB_FLAG("--tensors", &tensors, "print the file's tensors too"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "inspect",
        .summary =
            "Shows what a GGUF file holds, whether hob can run it, and with how much memory.",
        .positional = "FILE",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    int files = 0;
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &files);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (files != 1) {
        fprintf(stderr, "hobctl inspect: got %d files, one is needed\n", files);
        return HOB_EXIT_USAGE;
    }
    hob_diag diag = {""};
    findings f = {.path = argv[1]};
    int rc = hob_gguf_open(f.path, &f.g, &diag);
    if (rc == 0) {
        look(&f);
        if (json)
            rc = print_json(&f, &diag);
        else
            print_text(&f, keys, tensors);
    }
    hob_gguf_close(f.g);
    if (rc < 0)
        return hob_ctl_failed("inspect", &diag);
    return f.runs ? HOB_EXIT_OK : HOB_EXIT_FAILURE;
}
