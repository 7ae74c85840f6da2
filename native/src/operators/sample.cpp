// resample and sample: kernels/sample.hpp.
#include "operators/operator.hpp"

namespace ff {
namespace {

constexpr const char* kModeNames[] = {FF_SAMPLE_MODES(FF_TEXT)};
constexpr const char* kPaddingNames[] = {FF_SAMPLE_PADDINGS(FF_TEXT)};
constexpr int32_t kMaxTaps = 1 << 16;

class Resample final : public Operator {
public:
    bool reference() const override { return true; }

    Inputs inputs() const override { return {roles(kX, kWeight, kIndex)}; }

    Args read(Fields& attributes) const override {
        ResampleArgs args;
        args.axis = attributes.small("axis");
        args.taps = attributes.small("taps");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const ResampleArgs& args = std::get<ResampleArgs>(node.args());
        const View &x = node.x(), &out = node.out(), &index = node.in(kIndex);
        node.map(x, "x");
        node.map(out, "out");
        if (args.axis > 1) node.fail("axis is neither 0 nor 1");
        if (args.taps < 1 || args.taps > kMaxTaps) node.fail("taps is 0 or too large");
        const int32_t other = 1 - args.axis;
        if (x.shape[other] != out.shape[other] || x.channels() != out.channels())
            node.fail("x has shape " + shape_text(x) + " and out " + shape_text(out));
        const int64_t count = out.shape[args.axis];
        node.packed(kWeight, product({count, args.taps}));
        node.packed(kIndex, count);
        const int32_t* first = static_cast<const int32_t*>(node.tensor(index).data) + index.offset;
        for (int64_t i = 0; i < count; ++i)
            if (first[i] < 0 || first[i] > x.shape[args.axis] - args.taps)
                node.fail("index " + std::to_string(first[i]) + " and " + std::to_string(args.taps) +
                          " taps leave x's " + std::to_string(x.shape[args.axis]));
    }

    void views(Args& all, Views& views) const override {
        ResampleArgs& args = std::get<ResampleArgs>(all);
        views.input(kX, args.x);
        views.input(kWeight, args.weight);
        views.input(kIndex, args.index);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return {{0, node.out.height()}, {}}; }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.resample(std::get<ResampleArgs>(args), part.first);
    }
};

class Sample final : public Operator {
public:
    bool reference() const override { return true; }

    Inputs inputs() const override { return {roles(kX, kGrid)}; }

    Args read(Fields& attributes) const override {
        SampleArgs args;
        args.mode = attributes.one_of<SampleMode>("mode", kModeNames);
        args.padding = attributes.one_of<SamplePadding>("padding", kPaddingNames);
        args.align_corners = attributes.small("align_corners");
        return args;
    }

    void check(const NodeCheck& node) const override {
        const View &x = node.x(), &out = node.out(), &grid = node.in(kGrid);
        node.map(x, "x");
        node.map(out, "out");
        node.map(grid, "grid");
        if (x.channels() != out.channels()) node.fail("x and out differ in channels");
        if (grid.height() != out.height() || grid.width() != out.width() || grid.channels() != 2)
            node.fail("grid has shape " + shape_text(grid) + " and out " + shape_text(out));
        if (std::get<SampleArgs>(node.args()).align_corners > 1) node.fail("align_corners is neither 0 nor 1");
    }

    void views(Args& all, Views& views) const override {
        SampleArgs& args = std::get<SampleArgs>(all);
        views.input(kX, args.x);
        views.input(kGrid, args.grid);
        views.output(args.out);
    }

    Part whole(const Node& node) const override { return {{0, node.out.height()}, {}}; }

    void run(const Kernels& kernels, const Args& args, const Part& part, void*) const override {
        kernels.sample(std::get<SampleArgs>(args), part.first);
    }
};

}  // namespace

const Operator& operators::resample() {
    static constexpr Resample resample;
    return resample;
}

const Operator& operators::sample() {
    static constexpr Sample sample;
    return sample;
}

}  // namespace ff
