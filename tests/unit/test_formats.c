/* SPDX-License-Identifier: Apache-2.0
 *
 * The readers of HTML, Markdown and DOCX in this process, without a sandbox: what stays, what is dropped, what is refused.
 * Whole documents are in tests/api/test_extract.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/extract/formats.h"
#include "tests/support/document_check.h"
#include "tests/support/zip_maker.h"

static const hob_extract_limits limits = HOB_EXTRACT_LIMITS_DEFAULT;
static hob_diag diag;

static hob_document document(void)
{
    diag.text[0] = 0;
    return (hob_document){.limits = &limits, .diag = &diag};
}

static void ends_as(hob_document *d, int r, const char *text)
{
    assert_string_equal(diag.text, "");
    assert_int_equal(r, 0);
    assert_null(dc_document(d));
    assert_int_equal(hob_bytes_append(&d->text, "", 1), 0);
    assert_string_equal(d->text.data, text);
    d->text.len--;
}

static hob_stripped html(const char *page, const char *text)
{
    hob_document d = document();
    ends_as(&d, hob_read_html(page, strlen(page), &d), text);
    hob_document_free(&d);
    return d.stripped;
}

static void markdown(const char *page, const char *text)
{
    hob_document d = document();
    ends_as(&d, hob_read_markdown(page, strlen(page), &d), text);
    hob_document_free(&d);
}

/* ---- HTML ---- */

static void test_structure(void **state)
{
    (void)state;
    html("<h1>Title</h1><p>One\n  two <b>three</b><i>four</i>.<p>Next<br>line<hr>after",
         "Title\n\nOne two threefour.\n\nNext\nline\n\nafter");
    html("<div>a<div>b</div>c</div>", "a\n\nb\n\nc");
    html("<ul><li>one<li><p>two</p><p>more</p><ul><li>deep</ul></ul><ol start=3><li>x<li>y</ol>",
         "- one\n- two\n\nmore\n\n  - deep\n\n3. x\n4. y");
    html("<table><caption>Cap</caption><tr><th>a<th>b<tr><td><p>1</p><p>2</p><td><td>3</table>tail",
         "Cap\n\na | b\n1 2 | | 3\n\ntail");
    html("<pre>  if (x)\n\ty;\n</pre>", "  if (x)\n\ty;");
    html("<a href='http://x/'>link</a> <img src=x alt=drawing> <dl><dt>t<dd>d</dl>",
         "link\n\nt\n\nd");
    html("x&nbsp;&amp;&lt;&hellip;&#x1F600;&check;", "x &<\u2026\U0001f600\u2713");
}

/* Tables that only place things are no rows. */
static void test_layout_tables(void **state)
{
    (void)state;
    html("<table><tr><td><h1>Head</h1><ul><li>item</ul><td><table><tr><td>a<td>b</table></table>",
         "Head\n\n- item\n\na | b");
}

static void test_unseen(void **state)
{
    (void)state;
    hob_stripped s = html("<html><head><title>T</title><style>p{}</style><script>x</script>"
                          "<body onload=x>seen<!-- comment --><script>if(a<b)'</p>'</script>"
                          "<template>t</template><noscript>n</noscript><iframe>f</iframe>"
                          "<select><option>o</select><textarea>w</textarea><button>u</button>"
                          "<svg><title>s</title><style>t</style></svg><object>j</object>",
                          "seen");
    assert_int_equal(s.hidden, 0); /* they are no text that is hidden */
    s = html("<p>a<span hidden>1</span><span style='color:red; DISPLAY : none'>2</span>"
             "<span style='visibility:hidden'>3</span><span style='font-size: 0px'>4</span>"
             "<span style='opacity:0'>5</span><dialog>6</dialog>b",
             "ab");
    assert_int_equal(s.hidden, 6);
    html("<p style='font-size:0.9em;opacity:0.5;display:block'>seen<dialog open> too</dialog>",
         "seen too");
    html("<div hidden><h1>h</h1><p>x</div>y", "y");
}

static void test_titles(void **state)
{
    (void)state;
    static const struct {
        const char *page, *title;
    } pages[] = {
        {"<title> A &amp; B\n</title><h1>H</h1>", "A & B"},
        {"<body><svg><title>s</title></svg>x", ""},
        {"<title></title>x", ""},
    };
    for (size_t i = 0; i < sizeof pages / sizeof *pages; i++) {
        hob_document d = document();
        assert_int_equal(hob_read_html(pages[i].page, strlen(pages[i].page), &d), 0);
        assert_string_equal(d.title, pages[i].title);
        hob_document_free(&d);
    }
}

