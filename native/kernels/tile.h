// Linear kernels of the quantised types over vectors of any width. A tile is one row of weights in each of kLanes
// lanes; its groups of 32 are unpacked into registers once and meet several tokens, so that
//   - no sum runs across lanes: a lane's integer sum is its row's, exact, and its float sum goes group after group;
//   - what a token's output is made of does not depend on how many tokens there are.
// Weights are read where they lie, in GGML's layouts: 16 bytes of four rows at a time are transposed into four vectors
// whose lane i holds four neighbouring weights of row i, which is what one integer dot product takes.
#pragma once
#include <stdint.h>

#include "kernels/kernels.h"

namespace headrace {
namespace {

// A group of 32 weights of kLanes rows: lane i of q[j] holds weights 4 j .. 4 j + 3 of row i, as bytes.
template <typename V>
struct Unpacked {
    typename V::Ints q[kGroup / 4];
    typename V::Floats d;
    typename V::Floats s[2];  // of Q6_K only: the scales of both halves
};

// From the 16 bytes at `offset` of each row to four vectors; lane i of out[j] holds bytes 4 j .. 4 j + 3 of row i.
template <typename V>
void transpose(const typename V::Ints* in, typename V::Ints* out) {
    const auto a = V::unpack_low32(in[0], in[1]), b = V::unpack_high32(in[0], in[1]);
    const auto c = V::unpack_low32(in[2], in[3]), d = V::unpack_high32(in[2], in[3]);
    out[0] = V::unpack_low64(a, c);
    out[1] = V::unpack_high64(a, c);
    out[2] = V::unpack_low64(b, d);
    out[3] = V::unpack_high64(b, d);
}

// The 16 bytes at `offset` of rows i, i + 4, i + 8, ...; in[0] .. in[3] are what `transpose` takes.
template <typename V>
void gather(const uint8_t* const* rows, int64_t offset, typename V::Ints* in) {
    for (int i = 0; i < 4; ++i) in[i] = V::gather16(rows + i, offset);
}

// A format says how its blocks are unpacked, kGroups groups at a time; what was added to the weights to make them
// unsigned (as a power of two, 0 for nothing); and how many bytes that takes in a row.
template <typename V>
struct Q4_0 {
    static constexpr bool kSigned = false, kHalfScales = false;
    static constexpr int kOffsetBits = 3;
    static constexpr int64_t kGroups = 1, kBytes = 18;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        const auto low = V::splat_byte(15);
        typename V::Ints in[4], nibbles[4];
        gather<V>(rows, 18 * block + 2, in);
        transpose<V>(in, nibbles);
        for (int j = 0; j < 4; ++j) {
            w->q[j] = V::bit_and(nibbles[j], low);
            w->q[4 + j] = V::bit_and(V::shift_right(nibbles[j], 4), low);
        }
        w->d = V::gather_half(rows, 18 * block);
    }
};

template <typename V>
struct Q8_0 {
    static constexpr bool kSigned = true, kHalfScales = false;
    static constexpr int kOffsetBits = V::kSignedOffsetBits;
    static constexpr int64_t kGroups = 1, kBytes = 34;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        typename V::Ints in[4];
        for (int half = 0; half < 2; ++half) {
            gather<V>(rows, 34 * block + 2 + 16 * half, in);
            for (auto& bytes : in) bytes = V::from_signed(bytes);
            transpose<V>(in, w->q + 4 * half);
        }
        w->d = V::gather_half(rows, 34 * block);
    }
};

// kernels.h has the layout; scalar.cpp the plain form. A block at once, because its groups share bytes.
template <typename V>
struct Q6_K {
    static constexpr bool kSigned = false, kHalfScales = true;
    static constexpr int kOffsetBits = 5;
    static constexpr int64_t kGroups = 8, kBytes = 210;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        for (int part = 0; part < 2; ++part) {
            for (int half = 0; half < 2; ++half) {
                unpack_quarter(rows, 210 * block + 64 * part + 16 * half, 210 * block + 128 + 32 * part + 16 * half,
                               w + 4 * part, 4 * half);
            }
        }
        const auto d = V::gather_half(rows, 210 * block + 208);
        typename V::Ints in[4], scales[4];
        gather<V>(rows, 210 * block + 192, in);
        transpose<V>(in, scales);
        for (int g = 0; g < kGroups; ++g) {
            w[g].d = d;
            w[g].s[0] = V::byte_to_floats(scales[g / 2], 2 * (g % 2));
            w[g].s[1] = V::byte_to_floats(scales[g / 2], 2 * (g % 2) + 1);
        }
    }

  private:
    // Half of four groups: 16 bytes of high bits serve all of them, 16 bytes of low bits two.
    static void unpack_quarter(const uint8_t* const* rows, int64_t low_at, int64_t high_at, Unpacked<V>* w, int first) {
        const auto nibble = V::splat_byte(15), pair = V::splat_byte(0x30);
        typename V::Ints in[4], low[4], high[4];
        gather<V>(rows, high_at, in);
        transpose<V>(in, high);
        for (int t = 0; t < 2; ++t) {
            gather<V>(rows, low_at + 32 * t, in);
            transpose<V>(in, low);
            for (int j = 0; j < 4; ++j) {
                const auto upper = V::bit_and(V::shift_left(high[j], t ? 2 : 4), pair);
                const auto upper_of_next = V::bit_and(V::shift_right(high[j], t ? 2 : 0), pair);
                w[t].q[first + j] = V::bit_or(V::bit_and(low[j], nibble), upper);
                w[t + 2].q[first + j] = V::bit_or(V::bit_and(V::shift_right(low[j], 4), nibble), upper_of_next);
            }
        }
    }
};

