/* SPDX-License-Identifier: Apache-2.0
 *
 * The weights of a folder: its safetensors files, which tensors of them have a place in the result, and their way there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "models/import_private.h"
#include "models/quantize.h"

enum { SHARDS_MAX = 512, INDEX_MAX = 64 << 20, CHUNK = 1 << 18 /* weights on their way */ };

static const char single_name[] = "model.safetensors",
                  index_name[] = "model.safetensors.index.json";

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A file's name that leads nowhere but into the folder. */
static bool is_shard_name(const char *name)
{
    const size_t len = strlen(name);
    return len > 12 && len < sizeof((hob_import_shard *)NULL)->name && name[0] != '.' &&
           !strchr(name, '/') && strcmp(name + len - 12, ".safetensors") == 0;
}

static int open_shard(const char *folder, const char *name, hob_import_weights *w, hob_diag *diag)
{
    char path[PATH_MAX];
    hob_import_shard *s = &w->shards[w->count];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return hob_fail(diag, HOB_ELIMIT, "%s: its path is too long", name);
    const int rc = hob_safetensors_open(path, &s->file, diag);
    if (rc < 0)
        return rc;
    snprintf(s->name, sizeof s->name, "%s", name);
    w->count++;
    s->used = calloc(hob_safetensors_count(s->file) + 1, sizeof *s->used);
    return s->used ? 0 : hob_fail(diag, HOB_ENOMEM, "%s: no memory for its table", name);
}

static hob_import_shard *find_shard(hob_import_weights *w, const char *name)
{
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->shards[i].name, name) == 0)
            return &w->shards[i];
    return NULL;
}

/* Every tensor of the index is in its shard; and the shards have as many as the index. */
static int check_index(hob_import_weights *w, json_t *map, hob_diag *diag)
{
    size_t tensors = 0;
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file)
    {
        const hob_import_shard *s = find_shard(w, json_string_value(file));
        if (!s || !hob_safetensors_find(s->file, name))
            return hob_fail(diag, HOB_EFORMAT, "%s: tensor %.80s is not in %.80s", index_name, name,
                            json_string_value(file));
    }
    for (size_t i = 0; i < w->count; i++) {
        const hob_import_shard *s = &w->shards[i];
        tensors += hob_safetensors_count(s->file);
        for (size_t t = 0; t < hob_safetensors_count(s->file); t++) {
            name = hob_safetensors_at(s->file, t)->name;
            file = json_object_get(map, name);
            if (!file || strcmp(json_string_value(file), s->name) != 0)
                return hob_fail(diag, HOB_EFORMAT,
                                "%s: tensor %.80s of %.80s is not in it, or of "
                                "another file",
                                index_name, name, s->name);
        }
    }
    return tensors == json_object_size(map)
               ? 0
               : hob_fail(diag, HOB_EFORMAT, "%s: got %zu tensors, its files have %zu", index_name,
                          json_object_size(map), tensors);
}

static int open_index(const char *folder, hob_import_weights *w, hob_diag *diag)
{
    json_t *index = NULL, *map, *file;
    const char **names = NULL, *tensor;
    size_t count = 0, distinct = 0;
    int rc = hob_strict_read(folder, index_name, INDEX_MAX, &index, diag);
    if (rc < 0)
        return rc == HOB_ENOENT
                   ? hob_fail(diag, rc,
                              "the folder has neither %s nor %s: weights in other formats "
                              "(pytorch_model.bin, .h5) are not read",
                              single_name, index_name)
                   : rc;
    rc = hob_strict_member(index_name, index, "weight_map", JSON_OBJECT, &map, diag);
    if (rc < 0) {
        rc = hob_strict_required(rc);
        goto fail;
    }
    names = calloc(json_object_size(map) + 1, sizeof *names);
    if (!names) {
        rc = hob_fail(diag, HOB_ENOMEM, "%s: no memory for its %zu tensors", index_name,
                      json_object_size(map));
        goto fail;
    }
    json_object_foreach(map, tensor, file)
    {
        if (!json_is_string(file) || !is_shard_name(json_string_value(file))) {
            rc = hob_fail(diag, HOB_EFORMAT,
                          "%s: tensor %.80s: allowed is the name of a .safetensors file beside it",
                          index_name, tensor);
            goto fail;
        }
        names[count++] = json_string_value(file);
    }
    qsort(names, count, sizeof *names, by_text);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(names[i], names[distinct - 1]) != 0)
            names[distinct++] = names[i];
    if (distinct == 0 || distinct > SHARDS_MAX) {
        rc = hob_fail(diag, HOB_EFORMAT, "%s: got %zu files, allowed are 1 to %d", index_name,
                      distinct, SHARDS_MAX);
        goto fail;
    }
    w->shards = calloc(distinct, sizeof *w->shards);
    if (!w->shards) {
        rc = hob_fail(diag, HOB_ENOMEM, "%s: no memory for %zu files", index_name, distinct);
        goto fail;
    }
    for (size_t i = 0; i < distinct; i++)
        if ((rc = open_shard(folder, names[i], w, diag)) < 0)
            goto fail;
    rc = check_index(w, map, diag);
