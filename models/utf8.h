/* SPDX-License-Identifier: Apache-2.0
 *
 * One step of UTF-8 decoding, shared by the tokenizer, the detokenizer and the stop strings.
 * Well-formed sequences are those of table 3-7 of the Unicode standard; an ill-formed one is
 * reported as its maximal subpart (section 3.9), so that every reader replaces the same bytes. */
#ifndef HOB_MODELS_UTF8_H
#define HOB_MODELS_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* p[0 .. len), len > 0. 1 .. 4: a whole character of that many bytes. 0: a beginning that more
 * bytes could complete. Negative: minus the number of bytes that can never be part of a character.
 */
static inline int hob_utf8_step(const char *p, size_t len)
{
    const unsigned char *s = (const unsigned char *)p;
    unsigned char low = 0x80, high = 0xBF;
    int need;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xC2 && s[0] <= 0xDF) {
        need = 2;
    } else if (s[0] >= 0xE0 && s[0] <= 0xEF) {
        need = 3;
        low = s[0] == 0xE0 ? 0xA0 : 0x80;
        high = s[0] == 0xED ? 0x9F : 0xBF;
    } else if (s[0] >= 0xF0 && s[0] <= 0xF4) {
        need = 4;
        low = s[0] == 0xF0 ? 0x90 : 0x80;
        high = s[0] == 0xF4 ? 0x8F : 0xBF;
    } else {
        return -1;
    }
    for (int i = 1; i < need; i++) {
        if ((size_t)i == len)
            return 0;
        if (s[i] < low || s[i] > high)
            return -i;
        low = 0x80;
        high = 0xBF;
    }
    return need;
}

#endif
