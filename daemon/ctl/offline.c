/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared parts of the offline commands. See offline.h. */
#include "daemon/ctl/offline.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl.h"
#include "hal/select.h"
#include "models/utf8.h"

int hob_offline_open(const char *path, const char *device, uint32_t threads, hob_offline *ret,
                     hob_diag *diag)
{
    hob_offline o = {0};
    hob_device_options options = {.threads = threads};
    uint64_t start = hob_now_us();
    int r = hob_hal_open(device, &options, &o.device, diag);
    if (r < 0)
        return r;
    r = hob_model_open(path, o.device, &o.model, diag);
    if (r < 0) {
        hob_device_close(o.device);
        return r;
    }
    o.load_us = hob_now_us() - start;
    *ret = o;
    return 0;
}

void hob_offline_close(hob_offline *o)
{
    hob_model_close(o->model);
    hob_device_close(o->device);
    memset(o, 0, sizeof *o);
}

int hob_read_all(const char *path, char **ret, size_t *ret_len, hob_diag *diag)
{
    const char *name = path ? path : "standard input";
    char *data = NULL;
    size_t len = 0, capacity = 0;
    int r = 0;
    FILE *f = path ? fopen(path, "rb") : stdin;
    if (!f)
        return hob_fail(diag, HOB_EIO, "cannot open %s: %s", name, strerror(errno));
    for (;;) {
        if (capacity - len < 2) {
            size_t wanted = capacity ? capacity * 2 : 65536;
            char *grown = realloc(data, wanted);
            if (!grown) {
                r = hob_fail(diag, HOB_ENOMEM, "no memory for %zu bytes of %s", wanted, name);
                goto fail;
            }
            data = grown;
            capacity = wanted;
        }
        size_t n = fread(data + len, 1, capacity - len - 1, f);
        len += n;
        if (n == 0)
            break;
        if (len > HOB_CTL_INPUT_MAX) {
            r = hob_fail(diag, HOB_ELIMIT, "%s is longer than %d bytes", name,
                         (int)HOB_CTL_INPUT_MAX);
            goto fail;
        }
    }
    if (ferror(f)) {
        r = hob_fail(diag, HOB_EIO, "cannot read %s: %s", name, strerror(errno));
        goto fail;
    }
    if (path)
        fclose(f);
    data[len] = 0;
    *ret = data;
    *ret_len = len;
    return 0;
fail:
    if (path)
        fclose(f);
    free(data);
    return r;
}

int hob_check_utf8(const char *what, const char *text, size_t len, hob_diag *diag)
{
    for (size_t at = 0; at < len;) {
        int n = hob_utf8_step(text + at, len - at);
        if (n <= 0)
            return hob_fail(diag, HOB_EINVAL, "%s is not valid UTF-8: byte 0x%02X at offset %zu",
                            what, (unsigned char)text[at], at);
        at += (size_t)n;
    }
    return 0;
}

static int set_token(json_t *object, const char *key, const hob_tokenizer *t, uint32_t id)
{
    if (id == HOB_TOKEN_NONE)
        return json_object_set_new(object, key, json_string(""));
    hob_string piece = hob_tokenizer_piece(t, id);
    json_t *text = json_stringn(piece.data, piece.len);
    /* A name that is not UTF-8 cannot be written by a template either. */
    return json_object_set_new(object, key, text ? text : json_string(""));
}

json_t *hob_template_tokens(const hob_tokenizer *t)
{
    json_t *tokens = json_object();
    if (tokens && set_token(tokens, "bos_token", t, hob_tokenizer_bos(t)) == 0 &&
        set_token(tokens, "eos_token", t, hob_tokenizer_eos(t)) == 0)
        return tokens;
    json_decref(tokens);
    return NULL;
}

int hob_chat_ids(const hob_model *m, const char *text, size_t len, hob_ids *ret, hob_diag *diag)
{
    const hob_template *template = hob_model_template(m);
    const hob_tokenizer *tokenizer = hob_model_tokenizer(m);
    if (!template)
        return hob_fail(diag, HOB_EUNSUPPORTED, "the model has no chat template: leave out --chat");
    json_t *content = json_stringn(text, len);
    if (!content)
        return hob_fail(diag, HOB_EINVAL, "the prompt is not valid UTF-8");
    int r;
    hob_rendered rendered = {0};
    json_t *tokens = hob_template_tokens(tokenizer);
    json_t *variables = json_pack("{s:[{s:s,s:o}],s:b}", "messages", "role", "user", "content",
                                  content, "add_generation_prompt", 1);
    if (!tokens || !variables) {
        r = hob_fail(diag, HOB_ENOMEM, "no memory for the message");
        goto fail;
    }
    r = hob_template_render(template, variables, tokens, 0, &rendered, diag);
    if (r < 0)
        goto fail;
    r = hob_tokenize(tokenizer, rendered.text, rendered.len, rendered.trusted,
                     rendered.trusted_count, hob_tokenizer_adds_bos(tokenizer), 0, ret, diag);
fail:
    hob_rendered_free(&rendered);
    json_decref(variables);
    json_decref(tokens);
    return r;
}

json_t *hob_json_ids(const uint32_t *ids, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < count; i++) {
        if (json_array_append_new(list, json_integer(ids[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

int hob_json_print(json_t *object, hob_diag *diag)
{
    if (!object)
        return hob_fail(diag, HOB_EINVAL,
                        "the result cannot be written as JSON (not UTF-8, or no memory)");
    int r = json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(object);
    if (r != 0)
        return hob_fail(diag, HOB_EIO, "cannot write the result");
    putchar('\n');
    return 0;
}

int hob_ctl_failed(const char *command, const hob_diag *diag)
{
    fflush(stdout);
    fprintf(stderr, "hobctl %s: %s\n", command, diag->text);
    return HOB_EXIT_FAILURE;
}

void hob_print_text(FILE *f, const char *text, size_t len)
{
    if (!isatty(fileno(f))) {
        fwrite(text, 1, len, f);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xC2 && i + 1 < len && (unsigned char)text[i + 1] >= 0x80 &&
                  (unsigned char)text[i + 1] < 0xA0;
        if (c1)
            i++;
        putc(c1 || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F ? '?' : c, f);
    }
}
