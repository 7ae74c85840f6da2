// Depthwise convolution: every output channel is the filter of one input channel.
//
// The lanes of a vector are channels, so a tap is one multiply-add of a whole vector. A kernel loses time by loads,
// by sums that depend on each other, and at borders. A tile is R output rows x X output pixels of one vector of
// channels, with all of its sums in registers: each input vector of a row is loaded once and feeds every sum and tap
// that uses it. Tiles that touch the border test, for each input column, whether it is in the picture: columns and
// rows outside are left out, not multiplied by zero.
//
// 3x3, 5x5 and 7x7 at strides 1 and 2 are tiles with all sizes known to the compiler, for one output
// channel an input channel and for two; any other window is a tile whose sizes are read at run time.
#pragma once

#include "caches.hpp"
#include "kernels.hpp"
#include "math.hpp"
#include "window.hpp"

namespace ff::FF_ISA {

constexpr int kDepthwiseRows = kRegisters >= 32 ? 2 : 1;

// What the tiles of some output rows share.
struct DepthwiseJob {
    const float* in[16];   // [r * stride + ky]: the row that tap ky of output row r reads; nullptr if outside
    float* out[2];
    const float* residual[2];
    int64_t in_pixel, out_pixel, residual_pixel, width;
    const float* weight;   // [tap][multiplier][channels]
    const float* bias;     // [multiplier][channels] or nullptr
    const float* slope;    // of act prelu, [multiplier][channels]
    // floats from the weights of one tap to those of the next, and from one of the multiplier to the next
    int64_t tap_step, multiplier_step;
    Activation act;
};

// Keeps x in a register. The compiler would load it again for each use, as a memory operand, and loads are scarce.
FF_INLINE void in_register(vf& x) {
#if defined(__x86_64__) || defined(__i386__)
    if constexpr (kRegisters == 32) asm("" : "+v"(x));
    else asm("" : "+x"(x));
#elif defined(__aarch64__)
    asm("" : "+w"(x));
#else
    static_cast<void>(x);
#endif
}

FF_INLINE bool in_registers(Act kind) {
    switch (kind) {
        case Act::none: case Act::relu: case Act::relu6: case Act::clamp: case Act::hardswish:
        case Act::hardsigmoid: case Act::leaky_relu: case Act::prelu: return true;
        default: return false;
    }
}

template <Act A, int N>
FF_INLINE void activate_all(vf* x, const Activation& act) {
    const vf a = set1(act.a), b = set1(act.b);
#pragma GCC unroll 32
    for (int i = 0; i < N; ++i) x[i] = activate<A>(x[i], a, b);
}

template <int N>
FF_INLINE void activate_all(vf* x, const Activation& act) {
    switch (act.kind) {
        case Act::relu: return activate_all<Act::relu, N>(x, act);
        case Act::clamp: return activate_all<Act::clamp, N>(x, act);
        case Act::hardswish: return activate_all<Act::hardswish, N>(x, act);
        case Act::hardsigmoid: return activate_all<Act::hardsigmoid, N>(x, act);
        case Act::leaky_relu: return activate_all<Act::leaky_relu, N>(x, act);
        default: return;
    }
}

template <int M, int R, int X, bool kCareful>
FF_INLINE void depthwise_store(const DepthwiseJob& job, vf (&sum)[R][X][M], int64_t x, int64_t count, int64_t c,
                               int64_t lanes) {
    if (job.slope) {
        for (int m = 0; m < M; ++m) {
            const vf slope = load(job.slope + m * job.multiplier_step + c);
#pragma GCC unroll 2
            for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
                for (int i = 0; i < X; ++i) sum[r][i][m] = slope_down(sum[r][i][m], slope);
            }
        }
    } else {
        activate_all<R * X * M>(&sum[0][0][0], job.act);
    }
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) {
        float* p = job.out[r] + x * job.out_pixel + c * M;
        const float* from = job.residual[r];
        if (from) from += x * job.residual_pixel + c * M;
#pragma GCC unroll 8
        for (int i = 0; i < X; ++i, p += job.out_pixel) {
            if (kCareful && i >= count) break;
            if constexpr (M == 2) interleave(sum[r][i][0], sum[r][i][M - 1], sum[r][i][0], sum[r][i][M - 1]);
#pragma GCC unroll 2
            for (int m = 0; m < M; ++m) {
                const int64_t n = lanes * M - m * kLanes;  // of the lanes asked for, those not yet stored
                if constexpr (kCareful) {
                    if (n <= 0) break;
                    const int64_t some = n < kLanes ? n : kLanes;
                    if (from) sum[r][i][m] = add(sum[r][i][m], load_lanes(from + m * kLanes, some));
                    store_lanes(p + m * kLanes, sum[r][i][m], some);
                } else {
                    if (from) sum[r][i][m] = add(sum[r][i][m], load(from + m * kLanes));
                    store(p + m * kLanes, sum[r][i][m]);
                }
            }
            if (from) from += job.residual_pixel;
        }
    }
}

