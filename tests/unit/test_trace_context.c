/* SPDX-License-Identifier: Apache-2.0
 *
 * traceparent: what W3C's recommendation allows is read, nothing else, and what is written is read back. */
#include "daemon/gateway/trace_context.h"

#include <string.h>

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static bool reads(const char *text, hob_trace_context *ret)
{
    return hob_trace_context_read(text, strlen(text), ret);
}

static void test_valid(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool sampled;
    } valid[] = {
        {"00-" TRACE "-" SPAN "-01", true},  {"00-" TRACE "-" SPAN "-00", false},
        {"00-" TRACE "-" SPAN "-03", true},  {"00-" TRACE "-" SPAN "-fe", false},
        {"01-" TRACE "-" SPAN "-01", true},  {"cc-" TRACE "-" SPAN "-01-what.will.come", true},
        {"fe-" TRACE "-" SPAN "-01-", true},
    };
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        hob_trace_context c;
        char text[HOB_TRACEPARENT_MAX];
        assert_true(reads(valid[i].text, &c));
        assert_int_equal(c.sampled, valid[i].sampled);
        hob_trace_context_write(&c, text);
        assert_string_equal(text, valid[i].sampled ? "00-" TRACE "-" SPAN "-01"
                                                   : "00-" TRACE "-" SPAN "-00");
        assert_int_equal(c.trace[0], 0x4b);
        assert_int_equal(c.span[7], 0xb7);
    }
}

static void test_invalid(void **state)
{
    (void)state;
    static const char *const invalid[] = {
        "",
        "00",
        "00-" TRACE "-" SPAN "-0",
        "00-" TRACE "-" SPAN "-01-", /* version 0 ends there */
        "00-" TRACE "-" SPAN "-01-more",
        "00-" TRACE "-" SPAN "-01 ",
        " 00-" TRACE "-" SPAN "-01",
        "ff-" TRACE "-" SPAN "-01",
        "cc-" TRACE "-" SPAN "-01.more",
        "0g-" TRACE "-" SPAN "-01",
        "00_" TRACE "-" SPAN "-01",
        "00-" TRACE "_" SPAN "-01",
        "00-" TRACE "-" SPAN "_01",
        "00-00000000000000000000000000000000-" SPAN "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-" SPAN "0-01",
        "00-" TRACE "-" SPAN "-0x",
        "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    for (size_t i = 0; i < sizeof invalid / sizeof *invalid; i++) {
        hob_trace_context c = {.trace = {1}, .span = {2}, .sampled = true};
        assert_false(reads(invalid[i], &c));
        assert_true(c.trace[0] == 1 && c.span[0] == 2 && c.sampled); /* untouched */
    }
}

/* Each single change to a valid one either reads as what it says or is refused. */
static void test_every_byte(void **state)
{
    (void)state;
    char text[] = "00-" TRACE "-" SPAN "-01";
    const size_t len = sizeof text - 1;
    for (size_t at = 0; at < len; at++) {
        const char was = text[at];
        for (int byte = 0; byte < 256; byte++) {
            hob_trace_context c;
            char back[HOB_TRACEPARENT_MAX];
            text[at] = (char)byte;
            if (!hob_trace_context_read(text, len, &c))
                continue;
            hob_trace_context_write(&c, back);
            assert_memory_equal(back + 3, text + 3, 50); /* between version and flags */
        }
        text[at] = was;
    }
    for (size_t cut = 0; cut < len; cut++) {
        hob_trace_context c;
        assert_false(hob_trace_context_read(text, cut, &c));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
