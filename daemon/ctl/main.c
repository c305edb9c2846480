/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl: the command line of hob. This file only chooses a command; each command lives in its own
 * file. Exit status: 0 done, 1 it failed (stderr says why), 2 it was asked wrongly (stderr says
 * what is allowed), 130 interrupted. */
#include "daemon/ctl/ctl.h"

#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/extract/extract.h"

typedef struct command {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} command;

static const command commands[] = {
    {"chat", "talk to the server's model, interactively or with one question", hob_ctl_chat},
    {"ask", "answer a question from the documents in a vector store of the server", hob_ctl_ask},
    {"ingest", "put files and folders into a vector store of the server", hob_ctl_ingest},
    {"search", "find passages in a vector store of the server", hob_ctl_search},
    {"models", "list the server's models", hob_ctl_models},
    {"status", "how the running hobd is, over its admin socket", hob_ctl_status},
    {"stats", "how long requests of the last minute, ten minutes and hour took", hob_ctl_stats},
    {"top", "how hobd does, live, on the whole screen", hob_ctl_top},
    {"logs", "the last lines of hobd's log, and those that come", hob_ctl_logs},
    {"trace", "where the time of a request went", hob_ctl_trace},
    {"audit", "what administrators have done", hob_ctl_audit},
    {"keys", "make, list, change, revoke and rotate the API keys of the running hobd",
     hob_ctl_keys},
    {"store", "check, copy and put back the store", hob_ctl_store},
    {"usage", "requests and tokens of each key and day", hob_ctl_usage},
    {"inspect", "what a model file holds, whether hob can run it, and with how much memory",
     hob_ctl_inspect},
    {"import", "turn a Hugging Face folder (safetensors) into a GGUF file", hob_ctl_import},
    {"generate", "continue a prompt on a model file, without a server", hob_ctl_generate},
    {"tokenize", "text on stdin to token ids", hob_ctl_tokenize},
    {"extract", "the text and chunks that hob makes of a document", hob_ctl_extract},
    {"template", "messages on stdin to the prompt that a chat template makes of them",
     hob_ctl_template},
    {"perplexity", "how well a model file predicts a text", hob_ctl_perplexity},
    {"bench", "prefill and decode speed of a model file", hob_ctl_bench},
    {"setup", "set up the hob of this machine, or a folder of its own", hob_ctl_setup},
    {"doctor", "what is wrong with the hob of this machine, and what to type", hob_ctl_doctor},
};
enum { COMMAND_COUNT = sizeof commands / sizeof commands[0] };

static void print_help(FILE *f)
{
    fprintf(f, "hobctl %s: the command line of hob\n\nusage: hobctl COMMAND [options]\n\n",
            HOB_VERSION);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(f, "\nhobctl COMMAND --help lists a command's options; hobctl --version prints the "
               "version.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return HOB_EXIT_USAGE;
    }
    lws_set_log_level(0, NULL);
    unsetenv("http_proxy"); /* client.h */
    const char *name = argv[1];
    if (strcmp(name, "--extract") == 0) /* started by the command extract */
        return hob_extract_main(argc - 2, argv + 2);
    int status = HOB_EXIT_OK;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
    } else if (strcmp(name, "--version") == 0) {
        printf("hobctl %s\n", HOB_VERSION);
    } else {
        const command *c = NULL;
        for (size_t i = 0; i < COMMAND_COUNT; i++)
            if (strcmp(commands[i].name, name) == 0)
                c = &commands[i];
        if (!c) {
            fprintf(stderr,
                    "hobctl: unknown %s \"%s\"; allowed:", name[0] == '-' ? "option" : "command",
                    name);
            for (size_t i = 0; i < COMMAND_COUNT; i++)
                fprintf(stderr, " %s", commands[i].name);
            fprintf(stderr, " --help --version\n");
            return HOB_EXIT_USAGE;
        }
        status = c->run(argc - 1, argv + 1);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "hobctl: cannot write to standard output\n");
        return status ? status : HOB_EXIT_FAILURE;
    }
    return status;
}
