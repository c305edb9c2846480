/* SPDX-License-Identifier: Apache-2.0
 *
 * Form data, piece by piece. See multipart.h.
 *
 * The delimiter is CR LF, two dashes and the boundary, in which there is no CR: where a match fails, what matched so far
 * is data, and the next match begins with the byte that failed at the earliest. The form begins as if a CR LF had
 * been before it, since its first delimiter may be its first line. */
#include "daemon/gateway/multipart.h"

#include <string.h>
#include <strings.h>

#include "models/utf8.h"

enum {
    DATA,      /* of a field, or before the first */
    DELIMITER, /* behind one: two dashes, or a line end */
    DASH,      /* behind the first dash */
    LINE_END,  /* behind the CR */
    HEADERS,
    ENDED, /* what comes now is of no interest */
};

static const char allowed[] = /* of a boundary: RFC 2046, bchars */
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'()+_,-./:=? ";

/* ---- headers ---- */

/* The value of a parameter, `; name=value` or `; name="value"`, of a header's value; 1: it is there, 0: it is not. */
static int find_parameter(const char *value, const char *name, char *ret, size_t size,
                          hob_diag *diag)
{
    const size_t name_len = strlen(name);
    const char *p = value + strcspn(value, ";");
    while (*p == ';') {
        p += 1 + strspn(p + 1, " \t");
        const bool it = strncasecmp(p, name, name_len) == 0 && p[name_len] == '=';
        size_t n = 0;
        p += strcspn(p, "=;");
        if (*p == '=' && p[1] == '"') {
            for (p += 2; *p && *p != '"'; p++) {
                if (*p == '\\' && (p[1] == '"' || p[1] == '\\'))
                    p++;
                if (it && n < size)
                    ret[n] = *p;
                n++;
            }
            if (*p++ != '"')
                return hob_fail(diag, HOB_EFORMAT, "the form: a quoted %.20s has no end", name);
        } else if (*p == '=') {
            const size_t len = strcspn(++p, "; \t");
            if (it && len < size)
                memcpy(ret, p, len);
            n = len;
            p += len;
        }
        if (it && n >= size)
            return hob_fail(diag, HOB_ELIMIT,
                            "the form: %.20s has %zu bytes, at most %zu are allowed", name, n,
                            size - 1);
        if (it) {
            ret[n] = '\0';
            return 1;
        }
        p += strcspn(p, ";");
    }
    return 0;
}

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Percent escapes to bytes; with quote_only no other than that of the quotation mark, as browsers write it. Returns how many
 * bytes there are, with a NUL behind them. */
static size_t unescape(char *s, bool quote_only)
{
    char *const begin = s, *to = s;
    for (; *s; s++) {
        const int high = *s == '%' ? hex(s[1]) : -1, low = high >= 0 ? hex(s[2]) : -1;
        if (low < 0 || (quote_only && high * 16 + low != '"')) {
            *to++ = *s;
            continue;
        }
        *to++ = (char)(high * 16 + low);
        s += 2;
    }
    *to = '\0';
    return (size_t)(to - begin);
}

