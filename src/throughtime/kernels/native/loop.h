// The loop over time, forward and backward, for any cell; a thread takes its own rows through all the steps.
//
// A cell is a struct template over the scalar (cells/*.h) with
//     states                                    how many arrays (B, H) its state has
//     output_is_state                           whether the output is the first of them, after the step
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
    return Widths{Cell::blocks * H, Cell::recurrent_blocks * H, Cell::saved * H, 0};
}
template <class Cell> Widths widths_of(const Problem &problem) {
    Widths found = widths_of<Cell>(problem, 0);
    found.output_is_state = Cell::output_is_state;
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
    T *memory;
    bool failed;

    Loop(const Problem &problem, bool backward)
        : problem(problem), widths(widths_of<Cell<T>>(problem)), setup{problem, backward, {}, 0, 0, nullptr, 0},
          memory(nullptr), failed(false) {
        Cell<T>::setup(setup);
        if (setup.used) {
            if (posix_memalign((void **)&memory, 64, (size_t)setup.used * sizeof(T))) {
                failed = true;
                return;
            }
            setup.arena = memory;
            setup.num_packed = setup.used = 0;
            Cell<T>::setup(setup);
        }
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
    const unsigned char *mark_beyond(unsigned char *marks, long step, long first, long count) const {
        if (!problem.lengths) return nullptr;
        for (long row = 0; row < count; ++row) marks[row] = problem.lengths[first + row] <= step;
        return marks;
    }

    void forward(long first, long count) {
        constexpr int states = Cell<T>::states;
        long H = units();
        bool keep = problem.keep;
        size_t numbers = (size_t)count * (setup.scratch + (keep ? 0 : widths.saved));
        T *scratch;
        if (posix_memalign((void **)&scratch, 64, numbers * sizeof(T) + (size_t)count + 64)) { failed = true; return; }
        T *saved_once = scratch + count * setup.scratch;
        unsigned char *marks = (unsigned char *)(scratch + numbers);

        for (int s = 0; s < states; ++s)
            copy(before(s, 0, first).data, rows(problem.start[s], 0, first, H).data, count * H);
        for (long t = 0; t < problem.steps; ++t) {
            Forward<T> step{{problem, setup.packed, count, H, mark_beyond(marks, t, first, count),
                             Rows<T>{scratch, setup.scratch}, rows(problem.projected, t, first, widths.projected), {}},
                            {}, rows(problem.outputs, t, first, H),
                            keep ? rows(problem.saved, t, first, widths.saved) : Rows<T>{saved_once, widths.saved}};
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
        if (in_outputs(0))
            for (long row = first; row < first + count; ++row)
                copy(rows(problem.final_state[0], 0, row, H).data,
                     before(0, problem.lengths ? problem.lengths[row] : problem.steps, row).data, H);
        free(scratch);
    }

    void backward(long first, long count) {
        constexpr int states = Cell<T>::states;
        long H = units(), room = padded<T>(H);
        T *scratch;
        size_t numbers = (size_t)count * (setup.scratch + states * room);
        if (posix_memalign((void **)&scratch, 64, numbers * sizeof(T) + (size_t)count + 64)) { failed = true; return; }
        unsigned char *marks = (unsigned char *)(scratch + numbers);
        Rows<T> d_state[states];
        for (int s = 0; s < states; ++s) {
            d_state[s] = Rows<T>{scratch + count * (setup.scratch + s * room), room};
            zero(d_state[s].data, count * room);
            if (problem.d_final_state[s])
                for (long row = 0; row < count; ++row)
                    copy(d_state[s][row], rows(problem.d_final_state[s], 0, first + row, H).data, H);
        }
        for (long t = problem.steps - 1; t >= 0; --t) {
            Backward<T> step{{problem, setup.packed, count, H, mark_beyond(marks, t, first, count),
                              Rows<T>{scratch, setup.scratch}, rows(problem.projected, t, first, widths.projected), {}},
                             rows((const void *)problem.saved, t, first, widths.saved),
                             rows((const void *)problem.outputs, t, first, H),
                             rows(problem.d_outputs, t, first, H), {},
                             rows(problem.d_projected, t, first, widths.projected),
                             widths.recurrent ? rows(problem.d_recurrent, t, first, widths.recurrent)
                                              : rows(problem.d_projected, t, first, widths.projected)};
            for (int s = 0; s < states; ++s) {
                Rows<T> state = before(s, t, first);
                step.before[s] = Rows<const T>{state.data, state.stride};
                step.d_state[s] = d_state[s];
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
                        for (int s = 0; s < states; ++s) zero(d_state[s][row], room);
        }
        for (int s = 0; s < states; ++s)
            for (long row = 0; row < count; ++row)
                copy(rows(problem.d_start[s], 0, first + row, H).data, d_state[s][row], H);
        free(scratch);
    }
};

template <class L> struct Task {
    L *loop;
    bool backward;
    long batch, parts;
    static void run(void *self, long part) {
        Task *task = (Task *)self;
        long begin = task->batch * part / task->parts, end = task->batch * (part + 1) / task->parts;
        if (task->backward) task->loop->backward(begin, end - begin);
        else task->loop->forward(begin, end - begin);
    }
};

// 0, or -1 when there is no memory.
template <template <class> class Cell, class T> int run_loop(const Problem &problem, bool backward) {
    Loop<Cell, T> loop(problem, backward);
    if (loop.failed) return -1;
    long parts = problem.threads < problem.batch ? problem.threads : problem.batch;
    Task<Loop<Cell, T>> task{&loop, backward, problem.batch, parts < 1 ? 1 : parts};
    run_parallel(&Task<Loop<Cell, T>>::run, &task, task.parts);
    return loop.failed ? -1 : 0;
}

} // namespace
