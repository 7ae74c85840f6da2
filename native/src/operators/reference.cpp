// elementwise, aggregate, scan, sort, take and scatter: reference/reference.hpp.
#include <algorithm>

#include "operators/operator.hpp"

namespace ff {
namespace {

constexpr const char* kElementwiseNames[] = {FF_ELEMENTWISE(FF_TEXT)};
constexpr const char* kAggregateNames[] = {FF_AGGREGATES(FF_TEXT)};
constexpr const char* kScanNames[] = {FF_SCANS(FF_TEXT)};
constexpr const char* kScatterNames[] = {FF_SCATTERS(FF_TEXT)};

constexpr Role kOperands[] = {kA, kB, kC};

// Time of an element beyond that of its bytes. An estimate: plain code, with a division or a function now and then.
constexpr double kElementNs = 4;

class Reference : public Operator {
public:
    bool reference() const final { return true; }
    double nanoseconds(const Node& node, const Core&, double first, double) const override {
        const double units = static_cast<double>(std::max<int64_t>(whole(node).first.end, 1));
        int64_t elements = node.out.elements();
        for (const View& view : node.in)
            if (view) elements = std::max(elements, view.elements());
        return Core::kCallNs + kElementNs * static_cast<double>(elements) / units * first;
    }

protected:
    ~Reference() = default;
};

// The leading dimensions of a view are out's.
void same_leading(const NodeCheck& node, Role role) {
    const View &view = node.in(role), &out = node.out();
    if (view.rank != out.rank || out.rank < 1 || !std::equal(out.shape, out.shape + out.rank - 1, view.shape))
        node.fail(std::string(name_of(role)) + " has shape " + shape_text(view) + " and out " + shape_text(out));
}

// Reads 0 or 1.
int32_t flag(Fields& attributes, const char* key) {
    const int32_t value = attributes.small(key);
    if (value > 1) attributes.fail(key, "is neither 0 nor 1");
    return value;
}

class ElementwiseOperator final : public Reference {
public:
    Inputs inputs() const override { return {roles(kA), roles(kB, kC)}; }

    Args read(Fields& attributes) const override {
        ElementwiseArgs args;
        args.op = attributes.one_of<Elementwise>("kind", kElementwiseNames);
        return args;
    }

    void check(const NodeCheck& node) const override {
        for (Role role : kOperands)
            if (node.in(role)) node.same_shape(role);
    }

    void types(const NodeCheck& node) const override {
        const Elementwise op = std::get<ElementwiseArgs>(node.args()).op;
        const int count = operands_of(op);
        for (int i = 0; i < 3; ++i)
            if (static_cast<bool>(node.in(kOperands[i])) != (i < count))
                node.fail("has not " + std::to_string(count) + " operands");
        const Signature signature = signature_of(op);
        const bool where = signature == Signature::where;
        const Type first = node.type(kA), given = where ? node.type(kB) : first;
        if (node.in(kB)) node.typed(kB, given);
        if (where) node.typed(kA, Type::i32);
        if (node.in(kC)) node.typed(kC, given);
        const auto wants = [&](Type in, Type out) {
            node.typed(kA, in);
            node.out_typed(out);
        };
        switch (signature) {
            case Signature::any: return wants(first, first);
            case Signature::test: return wants(first, Type::i32);
            case Signature::real: return wants(Type::f32, Type::f32);
            case Signature::whole: return wants(Type::i32, Type::i32);
            case Signature::real_test:
            case Signature::to_i32: return wants(Type::f32, Type::i32);
            case Signature::to_f32: return wants(Type::i32, Type::f32);
            case Signature::where: return wants(Type::i32, given);
        }
    }

    void views(Args& all, Views& views) const override {
        ElementwiseArgs& args = std::get<ElementwiseArgs>(all);
        views.input(kA, args.a);
        views.input(kB, args.b);
        views.input(kC, args.c);
        views.output(args.out);
        views.type(args.op == Elementwise::where ? kB : kA, args.type);
        views.fault(args.fault);
    }

    Part whole(const Node& node) const override { return {{0, node.out.elements()}, {}}; }

    // A multiple of a cache line, which no two threads then write to.
    Steps steps(const Node&, const Kernels&) const override { return {16}; }

    void run(const Kernels&, const Args& args, const Part& part, void*) const override {
        reference::elementwise(std::get<ElementwiseArgs>(args), part.first);
    }

    bool in_place(const Node&, Role) const override { return true; }
};

class AggregateOperator final : public Reference {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        AggregateArgs args;
        args.op = attributes.one_of<Aggregate>("kind", kAggregateNames);
        args.trailing = attributes.small("trailing");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const int32_t trailing = std::get<AggregateArgs>(node.args()).trailing;
        const View &x = node.x(), &out = node.out();
        node.trailing(trailing);
        if (out.rank != x.rank - trailing || !std::equal(out.shape, out.shape + out.rank, x.shape))
            node.fail("shape " + shape_text(out) + " is not " + shape_text(x) + " without the last " +
                      std::to_string(trailing));
        if (x.elements() / out.elements() > kMaxSide) node.fail("too many elements become one");
    }

