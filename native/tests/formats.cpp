// The formats by their published definitions (ggml's quants, IEEE 754), in another way than scalar.cpp: arithmetic
// instead of bits, and whole blocks in ggml's own loops instead of groups.
#include <algorithm>
#include <limits>

#include "check.h"
#include "weights.h"

namespace headrace::tests {
namespace {

uint16_t u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

double wide(const uint8_t* p) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return x;
}

double brain(const uint8_t* p) {
    const uint8_t bytes[4] = {0, 0, p[0], p[1]};
    return wide(bytes);
}

float half(const uint8_t* p) { return static_cast<float>(half_value(u16(p))); }

void q8_0(const uint8_t* block, Row& out) {
    for (int i = 0; i < 32; ++i) out.integers.push_back(static_cast<int8_t>(block[2 + i]));
    out.d.push_back(half(block));
}

// The others with 32 weights: what their bytes hold, and what a level is worth.
void small(const uint8_t* block, int bits_at, int nibbles_at, int32_t (*worth)(int32_t), Row& out) {
    for (int i = 0; i < 32; ++i) {
        int32_t level = i < 16 ? block[nibbles_at + i] % 16 : block[nibbles_at + i - 16] / 16;
        if (bits_at) level += 16 * (block[bits_at + i / 8] / (1 << i % 8) % 2);
        out.integers.push_back(worth(level));
    }
    out.d.push_back(half(block));
    if (nibbles_at - (bits_at ? 4 : 0) == 4) out.e.push_back(-half(block + 2));
}

int32_t nonlinear(int32_t level) {
    constexpr int32_t kWorth[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return kWorth[level];
}

void q3_k(const uint8_t* block, Row& out) {
    const uint8_t *third = block, *low = block + 32, *twelve = block + 96;
    for (int y = 0; y < 256; ++y) {
        const int n = y / 128, j = y % 128 / 32, l = y % 32, i = y / 16;
        const int32_t q = low[32 * n + l] / (1 << 2 * j) % 4 - (third[l] / (1 << (4 * n + j)) % 2 ? 0 : 4);
        const int32_t s = twelve[i % 8] / (i < 8 ? 1 : 16) % 16 + 16 * (twelve[8 + i % 4] / (1 << i / 4 * 2) % 4) - 32;
        out.integers.push_back(q * s);
    }
    for (int g = 0; g < 8; ++g) out.d.push_back(half(block + 108));
}

// Of Q5_K, `fifth` is not null.
void with_minima(const uint8_t* block, const uint8_t* fifth, const uint8_t* low, Row& out) {
    const uint8_t* q = block + 4;
    for (int j = 0; j < 8; ++j) {
        const int s = j < 4 ? q[j] % 64 : q[j + 4] % 16 + q[j - 4] / 64 * 16;
        const int m = j < 4 ? q[j + 4] % 64 : q[j + 4] / 16 + q[j] / 64 * 16;
        for (int l = 0; l < 32; ++l) {
            const int32_t upper = fifth ? fifth[l] / (1 << j) % 2 * 16 : 0;
            out.integers.push_back(low[j / 2 * 32 + l] / (j % 2 ? 16 : 1) % 16 + upper);
        }
        out.d.push_back(half(block) * static_cast<float>(s));
        out.e.push_back(half(block + 2) * static_cast<float>(m));
    }
}

void q6_k(const uint8_t* block, Row& out) {
    const uint8_t *low = block, *high = block + 128, *scale = block + 192;
    int32_t integers[256];
    for (int n = 0; n < 256; n += 128, low += 64, high += 32, scale += 8) {
        for (int l = 0; l < 32; ++l) {
            const int32_t q[4] = {
                low[l] % 16 + high[l] % 4 * 16 - 32,
                low[l + 32] % 16 + high[l] / 4 % 4 * 16 - 32,
                low[l] / 16 + high[l] / 16 % 4 * 16 - 32,
                low[l + 32] / 16 + high[l] / 64 * 16 - 32,
            };
            for (int i = 0; i < 4; ++i) integers[n + 32 * i + l] = q[i] * static_cast<int8_t>(scale[l / 16 + 2 * i]);
        }
    }
    out.integers.insert(out.integers.end(), integers, integers + 256);
    for (int g = 0; g < 8; ++g) out.d.push_back(half(block + 208));
}

void decode_block(Type type, const uint8_t* block, Row& out) {
    switch (type) {
        case Type::Q8_0:
            return q8_0(block, out);
        case Type::Q4_0:
            return small(block, 0, 2, [](int32_t level) { return level - 8; }, out);
        case Type::Q4_1:
            return small(block, 0, 4, [](int32_t level) { return level; }, out);
        case Type::Q5_0:
            return small(block, 2, 6, [](int32_t level) { return level - 16; }, out);
        case Type::Q5_1:
            return small(block, 4, 8, [](int32_t level) { return level; }, out);
        case Type::IQ4_NL:
            return small(block, 0, 2, nonlinear, out);
        case Type::Q3_K:
            return q3_k(block, out);
        case Type::Q4_K:
            return with_minima(block, nullptr, block + 16, out);
        case Type::Q5_K:
            return with_minima(block, block + 16, block + 48, out);
        default:
            return q6_k(block, out);
    }
}

}  // namespace

double half_value(uint16_t bits) {
    const int exponent = bits / 1024 % 32, mantissa = bits % 1024;
    const double infinite = mantissa ? std::numeric_limits<double>::quiet_NaN() : HUGE_VAL;
    const double size = exponent == 31  ? infinite
                        : exponent == 0 ? std::ldexp(mantissa, -24)
                                        : std::ldexp(1024 + mantissa, exponent - 25);
    return bits & 0x8000 ? -size : size;
}

uint16_t half_bits(double x) {
    const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
    if (std::isnan(x)) return sign | 0x7e00;
    if (std::fabs(x) >= 65520) return sign | 0x7c00;                    // half a step above the largest number
    const int last = x == 0 ? -24 : std::max(std::ilogb(x), -14) - 10;  // the exponent of the last place
    const auto steps = static_cast<int>(std::nearbyint(std::ldexp(std::fabs(x), -last)));
    return static_cast<uint16_t>(sign + (last + 24) * 1024 + steps);  // 2048 steps carry into the exponent
}

Row decode(Type type, const uint8_t* row, int64_t columns) {
    Row out;
    const TypeInfo& layout = info(type);
    if (!layout.quantised) {
        for (int64_t k = 0; k < columns; ++k) {
            const uint8_t* p = row + k * layout.block_bytes;
            out.numbers.push_back(type == Type::F32 ? wide(p) : type == Type::F16 ? half_value(u16(p)) : brain(p));
        }
        return out;
    }
    for (int64_t k = 0; k < columns; k += layout.block, row += layout.block_bytes) decode_block(type, row, out);
    return out;
}

int64_t scale_offset(Type type) { return type == Type::Q6_K ? 208 : type == Type::Q3_K ? 108 : 0; }

bool has_minimum(Type type) {
    return type == Type::Q4_1 || type == Type::Q5_1 || type == Type::Q4_K || type == Type::Q5_K;
}

void fill_weights(Random& random, Type type, uint8_t* bytes, int64_t size) {
    const TypeInfo& layout = info(type);
    for (int64_t at = 0; at < size; at += layout.block_bytes) {
        uint8_t* p = bytes + at;
        const float x = random.uniform(-1, 1);
        if (type == Type::F32) {
            std::memcpy(p, &x, sizeof x);
        } else if (type == Type::BF16) {
            std::memcpy(p, reinterpret_cast<const uint8_t*>(&x) + 2, 2);
        } else {
            for (int64_t i = 0; i < layout.block_bytes; ++i) p[i] = random.byte();
            const uint16_t half = half_bits(type == Type::F16 ? x : x / 16);
            std::memcpy(p + scale_offset(type), &half, sizeof half);
            const uint16_t least = half_bits(random.uniform(-1, 1) / 2);
            if (has_minimum(type)) std::memcpy(p + 2, &least, sizeof least);
        }
    }
}

}  // namespace headrace::tests
