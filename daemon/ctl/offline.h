/* SPDX-License-Identifier: Apache-2.0
 *
 * What the offline commands share: opening a model on a device, reading whole files, turning
 * messages into ids the way the engine does, and printing one JSON object. Thread: the command's
 * only one. */
#ifndef HOB_DAEMON_CTL_OFFLINE_H
#define HOB_DAEMON_CTL_OFFLINE_H

#include <jansson.h>
#include <stdio.h>

#include "models/model.h"

/* Help texts that several commands repeat. */
#define HOB_HELP_DEVICE "auto, cpu or opencl:N (default auto)"
#define HOB_HELP_THREADS "compute threads (default: one a core)"
#define HOB_HELP_JSON "print one JSON object"

enum {
    HOB_CTL_THREADS_MAX = 1024,
    HOB_CTL_INPUT_MAX = 256 * 1024 * 1024, /* bytes of a text or file read whole */
    HOB_CTL_STEP_ROWS = 512,               /* rows of a step, as the engine sets its batcher up */
};

typedef struct hob_offline { /* zero-initialize; released by hob_offline_close */
    hob_device *device;
    hob_model *model;
    uint64_t load_us; /* opening the device and the model */
} hob_offline;

HOB_MUST_CHECK int hob_offline_open(const char *path, const char *device, uint32_t threads,
                                    hob_offline *ret, hob_diag *diag);
void hob_offline_close(hob_offline *o);

/* Reads to the end of path, or of stdin when path is NULL. *ret has a NUL behind it; the caller
 * frees it. HOB_EIO, HOB_ELIMIT past HOB_CTL_INPUT_MAX. */
HOB_MUST_CHECK int hob_read_all(const char *path, char **ret, size_t *ret_len, hob_diag *diag);

/* HOB_EINVAL with the offset of the first byte that is not UTF-8; what names the text. */
HOB_MUST_CHECK int hob_check_utf8(const char *what, const char *text, size_t len, hob_diag *diag);

/* {"bos_token": …, "eos_token": …} for a template. NULL: out of memory. */
json_t *hob_template_tokens(const hob_tokenizer *t);

/* One user message through the model's template and tokenizer. HOB_EUNSUPPORTED: the model has no
 * template. */
HOB_MUST_CHECK int hob_chat_ids(const hob_model *m, const char *text, size_t len, hob_ids *ret,
                                hob_diag *diag);

/* [ids] as a JSON array; NULL: out of memory. */
json_t *hob_json_ids(const uint32_t *ids, size_t count);
/* Prints the object and a newline to stdout and releases it. NULL, or text that is not UTF-8,
 * fails. */
HOB_MUST_CHECK int hob_json_print(json_t *object, hob_diag *diag);

/* Prints "hobctl COMMAND: diagnosis" and returns the exit status of a failure. */
int hob_ctl_failed(const char *command, const hob_diag *diag);

/* Writes model text. On a terminal, control characters other than newline and tab become '?', so
 * that a model cannot drive the terminal; elsewhere bytes go out as they are. */
void hob_print_text(FILE *f, const char *text, size_t len);

#endif
