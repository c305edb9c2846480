/* SPDX-License-Identifier: Apache-2.0
 *
 * See chunk.h. Units (sentences, or pieces of one that is too long) are taken from the blocks one by one and collected
 * until the next one does not fit. A unit has at most `most` = tokens - overlap tokens, so that it fits behind any overlap.
 * Counts of units add up to that of the chunk for WordPiece, which works word by word; for other vocabularies the sum is
 * an estimate. So the chunk is counted once more as a whole, and gives up its overlap, then its last units, if that is
 * too much. */
#include "daemon/extract/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/extract/sentence.h"

typedef struct unit {
    uint32_t start, end, tokens;
    bool begins_block, body;       /* body: no part of a heading */
    const hob_text_block *heading; /* that begins here; NULL: none */
} unit;

typedef struct word {
    uint32_t start, end, tokens;
} word;

typedef struct chunker {
    hob_document *d;
    const hob_tokenizer *t;
    const char *text;
    uint32_t size, overlap, most; /* tokens of a chunk, of what it repeats, of a unit */
    uint32_t size_bytes, most_bytes;
    hob_chunk_emit *emit;
    void *user;
    uint32_t emitted;

    unit *units; /* of the chunk that is being filled */
    size_t unit_count, unit_capacity;
    uint32_t total; /* of their tokens */
    bool repeats;   /* units[0] is the overlap */

    word *words; /* of a sentence that is being cut */
    size_t word_count, word_capacity;

    char headings[HOB_HEADING_LEVELS][HOB_HEADING_BYTES_MAX];
    size_t heading_len[HOB_HEADING_LEVELS]; /* 0: there is none of this level */
    hob_ids ids;
} chunker;

static int count(chunker *k, uint32_t start, uint32_t end, uint32_t *ret)
{
    hob_diag diag = {""};
    k->ids.count = 0;
    const int r =
        hob_tokenize(k->t, k->text + start, end - start, NULL, 0, false, 0, &k->ids, &diag);
    if (r < 0)
        return hob_document_fail(k->d, hob_extract_error_of(r), "%s", diag.text);
    *ret = (uint32_t)k->ids.count;
    return 0;
}

/* Room for one more of an array. */
static void *grow(chunker *k, void *array, size_t n, size_t *capacity, size_t each)
{
    size_t more = *capacity ? 2 * *capacity : 64, bytes;
    void *p = array;
    if (n < *capacity)
        return p;
    p = hob_mul_size(more, each, &bytes) ? realloc(array, bytes) : NULL;
    if (p)
        *capacity = more;
    else
        (void)hob_document_no_memory(k->d);
    return p;
}

/* ---- headings ---- */

static size_t heading_path(const chunker *k, char *ret)
{
    size_t n = 0;
    for (int i = 0; i < HOB_HEADING_LEVELS; i++) {
        if (k->heading_len[i] == 0)
            continue;
        if (n > 0) {
            memcpy(ret + n, " > ", 3);
            n += 3;
        }
        memcpy(ret + n, k->headings[i], k->heading_len[i]);
        n += k->heading_len[i];
    }
    return n;
}

static bool is_heading(const hob_text_block *b)
{
    return b->kind == HOB_BLOCK_HEADING && b->level >= 1 && b->level <= HOB_HEADING_LEVELS &&
           b->end - b->start <= HOB_HEADING_BYTES_MAX;
}

static void set_heading(chunker *k, const hob_text_block *b)
{
    const int level = b->level - 1;
    char *to = k->headings[level];
    for (int i = level; i < HOB_HEADING_LEVELS; i++)
        k->heading_len[i] = 0;
    for (uint32_t i = b->start; i < b->end; i++)
        *to++ = k->text[i] == '\n' ? ' ' : k->text[i];
    k->heading_len[level] = b->end - b->start;
}

/* ---- chunks ---- */

static int insert_unit(chunker *k, size_t at, const unit *u)
{
    unit *units = grow(k, k->units, k->unit_count, &k->unit_capacity, sizeof *units);
    if (!units)
        return HOB_ENOMEM;
    k->units = units;
    memmove(units + at + 1, units + at, (k->unit_count - at) * sizeof *units);
    units[at] = *u;
    k->unit_count++;
    k->total += u->tokens;
    return 0;
}

static void drop_units(chunker *k, size_t n)
{
    for (size_t i = 0; i < n; i++)
        k->total -= k->units[i].tokens;
    k->unit_count -= n;
    memmove(k->units, k->units + n, k->unit_count * sizeof *k->units);
}

static int split_words(chunker *k, uint32_t start, uint32_t end, uint32_t most);

