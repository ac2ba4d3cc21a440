// The readable twin of every kernel: what the others are tested against, and what runs where nothing better does.
#include <float.h>
#include <math.h>
#include <string.h>

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

// 32 weights of a row: weight k is d * s[k / 16] * q[k].
struct Group {
    float d;
    int32_t s[2];
    int8_t q[kGroup];
};

Group q8_0_group(const uint8_t* row, int64_t g) {
    const uint8_t* block = row + 34 * g;
    Group group{from_half(load_u16(block)), {1, 1}, {}};
    memcpy(group.q, block + 2, kGroup);
    return group;
}

Group q4_0_group(const uint8_t* row, int64_t g) {
    const uint8_t* block = row + 18 * g;
    Group group{from_half(load_u16(block)), {1, 1}, {}};
    for (int i = 0; i < 16; ++i) {
        group.q[i] = static_cast<int8_t>((block[2 + i] & 15) - 8);
        group.q[16 + i] = static_cast<int8_t>((block[2 + i] >> 4) - 8);
    }
    return group;
}

// A block of 256 is two parts of 128. In a part, group t (of 4) takes the low or high nibbles of 32 of its 64 bytes of
// low bits, and bits 2 t and 2 t + 1 of its 32 bytes of high bits.
Group q6_k_group(const uint8_t* row, int64_t g) {
    const uint8_t* block = row + 210 * (g / 8);
    const int64_t part = g / 4 % 2, t = g % 4;
    const uint8_t* low = block + 64 * part + 32 * (t % 2);
    const uint8_t* high = block + 128 + 32 * part;
    const int8_t* scales = reinterpret_cast<const int8_t*>(block + 192 + 8 * part + 2 * t);
    Group group{from_half(load_u16(block + 208)), {scales[0], scales[1]}, {}};
    for (int i = 0; i < kGroup; ++i) {
        const int nibble = low[i] >> (t < 2 ? 0 : 4) & 15;
        group.q[i] = static_cast<int8_t>((nibble | (high[i] >> (2 * t) & 3) << 4) - 32);
    }
    return group;
}

int32_t dot(const Group& w, const int8_t* a) {
    int32_t sum[2] = {0, 0};
    for (int k = 0; k < kGroup; ++k) sum[k / kHalfGroup] += w.q[k] * a[k];
    return w.s[0] * sum[0] + w.s[1] * sum[1];
}

// The same groups from panels: row r of the panel's 32 (panels.h has the layout).

int8_t panel_nibble(const uint8_t* group, int64_t r, int64_t k) {
    return static_cast<int8_t>(group[64 * (k / 4) + 4 * (r % 16) + k % 4] >> (r < 16 ? 0 : 4) & 15);
}

Group q8_0_panel(const uint8_t* panel, int64_t r, int64_t g) {
    const uint8_t* bytes = panel + 1088 * g;
    Group group{from_half(load_u16(bytes + 1024 + 2 * r)), {1, 1}, {}};
    for (int64_t k = 0; k < kGroup; ++k) {
        group.q[k] = static_cast<int8_t>(bytes[128 * (k / 4) + 64 * (r / 16) + 4 * (r % 16) + k % 4] - 128);
    }
    return group;
}

Group q4_0_panel(const uint8_t* panel, int64_t r, int64_t g) {
    const uint8_t* bytes = panel + 576 * g;
    Group group{from_half(load_u16(bytes + 512 + 2 * r)), {1, 1}, {}};
    for (int64_t k = 0; k < kGroup; ++k) group.q[k] = static_cast<int8_t>(panel_nibble(bytes, r, k) - 8);
    return group;
}

Group q6_k_panel(const uint8_t* panel, int64_t r, int64_t g) {
    const uint8_t *block = panel + g / 8 * 6720, *bytes = block + 832 * (g % 8);
    const int8_t* scales = reinterpret_cast<const int8_t*>(bytes + 768);
    Group group{from_half(load_u16(block + 6656 + 2 * r)), {scales[r], scales[32 + r]}, {}};
    for (int64_t k = 0; k < kGroup; ++k) {
        const int high = bytes[512 + 64 * (k / 8) + 4 * (r % 16) + k % 4] >> (4 * (k / 4 % 2) + 2 * (r / 16)) & 3;
        group.q[k] = static_cast<int8_t>((panel_nibble(bytes, r, k) | high << 4) - 32);
    }
    return group;
}

// From where row r of a matrix begins, by either order.
template <Group (*group)(const uint8_t*, int64_t)>
Group of_row(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t g) {
    return group(weights + r * row_bytes, g);
}
template <Group (*group)(const uint8_t*, int64_t, int64_t)>
Group of_panel(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t g) {
    return group(weights + r / 32 * 32 * row_bytes, r % 32, g);
}

template <Group (*group)(const uint8_t*, int64_t, int64_t, int64_t)>
void linear_quantised(const Linear& c) {
    const int64_t groups = c.columns / kGroup;
    for (int64_t r = c.row_begin; r < c.row_end; ++r) {
        for (int64_t m = 0; m < c.tokens; ++m) c.out[m * c.out_stride + r] = 0;
        for (int64_t g = 0; g < groups; ++g) {
            const Group w = group(c.weights, c.row_bytes, r, g);
            for (int64_t m = 0; m < c.tokens; ++m) {
                const int64_t from = c.index ? c.index[m] : m;
                const float product = static_cast<float>(dot(w, c.a.q + from * c.columns + g * kGroup));
                float& out = c.out[m * c.out_stride + r];
                out = fmaf(product, w.d * c.a.scale[from * groups + g], out);
            }
        }
    }
}

template <Group (*group)(const uint8_t*, int64_t, int64_t, int64_t)>
void dequantise_row(const uint8_t* weights, int64_t row_bytes, int64_t r, int64_t n, float* out) {
    for (int64_t g = 0; g < n / kGroup; ++g) {
        const Group w = group(weights, row_bytes, r, g);
        for (int k = 0; k < kGroup; ++k) {
            out[g * kGroup + k] = w.d * static_cast<float>(w.s[k / kHalfGroup]) * static_cast<float>(w.q[k]);
        }
    }
}

template <Group (*group)(const uint8_t*, int64_t)>
void dequantise_groups(const uint8_t* row, int64_t n, float* out) {
    dequantise_row<of_row<group>>(row, 0, 0, n, out);
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
    dequantise_float<f32_weight>,  dequantise_float<f16_weight>,  dequantise_float<bf16_weight>,
    dequantise_groups<q8_0_group>, dequantise_groups<q4_0_group>, dequantise_groups<q6_k_group>,
};

DequantisePanel* const kDequantisePanel[kTypes] = {
    nullptr,
    nullptr,
    nullptr,
    dequantise_row<of_panel<q8_0_panel>>,
    dequantise_row<of_panel<q4_0_panel>>,
    dequantise_row<of_panel<q6_k_panel>>,
};

const Kernels kScalarKernels = {
    .name = "scalar",
    .linear = {linear_float<f32_weight>, linear_float<f16_weight>, linear_float<bf16_weight>,
               linear_quantised<of_row<q8_0_group>>, linear_quantised<of_row<q4_0_group>>,
               linear_quantised<of_row<q6_k_group>>},
    .panels = {nullptr, nullptr, nullptr, linear_quantised<of_panel<q8_0_panel>>,
               linear_quantised<of_panel<q4_0_panel>>, linear_quantised<of_panel<q6_k_panel>>},
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
