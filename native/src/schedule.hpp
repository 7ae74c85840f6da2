// The parts of each node that the threads of a context share, fixed once: who computes a part changes no result.
#pragma once

#include <vector>

#include "program.hpp"

namespace ff {

struct Turn {
    std::vector<Part> parts;  // one if the node is not worth sharing
    int each = 1;             // parts that follow one another and are best computed by one thread
    double cost = 0;          // of the node: nanoseconds, roughly
};

// One turn for each node of the plan. The first thread computes small nodes alone.
std::vector<Turn> schedule(const Plan& plan, const Kernels& kernels, int threads);

}  // namespace ff
