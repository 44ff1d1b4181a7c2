// Antisymmetric RNN: h + eps tanh(x' + h W^T), and gated h + eps sigmoid(z) tanh(a), where a and z share their product:
// a = x'_1 + h W^T, z = x'_2 + h W^T. Constant 0: eps. Weights: W (H, H), antisymmetric but for its diagonal.
// Saved: tanh, and gated the gate. d_recurrent when gated: by h W^T.
#pragma once
#include "../loop.h"

namespace {

template <class T, bool Gated> struct AntisymmetricRnn {
    static constexpr int states = 1, blocks = Gated ? 2 : 1, recurrent_blocks = Gated ? 1 : 0, saved = blocks;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) { setup.one_matrix(setup.problem.units); }

    static void forward(Forward<T> &step) {
        long H = step.units;
        T eps = step.constant(0);
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row], *h_before = step.before[0][row];
            T *kept = step.saved[row], *h_after = step.after[0][row], *y = step.outputs[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> change = hyperbolic_tangent<T>(at.from(sum) + at.from(x));
                at.to(kept, change);
                if (Gated) {
                    Vector<T> gate = sigmoid<T>(at.from(sum) + at.from(x + H));
                    at.to(kept + H, gate);
                    change *= gate;
                }
                Vector<T> h = at.from(h_before) + eps * change;
                at.to(h_after, h);
                at.to(y, h);
            });
        }
    }

    static void backward(Backward<T> &step) {
        long H = step.units;
        T eps = step.constant(0);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_y = step.d_outputs[row];
            T *d_h = step.d_state[0][row], *d_x = step.d_projected[row], *d_sum = step.d_recurrent[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> squashed = at.from(kept), by_h = at.from(d_h) + at.from(d_y);
                Vector<T> by_squashed = eps * by_h;
                if (Gated) {
                    Vector<T> gate = at.from(kept + H), by_gate = by_squashed * squashed * gate * (1 - gate);
                    by_squashed = by_squashed * gate * (1 - squashed * squashed);
                    at.to(d_x + H, by_gate);
                    at.to(d_sum, by_squashed + by_gate);
                } else {
                    by_squashed = by_squashed * (1 - squashed * squashed);
                }
                at.to(d_x, by_squashed);
                at.to(d_h, by_h);
            });
        }
        multiply<T, true>(step.rows, step.d_recurrent, step.packed[0], step.d_state[0]);
    }
};

template <class T> using Antisymmetric = AntisymmetricRnn<T, false>;
template <class T> using AntisymmetricGated = AntisymmetricRnn<T, true>;

} // namespace
