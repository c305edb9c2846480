/* SPDX-License-Identifier: Apache-2.0
 *
 * What sentence-transformers stores beside a model: modules.json with the chain of modules, each module's config.json, and
 * the longest input; in the words of its version 6 too. Known chains are a transformer, its pooling and, if it is there, the normalization to length 1, which
 * cosine similarity does not see; anything else would change the embeddings and is refused. */
#include <stdio.h>
#include <string.h>

#include "models/import_private.h"

static const char modules_name[] = "modules.json";

/* "sentence_transformers.models.Pooling" ends in the class; one from elsewhere is code of the folder's own. */
static const char *class_of(const char *type)
{
    const char *dot = strrchr(type, '.');
    return dot && strncmp(type, "sentence_transformers.", 22) == 0 ? dot + 1 : "";
}

/* A name that leads into the folder and nowhere else. */
static bool is_plain_name(const char *name)
{
    return name[0] != '.' &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
               strlen(name);
}

/* Module i's folder, and that it is of this class. */
static int read_module(const json_t *modules, size_t i, const char *wanted, char path[64],
                       hob_diag *diag)
{
    const json_t *module = json_array_get(modules, i);
    const char *type, *text;
    int rc;
    if ((rc = hob_strict_string(modules_name, module, "type", &type, diag)) < 0 ||
        (rc = hob_strict_string(modules_name, module, "path", &text, diag)) < 0)
        return hob_strict_required(rc);
    if (strcmp(class_of(type), wanted) != 0)
        return hob_fail(diag, HOB_EUNSUPPORTED, "%s: module %zu: got %.80s, supported is %s",
                        modules_name, i, type, wanted);
    if (strlen(text) >= 64 || !is_plain_name(text))
        return hob_fail(diag, HOB_EFORMAT,
                        "%s: module %zu: path: got \"%.60s\", allowed is a folder's name",
                        modules_name, i, text);
    memcpy(path, text, strlen(text) + 1);
    return 0;
}

/* What the pooling's config.json has chosen: a text, as newer versions write it, or a flag of each mode. */
static int read_mode(const char *name, json_t *config, hob_pooling *ret, hob_diag *diag)
{
    static const struct {
        const char *text, *flag;
        hob_pooling pooling;
    } known[] = {{"mean", "pooling_mode_mean_tokens", HOB_POOLING_MEAN},
                 {"cls", "pooling_mode_cls_token", HOB_POOLING_CLS}};
    const json_t *mode = json_object_get(config, "pooling_mode");
    const char *text = json_string_value(mode), *key;
    hob_pooling found = 0;
    unsigned chosen = mode != NULL;
    json_t *v;
    for (size_t i = 0; text && i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i].text) == 0)
            found = known[i].pooling;
    json_object_foreach(config, key, v)
    {
        if (mode || strncmp(key, "pooling_mode_", 13) != 0 || !json_is_true(v))
            continue;
        chosen++;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (strcmp(key, known[i].flag) == 0)
                found = known[i].pooling;
    }
    if (!found || chosen != 1)
        return hob_fail(diag, HOB_EUNSUPPORTED,
                        "%s: pooling_mode: supported are the mean of all tokens and the first one "
                        "(cls), and one alone",
                        name);
    *ret = found;
    return 0;
}

static int read_pooling(const char *folder, const char *path, hob_import_sentence *ret,
                        hob_diag *diag)
{
    static const char *const widths[] = {"word_embedding_dimension", "embedding_dimension"};
    char name[96];
    json_t *config = NULL;
    uint64_t width = 0;
    int rc;
    snprintf(name, sizeof name, "%s%s" HOB_IMPORT_CONFIG, path, path[0] ? "/" : "");
    if ((rc = hob_strict_read(folder, name, HOB_IMPORT_CONFIG_MAX, &config, diag)) < 0)
        return rc;
    for (size_t i = 0; i < sizeof widths / sizeof *widths && rc == 0; i++)
        rc = hob_strict_optional(
            hob_strict_u64(name, config, widths[i], 1, UINT32_MAX, &width, diag));
    if (rc == 0)
        rc = read_mode(name, config, &ret->pooling, diag);
    ret->width = (uint32_t)width;
    json_decref(config);
    return rc;
}

static int read_limits(const char *folder, hob_import_sentence *ret, hob_diag *diag)
{
    static const char file[] = "sentence_bert_config.json";
    const char *task;
    char name[128];
    json_t *config = NULL;
    uint64_t tokens = 0;
    snprintf(name, sizeof name, "%s%s%s", ret->transformer, ret->transformer[0] ? "/" : "", file);
    int rc = hob_strict_read(folder, name, HOB_IMPORT_CONFIG_MAX, &config, diag);
    if (rc < 0)
        return hob_strict_optional(rc);
    rc = hob_strict_string(name, config, "transformer_task", &task, diag);
    if (rc == 0 && strcmp(task, "feature-extraction") != 0)
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "%s: transformer_task: got \"%.60s\", supported is feature-extraction", name,
                      task);
    if (rc == 0 || rc == HOB_ENOENT)
        rc = hob_strict_u64(name, config, "max_seq_length", 1, UINT32_MAX, &tokens, diag);
    if (rc == 0 || rc == HOB_ENOENT)
        rc = hob_strict_bool(name, config, "do_lower_case", &ret->lowercases, diag);
    ret->max_tokens = (uint32_t)tokens;
    json_decref(config);
    return hob_strict_optional(rc);
}

/* A prompt that is put in front of every text by default would be missing. */
static int check_prompt(const char *folder, hob_diag *diag)
{
    static const char name[] = "config_sentence_transformers.json";
    json_t *config = NULL;
    const char *prompt;
    int rc = hob_strict_read(folder, name, HOB_IMPORT_CONFIG_MAX, &config, diag);
    if (rc < 0)
        return hob_strict_optional(rc);
    rc = hob_strict_string(name, config, "default_prompt_name", &prompt, diag);
    if (rc == 0)
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "%s: default_prompt_name: got \"%.60s\", supported is none", name, prompt);
    json_decref(config);
    return hob_strict_optional(rc);
}

int hob_import_sentence_read(const char *folder, hob_import_sentence *ret, hob_diag *diag)
{
    hob_import_sentence s = {.pooling = HOB_POOLING_MEAN};
    json_t *modules = NULL;
    char pooling[64], ignored[64];
    int rc = hob_strict_read(folder, modules_name, HOB_IMPORT_CONFIG_MAX, &modules, diag);
    if (rc == HOB_ENOENT) {
        *ret = s;
        return 0;
    }
    if (rc < 0)
        return rc;
    s.present = true;
    const size_t count = json_array_size(modules);
    if (count < 2 || count > 3) {
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "%s: got %zu modules, supported are Transformer, Pooling and Normalize",
                      modules_name, count);
        goto fail;
    }
    if ((rc = read_module(modules, 0, "Transformer", s.transformer, diag)) < 0 ||
        (rc = read_module(modules, 1, "Pooling", pooling, diag)) < 0 ||
        (count == 3 && (rc = read_module(modules, 2, "Normalize", ignored, diag)) < 0) ||
        (rc = read_pooling(folder, pooling, &s, diag)) < 0 ||
        (rc = read_limits(folder, &s, diag)) < 0 || (rc = check_prompt(folder, diag)) < 0)
        goto fail;
    *ret = s;
fail:
    json_decref(modules);
    return rc;
}
