// The cross-entropy of rows of bfloat16 logits, and its gradient in their place.
#pragma once
#include <stdint.h>

extern "C" {

struct CrossEntropy {
    int64_t rows, columns, threads;
    const float *offset;    // (columns): added to every row of logits
    const int64_t *targets; // (rows), each from 0 to columns - 1
    uint16_t *logits;       // (rows, columns) bfloat16; afterwards the gradient of the mean of the losses
    float *d_offset;        // (columns): the gradient of that mean
    float *losses;          // (rows): log of the sum of exp(logit + offset), less that of the target
};

} // extern "C"
