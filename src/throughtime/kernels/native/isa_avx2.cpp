// The loops for processors with AVX2.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#define THROUGHTIME_BYTES 32
#include "dense_loop.h"
#include "linear_loop.h"
#include "table.h"

int run_avx2(const char *name, const Problem &problem, bool backward) { return run_by_name(name, problem, backward); }
int run_linear_avx2(const Linear &problem, bool backward) { return run_linear(problem, backward); }
int run_dense_avx2(const Dense *problems, long count) { return run_dense(problems, count); }
#endif
