// LEM: state (y, z); z + dt sigmoid(a_1) (tanh(a_3) - z), then y + dt sigmoid(a_2) (tanh(a_4) - y); a_1, a_2, a_3 from
// x' + y W^T, and a_4 from x' + z V^T with the new z; output y. Constant 0: dt. Weights: W (3 H, H), V (H, H).
// Saved: the two sigmoids, the two hyperbolic tangents, the new z.
#pragma once
#include "../loop.h"

namespace {

template <class T> struct Lem {
    static constexpr int states = 2, blocks = 4, recurrent_blocks = 0, saved = 5;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    static void setup(Setup<T> &setup) {
        long H = setup.problem.units;
        for (int index = 0; index < 2; ++index) {
            long rows = index == 0 ? 3 * H : H;
            if (setup.backward) setup.plain(setup.weight(index), rows, H);
            else setup.transposed(setup.weight(index), rows, H);
        }
        setup.scratch = setup.backward ? 0 : padded<T>(3 * H);
    }

    static void forward(Forward<T> &step) {
        long H = step.units;
        T dt = step.constant(0);
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row], *z_before = step.before[1][row];
            T *kept = step.saved[row], *z_after = step.after[1][row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> gate_z = sigmoid<T>(at.from(sum) + at.from(x));
                Vector<T> gate_y = sigmoid<T>(at.from(sum + H) + at.from(x + H));
                Vector<T> squashed = hyperbolic_tangent<T>(at.from(sum + 2 * H) + at.from(x + 2 * H));
                Vector<T> z = at.from(z_before);
                z = z + dt * gate_z * (squashed - z);
                at.to(kept, gate_z);
                at.to(kept + H, gate_y);
                at.to(kept + 2 * H, squashed);
                at.to(kept + 4 * H, z);
                at.to(z_after, z);
            });
        }
        multiply<T>(step.rows, Rows<const T>{step.saved.data + 4 * H, step.saved.stride}, step.packed[1], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row] + 3 * H, *y_before = step.before[0][row];
            T *kept = step.saved[row], *y_after = step.after[0][row], *output = step.outputs[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> squashed = hyperbolic_tangent<T>(at.from(sum) + at.from(x)), y = at.from(y_before);
                y = y + dt * at.from(kept + H) * (squashed - y);
                at.to(kept + 3 * H, squashed);
                at.to(y_after, y);
                at.to(output, y);
            });
        }
    }

    static void backward(Backward<T> &step) {
        long H = step.units;
        T dt = step.constant(0);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_output = step.d_outputs[row], *y_before = step.before[0][row];
            T *d_y = step.d_state[0][row], *d_x = step.d_projected[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> gate = at.from(kept + H), squashed = at.from(kept + 3 * H);
                Vector<T> by_y = at.from(d_y) + at.from(d_output), by_squashed = dt * gate * by_y;
                at.to(d_x + H, by_squashed * (squashed - at.from(y_before)) * (1 - gate));
                at.to(d_x + 3 * H, by_squashed * (1 - squashed * squashed));
                at.to(d_y, by_y - by_squashed);
            });
        }
        multiply<T, true>(step.rows, Rows<const T>{step.d_projected.data + 3 * H, step.d_projected.stride}, step.packed[1],
                          step.d_state[1]);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *z_before = step.before[1][row];
            T *d_z = step.d_state[1][row], *d_x = step.d_projected[row];
            each_unit<T>(H, [&](Lanes<T> at) {
                Vector<T> gate = at.from(kept), squashed = at.from(kept + 2 * H), by_z = at.from(d_z);
                Vector<T> by_squashed = dt * gate * by_z;
                at.to(d_x, by_squashed * (squashed - at.from(z_before)) * (1 - gate));
                at.to(d_x + 2 * H, by_squashed * (1 - squashed * squashed));
                at.to(d_z, by_z - by_squashed);
            });
        }
        multiply<T, true>(step.rows, step.d_projected, step.packed[0], step.d_state[0]);
    }
};

} // namespace
