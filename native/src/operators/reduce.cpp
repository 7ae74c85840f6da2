// reduce: kernels/reduce.hpp.
#include <algorithm>

#include "operators/operator.hpp"

namespace ff {
namespace {

constexpr const char* kReduceNames[] = {FF_REDUCES(FF_TEXT)};

class ReduceOperator final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        ReduceArgs args;
        args.op = attributes.one_of<Reduce>("kind", kReduceNames);
        args.trailing = attributes.small("trailing");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const int32_t trailing = std::get<ReduceArgs>(node.args()).trailing;
        const View &x = node.x(), &out = node.out();
        node.trailing(trailing);
        if (out.rank != x.rank - trailing || !std::equal(out.shape, out.shape + out.rank, x.shape))
            node.fail("shape " + shape_text(out) + " is not " + shape_text(x) + " without the last " +
                      std::to_string(trailing));
    }

    void views(Args& all, Views& views) const override {
        ReduceArgs& args = std::get<ReduceArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return {{0, leading(node.out, node.out.rank)}, {}}; }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.reduce(std::get<ReduceArgs>(args), part.first);
    }

    double nanoseconds(const Node& node, const Core&, double first, double) const override {
        const double units = static_cast<double>(node.out.elements());
        return Core::kCallNs + 4 * (static_cast<double>(node.in[kX].elements()) / units) * first / Core::kBytesPerNs;
    }
};

}  // namespace

const Operator& operators::reduce() {
    static constexpr ReduceOperator reduce;
    return reduce;
}

}  // namespace ff
