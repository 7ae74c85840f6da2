// strip: no kernel of its own; program_strip.cpp runs its nodes, and validate_strip.cpp checks them.
#include <algorithm>

#include "operators/operator.hpp"

namespace ff {
namespace {

class Strip final : public Operator {
public:
    Inputs inputs() const override { return {}; }

    Args read(Fields& attributes) const override { return StripArgs{attributes.small("rows")}; }

    void check(const NodeCheck&) const override {}
    void views(Args&, Views&) const override {}
    Part whole(const Node& node) const override { return {{0, node.out.height()}, {}}; }
    void run(const Kernels&, const Args&, const Part&, void*) const override {}

    // Rows of whole tiles of every convolution by Winograd's: they are 2 or 4, so the largest is a multiple of all.
    Steps steps(const Node& node, const Kernels&) const override {
        Steps steps;
        for (const Node& inner : node.nodes) steps.first = std::max<int64_t>(steps.first, winograd_tile(inner));
        return steps;
    }
};

}  // namespace

const Operator& operators::strip() {
    static constexpr Strip strip;
    return strip;
}

}  // namespace ff
