/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunks: what holds of every list of them (tests/support/document_check.h), over generated documents and every kind of
 * vocabulary; and where exactly they begin and end on texts small enough to see it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/extract/formats.h"
#include "tests/support/document_check.h"

static const hob_extract_limits limits = HOB_EXTRACT_LIMITS_DEFAULT;
static hob_diag diag;

static hob_document document(void)
{
    diag.text[0] = 0;
    return (hob_document){.limits = &limits, .diag = &diag};
}

static void put(hob_document *d, hob_block_kind kind, uint8_t level, const char *text)
{
    assert_int_equal(hob_document_begin(d, kind, level), 0);
    assert_int_equal(hob_document_text(d, text, strlen(text)), 0);
    assert_int_equal(hob_document_end(d), 0);
}

/* ---- generated documents ---- */

static uint32_t seed;
static uint32_t below(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) % n;
}

static void put_random(hob_document *d)
{
    static const char *const pieces[] = {
        "the ",
        "unaffable ",
        "word ",
        "a",
        ". ",
        "! ",
        "? ",
        "\n",
        "  ",
        ", ",
        "\u00e9",
        "\u6f22\u5b57",
        "\u3002",
        "\u0939\u0964 ",
        "\U0001f469\u200d\U0001f680 ",
        "e.g. ",
        "Dr. ",
        "3. ",
        "; ",
        "(x) ",
        "\t",
        "https://example.com/a/long/path?with=query&and=more#fragment-of-it ",
        "a\u0301\u0323",
        "zz "};
    char text[20000] = "";
    const uint32_t n = below(8) == 0 ? 1500 : 1 + below(60), kinds = below(20);
    for (uint32_t i = 0; i < n && strlen(text) + 100 < sizeof text; i++)
        strcat(text, pieces[below(sizeof pieces / sizeof *pieces)]);
    if (kinds == 0) { /* a run without any border */
        memset(text, 'q', sizeof text - 1);
        text[1 + below(sizeof text - 2)] = 0;
    }
    const hob_block_kind kind = (hob_block_kind)below(HOB_BLOCK_CODE + 1);
    put(d, kind, (uint8_t)(1 + below(6)), text);
}

static void test_properties(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned documents; /* what is not WordPiece sets up tables for each text */
    } vocabularies[] = {{"bert", 16}, {"llama", 1}, {"gpt-2", 2}};
    static const uint32_t sizes[][2] = {{32, 0}, {32, 16}, {48, 7}, {200, 32}, {1000, 500}};
    for (size_t v = 0; v < sizeof vocabularies / sizeof *vocabularies; v++) {
        hob_tokenizer *t = dc_tokenizer(vocabularies[v].name);
        for (unsigned n = 0; n < vocabularies[v].documents; n++) {
            hob_document d = document();
            seed = n * 7919;
            for (uint32_t blocks = 1 + below(30); blocks > 0; blocks--)
                put_random(&d);
            const char *wrong = dc_document(&d);
            for (size_t i = 0; !wrong && i < sizeof sizes / sizeof *sizes && d.block_count > 0; i++)
                wrong = dc_cut(&d, t, sizes[i][0], sizes[i][1]);
            if (wrong)
                print_error("document %u, %s: %s\n", n, vocabularies[v].name, wrong);
            assert_null(wrong);
            hob_document_free(&d);
        }
        hob_tokenizer_close(t);
    }
}

static void test_the_same_again(void **state)
{
    (void)state;
    hob_tokenizer *t = dc_tokenizer("bert");
    hob_document d = document();
    dc_chunks a = {0}, b = {0};
    seed = 77;
    for (int i = 0; i < 50; i++)
        put_random(&d);
    assert_int_equal(hob_chunk_document(&d, t, 64, 16, dc_keep, &a), 0);
    assert_int_equal(hob_chunk_document(&d, t, 64, 16, dc_keep, &b), 0);
    assert_true(a.count > 10);
    assert_int_equal(a.count, b.count);
    assert_memory_equal(a.list, b.list, a.count * sizeof *a.list);
    for (size_t i = 0; i < a.count; i++)
        assert_string_equal(a.paths[i], b.paths[i]);
    dc_chunks_free(&a);
    dc_chunks_free(&b);
    hob_document_free(&d);
    hob_tokenizer_close(t);
}

/* ---- where they begin and end ---- */

/* n words of one token each, numbered so that no two places look alike, as sentences of ten. */
static char *words(int from, int n)
{
    char *text = malloc((size_t)n * 8 + 1);
    size_t at = 0;
    for (int i = 0; i < n; i++)
        at += (size_t)sprintf(text + at, "w%d%s", from + i, (i + 1) % 10 ? " " : " A ");
    return text;
}

