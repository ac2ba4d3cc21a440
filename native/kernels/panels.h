// Linear kernels over panels (panels.h has the layout): a panel's 32 rows are the lanes of two vectors. A tile of a few
// tokens keeps its integer and float sums in registers for all columns; weights are unpacked with a mask and a shift,
// and met by each token's four bytes, broadcast. The arithmetic of an output is that of kernels.h, bit for bit.
#pragma once
#include <stdint.h>

#include "kernels/formats.h"
#include "kernels/kernels.h"

namespace headrace {
namespace {

inline constexpr int64_t kPanel = 32;          // rows
inline constexpr int64_t kStreamAhead = 4608;  // bytes that a lone tile prefetches ahead: 4 to 7 KiB measured best
inline constexpr int64_t kBlockTokens = 132;   // whose activations stay in the second level while panels pass

// 16-bit lanes moved right by a number that is known once loops are unrolled; to the left, if it is negative.
template <typename V>
[[gnu::always_inline]] inline typename V::Ints moved_right(typename V::Ints a, int bits) {
    switch (bits) {
        case -4:
            return V::template left<4>(a);
        case -3:
            return V::template left<3>(a);
        case -2:
            return V::template left<2>(a);
        case -1:
            return V::template left<1>(a);
        case 1:
            return V::template right<1>(a);
        case 2:
            return V::template right<2>(a);
        case 3:
            return V::template right<3>(a);
        case 4:
            return V::template right<4>(a);
        case 5:
            return V::template right<5>(a);
        case 6:
            return V::template right<6>(a);
        default:
            return a;
    }
}

// What multiplies the integers of a block's groups, by half panel, where it is worth making for all of them at once.
template <typename V>
struct BlockScales {
    typename V::Floats first[8][2], second[8][2];  // steps and minima, or the scales of 16 weights each
};

// How panels of a type are read. Levels go into dot products as they are stored, without a sign; what is thereby added
// to each of them is a power of two (or nothing), and taken back by the sum of the activations.
template <typename V, Type kType>
struct Panel {
    static constexpr Format kFormat = format_of(kType);
    static constexpr bool kHalfScales = kType == Type::Q6_K || kType == Type::Q3_K;  // of 16 weights
    static constexpr bool kSixes = kFormat.small == Format::kSixes;
    static constexpr int kTokens = kHalfScales ? 4 : 6;  // of a tile, at most
    static constexpr int kOffsetBits = kType == Type::Q8_0 || kType == Type::IQ4_NL ? 7
                                       : kType == Type::Q6_K                        ? 5
                                       : kType == Type::Q5_0                        ? 4
                                       : kType == Type::Q4_0                        ? 3
                                       : kType == Type::Q3_K                        ? 2
                                                                                    : -1;

    // kBits bits of the weights of half a quad, in place `into` of their bytes.
    template <int kBits>
    [[gnu::always_inline]] static typename V::Ints bits(const uint8_t* vectors, int half_quad, int into) {
        const auto all = V::load_bytes(vectors + 64 * (half_quad * kBits / 8));
        if constexpr (kBits == 8) return all;
        const auto mask = V::splat_byte(static_cast<char>(((1 << kBits) - 1) << into));
        return V::bit_and(moved_right<V>(all, half_quad * kBits % 8 - into), mask);
    }

    // Quad j of all 32 rows.
    [[gnu::always_inline]] static void quad(const uint8_t* group, int j, typename V::Ints* w) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            w[half] = bits<kFormat.low>(group, 2 * j + half, 0);
            if constexpr (kFormat.high) {
                const uint8_t* upper = group + 128 * kFormat.low;
                w[half] = V::bit_or(w[half], bits<kFormat.high>(upper, 2 * j + half, kFormat.low));
            }
            if constexpr (kType == Type::IQ4_NL) {
                const auto levels = V::splat16(reinterpret_cast<const uint8_t*>(kLevels));
                w[half] = V::lookup(V::from_signed(levels), w[half]);
            }
        }
    }

