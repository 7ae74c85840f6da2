// 3 x 3 convolutions of stride 1 with fewer multiplications.
//
// Winograd 1980, "Arithmetic Complexity of Computations"; for convolutions Lavin and Gray 2015, "Fast Algorithms
// for Convolutional Neural Networks", https://arxiv.org/abs/1509.09308. A tile of m x m outputs is made from a
// patch of n x n inputs, n = m + 2:
//
//   Y = A^T (sum over channels of (G g G^T) . (B^T d B)) A      . elementwise, g the window, d the patch
//
// Each of the n x n positions of the patch is thus a product of tiles x channels with channels x outputs: 36
// multiplications where direct sums take 144 (m = 4), 16 for 36 (m = 2). G g G^T comes with the plan. The
// polynomials are taken at 0, +-sqrt(1/2), +-sqrt(2) and infinity, whose products stay small (m = 4), and at 0,
// +-1 and infinity (m = 2).
//
// Tiles start at multiples of m of the whole picture, whatever the part: a result does not depend on cuts between
// them. Infinity and NaN would spread over a tile: a tile with a sum that is not finite is made again directly.
#pragma once

#include "conv.hpp"

namespace ff::FF_ISA {

constexpr int64_t kMaxTiles = 64;  // in a block; no comparison with larger blocks is recorded
constexpr int64_t kMinTiles = 14;  // in a block, however many channels: one tall register tile of AVX-512

struct WinogradShape {
    int64_t channels;  // of a transformed patch: those of x, rounded up to whole panels
    int64_t across;    // tiles in a row of them
    int64_t tiles;     // in a block, at most
    // Floats from position to position. No powers of two: 36 stores would share the few lines of a cache set.
    int64_t patch_step, product_step;
    int64_t patches, products, frame;  // floats of each part of the scratch
};

template <int m>
static WinogradShape winograd_shape(const ConvArgs& args) {
    constexpr int64_t positions = (m + 2) * (m + 2), group = kMaxPanels * kPanel;
    WinogradShape s;
    s.channels = ceil_div(args.x.channels, kPanel) * kPanel;
    s.across = ceil_div(args.out.width, m);
    const int64_t all = s.across * ceil_div(args.out.height, m);
    const int64_t fit = kWinogradBlock / (4 * positions * (s.channels + group));
    s.tiles = smaller(all, smaller(kMaxTiles, larger(fit, kMinTiles)));
    s.tiles = ceil_div(all, ceil_div(all, s.tiles));  // blocks of equal size
    s.patch_step = s.tiles * s.channels + kPanel;
    s.product_step = s.tiles * group + kPanel;
    s.patches = positions * s.patch_step;
    s.products = positions * s.product_step;
    s.frame = positions * s.channels;
    return s;
}

// B^T of n numbers that lie `step` apart.
template <int m>
FF_INLINE void transform_in(vf* d, int step) {
    if constexpr (m == 2) {
        const vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
        d[0] = sub(d0, d2);
        d[step] = add(d1, d2);
        d[2 * step] = sub(d2, d1);
        d[3 * step] = sub(d3, d1);
    } else {
        const vf root = set1(1.41421356f), half_root = set1(0.70710678f), mid = set1(2.5f);
        const vf d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
        const vf even = fnma(set1(2), d2, d4), odd = fnma(root, d1, mul(half_root, d3));
        const vf even2 = fnma(set1(0.5f), d2, d4), odd2 = fnma(half_root, d1, mul(root, d3));
        d[0] = add(fnma(mid, d2, d0), d4);
        d[step] = add(even, odd);
        d[2 * step] = sub(even, odd);
        d[3 * step] = add(even2, odd2);
        d[4 * step] = sub(even2, odd2);
        d[5 * step] = add(fnma(mid, d3, d1), d5);
    }
}

// A^T of n numbers that lie `step` apart: the first m of them become the result.
template <int m>
FF_INLINE void transform_out(vf* d, int step) {
    const vf sum = add(d[step], d[2 * step]), difference = sub(d[step], d[2 * step]);
    if constexpr (m == 2) {
        d[0] = add(d[0], sum);
        d[step] = add(difference, d[3 * step]);
    } else {
        const vf sum2 = add(d[3 * step], d[4 * step]), difference2 = sub(d[3 * step], d[4 * step]);
        d[0] = add(d[0], add(sum, sum2));
        d[step] = fma(set1(0.70710678f), difference, mul(set1(1.41421356f), difference2));
        d[2 * step] = fma(set1(0.5f), sum, mul(set1(2), sum2));
        d[3 * step] = fma(set1(0.35355339f), difference, fma(set1(2.82842712f), difference2, d[5 * step]));
    }
}

// A patch whose rows begin at `rows`, transformed: to[position * step + channel].
template <int m>
static void transform_patch(const float* const* rows, int64_t pixel, int64_t channels, float* to, int64_t step) {
    constexpr int n = m + 2;
    for (int64_t c = 0; c < channels; c += kLanes) {
        vf d[n * n];
        if (c + kLanes <= channels) {
            FF_UNROLL for (int i = 0; i < n; ++i)
                FF_UNROLL for (int j = 0; j < n; ++j) d[i * n + j] = load(rows[i] + j * pixel + c);
        } else {
            FF_UNROLL for (int i = 0; i < n; ++i)
                FF_UNROLL for (int j = 0; j < n; ++j) d[i * n + j] = load_n(rows[i] + j * pixel + c, channels - c);
        }
        FF_UNROLL for (int j = 0; j < n; ++j) transform_in<m>(d + j, n);
        FF_UNROLL for (int i = 0; i < n; ++i) {
            transform_in<m>(d + i * n, 1);
            FF_UNROLL for (int j = 0; j < n; ++j) store(to + (i * n + j) * step + c, d[i * n + j]);
        }
    }
}

// One convolution on one range of its pixels and panels.
template <int m>
class Winograd {
public:
    Winograd(const ConvArgs& args, Range pixels, Range panels, void* scratch)
        : args_(args), s_(winograd_shape<m>(args)), epilogue_(epilogue_of(args.act, args.post, args.slope, args.residual.data)),
          pixels_(pixels), panels_(panels), patches_(static_cast<float*>(scratch)),
          products_(patches_ + s_.patches), frame_(products_ + s_.products), direct_scratch_(frame_ + s_.frame) {}

