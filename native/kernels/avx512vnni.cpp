// AVX-512 with VNNI (Intel from Ice Lake, AMD from Zen 4): sixteen lanes, and dot products of bytes in one instruction.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/attend.h"
#include "kernels/kernels.h"
#include "kernels/panels.h"
#include "kernels/simd.h"
#include "kernels/tile.h"

namespace headrace {
namespace {

struct Avx512 {
    using Floats = __m512;
    using Ints = __m512i;
    static constexpr int64_t kLanes = 16;

    // How much work is in registers at once.
    static constexpr int kFloatRows = 4;     // of a float matrix
    static constexpr int kTokens = 8;        // that meet a quantised tile
    static constexpr int kScoreVectors = 4;  // of scores
    static constexpr int kValueVectors = 4;  // of a value

    static Floats splat(float x) { return _mm512_set1_ps(x); }
    static Floats load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
    static Floats load_half(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
    static Floats load_bf16(const uint8_t* p) {
        const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
    static Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    static Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
    static Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    static Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
    static Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
    static Floats abs(Floats a) { return _mm512_abs_ps(a); }
    static Floats round(Floats a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Floats power_of_two(Floats n) {
        const __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
    }
    static Floats zero_where_less(Floats a, Floats b, Floats x) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NLT_UQ), x);
    }
    static Floats keep_first(Floats x, int64_t n, float fill) {
        const auto mask = static_cast<__mmask16>(n >= kLanes ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
        return _mm512_mask_mov_ps(splat(fill), mask, x);
    }
    static bool any_nan(Floats a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
    static float first(Floats a) { return _mm512_cvtss_f32(a); }
    static float sum(Floats a) { return _mm512_reduce_add_ps(a); }
    static float largest(Floats a) { return _mm512_reduce_max_ps(a); }

    // Rounds half to even, stores bytes, and returns their sum.
    static int32_t store_int8(int8_t* p, Floats a) {
        const Ints rounded = _mm512_cvtps_epi32(a);
        _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(rounded));
        return _mm512_reduce_add_epi32(rounded);
    }

    static void store_int16(int16_t* p, Floats a) {
        _mm256_storeu_si256((__m256i*)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(a)));
    }
    // Bytes as 16 bits each, and the sum of the two products in each lane.
    static Ints load_pairs(const int8_t* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)p)); }
    static Ints dot2(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }

    // Computed by here, and not before what was pinned before it.
    static void pin(Ints& a) { asm volatile("" : "+v"(a)); }
    static Ints load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
    static Ints splat_int(int32_t x) { return _mm512_set1_epi32(x); }
    static Ints shift_left32(Ints a, unsigned bits) { return _mm512_slli_epi32(a, bits); }
    static Ints shift_right32(Ints a, unsigned bits) { return _mm512_srli_epi32(a, bits); }
    static Floats load_signed(const uint8_t* p) { return to_floats(_mm512_cvtepi8_epi32(load128(p))); }
    static Ints splat_byte(char x) { return _mm512_set1_epi8(x); }
    static Ints splat4(const int8_t* p) { return _mm512_set1_epi32(load32(p)); }
    static Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
    static Ints bit_or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
    static Ints shift_right(Ints a, int64_t bits) { return _mm512_srl_epi16(a, _mm_cvtsi64_si128(bits)); }
    static Ints shift_left(Ints a, int64_t bits) { return _mm512_sll_epi16(a, _mm_cvtsi64_si128(bits)); }
    template <int bits>
    static Ints right(Ints a) {
        return _mm512_srli_epi16(a, bits);
    }
    template <int bits>
    static Ints left(Ints a) {
        return _mm512_slli_epi16(a, bits);
    }
    static Ints unpack_low32(Ints a, Ints b) { return _mm512_unpacklo_epi32(a, b); }
    static Ints unpack_high32(Ints a, Ints b) { return _mm512_unpackhi_epi32(a, b); }
    static Ints unpack_low64(Ints a, Ints b) { return _mm512_unpacklo_epi64(a, b); }
    static Ints unpack_high64(Ints a, Ints b) { return _mm512_unpackhi_epi64(a, b); }
    static Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
    static Floats to_floats(Ints a) { return _mm512_cvtepi32_ps(a); }

    // The instruction takes weights without a sign, so signed ones are moved up by 128.
    static constexpr int kSignedOffsetBits = 7;
    static Ints from_signed(Ints a) { return _mm512_xor_si512(a, splat_byte(-128)); }
    template <int kOffsetBits>
    static Ints minus_offset(int32_t neg_sum) {
        if constexpr (kOffsetBits == 0) return _mm512_setzero_si512();
        return _mm512_slli_epi32(_mm512_set1_epi32(neg_sum), kOffsetBits);
    }
    template <bool kSigned>
    static Ints dot4(Ints sum, Ints weights, Ints activations) {
        return _mm512_dpbusd_epi32(sum, weights, activations);
    }

    // Sixteen bytes, in every sixteen of a vector, and those of such a table at the indices of each sixteen.
    static Ints splat16(const uint8_t* p) { return _mm512_broadcast_i32x4(load128(p)); }
    static Ints lookup(Ints table, Ints index) { return _mm512_shuffle_epi8(table, index); }
    static Ints add_bytes(Ints a, Ints b) { return _mm512_add_epi8(a, b); }
    // The bytes of y where those of x have one of the bits, else zero.
    static Ints where_bits(Ints x, Ints bits, Ints y) {
        return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(x, bits), y);
    }
    // 4 bytes of each row.
    static Ints gather4(const uint8_t* const* rows, int64_t offset) {
        int lanes[kLanes];
        for (int i = 0; i < kLanes; ++i) lanes[i] = load32((const int8_t*)(rows[i] + offset));
        return _mm512_loadu_si512(lanes);
    }
    // 16 bytes of rows 0, 4, 8 and 12. A masked load leaves the ports free that shuffles need.
    static Ints gather16(const uint8_t* const* rows, int64_t offset) {
        Ints x = _mm512_castsi128_si512(load128(rows[0] + offset));
        x = _mm512_mask_broadcast_i32x4(x, 0x00f0, load128(rows[4] + offset));
        x = _mm512_mask_broadcast_i32x4(x, 0x0f00, load128(rows[8] + offset));
        return _mm512_mask_broadcast_i32x4(x, 0xf000, load128(rows[12] + offset));
    }
    static Floats gather_half(const uint8_t* const* rows, int64_t offset) {
        const auto four = [&](int i) {  // in general registers, for the same reason
            uint64_t halves = 0;
            for (int j = 0; j < 4; ++j) halves |= static_cast<uint64_t>(load16(rows[i + j] + offset)) << (16 * j);
            return static_cast<long long>(halves);
        };
        return _mm512_cvtph_ps(_mm256_setr_epi64x(four(0), four(4), four(8), four(12)));
    }

    // Byte `i` of each lane, with its sign.
    static Floats byte_to_floats(Ints a, int i) {
        return to_floats(_mm512_srai_epi32(_mm512_slli_epi32(a, static_cast<unsigned>(24 - 8 * i)), 24));
    }

  private:
    static __m128i load128(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
    static int load32(const int8_t* p) {
        int x;
        __builtin_memcpy(&x, p, sizeof x);
        return x;
    }
    static uint16_t load16(const uint8_t* p) {
        uint16_t x;
        __builtin_memcpy(&x, p, sizeof x);
        return x;
    }
};

