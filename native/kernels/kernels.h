// The table of kernels: everything that depends on the instruction set, and nothing else.
//
// One file for each instruction set fills one `Kernels`; scalar.cpp holds the readable twin of every kernel. Kernels
// know no threads: a caller gives each thread its own range of rows. They never allocate and never throw.
//
// Batch invariance: the order of every floating-point sum is fixed by the shapes of ONE output element. The number of
// tokens in a call, the range of rows and the neighbours never change a bit.
//
// This header is compiled with the flags of every instruction set, so it holds plain data only.
#pragma once
#include <stdint.h>

namespace headrace {

// How the weights of a matrix are stored: the layouts of GGML, row after row.
//   F32, F16, BF16  one number each
//   Q8_0  blocks of 32:   fp16 d, int8 q[32]                                     w = d q
//   Q4_0  blocks of 32:   fp16 d, nibbles q[16] (low: weight i, high: i + 16)    w = d (q - 8)
//   Q6_K  blocks of 256:  low four bits [128], high two bits [64], int8 s[16], fp16 d
//                                                                                w = d s (q - 32), one s for 16 weights
//   Q4_1, Q5_0, Q5_1, IQ4_NL  blocks of 32:  fp16 d, fp16 m of Q4_1 and Q5_1, fifth bits [4] of Q5_0 and Q5_1,
//                         nibbles q[16]          w = d q + m;  d (q - 16);  d q + m;  d kLevels[q]
//   Q3_K  blocks of 256:  third bits [32], low two bits [64], six-bit s[16] in 12 bytes, fp16 d
//                                                                                w = d (s - 32) (q - 4)
//   Q4_K, Q5_K  blocks of 256:  fp16 d, fp16 e, six-bit s[8] and m[8] in 12 bytes, fifth bits [32] of Q5_K,
//                         nibbles [128]          w = d s q - e m, one s and one m for 32 weights
// kernels/formats.h says where each bit lies.
enum class Type : uint8_t { F32, F16, BF16, Q8_0, Q4_0, Q6_K, Q4_1, Q5_0, Q5_1, IQ4_NL, Q3_K, Q4_K, Q5_K };
inline constexpr int kTypes = 13;

// How keys and values are stored in the cache.
enum class KvType : uint8_t { F16, F32, I8 };
inline constexpr int kKvTypes = 3;

inline constexpr int64_t kGroup = 32;      // activations that share a scale
inline constexpr int64_t kHalfGroup = 16;  // activations that share a sum: Q6_K has a scale for as many weights
// Of IQ4_NL. Not inline: an array that has an address would be a weak symbol of each file.
constexpr int8_t kLevels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int64_t kTile = 64;       // positions of the cache that lie together and share a step of the softmax
inline constexpr int64_t kQueryTile = 16;  // tokens of one attend call, at most
inline constexpr int64_t kHeadUnit = 16;   // a head's numbers are padded to whole units in the cache
inline constexpr int64_t kMaxInt8HeadDim = 512;  // whose products with 16-bit queries still sum within 32 bits

// The input of a linear kernel, M rows of K numbers. Matrices of F32, F16 and BF16 read `x`, quantised ones the rest.
struct Activations {
    const float* x;          // [M, K]
    const int8_t* q;         // [M, K]
    const float* scale;      // [M, K / 32]   x ~ scale q
    const int32_t* neg_sum;  // [M, K / 16]   minus the sum of 16 q: what an unsigned weight's offset or minimum meets
};

// out[m, r] = sum over k of weights[r, k] a[from(m), k], for m < tokens and row_begin <= r < row_end;
// from(m) = index ? index[m] : m.
//
// LAYOUT      weights: rows of `row_bytes` bytes in the layout of the type. out: row m begins at out + m * out_stride.
// DEFINITION  float types:      fp32 products, summed in an order that depends on K only.
//             quantised types:  f = 0; for each group g of 32, in order:
//                               f = fma(float(sum of the group's integer products), d[r, g] * scale[m, g], f)
//             where the integer sum is exact, and includes the scales s of Q6_K and Q3_K. With a minimum (Q4_1, Q5_1,
//             Q4_K, Q5_K) d is the step d s of 32 weights, exact in fp32, e what is taken from each of them, and
//                               f = fma(fma(float(minus the sum of a), e, float(sum) * d), scale[m, g], f)
// LIMITS      K is a multiple of the type's block; any K for the float types.
struct Linear {
    const uint8_t* weights;
    int64_t row_bytes;
    int64_t columns;  // K
    int64_t row_begin, row_end;
    Activations a;
    const int32_t* index;
    int64_t tokens;  // M
    float* out;
    int64_t out_stride;
};

// The online softmax of one query: the largest score and the sum of weights so far.
struct Softmax {
    float largest, total;
};

// Causal attention of one kv head: `heads` query heads of `tokens` consecutive positions over the keys of one sequence
// from `begin` up to `end`, a multiple of kTile and the end of a span (attention.h). A token at position p sees 0 .. p.
//
// SHAPES      q: token t, head h at q + t * token_stride + h * head_dim, already divided by sqrt(head_dim);
//             sums [tokens, heads, head_dim], softmax [tokens, heads].
// LAYOUT      keys[i], values[i]: the tile of positions begin + 64 i and the 63 after it, numbers of the cache's type:
//                 fp16, fp32  keys [head_dim][64], so that one load gives the same dimension of many positions;
//                             values [64][stride], stride = head_dim rounded up to 16;
//                 int8        keys [stride / 2][64][2], then fp32 scales [64];
//                             values [32][stride][2], two positions side by side, then fp32 scales [64].
// DEFINITION  m = -inf, l = 0, o = 0; for each tile, as far as the token sees it:
//                 s[j] = dot(q, key j); n = max(m, max s); c = exp(m - n); w[j] = exp(s[j] - n); l = l c + sum w;
//                 o = o c + sum of w[j] value[j]; m = n
//             sums = o, softmax = (m, l).
//             fp16, fp32: both sums in fp32, dimension after dimension and position after position.
//             int8: q and, for each tile, w[j] times value j's scale become integers of 15 bits and a sign by the
//             largest magnitude among them (zero, if 32767 / it overflows); integer sums are exact.
// LIMITS      tokens <= kQueryTile; head_dim <= kMaxInt8HeadDim for int8
struct Attend {
    const float* q;
    int64_t token_stride;
    int64_t tokens, heads, head_dim;
    int64_t position;  // of the first token
    int64_t begin, end;
    const void* const* keys;
    const void* const* values;
    float* sums;
    Softmax* softmax;
};

struct Kernels {
    const char* name;

