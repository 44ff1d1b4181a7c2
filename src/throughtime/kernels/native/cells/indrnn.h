// IndRNN: h = f(x' + u h) unit by unit, f tanh or relu. Weights: u (H). Saved: nothing, since f' follows from h.
#pragma once
#include "../loop.h"

namespace {

template <class T, bool Relu> struct IndRnn {
    static constexpr int states = 1, blocks = 1, recurrent_blocks = 0, saved = 0;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) { setup.scratch = 0; }

    static void forward(Forward<T> &step) {
        const T *u = step.weight(0);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *x = step.projected[row], *h_before = step.before[0][row];
            T *h_after = step.after[0][row], *y = step.outputs[row];
            each_unit<T>(step.units, [&](Lanes<T> at) {
                Vector<T> h = at.from(x) + at.from(u) * at.from(h_before);
                h = Relu ? relu<T>(h) : hyperbolic_tangent<T>(h);
                at.to(h_after, h);
                at.to(y, h);
            });
        }
    }

    static void backward(Backward<T> &step) {
        const T *u = step.weight(0);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *h = step.outputs[row], *d_y = step.d_outputs[row];
            T *d_h = step.d_state[0][row], *d_x = step.d_projected[row];
            each_unit<T>(step.units, [&](Lanes<T> at) {
                Vector<T> by_h = at.from(d_h) + at.from(d_y), after = at.from(h), zero = {};
                Vector<T> by_sum = Relu ? (after > zero ? by_h : zero) : by_h * (1 - after * after);
                at.to(d_x, by_sum);
                at.to(d_h, by_sum * at.from(u));
            });
        }
    }
};

template <class T> using IndRnnTanh = IndRnn<T, false>;
template <class T> using IndRnnRelu = IndRnn<T, true>;

} // namespace