    void run() {
        const int64_t width = args_.out.width;
        const int64_t first = pixels_.begin / width, last = (pixels_.end - 1) / width;
        // Other rows of a ring may hold anything.
        rows_ = {larger(0, first - args_.window.pad_top),
                 smaller(args_.x.height, last - args_.window.pad_top + 3)};
        const int64_t stop = (last / m + 1) * s_.across;
        for (Range tiles{first / m * s_.across, 0}; tiles.begin < stop; tiles.begin = tiles.end) {
            tiles.end = smaller(stop, tiles.begin + s_.tiles);
            block_of(tiles, tiles.end == stop);
        }
    }

private:
    static constexpr int n = m + 2, positions = n * n;

    // The weights of the panels that pass together, beginning with `panel`.
    Ahead group(int64_t position, int64_t panel) const {
        const int64_t step = args_.x.channels * kPanel;
        return {args_.transformed + (position * ceil_div(args_.out.channels, kPanel) + panel) * step,
                panels_next(panels_.end - panel) * step};
    }

    void block_of(Range tiles, bool last) {
        for (int64_t i = tiles.begin; i < tiles.end; ++i) read_patch(i, patches_ + (i - tiles.begin) * s_.channels);
        for (int64_t panel = panels_.begin; panel < panels_.end;) {
            const int wide = panels_next(panels_.end - panel);
            multiply(tiles.end - tiles.begin, panel, wide, last);
            write_tiles(tiles, panel, wide);
            panel += wide;
        }
    }

