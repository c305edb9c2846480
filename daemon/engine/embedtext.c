/* SPDX-License-Identifier: Apache-2.0
 *
 * The `text` thread of an engine that embeds: texts become token ids. Requests of many texts are worked on in slices, the best
 * class first, so that a question that comes meanwhile waits for no more than a slice. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/process.h"

enum { SLICE_BYTES = 32768 };

typedef struct work {
    struct work *next;
    uint64_t id;
    json_t *request;
    json_t *inputs; /* of request: texts, or lists of ids */
    bool truncate;
    size_t next_input;
    hob_embed_input in;
} work;

static void work_free(work *w)
{
    json_decref(w->request);
    hob_embed_input_free(&w->in);
    free(w);
}

/* ---- a request ---- */

static int read_request(work *w, hob_diag *diag)
{
    const json_t *class = json_object_get(w->request, "class"),
                 *tenant = json_object_get(w->request, "tenant");
    const json_int_t number = json_integer_value(class);

    w->inputs = json_object_get(w->request, "inputs");
    if (json_array_size(w->inputs) == 0 || json_array_size(w->inputs) > UINT32_MAX ||
        !json_is_integer(class) || number < 0 || number >= HOB_ARBITER_CLASSES)
        return hob_fail(diag, HOB_EFORMAT, "engine protocol: EMBED without inputs or class");
    w->truncate = json_is_true(json_object_get(w->request, "truncate"));
    w->in.class = (hob_arbiter_class)number;
    w->in.tenant = (uint32_t)json_integer_value(tenant);
    w->in.count = (uint32_t)json_array_size(w->inputs);
    w->in.lengths = calloc(w->in.count, sizeof *w->in.lengths);
    return w->in.lengths ? 0 : hob_fail(diag, HOB_ENOMEM, "no memory for %u texts", w->in.count);
}

static int push_ids(const hob_engine *e, json_t *list, size_t index, hob_ids *ids, hob_diag *diag)
{
    const uint32_t vocab = hob_tokenizer_size(hob_model_tokenizer(e->model));
    size_t i;
    json_t *v;

    json_array_foreach(list, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= vocab)
            return hob_fail(diag, HOB_EINVAL, "input %zu: element %zu is no token id, 0 to %u",
                            index, i, vocab - 1);
        if (hob_ids_push(ids, (uint32_t)json_integer_value(v)) < 0)
            return hob_fail(diag, HOB_ENOMEM, "no memory for the token ids of input %zu", index);
    }
    return 0;
}

/* One input's ids behind those of the others. What is too long is cut in front of its last token, [SEP], if that was asked
 * for; else *ret_too_long is its length. */
static int add_input(const hob_engine *e, work *w, size_t *ret_too_long, hob_diag *diag)
{
    const size_t index = w->next_input, before = w->in.ids.count;
    json_t *input = json_array_get(w->inputs, index);
    hob_ids *ids = &w->in.ids;
    int rc;

    if (json_is_string(input))
        rc = hob_tokenize(hob_model_tokenizer(e->model), json_string_value(input),
                          json_string_length(input), NULL, 0, true, 0, ids, diag);
    else
        rc = push_ids(e, input, index, ids, diag);
    if (rc < 0)
        return rc;
    size_t count = ids->count - before;
    if (count == 0)
        return hob_fail(diag, HOB_EINVAL, "input %zu is empty", index);
    if (count > e->context && !w->truncate) {
        *ret_too_long = count;
        return HOB_ELIMIT;
    }
    if (count > e->context) {
        ids->data[before + e->context - 1] = ids->data[ids->count - 1];
        ids->count = before + e->context;
        count = e->context;
    }
    w->in.lengths[index] = (uint32_t)count;
    w->next_input++;
    return 0;
}

/* ---- answers ---- */