/* Where the text that the next chunk repeats begins, behind units[0]'s start; the end of units[n - 1]: nowhere. */
static int find_overlap(chunker *k, size_t n, unit *ret)
{
    const unit *last = &k->units[n - 1];
    uint32_t start = last->end, tokens = 0;
    int r = 0;
    for (size_t i = n; i-- > 1;) {
        if (tokens + k->units[i].tokens > k->overlap ||
            last->end - k->units[i].start > k->most_bytes / 2)
            break;
        tokens += k->units[i].tokens;
        start = k->units[i].start;
    }
    if (start == last->end && k->overlap > 0) {
        if ((r = split_words(k, last->start, last->end, UINT32_MAX)) < 0)
            return r;
        for (size_t i = k->word_count; i-- > 0;) {
            const word *w = &k->words[i];
            if (tokens + w->tokens > k->overlap || last->end - w->start > k->most_bytes / 2 ||
                w->start <= k->units[0].start)
                break;
            tokens += w->tokens;
            start = w->start;
        }
    }
    if (start < last->end && (r = count(k, start, last->end, &tokens)) < 0)
        return r;
    if (tokens > k->overlap)
        start = last->end;
    *ret = (unit){.start = start, .end = last->end, .tokens = tokens, .body = true};
    return 0;
}

/* Emits the first n units, or fewer if they turn out to be too many, and puts what is repeated in front of the rest. */
static int emit_units(chunker *k, size_t n)
{
    char path[HOB_HEADING_PATH_MAX];
    hob_chunk c;
    unit again;
    int r;
    for (;;) {
        c.start = k->units[0].start;
        c.end = k->units[n - 1].end;
        if ((r = count(k, c.start, c.end, &c.tokens)) < 0)
            return r;
        if (c.tokens <= k->size || n == 1)
            break;
        if (k->repeats) {
            k->repeats = false;
            drop_units(k, 1);
        }
        n--;
    }
    if (k->emitted == k->d->limits->chunks)
        return hob_document_fail(k->d, HOB_EXTRACT_TOO_LARGE,
                                 "the text has more than %u chunks, which is the limit",
                                 k->d->limits->chunks);
    k->emitted++;
    if ((r = k->emit(k->user, &c, path, heading_path(k, path))) < 0 ||
        (r = find_overlap(k, n, &again)) < 0)
        return r;
    drop_units(k, n);
    k->repeats = again.start < again.end;
    return k->repeats ? insert_unit(k, 0, &again) : 0;
}

/* All that there is, in as many chunks as it takes; nothing is repeated behind it. */
static int flush(chunker *k)
{
    int r = 0;
    while (r == 0 && k->unit_count > (k->repeats ? 1 : 0))
        r = emit_units(k, k->unit_count);
    drop_units(k, k->unit_count);
    k->repeats = false;
    return r;
}

/* How many units make the next chunk: up to the last beginning of a block that leaves it at least half full. */
static size_t choose_end(const chunker *k, const unit *next)
{
    uint32_t tokens = k->total;
    for (size_t n = k->unit_count - 1; !next->begins_block && n > (k->repeats ? 1 : 0); n--) {
        tokens -= k->units[n].tokens;
        if (2 * tokens < k->size)
            break;
        if (k->units[n].begins_block)
            return n;
    }
    return k->unit_count;
}

static bool fits(const chunker *k, const unit *u)
{
    return k->unit_count == 0 ||
           (k->total + u->tokens <= k->size && u->end - k->units[0].start <= k->size_bytes);
}

static int add_unit(chunker *k, const unit *u)
{
    int r = 0;
    while (r == 0 && !fits(k, u)) {
        if (k->repeats && k->unit_count == 1) /* white space between them takes the bytes */
            r = flush(k);
        else
            r = emit_units(k, choose_end(k, u));
    }
    if (r == 0 && u->heading)
        set_heading(k, u->heading);
    return r < 0 ? r : insert_unit(k, k->unit_count, u);
}

/* ---- units ---- */

/* Fills k->words from start on, to end or until they have more than `most` tokens. */
static int split_words(chunker *k, uint32_t start, uint32_t end, uint32_t most)
{
    uint32_t tokens = 0;
    int r;
    k->word_count = 0;
    for (uint32_t at = start; at < end && tokens <= most && at - start <= k->most_bytes;) {
        word w = {.start = at, .end = (uint32_t)hob_word_end(k->text, at, end)};
        if ((r = count(k, w.start, w.end, &w.tokens)) < 0)
            return r;
        /* One that is too long alone: half of it, and again. */
        while (w.tokens > k->most && w.end - w.start > 4) {
            w.end -= (w.end - w.start) / 2;
            while (((unsigned char)k->text[w.end] & 0xC0) == 0x80)
                w.end--;
            if ((r = count(k, w.start, w.end, &w.tokens)) < 0)
                return r;
        }
        word *words = grow(k, k->words, k->word_count, &k->word_capacity, sizeof *words);
        if (!words)
            return HOB_ENOMEM;
        k->words = words;
        words[k->word_count++] = w;
        tokens += w.tokens;
        at = (uint32_t)hob_skip_space(k->text, w.end, end);
    }
    return 0;
}

