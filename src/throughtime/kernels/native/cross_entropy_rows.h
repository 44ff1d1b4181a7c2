// The rows of cross_entropy.h, one at a time: it fits the first cache.
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bfloat16.h"
#include "cross_entropy.h"
#include "pool.h"

namespace {

struct CrossEntropyTask {
    const CrossEntropy &problem;
    long parts;
    float *scratch; // two rows for each part, `room` apart: of numbers, and of sums over the rows of the gradient
    long room;

    static void run(void *self, long part, long) {
        CrossEntropyTask *task = (CrossEntropyTask *)self;
        long rows = task->problem.rows, end = rows * (part + 1) / task->parts;
        for (long row = rows * part / task->parts; row < end; ++row) {
            float *numbers = task->scratch + 2 * part * task->room;
            task->one(row, numbers, numbers + task->room);
        }
    }

    // numbers: logits plus offset, then their exponentials; what lies beyond the columns counts as exp(-infinity).
    void one(long row, float *numbers, float *sums_of_rows) const {
        long columns = problem.columns, whole = columns / lanes * lanes;
        uint16_t *logits = problem.logits + row * columns;
        Vector<float> top = all(-INFINITY);
        for (long n = 0; n < whole; n += lanes) {
            Vector<float> number = widened(logits + n) + load(problem.offset + n);
            store(numbers + n, number);
            top = number > top ? number : top;
        }
        float most = -INFINITY;
        for (long lane = 0; lane < lanes; ++lane) most = top[lane] > most ? top[lane] : most;
        for (long n = whole; n < columns; ++n) {
            uint32_t bits = (uint32_t)logits[n] << 16;
            memcpy(numbers + n, &bits, sizeof bits);
            numbers[n] += problem.offset[n];
            most = numbers[n] > most ? numbers[n] : most;
        }
        for (long n = columns; n < room; ++n) numbers[n] = -INFINITY;

        long target = problem.targets[row];
        float wanted = numbers[target] - most;
        Vector<float> sums = {};
        for (long n = 0; n < columns; n += lanes) {
            Vector<float> power = exponential<float>(load(numbers + n) - most);
            store(numbers + n, power);
            sums += n < whole ? power : load_some((const float *)&power, columns - n);
        }
        float sum = total<float>(sums), scale = 1.0f / ((float)problem.rows * sum);
        problem.losses[row] = logf(sum) - wanted;
        numbers[target] -= sum; // p - 1 at the target
        for (long n = 0; n < columns; n += lanes) {
            Vector<float> gradient = load(numbers + n) * scale;
            store(numbers + n, gradient);
            store(sums_of_rows + n, load(sums_of_rows + n) + gradient);
        }
        for (long n = 0; n < whole; n += lanes) store_rounded(logits + n, load(numbers + n));
        if (whole < columns) {
            uint16_t last[lanes];
            store_rounded(last, load(numbers + whole));
            memcpy(logits + whole, last, (size_t)(columns - whole) * sizeof *last);
        }
    }
};

// 0, or -1 when there is no memory.
int run_cross_entropy(const CrossEntropy &problem) {
    long parts = 8 * (problem.threads < 1 ? 1 : problem.threads), room = (problem.columns + lanes - 1) / lanes * lanes;
    if (parts > problem.rows) parts = problem.rows;
    float *scratch = (float *)calloc((size_t)(2 * parts * room) + 1, sizeof(float));
    if (!scratch) return -1;
    CrossEntropyTask task{problem, parts, scratch, room};
    run_chains(&CrossEntropyTask::run, &task, parts, 1, problem.threads);
    for (long n = 0; n < problem.columns; ++n) {
        problem.d_offset[n] = 0;
        for (long part = 0; part < parts; ++part) problem.d_offset[n] += scratch[(2 * part + 1) * room + n];
    }
    free(scratch);
    return 0;
}

} // namespace