static dc_chunks cut(hob_document *d, uint32_t tokens, uint32_t overlap)
{
    hob_tokenizer *t = dc_tokenizer("bert");
    dc_chunks k = {0};
    assert_int_equal(hob_chunk_document(d, t, tokens, overlap, dc_keep, &k), 0);
    assert_null(dc_check_chunks(d, t, &k, tokens, overlap));
    hob_tokenizer_close(t);
    return k;
}

static void is_chunk(const hob_document *d, const dc_chunks *k, size_t i, const char *text,
                     const char *path)
{
    assert_true(i < k->count);
    assert_int_equal(k->list[i].end - k->list[i].start, strlen(text));
    assert_memory_equal(d->text.data + k->list[i].start, text, strlen(text));
    assert_string_equal(k->paths[i], path);
}

static void test_headings(void **state)
{
    (void)state;
    hob_document d = document();
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "Before.");
    put(&d, HOB_BLOCK_HEADING, 1, "A");
    put(&d, HOB_BLOCK_HEADING, 2, "A one");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "Text one.");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "More.");
    put(&d, HOB_BLOCK_HEADING, 3, "Deep\nin");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "Text deep.");
    put(&d, HOB_BLOCK_HEADING, 2, "A two");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "Text two.");
    put(&d, HOB_BLOCK_HEADING, 1, "B");
    dc_chunks k = cut(&d, 100, 20);
    assert_int_equal(k.count, 5);
    is_chunk(&d, &k, 0, "Before.", "");
    is_chunk(&d, &k, 1, "A\n\nA one\n\nText one.\n\nMore.", "A > A one");
    is_chunk(&d, &k, 2, "Deep\nin\n\nText deep.", "A > A one > Deep in");
    is_chunk(&d, &k, 3, "A two\n\nText two.", "A > A two");
    is_chunk(&d, &k, 4, "B", "B");
    dc_chunks_free(&k);
    hob_document_free(&d);
}

static void test_long_headings(void **state)
{
    (void)state;
    hob_document d = document();
    char large[HOB_HEADING_BYTES_MAX + 2];
    put(&d, HOB_BLOCK_HEADING, 1, "H");
    memset(large, 'h', sizeof large);
    large[sizeof large - 1] = 0; /* one byte too long: a paragraph */
    put(&d, HOB_BLOCK_HEADING, 2, large);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "text");
    large[sizeof large - 2] = 0; /* as long as may be, at every level */
    for (int i = 1; i <= HOB_HEADING_LEVELS; i++)
        put(&d, HOB_BLOCK_HEADING, (uint8_t)i, large);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "end");
    dc_chunks k = cut(&d, 200, 32);
    assert_string_equal(k.paths[0], "H");
    assert_int_equal(strlen(k.paths[k.count - 1]), 6 * HOB_HEADING_BYTES_MAX + 5 * 3);
    dc_chunks_free(&k);
    hob_document_free(&d);
}

static void test_a_heap_of_headings(void **state)
{
    (void)state;
    hob_document d = document();
    char heading[32];
    for (int i = 0; i < 100; i++) {
        snprintf(heading, sizeof heading, "Number n%d", i);
        put(&d, HOB_BLOCK_HEADING, 1, heading);
    }
    dc_chunks k = cut(&d, 32, 8);
    assert_int_equal(k.list[0].tokens, 32);
    assert_string_equal(k.paths[0], "Number n15"); /* the last of its own */
    dc_chunks_free(&k);
    hob_document_free(&d);
}

/* A paragraph that does not fit any more begins a chunk if the one before is half full. */
static void test_paragraphs(void **state)
{
    (void)state;
    hob_document d = document();
    char *one = words(0, 50), *two = words(50, 55), *three = words(105, 30);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, one);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, two);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, three);
    dc_chunks k = cut(&d, 100, 0);
    assert_int_equal(k.count, 2);
    assert_int_equal(k.list[1].start, d.blocks[1].start);
    dc_chunks_free(&k);
    free(one);
    free(two);
    free(three);
    hob_document_free(&d);
}

static void test_overlap(void **state)
{
    (void)state;
    hob_document d = document();
    char text[4000] = "";
    for (int i = 0; i < 40; i++) /* sentences of 8 tokens: seven words and the stop */
        sprintf(text + strlen(text), "S%d one two three four five six. ", i);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, text);
    dc_chunks k = cut(&d, 64, 20);
    for (size_t i = 1; i < k.count; i++) { /* two sentences of it */
        const char *from = (const char *)d.text.data + k.list[i].start;
        assert_int_equal(from[0], 'S');
        assert_true(k.list[i].start < k.list[i - 1].end);
        int stops = 0;
        for (uint32_t at = k.list[i].start; at < k.list[i - 1].end; at++)
            stops += d.text.data[at] == '.';
        assert_int_equal(stops, 2);
    }
    assert_true(k.count > 5);
    dc_chunks_free(&k);
    k = cut(&d, 64, 5); /* less than a sentence: words */
    for (size_t i = 1; i < k.count; i++) {
        assert_true(k.list[i].start < k.list[i - 1].end);
        assert_int_equal(d.text.data[k.list[i].start - 1], ' ');
    }
    dc_chunks_free(&k);
    k = cut(&d, 64, 0);
    for (size_t i = 1; i < k.count; i++)
        assert_true(k.list[i].start > k.list[i - 1].end);
    dc_chunks_free(&k);
    hob_document_free(&d);
}

