// What the operators with a window share.
#pragma once

#include "operators/operator.hpp"

namespace ff {

inline double window_size(const Window& window) { return static_cast<double>(window.kernel_h) * window.kernel_w; }

// The whole of a node whose channels are computed one by one.
inline Part rows_and_blocks(const Node& node) {
    return {{0, node.out.height()}, {0, panels(node.out.channels())}};
}

// The time of such a node. Rows that two threads read count as a tenth of a row computed.
inline double channelwise_nanoseconds(const Node& node, const Window& window, const Core& core, double rows,
                                      double blocks) {
    const double computed = rows + 0.1 * (window.kernel_h - 1);
    return Core::kCallNs + computed * blocks * static_cast<double>(node.out.width()) * kPanel *
                               (2 * window_size(window) / core.flops_per_ns + 4 / Core::kBytesPerNs);
}

}  // namespace ff
