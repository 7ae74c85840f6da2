// Resizing as torch.nn.functional.interpolate does it: nearest, nearest-exact, bilinear, bicubic (Keys' kernel with
// a = -0.75, taps beyond the border repeat it). All three are T x T taps with weights that are
// products of a row's and a column's; positions are computed in float, as there.
#pragma once

#include "kernels.hpp"
#include "window.hpp"

namespace ff::FF_ISA {

template <int T>
struct ResizeTaps {
    int64_t index[T];
    float weight[T];
};

FF_INLINE float resize_source(const ResizeArgs& args, float scale, int64_t to) {
    const float position = static_cast<float>(to);
    return args.align_corners ? scale * position : scale * (position + 0.5f) - 0.5f;
}

// The taps of output position `to` along a dimension of `size` inputs and `out_size` outputs.
template <int T>
FF_INLINE ResizeTaps<T> resize_taps(const ResizeArgs& args, float scale, int64_t to, int64_t size, int64_t out_size) {
    ResizeTaps<T> taps;
    if constexpr (T == 1) {
        const float position = static_cast<float>(to) + (args.mode == ResizeMode::nearest_exact ? 0.5f : 0);
        const int64_t index = static_cast<int64_t>(position * scale);
        taps.index[0] = index < size ? index : size - 1;
        taps.weight[0] = 1;
        return taps;
    }
    float from = resize_source(args, scale, to);
    if (T == 2 && from < 0) from = 0;
    if (T == 2 && size == out_size) from = static_cast<float>(to);
    int64_t index = static_cast<int64_t>(__builtin_floorf(from));
    if (index > size - 1) index = size - 1;
    float t = from - static_cast<float>(index);
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    if constexpr (T == 2) {
        taps = {{index, index < size - 1 ? index + 1 : index}, {1 - t, t}};
    } else if constexpr (T == 4) {
        constexpr float a = -0.75f;
        const float near[2] = {t, 1 - t};  // distances to the two inner taps; the outer ones are one further
        for (int i = 0; i < 2; ++i) {
            const float x = near[i], far = x + 1;
            taps.weight[1 + i] = ((a + 2) * x - (a + 3)) * x * x + 1;
            taps.weight[3 * i] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
        }
        for (int i = 0; i < 4; ++i) {
            const int64_t at = index - 1 + i;
            taps.index[i] = at < 0 ? 0 : at < size ? at : size - 1;
        }
    }
    return taps;
}

template <int T>
static void resize_mode(const ResizeArgs& args, Range rows) {
    const int64_t channels = args.out.channels;
    for (int64_t y = rows.begin; y < rows.end; ++y) {
        const ResizeTaps<T> down = resize_taps<T>(args, args.scale_h, y, args.x.height, args.out.height);
        const float* from[T];
        for (int i = 0; i < T; ++i) from[i] = args.x.at(down.index[i], 0);
        for (int64_t x = 0; x < args.out.width; ++x) {
            const ResizeTaps<T> across = resize_taps<T>(args, args.scale_w, x, args.x.width, args.out.width);
            float* out = args.out.at(y, x);
            for (int64_t c = 0; c < channels; c += kLanes) {
                const int64_t lanes = channels - c < kLanes ? channels - c : kLanes;
                vf sum = zero();
#pragma GCC unroll 4
                for (int i = 0; i < T; ++i) {
                    vf row = zero();
#pragma GCC unroll 4
                    for (int k = 0; k < T; ++k) {
                        const vf value = load_lanes(from[i] + across.index[k] * args.x.pixel + c, lanes);
                        row = T == 1 ? value : k ? fma(value, set1(across.weight[k]), row)
                                                 : mul(value, set1(across.weight[k]));
                    }
                    sum = T == 1 ? row : i ? fma(row, set1(down.weight[i]), sum) : mul(row, set1(down.weight[i]));
                }
                store_lanes(out + c, sum, lanes);
            }
        }
    }
}

static void resize(const ResizeArgs& args, Range rows) {
    switch (args.mode) {
        case ResizeMode::nearest:
        case ResizeMode::nearest_exact: return resize_mode<1>(args, rows);
        case ResizeMode::bilinear: return resize_mode<2>(args, rows);
        case ResizeMode::bicubic: return resize_mode<4>(args, rows);
    }
}

}  // namespace ff::FF_ISA
