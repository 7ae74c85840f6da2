// resize: kernels/resize.hpp.
#include "operators/operator.hpp"

namespace ff {
namespace {

constexpr const char* kModeNames[] = {FF_RESIZE_MODES(FF_TEXT)};

class Resize final : public Operator {
public:
    Inputs inputs() const override { return {roles(kX)}; }

    Args read(Fields& attributes) const override {
        ResizeArgs args;
        args.mode = attributes.one_of<ResizeMode>("mode", kModeNames);
        args.align_corners = attributes.small("align_corners");
        const json::Array& scale = attributes.array("scale");
        if (scale.size() != 2) attributes.fail("scale", "has not 2 numbers");
        args.scale_h = attributes.number(scale[0], "scale");
        args.scale_w = attributes.number(scale[1], "scale");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const ResizeArgs& args = std::get<ResizeArgs>(node.args());
        const View &x = node.x(), &out = node.out();
        node.map(x, "x");
        node.map(out, "out");
        if (x.channels() != out.channels()) node.fail("x and out differ in channels");
        if (args.align_corners > 1) node.fail("align_corners is neither 0 nor 1");
        const auto fits = [&](float scale, int64_t in, int64_t size) {
            if (!(scale >= 0 && scale * static_cast<float>(size) <= static_cast<float>(in) + scale + 1))
                node.fail("scale " + std::to_string(scale) + " does not map " + std::to_string(size) + " onto " +
                          std::to_string(in));
        };
        fits(args.scale_h, x.height(), out.height());
        fits(args.scale_w, x.width(), out.width());
    }

    void views(Args& all, Views& views) const override {
        ResizeArgs& args = std::get<ResizeArgs>(all);
        views.input(kX, args.x);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return {{0, node.out.height()}, {}}; }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.resize(std::get<ResizeArgs>(args), part.first);
    }
};

}  // namespace

const Operator& operators::resize() {
    static constexpr Resize resize;
    return resize;
}

}  // namespace ff
