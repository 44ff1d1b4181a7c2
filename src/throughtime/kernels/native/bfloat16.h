// bfloat16 numbers: the first half of a float.
#pragma once
#include <immintrin.h>
#include <string.h>

#include "vector.h"

namespace {

constexpr long lanes = 16;

INLINE Vector<float> widened(const uint16_t *from) {
    typedef uint16_t Halves __attribute__((vector_size(32)));
    typedef uint32_t Words __attribute__((vector_size(64)));
    Halves halves;
    memcpy(&halves, from, sizeof halves);
    return (Vector<float>)(__builtin_convertvector(halves, Words) << 16);
}
INLINE void store_rounded(uint16_t *to, Vector<float> v) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}

} // namespace
