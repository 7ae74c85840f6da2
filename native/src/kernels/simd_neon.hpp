// NEON of aarch64: four floats. The names are those of every simd_*.hpp.
#pragma once

#include <arm_neon.h>

#include <cstdint>

#define FF_INLINE __attribute__((always_inline)) inline static

namespace ff::FF_ISA {

constexpr int kLanes = 4;
constexpr int kRegisters = 32;
using vf = float32x4_t;
using vi = int32x4_t;
using vm = uint32x4_t;

FF_INLINE vf zero() { return vdupq_n_f32(0); }
FF_INLINE vf set1(float x) { return vdupq_n_f32(x); }
FF_INLINE vf load(const float* p) { return vld1q_f32(p); }
FF_INLINE void store(float* p, vf x) { vst1q_f32(p, x); }
// The first n lanes, 0 <= n <= kLanes; nothing else is read or written, other lanes are 0. NEON has
// no masked loads: two lanes and then one are the fewest instructions.
FF_INLINE vf load_n(const float* p, int64_t n) {
    if (n >= 4) return vld1q_f32(p);
    vf x = zero();
    if (n & 2) x = vcombine_f32(vld1_f32(p), vdup_n_f32(0));
    if (n == 3) return vld1q_lane_f32(p + 2, x, 2);
    if (n == 1) return vld1q_lane_f32(p, x, 0);
    return x;
}
FF_INLINE void store_n(float* p, vf x, int64_t n) {
    if (n >= 4) return vst1q_f32(p, x);
    if (n & 2) vst1_f32(p, vget_low_f32(x));
    if (n == 3) vst1q_lane_f32(p + 2, x, 2);
    if (n == 1) vst1q_lane_f32(p, x, 0);
}

FF_INLINE vf add(vf a, vf b) { return vaddq_f32(a, b); }
FF_INLINE vf sub(vf a, vf b) { return vsubq_f32(a, b); }
FF_INLINE vf mul(vf a, vf b) { return vmulq_f32(a, b); }
FF_INLINE vf div(vf a, vf b) { return vdivq_f32(a, b); }
FF_INLINE vf fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }   // a * b + c
FF_INLINE vf fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }  // c - a * b
FF_INLINE vf sqrt(vf a) { return vsqrtq_f32(a); }
// A NaN in x stays (fmax and fmin pass on a NaN of either side).
FF_INLINE vf at_least(vf x, vf bound) { return vmaxq_f32(x, bound); }
FF_INLINE vf at_most(vf x, vf bound) { return vminq_f32(x, bound); }
FF_INLINE vf abs(vf a) { return vabsq_f32(a); }
FF_INLINE vf neg(vf a) { return vnegq_f32(a); }
FF_INLINE vf copysign(vf magnitude, vf sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude); }
FF_INLINE vf round(vf a) { return vrndnq_f32(a); }
// Rounds as in the other sets. Out of range it gives the nearest integer, and 0 for NaN; the others give INT32_MIN.
FF_INLINE vi to_int(vf a) { return vcvtnq_s32_f32(a); }
FF_INLINE vf to_float(vi a) { return vcvtq_f32_s32(a); }
FF_INLINE vi bits(vf a) { return vreinterpretq_s32_f32(a); }
FF_INLINE vf from_bits(vi a) { return vreinterpretq_f32_s32(a); }
FF_INLINE vi seti(int32_t x) { return vdupq_n_s32(x); }
FF_INLINE vi addi(vi a, vi b) { return vaddq_s32(a, b); }
FF_INLINE vi subi(vi a, vi b) { return vsubq_s32(a, b); }
FF_INLINE vi andi(vi a, vi b) { return vandq_s32(a, b); }
FF_INLINE vi ori(vi a, vi b) { return vorrq_s32(a, b); }
template <int n> FF_INLINE vi shift_left(vi a) { return vshlq_n_s32(a, n); }
template <int n> FF_INLINE vi shift_right(vi a) { return vshrq_n_s32(a, n); }  // keeps the sign

FF_INLINE vm less(vf a, vf b) { return vcltq_f32(a, b); }
FF_INLINE vm is_nan(vf a) { return vmvnq_u32(vceqq_f32(a, a)); }
FF_INLINE vf select(vm m, vf yes, vf no) { return vbslq_f32(m, yes, no); }
// a0 b0 a1 b1 ...: the first kLanes of them in low, the others in high.
FF_INLINE void interleave(vf a, vf b, vf& low, vf& high) {
    low = vzip1q_f32(a, b);
    high = vzip2q_f32(a, b);
}

FF_INLINE float sum(vf a) { return vaddvq_f32(a); }

using vd = float64x2_t;  // two doubles, for a rate alone
FF_INLINE vd set1_double(double x) { return vdupq_n_f64(x); }
FF_INLINE vd fma_double(vd a, vd b, vd c) { return vfmaq_f64(c, a, b); }

// --- tiles: what gemm.hpp, conv.hpp and the threads' parts take from the instruction set ---

// Rows of a register tile beside one panel of 16 channels: 24 of 32 registers are sums, four hold the panel's
// vectors. NEON is tested under qemu; no timing of it is recorded.
constexpr int kTileRows[] = {6};
// A block of a 1x1 convolution is a multiple of this many pixels. It was chosen for AVX-512, whose tallest tile has
// 14 rows. Blocks of whole tiles here would be multiples of 6; what that is worth has not been measured.
constexpr int kBlockPixels = 14;
// Where threads cut a convolution: at whole tiles. No comparison with others is recorded.
constexpr int kPartPixels = 6, kPartPanels = 1;

}  // namespace ff::FF_ISA
