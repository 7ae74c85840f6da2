// Who computes what: each node's parts for the threads of a context, fixed once.
#pragma once

#include <vector>

#include "program.hpp"

namespace ff {

struct Turn {
    std::vector<Part> parts;  // one a thread; an empty one has nothing to do
    bool meet = false;        // all threads wait for each other after this node
};

// One a node of the plan. Small nodes are the first thread's alone: it goes through a row of them (a
// squeeze-excite, say) while the others wait once, where sharing would make them wait after each.
std::vector<Turn> schedule(const Plan& plan, const Kernels& kernels, int threads);

}  // namespace ff