fail:
    free(names);
    json_decref(index);
    return rc;
}

int hob_import_weights_open(const char *folder, hob_import_weights *ret, hob_diag *diag)
{
    hob_import_weights w = {0};
    char path[PATH_MAX];
    struct stat st;
    int rc;
    if (snprintf(path, sizeof path, "%s/%s", folder, single_name) >= (int)sizeof path)
        return hob_fail(diag, HOB_ELIMIT, "%.120s: the path is too long", folder);
    if (stat(path, &st) < 0 && errno == ENOENT) {
        rc = open_index(folder, &w, diag);
    } else {
        w.shards = calloc(1, sizeof *w.shards);
        rc = w.shards ? open_shard(folder, single_name, &w, diag)
                      : hob_fail(diag, HOB_ENOMEM, "%s: no memory to open it", single_name);
    }
    if (rc < 0)
        hob_import_weights_close(&w);
    else
        *ret = w;
    return rc;
}

void hob_import_weights_close(hob_import_weights *w)
{
    for (size_t i = 0; i < w->count; i++) {
        hob_safetensors_close(w->shards[i].file);
        free(w->shards[i].used);
    }
    free(w->shards);
    *w = (hob_import_weights){0};
}

const hob_safetensors_tensor *hob_import_weights_take(hob_import_weights *w, const char *name,
                                                      const hob_import_shard **ret_shard)
{
    for (size_t i = 0; i < w->count; i++) {
        const hob_import_shard *s = &w->shards[i];
        const hob_safetensors_tensor *t = hob_safetensors_find(s->file, name);
        if (!t)
            continue;
        s->used[t - hob_safetensors_at(s->file, 0)] = true;
        *ret_shard = s;
        return t;
    }
    return NULL;
}

void hob_import_weights_ignore(hob_import_weights *w, const char *const *names, size_t count)
{
    for (size_t i = 0; i < w->count; i++) {
        const hob_import_shard *s = &w->shards[i];
        for (size_t t = 0; t < hob_safetensors_count(s->file); t++) {
            const char *name = hob_safetensors_at(s->file, t)->name;
            for (size_t k = 0; k < count; k++) {
                const size_t len = strlen(names[k]);
                if (names[k][len - 1] == '*' ? strncmp(name, names[k], len - 1) == 0
                                             : strcmp(name, names[k]) == 0)
                    s->used[t] = true;
            }
        }
    }
}

int hob_import_weights_all_used(const hob_import_weights *w, hob_diag *diag)
{
    for (size_t i = 0; i < w->count; i++)
        for (size_t t = 0; t < hob_safetensors_count(w->shards[i].file); t++)
            if (!w->shards[i].used[t])
                return hob_fail(diag, HOB_EUNSUPPORTED,
                                "%s: tensor %.80s: the architecture has no place for it",
                                w->shards[i].name, hob_safetensors_at(w->shards[i].file, t)->name);
    return 0;
}

/* --- the table of an architecture --- */

static void shape_text(char *text, size_t size, uint32_t count, const uint64_t *dims)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%llu", i ? " x " : "",
                                 (unsigned long long)dims[i]);
}

/* The first of the spellings that the folder has. wanted: the first one, for messages. */
static const hob_safetensors_tensor *take_spelling(hob_import_job *job, const char *from,
                                                   uint32_t layer, char wanted[256],
                                                   const hob_import_shard **ret_shard)
{
    const hob_safetensors_tensor *found = NULL;
    wanted[0] = 0;
    while (*from && !found) {
        char pattern[128], name[256];
        const size_t len = strcspn(from, " ");
        snprintf(pattern, sizeof pattern, "%s%.*s", job->prefix, (int)len, from);
        snprintf(name, sizeof name, pattern, layer);
        if (!wanted[0])
            memcpy(wanted, name, sizeof name);
        found = hob_import_weights_take(&job->weights, name, ret_shard);
        from += len + (from[len] == ' ');
    }
    return found;
}