static void send_too_long(hob_engine *e, const work *w, size_t tokens)
{
    char text[256];
    const int len = snprintf(text, sizeof text,
                             "{\"code\": \"HOB_ELIMIT\", \"message\": \"input %zu has %zu tokens, "
                             "at most %u are possible\", \"input\": %zu, \"tokens\": %zu, "
                             "\"max_tokens\": %u}",
                             w->next_input, tokens, e->context, w->next_input, tokens, e->context);
    hob_engine_send(e, HOB_MSG_ERROR, w->id, text, (size_t)len);
}

static void forget(hob_engine *e, uint64_t id)
{
    hob_embed_input none = {0};
    hob_prepared_drop(e, id);
    hob_prepared_finish_texts(e, id, &none);
}

/* All its texts are tokenized. */
static void finish(hob_engine *e, work *w)
{
    const uint32_t count = w->in.count;
    uint8_t *payload = malloc((size_t)count * 4);

    if (!payload) {
        forget(e, w->id);
        hob_engine_send_error(e, w->id, HOB_ENOMEM, "no memory for the lengths of the texts");
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        hob_put_u32(payload + 4 * (size_t)i, w->in.lengths[i]);
    if (hob_prepared_finish_texts(e, w->id, &w->in))
        hob_engine_send(e, HOB_MSG_COUNTED, w->id, payload, (size_t)count * 4);
    free(payload);
}

/* Tokenizes a slice of it. True: it is done with, in one way or another. */
static bool work_on(hob_engine *e, work *w)
{
    hob_diag diag = {""};
    size_t bytes = 0, too_long = 0;
    int rc = 0;

    while (rc == 0 && bytes < SLICE_BYTES && w->next_input < w->in.count) {
        const json_t *input = json_array_get(w->inputs, w->next_input);
        bytes += json_is_string(input) ? json_string_length(input) : 4 * json_array_size(input);
        rc = add_input(e, w, &too_long, &diag);
    }
    hob_engine_fault("prepare", &w->in.ids);
    hob_engine_fault("hang", &w->in.ids);
    if (rc == 0 && w->next_input < w->in.count)
        return false;
    if (rc == 0)
        finish(e, w);
    else {
        forget(e, w->id);
        if (too_long)
            send_too_long(e, w, too_long);
        else
            hob_engine_send_error(e, w->id, rc, diag.text);
    }
    hob_engine_wake(e);
    return true;
}

/* ---- the thread ---- */

static work *begin(hob_engine *e, const hob_message *m)
{
    hob_diag diag = {"the request is not a JSON object"};
    work *w = calloc(1, sizeof *w);
    int rc = w ? HOB_EFORMAT : hob_fail(&diag, HOB_ENOMEM, "no memory for the request");

    if (w) {
        w->id = m->id;
        w->request = json_loadb((const char *)m->payload, m->len, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(w->request))
            rc = read_request(w, &diag);
    }
    if (rc == 0)
        return w;
    forget(e, m->id);
    hob_engine_send_error(e, m->id, rc, diag.text);
    hob_engine_wake(e);
    if (w)
        work_free(w);
    return NULL;
}

/* Behind those of its class. */
static void put(work **list, work *w)
{
    while (*list && (*list)->in.class <= w->in.class)
        list = &(*list)->next;
    w->next = *list;
    *list = w;
}

void *hob_engine_embed_text_thread(void *engine)
{
    hob_engine *e = engine;
    work *list = NULL;

    for (;;) {
        for (hob_mail *mail = hob_mailbox_take(&e->for_text, list ? 0 : -1), *next; mail;
             mail = next) {
            work *w;
            next = mail->next;
            atomic_store(&e->text_since_us, hob_now_us());
            if (!hob_prepared_is_wanted(e, mail->message.id))
                forget(e, mail->message.id);
            else if ((w = begin(e, &mail->message)))
                put(&list, w);
            free(mail);
        }
        work *w = list;
        bool done = true;
        if (w) {
            atomic_store(&e->text_since_us, hob_now_us());
            if (hob_prepared_is_wanted(e, w->id))
                done = work_on(e, w);
            else
                forget(e, w->id);
        }
        atomic_store(&e->text_since_us, 0);
        if (w && done) {
            list = w->next;
            work_free(w);
        }
    }
    return NULL;
}
