/* SPDX-License-Identifier: Apache-2.0
 *
 * The `text` thread: messages become a prompt through the model's chat template, and a prompt becomes token ids. It is
 * a thread of its own so that a long prompt's tokenizing holds up neither frames nor steps. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/engine/insert.h"
#include "daemon/engine/process.h"

enum { JSON_FLAGS = JSON_REJECT_DUPLICATES };

/* ---- the table of prepared requests ---- */

static hob_prepared **find(hob_engine *e, uint64_t id)
{
    hob_prepared **p = &e->prepared;
    while (*p && (*p)->id != id)
        p = &(*p)->next;
    return p;
}

void hob_prepared_free(hob_prepared *p)
{
    if (!p)
        return;
    hob_ids_free(&p->ids);
    hob_embed_input_free(&p->texts);
    free(p);
}

static hob_prepared *unlink_prepared(hob_engine *e, hob_prepared **at)
{
    hob_prepared *p = *at;
    *at = p->next;
    e->prepared_count--;
    return p;
}

int hob_prepared_add(hob_engine *e, uint64_t id, size_t bytes)
{
    int rc = 0;
    pthread_mutex_lock(&e->prepared_lock);
    if (*find(e, id))
        rc = HOB_EINVAL;
    else if (e->prepared_count >= HOB_REQUESTS_MAX ||
             (e->prepare_bytes > 0 && e->prepare_bytes + bytes > HOB_PREPARE_BYTES_MAX))
        /* A cancelled one still waits for `text`, so clients alone do not bound them. */
        rc = HOB_ENOMEM;
    else {
        hob_prepared *p = calloc(1, sizeof *p);
        if (p) {
            p->id = id;
            p->bytes = bytes;
            e->prepare_bytes += bytes;
            p->next = e->prepared;
            e->prepared = p;
            e->prepared_count++;
        } else
            rc = HOB_ENOMEM;
    }
    pthread_mutex_unlock(&e->prepared_lock);
    return rc;
}

static bool finish(hob_engine *e, uint64_t id, hob_ids *ids, hob_embed_input *texts)
{
    hob_prepared *gone = NULL;
    pthread_mutex_lock(&e->prepared_lock);
    hob_prepared **at = find(e, id);
    bool wanted = *at && !(*at)->dropped;
    if (*at) {
        e->prepare_bytes -= (*at)->bytes;
        (*at)->bytes = 0;
    }
    if (wanted) {
        if (ids) {
            (*at)->ids = *ids;
            *ids = (hob_ids){0};
        } else {
            (*at)->texts = *texts;
            *texts = (hob_embed_input){0};
        }
        (*at)->ready = true;
    } else if (*at)
        gone = unlink_prepared(e, at);
    pthread_mutex_unlock(&e->prepared_lock);
    hob_prepared_free(gone);
    return wanted;
}

bool hob_prepared_finish(hob_engine *e, uint64_t id, hob_ids *ids)
{
    return finish(e, id, ids, NULL);
}

bool hob_prepared_finish_texts(hob_engine *e, uint64_t id, hob_embed_input *texts)
{
    return finish(e, id, NULL, texts);
}

hob_prepared *hob_prepared_take(hob_engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->prepared_lock);
    hob_prepared **at = find(e, id), *p = NULL;
    if (*at && (*at)->ready)
        p = unlink_prepared(e, at);
    pthread_mutex_unlock(&e->prepared_lock);
    return p;
}

void hob_prepared_drop(hob_engine *e, uint64_t id)
{
    hob_prepared *gone = NULL;
    pthread_mutex_lock(&e->prepared_lock);
    hob_prepared **at = find(e, id);
    if (*at && (*at)->ready)
        gone = unlink_prepared(e, at);
    else if (*at)
        (*at)->dropped = true;
    pthread_mutex_unlock(&e->prepared_lock);
    hob_prepared_free(gone);
}

bool hob_prepared_is_wanted(hob_engine *e, uint64_t id)
{
    pthread_mutex_lock(&e->prepared_lock);
    hob_prepared **at = find(e, id);
    bool wanted = *at && !(*at)->dropped;
    pthread_mutex_unlock(&e->prepared_lock);
    return wanted;
}

