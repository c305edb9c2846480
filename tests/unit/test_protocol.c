/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine protocol's codec: what is appended comes out the same however the bytes are cut, and broken frames are
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/engine/protocol.h"

typedef struct seen {
    uint32_t count;
    hob_message_type type;
    uint64_t id;
    uint8_t *copy;
    size_t len;
} seen;

static int keep(void *user, const hob_message *m)
{
    seen *s = user;
    s->count++;
    s->type = m->type;
    s->id = m->id;
    free(s->copy);
    s->copy = malloc(m->len + 1);
    memcpy(s->copy, m->payload, m->len);
    s->len = m->len;
    assert_int_equal(m->payload[m->len], 0);
    return 0;
}

static void round_trip(size_t len, size_t cut)
{
    uint8_t *payload = malloc(len + 1);
    hob_bytes wire = {0};
    hob_reader reader = {0};
    seen s = {0};
    hob_diag diag;
    for (size_t i = 0; i < len; i++)
        payload[i] = (uint8_t)(i * 7 + i / 251);
    assert_int_equal(hob_message_append(&wire, HOB_MSG_PREPARE, 42, payload, len), 0);
    assert_int_equal(hob_message_append(&wire, HOB_MSG_CREDIT, 43, "abcd", 4), 0);
    for (size_t at = 0; at < wire.len; at += cut) {
        if (s.count == 1) {
            assert_int_equal(s.len, len);
            assert_memory_equal(s.copy, payload, len);
            assert_int_equal(s.id, 42);
        }
        size_t part = wire.len - at < cut ? wire.len - at : cut;
        assert_int_equal(hob_reader_feed(&reader, wire.data + at, part, keep, &s, &diag), 0);
    }
    assert_int_equal(s.count, 2);
    assert_int_equal(s.type, HOB_MSG_CREDIT);
    assert_int_equal(s.id, 43);
    assert_memory_equal(s.copy, "abcd", 4);
    free(s.copy);
    free(payload);
    hob_bytes_free(&wire);
    hob_reader_free(&reader);
}

static void test_round_trip(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 15, 16, 65535, 65536, 65537, 200000};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
        for (size_t cut = 7; cut < 400000; cut = cut * 5 + 3)
            round_trip(lens[i], cut);
    round_trip(100, 1);
}

static int feed_bytes(const uint8_t *bytes, size_t len)
{
    hob_reader reader = {0};
    seen s = {0};
    hob_diag diag = {""};
    int rc = hob_reader_feed(&reader, bytes, len, keep, &s, &diag);
    if (rc < 0)
        assert_true(strlen(diag.text) > 10);
    free(s.copy);
    hob_reader_free(&reader);
    return rc;
}

static void test_broken_frames(void **state)
{
    (void)state;
    const uint8_t good[16] = {1, 0, HOB_MSG_CREDIT};
    uint8_t bad[32];
    assert_int_equal(feed_bytes(good, 16), 0);
    memcpy(bad, good, 16);
    bad[0] = 2; /* version */
    assert_int_equal(feed_bytes(bad, 16), HOB_EFORMAT);
    memcpy(bad, good, 16);
    bad[3] = 0x80; /* unknown flag */
    assert_int_equal(feed_bytes(bad, 16), HOB_EFORMAT);
    memcpy(bad, good, 16);
    hob_put_u32(bad + 4, HOB_FRAME_MAX + 1);
    assert_int_equal(feed_bytes(bad, 16), HOB_EFORMAT);
    memcpy(bad, good, 16); /* a message interrupted by another */
    bad[3] = HOB_FRAME_MORE;
    memcpy(bad + 16, good, 16);
    bad[16 + 8] = 9;
    assert_int_equal(feed_bytes(bad, 32), HOB_EFORMAT);
}

static void test_message_limit(void **state)
{
    (void)state;
    uint8_t *frame = calloc(1, HOB_FRAME_HEADER + HOB_FRAME_MAX);
    hob_reader reader = {0};
    seen s = {0};
    hob_diag diag;
    int rc = 0;
    frame[0] = HOB_PROTOCOL_VERSION;
    frame[2] = HOB_MSG_PREPARE;
    frame[3] = HOB_FRAME_MORE;
    hob_put_u32(frame + 4, HOB_FRAME_MAX);
    for (size_t fed = 0; rc == 0 && fed <= HOB_MESSAGE_MAX; fed += HOB_FRAME_MAX)
        rc = hob_reader_feed(&reader, frame, HOB_FRAME_HEADER + HOB_FRAME_MAX, keep, &s, &diag);
    assert_int_equal(rc, HOB_EFORMAT);
    assert_int_equal(s.count, 0);
    hob_reader_free(&reader);
    free(frame);
}

static void test_tokens(void **state)
{
    (void)state;
    uint8_t ids[8];
    hob_bytes wire = {0};
    hob_reader reader = {0};
    seen s = {0};
    hob_diag diag;
    hob_tokens_message out;
    hob_put_u32(ids, 7);
    hob_put_u32(ids + 4, 0x01020304);
    const hob_tokens_message in = {.finish = 2,
                                   .has_logprobs = true,
                                   .token_count = 2,
                                   .prompt_tokens = 5,
                                   .cached_tokens = 1,
                                   .answer_tokens = 9,
                                   .waited_us = 77,
                                   .chunks = 3,
                                   .ids = ids,
                                   .text = "h\xc3\xa9",
                                   .text_len = 3,
                                   .logprobs = "[]",
                                   .logprobs_len = 2};
    assert_int_equal(hob_tokens_append(&wire, 11, &in), 0);
    assert_int_equal(hob_reader_feed(&reader, wire.data, wire.len, keep, &s, &diag), 0);
    assert_int_equal(s.id, 11);
    hob_message m = {.type = s.type, .id = s.id, .payload = s.copy, .len = s.len};
    assert_int_equal(hob_tokens_decode(&m, &out, &diag), 0);
    assert_int_equal(out.finish, 2);
    assert_int_equal(out.token_count, 2);
    assert_int_equal(hob_get_u32(out.ids + 4), 0x01020304);
    assert_int_equal(out.answer_tokens, 9);
    assert_int_equal(out.waited_us, 77);
    assert_int_equal(out.chunks, 3);
    assert_int_equal(out.text_len, 3);
    assert_memory_equal(out.text, "h\xc3\xa9", 3);
    assert_int_equal(out.logprobs_len, 2);
    for (m.len = 0; m.len < 28 + 8 + 3; m.len++) /* every cut into the announced parts is refused */
        assert_int_equal(hob_tokens_decode(&m, &out, &diag), HOB_EFORMAT);
    free(s.copy);
    hob_bytes_free(&wire);
    hob_reader_free(&reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_broken_frames),
        cmocka_unit_test(test_message_limit),
        cmocka_unit_test(test_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