    void read_patch(int64_t tile, float* to) const {
        const ConstMap& x = args_.x;
        const int64_t top = tile / s_.across * m - args_.window.pad_top;
        const int64_t left = tile % s_.across * m - args_.window.pad_left;
        const bool inside = top >= rows_.begin && top + n <= rows_.end && left >= 0 && left + n <= x.width;
        const float* rows[n];
        for (int i = 0; i < n; ++i) rows[i] = inside ? x.at(top + i, left) : framed_row(top + i, left, i);
        transform_patch<m>(rows, inside ? x.pixel : s_.channels, x.channels, to, s_.patch_step);
    }

    // Row i of a patch that reaches beyond the picture, with zeros there.
    const float* framed_row(int64_t y, int64_t left, int i) const {
        float* const row = frame_ + i * n * s_.channels;
        for (int j = 0; j < n; ++j) {
            float* const to = row + j * s_.channels;
            if (y >= rows_.begin && y < rows_.end && left + j >= 0 && left + j < args_.x.width)
                copy_floats(to, args_.x.at(y, left + j), args_.x.channels);
            else zero_floats(to, args_.x.channels);
        }
        return row;
    }

    // All positions of the tiles' patches times those of `wide` panels.
    void multiply(int64_t tiles, int64_t panel, int wide, bool last) const {
        static constexpr int64_t kOneSegment[1] = {0};
        Tile t{};
        t.a_stride = s_.channels;
        t.segments = kOneSegment;
        t.segment_count = 1;
        t.k = args_.x.channels;
        t.panel_stride = t.k * kPanel;
        t.c_stride = wide * kPanel;
        t.last = kPanel;
        const bool final = panel + wide == panels_.end;
        const Ahead after = final && last ? Ahead{args_.ahead, args_.ahead_floats}
                                          : group(0, final ? panels_.begin : panel + wide);
        for (int position = 0; position < positions; ++position) {
            const Run run{patches_ + position * s_.patch_step, products_ + position * s_.product_step, nullptr, tiles};
            t.b = group(position, panel).data;
            multiply_runs(t, &run, 1, wide, position + 1 < positions ? group(position + 1, panel) : after);
        }
    }

    void write_tiles(Range tiles, int64_t panel, int wide) const {
        bool finite[kMaxPanels][kMaxTiles];
        for (int p = 0; p < wide; ++p)
            for (int64_t i = 0; i < tiles.end - tiles.begin; ++i)
                finite[p][i] = write_tile(tiles.begin + i, panel + p, products_ + (i * wide + p) * kPanel);
        if (unfinished(epilogue_)) {
            const int64_t output = panel * kPanel, outputs = smaller(args_.out.channels - output, wide * kPanel);
            each_stretch(tiles, [&](Range pixels) {
                const int64_t y = pixels.begin / args_.out.width, x = pixels.begin % args_.out.width;
                finish(epilogue_, args_.out.at(y, x) + output, args_.out.pixel,
                       args_.residual.data ? args_.residual.at(y, x) + output : nullptr, args_.residual.pixel,
                       pixels.end - pixels.begin, outputs);
            });
        }
        for (int p = 0; p < wide; ++p) {
            for (Range run = tiles; run.begin < tiles.end; run.begin = run.end) {
                const bool done = finite[p][run.begin - tiles.begin];
                run.end = run.begin + 1;
                while (run.end < tiles.end && finite[p][run.end - tiles.begin] == done) ++run.end;
                if (done) continue;
                each_stretch(run, [&](Range pixels) {
                    conv_direct(args_, pixels, {panel + p, panel + p + 1}, direct_scratch_);
                });
            }
        }
    }

