// The loop over time, forward and backward, for any cell; a chain of some rows goes through all the steps.
//
// A cell is a struct template over the scalar (cells/*.h) with
//     states                                    how many arrays (B, H) its state has
//     blocks, recurrent_blocks, saved           numbers of blocks of H: of d_projected, of d_recurrent (0 where that is
//                                               d_projected), of what it keeps for the way back; in their place,
//     widths(const Problem&)                    where blocks of H do not tell
//     setup(Setup&)                             asks for packed matrices and for scratch numbers a row
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

template <class Cell> auto widths_of(const Problem &problem, int) -> decltype(Cell::widths(problem)) {
    return Cell::widths(problem);
}
template <class Cell> Widths widths_of(const Problem &problem, long) { // taken where the cell has no `widths`
    int64_t H = problem.units;
    return Widths{Cell::blocks * H, Cell::recurrent_blocks * H, Cell::saved * H};
}
template <class Cell> Widths widths_of(const Problem &problem) { return widths_of<Cell>(problem, 0); }

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
};

template <class T> INLINE void zero(T *row, long count) {
    if (count) memset(row, 0, (size_t)count * sizeof(T)); // a cell that saves nothing has no array for it
}
template <class T> INLINE void copy(T *to, const T *from, long count) {
    if (to != from) memcpy(to, from, (size_t)count * sizeof(T));
}

template <template <class> class Cell, class T> struct Loop {
    static constexpr int states = Cell<T>::states;
    const Problem &problem;
    const Widths widths;
    const bool going_back;
    const long room; // numbers of a state in a row of scratch memory
    Setup<T> setup;
    T *memory, *scratch, *kept; // kept (going back) d_state, state by state; (forward, unless `keep`) what a step saves
    unsigned char *marks;

    // Without memory, `memory` is null.
    Loop(const Problem &problem, bool backward)
        : problem(problem), widths(widths_of<Cell<T>>(problem)), going_back(backward), room(padded<T>(problem.units)),
          setup{problem, backward, {}, 0, 0, nullptr, 0}, memory(nullptr) {
        Cell<T>::setup(setup);
        long packed = (setup.used + 63) / 64 * 64, rows = problem.batch;
        long each = setup.scratch + (backward ? states * room : problem.keep ? 0 : widths.saved);
        if (posix_memalign((void **)&memory, 64, (size_t)(packed + rows * each) * sizeof(T) + (size_t)rows + 64)) {
            memory = nullptr;
            return;
        }
        scratch = memory + packed;
        kept = scratch + rows * setup.scratch;
        marks = (unsigned char *)(scratch + rows * each);
        setup.arena = memory;
        setup.num_packed = setup.used = 0;
        Cell<T>::setup(setup);
    }
    ~Loop() { free(memory); }

    long units() const { return problem.units; }
    Rows<T> rows(void *array, long step, long row, long width) const {
        return Rows<T>{(T *)array + (step * problem.batch + row) * width, width};
    }
    Rows<const T> rows(const void *array, long step, long row, long width) const {
        Rows<T> found = rows((void *)array, step, row, width);
        return Rows<const T>{found.data, found.stride};
    }
    Rows<T> d_state(int state, long row) const { return rows(kept, state, row, room); }

    // Which rows are beyond their length at `step`; null when there are no lengths.
    const unsigned char *mark_beyond(long step, long first, long count) const {
        if (!problem.lengths) return nullptr;
        for (long row = first; row < first + count; ++row) marks[row] = problem.lengths[row] <= step;
        return marks + first;
    }
    Step<T> step_of(long t, long first, long count) const {
        return {problem, setup.packed, count, units(), mark_beyond(t, first, count),
                rows(scratch, 0, first, setup.scratch), rows(problem.projected, t, first, widths.projected), {}};
    }

    void start(long first, long count) const {
        long H = units();
        for (int s = 0; s < states; ++s)
            copy((problem.keep ? rows(problem.before[s], 0, first, H) : rows(problem.final_state[s], 0, first, H)).data,
                 rows(problem.start[s], 0, first, H).data, count * H);
    }
    void forward(long t, long first, long count) const {
        long H = units();
        bool keep = problem.keep;
        Forward<T> step{step_of(t, first, count), {}, rows(problem.outputs, t, first, H),
                        keep ? rows(problem.saved, t, first, widths.saved) : rows(kept, 0, first, widths.saved)};
        for (int s = 0; s < states; ++s) {
            Rows<T> before = keep ? rows(problem.before[s], t, first, H) : rows(problem.final_state[s], 0, first, H);
            step.before[s] = Rows<const T>{before.data, before.stride};
            step.after[s] = keep && t + 1 < problem.steps ? rows(problem.before[s], t + 1, first, H)
                                                          : rows(problem.final_state[s], 0, first, H);
            if (problem.reset)
                for (long row = 0; row < count; ++row)
                    if (problem.reset[t * problem.batch + first + row] && !step.skip(row))
                        copy(before[row], rows(problem.fresh[s], 0, first + row, H).data, H);
        }
        Cell<T>::forward(step);
        if (!step.beyond) return;
        for (long row = 0; row < count; ++row) {
            if (!step.skip(row)) continue;
            zero(step.outputs[row], H);
            zero(step.saved[row], widths.saved); // 0 times what lies there must be 0 in the gradients by weights
            for (int s = 0; s < states; ++s) copy(step.after[s][row], step.before[s][row], H);
        }
    }

    void start_back(long first, long count) const {
        long H = units();
        for (int s = 0; s < states; ++s) {
            zero(d_state(s, first).data, count * room);
            if (!problem.d_final_state[s]) continue;
            for (long row = first; row < first + count; ++row)
                copy(d_state(s, row).data, rows(problem.d_final_state[s], 0, row, H).data, H);
        }
    }
    void backward(long t, long first, long count) const {
        long H = units();
        Backward<T> step{step_of(t, first, count), rows((const void *)problem.saved, t, first, widths.saved),
                         rows((const void *)problem.outputs, t, first, H), rows(problem.d_outputs, t, first, H), {},
                         rows(problem.d_projected, t, first, widths.projected),
                         widths.recurrent ? rows(problem.d_recurrent, t, first, widths.recurrent)
                                          : rows(problem.d_projected, t, first, widths.projected)};
        for (int s = 0; s < states; ++s) {
            step.before[s] = rows((const void *)problem.before[s], t, first, H);
            step.d_state[s] = d_state(s, first);
        }
        if (step.beyond)
            for (long row = 0; row < count; ++row)
                if (step.skip(row)) {
                    zero(step.d_projected[row], step.d_projected.stride);
                    zero(step.d_recurrent[row], step.d_recurrent.stride);
                }
        Cell<T>::backward(step);
        if (!problem.reset) return;
        for (long row = 0; row < count; ++row)
            if (problem.reset[t * problem.batch + first + row] && !step.skip(row))
                for (int s = 0; s < states; ++s) zero(step.d_state[s][row], room);
    }
    void end_back(long first, long count) const {
        long H = units();
        for (int s = 0; s < states; ++s)
            for (long row = first; row < first + count; ++row)
                copy(rows(problem.d_start[s], 0, row, H).data, d_state(s, row).data, H);
    }
};

