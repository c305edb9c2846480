/* SPDX-License-Identifier: Apache-2.0
 *
 * Pieces of text in front of a message. See insert.h. */
#include "daemon/engine/insert.h"

#include <stdlib.h>
#include <string.h>

typedef struct insertion {
    json_t *messages, *message; /* message: the one that gets the pieces */
    size_t index;               /* of it */
    const char *before, *after;
    const json_t *texts, *ranks;
    uint32_t count; /* of both */
    size_t most_added, most_in_all;
} insertion;

static int read_insertion(json_t *messages, const json_t *insert, insertion *ret, hob_diag *diag)
{
    const json_t *index = json_object_get(insert, "message");
    const json_int_t added = json_integer_value(json_object_get(insert, "max_tokens")),
                     in_all = json_integer_value(json_object_get(insert, "max_prompt_tokens"));
    size_t i;
    json_t *one;

    *ret = (insertion){.messages = messages,
                       .index = (size_t)json_integer_value(index),
                       .before = json_string_value(json_object_get(insert, "before")),
                       .after = json_string_value(json_object_get(insert, "after")),
                       .texts = json_object_get(insert, "texts"),
                       .ranks = json_object_get(insert, "ranks"),
                       .most_added = added > 0 ? (size_t)added : 0,
                       .most_in_all = in_all > 0 ? (size_t)in_all : 0};
    ret->message = json_array_get(messages, ret->index);
    const size_t count = json_array_size(ret->texts);
    if (!json_is_integer(index) || !json_is_string(json_object_get(ret->message, "content")) ||
        !ret->before || !ret->after || count > UINT32_MAX || json_array_size(ret->ranks) != count)
        return hob_fail(diag, HOB_EFORMAT, "engine protocol: PREPARE with a broken insert");
    json_array_foreach(ret->texts, i, one)
    {
        const json_t *rank = json_array_get(ret->ranks, i);
        if (!json_is_string(one) || !json_is_integer(rank) || json_integer_value(rank) < 0 ||
            (size_t)json_integer_value(rank) >= count)
            return hob_fail(diag, HOB_EFORMAT, "engine protocol: insert's piece %zu is broken", i);
    }
    ret->count = (uint32_t)count;
    return 0;
}

static bool is_among(const insertion *in, size_t piece, uint32_t best)
{
    return json_integer_value(json_array_get(in->ranks, piece)) < best;
}

/* The message's content with the best so many pieces. NULL: no memory. */
static json_t *make_content(const insertion *in, uint32_t best)
{
    const json_t *own = json_object_get(in->message, "content");
    const size_t before = strlen(in->before), after = strlen(in->after),
                 own_len = json_string_length(own);
    size_t len = before + after + own_len;
    for (size_t i = 0; i < in->count; i++)
        len += is_among(in, i, best) ? json_string_length(json_array_get(in->texts, i)) : 0;
    char *text = malloc(len + 1), *at = text;
    if (!text)
        return NULL;
    at = mempcpy(at, in->before, before);
    for (size_t i = 0; i < in->count; i++) {
        const json_t *piece = json_array_get(in->texts, i);
        if (is_among(in, i, best))
            at = mempcpy(at, json_string_value(piece), json_string_length(piece));
    }
    at = mempcpy(at, in->after, after);
    memcpy(at, json_string_value(own), own_len);
    json_t *content = json_stringn(text, len);
    free(text);
    return content;
}

/* The prompt's ids with the best so many pieces. */
static int make_prompt(const insertion *in, uint32_t best, hob_prompt_maker *make, void *user,
                       hob_ids *ids, hob_diag *diag)
{
    json_t *messages = json_copy(in->messages), *message = json_copy(in->message);
    int rc = HOB_ENOMEM;
    if (messages && json_object_set_new(message, "content", make_content(in, best)) == 0 &&
        json_array_set(messages, in->index, message) == 0)
        rc = make(user, messages, ids, diag);
    else
        hob_fail(diag, rc, "no memory for the prompt");
    json_decref(message);
    json_decref(messages);
    return rc;
}

static size_t bytes_of_rank(const insertion *in, uint32_t rank)
{
    size_t bytes = 0;
    for (size_t i = 0; i < in->count; i++)
        if (json_integer_value(json_array_get(in->ranks, i)) == rank)
            bytes += json_string_length(json_array_get(in->texts, i));
    return bytes;
}

/* How many pieces to try next, when the best so many have made the prompt `added` tokens longer, which is `over` too many: the
 * worst ones go until about so many tokens have gone, at least one. */
static uint32_t leave_out(const insertion *in, uint32_t best, size_t added, size_t over)
{
    size_t bytes = strlen(in->before) + strlen(in->after), gone = 0;
    for (uint32_t rank = 0; rank < best; rank++)
        bytes += bytes_of_rank(in, rank);
    const double share = 0.9 * (double)over / (double)(added ? added : 1);
    do
        gone += bytes_of_rank(in, --best);
    while (best > 0 && (double)gone < share * (double)bytes);
    return best;
}

int hob_insert(json_t *messages, const json_t *insert, hob_prompt_maker *make, void *user,
               hob_ids *ids, hob_inserted *ret, hob_diag *diag)
{
    insertion in;
    int rc = read_insertion(messages, insert, &in, diag);

    *ret = (hob_inserted){0, 0};
    for (uint32_t best = in.count; rc == 0 && best > 0;) {
        hob_ids longer = {0};
        if ((rc = make_prompt(&in, best, make, user, &longer, diag)) < 0) {
            hob_ids_free(&longer);
            return rc;
        }
        const size_t added = longer.count > ids->count ? longer.count - ids->count : 0,
                     over_added = added > in.most_added ? added - in.most_added : 0,
                     over_all = longer.count > in.most_in_all ? longer.count - in.most_in_all : 0,
                     over = over_added > over_all ? over_added : over_all;
        if (over == 0) {
            *ret = (hob_inserted){best, (uint32_t)added};
            hob_ids_free(ids);
            *ids = longer;
            return 0;
        }
        hob_ids_free(&longer);
        best = leave_out(&in, best, added, over);
    }
    return rc;
}