    // Writes the outputs of a tile from its products. Returns whether all its sums are finite.
    bool write_tile(int64_t tile, int64_t panel, const float* products) const {
        const int64_t width = args_.out.width, y0 = tile / s_.across * m, x0 = tile % s_.across * m;
        const int64_t output = panel * kPanel, last = smaller(args_.out.channels - output, kPanel);
        float* out[m];
        const float* residual[m];
        bool inside[m * m];
        for (int i = 0; i < m; ++i) {
            const bool exists = y0 + i < args_.out.height;
            out[i] = exists ? args_.out.at(y0 + i, x0) + output : nullptr;
            residual[i] = exists && epilogue_.residual_inside ? args_.residual.at(y0 + i, x0) + output : nullptr;
            for (int j = 0; j < m; ++j) {
                const int64_t pixel = (y0 + i) * width + x0 + j;
                inside[i * m + j] = x0 + j < width && pixel >= pixels_.begin && pixel < pixels_.end;
            }
        }
        const float* const slope = epilogue_.slope(panel);
        vf finite = zero();  // each sum times 0: NaN if a sum is not finite
        for (int v = 0; v < kVectors; ++v) {
            const int64_t lanes = lanes_left(last, v);
            if (lanes == 0) break;
            vf d[positions];
            FF_UNROLL for (int i = 0; i < positions; ++i) d[i] = load(products + i * s_.product_step + v * kLanes);
            FF_UNROLL for (int j = 0; j < n; ++j) transform_out<m>(d + j, n);
            FF_UNROLL for (int i = 0; i < m; ++i) transform_out<m>(d + i * n, 1);
            const vf bias = args_.bias ? load(args_.bias + output + v * kLanes) : zero();
            FF_UNROLL for (int i = 0; i < m; ++i) {
                FF_UNROLL for (int j = 0; j < m; ++j) {
                    if (!inside[i * m + j]) continue;
                    vf y = add(d[i * n + j], bias);
                    finite = fma(y, zero(), finite);
                    if (epilogue_.act.active) y = clamp(y, epilogue_.act);
                    if (slope) y = slope_down(y, load(slope + v * kLanes));
                    if (residual[i])
                        y = add(y, load_n(residual[i] + j * args_.residual.pixel + v * kLanes, lanes));
                    if (epilogue_.post.active) y = clamp(y, epilogue_.post);
                    store_n(out[i] + j * args_.out.pixel + v * kLanes, y, lanes);
                }
            }
        }
        return sum(finite) == 0;
    }

    // Calls f(pixels) for each stretch of a row of the output that these tiles make.
    template <class F>
    void each_stretch(Range tiles, F f) const {
        const int64_t width = args_.out.width;
        while (tiles.begin < tiles.end) {
            const int64_t row = tiles.begin / s_.across, first = tiles.begin % s_.across;
            const int64_t stop = smaller(tiles.end, (row + 1) * s_.across);
            for (int64_t y = row * m; y < smaller(args_.out.height, (row + 1) * m); ++y) {
                const Range pixels = {larger(pixels_.begin, y * width + first * m),
                                      smaller(pixels_.end, y * width + smaller(width, (stop - row * s_.across) * m))};
                if (pixels.begin < pixels.end) f(pixels);
            }
            tiles.begin = stop;
        }
    }

    const ConvArgs& args_;
    const WinogradShape s_;
    const Epilogue epilogue_;
    const Range pixels_, panels_;
    float *const patches_, *const products_, *const frame_, *const direct_scratch_;
    Range rows_;  // of x that are read
};

template <int m>
static size_t winograd_scratch(const ConvArgs& args) {
    const WinogradShape s = winograd_shape<m>(args);
    return 4 * static_cast<size_t>(s.patches + s.products + s.frame) + conv_direct_scratch(args);
}

static size_t conv_scratch(const ConvArgs& args) {
    return args.winograd == 4   ? winograd_scratch<4>(args)
           : args.winograd == 2 ? winograd_scratch<2>(args)
                                : conv_direct_scratch(args);
}

static void conv(const ConvArgs& args, Range pixels, Range panels, void* scratch) {
    if (args.winograd == 4) Winograd<4>(args, pixels, panels, scratch).run();
    else if (args.winograd == 2) Winograd<2>(args, pixels, panels, scratch).run();
    else conv_direct(args, pixels, panels, scratch);
}

}  // namespace ff::FF_ISA
