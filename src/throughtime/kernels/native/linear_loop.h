// See linear.h.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "linear.h"
#include "pool.h"
#include "vector.h"

namespace {

// One or two numbers a lane.
template <class T, bool Complex> struct Number;
template <class T> struct Number<T, false> {
    Vector<T> re;
    INLINE Number from(const Lanes<T> &at, const T *row, long) { return {at.from(row)}; }
    INLINE void to(const Lanes<T> &at, T *row, long, Number x) { at.to(row, x.re); }
    INLINE Number times(Number x, Number y) { return {x.re * y.re}; }
    INLINE Number times_conjugate(Number x, Number y) { return {x.re * y.re}; }
    INLINE Number plus(Number x, Number y) { return {x.re + y.re}; }
};
template <class T> struct Number<T, true> {
    Vector<T> re, im;
    INLINE Number from(const Lanes<T> &at, const T *row, long units) { return {at.from(row), at.from(row + units)}; }
    INLINE void to(const Lanes<T> &at, T *row, long units, Number x) {
        at.to(row, x.re);
        at.to(row + units, x.im);
    }
    INLINE Number times(Number x, Number y) { return {x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re}; }
    INLINE Number times_conjugate(Number x, Number y) {
        return {x.re * y.re + x.im * y.im, x.im * y.re - x.re * y.im};
    }
    INLINE Number plus(Number x, Number y) { return {x.re + y.re, x.im + y.im}; }
};

// A thread takes some of the units (whole vectors) of all rows, so that d_a of a constant a is one thread's own sum.
template <class T, bool Complex, bool Constant> struct LinearTask {
    typedef Number<T, Complex> N;
    const Linear &problem;
    bool backward, failed;
    long parts;

    long units() const { return Complex ? problem.width / 2 : problem.width; }
    static void run(void *self, long part) {
        LinearTask *task = (LinearTask *)self;
        constexpr long width = THROUGHTIME_BYTES / (long)sizeof(T);
        long vectors = (task->units() + width - 1) / width;
        long begin = vectors * part / task->parts * width, end = vectors * (part + 1) / task->parts * width;
        if (end > task->units()) end = task->units();
        if (begin >= end) return;
        if (task->backward) task->go_back(begin, end);
        else task->go(begin, end);
    }

    // Element 0 of the part in row `row` of step `t`.
    T *place(const void *array, long t, long row, long begin) const {
        return (T *)array + (t * problem.batch + row) * problem.width + begin;
    }
    const T *coefficients(long t, long row, long begin) const {
        return Constant ? (const T *)problem.a + begin : place(problem.a, t, row, begin);
    }

    void go(long begin, long end) {
        long half = units();
        for (long t = 0; t < problem.steps; ++t)
            for (long row = 0; row < problem.batch; ++row) {
                const T *before = t ? place(problem.states, t - 1, row, begin) : place(problem.start, 0, row, begin);
                const T *a = coefficients(t, row, begin), *b = place(problem.b, t, row, begin);
                T *after = place(problem.states, t, row, begin);
                each_unit<T>(end - begin, [&](Lanes<T> at) {
                    N h = N::times(N::from(at, a, half), N::from(at, before, half));
                    N::to(at, after, half, N::plus(h, N::from(at, b, half)));
                });
            }
    }

    void go_back(long begin, long end) {
        // sums[row]: conj(a_{t+1}) s_{t+1}, real parts and imaginary parts `room` apart.
        long half = units(), room = end - begin, parts_of = Complex ? 2 : 1;
        size_t numbers = (size_t)(problem.batch + (Constant ? 1 : 0)) * room * parts_of;
        T *sums = (T *)calloc(numbers ? numbers : 1, sizeof(T));
        if (!sums) {
            failed = true;
            return;
        }
        T *by_a = sums + problem.batch * room * parts_of;
        for (long t = problem.steps - 1; t >= 0; --t)
            for (long row = 0; row < problem.batch; ++row) {
                const T *before = t ? place(problem.states, t - 1, row, begin) : place(problem.start, 0, row, begin);
                const T *a = coefficients(t, row, begin), *g = place(problem.d_states, t, row, begin);
                T *sum = sums + row * room * parts_of, *d_b = place(problem.d_b, t, row, begin);
                T *d_a = Constant ? by_a : place(problem.d_a, t, row, begin);
                each_unit<T>(room, [&](Lanes<T> at) {
                    N s = N::plus(N::from(at, g, half), N::from(at, sum, room));
                    N by_one = N::times_conjugate(s, N::from(at, before, half));
                    N::to(at, d_b, half, s);
                    if (Constant) N::to(at, d_a, room, N::plus(N::from(at, d_a, room), by_one));
                    else N::to(at, d_a, half, by_one);
                    N::to(at, sum, room, N::times_conjugate(s, N::from(at, a, half)));
                });
            }
        for (long part = 0; part < parts_of; ++part) {
            for (long row = 0; row < problem.batch; ++row)
                memcpy(place(problem.d_start, 0, row, begin) + part * half, sums + (row * parts_of + part) * room,
                       (size_t)room * sizeof(T));
            if (Constant)
                memcpy((T *)problem.d_a + begin + part * half, by_a + part * room, (size_t)room * sizeof(T));
        }
        free(sums);
    }
};

template <class T, bool Complex, bool Constant> int run_linear_of(const Linear &problem, bool backward) {
    LinearTask<T, Complex, Constant> task{problem, backward, false, problem.threads < 1 ? 1 : problem.threads};
    run_parallel(&LinearTask<T, Complex, Constant>::run, &task, task.parts);
    return task.failed ? -1 : 0;
}

template <class T> int run_linear_in(const Linear &problem, bool backward) {
    if (problem.complex_numbers)
        return problem.constant_a ? run_linear_of<T, true, true>(problem, backward)
                                  : run_linear_of<T, true, false>(problem, backward);
    return problem.constant_a ? run_linear_of<T, false, true>(problem, backward)
                              : run_linear_of<T, false, false>(problem, backward);
}

int run_linear(const Linear &problem, bool backward) {
    return problem.double_precision ? run_linear_in<double>(problem, backward) : run_linear_in<float>(problem, backward);
}

} // namespace