// One vector of channels of R x X output pixels from input column `column` on. Careful: some columns
// lie outside the picture, or fewer than X pixels or fewer than kLanes channels are asked for.
template <int K, int S, int M, int R, int X, bool kEdge, bool kTail>
FF_INLINE void depthwise_vector(const DepthwiseJob& job, int64_t x, int64_t column, int64_t count, int64_t c,
                                int64_t lanes) {
    vf sum[R][X][M];
    for (int m = 0; m < M; ++m) {
        const vf bias = job.bias ? load(job.bias + m * job.multiplier_step + c) : zero();
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
            for (int i = 0; i < X; ++i) sum[r][i][m] = bias;
        }
    }
    const float* taps = job.weight + c;
    const int64_t offset = column * job.in_pixel + c, pixel = job.in_pixel, width = job.width;
    // 3x3: its nine weights fit beside the sums, and each row is read once for all output rows that want
    // it. Larger windows take the rows of one ky after the other.
    constexpr int kAtOnce = K == 3 && M == 1 && kRegisters >= 32 ? K : 1;
#pragma GCC unroll 1
    for (int first = 0; first < K; first += kAtOnce, taps += kAtOnce * K * job.tap_step) {
        vf weight[kAtOnce][K][M];
#pragma GCC unroll 16
        for (int tap = 0; tap < kAtOnce * K; ++tap) {
#pragma GCC unroll 2
            for (int m = 0; m < M; ++m) weight[tap / K][tap % K][m] = load(taps + tap * job.tap_step + m * job.multiplier_step);
        }
#pragma GCC unroll 8
        for (int y = 0; y < (R - 1) * S + kAtOnce; ++y) {
            if (kAtOnce == 1 && y % S) continue;
            const float* row = job.in[first + y];
            if (!row) continue;
            row += offset;
#pragma GCC unroll 32
            for (int j = 0; j < (X - 1) * S + K; ++j, row += pixel) {
                if (kEdge && __builtin_expect(static_cast<uint64_t>(column + j) >= static_cast<uint64_t>(width), 0))
                    continue;
                vf value = kTail ? load_n(row, lanes) : load(row);
                in_register(value);
#pragma GCC unroll 4
                for (int r = 0; r < R; ++r) {
                    const int ky = y - r * S;
                    if (ky < 0 || ky >= kAtOnce) continue;
#pragma GCC unroll 8
                    for (int i = 0; i < X; ++i) {
                        const int kx = j - i * S;
                        if (kx < 0 || kx >= K) continue;
#pragma GCC unroll 2
                        for (int m = 0; m < M; ++m) sum[r][i][m] = fma(value, weight[ky][kx][m], sum[r][i][m]);
                    }
                }
            }
        }
    }
    depthwise_store<M, R, X, kEdge || kTail>(job, sum, x, count, c, lanes);
}

template <int K, int S, int M, int R, int X>
static void depthwise_tile(const DepthwiseJob& job, int64_t x, int64_t column, int64_t count, Range channels) {
    int64_t c = channels.begin;
    const bool inside = column >= 0 && column + (X - 1) * S + K <= job.width && count == X;
    if (inside) {
        for (; c + kLanes <= channels.end; c += kLanes)
            depthwise_vector<K, S, M, R, X, false, false>(job, x, column, count, c, kLanes);
    }
    for (; c + kLanes <= channels.end; c += kLanes)
        depthwise_vector<K, S, M, R, X, true, false>(job, x, column, count, c, kLanes);
    if (c < channels.end) depthwise_vector<K, S, M, R, X, true, true>(job, x, column, count, c, channels.end - c);
}

