// The loops for any processor.
#define THROUGHTIME_BYTES 16
#include "dense_loop.h"
#include "linear_loop.h"
#include "table.h"

int run_portable(const char *name, const Problem &problem, bool backward) { return run_by_name(name, problem, backward); }
int run_linear_portable(const Linear &problem, bool backward) { return run_linear(problem, backward); }
int run_dense_portable(const Dense *problems, long count) { return run_dense(problems, count); }

const char *loop_name(int index) { return name_at(index); }
int loop_widths(const char *name, const Problem &problem, Widths *widths) {
    const Entry *entry = entry_of(name);
    if (!entry) return -2;
    *widths = entry->widths(problem);
    return 0;
}
