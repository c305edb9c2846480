/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl template: messages on stdin to the exact prompt that a chat template makes of them, with
 * the generation prompt added. The input is a JSON list of messages, or an object with "messages"
 * and any other variables of the template ("tools", …). --json also prints which byte ranges are
 * trusted, that is, may hold control tokens. */
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

/* The template in a model file or the one for its turn tokens, compiled, and its token names. Weights are not loaded. */
static int open_from_model(const char *path, hob_template **ret_template, json_t **ret_tokens,
                           hob_diag *diag)
{
    hob_gguf *gguf = NULL;
    hob_tokenizer *tokenizer = NULL;
    int r = hob_gguf_open(path, &gguf, diag);
    if (r < 0)
        return r;
    r = hob_tokenizer_open(gguf, &tokenizer, diag);
    if (r < 0)
        goto fail;
    r = hob_template_of_file(gguf, tokenizer, ret_template, diag);
    if (r == HOB_ENOENT)
        hob_fail(diag, r,
                 "%s holds no chat template (key tokenizer.chat_template), nor known turn tokens: "
                 "pass one with --template",
                 path);
    if (r < 0)
        goto fail;
    *ret_tokens = hob_template_tokens(tokenizer); /* the caller releases both */
    if (!*ret_tokens)
        r = hob_fail(diag, HOB_ENOMEM, "no memory for the token names");
fail:
    hob_tokenizer_close(tokenizer);
    hob_gguf_close(gguf);
    return r;
}

static int open_from_file(const char *path, hob_template **ret, hob_diag *diag)
{
    char *source;
    size_t len;
    int r = hob_read_all(path, &source, &len, diag);
    if (r < 0)
        return r;
    r = hob_template_compile(source, len, ret, diag);
    free(source);
    return r;
}

/* The template's variables from stdin. */
static int read_variables(json_t **ret, hob_diag *diag)
{
    char *text;
    size_t len;
    int r = hob_read_all(NULL, &text, &len, diag);
    if (r < 0)
        return r;
    json_error_t error;
    json_t *input = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    free(text);
    if (!input)
        return hob_fail(diag, HOB_EFORMAT, "standard input is not JSON: %s at line %d", error.text,
                        error.line);
    json_t *variables = json_is_array(input) ? json_pack("{s:o}", "messages", input) : input;
    if (!json_is_object(variables) || !json_is_array(json_object_get(variables, "messages"))) {
        json_decref(variables ? variables : input);
        return hob_fail(
            diag, HOB_EINVAL,
            "standard input: allowed: a list of messages, or an object with \"messages\"");
    }
    if (!json_object_get(variables, "add_generation_prompt") &&
        json_object_set_new(variables, "add_generation_prompt", json_true()) != 0) {
        json_decref(variables);
        return hob_fail(diag, HOB_ENOMEM, "no memory for the messages");
    }
    *ret = variables;
    return 0;
}

static int print_rendered(const hob_rendered *rendered, bool json, hob_diag *diag)
{
    if (!json) {
        fwrite(rendered->text, 1, rendered->len, stdout);
        return 0;
    }
    json_t *trusted = json_array();
    for (size_t i = 0; trusted && i < rendered->trusted_count; i++) {
        json_t *range = json_pack("[I,I]", (json_int_t)rendered->trusted[i].start,
                                  (json_int_t)rendered->trusted[i].end);
        if (json_array_append_new(trusted, range) != 0) {
            json_decref(trusted);
            trusted = NULL;
        }
    }
    json_t *text = json_stringn(rendered->text, rendered->len);
    return hob_json_print(json_pack("{s:o,s:o}", "text", text, "trusted", trusted), diag);
}

int hob_ctl_template(int argc, char **argv)
{
    const char *model = NULL, *file = NULL, *bos = NULL, *eos = NULL;
    bool json = false;
    const hob_option options[] = {
        HOB_TEXT("--model", "FILE", &model, "GGUF file with a chat template"),
        HOB_TEXT("--template", "FILE", &file, "a template of its own, in a text file"),
        HOB_TEXT("--bos", "TEXT", &bos, "bos_token (default: the model's, else empty)"),
        HOB_TEXT("--eos", "TEXT", &eos, "eos_token (default: the model's, else empty)"),
        HOB_FLAG("--json", &json, "print {\"text\", \"trusted\": [[start, end], ...]}"),
    };
    const hob_syntax syntax = {
        .command = "template",
        .summary =
            "Renders messages from standard input with a chat template, generation prompt added.",
        .notes =
            "Input: a JSON list of messages, or an object with \"messages\" and other variables.\n"
            "One of --model and --template is needed; ranges are in bytes.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (!model == !file) {
        fprintf(stderr,
                "hobctl template: exactly one of --model FILE and --template FILE is needed\n");
        return HOB_EXIT_USAGE;
    }

    hob_diag diag = {""};
    hob_template *template = NULL;
    json_t *tokens = NULL, *variables = NULL;
    hob_rendered rendered = {0};
    int r = model ? open_from_model(model, &template, &tokens, &diag)
                  : open_from_file(file, &template, &diag);
    if (r < 0)
        goto fail;
    if (!tokens)
        tokens = json_pack("{s:s,s:s}", "bos_token", "", "eos_token", "");
    if ((bos && json_object_set_new(tokens, "bos_token", json_string(bos)) != 0) ||
        (eos && json_object_set_new(tokens, "eos_token", json_string(eos)) != 0)) {
        r = hob_fail(&diag, HOB_EINVAL, "--bos and --eos must be valid UTF-8");
        goto fail;
    }
    r = read_variables(&variables, &diag);
    if (r < 0)
        goto fail;
    r = hob_template_render(template, variables, tokens, 0, &rendered, &diag);
    if (r < 0)
        goto fail;
    r = print_rendered(&rendered, json, &diag);
fail:
    hob_rendered_free(&rendered);
    json_decref(variables);
    json_decref(tokens);
    hob_template_free(template);
    return r < 0 ? hob_ctl_failed("template", &diag) : HOB_EXIT_OK;
}