static void test_malformed_pages(void **state)
{
    (void)state;
    html("", "");
    html("<", "<");
    html("<p", "");
    html("a<b c='", "a");
    html("</p></div></table>x", "x");
    html("<table>stray<tr><td>cell", "stray\n\ncell");
    html("<ul>no item<li></ul><ol><li></ol>", "no item");
    html("<b><p>x</b>y<i></p>z", "xy\n\nz");
    html("<h1>a<h2>b</h1>c", "a\n\nb\n\nc");
    html("<td>x</td><tr><li>y</body>z<html>", "x\n\n- yz");
    html("<plaintext><b>x</b>", "<b>x</b>");
    html("&#0;&#xD800;&#x110000;&#x80;&amp", "\ufffd\ufffd\ufffd\u20ac&");
}

static void test_deep_pages(void **state)
{
    (void)state;
    enum { DEEP = 5000 };
    char *page = malloc(5 * DEEP + 2), *at = page;
    for (int i = 0; i < DEEP; i++)
        at = stpcpy(at, "<div>");
    strcpy(at, "x");
    hob_document d = document();
    assert_int_equal(hob_read_html(page, strlen(page), &d), HOB_ELIMIT);
    assert_int_equal(d.error, HOB_EXTRACT_TOO_LARGE);
    assert_string_equal(diag.text, "the page nests elements deeper than 1000, which is the limit");
    hob_document_free(&d);
    page[5 * 900] = 0; /* nothing is wrong with 900 */
    d = document();
    ends_as(&d, hob_read_html(strcat(page, "x"), 5 * 900 + 1, &d), "x");
    hob_document_free(&d);
    free(page);
}

/* ---- Markdown ---- */

static void test_markdown(void **state)
{
    (void)state;
    markdown("# One\n\nTwo *three* `four` [five](http://x \"t\").\n\nHead\n----\n",
             "One\n\nTwo three four five.\n\nHead");
    markdown("```\n# no heading\n```\n\n    # nor this\n", "# no heading\n\n# nor this");
    markdown("| a | b |\n|---|---|\n| 1 | 2 |\n", "a | b\n1 | 2");
    markdown("- [x] done\n- [ ] not\n\n~~gone~~ https://x.y/z",
             "- [x] done\n- [ ] not\n\ngone https://x.y/z");
    markdown("a <!-- hidden --> b\n\n<!-- this\n\ntoo -->\n\n[ref]: http://x\n", "a b");
    markdown("<div hidden>\n\n*hidden* too\n\n</div>\n\nseen", "seen");
    markdown("<script>\nx\n</script>\n\nseen", "seen");
    markdown("", "");
    markdown("- ", "");
}

static void test_front_matter(void **state)
{
    (void)state;
    hob_document d = document();
    static const char page[] = "---\ntitle: \"A title\"\ntags: [x]\n---\n# H\n";
    ends_as(&d, hob_read_markdown(page, strlen(page), &d), "title: \"A title\"\ntags: [x]\n\nH");
    assert_string_equal(d.title, "A title");
    hob_document_free(&d);
    markdown("---\nnever closed: x\n", "never closed: x");
    markdown("---\n\n---\n\nx", "x");
    markdown("---", "");
}

/* ---- DOCX ---- */

#define PART(part_name, part_text, ...)                                                            \
    {                                                                                              \
        .name = part_name, .text = part_text, __VA_ARGS__                                          \
    }
#define W "xmlns:w=\"http://schemas.openxmlformats.org/wordprocessingml/2006/main\""
#define RELS                                                                                       \
    "<Relationships xmlns='http://schemas.openxmlformats.org/package/2006/relationships'>"         \
    "<Relationship Id='r' Type='http://schemas.openxmlformats.org/officeDocument/2006/"            \
    "relationships/officeDocument' Target='/word/document.xml'/></Relationships>"
#define P(text) "<w:p><w:r><w:t xml:space='preserve'>" text "</w:t></w:r></w:p>"
#define STYLED(style, text)                                                                        \
    "<w:p><w:pPr><w:pStyle w:val='" style "'/></w:pPr><w:r><w:t>" text "</w:t></w:r></w:p>"
#define BODY(inside) "<w:document " W "><w:body>" inside "</w:body></w:document>"

static int read_docx(const zip_part *parts, size_t count, hob_document *d)
{
    zip_file z = zip_make(parts, count);
    *d = document();
    int r = hob_read_docx(z.data, z.bytes, d);
    zip_free(&z);
    return r;
}

static hob_stripped docx(const char *body, const char *styles, const char *text)
{
    hob_document d;
    const zip_part parts[] = {PART("_rels/.rels", RELS, .deflated = true),
                              PART("word/document.xml", body, .deflated = true),
                              PART("word/styles.xml", styles)};
    ends_as(&d, read_docx(parts, styles ? 3 : 2, &d), text);
    hob_document_free(&d);
    return d.stripped;
}

