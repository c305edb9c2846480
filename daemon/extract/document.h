/* SPDX-License-Identifier: Apache-2.0
 *
 * A document under construction: normalized text and the blocks it consists of. The readers of the formats (formats.h)
 * put raw UTF-8 into it block by block; what comes out is what is stored, quoted and cut into chunks, so that every byte
 * range refers to it.
 *
 * The text is NFC, without control and invisible characters (normalize.h). Blocks are apart by a blank line, items of a
 * list and rows of a table by a line end. Its only white space is ' ' and '\n', and tabs within lines that keep theirs;
 * no line ends in white space.
 * Thread: one. */
#ifndef HOB_DAEMON_EXTRACT_DOCUMENT_H
#define HOB_DAEMON_EXTRACT_DOCUMENT_H

#include "daemon/engine/protocol.h"
#include "daemon/extract/extract.h"

typedef enum hob_block_kind {
    HOB_BLOCK_PARAGRAPH, /* white space collapses, '\n' stays */
    HOB_BLOCK_HEADING,   /* level 1 to 6 */
    HOB_BLOCK_ITEM, /* of a list, with its marker; level: how deep, from 1, written as indentation */
    HOB_BLOCK_ROW,  /* of a table, cells apart by " | " */
    HOB_BLOCK_LINES, /* plain text: lines keep their white space */
    HOB_BLOCK_CODE,  /* the same, and a line is never joined with the next to one sentence */
} hob_block_kind;

typedef struct hob_text_block {
    uint32_t start, end; /* bytes of the text */
    uint8_t kind, level;
} hob_text_block;

typedef struct hob_document {
    /* set before */
    const hob_extract_limits *limits;
    hob_diag *diag;

    /* what came out */
    hob_bytes text;
    hob_text_block *blocks;
    uint32_t block_count, block_capacity;
    char title[HOB_EXTRACT_TITLE_MAX + 1];
    hob_stripped stripped;
    hob_extract_error error; /* set with the diagnosis by hob_document_fail */

    /* private */
    hob_bytes pending; /* raw text of the open block */
    hob_block_kind kind;
    uint8_t level;
    bool open;
    bool apart,
        next_apart; /* the open block, or the one after it, is set apart from the one before */
} hob_document;

void hob_document_free(hob_document *d);

/* Fills d->error and d->diag, for `return hob_document_fail(...)`. */
int hob_document_fail(hob_document *d, hob_extract_error e, const char *format, ...)
    HOB_PRINTF(3, 4);
int hob_document_no_memory(hob_document *d);

/* All below: 0, or a negative code after hob_document_fail. */

/* Ends the open block, if any, and begins one. */
HOB_MUST_CHECK int hob_document_begin(hob_document *d, hob_block_kind kind, uint8_t level);
/* Appends valid UTF-8 to the open block. */
HOB_MUST_CHECK int hob_document_text(hob_document *d, const char *text, size_t len);
/* Ends the open block; one without visible text leaves nothing. */
HOB_MUST_CHECK int hob_document_end(hob_document *d);
/* A list or table ends here: what follows is set apart. */
void hob_document_part(hob_document *d);

/* The first title that has text and is not too long counts. */
HOB_MUST_CHECK int hob_document_title(hob_document *d, const char *title, size_t len);

#endif
