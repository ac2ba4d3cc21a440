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
        const bool usable = !nan && largest > kLeast && largest < kInfinity;
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

// --- attention
// ---------------------------------------------------------------------------------------------------------

template <typename V>
struct F16Numbers {
    using Number = uint16_t;
    static typename V::Floats load(const uint16_t* p) { return V::load_half(reinterpret_cast<const uint8_t*>(p)); }
};
template <typename V>
struct F32Numbers {
    using Number = float;
    static typename V::Floats load(const float* p) { return V::load(p); }
};

// The online softmax of one query, between chunks.
struct Softmax {
    float largest, total;
};

inline constexpr int64_t kLine = 64;  // bytes of memory that come together

inline constexpr int kMaxHeads = 4;  // query heads that share each load of a key or a value

// A 16th of a tile: a row of values, or as many bytes of keys.
template <typename Numbers>
int64_t tile_row_bytes(const Attend& c) {
    return (c.head_dim + kTile - 1) / kTile * kTile * static_cast<int64_t>(sizeof(typename Numbers::Number));
}

// Part `part` of a tile's 16, to be in the second level when it is read: one token only waits for its keys and values,
// and the hardware does not see from one tile to the next. So values are fetched while keys are read and the next
// chunk's keys while values are, line after line. (Into the first level, a core has too few fetches under way at once.)
inline void prefetch_part(const void* tile, int64_t part, int64_t part_bytes) {
    for (int64_t at = part * part_bytes; at < (part + 1) * part_bytes; at += kLine) {
        __builtin_prefetch(static_cast<const char*>(tile) + at, 0, 2);
    }
}

// Scores of kHeads heads at one position against `count` keys of a chunk: scores[h][j], -infinity from `count` on.
template <typename V, typename Numbers, int kHeads>
void score_chunk(const Attend& c, const float* q, const void* const* keys, const void* const* values, int64_t count,
                 float (*scores)[kChunk]) {
    constexpr int kVectors = V::kScoreTiles * kTile / V::kLanes;  // of scores at once
    const int64_t row_bytes = tile_row_bytes<Numbers>(c);
    for (int64_t begin = 0; begin < kChunk; begin += V::kScoreTiles * kTile) {
        const typename Numbers::Number* tiles[V::kScoreTiles];
        for (int i = 0; i < V::kScoreTiles; ++i) {  // the last tile stands in for tiles that are not there
            const int64_t tile = begin / kTile + i, last = (count - 1) / kTile;
            tiles[i] = static_cast<const typename Numbers::Number*>(keys[tile < last ? tile : last]);
        }
        typename V::Floats sums[kHeads][kVectors];
        for (auto& of_head : sums) {
            for (auto& sum : of_head) sum = V::splat(0);
        }
        for (int64_t d = 0; begin < count && d < c.head_dim; ++d) {
            if (begin + d < count) prefetch_part(values[(begin + d) / kTile], d % kTile, row_bytes);
            for (int i = 0; i < kVectors; ++i) {
                const auto key = Numbers::load(tiles[i * V::kLanes / kTile] + d * kTile + i * V::kLanes % kTile);
                for (int h = 0; h < kHeads; ++h) {
                    sums[h][i] = V::fma(V::splat(q[h * c.head_dim + d]), key, sums[h][i]);
                }
            }
        }
        for (int h = 0; h < kHeads; ++h) {
            for (int i = 0; i < kVectors; ++i) {
                const int64_t at = begin + i * V::kLanes;
                V::store(scores[h] + at, V::keep_first(sums[h][i], count - at, -kInfinity));
            }
        }
    }
}

// Scores become weights relative to the largest score so far; returns what the sums before this chunk must shrink by.
template <typename V>
float weigh_chunk(float* scores, Softmax& state) {
    auto largest = V::load(scores);
    for (int64_t j = V::kLanes; j < kChunk; j += V::kLanes) largest = V::max(largest, V::load(scores + j));
    const float before = state.largest, now = V::largest(largest);
    state.largest = now > before ? now : before;
    auto total = V::splat(0);
    for (int64_t j = 0; j < kChunk; j += V::kLanes) {
        const auto weights = exponential<V>(V::sub(V::load(scores + j), V::splat(state.largest)));
        V::store(scores + j, weights);
        total = V::add(total, weights);
    }
    const float shrink = V::first(exponential<V>(V::splat(before - state.largest)));
    state.total = state.total * shrink + V::sum(total);
    return shrink;
}

