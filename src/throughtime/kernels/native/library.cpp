// The C ABI of the library, and the choice of the instruction set.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "cross_entropy.h"
#include "dense.h"
#include "linear.h"
#include "mixed.h"
#include "pool.h"
#include "problem.h"

typedef int (*Run)(const char *, const Problem &, bool);
typedef int (*RunLinear)(const Linear &, bool);
typedef int (*RunDense)(const Dense *, long);

const char *loop_name(int index);
int loop_widths(const char *name, const Problem &problem, Widths *widths);
int run_portable(const char *name, const Problem &problem, bool backward);
int run_linear_portable(const Linear &problem, bool backward);
int run_dense_portable(const Dense *problems, long count);
bool compiled_for_bfloat16();
int run_mixed_bfloat16(const Mixed &problem, bool backward);
int run_cross_entropy_bfloat16(const CrossEntropy &problem);
#if defined(__x86_64__)
int run_avx2(const char *name, const Problem &problem, bool backward);
int run_linear_avx2(const Linear &problem, bool backward);
int run_dense_avx2(const Dense *problems, long count);
int run_avx512(const char *name, const Problem &problem, bool backward);
int run_linear_avx512(const Linear &problem, bool backward);
int run_dense_avx512(const Dense *problems, long count);
#endif

namespace {

struct InstructionSet {
    const char *name;
    Run run;
    RunLinear run_linear;
    RunDense run_dense;
};

InstructionSet best() {
    const char *wanted = getenv("THROUGHTIME_ISA"); // for tests: no better one than this
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool any = !wanted || !*wanted;
    if ((any || !strcmp(wanted, "avx512")) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"))
        return {"avx512", run_avx512, run_linear_avx512, run_dense_avx512};
    if ((any || strcmp(wanted, "portable")) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return {"avx2", run_avx2, run_linear_avx2, run_dense_avx2};
#else
    (void)wanted;
#endif
    return {"portable", run_portable, run_linear_portable, run_dense_portable};
}

const InstructionSet &chosen() {
    static const InstructionSet set = best();
    return set;
}

// Whether the processor multiplies pairs of bfloat16 numbers.
bool has_bfloat16() {
#if defined(__x86_64__)
    return compiled_for_bfloat16() && !strcmp(chosen().name, "avx512") && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

// Whether it multiplies whole tiles of them (AMX), as torch's products do: they are faster then than the loop.
bool has_tiles() {
#if defined(__x86_64__)
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 1);
#else
    return false;
#endif
}

} // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// Python looks at these before it calls anything else, and refuses a library that was built from other source.
EXPORT int64_t throughtime_interface() { return INTERFACE; }
EXPORT int64_t throughtime_problem_bytes() { return sizeof(Problem); }
EXPORT int64_t throughtime_linear_bytes() { return sizeof(Linear); }
EXPORT int64_t throughtime_dense_bytes() { return sizeof(Dense); }
EXPORT int64_t throughtime_mixed_bytes() { return sizeof(Mixed); }
EXPORT int64_t throughtime_cross_entropy_bytes() { return sizeof(CrossEntropy); }

EXPORT const char *throughtime_instruction_set() { return chosen().name; }

// See pool.h; called once, after loading.
EXPORT void throughtime_use_team(void *gomp_parallel) { use_team(gomp_parallel); }

// Asks for large pages under an array that is about to be written: a page fault every 4 KiB costs more than the writing.
EXPORT void throughtime_advise(void *array, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t page = (uintptr_t)1 << 21;
    uintptr_t begin = ((uintptr_t)array + page - 1) & ~(page - 1), end = ((uintptr_t)array + (uintptr_t)bytes) & ~(page - 1);
    if (begin < end) madvise((void *)begin, end - begin, MADV_HUGEPAGE); // a refusal changes nothing
#else
    (void)array, (void)bytes;
#endif
}

// The names of the loops one by one; null after the last.
EXPORT const char *throughtime_loop(int index) { return loop_name(index); }

// How wide the arrays of a loop are; it reads the sizes and constants of `problem` alone. 0: done. -2: no such loop.
EXPORT int throughtime_widths(const char *name, const Problem *problem, Widths *widths) {
    return loop_widths(name, *problem, widths);
}

// 0: done. -1: no memory. -2: no such loop.
EXPORT int throughtime_run(const char *name, const Problem *problem, int backward) {
    return chosen().run(name, *problem, backward != 0);
}

// Mixed precision. 0: nothing for this processor. 1: all of it. 2: all of it, and torch's own products beat the loop's.
EXPORT int throughtime_mixed() { return !has_bfloat16() ? 0 : has_tiles() ? 2 : 1; }

// 0: done. -1: no memory. -2: no such loop.
EXPORT int throughtime_run_mixed(const Mixed *problem, int backward) {
    return has_bfloat16() ? run_mixed_bfloat16(*problem, backward != 0) : -2;
}

// As throughtime_run_mixed.
EXPORT int throughtime_run_cross_entropy(const CrossEntropy *problem) {
    return has_bfloat16() ? run_cross_entropy_bfloat16(*problem) : -2;
}

EXPORT int throughtime_run_linear(const Linear *problem, int backward) {
    return chosen().run_linear(*problem, backward != 0);
}

// All of one precision, by the threads of the first. 0: done. -1: no memory.
EXPORT int throughtime_run_dense(const Dense *problems, int count) { return chosen().run_dense(problems, count); }

} // extern "C"
