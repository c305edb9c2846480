/* SPDX-License-Identifier: Apache-2.0
 *
 * Passages that a search has found, on their way into a prompt and into the citations of its answer.
 *
 * In the prompt they stand in one block, in the order of their documents and of their places in these, so that the same
 * passages are the same tokens whatever was asked, and the prefix cache knows them. The block says that it is data. Its
 * delimiters cannot be written by a document: there they lose their bracket.
 * Pure. */
#ifndef HOB_DAEMON_GATEWAY_PASSAGES_H
#define HOB_DAEMON_GATEWAY_PASSAGES_H

#include "daemon/gateway/text.h"
#include "daemon/store/search.h"

/* r: passages of a chunk each, the best first. Keeps about those that fit into so many tokens, somewhat more rather than less,
 * and puts them into the block's order; rank says which was the best. What a passage repeats of the one before goes. */
void hob_passages_arrange(hob_search_result *r, uint32_t max_tokens);

/* For PREPARE: "insert" of protocol.h, in front of that message, without its max_prompt_tokens. NULL: no memory. */
json_t *hob_passages_insert(const hob_search_result *r, size_t message, uint32_t max_tokens);

/* Of the passages with a rank below `kept`, in the block's order; NULL: no memory.
 * citations: annotations, each {"type": "file_citation", "index": n, "file_id": …, "filename": …} as OpenAI has them, index
 * counting files, and "hob_first_byte", "hob_end_byte", "hob_score", "hob_heading".
 * results: as OpenAI's file_search_call shows them, the best first: {"file_id", "filename", "score", "text", "attributes"}. */
json_t *hob_passages_citations(const hob_search_result *r, uint32_t kept);
json_t *hob_passages_results(const hob_search_result *r, uint32_t kept);

/* Appends a document's text as the block takes it. */
void hob_passages_add_quoted(hob_text *t, const char *s, size_t len);

#endif
