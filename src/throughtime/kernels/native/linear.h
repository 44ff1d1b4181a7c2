// The linear recurrence h_t = a_t h_{t-1} + b_t, element by element, and its way back:
//     s_t = g_t + conj(a_{t+1}) s_{t+1},   d b_t = s_t,   d a_t = s_t conj(h_{t-1}),   d h_0 = conj(a_1) s_1
// with g_t the gradient by h_t. Bound by memory: each array is read or written once, from front to back or from back to
// front. A complex number is a real part in the first half of a row of S numbers and an imaginary part in the second.
#pragma once
#include <stdint.h>

extern "C" {

struct Linear {
    int64_t steps, batch, width;      // T, B, and the numbers S of a row (twice the units where they are complex)
    int64_t threads, double_precision, complex_numbers;
    int64_t constant_a;               // whether a is (S), the same at all steps and rows, instead of (T, B, S)
    const void *a, *b, *start;        // b (T, B, S); start (B, S)
    void *states;                     // (T, B, S), an input on the way back
    const void *d_states;             // (T, B, S), an input
    void *d_a, *d_b, *d_start;        // outputs; d_a has the shape of a
};

} // extern "C"
