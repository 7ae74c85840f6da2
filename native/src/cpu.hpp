// Which of the kernel tables this processor can run.
#pragma once

#include <vector>

#include "kernels/kernels.hpp"

namespace ff {

// The sets that this build has and this processor runs, the fastest first; plain is always the last.
const std::vector<const Kernels*>& available_kernels();

// How many processors this process may use; at least 1.
int processor_count();

}  // namespace ff
