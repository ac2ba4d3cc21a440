// Kernels over vectors of any width: the bodies that the files of the instruction sets share.
//
// `V` is a struct of static functions that such a file defines: the type Floats of kLanes numbers, and the operations
// on it that are used here. Everything is in an anonymous namespace, so that each file has its own copy, compiled with
// its own flags, which the linker cannot mix up. For the same reason no standard header is included.
#pragma once
#include <stdint.h>

#include "kernels/kernels.h"

namespace headrace {
namespace {

inline constexpr float kInfinity = __builtin_inff();

// --- vectors
// -----------------------------------------------------------------------------------------------------------

// The first n lanes from memory, zeros in the others.
template <typename V>
typename V::Floats load_first(const float* p, int64_t n) {
    float lanes[V::kLanes] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
    return V::load(lanes);
}

template <typename V>
void store_first(float* p, typename V::Floats x, int64_t n) {
    float lanes[V::kLanes];
    V::store(lanes, x);
    for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// Whole vectors in one move; `n` may be more than a vector's lanes.
template <typename V>
typename V::Floats load_first_or_all(const float* p, int64_t n) {
    return n >= V::kLanes ? V::load(p) : load_first<V>(p, n);
}

template <typename V>
void store_first_or_all(float* p, typename V::Floats x, int64_t n) {
    if (n >= V::kLanes) {
        V::store(p, x);
    } else {
        store_first<V>(p, x, n);
    }
}

// e^x to about 1e-7; 0 below -87, and at most e^88. NaN gives NaN: x is the second operand of min, which passes it on.
// Range reduction by powers of two, then a polynomial on [-ln 2 / 2, ln 2 / 2] (the coefficients of Cephes' expf).
template <typename V>
typename V::Floats exponential(typename V::Floats x) {
    const auto bounded = V::min(V::splat(88.0f), x);
    const auto n = V::round(V::mul(bounded, V::splat(1.44269504f)));
    const auto r = V::fma(n, V::splat(2.12194440e-4f), V::fma(n, V::splat(-0.693359375f), bounded));
    auto p = V::splat(1.9875691500e-4f);
    p = V::fma(p, r, V::splat(1.3981999507e-3f));
    p = V::fma(p, r, V::splat(8.3334519073e-3f));
    p = V::fma(p, r, V::splat(4.1665795894e-2f));
    p = V::fma(p, r, V::splat(1.6666665459e-1f));
    p = V::fma(p, r, V::splat(5.0000001201e-1f));
    p = V::add(V::fma(V::mul(r, r), p, r), V::splat(1.0f));
    return V::zero_where_less(x, V::splat(-87.0f), V::mul(p, V::power_of_two(n)));
}

// --- linear, float types
// -----------------------------------------------------------------------------------------------

// A loader gives kLanes weights of a row from weight k on.
template <typename V>
struct F32Weights {
    static constexpr int64_t kBytes = 4;
    static typename V::Floats load(const uint8_t* p) { return V::load(reinterpret_cast<const float*>(p)); }
};
template <typename V>
struct F16Weights {
    static constexpr int64_t kBytes = 2;
    static typename V::Floats load(const uint8_t* p) { return V::load_half(p); }
};
template <typename V>
struct Bf16Weights {
    static constexpr int64_t kBytes = 2;
    static typename V::Floats load(const uint8_t* p) { return V::load_bf16(p); }
};

template <typename V, typename Weights>
typename V::Floats load_first_weights(const uint8_t* p, int64_t n) {
    uint8_t bytes[V::kLanes * Weights::kBytes] = {};
    __builtin_memcpy(bytes, p, static_cast<size_t>(n * Weights::kBytes));
    return Weights::load(bytes);
}

// kRows x kTokens outputs, each with its own sum: lane i adds the products k = i, i + kLanes, ...
template <typename V, typename Weights, int kRows, int kTokens>
void dot_block(const Linear& c, int64_t row, int64_t token) {
    const uint8_t* w[kRows];
    const float* x[kTokens];
    typename V::Floats sums[kRows][kTokens];
    for (int i = 0; i < kRows; ++i) w[i] = c.weights + (row + i) * c.row_bytes;
    for (int j = 0; j < kTokens; ++j) x[j] = c.a.x + (c.index ? c.index[token + j] : token + j) * c.columns;
    for (auto& of_row : sums) {
        for (auto& sum : of_row) sum = V::splat(0);
    }
    const auto step = [&](const auto& load_w, const auto& load_x) {
        typename V::Floats inputs[kTokens];
        for (int j = 0; j < kTokens; ++j) inputs[j] = load_x(x[j]);
        for (int i = 0; i < kRows; ++i) {
            const auto weights = load_w(w[i]);
            for (int j = 0; j < kTokens; ++j) sums[i][j] = V::fma(weights, inputs[j], sums[i][j]);
        }
    };
    int64_t k = 0;
    for (; k + V::kLanes <= c.columns; k += V::kLanes) {
        step([&](const uint8_t* p) { return Weights::load(p + k * Weights::kBytes); },
             [&](const float* p) { return V::load(p + k); });
    }
    if (const int64_t rest = c.columns - k) {
        step([&](const uint8_t* p) { return load_first_weights<V, Weights>(p + k * Weights::kBytes, rest); },
             [&](const float* p) { return load_first<V>(p + k, rest); });
    }
    for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kTokens; ++j) c.out[(token + j) * c.out_stride + row + i] = V::sum(sums[i][j]);
    }
}

template <typename V, typename Weights, int kRows>
void dot_rows(const Linear& c, int64_t row) {
    int64_t token = 0;
    for (; token + 4 <= c.tokens; token += 4) dot_block<V, Weights, kRows, 4>(c, row, token);
    for (; token < c.tokens; ++token) dot_block<V, Weights, kRows, 1>(c, row, token);
}

template <typename V, typename Weights>
void linear_float(const Linear& c) {
    int64_t row = c.row_begin;
    for (; row + V::kFloatRows <= c.row_end; row += V::kFloatRows) dot_rows<V, Weights, V::kFloatRows>(c, row);
    for (; row < c.row_end; ++row) dot_rows<V, Weights, 1>(c, row);
}

// --- one row
// -----------------------------------------------------------------------------------------------------------

template <typename V>
void norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
    auto squares = V::splat(0);
    const int64_t whole = n / V::kLanes * V::kLanes, rest = n - whole;
    for (int64_t i = 0; i < whole; i += V::kLanes) squares = V::fma(V::load(x + i), V::load(x + i), squares);
    const auto tail = load_first<V>(x + whole, rest);
    const float mean = V::sum(V::fma(tail, tail, squares)) / static_cast<float>(n);
    const auto inverse = V::splat(1 / __builtin_sqrtf(mean + eps));
    for (int64_t i = 0; i < whole; i += V::kLanes) {
        V::store(out + i, V::mul(V::mul(V::load(x + i), inverse), V::load(weight + i)));
    }
    store_first<V>(out + whole, V::mul(V::mul(tail, inverse), load_first<V>(weight + whole, rest)), rest);
}

