// How fast this processor multiplies and adds: a ceiling to hold networks against.
#pragma once

#include "kernels/kernels.hpp"

namespace ff {

// Floating point operations a second, two a multiply-add, of `threads` threads side by side for about `seconds`.
double multiply_add_rate(const Kernels& kernels, int threads, double seconds);

}  // namespace ff
