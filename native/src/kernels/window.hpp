// What kernels with a window share: which taps lie in the picture, and vectors that may be partly filled.
#pragma once

#include "kernels.hpp"

namespace ff::FF_ISA {

// b > 0
FF_INLINE int64_t ceil_div(int64_t a, int64_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

// The taps whose positions first + tap * dilation lie in [0, size).
FF_INLINE Range taps_inside(int64_t first, int64_t dilation, int64_t taps, int64_t size) {
    const int64_t end = ceil_div(size - first, dilation), last = end < taps ? end : taps;
    const int64_t begin = first < 0 ? ceil_div(-first, dilation) : 0;
    return {begin, last > begin ? last : begin};
}

// 0 < lanes <= kLanes
FF_INLINE vf load_lanes(const float* p, int64_t lanes) { return lanes == kLanes ? load(p) : load_n(p, lanes); }
FF_INLINE void store_lanes(float* p, vf x, int64_t lanes) {
    if (lanes == kLanes) store(p, x);
    else store_n(p, x, lanes);
}

}  // namespace ff::FF_ISA
