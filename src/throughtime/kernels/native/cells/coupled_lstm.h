// LSTM whose input gate is one minus its forget gate: state (h, c); f, g, o from x' + h W^T. Weights: W (3 H, H).
// Saved: f, g, o, tanh(c).
#pragma once
#include "../loop.h"

namespace {

template <class T> struct CoupledLstm {
    static constexpr int states = 2, blocks = 3, recurrent_blocks = 0, saved = 4;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) { setup.one_matrix(3 * setup.problem.units); }

    static void forward(Forward<T> &step) {
        long H = step.units;
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row], *c_before = step.before[1][row];
            T *kept = step.saved[row], *h_after = step.after[0][row], *c_after = step.after[1][row], *y = step.outputs[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> f = sigmoid<T>(at.from(sum) + at.from(x));
                Vector<T> g = hyperbolic_tangent<T>(at.from(sum + H) + at.from(x + H));
                Vector<T> o = sigmoid<T>(at.from(sum + 2 * H) + at.from(x + 2 * H));
                Vector<T> c = g + f * (at.from(c_before) - g);
                Vector<T> squashed = hyperbolic_tangent<T>(c), h = o * squashed;
                at.to(kept, f);
                at.to(kept + H, g);
                at.to(kept + 2 * H, o);
                at.to(kept + 3 * H, squashed);
                at.to(c_after, c);
                at.to(h_after, h);
                at.to(y, h);
            });
        }
    }

    static void backward(Backward<T> &step) {
        long H = step.units;
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_y = step.d_outputs[row], *c_before = step.before[1][row];
            T *d_h = step.d_state[0][row], *d_c = step.d_state[1][row], *d_x = step.d_projected[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> f = at.from(kept), g = at.from(kept + H), o = at.from(kept + 2 * H);
                Vector<T> squashed = at.from(kept + 3 * H), by_h = at.from(d_h) + at.from(d_y);
                Vector<T> by_c = at.from(d_c) + by_h * o * (1 - squashed * squashed);
                at.to(d_x, by_c * (at.from(c_before) - g) * f * (1 - f));
                at.to(d_x + H, by_c * (1 - f) * (1 - g * g));
                at.to(d_x + 2 * H, by_h * squashed * o * (1 - o));
                at.to(d_c, by_c * f);
                at.to(d_h, Vector<T>{});
            });
        }
        multiply<T, true>(step.rows, step.d_projected, step.packed[0], step.d_state[0]);
    }
};

} // namespace
