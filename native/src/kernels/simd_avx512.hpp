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
// A NaN in x stays; where `bound` may be NaN too, use a select.
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

}  // namespace ff::FF_ISA
