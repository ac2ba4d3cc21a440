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

void q8_0(const uint8_t* block, int32_t* out) {
    for (int i = 0; i < 32; ++i) out[i] = static_cast<int8_t>(block[2 + i]);
}

void q4_0(const uint8_t* block, int32_t* out) {
    for (int i = 0; i < 16; ++i) {
        out[i] = block[2 + i] % 16 - 8;
        out[i + 16] = block[2 + i] / 16 - 8;
    }
}

void q6_k(const uint8_t* block, int32_t* out) {
    const uint8_t *low = block, *high = block + 128, *scale = block + 192;
    for (int n = 0; n < 256; n += 128, low += 64, high += 32, scale += 8) {
        for (int l = 0; l < 32; ++l) {
            const int32_t q[4] = {
                low[l] % 16 + high[l] % 4 * 16 - 32,
                low[l + 32] % 16 + high[l] / 4 % 4 * 16 - 32,
                low[l] / 16 + high[l] / 16 % 4 * 16 - 32,
                low[l + 32] / 16 + high[l] / 64 * 16 - 32,
            };
            for (int i = 0; i < 4; ++i) out[n + 32 * i + l] = q[i] * static_cast<int8_t>(scale[l / 16 + 2 * i]);
        }
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
    out.integers.resize(static_cast<size_t>(columns));
    for (int64_t k = 0; k < columns; k += layout.block, row += layout.block_bytes) {
        (type == Type::Q8_0 ? q8_0 : type == Type::Q4_0 ? q4_0 : q6_k)(row, out.integers.data() + k);
        const auto d = static_cast<float>(half_value(u16(row + scale_offset(type))));
        out.d.insert(out.d.end(), static_cast<size_t>(layout.block / kGroup), d);
    }
    return out;
}

int64_t scale_offset(Type type) { return type == Type::Q6_K ? 208 : 0; }

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
        }
    }
}

}  // namespace headrace::tests
