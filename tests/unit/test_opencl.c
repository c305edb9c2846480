/* SPDX-License-Identifier: Apache-2.0
 *
 * Choosing devices, and compiled kernels on disk: a second start uses them, damaged ones are made anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/cl/cache.h"
#include "hal/golden.h"
#include "hal/select.h"

static char folder[64];
static hob_choice device; /* looked for once, before a driver is loaded into this process */

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/hob-opencl-%d", (int)getpid());
    return mkdir(folder, 0700);
}

/* Files in the folder, each given to `each` when there is one. */
static int visit(void (*each)(const char *path))
{
    char command[128], path[512];
    int count = 0;
    snprintf(command, sizeof command, "find %s -type f", folder);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (fgets(path, sizeof path, f)) {
        path[strcspn(path, "\n")] = 0;
        count++;
        if (each)
            each(path);
    }
    pclose(f);
    return count;
}

static void remove_one(const char *path)
{
    unlink(path);
}

static void damage_one(const char *path)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 40, SEEK_SET);
    fputc(0x5a ^ 0xff, f);
    fputc(0xa5, f);
    fclose(f);
}

static void expect_whole(const char *path)
{
    void *data = NULL;
    size_t bytes;
    assert_int_equal(hob_cl_cache_read(path, &data, &bytes), 0);
    free(data);
}

static int remove_folder(void **state)
{
    (void)state;
    visit(remove_one);
    return rmdir(folder);
}

static void test_names(void **state)
{
    hob_choice c;
    hob_diag diag;
    (void)state;
    assert_int_equal(hob_hal_choose("cpu", NULL, &c, &diag), 0);
    assert_string_equal(c.info.name, "cpu");
    assert_int_equal(hob_hal_choose(NULL, NULL, &c, &diag), 0);
    assert_int_equal(hob_hal_choose("gpu", NULL, &c, &diag), HOB_ENOENT);
    assert_non_null(strstr(diag.text, "got \"gpu\", allowed are auto, cpu and opencl:<n>"));
    assert_int_equal(hob_hal_choose("opencl:99", NULL, &c, &diag), HOB_ENOENT);
    assert_non_null(strstr(diag.text, "opencl:99"));
    assert_false(hob_hal_tries_drivers("cpu"));
    assert_true(hob_hal_tries_drivers("opencl:0"));
    if (hob_hal_choose("opencl:0", NULL, &device, &diag) < 0)
        device.usable = false;
}

static void test_cache_files(void **state)
{
    static const char *const one[] = {"ab", "c"}, *const other[] = {"a", "bc"};
    char path[256], second[256];
    void *data = NULL;
    size_t bytes = 0;
    (void)state;
    assert_int_equal(hob_cl_cache_path(folder, one, 2, path, sizeof path), 0);
    assert_int_equal(hob_cl_cache_path(folder, other, 2, second, sizeof second), 0);
    assert_string_not_equal(path, second);
    assert_int_equal(hob_cl_cache_path(folder, one, 2, path, 40), HOB_EINVAL);
    assert_int_equal(hob_cl_cache_read(path, &data, &bytes), HOB_ENOENT);
    hob_cl_cache_write(path, "some bytes of a program", 23);
    assert_int_equal(hob_cl_cache_read(path, &data, &bytes), 0);
    assert_int_equal(bytes, 23);
    assert_memory_equal(data, "some bytes of a program", 23);
    free(data);
    damage_one(path);
    assert_int_equal(hob_cl_cache_read(path, &data, &bytes), HOB_ENOENT);
    assert_int_equal(truncate(path, 20), 0);
    assert_int_equal(hob_cl_cache_read(path, &data, &bytes), HOB_ENOENT);
    assert_int_equal(visit(NULL), 1); /* no temporary file is left */
    unlink(path);
    hob_cl_cache_write("/nowhere/at/all", "x", 1); /* says nothing, does nothing */
}

static void open_and_test(const hob_choice *c)
{
    hob_device *dev = NULL;
    hob_diag diag = {""};
    if (hob_hal_open_chosen(c, &(hob_device_options){.cache = folder}, &dev, &diag) < 0 ||
        hob_golden_operations(dev, &diag) < 0 || hob_golden_type(dev, HOB_TYPE_Q4_K, &diag) < 0)
        fail_msg("%s", diag.text);
    hob_device_close(dev);
}

static void skip_without_device(void)
{
    if (!device.usable || (getenv("HOB_SANITIZED") && *getenv("HOB_SANITIZED")))
        skip();
}

static void test_programs_are_kept(void **state)
{
    (void)state;
    skip_without_device();
    open_and_test(&device);
    const int made = visit(NULL);
    assert_true(made >= 6);
    open_and_test(&device);
    assert_int_equal(visit(NULL), made);
    visit(damage_one);
    open_and_test(&device);
    assert_int_equal(visit(expect_whole), made); /* they were made anew */
}

/* Measured once, then read back: on the processor only when a test asks for it. */
/* The driver that was tried may be gone from the list afterwards: the next one in its place is not taken for it. */
static void test_another_device_is_refused(void **state)
{
    hob_choice other = device;
    hob_device *dev = NULL;
    hob_diag diag = {""};
    (void)state;
    skip_without_device();
    snprintf(other.info.description, sizeof other.info.description, "another device");
    assert_int_equal(HOB_EDEVICE, hob_hal_open_chosen(&other, NULL, &dev, &diag));
    assert_null(dev);
    assert_non_null(strstr(diag.text, "expected another device"));
}

static void test_tuning_is_kept(void **state)
{
    hob_diag diag;
    hob_device *dev = NULL;
    char first[sizeof dev->info.isa] = "";
    (void)state;
    skip_without_device();
    visit(remove_one);
    setenv("HOB_CL_TUNING", "measure", 1);
    for (int i = 0; i < 2; i++) {
        const int before = visit(NULL);
        assert_int_equal(
            hob_hal_open_chosen(&device, &(hob_device_options){.cache = folder}, &dev, &diag), 0);
        if (i == 0) {
            assert_true(visit(NULL) > before);
            strcpy(first, dev->info.isa);
        } else {
            assert_int_equal(visit(NULL), before);
            assert_string_equal(dev->info.isa, first);
        }
        assert_int_equal(hob_golden_type(dev, HOB_TYPE_Q6_K, &diag), 0);
        hob_device_close(dev);
    }
    unsetenv("HOB_CL_TUNING");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), /* before any driver is loaded into this process */
        cmocka_unit_test(test_cache_files),
        cmocka_unit_test(test_programs_are_kept),
        cmocka_unit_test(test_another_device_is_refused),
        cmocka_unit_test(test_tuning_is_kept),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