static void test_docx(void **state)
{
    (void)state;
    docx(BODY(P("One ") P("") P("two")), NULL, "One\n\ntwo");
    docx(BODY("<w:p><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t><w:noBreakHyphen/>"
              "<w:t>d</w:t></w:r></w:p>"),
         NULL, "a b\nc-d");
    docx(BODY("<w:tbl><w:tr><w:tc>" P("a") P("b") "</w:tc><w:tc>" P("") "</w:tc><w:tc>" P(
             "c") "</w:tc></w:tr><w:tr><w:tc>" P("d") "</w:tc></w:tr></w:tbl>" P("after")),
         NULL, "a b | | c\nd\n\nafter");
    docx(BODY("<w:p><w:pPr><w:numPr><w:ilvl w:val='0'/><w:numId w:val='1'/></w:numPr></w:pPr>"
              "<w:r><w:t>one</w:t></w:r></w:p>"
              "<w:p><w:pPr><w:numPr><w:ilvl w:val='1'/><w:numId w:val='1'/></w:numPr></w:pPr>"
              "<w:r><w:t>deep</w:t></w:r></w:p>"
              "<w:p><w:pPr><w:numPr><w:numId w:val='0'/></w:numPr></w:pPr><w:r><w:t>none</w:t>"
              "</w:r></w:p>"),
         NULL, "- one\n  - deep\n\nnone");
}

static void test_docx_unseen(void **state)
{
    (void)state;
    const hob_stripped s = docx(
        BODY(
            "<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r>"
            "<w:r><w:rPr><w:vanish w:val='false'/></w:rPr><w:t>seen</w:t></w:r>"
            "<w:del><w:r><w:delText>x</w:delText><w:t>y</w:t></w:r></w:del>"
            "<w:ins><w:r><w:t> inserted</w:t></w:r></w:ins>"
            "<w:moveFrom><w:r><w:t>z</w:t></w:r></w:moveFrom>"
            "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
            "<mc:AlternateContent xmlns:mc='m'><mc:Choice>" P("once") "</mc:Choice><mc:Fallback>" P(
                "once") "</mc:Fallback></mc:AlternateContent>"),
        NULL, "seen inserted\n\nonce");
    assert_int_equal(s.hidden, 1);
}

static void test_docx_styles(void **state)
{
    (void)state;
    static const char styles[] =
        "<w:styles " W ">"
        "<w:style w:type='paragraph' w:styleId='berschrift1'><w:name w:val='heading 1'/></w:style>"
        "<w:style w:type='paragraph' w:styleId='Mine'><w:name w:val='Mine'/><w:basedOn "
        "w:val='berschrift1'/></w:style>"
        "<w:style w:type='paragraph' w:styleId='Out'><w:name w:val='Out'/><w:pPr><w:outlineLvl "
        "w:val='2'/></w:pPr></w:style>"
        "<w:style w:type='paragraph' w:styleId='Loop'><w:basedOn w:val='Loop'/></w:style>"
        "<w:style w:type='paragraph' w:styleId='LB'><w:name w:val='List Bullet 2'/></w:style>"
        "<w:style w:type='character' w:styleId='heading 2'><w:name w:val='heading 2'/></w:style>"
        "</w:styles>";
    hob_document d;
    const zip_part parts[] = {
        PART("_rels/.rels", RELS),
        PART("word/document.xml",
             BODY(STYLED("berschrift1", "one") STYLED("Mine", "two") STYLED("Out", "three")
                      STYLED("Loop", "four") STYLED("LB", "five") STYLED("heading 2", "six"))),
        PART("word/styles.xml", styles),
        PART("word/footnotes.xml",
             "<w:footnotes " W "><w:footnote>" P("note") "</w:footnote></w:footnotes>"),
        PART("docProps/core.xml",
             "<c:p xmlns:c='c' xmlns:dc='dc'><dc:title>A &amp; B</dc:title></c:p>")};
    ends_as(&d, read_docx(parts, 5, &d), "one\n\ntwo\n\nthree\n\nfour\n\n- five\n\nsix\n\nnote");
    static const uint8_t levels[] = {1, 1, 3};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(d.blocks[i].kind, HOB_BLOCK_HEADING);
        assert_int_equal(d.blocks[i].level, levels[i]);
    }
    assert_int_equal(d.blocks[3].kind, HOB_BLOCK_PARAGRAPH);
    assert_int_equal(d.blocks[4].kind, HOB_BLOCK_ITEM);
    assert_string_equal(d.title, "A & B");
    hob_document_free(&d);
}

static void docx_fails(const zip_part *parts, size_t count, hob_extract_error e, const char *says)
{
    hob_document d;
    assert_true(read_docx(parts, count, &d) < 0);
    if (!strstr(diag.text, says))
        print_error("got: %s\n", diag.text);
    assert_non_null(strstr(diag.text, says));
    assert_int_equal(d.error, e);
    hob_document_free(&d);
}

