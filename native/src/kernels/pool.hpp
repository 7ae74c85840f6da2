// Max and average pooling, as PyTorch defines them: a window is clipped to the picture; the average
// divides by the window's size within the padded picture, or within the picture alone; the maximum
// starts at -inf, and a NaN wins.
#pragma once

#include "kernels.hpp"
#include "window.hpp"

namespace ff::FF_ISA {

// V vectors of channels of one output pixel. rows x columns: the window's part in the picture.
template <PoolMode kMode, int V>
FF_INLINE void pool_vectors(const PoolArgs& args, int64_t y, Range rows, int64_t x, Range columns, float scale,
                            int64_t c, int64_t lanes, float* out) {
    const Window& w = args.window;
    vf value[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) value[v] = kMode == PoolMode::max ? set1(-__builtin_inff()) : zero();
    for (int64_t ky = rows.begin; ky < rows.end; ++ky) {
        const float* p = args.x.at(y + ky * w.dilation_h, x + columns.begin * w.dilation_w) + c;
        for (int64_t kx = columns.begin; kx < columns.end; ++kx, p += w.dilation_w * args.x.pixel) {
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
                const vf one = V > 1 ? load(p + v * kLanes) : load_lanes(p, lanes);
                if constexpr (kMode == PoolMode::average) value[v] = add(value[v], one);
                else value[v] = select(is_nan(value[v]), value[v], at_least(one, value[v]));
            }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
        if constexpr (kMode == PoolMode::average) value[v] = mul(value[v], set1(scale));
        if constexpr (V > 1) store(out + c + v * kLanes, value[v]);
        else store_lanes(out + c, value[v], lanes);
    }
}

template <PoolMode kMode>
static void pool_mode(const PoolArgs& args, Range rows, Range channels) {
    const Window& w = args.window;
    for (int64_t y = rows.begin; y < rows.end; ++y) {
        const int64_t top = y * w.stride_h - w.pad_top;
        const Range ky = taps_inside(top, w.dilation_h, w.kernel_h, args.x.height);
        const Range padded_ky = taps_inside(top - args.pad_bottom, w.dilation_h, w.kernel_h, args.x.height);
        for (int64_t x = 0; x < args.out.width; ++x) {
            const int64_t left = x * w.stride_w - w.pad_left;
            const Range kx = taps_inside(left, w.dilation_w, w.kernel_w, args.x.width);
            const Range padded_kx = taps_inside(left - args.pad_right, w.dilation_w, w.kernel_w, args.x.width);
            int64_t count = (ky.end - ky.begin) * (kx.end - kx.begin);
            if (args.count_include_pad) count = padded_ky.end * padded_kx.end;  // counted from the padding's start
            const float scale = count ? 1.0f / static_cast<float>(count) : 0.0f;
            float* out = args.out.at(y, x);
            int64_t c = channels.begin;
            for (; c + 4 * kLanes <= channels.end; c += 4 * kLanes)
                pool_vectors<kMode, 4>(args, top, ky, left, kx, scale, c, kLanes, out);
            for (; c < channels.end; c += kLanes)
                pool_vectors<kMode, 1>(args, top, ky, left, kx, scale, c,
                                       channels.end - c < kLanes ? channels.end - c : kLanes, out);
        }
    }
}

static void pool(const PoolArgs& args, Range rows, Range blocks) {
    const int64_t end = blocks.end * kPanel, all = args.out.channels;
    const Range channels = {blocks.begin * kPanel, end < all ? end : all};
    if (args.mode == PoolMode::max) pool_mode<PoolMode::max>(args, rows, channels);
    else pool_mode<PoolMode::average>(args, rows, channels);
}

}  // namespace ff::FF_ISA
