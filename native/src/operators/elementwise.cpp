// unary, binary and softmax: kernels/elementwise.hpp.
#include "operators/operator.hpp"

namespace ff {
namespace {

constexpr const char* kBinaryNames[] = {FF_BINARIES(FF_TEXT)};

class Unary final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        UnaryArgs args;
        args.act = attributes.activation("act");
        return args;
    }

    void check(const NodeCheck& node) const override { node.same_shape(kX); }

    void views(Args& all, Views& views) const override {
        UnaryArgs& args = std::get<UnaryArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.unary(std::get<UnaryArgs>(args), part.first);
    }

    bool in_place(const Node&, Role) const override { return true; }

    RowByRow row_by_row(const Node&) const override { return RowByRow::pieces; }
};

class BinaryOperator final : public Operator {
public:
    Inputs inputs() const override { return {roles(kA, kB)}; }

    Args read(Fields& attributes) const override {
        BinaryArgs args;
        args.op = attributes.one_of<Binary>("kind", kBinaryNames);
        args.act = attributes.activation("act");
        return args;
    }

    void check(const NodeCheck& node) const override {
        node.same_shape(kA);
        node.same_shape(kB);
    }

    void views(Args& all, Views& views) const override {
        BinaryArgs& args = std::get<BinaryArgs>(all);
        views.input(kA, args.a);
        views.input(kB, args.b);
        views.output(args.out);
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.binary(std::get<BinaryArgs>(args), part.first);
    }

    bool in_place(const Node&, Role) const override { return true; }

    RowByRow row_by_row(const Node&) const override { return RowByRow::pieces; }
};

class Softmax final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX)}; }
    Args read(Fields&) const override { return SoftmaxArgs(); }
    void check(const NodeCheck& node) const override { node.same_shape(kX); }

    void views(Args& all, Views& views) const override {
        SoftmaxArgs& args = std::get<SoftmaxArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.softmax(std::get<SoftmaxArgs>(args), part.first);
    }

    RowByRow row_by_row(const Node&) const override { return RowByRow::pieces; }
};

}  // namespace

const Operator& operators::unary() {
    static constexpr Unary unary;
    return unary;
}

const Operator& operators::binary() {
    static constexpr BinaryOperator binary;
    return binary;
}

const Operator& operators::softmax() {
    static constexpr Softmax softmax;
    return softmax;
}

}  // namespace ff
