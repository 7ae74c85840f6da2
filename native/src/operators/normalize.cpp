// norm: kernels/normalize.hpp.
#include "operators/operator.hpp"

namespace ff {
namespace {

constexpr const char* kModeNames[] = {FF_NORM_MODES(FF_TEXT)};

class Norm final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX), roles(kWeight, kBias)}; }

    Args read(Fields& attributes) const override {
        NormArgs args;
        args.mode = attributes.one_of<NormMode>("mode", kModeNames);
        args.trailing = attributes.small("trailing");
        args.eps = attributes.number("eps");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const NormArgs& args = std::get<NormArgs>(node.args());
        for (Role role : {kX, kWeight, kBias})
            if (node.in(role)) node.same_shape(role);
        node.trailing(args.trailing);
        if (!(args.eps >= 0)) node.fail("eps is negative");
    }

    void views(Args& all, Views& views) const override {
        NormArgs& args = std::get<NormArgs>(all);
        views.input(kX, args.x);
        views.input(kWeight, args.weight);
        views.input(kBias, args.bias);
        views.output(args.out);
    }

    Part whole(const Node& node) const override {
        return {{0, leading(node.out, node.out.rank - std::get<NormArgs>(node.args).trailing)}, {}};
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.norm(std::get<NormArgs>(args), part.first);
    }

    RowByRow row_by_row(const Node& node) const override {
        return std::get<NormArgs>(node.args).trailing == 1 ? RowByRow::pieces : RowByRow::never;
    }
};

}  // namespace

const Operator& operators::norm() {
    static constexpr Norm norm;
    return norm;
}

}  // namespace ff