/* ---- the work ---- */

static int set_token(json_t *o, const char *name, const hob_tokenizer *t, uint32_t id)
{
    hob_string piece = {"", 0};
    if (id != HOB_TOKEN_NONE)
        piece = hob_tokenizer_piece(t, id);
    return json_object_set_new(o, name, json_stringn(piece.data, piece.len));
}

/* hob_prompt_maker: tools are the request's. */
typedef struct prompt_user {
    hob_engine *e;
    json_t *tools;
} prompt_user;

static int tokenize_messages(void *user, json_t *messages, hob_ids *ids, hob_diag *diag)
{
    const prompt_user *u = user;
    const hob_engine *e = u->e;
    const hob_tokenizer *t = hob_model_tokenizer(e->model);
    const hob_template *chat = hob_model_template(e->model);
    json_t *trusted = json_object(), *variables = json_object();
    hob_rendered r = {0};
    int rc;

    if (!chat) {
        rc = hob_fail(diag, HOB_EUNSUPPORTED,
                      "messages: this model has no chat template; use a plain prompt");
        goto done;
    }
    if (!trusted || !variables || set_token(trusted, "bos_token", t, hob_tokenizer_bos(t)) < 0 ||
        set_token(trusted, "eos_token", t, hob_tokenizer_eos(t)) < 0 ||
        json_object_set(variables, "messages", messages) < 0 ||
        json_object_set_new(variables, "add_generation_prompt", json_true()) < 0 ||
        (u->tools && json_object_set(variables, "tools", u->tools) < 0)) {
        rc = hob_fail(diag, HOB_ENOMEM, "messages: no memory");
        goto done;
    }
    if ((rc = hob_template_render(chat, variables, trusted, HOB_MESSAGE_MAX, &r, diag)) == 0)
        rc = hob_tokenize(t, r.text, r.len, r.trusted, r.trusted_count, hob_tokenizer_adds_bos(t),
                          0, ids, diag);
done:
    hob_rendered_free(&r);
    json_decref(variables);
    json_decref(trusted);
    return rc;
}

static int copy_ids(const hob_engine *e, json_t *list, hob_ids *ids, hob_diag *diag)
{
    const uint32_t vocab = hob_tokenizer_size(hob_model_tokenizer(e->model));
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v)
    {
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= vocab)
            return hob_fail(diag, HOB_EINVAL, "prompt: element %zu is no token id, 0 to %u", i,
                            vocab - 1);
        if (hob_ids_push(ids, (uint32_t)json_integer_value(v)) < 0)
            return hob_fail(diag, HOB_ENOMEM, "prompt: no memory for %zu token ids",
                            json_array_size(list));
    }
    return 0;
}

static int tokenize_request(hob_engine *e, json_t *request, hob_ids *ids, hob_diag *diag)
{
    const hob_tokenizer *t = hob_model_tokenizer(e->model);
    json_t *prompt = json_object_get(request, "prompt"), *list = json_object_get(request, "ids"),
           *messages = json_object_get(request, "messages");
    prompt_user user = {e, json_object_get(request, "tools")};
    if (json_is_array(messages))
        return tokenize_messages(&user, messages, ids, diag);
    if (json_is_string(prompt))
        return hob_tokenize(t, json_string_value(prompt), json_string_length(prompt), NULL, 0,
                            hob_tokenizer_adds_bos(t), 0, ids, diag);
    if (json_is_array(list))
        return copy_ids(e, list, ids, diag);
    return hob_fail(diag, HOB_EFORMAT, "engine protocol: PREPARE without messages, prompt or ids");
}

static void send_too_long(hob_engine *e, uint64_t id, size_t tokens, size_t most)
{
    char text[256];
    int len = snprintf(text, sizeof text,
                       "{\"code\": \"HOB_ELIMIT\", \"message\": \"the prompt has %zu tokens, at "
                       "most %zu are possible\", "
                       "\"tokens\": %zu, \"max_tokens\": %zu}",
                       tokens, most, tokens, most);
    hob_engine_send(e, HOB_MSG_ERROR, id, text, (size_t)len);
}

