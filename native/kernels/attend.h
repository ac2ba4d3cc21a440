// Attention over vectors of any width: the body of `Kernels::attend` for each type of cache. `V` as in simd.h.
//
// Keys and values stream from memory, so each is loaded once for all query heads that share it, and fetched before it
// is needed: one token only waits for memory, and the hardware does not see from one tile to the next. Values are
// fetched while keys are read and the next tile's keys while values are, line after line, into the second level of
// cache, which was measured to be faster than the first (docs/log.md).
#pragma once
#include <stdint.h>

#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace headrace {
namespace {

inline constexpr int kMaxHeads = 4;  // query heads that share each load of a key or a value

inline int64_t padded(int64_t head_dim) { return (head_dim + kHeadUnit - 1) / kHeadUnit * kHeadUnit; }

// Row `row` of the tile's `bytes` bytes a row.
inline void prefetch_row(const void* tile, int64_t row, int64_t bytes) {
    constexpr int64_t kLine = 64;
    for (int64_t at = row * bytes; at < (row + 1) * bytes; at += kLine) {
        __builtin_prefetch(static_cast<const char*>(tile) + at, 0, 2);
    }
}

// What one token's query heads do with one tile, of which they see `count` positions; `next` is the tile of keys after
// it, or null.
struct Work {
    const void *keys, *values, *next;
    int64_t count, head_dim;
};

// --- caches of floats

template <typename V>
struct HalfNumbers {
    using Number = uint16_t;
    static typename V::Floats load(const uint16_t* p) { return V::load_half(reinterpret_cast<const uint8_t*>(p)); }
};
template <typename V>
struct FloatNumbers {
    using Number = float;
    static typename V::Floats load(const float* p) { return V::load(p); }
};

template <typename V, typename Numbers, int kHeads>
struct FloatCache {
    using Number = typename Numbers::Number;

    // The queries of one token, as `scores` wants them.
    struct Queries {
        const float* q;
        void set(const float* from, int64_t) { q = from; }
    };

    // scores[h][j] = dot(query h, key j); nothing that means anything from `count` on.
    static void score(const Work& work, const Queries& queries, float (*scores)[kTile]) {
        constexpr int kVectors = V::kScoreVectors;
        const auto* keys = static_cast<const Number*>(work.keys);
        for (int64_t begin = 0; begin < work.count; begin += kVectors * V::kLanes) {
            typename V::Floats sums[kHeads][kVectors];
            for (auto& of_head : sums) {
                for (auto& sum : of_head) sum = V::splat(0);
            }
            const float* q = queries.q;
            for (int64_t d = 0; d < work.head_dim; ++d) {
                if (begin == 0) prefetch_row(work.values, d, kTile * static_cast<int64_t>(sizeof(Number)));
                for (int i = 0; i < kVectors; ++i) {
                    const auto key = Numbers::load(keys + d * kTile + begin + i * V::kLanes);
                    for (int h = 0; h < kHeads; ++h) {
                        sums[h][i] = V::fma(V::splat(q[h * work.head_dim + d]), key, sums[h][i]);
                    }
                }
            }
            for (int h = 0; h < kHeads; ++h) {
                for (int i = 0; i < kVectors; ++i) V::store(scores[h] + begin + i * V::kLanes, sums[h][i]);
            }
        }
    }

    // out[h] = out[h] shrink[h] + sum of weights[h][j] value[j].
    static void mix(const Work& work, const float (*weights)[kTile], const float* shrink, float* out) {
        constexpr int64_t kDims = V::kValueVectors * V::kLanes;
        int64_t d = 0;
        for (; d + kDims <= work.head_dim; d += kDims) mix_dims<V::kValueVectors>(work, d, weights, shrink, out);
        for (; d < work.head_dim; d += V::kLanes) mix_dims<1>(work, d, weights, shrink, out);
    }

    template <int kVectors>
    static void mix_dims(const Work& work, int64_t d, const float (*weights)[kTile], const float* shrink, float* out) {
        const int64_t stride = padded(work.head_dim);
        const auto lanes = [&](int i) { return work.head_dim - d - i * V::kLanes; };
        const auto place = [&](int h, int i) { return out + h * work.head_dim + d + i * V::kLanes; };
        typename V::Floats sums[kHeads][kVectors];
        for (int h = 0; h < kHeads; ++h) {
            for (int i = 0; i < kVectors; ++i) {
                sums[h][i] = V::mul(load_first_or_all<V>(place(h, i), lanes(i)), V::splat(shrink[h]));
            }
        }
        const Number* value = static_cast<const Number*>(work.values) + d;
        for (int64_t j = 0; j < work.count; ++j, value += stride) {
            if (work.next && d == 0) prefetch_row(work.next, j, stride * static_cast<int64_t>(sizeof(Number)));
            for (int i = 0; i < kVectors; ++i) {
                const auto numbers = Numbers::load(value + i * V::kLanes);
                for (int h = 0; h < kHeads; ++h) sums[h][i] = V::fma(V::splat(weights[h][j]), numbers, sums[h][i]);
            }
        }
        for (int h = 0; h < kHeads; ++h) {
            for (int i = 0; i < kVectors; ++i) store_first_or_all<V>(place(h, i), sums[h][i], lanes(i));
        }
    }
};

// --- caches of int8

inline int32_t load_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return pair;
}

