// Multiply-adds with nothing else to do: the rate that no product can exceed on this processor.
#pragma once

#include "gemm.hpp"
#include "kernels.hpp"

namespace ff::FF_ISA {

constexpr int kChains = kRegisters == 32 ? 24 : 12;  // independent sums: more than latency times units

// `steps` times a multiply-add on each of kChains registers. The sums tend to 2/3, so no number becomes
// denormal; one is returned, as a result that nobody reads would not be computed.
static float multiply_adds(int64_t steps) {
    vf sums[kChains];
    FF_UNROLL for (int i = 0; i < kChains; ++i) sums[i] = set1(static_cast<float>(i));
    const vf factor = set1(0.25f), term = set1(0.5f);
    for (int64_t n = 0; n < steps; ++n) {
        FF_UNROLL for (int i = 0; i < kChains; ++i) sums[i] = fma(sums[i], factor, term);
    }
    FF_UNROLL for (int i = 1; i < kChains; ++i) sums[0] = add(sums[0], sums[i]);
    return sum(sums[0]);
}

}  // namespace ff::FF_ISA
