/* SPDX-License-Identifier: Apache-2.0
 *
 * Where sentences and words of a text end. Rules, not a dictionary of a language: a mark that ends sentences, what closes
 * with it, then white space and no small letter (Unicode Standard Annex 29, section 5, made simpler), but not behind the
 * abbreviations of a short list, single letters ("J. Smith", "z. B."), or numbers ("am 3. Mai"). CJK marks need no space.
 * A blank line ends a sentence always. A missed end makes a longer unit, which costs little; a false one tears a sentence
 * apart. Pure; any thread. */
#ifndef HOB_DAEMON_EXTRACT_SENTENCE_H
#define HOB_DAEMON_EXTRACT_SENTENCE_H

#include "hal/base.h"

/* The end of the sentence that begins at `at` < end, at most `end`; white space behind it belongs to neither. text: valid
 * UTF-8. */
size_t hob_sentence_end(const char *text, size_t at, size_t end);

/* The end of the word that begins at `at` < end, where no white space stands: of a run without white space, but an
 * ideograph, kana or other wide character is a word of its own, and after 64 bytes a run ends where a grapheme does. */
size_t hob_word_end(const char *text, size_t at, size_t end);

/* The first byte from `at` on that is not white space, at most `end`. */
size_t hob_skip_space(const char *text, size_t at, size_t end);

#endif
