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
    typename V::Floats e;     // where the format has a minimum: what is taken from each weight
    typename V::Floats s[2];  // where it has scales of 16 weights: those of both halves
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

// Nibbles of 16 bytes: the low ones into q[0] .. q[3], the high ones into q[4] .. q[7].
template <typename V>
void unpack_nibbles(const uint8_t* const* rows, int64_t offset, typename V::Ints* q) {
    const auto low = V::splat_byte(15);
    typename V::Ints in[4], nibbles[4];
    gather<V>(rows, offset, in);
    transpose<V>(in, nibbles);
    for (int j = 0; j < 4; ++j) {
        q[j] = V::bit_and(nibbles[j], low);
        q[4 + j] = V::bit_and(V::shift_right(nibbles[j], 4), low);
    }
}

// Bit k of the four bytes at `offset` is worth 16 in weight k: each byte of a lane is made a copy of the one that holds
// its bit.
template <typename V>
void add_fifth_bits(const uint8_t* const* rows, int64_t offset, typename V::Ints* q) {
    static constexpr uint8_t kFirst[16] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    static constexpr uint8_t kBits[2][16] = {{1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8},
                                             {16, 32, 64, 128, 16, 32, 64, 128, 16, 32, 64, 128, 16, 32, 64, 128}};
    const auto words = V::gather4(rows, offset), sixteen = V::splat_byte(16);
    auto source = V::splat16(kFirst);
    for (int j = 0; j < 8; j += 2) {
        const auto bytes = V::lookup(words, source);
        for (int i = 0; i < 2; ++i) {
            q[j + i] = V::bit_or(q[j + i], V::where_bits(bytes, V::splat16(kBits[i]), sixteen));
        }
        source = V::add_bytes(source, V::splat_byte(1));  // of the next byte
    }
}

// A format says how its blocks are unpacked, kGroups groups at a time; what was added to the weights to make them
// unsigned (as a power of two, 0 for nothing); and how many bytes that takes in a row.
template <typename V>
struct Q4_0 {
    static constexpr bool kSigned = false, kHalfScales = false, kMinimum = false;
    static constexpr int kOffsetBits = 3;
    static constexpr int64_t kGroups = 1, kBytes = 18;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        unpack_nibbles<V>(rows, 18 * block + 2, w->q);
        w->d = V::gather_half(rows, 18 * block);
    }
};

// Weights are numbers of a table, those of Q8_0 in form.
template <typename V>
struct IQ4_NL {
    static constexpr bool kSigned = true, kHalfScales = false, kMinimum = false;
    static constexpr int kOffsetBits = V::kSignedOffsetBits;
    static constexpr int64_t kGroups = 1, kBytes = 18;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        const auto levels = V::from_signed(V::splat16(reinterpret_cast<const uint8_t*>(kLevels)));
        unpack_nibbles<V>(rows, 18 * block + 2, w->q);
        for (auto& q : w->q) q = V::lookup(levels, q);
        w->d = V::gather_half(rows, 18 * block);
    }
};

// Blocks of 32 with a minimum, fifth bits or both.
template <typename V, bool kWithMinimum, bool kFifthBits>
struct SmallBlock {
    static constexpr bool kSigned = false, kHalfScales = false, kMinimum = kWithMinimum;
    static constexpr int kOffsetBits = kWithMinimum ? 0 : 4;
    static constexpr int64_t kBitsAt = kWithMinimum ? 4 : 2, kNibblesAt = kBitsAt + (kFifthBits ? 4 : 0);
    static constexpr int64_t kGroups = 1, kBytes = kNibblesAt + 16;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        unpack_nibbles<V>(rows, kBytes * block + kNibblesAt, w->q);
        if constexpr (kFifthBits) add_fifth_bits<V>(rows, kBytes * block + kBitsAt, w->q);
        w->d = V::gather_half(rows, kBytes * block);
        if constexpr (kWithMinimum) w->e = V::sub(V::splat(0), V::gather_half(rows, kBytes * block + 2));
    }
};
template <typename V>
using Q4_1 = SmallBlock<V, true, false>;
template <typename V>
using Q5_0 = SmallBlock<V, false, true>;
template <typename V>
using Q5_1 = SmallBlock<V, true, true>;

template <typename V>
struct Q8_0 {
    static constexpr bool kSigned = true, kHalfScales = false, kMinimum = false;
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
    static constexpr bool kSigned = false, kHalfScales = true, kMinimum = false;
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

// kernels.h and formats.h have the layouts. Group g of Q3_K takes bits 2 (g % 4) of half of the low bits, and bit g of
// the third bits.
template <typename V>
struct Q3_K {
    static constexpr bool kSigned = false, kHalfScales = true, kMinimum = false;
    static constexpr int kOffsetBits = 2;
    static constexpr int64_t kGroups = 8, kBytes = 110;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        const auto pair = V::splat_byte(3), one = V::splat_byte(4);
        for (int half = 0; half < 2; ++half) {
            typename V::Ints in[4], low[4], third[4];
            gather<V>(rows, kBytes * block + 16 * half, in);
            transpose<V>(in, third);
            for (int part = 0; part < 2; ++part) {
                gather<V>(rows, kBytes * block + 32 + 32 * part + 16 * half, in);
                transpose<V>(in, low);
                for (int t = 0; t < 4; ++t) {
                    const int g = 4 * part + t;
                    for (int j = 0; j < 4; ++j) {
                        const auto upper = g < 2 ? V::shift_left(third[j], 2 - g) : V::shift_right(third[j], g - 2);
                        w[g].q[4 * half + j] =
                            V::bit_or(V::bit_and(V::shift_right(low[j], 2 * t), pair), V::bit_and(upper, one));
                    }
                }
            }
        }
        unpack_scales(rows, kBytes * block, w);
    }

