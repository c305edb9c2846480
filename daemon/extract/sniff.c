/* SPDX-License-Identifier: Apache-2.0
 *
 * See sniff.h. */
#include "daemon/extract/sniff.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

enum {
    PDF_WITHIN = 1024, /* where readers look for the header of a file that is called PDF */
    HEADER = 64,       /* where a format that is not text has bytes that are no characters */
};

static const char *const media_types[HOB_FORMATS] = {
    "text/plain", "text/markdown", "text/html", "application/pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document"};

const char *hob_format_media_type(hob_format f)
{
    return (unsigned)f < HOB_FORMATS ? media_types[f] : NULL;
}

static bool begins(const hob_sniffed_file *f, size_t at, const char *magic, size_t len)
{
    return f->bytes >= at && f->bytes - at >= len && memcmp(f->data + at, magic, len) == 0;
}

/* Formats that are refused by name. */
static const struct {
    uint8_t at, len;
    char magic[8];
    const char *name;
} others[] = {
    {0, 5, "{\\rtf", "RTF"},
    {0, 4, "%!PS", "PostScript"},
    {0, 4, "\x89PNG", "a PNG image"},
    {0, 3, "\xFF\xD8\xFF", "a JPEG image"},
    {0, 4, "GIF8", "a GIF image"},
    {0, 4, "II*\0", "a TIFF image"},
    {0, 4, "MM\0*", "a TIFF image"},
    {8, 4, "WEBP", "a WebP image"},
    {8, 4, "WAVE", "a WAV file"},
    {0, 4, "OggS", "an Ogg file"},
    {0, 4, "fLaC", "a FLAC file"},
    {0, 4, "ID3\3", "an MP3 file"},
    {0, 4, "ID3\4", "an MP3 file"},
    {4, 4, "ftyp", "an MP4 file or the like"},
    {0, 4, {'\x1A', 'E', '\xDF', '\xA3'}, "a Matroska file"},
    {0, 3, {'\x1F', '\x8B', '\b'}, "a gzip file"},
    {0, 4, "BZh9", "a bzip2 file"},
    {0, 6, {'\xFD', '7', 'z', 'X', 'Z', 0}, "an xz file"},
    {0, 4, {'(', '\xB5', '/', '\xFD'}, "a zstd file"},
    {0, 6, {'7', 'z', '\xBC', '\xAF', '\'', '\x1C'}, "a 7-Zip archive"},
    {0, 6, "Rar!\x1A\a", "a RAR archive"},
    {0, 4, "\177ELF", "a program"},
    {0, 4, "GGUF", "a model"},
};

/* A text may begin with the letters that some formats begin with: "GGUF is a format". */
static bool is_word(const char *magic, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)magic[i]))
            return false;
    return true;
}

static bool has_control(const hob_sniffed_file *f)
{
    for (size_t i = 0; i < f->bytes && i < HEADER; i++)
        if (iscntrl(f->data[i]) && !isspace(f->data[i]))
            return true;
    return false;
}

/* The suffix of a file name or the media type without its parameters is one of a NULL-terminated list. */
static bool has_suffix(const char *name, const char *const *suffixes)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *suffixes; suffixes++)
        if (strcasecmp(dot + 1, *suffixes) == 0)
            return true;
    return false;
}

static bool is_type(const char *media_type, const char *type)
{
    const size_t len = strcspn(media_type, "; \t");
    return len == strlen(type) && strncasecmp(media_type, type, len) == 0;
}

bool hob_sniff_is_pdf(const hob_sniffed_file *f)
{
    static const char *const suffixes[] = {"pdf", NULL};
    if (begins(f, 0, "%PDF-", 5))
        return true;
    return (has_suffix(f->name, suffixes) || is_type(f->media_type, "application/pdf")) &&
           memmem(f->data, f->bytes < PDF_WITHIN ? f->bytes : PDF_WITHIN, "%PDF-", 5);
}

/* Word and Excel before 2007, and what newer ones encrypt: the stream's name is in the file's directory in UTF-16. */
static int fail_compound(const hob_sniffed_file *f, hob_document *d)
{
    static const char name[] = "E\0n\0c\0r\0y\0p\0t\0e\0d\0P\0a\0c\0k\0a\0g\0e";
    if (memmem(f->data, f->bytes, name, sizeof name - 1))
        return hob_document_fail(d, HOB_EXTRACT_ENCRYPTED,
                                 "the file is encrypted: save it without a password");
    return hob_document_fail(d, HOB_EXTRACT_UNSUPPORTED,
                             "the file is of Microsoft Office before 2007: save it as DOCX or PDF");
}

int hob_sniff_bytes(const hob_sniffed_file *f, hob_format *ret, hob_document *d)
{
    if (f->bytes == 0)
        return hob_document_fail(d, HOB_EXTRACT_EMPTY, "the file has 0 bytes");
    if (begins(f, 0, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8))
        return fail_compound(f, d);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (begins(f, others[i].at, others[i].magic, others[i].len) &&
            (!is_word(others[i].magic, others[i].len) || has_control(f)))
            return hob_document_fail(
                d, HOB_EXTRACT_UNSUPPORTED,
                "the file is %s; hob reads plain text, Markdown, HTML, PDF and DOCX",
                others[i].name);
    if (hob_sniff_is_pdf(f))
        *ret = HOB_FORMAT_PDF;
    else if (begins(f, 0, "PK\3\4", 4) || begins(f, 0, "PK\5\6", 4))
        *ret = HOB_FORMAT_DOCX;
    else
        *ret = HOB_FORMAT_TEXT;
    return 0;
}

/* Past white space, comments, processing instructions. */
static size_t skip_prolog(const char *text, size_t len)
{
    size_t i = 0;
    for (;;) {
        while (i < len && strchr(" \t\r\n\f", text[i]) && text[i])
            i++;
        const bool comment = len - i >= 4 && memcmp(text + i, "<!--", 4) == 0;
        if (!comment && !(len - i >= 2 && memcmp(text + i, "<?", 2) == 0))
            return i;
        const char *end =
            comment ? memmem(text + i, len - i, "-->", 3) : memchr(text + i, '>', len - i);
        if (!end)
            return len;
        i = (size_t)(end - text) + (comment ? 3 : 1);
    }
}

static bool looks_like_html(const char *text, size_t len)
{
    static const char *const starts[] = {"<!doctype html", "<html", "<head", "<body"};
    const size_t at = skip_prolog(text, len);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        const size_t n = strlen(starts[i]);
        if (len - at > n && strncasecmp(text + at, starts[i], n) == 0 &&
            strchr(" \t\r\n>", text[at + n]))
            return true;
    }
    return false;
}

hob_format hob_sniff_text(const hob_sniffed_file *f, const char *text, size_t len)
{
    static const char *const markdown[] = {"md", "markdown", "mdown", "mkd", "mdx", "rmd", NULL};
    static const char *const html[] = {"html", "htm", "xhtml", "xht", NULL};
    if (looks_like_html(text, len))
        return HOB_FORMAT_HTML;
    if (has_suffix(f->name, markdown) || is_type(f->media_type, "text/markdown") ||
        is_type(f->media_type, "text/x-markdown"))
        return HOB_FORMAT_MARKDOWN;
    if (has_suffix(f->name, html) || is_type(f->media_type, "text/html") ||
        is_type(f->media_type, "application/xhtml+xml"))
        return HOB_FORMAT_HTML;
    return HOB_FORMAT_TEXT;
}