static void test_docx_refused(void **state)
{
    (void)state;
    const zip_part bomb[] = {
        PART("_rels/.rels", RELS),
        PART("word/document.xml", "<w:document " W ">", .deflated = true, .spaces = 64 << 20)};
    docx_fails(bomb, 2, HOB_EXTRACT_TOO_LARGE, "unpacks to more than 200 times its size");
    const zip_part encrypted[] = {PART("_rels/.rels", RELS),
                                  PART("word/document.xml", BODY(""), .flags = 1)};
    docx_fails(encrypted, 2, HOB_EXTRACT_ENCRYPTED, "password");
    const zip_part method[] = {PART("_rels/.rels", RELS),
                               PART("word/document.xml", BODY(""), .method = 12)};
    docx_fails(method, 2, HOB_EXTRACT_UNSUPPORTED, "packed by method 12");
    const zip_part damaged[] = {
        PART("_rels/.rels", RELS),
        PART("word/document.xml", BODY("x"), .deflated = true, .wrong_crc = true)};
    docx_fails(damaged, 2, HOB_EXTRACT_MALFORMED, "cannot be unpacked");
    const zip_part xml[] = {PART("_rels/.rels", RELS),
                            PART("word/document.xml", "<w:document " W "><w:p>")};
    docx_fails(xml, 2, HOB_EXTRACT_MALFORMED, "XML inside the file, line 1");
    const zip_part laughs[] = {
        PART("_rels/.rels", RELS),
        PART("word/document.xml",
             "<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><x>&b;</x>")};
    docx_fails(laughs, 2, HOB_EXTRACT_MALFORMED, "document type definition");
    char *deep = malloc(3 * 5000 + 1), *at = deep;
    for (int i = 0; i < 5000; i++)
        at = stpcpy(at, "<a>");
    const zip_part nested[] = {PART("_rels/.rels", RELS),
                               PART("word/document.xml", deep, .deflated = true)};
    docx_fails(nested, 2, HOB_EXTRACT_TOO_LARGE, "deeper than 1000");
    free(deep);
    const zip_part sheet[] = {PART("xl/workbook.xml", "<x/>")};
    docx_fails(sheet, 1, HOB_EXTRACT_UNSUPPORTED, "an Excel file");
    const zip_part book[] = {PART("mimetype", "x"), PART("META-INF/container.xml", "<x/>")};
    docx_fails(book, 2, HOB_EXTRACT_UNSUPPORTED, "an EPUB book");
    const zip_part archive[] = {PART("a.txt", "x")};
    docx_fails(archive, 1, HOB_EXTRACT_UNSUPPORTED, "a ZIP archive");
    const zip_part outside[] = {PART("_rels/.rels", RELS), PART("other.xml", "<x/>")};
    docx_fails(outside, 2, HOB_EXTRACT_UNSUPPORTED,
               "a ZIP archive"); /* the main part is not there */
}

/* Every beginning of a file, and every byte of it changed: an error or a document, never worse. */
static void test_damaged_docx(void **state)
{
    (void)state;
    const zip_part parts[] = {PART("_rels/.rels", RELS, .deflated = true),
                              PART("word/document.xml", BODY(P("text")), .deflated = true)};
    zip_file z = zip_make(parts, 2);
    unsigned good = 0;
    for (size_t i = 0; i < z.bytes; i++) {
        hob_document d = document();
        uint8_t *copy = malloc(i ? i : 1);
        memcpy(copy, z.data, i);
        /* The last bytes, of the position of its directory and of a comment, are zeros to minizip. */
        if (i + 3 < z.bytes)
            assert_true(hob_read_docx(copy, i, &d) < 0);
        free(copy);
        hob_document_free(&d);
        for (int bit = 0; bit < 8; bit++) {
            d = document();
            z.data[i] ^= (uint8_t)(1 << bit);
            good += hob_read_docx(z.data, z.bytes, &d) == 0;
            z.data[i] ^= (uint8_t)(1 << bit);
            hob_document_free(&d);
        }
    }
    assert_true(good > 0); /* of times and attributes, say */
    zip_free(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure),
        cmocka_unit_test(test_layout_tables),
        cmocka_unit_test(test_unseen),
        cmocka_unit_test(test_titles),
        cmocka_unit_test(test_malformed_pages),
        cmocka_unit_test(test_deep_pages),
        cmocka_unit_test(test_markdown),
        cmocka_unit_test(test_front_matter),
        cmocka_unit_test(test_docx),
        cmocka_unit_test(test_docx_unseen),
        cmocka_unit_test(test_docx_styles),
        cmocka_unit_test(test_docx_refused),
        cmocka_unit_test(test_damaged_docx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