// Each row's exact sum of products with one token, times the scales of its halves if the format has them.
template <typename V, typename Format>
typename V::Floats dot_group(const Unpacked<V>& w, const int8_t* a, const int32_t* neg_sum) {
    typename V::Ints sums[2];
    for (int half = 0; half < 2; ++half) {
        sums[half] = V::template minus_offset<Format::kOffsetBits>(neg_sum[half]);
        for (int j = 4 * half; j < 4 * half + 4; ++j) {
            sums[half] = V::template dot4<Format::kSigned>(sums[half], w.q[j], V::splat4(a + 4 * j));
        }
    }
    if constexpr (Format::kHalfScales) {  // below 2^24 in magnitude, so exact in fp32
        return V::fma(V::to_floats(sums[1]), w.s[1], V::mul(V::to_floats(sums[0]), w.s[0]));
    } else {
        return V::to_floats(V::add_ints(sums[0], sums[1]));
    }
}

// Rows row .. row + kLanes - 1 (`count` of them are there) times kTokens tokens. `ahead`: the weights to prefetch, or
// null.
template <typename V, typename Format, int kTokens>
void dot_tile(const Linear& c, const uint8_t* const* rows, int64_t row, int64_t count, int64_t token,
              const uint8_t* ahead) {
    const int64_t groups = c.columns / kGroup;
    int64_t from[kTokens];
    typename V::Floats sums[kTokens];
    for (int m = 0; m < kTokens; ++m) {
        from[m] = c.index ? c.index[token + m] : token + m;
        sums[m] = V::splat(0);
    }
    for (int64_t g = 0; g < groups; g += Format::kGroups) {
        if (ahead) {  // into the second level: two tiles would not fit the first
            for (int64_t line = 0; line < V::kLanes * Format::kBytes; line += 64)
                __builtin_prefetch(ahead + line, 0, 2);
            ahead += V::kLanes * Format::kBytes;
        }
        Unpacked<V> w[Format::kGroups];
        Format::unpack(rows, g / Format::kGroups, w);
        for (int i = 0; i < Format::kGroups; ++i) {
#pragma GCC unroll 16
            for (int m = 0; m < kTokens; ++m) {
                const int64_t at = from[m] * groups + g + i;
                const auto product = dot_group<V, Format>(w[i], c.a.q + at * kGroup, c.a.neg_sum + 2 * at);
                sums[m] = V::fma(product, V::mul(w[i].d, V::splat(c.a.scale[at])), sums[m]);
            }
        }
    }
    for (int m = 0; m < kTokens; ++m) {
        float* out = c.out + (token + m) * c.out_stride + row;
        if (count == V::kLanes) {
            V::store(out, sums[m]);
        } else {
            store_first<V>(out, sums[m], count);
        }
    }
}

// All tokens from `token` on: kTokens at a time, and what is left in halves of that.
template <typename V, typename Format, int kTokens>
void dot_tokens(const Linear& c, const uint8_t* const* rows, int64_t row, int64_t count, int64_t token,
                const uint8_t* ahead) {
    for (; token + kTokens <= c.tokens; token += kTokens, ahead = nullptr) {
        dot_tile<V, Format, kTokens>(c, rows, row, count, token, ahead);
    }
    if constexpr (kTokens > 1) {
        if (token < c.tokens) dot_tokens<V, Format, kTokens / 2>(c, rows, row, count, token, ahead);
    }
}

template <typename V, typename Format>
void linear_quantised(const Linear& c) {
    for (int64_t row = c.row_begin; row < c.row_end; row += V::kLanes) {
        const int64_t left = c.row_end - row, count = left < V::kLanes ? left : V::kLanes;
        const uint8_t* rows[V::kLanes];
        for (int64_t i = 0; i < V::kLanes; ++i) {  // the last row stands in for rows that are not there
            rows[i] = c.weights + (row + (i < count ? i : count - 1)) * c.row_bytes;
        }
        // While the first tokens meet this tile, the next one comes: without this, one token waits for memory.
        const uint8_t* ahead = left > V::kLanes ? c.weights + (row + V::kLanes) * c.row_bytes : nullptr;
        dot_tokens<V, Format, V::kTokens>(c, rows, row, count, 0, ahead);
    }
}

}  // namespace
}  // namespace headrace
