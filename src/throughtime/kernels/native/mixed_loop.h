// The loop of mixed.h for processors that multiply pairs of bfloat16 numbers: 32 products an instruction.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "bfloat16.h"
#include "mixed.h"
#include "pool.h"

namespace {

typedef uint32_t Pair; // two bfloat16 numbers that are multiplied by two others and added up

constexpr long panel_vectors = 4, panel_width = panel_vectors * lanes, most_rows = 6;
constexpr long depth_of_block = 512; // pairs: such a piece of a panel stays in the second cache

// A matrix of 2 * depth rows and `columns` columns, a multiple of 16: block after block of rows, therein panel after panel.
struct PackedPairs {
    Pair *data;
    long depth, columns;
};

// The matrix whose element (k, n) is source[k * by_row + n * by_column].
PackedPairs pack_pairs(Pair *data, const uint16_t *source, long depth, long columns, long by_row, long by_column) {
    Pair *to = data;
    for (long top = 0; top < depth; top += depth_of_block) {
        long bottom = top + depth_of_block < depth ? top + depth_of_block : depth;
        for (long first = 0; first < columns; first += panel_width) {
            long end = first + panel_width < columns ? first + panel_width : columns;
            for (long k = top; k < bottom; ++k)
                for (long n = first; n < end; ++n) {
                    const uint16_t *at = source + 2 * k * by_row + n * by_column;
                    *to++ = (Pair)at[0] | (Pair)at[by_row] << 16;
                }
        }
    }
    return PackedPairs{data, depth, columns};
}

// out += a panel, for R rows of `depth` pairs.
template <int R, int V>
__attribute__((noinline)) void pair_tile(const Pair *a, long a_stride, const Pair *panel, long depth, float *out, long stride) {
    __m512 sums[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] = _mm512_loadu_ps(out + r * stride + v * lanes);
    for (long k = 0; k < depth; ++k, panel += V * lanes) {
        __m512bh column[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) column[v] = (__m512bh)_mm512_loadu_si512(panel + v * lanes);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
            __m512bh value = (__m512bh)_mm512_set1_epi32((int)a[r * a_stride + k]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], value, column[v]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) _mm512_storeu_ps(out + r * stride + v * lanes, sums[r][v]);
}

template <int V>
INLINE void pair_tiles(long rows, const Pair *a, long a_stride, const Pair *panel, long depth, float *out, long stride) {
    switch (rows) {
    case 1: return pair_tile<1, V>(a, a_stride, panel, depth, out, stride);
    case 2: return pair_tile<2, V>(a, a_stride, panel, depth, out, stride);
    case 3: return pair_tile<3, V>(a, a_stride, panel, depth, out, stride);
    case 4: return pair_tile<4, V>(a, a_stride, panel, depth, out, stride);
    case 5: return pair_tile<5, V>(a, a_stride, panel, depth, out, stride);
    default: return pair_tile<6, V>(a, a_stride, panel, depth, out, stride);
    }
}

// out += a matrix, for `rows` rows of 2 * matrix.depth numbers each.
void add_products(long rows, const uint16_t *a, const PackedPairs &matrix, float *out) {
    long blocks = (rows + most_rows - 1) / most_rows;
    const Pair *panel = matrix.data;
    for (long top = 0; top < matrix.depth; top += depth_of_block) {
        long depth = top + depth_of_block < matrix.depth ? depth_of_block : matrix.depth - top;
        for (long first = 0; first < matrix.columns; first += panel_width) {
            long left = matrix.columns - first, vectors = left < panel_width ? left / lanes : panel_vectors;
            for (long block = 0; block < blocks; ++block) {
                long begin = rows * block / blocks, count = rows * (block + 1) / blocks - begin;
                const Pair *from = (const Pair *)a + begin * matrix.depth + top;
                float *to = out + begin * matrix.columns + first;
                if (vectors == 1) pair_tiles<1>(count, from, matrix.depth, panel, depth, to, matrix.columns);
                else if (vectors == 2) pair_tiles<2>(count, from, matrix.depth, panel, depth, to, matrix.columns);
                else if (vectors == 3) pair_tiles<3>(count, from, matrix.depth, panel, depth, to, matrix.columns);
                else pair_tiles<4>(count, from, matrix.depth, panel, depth, to, matrix.columns);
            }
            panel += depth * vectors * lanes;
        }
    }
}

struct MixedLoop {
    const Mixed &problem;
    PackedPairs matrix;
    float *sums; // forward (B, 4 H), what the gates are functions of; backward (chains, 4 H), the gradients by the bias

    template <class N> N *place(N *array, long t, long row, long width) const {
        return array + (t * problem.batch + row) * width;
    }

