// The loop over time, forward and backward, for any cell. The rows of a batch are cut into chains that know nothing of one
// another, each chain into stretches of steps: threads take stretches as they get free (pool.h), and none waits for another.
//
// A cell is a struct template over the scalar (cells/*.h) with
//     states                                    how many arrays (B, H) its state has
//     output_is_state                           whether the output is the first of them, after the step
//     backward_reads_projected                  whether the way back wants what the input was projected to
//     blocks, recurrent_blocks, saved           numbers of blocks of H: of d_projected, of d_recurrent (0 where that is
//                                               d_projected), of what it keeps for the way back; in their place,
//     widths(const Problem&)                    where blocks of H do not tell
//     setup(Setup&)                             asks for packed matrices, and for scratch numbers and sums a row
//     forward(Forward&), backward(Backward&)    one step of some rows
// All rows of a step are at hand at once, so a cell may multiply them by a matrix as often as it likes. Rows beyond their
// length (`skip`) are left alone by forward; backward leaves d_state and writes zeros to d_projected and d_recurrent.
#pragma once
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "problem.h"
#include "product.h"

namespace {

enum { MAX_PACKED = 24 };
constexpr long most_stretches = 32; // enough that little is left to wait for at the end

template <class Cell> auto widths_of(const Problem &problem, int) -> decltype(Cell::widths(problem)) {
    return Cell::widths(problem);
}
template <class Cell> Widths widths_of(const Problem &problem, long) { // taken where the cell has no `widths`
    int64_t H = problem.units;
    return Widths{Cell::blocks * H, Cell::recurrent_blocks * H, Cell::saved * H, 0, 0, 0};
}
template <class Cell> Widths widths_of(const Problem &problem) {
    Widths found = widths_of<Cell>(problem, 0);
    found.output_is_state = Cell::output_is_state;
    found.backward_reads_projected = Cell::backward_reads_projected;
    return found;
}

template <class T> struct Setup {
    const Problem &problem;
    bool backward;
    Packed<T> packed[MAX_PACKED];
    long num_packed, scratch; // scratch: numbers a row
    T *arena;                 // null while sizes are only counted
    long used;

    const T *weight(int index) const { return (const T *)problem.weights[index]; }
    // x W^T for a W of (columns, depth), as the forward pass wants it; returns its place in `packed`.
    long transposed(const T *source, long columns, long depth) { return add(source, depth, columns, 1, depth); }
    // x W for a W of (depth, columns), as the backward pass wants it.
    long plain(const T *source, long depth, long columns) { return add(source, depth, columns, columns, 1); }
    // W (rows, H) of weight 0, the one matrix of a cell: its transpose and room for a row of its products, or on the way
    // back W.
    void one_matrix(long rows) {
        long H = problem.units;
        if (backward) plain(weight(0), rows, H);
        else transposed(weight(0), rows, H);
        scratch = backward ? 0 : padded<T>(rows);
    }
    long add(const T *source, long depth, long columns, long by_row, long by_column) {
        if (arena) packed[num_packed] = pack(arena + used, source, depth, columns, by_row, by_column);
        used += (Packed<T>::size(depth, columns) + 63) / 64 * 64;
        return num_packed++;
    }
};

template <class T> struct Step {
    const Problem &problem;
    const Packed<T> *packed;
    long rows, units;
    const unsigned char *beyond; // of each row, or null
    Rows<T> scratch;
    Rows<const T> projected, before[MAX_STATES];

    bool skip(long row) const { return beyond && beyond[row]; }
    const T *weight(int index) const { return (const T *)problem.weights[index]; }
    T constant(int index) const { return (T)problem.constants[index]; }
};

template <class T> struct Forward : Step<T> {
    Rows<T> after[MAX_STATES], outputs, saved; // `after` may be `before`: read a unit's state before writing it
};

template <class T> struct Backward : Step<T> {
    Rows<const T> saved, outputs, d_outputs;
    Rows<T> d_state[MAX_STATES]; // by the state after the step when called, by that before it on return; padded rows
    Rows<T> d_projected, d_recurrent;
    Rows<T> d_vectors; // sums over steps, which the cell adds to
};

template <class T> INLINE void zero(T *row, long count) {
    if (count) memset(row, 0, (size_t)count * sizeof(T)); // a cell that saves nothing has no array for it
}
template <class T> INLINE void copy(T *to, const T *from, long count) {
    if (to != from) memcpy(to, from, (size_t)count * sizeof(T));
}

template <template <class> class Cell, class T> struct Loop {
    const Problem &problem;
    const Widths widths;
    Setup<T> setup;
    T *memory, *scratch; // scratch: for all rows, so that a chain finds what it left, whichever thread goes on with it
    unsigned char *marks;
    bool failed;

    Loop(const Problem &problem, bool backward)
        : problem(problem), widths(widths_of<Cell<T>>(problem)), setup{problem, backward, {}, 0, 0, nullptr, 0},
          memory(nullptr), scratch(nullptr), marks(nullptr), failed(false) {
        Cell<T>::setup(setup);
        size_t packed = (size_t)setup.used, numbers = packed + (size_t)(problem.batch * numbers_a_row());
        failed = posix_memalign((void **)&memory, 64, numbers * sizeof(T) + (size_t)problem.batch + 64) != 0;
        if (failed) return;
        scratch = memory + packed;
        marks = (unsigned char *)(memory + numbers);
        setup.arena = memory;
        setup.num_packed = setup.used = 0;
        Cell<T>::setup(setup);
    }
    ~Loop() { free(memory); }

    // In `scratch`, array after array of all rows: what the cell asked for; forward, what is saved of one step when nothing
    // is kept; backward, the gradients by the state, and the sums of one stretch.
    long numbers_a_row() const {
        if (!setup.backward) return setup.scratch + (problem.keep ? 0 : widths.saved);
        return setup.scratch + Cell<T>::states * padded<T>(units()) + padded<T>(widths.vectors);
    }
    Rows<T> scratch_rows(long numbers_before, long row, long width) const {
        return Rows<T>{scratch + problem.batch * numbers_before + row * width, width};
    }
    Rows<T> d_state(int s, long row) const {
        long room = padded<T>(units());
        return scratch_rows(setup.scratch + s * room, row, room);
    }
    Rows<T> d_vectors(long row) const {
        return scratch_rows(setup.scratch + Cell<T>::states * padded<T>(units()), row, padded<T>(widths.vectors));
    }

    long units() const { return problem.units; }
    Rows<T> rows(void *array, long step, long row, long width) const {
        return Rows<T>{(T *)array + (step * problem.batch + row) * width, width};
    }
    Rows<const T> rows(const void *array, long step, long row, long width) const {
        Rows<T> found = rows((void *)array, step, row, width);
        return Rows<const T>{found.data, found.stride};
    }
    // Whether this part of the state is not kept, because the outputs hold it.
    bool in_outputs(int s) const { return Cell<T>::output_is_state && s == 0 && problem.keep && !problem.before[0]; }
    // The state that step t begins with; of a pass that keeps nothing, that of any step.
    Rows<T> before(int s, long t, long row) const {
        long H = units();
        if (in_outputs(s)) return t ? rows(problem.outputs, t - 1, row, H) : rows((void *)problem.start[0], 0, row, H);
        return problem.keep ? rows(problem.before[s], t, row, H) : rows(problem.final_state[s], 0, row, H);
    }
    // The state that it ends with.
    Rows<T> after(int s, long t, long row) const {
        if (in_outputs(s)) return rows(problem.outputs, t, row, units());
        bool last = t + 1 == problem.steps;
        return problem.keep && !last ? before(s, t + 1, row) : rows(problem.final_state[s], 0, row, units());
    }
    // Which rows are beyond their length at `step`; null when there are no lengths.
    const unsigned char *mark_beyond(long step, long first, long count) const {
        if (!problem.lengths) return nullptr;
        for (long row = first; row < first + count; ++row) marks[row] = problem.lengths[row] <= step;
        return marks + first;
    }

    void forward(long first, long count, long begin, long end) {
        constexpr int states = Cell<T>::states;
        long H = units();
        Rows<T> saved_once = scratch_rows(setup.scratch, first, widths.saved);
        if (!begin)
            for (int s = 0; s < states; ++s)
                copy(before(s, 0, first).data, rows(problem.start[s], 0, first, H).data, count * H);
        for (long t = begin; t < end; ++t) {
            Forward<T> step{{problem, setup.packed, count, H, mark_beyond(t, first, count),
                             scratch_rows(0, first, setup.scratch), rows(problem.projected, t, first, widths.projected), {}},
                            {}, rows(problem.outputs, t, first, H),
                            problem.keep ? rows(problem.saved, t, first, widths.saved) : saved_once};
            for (int s = 0; s < states; ++s) {
                Rows<T> state = before(s, t, first);
                step.before[s] = Rows<const T>{state.data, state.stride};
                step.after[s] = after(s, t, first);
                if (problem.reset)
                    for (long row = 0; row < count; ++row)
                        if (problem.reset[t * problem.batch + first + row] && !step.skip(row))
                            copy(state[row], rows(problem.fresh[s], 0, first + row, H).data, H);
            }
            Cell<T>::forward(step);
            if (!step.beyond) continue;
            for (long row = 0; row < count; ++row) {
                if (!step.skip(row)) continue;
                zero(step.outputs[row], H);
                zero(step.saved[row], widths.saved); // 0 times what lies there must be 0 in the gradients by weights
                for (int s = 0; s < states; ++s)
                    if (!in_outputs(s)) copy(step.after[s][row], step.before[s][row], H);
            }
        }
        if (end == problem.steps && in_outputs(0))
            for (long row = first; row < first + count; ++row)
                copy(rows(problem.final_state[0], 0, row, H).data,
                     before(0, problem.lengths ? problem.lengths[row] : problem.steps, row).data, H);
    }

    // From step `end` - 1 down to step `begin`.
    void backward(long first, long count, long begin, long end) {
        constexpr int states = Cell<T>::states;
        long H = units(), room = padded<T>(H), vectors = padded<T>(widths.vectors);
        if (end == problem.steps) start_backward(first, count);
        zero(d_vectors(first).data, count * vectors);
        for (long t = end - 1; t >= begin; --t) {
            Rows<const T> projected{nullptr, 0};
            if (Cell<T>::backward_reads_projected) projected = rows(problem.projected, t, first, widths.projected);
            Backward<T> step{{problem, setup.packed, count, H, mark_beyond(t, first, count),
                              scratch_rows(0, first, setup.scratch), projected, {}},
                             rows((const void *)problem.saved, t, first, widths.saved),
                             rows((const void *)problem.outputs, t, first, H),
                             rows(problem.d_outputs, t, first, H), {},
                             rows(problem.d_projected, t, first, widths.projected),
                             widths.recurrent ? rows(problem.d_recurrent, t, first, widths.recurrent)
                                              : rows(problem.d_projected, t, first, widths.projected),
                             d_vectors(first)};
            for (int s = 0; s < states; ++s) {
                Rows<T> state = before(s, t, first);
                step.before[s] = Rows<const T>{state.data, state.stride};
                step.d_state[s] = d_state(s, first);
            }
            if (step.beyond)
                for (long row = 0; row < count; ++row)
                    if (step.skip(row)) {
                        zero(step.d_projected[row], step.d_projected.stride);
                        zero(step.d_recurrent[row], step.d_recurrent.stride);
                    }
            Cell<T>::backward(step);
            if (problem.reset)
                for (long row = 0; row < count; ++row)
                    if (problem.reset[t * problem.batch + first + row] && !step.skip(row))
                        for (int s = 0; s < states; ++s) zero(step.d_state[s][row], room);
        }
        for (long row = first; row < first + count; ++row) {
            // Sums of sums: what is added up one by one is short, so little is lost to rounding.
            T *to = rows(problem.d_vectors, 0, row, widths.vectors).data, *from = d_vectors(row).data;
            for (long n = 0; n < widths.vectors; ++n) to[n] += from[n];
            if (!begin)
                for (int s = 0; s < states; ++s) copy(rows(problem.d_start[s], 0, row, H).data, d_state(s, row).data, H);
        }
    }

    void start_backward(long first, long count) {
        long H = units();
        zero(rows(problem.d_vectors, 0, first, widths.vectors).data, count * widths.vectors);
        for (int s = 0; s < Cell<T>::states; ++s) {
            zero(d_state(s, first).data, count * padded<T>(H));
            if (problem.d_final_state[s])
                for (long row = first; row < first + count; ++row)
                    copy(d_state(s, row).data, rows(problem.d_final_state[s], 0, row, H).data, H);
        }
    }
};

template <class L> struct Task {
    L *loop;
    bool backward;
    long batch, steps, chains, stretches;
    static void run(void *self, long chain, long stretch) {
        Task *task = (Task *)self;
        long first = task->batch * chain / task->chains, count = task->batch * (chain + 1) / task->chains - first;
        if (task->backward) stretch = task->stretches - 1 - stretch;
        long begin = task->steps * stretch / task->stretches, end = task->steps * (stretch + 1) / task->stretches;
        if (task->backward) task->loop->backward(first, count, begin, end);
        else task->loop->forward(first, count, begin, end);
    }
};

// 0, or -1 when there is no memory.
template <template <class> class Cell, class T> int run_loop(const Problem &problem, bool backward) {
    Loop<Cell, T> loop(problem, backward);
    if (loop.failed) return -1;
    long stretches = problem.steps < most_stretches ? problem.steps : most_stretches;
    long chains = chains_of(problem.batch, problem.threads);
    Task<Loop<Cell, T>> task{&loop, backward, problem.batch, problem.steps, chains, stretches};
    run_chains(&Task<Loop<Cell, T>>::run, &task, chains, stretches, problem.threads);
    return 0;
}

} // namespace
