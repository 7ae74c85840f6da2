// All kernels of one instruction set. Each isa_*.cpp names its set in FF_ISA, includes its simd_*.hpp and then this
// file. Everything lies in ff::FF_ISA. The kernels use no template of the standard library: one that was compiled
// for AVX-512 could be the one that the linker keeps for all sets.
#pragma once

#include "kernels.hpp"
// in order of use
#include "caches.hpp"
#include "math.hpp"
#include "epilogue.hpp"
#include "gemm.hpp"
#include "winograd.hpp"
#include "matmul.hpp"
#include "depthwise.hpp"
#include "transposed.hpp"
#include "pool.hpp"
#include "elementwise.hpp"
#include "normalize.hpp"
#include "reduce.hpp"
#include "move.hpp"
#include "resize.hpp"
#include "sample.hpp"
#include "rate.hpp"

namespace ff::FF_ISA {

inline constexpr Kernels table(const char* name) {
#define FF_ADDRESS(name, ...) , name
    return Kernels{name, kLanes * 4, kPartPixels, kPartPanels, 2 * kChains * kLanes FF_KERNELS(FF_ADDRESS)};
#undef FF_ADDRESS
}

}  // namespace ff::FF_ISA