    // Once for a block, whose tail holds the sixes of all its groups.
    [[gnu::always_inline]] static void prepare(const uint8_t* block, BlockScales<V>* scales) {
        if constexpr (kSixes) {
            const uint8_t* tail = block + kFormat.tail_at();
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
                typename V::Ints word[4];
#pragma GCC unroll 3
                for (int i = 0; i < 3; ++i) word[i] = V::load_bytes(tail + 128 * i + 64 * half);
                word[3] = V::bit_or(V::shift_right32(word[0], 24),
                                    V::bit_or(V::shift_left32(V::shift_right32(word[1], 24), 8),
                                              V::shift_left32(V::shift_right32(word[2], 24), 16)));
                const auto six = V::splat_int(63);
                const auto d = V::load_half(block + kFormat.d_at() + 32 * half);
#pragma GCC unroll 8
                for (int g = 0; g < 8; ++g) {
                    const auto both = g % 2 ? V::shift_right32(word[g / 2], 12) : word[g / 2];
                    const auto first = V::to_floats(V::bit_and(both, six)),
                               second = V::to_floats(V::bit_and(V::shift_right32(both, 6), six));
                    if constexpr (kFormat.minimum) {
                        scales->first[g][half] = V::mul(d, first);
                        scales->second[g][half] = V::mul(V::load_half(block + kFormat.d_at() + 64 + 32 * half), second);
                    } else {
                        scales->first[g][half] = V::sub(first, V::splat(32));
                        scales->second[g][half] = V::sub(second, V::splat(32));
                    }
                }
            }
        }
    }

    // Of a group: the step of 32 rows, and the minimum.
    [[gnu::always_inline]] static void factors(const uint8_t* block, const BlockScales<V>& scales, int64_t g,
                                               typename V::Floats* d, typename V::Floats* e) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
            const uint8_t* at = block + kFormat.d_at() + 32 * half;
            d[half] = kSixes && kFormat.minimum ? scales.first[g][half] : V::load_half(at);
            if constexpr (kFormat.minimum) {
                e[half] = kSixes ? scales.second[g][half] : V::sub(V::splat(0), V::load_half(at + 64));
            }
        }
    }

    // The scales of columns 16 i to 16 i + 15 of a group, for half a panel.
    [[gnu::always_inline]] static typename V::Floats half_scales(const uint8_t* group, const BlockScales<V>& scales,
                                                                 int64_t g, int i, int half) {
        if constexpr (kSixes) return i ? scales.second[g][half] : scales.first[g][half];
        return V::load_signed(group + 128 * (kFormat.low + kFormat.high) + 32 * i + 16 * half);
    }
};

// What is prefetched while a tile runs: `lines` cache lines a group, from `at` on.
struct Ahead {
    const uint8_t* at;
    int64_t lines;
};

// kQuads quads of a group, from `first` on, times kTokens tokens: integers into parts [chain][token][half panel].
template <typename V, typename P, int kQuads, int kTokens, int kChains>
[[gnu::always_inline]] inline void panel_quads(const uint8_t* group, int first, const int8_t* const* q, int64_t at,
                                               typename V::Ints (*parts)[kTokens][2]) {
#pragma GCC unroll 8
    for (int j = 0; j < kQuads; ++j) {
        typename V::Ints w[2];
        P::quad(group, first + j, w);
#pragma GCC unroll 8
        for (int m = 0; m < kTokens; ++m) {
            const auto four = V::splat4(q[m] + at + 4 * (first + j));
            auto& part = parts[j % kChains][m];
            part[0] = V::template dot4<false>(part[0], w[0], four);
            part[1] = V::template dot4<false>(part[1], w[1], four);
            if constexpr (P::kFormat.groups > 1) {  // else GCC unpacks all quads first, and has no registers for them
                V::pin(part[0]);
                V::pin(part[1]);
            }
        }
    }
}

