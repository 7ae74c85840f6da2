// The parts of each node that the threads of a context compute, fixed once.
#pragma once

#include <vector>

#include "program.hpp"

namespace ff {

struct Turn {
    std::vector<Part> parts;  // one for each thread; an empty one has nothing to do
    bool meet = false;        // all threads wait for each other after this node
};

// One turn for each node of the plan. The first thread computes small nodes alone: the others wait once for a row of
// them, for example a squeeze-excite, and would wait after each if they shared it.
std::vector<Turn> schedule(const Plan& plan, const Kernels& kernels, int threads);

}  // namespace ff
