/* SPDX-License-Identifier: Apache-2.0
 *
 * The course of an import. See import.h. First everything that says what the model is: what does not fit together is refused
 * before a byte is written. What the folder's files say of the tokenizer is read back by the tokenizer that will use it. Then
 * the weights, one tensor after the other. */
#include "models/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/arch.h"
#include "models/import_private.h"
#include "models/tokenizer.h"

enum { KEY_MAX = 96, QUANTIZATION_VERSION = 2 };

/* llama.cpp's numbers in general.file_type: what most tensors are. */
enum { FILE_TYPE_F16 = 1, FILE_TYPE_Q8_0 = 7 };

static const hob_import_arch *const architectures[] = {&hob_import_bert};
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

static const char config_name[] = "config.json";

void hob_import_put_u32(const hob_import_job *job, const char *name, uint32_t value)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s.%s", job->architecture, name);
    hob_gguf_put_u32(job->out, key, value);
}

void hob_import_put_f32(const hob_import_job *job, const char *name, float value)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s.%s", job->architecture, name);
    hob_gguf_put_f32(job->out, key, value);
}

void hob_import_put_bool(const hob_import_job *job, const char *name, bool value)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "%s.%s", job->architecture, name);
    hob_gguf_put_bool(job->out, key, value);
}

int hob_import_config_u32(const hob_import_job *job, const char *key, uint32_t max, uint32_t *ret)
{
    uint64_t v;
    const int rc = hob_strict_u64(config_name, job->config, key, 1, max, &v, job->diag);
    if (rc == 0)
        *ret = (uint32_t)v;
    return hob_strict_required(rc);
}

static int find_architecture(const hob_import_job *job, const hob_import_arch **ret)
{
    const char *type;
    char known[128] = "";
    const int rc = hob_strict_string(config_name, job->config, "model_type", &type, job->diag);
    if (rc < 0)
        return hob_strict_required(rc);
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        const size_t used = strlen(known);
        if (strcmp(architectures[i]->model_type, type) == 0) {
            *ret = architectures[i];
            return 0;
        }
        snprintf(known + used, sizeof known - used, " %s", architectures[i]->model_type);
    }
    return hob_fail(job->diag, HOB_EUNSUPPORTED, "%s: model_type: got \"%.60s\", supported:%s",
                    config_name, type, known);
}

/* The last part of the path or repository that config.json gives as the model's origin: what is before it belongs to another
 * machine. */
static void put_name(const hob_import_job *job, const char *model_type)
{
    const char *name = job->options->name, *origin;
    if (!name && hob_strict_string(config_name, job->config, "_name_or_path", &origin, NULL) == 0) {
        const char *slash = strrchr(origin, '/');
        name = slash ? slash + 1 : origin;
    }
    if (!name || !name[0])
        name = model_type;
    hob_gguf_put_string(job->out, "general.name", name, strlen(name));
}

/* The vocabulary that was put is one that hob can use. */
static int check_tokenizer(const hob_import_job *job)
{
    void *file = NULL;
    size_t bytes = 0;
    hob_gguf *g = NULL;
    hob_tokenizer *t = NULL;
    int rc = hob_gguf_writer_keys(job->out, &file, &bytes, job->diag);
    if (rc == 0)
        rc = hob_gguf_parse(file, bytes, &g, job->diag);
    if (rc == 0)
        rc = hob_tokenizer_open(g, &t, job->diag);
    hob_tokenizer_close(t);
    hob_gguf_close(g);
    free(file);
    return rc;
}

static int run(hob_import_job *job, hob_import_result *ret)
{
    const hob_import_options *o = job->options;
    const hob_import_arch *arch = NULL;
    hob_import_result result = {0};
    int rc;
    if ((rc = hob_import_sentence_read(o->folder, &job->sentence, job->diag)) < 0)
        return rc;
    if (snprintf(job->folder, sizeof job->folder, "%s/%s", o->folder, job->sentence.transformer) >=
        (int)sizeof job->folder)
        return hob_fail(job->diag, HOB_ELIMIT, "%.120s: the path is too long", o->folder);
    if ((rc = hob_strict_read(job->folder, config_name, HOB_IMPORT_CONFIG_MAX, &job->config,
                              job->diag)) < 0 ||
        (rc = find_architecture(job, &arch)) < 0 ||
        (rc = hob_import_weights_open(job->folder, &job->weights, job->diag)) < 0 ||
        (rc = hob_gguf_writer_new(&job->out, job->diag)) < 0)
        return rc;
    job->architecture = arch->architecture;
    hob_gguf_put_string(job->out, "general.architecture", arch->architecture,
                        strlen(arch->architecture));
    put_name(job, arch->model_type);
    hob_gguf_put_u32(job->out, "general.file_type",
                     o->type == HOB_TYPE_F16 ? FILE_TYPE_F16 : FILE_TYPE_Q8_0);
    hob_gguf_put_u32(job->out, "general.quantization_version", QUANTIZATION_VERSION);
    if ((rc = arch->convert(job)) < 0 ||
        (rc = hob_import_weights_all_used(&job->weights, job->diag)) < 0 ||
        (rc = check_tokenizer(job)) < 0 ||
        (rc = hob_gguf_writer_begin(job->out, o->out, job->diag)) < 0 ||
        (rc = hob_import_copy(job, &result.bytes)) < 0 ||
        (rc = hob_gguf_writer_finish(job->out, job->diag)) < 0)
        return rc;
    snprintf(result.architecture, sizeof result.architecture, "%s", arch->architecture);
    result.tensors = job->tensor_count;
    result.context = job->context;
    *ret = result;
    return 0;
}

int hob_import(const hob_import_options *options, hob_import_result *ret, hob_diag *diag)
{
    if (options->type != HOB_TYPE_F16 && options->type != HOB_TYPE_Q8_0)
        return hob_fail(diag, HOB_EINVAL, "type of matrices: got %d, allowed are F16 and Q8_0",
                        (int)options->type);
    hob_diag unread;
    hob_import_job *job = calloc(1, sizeof *job);
    if (!job)
        return hob_fail(diag, HOB_ENOMEM, "no memory to import a model");
    job->options = options;
    job->diag = diag ? diag : &unread;
    const int rc = run(job, ret);
    hob_gguf_writer_free(job->out);
    hob_import_weights_close(&job->weights);
    free(job->tensors);
    json_decref(job->config);
    free(job);
    return rc;
}
