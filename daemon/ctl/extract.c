/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl extract: what hob makes of a document, as the server would store and search it. Starts this program again as the
 * extractor, in its sandbox. Exit status 1: there is no text; the error says why. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/offline.h"
#include "daemon/ctl/options.h"
#include "daemon/extract/extractor.h"

typedef struct counter {
    const char *name;
    uint32_t count;
} counter;

enum { COUNTERS = 8 };

static void list_stripped(const hob_stripped *s, counter ret[COUNTERS])
{
    const counter all[COUNTERS] = {{"control", s->control},     {"zero_width", s->zero_width},
                                   {"bidi", s->bidi},           {"tags", s->tags},
                                   {"variation", s->variation}, {"marks", s->marks},
                                   {"hidden", s->hidden},       {"replaced", s->replaced}};
    memcpy(ret, all, sizeof all);
}

static int print_json(const hob_extraction *e, hob_diag *diag)
{
    counter counters[COUNTERS];
    json_t *stripped = json_object(), *chunks = json_array();
    list_stripped(&e->stripped, counters);
    for (int i = 0; i < COUNTERS; i++)
        json_object_set_new(stripped, counters[i].name, json_integer(counters[i].count));
    for (uint32_t i = 0; i < e->chunk_count; i++)
        json_array_append_new(
            chunks, json_pack("{s:I, s:I, s:I, s:s}", "start", (json_int_t)e->chunks[i].start,
                              "end", (json_int_t)e->chunks[i].end, "tokens",
                              (json_int_t)e->chunks[i].tokens, "headings", e->chunks[i].path));
    return hob_json_print(json_pack("{s:s, s:s, s:s, s:o, s:s#, s:o}", "media_type", e->media_type,
                                    "encoding", e->encoding, "title", e->title, "stripped",
                                    stripped, "text", e->text, (int)e->text_len, "chunks", chunks),
                          diag);
}

static void print_head(const hob_extraction *e)
{
    counter counters[COUNTERS];
    list_stripped(&e->stripped, counters);
    printf("type          %s%s%s\n", e->media_type, e->encoding[0] ? ", " : "", e->encoding);
    if (e->title[0]) {
        printf("title         ");
        hob_print_text(stdout, e->title, strlen(e->title));
        putchar('\n');
    }
    printf("text          %zu bytes\n", e->text_len);
    for (int i = 0; i < COUNTERS; i++)
        if (counters[i].count)
            printf("stripped      %" PRIu32 " %s\n", counters[i].count, counters[i].name);
}

static void print_text(const hob_extraction *e)
{
    print_head(e);
    if (e->chunk_count == 0) {
        putchar('\n');
        hob_print_text(stdout, e->text, e->text_len);
        putchar('\n');
    }
    for (uint32_t i = 0; i < e->chunk_count; i++) {
        const hob_extracted_chunk *c = &e->chunks[i];
        printf("\n---- chunk %" PRIu32 ", bytes %" PRIu32 " to %" PRIu32 ", %" PRIu32 " tokens%s",
               i, c->start, c->end, c->tokens, c->path[0] ? ", " : "");
        hob_print_text(stdout, c->path, strlen(c->path));
        putchar('\n');
        hob_print_text(stdout, e->text + c->start, c->end - c->start);
        putchar('\n');
    }
}

static int run(const hob_extract_request *request, bool json, hob_diag *diag)
{
    hob_extractor *x;
    int r = hob_extractor_start(request, &x, diag);
    if (r < 0)
        return r;
    while (!hob_extractor_step(x, -1))
        ;
    const hob_extraction *e = hob_extractor_result(x);
    if (e->error)
        r = hob_fail(diag, HOB_EFORMAT, "%s: %s", hob_extract_error_name(e->error), e->why.text);
    else if (json)
        r = print_json(e, diag);
    else
        print_text(e);
    hob_extractor_free(x);
    return r;
}

static int open_file(const char *path, int *ret, hob_diag *diag)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return hob_fail(diag, HOB_EIO, "%s: %s", path, strerror(errno));
    *ret = fd;
    return 0;
}

int hob_ctl_extract(int argc, char **argv)
{
    hob_extract_request request = hob_extract_request_default;
    const char *model = NULL;
    bool json = false;
    int files;
    const hob_option options[] = {
        HOB_TEXT("--model", "FILE", &model,
                 "GGUF file of the embedding model, whose tokens count; without it no chunks"),
        HOB_U32("--chunk-tokens", &request.chunk_tokens, HOB_CHUNK_TOKENS_LEAST,
                HOB_CHUNK_TOKENS_MOST, "of a chunk at most (default 200)"),
        HOB_U32("--overlap-tokens", &request.overlap_tokens, 0, HOB_CHUNK_TOKENS_MOST / 2,
                "that a chunk repeats of the one before (default 32); at most half of a chunk"),
        HOB_TEXT("--type", "TYPE", &request.media_type,
                 "media type, as an upload may state it, where the content leaves a choice"),
        HOB_FLAG("--json", &json, HOB_HELP_JSON),
    };
    const hob_syntax syntax = {
        .command = "extract",
        .summary = "Prints the text that hob finds in a document, and the chunks it is cut into.",
        .positional = "FILE",
        .notes = "Reads plain text, Markdown, HTML, DOCX, and with poppler-utils installed PDF.",
        .options = options,
        .option_count = sizeof options / sizeof options[0]};
    const hob_parsed parsed = hob_options_parse(&syntax, argc, argv, &files);
    if (parsed != HOB_PARSED_RUN)
        return parsed == HOB_PARSED_HELP ? HOB_EXIT_OK : HOB_EXIT_USAGE;
    if (files != 1) {
        fprintf(stderr, "hobctl extract: got %d files, allowed 1\n", files);
        return HOB_EXIT_USAGE;
    }

    hob_diag diag = {""};
    request.name = argv[1];
    int r = open_file(argv[1], &request.document, &diag);
    if (r == 0 && model)
        r = open_file(model, &request.vocabulary, &diag);
    if (r == 0)
        r = run(&request, json, &diag);
    if (request.document >= 0)
        close(request.document);
    if (request.vocabulary >= 0)
        close(request.vocabulary);
    return r < 0 ? hob_ctl_failed("extract", &diag) : HOB_EXIT_OK;
}
