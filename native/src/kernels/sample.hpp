// Rows, columns or pixels of a map as weighted sums of others: resampling with weights that the plan holds
// (antialiased resizing), and sampling at positions that another map holds (torch's grid_sample). Plain: rare.
#pragma once

#include "kernels.hpp"
#include "window.hpp"

namespace ff::FF_ISA {

// out += weight * x over n channels; the first one starts the sum.
FF_INLINE void add_weighted(float* out, const float* x, float weight, bool first, int64_t n) {
    const vf by = set1(weight);
    for (int64_t c = 0; c < n; c += kLanes) {
        const int64_t lanes = n - c < kLanes ? n - c : kLanes;
        const vf value = load_lanes(x + c, lanes);
        store_lanes(out + c, first ? mul(value, by) : fma(value, by, load_lanes(out + c, lanes)), lanes);
    }
}

FF_INLINE void set_zero(float* out, int64_t n) {
    for (int64_t c = 0; c < n; ++c) out[c] = 0;
}

// Taps of weight 0 are not read: what they would read may be NaN.
static void resample(const ResampleArgs& args, Range rows) {
    const int64_t n = args.out.channels;
    for (int64_t y = rows.begin; y < rows.end; ++y) {
        for (int64_t x = 0; x < args.out.width; ++x) {
            const int64_t to = args.axis ? x : y;
            float* out = args.out.at(y, x);
            bool first = true;
            for (int64_t i = 0; i < args.taps; ++i) {
                const float weight = args.weight[to * args.taps + i];
                if (weight == 0) continue;
                const int64_t from = args.index[to] + i;
                add_weighted(out, args.axis ? args.x.at(y, from) : args.x.at(from, x), weight, first, n);
                first = false;
            }
            if (first) set_zero(out, n);
        }
    }
}

// --- grid_sample ---

// A position in a dimension of `size`, from -1 .. 1. One that is no number, or further than any map, is far outside.
FF_INLINE float sample_position(const SampleArgs& args, float at, int64_t size) {
    const float n = static_cast<float>(size);
    const float position = args.align_corners ? (at + 1) / 2 * (n - 1) : ((at + 1) * n - 1) / 2;
    return position > -1e9f && position < 1e9f ? position : -1e9f;
}

FF_INLINE float sample_reflected(float at, float low, float span) {
    if (span <= 0) return 0;
    at = __builtin_fabsf(at - low);
    const float times = __builtin_floorf(at / span), rest = at - times * span;
    return (static_cast<int64_t>(times) % 2 ? span - rest : rest) + low;
}

// The position after the padding's rule; with zeros, it may lie outside.
FF_INLINE float sample_padded(const SampleArgs& args, float at, int64_t size) {
    const float last = static_cast<float>(size - 1);
    if (args.padding == SamplePadding::zeros) return at;
    if (args.padding == SamplePadding::reflection)
        at = args.align_corners ? sample_reflected(at, 0, last) : sample_reflected(at, -0.5f, last + 1);
    return at < 0 ? 0 : at > last ? last : at;
}

struct SampleTaps {
    int64_t index[4];  // -1: outside
    float weight[4];
    int count;
};

FF_INLINE int64_t sample_inside(float at, int64_t size) {
    return at >= 0 && at <= static_cast<float>(size - 1) ? static_cast<int64_t>(at) : -1;
}

FF_INLINE SampleTaps sample_taps(const SampleArgs& args, float at, int64_t size) {
    float from = sample_position(args, at, size);
    SampleTaps taps = {};
    if (args.mode == SampleMode::nearest) {
        from = __builtin_rintf(sample_padded(args, from, size));
        taps = {{sample_inside(from, size)}, {1}, 1};
    } else if (args.mode == SampleMode::bilinear) {
        from = sample_padded(args, from, size);
        const float low = __builtin_floorf(from), t = from - low;
        taps = {{sample_inside(low, size), sample_inside(low + 1, size)}, {1 - t, t}, 2};
    } else {
        constexpr float a = -0.75f;
        const float low = __builtin_floorf(from), t = from - low;
        const float near[2] = {t, 1 - t};
        taps.count = 4;
        for (int i = 0; i < 2; ++i) {
            const float x = near[i], far = x + 1;
            taps.weight[1 + i] = ((a + 2) * x - (a + 3)) * x * x + 1;
            taps.weight[3 * i] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
        }
        for (int i = 0; i < 4; ++i)
            taps.index[i] = sample_inside(sample_padded(args, low + static_cast<float>(i - 1), size), size);
    }
    return taps;
}

static void sample(const SampleArgs& args, Range rows) {
    const int64_t n = args.out.channels;
    for (int64_t y = rows.begin; y < rows.end; ++y) {
        for (int64_t x = 0; x < args.out.width; ++x) {
            const float* at = args.grid.at(y, x);
            const SampleTaps across = sample_taps(args, at[0], args.x.width);
            const SampleTaps down = sample_taps(args, at[1], args.x.height);
            float* out = args.out.at(y, x);
            bool first = true;
            for (int i = 0; i < down.count; ++i) {
                for (int k = 0; k < across.count; ++k) {
                    if (down.index[i] < 0 || across.index[k] < 0) continue;
                    add_weighted(out, args.x.at(down.index[i], across.index[k]), down.weight[i] * across.weight[k],
                                 first, n);
                    first = false;
                }
            }
            if (first) set_zero(out, n);
        }
    }
}

}  // namespace ff::FF_ISA
