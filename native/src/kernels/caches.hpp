// How much of a cache the kernels count on, in bytes unless a name says otherwise. The same for all instruction sets.
//
// The engine was written and tuned on cores of a Zen 4, with 32 KiB of L1 for data, 1 MiB of L2, and 32 MiB of L3
// that several cores share. The numbers below were chosen for those sizes. Unless a comment says more, no record
// compares them with other numbers, on that processor or on another one. None of them changes a result, except
// kChunk: sums are added up chunk by chunk.
#pragma once

#include <cstdint>

namespace ff::FF_ISA {

// conv.hpp. Rows of A, or of C, that pass while B stays in L2: a tenth of it.
constexpr int64_t kSmallBlock = 96 << 10;
// conv.hpp. Rows of A that stay in L2 while weights pass that are larger than kLargeWeights, half of L2.
constexpr int64_t kLargeBlock = 768 << 10;
constexpr int64_t kLargeWeights = 512 << 10;

// winograd.hpp. Transformed patches and their products with one group of panels, which stay in L2.
constexpr int64_t kWinogradBlock = 768 << 10;

// depthwise.hpp. Maps larger than this, L2 itself, get narrow tiles, which have fewer streams to fetch ahead.
constexpr int64_t kDepthwiseMaps = 1 << 20;
// depthwise.hpp. Vectors of channels that pass together: few of them keep the rows of a window in L1. About ten
// did best over the maps of the zoo's networks; by how much was not recorded.
constexpr int64_t kDepthwiseVectors = 10;

// elementwise.hpp, normalize.hpp, reduce.hpp. Floats that are gathered or computed at a time: 2 KiB, so that the next
// step finds them in L1.
constexpr int64_t kChunk = 512;
// elementwise.hpp. Rows of a softmax that take each step by turns, and the floats of all of them at most: half of L1.
// Rows by turns took 27 us instead of 34 for 16 heads of 64 x 64 on one core (docs/engine-log.md, "Attention").
constexpr int64_t kSoftmaxRows = 8, kSoftmaxFloats = 4096;

// matmul.hpp. Rows of A, and of C if it is scattered, that are held at once: four tiles of 14 rows.
constexpr int64_t kMatmulRows = 56;

}  // namespace ff::FF_ISA
