// The plain cell: h = f(x' + h W^T), f tanh or relu. Weights: W (H, H). Saved: nothing, since f' follows from h.
#pragma once
#include "../loop.h"

namespace {

template <class T, bool Relu> struct Elman {
    static constexpr int states = 1, blocks = 1, recurrent_blocks = 0, saved = 0;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) { setup.one_matrix(setup.problem.units); }

    static void forward(Forward<T> &step) {
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row];
            T *h_after = step.after[0][row], *y = step.outputs[row];
            each_unit<T>(step.units, [&](Lanes<T> at) {
                Vector<T> h = at.from(sum) + at.from(x);
                h = Relu ? relu<T>(h) : hyperbolic_tangent<T>(h);
                at.to(h_after, h);
                at.to(y, h);
            });
        }
    }

    static void backward(Backward<T> &step) {
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *h = step.outputs[row], *d_y = step.d_outputs[row];
            T *d_h = step.d_state[0][row], *d_x = step.d_projected[row];
            each_unit<T>(step.units, [&](Lanes<T> at) {
                Vector<T> by_h = at.from(d_h) + at.from(d_y), after = at.from(h), zero = {};
                at.to(d_x, Relu ? (after > zero ? by_h : zero) : by_h * (1 - after * after));
                at.to(d_h, zero);
            });
        }
        multiply<T, true>(step.rows, step.d_projected, step.packed[0], step.d_state[0]);
    }
};

template <class T> using ElmanTanh = Elman<T, false>;
template <class T> using ElmanRelu = Elman<T, true>;

} // namespace
