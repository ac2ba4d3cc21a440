// The quantised formats, bit by bit: how a group of 32 weights lies in GGML's blocks, row after row, and how it lies in
// panels (panels.h). Each layout is written once, as moves between bytes and parts, and serves both directions.
#pragma once
#include <stdint.h>

#include "kernels/kernels.h"

namespace headrace {
namespace {

// A group's parts as they are stored. Of Q8_0, whose levels have a sign in a row, as panels store them: plus 128.
struct Parts {
    uint8_t level[kGroup];  // without a sign
    uint8_t s[2];        // Q6_K: int8 scales of 16 weights each; Q3_K: the same in six bits; Q4_K, Q5_K: scale, minimum
    uint8_t d[2], e[2];  // fp16
};

// `low` and `high`: bits of a level that lie apart. `groups` in a block, whose rows take `bytes` each.
struct Format {
    enum Small { kNone, kBytes, kSixes };
    int low, high;
    Small small;
    bool minimum;  // e
    int64_t groups, bytes;

    constexpr int64_t group_bytes() const { return 128 * (low + high) + (small == kBytes ? 64 : 0); }
    constexpr int64_t tail_at() const { return groups * group_bytes(); }  // of sixes, d and e, in a block of panels
    constexpr int64_t d_at() const { return tail_at() + (small == kSixes ? 384 : 0); }
    constexpr int64_t block_bytes() const { return d_at() + (minimum ? 128 : 64); }
};

constexpr Format format_of(Type type) {
    switch (type) {
        case Type::Q8_0:
            return {8, 0, Format::kNone, false, 1, 34};
        case Type::Q4_1:
            return {4, 0, Format::kNone, true, 1, 20};
        case Type::Q5_0:
            return {4, 1, Format::kNone, false, 1, 22};
        case Type::Q5_1:
            return {4, 1, Format::kNone, true, 1, 24};
        case Type::Q3_K:
            return {2, 1, Format::kSixes, false, 8, 110};
        case Type::Q4_K:
            return {4, 0, Format::kSixes, true, 8, 144};
        case Type::Q5_K:
            return {4, 1, Format::kSixes, true, 8, 176};
        case Type::Q6_K:
            return {4, 2, Format::kBytes, false, 8, 210};
        default:  // Q4_0, IQ4_NL
            return {4, 0, Format::kNone, false, 1, 18};
    }
}

// `bits` bits of a byte, from bit `at` on, are those of a part from bit `from` on. Moves add to what was zeros.
struct Read {
    using Byte = const uint8_t;
    using Part = uint8_t;
    static void move(Byte& byte, int at, int bits, Part& part, int from) {
        part = static_cast<uint8_t>(part | (byte >> at & ((1 << bits) - 1)) << from);
    }
};
struct Write {
    using Byte = uint8_t;
    using Part = const uint8_t;
    static void move(Byte& byte, int at, int bits, Part& part, int from) {
        byte = static_cast<uint8_t>(byte | (part >> from & ((1 << bits) - 1)) << at);
    }
};

template <typename Move>
void move_half(typename Move::Byte* bytes, typename Move::Part* part) {
    for (int i = 0; i < 2; ++i) Move::move(bytes[i], 0, 8, part[i], 0);
}

// --- rows ------------------------------------------------------------------------------------------------------------

// Eight six-bit scales and eight minima: of groups 0 .. 3 whole; of the others four bits in the last four bytes and two
// above those of the first eight.
template <typename Move>
void move_scale_and_minimum(typename Move::Byte* twelve, int64_t g, typename Move::Part* s) {
    for (int i = 0; i < 2; ++i) {
        if (g < 4) {
            Move::move(twelve[4 * i + g], 0, 6, s[i], 0);
        } else {
            Move::move(twelve[4 + g], 4 * i, 4, s[i], 0);
            Move::move(twelve[4 * i + g - 4], 6, 2, s[i], 4);
        }
    }
}

// Sixteen six-bit scales: four bits in the halves of the first eight bytes, two in the quarters of the last four.
template <typename Move>
void move_sixteenth(typename Move::Byte* twelve, int64_t i, typename Move::Part& s) {
    Move::move(twelve[i % 8], static_cast<int>(i / 8 * 4), 4, s, 0);
    Move::move(twelve[8 + i % 4], static_cast<int>(i / 4 * 2), 2, s, 4);
}

// A block of 32: d, e if there is one, fifth bits if there are any, and 16 bytes whose low halves come first.
template <Type kType, typename Move>
void move_small_block(typename Move::Byte* block, typename Move::Part* level, typename Move::Part* d,
                      typename Move::Part* e) {
    constexpr Format f = format_of(kType);
    constexpr int64_t bits_at = f.minimum ? 4 : 2, at = bits_at + 4 * f.high;
    move_half<Move>(block, d);
    if constexpr (f.minimum) move_half<Move>(block + 2, e);
    for (int k = 0; k < kGroup; ++k) {
        if constexpr (kType == Type::Q8_0) {
            Move::move(block[2 + k], 0, 8, level[k], 0);
        } else {
            Move::move(block[at + k % 16], k / 16 * 4, 4, level[k], 0);
            if constexpr (f.high) Move::move(block[bits_at + k / 8], k % 8, 1, level[k], 4);
        }
    }
}

// Group g of a row, in either direction.
template <Type kType, typename Move, typename AnyParts>
void move_row(typename Move::Byte* row, int64_t g, AnyParts& p) {
    typename Move::Byte* block = row + g / format_of(kType).groups * format_of(kType).bytes;
    const int64_t i = g % 8, part = i / 4, t = i % 4;
    if constexpr (kType == Type::Q6_K) {
        for (int k = 0; k < kGroup; ++k) {
            Move::move(block[64 * part + 32 * (t % 2) + k], t < 2 ? 0 : 4, 4, p.level[k], 0);
            Move::move(block[128 + 32 * part + k], static_cast<int>(2 * t), 2, p.level[k], 4);
        }
        for (int half = 0; half < 2; ++half) Move::move(block[192 + 2 * i + half], 0, 8, p.s[half], 0);
        move_half<Move>(block + 208, p.d);
    } else if constexpr (kType == Type::Q3_K) {
        for (int k = 0; k < kGroup; ++k) {
            Move::move(block[32 + 32 * part + k], static_cast<int>(2 * t), 2, p.level[k], 0);
            Move::move(block[k], static_cast<int>(i), 1, p.level[k], 2);
        }
        for (int half = 0; half < 2; ++half) move_sixteenth<Move>(block + 96, 2 * i + half, p.s[half]);
        move_half<Move>(block + 108, p.d);
    } else if constexpr (kType == Type::Q4_K || kType == Type::Q5_K) {
        constexpr int64_t at = kType == Type::Q4_K ? 16 : 48;
        for (int k = 0; k < kGroup; ++k) {
            Move::move(block[at + 32 * (i / 2) + k], static_cast<int>(i % 2 * 4), 4, p.level[k], 0);
            if constexpr (kType == Type::Q5_K) Move::move(block[16 + k], static_cast<int>(i), 1, p.level[k], 4);
        }
        move_scale_and_minimum<Move>(block + 4, i, p.s);
        move_half<Move>(block, p.d);
        move_half<Move>(block + 2, p.e);
    } else {
        move_small_block<kType, Move>(block, p.level, p.d, p.e);
    }
}

template <Type kType>
Parts read_row(const uint8_t* row, int64_t g) {
    Parts p{};
    move_row<kType, Read>(row, g, p);
    if constexpr (kType == Type::Q8_0) {
        for (uint8_t& level : p.level) level ^= 0x80;
    }
    return p;
}

// Into a row of zeros.
template <Type kType>
void write_row(uint8_t* row, int64_t g, Parts p) {
    if constexpr (kType == Type::Q8_0) {
        for (uint8_t& level : p.level) level ^= 0x80;
    }
    move_row<kType, Write>(row, g, static_cast<const Parts&>(p));
}

// --- panels ----------------------------------------------------------------------------------------------------------

// The bits of a level that lie together: a vector of 64 bytes has one quad of four weights for 8 / kBits half panels.
template <int kBits, typename Move>
void move_bits(typename Move::Byte* vectors, int64_t r, int from, typename Move::Part* level) {
    constexpr int64_t in_a_vector = 8 / kBits;
    for (int64_t k = 0; k < kGroup; ++k) {
        const int64_t i = 2 * (k / 4) + r / 16;
        Move::move(vectors[64 * (i / in_a_vector) + 4 * (r % 16) + k % 4], static_cast<int>(kBits * (i % in_a_vector)),
                   kBits, level[k], from);
    }
}

// Sixteen six-bit numbers of a row, two for each group, are four words of 24 bits; three of them have 32 bits of room,
// whose last eight are the fourth's.
template <typename Move>
void move_six(typename Move::Byte* sixes, int64_t r, int64_t i, typename Move::Part& s) {
    const int64_t word = i / 4, bit = i % 4 * 6;
    const auto byte = [&](int64_t n) -> typename Move::Byte& {
        const int64_t vector = word < 3 ? word : n;
        return sixes[64 * (2 * vector + r / 16) + 4 * (r % 16) + (word < 3 ? n : 3)];
    };
    const int at = static_cast<int>(bit % 8), first = at > 2 ? 8 - at : 6;
    Move::move(byte(bit / 8), at, first, s, 0);
    if (first < 6) Move::move(byte(bit / 8 + 1), 0, 6 - first, s, first);
}

// Group g of row r of a panel.
template <Type kType, typename Move, typename AnyParts>
void move_panel(typename Move::Byte* panel, int64_t g, int64_t r, AnyParts& p) {
    constexpr Format f = format_of(kType);
    typename Move::Byte *block = panel + g / f.groups * f.block_bytes(), *tail = block + f.tail_at(),
                        *group = block + g % f.groups * f.group_bytes();
    move_bits<f.low, Move>(group, r, 0, p.level);
    if constexpr (f.high) move_bits<f.high, Move>(group + 128 * f.low, r, f.low, p.level);
    for (int i = 0; i < 2; ++i) {
        if constexpr (f.small == Format::kBytes) {
            Move::move(group[128 * (f.low + f.high) + 32 * i + r], 0, 8, p.s[i], 0);
        } else if constexpr (f.small == Format::kSixes) {
            move_six<Move>(tail, r, 2 * (g % f.groups) + i, p.s[i]);
        }
    }
    move_half<Move>(block + f.d_at() + 2 * r, p.d);
    if constexpr (f.minimum) move_half<Move>(block + f.d_at() + 64 + 2 * r, p.e);
}

template <Type kType>
Parts read_panel(const uint8_t* panel, int64_t g, int64_t r) {
    Parts p{};
    move_panel<kType, Read>(panel, g, r, p);
    return p;
}

// Into a panel of zeros.
template <Type kType>
void write_panel(uint8_t* panel, int64_t g, int64_t r, const Parts& p) {
    move_panel<kType, Write>(panel, g, r, p);
}

}  // namespace
}  // namespace headrace
