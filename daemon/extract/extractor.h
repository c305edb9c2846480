/* SPDX-License-Identifier: Apache-2.0
 *
 * The parent's side of an extraction: starts `hobd --extract` (this program again), reads what it says without ever
 * blocking, and checks it: nothing of a document may be used before its extractor has said END and all of it was found
 * sound. A child that dies, hangs or says what cannot be is killed, and that is one of the errors.
 *
 *     hob_extractor *x;
 *     if (hob_extractor_start(&request, &x, &diag) == 0) {
 *         while (!hob_extractor_step(x, 100))
 *             if (cancelled)
 *                 break;
 *         const hob_extraction *e = hob_extractor_result(x); // NULL: not finished
 *         …
 *     }
 *     hob_extractor_free(x);
 *
 * Thread: an extractor belongs to one thread, any; several may run at once. */
#ifndef HOB_DAEMON_EXTRACT_EXTRACTOR_H
#define HOB_DAEMON_EXTRACT_EXTRACTOR_H

#include "daemon/extract/extract.h"

typedef struct hob_extract_request {
    int document; /* a regular file or memfd, open for reading; stays the caller's, its offset may move */
    int vocabulary; /* a GGUF file whose tokenizer counts; -1: no chunks. Stays the caller's */
    const char
        *name; /* as uploaded; NULL or "": none. Only the first HOB_EXTRACT_NAME_MAX bytes count */
    const char *media_type;                /* likewise */
    const char *pdftotext;                 /* NULL: where Debian has it */
    uint32_t chunk_tokens, overlap_tokens; /* see chunk.h for what is allowed */
    hob_extract_limits limits;
} hob_extract_request;
extern const hob_extract_request
    hob_extract_request_default; /* descriptors -1, the usual sizes and limits */

typedef struct hob_extracted_chunk {
    uint32_t start,
        end; /* bytes of the text, on characters' borders; both ascend from chunk to chunk */
    uint32_t tokens; /* of the chunk's text alone */
    const char
        *path; /* of headings above, "A > B"; "": none. Valid UTF-8 without control characters */
} hob_extracted_chunk;

/* error set: why says it in one line, in ASCII or UTF-8, and nothing else is filled. */
typedef struct hob_extraction {
    hob_extract_error error;
    hob_diag why;
    const char *media_type; /* what the file turned out to be; static */
    const char *encoding;   /* of a text file: "utf-8", …; else "" */
    char *title;            /* "": none */
    char *text;      /* valid UTF-8, no control characters but '\n' and '\t'; followed by a NUL */
    size_t text_len; /* bytes, at least 1 */
    hob_extracted_chunk *chunks;
    uint32_t chunk_count;
    hob_stripped stripped;
} hob_extraction;

typedef struct hob_extractor hob_extractor;

/* HOB_EINVAL: sizes or limits out of range; HOB_ENOMEM; HOB_EIO: no process can be started. */
HOB_MUST_CHECK int hob_extractor_start(const hob_extract_request *r, hob_extractor **ret,
                                       hob_diag *diag);
/* Waits at most timeout_ms for the child to say something, and reads it. Returns whether it is finished. */
bool hob_extractor_step(hob_extractor *x, int timeout_ms);
/* To wait for together with others (POLLIN); -1 when finished. Its deadline needs a step now and then, too. */
int hob_extractor_fd(const hob_extractor *x);
/* What came of it, until the extractor is freed; NULL: not finished. */
const hob_extraction *hob_extractor_result(const hob_extractor *x);
/* Kills what still runs. NULL is fine. */
void hob_extractor_free(hob_extractor *x);

#endif
