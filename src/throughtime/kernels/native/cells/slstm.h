// sLSTM: state (h, c, n, m); i~, f~, z, o from x' + h W^T. Constant 0: whether the forget gate is exp instead of sigmoid.
// Weights: W (4 H, H). Saved: kept, fresh (the weights of what was and of what is new), z, o, 1 / n, d log f / d f~.
#pragma once
#include "../loop.h"

namespace {

template <class T> struct Slstm {
    static constexpr int states = 4, blocks = 4, recurrent_blocks = 0, saved = 6;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) { setup.one_matrix(4 * setup.problem.units); }

    static void forward(Forward<T> &step) {
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            if (step.constant(0) != 0) forward_row<true>(step, row);
            else forward_row<false>(step, row);
        }
    }

    template <bool Exponential> static void forward_row(Forward<T> &step, long row) {
        long H = step.units;
        const T *sum = step.scratch[row], *x = step.projected[row];
        const T *c_before = step.before[1][row], *n_before = step.before[2][row], *m_before = step.before[3][row];
        T *saved = step.saved[row], *y = step.outputs[row], *h_after = step.after[0][row], *c_after = step.after[1][row];
        T *n_after = step.after[2][row], *m_after = step.after[3][row];
        each_unit<T>(H, [&](Lanes<T> at) {
            Vector<T> log_new = at.from(sum) + at.from(x), f = at.from(sum + H) + at.from(x + H), slope = all((T)1);
            Vector<T> log_kept = at.from(m_before) + (Exponential ? f : log_sigmoid<T>(f, slope));
            Vector<T> z = hyperbolic_tangent<T>(at.from(sum + 2 * H) + at.from(x + 2 * H));
            Vector<T> o = sigmoid<T>(at.from(sum + 3 * H) + at.from(x + 3 * H));
            // Of the two weights the larger is exp(0); one exponential gives the other.
            Vector<T> ahead = log_kept - log_new, one = all((T)1), zero = {};
            Vector<T> smaller = exponential<T>(ahead > zero ? -ahead : ahead);
            Vector<T> kept = ahead < zero ? smaller : one, fresh = ahead < zero ? one : smaller;
            Vector<T> c = kept * at.from(c_before) + fresh * z, n = kept * at.from(n_before) + fresh;
            Vector<T> inverse = (T)1 / n, h = o * c * inverse;
            at.to(saved, kept);
            at.to(saved + H, fresh);
            at.to(saved + 2 * H, z);
            at.to(saved + 3 * H, o);
            at.to(saved + 4 * H, inverse);
            at.to(saved + 5 * H, slope);
            at.to(c_after, c);
            at.to(n_after, n);
            at.to(m_after, ahead == ahead ? (ahead < zero ? log_new : log_kept) : ahead); // a NaN of either
            at.to(h_after, h);
            at.to(y, h);
        });
    }

    static void backward(Backward<T> &step) {
        long H = step.units;
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *saved = step.saved[row], *y = step.outputs[row], *d_y = step.d_outputs[row];
            const T *c_before = step.before[1][row], *n_before = step.before[2][row];
            T *d_h = step.d_state[0][row], *d_c = step.d_state[1][row], *d_n = step.d_state[2][row];
            T *d_m = step.d_state[3][row], *d_x = step.d_projected[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> kept = at.from(saved), fresh = at.from(saved + H), z = at.from(saved + 2 * H);
                Vector<T> o = at.from(saved + 3 * H), inverse = at.from(saved + 4 * H), h = at.from(y);
                Vector<T> by_h = at.from(d_h) + at.from(d_y), by_m = at.from(d_m), one = all((T)1);
                Vector<T> by_c = at.from(d_c) + by_h * o * inverse, by_n = at.from(d_n) - by_h * h * inverse;
                Vector<T> by_kept = by_c * at.from(c_before) + by_n * at.from(n_before), by_fresh = by_c * z + by_n;
                // m is the larger logarithm, whose own weight is 1 whatever it is; equal ones share m's gradient.
                Vector<T> tie = (T)0.5 * (by_m - by_kept - by_fresh);
                Vector<T> of_kept = kept * by_kept, of_fresh = fresh * by_fresh;
                Vector<T> by_log_kept = kept < one ? of_kept : fresh < one ? by_m - of_fresh : of_kept + tie;
                Vector<T> by_log_new = kept < one ? by_m - of_kept : fresh < one ? of_fresh : of_fresh + tie;
                at.to(d_x, by_log_new);
                at.to(d_x + H, by_log_kept * at.from(saved + 5 * H));
                at.to(d_x + 2 * H, by_c * fresh * (1 - z * z));
                at.to(d_x + 3 * H, by_h * h * (1 - o));
                at.to(d_c, by_c * kept);
                at.to(d_n, by_n * kept);
                at.to(d_m, by_log_kept);
                at.to(d_h, Vector<T>{});
            });
        }
        multiply<T, true>(step.rows, step.d_projected, step.packed[0], step.d_state[0]);
    }
};

} // namespace
