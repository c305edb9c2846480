/* SPDX-License-Identifier: Apache-2.0
 *
 * What the gateway's own buffers hold: requests in the making, what waits for engines and for readers, and what is kept
 * of each job so that it survives its engine; and the stored responses. They are added up when something new asks for room, not counted along the
 * way: a sum over some hundred connections costs less than a ledger that has to be right at every realloc. */
#include "daemon/gateway/documents.h"
#include "daemon/gateway/grounding.h"
#include "daemon/gateway/responses.h"

enum { SHARE = 8, MOST_BYTES = 48 << 20 };

size_t hob_buffers_limit(const hob_conf *conf)
{
    const uint64_t share = ((uint64_t)conf->memory_mb << 20) / SHARE;
    return share < MOST_BYTES ? (size_t)share : MOST_BYTES;
}

static size_t job_bytes(const hob_job *j)
{
    /* Room for the whole answer's ids is taken as given: it will be needed if the request is admitted. */
    const uint64_t ids = (uint64_t)j->prompt_tokens + j->max_tokens;
    const hob_response *r = j->response;
    return (r && !r->listed ? hob_response_bytes(r) : 0) + sizeof *j +
           (ids > j->id_capacity ? ids : j->id_capacity) * sizeof *j->ids + j->request_bytes +
           j->logprob_bytes + j->text.bytes.capacity + hob_grounding_bytes(j->grounding) +
           j->grounds_bytes;
}

size_t hob_buffers_bytes(const hob_gateway *g)
{
    size_t sum = g->scratch.bytes.capacity;
    for (const hob_conn *c = g->conns; c; c = c->next)
        sum += sizeof *c + c->body.capacity + c->out.capacity + hob_upload_bytes(c->upload) +
               hob_download_bytes(c->download) + hob_embeddings_bytes(c);
    sum += hob_embeds_bytes(g);
    for (const hob_job *j = g->jobs; j; j = j->next)
        sum += job_bytes(j);
    for (const hob_response *r = g->responses; r; r = r->next)
        sum += hob_response_bytes(r);
    for (uint32_t i = 0; i < g->link_count; i++)
        sum += g->links[i].out.capacity + g->links[i].reader.frame.capacity +
               g->links[i].reader.message.capacity;
    return sum;
}

int hob_buffers_admit(const hob_gateway *g, size_t bytes, hob_api_error *e)
{
    const size_t limit = hob_buffers_limit(g->conf);
    if (limit == 0)
        return 0;
    const size_t held = hob_buffers_bytes(g);
    if (held <= limit && bytes <= limit - held)
        return 0;
    hob_api_fail(e, 503, "server_error", "out_of_memory", NULL,
                 "the gateway's buffers hold %zu of %zu bytes: there is no room for this request; "
                 "try again later",
                 held, limit);
    e->retry_after_s = 2;
    return HOB_ENOMEM;
}
