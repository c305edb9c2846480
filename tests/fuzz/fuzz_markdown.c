/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the reader of Markdown: any bytes, decoded as a file's are. */
#include "tests/fuzz/document_walk.h"

WALK_TEXT(hob_read_markdown)
