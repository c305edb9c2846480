/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a step will take, learnt from the steps before. Time is a function of the rows, known at a few points and
 * straight between them, since a step of few rows reads weights and one of many rows multiplies; plus a constant for each
 * position that a row attends to. Every step corrects it by the normalized least mean squares method (Widrow and Hoff 1960),
 * so that it follows the machine. Thread: step. */
#ifndef HOB_DAEMON_ENGINE_COST_H
#define HOB_DAEMON_ENGINE_COST_H

#include "hal/base.h"

enum { HOB_COST_POINTS = 11 }; /* 1, 2, 4, … 1024 rows */

typedef struct hob_cost {
    double step_us[HOB_COST_POINTS]; /* of 2^i rows, without attention; ascending */
    double attend_us;                /* of HOB_COST_ATTENDED positions */
    double error;                    /* smoothed |taken - predicted| / taken, at most 1 a step */
} hob_cost;

enum { HOB_COST_ATTENDED = 65536 };

/* rows taken, ascending, at least two, and how long a step of so many took; other points follow from their line. */
void hob_cost_begin(hob_cost *c, const uint32_t *rows, const double *us, uint32_t count,
                    double attend_us);
/* attended: the sum over the rows of the positions that each sees. */
double hob_cost_predict(const hob_cost *c, uint32_t rows, uint64_t attended);
void hob_cost_learn(hob_cost *c, uint32_t rows, uint64_t attended, double us);
/* How many rows, from position first on, may join a step of `rows` and `attended` so that it is predicted to take at most us:
 * at least `least`, at most `most`. */
uint32_t hob_cost_fit(const hob_cost *c, uint32_t rows, uint64_t attended, uint32_t first,
                      uint32_t least, uint32_t most, double us);

/* Of `rows` rows from position first on. */
static inline uint64_t hob_cost_attended(uint32_t first, uint32_t rows)
{
    return (uint64_t)rows * first + (uint64_t)rows * (rows + 1) / 2;
}

#endif
