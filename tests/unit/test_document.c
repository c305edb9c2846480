/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes before chunks: encodings, what a file is, normalization of text, blocks, sentences and words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/extract/formats.h"
#include "daemon/extract/sentence.h"
#include "tests/support/document_check.h"

static const hob_extract_limits limits = HOB_EXTRACT_LIMITS_DEFAULT;
static hob_diag diag;

static hob_document document(void)
{
    diag.text[0] = 0;
    return (hob_document){.limits = &limits, .diag = &diag};
}

/* ---- normalization ---- */

static hob_stripped normal(const char *from, const char *to)
{
    hob_bytes out = {0};
    hob_stripped counts = {0};
    assert_int_equal(hob_normalize(from, strlen(from), &out, &counts), 0);
    assert_int_equal(hob_bytes_append(&out, "", 1), 0);
    assert_string_equal(out.data, to);
    assert_true(dc_is_normal(to, strlen(to)));
    hob_bytes_free(&out);
    return counts;
}

static void test_composition(void **state)
{
    (void)state;
    normal("plain ASCII", "plain ASCII");
    normal("e\u0301", "\u00e9");
    normal("a\u0323\u0307", "\u1ea1\u0307"); /* reordered and composed */
    normal("a\u0307\u0323", "\u1ea1\u0307");
    normal("\u212b", "\u00c5");             /* angstrom sign */
    normal("\u1100\u1161\u11a8", "\uac01"); /* Hangul */
}

static void test_presentation(void **state)
{
    (void)state;
    normal("\ufb01re \ufb03ce", "fire ffice");
    normal("\uff21\uff22\uff11", "AB1");    /* full width */
    normal("\uff76\uff9e", "\u30ac");       /* half width, then composed */
    normal("\U0001d400\U0001d4b6", "Aa");   /* bold, script */
    normal("\ufefb", "\u0644\u0627");       /* Arabic ligature */
    normal("\u2f00\u2ea0", "\u4e00\u2ea0"); /* a radical with an ideograph, one without */
    normal("x\u00b2 \u00bd \u2460 \u2122 \u2163 \u2026",
           "x\u00b2 \u00bd \u2460 \u2122 \u2163 \u2026"); /* meaning */
}

static void test_white_space(void **state)
{
    (void)state;
    normal("a\u00a0b\u3000c\u2009d", "a b c d");
    normal("a\r\nb\rc\xc2\x85"
           "d\u2028e",
           "a\nb\nc\nd\ne");
    normal("a\fb\vc\u2029d", "a\n\nb\n\nc\n\nd");
    normal("a\tb", "a\tb");
}

static void test_invisible(void **state)
{
    (void)state;
    hob_stripped s = normal("a\x01\x7f\xc2\x9f\ufdd0\xef\xbf\xbfz", "az");
    assert_int_equal(s.control, 5);
    s = normal("i\u200bg\u200cn\u200do\u2060r\ufeffe\u00ad\u034f\u3164\u180e.", "ignore.");
    assert_int_equal(s.zero_width, 9);
    s = normal("\u202eabc\u202c\u2066x\u2069\u200f\u061c", "abcx");
    assert_int_equal(s.bidi, 6);
    s = normal("a\U000e0001\U000e0049\U000e0067\U000e007fb", "ab");
    assert_int_equal(s.tags, 4);
    s = normal("a\ufe00\ufe0f\U000e0100\U000e01efb", "ab");
    assert_int_equal(s.variation, 4);
    char zalgo[2 + 40 * 2 + 2] = "a";
    for (int i = 0; i < 40; i++)
        strcat(zalgo, "\u0316");
    char kept[2 + 30 * 2 + 2] = "a";
    for (int i = 0; i < 30; i++)
        strcat(kept, "\u0316");
    s = normal(zalgo, kept);
    assert_int_equal(s.marks, 10);
}

