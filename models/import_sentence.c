/* SPDX-License-Identifier: Apache-2.0
 *
 * What sentence-transformers stores beside a model: modules.json with the chain of modules, each module's config.json, and
 * the longest input. Known chains are a transformer, its pooling and, if it is there, the normalization to length 1, which
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

static int read_pooling(const char *folder, const char *path, hob_import_sentence *ret,
                        hob_diag *diag)
{
    static const struct {
        const char *key;
        hob_pooling pooling;
    } known[] = {{"pooling_mode_mean_tokens", HOB_POOLING_MEAN},
                 {"pooling_mode_cls_token", HOB_POOLING_CLS}};
    char name[96];
    const char *key;
    json_t *config = NULL, *v;
    uint64_t width = 0;
    int chosen = 0, rc;
    snprintf(name, sizeof name, "%s%sconfig.json", path, path[0] ? "/" : "");
    if ((rc = hob_strict_read(folder, name, HOB_IMPORT_CONFIG_MAX, &config, diag)) < 0)
        return rc;
    rc = hob_strict_u64(name, config, "word_embedding_dimension", 1, UINT32_MAX, &width, diag);
    if (rc < 0 && rc != HOB_ENOENT)
        goto fail;
    ret->width = (uint32_t)width;
    rc = 0;
    json_object_foreach(config, key, v)
    {
        if (strncmp(key, "pooling_mode", 12) != 0 || json_is_false(v) || json_is_null(v))
            continue;
        ret->pooling = 0;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (json_is_true(v) && strcmp(key, known[i].key) == 0)
                ret->pooling = known[i].pooling;
        if (ret->pooling == 0 || ++chosen > 1) {
            rc = hob_fail(diag, HOB_EUNSUPPORTED,
                          "%s: %.60s: supported are pooling_mode_mean_tokens or "
                          "pooling_mode_cls_token, and one alone",
                          name, key);
            goto fail;
        }
    }
    if (chosen == 0)
        rc = hob_fail(diag, HOB_EFORMAT, "%s: no pooling_mode is chosen", name);
fail:
    json_decref(config);
    return rc;
}

static int read_limits(const char *folder, hob_import_sentence *ret, hob_diag *diag)
{
    static const char file[] = "sentence_bert_config.json";
    char name[128];
    json_t *config = NULL;
    uint64_t tokens = 0;
    snprintf(name, sizeof name, "%s%s%s", ret->transformer, ret->transformer[0] ? "/" : "", file);
    int rc = hob_strict_read(folder, name, HOB_IMPORT_CONFIG_MAX, &config, diag);
    if (rc < 0)
        return hob_strict_optional(rc);
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
