/* SPDX-License-Identifier: Apache-2.0
 *
 * An import as a whole, on a folder that is made here: it is reproducible, can be ended, and leaves nothing behind.
 * tests/api/test_import.py checks what it makes of a model, and what it refuses. */
#include "models/import.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "models/gguf.h"
#include "models/tokenizer.h"
#include "tests/support/hf_folder.h"

static char folder[256], out[300];

static int make(void **state)
{
    (void)state;
    if (!hf_make_bert(folder))
        return -1;
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    return 0;
}

static int clean(void **state)
{
    (void)state;
    return hf_remove(folder) ? 0 : -1;
}

static hob_import_result import(const hob_import_options *o)
{
    hob_import_result result = {0};
    hob_diag diag = {""};
    if (hob_import(o, &result, &diag) < 0)
        fail_msg("%s", diag.text);
    return result;
}

static void test_imports(void **state)
{
    (void)state;
    const hob_import_options o = {.folder = folder, .out = out, .type = HOB_TYPE_F16};
    const hob_import_result result = import(&o);
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    hob_tokenizer *t = NULL;
    hob_string name;
    hob_ids ids = {0};
    assert_string_equal(result.architecture, "bert");
    assert_true(result.tensors == 21 && result.context == 6);
    assert_int_equal(hob_gguf_open(out, &g, &diag), 0);
    assert_int_equal(hob_gguf_tensor_count(g), 21);
    assert_int_equal(hob_gguf_string(g, "general.name", &name, &diag), 0);
    assert_true(name.len == 4 && memcmp(name.data, "tiny", 4) == 0);
    const hob_gguf_tensor *positions = hob_gguf_find_tensor(g, "position_embd.weight");
    assert_true(positions && positions->dims[0] == 32 && positions->dims[1] == 6);

    assert_int_equal(hob_tokenizer_open(g, &t, &diag), 0);
    static const uint32_t wanted[] = {2, 8, 4, 7, 7, 1, 3};
    assert_int_equal(hob_tokenize(t, "Hello abb c", 11, NULL, 0, true, 0, &ids, &diag), 0);
    assert_int_equal(ids.count, 7);
    assert_memory_equal(ids.data, wanted, sizeof wanted);
    hob_ids_free(&ids);
    hob_tokenizer_close(t);
    hob_gguf_close(g);
}

/* A decoder, whose rows of queries and keys change places, and whose frequencies are computed. */
static void test_imports_llama(void **state)
{
    (void)state;
    char llama[256], path[300];
    assert_true(hf_make_llama(llama));
    snprintf(path, sizeof path, "%s/out.gguf", llama);
    const hob_import_options o = {.folder = llama, .out = path, .type = HOB_TYPE_F16};
    const hob_import_result result = import(&o);
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    hob_tokenizer *t = NULL;
    hob_ids ids = {0};
    assert_true(result.tensors == 12 && result.context == 128);
    assert_int_equal(hob_gguf_open(path, &g, &diag), 0);
    const hob_gguf_tensor *factors = hob_gguf_find_tensor(g, "rope_freqs.weight");
    assert_true(factors && factors->dims[0] == 16);
    const float *f = factors->data;
    assert_true(f[0] == 1 &&
                f[15] == 8); /* of 500000^(-i/16) turns in 64 tokens only the first are many */

    assert_int_equal(hob_tokenizer_open(g, &t, &diag), 0);
    static const uint32_t wanted[] = {258, 257, ' ', 0xC3, 0xA9, '<', '|',
                                      'e', 'n', 'd', '|',  '>',  260};
    assert_int_equal(hob_tokenize(t, "the \u00e9<|end|><u>", 16, NULL, 0, true, 0, &ids, &diag), 0);
    assert_int_equal(ids.count, sizeof wanted / sizeof *wanted);
    assert_memory_equal(ids.data, wanted, sizeof wanted);
    assert_true(hob_tokenizer_is_control(t, 259) && hob_tokenizer_eos(t) == 259);
    hob_ids_free(&ids);
    hob_tokenizer_close(t);
    hob_gguf_close(g);
    assert_true(hf_remove(llama));
}