static void test_joiners(void **state)
{
    (void)state;
    hob_stripped s = normal("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", /* Persian */
                            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645");
    assert_int_equal(s.zero_width, 0);
    s = normal("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"); /* Hindi */
    assert_int_equal(s.zero_width, 0);
    s = normal("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"); /* an emoji of two */
    assert_int_equal(s.zero_width, 0);
    s = normal("\u0645\u200c\u200d\u200c\u0645", "\u0645\u0645"); /* no letters have several */
    assert_int_equal(s.zero_width, 3);
    s = normal("pass\u200dword \u200d\U0001f680", "password \U0001f680");
    assert_int_equal(s.zero_width, 2);
}

/* ---- encodings ---- */

static void decodes(const void *data, size_t bytes, hob_encoding as, const char *to,
                    uint32_t replaced)
{
    hob_document d = document();
    hob_encoding e;
    hob_bytes copy = {0};
    const char *text;
    size_t len;
    assert_int_equal(hob_encoding_find(data, bytes, &e, &d), 0);
    assert_int_equal(e, as);
    assert_int_equal(hob_encoding_decode(data, bytes, e, &copy, &text, &len, &d), 0);
    assert_int_equal(len, strlen(to));
    assert_memory_equal(text, to, len);
    assert_int_equal(d.stripped.replaced, replaced);
    hob_bytes_free(&copy);
}
#define DECODES(literal, as, to, replaced) decodes(literal, sizeof(literal) - 1, as, to, replaced)

static void test_encodings(void **state)
{
    (void)state;
    DECODES("plain", HOB_ENCODING_UTF8, "plain", 0);
    DECODES("\xef\xbb\xbfmarked \xc3\xa4", HOB_ENCODING_UTF8, "marked \u00e4", 0);
    DECODES("\xff\xfeh\0\xe4\0\x3d\xd8\x00\xde", HOB_ENCODING_UTF16LE, "h\u00e4\U0001f600", 0);
    DECODES("\xfe\xff\0h\0\xe4\xd8\x3d\xde\0", HOB_ENCODING_UTF16BE, "h\u00e4\U0001f600", 0);
    DECODES("\xff\xfe\x3d\xd8h\0\0\xdex", HOB_ENCODING_UTF16LE, "\ufffdh\ufffd\ufffd", 3);
    DECODES("gr\xfc\xdf \x80 \x84q\x93", HOB_ENCODING_WINDOWS_1252,
            "gr\u00fc\u00df \u20ac \u201eq\u201c", 0);
    /* more good than bad: UTF-8, whose bad bytes are replaced; maximal subparts count once */
    DECODES("\xc3\xa4\xc3\xb6\xc3\xbc \xff \xe2\x82 x", HOB_ENCODING_UTF8,
            "\u00e4\u00f6\u00fc \ufffd \ufffd x", 2);
    DECODES("\xc3\xa4 \xe2\x82", HOB_ENCODING_UTF8, "\u00e4 \ufffd", 1); /* cut off */
    char nul[400];
    memset(nul, 'x', sizeof nul);
    nul[200] = 0;
    hob_document d = document();
    hob_bytes copy = {0};
    const char *text;
    size_t len;
    assert_int_equal(
        hob_encoding_decode((uint8_t *)nul, sizeof nul, HOB_ENCODING_UTF8, &copy, &text, &len, &d),
        0);
    assert_int_equal(len, 399);
    assert_int_equal(d.stripped.control, 1);
    hob_bytes_free(&copy);
}

static void test_no_encoding(void **state)
{
    (void)state;
    hob_encoding e = HOB_ENCODING_NONE;
    hob_document d = document();
    assert_true(hob_encoding_find((const uint8_t *)"a\0b\0c\0", 6, &e, &d) < 0);
    assert_int_equal(d.error, HOB_EXTRACT_BINARY);
    assert_true(hob_encoding_find((const uint8_t *)"\xff\xfe\0\0a\0\0\0", 8, &e, &d) < 0);
    assert_int_equal(d.error, HOB_EXTRACT_UNSUPPORTED);
    assert_non_null(strstr(diag.text, "UTF-32"));
    assert_int_equal(e, HOB_ENCODING_NONE);
    /* the output of a terminal is text */
    assert_int_equal(hob_encoding_find((const uint8_t *)"\x1b[31mred\x1b[0m\b", 13, &e, &d), 0);
}

/* ---- what a file is ---- */

static hob_sniffed_file file_of(const void *data, size_t bytes, const char *name, const char *type)
{
    return (hob_sniffed_file){.data = data, .bytes = bytes, .name = name, .media_type = type};
}

static hob_format sniff(const char *text, const char *name, const char *type)
{
    hob_document d = document();
    hob_format f;
    const hob_sniffed_file file = file_of(text, strlen(text), name, type);
    assert_int_equal(hob_sniff_bytes(&file, &f, &d), 0);
    return f == HOB_FORMAT_TEXT ? hob_sniff_text(&file, text, strlen(text)) : f;
}

static void test_sniffed(void **state)
{
    (void)state;
    assert_int_equal(sniff("words", "", ""), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("# words", "a.txt", "text/plain"), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("# words", "README.MD", ""), HOB_FORMAT_MARKDOWN);
    assert_int_equal(sniff("# words", "x", "text/markdown; charset=utf-8"), HOB_FORMAT_MARKDOWN);
    assert_int_equal(sniff("<p align=center>logo</p>\n# words", "README.md", ""),
                     HOB_FORMAT_MARKDOWN);
    assert_int_equal(sniff("<p>words", "a.htm", ""), HOB_FORMAT_HTML);
    assert_int_equal(sniff("<p>words", "", "text/html"), HOB_FORMAT_HTML);
    assert_int_equal(sniff("<p>words", "a.txt", ""), HOB_FORMAT_TEXT);
    /* content before name */
    assert_int_equal(sniff(" <!-- x -->\n<!DOCTYPE HTML><p>", "a.txt", "text/plain"),
                     HOB_FORMAT_HTML);
    assert_int_equal(sniff("<?xml version='1.0'?>\n<html xmlns='x'>", "a.md", ""), HOB_FORMAT_HTML);
    assert_int_equal(sniff("%PDF-1.7\n", "a.txt", "text/plain"), HOB_FORMAT_PDF);
    assert_int_equal(sniff("PK\3\4xxxx", "a.txt", ""), HOB_FORMAT_DOCX);
    assert_int_equal(sniff("just words", "a.pdf", "application/pdf"), HOB_FORMAT_TEXT);
    /* where readers of PDF look for the header, but only in what is called PDF */
    assert_int_equal(sniff("junk\n%PDF-1.7\n", "a.pdf", ""), HOB_FORMAT_PDF);
    assert_int_equal(sniff("junk\n%PDF-1.7\n", "a.txt", ""), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("<htmlx", "", ""), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("GGUF version 2\nand\t3", "", ""), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("The big WAVE", "", ""), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("Big ftyp", "", ""), HOB_FORMAT_TEXT);
    assert_int_equal(sniff("<!-- never closed", "a.html", ""), HOB_FORMAT_HTML);
}

static void refused(const void *data, size_t bytes, hob_extract_error e, const char *says)
{
    hob_document d = document();
    hob_format f = HOB_FORMATS;
    const hob_sniffed_file file = file_of(data, bytes, "", "");
    assert_true(hob_sniff_bytes(&file, &f, &d) < 0);
    assert_int_equal(d.error, e);
    assert_non_null(strstr(diag.text, says));
    assert_int_equal(f, HOB_FORMATS);
}

static void test_refused(void **state)
{
    (void)state;
    refused("", 0, HOB_EXTRACT_EMPTY, "0 bytes");
    refused("\x89PNG\r\n\x1a\n", 8, HOB_EXTRACT_UNSUPPORTED, "a PNG image");
    refused("{\\rtf1 x}", 9, HOB_EXTRACT_UNSUPPORTED, "RTF");
    refused("\x1f\x8b\x08\0", 4, HOB_EXTRACT_UNSUPPORTED, "gzip");
    refused("\177ELF\2", 5, HOB_EXTRACT_UNSUPPORTED, "a program");
    refused("RIFF\x24\0\0\0WEBP", 12, HOB_EXTRACT_UNSUPPORTED, "WebP");
    refused("GGUF\3\0\0\0", 8, HOB_EXTRACT_UNSUPPORTED, "a model");
    refused("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 x", 10, HOB_EXTRACT_UNSUPPORTED, "before 2007");
    static const char encrypted[] = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 "
                                    "E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e\0";
    refused(encrypted, sizeof encrypted, HOB_EXTRACT_ENCRYPTED, "password");
}

/* ---- blocks ---- */

static void put(hob_document *d, hob_block_kind kind, uint8_t level, const char *text)
{
    assert_int_equal(hob_document_begin(d, kind, level), 0);
    assert_int_equal(hob_document_text(d, text, strlen(text)), 0);
}

static void test_blocks(void **state)
{
    (void)state;
    hob_document d = document();
    put(&d, HOB_BLOCK_HEADING, 1, "  A \n title ");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, " \t\n ");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "one  two\n\n\nthree ");
    put(&d, HOB_BLOCK_ITEM, 1, "- x");
    put(&d, HOB_BLOCK_ITEM, 2, "- y");
    hob_document_part(&d);
    put(&d, HOB_BLOCK_ITEM, 1, "- z");
    put(&d, HOB_BLOCK_ROW, 0, "a | b");
    put(&d, HOB_BLOCK_ROW, 0, "c | d");
    put(&d, HOB_BLOCK_CODE, 0, "\n  if (x)\t y; \n\n\n\n\tz\n\n");
    assert_int_equal(hob_document_end(&d), 0);
    assert_int_equal(hob_bytes_append(&d.text, "", 1), 0);
    assert_string_equal(d.text.data,
                        "A\ntitle\n\none two\nthree\n\n- x\n  - y\n\n- z\n\na | b\nc | d\n\n"
                        "  if (x)\t y;\n\n\tz");
    d.text.len--;
    assert_int_equal(d.block_count, 8);
    assert_null(dc_document(&d));
    hob_document_free(&d);
}

