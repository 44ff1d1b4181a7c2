// What one call computes: the plain C structure that Python fills in (throughtime/kernels/binding.py).
//
// Letters: T time steps, B sequences, H units, I features of an input; G, R, S and V numbers a row, as `Widths` gives them.
// All arrays are dense, in row-major order, of float or double, as `double_precision` says.
#pragma once
#include <stdint.h>

enum { MAX_STATES = 4, MAX_WEIGHTS = 16, MAX_CONSTANTS = 8 };
enum { INTERFACE = 7 }; // raised with every change of what library.cpp exports: Python refuses another one

extern "C" {

struct Problem {
    int64_t steps, batch, units;   // T, B, H
    int64_t input_size;            // G: it is I for cells whose input map needs the state
    int64_t threads;               // how many may work
    int64_t double_precision;      // 0 or 1
    int64_t keep;                  // whether `before` and `saved` hold every step, for a backward pass
    double constants[MAX_CONSTANTS];

    const void *weights[MAX_WEIGHTS];
    const void *projected;         // (T, B, G)
    const void *start[MAX_STATES]; // (B, H), the state before the first step
    const void *fresh[MAX_STATES]; // (B, H), what a reset puts in its place; null without resets
    const uint8_t *reset;          // (T, B), or null
    const int64_t *lengths;        // (B), or null

    void *outputs;                 // (T, B, H)
    void *final_state[MAX_STATES]; // (B, H)
    void *before[MAX_STATES];      // (T, B, H) if keep: the state that step t began with, after its reset. The first is null
                                   // where nothing is reset and it is the output of the step before
    void *saved;                   // (T, B, S) if keep: what else the backward pass of the cell wants

    // The backward pass: the arrays above are then inputs, those below outputs unless they are named as inputs.
    const void *d_outputs;               // (T, B, H), an input
    const void *d_final_state[MAX_STATES]; // (B, H), inputs, each may be null for zero
    void *d_start[MAX_STATES];           // (B, H)
    void *d_projected;                   // (T, B, G)
    void *d_recurrent;                   // (T, B, R): by what the recurrent products gave, if that differs from d_projected
    void *d_vectors;                     // (B, V): by vectors among the weights, of each sequence
};

// Numbers a row: G of what the input is projected to, R of d_recurrent (0: that is d_projected), S of `saved`, V of
// d_vectors. And whether the output of a step is the first part of the state after it, and whether the backward pass reads
// `projected`, which may be null there otherwise.
struct Widths {
    int64_t projected, recurrent, saved, output_is_state, vectors, backward_reads_projected;
};

} // extern "C"
