// AVX2 with FMA and F16C (Intel from Haswell, AMD from Excavator): eight lanes; products of bytes are added in two
// steps.
#include <immintrin.h>
#include <stdint.h>

#include "kernels/attend.h"
#include "kernels/kernels.h"
#include "kernels/simd.h"
#include "kernels/tile.h"

namespace headrace {
namespace {

struct Avx2 {
    using Floats = __m256;
    using Ints = __m256i;
    static constexpr int64_t kLanes = 8;

    // How much work is in registers at once.
    static constexpr int kFloatRows = 2;     // of a float matrix
    static constexpr int kTokens = 4;        // that meet a quantised tile
    static constexpr int kScoreVectors = 2;  // of scores
    static constexpr int kValueVectors = 2;  // of a value

    static Floats splat(float x) { return _mm256_set1_ps(x); }
    static Floats load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
    static Floats load_half(const uint8_t* p) { return _mm256_cvtph_ps(load128(p)); }
    static Floats load_bf16(const uint8_t* p) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load128(p)), 16));
    }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
    static Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
    static Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
    static Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
    static Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
    static Floats abs(Floats a) { return _mm256_andnot_ps(splat(-0.0f), a); }
    static Floats round(Floats a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
    static Floats power_of_two(Floats n) {
        const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
    }
    static Floats zero_where_less(Floats a, Floats b, Floats x) {
        return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NLT_UQ), x);
    }
    static Floats keep_first(Floats x, int64_t n, float fill) {
        const __m256 lane = _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
        return _mm256_blendv_ps(splat(fill), x, _mm256_cmp_ps(lane, splat(static_cast<float>(n)), _CMP_LT_OQ));
    }
    static bool any_nan(Floats a) { return _mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
    static float first(Floats a) { return _mm256_cvtss_f32(a); }
    static float sum(Floats a) {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static float largest(Floats a) {
        const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    }

    // Rounds half to even, stores bytes, and returns their sum.
    static int32_t store_int8(int8_t* p, Floats a) {
        const Ints rounded = _mm256_cvtps_epi32(a);
        const __m128i low = _mm256_castsi256_si128(rounded), high = _mm256_extracti128_si256(rounded, 1);
        const __m128i words = _mm_packs_epi32(low, high);
        _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(words, words));
        const __m128i four = _mm_add_epi32(low, high);
        const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
        return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
    }

    static void store_int16(int16_t* p, Floats a) {
        const Ints rounded = _mm256_cvtps_epi32(a);
        const __m128i low = _mm256_castsi256_si128(rounded), high = _mm256_extracti128_si256(rounded, 1);
        _mm_storeu_si128((__m128i*)p, _mm_packs_epi32(low, high));
    }
    // Bytes as 16 bits each, and the sum of the two products in each lane.
    static Ints load_pairs(const int8_t* p) { return _mm256_cvtepi8_epi16(load128((const uint8_t*)p)); }
    static Ints dot2(Ints sum, Ints a, Ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
    static Ints splat_int(int32_t x) { return _mm256_set1_epi32(x); }

    static Ints splat_byte(char x) { return _mm256_set1_epi8(x); }
    static Ints splat4(const int8_t* p) { return _mm256_set1_epi32(load32(p)); }
    static Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
    static Ints bit_or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
    static Ints shift_right(Ints a, int64_t bits) { return _mm256_srl_epi16(a, _mm_cvtsi64_si128(bits)); }
    static Ints shift_left(Ints a, int64_t bits) { return _mm256_sll_epi16(a, _mm_cvtsi64_si128(bits)); }
    static Ints shift_left32(Ints a, unsigned bits) { return _mm256_slli_epi32(a, static_cast<int>(bits)); }
    static Ints shift_right32(Ints a, unsigned bits) { return _mm256_srli_epi32(a, static_cast<int>(bits)); }
    static Ints unpack_low32(Ints a, Ints b) { return _mm256_unpacklo_epi32(a, b); }
    static Ints unpack_high32(Ints a, Ints b) { return _mm256_unpackhi_epi32(a, b); }
    static Ints unpack_low64(Ints a, Ints b) { return _mm256_unpacklo_epi64(a, b); }
    static Ints unpack_high64(Ints a, Ints b) { return _mm256_unpackhi_epi64(a, b); }
    static Ints add_ints(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
    static Floats to_floats(Ints a) { return _mm256_cvtepi32_ps(a); }

    // Signed weights give their sign to the activations: two products of 255 x 127 would overflow the 16 bits between.
    static constexpr int kSignedOffsetBits = 0;
    static Ints from_signed(Ints a) { return a; }
    template <int kOffsetBits>
    static Ints minus_offset(int32_t neg_sum) {
        if constexpr (kOffsetBits == 0) return _mm256_setzero_si256();
        return _mm256_slli_epi32(_mm256_set1_epi32(neg_sum), kOffsetBits);
    }
    template <bool kSigned>
    static Ints dot4(Ints sum, Ints weights, Ints activations) {
        const Ints pairs = kSigned
                               ? _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(activations, weights))
                               : _mm256_maddubs_epi16(weights, activations);
        return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }

    // Sixteen bytes, in every sixteen of a vector, and those of such a table at the indices of each sixteen.
    static Ints splat16(const uint8_t* p) { return _mm256_broadcastsi128_si256(load128(p)); }
    static Ints lookup(Ints table, Ints index) { return _mm256_shuffle_epi8(table, index); }
    static Ints add_bytes(Ints a, Ints b) { return _mm256_add_epi8(a, b); }
    // The bytes of y where those of x have one of the bits, else zero.
    static Ints where_bits(Ints x, Ints bits, Ints y) {
        return _mm256_and_si256(_mm256_cmpeq_epi8(_mm256_and_si256(x, bits), bits), y);
    }
    // 4 bytes of each row.
    static Ints gather4(const uint8_t* const* rows, int64_t offset) {
        const auto at = [&](int i) { return load32((const int8_t*)(rows[i] + offset)); };
        return _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
    }
    // 16 bytes of rows 0 and 4.
    static Ints gather16(const uint8_t* const* rows, int64_t offset) {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(load128(rows[0] + offset)), load128(rows[4] + offset), 1);
    }
    static Floats gather_half(const uint8_t* const* rows, int64_t offset) {
        const auto at = [&](int i) { return load16(rows[i] + offset); };
        return _mm256_cvtph_ps(_mm_setr_epi16(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)));
    }

    // Byte `i` of each lane, with its sign.
    static Floats byte_to_floats(Ints a, int i) {
        return to_floats(_mm256_srai_epi32(_mm256_slli_epi32(a, static_cast<unsigned>(24 - 8 * i)), 24));
    }

  private:
    static __m128i load128(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
    static int load32(const int8_t* p) {
        int x;
        __builtin_memcpy(&x, p, sizeof x);
        return x;
    }
    static short load16(const uint8_t* p) {
        short x;
        __builtin_memcpy(&x, p, sizeof x);
        return x;
    }
};

