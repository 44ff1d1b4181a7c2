// The loops of one instruction set, by name; compiled once for each (isa_*.cpp).
#pragma once
#include "cells/elman.h"
#include "cells/gru.h"
#include "cells/lstm.h"

namespace {

struct Entry {
    Shape shape;
    int (*run[2])(const Problem &, bool); // float, double
};

#define THROUGHTIME_LOOP(name, Cell) \
    {{name, Cell<float>::states, Cell<float>::blocks, Cell<float>::recurrent_blocks, Cell<float>::saved}, \
     {run_loop<Cell, float>, run_loop<Cell, double>}}

const Entry table[] = {
    THROUGHTIME_LOOP("elman_tanh", ElmanTanh),
    THROUGHTIME_LOOP("elman_relu", ElmanRelu),
    THROUGHTIME_LOOP("gru", Gru),
    THROUGHTIME_LOOP("lstm", Lstm),
};

inline const Shape *shape_at(int index) {
    return index < (int)(sizeof table / sizeof *table) ? &table[index].shape : nullptr;
}

int run_by_name(const char *name, const Problem &problem, bool backward) {
    for (const Entry &entry : table)
        if (!strcmp(entry.shape.name, name)) return entry.run[problem.double_precision != 0](problem, backward);
    return -2;
}

} // namespace
