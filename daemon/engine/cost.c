/* SPDX-License-Identifier: Apache-2.0
 *
 * The cost model of a step. See cost.h. */
#include "daemon/engine/cost.h"

#include <math.h>

enum { LAST = HOB_COST_POINTS - 1 };

static const double far_rate = 0.5, rate = 0.1, /* of an error that a step corrects */
    most_wrong =
        1.0, /* an error beyond the prediction itself says more of the machine than of the model */
    forget = 0.02;

/* Position among the points: between *ret_low and the next, at the fraction returned. */
static double locate(uint32_t rows, int *ret_low)
{
    int low = 0;
    while (low < LAST - 1 && rows >= 2u << low)
        low++;
    *ret_low = low;
    return (double)rows / (double)(1u << low) - 1; /* beyond 1 behind the last point */
}

static double line(const hob_cost *c, uint32_t rows)
{
    int low;
    const double at = locate(rows, &low);
    return c->step_us[low] * (1 - at) + c->step_us[low + 1] * at;
}

void hob_cost_begin(hob_cost *c, const uint32_t *rows, const double *us, uint32_t count,
                    double attend_us)
{
    for (int i = 0; i <= LAST; i++) {
        const double x = (double)(1u << i);
        uint32_t k = 0;
        while (k + 2 < count && x > rows[k + 1])
            k++;
        const double slope = (us[k + 1] - us[k]) / (double)(rows[k + 1] - rows[k]),
                     y = us[k] + slope * (x - rows[k]);
        c->step_us[i] = i > 0 && y < c->step_us[i - 1] ? c->step_us[i - 1] : y > 0 ? y : 0;
    }
    c->attend_us = attend_us > 0 ? attend_us : 0;
    c->error = 0;
}

double hob_cost_predict(const hob_cost *c, uint32_t rows, uint64_t attended)
{
    return line(c, rows) + c->attend_us * ((double)attended / HOB_COST_ATTENDED);
}

void hob_cost_learn(hob_cost *c, uint32_t rows, uint64_t attended, double us)
{
    int low;
    const double at = locate(rows, &low), x[3] = {1 - at, at, (double)attended / HOB_COST_ATTENDED};
    const double predicted = hob_cost_predict(c, rows, attended);
    double wrong = us - predicted;

    c->error += forget * (fmin(fabs(wrong) / us, 1) - c->error);
    if (wrong > most_wrong * predicted)
        wrong = most_wrong * predicted;
    /* A step is seldom faster by chance: less than half of what was expected says that the model is wrong. */
    const double share = wrong < -predicted / 2 ? far_rate : rate,
                 step = share * wrong / (x[0] * x[0] + x[1] * x[1] + x[2] * x[2]);
    c->step_us[low] += step * x[0];
    c->step_us[low + 1] += step * x[1];
    c->attend_us += step * x[2];
    if (c->attend_us < 0)
        c->attend_us = 0;
    if (c->step_us[low] < 0)
        c->step_us[low] = 0;
    if (c->step_us[low + 1] < c->step_us[low])
        c->step_us[low + 1] = c->step_us[low];
    for (int i = low - 1; i >= 0; i--) /* more rows never take less */
        if (c->step_us[i] > c->step_us[i + 1])
            c->step_us[i] = c->step_us[i + 1];
    for (int i = low + 2; i <= LAST; i++)
        if (c->step_us[i] < c->step_us[i - 1])
            c->step_us[i] = c->step_us[i - 1];
}

uint32_t hob_cost_fit(const hob_cost *c, uint32_t rows, uint64_t attended, uint32_t first,
                      uint32_t least, uint32_t most, double us)
{
    uint32_t low = least < most ? least : most, high = most;
    while (low < high) { /* the prediction grows with the rows */
        const uint32_t middle = low + (high - low + 1) / 2;
        if (hob_cost_predict(c, rows + middle, attended + hob_cost_attended(first, middle)) <= us)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}