    // One for each Type.
    void (*linear[kTypes])(const Linear&);

    // The same over panels (panels.h), for the quantised types; row_begin and row_end are multiples of 32. Null where
    // the instruction set has nothing better than rows.
    void (*panels[kTypes])(const Linear&);

    // Groups of 32: d = max |x| / 127, q = x (127 / max |x|) rounded half to even. A group whose largest magnitude is
    // so small that 127 / max |x| overflows counts as zero; one that holds a NaN gets the scale NaN, an infinite one
    // the scale infinity, and zeros for q. x [n], q [n], scale [n / 32], neg_sum [n / 16]; n is a multiple of 32.
    void (*quantise)(const float* x, int64_t n, int8_t* q, float* scale, int32_t* neg_sum);

    // out[i] = x[i] / sqrt(mean of x^2 + eps) * weight[i], i < n. In place is allowed.
    void (*norm)(const float* x, const float* weight, float eps, int64_t n, float* out);

    // out[i] = gate[i] / (1 + exp(-gate[i])) * up[i], i < n. In place is allowed. Vectors end the exponential at e^88,
    // so a gate beyond -88 leaves at most 6e-39 of itself where the formula leaves less.
    void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);

    // out[i] = fma(weight, x[i], out[i]), i < n.
    void (*add_scaled)(float weight, const float* x, int64_t n, float* out);

    // One for each KvType.
    void (*attend[kKvTypes])(const Attend&);

    // fp16 from fp32, rounded half to even.
    void (*to_half)(const float* x, int64_t n, uint16_t* out);

    // What the machine can do at most, for `bench` (probe.h). The results are there so that nothing is optimised away.
    // The sum of x [n]; n is a multiple of 128.
    float (*read)(const float* x, int64_t n);
    // `rounds` of independent dot products of bytes, all in registers; adds their sum to *keep. Returns how many
    // multiply-adds that was.
    int64_t (*multiply_adds)(int64_t rounds, float* keep);
};

// out[i] = weight i of a row, i < n, a multiple of the type's block; one for each Type. Embedding rows are few: the
// plain code in scalar.cpp serves every instruction set.
using Dequantise = void(const uint8_t* row, int64_t n, float* out);
extern Dequantise* const kDequantise[kTypes];

// The same for row `row` of a matrix in panels, quantised types only; `row_bytes` as in Linear.
using DequantisePanel = void(const uint8_t* panels, int64_t row_bytes, int64_t row, int64_t n, float* out);
extern DequantisePanel* const kDequantisePanel[kTypes];

// Each is defined by the file of its name, which CMake compiles where the processor family has it.
extern const Kernels kScalarKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512VnniKernels;

}  // namespace headrace