    void forward(long t, long first, long count) {
        long H = problem.units, G = 4 * H;
        for (long row = first; row < first + count; ++row) {
            const float *h = t ? place(problem.outputs, t - 1, row, H) : place(problem.h, 0, row, H);
            uint16_t *before = place(problem.before, t, row, H);
            const uint16_t *projected = place(problem.projected, t, row, G);
            float *sum = place(sums, 0, row, G);
            for (long unit = 0; unit < H; unit += lanes) store_rounded(before + unit, load(h + unit));
            for (long n = 0; n < G; n += lanes) store(sum + n, widened(projected + n) + load(problem.bias + n));
            if (!t) memcpy(place(problem.cells, 0, row, H), place(problem.c, 0, row, H), (size_t)H * sizeof(float));
        }
        add_products(count, place(problem.before, t, first, H), matrix, place(sums, 0, first, G));
        for (long row = first; row < first + count; ++row) {
            const float *sum = place(sums, 0, row, G), *c_before = place(problem.cells, t, row, H);
            float *gates = place(problem.gates, t, row, G), *c_after = place(problem.cells, t + 1, row, H);
            float *h = place(problem.outputs, t, row, H);
            for (long unit = 0; unit < H; unit += lanes) {
                Vector<float> i = sigmoid<float>(load(sum + unit)), f = sigmoid<float>(load(sum + H + unit));
                Vector<float> g = hyperbolic_tangent<float>(load(sum + 2 * H + unit));
                Vector<float> o = sigmoid<float>(load(sum + 3 * H + unit)), c = f * load(c_before + unit) + i * g;
                store(gates + unit, i);
                store(gates + H + unit, f);
                store(gates + 2 * H + unit, g);
                store(gates + 3 * H + unit, o);
                store(c_after + unit, c);
                store(h + unit, o * hyperbolic_tangent<float>(c));
            }
        }
    }

    void backward(long t, long first, long count, float *by_bias) {
        long H = problem.units, G = 4 * H;
        for (long row = first; row < first + count; ++row) {
            const float *gates = place(problem.gates, t, row, G), *d_y = place(problem.d_outputs, t, row, H);
            const float *c_before = place(problem.cells, t, row, H), *c_after = place(problem.cells, t + 1, row, H);
            float *d_h = place(problem.d_h, 0, row, H), *d_c = place(problem.d_c, 0, row, H);
            uint16_t *d_gates = place(problem.d_gates, t, row, G);
            for (long unit = 0; unit < H; unit += lanes) {
                Vector<float> i = load(gates + unit), f = load(gates + H + unit), g = load(gates + 2 * H + unit);
                Vector<float> o = load(gates + 3 * H + unit), squashed = hyperbolic_tangent<float>(load(c_after + unit));
                Vector<float> by_h = load(d_y + unit), by_c = load(d_c + unit);
                if (t + 1 < problem.steps) by_h += load(d_h + unit);
                by_c += by_h * o * (1 - squashed * squashed);
                Vector<float> by_sums[] = {by_c * g * i * (1 - i), by_c * load(c_before + unit) * f * (1 - f),
                                           by_c * i * (1 - g * g), by_h * squashed * o * (1 - o)};
#pragma GCC unroll 4
                for (long gate = 0; gate < 4; ++gate) {
                    store_rounded(d_gates + gate * H + unit, by_sums[gate]);
                    store(by_bias + gate * H + unit, load(by_bias + gate * H + unit) + by_sums[gate]);
                }
                store(d_c + unit, by_c * f);
                store(d_h + unit, Vector<float>{});
            }
        }
        add_products(count, place(problem.d_gates, t, first, G), matrix, place(problem.d_h, 0, first, H));
    }

};

struct MixedTask {
    MixedLoop loop;
    bool backward;
    long chains;
    static void run(void *self, long chain, long step) {
        MixedTask *task = (MixedTask *)self;
        long batch = task->loop.problem.batch, first = batch * chain / task->chains;
        long count = batch * (chain + 1) / task->chains - first;
        MixedLoop &loop = task->loop;
        if (!task->backward) loop.forward(step, first, count);
        else loop.backward(loop.problem.steps - 1 - step, first, count, loop.sums + chain * 4 * loop.problem.units);
    }
};

// 0, or -1 when there is no memory.
int run_mixed_loop(const Mixed &problem, bool backward) {
    long H = problem.units, G = 4 * H, chains = chains_of(problem.batch, problem.threads);
    size_t pairs = (size_t)G * (H / 2), sums = (size_t)(backward ? chains : problem.batch) * G;
    void *memory;
    if (posix_memalign(&memory, 64, pairs * sizeof(Pair) + sums * sizeof(float))) return -1;
    Pair *data = (Pair *)memory;
    PackedPairs matrix = backward ? pack_pairs(data, problem.weight, 2 * H, H, H, 1)
                                  : pack_pairs(data, problem.weight, H / 2, G, 1, H);
    MixedTask task{{problem, matrix, (float *)(data + pairs)}, backward, chains};
    memset(task.loop.sums, 0, sums * sizeof(float));
    run_chains(&MixedTask::run, &task, chains, problem.steps, problem.threads);
    if (backward)
        for (long n = 0; n < G; n += lanes) {
            Vector<float> sum = {};
            for (long chain = 0; chain < chains; ++chain) sum += load(task.loop.sums + chain * G + n);
            store(problem.d_bias + n, sum);
        }
    free(memory);
    return 0;
}

} // namespace