template <class L> struct Task {
    const L *loop;
    long chains, links;
    static void run(void *self, long chain, long link) {
        Task *task = (Task *)self;
        const L &loop = *task->loop;
        long batch = loop.problem.batch, steps = loop.problem.steps, first = batch * chain / task->chains;
        long count = batch * (chain + 1) / task->chains - first;
        long begin = steps * link / task->links, end = steps * (link + 1) / task->links;
        if (loop.going_back) {
            if (!link) loop.start_back(first, count);
            for (long t = begin; t < end; ++t) loop.backward(steps - 1 - t, first, count);
            if (end == steps) loop.end_back(first, count);
        } else {
            if (!link) loop.start(first, count);
            for (long t = begin; t < end; ++t) loop.forward(t, first, count);
        }
    }
};

// 0, or -1 when there is no memory.
template <template <class> class Cell, class T> int run_loop(const Problem &problem, bool backward) {
    constexpr long most_links = 32; // few enough that handing them out costs nothing
    Loop<Cell, T> loop(problem, backward);
    if (!loop.memory) return -1;
    long links = problem.steps < most_links ? problem.steps : most_links;
    Task<Loop<Cell, T>> task{&loop, chains_of(problem.batch, problem.threads, tile_rows), links};
    run_chains(&Task<Loop<Cell, T>>::run, &task, task.chains, links, problem.threads);
    return 0;
}

} // namespace
