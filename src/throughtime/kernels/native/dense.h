// Products of long matrices with small ones, before and after a loop over time: the plain C structure that Python fills in
// (throughtime/kernels/binding.py).
#pragma once
#include <stdint.h>

enum DenseKind { TIMES_TRANSPOSED = 0, TIMES = 1, TRANSPOSED_TIMES = 2, COLUMN_SUMS = 3 };
enum { MOST_DENSE = 4 }; // so many are computed together

extern "C" {

// R rows; all of float or double, as `double_precision` says; the numbers of a row lie side by side.
//     TIMES_TRANSPOSED  out (R, N) = left (R, K) right^T + bias, right (N, K) dense, bias (N) or null
//     TIMES             out (R, N) = left (R, K) right, right (K, N) dense
//     TRANSPOSED_TIMES  out (K, N) = left^T right, left (R, K), right (R, N); N is a multiple of what a vector holds, or
//                       right_stride at least that; with `add` it is added to what an earlier one has left in `out`
//     COLUMN_SUMS       out (K) = the sum of the rows of left (R, K)
// `out` is dense.
struct Dense {
    int64_t kind, add;
    int64_t rows, depth, columns; // R, K, N
    int64_t threads, double_precision;
    int64_t left_stride, right_stride; // from row to row; that of `right` counts in TRANSPOSED_TIMES alone
    const void *left, *right, *bias;
    void *out;
};

} // extern "C"