static int add_one(hob_import_job *job, const hob_import_spec *spec, uint32_t layer)
{
    const uint32_t rows = job->sizes[spec->rows], cols = job->sizes[spec->cols];
    const bool matrix = spec->rows != HOB_SIZE_NONE;
    const uint64_t wanted[2] = {matrix ? rows : cols, cols};
    const uint32_t dim_count = matrix ? 2 : 1;
    char name[256], got_shape[128], wanted_shape[64];
    hob_import_tensor *t = &job->tensors[job->tensor_count];
    t->from = take_spelling(job, spec->from, layer, name, &t->shard);
    if (!t->from)
        return hob_fail(job->diag, HOB_EFORMAT, "tensor %.100s: not in %s", name,
                        job->weights.count == 1 ? job->weights.shards[0].name : index_name);
    if (t->from->dim_count != dim_count || t->from->dims[0] != wanted[0] ||
        (matrix && t->from->dims[1] != wanted[1])) {
        shape_text(got_shape, sizeof got_shape, t->from->dim_count, t->from->dims);
        shape_text(wanted_shape, sizeof wanted_shape, dim_count, wanted);
        return hob_fail(job->diag, HOB_EFORMAT, "%s: tensor %.80s: got %s, config.json says %s",
                        t->shard->name, t->from->name, got_shape, wanted_shape);
    }
    if (!t->from->is_float)
        return hob_fail(job->diag, HOB_EUNSUPPORTED,
                        "%s: tensor %.80s: got %s, supported are F32, F16 and BF16", t->shard->name,
                        t->from->name, t->from->dtype);
    const uint32_t kept = spec->flags & HOB_IMPORT_CONTEXT ? job->context : rows;
    const uint64_t dims[2] = {cols, kept};
    t->count = matrix ? (uint64_t)cols * kept : cols;
    t->type = HOB_TYPE_F32;
    if (matrix && !(spec->flags & HOB_IMPORT_F32))
        t->type =
            cols % hob_type_find(job->options->type)->block_len ? HOB_TYPE_F16 : job->options->type;
    snprintf(t->name, sizeof t->name, spec->to, layer);
    hob_gguf_put_tensor(job->out, t->name, t->type, dim_count, dims);
    job->tensor_count++;
    return 0;
}

static bool is_of_layers(const hob_import_spec *spec)
{
    return strstr(spec->to, "%u") != NULL;
}

int hob_import_add(hob_import_job *job, const hob_import_spec *specs, size_t count)
{
    size_t per_layer = 0, total;
    for (size_t i = 0; i < count; i++)
        per_layer += is_of_layers(&specs[i]);
    hob_import_tensor *grown = NULL;
    if (hob_mul_size(job->layers, per_layer, &total) &&
        hob_add_size(total, job->tensor_count + count, &total) &&
        hob_mul_size(total, sizeof *grown, &total))
        grown = realloc(job->tensors, total);
    if (!grown)
        return hob_fail(job->diag, HOB_ENOMEM, "no memory for the tensors of %u layers",
                        job->layers);
    job->tensors = grown;
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        if (!is_of_layers(&specs[i]))
            rc = add_one(job, &specs[i], 0);
    for (uint32_t layer = 0; layer < job->layers && rc == 0; layer++)
        for (size_t i = 0; i < count && rc == 0; i++)
            if (is_of_layers(&specs[i]))
                rc = add_one(job, &specs[i], layer);
    return rc;
}

/* --- data --- */

typedef struct copier {
    const hob_import_job *job;
    float *floats;    /* [CHUNK] */
    uint8_t *written; /* the same in the type of the result */
    uint64_t done, total;
} copier;

static uint64_t bytes_of(const hob_import_tensor *t, uint64_t elements)
{
    const hob_type_info *type = hob_type_find(t->type);
    return elements / type->block_len * type->block_bytes;
}

static int copy_tensor(copier *c, const hob_import_tensor *t)
{
    const hob_import_job *job = c->job;
    hob_diag why = {""};
    for (uint64_t at = 0; at < t->count;) {
        const uint64_t left = t->count - at;
        const size_t n = left < CHUNK ? (size_t)left : CHUNK;
        int rc = hob_safetensors_read(t->shard->file, t->from, at, n, c->floats, &why);
        if (rc < 0)
            return hob_fail(job->diag, rc, "%s: %s", t->shard->name, why.text);
        const size_t good = hob_quantize(t->type, c->floats, n, c->written);
        if (good < n)
            return hob_fail(job->diag, HOB_EFORMAT,
                            "%s: tensor %.80s: element %llu is %g, which %s cannot hold",
                            t->shard->name, t->from->name, (unsigned long long)(at + good),
                            (double)c->floats[good], hob_type_find(t->type)->name);
        const size_t bytes = (size_t)bytes_of(t, n);
        if ((rc = hob_gguf_writer_data(job->out, c->written, bytes, job->diag)) < 0)
            return rc;
        at += n;
        c->done += bytes;
        if (job->options->progress &&
            !job->options->progress(job->options->context, c->done, c->total))
            return hob_fail(job->diag, HOB_ECANCELED, "the import was ended");
    }
    return 0;
}

int hob_import_copy(const hob_import_job *job, uint64_t *ret_bytes)
{
    copier c = {.job = job};
    int rc = 0;
    for (size_t i = 0; i < job->tensor_count; i++)
        c.total += bytes_of(&job->tensors[i], job->tensors[i].count);
    c.floats = malloc(CHUNK * sizeof *c.floats);
    c.written = malloc(CHUNK * sizeof *c.floats);
    if (!c.floats || !c.written)
        rc = hob_fail(job->diag, HOB_ENOMEM, "no memory for a buffer of weights");
    for (size_t i = 0; i < job->tensor_count && rc == 0; i++)
        rc = copy_tensor(&c, &job->tensors[i]);
    free(c.floats);
    free(c.written);
    if (rc == 0)
        *ret_bytes = c.total;
    return rc;
}
