// Linear kernels over panels (panels.h has the layout): a panel's 32 rows are the lanes of two vectors. A tile of a few
// tokens keeps its integer and float sums in registers for all columns; weights are unpacked with a mask and a shift,
// and met by each token's four bytes, broadcast. The arithmetic of an output is that of kernels.h, bit for bit.
#pragma once
#include <stdint.h>

#include "kernels/kernels.h"

namespace headrace {
namespace {

inline constexpr int64_t kPanel = 32;          // rows
inline constexpr int64_t kStreamAhead = 4608;  // bytes that a lone tile prefetches ahead: 4 to 7 KiB measured best
inline constexpr int64_t kBlockTokens = 132;   // whose activations stay in the second level while panels pass

// Quad j of all 32 rows, unsigned.
template <typename V>
struct PanelQ4_0 {
    static constexpr int kOffsetBits = 3, kTokens = 6;
    static constexpr bool kHalfScales = false;
    static constexpr int64_t kGroupBytes = 576, kScales = 512, kGroups = 1;
    static void quad(const uint8_t* group, int j, typename V::Ints* w) {
        const auto packed = V::load_bytes(group + 64 * j), low = V::splat_byte(15);
        w[0] = V::bit_and(packed, low);
        w[1] = V::bit_and(V::template right<4>(packed), low);
    }
};

template <typename V>
struct PanelQ8_0 {
    static constexpr int kOffsetBits = 7, kTokens = 6;
    static constexpr bool kHalfScales = false;
    static constexpr int64_t kGroupBytes = 1088, kScales = 1024, kGroups = 1;
    static void quad(const uint8_t* group, int j, typename V::Ints* w) {
        w[0] = V::load_bytes(group + 128 * j);
        w[1] = V::load_bytes(group + 128 * j + 64);
    }
};

template <typename V>
struct PanelQ6_K {
    static constexpr int kOffsetBits = 5, kTokens = 4;
    static constexpr bool kHalfScales = true;
    static constexpr int64_t kGroupBytes = 832, kScales = 8 * 832, kGroups = 8;
    static void quad(const uint8_t* group, int j, typename V::Ints* w) {
        const auto packed = V::load_bytes(group + 64 * j), low = V::splat_byte(15), pair = V::splat_byte(0x30);
        const auto high = V::load_bytes(group + 512 + 64 * (j / 2));
        const auto first = j % 2 ? high : V::template left<4>(high),
                   second = j % 2 ? V::template right<2>(high) : V::template left<2>(high);
        w[0] = V::bit_or(V::bit_and(packed, low), V::bit_and(first, pair));
        w[1] = V::bit_or(V::bit_and(V::template right<4>(packed), low), V::bit_and(second, pair));
    }
};

// What is prefetched while a tile runs: `lines` cache lines a group, from `at` on.
struct Ahead {
    const uint8_t* at;
    int64_t lines;
};

// kQuads quads of a group, from `first` on, times kTokens tokens: integers into parts [chain][token][half panel].
template <typename V, typename Format, int kQuads, int kTokens, int kChains>
[[gnu::always_inline]] inline void panel_quads(const uint8_t* panel, int first, const int8_t* const* q, int64_t at,
                                               typename V::Ints (*parts)[kTokens][2]) {
#pragma GCC unroll 8
    for (int j = 0; j < kQuads; ++j) {
        typename V::Ints w[2];
        Format::quad(panel, first + j, w);
#pragma GCC unroll 8
        for (int m = 0; m < kTokens; ++m) {
            const auto four = V::splat4(q[m] + at + 4 * (first + j));
            auto& part = parts[j % kChains][m];
            part[0] = V::template dot4<false>(part[0], w[0], four);
            part[1] = V::template dot4<false>(part[1], w[1], four);
        }
    }
}

template <typename V, typename Format, int kTokens>
void panel_tile(const Linear& c, const uint8_t* panel, int64_t row, int64_t token, Ahead ahead) {
    constexpr int kChains = kTokens == 1 ? 2 : 1;        // of dot products that wait for one another
    constexpr int kParts = Format::kHalfScales ? 2 : 1;  // of a group, which have scales of their own
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
    for (int64_t g = 0; g < groups; ++g) {
        for (int64_t line = 0; line < ahead.lines; ++line) __builtin_prefetch(ahead.at + 64 * line, 0, 2);
        ahead.at += 64 * ahead.lines;
        const uint8_t* scales =
            panel + (Format::kHalfScales ? Format::kScales - g % 8 * Format::kGroupBytes : Format::kScales);
        typename V::Floats products[kTokens][2];
#pragma GCC unroll 2
        for (int half = 0; half < kParts; ++half) {
            typename V::Ints parts[kChains][kTokens][2];
#pragma GCC unroll 8
            for (int m = 0; m < kTokens; ++m) {
                auto offset = V::splat_int(neg_sum[m][2 * g + half]);
                if (kParts == 1) offset = V::add_ints(offset, V::splat_int(neg_sum[m][2 * g + 1]));
                parts[0][m][0] = parts[0][m][1] = V::shift_left32(offset, Format::kOffsetBits);
                if (kChains == 2) parts[kChains - 1][m][0] = parts[kChains - 1][m][1] = V::splat_int(0);
            }
            panel_quads<V, Format, 8 / kParts, kTokens, kChains>(panel, 8 / kParts * half, q, kGroup * g, parts);
#pragma GCC unroll 8
            for (int m = 0; m < kTokens; ++m) {
#pragma GCC unroll 2
                for (int n = 0; n < 2; ++n) {
                    const auto sum =
                        kChains == 2 ? V::add_ints(parts[0][m][n], parts[kChains - 1][m][n]) : parts[0][m][n];
                    const auto number = V::to_floats(sum);
                    if constexpr (Format::kHalfScales) {
                        const auto s = V::load_signed(panel + 768 + 32 * half + 16 * n);
                        products[m][n] = half ? V::fma(number, s, products[m][n]) : V::mul(number, s);
                    } else {
                        products[m][n] = number;
                    }
                }
            }
        }
        const auto d0 = V::load_half(scales), d1 = V::load_half(scales + 32);
#pragma GCC unroll 8
        for (int m = 0; m < kTokens; ++m) {
            const auto s = V::splat(scale[m][g]);
            sums[m][0] = V::fma(products[m][0], V::mul(d0, s), sums[m][0]);
            sums[m][1] = V::fma(products[m][1], V::mul(d1, s), sums[m][1]);
        }
        panel += Format::kGroupBytes + (Format::kHalfScales && g % 8 == 7 ? 64 : 0);
    }
#pragma GCC unroll 8
    for (int m = 0; m < kTokens; ++m) {
        float* out = c.out + (token + m) * c.out_stride + row;
        V::store(out, sums[m][0]);
        V::store(out + 16, sums[m][1]);
    }
}

template <typename V, typename Format, int kTokens = Format::kTokens>
void panel_tokens(int64_t count, const Linear& c, const uint8_t* panel, int64_t row, int64_t token, Ahead ahead) {
    if (count == kTokens) {
        panel_tile<V, Format, kTokens>(c, panel, row, token, ahead);
    } else if constexpr (kTokens > 1) {
        panel_tokens<V, Format, kTokens - 1>(count, c, panel, row, token, ahead);
    }
}

// Panels pass before one block of tokens after another. While the tiles of a block meet a panel, the next one comes.
template <typename V, typename Format>
void linear_panels(const Linear& c) {
    const int64_t bytes = kPanel * c.row_bytes, groups = c.columns / kGroup;
    for (int64_t begin = 0; begin < c.tokens; begin += kBlockTokens) {
        const int64_t count = c.tokens - begin < kBlockTokens ? c.tokens - begin : kBlockTokens;
        const int64_t tiles = (count + Format::kTokens - 1) / Format::kTokens;
        const int64_t lines = (bytes + 63) / 64, of_group = (lines + tiles * groups - 1) / (tiles * groups);
        for (int64_t row = c.row_begin; row < c.row_end; row += kPanel) {
            const uint8_t* panel = c.weights + row * c.row_bytes;
            const uint8_t* next = tiles == 1 ? panel + kStreamAhead : panel + bytes;
            for (int64_t tile = 0; tile < tiles; ++tile) {
                const int64_t first = count * tile / tiles, last = count * (tile + 1) / tiles;
                panel_tokens<V, Format>(last - first, c, panel, row, begin + first, {next, of_group});
                next += 64 * of_group * groups;
            }
        }
    }
}

}  // namespace
}  // namespace headrace
