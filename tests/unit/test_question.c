/* SPDX-License-Identifier: Apache-2.0
 *
 * What a conversation asks of documents: the last turn of the user, the earlier ones in brief, and nothing cut within a
 * character. */
#include "daemon/gateway/question.h"

#include <math.h>
#include <string.h>

#include "models/utf8.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on

static hob_question q;

static int read_text(const char *text)
{
    json_t *messages = json_loads(text, 0, NULL);
    assert_non_null(messages);
    const int code = hob_question_read(messages, &q);
    json_decref(messages);
    return code;
}

static void test_turns(void **state)
{
    (void)state;
    assert_int_equal(read_text("[{\"role\": \"system\", \"content\": \"Be kind.\"},"
                               " {\"role\": \"user\", \"content\": \" How is\\n\\tit  done? \"}]"),
                     0);
    assert_int_equal(q.first, 1);
    assert_string_equal(q.text, "How is it done?");
    assert_string_equal(q.history, "");
    assert_int_equal(read_text("[{\"role\": \"user\", \"content\": \"one\"},"
                               " {\"role\": \"assistant\", \"content\": \"1\"},"
                               " {\"role\": \"user\", \"content\": \"two\"},"
                               " {\"role\": \"user\", \"content\": \"  \"},"
                               " {\"role\": \"user\", \"content\": \"three\"},"
                               " {\"role\": \"user\", \"content\": \"four\"},"
                               " {\"role\": \"user\", \"content\": \"five\"},"
                               " {\"role\": \"assistant\", \"content\": \"5\"}]"),
                     0);
    assert_int_equal(q.first, 0);
    assert_string_equal(q.text, "five");
    assert_string_equal(q.history, "two three four");
}

static void test_nothing_is_said(void **state)
{
    (void)state;
    assert_int_equal(read_text("[]"), HOB_ENOENT);
    assert_int_equal(read_text("[{\"role\": \"user\", \"content\": \" \\n\"}]"), HOB_ENOENT);
    assert_int_equal(read_text("[{\"role\": \"system\", \"content\": \"x\"}]"), HOB_ENOENT);
}

static void check_utf8(const char *s)
{
    int n;
    for (size_t left = strlen(s); left > 0; s += n, left -= (size_t)n)
        assert_true((n = hob_utf8_step(s, left)) > 0);
}

/* Characters of each length, at each offset to where the text is cut. */
static void test_long_turns(void **state)
{
    (void)state;
    static const char *const letters[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8f\xa0"};
    static char text[3 * HOB_QUESTION_BYTES];
    for (int l = 0; l < 4; l++)
        for (size_t shift = 0; shift < 4; shift++) {
            size_t n = 0;
            while (n < shift)
                text[n++] = '-';
            while (n < sizeof text - 16)
                n = (size_t)(stpcpy(text + n, letters[l]) - text);
            strcpy(text + n, " The end?");
            json_t *messages = json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "user", "content",
                                         text, "role", "user", "content", text);
            assert_non_null(messages);
            assert_int_equal(hob_question_read(messages, &q), 0);
            json_decref(messages);
            check_utf8(q.text);
            check_utf8(q.history);
            assert_in_range(strlen(q.text), HOB_QUESTION_BYTES - 8, HOB_QUESTION_BYTES);
            assert_memory_equal(q.text, text, HOB_QUESTION_BYTES / 2 - 4);
            assert_string_equal(q.text + strlen(q.text) - 8, "The end?");
            assert_in_range(strlen(q.history), HOB_HISTORY_BYTES / 3 - 5, HOB_HISTORY_BYTES / 3);
        }
}

static void test_history_turns_the_vector(void **state)
{
    (void)state;
    float question[2] = {1, 0};
    const float history[2] = {0, 1};
    hob_question_add_history(question, history, 2);
    assert_true(fabs(question[0] * question[0] + question[1] * question[1] - 1) < 1e-6);
    assert_true(fabs(question[1] / question[0] - HOB_HISTORY_WEIGHT) < 1e-6);
    float opposite[1] = {0};
    hob_question_add_history(opposite, opposite, 1);
    assert_true(opposite[0] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_nothing_is_said),
        cmocka_unit_test(test_long_turns),
        cmocka_unit_test(test_history_turns_the_vector),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
