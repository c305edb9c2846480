/* SPDX-License-Identifier: Apache-2.0
 *
 * Text as it is stored: one form for what looks and means the same, and nothing that a reader cannot see.
 *
 * - NFC (Unicode Standard Annex 15). Not NFKC, since the text is quoted to people and models: x² is not x2, ½ is not 1⁄2.
 *   Of the compatibility characters those are replaced that differ from the usual ones only in presentation, so that words
 *   are found: font variants, full and half width, vertical and small forms, Arabic presentation forms, the ligatures
 *   U+FB00 to U+FB17 that PDF files are full of, and CJK radicals that stand for ideographs.
 * - Every space is U+0020, every line end U+000A (CR LF, CR, NEL, U+2028), every paragraph end (FF, VT, U+2029) two of
 *   them. Tabs stay.
 * - Stripped and counted: other control characters, noncharacters, and what Unicode calls default ignorable, which hides
 *   text from people that a model reads: zero width characters, bidi controls, tags, variation selectors, fillers. ZWJ and
 *   ZWNJ stay where scripts or emoji join with them: one, between two characters of such a script.
 * - At most 30 combining marks on a letter, as the Stream-Safe Text Format has it, which also keeps reordering linear. */
#ifndef HOB_DAEMON_EXTRACT_NORMALIZE_H
#define HOB_DAEMON_EXTRACT_NORMALIZE_H

#include "daemon/engine/protocol.h"
#include "daemon/extract/extract.h"

/* Appends text (valid UTF-8; a whole block, since characters change with their neighbours) in that form; adds to *counts.
 * HOB_ENOMEM, with what was appended undefined. */
HOB_MUST_CHECK int hob_normalize(const char *text, size_t len, hob_bytes *out,
                                 hob_stripped *counts);

#endif