typedef struct watch {
    uint64_t last, total;
    unsigned calls, end_at;
} watch;

static bool on_progress(void *context, uint64_t done, uint64_t total)
{
    watch *w = context;
    assert_true(done > w->last && done <= total && (w->total == 0 || w->total == total));
    w->last = done;
    w->total = total;
    return ++w->calls != w->end_at;
}

static void test_progress(void **state)
{
    (void)state;
    watch w = {0};
    const hob_import_options o = {.folder = folder,
                                  .out = out,
                                  .type = HOB_TYPE_Q8_0,
                                  .progress = on_progress,
                                  .context = &w};
    const hob_import_result result = import(&o);
    assert_true(w.calls == 21 && w.last == w.total && w.total == result.bytes);
}

static void test_can_be_ended(void **state)
{
    (void)state;
    for (unsigned end_at = 1; end_at <= 21; end_at += 4) {
        watch w = {.end_at = end_at};
        const hob_import_options o = {.folder = folder,
                                      .out = out,
                                      .type = HOB_TYPE_Q8_0,
                                      .progress = on_progress,
                                      .context = &w};
        hob_import_result result = {.tensors = 7};
        hob_diag diag = {""};
        assert_int_equal(hob_import(&o, &result, &diag), HOB_ECANCELED);
        assert_int_equal(result.tensors, 7);
        assert_int_equal(access(out, F_OK), -1);
    } /* and hf_remove finds nothing else */
}

static void test_refuses_types(void **state)
{
    (void)state;
    const hob_import_options o = {.folder = folder, .out = out, .type = HOB_TYPE_Q4_0};
    hob_import_result result;
    hob_diag diag = {""};
    assert_int_equal(hob_import(&o, &result, &diag), HOB_EINVAL);
}

/* A file of the folder that is missing or no file is named. */
static void test_names_files(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int missing, irregular; /* codes; 0: it may be missing */
    } cases[] = {{"config.json", HOB_ENOENT, HOB_EIO},
                 {"tokenizer.json", HOB_ENOENT, HOB_EIO},
                 {"model.safetensors", HOB_ENOENT, HOB_EIO},
                 {"1_Pooling/config.json", HOB_ENOENT, HOB_EIO},
                 {"tokenizer_config.json", 0, HOB_EIO},
                 {"sentence_bert_config.json", 0, HOB_EIO},
                 {"config_sentence_transformers.json", 0, HOB_EIO}};
    const hob_import_options o = {.folder = folder, .out = out, .type = HOB_TYPE_F16};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512], aside[520];
        hob_import_result result;
        hob_diag diag = {""};
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].name);
        snprintf(aside, sizeof aside, "%s.aside", path);
        assert_int_equal(rename(path, aside), 0);
        int rc = hob_import(&o, &result, &diag);
        if (rc != cases[i].missing || (rc < 0 && !strstr(diag.text, cases[i].name)))
            fail_msg("%s is missing: %s \"%s\"", cases[i].name, hob_error_name(rc), diag.text);
        assert_int_equal(mkfifo(path, 0600), 0);
        rc = hob_import(&o, &result, &diag);
        if (rc != cases[i].irregular || !strstr(diag.text, cases[i].name) ||
            !strstr(diag.text, "not a regular file"))
            fail_msg("%s is a FIFO: %s \"%s\"", cases[i].name, hob_error_name(rc), diag.text);
        assert_int_equal(rename(aside, path), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_imports, make, clean),
        cmocka_unit_test(test_imports_llama),
        cmocka_unit_test_setup_teardown(test_progress, make, clean),
        cmocka_unit_test_setup_teardown(test_can_be_ended, make, clean),
        cmocka_unit_test_setup_teardown(test_refuses_types, make, clean),
        cmocka_unit_test_setup_teardown(test_names_files, make, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
