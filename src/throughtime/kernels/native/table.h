// The loops of one instruction set, by name; compiled once for each (isa_*.cpp).
#pragma once
#include "cells/antisymmetric.h"
#include "cells/cornn.h"
#include "cells/coupled_lstm.h"
#include "cells/elman.h"
#include "cells/gru.h"
#include "cells/indrnn.h"
#include "cells/layer_norm_lstm.h"
#include "cells/lem.h"
#include "cells/lstm.h"
#include "cells/mogrifier.h"
#include "cells/slstm.h"
#include "cells/sru.h"

namespace {

struct Entry {
    const char *name;
    Widths (*widths)(const Problem &);
    int (*run[2])(const Problem &, bool); // float, double
};

#define THROUGHTIME_LOOP(name, Cell) \
    {name, widths_of<Cell<float>>, {run_loop<Cell, float>, run_loop<Cell, double>}}

const Entry table[] = {
    THROUGHTIME_LOOP("elman_tanh", ElmanTanh),
    THROUGHTIME_LOOP("elman_relu", ElmanRelu),
    THROUGHTIME_LOOP("gru", Gru),
    THROUGHTIME_LOOP("lstm", Lstm),
    THROUGHTIME_LOOP("coupled_lstm", CoupledLstm),
    THROUGHTIME_LOOP("layer_norm_lstm", LayerNormLstm),
    THROUGHTIME_LOOP("mogrifier", Mogrifier),
    THROUGHTIME_LOOP("slstm", Slstm),
    THROUGHTIME_LOOP("antisymmetric", Antisymmetric),
    THROUGHTIME_LOOP("antisymmetric_gated", AntisymmetricGated),
    THROUGHTIME_LOOP("cornn", CoRnn),
    THROUGHTIME_LOOP("lem", Lem),
    THROUGHTIME_LOOP("indrnn_tanh", IndRnnTanh),
    THROUGHTIME_LOOP("indrnn_relu", IndRnnRelu),
    THROUGHTIME_LOOP("sru", Sru),
};

// Null after the last.
inline const char *name_at(int index) {
    return index < (int)(sizeof table / sizeof *table) ? table[index].name : nullptr;
}

inline const Entry *entry_of(const char *name) {
    for (const Entry &entry : table)
        if (!strcmp(entry.name, name)) return &entry;
    return nullptr;
}

inline int run_by_name(const char *name, const Problem &problem, bool backward) {
    const Entry *entry = entry_of(name);
    return entry ? entry->run[problem.double_precision != 0](problem, backward) : -2;
}

} // namespace