static void test_text_limit(void **state)
{
    (void)state;
    hob_extract_limits small = limits;
    small.text_bytes = 97;
    hob_document d = document();
    d.limits = &small;
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "0123456789012345678901234567890123456789");
    put(&d, HOB_BLOCK_PARAGRAPH, 0, "0123456789012345678901234567890123456789");
    assert_int_equal(hob_document_end(&d), HOB_ELIMIT);
    assert_int_equal(d.error, HOB_EXTRACT_TOO_LARGE);
    assert_string_equal(diag.text, "the text has more than 97 bytes, which is the limit");
    hob_document_free(&d);
}

static void test_title(void **state)
{
    (void)state;
    hob_document d = document();
    char large[HOB_EXTRACT_TITLE_MAX + 2];
    memset(large, 'x', sizeof large);
    assert_int_equal(hob_document_title(&d, large, sizeof large), 0);
    assert_string_equal(d.title, "");
    assert_int_equal(hob_document_title(&d, " a\u200b\n  b ", 9), 0);
    assert_string_equal(d.title, "a b");
    assert_int_equal(hob_document_title(&d, "later", 5), 0);
    assert_string_equal(d.title, "a b");
    hob_document_free(&d);
}

static void test_plain(void **state)
{
    (void)state;
    hob_document d = document();
    static const char text[] = "\n\none\ntwo  \n \t\r\n  indented\r\n\r\n\r\nlast";
    assert_int_equal(hob_read_plain(text, strlen(text), &d), 0);
    assert_int_equal(d.text.len, 25);
    assert_memory_equal(d.text.data, "one\ntwo\n\n  indented\n\nlast", 25);
    assert_int_equal(d.block_count, 3);
    assert_null(dc_document(&d));
    hob_document_free(&d);
}