void to_half(const float* x, int64_t n, uint16_t* out) {
    for (int64_t i = 0; i < n; i += Avx2::kLanes) {
        const int64_t left = n - i < Avx2::kLanes ? n - i : Avx2::kLanes;
        uint16_t lanes[Avx2::kLanes];
        _mm_storeu_si128((__m128i*)lanes, _mm256_cvtps_ph(load_first<Avx2>(x + i, left), _MM_FROUND_TO_NEAREST_INT));
        __builtin_memcpy(out + i, lanes, static_cast<size_t>(left) * sizeof(uint16_t));
    }
}

}  // namespace

const Kernels kAvx2Kernels = {
    .name = "avx2",
    .linear = {linear_float<Avx2, F32Weights<Avx2>>, linear_float<Avx2, F16Weights<Avx2>>,
               linear_float<Avx2, Bf16Weights<Avx2>>, linear_quantised<Avx2, Q8_0<Avx2>>,
               linear_quantised<Avx2, Q4_0<Avx2>>, linear_quantised<Avx2, Q6_K<Avx2>>,
               linear_quantised<Avx2, Q4_1<Avx2>>, linear_quantised<Avx2, Q5_0<Avx2>>,
               linear_quantised<Avx2, Q5_1<Avx2>>, linear_quantised<Avx2, IQ4_NL<Avx2>>,
               linear_quantised<Avx2, Q3_K<Avx2>>, linear_quantised<Avx2, Q4_K<Avx2>>,
               linear_quantised<Avx2, Q5_K<Avx2>>},
    .panels = {},
    .quantise = quantise<Avx2>,
    .norm = norm<Avx2>,
    .swiglu = swiglu<Avx2>,
    .add_scaled = add_scaled<Avx2>,
    .attend = {attend<Avx2, HalfCache>, attend<Avx2, SingleCache>, attend<Avx2, Int8Cache>},
    .to_half = to_half,
    .read = read<Avx2>,
    .multiply_adds = multiply_adds<Avx2>,
};

}  // namespace headrace