template <typename V>
typename V::Floats swiglu_of(typename V::Floats gate, typename V::Floats up) {
    const auto denominator = V::add(V::splat(1), exponential<V>(V::sub(V::splat(0), gate)));
    return V::mul(V::div(gate, denominator), up);
}

template <typename V>
void add_scaled(float weight, const float* x, int64_t n, float* out) {
    const auto w = V::splat(weight);
    int64_t i = 0;
    for (; i + V::kLanes <= n; i += V::kLanes) V::store(out + i, V::fma(w, V::load(x + i), V::load(out + i)));
    const int64_t rest = n - i;
    if (rest) store_first<V>(out + i, V::fma(w, load_first<V>(x + i, rest), load_first<V>(out + i, rest)), rest);
}

template <typename V>
void swiglu(const float* gate, const float* up, int64_t n, float* out) {
    int64_t i = 0;
    for (; i + V::kLanes <= n; i += V::kLanes) V::store(out + i, swiglu_of<V>(V::load(gate + i), V::load(up + i)));
    const int64_t rest = n - i;
    store_first<V>(out + i, swiglu_of<V>(load_first<V>(gate + i, rest), load_first<V>(up + i, rest)), rest);
}

template <typename V>
void quantise(const float* x, int64_t n, int8_t* q, float* scale, int32_t* neg_sum) {
    constexpr float kLeast = 127 / 3.40282347e+38f;  // 127 / x overflows below
    for (int64_t g = 0; g < n / kGroup; ++g, x += kGroup, q += kGroup) {
        auto largest_lanes = V::splat(0);
        bool nan = false;
        for (int64_t i = 0; i < kGroup; i += V::kLanes) {
            largest_lanes = V::max(largest_lanes, V::abs(V::load(x + i)));
            nan |= V::any_nan(V::load(x + i));
        }
        const float largest = V::largest(largest_lanes);
        const bool usable = !nan && largest >= kLeast && largest < kInfinity;
        scale[g] = nan ? __builtin_nanf("") : largest == kInfinity ? largest : usable ? largest / 127 : 0;
        const auto inverse = V::splat(127 / largest);
        for (int64_t half = 0; half < 2; ++half) {
            int32_t sum = 0;
            for (int64_t i = half * kHalfGroup; i < (half + 1) * kHalfGroup; i += V::kLanes) {
                const auto scaled = usable ? V::mul(V::load(x + i), inverse) : V::splat(0);
                sum += V::store_int8(q + i, scaled);
            }
            neg_sum[2 * g + half] = -sum;
        }
    }
}

// --- the machine's limits
// ---------------------------------------------------------------------------------------------

template <typename V>
float read(const float* x, int64_t n) {
    constexpr int kStreams = 8;
    typename V::Floats sums[kStreams];
    for (auto& sum : sums) sum = V::splat(0);
    for (int64_t i = 0; i < n; i += kStreams * V::kLanes) {
        for (int j = 0; j < kStreams; ++j) sums[j] = V::add(sums[j], V::load(x + i + j * V::kLanes));
    }
    for (int j = 1; j < kStreams; ++j) sums[0] = V::add(sums[0], sums[j]);
    return V::sum(sums[0]);
}

template <typename V>
int64_t multiply_adds(int64_t rounds, float* keep) {
    constexpr int kChains = 12;  // enough to hide the latency of a dot product
    const int8_t four[4] = {1, 2, 3, static_cast<int8_t>(*keep)};
    const auto weights = V::splat_byte(static_cast<char>(four[3] + 7)), activations = V::splat4(four);
    typename V::Ints sums[kChains];
    for (auto& sum : sums) sum = V::splat4(four);
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
        for (int j = 0; j < kChains; ++j) sums[j] = V::template dot4<false>(sums[j], weights, activations);
    }
    for (int j = 1; j < kChains; ++j) sums[0] = V::add_ints(sums[0], sums[j]);
    *keep += V::sum(V::to_floats(sums[0]));
    return rounds * kChains * 4 * V::kLanes;
}

}  // namespace
}  // namespace headrace
