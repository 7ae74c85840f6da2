// Loops that do one kind of work only. No network exceeds their rates on this processor.
#pragma once

#include "gemm.hpp"
#include "kernels.hpp"

namespace ff::FF_ISA {

constexpr int kChains = kRegisters == 32 ? 24 : 12;  // independent sums: more than latency times units

// `steps` times a multiply-add on each of kChains registers. The sums tend to 2/3, so no number becomes
// denormal. Their sum is returned because the compiler would leave out a result that nobody reads.
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

static float multiply_adds_double(int64_t steps) {
    vd sums[kChains];
    FF_UNROLL for (int i = 0; i < kChains; ++i) sums[i] = set1_double(i);
    const vd factor = set1_double(0.25), term = set1_double(0.5);
    for (int64_t n = 0; n < steps; ++n) {
        FF_UNROLL for (int i = 0; i < kChains; ++i) sums[i] = fma_double(sums[i], factor, term);
    }
    FF_UNROLL for (int i = 1; i < kChains; ++i) sums[0] = fma_double(sums[i], factor, sums[0]);
    double first;
    __builtin_memcpy(&first, &sums[0], sizeof first);
    return static_cast<float>(first);
}

constexpr int kStreamSums = 8;  // sums side by side: their additions' latency does not bound the reading

// The sum of `count` floats, a multiple of kStreamSums * kLanes.
static float read_stream(const float* data, int64_t count) {
    vf sums[kStreamSums];
    FF_UNROLL for (int i = 0; i < kStreamSums; ++i) sums[i] = zero();
    for (int64_t n = 0; n < count; n += kStreamSums * kLanes) {
        FF_UNROLL for (int i = 0; i < kStreamSums; ++i) sums[i] = add(sums[i], load(data + n + i * kLanes));
    }
    FF_UNROLL for (int i = 1; i < kStreamSums; ++i) sums[0] = add(sums[0], sums[i]);
    return sum(sums[0]);
}

// Copies `count` floats through the caches, as a network's maps go.
static void copy_stream(const float* from, float* to, int64_t count) {
    for (int64_t n = 0; n < count; n += kStreamSums * kLanes) {
        FF_UNROLL for (int i = 0; i < kStreamSums; ++i) store(to + n + i * kLanes, load(from + n + i * kLanes));
    }
}

}  // namespace ff::FF_ISA
