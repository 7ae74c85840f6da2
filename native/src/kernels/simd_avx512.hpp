// AVX-512 (F, BW, DQ, VL): sixteen floats. The names are those of every simd_*.hpp.
#pragma once

#include <immintrin.h>

#include <cstdint>

#define FF_INLINE __attribute__((always_inline)) inline static

namespace ff::FF_ISA {

constexpr int kLanes = 16;
constexpr int kRegisters = 32;
using vf = __m512;
using vi = __m512i;
using vm = __mmask16;

FF_INLINE vf zero() { return _mm512_setzero_ps(); }
FF_INLINE vf set1(float x) { return _mm512_set1_ps(x); }
FF_INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
FF_INLINE void store(float* p, vf x) { _mm512_storeu_ps(p, x); }
FF_INLINE __mmask16 first(int64_t n) { return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1); }
// The first n lanes, 0 <= n <= kLanes; nothing else is read or written, other lanes are 0.
FF_INLINE vf load_n(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
FF_INLINE void store_n(float* p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, first(n), x); }

FF_INLINE vf add(vf a, vf b) { return _mm512_add_ps(a, b); }
FF_INLINE vf sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
FF_INLINE vf mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
FF_INLINE vf div(vf a, vf b) { return _mm512_div_ps(a, b); }
FF_INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
FF_INLINE vf fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
FF_INLINE vf sqrt(vf a) { return _mm512_sqrt_ps(a); }
// A NaN in x stays. If `bound` may be NaN too, use select().
FF_INLINE vf at_least(vf x, vf bound) { return _mm512_max_ps(bound, x); }
FF_INLINE vf at_most(vf x, vf bound) { return _mm512_min_ps(bound, x); }
FF_INLINE vf abs(vf a) { return _mm512_abs_ps(a); }
FF_INLINE vf neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
FF_INLINE vf copysign(vf magnitude, vf sign) {
    const __m512 bit = _mm512_set1_ps(-0.0f);
    return _mm512_or_ps(_mm512_and_ps(bit, sign), _mm512_andnot_ps(bit, magnitude));
}
FF_INLINE vf round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
FF_INLINE vi to_int(vf a) { return _mm512_cvtps_epi32(a); }
FF_INLINE vf to_float(vi a) { return _mm512_cvtepi32_ps(a); }
FF_INLINE vi bits(vf a) { return _mm512_castps_si512(a); }
FF_INLINE vf from_bits(vi a) { return _mm512_castsi512_ps(a); }
FF_INLINE vi seti(int32_t x) { return _mm512_set1_epi32(x); }
FF_INLINE vi addi(vi a, vi b) { return _mm512_add_epi32(a, b); }
FF_INLINE vi subi(vi a, vi b) { return _mm512_sub_epi32(a, b); }
FF_INLINE vi andi(vi a, vi b) { return _mm512_and_si512(a, b); }
FF_INLINE vi ori(vi a, vi b) { return _mm512_or_si512(a, b); }
template <int n> FF_INLINE vi shift_left(vi a) { return _mm512_slli_epi32(a, n); }
template <int n> FF_INLINE vi shift_right(vi a) { return _mm512_srai_epi32(a, n); }  // keeps the sign

