// Vectors of THROUGHTIME_BYTES bytes through the compiler's own vector types, and the functions that cells need of them.
//
// Everything lies in an unnamed namespace: the same source is compiled once for each instruction set, and a function of
// one must never be taken for that of another by the linker. For the same reason no C++ library header is used here.
#pragma once
#include <stdint.h>

namespace {

template <class T> struct Width { static constexpr long lanes = THROUGHTIME_BYTES / (long)sizeof(T); };

template <class T> struct VectorOf { typedef T type __attribute__((vector_size(THROUGHTIME_BYTES))); };
template <class T> using Vector = typename VectorOf<T>::type;

template <class T> struct BitsOf;
template <> struct BitsOf<float> { typedef int32_t type; };
template <> struct BitsOf<double> { typedef int64_t type; };
template <class T> using Bits = typename VectorOf<typename BitsOf<T>::type>::type;

#define INLINE static inline __attribute__((always_inline))

template <class T> INLINE Vector<T> load(const T *from) {
    Vector<T> v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}
template <class T> INLINE void store(T *to, Vector<T> v) { __builtin_memcpy(to, &v, sizeof v); }

// The first `count` lanes alone, in pieces of halving size; the others are zero.
template <class T> INLINE Vector<T> load_some(const T *from, long count) {
    alignas(THROUGHTIME_BYTES) T lanes[Width<T>::lanes] = {};
    long done = 0;
#pragma GCC unroll 4
    for (long piece = Width<T>::lanes / 2; piece; piece /= 2)
        if (count & piece) {
            __builtin_memcpy(lanes + done, from + done, (unsigned long)piece * sizeof(T));
            done += piece;
        }
    return load(lanes);
}
template <class T> INLINE void store_some(T *to, Vector<T> v, long count) {
    alignas(THROUGHTIME_BYTES) T lanes[Width<T>::lanes];
    store(lanes, v);
    long done = 0;
#pragma GCC unroll 4
    for (long piece = Width<T>::lanes / 2; piece; piece /= 2)
        if (count & piece) {
            __builtin_memcpy(to + done, lanes + done, (unsigned long)piece * sizeof(T));
            done += piece;
        }
}

template <class T> INLINE Vector<T> all(T value) { return Vector<T>{} + value; }

// The sum of Bytes of numbers, by halves: lane by lane each addition would wait for the one before.
template <class T, int Bytes> struct Sum {
    INLINE T of(const T *lanes) {
        typedef T Half __attribute__((vector_size(Bytes / 2)));
        Half low, high;
        __builtin_memcpy(&low, lanes, sizeof low);
        __builtin_memcpy(&high, lanes + Bytes / 2 / (int)sizeof(T), sizeof high);
        low += high;
        T halves[Bytes / 2 / sizeof(T)];
        __builtin_memcpy(halves, &low, sizeof low);
        return Sum<T, Bytes / 2>::of(halves);
    }
};
template <> struct Sum<float, 8> {
    INLINE float of(const float *lanes) { return lanes[0] + lanes[1]; }
};
template <> struct Sum<double, 16> {
    INLINE double of(const double *lanes) { return lanes[0] + lanes[1]; }
};

template <class T> INLINE T total(Vector<T> v) { return Sum<T, THROUGHTIME_BYTES>::of((const T *)&v); }

// `count` lanes from `offset` of a row: whole vectors in one instruction, the end of a row lane by lane.
template <class T> struct Lanes {
    long offset, count;
    INLINE bool whole(const Lanes &lanes) { return lanes.count == Width<T>::lanes; }
    inline __attribute__((always_inline)) Vector<T> from(const T *row) const {
        return whole(*this) ? load(row + offset) : load_some(row + offset, count);
    }
    inline __attribute__((always_inline)) void to(T *row, Vector<T> v) const {
        if (whole(*this)) store(row + offset, v);
        else store_some(row + offset, v, count);
    }
    // v with zeros in the lanes beyond the end of a row, for sums over a row.
    inline __attribute__((always_inline)) Vector<T> only(Vector<T> v) const {
        return whole(*this) ? v : load_some((const T *)&v, count);
    }
};

// Calls f(lanes) for all units of a row.
template <class T, class F> INLINE void each_unit(long units, F f) {
    constexpr long width = Width<T>::lanes;
    long offset = 0;
    for (; offset + width <= units; offset += width) f(Lanes<T>{offset, width});
    if (offset < units) f(Lanes<T>{offset, units - offset});
}

template <class T> struct Exponent;
template <> struct Exponent<float> {
    static constexpr float round = 12582912.0f; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    static constexpr float high = 0.693359375f, low = -2.12194440e-4f; // ln 2 in two parts
    static constexpr float smallest = -87.3f, largest = 88.3f;
    static constexpr int shift = 23, bias = 127, terms = 7;
};
template <> struct Exponent<double> {
    static constexpr double round = 6755399441055744.0; // 1.5 * 2^52
    static constexpr double high = 6.93147180369123816490e-01, low = 1.90821492927058770002e-10;
    static constexpr double smallest = -708.3, largest = 709.4;
    static constexpr int shift = 52, bias = 1023, terms = 13;
};

// 1/2!, 1/3!, ...: the Taylor series is good to the last bit for |r| <= ln(2) / 2 with so many terms.
constexpr double inverse_factorial[] = {1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
    1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};

// exp(x) = scale * (1 + rest), rest small; NaN passes through, x is cut where the result would over- or underflow.
template <class T> INLINE void split_exp(Vector<T> x, Vector<T> &scale, Vector<T> &rest) {
    typedef Exponent<T> E;
    x = x > all(E::largest) ? all(E::largest) : x;
    x = x < all(E::smallest) ? all(E::smallest) : x;
    Vector<T> shifted = x * (T)1.4426950408889634074 + E::round;
    Vector<T> n = shifted - E::round;
    Vector<T> r = x - n * E::high;
    r = r - n * E::low;
    Vector<T> series = all((T)inverse_factorial[E::terms - 2]);
#pragma GCC unroll 16
    for (int term = E::terms - 3; term >= 0; --term) series = series * r + (T)inverse_factorial[term];
    rest = r * r * series + r;
    Bits<T> bits = ((Bits<T>)shifted + E::bias) << E::shift;
    scale = (Vector<T>)bits;
}

template <class T> INLINE Vector<T> exponential(Vector<T> x) {
    Vector<T> scale, rest;
    split_exp<T>(x, scale, rest);
    return scale * rest + scale;
}

template <class T> INLINE Vector<T> sigmoid(Vector<T> x) { return (T)1 / ((T)1 + exponential<T>(-x)); }

// tanh x = e / (e + 2) with e = exp(2 x) - 1, which loses no digits near zero.
template <class T> INLINE Vector<T> hyperbolic_tangent(Vector<T> x) {
    constexpr T flat = sizeof(T) == 4 ? (T)20 : (T)40;
    Vector<T> twice = x + x, scale, rest;
    twice = twice > all(flat) ? all(flat) : twice;
    twice = twice < all(-flat) ? all(-flat) : twice;
    split_exp<T>(twice, scale, rest);
    Vector<T> e = scale * rest + (scale - (T)1);
    return e / (e + (T)2);
}

// log(sigmoid(x)) = min(x, 0) - log(1 + e) with e = exp(-|x|), and its derivative sigmoid(-x). With r = e, or (e - 1) / 2
// and a log 2 outside where e is large, log(1 + r) = 2 artanh(s) at s = r / (2 + r), |s| < 0.172, by its Taylor series.
template <class T> INLINE Vector<T> log_sigmoid(Vector<T> x, Vector<T> &derivative) {
    constexpr int terms = sizeof(T) == 4 ? 5 : 10;
    Vector<T> zero = {}, one = all((T)1), e = exponential<T>(x < zero ? x : -x);
    derivative = (x < zero ? one : e) / (1 + e);
    Bits<T> large = e > all((T)0.41421356237309505);
    Vector<T> r = large ? (T)0.5 * (e - 1) : e, s = r / (r + 2), square = s * s;
    Vector<T> series = all((T)1 / (2 * terms - 1));
#pragma GCC unroll 16
    for (int term = terms - 2; term >= 0; --term) series = series * square + (T)1 / (2 * term + 1);
    Vector<T> logarithm = 2 * s * series + (large ? all((T)0.69314718055994530942) : zero);
    return (x < zero ? x : zero) - logarithm;
}

// As torch's relu: a NaN stays one.
template <class T> INLINE Vector<T> relu(Vector<T> x) { return x < all((T)0) ? all((T)0) : x; }

} // namespace
