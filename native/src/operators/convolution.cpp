// conv, depthwise and transposed: kernels/conv.hpp with gemm.hpp and winograd.hpp, kernels/depthwise.hpp and
// kernels/transposed.hpp.
#include <algorithm>

#include "operators/operator.hpp"
#include "operators/windowed.hpp"

namespace ff {
namespace {

// A prelu has slopes, and nothing else has.
void check_slope(const NodeCheck& node, const Activation& act, int64_t count) {
    if (static_cast<bool>(node.in(kSlope)) != (act.kind == Act::prelu))
        node.fail("slope is given without act prelu, or the other way round");
    node.packed(kSlope, count);
}

class Conv final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX, kWeight), roles(kBias, kResidual, kGate, kTransformed, kSlope)}; }

    Args read(Fields& attributes) const override {
        ConvArgs args;
        attributes.window(args.window, {&args.window.pad_top, &args.window.pad_left});
        args.groups = attributes.small("groups");
        args.act = attributes.activation("act", true);
        args.post = attributes.activation("post");
        const json::Value* tile = attributes.optional("winograd");
        if (tile) args.winograd = attributes.small(*tile, "winograd");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const ConvArgs& args = std::get<ConvArgs>(node.args());
        node.window(args.window);
        const int64_t in = node.x().channels(), out = node.out().channels(), groups = args.groups;
        if (groups < 1 || in % groups || out % groups)
            node.fail("groups (" + std::to_string(groups) + ") do not divide the channels (" + std::to_string(in) +
                      " in, " + std::to_string(out) + " out)");
        const int64_t count = panels(out / groups);
        node.packed(kWeight, product({groups, count, args.window.kernel_h, args.window.kernel_w, in / groups, kPanel}));
        node.packed(kBias, product({groups, count, kPanel}));
        check_slope(node, args.act, product({groups, count, kPanel}));
        check_winograd(node, args);
        const View& gate = node.in(kGate);
        if (gate && (gate.rank != 1 || gate.shape[0] != in || (gate.shape[0] > 1 && gate.stride[0] != 1)))
            node.fail("gate is not one dense number for each of x's channels");
    }

    void views(Args& all, Views& views) const override {
        ConvArgs& args = std::get<ConvArgs>(all);
        views.input(kX, args.x);
        views.input(kResidual, args.residual);
        views.input(kGate, args.gate);
        views.input(kWeight, args.weight);
        views.input(kBias, args.bias);
        views.input(kSlope, args.slope);
        views.input(kTransformed, args.transformed);
        views.output(args.out);
    }

    Part whole(const Node& node) const override {
        const int64_t groups = std::get<ConvArgs>(node.args).groups;
        return {{0, node.out.height() * node.out.width()}, {0, groups * panels(node.out.channels() / groups)}};
    }

    size_t scratch(const Kernels& kernels, const Args& args) const override {
        return kernels.conv_scratch(std::get<ConvArgs>(args));
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void* scratch) const override {
        kernels.conv(std::get<ConvArgs>(args), part.first, part.second, scratch);
    }

    // After any other activation, the sums are written before the residual is read.
    bool in_place(const Node& node, Role role) const override {
        switch (std::get<ConvArgs>(node.args).act.kind) {
            case Act::none: case Act::relu: case Act::relu6: case Act::clamp: case Act::leaky_relu: case Act::prelu:
                return role == kResidual;
            default: return false;
        }
    }

    RowByRow row_by_row(const Node&) const override { return RowByRow::rings; }
    const Window* window(const Args& args) const override { return &std::get<ConvArgs>(args).window; }

    // Whole tiles, of Winograd or of the registers.
    Steps steps(const Node& node, const Kernels& kernels) const override {
        const int64_t tile = winograd_tile(node);
        return {tile ? tile * node.out.width() : kernels.part_pixels, kernels.part_panels};
    }

    double nanoseconds(const Node& node, const Core& core, double first, double second) const override {
        const ConvArgs& args = std::get<ConvArgs>(node.args);
        const View& x = node.in[kX];
        const double window = window_size(args.window), tile = args.winograd;
        const double taps = tile ? (tile + 2) * (tile + 2) : window;    // that weights are read for
        const double share = tile ? taps / (tile * tile * window) : 1;  // of the multiplications
        const double depth = window * static_cast<double>(x.channels() / args.groups);
        const double all = static_cast<double>(node.out.height() * node.out.width());
        const double read = 4 * (second * kPanel * depth * taps / window +
                                 std::min(first, all) / all * static_cast<double>(x.elements()));
        return Core::kCallNs + 2 * first * second * kPanel * depth * share / core.flops_per_ns +
               read / Core::kBytesPerNs;
    }

private:
    static void check_winograd(const NodeCheck& node, const ConvArgs& args) {
        const int64_t tile = args.winograd;
        if (static_cast<bool>(node.in(kTransformed)) != (tile != 0))
            node.fail("transformed is given without winograd, or the other way round");
        if (tile == 0) return;
        if (tile != 2 && tile != 4) node.fail("winograd is neither 2 nor 4");
        const Window& w = args.window;
        if (w.kernel_h != 3 || w.kernel_w != 3 || w.stride_h != 1 || w.stride_w != 1 || w.dilation_h != 1 ||
            w.dilation_w != 1 || args.groups != 1 || node.in(kGate))
            node.fail("winograd is for dense 3 x 3 windows of stride 1 without a gate");
        node.packed(kTransformed,
                    product({tile + 2, tile + 2, panels(node.out().channels()), node.x().channels(), kPanel}));
    }
};