/* Whether a long sentence is better cut behind the word than elsewhere: 2 at a line's end, 1 at a clause's. */
static int cut_grade(const chunker *k, const word *w)
{
    if (k->text[w->end] == '\n')
        return 2;
    return strchr(",;:", k->text[w->end - 1]) != NULL;
}

/* As much of a sentence that is too long as a unit takes. */
static int cut_unit(chunker *k, unit *u)
{
    uint32_t tokens = 0;
    size_t n = 0, best = 0;
    int best_grade = 0, r = split_words(k, u->start, u->end, k->most);
    if (r < 0)
        return r;
    for (; n < k->word_count && tokens + k->words[n].tokens <= k->most &&
           k->words[n].end - u->start <= k->most_bytes;
         n++) {
        tokens += k->words[n].tokens;
        if (2 * tokens >= k->most && k->words[n].end < u->end &&
            cut_grade(k, &k->words[n]) >= best_grade) {
            best_grade = cut_grade(k, &k->words[n]);
            best = n + 1;
        }
    }
    if (n == 0)
        n = 1;
    if (best > 0 && best_grade > 0 && k->words[n - 1].end < u->end)
        n = best;
    for (;; n--) {
        u->end = k->words[n - 1].end;
        if ((r = count(k, u->start, u->end, &u->tokens)) < 0 || u->tokens <= k->most || n == 1)
            return r;
    }
}

static uint32_t end_of(const chunker *k, const hob_text_block *b, uint32_t at)
{
    if (b->kind != HOB_BLOCK_CODE && b->kind != HOB_BLOCK_ROW)
        return (uint32_t)hob_sentence_end(k->text, at, b->end);
    const char *end = memchr(k->text + at, '\n', b->end - at);
    return end ? (uint32_t)(end - k->text) : b->end;
}

static int add_block(chunker *k, const hob_text_block *b, bool heading)
{
    int r = 0;
    bool first = true;
    for (uint32_t at = (uint32_t)hob_skip_space(k->text, b->start, b->end);
         r == 0 && at < b->end;) {
        const uint32_t end = end_of(k, b, at);
        unit u;
        bool cut = false;
        for (uint32_t from = at; r == 0 && from < end;
             from = (uint32_t)hob_skip_space(k->text, u.end, end)) {
            u = (unit){.start = from,
                       .end = end,
                       .begins_block = first,
                       .body = !heading,
                       .heading = first && heading ? b : NULL};
            first = false;
            /* A long rest is not counted as a whole again and again. */
            cut = cut || end - from > k->most_bytes;
            if (!cut && (r = count(k, u.start, u.end, &u.tokens)) == 0)
                cut = u.tokens > k->most;
            if (r == 0 && cut)
                r = cut_unit(k, &u);
            if (r == 0)
                r = add_unit(k, &u);
        }
        at = (uint32_t)hob_skip_space(k->text, end, b->end);
    }
    return r;
}

static bool has_body(const chunker *k)
{
    for (size_t i = 0; i < k->unit_count; i++)
        if (k->units[i].body)
            return true;
    return false;
}

int hob_chunk_document(hob_document *d, const hob_tokenizer *t, uint32_t tokens, uint32_t overlap,
                       hob_chunk_emit *emit, void *user)
{
    chunker k = {.d = d,
                 .t = t,
                 .text = (const char *)d->text.data,
                 .size = tokens,
                 .overlap = overlap,
                 .most = tokens - overlap,
                 .size_bytes = tokens * HOB_CHUNK_BYTES_A_TOKEN,
                 .most_bytes = tokens * HOB_CHUNK_BYTES_A_TOKEN / 2,
                 .emit = emit,
                 .user = user};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < d->block_count; i++) {
        const hob_text_block *b = &d->blocks[i];
        const bool heading = is_heading(b);
        if (heading && has_body(&k) && (r = flush(&k)) < 0)
            break;
        r = add_block(&k, b, heading);
    }
    if (r == 0)
        r = flush(&k);
    free(k.units);
    free(k.words);
    hob_ids_free(&k.ids);
    return r;
}
