// Mogrifier LSTM: state (h, c); in turn x <- 2 s x with s = sigmoid(h Q^T), and h <- 2 s h with s = sigmoid(x R^T); then
// i, f, g, o from x W_ih^T + h W_hh^T + b. What is projected is x itself. Constant 0: how many rounds.
// Weights: Q_1 (I, H), R_2 (H, I), Q_3, ..., W_ih (4 H, I), W_hh (4 H, H), b (4 H).
// Saved: i, f, g, o, tanh(c); for each round s and the x or h that it gave.
// d_recurrent: by the sums of the gates (4 H), by h Q^T or x R^T of each round. d_vectors: by b.
#pragma once
#include "../loop.h"

namespace {

template <class T> struct Mogrifier {
    static constexpr int states = 2;
    static constexpr bool output_is_state = true, backward_reads_projected = true;

    static long num_rounds(const Problem &problem) { return (long)problem.constants[0]; }
    static bool gates_input(long round) { return round % 2 == 0; } // counted from 0
    static long width(const Problem &problem, long round) {
        return gates_input(round) ? problem.input_size : problem.units;
    }
    // The widths of all rounds before `round`.
    static long width_before(const Problem &problem, long round) {
        return (round + 1) / 2 * problem.input_size + round / 2 * problem.units;
    }

    static Widths widths(const Problem &problem) {
        int64_t H = problem.units, all_rounds = width_before(problem, num_rounds(problem));
        return Widths{problem.input_size, 4 * H + all_rounds, 5 * H + 2 * all_rounds, 0, 4 * H, 0};
    }

    static void setup(Setup<T> &setup) {
        const Problem &problem = setup.problem;
        long H = problem.units, I = problem.input_size, rounds = num_rounds(problem);
        for (int index = 0; index < rounds + 2; ++index) {
            bool input = index < rounds ? !gates_input(index) : index == rounds; // is it x that the matrix multiplies?
            long rows = index < rounds ? width(problem, index) : 4 * H, columns = input ? I : H;
            if (setup.backward) setup.plain(setup.weight(index), rows, columns);
            else setup.transposed(setup.weight(index), rows, columns);
        }
        setup.scratch = setup.backward ? padded<T>(I) : padded<T>(4 * H) + padded<T>(I);
    }

    static void forward(Forward<T> &step) {
        long H = step.units, rounds = num_rounds(step.problem);
        const T *bias = step.weight((int)rounds + 2);
        Rows<const T> x = step.projected, h = step.before[0];
        for (long round = 0; round < rounds; ++round) {
            bool input = gates_input(round);
            Rows<const T> gated = input ? x : h;
            multiply<T>(step.rows, input ? h : x, step.packed[round], step.scratch);
            long units = width(step.problem, round), place = 5 * H + 2 * width_before(step.problem, round);
            for (long row = 0; row < step.rows; ++row) {
                if (step.skip(row)) continue;
                const T *sum = step.scratch[row], *from = gated[row];
                T *gate = step.saved[row] + place, *to = gate + units;
                each_unit<T>(units, [&](Lanes<T> at) {
                    Vector<T> s = sigmoid<T>(at.from(sum));
                    at.to(gate, s);
                    at.to(to, 2 * s * at.from(from));
                });
            }
            (input ? x : h) = Rows<const T>{step.saved.data + place + units, step.saved.stride};
        }
        multiply<T>(step.rows, x, step.packed[rounds], step.scratch);
        multiply<T, true>(step.rows, h, step.packed[rounds + 1], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *c_before = step.before[1][row];
            T *kept = step.saved[row], *h_after = step.after[0][row], *c_after = step.after[1][row], *y = step.outputs[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> i = sigmoid<T>(at.from(sum) + at.from(bias));
                Vector<T> f = sigmoid<T>(at.from(sum + H) + at.from(bias + H));
                Vector<T> g = hyperbolic_tangent<T>(at.from(sum + 2 * H) + at.from(bias + 2 * H));
                Vector<T> o = sigmoid<T>(at.from(sum + 3 * H) + at.from(bias + 3 * H));
                Vector<T> c = f * at.from(c_before) + i * g;
                Vector<T> squashed = hyperbolic_tangent<T>(c), after = o * squashed;
                at.to(kept, i);
                at.to(kept + H, f);
                at.to(kept + 2 * H, g);
                at.to(kept + 3 * H, o);
                at.to(kept + 4 * H, squashed);
                at.to(c_after, c);
                at.to(h_after, after);
                at.to(y, after);
            });
        }
    }

    static void backward(Backward<T> &step) {
        long H = step.units, rounds = num_rounds(step.problem);
        Rows<T> d_x = step.scratch, d_h = step.d_state[0];
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_y = step.d_outputs[row], *c_before = step.before[1][row];
            T *by_after = d_h[row], *d_c = step.d_state[1][row], *d_sum = step.d_recurrent[row];
            T *d_bias = step.d_vectors[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> i = at.from(kept), f = at.from(kept + H), g = at.from(kept + 2 * H), o = at.from(kept + 3 * H);
                Vector<T> squashed = at.from(kept + 4 * H), by_h = at.from(by_after) + at.from(d_y);
                Vector<T> by_c = at.from(d_c) + by_h * o * (1 - squashed * squashed);
                Vector<T> by_gate[4] = {by_c * g * i * (1 - i), by_c * at.from(c_before) * f * (1 - f),
                                        by_c * i * (1 - g * g), by_h * squashed * o * (1 - o)};
#pragma GCC unroll 4
                for (int block = 0; block < 4; ++block) {
                    at.to(d_sum + block * H, by_gate[block]);
                    at.to(d_bias + block * H, at.from(d_bias + block * H) + by_gate[block]);
                }
                at.to(d_c, by_c * f);
                at.to(by_after, Vector<T>{});
            });
        }
        multiply<T>(step.rows, step.d_recurrent, step.packed[rounds], d_x);
        multiply<T, true>(step.rows, step.d_recurrent, step.packed[rounds + 1], d_h);
        for (long round = rounds - 1; round >= 0; --round) {
            bool input = gates_input(round);
            long units = width(step.problem, round), before = width_before(step.problem, round);
            for (long row = 0; row < step.rows; ++row) {
                if (step.skip(row)) continue;
                const T *gate = step.saved[row] + 5 * H + 2 * before, *gated = gate + units;
                T *by = (input ? d_x : d_h)[row], *d_sum = step.d_recurrent[row] + 4 * H + before;
                each_unit<T>(units, [&](Lanes<T> at) {
                    Vector<T> s = at.from(gate), by_gated = at.from(by);
                    at.to(d_sum, by_gated * at.from(gated) * (1 - s));
                    at.to(by, 2 * s * by_gated);
                });
            }
            Rows<const T> d_sums = {step.d_recurrent.data + 4 * H + before, step.d_recurrent.stride};
            multiply<T, true>(step.rows, d_sums, step.packed[round], input ? d_h : d_x);
        }
        for (long row = 0; row < step.rows; ++row)
            if (!step.skip(row)) copy(step.d_projected[row], d_x[row], step.problem.input_size);
    }
};

} // namespace
