/* SPDX-License-Identifier: Apache-2.0
 *
 * Ids to text, one at a time. A token may end inside a character: its beginning, at most three
 * bytes, is held until the next token decides. See tokenizer.h. */
#include "models/tokenizer_private.h"

#include <string.h>

#include "models/utf8.h"

#define REPLACEMENT "\xEF\xBF\xBD"

static size_t put(char *ret, size_t used, size_t cap, const char *bytes, size_t len)
{
    if (len > cap - used) /* a caller's buffer below the documented size: cut, never overrun */
        return used;
    memcpy(ret + used, bytes, len);
    return used + len;
}

/* Adds one byte; gives out what it decides. */
static size_t feed(hob_detokenizer *d, char byte, char *ret, size_t used, size_t cap)
{
    d->held[d->held_len++] = byte;
    while (d->held_len) {
        int step = hob_utf8_step(d->held, d->held_len);
        if (step == 0)
            break;
        uint32_t taken = (uint32_t)(step > 0 ? step : -step);
        if (step > 0)
            used = put(ret, used, cap, d->held, taken);
        else
            used = put(ret, used, cap, REPLACEMENT, 3);
        d->held_len -= taken;
        memmove(d->held, d->held + taken, d->held_len);
    }
    return used;
}

size_t hob_detokenize(const hob_tokenizer *t, hob_detokenizer *d, uint32_t id, bool special,
                      char *ret, size_t ret_cap)
{
    hob_string piece = hob_tokenizer_piece(t, id);
    size_t used = 0;
    if (hob_tokenizer_is_control(t, id) && !special)
        return 0;
    if (d->drops_space && piece.len && !hob_tokenizer_is_control(t, id)) {
        d->drops_space = false;
        if (piece.data[0] == ' ' && (t->adds_space || t->kind == HOB_TOKENIZER_WORDPIECE))
            piece = (hob_string){piece.data + 1, piece.len - 1};
    }
    for (size_t i = 0; i < piece.len; i++)
        used = feed(d, piece.data[i], ret, used, ret_cap);
    return used;
}

size_t hob_detokenize_end(hob_detokenizer *d, char *ret, size_t ret_cap)
{
    size_t used = d->held_len ? put(ret, 0, ret_cap, REPLACEMENT, 3) : 0;
    d->held_len = 0;
    return used;
}