static bool is_clean(const char *s)
{
    for (size_t left = strlen(s); left > 0;) {
        const int n = hob_utf8_step(s, left);
        if (n <= 0 || (unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
        s += n;
        left -= (size_t)n;
    }
    return true;
}

/* form-data; name="…"; filename="…". RFC 6266's filename*, where it is there, counts. */
static int read_disposition(hob_multipart *m, const char *value, hob_diag *diag)
{
    char wide[3 * HOB_MULTIPART_FILENAME_MAX];
    int found, code;
    if (strncasecmp(value, "form-data", 9) != 0)
        return hob_fail(diag, HOB_EFORMAT, "the form: Content-Disposition is not form-data");
    if ((found = find_parameter(value, "name", m->name, sizeof m->name, diag)) < 0)
        return found;
    if (found == 0 || !is_clean(m->name))
        return hob_fail(diag, HOB_EFORMAT, "the form: a field has no name");
    if ((code = find_parameter(value, "filename", m->filename, sizeof m->filename, diag)) < 0 ||
        (found = find_parameter(value, "filename*", wide, sizeof wide, diag)) < 0)
        return code < 0 ? code : found;
    m->has_filename = code > 0 || found > 0;
    (void)unescape(m->filename, true);
    if (found > 0) {
        char *text = strncasecmp(wide, "utf-8'", 6) == 0 ? strchr(wide + 6, '\'') : NULL;
        if (!text)
            return hob_fail(diag, HOB_EFORMAT, "the form: filename* is not in UTF-8");
        const size_t len = unescape(++text, false);
        if (strlen(text) != len)
            return hob_fail(diag, HOB_EFORMAT, "the form: a file's name holds a NUL");
        if (len >= sizeof m->filename)
            return hob_fail(diag, HOB_ELIMIT, "the form: a file's name has more than %zu bytes",
                            sizeof m->filename - 1);
        memcpy(m->filename, text, len + 1);
    }
    if (m->has_filename && !is_clean(m->filename))
        return hob_fail(diag, HOB_EFORMAT,
                        "the form: a file's name has control characters or is not UTF-8");
    return 0;
}

static int read_headers(hob_multipart *m, hob_diag *diag)
{
    bool named = false;
    char *line = m->headers, *next;
    m->has_filename = false;
    m->name[0] = m->filename[0] = '\0';
    for (; *line; line = next) {
        char *end = strstr(line, "\r\n");
        next = end + 2; /* each ends in one: they were read until an empty line */
        *end = '\0';
        char *colon = strchr(line, ':');
        if (!colon)
            return hob_fail(diag, HOB_EFORMAT, "the form: a field's header has no colon");
        *colon = '\0';
        const char *value = colon + 1 + strspn(colon + 1, " \t");
        if (strcasecmp(line, "content-disposition") == 0) {
            const int code = named ? hob_fail(diag, HOB_EFORMAT, "the form: a field is named twice")
                                   : read_disposition(m, value, diag);
            if (code < 0)
                return code;
            named = true;
        } else if (strcasecmp(line, "content-transfer-encoding") == 0 &&
                   strcasecmp(value, "binary") != 0 && strcasecmp(value, "8bit") != 0 &&
                   strcasecmp(value, "7bit") != 0)
            return hob_fail(diag, HOB_EFORMAT,
                            "the form: Content-Transfer-Encoding '%.20s' is not supported", value);
    }
    return named ? 0 : hob_fail(diag, HOB_EFORMAT, "the form: a field has no Content-Disposition");
}

int hob_multipart_begin(hob_multipart *m, const char *type, hob_diag *diag)
{
    char boundary[72]; /* RFC 2046: at most 70 characters */
    *m = (hob_multipart){.state = DATA, .matched = 2};
    if (strncasecmp(type, "multipart/form-data", 19) != 0)
        return hob_fail(diag, HOB_EFORMAT, "the body is not multipart/form-data");
    const int found = find_parameter(type, "boundary", boundary, sizeof boundary - 1, diag);
    if (found < 0)
        return found;
    const size_t len = found ? strlen(boundary) : 0;
    if (len == 0 || strspn(boundary, allowed) != len)
        return hob_fail(diag, HOB_EFORMAT, "the Content-Type of the form has no usable boundary");
    memcpy(m->delimiter, "\r\n--", 4);
    memcpy(m->delimiter + 4, boundary, len);
    m->delimiter_len = 4 + len;
    return 0;
}

/* ---- bytes ---- */

typedef struct feed {
    hob_multipart *m;
    const hob_multipart_events *events;
    void *user;
    hob_diag *diag;
} feed;

static int give(const feed *f, const char *bytes, size_t len)
{
    return f->m->in_field && len > 0 ? f->events->data(f->user, bytes, len, f->diag) : 0;
}

/* Data up to the next delimiter. Sets *used. */
static int take_data(const feed *f, const char *bytes, size_t len, size_t *used)
{
    hob_multipart *m = f->m;
    size_t from = 0; /* of what is known to be data in these bytes */
    size_t i = 0;
    int code;

    while (i < len && m->matched < m->delimiter_len) {
        if (bytes[i] == m->delimiter[m->matched]) {
            m->matched++;
            i++;
            continue;
        }
        if (m->matched > 0) { /* what matched may have come in earlier bytes */
            const size_t held = m->matched, here = i - from;
            if (held > here && (code = give(f, m->delimiter, held - here)) < 0)
                return code;
            m->matched = 0;
            continue;
        }
        const char *cr = memchr(bytes + i, '\r', len - i);
        i = cr ? (size_t)(cr - bytes) : len;
    }
    const size_t here = m->matched < i - from ? m->matched : i - from;
    if ((code = give(f, bytes + from, i - from - here)) < 0)
        return code;
    *used = i;
    if (m->matched < m->delimiter_len)
        return 0;
    m->matched = 0;
    m->state = DELIMITER;
    m->padded = false;
    if (!m->in_field)
        return 0;
    m->in_field = false;
    return f->events->end(f->user, f->diag);
}

static int begin_field(const feed *f)
{
    hob_multipart *m = f->m;
    int code;
    m->headers[m->header_len] = '\0';
    if (strlen(m->headers) != m->header_len)
        return hob_fail(f->diag, HOB_EFORMAT, "the form: a field's headers hold a NUL");
    if ((code = read_headers(m, f->diag)) < 0)
        return code;
    m->state = DATA;
    m->in_field = true;
    m->matched = 0;
    return f->events->begin(f->user, m->name, m->has_filename ? m->filename : NULL, f->diag);
}

static int take_header(const feed *f, char c)
{
    hob_multipart *m = f->m;
    if (m->header_len >= HOB_MULTIPART_HEADERS_MAX)
        return hob_fail(f->diag, HOB_ELIMIT, "the form: a field's headers have more than %d bytes",
                        HOB_MULTIPART_HEADERS_MAX);
    m->headers[m->header_len++] = c;
    const size_t n = m->header_len;
    if (c != '\n' || n < 2 || m->headers[n - 2] != '\r')
        return 0;
    if (n == 2 || (n >= 4 && memcmp(m->headers + n - 4, "\r\n\r\n", 4) == 0)) {
        m->header_len -= 2; /* the empty line */
        return begin_field(f);
    }
    return 0;
}

/* Between a delimiter and what it opens. */
static int take_mark(const feed *f, char c)
{
    hob_multipart *m = f->m;
    if (m->state == DASH && c == '-') {
        m->state = ENDED;
        return 0;
    }
    if (m->state == LINE_END && c == '\n') {
        if (++m->fields > HOB_MULTIPART_FIELDS_MAX)
            return hob_fail(f->diag, HOB_ELIMIT, "the form has more than %d fields",
                            HOB_MULTIPART_FIELDS_MAX);
        m->header_len = 0;
        m->state = HEADERS;
        return 0;
    }
    if (m->state == DELIMITER && c == '\r')
        m->state = LINE_END;
    else if (m->state == DELIMITER && c == '-' && !m->padded)
        m->state = DASH;
    else if (m->state == DELIMITER && (c == ' ' || c == '\t'))
        m->padded = true;
    else
        return hob_fail(f->diag, HOB_EFORMAT, "the form: a boundary is followed by other bytes");
    return 0;
}

int hob_multipart_feed(hob_multipart *m, const void *data, size_t len,
                       const hob_multipart_events *events, void *user, hob_diag *diag)
{
    const feed f = {m, events, user, diag};
    const char *bytes = data;
    int code = 0;
    for (size_t i = 0, used; i < len && code == 0 && m->state != ENDED; i += used) {
        used = 1;
        if (m->state == DATA)
            code = take_data(&f, bytes + i, len - i, &used);
        else if (m->state == HEADERS)
            code = take_header(&f, bytes[i]);
        else
            code = take_mark(&f, bytes[i]);
    }
    return code;
}

bool hob_multipart_ended(const hob_multipart *m)
{
    return m->state == ENDED;
}