  private:
    // The last 16 bytes of a block: two of low bits, twelve of scales, d.
    static void unpack_scales(const uint8_t* const* rows, int64_t offset, Unpacked<V>* w) {
        typename V::Ints in[4], last[4], word[3], scales[4];
        gather<V>(rows, offset + 94, in);
        transpose<V>(in, last);
        for (int i = 0; i < 3; ++i) {
            word[i] = V::bit_or(V::shift_right32(last[i], 16), V::shift_left32(last[i + 1], 16));
        }
        const auto low = V::splat_byte(15), upper = V::splat_byte(0x30);
        for (int i = 0; i < 4; ++i) {
            const auto nibble = V::bit_and(V::shift_right(word[i % 2], i / 2 * 4), low);
            const auto two = i < 2 ? V::shift_left(word[2], 4 - 2 * i) : V::shift_right(word[2], 2 * i - 4);
            scales[i] = V::bit_or(nibble, V::bit_and(two, upper));
        }
        const auto d = V::gather_half(rows, offset + 108), middle = V::splat(32);
        for (int g = 0; g < kGroups; ++g) {
            w[g].d = d;
            for (int half = 0; half < 2; ++half) {
                w[g].s[half] = V::sub(V::byte_to_floats(scales[g / 2], 2 * (g % 2) + half), middle);
            }
        }
    }
};

// Q4_K, and Q5_K with its fifth bits, of which bit g belongs to group g.
template <typename V, bool kFifthBits>
struct WithMinima {
    static constexpr bool kSigned = false, kHalfScales = false, kMinimum = true;
    static constexpr int kOffsetBits = 0;
    static constexpr int64_t kGroups = 8, kNibblesAt = kFifthBits ? 48 : 16, kBytes = kNibblesAt + 128;
    static void unpack(const uint8_t* const* rows, int64_t block, Unpacked<V>* w) {
        const auto low = V::splat_byte(15), sixteen = V::splat_byte(16);
        for (int half = 0; half < 2; ++half) {
            typename V::Ints in[4], nibbles[4], fifth[4];
            if constexpr (kFifthBits) {
                gather<V>(rows, kBytes * block + 16 + 16 * half, in);
                transpose<V>(in, fifth);
            }
            for (int g = 0; g < kGroups; g += 2) {
                gather<V>(rows, kBytes * block + kNibblesAt + 16 * g + 16 * half, in);
                transpose<V>(in, nibbles);
                for (int i = 0; i < 8; ++i) {  // of this group and the next
                    const int group = g + i / 4, j = i % 4;
                    auto q = V::bit_and(V::shift_right(nibbles[j], i / 4 * 4), low);
                    if constexpr (kFifthBits) {
                        const auto bit =
                            group < 4 ? V::shift_left(fifth[j], 4 - group) : V::shift_right(fifth[j], group - 4);
                        q = V::bit_or(q, V::bit_and(bit, sixteen));
                    }
                    w[group].q[4 * half + j] = q;
                }
            }
        }
        unpack_scales(rows, kBytes * block, w);
    }

  private:
    static void unpack_scales(const uint8_t* const* rows, int64_t offset, Unpacked<V>* w) {
        const auto six = V::splat_byte(63), low = V::splat_byte(15), upper = V::splat_byte(0x30);
        const auto d = V::gather_half(rows, offset), e = V::gather_half(rows, offset + 2);
        typename V::Ints in[4], twelve[4], first[2], second[2];  // scales and minima of groups 0 .. 3, then of 4 .. 7
        gather<V>(rows, offset + 4, in);
        transpose<V>(in, twelve);
        for (int i = 0; i < 2; ++i) {
            first[i] = V::bit_and(twelve[i], six);
            second[i] = V::bit_or(V::bit_and(V::shift_right(twelve[2], 4 * i), low),
                                  V::bit_and(V::shift_right(twelve[i], 2), upper));
        }
        for (int g = 0; g < kGroups; ++g) {
            const auto* of = g < 4 ? first : second;
            w[g].d = V::mul(d, V::byte_to_floats(of[0], g % 4));
            w[g].e = V::mul(e, V::byte_to_floats(of[1], g % 4));
        }
    }
};
template <typename V>
using Q4_K = WithMinima<V, false>;
template <typename V>
using Q5_K = WithMinima<V, true>;

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
                const auto scale = V::splat(c.a.scale[at]);
                if constexpr (Format::kMinimum) {
                    const auto sum = V::to_floats(V::splat_int(c.a.neg_sum[2 * at] + c.a.neg_sum[2 * at + 1]));
                    sums[m] = V::fma(V::fma(sum, w[i].e, V::mul(product, w[i].d)), scale, sums[m]);
                } else {
                    sums[m] = V::fma(product, V::mul(w[i].d, scale), sums[m]);
                }
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
