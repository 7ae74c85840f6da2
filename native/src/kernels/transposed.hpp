// A transposed convolution of few output channels, as a product and a sum of its results. Those of many channels are
// made of ordinary convolutions when the plan is made.
//
// Each input row is multiplied by all kernel_h x kernel_w x N weights at once, which fills whole panels even if N is 1.
// The products of as many rows as one output row needs stay in the cache. Output column X adds up those of column
// (X + pad - kx) / stride; kx and n lie together, so that stride x N numbers of a row are summed as one stretch.
#pragma once

#include "conv.hpp"

namespace ff::FF_ISA {

struct TransposedShape {
    int64_t taps, panels;   // products of one pixel; panels of 16 of them
    int64_t kept;           // input rows that one output row is made from
    int64_t block, blocks;  // floats of a stretch; stretches of an output row with its padding
    int64_t products, row;  // floats of the products of one input row, and of an output row
};

static TransposedShape transposed_shape(const TransposedArgs& args) {
    TransposedShape s;
    const int64_t n = args.out.channels;
    s.taps = static_cast<int64_t>(args.kernel_h) * args.kernel_w * n;
    s.panels = ceil_div(s.taps, kPanel);
    s.kept = ceil_div(args.kernel_h, args.stride_h);
    s.block = args.stride_w * n;
    s.blocks = (args.pad_left + static_cast<int64_t>(args.out.width) - 1) / args.stride_w + 1;
    s.products = ceil_div(args.x.width * s.taps, kPanel) * kPanel;
    s.row = ceil_div(s.blocks * s.block + kPanel, kPanel) * kPanel;
    return s;
}

static size_t transposed_scratch(const TransposedArgs& args) {
    const TransposedShape s = transposed_shape(args);
    return 4 * static_cast<size_t>(s.kept * s.products + s.row + 2 * ceil_div(s.block, kPanel) * kPanel);
}

// The products of one input row: [pixel][ky][kx][n].
static void transposed_products(const TransposedArgs& args, const TransposedShape& s, int64_t y, float* to) {
    static constexpr int64_t kOneSegment[1] = {0};
    Tile t{};
    t.a_stride = args.x.pixel;
    t.segments = kOneSegment;
    t.segment_count = 1;
    t.k = args.x.channels;
    t.b = args.weight;
    t.panel_stride = t.k * kPanel;
    t.c_stride = s.taps;
    t.last = s.taps - (s.panels - 1) * kPanel;
    const Run run{args.x.at(y, 0), to, nullptr, args.x.width};
    multiply_runs(t, &run, 1, s.panels, {});
}

// A vector for each channel, repeated over a stretch's pixels.
static void transposed_tile(const float* vector, int64_t channels, float* to, int64_t block) {
    for (int64_t i = 0; i < block; ++i) to[i] = vector ? vector[i % channels] : 0;
}

// Output row y with its padding, from the products of input rows [from, to).
static void transposed_row(const TransposedArgs& args, const TransposedShape& s, int64_t y, Range input,
                           const float* products, const float* bias, const float* slope, float* row) {
    const int64_t n = args.out.channels, steps = ceil_div(args.kernel_w, args.stride_w);
    for (int64_t q = args.pad_left / args.stride_w; q < s.blocks; ++q) {
        for (int64_t c = 0; c < s.block; c += kLanes) {
            const int64_t lanes = smaller(kLanes, s.block - c);
            vf sum = load_lanes(bias + c, lanes);
            for (int64_t iy = input.begin; iy < input.end; ++iy) {
                const int64_t ky = y + args.pad_top - iy * args.stride_h;
                const float* from = products + iy % s.kept * s.products + ky * args.kernel_w * n + c;
                for (int64_t j = larger(0, q - args.x.width + 1); j < steps && j <= q; ++j) {
                    const int64_t left = args.kernel_w * n - j * s.block - c;  // of the kernel's row
                    if (left > 0) sum = add(sum, load_lanes(from + (q - j) * s.taps + j * s.block, smaller(left, lanes)));
                }
            }
            if (args.act.kind == Act::prelu) sum = slope_down(sum, load_lanes(slope + c, lanes));
            store_lanes(row + q * s.block + c, sum, lanes);
        }
    }
}

static void transposed(const TransposedArgs& args, Range rows, void* scratch) {
    const TransposedShape s = transposed_shape(args);
    const int64_t n = args.out.channels;
    float* const products = static_cast<float*>(scratch);
    float* const row = products + s.kept * s.products;
    float* const bias = row + s.row;
    float* const slope = bias + ceil_div(s.block, kPanel) * kPanel;
    transposed_tile(args.bias, n, bias, s.block);
    transposed_tile(args.slope, n, slope, s.block);
    Activation act = args.act;
    if (act.kind == Act::prelu) act.kind = Act::none;
    int64_t made = 0;  // input rows before it have been multiplied, or are not needed any more
    for (int64_t y = rows.begin; y < rows.end; ++y) {
        const int64_t reach = y + args.pad_top;
        const Range input = {larger(0, ceil_div(larger(0, reach - args.kernel_h + 1), args.stride_h)),
                             smaller(args.x.height, reach / args.stride_h + 1)};
        for (made = larger(made, input.begin); made < input.end; ++made)
            transposed_products(args, s, made, products + made % s.kept * s.products);
        transposed_row(args, s, y, input, products, bias, slope, row);
        float* const from = row + args.pad_left * n;
        sweep(act, from, args.out.width * n);
        sweep(args.post, from, args.out.width * n);
        float* to = args.out.at(y, 0);
        if (args.out.pixel == n) copy_floats(to, from, args.out.width * n);
        else
            for (int64_t x = 0; x < args.out.width; ++x) copy_floats(to + x * args.out.pixel, from + x * n, n);
    }
}

}  // namespace ff::FF_ISA
