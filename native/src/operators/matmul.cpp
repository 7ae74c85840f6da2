// matmul: kernels/matmul.hpp.
#include "operators/operator.hpp"

namespace ff {
namespace {

class Matmul final : public Operator {
public:
    Inputs inputs() const override { return {roles(kA, kB)}; }

    Args read(Fields& attributes) const override {
        MatmulArgs args;
        args.alpha = attributes.number("alpha");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const View &a = node.in(kA), &b = node.in(kB), &out = node.out();
        const int32_t rank = out.rank;
        bool agree = rank >= 2 && a.rank == rank && b.rank == rank;
        for (int32_t i = 0; agree && i < rank - 2; ++i)
            agree = a.shape[i] == out.shape[i] && b.shape[i] == out.shape[i];
        if (!agree || a.shape[rank - 2] != out.shape[rank - 2] || b.shape[rank - 1] != out.shape[rank - 1] ||
            a.shape[rank - 1] != b.shape[rank - 2])
            node.fail("shapes " + shape_text(a) + " x " + shape_text(b) + " do not give " + shape_text(out));
    }

    void views(Args& all, Views& views) const override {
        MatmulArgs& args = std::get<MatmulArgs>(all);
        views.input(kA, args.a);
        views.input(kB, args.b);
        views.output(args.out);
    }

    size_t scratch(const Kernels& kernels, const Args& args) const override {
        return kernels.matmul_scratch(std::get<MatmulArgs>(args));
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void* scratch) const override {
        kernels.matmul(std::get<MatmulArgs>(args), part.first, scratch);
    }

    // Whole matrices if there are several: each is packed once then. Rows of a single one by fours; no comparison
    // with other counts is recorded.
    Steps steps(const Node& node, const Kernels&) const override {
        const int64_t rows = node.out.shape[node.out.rank - 2], columns = node.out.shape[node.out.rank - 1];
        return {node.out.elements() / (rows * columns) > 1 ? rows : 4};
    }

    double nanoseconds(const Node& node, const Core& core, double first, double) const override {
        const int32_t last = node.out.rank - 1;
        const double depth = static_cast<double>(node.in[kA].shape[last]);
        const double columns = static_cast<double>(node.out.shape[last]);
        return Core::kCallNs + first * columns * (2 * depth / core.flops_per_ns + 4 / Core::kBytesPerNs);
    }
};

}  // namespace

const Operator& operators::matmul() {
    static constexpr Matmul matmul;
    return matmul;
}

}  // namespace ff
