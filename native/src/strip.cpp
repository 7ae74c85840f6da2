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

StripFlow::StripFlow(const Node& strip) : strip_(strip) {
    std::vector<int32_t> tensors;
    for (const Node& node : strip.nodes) {
        begins_.push_back(reads_.size());
        for (int role = 0; role < kRoles; ++role) {
            const auto at = std::find(tensors.begin(), tensors.end(), node.in[role].tensor);
            if (node.in[role] && at != tensors.end())
                reads_.push_back({written_.size(), static_cast<Role>(role), static_cast<size_t>(at - tensors.begin())});
        }
        const auto at = std::find(tensors.begin(), tensors.end(), node.out.tensor);
        written_.push_back(static_cast<size_t>(at - tensors.begin()));
        if (at == tensors.end()) tensors.push_back(node.out.tensor);
    }
    begins_.push_back(reads_.size());
    hull_.resize(tensors.size());
}

void StripFlow::needed(Range out, std::vector<Range>& rows) {
    rows.assign(strip_.nodes.size(), Range{});
    std::fill(hull_.begin(), hull_.end(), Range{});
    for (size_t i = rows.size(); i-- > 0;) {
        rows[i] = i + 1 == rows.size() ? out : hull_[written_[i]];
        if (rows[i].begin >= rows[i].end) continue;
        const Node& node = strip_.nodes[i];
        for (size_t j = begins_[i]; j < begins_[i + 1]; ++j) {
            const Range read = rows_read(node, reads_[j].role, node.in[reads_[j].role].height(), rows[i]);
            if (read.begin >= read.end) continue;
            Range& hull = hull_[reads_[j].from];
            const bool first = hull.begin >= hull.end;
            hull.begin = first ? read.begin : std::min(hull.begin, read.begin);
            hull.end = first ? read.end : std::max(hull.end, read.end);
        }
    }
}

}  // namespace ff
