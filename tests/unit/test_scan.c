/* SPDX-License-Identifier: Apache-2.0
 *
 * What surrounds the scan kernels, which tests/kernels checks: vectors become bytes to the nearest, panels give back what was
 * put in, scores and dot products are those of plain sums. */
#include "hal/half.h"
#include "hal/scan.h"
#include "tests/support/vector_index.h"

static void test_bytes(void **state)
{
    (void)state;
    static const uint32_t dims[] = {32, 384, 4096};
    hob_diag diag = {""};

    for (int i = 0; i < 3; i++) {
        const uint32_t dim = dims[i];
        hob_scan *s;
        int8_t q[HOB_SCAN_DIM_MAX];
        float d;
        assert_int_equal(hob_scan_new(dim, &s, &diag), 0);
        for (uint64_t seed = 0; seed < 50; seed++) {
            float *v = make_vectors(seed, 1, dim, 0);
            uint32_t extremes = 0;
            assert_int_equal(hob_scan_quantize(s, v, q, &d, &diag), 0);
            for (uint32_t k = 0; k < dim; k++) {
                assert_true(q[k] >= -127);
                assert_true(fabsf(v[k] - d * q[k]) <= d * 0.5001f);
                extremes += q[k] == 127 || q[k] == -127;
            }
            assert_true(extremes >= 1);
            free(v);
        }
        /* ties go to even, also of negative numbers; two more make the length 1 */
        float steps[HOB_SCAN_DIM_MAX] = {127, 0.5f, 1.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f};
        static const int8_t wanted[] = {127, 0, 2, 0, -2, -2, 126, -126};
        for (uint32_t k = 0; k < 8; k++)
            steps[k] /= 256;
        steps[8] = steps[9] = sqrtf((1 - (2 * 126.5f * 126.5f + 127 * 127 + 11) / 65536) / 2);
        assert_true(steps[8] <= steps[0]);
        assert_int_equal(hob_scan_quantize(s, steps, q, &d, &diag), 0);
        assert_memory_equal(q, wanted, sizeof wanted);
        hob_scan_free(s);
    }
}

static void test_panels_and_sums(void **state)
{
    (void)state;
    enum { DIM = 416, PANELS = 3, ROWS = PANELS * HOB_SCAN_ROWS };
    hob_scan *s;
    hob_diag diag = {""};
    float *v = make_vectors(77, ROWS, DIM, 0), d[ROWS], y[HOB_SCAN_QUERIES * ROWS];
    static int8_t q[ROWS * DIM], panels[ROWS * DIM], back[DIM];
    uint16_t half[DIM];
    uint32_t ids[ROWS + 16];

    assert_int_equal(hob_scan_new(DIM, &s, &diag), 0);
    for (uint32_t r = 0; r < ROWS; r++) {
        assert_int_equal(hob_scan_quantize(s, v + r * DIM, q + r * DIM, &d[r], &diag), 0);
        hob_scan_put(s, q + r * DIM, r % HOB_SCAN_ROWS,
                     panels + r / HOB_SCAN_ROWS * HOB_SCAN_ROWS * DIM);
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        hob_scan_get(s, panels + r / HOB_SCAN_ROWS * HOB_SCAN_ROWS * DIM, r % HOB_SCAN_ROWS, back);
        assert_memory_equal(back, q + r * DIM, DIM);
    }
    hob_scan_scores(s, panels, d, PANELS, q + 5 * DIM, HOB_SCAN_QUERIES, y, ROWS);
    for (uint32_t i = 0; i < HOB_SCAN_QUERIES; i++)
        for (uint32_t r = 0; r < ROWS; r++) {
            int32_t sum = 0;
            for (uint32_t k = 0; k < DIM; k++)
                sum += q[(5 + i) * DIM + k] * q[r * DIM + k];
            assert_true(y[i * ROWS + r] == d[r] * (float)sum);
        }
    assert_int_equal(hob_scan_at_least(s, y, ROWS, y[5], ids), 1); /* itself */
    assert_int_equal(ids[0], 5);
    for (uint32_t r = 0; r < ROWS; r++) {
        double sum = 0;
        hob_scan_to_half(s, v + r * DIM, half);
        for (uint32_t k = 0; k < DIM; k++)
            sum += (double)v[3 * DIM + k] * hob_half_to_float(half[k]);
        assert_true(fabs(hob_scan_dot(s, v + 3 * DIM, half) - sum) < 1e-14);
    }
    hob_scan_free(s);
    hob_scan_free(NULL);
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_panels_and_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
