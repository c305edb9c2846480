/* SPDX-License-Identifier: Apache-2.0
 *
 * Form data: what clients send, byte by byte too; what is refused, and why. */
#include "daemon/gateway/multipart.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdio.h>
#include <string.h>

static char seen[8192];

static int begin(void *user, const char *name, const char *filename, hob_diag *diag)
{
    (void)user;
    (void)diag;
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "[%s|%s|", name,
             filename ? filename : "-");
    return 0;
}

static int data(void *user, const void *bytes, size_t len, hob_diag *diag)
{
    (void)user;
    (void)diag;
    strncat(seen, bytes, len);
    return 0;
}

static int end(void *user, hob_diag *diag)
{
    (void)user;
    (void)diag;
    strcat(seen, "]");
    return 0;
}

static int read_form(const char *type, const char *form, size_t piece, hob_diag *diag)
{
    static const hob_multipart_events events = {begin, data, end};
    const size_t len = strlen(form);
    hob_multipart m;
    seen[0] = '\0';
    int code = hob_multipart_begin(&m, type, diag);
    for (size_t at = 0; code == 0 && at < len; at += piece)
        code = hob_multipart_feed(&m, form + at, piece < len - at ? piece : len - at, &events, NULL,
                                  diag);
    if (code == 0 && !hob_multipart_ended(&m))
        strcat(seen, "...");
    return code;
}

#define TYPE "multipart/form-data; boundary=----x"
#define FIELD "Content-Disposition: form-data; name="

static void test_forms(void **state)
{
    (void)state;
    static const struct {
        const char *type, *form, *seen;
    } cases[] = {
        {TYPE,
         "------x\r\n" FIELD "\"purpose\"\r\n\r\nassistants\r\n------x\r\n" FIELD
         "\"file\"; filename=\"a b.txt\"\r\nContent-Type: "
         "text/plain\r\n\r\n1\r\n2\r\n------x--\r\n",
         "[purpose|-|assistants][file|a b.txt|1\r\n2]"},
        {"Multipart/Form-Data; charset=utf-8; boundary=\"a b:c\"",
         "--a b:c\r\n" FIELD
         "file; filename*=utf-8''na%C3%AFve; filename=naive\r\n\r\n\r\n--a b:c--",
         "[file|na\xc3\xafve|]"},
        {TYPE,
         "words before\r\n------x \t\r\n" FIELD "\"f\"; filename=\"q%22%41\"\r\n\r\n"
         "\r\n-----x\r\n------\r\n\r\n------x--and after",
         "[f|q\"%41|\r\n-----x\r\n------\r\n]"},
        {TYPE, "------x\r\n" FIELD "\"f\"\r\n\r\nnever ends\r\n------", "[f|-|never ends..."},
        {TYPE, "------x\r\n" FIELD "f; filename*=utf-8'%00%27'%27a\r\n\r\n\r\n------x--",
         "[f|'a|]"},
        {TYPE, "------x--", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece < 300; piece += piece < 20 ? 1 : 97) {
            hob_diag diag = {""};
            const int code = read_form(cases[i].type, cases[i].form, piece, &diag);
            if (code != 0 || strcmp(seen, cases[i].seen) != 0)
                fail_msg("case %zu in pieces of %zu: %d %s, \"%s\"", i, piece, code, diag.text,
                         seen);
        }
}

static void test_refusals(void **state)
{
    (void)state;
    static char long_header[HOB_MULTIPART_HEADERS_MAX + 100], many[4096];
    const struct {
        const char *type, *form;
        int code;
        const char *says;
    } cases[] = {
        {"application/json", "", HOB_EFORMAT, "not multipart"},
        {"multipart/form-data", "", HOB_EFORMAT, "no usable boundary"},
        {"multipart/form-data; boundary=", "", HOB_EFORMAT, "no usable boundary"},
        {"multipart/form-data; boundary=a\"b", "", HOB_EFORMAT, "no usable boundary"},
        {"multipart/form-data; boundary=\"a", "", HOB_EFORMAT, "no end"},
        {"multipart/form-data; boundary="
         "0123456789012345678901234567890123456789012345678901234567890123456789x",
         "", HOB_ELIMIT, "at most 70"},
        {TYPE, "------x\r\n" FIELD "\"a\n\"\r\n\r\n", HOB_EFORMAT, "no name"},
        {TYPE, "------x\r\n" FIELD "\"a\"; filename=\"\xff\"\r\n\r\n", HOB_EFORMAT, "not UTF-8"},
        {TYPE, "------x\r\n" FIELD "\"a\"; filename*=latin1''x\r\n\r\n", HOB_EFORMAT, "in UTF-8"},
        {TYPE, "------x\r\n" FIELD "\"a\"; filename*=utf-8'x\r\n\r\n", HOB_EFORMAT, "in UTF-8"},
        {TYPE, "------x\r\n" FIELD "\"a\"; filename*=utf-8''a%00b\r\n\r\n", HOB_EFORMAT, "a NUL"},
        {TYPE, "------x\r\nContent-Disposition: attachment\r\n\r\n", HOB_EFORMAT, "not form-data"},
        {TYPE, "------x\r\n\r\n", HOB_EFORMAT, "no Content-Disposition"},
        {TYPE, "------x\r\nnonsense\r\n\r\n", HOB_EFORMAT, "no colon"},
        {TYPE, "------x\r\n" FIELD "a\r\n" FIELD "b\r\n\r\n", HOB_EFORMAT, "named twice"},
        {TYPE, "------x\r\nContent-Transfer-Encoding: base64\r\n\r\n", HOB_EFORMAT, "base64"},
        {TYPE, "------x-x", HOB_EFORMAT, "followed by other"},
        {TYPE, "------x -", HOB_EFORMAT, "followed by other"},
        {TYPE, "------x\rx", HOB_EFORMAT, "followed by other"},
        {TYPE, long_header, HOB_ELIMIT, "more than 4096 bytes"},
        {TYPE, many, HOB_ELIMIT, "more than 16 fields"},
    };
    memset(long_header, 'x', sizeof long_header - 1);
    memcpy(long_header, "------x\r\n", 9);
    for (int i = 0; i < 17; i++)
        strcat(many, "------x\r\n" FIELD "a\r\n\r\n\r\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        hob_diag diag = {""};
        const int code = read_form(cases[i].type, cases[i].form, 10000, &diag);
        if (code != cases[i].code || !strstr(diag.text, cases[i].says))
            fail_msg("case %zu: %d, \"%s\"", i, code, diag.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests_name("multipart", tests, NULL, NULL);
}
