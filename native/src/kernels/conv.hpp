// Convolutions other than depthwise, as products.
//
// A 1x1 convolution is the product itself, on the map as it lies. Any other convolution first copies the rows that a
// block of its output needs into a frame of zeros. That copy stays in the cache and holds each number once: the
// window of a pixel is kernel_h stretches of kernel_w x channels floats in it, which the product reads where they
// lie. A 1x1 with a gate multiplies its input in that copy.
#pragma once

#include "caches.hpp"
#include "gemm.hpp"
#include "kernels.hpp"
#include "window.hpp"

namespace ff::FF_ISA {

FF_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
FF_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

constexpr int64_t kMaxRuns = 64;  // in a block

struct ConvShape {
    int64_t channels, outputs, panels, taps;  // of one group; a panel is 16 outputs
    bool direct;                              // nothing to copy
    int64_t block;                            // pixels in a block if direct, else output rows
    int64_t frame_width, frame_height;        // pixels
};

static ConvShape conv_shape(const ConvArgs& args) {
    ConvShape s;
    const Window& w = args.window;
    s.channels = args.x.channels / args.groups;
    s.outputs = args.out.channels / args.groups;
    s.panels = ceil_div(s.outputs, kPanel);
    s.taps = static_cast<int64_t>(w.kernel_h) * w.kernel_w;
    s.direct = s.taps == 1 && w.pad_top == 0 && w.pad_left == 0 && !args.gate;
    s.frame_width = static_cast<int64_t>(args.out.width - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w + 1;
    const bool large = s.panels * kPanel * s.taps * s.channels * 4 > kLargeWeights;
    const int64_t room = large ? kLargeBlock : kSmallBlock;
    if (s.direct) {
        const int64_t fit = room / (4 * (large ? s.channels : larger(s.channels, s.outputs)));
        s.block = larger(2 * kBlockPixels, fit / kBlockPixels * kBlockPixels);
        s.frame_height = 0;
    } else {
        const int64_t halo = (w.kernel_h - 1) * w.dilation_h + 1 - w.stride_h;
        const int64_t fit = room / (s.frame_width * args.x.channels * 4);
        const int64_t rows = larger(1, (fit - halo) / w.stride_h);
        s.block = smaller(smaller(rows, kMaxRuns), args.out.height);
        s.frame_height = (s.block - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1;
    }
    return s;
}

FF_INLINE void copy_floats(float* to, const float* from, int64_t n) {
    int64_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
        const vf a = load(from + i), b = load(from + i + kLanes);
        store(to + i, a);
        store(to + i + kLanes, b);
    }
    if (i + kLanes <= n) {
        store(to + i, load(from + i));
        i += kLanes;
    }
    if (i < n) store_n(to + i, load_n(from + i, n - i), n - i);
}

FF_INLINE void zero_floats(float* to, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(to + i, zero());
    if (i < n) store_n(to + i, zero(), n - i);
}

FF_INLINE void scale_floats(float* to, const float* from, const float* by, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(to + i, mul(load(from + i), load(by + i)));
    if (i < n) store_n(to + i, mul(load_n(from + i, n - i), load_n(by + i, n - i)), n - i);
}

// Fills the rows of the frame that output rows [begin, end) read: x times the gate, and zeros beyond the picture.
static void fill_frame(const ConvArgs& args, const ConvShape& s, int64_t begin, int64_t end, float* frame) {
    const Window& w = args.window;
    const int64_t channels = args.x.channels;
    const int64_t first = begin * w.stride_h - w.pad_top;
    const int64_t rows = (end - begin - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1;
    const int64_t left = smaller(w.pad_left, s.frame_width);
    const int64_t inside = larger(0, smaller(args.x.width, s.frame_width - left));
    const int64_t right = s.frame_width - left - inside;
    for (int64_t y = first; y < first + rows; ++y, frame += s.frame_width * channels) {
        if (y < 0 || y >= args.x.height) {
            zero_floats(frame, s.frame_width * channels);
            continue;
        }
        float* to = frame + left * channels;
        const float* from = args.x.at(y, 0);
        zero_floats(frame, left * channels);
        if (args.gate) {
            for (int64_t x = 0; x < inside; ++x) scale_floats(to + x * channels, from + x * args.x.pixel, args.gate, channels);
        } else if (args.x.pixel == channels) {
            copy_floats(to, from, inside * channels);
        } else {
            for (int64_t x = 0; x < inside; ++x) copy_floats(to + x * channels, from + x * args.x.pixel, channels);
        }
        zero_floats(to + inside * channels, right * channels);
    }
}

template <class M>
FF_INLINE bool rows_follow(const M& map) {  // pixel W of a row is pixel 0 of the next
    return !map.ring && (map.height == 1 || map.row == map.pixel * map.width);
}

static int64_t segments_bytes(const ConvShape& s) { return ceil_div(s.taps * 8, 64) * 64; }

static size_t conv_direct_scratch(const ConvArgs& args) {
    const ConvShape s = conv_shape(args);
    return s.direct ? 0 : static_cast<size_t>(segments_bytes(s) + s.frame_height * s.frame_width * args.x.channels * 4);
}

static void conv_direct(const ConvArgs& args, Range pixels, Range panels, void* scratch) {
    static constexpr int64_t kOneSegment[1] = {0};
    const ConvShape s = conv_shape(args);
    const Window& w = args.window;
    const int64_t width = args.out.width, channels = args.x.channels;
    const bool residual = args.residual.data != nullptr;
    const Epilogue epilogue = epilogue_of(args.act, args.post, args.slope, residual);
    const bool straight = s.direct && rows_follow(args.out) && (!residual || rows_follow(args.residual)) &&
                          rows_follow(args.x) && w.stride_h == 1 && w.stride_w == 1;

    Tile t{};
    t.c_stride = args.out.pixel;
    t.residual_stride = args.residual.pixel;
    t.act = epilogue.act;
    t.post = epilogue.post;
    t.slope_step = epilogue.slope_step();
    t.panel_stride = s.taps * s.channels * kPanel;
    float* frame = nullptr;
    if (s.direct) {
        t.segments = kOneSegment;
        t.segment_count = 1;
        t.k = s.channels;
        t.a_stride = args.x.pixel * w.stride_w;
    } else {
        int64_t* segments = static_cast<int64_t*>(scratch);
        frame = reinterpret_cast<float*>(static_cast<char*>(scratch) + segments_bytes(s));
        const bool together = args.groups == 1 && w.dilation_w == 1;  // the taps of a row are one stretch
        t.k = together ? w.kernel_w * s.channels : s.channels;
        t.a_stride = channels * w.stride_w;
        for (int64_t i = 0; i < w.kernel_h; ++i)
            for (int64_t j = 0; j < (together ? 1 : w.kernel_w); ++j)
                segments[t.segment_count++] = (i * w.dilation_h * s.frame_width + j * w.dilation_w) * channels;
        t.segments = segments;
    }
    const bool single = static_cast<int64_t>(args.out.height) * width == 1 && t.segment_count == 1;

    for (int64_t begin = pixels.begin; begin < pixels.end;) {
        // One block of pixels. Its runs are the whole block, or its rows.
        const int64_t y0 = begin / width;
        int64_t end = smaller(pixels.end, s.direct ? begin + s.block : (y0 + s.block) * width);
        if (s.direct && !straight) end = smaller(end, (y0 + kMaxRuns) * width);
        if (!s.direct) fill_frame(args, s, y0, (end - 1) / width + 1, frame);
        Run runs[kMaxRuns];
        int64_t count = 0;
        for (int64_t from = begin; from < end; ++count) {
            const int64_t y = from / width, x = from % width;
            const int64_t to = straight ? end : smaller(end, (y + 1) * width);
            runs[count].a = s.direct ? args.x.at(y * w.stride_h, x * w.stride_w)
                                     : frame + ((y - y0) * w.stride_h * s.frame_width + x * w.stride_w) * channels;
            runs[count].c = args.out.at(y, x);
            runs[count].residual = residual ? args.residual.at(y, x) : nullptr;
            runs[count].rows = to - from;
            from = to;
        }
        begin = end;

        for (int64_t group = panels.begin / s.panels; group * s.panels < panels.end; ++group) {
            const int64_t panel = larger(panels.begin - group * s.panels, 0);
            const int64_t panel_count = smaller(panels.end - group * s.panels, s.panels) - panel;
            const int64_t output = group * s.outputs + panel * kPanel;
            const int64_t outputs = smaller(s.outputs - panel * kPanel, panel_count * kPanel);
            t.b = args.weight + (group * s.panels + panel) * t.panel_stride;
            t.bias = args.bias ? args.bias + (group * s.panels + panel) * kPanel : nullptr;
            t.slope = epilogue.slope(group * s.panels + panel);
            t.last = outputs - (panel_count - 1) * kPanel;
            Run part[kMaxRuns];
            for (int64_t r = 0; r < count; ++r) {
                part[r].a = runs[r].a + group * s.channels;
                part[r].c = runs[r].c + output;
                part[r].residual = epilogue.residual_inside ? runs[r].residual + output : nullptr;
                part[r].rows = runs[r].rows;
            }
            if (single) single_row(t, part[0], panel_count);
            else multiply_runs(t, part, count, panel_count, {args.ahead, args.ahead_floats});
            if (!unfinished(epilogue)) continue;
            for (int64_t r = 0; r < count; ++r)
                finish(epilogue, part[r].c, t.c_stride, residual ? runs[r].residual + output : nullptr,
                       t.residual_stride, part[r].rows, outputs);
        }
    }
}

}  // namespace ff::FF_ISA
