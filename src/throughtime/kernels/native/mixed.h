// An LSTM in mixed precision: products of bfloat16 numbers, summed in float; gates and states in float.
#pragma once
#include <stdint.h>

extern "C" {

struct Mixed {
    int64_t steps, batch, units;   // T, B, H; H a multiple of 16
    int64_t threads;               // how many may work
    const uint16_t *projected;     // (T, B, 4 H) bfloat16: W_ih x, without the bias
    const float *bias;             // (4 H)
    const uint16_t *weight;        // W_hh (4 H, H) bfloat16
    const float *h, *c;            // (B, H), the state before the first step
    float *outputs;                // (T, B, H)
    uint16_t *before;              // (T, B, H) bfloat16: h before each step
    float *gates;                  // (T, B, 4 H): i, f, g, o
    float *cells;                  // (T + 1, B, H): c before each step, and after the last

    // The backward pass: `weight`, `gates` and `cells` are then inputs.
    const float *d_outputs;        // (T, B, H), an input
    float *d_h, *d_c;              // (B, H): by the state before the first step; d_c holds that by the last c when called
    uint16_t *d_gates;             // (T, B, 4 H) bfloat16: by what the gates are functions of
    float *d_bias;                 // (4 H)
};

} // extern "C"
