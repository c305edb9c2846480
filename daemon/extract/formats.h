/* SPDX-License-Identifier: Apache-2.0
 *
 * The readers of the formats. Each puts a file's text into a document, block by block, and fails as document.h has it; a
 * reader that has failed leaves a document that is good for nothing but its error.
 * Thread: the extractor's only one, in its sandbox. */
#ifndef HOB_DAEMON_EXTRACT_FORMATS_H
#define HOB_DAEMON_EXTRACT_FORMATS_H

#include "daemon/extract/document.h"

/* Paragraphs are apart by blank lines. text: valid UTF-8 without NUL, as in the next two. */
HOB_MUST_CHECK int hob_read_plain(const char *text, size_t len, hob_document *d);

/* CommonMark with GitHub's tables, task lists and strikethrough, through MD4C and then as HTML. Front matter (YAML between
 * lines of ---) is kept as it is, and its title taken. */
HOB_MUST_CHECK int hob_read_markdown(const char *text, size_t len, hob_document *d);

/* Through Gumbo, which builds the tree that the HTML standard and with it browsers build. What no reader sees is dropped:
 * scripts, styles, comments, templates, form controls, and elements hidden by attribute or inline style. */
HOB_MUST_CHECK int hob_read_html(const char *text, size_t len, hob_document *d);

/* The name of the character set that a page declares in its first bytes, in lower case; "": none, or longer than ret.
 * For a page that is not UTF-8. */
void hob_html_charset(const uint8_t *data, size_t bytes, char *ret, size_t ret_size);

/* A DOCX file through minizip and expat: body, footnotes and endnotes, without deleted and hidden text. */
HOB_MUST_CHECK int hob_read_docx(const uint8_t *data, size_t bytes, hob_document *d);

/* pdftotext, started before the process enters its own sandbox, in one made for it. */
typedef struct hob_pdf {
    int pid;
    int out, err; /* its standard output and error */
} hob_pdf;
#define HOB_PDFTOTEXT "/usr/bin/pdftotext"
/* document: the PDF file, open for reading. Fails with HELPER_MISSING or INTERNAL. */
HOB_MUST_CHECK int hob_pdf_start(const char *program, int document, hob_pdf *ret, hob_document *d);
HOB_MUST_CHECK int hob_pdf_read(hob_pdf *p, hob_document *d);

#endif
