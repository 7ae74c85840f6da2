// AVX2 with FMA: eight floats. The names are those of every simd_*.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define FF_INLINE __attribute__((always_inline)) inline static

namespace ff::FF_ISA {

constexpr int kLanes = 8;
constexpr int kRegisters = 16;
using vf = __m256;
using vi = __m256i;
using vm = __m256;

FF_INLINE vf zero() { return _mm256_setzero_ps(); }
FF_INLINE vf set1(float x) { return _mm256_set1_ps(x); }
FF_INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
FF_INLINE void store(float* p, vf x) { _mm256_storeu_ps(p, x); }
alignas(64) constexpr int32_t kFirst[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
FF_INLINE __m256i first(int64_t n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirst + 8 - (n > 8 ? 8 : n)));
}
// The first n lanes, 0 <= n <= kLanes; nothing else is read or written, other lanes are 0.
FF_INLINE vf load_n(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
FF_INLINE void store_n(float* p, vf x, int64_t n) { _mm256_maskstore_ps(p, first(n), x); }

FF_INLINE vf add(vf a, vf b) { return _mm256_add_ps(a, b); }
FF_INLINE vf sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
FF_INLINE vf mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
FF_INLINE vf div(vf a, vf b) { return _mm256_div_ps(a, b); }
FF_INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
FF_INLINE vf fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
FF_INLINE vf sqrt(vf a) { return _mm256_sqrt_ps(a); }
// A NaN in x stays. If `bound` may be NaN too, use select().
FF_INLINE vf at_least(vf x, vf bound) { return _mm256_max_ps(bound, x); }
FF_INLINE vf at_most(vf x, vf bound) { return _mm256_min_ps(bound, x); }
FF_INLINE vf neg(vf a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
FF_INLINE vf abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
FF_INLINE vf copysign(vf magnitude, vf sign) {
    const __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_and_ps(bit, sign), _mm256_andnot_ps(bit, magnitude));
}
FF_INLINE vf round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FF_INLINE vi to_int(vf a) { return _mm256_cvtps_epi32(a); }
FF_INLINE vf to_float(vi a) { return _mm256_cvtepi32_ps(a); }
FF_INLINE vi bits(vf a) { return _mm256_castps_si256(a); }
FF_INLINE vf from_bits(vi a) { return _mm256_castsi256_ps(a); }
FF_INLINE vi seti(int32_t x) { return _mm256_set1_epi32(x); }
FF_INLINE vi addi(vi a, vi b) { return _mm256_add_epi32(a, b); }
FF_INLINE vi subi(vi a, vi b) { return _mm256_sub_epi32(a, b); }
FF_INLINE vi andi(vi a, vi b) { return _mm256_and_si256(a, b); }
FF_INLINE vi ori(vi a, vi b) { return _mm256_or_si256(a, b); }
template <int n> FF_INLINE vi shift_left(vi a) { return _mm256_slli_epi32(a, n); }
template <int n> FF_INLINE vi shift_right(vi a) { return _mm256_srai_epi32(a, n); }  // keeps the sign

FF_INLINE vm less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
FF_INLINE vm is_nan(vf a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
FF_INLINE vf select(vm m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }
// a0 b0 a1 b1 ...: the first kLanes of them in low, the others in high.
FF_INLINE void interleave(vf a, vf b, vf& low, vf& high) {
    const vf even = _mm256_unpacklo_ps(a, b), odd = _mm256_unpackhi_ps(a, b);
    low = _mm256_permute2f128_ps(even, odd, 0x20);
    high = _mm256_permute2f128_ps(even, odd, 0x31);
}

FF_INLINE float sum(vf a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

using vd = __m256d;  // four doubles, for a rate alone
FF_INLINE vd set1_double(double x) { return _mm256_set1_pd(x); }
FF_INLINE vd fma_double(vd a, vd b, vd c) { return _mm256_fmadd_pd(a, b, c); }

// --- shuffles, which not every set has: FF_SHUFFLES says so ---

#define FF_SHUFFLES

// v[i][j] becomes v[j][i].
FF_INLINE void transpose(vf v[8]) {
    vf t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {  // then v[i + k] has columns k and 4 + k of rows i .. i + 3
        for (int k = 0; k < 2; ++k) {
            v[i + 2 * k] = _mm256_shuffle_ps(t[i + k], t[i + 2 + k], 0x44);
            v[i + 2 * k + 1] = _mm256_shuffle_ps(t[i + k], t[i + 2 + k], 0xee);
        }
    }
    for (int k = 0; k < 4; ++k) {
        const vf upper = v[k], lower = v[4 + k];
        v[k] = _mm256_permute2f128_ps(upper, lower, 0x20);
        v[4 + k] = _mm256_permute2f128_ps(upper, lower, 0x31);
    }
}
// a0 a1 .. and b0 b1 .. become a0 b0 a1 b1 ..; and back.
FF_INLINE void interleave2(vf v[2]) {
    const vf low = _mm256_unpacklo_ps(v[0], v[1]), high = _mm256_unpackhi_ps(v[0], v[1]);
    v[0] = _mm256_permute2f128_ps(low, high, 0x20);
    v[1] = _mm256_permute2f128_ps(low, high, 0x31);
}
FF_INLINE void deinterleave2(vf v[2]) {
    const vf low = _mm256_permute2f128_ps(v[0], v[1], 0x20), high = _mm256_permute2f128_ps(v[0], v[1], 0x31);
    v[0] = _mm256_shuffle_ps(low, high, 0x88);
    v[1] = _mm256_shuffle_ps(low, high, 0xdd);
}
// The same of three: each vector is put in order once, and then the lanes are picked.
FF_INLINE void interleave3(vf v[3]) {
    const vf a = _mm256_permutevar8x32_ps(v[0], _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
    const vf b = _mm256_permutevar8x32_ps(v[1], _mm256_setr_epi32(5, 0, 3, 6, 1, 4, 7, 2));
    const vf c = _mm256_permutevar8x32_ps(v[2], _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
    v[0] = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x92), c, 0x24);
    v[1] = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x24), c, 0x49);
    v[2] = _mm256_blend_ps(_mm256_blend_ps(a, b, 0x49), c, 0x92);
}
FF_INLINE void deinterleave3(vf v[3]) {
    const vf x = v[0], y = v[1], z = v[2];
    const vf a = _mm256_blend_ps(_mm256_blend_ps(x, y, 0x92), z, 0x24);
    const vf b = _mm256_blend_ps(_mm256_blend_ps(x, y, 0x24), z, 0x49);
    const vf c = _mm256_blend_ps(_mm256_blend_ps(x, y, 0x49), z, 0x92);
    v[0] = _mm256_permutevar8x32_ps(a, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
    v[1] = _mm256_permutevar8x32_ps(b, _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6));
    v[2] = _mm256_permutevar8x32_ps(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
}

// --- tiles: what gemm.hpp, conv.hpp and the threads' parts take from the instruction set ---

// Rows of a register tile beside one panel of 16 channels: 12 of 16 registers are sums, two hold the panel's
// vectors, one a broadcast.
constexpr int kTileRows[] = {6};
// A block of a 1x1 convolution is a multiple of this many pixels. It was chosen for AVX-512, whose tallest tile has
// 14 rows. Blocks of whole tiles here would be multiples of 6; what that is worth has not been measured.
constexpr int kBlockPixels = 14;
// Where threads cut a convolution: at whole tiles. No comparison with others is recorded.
constexpr int kPartPixels = 6, kPartPanels = 1;

}  // namespace ff::FF_ISA