class Depthwise final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX, kWeight), roles(kBias, kResidual, kSlope)}; }

    Args read(Fields& attributes) const override {
        DepthwiseArgs args;
        attributes.window(args.window, {&args.window.pad_top, &args.window.pad_left});
        args.multiplier = attributes.small("multiplier");
        args.act = attributes.activation("act", true);
        args.post = attributes.activation("post");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const DepthwiseArgs& args = std::get<DepthwiseArgs>(node.args());
        node.window(args.window);
        const int64_t out = node.out().channels();
        if (args.multiplier < 1 || product({node.x().channels(), args.multiplier}) != out)
            node.fail("out has not multiplier times the channels of x");
        node.packed(kWeight, product({args.window.kernel_h, args.window.kernel_w, panels(out), kPanel}));
        node.packed(kBias, panels(out) * kPanel);
        check_slope(node, args.act, panels(out) * kPanel);
    }

    void views(Args& all, Views& views) const override {
        DepthwiseArgs& args = std::get<DepthwiseArgs>(all);
        views.input(kX, args.x);
        views.input(kResidual, args.residual);
        views.input(kWeight, args.weight);
        views.input(kBias, args.bias);
        views.input(kSlope, args.slope);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return rows_and_blocks(node); }

    size_t scratch(const Kernels& kernels, const Args& args) const override {
        return kernels.depthwise_scratch(std::get<DepthwiseArgs>(args));
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void* scratch) const override {
        kernels.depthwise(std::get<DepthwiseArgs>(args), part.first, part.second, scratch);
    }

    RowByRow row_by_row(const Node&) const override { return RowByRow::rings; }
    const Window* window(const Args& args) const override { return &std::get<DepthwiseArgs>(args).window; }

    double nanoseconds(const Node& node, const Core& core, double first, double second) const override {
        return channelwise_nanoseconds(node, *window(node.args), core, first, second);
    }
};

constexpr int64_t kMaxProducts = 1 << 24;  // 64 MiB

class Transposed final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX, kWeight), roles(kBias, kSlope)}; }

    Args read(Fields& attributes) const override {
        TransposedArgs args;
        attributes.list("kernel", {&args.kernel_h, &args.kernel_w});
        attributes.list("stride", {&args.stride_h, &args.stride_w});
        attributes.list("padding", {&args.pad_top, &args.pad_left});
        args.act = attributes.activation("act", true);
        args.post = attributes.activation("post");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const TransposedArgs& args = std::get<TransposedArgs>(node.args());
        node.map(node.x(), "x");
        node.map(node.out(), "out");
        for (int32_t value : {args.kernel_h, args.kernel_w, args.stride_h, args.stride_w})
            if (value < 1 || value > kMaxWindow) node.fail("kernel or stride is 0 or too large");
        if (args.pad_top > kMaxWindow || args.pad_left > kMaxWindow) node.fail("padding is too large");
        const int64_t out = node.out().channels(), taps = product({args.kernel_h, args.kernel_w, out});
        node.packed(kWeight, product({panels(taps), node.x().channels(), kPanel}));
        node.packed(kBias, panels(out) * kPanel);
        check_slope(node, args.act, panels(out) * kPanel);
        // Each thread keeps the products of some rows of x, and a row of out.
        const int64_t rows = (args.kernel_h - 1) / args.stride_h + 1;
        if (product({rows, node.x().width(), taps}) > kMaxProducts ||
            product({node.out().width() + args.pad_left + args.stride_w, out}) > kMaxProducts)
            node.fail("its products are too many");
    }

    void views(Args& all, Views& views) const override {
        TransposedArgs& args = std::get<TransposedArgs>(all);
        views.input(kX, args.x);
        views.input(kWeight, args.weight);
        views.input(kBias, args.bias);
        views.input(kSlope, args.slope);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return {{0, node.out.height()}, {}}; }

    size_t scratch(const Kernels& kernels, const Args& args) const override {
        return kernels.transposed_scratch(std::get<TransposedArgs>(args));
    }

    void run(const Kernels& kernels, const Args& args, const Part& part, void* scratch) const override {
        kernels.transposed(std::get<TransposedArgs>(args), part.first, scratch);
    }

    double nanoseconds(const Node& node, const Core& core, double first, double) const override {
        const TransposedArgs& args = std::get<TransposedArgs>(node.args);
        const double taps = static_cast<double>(args.kernel_h) * args.kernel_w;
        const double outputs = static_cast<double>(node.out.channels()), width = static_cast<double>(node.in[kX].width());
        const double rows = (first + args.kernel_h - args.stride_h) / args.stride_h;  // of x, those read by two included
        const double products = rows * width * taps * outputs;
        return Core::kCallNs + 2 * products * static_cast<double>(node.in[kX].channels()) / core.flops_per_ns +
               8 * products / Core::kBytesPerNs;
    }
};

}  // namespace

const Operator& operators::conv() {
    static constexpr Conv conv;
    return conv;
}

const Operator& operators::depthwise() {
    static constexpr Depthwise depthwise;
    return depthwise;
}

const Operator& operators::transposed() {
    static constexpr Transposed transposed;
    return transposed;
}

}  // namespace ff