/* ---- sentences and words ---- */

/* parts: what the text is cut into, apart by '|'. */
static void cut(const char *parts, size_t end_of(const char *, size_t, size_t))
{
    char text[512], got[512] = "";
    size_t len = 0;
    for (const char *p = parts; *p; p++)
        if (*p != '|')
            text[len++] = *p;
    for (size_t at = 0; at < len;) {
        const size_t end = end_of(text, at, len);
        assert_true(end > at && end <= len);
        strncat(got, text + at, end - at);
        at = hob_skip_space(text, end, len);
        if (at < len)
            strcat(got, "|");
        strncat(got, text + end, at - end);
    }
    assert_string_equal(got, parts);
}

static void test_sentences(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "One.| Two!| Three?| \u201cFour.\u201d| (Five.)| Six\u2026| Seven?!| Eight",
        "Dr. Smith and Mrs. Jones met J. R. Doe, e.g. on 3.5 km, at approx. noon.| They left.",
        "In the U.S. Army no. 5 is vs. no. 6 too.| Next.",
        "Das ist z. B. so, vgl. Abb. 3 auf S. 7 oben.| Am 3. Mai bzw. am 4. Juni.| Ende.",
        "It was 1984.| Orwell wrote it.| See sec. 2 etc. and so on.",
        "\u6587\u3002|\u6587\u3002\u300d|\u6587\uff01|\u6587 \u6587\uff1f",
        "\u0939\u0948\u0964| \u0915\u094d\u092f\u093e?| \u0647\u0644\u061f| "
        "\u0646\u0639\u0645\u06d4| X",
        "no stop\nbut a line|\n\nand a blank one",
        "www.example.com/a.b?c is one.| Version 1.2.3 too",
        "lower case. does not begin one.| Upper does.",
        "...| Dots.",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        cut(texts[i], hob_sentence_end);
}

