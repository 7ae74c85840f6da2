#include "strip.hpp"

#include <algorithm>

#include "operators/operator.hpp"

namespace ff {

Range rows_read(const Node& node, Role role, int64_t height, Range out) {
    const Window* window = operator_of(node.op).window(node.args);
    if (!window || role != kX || out.begin >= out.end) return out;
    const Window& w = *window;
    const int64_t first = out.begin * w.stride_h - w.pad_top;
    const int64_t last = (out.end - 1) * w.stride_h - w.pad_top + int64_t{w.kernel_h - 1} * w.dilation_h;
    return {std::max<int64_t>(first, 0), std::min(last + 1, height)};
}

StripFlow::StripFlow(const Node& strip) : strip_(strip), readers_(strip.nodes.size()) {
    for (size_t writer = 0; writer < strip.nodes.size(); ++writer)
        for (size_t reader = writer + 1; reader < strip.nodes.size(); ++reader)
            for (int role = 0; role < kRoles; ++role)
                if (strip.nodes[reader].in[role].tensor == strip.nodes[writer].out.tensor)
                    readers_[writer].push_back({reader, static_cast<Role>(role)});
}

void StripFlow::needed(Range out, std::vector<Range>& rows) const {
    rows.assign(strip_.nodes.size(), Range{});
    rows.back() = out;
    for (size_t i = rows.size() - 1; i-- > 0;) {
        for (const Reader& reader : readers_[i]) {
            if (rows[reader.node].begin >= rows[reader.node].end) continue;
            const Node& node = strip_.nodes[reader.node];
            const Range read = rows_read(node, reader.role, node.in[reader.role].height(), rows[reader.node]);
            if (read.begin >= read.end) continue;
            const bool first = rows[i].begin >= rows[i].end;
            rows[i].begin = first ? read.begin : std::min(rows[i].begin, read.begin);
            rows[i].end = first ? read.end : std::max(rows[i].end, read.end);
        }
    }
}

}  // namespace ff