void to_half(const float* x, int64_t n, uint16_t* out) {
    for (int64_t i = 0; i < n; i += Avx512::kLanes) {
        const int64_t left = n - i;
        const auto mask = static_cast<__mmask16>(left >= Avx512::kLanes ? 0xffff : (1 << left) - 1);
        const __m256i half = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, x + i), _MM_FROUND_TO_NEAREST_INT);
        _mm256_mask_storeu_epi16(out + i, mask, half);
    }
}

}  // namespace

const Kernels kAvx512VnniKernels = {
    .name = "avx512vnni",
    .linear = {linear_float<Avx512, F32Weights<Avx512>>, linear_float<Avx512, F16Weights<Avx512>>,
               linear_float<Avx512, Bf16Weights<Avx512>>, linear_quantised<Avx512, Q8_0<Avx512>>,
               linear_quantised<Avx512, Q4_0<Avx512>>, linear_quantised<Avx512, Q6_K<Avx512>>,
               linear_quantised<Avx512, Q4_1<Avx512>>, linear_quantised<Avx512, Q5_0<Avx512>>,
               linear_quantised<Avx512, Q5_1<Avx512>>, linear_quantised<Avx512, IQ4_NL<Avx512>>,
               linear_quantised<Avx512, Q3_K<Avx512>>, linear_quantised<Avx512, Q4_K<Avx512>>,
               linear_quantised<Avx512, Q5_K<Avx512>>},
    .panels = {nullptr, nullptr, nullptr, linear_panels<Avx512, Type::Q8_0>, linear_panels<Avx512, Type::Q4_0>,
               linear_panels<Avx512, Type::Q6_K>, linear_panels<Avx512, Type::Q4_1>, linear_panels<Avx512, Type::Q5_0>,
               linear_panels<Avx512, Type::Q5_1>, linear_panels<Avx512, Type::IQ4_NL>,
               linear_panels<Avx512, Type::Q3_K>, linear_panels<Avx512, Type::Q4_K>, linear_panels<Avx512, Type::Q5_K>},
    .quantise = quantise<Avx512>,
    .norm = norm<Avx512>,
    .swiglu = swiglu<Avx512>,
    .add_scaled = add_scaled<Avx512>,
    .attend = {attend<Avx512, HalfCache>, attend<Avx512, SingleCache>, attend<Avx512, Int8Cache>},
    .to_half = to_half,
    .read = read<Avx512>,
    .multiply_adds = multiply_adds<Avx512>,
};

}  // namespace headrace