FF_INLINE vm less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
FF_INLINE vm is_nan(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
FF_INLINE vf select(vm m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }
// a0 b0 a1 b1 ...: the first kLanes of them in low, the others in high.
FF_INLINE void interleave(vf a, vf b, vf& low, vf& high) {
    const vi first_half = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    low = _mm512_permutex2var_ps(a, first_half, b);
    high = _mm512_permutex2var_ps(a, _mm512_add_epi32(first_half, _mm512_set1_epi32(8)), b);
}

FF_INLINE float sum(vf a) { return _mm512_reduce_add_ps(a); }

using vd = __m512d;  // eight doubles, for a rate alone
FF_INLINE vd set1_double(double x) { return _mm512_set1_pd(x); }
FF_INLINE vd fma_double(vd a, vd b, vd c) { return _mm512_fmadd_pd(a, b, c); }

// --- shuffles, which not every set has: FF_SHUFFLES says so ---

#define FF_SHUFFLES

// v[i][j] becomes v[j][i].
FF_INLINE void transpose(vf v[16]) {
    vf t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {  // then v[i + k] has column 4 l + k of rows i .. i + 3 in its quarter l
        for (int k = 0; k < 2; ++k) {
            const __m512d low = _mm512_castps_pd(t[i + k]), high = _mm512_castps_pd(t[i + 2 + k]);
            v[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            v[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    for (int k = 0; k < 4; ++k) {
        t[k] = _mm512_shuffle_f32x4(v[k], v[4 + k], 0x88);
        t[4 + k] = _mm512_shuffle_f32x4(v[k], v[4 + k], 0xdd);
        t[8 + k] = _mm512_shuffle_f32x4(v[8 + k], v[12 + k], 0x88);
        t[12 + k] = _mm512_shuffle_f32x4(v[8 + k], v[12 + k], 0xdd);
    }
    for (int k = 0; k < 4; ++k) {
        v[k] = _mm512_shuffle_f32x4(t[k], t[8 + k], 0x88);
        v[8 + k] = _mm512_shuffle_f32x4(t[k], t[8 + k], 0xdd);
        v[4 + k] = _mm512_shuffle_f32x4(t[4 + k], t[12 + k], 0x88);
        v[12 + k] = _mm512_shuffle_f32x4(t[4 + k], t[12 + k], 0xdd);
    }
}
// a0 a1 .. and b0 b1 .. become a0 b0 a1 b1 ..; and back.
FF_INLINE void interleave2(vf v[2]) {
    const vi low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const vf first_half = _mm512_permutex2var_ps(v[0], low, v[1]);
    v[1] = _mm512_permutex2var_ps(v[0], addi(low, seti(8)), v[1]);
    v[0] = first_half;
}
FF_INLINE void deinterleave2(vf v[2]) {
    const vi even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const vf evens = _mm512_permutex2var_ps(v[0], even, v[1]);
    v[1] = _mm512_permutex2var_ps(v[0], addi(even, seti(1)), v[1]);
    v[0] = evens;
}
// The same of three.
FF_INLINE void interleave3(vf v[3]) {
    const vf a = v[0], b = v[1], c = v[2];
    const vi ab0 = _mm512_setr_epi32(0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    const vi ab1 = _mm512_setr_epi32(21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    const vi ab2 = _mm512_setr_epi32(0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    const vi c0 = _mm512_setr_epi32(0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0);
    const vi c1 = _mm512_setr_epi32(0, 5, 0, 0, 6, 0, 0, 7, 0, 0, 8, 0, 0, 9, 0, 0);
    const vi c2 = _mm512_setr_epi32(10, 0, 0, 11, 0, 0, 12, 0, 0, 13, 0, 0, 14, 0, 0, 15);
    v[0] = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(a, ab0, b), 0x4924, c0, c);
    v[1] = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(a, ab1, b), 0x2492, c1, c);
    v[2] = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(a, ab2, b), 0x9249, c2, c);
}
FF_INLINE void deinterleave3(vf v[3]) {
    const vf x = v[0], y = v[1], z = v[2];
    const vi a0 = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0);
    const vi b0 = _mm512_setr_epi32(1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0);
    const vi c0 = _mm512_setr_epi32(2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0);
    const vi a1 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 7, 10, 13);
    const vi b1 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 5, 8, 11, 14);
    const vi c1 = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 6, 9, 12, 15);
    v[0] = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(x, a0, y), 0xf800, a1, z);
    v[1] = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(x, b0, y), 0xf800, b1, z);
    v[2] = _mm512_mask_permutexvar_ps(_mm512_permutex2var_ps(x, c0, y), 0xfc00, c1, z);
}

// --- tiles: what gemm.hpp, conv.hpp and the threads' parts take from the instruction set ---

// Rows of a register tile beside 1, 2, 3 and 4 panels of 16 channels. Of 32 registers, 14 x 16 takes 14 for its
// sums, 14 x 32 takes 28, 9 x 48 takes 27 and 6 x 64 takes 24; the panels' vectors and one broadcast need the rest.
// On a quiet core, 14 x 32 and 9 x 48 ran equally fast; docs/engine-log.md says what counts on a busy one.
constexpr int kTileRows[] = {14, 14, 9, 6};
// A block of a 1x1 convolution is a multiple of this many pixels: whole tiles of 14 rows. No
// comparison with 9 or 6 is recorded.
constexpr int kBlockPixels = 14;
// Where threads cut a convolution: at whole tiles of 14 x 32. No comparison with others is recorded.
constexpr int kPartPixels = 14, kPartPanels = 2;

}  // namespace ff::FF_ISA
