/* SPDX-License-Identifier: Apache-2.0
 *
 * The extractor: `hobd --extract`, one short-lived process a document, turns an uploaded file into normalized text and
 * chunks. The file is untrusted input, so the process is under seccomp and Landlock before it looks at a byte that needs
 * parsing, has no network and no other files, cannot write any, and has limits on time, memory and output. What it says
 * goes over a socketpair (wire.h) to its parent, which believes none of it (extractor.h).
 *
 * This header is what both sides share: the ways in which it can end, and the limits. */
#ifndef HOB_DAEMON_EXTRACT_EXTRACT_H
#define HOB_DAEMON_EXTRACT_EXTRACT_H

#include "hal/base.h"

/* Why there is no text. The numbers go over the wire. */
typedef enum hob_extract_error {
    HOB_EXTRACT_OK,
    HOB_EXTRACT_UNSUPPORTED,    /* a known type, or character set, that hob does not read */
    HOB_EXTRACT_BINARY,         /* no known type, and not text */
    HOB_EXTRACT_ENCRYPTED,      /* needs a password */
    HOB_EXTRACT_MALFORMED,      /* breaks its format */
    HOB_EXTRACT_EMPTY,          /* has no text: nothing in it, or pictures of text */
    HOB_EXTRACT_TOO_LARGE,      /* bytes, text, chunks, nesting or compression past their limit */
    HOB_EXTRACT_TIMEOUT,        /* took too long */
    HOB_EXTRACT_MEMORY,         /* took too much memory */
    HOB_EXTRACT_HELPER_MISSING, /* a program or its data has to be installed first */
    HOB_EXTRACT_CRASHED,        /* the process died, or said what cannot be */
    HOB_EXTRACT_INTERNAL,       /* nothing is wrong with the document: the box could not do it */
    HOB_EXTRACT_ERRORS,
} hob_extract_error;
/* "unsupported", "binary", … for interfaces; "unknown" for other numbers. */
const char *hob_extract_error_name(hob_extract_error e);
/* The name of a code of HOB_E…, for what library code returned: HOB_EFORMAT is MALFORMED, and so on. */
hob_extract_error hob_extract_error_of(int code);

typedef struct hob_extract_limits {
    uint64_t input_bytes; /* of the file; text formats in addition: 8 times text_bytes */
    uint32_t text_bytes;  /* of the normalized text, at most HOB_EXTRACT_TEXT_MOST */
    uint32_t chunks;
    uint32_t
        memory_mb; /* address space beside the mapped file and vocabulary; a helper has as much again */
    uint32_t cpu_s; /* of the extractor, and again of a helper */
    uint32_t wall_ms;
} hob_extract_limits;
#define HOB_EXTRACT_LIMITS_DEFAULT                                                                 \
    {                                                                                              \
        .input_bytes = 256 << 20, .text_bytes = 16 << 20, .chunks = 1 << 17, .memory_mb = 512,     \
        .cpu_s = 30, .wall_ms = 600000                                                             \
    }

enum {
    HOB_EXTRACT_TEXT_MOST = 1 << 28, /* its raw form is counted in 32 bits by MD4C */
    HOB_EXTRACT_DEPTH_MAX = 1000,    /* elements around one another, in HTML and DOCX */
    HOB_EXTRACT_RATIO_MAX = 200,     /* unpacked bytes to packed ones, past the first MiB */
    HOB_EXTRACT_RAW_FACTOR = 8,      /* bytes of a text format to text_bytes */
    HOB_EXTRACT_TITLE_MAX = 512,     /* bytes; a longer title is none */
    HOB_EXTRACT_NAME_MAX = 1024,     /* bytes of a file name or media type that are looked at */

    HOB_CHUNK_TOKENS =
        200, /* what chunks are cut to by default, of the 256 that small encoders take */
    HOB_CHUNK_OVERLAP = 32,
    HOB_CHUNK_TOKENS_LEAST = 32,
    HOB_CHUNK_TOKENS_MOST = 8192,
};

/* What was stripped from the text or replaced in it, in code points. */
typedef struct hob_stripped {
    uint32_t control; /* C0 and C1 without tab and line ends, noncharacters */
    uint32_t
        zero_width; /* joiners where no script joins, soft hyphens, fillers, other default ignorables */
    uint32_t bidi;      /* embeddings, overrides, isolates, marks */
    uint32_t tags;      /* U+E0000 to U+E007F, which spell ASCII invisibly */
    uint32_t variation; /* variation selectors */
    uint32_t marks;     /* combining marks past the 30th on one letter */
    uint32_t hidden;    /* elements that a page hides, runs that a DOCX hides */
    uint32_t replaced;  /* bytes that were no character, now U+FFFD */
} hob_stripped;

/* Descriptors that the parent hands down. */
enum { HOB_EXTRACT_FD = 3, HOB_EXTRACT_FD_DOCUMENT = 4, HOB_EXTRACT_FD_VOCABULARY = 5 };

/* The process. Arguments after `--extract`: --name TEXT --type TEXT --pdftotext PATH --input-bytes N --text-bytes N
 * --chunks N --memory-mb N --cpu-s N --wall-ms N --chunk-tokens N --overlap-tokens N --vocabulary 0|1. Returns the exit
 * status, 0 also when it has sent an error. */
int hob_extract_main(int argc, char **argv);

#endif