static void slope_down(float* x, const float* slope, int64_t n) {
    for (int64_t c = 0; c < n; c += kLanes) {
        const int64_t lanes = n - c < kLanes ? n - c : kLanes;
        store_lanes(x + c, slope_down(load_lanes(x + c, lanes), load_lanes(slope + c, lanes)), lanes);
    }
}

// What was not done in registers: an activation that is a sweep, then the residual, then `post`.
static void depthwise_after(const DepthwiseArgs& args, int64_t y, Range channels, bool activated) {
    const bool whole = !activated && (args.act.kind != Act::none || args.residual.data);
    if (!whole && args.post.kind == Act::none) return;
    const int64_t n = channels.end - channels.begin;
    const bool dense = args.out.pixel == n;
    for (int64_t x = 0; x < (dense ? 1 : args.out.width); ++x) {
        float* p = args.out.at(y, x) + channels.begin;
        const int64_t pixels = dense ? args.out.width : 1;
        if (whole) {
            if (args.act.kind == Act::prelu) {
                for (int64_t i = 0; i < pixels; ++i) slope_down(p + i * n, args.slope + channels.begin, n);
            } else {
                sweep(args.act, p, n * pixels);
            }
            if (args.residual.data) {
                for (int64_t i = 0; i < pixels; ++i) {
                    const float* from = args.residual.at(y, x + i) + channels.begin;
                    for (int64_t c = 0; c < n; c += kLanes) {
                        float* to = p + i * n + c;
                        const int64_t lanes = n - c < kLanes ? n - c : kLanes;
                        store_lanes(to, add(load_lanes(to, lanes), load_lanes(from + c, lanes)), lanes);
                    }
                }
            }
        }
        sweep(args.post, p, n * pixels);
    }
}

template <int K, int S, int M, int R, int X>
static void depthwise_row(const DepthwiseArgs& args, DepthwiseJob& job, int64_t y, Range channels) {
    for (int r = 0; r < R; ++r) {
        for (int ky = 0; ky < K; ++ky) {
            const int64_t from = (y + r) * S - args.window.pad_top + ky;
            job.in[r * S + ky] = from < 0 || from >= args.x.height ? nullptr : args.x.at(from, 0);
        }
        job.out[r] = args.out.at(y + r, 0);
        job.residual[r] = args.residual.data && in_registers(args.act.kind) ? args.residual.at(y + r, 0) : nullptr;
    }
    for (int64_t x = 0; x < args.out.width; x += X) {
        const int64_t left = args.out.width - x;
        depthwise_tile<K, S, M, R, X>(job, x, x * S - args.window.pad_left, left < X ? left : X, channels);
    }
    for (int r = 0; r < R; ++r) depthwise_after(args, y + r, {channels.begin * M, channels.end * M},
                                                  in_registers(args.act.kind));
}

template <int K, int S, int M, int X>
static void depthwise_rows(const DepthwiseArgs& args, DepthwiseJob& job, Range rows, Range channels) {
    constexpr int kRows = M == 1 ? kDepthwiseRows : 1;
    // With channels innermost, memory is read in order.
    const int64_t vectors = ceil_div(channels.end - channels.begin, kLanes);
    const int64_t group = ceil_div(vectors, ceil_div(vectors, kDepthwiseVectors)) * kLanes;
    for (int64_t c = channels.begin; c < channels.end; c += group) {
        const Range some = {c, c + group < channels.end ? c + group : channels.end};
        int64_t y = rows.begin;
        for (; y + kRows <= rows.end; y += kRows) depthwise_row<K, S, M, kRows, X>(args, job, y, some);
        for (; y < rows.end; ++y) depthwise_row<K, S, M, 1, X>(args, job, y, some);
    }
}

template <int K, int S, int M>
static void depthwise_width(const DepthwiseArgs& args, DepthwiseJob& job, Range rows, Range channels) {
    const int64_t width = args.out.width;
    if constexpr (K == 3 && M == 1 && kDepthwiseRows > 1) {
        const int64_t in_rows = args.x.ring ? args.x.ring : args.x.height;
        const int64_t out_rows = args.out.ring ? args.out.ring : args.out.height;
        if ((in_rows * args.x.row + out_rows * args.out.row) * 4 > kDepthwiseMaps)
            return depthwise_rows<K, S, M, 4>(args, job, rows, channels);
    }
    if (ceil_div(width, 7) * 7 < ceil_div(width, 8) * 8) return depthwise_rows<K, S, M, 7>(args, job, rows, channels);
    depthwise_rows<K, S, M, 8>(args, job, rows, channels);
}

