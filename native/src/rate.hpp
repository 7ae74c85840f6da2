// How fast this processor computes, moves bytes and starts its threads: ceilings to hold networks against.
#pragma once

#include "kernels/kernels.hpp"

namespace ff {

// Each function runs `threads` threads side by side and takes about `seconds`.

// Floating point operations a second, two a multiply-add, in float or double.
double multiply_add_rate(const Kernels& kernels, bool doubles, int threads, double seconds);

// Bytes a second of all threads together, each on `bytes` of its own: read, or copied from their first half
// into the second, where bytes read and bytes written both count. Throws std::bad_alloc.
double memory_rate(const Kernels& kernels, bool copies, int64_t bytes, int threads, double seconds);

// Seconds that giving empty work to all threads and waiting for them takes.
double region_time(int threads, double seconds);

}  // namespace ff
