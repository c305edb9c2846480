/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl tokenize: stdin to token ids. Needs only the file's vocabulary, so it works on GGUF files
 * without weights. */
#include <inttypes.h>
#include <stdlib.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"

/* One id a line with its piece, for people. */
static void print_pieces(const hob_tokenizer *t, const hob_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        hob_string piece = hob_tokenizer_piece(t, ids->data[i]);
        printf("%8" PRIu32 "  \"", ids->data[i]);
        for (size_t j = 0; j < piece.len; j++) {
            unsigned char c = (unsigned char)piece.data[j];
            if (c < 0x20 || c == 0x7F)
                printf("\\x%02x", c);
            else
                putchar(c);
        }
        puts("\"");
    }
}

int hob_ctl_tokenize(int argc, char **argv)
{
    const char *model = NULL;
    bool special = false, bos = false, pieces = false, json = false;
    const hob_option options[] = {
        HOB_REQUIRED("--model", "FILE", &model, "GGUF file; its vocabulary is enough"),
        HOB_FLAG("--special", &special, "parse control tokens in the text"),
        HOB_FLAG("--bos", &bos,
                 "add the beginning-of-text token, and the end's where the model has it"),
        HOB_FLAG("--pieces", &pieces, "print one token a line with its text"),
        HOB_FLAG("--json", &json, "print {\"ids\": [...]} (the default)"),
    };
    const hob_syntax syntax = {
        .command = "tokenize",
        .summary = "Reads text from standard input to its end and prints its token ids.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    hob_parsed parsed = hob_options_parse(&syntax, argc, argv, NULL);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (pieces && json) {
        fprintf(stderr, "hobctl tokenize: --pieces and --json exclude each other\n");
        return HOB_EXIT_USAGE;
    }

    hob_diag diag = {""};
    hob_gguf *gguf = NULL;
    hob_tokenizer *tokenizer = NULL;
    hob_ids ids = {0};
    char *text = NULL;
    size_t len = 0;
    int r = hob_gguf_open(model, &gguf, &diag);
    if (r < 0)
        goto fail;
    r = hob_tokenizer_open(gguf, &tokenizer, &diag);
    if (r < 0)
        goto fail;
    r = hob_read_all(NULL, &text, &len, &diag);
    if (r < 0)
        goto fail;
    if (bos && hob_tokenizer_bos(tokenizer) == HOB_TOKEN_NONE) {
        r = hob_fail(&diag, HOB_EINVAL, "--bos: the model names no beginning-of-text token");
        goto fail;
    }
    hob_text_range all = {0, len};
    r = hob_tokenize(tokenizer, text, len, &all, special ? 1 : 0, bos, 0, &ids, &diag);
    if (r < 0)
        goto fail;
    if (pieces)
        print_pieces(tokenizer, &ids);
    else
        r = hob_json_print(json_pack("{s:o}", "ids", hob_json_ids(ids.data, ids.count)), &diag);
fail:
    free(text);
    hob_ids_free(&ids);
    hob_tokenizer_close(tokenizer);
    hob_gguf_close(gguf);
    return r < 0 ? hob_ctl_failed("tokenize", &diag) : HOB_EXIT_OK;
}
