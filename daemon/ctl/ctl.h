/* SPDX-License-Identifier: Apache-2.0
 *
 * hobctl's commands. Each is one function in one file, takes its own arguments (argv[0] is the
 * command's name) and returns the exit status. Offline commands read a model file themselves;
 * online ones talk to a server. What a person asked for goes to stdout, everything else to stderr.
 */
#ifndef HOB_DAEMON_CTL_CTL_H
#define HOB_DAEMON_CTL_CTL_H

#include "daemon/conf/version.h"

enum {
    HOB_EXIT_OK = 0,
    HOB_EXIT_FAILURE = 1,
    HOB_EXIT_USAGE = 2,
    HOB_EXIT_INTERRUPTED = 130, /* Ctrl-C, as shells count it */
};

/* Offline, on a GGUF file. */
int hob_ctl_inspect(int argc, char **argv);
int hob_ctl_generate(int argc, char **argv);
int hob_ctl_tokenize(int argc, char **argv);
int hob_ctl_extract(int argc, char **argv); /* of a document */
int hob_ctl_template(int argc, char **argv);
int hob_ctl_perplexity(int argc, char **argv);
int hob_ctl_bench(int argc, char **argv);
int hob_ctl_doctor(int argc, char **argv);

/* Offline, makes a GGUF file. */
int hob_ctl_import(int argc, char **argv);

/* Online, against a server. */
int hob_ctl_chat(int argc, char **argv);
int hob_ctl_ask(int argc, char **argv);
int hob_ctl_models(int argc, char **argv);
int hob_ctl_ingest(int argc, char **argv);
int hob_ctl_search(int argc, char **argv);

/* Online, over hobd's admin socket. */
int hob_ctl_status(int argc, char **argv);
int hob_ctl_stats(int argc, char **argv);
int hob_ctl_top(int argc, char **argv);
int hob_ctl_logs(int argc, char **argv);
int hob_ctl_audit(int argc, char **argv);
int hob_ctl_trace(int argc, char **argv);

int hob_ctl_keys(int argc, char **argv);
int hob_ctl_usage(int argc, char **argv);

/* Over the admin socket, or on a store's file. */
int hob_ctl_store(int argc, char **argv);

/* On files: a signed bundle, and what a box has installed. */
int hob_ctl_bundle(int argc, char **argv);

/* Certificates, first key and configuration of a new installation. */
int hob_ctl_setup(int argc, char **argv);

#endif
