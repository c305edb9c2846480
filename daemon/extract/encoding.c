/* SPDX-License-Identifier: Apache-2.0
 *
 * See encoding.h. */
#include "daemon/extract/encoding.h"

#include <string.h>

#include <utf8proc.h>

#include "models/utf8.h"

enum {
    SAMPLE = 65536,      /* bytes in which control characters are counted */
    CONTROL_PERCENT = 1, /* of the sample, at most, in a text */
};

static const char *const names[HOB_ENCODINGS] = {"", "utf-8", "utf-16le", "utf-16be",
                                                 "windows-1252"};

const char *hob_encoding_name(hob_encoding e)
{
    return (unsigned)e < HOB_ENCODINGS ? names[e] : "";
}

/* What no text has, or hardly: ESC and BS are in the output of terminals. */
static bool is_binary(const uint8_t *data, size_t bytes)
{
    const size_t sample = bytes < SAMPLE ? bytes : SAMPLE;
    size_t controls = 0;
    for (size_t i = 0; i < sample; i++)
        controls += (data[i] < 0x20 && !(data[i] >= '\b' && data[i] <= '\r') && data[i] != 0x1B) ||
                    data[i] == 0x7F;
    return controls * 100 > sample * CONTROL_PERCENT;
}

/* Whether characters of UTF-8 outweigh the bytes that are none. */
static bool is_utf8(const uint8_t *data, size_t bytes)
{
    size_t good = 0, bad = 0;
    for (size_t i = 0; i < bytes;) {
        if (data[i] < 0x80) {
            i++;
            continue;
        }
        const int step = hob_utf8_step((const char *)data + i, bytes - i);
        good += step > 0;
        bad += step < 0;
        i += step > 0 ? (size_t)step : step < 0 ? (size_t)-step : bytes - i;
    }
    return good >= bad;
}

int hob_encoding_find(const uint8_t *data, size_t bytes, hob_encoding *ret, hob_document *d)
{
    const uint64_t most = (uint64_t)HOB_EXTRACT_RAW_FACTOR * d->limits->text_bytes;
    const bool little = bytes >= 2 && data[0] == 0xFF && data[1] == 0xFE,
               big = bytes >= 2 && data[0] == 0xFE && data[1] == 0xFF;
    if (bytes >= 4 && (memcmp(data, "\xFF\xFE\0", 4) == 0 || memcmp(data, "\0\0\xFE\xFF", 4) == 0))
        return hob_document_fail(d, HOB_EXTRACT_UNSUPPORTED,
                                 "the text is UTF-32; hob reads UTF-8, UTF-16 and Windows-1252");
    if (!little && !big && is_binary(data, bytes))
        return hob_document_fail(d, HOB_EXTRACT_BINARY,
                                 "the file is binary: of no type that hob knows, and not text (or "
                                 "UTF-16 without a byte order mark)");
    if (bytes > most)
        return hob_document_fail(d, HOB_EXTRACT_TOO_LARGE,
                                 "the file is a text of %zu bytes; allowed are %llu", bytes,
                                 (unsigned long long)most);
    *ret = little                 ? HOB_ENCODING_UTF16LE
           : big                  ? HOB_ENCODING_UTF16BE
           : is_utf8(data, bytes) ? HOB_ENCODING_UTF8
                                  : HOB_ENCODING_WINDOWS_1252;
    return 0;
}

typedef struct decoding {
    hob_bytes *out;
    hob_document *d;
} decoding;

static int put(decoding *k, utf8proc_int32_t c)
{
    utf8proc_uint8_t bytes[4];
    if (c == 0xFFFD)
        k->d->stripped.replaced++;
    else if (c == 0) { /* which ends a text for some parsers */
        k->d->stripped.control++;
        return 0;
    }
    return hob_bytes_append(k->out, bytes, (size_t)utf8proc_encode_char(c, bytes));
}

static int decode_utf8(decoding *k, const char *text, size_t len)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < len;) {
        const size_t start = i;
        int step = 1;
        while (i < len && text[i] && (step = hob_utf8_step(text + i, len - i)) > 0)
            i += (size_t)step;
        r = hob_bytes_append(k->out, text + start, i - start);
        if (r == 0 && i < len) {
            r = put(k, text[i] ? 0xFFFD : 0);
            i += !text[i] ? 1 : step < 0 ? (size_t)-step : len - i;
        }
    }
    return r;
}

static int decode_utf16(decoding *k, const uint8_t *data, size_t bytes, bool big)
{
    int r = 0;
    size_t i = 0;
    for (; r == 0 && bytes - i >= 2; i += 2) {
        const utf8proc_int32_t unit = data[i + !big] << 8 | data[i + big];
        utf8proc_int32_t c = unit;
        if (unit >= 0xD800 && unit <= 0xDFFF) {
            c = 0xFFFD;
            if (unit < 0xDC00 && bytes - i >= 4) {
                const utf8proc_int32_t low = data[i + 2 + !big] << 8 | data[i + 2 + big];
                if (low >= 0xDC00 && low <= 0xDFFF) {
                    c = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
                    i += 2;
                }
            }
        }
        r = put(k, c);
    }
    return r == 0 && i < bytes ? put(k, 0xFFFD) : r;
}

static int decode_1252(decoding *k, const uint8_t *data, size_t bytes)
{
    /* 0x80 to 0x9F; those that Windows leaves out stay control characters. */
    static const uint16_t high[32] = {
        0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
        0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
        0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178};
    int r = 0;
    for (size_t i = 0; r == 0 && i < bytes; i++)
        r = put(k, data[i] >= 0x80 && data[i] < 0xA0 ? high[data[i] - 0x80] : data[i]);
    return r;
}

static bool is_valid_utf8(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        const int step = hob_utf8_step(text + i, len - i);
        if (step <= 0 || text[i] == 0)
            return false;
        i += (size_t)step;
    }
    return true;
}

int hob_encoding_decode(const uint8_t *data, size_t bytes, hob_encoding e, hob_bytes *copy,
                        const char **ret, size_t *ret_len, hob_document *d)
{
    decoding k = {.out = copy, .d = d};
    int r = 0;
    if (e == HOB_ENCODING_UTF8 && bytes >= 3 && memcmp(data, "\xEF\xBB\xBF", 3) == 0) {
        data += 3;
        bytes -= 3;
    }
    if (e == HOB_ENCODING_UTF8 && is_valid_utf8((const char *)data, bytes)) {
        *ret = (const char *)data;
        *ret_len = bytes;
        return 0;
    }
    switch (e) {
    case HOB_ENCODING_UTF8: r = decode_utf8(&k, (const char *)data, bytes); break;
    case HOB_ENCODING_UTF16LE:
    case HOB_ENCODING_UTF16BE:
        r = decode_utf16(&k, data + 2, bytes - 2, e == HOB_ENCODING_UTF16BE);
        break;
    default: r = decode_1252(&k, data, bytes); break;
    }
    if (r < 0)
        return hob_document_no_memory(d);
    *ret = copy->data ? (const char *)copy->data : "";
    *ret_len = copy->len;
    return 0;
}
