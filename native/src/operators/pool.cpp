// pool: kernels/pool.hpp.
#include "operators/operator.hpp"
#include "operators/windowed.hpp"

namespace ff {
namespace {

constexpr const char* kModeNames[] = {FF_POOL_MODES(FF_TEXT)};

class Pool final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        PoolArgs args;
        args.mode = attributes.one_of<PoolMode>("mode", kModeNames);
        Window& w = args.window;
        attributes.window(w, {&w.pad_top, &w.pad_left, &args.pad_bottom, &args.pad_right});
        args.count_include_pad = attributes.small("count_include_pad");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const PoolArgs& args = std::get<PoolArgs>(node.args());
        const View &x = node.x(), &out = node.out();
        const Window& w = args.window;
        node.window(w);
        if (x.channels() != out.channels()) node.fail("x and out differ in channels");
        if (args.pad_bottom > kMaxWindow || args.pad_right > kMaxWindow) node.fail("padding is too large");
        if (args.count_include_pad > 1) node.fail("count_include_pad is neither 0 nor 1");
        // Otherwise a window would hold nothing, and its mean would be 0 / 0.
        if ((out.height() - 1) * w.stride_h - w.pad_top >= x.height() ||
            (out.width() - 1) * w.stride_w - w.pad_left >= x.width())
            node.fail("a window begins after the end of x");
    }

    void views(Args& all, Views& views) const override {
        PoolArgs& args = std::get<PoolArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return rows_and_blocks(node); }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.pool(std::get<PoolArgs>(args), part.first, part.second);
    }

    RowByRow row_by_row(const Node&) const override { return RowByRow::rings; }
    const Window* window(const Args& args) const override { return &std::get<PoolArgs>(args).window; }

    double nanoseconds(const Node& node, const Core& core, double first, double second) const override {
        return channelwise_nanoseconds(node, *window(node.args), core, first, second);
    }
};

}  // namespace

const Operator& operators::pool() {
    static constexpr Pool pool;
    return pool;
}

}  // namespace ff
