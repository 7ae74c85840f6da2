// Strips: several nodes run row by row, so that what lies between them stays in the cache.
//
// The rows of the strip's out are taken in stretches. Backwards, each node's needed rows follow from
// those that its readers need; forwards, each computes the rows that this thread has not computed yet.
// Threads share out's rows in equal parts and compute the halo at the borders twice.
#pragma once

#include <vector>

#include "plan.hpp"

namespace ff {

// Rows of the input `role`, of `height` rows, that rows `out` of the node's output are made from.
Range rows_read(const Node& node, Role role, int64_t height, Range out);

// Who reads what within a strip.
class StripFlow {
public:
    explicit StripFlow(const Node& strip);

    // Of each node, the rows needed for rows `out` of the strip. The interval that holds them all, where
    // readers differ; an empty one where none reads any.
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
