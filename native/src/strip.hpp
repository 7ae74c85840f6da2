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
    // An input that an earlier node of the strip writes.
    struct Read {
        size_t node;  // that reads
        Role role;
        size_t from;  // number of its tensor among those that the strip writes
    };

    explicit StripFlow(const Node& strip);

    // The rows of each node that rows `out` of the strip need: the interval that holds what all readers need, or an
    // empty one if none reads any.
    void needed(Range out, std::vector<Range>& rows);

    // By node. A node's own reads are those from begins()[node] to begins()[node + 1].
    const std::vector<Read>& reads() const { return reads_; }
    const std::vector<size_t>& begins() const { return begins_; }
    // The number of a node's out among the tensors that the strip writes.
    size_t written(size_t node) const { return written_[node]; }
    size_t tensors() const { return hull_.size(); }

private:
    const Node& strip_;
    std::vector<Read> reads_;
    std::vector<size_t> begins_, written_;
    std::vector<Range> hull_;  // of each tensor: the rows that the nodes looked at so far read
};

}  // namespace ff
