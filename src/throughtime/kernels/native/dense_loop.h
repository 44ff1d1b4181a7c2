// See dense.h. Threads take pieces of the result as they get free, each of which one thread computes from beginning to end:
// so the numbers do not depend on how many threads there are.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "dense.h"
#include "pool.h"
#include "product.h"

namespace {

// Rows of the result, by a matrix that is packed once.
template <class T> struct RowsTask {
    static constexpr long most_rows = 16 * tile_rows;
    const Dense &problem;
    Packed<T> matrix;
    T *scratch; // where rows of the result are no whole vectors: room for them as whole ones

    static void run(void *self, long piece) {
        RowsTask *task = (RowsTask *)self;
        const Dense &problem = task->problem;
        long first = piece * most_rows, count = problem.rows - first < most_rows ? problem.rows - first : most_rows;
        long N = problem.columns, room = padded<T>(N);
        const T *bias = (const T *)problem.bias;
        T *out = (T *)problem.out + first * N;
        Rows<T> to{task->scratch ? task->scratch + first * room : out, room};
        Rows<const T> from{(const T *)problem.left + first * problem.left_stride, problem.left_stride};
        if (bias) {
            for (long row = 0; row < count; ++row) memcpy(to[row], bias, (size_t)N * sizeof(T));
            multiply<T, true>(count, from, task->matrix, to);
        } else {
            multiply<T>(count, from, task->matrix, to);
        }
        if (task->scratch)
            for (long row = 0; row < count; ++row) memcpy(out + row * N, to[row], (size_t)N * sizeof(T));
    }
};

template <class T> int run_rows(const Dense &problem, bool transposed) {
    long K = problem.depth, N = problem.columns, room = padded<T>(N);
    size_t packed = (size_t)(Packed<T>::size(K, N) + 63) / 64 * 64, rows = room == N ? 0 : (size_t)(problem.rows * room);
    T *memory;
    if (posix_memalign((void **)&memory, 64, (packed + rows) * sizeof(T) + 64)) return -1;
    Packed<T> matrix = transposed ? pack(memory, (const T *)problem.right, K, N, 1, K)
                                  : pack(memory, (const T *)problem.right, K, N, N, 1);
    if (rows && problem.bias) memset(memory + packed, 0, rows * sizeof(T)); // what a bias does not reach is added to
    RowsTask<T> task{problem, matrix, rows ? memory + packed : nullptr};
    long pieces = (problem.rows + task.most_rows - 1) / task.most_rows;
    run_pieces(&RowsTask<T>::run, &task, pieces, problem.threads);
    free(memory);
    return 0;
}

// out += left^T right for `rows` rows, R columns of left and V vectors of right.
template <class T, int R, int V>
__attribute__((noinline)) void sum_tile(long rows, Rows<const T> left, Rows<const T> right, Rows<T> out) {
    constexpr long width = Width<T>::lanes;
    Vector<T> sums[R][V];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = load(out[r] + v * width);
    const T *from = left.data, *by = right.data;
    for (long row = 0; row < rows; ++row, from += left.stride, by += right.stride) {
        Vector<T> column[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) column[v] = load(by + v * width);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
            T value = from[r];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[r][v] += value * column[v];
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) store(out[r] + v * width, sums[r][v]);
}

template <class T, int V>
INLINE void sum_tiles(long wanted, long rows, Rows<const T> left, Rows<const T> right, Rows<T> out) {
    switch (wanted) {
    case 1: return sum_tile<T, 1, V>(rows, left, right, out);
    case 2: return sum_tile<T, 2, V>(rows, left, right, out);
    case 3: return sum_tile<T, 3, V>(rows, left, right, out);
    default: return sum_tile<T, 4, V>(rows, left, right, out);
    }
}

// Rows of left^T right: sums over all rows of both. A piece is some rows of the result, and of what is summed one of
// `chunks`, each of which has sums of its own, so that a small result reads both matrices once.
template <class T> struct SumsTask {
    static constexpr long block_rows = 64; // of which a panel of `right` fits the first cache
    static constexpr long tile = 4;
    const Dense &problem;
    T *sums;         // (chunks, K, padded N)
    const T *last;   // the last row of `right`, padded: beyond it there may be no memory
    long chunks;
    long piece_rows; // of the result

    static void run(void *self, long piece) {
        SumsTask *task = (SumsTask *)self;
        const Dense &problem = task->problem;
        long chunk = piece % task->chunks, first = piece / task->chunks * task->piece_rows, end = first + task->piece_rows;
        if (end > problem.depth) end = problem.depth;
        long N = problem.columns, room = padded<T>(N), whole = problem.rows - 1;
        T *sums = task->sums + chunk * problem.depth * room;
        Rows<const T> left{(const T *)problem.left, problem.left_stride}, last{task->last, room};
        Rows<const T> right{(const T *)problem.right, problem.right_stride};
        for (long row = whole * chunk / task->chunks, to = whole * (chunk + 1) / task->chunks; row < to; row += block_rows)
            task->add(sums, first, end, to - row < block_rows ? to - row : block_rows, {left[row], left.stride},
                      {right[row], right.stride});
        if (chunk + 1 == task->chunks) task->add(sums, first, end, 1, {left[whole], left.stride}, last);
    }

    void add(T *sums, long first, long end, long rows, Rows<const T> left, Rows<const T> right) {
        constexpr long width = Width<T>::lanes;
        long N = problem.columns, room = padded<T>(N);
        for (long column = 0; column < room; column += panel_columns<T>()) {
            long vectors = room - column < panel_columns<T>() ? (room - column) / width : tile_vectors;
            Rows<const T> by{right.data + column, right.stride};
            for (long k = first; k < end; k += tile) {
                Rows<const T> from{left.data + k, left.stride};
                Rows<T> to{sums + k * room + column, room};
                if (vectors == 1) sum_tiles<T, 1>(end - k, rows, from, by, to);
                else if (vectors == 2) sum_tiles<T, 2>(end - k, rows, from, by, to);
                else if (vectors == 3) sum_tiles<T, 3>(end - k, rows, from, by, to);
                else sum_tiles<T, 4>(end - k, rows, from, by, to);
            }
        }
    }

    // The sums of all chunks, into the first.
    void join() {
        long numbers = problem.depth * padded<T>(problem.columns);
        for (long chunk = 1; chunk < chunks; ++chunk)
            for (long n = 0; n < numbers; ++n) sums[n] += sums[chunk * numbers + n];
    }
};

template <class T> int run_sums(const Dense &problem) {
    constexpr long cached = 1 << 16; // so many sums fit the second cache beside what is summed
    constexpr long chunk_rows = 8 * SumsTask<T>::block_rows, most_chunks = 16;
    long K = problem.depth, N = problem.columns, room = padded<T>(N), threads = problem.threads < 1 ? 1 : problem.threads;
    // By the sizes alone, so that the numbers do not depend on how many threads there are.
    long chunks = K * room > cached ? 1 : (problem.rows + chunk_rows - 1) / chunk_rows;
    if (chunks > most_chunks) chunks = most_chunks;
    T *memory;
    size_t numbers = (size_t)((chunks * K + 1) * room);
    if (posix_memalign((void **)&memory, 64, numbers * sizeof(T) + 64)) return -1;
    memset(memory, 0, numbers * sizeof(T));
    T *last = memory + chunks * K * room;
    memcpy(last, (const T *)problem.right + (problem.rows - 1) * problem.right_stride, (size_t)N * sizeof(T));
    // A piece of a lone chunk reads all of `right`: many rows a piece, but several pieces for each thread.
    long tiles = K / (4 * SumsTask<T>::tile * threads);
    long piece_rows = chunks > 1 ? K : SumsTask<T>::tile * (tiles < 1 ? 1 : tiles > 16 ? 16 : tiles);
    SumsTask<T> task{problem, memory, last, chunks, piece_rows};
    run_pieces(&SumsTask<T>::run, &task, chunks * ((K + task.piece_rows - 1) / task.piece_rows), threads);
    task.join();
    for (long k = 0; k < K; ++k) memcpy((T *)problem.out + k * N, memory + k * room, (size_t)N * sizeof(T));
    free(memory);
    return 0;
}

// 0, or -1 when there is no memory.
template <class T> int run_dense_of(const Dense &problem, int kind) {
    return kind == TRANSPOSED_TIMES ? run_sums<T>(problem) : run_rows<T>(problem, kind == TIMES_TRANSPOSED);
}
inline int run_dense(const Dense &problem, int kind) {
    return problem.double_precision ? run_dense_of<double>(problem, kind) : run_dense_of<float>(problem, kind);
}

} // namespace
