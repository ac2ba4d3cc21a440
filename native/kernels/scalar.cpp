// The readable twin of every kernel: what the others are tested against, and what runs where nothing better does.
#include <float.h>
#include <math.h>
#include <string.h>

#include "kernels/formats.h"
#include "kernels/kernels.h"

namespace headrace {
namespace {

// --- numbers of 16 bits ----------------------------------------------------------------------------------------------

float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

uint16_t load_u16(const uint8_t* p) {
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

float from_half(uint16_t h) {
    const uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ffu;
    if (exponent == 31) return from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) return from_bits(sign | bits_of(static_cast<float>(mantissa) * 0x1p-24f));
    return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t half_from(float x) {
    const uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65520 and above round to infinity
    if (magnitude < 0x38800000u) {                                               // below 2^-14: a multiple of 2^-24
        const float steps = from_bits(magnitude) * 0x1p24f + 0x1p23f;            // the addition rounds half to even
        return static_cast<uint16_t>(sign | (bits_of(steps) & 0x7fffu));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return static_cast<uint16_t>(sign | ((rounded >> 13) - (112u << 10)));
}

// --- linear, float types ---------------------------------------------------------------------------------------------

float f32_weight(const uint8_t* row, int64_t k) {
    float x;
    memcpy(&x, row + 4 * k, sizeof x);
    return x;
}
float f16_weight(const uint8_t* row, int64_t k) { return from_half(load_u16(row + 2 * k)); }
float bf16_weight(const uint8_t* row, int64_t k) {
    return from_bits(static_cast<uint32_t>(load_u16(row + 2 * k)) << 16);
}

template <float (*weight)(const uint8_t*, int64_t)>
void linear_float(const Linear& c) {
    for (int64_t m = 0; m < c.tokens; ++m) {
        const float* x = c.a.x + (c.index ? c.index[m] : m) * c.columns;
        for (int64_t r = c.row_begin; r < c.row_end; ++r) {
            const uint8_t* row = c.weights + r * c.row_bytes;
            float sum = 0;
            for (int64_t k = 0; k < c.columns; ++k) sum += weight(row, k) * x[k];
            c.out[m * c.out_stride + r] = sum;
        }
    }
}

template <float (*weight)(const uint8_t*, int64_t)>
void dequantise_float(const uint8_t* row, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = weight(row, i);
}

// --- linear, quantised types -----------------------------------------------------------------------------------------

// 32 weights of a row: weight k is d * s[k / 16] * q[k] - e.
struct Group {
    float d, e;
    int32_t s[2];
    int8_t q[kGroup];
    bool minimum;
};

// What a group's parts mean. The step d s of Q4_K and Q5_K is exact in fp32, 11 bits by 6, and so is e m.
template <Type kType>
Group group_of(const Parts& p) {
    constexpr bool small_scales = kType == Type::Q3_K || kType == Type::Q6_K;
    constexpr bool minima = kType == Type::Q4_K || kType == Type::Q5_K;
    constexpr int offset = kType == Type::Q8_0   ? 128
                           : kType == Type::Q6_K ? 32
                           : kType == Type::Q5_0 ? 16
                           : kType == Type::Q4_0 ? 8
                           : kType == Type::Q3_K ? 4
                                                 : 0;
    Group group{from_half(load_u16(p.d)), 0, {1, 1}, {}, format_of(kType).minimum};
    for (int k = 0; k < kGroup; ++k) {
        group.q[k] = kType == Type::IQ4_NL ? kLevels[p.level[k]] : static_cast<int8_t>(p.level[k] - offset);
    }
    if constexpr (small_scales) {
        for (int i = 0; i < 2; ++i) group.s[i] = kType == Type::Q3_K ? p.s[i] - 32 : static_cast<int8_t>(p.s[i]);
    } else if constexpr (minima) {
        group.d *= p.s[0];
        group.e = from_half(load_u16(p.e)) * p.s[1];
    } else if (group.minimum) {
        group.e = -from_half(load_u16(p.e));  // of Q4_1 and Q5_1 the minimum is added
    }
    return group;
}

int32_t dot(const Group& w, const int8_t* a) {
    int32_t sum[2] = {0, 0};
    for (int k = 0; k < kGroup; ++k) sum[k / kHalfGroup] += w.q[k] * a[k];
    return w.s[0] * sum[0] + w.s[1] * sum[1];
}

// f and what a group adds to it.
float plus_group(float f, const Group& w, const int8_t* a, float scale, const int32_t* neg_sum) {
    const float product = static_cast<float>(dot(w, a));
    if (!w.minimum) return fmaf(product, w.d * scale, f);
    return fmaf(fmaf(static_cast<float>(neg_sum[0] + neg_sum[1]), w.e, product * w.d), scale, f);
}

// Group g of row r of a matrix, by either order.
using GroupAt = Group(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t g);
template <Type kType>
Group of_row(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t g) {
    return group_of<kType>(read_row<kType>(weights + r * row_bytes, g));
}
template <Type kType>
Group of_panel(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t g) {
    return group_of<kType>(read_panel<kType>(weights + r / 32 * 32 * row_bytes, g, r % 32));
}

template <GroupAt* group>
void linear_quantised(const Linear& c) {
    const int64_t groups = c.columns / kGroup;
    for (int64_t r = c.row_begin; r < c.row_end; ++r) {
        for (int64_t m = 0; m < c.tokens; ++m) c.out[m * c.out_stride + r] = 0;
        for (int64_t g = 0; g < groups; ++g) {
            const Group w = group(c.weights, c.row_bytes, r, g);
            for (int64_t m = 0; m < c.tokens; ++m) {
                const int64_t from = c.index ? c.index[m] : m;
                const int64_t at = from * groups + g;
                float& out = c.out[m * c.out_stride + r];
                out = plus_group(out, w, c.a.q + at * kGroup, c.a.scale[at], c.a.neg_sum + 2 * at);
            }
        }
    }
}

template <GroupAt* group>
void dequantise_row(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t n, float* out) {
    for (int64_t g = 0; g < n / kGroup; ++g) {
        const Group w = group(weights, row_bytes, r, g);
        for (int k = 0; k < kGroup; ++k) {
            const float step = w.d * static_cast<float>(w.s[k / kHalfGroup]);
            out[g * kGroup + k] = w.minimum ? fmaf(step, w.q[k], -w.e) : step * w.q[k];
        }
    }
}

template <Type kType>
void dequantise_groups(const uint8_t* row, int64_t n, float* out) {
    dequantise_row<of_row<kType>>(row, 0, 0, n, out);
}

// --- the rest --------------------------------------------------------------------------------------------------------

void quantise(const float* x, int64_t n, int8_t* q, float* scale, int32_t* neg_sum) {
    for (int64_t g = 0; g < n / kGroup; ++g, x += kGroup, q += kGroup) {
        float largest = 0;
        bool nan = false;
        for (int k = 0; k < kGroup; ++k) {
            nan |= isnan(x[k]);
            largest = fmaxf(largest, fabsf(x[k]));
        }
        const bool usable = !nan && largest >= 127 / FLT_MAX && largest <= FLT_MAX;
        scale[g] = nan ? NAN : isinf(largest) ? largest : usable ? largest / 127 : 0;
        int32_t sum[2] = {0, 0};
        for (int k = 0; k < kGroup; ++k) {
            q[k] = usable ? static_cast<int8_t>(lrintf(x[k] * (127 / largest))) : 0;
            sum[k / kHalfGroup] += q[k];
        }
        neg_sum[2 * g] = -sum[0];
        neg_sum[2 * g + 1] = -sum[1];
    }
}

void norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
    const float inverse = 1 / sqrtf(sum / static_cast<float>(n) + eps);
    for (int64_t i = 0; i < n; ++i) out[i] = x[i] * inverse * weight[i];
}

void add_scaled(float weight, const float* x, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = std::fma(weight, x[i], out[i]);
}

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

int64_t padded(int64_t head_dim) { return (head_dim + kHeadUnit - 1) / kHeadUnit * kHeadUnit; }

// How a cache's tiles are read, and whether queries and weights are rounded for them.
template <typename Number, float (*to_float)(Number)>
struct FloatTiles {
    using Sum = float;
    static constexpr bool kRounds = false;
    static float key(const void* tile, int64_t j, int64_t d, int64_t) {
        return to_float(static_cast<const Number*>(tile)[d * kTile + j]);
    }
    static float value(const void* tile, int64_t j, int64_t d, int64_t head_dim) {
        return to_float(static_cast<const Number*>(tile)[j * padded(head_dim) + d]);
    }
    static float key_scale(const void*, int64_t, int64_t) { return 1; }
    static float value_scale(const void*, int64_t, int64_t) { return 1; }
};

struct Int8Tiles {
    using Sum = double;  // holds the integer sums exactly
    static constexpr bool kRounds = true;
    static float key(const void* tile, int64_t j, int64_t d, int64_t) {
        return static_cast<const int8_t*>(tile)[(d / 2 * kTile + j) * 2 + d % 2];
    }
    static float value(const void* tile, int64_t j, int64_t d, int64_t head_dim) {
        return static_cast<const int8_t*>(tile)[(j / 2 * padded(head_dim) + d) * 2 + j % 2];
    }
    static float key_scale(const void* tile, int64_t j, int64_t head_dim) {
        return reinterpret_cast<const float*>(static_cast<const int8_t*>(tile) + kTile * padded(head_dim))[j];
    }
    static float value_scale(const void* tile, int64_t j, int64_t head_dim) { return key_scale(tile, j, head_dim); }
};

// x [n] becomes whole numbers of at most 32767; returns what one of them is worth.
float round_to_int16(float* x, int64_t n) {
    float largest = 0;
    bool nan = false;
    for (int64_t i = 0; i < n; ++i) largest = fmaxf(largest, fabsf(x[i])), nan |= isnan(x[i]);
    const float inverse = 32767 / largest;
    const bool usable = !nan && isfinite(inverse) && isfinite(largest);
    for (int64_t i = 0; i < n; ++i) x[i] = usable ? rintf(x[i] * inverse) : 0;
    return nan ? NAN : isinf(largest) ? largest : usable ? largest / 32767 : 0;
}

// One query head of one token.
template <typename Tiles>
void attend_one(const Attend& c, const float* query, int64_t seen, float* out, Softmax& softmax) {
    using Sum = typename Tiles::Sum;
    float rounded[kMaxInt8HeadDim], unit = 1;
    if constexpr (Tiles::kRounds) {
        memcpy(rounded, query, static_cast<size_t>(c.head_dim) * sizeof(float));
        unit = round_to_int16(rounded, c.head_dim);
        query = rounded;
    }
    softmax = {-INFINITY, 0};
    for (int64_t d = 0; d < c.head_dim; ++d) out[d] = 0;
    for (int64_t begin = c.begin; begin < seen; begin += kTile) {
        const void *keys = c.keys[(begin - c.begin) / kTile], *values = c.values[(begin - c.begin) / kTile];
        const int64_t count = seen - begin < kTile ? seen - begin : kTile;
        const float before = softmax.largest;
        float weights[kTile], scaled[kTile];
        for (int64_t j = 0; j < count; ++j) {
            Sum sum = 0;
            for (int64_t d = 0; d < c.head_dim; ++d) sum += Sum(query[d]) * Tiles::key(keys, j, d, c.head_dim);
            weights[j] = static_cast<float>(sum) * (unit * Tiles::key_scale(keys, j, c.head_dim));
            softmax.largest = weights[j] > softmax.largest ? weights[j] : softmax.largest;
        }
        const float shrink = before == softmax.largest ? 1 : expf(before - softmax.largest);
        softmax.total *= shrink;
        for (int64_t j = 0; j < count; ++j) {
            weights[j] = expf(weights[j] - softmax.largest);
            softmax.total += weights[j];
            scaled[j] = weights[j] * Tiles::value_scale(values, j, c.head_dim);
        }
        const float weight_unit = Tiles::kRounds ? round_to_int16(scaled, count) : 1;
        for (int64_t d = 0; d < c.head_dim; ++d) {
            out[d] *= shrink;
            Sum sum = Tiles::kRounds ? 0 : out[d];
            for (int64_t j = 0; j < count; ++j) sum += Sum(scaled[j]) * Tiles::value(values, j, d, c.head_dim);
            out[d] = Tiles::kRounds ? out[d] + static_cast<float>(sum) * weight_unit : static_cast<float>(sum);
        }
    }
}

template <typename Tiles>
void attend(const Attend& c) {
    for (int64_t t = 0; t < c.tokens; ++t) {
        for (int64_t h = 0; h < c.heads; ++h) {
            const int64_t last = c.position + t + 1, at = t * c.heads + h;
            attend_one<Tiles>(c, c.q + t * c.token_stride + h * c.head_dim, last < c.end ? last : c.end,
                              c.sums + at * c.head_dim, c.softmax[at]);
        }
    }
}

float itself(float x) { return x; }

void to_half(const float* x, int64_t n, uint16_t* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = half_from(x[i]);
}

float read(const float* x, int64_t n) {
    float sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += x[i];
    return sum;
}

int64_t multiply_adds(int64_t rounds, float* keep) {
    int32_t sum = 0;
    const auto byte = static_cast<int8_t>(*keep);
    for (int64_t i = 0; i < rounds; ++i) sum += static_cast<int8_t>(i) * byte;
    *keep += static_cast<float>(sum);
    return rounds;
}

}  // namespace

Dequantise* const kDequantise[kTypes] = {
    dequantise_float<f32_weight>,    dequantise_float<f16_weight>,  dequantise_float<bf16_weight>,
    dequantise_groups<Type::Q8_0>,   dequantise_groups<Type::Q4_0>, dequantise_groups<Type::Q6_K>,
    dequantise_groups<Type::Q4_1>,   dequantise_groups<Type::Q5_0>, dequantise_groups<Type::Q5_1>,
    dequantise_groups<Type::IQ4_NL>, dequantise_groups<Type::Q3_K>, dequantise_groups<Type::Q4_K>,
    dequantise_groups<Type::Q5_K>,
};

DequantisePanel* const kDequantisePanel[kTypes] = {
    nullptr,
    nullptr,
    nullptr,
    dequantise_row<of_panel<Type::Q8_0>>,
    dequantise_row<of_panel<Type::Q4_0>>,
    dequantise_row<of_panel<Type::Q6_K>>,
    dequantise_row<of_panel<Type::Q4_1>>,
    dequantise_row<of_panel<Type::Q5_0>>,
    dequantise_row<of_panel<Type::Q5_1>>,
    dequantise_row<of_panel<Type::IQ4_NL>>,
    dequantise_row<of_panel<Type::Q3_K>>,
    dequantise_row<of_panel<Type::Q4_K>>,
    dequantise_row<of_panel<Type::Q5_K>>,
};

const Kernels kScalarKernels = {
    .name = "scalar",
    .linear = {linear_float<f32_weight>, linear_float<f16_weight>, linear_float<bf16_weight>,
               linear_quantised<of_row<Type::Q8_0>>, linear_quantised<of_row<Type::Q4_0>>,
               linear_quantised<of_row<Type::Q6_K>>, linear_quantised<of_row<Type::Q4_1>>,
               linear_quantised<of_row<Type::Q5_0>>, linear_quantised<of_row<Type::Q5_1>>,
               linear_quantised<of_row<Type::IQ4_NL>>, linear_quantised<of_row<Type::Q3_K>>,
               linear_quantised<of_row<Type::Q4_K>>, linear_quantised<of_row<Type::Q5_K>>},
    .panels = {nullptr, nullptr, nullptr, linear_quantised<of_panel<Type::Q8_0>>,
               linear_quantised<of_panel<Type::Q4_0>>, linear_quantised<of_panel<Type::Q6_K>>,
               linear_quantised<of_panel<Type::Q4_1>>, linear_quantised<of_panel<Type::Q5_0>>,
               linear_quantised<of_panel<Type::Q5_1>>, linear_quantised<of_panel<Type::IQ4_NL>>,
               linear_quantised<of_panel<Type::Q3_K>>, linear_quantised<of_panel<Type::Q4_K>>,
               linear_quantised<of_panel<Type::Q5_K>>},
    .quantise = quantise,
    .norm = norm,
    .swiglu = swiglu,
    .add_scaled = add_scaled,
    .attend = {attend<FloatTiles<uint16_t, from_half>>, attend<FloatTiles<float, itself>>, attend<Int8Tiles>},
    .to_half = to_half,
    .read = read,
    .multiply_adds = multiply_adds,
};

}  // namespace headrace