template <int M>
static bool depthwise_known(const DepthwiseArgs& args, DepthwiseJob& job, Range rows, Range channels) {
    const Window& w = args.window;
    if (w.kernel_h != w.kernel_w || w.stride_h != w.stride_w || w.dilation_h != 1 || w.dilation_w != 1) return false;
    switch (w.kernel_h * 10 + w.stride_h) {
        case 32: depthwise_width<3, 2, M>(args, job, rows, channels); return true;
        case 72: depthwise_width<7, 2, M>(args, job, rows, channels); return true;
        default: break;
    }
    if constexpr (M == 1) {
        switch (w.kernel_h * 10 + w.stride_h) {
            case 31: depthwise_width<3, 1, M>(args, job, rows, channels); return true;
            case 51: depthwise_width<5, 1, M>(args, job, rows, channels); return true;
            case 52: depthwise_width<5, 2, M>(args, job, rows, channels); return true;
            case 71: depthwise_width<7, 1, M>(args, job, rows, channels); return true;
            default: break;
        }
    }
    return false;
}

// The sums of X output pixels of one vector of channels, of any window: its taps [ky) x [kx) lie in
// the picture for all of the pixels.
template <int X>
FF_INLINE void depthwise_any_tile(const DepthwiseArgs& args, const float* const* rows, Range ky, Range kx,
                                  int64_t column, const float* weight, int64_t tap, int64_t lanes, vf (&sum)[X]) {
    const int64_t step = args.window.stride_w * args.x.pixel;
    for (int64_t y = ky.begin; y < ky.end; ++y) {
        for (int64_t x = kx.begin; x < kx.end; ++x) {
            const float* p = rows[y] + (column + x * args.window.dilation_w) * args.x.pixel;
            const vf one = load(weight + (y * args.window.kernel_w + x) * tap);
#pragma GCC unroll 8
            for (int i = 0; i < X; ++i) sum[i] = fma(load_lanes(p + i * step, lanes), one, sum[i]);
        }
    }
}

// Bare sums of the output channels multiplier * c + m, those of them in `wanted`.
template <int X>
FF_INLINE void depthwise_any_store(const DepthwiseArgs& args, float* p, int64_t c, int64_t m, int64_t lanes,
                                   Range wanted, const vf (&sum)[X]) {
    for (int i = 0; i < X; ++i, p += args.out.pixel) {
        if (args.multiplier == 1) {
            store_lanes(p + c, sum[i], lanes);
            continue;
        }
        float lane[kLanes];
        store(lane, sum[i]);
        for (int64_t k = 0; k < lanes; ++k) {
            const int64_t n = (c + k) * args.multiplier + m;
            if (n >= wanted.begin && n < wanted.end) p[n] = lane[k];
        }
    }
}

