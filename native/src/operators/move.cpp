// copy, fill and gather: kernels/move.hpp.
#include <algorithm>

#include "operators/operator.hpp"

namespace ff {
namespace {

class Copy final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX)}; }
    Args read(Fields&) const override { return CopyArgs(); }
    void check(const NodeCheck& node) const override { node.same_shape(kX); }
    void types(const NodeCheck& node) const override { node.out_typed(node.type(kX)); }  // of any

    void views(Args& all, Views& views) const override {
        CopyArgs& args = std::get<CopyArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.copy(std::get<CopyArgs>(args), part.first);
    }

    RowByRow row_by_row(const Node&) const override { return RowByRow::pieces; }
};

class Fill final : public Operator {
public:
    Inputs inputs() const override { return {}; }

    Args read(Fields& attributes) const override {
        FillArgs args;
        args.value = attributes.number("value");
        return args;
    }

    void check(const NodeCheck&) const override {}
    void views(Args& args, Views& views) const override { views.output(std::get<FillArgs>(args).out); }
    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.fill(std::get<FillArgs>(args), part.first);
    }
};

class Gather final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX, kIndex)}; }
    Args read(Fields&) const override { return GatherArgs(); }

    void types(const NodeCheck& node) const override {
        node.typed(kIndex, Type::i32);
        node.out_typed(node.type(kX));  // of any
    }

    void check(const NodeCheck& node) const override {
        const View &x = node.x(), &out = node.out(), &index = node.in(kIndex);
        const int32_t rank = out.rank;
        if (rank < 1 || x.rank != rank || !std::equal(out.shape, out.shape + rank - 1, x.shape))
            node.fail("x has shape " + shape_text(x) + " and out " + shape_text(out));
        if (index.rank != 1 || index.shape[0] != out.shape[rank - 1] || (index.shape[0] > 1 && index.stride[0] != 1))
            node.fail("index is not one dense number for each of out's last dimension");
        node.packed(kIndex, index.shape[0]);
        const Tensor& numbers = node.tensor(index);
        if (index.offset != 0 || numbers.stored - index.shape[0] >= kPanel)  // a file pads it to whole panels
            node.fail("index is not its whole tensor");
        const int32_t outside = numbers.least < 0 ? numbers.least : numbers.most;
        if (outside < 0 || outside >= x.shape[rank - 1])
            node.fail("index " + std::to_string(outside) + " is outside x's " + std::to_string(x.shape[rank - 1]));
    }

    void views(Args& all, Views& views) const override {
        GatherArgs& args = std::get<GatherArgs>(all);
        views.input(kX, args.x);
        views.input(kIndex, args.index);
        views.output(args.out);
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.gather(std::get<GatherArgs>(args), part.first);
    }

    RowByRow row_by_row(const Node&) const override { return RowByRow::pieces; }
};

}  // namespace

const Operator& operators::copy() {
    static constexpr Copy copy;
    return copy;
}

const Operator& operators::fill() {
    static constexpr Fill fill;
    return fill;
}

const Operator& operators::gather() {
    static constexpr Gather gather;
    return gather;
}

}  // namespace ff
