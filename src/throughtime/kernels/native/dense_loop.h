// See dense.h. Threads take pieces of the result as they get free, each of which one thread computes from beginning to end:
// so the numbers do not depend on how many threads there are.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "dense.h"
#include "pool.h"
#include "product.h"

namespace {

// What threads do of one of them: so many pieces, in any order.
struct Computation {
    long pieces;
    void (*run)(void *, long);
    void *task;
    void (*finish)(void *) = nullptr; // what is left when all pieces are done, if anything is
};

// Rows of the result, by a matrix that is packed once.
template <class T> struct RowsTask {
    static constexpr long most_rows = 16 * tile_rows;
    const Dense *problem = nullptr;
    T *memory = nullptr;
    T *scratch = nullptr; // where rows of the result are no whole vectors: room for them as whole ones
    Packed<T> matrix{};
    ~RowsTask() { free(memory); }

    // Whether there is memory.
    bool prepare(const Dense &wanted) {
        problem = &wanted;
        long K = wanted.depth, N = wanted.columns, room = padded<T>(N);
        size_t packed = (size_t)(Packed<T>::size(K, N) + 63) / 64 * 64, rows = room == N ? 0 : (size_t)(wanted.rows * room);
        if (posix_memalign((void **)&memory, 64, (packed + rows) * sizeof(T) + 64)) return false;
        bool transposed = wanted.kind == TIMES_TRANSPOSED;
        matrix = pack(memory, (const T *)wanted.right, K, N, transposed ? 1 : N, transposed ? K : 1);
        if (rows) scratch = memory + packed;
        if (rows && wanted.bias) memset(scratch, 0, rows * sizeof(T)); // what a bias does not reach is added to
        return true;
    }
    Computation computation() { return {(problem->rows + most_rows - 1) / most_rows, &run, this}; }

    static void run(void *self, long piece) {
        RowsTask *task = (RowsTask *)self;
        const Dense &problem = *task->problem;
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

// Sums over many rows are formed of chunks of them, each of which has sums of its own: into how many, by the sizes alone,
// so that the numbers do not depend on how many threads there are.
constexpr long block_rows = 64; // of a chunk, added up by themselves: sums of sums lose little to rounding
inline long chunks_of(long rows) {
    constexpr long chunk_rows = 8 * block_rows, most_chunks = 16;
    long chunks = (rows + chunk_rows - 1) / chunk_rows;
    return chunks < most_chunks ? chunks : most_chunks;
}

// The sums of all chunks, into the first.
template <class T> void join(T *sums, long chunks, long numbers) {
    for (long chunk = 1; chunk < chunks; ++chunk)
        for (long n = 0; n < numbers; ++n) sums[n] += sums[chunk * numbers + n];
}

// Rows of left^T right: sums over all rows of both. A piece is some rows of the result, and of what is summed a chunk, so
// that a small result reads both matrices once. Of a block of rows a panel of `right` fits the first cache.
template <class T> struct SumsTask {
    static constexpr long tile = 4;
    const Dense *problem = nullptr;
    T *sums = nullptr; // (chunks, K, padded N)
    T *last = nullptr; // the last row of `right`, padded: beyond it there may be no memory
    long chunks = 0;
    long piece_rows = 0; // of the result
    ~SumsTask() { free(sums); }

    // Whether there is memory.
    bool prepare(const Dense &wanted) {
        constexpr long cached = 1 << 16; // so many sums fit the second cache beside what is summed
        problem = &wanted;
        long K = wanted.depth, N = wanted.columns, room = padded<T>(N), threads = wanted.threads < 1 ? 1 : wanted.threads;
        chunks = K * room > cached ? 1 : chunks_of(wanted.rows);
        size_t numbers = (size_t)((chunks * K + 1) * room);
        if (posix_memalign((void **)&sums, 64, numbers * sizeof(T) + 64)) return false;
        memset(sums, 0, numbers * sizeof(T));
        last = sums + chunks * K * room;
        memcpy(last, (const T *)wanted.right + (wanted.rows - 1) * wanted.right_stride, (size_t)N * sizeof(T));
        // A piece of a lone chunk reads all of `right`: many rows a piece, but several pieces for each thread.
        long tiles = K / (4 * tile * threads);
        piece_rows = chunks > 1 ? K : tile * (tiles < 1 ? 1 : tiles > 16 ? 16 : tiles);
        return true;
    }
    Computation computation() {
        return {chunks * ((problem->depth + piece_rows - 1) / piece_rows), &run, this,
                [](void *self) { ((SumsTask *)self)->finish(); }};
    }
    void finish() {
        long K = problem->depth, N = problem->columns, room = padded<T>(N);
        join(sums, chunks, K * room);
        T *out = (T *)problem->out, *from = sums;
        for (long k = 0; k < K; ++k, out += N, from += room) {
            if (problem->add)
                for (long n = 0; n < N; ++n) from[n] += out[n];
            memcpy(out, from, (size_t)N * sizeof(T));
        }
    }

    static void run(void *self, long piece) {
        SumsTask *task = (SumsTask *)self;
        const Dense &problem = *task->problem;
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
        long room = padded<T>(problem->columns);
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
};

// The sum of all rows; a piece is a chunk of them.
template <class T> struct ColumnSumsTask {
    const Dense *problem = nullptr;
    T *sums = nullptr; // (chunks, K), and after them as much for blocks of rows
    long chunks = 0;
    ~ColumnSumsTask() { free(sums); }

    // Whether there is memory.
    bool prepare(const Dense &wanted) {
        problem = &wanted;
        chunks = chunks_of(wanted.rows);
        size_t bytes = (size_t)(2 * chunks * wanted.depth) * sizeof(T);
        if (posix_memalign((void **)&sums, 64, bytes + 64)) return false;
        memset(sums, 0, bytes);
        return true;
    }
    Computation computation() {
        return {chunks, &run, this, [](void *self) { ((ColumnSumsTask *)self)->finish(); }};
    }
    void finish() {
        join(sums, chunks, problem->depth);
        memcpy(problem->out, sums, (size_t)problem->depth * sizeof(T));
    }

    static void run(void *self, long chunk) {
        ColumnSumsTask *task = (ColumnSumsTask *)self;
        const Dense &problem = *task->problem;
        long K = problem.depth, end = problem.rows * (chunk + 1) / task->chunks;
        T *sums = task->sums + chunk * K, *block = sums + task->chunks * K;
        for (long row = problem.rows * chunk / task->chunks; row < end;) {
            long until = row + block_rows < end ? row + block_rows : end;
            memset(block, 0, (size_t)K * sizeof(T));
            for (; row < until; ++row) {
                const T *from = (const T *)problem.left + row * problem.left_stride;
                for (long k = 0; k < K; ++k) block[k] += from[k];
            }
            for (long k = 0; k < K; ++k) sums[k] += block[k];
        }
    }
};

// Some that know nothing of one another, in one go: a thread that is done with one has not to wait for the others.
struct Together {
    Computation computations[MOST_DENSE];
    long count = 0;

    void run(long threads) {
        long pieces = 0;
        for (long n = 0; n < count; ++n) pieces += computations[n].pieces;
        run_pieces(&Together::run_piece, this, pieces, threads);
        for (long n = 0; n < count; ++n)
            if (computations[n].finish) computations[n].finish(computations[n].task);
    }
    static void run_piece(void *self, long piece) {
        const Computation *which = ((Together *)self)->computations;
        for (; piece >= which->pieces; ++which) piece -= which->pieces;
        which->run(which->task, piece);
    }
};

// 0, or -1 when there is no memory.
template <class T> int run_dense_of(const Dense *problems, long count) {
    RowsTask<T> rows[MOST_DENSE];
    SumsTask<T> sums[MOST_DENSE];
    ColumnSumsTask<T> columns[MOST_DENSE];
    Together all;
    auto add = [&](auto &task, const Dense &problem) {
        if (!task.prepare(problem)) return false;
        all.computations[all.count++] = task.computation();
        return true;
    };
    for (long n = 0; n < count; ++n) {
        const Dense &problem = problems[n];
        bool memory = problem.kind == TRANSPOSED_TIMES ? add(sums[n], problem)
                      : problem.kind == COLUMN_SUMS    ? add(columns[n], problem)
                                                       : add(rows[n], problem);
        if (!memory) return -1;
    }
    all.run(problems->threads);
    return 0;
}
inline int run_dense(const Dense *problems, long count) {
    int failed = 0;
    for (; count > 0 && !failed; problems += MOST_DENSE, count -= MOST_DENSE) {
        long some = count < MOST_DENSE ? count : (long)MOST_DENSE;
        failed = problems->double_precision ? run_dense_of<double>(problems, some) : run_dense_of<float>(problems, some);
    }
    return failed;
}

} // namespace