/* A sentence that is too long is cut at line ends, clauses, words, in this order. */
static void test_long_sentences(void **state)
{
    (void)state;
    static const struct {
        const char *in_front, *behind;
    } cuts[] = {{"\n", " "}, {", ", " "}, {" ", " "}};
    for (size_t i = 0; i < 3; i++) {
        hob_document d = document();
        char text[8000] = "";
        for (int n = 0; n < 400; n++)
            sprintf(text + strlen(text), "w%d%s", n,
                    n % 25 == 24 ? cuts[i].in_front : cuts[i].behind);
        put(&d, HOB_BLOCK_LINES, 0, text);
        dc_chunks k = cut(&d, 40, 0);
        assert_true(k.count >= 10);
        for (size_t n = 0; i < 2 && n + 1 < k.count; n++) {
            const char *end = (const char *)d.text.data + k.list[n].end;
            assert_true(i == 0 ? end[0] == '\n' : end[-1] == ',');
        }
        for (size_t n = 0; i == 2 && n + 1 < k.count; n++)
            assert_int_equal(k.list[n].tokens, 40);
        dc_chunks_free(&k);
        hob_document_free(&d);
    }
}

static void test_lines_of_code(void **state)
{
    (void)state;
    hob_document d = document();
    char text[8000] = "";
    for (int n = 0; n < 100; n++)
        sprintf(text + strlen(text), "    call%d(x); y = z.\n", n);
    put(&d, HOB_BLOCK_CODE, 0, text);
    dc_chunks k = cut(&d, 64, 10);
    assert_true(k.count > 5);
    for (size_t n = 0; n + 1 < k.count; n++)
        assert_int_equal(d.text.data[k.list[n].end], '\n');
    dc_chunks_free(&k);
    hob_document_free(&d);
}

/* Of a run of letters that is longer than any word WordPiece makes one unknown token: bytes bound the chunk. */
static void test_run_of_letters(void **state)
{
    (void)state;
    hob_document d = document();
    char *run = malloc(100001);
    memset(run, 'x', 100000);
    run[100000] = 0;
    put(&d, HOB_BLOCK_PARAGRAPH, 0, run);
    dc_chunks k = cut(&d, 200, 32);
    assert_true(k.count >= 100000 / (200 * HOB_CHUNK_BYTES_A_TOKEN));
    dc_chunks_free(&k);
    free(run);
    hob_document_free(&d);
}

static void test_chunk_limit(void **state)
{
    (void)state;
    hob_extract_limits few = limits;
    few.chunks = 3;
    hob_document d = document();
    d.limits = &few;
    hob_tokenizer *t = dc_tokenizer("bert");
    dc_chunks k = {0};
    char *text = words(0, 200);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, text);
    assert_int_equal(hob_chunk_document(&d, t, 32, 0, dc_keep, &k), HOB_ELIMIT);
    assert_int_equal(d.error, HOB_EXTRACT_TOO_LARGE);
    assert_string_equal(diag.text, "the text has more than 3 chunks, which is the limit");
    dc_chunks_free(&k);
    free(text);
    hob_tokenizer_close(t);
    hob_document_free(&d);
}

static int stop(void *user, const hob_chunk *c, const char *path, size_t path_len)
{
    (void)c;
    (void)path;
    (void)path_len;
    return ++*(int *)user == 2 ? HOB_ECANCELED : 0;
}

static void test_emit_can_end_it(void **state)
{
    (void)state;
    hob_document d = document();
    hob_tokenizer *t = dc_tokenizer("bert");
    int calls = 0;
    char *text = words(0, 200);
    put(&d, HOB_BLOCK_PARAGRAPH, 0, text);
    assert_int_equal(hob_chunk_document(&d, t, 32, 0, stop, &calls), HOB_ECANCELED);
    assert_int_equal(calls, 2);
    free(text);
    hob_tokenizer_close(t);
    hob_document_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_properties),
        cmocka_unit_test(test_the_same_again),
        cmocka_unit_test(test_headings),
        cmocka_unit_test(test_long_headings),
        cmocka_unit_test(test_a_heap_of_headings),
        cmocka_unit_test(test_paragraphs),
        cmocka_unit_test(test_overlap),
        cmocka_unit_test(test_long_sentences),
        cmocka_unit_test(test_lines_of_code),
        cmocka_unit_test(test_run_of_letters),
        cmocka_unit_test(test_chunk_limit),
        cmocka_unit_test(test_emit_can_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
