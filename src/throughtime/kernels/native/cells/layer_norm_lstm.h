// LSTM with normalised sums and memory: state (h, c); i, f, g, o from x' + LN(h W^T), where LN is over all of 4 H and x'
// is normalised already; h = o tanh(LN(c)). Constant 0: eps. Weights: W (4 H, H), the gains of the sums (4 H), gain and
// shift of c (H). Saved: i, f, g, o, tanh(LN(c)); the sums and c with mean 0 and variance 1, without gain; the inverse of
// their deviations. d_recurrent: by h W^T (4 H). d_vectors: by the gains of the sums (4 H), gain and shift of c (H each).
#pragma once
#include "../loop.h"

namespace {

template <class T> struct LayerNormLstm {
    static constexpr int states = 2;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static Widths widths(const Problem &problem) {
        int64_t H = problem.units;
        return Widths{4 * H, 4 * H, 10 * H + 16, 0, 6 * H, 0}; // two more, and rows that begin where vectors do
    }

    static void setup(Setup<T> &setup) {
        setup.one_matrix(4 * setup.problem.units);
        if (setup.backward) setup.scratch = padded<T>(setup.problem.units); // by LN(c)
    }

    struct Moments {
        T mean, inverse_deviation;
    };
    static Moments moments(const T *row, long count, T eps) {
        Vector<T> sum[4] = {}, squares[4] = {};
        each_four(count, [&](int one, Lanes<T> at) { sum[one] += at.from(row); });
        T mean = total<T>((sum[0] + sum[1]) + (sum[2] + sum[3])) / (T)count;
        each_four(count, [&](int one, Lanes<T> at) {
            Vector<T> difference = at.only(at.from(row) - mean);
            squares[one] += difference * difference;
        });
        T square = total<T>((squares[0] + squares[1]) + (squares[2] + squares[3])) / (T)count;
        return Moments{mean, (T)(1 / __builtin_sqrt(square + eps))};
    }
    // As each_unit, with a number from 0 to 3 that tells apart those whose sums need not wait for each other.
    template <class F> INLINE void each_four(long count, F f) {
        constexpr long width = Width<T>::lanes;
        long offset = 0;
        for (; offset + 4 * width <= count; offset += 4 * width)
#pragma GCC unroll 4
            for (int one = 0; one < 4; ++one) f(one, Lanes<T>{offset + one * width, width});
        for (; offset < count; offset += width) f(0, Lanes<T>{offset, count - offset < width ? count - offset : width});
    }

    static void forward(Forward<T> &step) {
        long H = step.units;
        T eps = step.constant(0);
        const T *gain = step.weight(1), *gain_c = step.weight(2), *shift_c = step.weight(3);
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row], *c_before = step.before[1][row];
            T *saved = step.saved[row], *h_after = step.after[0][row], *c_after = step.after[1][row], *y = step.outputs[row];
            T *normal = saved + 5 * H, *normal_c = saved + 9 * H;
            Moments of_sums = moments(sum, 4 * H, eps);
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> gate[4];
#pragma GCC unroll 4
                for (int block = 0; block < 4; ++block) {
                    Vector<T> z = (at.from(sum + block * H) - of_sums.mean) * of_sums.inverse_deviation;
                    at.to(normal + block * H, z);
                    z = at.from(x + block * H) + at.from(gain + block * H) * z;
                    gate[block] = block == 2 ? hyperbolic_tangent<T>(z) : sigmoid<T>(z);
                    at.to(saved + block * H, gate[block]);
                }
                at.to(c_after, gate[1] * at.from(c_before) + gate[0] * gate[2]);
            });
            Moments of_c = moments(c_after, H, eps);
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> z = (at.from(c_after) - of_c.mean) * of_c.inverse_deviation;
                Vector<T> squashed = hyperbolic_tangent<T>(at.from(gain_c) * z + at.from(shift_c));
                Vector<T> h = at.from(saved + 3 * H) * squashed;
                at.to(saved + 4 * H, squashed);
                at.to(normal_c, z);
                at.to(h_after, h);
                at.to(y, h);
            });
            saved[10 * H] = of_sums.inverse_deviation;
            saved[10 * H + 1] = of_c.inverse_deviation;
        }
    }

    // With n of mean 0 and variance 1, the gradient by what was normalised: (d_n - mean(d_n) - n mean(d_n n)) / deviation.
    static void backward(Backward<T> &step) {
        long H = step.units;
        const T *gain = step.weight(1), *gain_c = step.weight(2);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *saved = step.saved[row], *d_y = step.d_outputs[row], *c_before = step.before[1][row];
            const T *normal = saved + 5 * H, *normal_c = saved + 9 * H;
            T *d_h = step.d_state[0][row], *d_c = step.d_state[1][row], *d_x = step.d_projected[row];
            T *d_sum = step.d_recurrent[row], *d_inner = step.scratch[row];
            T *d_gain = step.d_vectors[row], *d_gain_c = d_gain + 4 * H, *d_shift_c = d_gain + 5 * H;
            T inverse_deviation = saved[10 * H], inverse_deviation_c = saved[10 * H + 1];

            Vector<T> sum_c = {}, along_c = {};
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> o = at.from(saved + 3 * H), squashed = at.from(saved + 4 * H), by_h = at.from(d_h) + at.from(d_y);
                Vector<T> inner = by_h * o * (1 - squashed * squashed), by_normal = inner * at.from(gain_c);
                at.to(d_x + 3 * H, by_h * squashed * o * (1 - o));
                at.to(d_inner, inner);
                at.to(d_gain_c, at.from(d_gain_c) + inner * at.from(normal_c));
                at.to(d_shift_c, at.from(d_shift_c) + inner);
                at.to(d_h, Vector<T>{});
                sum_c += by_normal;
                along_c += by_normal * at.from(normal_c);
            });
            T mean_c = total<T>(sum_c) / (T)H, slope_c = total<T>(along_c) / (T)H;

            Vector<T> sum[4] = {}, along[4] = {};
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> i = at.from(saved), f = at.from(saved + H), g = at.from(saved + 2 * H);
                Vector<T> by_normal = at.from(d_inner) * at.from(gain_c) - mean_c - at.from(normal_c) * slope_c;
                Vector<T> by_c = at.from(d_c) + by_normal * inverse_deviation_c;
                Vector<T> by_gate[4] = {by_c * g * i * (1 - i), by_c * at.from(c_before) * f * (1 - f),
                                        by_c * i * (1 - g * g), at.from(d_x + 3 * H)};
#pragma GCC unroll 4
                for (int block = 0; block < 4; ++block) {
                    if (block < 3) at.to(d_x + block * H, by_gate[block]);
                    Vector<T> n = at.from(normal + block * H), by_sum = by_gate[block] * at.from(gain + block * H);
                    at.to(d_gain + block * H, at.from(d_gain + block * H) + by_gate[block] * n);
                    sum[block] += by_sum;
                    along[block] += by_sum * n;
                }
                at.to(d_c, by_c * f);
            });
            T mean = total<T>((sum[0] + sum[1]) + (sum[2] + sum[3])) / (T)(4 * H);
            T slope = total<T>((along[0] + along[1]) + (along[2] + along[3])) / (T)(4 * H);

            each_unit<T>(4 * H, [&](Lanes<T> at) {
                Vector<T> by_normal = at.from(d_x) * at.from(gain) - mean - at.from(normal) * slope;
                at.to(d_sum, by_normal * inverse_deviation);
            });
        }
        multiply<T, true>(step.rows, step.d_recurrent, step.packed[0], step.d_state[0]);
    }
};

} // namespace
