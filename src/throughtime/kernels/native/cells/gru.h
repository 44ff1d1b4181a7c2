// GRU, as torch has it: state h; gates r, z, n from x' + h W^T + b, where r multiplies the recurrent part of n.
// Weights: W (3 H, H), b (3 H). Saved: r, z, n, and the recurrent part of n.
#pragma once
#include "../loop.h"

namespace {

template <class T> struct Gru {
    static constexpr int states = 1, blocks = 3, recurrent_blocks = 3, saved = 4;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) { setup.one_matrix(3 * setup.problem.units); }

    static void forward(Forward<T> &step) {
        long H = step.units;
        const T *bias = step.weight(1);
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row], *h_before = step.before[0][row];
            T *kept = step.saved[row], *h_after = step.after[0][row], *y = step.outputs[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> r = sigmoid<T>(at.from(sum) + at.from(x) + at.from(bias));
                Vector<T> z = sigmoid<T>(at.from(sum + H) + at.from(x + H) + at.from(bias + H));
                Vector<T> recurrent = at.from(sum + 2 * H) + at.from(bias + 2 * H);
                Vector<T> n = hyperbolic_tangent<T>(at.from(x + 2 * H) + r * recurrent);
                Vector<T> h = n + z * (at.from(h_before) - n);
                at.to(kept, r);
                at.to(kept + H, z);
                at.to(kept + 2 * H, n);
                at.to(kept + 3 * H, recurrent);
                at.to(h_after, h);
                at.to(y, h);
            });
        }
    }

    static void backward(Backward<T> &step) {
        long H = step.units;
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_y = step.d_outputs[row], *h_before = step.before[0][row];
            T *d_h = step.d_state[0][row], *d_x = step.d_projected[row], *d_sum = step.d_recurrent[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> r = at.from(kept), z = at.from(kept + H), n = at.from(kept + 2 * H);
                Vector<T> by_h = at.from(d_h) + at.from(d_y);
                Vector<T> by_n = by_h * (1 - z) * (1 - n * n);
                Vector<T> by_z = by_h * (at.from(h_before) - n) * z * (1 - z);
                Vector<T> by_r = by_n * at.from(kept + 3 * H) * r * (1 - r);
                at.to(d_x, by_r);
                at.to(d_x + H, by_z);
                at.to(d_x + 2 * H, by_n);
                at.to(d_sum, by_r);
                at.to(d_sum + H, by_z);
                at.to(d_sum + 2 * H, by_n * r);
                at.to(d_h, by_h * z);
            });
        }
        multiply<T, true>(step.rows, step.d_recurrent, step.packed[0], step.d_state[0]);
    }
};

} // namespace
