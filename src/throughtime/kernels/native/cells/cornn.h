// coRNN: state (y, z); z + dt (tanh(x' + (y, z) W^T) - gamma y - epsilon z), then y + dt z with the new z; output y.
// Constants: dt, gamma, epsilon. Weights: W (H, 2 H). Saved: tanh.
#pragma once
#include "../loop.h"

namespace {

template <class T> struct CoRnn {
    static constexpr int states = 2, blocks = 1, recurrent_blocks = 0, saved = 1;
    static constexpr bool output_is_state = true, backward_reads_projected = false;

    // The part of W that multiplies y, and that which multiplies z.
    static void setup(Setup<T> &setup) {
        long H = setup.problem.units;
        for (int part = 0; part < 2; ++part) {
            const T *columns = setup.weight(0) + part * H;
            if (setup.backward) setup.add(columns, H, H, 2 * H, 1);
            else setup.add(columns, H, H, 1, 2 * H);
        }
        setup.scratch = setup.backward ? 0 : padded<T>(H);
    }

    static void forward(Forward<T> &step) {
        T dt = step.constant(0), gamma = step.constant(1), epsilon = step.constant(2);
        multiply<T>(step.rows, step.before[0], step.packed[0], step.scratch);
        multiply<T, true>(step.rows, step.before[1], step.packed[1], step.scratch);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *sum = step.scratch[row], *x = step.projected[row];
            const T *y_before = step.before[0][row], *z_before = step.before[1][row];
            T *kept = step.saved[row], *output = step.outputs[row];
            T *y_after = step.after[0][row], *z_after = step.after[1][row];
            each_unit<T>(step.units, [&](Lanes<T> at) {
                Vector<T> y = at.from(y_before), z = at.from(z_before);
                Vector<T> squashed = hyperbolic_tangent<T>(at.from(sum) + at.from(x));
                z = z + dt * (squashed - gamma * y - epsilon * z);
                y = y + dt * z;
                at.to(kept, squashed);
                at.to(z_after, z);
                at.to(y_after, y);
                at.to(output, y);
            });
        }
    }

    static void backward(Backward<T> &step) {
        T dt = step.constant(0), gamma = step.constant(1), epsilon = step.constant(2);
        for (long row = 0; row < step.rows; ++row) {
            if (step.skip(row)) continue;
            const T *kept = step.saved[row], *d_output = step.d_outputs[row];
            T *d_y = step.d_state[0][row], *d_z = step.d_state[1][row], *d_x = step.d_projected[row];
            each_unit<T>(step.units, [&](Lanes<T> at) {
                Vector<T> squashed = at.from(kept), by_y = at.from(d_y) + at.from(d_output);
                Vector<T> by_z = at.from(d_z) + dt * by_y, by_force = dt * by_z;
                at.to(d_x, by_force * (1 - squashed * squashed));
                at.to(d_y, by_y - gamma * by_force);
                at.to(d_z, by_z - epsilon * by_force);
            });
        }
        multiply<T, true>(step.rows, step.d_projected, step.packed[0], step.d_state[0]);
        multiply<T, true>(step.rows, step.d_projected, step.packed[1], step.d_state[1]);
    }
};

} // namespace
