// Products of a few rows with a matrix that is used again at every step: it is laid out once, in panels of columns.
#pragma once
#include "vector.h"

namespace {

// Rows and vectors of columns whose sums stay in registers: 24 of 32 with AVX-512, 12 of 16 elsewhere.
constexpr long tile_vectors = THROUGHTIME_BYTES == 64 ? 4 : 2;
constexpr long tile_rows = 6;

template <class T> constexpr long panel_columns() { return tile_vectors * Width<T>::lanes; }
template <class T> long padded(long columns) {
    constexpr long width = Width<T>::lanes;
    return (columns + width - 1) / width * width;
}

// A matrix of `depth` rows and `columns` columns: panel after panel, each row by row; the last is as narrow as it can be.
template <class T> struct Packed {
    T *data;
    long depth, columns;
    static long size(long depth, long columns) { return depth * padded<T>(columns); }
};

// The matrix whose element (k, n) is source[k * by_row + n * by_column], into `data`.
template <class T>
Packed<T> pack(T *data, const T *source, long depth, long columns, long by_row, long by_column) {
    T *to = data;
    for (long first = 0; first < columns; first += panel_columns<T>()) {
        long left = columns - first, width = left < panel_columns<T>() ? padded<T>(left) : panel_columns<T>();
        for (long k = 0; k < depth; ++k, to += width) {
            const T *from = source + k * by_row + first * by_column;
            for (long n = 0; n < width && n < left; ++n) to[n] = from[n * by_column];
            for (long n = left; n < width; ++n) to[n] = 0;
        }
    }
    return Packed<T>{data, depth, columns};
}

template <class T> struct Rows {
    T *data;
    long stride;
    inline __attribute__((always_inline)) T *operator[](long row) const { return data + row * stride; }
    operator Rows<const T>() const { return Rows<const T>{data, stride}; }
};

template <class T, bool Add, int R, int V>
__attribute__((noinline)) void tile(const T *a, long a_stride, const T *panel, long depth, T *out, long out_stride) {
    constexpr long width = Width<T>::lanes;
    Vector<T> sums[R][V] = {};
    for (long k = 0; k < depth; ++k, panel += V * width) {
        Vector<T> column[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) column[v] = load(panel + v * width);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            T value = a[r * a_stride + k];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[r][v] += value * column[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            T *to = out + r * out_stride + v * width;
            store(to, Add ? load(to) + sums[r][v] : sums[r][v]);
        }
}

template <class T, bool Add, int V>
INLINE void tiles(long rows, const T *a, long a_stride, const T *panel, long depth, T *out, long out_stride) {
    switch (rows) {
    case 1: return tile<T, Add, 1, V>(a, a_stride, panel, depth, out, out_stride);
    case 2: return tile<T, Add, 2, V>(a, a_stride, panel, depth, out, out_stride);
    case 3: return tile<T, Add, 3, V>(a, a_stride, panel, depth, out, out_stride);
    case 4: return tile<T, Add, 4, V>(a, a_stride, panel, depth, out, out_stride);
    case 5: return tile<T, Add, 5, V>(a, a_stride, panel, depth, out, out_stride);
    default: return tile<T, Add, 6, V>(a, a_stride, panel, depth, out, out_stride);
    }
}

// out = a matrix, for `rows` rows; a row of `out` has room for padded(columns) numbers, of which the last are zero.
// With Add: out += a matrix.
template <class T, bool Add = false> void multiply(long rows, Rows<const T> a, const Packed<T> &matrix, Rows<T> out) {
    constexpr long width = Width<T>::lanes;
    long blocks = (rows + tile_rows - 1) / tile_rows;
    const T *panel = matrix.data;
    for (long first = 0; first < matrix.columns; first += panel_columns<T>()) {
        long left = matrix.columns - first;
        long vectors = left < panel_columns<T>() ? padded<T>(left) / width : tile_vectors;
        for (long block = 0; block < blocks; ++block) {
            long begin = rows * block / blocks, count = rows * (block + 1) / blocks - begin;
            const T *from = a[begin];
            T *to = out[begin] + first;
            if (vectors == 1) tiles<T, Add, 1>(count, from, a.stride, panel, matrix.depth, to, out.stride);
            else if (vectors == 2) tiles<T, Add, 2>(count, from, a.stride, panel, matrix.depth, to, out.stride);
            else if (vectors == 3) tiles<T, Add, 3>(count, from, a.stride, panel, matrix.depth, to, out.stride);
            else tiles<T, Add, 4>(count, from, a.stride, panel, matrix.depth, to, out.stride);
        }
        panel += matrix.depth * vectors * width;
    }
}

} // namespace
