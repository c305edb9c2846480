/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over the reader of HTML: any bytes, decoded as a file's are. */
#include "tests/fuzz/document_walk.h"

WALK_TEXT(hob_read_html)