// out[h][d] = out[h][d] shrink[h] + sum of weights[h][j] values[j][d], for kVectors vectors of dimensions from d on.
template <typename V, typename Numbers, int kHeads, int kVectors>
void mix_values(const Attend& c, int64_t d, const void* const* values, int64_t count, const void* const* next_keys,
                int64_t next_count, const float (*weights)[kChunk], const float* shrink, float* out) {
    const int64_t stride = (c.head_dim + kTile - 1) / kTile * kTile;
    const int64_t row_bytes = tile_row_bytes<Numbers>(c);
    typename V::Floats sums[kHeads][kVectors];
    const auto lanes = [&](int i) { return c.head_dim - d - i * V::kLanes; };
    for (int h = 0; h < kHeads; ++h) {
        for (int i = 0; i < kVectors; ++i) {
            const float* p = out + h * c.head_dim + d + i * V::kLanes;
            const auto before = lanes(i) >= V::kLanes ? V::load(p) : load_first<V>(p, lanes(i));
            sums[h][i] = V::mul(before, V::splat(shrink[h]));
        }
    }
    for (int64_t j = 0; j < count; ++j) {
        if (j < next_count) prefetch_part(next_keys[j / kTile], j % kTile, row_bytes);
        const auto* value = static_cast<const typename Numbers::Number*>(values[j / kTile]) + j % kTile * stride + d;
        for (int i = 0; i < kVectors; ++i) {
            const auto numbers = Numbers::load(value + i * V::kLanes);
            for (int h = 0; h < kHeads; ++h) sums[h][i] = V::fma(V::splat(weights[h][j]), numbers, sums[h][i]);
        }
    }
    for (int h = 0; h < kHeads; ++h) {
        for (int i = 0; i < kVectors; ++i) {
            float* p = out + h * c.head_dim + d + i * V::kLanes;
            if (lanes(i) >= V::kLanes) {
                V::store(p, sums[h][i]);
            } else {
                store_first<V>(p, sums[h][i], lanes(i));
            }
        }
    }
}

template <typename V, typename Numbers, int kHeads>
void attend_heads(const Attend& c, int64_t head) {
    Softmax states[kQueryTile][kHeads];
    const int64_t at = head * c.head_dim, width = kHeads * c.head_dim;
    for (int64_t t = 0; t < c.tokens; ++t) {
        for (Softmax& state : states[t]) state = {-kInfinity, 0};
        for (int64_t i = 0; i < width; ++i) c.out[t * c.token_stride + at + i] = 0;
    }
    // Chunk after chunk, so that a chunk's keys and values stay close while all tokens read them.
    for (int64_t begin = 0; begin < c.position + c.tokens; begin += kChunk) {
        const void* const* values = c.values + begin / kTile;
        const int64_t next = begin + kChunk, next_count = c.position + c.tokens - next;
        for (int64_t t = begin < c.position ? 0 : begin - c.position; t < c.tokens; ++t) {
            const int64_t seen = c.position + t + 1 - begin, count = seen < kChunk ? seen : kChunk;
            const float* q = c.q + t * c.token_stride + at;
            float* out = c.out + t * c.token_stride + at;
            float weights[kHeads][kChunk], shrink[kHeads];
            score_chunk<V, Numbers, kHeads>(c, q, c.keys + begin / kTile, values, count, weights);
            for (int h = 0; h < kHeads; ++h) shrink[h] = weigh_chunk<V>(weights[h], states[t][h]);
            constexpr int64_t kDims = V::kValueVectors * V::kLanes;
            int64_t d = 0;
            for (; d + kDims <= c.head_dim; d += kDims) {
                mix_values<V, Numbers, kHeads, V::kValueVectors>(c, d, values, count, c.keys + next / kTile, next_count,
                                                                 weights, shrink, out);
            }
            for (; d < c.head_dim; d += V::kLanes) {
                mix_values<V, Numbers, kHeads, 1>(c, d, values, count, c.keys + next / kTile, next_count, weights,
                                                  shrink, out);
            }
        }
    }
    for (int64_t t = 0; t < c.tokens; ++t) {
        for (int64_t i = 0; i < width; ++i) c.out[t * c.token_stride + at + i] /= states[t][i / c.head_dim].total;
    }
}

template <typename V, typename Numbers>
void attend(const Attend& c) {
    int64_t head = 0;
    for (; head + kMaxHeads <= c.heads; head += kMaxHeads) attend_heads<V, Numbers, kMaxHeads>(c, head);
    for (; head < c.heads; ++head) attend_heads<V, Numbers, 1>(c, head);
}

}  // namespace
}  // namespace headrace
