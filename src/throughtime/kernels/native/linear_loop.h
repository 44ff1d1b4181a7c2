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

// What a thread takes through all the steps: of some rows all units, which lie in one piece and so stream from memory; or,
// where a is constant or rows are few, of all rows some units (whole vectors), so that d_a is one thread's own sum.
struct Share {
    long first_row, last_row, begin, end;
};

template <class T, bool Complex, bool Constant> struct LinearTask {
    typedef Number<T, Complex> N;
    const Linear &problem;
    bool backward, failed;
    long parts;

    long units() const { return Complex ? problem.width / 2 : problem.width; }
    static void run(void *self, long part) {
        LinearTask *task = (LinearTask *)self;
        Share share = task->share(part);
        if (share.begin >= share.end) return;
        if (task->backward) task->go_back(share);
        else task->go(share);
    }
    Share share(long part) const {
        long batch = problem.batch;
        if (!Constant && batch >= parts) return {batch * part / parts, batch * (part + 1) / parts, 0, units()};
        constexpr long width = THROUGHTIME_BYTES / (long)sizeof(T);
        long vectors = (units() + width - 1) / width;
        long begin = vectors * part / parts * width, end = vectors * (part + 1) / parts * width;
        return {0, batch, begin, end > units() ? units() : end};
    }

    // Element 0 of the part in row `row` of step `t`.
    T *place(const void *array, long t, long row, long begin) const {
        return (T *)array + (t * problem.batch + row) * problem.width + begin;
    }
    const T *coefficients(long t, long row, long begin) const {
        return Constant ? (const T *)problem.a + begin : place(problem.a, t, row, begin);
    }

    void go(Share share) {
        long half = units(), begin = share.begin;
        for (long t = 0; t < problem.steps; ++t)
            for (long row = share.first_row; row < share.last_row; ++row) {
                const T *before = t ? place(problem.states, t - 1, row, begin) : place(problem.start, 0, row, begin);
                const T *a = coefficients(t, row, begin), *b = place(problem.b, t, row, begin);
                T *after = place(problem.states, t, row, begin);
                each_unit<T>(share.end - begin, [&](Lanes<T> at) {
                    N h = N::times(N::from(at, a, half), N::from(at, before, half));
                    N::to(at, after, half, N::plus(h, N::from(at, b, half)));
                });
            }
    }

    void go_back(Share share) {
        // sums[row]: conj(a_{t+1}) s_{t+1}, real parts and imaginary parts `room` apart.
        long half = units(), begin = share.begin, room = share.end - begin, parts_of = Complex ? 2 : 1;
        long first = share.first_row, rows = share.last_row - first;
        size_t numbers = (size_t)(rows + (Constant ? 1 : 0)) * room * parts_of;
        T *sums = (T *)calloc(numbers ? numbers : 1, sizeof(T));
        if (!sums) {
            failed = true;
            return;
        }
        T *by_a = sums + rows * room * parts_of;
        for (long t = problem.steps - 1; t >= 0; --t)
            for (long row = first; row < share.last_row; ++row) {
                const T *before = t ? place(problem.states, t - 1, row, begin) : place(problem.start, 0, row, begin);
                const T *a = coefficients(t, row, begin), *g = place(problem.d_states, t, row, begin);
                T *sum = sums + (row - first) * room * parts_of, *d_b = place(problem.d_b, t, row, begin);
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
            for (long row = 0; row < rows; ++row)
                memcpy(place(problem.d_start, 0, first + row, begin) + part * half, sums + (row * parts_of + part) * room,
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
