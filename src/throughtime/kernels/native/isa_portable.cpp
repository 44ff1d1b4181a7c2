// The loops for any processor.
#define THROUGHTIME_BYTES 16
#include "linear_loop.h"
#include "table.h"

int run_portable(const char *name, const Problem &problem, bool backward) { return run_by_name(name, problem, backward); }
int run_linear_portable(const Linear &problem, bool backward) { return run_linear(problem, backward); }

const Shape *loop_shape(int index) { return shape_at(index); }