/* PREPARED's payload, from malloc; NULL on no memory. */
static uint8_t *encode_prepared(const hob_ids *ids, uint32_t cached, hob_inserted inserted,
                                size_t *ret_len)
{
    uint8_t *payload = malloc(HOB_PREPARED_HEADER + ids->count * 4);
    if (!payload)
        return NULL;
    hob_put_u32(payload, (uint32_t)ids->count);
    hob_put_u32(payload + 4, cached);
    hob_put_u32(payload + 8, inserted.pieces);
    hob_put_u32(payload + 12, inserted.tokens);
    for (size_t i = 0; i < ids->count; i++)
        hob_put_u32(payload + HOB_PREPARED_HEADER + 4 * i, ids->data[i]);
    *ret_len = HOB_PREPARED_HEADER + ids->count * 4;
    return payload;
}

/* Puts in what the request wants in front of one of its messages. */
static int insert_pieces(hob_engine *e, json_t *request, hob_ids *ids, hob_inserted *ret,
                         hob_diag *diag)
{
    const json_t *insert = json_object_get(request, "insert");
    prompt_user user = {e, json_object_get(request, "tools")};
    return insert ? hob_insert(json_object_get(request, "messages"), insert, tokenize_messages,
                               &user, ids, ret, diag)
                  : 0;
}

static void forget(hob_engine *e, uint64_t id)
{
    hob_ids none = {0};
    hob_prepared_drop(e, id);
    hob_prepared_finish(e, id, &none);
}

static void prepare(hob_engine *e, const hob_message *m)
{
    hob_ids ids = {0};
    hob_inserted inserted = {0, 0};
    hob_diag diag = {"the request is not a JSON object"};
    json_error_t error;
    json_t *request = json_loadb((const char *)m->payload, m->len, JSON_FLAGS, &error);
    int rc = json_is_object(request) ? tokenize_request(e, request, &ids, &diag) : HOB_EFORMAT;
    const json_int_t tenant = json_integer_value(json_object_get(request, "tenant"));
    json_int_t most = json_integer_value(json_object_get(request, "max_prompt_tokens"));
    hob_engine_fault("prepare", &ids);
    hob_engine_fault("hang", &ids);
    if (most <= 0 || most > e->context)
        most = e->context;
    if (rc == 0 && ids.count == 0)
        rc = hob_fail(&diag, HOB_EINVAL, "the prompt is empty");
    if (rc == 0 && ids.count <= (size_t)most)
        rc = insert_pieces(e, request, &ids, &inserted, &diag);
    uint8_t *payload = NULL;
    size_t len = 0;
    if (rc == 0 && ids.count <= (size_t)most &&
        !(payload = encode_prepared(
              &ids, hob_batcher_cached(e->batcher, (uint32_t)tenant, ids.data, (uint32_t)ids.count),
              inserted, &len)))
        rc = hob_fail(&diag, HOB_ENOMEM, "no memory for the prompt's %zu token ids", ids.count);
    if (rc < 0) {
        forget(e, m->id);
        hob_engine_send_error(e, m->id, rc, diag.text);
    } else if (!payload) {
        forget(e, m->id);
        send_too_long(e, m->id, ids.count, (size_t)most);
    } else if (hob_prepared_finish(e, m->id, &ids)) {
        hob_engine_send(e, HOB_MSG_PREPARED, m->id, payload, len);
    }
    free(payload);
    hob_ids_free(&ids);
    json_decref(request);
    hob_engine_wake(e);
}

void *hob_engine_text_thread(void *engine)
{
    hob_engine *e = engine;
    for (;;) {
        for (hob_mail *mail = hob_mailbox_take(&e->for_text, -1), *next; mail; mail = next) {
            next = mail->next;
            if (hob_prepared_is_wanted(e, mail->message.id)) {
                atomic_store(&e->text_since_us, hob_now_us());
                prepare(e, &mail->message);
                atomic_store(&e->text_since_us, 0);
            } else
                forget(e, mail->message.id);
            free(mail);
        }
    }
    return NULL;
}