static void depthwise_any(const DepthwiseArgs& args, const DepthwiseJob& job, const float** in, Range rows,
                          Range wanted) {
    constexpr int kPixels = 8;
    const Window& w = args.window;
    const Range channels = {wanted.begin / args.multiplier, ceil_div(wanted.end, args.multiplier)};
    for (int64_t y = rows.begin; y < rows.end; ++y) {
        const int64_t top = y * w.stride_h - w.pad_top;
        const Range ky = taps_inside(top, w.dilation_h, w.kernel_h, args.x.height);
        for (int64_t k = ky.begin; k < ky.end; ++k) in[k] = args.x.at(top + k * w.dilation_h, 0);
        for (int64_t c = channels.begin; c < channels.end; c += kLanes) {
            const int64_t lanes = channels.end - c < kLanes ? channels.end - c : kLanes;
            for (int64_t k = ky.begin; k < ky.end; ++k) in[k] += c;
            for (int64_t x = 0; x < args.out.width;) {
                const int64_t column = x * w.stride_w - w.pad_left;
                const int64_t last = column + (kPixels - 1) * w.stride_w + (w.kernel_w - 1) * w.dilation_w;
                const bool inside = column >= 0 && last < args.x.width && x + kPixels <= args.out.width;
                for (int64_t m = 0; m < args.multiplier; ++m) {
                    const float* weight = job.weight + m * job.multiplier_step + c;
                    const vf bias = job.bias ? load(job.bias + m * job.multiplier_step + c) : zero();
                    float* p = args.out.at(y, x);
                    if (inside) {
                        vf sum[kPixels];
                        for (vf& one : sum) one = bias;
                        const Range kx = {0, w.kernel_w};
                        if (lanes == kLanes)
                            depthwise_any_tile(args, in, ky, kx, column, weight, job.tap_step, kLanes, sum);
                        else
                            depthwise_any_tile(args, in, ky, kx, column, weight, job.tap_step, lanes, sum);
                        depthwise_any_store(args, p, c, m, lanes, wanted, sum);
                    } else {
                        vf sum[1] = {bias};
                        const Range kx = taps_inside(column, w.dilation_w, w.kernel_w, args.x.width);
                        depthwise_any_tile(args, in, ky, kx, column, weight, job.tap_step, lanes, sum);
                        depthwise_any_store(args, p, c, m, lanes, wanted, sum);
                    }
                }
                x += inside ? kPixels : 1;
            }
            for (int64_t k = ky.begin; k < ky.end; ++k) in[k] -= c;
        }
        depthwise_after(args, y, wanted, false);
    }
}

FF_INLINE int64_t padded(int64_t channels) { return (channels + kPanel - 1) / kPanel * kPanel; }

// Row pointers for any window. If output channels share an input channel, also their weights, bias and slopes,
// taken apart: [tap][multiplier][channels].
static size_t depthwise_scratch(const DepthwiseArgs& args) {
    const Window& w = args.window;
    const int64_t pointers = padded(w.kernel_h) * static_cast<int64_t>(sizeof(float*));
    if (args.multiplier == 1) return static_cast<size_t>(pointers);
    const int64_t taps = static_cast<int64_t>(w.kernel_h) * w.kernel_w + 2;
    return static_cast<size_t>(pointers + taps * args.multiplier * padded(args.x.channels) * 4);
}

static void depthwise(const DepthwiseArgs& args, Range rows, Range blocks, void* scratch) {
    const Window& w = args.window;
    const int64_t taps = static_cast<int64_t>(w.kernel_h) * w.kernel_w, multiplier = args.multiplier;
    const int64_t outputs = args.out.channels, end = blocks.end * kPanel;
    const Range wanted = {blocks.begin * kPanel, end < outputs ? end : outputs};
    if (wanted.begin >= wanted.end) return;
    const float** pointers = static_cast<const float**>(scratch);
    DepthwiseJob job = {};
    job.in_pixel = args.x.pixel;
    job.out_pixel = args.out.pixel;
    job.residual_pixel = args.residual.pixel;
    job.width = args.x.width;
    job.act = args.act;
    if (args.act.kind == Act::relu6) job.act = {Act::clamp, 0, 6};
    job.weight = args.weight;
    job.bias = args.bias;
    job.slope = args.slope;
    job.tap_step = padded(outputs);
    Range channels = wanted;
    if (multiplier > 1) {
        channels = {wanted.begin / multiplier, ceil_div(wanted.end, multiplier)};
        job.multiplier_step = padded(args.x.channels);
        job.tap_step = multiplier * job.multiplier_step;
        float* apart = reinterpret_cast<float*>(pointers + padded(w.kernel_h));
        job.weight = apart;
        job.bias = args.bias ? apart + taps * job.tap_step : nullptr;
        job.slope = args.slope ? apart + (taps + 1) * job.tap_step : nullptr;
        for (int64_t t = 0; t < taps + 2; ++t) {
            const float* from = t < taps ? args.weight + t * padded(outputs) : t == taps ? args.bias : args.slope;
            if (!from) continue;
            for (int64_t m = 0; m < multiplier; ++m)
                for (int64_t c = channels.begin; c < channels.end; ++c)
                    apart[t * job.tap_step + m * job.multiplier_step + c] = from[c * multiplier + m];
        }
    }
    if (multiplier == 1 && depthwise_known<1>(args, job, rows, channels)) return;
    if (multiplier == 2 && depthwise_known<2>(args, job, rows, channels)) return;
    depthwise_any(args, job, pointers, rows, wanted);
}

}  // namespace ff::FF_ISA