static void test_words(void **state)
{
    (void)state;
    cut("some| words,| here|\nand|\tthere", hob_word_end);
    cut("\u6f22|\u5b57|kana|\u304b\u3099|\u306a| \U0001f680|x", hob_word_end);
    char run[301];
    memset(run, 'y', 300);
    run[300] = 0;
    size_t at = 0, pieces = 0;
    for (; at < 300; pieces++) {
        const size_t end = hob_word_end(run, at, 300);
        assert_true(end > at && end - at <= 128);
        at = end;
    }
    assert_true(pieces >= 3);
    /* 200 marks on one letter stay on characters' borders */
    char marks[1 + 400] = "a";
    for (int i = 0; i < 199; i++)
        memcpy(marks + 1 + 2 * i, "\u0316", 2);
    for (at = 0; at < 399;) {
        at = hob_word_end(marks, at, 399);
        assert_true(at == 399 || ((unsigned char)marks[at] & 0xC0) != 0x80);
    }
}

static void test_charset(void **state)
{
    (void)state;
    char name[16];
    static const char meta[] = "<html><META Charset = \"Shift_JIS\">";
    static const char http[] =
        "<meta http-equiv='Content-Type' content='text/html; charset=koi8-r'>";
    static const char xml[] = "<?xml version='1.0' encoding='ISO-8859-2'?>";
    hob_html_charset((const uint8_t *)meta, strlen(meta), name, sizeof name);
    assert_string_equal(name, "shift_jis");
    hob_html_charset((const uint8_t *)http, strlen(http), name, sizeof name);
    assert_string_equal(name, "koi8-r");
    hob_html_charset((const uint8_t *)xml, strlen(xml), name, sizeof name);
    assert_string_equal(name, "iso-8859-2");
    hob_html_charset((const uint8_t *)"charset charset=", 16, name, sizeof name);
    assert_string_equal(name, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_composition), cmocka_unit_test(test_presentation),
        cmocka_unit_test(test_white_space), cmocka_unit_test(test_invisible),
        cmocka_unit_test(test_joiners),     cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_no_encoding), cmocka_unit_test(test_sniffed),
        cmocka_unit_test(test_refused),     cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_text_limit),  cmocka_unit_test(test_title),
        cmocka_unit_test(test_plain),       cmocka_unit_test(test_sentences),
        cmocka_unit_test(test_words),       cmocka_unit_test(test_charset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