    void types(const NodeCheck& node) const override {
        switch (std::get<AggregateArgs>(node.args()).op) {
            case Aggregate::any:
            case Aggregate::all:
            case Aggregate::argmax:
            case Aggregate::argmin: return node.out_typed(Type::i32);
            case Aggregate::logsumexp: node.typed(kX, Type::f32); [[fallthrough]];
            default: return node.out_typed(node.type(kX));
        }
    }

    void views(Args& all, Views& views) const override {
        AggregateArgs& args = std::get<AggregateArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
        views.type(kX, args.type);
    }

    Part whole(const Node& node) const override { return {{0, node.out.elements()}, {}}; }

    void run(const Kernels&, const Args& args, const Part& part, void*) const override {
        reference::aggregate(std::get<AggregateArgs>(args), part.first);
    }
};

class ScanOperator final : public Reference {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        ScanArgs args;
        args.op = attributes.one_of<Scan>("kind", kScanNames);
        return args;
    }

    void check(const NodeCheck& node) const override { node.same_shape(kX); }

    void types(const NodeCheck& node) const override {
        switch (std::get<ScanArgs>(node.args()).op) {
            case Scan::max_index:
            case Scan::min_index: return node.out_typed(Type::i32);
            case Scan::logsumexp: node.typed(kX, Type::f32); [[fallthrough]];
            default: return node.out_typed(node.type(kX));
        }
    }

    void views(Args& all, Views& views) const override {
        ScanArgs& args = std::get<ScanArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
        views.type(kX, args.type);
    }

    void run(const Kernels&, const Args& args, const Part& part, void*) const override {
        reference::scan(std::get<ScanArgs>(args), part.first);
    }
};

class SortOperator final : public Reference {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        SortArgs args;
        args.descending = flag(attributes, "descending");
        return args;
    }

    void check(const NodeCheck& node) const override {
        same_leading(node, kX);
        const int32_t last = node.out().rank - 1;
        if (node.out().shape[last] > node.x().shape[last]) node.fail("out is longer than x");
    }

    void types(const NodeCheck& node) const override { node.out_typed(Type::i32); }

    void views(Args& all, Views& views) const override {
        SortArgs& args = std::get<SortArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
        views.type(kX, args.type);
    }

    size_t scratch(const Kernels&, const Args& args) const override {
        return reference::sort_scratch(std::get<SortArgs>(args));
    }

    void run(const Kernels&, const Args& args, const Part& part, void* scratch) const override {
        reference::sort(std::get<SortArgs>(args), part.first, scratch);
    }
};

class Take final : public Reference {
public:
    Inputs inputs() const override { return {roles(kX, kIndex)}; }

    Args read(Fields& attributes) const override {
        TakeArgs args;
        args.negative = flag(attributes, "negative");
        return args;
    }

    void check(const NodeCheck& node) const override {
        same_leading(node, kX);
        node.same_shape(kIndex);
    }

    void types(const NodeCheck& node) const override {
        node.typed(kIndex, Type::i32);
        node.out_typed(node.type(kX));
    }

    void views(Args& all, Views& views) const override {
        TakeArgs& args = std::get<TakeArgs>(all);
        views.input(kX, args.x);
        views.input(kIndex, args.index);
        views.output(args.out);
        views.fault(args.fault);
    }

    void run(const Kernels&, const Args& args, const Part& part, void*) const override {
        reference::take(std::get<TakeArgs>(args), part.first);
    }
};

class ScatterOperator final : public Reference {
public:
    Inputs inputs() const override { return {roles(kX, kIndex, kSource)}; }

    Args read(Fields& attributes) const override {
        ScatterArgs args;
        args.op = attributes.one_of<Scatter>("kind", kScatterNames);
        args.negative = flag(attributes, "negative");
        return args;
    }

    void check(const NodeCheck& node) const override {
        node.same_shape(kX);
        same_leading(node, kIndex);
        same_leading(node, kSource);
        const int32_t last = node.out().rank - 1;
        if (node.in(kSource).shape[last] != node.in(kIndex).shape[last]) node.fail("source and index differ in length");
    }

    void types(const NodeCheck& node) const override {
        node.typed(kIndex, Type::i32);
        node.typed(kSource, node.type(kX));
        node.out_typed(node.type(kX));
    }

    void views(Args& all, Views& views) const override {
        ScatterArgs& args = std::get<ScatterArgs>(all);
        views.input(kX, args.x);
        views.input(kIndex, args.index);
        views.input(kSource, args.source);
        views.output(args.out);
        views.type(kX, args.type);
        views.fault(args.fault);
    }

    void run(const Kernels&, const Args& args, const Part& part, void*) const override {
        reference::scatter(std::get<ScatterArgs>(args), part.first);
    }
};

}  // namespace

const Operator& operators::elementwise() {
    static constexpr ElementwiseOperator elementwise;
    return elementwise;
}

const Operator& operators::aggregate() {
    static constexpr AggregateOperator aggregate;
    return aggregate;
}

const Operator& operators::scan() {
    static constexpr ScanOperator scan;
    return scan;
}

const Operator& operators::sort() {
    static constexpr SortOperator sort;
    return sort;
}

const Operator& operators::take() {
    static constexpr Take take;
    return take;
}

const Operator& operators::scatter() {
    static constexpr ScatterOperator scatter;
    return scatter;
}

}  // namespace ff
