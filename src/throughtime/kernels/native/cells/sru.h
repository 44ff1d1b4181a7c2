// SRU: state c; c = f c + (1 - f) u, output r c + (1 - r) s, gates f, r = sigmoid(x' + v c before the step). What is
// projected: u, f, r, s. Weights: v_f (H), v_r (H). Saved: f, r, c.
#pragma once
#include "../loop.h"

namespace {

template <class T> struct Sru {
    static constexpr int states = 1, blocks = 4, recurrent_blocks = 0, saved = 3;
    static constexpr bool output_is_state = false, backward_reads_projected = true;

    static void setup(Setup<T> &setup) { setup.scratch = 0; }

    static void forward(Forward<T> &step) {
        long H = step.units;
        const T *v_f = step.weight(0), *v_r = step.weight(1);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *x = step.projected[row], *c_before = step.before[0][row];
            T *kept = step.saved[row], *c_after = step.after[0][row], *y = step.outputs[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> before = at.from(c_before), u = at.from(x), s = at.from(x + 3 * H);
                Vector<T> f = sigmoid<T>(at.from(x + H) + at.from(v_f) * before);
                Vector<T> r = sigmoid<T>(at.from(x + 2 * H) + at.from(v_r) * before);
                Vector<T> c = u + f * (before - u);
                at.to(kept, f);
                at.to(kept + H, r);
                at.to(kept + 2 * H, c);
                at.to(c_after, c);
                at.to(y, s + r * (c - s));
            });
        }
    }

    static void backward(Backward<T> &step) {
        long H = step.units;
        const T *v_f = step.weight(0), *v_r = step.weight(1);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_y = step.d_outputs[row], *x = step.projected[row];
            const T *c_before = step.before[0][row];
            T *d_c = step.d_state[0][row], *d_x = step.d_projected[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> f = at.from(kept), r = at.from(kept + H), by_y = at.from(d_y);
                Vector<T> by_r = by_y * (at.from(kept + 2 * H) - at.from(x + 3 * H)) * r * (1 - r);
                Vector<T> by_c = at.from(d_c) + by_y * r;
                Vector<T> by_f = by_c * (at.from(c_before) - at.from(x)) * f * (1 - f);
                at.to(d_x, by_c * (1 - f));
                at.to(d_x + H, by_f);
                at.to(d_x + 2 * H, by_r);
                at.to(d_x + 3 * H, by_y * (1 - r));
                at.to(d_c, by_c * f + by_f * at.from(v_f) + by_r * at.from(v_r));
            });
        }
    }
};

} // namespace
