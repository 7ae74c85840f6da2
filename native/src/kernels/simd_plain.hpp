// Four floats by the compiler's own vectors: whatever the baseline of the target is, for any
// processor. The names are those of every simd_*.hpp.
#pragma once

#include <cstdint>

#define FF_INLINE __attribute__((always_inline)) inline static

namespace ff::FF_ISA {

constexpr int kLanes = 4;
constexpr int kRegisters = 16;
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));  // wraps where a signed sum would overflow
using vm = vi;

FF_INLINE vf zero() { return vf{0, 0, 0, 0}; }
FF_INLINE vf set1(float x) { return vf{x, x, x, x}; }
FF_INLINE vf load(const float* p) {
    vf x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
FF_INLINE void store(float* p, vf x) { __builtin_memcpy(p, &x, sizeof x); }
// The first n lanes, 0 <= n <= kLanes; nothing else is read or written, other lanes are 0.
FF_INLINE vf load_n(const float* p, int64_t n) {
    vf x = zero();
    for (int64_t i = 0; i < n; ++i) x[i] = p[i];
    return x;
}
FF_INLINE void store_n(float* p, vf x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) p[i] = x[i];
}

FF_INLINE vf add(vf a, vf b) { return a + b; }
FF_INLINE vf sub(vf a, vf b) { return a - b; }
FF_INLINE vf mul(vf a, vf b) { return a * b; }
FF_INLINE vf div(vf a, vf b) { return a / b; }
FF_INLINE vf fma(vf a, vf b, vf c) { return a * b + c; }
FF_INLINE vf fnma(vf a, vf b, vf c) { return c - a * b; }
FF_INLINE vf sqrt(vf a) {
    for (int i = 0; i < 4; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
}
FF_INLINE vf select(vm m, vf yes, vf no) { return (vf)((m & (vi)yes) | (~m & (vi)no)); }
FF_INLINE vm less(vf a, vf b) { return a < b; }
FF_INLINE vm is_nan(vf a) { return a != a; }
// a0 b0 a1 b1 ...: the first kLanes of them in low, the others in high.
FF_INLINE void interleave(vf a, vf b, vf& low, vf& high) {
    low = vf{a[0], b[0], a[1], b[1]};
    high = vf{a[2], b[2], a[3], b[3]};
}
// A NaN in x stays. If `bound` may be NaN too, use select().
FF_INLINE vf at_least(vf x, vf bound) { return select(x < bound, bound, x); }
FF_INLINE vf at_most(vf x, vf bound) { return select(bound < x, bound, x); }
FF_INLINE vf neg(vf a) { return -a; }
FF_INLINE vi seti(int32_t x) { return vi{x, x, x, x}; }
FF_INLINE vf abs(vf a) { return (vf)((vi)a & seti(0x7fffffff)); }
FF_INLINE vf copysign(vf magnitude, vf sign) {
    const vi bit = seti(INT32_MIN);
    return (vf)(((vi)sign & bit) | ((vi)magnitude & ~bit));
}
FF_INLINE vf round(vf a) {
    for (int i = 0; i < 4; ++i) a[i] = __builtin_rintf(a[i]);
    return a;
}
FF_INLINE vi to_int(vf a) { return __builtin_convertvector(round(a), vi); }
FF_INLINE vf to_float(vi a) { return __builtin_convertvector(a, vf); }
FF_INLINE vi bits(vf a) { return (vi)a; }
FF_INLINE vf from_bits(vi a) { return (vf)a; }
FF_INLINE vi addi(vi a, vi b) { return (vi)((vu)a + (vu)b); }
FF_INLINE vi subi(vi a, vi b) { return (vi)((vu)a - (vu)b); }
FF_INLINE vi andi(vi a, vi b) { return a & b; }
FF_INLINE vi ori(vi a, vi b) { return a | b; }
template <int n> FF_INLINE vi shift_left(vi a) { return (vi)((vu)a << n); }
template <int n> FF_INLINE vi shift_right(vi a) { return a >> n; }  // keeps the sign

FF_INLINE float sum(vf a) { return (a[0] + a[1]) + (a[2] + a[3]); }

typedef double vd __attribute__((vector_size(16)));  // two doubles, for a rate alone
FF_INLINE vd set1_double(double x) { return vd{x, x}; }
FF_INLINE vd fma_double(vd a, vd b, vd c) { return a * b + c; }

// --- tiles: what gemm.hpp, conv.hpp and the threads' parts take from the instruction set ---

// Rows of a register tile beside one panel of 16 channels: 12 of 16 registers are sums. No timing of other heights is
// recorded: this set is the one that every processor runs, not a fast one.
constexpr int kTileRows[] = {3};
// A block of a 1x1 convolution is a multiple of this many pixels. It was chosen for AVX-512, whose tallest tile has
// 14 rows; what another multiple is worth here has not been measured.
constexpr int kBlockPixels = 14;
// Where threads cut a convolution: at every second tile. No comparison with others is recorded.
constexpr int kPartPixels = 6, kPartPanels = 1;

}  // namespace ff::FF_ISA