// x [n] as 15 bits and a sign: q = x (32767 / max |x|) rounded half to even, and what a unit of q is worth.
template <typename V>
float to_int16(const float* x, int64_t n, int16_t* q) {
    constexpr float kMost = 32767, kLeast = kMost / 3.40282347e+38f;
    auto largest_lanes = V::splat(0);
    bool nan = false;
    int64_t i = 0;
    for (; i < n; i += V::kLanes) {
        const auto numbers = load_first_or_all<V>(x + i, n - i);
        largest_lanes = V::max(largest_lanes, V::abs(numbers));
        nan |= V::any_nan(numbers);
    }
    const float largest = V::largest(largest_lanes);
    const bool usable = !nan && largest >= kLeast && largest < kInfinity;
    const auto inverse = V::splat(usable ? kMost / largest : 0);
    for (i = 0; i < n; i += V::kLanes) {
        const auto numbers = usable ? load_first_or_all<V>(x + i, n - i) : V::splat(0);
        V::store_int16(q + i, V::mul(numbers, inverse));
    }
    return nan ? __builtin_nanf("") : largest == kInfinity ? largest : usable ? largest / kMost : 0;
}

template <typename V, int kHeads>
struct Int8Cache {
    // As integers of 16 bits: products of pairs are then summed exactly, and the rounding is far below that of the
    // keys.
    struct Queries {
        int16_t q[kHeads][kMaxInt8HeadDim];
        float scale[kHeads];
        void set(const float* from, int64_t head_dim) {
            for (int h = 0; h < kHeads; ++h) scale[h] = to_int16<V>(from + h * head_dim, head_dim, q[h]);
        }
    };

    static const float* scales(const void* tile, int64_t head_dim) {
        return reinterpret_cast<const float*>(static_cast<const int8_t*>(tile) + kTile * padded(head_dim));
    }

    static void score(const Work& work, const Queries& queries, float (*scores)[kTile]) {
        constexpr int kVectors = V::kScoreVectors;
        const auto* keys = static_cast<const int8_t*>(work.keys);
        const float* key_scales = scales(work.keys, work.head_dim);
        for (int64_t begin = 0; begin < work.count; begin += kVectors * V::kLanes) {
            typename V::Ints sums[kHeads][kVectors];
            for (auto& of_head : sums) {
                for (auto& sum : of_head) sum = V::splat_int(0);
            }
            for (int64_t d = 0; d < work.head_dim; d += 2) {
                if (begin == 0) prefetch_row(work.values, d / 2, 2 * kTile);
                for (int i = 0; i < kVectors; ++i) {
                    const auto key = V::load_pairs(keys + d * kTile + 2 * (begin + i * V::kLanes));
                    for (int h = 0; h < kHeads; ++h) {
                        sums[h][i] = V::dot2(sums[h][i], key, V::splat_int(load_pair(queries.q[h] + d)));
                    }
                }
            }
            for (int i = 0; i < kVectors; ++i) {
                const int64_t at = begin + i * V::kLanes;
                const auto key_scale = V::load(key_scales + at);
                for (int h = 0; h < kHeads; ++h) {
                    const auto scale = V::mul(V::splat(queries.scale[h]), key_scale);
                    V::store(scores[h] + at, V::mul(V::to_floats(sums[h][i]), scale));
                }
            }
        }
    }

    static void mix(const Work& work, const float (*weights)[kTile], const float* shrink, float* out) {
        // The scales of the values go into the weights, which become integers of 16 bits for this tile.
        const float* value_scales = scales(work.values, work.head_dim);
        int16_t whole[kHeads][kTile];
        float unit[kHeads];
        for (int h = 0; h < kHeads; ++h) {
            float scaled[kTile];
            for (int64_t j = 0; j < kTile; j += V::kLanes) {
                const auto product = V::mul(V::load(weights[h] + j), V::load(value_scales + j));
                V::store(scaled + j, V::keep_first(product, work.count - j, 0));
            }
            unit[h] = to_int16<V>(scaled, kTile, whole[h]);
        }
        constexpr int64_t kDims = V::kValueVectors * V::kLanes;
        int64_t d = 0;
        for (; d + kDims <= work.head_dim; d += kDims) {
            mix_dims<V::kValueVectors>(work, d, whole, unit, shrink, out);
        }
        for (; d < work.head_dim; d += V::kLanes) mix_dims<1>(work, d, whole, unit, shrink, out);
    }

