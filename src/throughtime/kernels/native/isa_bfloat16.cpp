// What computes in mixed precision, for processors with AVX512 and products of bfloat16 pairs.
#include "cross_entropy.h"
#include "mixed.h"

#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 10 && !defined(__clang__) // clang ignores the pragma
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,fma")
#define THROUGHTIME_BYTES 64
#include "cross_entropy_rows.h"
#include "mixed_loop.h"

bool compiled_for_bfloat16() { return true; }
int run_mixed_bfloat16(const Mixed &problem, bool backward) { return run_mixed_loop(problem, backward); }
int run_cross_entropy_bfloat16(const CrossEntropy &problem) { return run_cross_entropy(problem); }
#else
bool compiled_for_bfloat16() { return false; }
int run_mixed_bfloat16(const Mixed &, bool) { return -2; }
int run_cross_entropy_bfloat16(const CrossEntropy &) { return -2; }
#endif
