// Strips: several nodes run row by row, so that what lies between them stays in the cache.
//
// The rows of the strip's out are taken in stretches. From the last node to the first, the rows that a node must have
// follow from those that its readers need; from the first to the last, each computes the rows that this thread has
// not computed yet. Threads share out's rows in equal parts and compute the halo at the borders twice.
#pragma once

#include <vector>

#include "plan.hpp"

namespace ff {

// The rows of the input `role` that rows `out` of the node's output are made from; the input has `height` rows.
Range rows_read(const Node& node, Role role, int64_t height, Range out);

// Which nodes of a strip read what another one writes.
class StripFlow {
public:
    explicit StripFlow(const Node& strip);

    // The rows of each node that rows `out` of the strip need: the interval that holds what all readers need, or an
    // empty one if none reads any.
    void needed(Range out, std::vector<Range>& rows) const;

    struct Reader {
        size_t node;
        Role role;
    };
    const std::vector<Reader>& readers(size_t node) const { return readers_[node]; }

private:
    const Node& strip_;
    std::vector<std::vector<Reader>> readers_;
};

}  // namespace ff
