// The loops for processors with AVX512.
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,fma")
#define THROUGHTIME_BYTES 64
#include "dense_loop.h"
#include "linear_loop.h"
#include "table.h"

int run_avx512(const char *name, const Problem &problem, bool backward) { return run_by_name(name, problem, backward); }
int run_linear_avx512(const Linear &problem, bool backward) { return run_linear(problem, backward); }
int run_dense_avx512(const Dense *problems, long count) { return run_dense(problems, count); }
#endif