template <typename V, typename P, int kTokens>
void panel_tile(const Linear& c, const uint8_t* panel, int64_t row, int64_t token, Ahead ahead) {
    constexpr int kChains = kTokens == 1 ? 2 : 1;   // of dot products that wait for one another
    constexpr int kParts = P::kHalfScales ? 2 : 1;  // of a group, which have scales of their own
    constexpr Format kFormat = P::kFormat;
    const int64_t groups = c.columns / kGroup;
    const int8_t* q[kTokens];
    const float* scale[kTokens];
    const int32_t* neg_sum[kTokens];
    typename V::Floats sums[kTokens][2];
#pragma GCC unroll 8
    for (int m = 0; m < kTokens; ++m) {
        const int64_t from = c.index ? c.index[token + m] : token + m;
        q[m] = c.a.q + from * c.columns;
        scale[m] = c.a.scale + from * groups;
        neg_sum[m] = c.a.neg_sum + 2 * from * groups;
        sums[m][0] = sums[m][1] = V::splat(0);
    }
    BlockScales<V> scales;
    for (int64_t g = 0; g < groups; ++g) {
        for (int64_t line = 0; line < ahead.lines; ++line) __builtin_prefetch(ahead.at + 64 * line, 0, 2);
        ahead.at += 64 * ahead.lines;
        const int64_t i = g % kFormat.groups;
        const uint8_t* group = panel + i * kFormat.group_bytes();
        if (i == 0) P::prepare(panel, &scales);
        typename V::Floats products[kTokens][2];
#pragma GCC unroll 2
        for (int part = 0; part < kParts; ++part) {
            typename V::Ints parts[kChains][kTokens][2];
#pragma GCC unroll 8
            for (int m = 0; m < kTokens; ++m) {
                auto offset = V::splat_int(0);
                if constexpr (P::kOffsetBits > 0) {
                    offset = V::splat_int(neg_sum[m][2 * g + part]);
                    if (kParts == 1) offset = V::add_ints(offset, V::splat_int(neg_sum[m][2 * g + 1]));
                    offset = V::shift_left32(offset, P::kOffsetBits);
                }
                parts[0][m][0] = parts[0][m][1] = offset;
                if (kChains == 2) parts[kChains - 1][m][0] = parts[kChains - 1][m][1] = V::splat_int(0);
            }
            panel_quads<V, P, 8 / kParts, kTokens, kChains>(group, 8 / kParts * part, q, kGroup * g, parts);
#pragma GCC unroll 8
            for (int m = 0; m < kTokens; ++m) {
#pragma GCC unroll 2
                for (int n = 0; n < 2; ++n) {
                    const auto sum =
                        kChains == 2 ? V::add_ints(parts[0][m][n], parts[kChains - 1][m][n]) : parts[0][m][n];
                    const auto number = V::to_floats(sum);
                    if constexpr (P::kHalfScales) {
                        const auto s = P::half_scales(group, scales, i, part, n);
                        products[m][n] = part ? V::fma(number, s, products[m][n]) : V::mul(number, s);
                    } else {
                        products[m][n] = number;
                    }
                }
            }
        }
        typename V::Floats d[2], e[2];
        P::factors(panel, scales, i, d, e);
#pragma GCC unroll 8
        for (int m = 0; m < kTokens; ++m) {
            const auto s = V::splat(scale[m][g]);
            if constexpr (kFormat.minimum) {
                const auto sum =
                    V::to_floats(V::add_ints(V::splat_int(neg_sum[m][2 * g]), V::splat_int(neg_sum[m][2 * g + 1])));
                sums[m][0] = V::fma(V::fma(sum, e[0], V::mul(products[m][0], d[0])), s, sums[m][0]);
                sums[m][1] = V::fma(V::fma(sum, e[1], V::mul(products[m][1], d[1])), s, sums[m][1]);
            } else {
                sums[m][0] = V::fma(products[m][0], V::mul(d[0], s), sums[m][0]);
                sums[m][1] = V::fma(products[m][1], V::mul(d[1], s), sums[m][1]);
            }
        }
        if (i == kFormat.groups - 1) panel += kFormat.block_bytes();
    }
#pragma GCC unroll 8
    for (int m = 0; m < kTokens; ++m) {
        float* out = c.out + (token + m) * c.out_stride + row;
        V::store(out, sums[m][0]);
        V::store(out + 16, sums[m][1]);
    }
}

template <typename V, typename P, int kTokens = P::kTokens>
void panel_tokens(int64_t count, const Linear& c, const uint8_t* panel, int64_t row, int64_t token, Ahead ahead) {
    if (count == kTokens) {
        panel_tile<V, P, kTokens>(c, panel, row, token, ahead);
    } else if constexpr (kTokens > 1) {
        panel_tokens<V, P, kTokens - 1>(count, c, panel, row, token, ahead);
    }
}

// Panels pass before one block of tokens after another. While the tiles of a block meet a panel, the next one comes.
template <typename V, Type kType>
void linear_panels(const Linear& c) {
    using P = Panel<V, kType>;
    const int64_t bytes = kPanel * c.row_bytes, groups = c.columns / kGroup;
    for (int64_t begin = 0; begin < c.tokens; begin += kBlockTokens) {
        const int64_t count = c.tokens - begin < kBlockTokens ? c.tokens - begin : kBlockTokens;
        const int64_t tiles = (count + P::kTokens - 1) / P::kTokens;
        const int64_t lines = (bytes + 63) / 64, of_group = (lines + tiles * groups - 1) / (tiles * groups);
        for (int64_t row = c.row_begin; row < c.row_end; row += kPanel) {
            const uint8_t* panel = c.weights + row * c.row_bytes;
            const uint8_t* next = tiles == 1 ? panel + kStreamAhead : panel + bytes;
            for (int64_t tile = 0; tile < tiles; ++tile) {
                const int64_t first = count * tile / tiles, last = count * (tile + 1) / tiles;
                panel_tokens<V, P>(last - first, c, panel, row, begin + first, {next, of_group});
                next += 64 * of_group * groups;
            }
        }
    }
}

}  // namespace
}  // namespace headrace