    template <int kVectors>
    static void mix_dims(const Work& work, int64_t d, const int16_t (*weights)[kTile], const float* unit,
                         const float* shrink, float* out) {
        const int64_t stride = padded(work.head_dim);
        const auto lanes = [&](int i) { return work.head_dim - d - i * V::kLanes; };
        typename V::Ints sums[kHeads][kVectors];
        for (auto& of_head : sums) {
            for (auto& sum : of_head) sum = V::splat_int(0);
        }
        const auto* value = static_cast<const int8_t*>(work.values) + 2 * d;
        for (int64_t j = 0; j < work.count; j += 2, value += 2 * stride) {
            if (work.next && d == 0) prefetch_row(work.next, j / 2, 2 * stride);
            for (int i = 0; i < kVectors; ++i) {
                const auto numbers = V::load_pairs(value + 2 * i * V::kLanes);
                for (int h = 0; h < kHeads; ++h) {
                    sums[h][i] = V::dot2(sums[h][i], numbers, V::splat_int(load_pair(weights[h] + j)));
                }
            }
        }
        for (int h = 0; h < kHeads; ++h) {
            for (int i = 0; i < kVectors; ++i) {
                float* place = out + h * work.head_dim + d + i * V::kLanes;
                const auto before = V::mul(load_first_or_all<V>(place, lanes(i)), V::splat(shrink[h]));
                const auto now = V::fma(V::to_floats(sums[h][i]), V::splat(unit[h]), before);
                store_first_or_all<V>(place, now, lanes(i));
            }
        }
    }
};

// --- online softmax

// Scores become weights relative to the largest score so far; returns what the sums before this tile must shrink by.
template <typename V>
float weigh(float* scores, int64_t count, Softmax& state) {
    auto largest = V::splat(-kInfinity);
    for (int64_t j = 0; j < kTile; j += V::kLanes) {
        const auto seen = V::keep_first(V::load(scores + j), count - j, -kInfinity);
        V::store(scores + j, seen);
        largest = V::max(largest, seen);
    }
    const float before = state.largest, now = V::largest(largest);
    state.largest = now > before ? now : before;
    auto total = V::splat(0);
    for (int64_t j = 0; j < kTile; j += V::kLanes) {
        const auto weights = exponential<V>(V::sub(V::load(scores + j), V::splat(state.largest)));
        V::store(scores + j, weights);
        total = V::add(total, weights);
    }
    const float shrink = V::first(exponential<V>(V::splat(before - state.largest)));
    state.total = state.total * shrink + V::sum(total);
    return shrink;
}

template <typename V, typename CacheOf, int kHeads>
void attend_heads(const Attend& c, int64_t head) {
    typename CacheOf::Queries queries[kQueryTile];
    const int64_t width = c.heads * c.head_dim, at = head * c.head_dim;
    for (int64_t t = 0; t < c.tokens; ++t) {
        queries[t].set(c.q + t * c.token_stride + at, c.head_dim);
        for (int h = 0; h < kHeads; ++h) c.softmax[t * c.heads + head + h] = {-kInfinity, 0};
        for (int64_t i = 0; i < kHeads * c.head_dim; ++i) c.sums[t * width + at + i] = 0;
    }
    // Tile after tile, so that a tile's keys and values stay close while all tokens read them.
    const int64_t last = c.position + c.tokens, end = last < c.end ? last : c.end;
    for (int64_t begin = c.begin; begin < end; begin += kTile) {
        const int64_t tile = (begin - c.begin) / kTile;
        Work work{c.keys[tile], c.values[tile], begin + kTile < end ? c.keys[tile + 1] : nullptr, 0, c.head_dim};
        for (int64_t t = begin < c.position ? 0 : begin - c.position; t < c.tokens; ++t) {
            const int64_t seen = c.position + t + 1 - begin;
            work.count = seen < kTile ? seen : kTile;
            float weights[kHeads][kTile], shrink[kHeads];
            CacheOf::score(work, queries[t], weights);
            for (int h = 0; h < kHeads; ++h) {
                shrink[h] = weigh<V>(weights[h], work.count, c.softmax[t * c.heads + head + h]);
            }
            CacheOf::mix(work, weights, shrink, c.sums + t * width + at);
        }
    }
}

template <typename V, template <typename, int> typename CacheOf>
void attend(const Attend& c) {
    int64_t head = 0;
    for (; head + kMaxHeads <= c.heads; head += kMaxHeads) attend_heads<V, CacheOf<V, kMaxHeads>, kMaxHeads>(c, head);
    for (; head < c.heads; ++head) attend_heads<V, CacheOf<V, 1>, 1>(c, head);
}

template <typename V, int kHeads>
using HalfCache = FloatCache<V, HalfNumbers<V>, kHeads>;
template <typename V, int kHeads>
using SingleCache = FloatCache<V, FloatNumbers<V>, kHeads>;

}  // namespace
}  // namespace headrace
