// Products of two maps (attention). B is packed into panels first; A is copied if its rows are not dense.
#pragma once

#include "caches.hpp"
#include "conv.hpp"
#include "gemm.hpp"
#include "kernels.hpp"

namespace ff::FF_ISA {

struct MatmulShape {
    int64_t rows, k, columns, panels;
    bool copy_a, scatter;
};

static MatmulShape matmul_shape(const MatmulArgs& args) {
    MatmulShape s;
    const int r = args.a.rank;
    s.rows = args.a.shape[r - 2];
    s.k = args.a.shape[r - 1];
    s.columns = args.b.shape[args.b.rank - 1];
    s.panels = ceil_div(s.columns, kPanel);
    s.copy_a = args.a.stride[r - 1] != 1;
    s.scatter = args.out.stride[args.out.rank - 1] != 1 && s.columns > 1;
    return s;
}

static size_t matmul_scratch(const MatmulArgs& args) {
    const MatmulShape s = matmul_shape(args);
    int64_t floats = s.panels * kPanel * s.k;
    if (s.copy_a) floats += ceil_div(kMatmulRows * s.k, kPanel) * kPanel;
    if (s.scatter) floats += kMatmulRows * s.panels * kPanel;
    return static_cast<size_t>(floats * 4 + 64);
}

#ifdef FF_SHUFFLES

// `columns` columns of B, each a stretch of K floats, times factor: a panel.
static void pack_columns(const float* from, int64_t n_stride, int64_t columns, int64_t depth, vf factor, float* to) {
    for (int v = 0; v < kVectors; ++v, from += kLanes * n_stride, to += kLanes) {
        const int64_t n = lanes_left(columns, v);
        for (int64_t k = 0; k < depth; k += kLanes) {
            const int64_t some = smaller(kLanes, depth - k);
            vf block[kLanes];
            for (int j = 0; j < kLanes; ++j)
                block[j] = j < n ? mul(load_lanes(from + j * n_stride + k, some), factor) : zero();
            transpose(block);
            for (int i = 0; i < kLanes; ++i)
                if (i < some) store(to + (k + i) * kPanel, block[i]);
        }
    }
}

#endif

// B (K x N, any strides), times alpha, into panels; columns beyond N are zeros.
static void pack_panels(const float* b, int64_t k_stride, int64_t n_stride, const MatmulShape& s, float alpha, float* to) {
    const vf factor = set1(alpha);
    for (int64_t p = 0; p < s.panels; ++p) {
        const int64_t n = smaller(kPanel, s.columns - p * kPanel);
        const float* from = b + p * kPanel * n_stride;
        if (n_stride == 1) {
            for (int64_t k = 0; k < s.k; ++k, to += kPanel)
                for (int v = 0; v < kVectors; ++v)
                    store(to + v * kLanes, mul(load_n(from + k * k_stride + v * kLanes, lanes_left(n, v)), factor));
#ifdef FF_SHUFFLES
        } else if (k_stride == 1) {
            pack_columns(from, n_stride, n, s.k, factor, to);
            to += s.k * kPanel;
#endif
        } else {
            for (int64_t j = 0; j < n; ++j)
                for (int64_t k = 0; k < s.k; ++k) to[k * kPanel + j] = from[k * k_stride + j * n_stride] * alpha;
            for (int64_t j = n; j < kPanel; ++j)
                for (int64_t k = 0; k < s.k; ++k) to[k * kPanel + j] = 0;
            to += s.k * kPanel;
        }
    }
}

static void matmul(const MatmulArgs& args, Range units, void* scratch) {
    const MatmulShape s = matmul_shape(args);
    static constexpr int64_t kOneSegment[1] = {0};
    const int leading = args.out.rank - 2;
    float* packed = static_cast<float*>(scratch);
    float* left = packed + s.panels * kPanel * s.k;
    float* result = left + (s.copy_a ? ceil_div(kMatmulRows * s.k, kPanel) * kPanel : 0);
    const int64_t a_row = args.a.stride[args.a.rank - 2], a_k = args.a.stride[args.a.rank - 1];
    const int64_t c_row = args.out.stride[args.out.rank - 2], c_column = args.out.stride[args.out.rank - 1];

    for (int64_t unit = units.begin; unit < units.end;) {
        const int64_t batch = unit / s.rows;
        const int64_t row_end = smaller(s.rows, units.end - batch * s.rows);
        const float* a = args.a.data;
        const float* b = args.b.data;
        float* c = args.out.data;
        for (int64_t d = leading - 1, rest = batch; d >= 0; --d) {
            const int64_t i = rest % args.out.shape[d];
            rest /= args.out.shape[d];
            a += i * args.a.stride[d];
            b += i * args.b.stride[d];
            c += i * args.out.stride[d];
        }
        pack_panels(b, args.b.stride[args.b.rank - 2], args.b.stride[args.b.rank - 1], s, args.alpha, packed);
        for (int64_t row = unit % s.rows; row < row_end;) {
            const int64_t end = smaller(row_end, row + kMatmulRows);
            Tile t{};
            Run run{a + row * a_row, c + row * c_row, nullptr, end - row};
            t.a_stride = a_row;
            if (s.copy_a) {
                for (int64_t m = row; m < end; ++m)
                    for (int64_t k = 0; k < s.k; ++k) left[(m - row) * s.k + k] = a[m * a_row + k * a_k];
                run.a = left;
                t.a_stride = s.k;
            }
            t.b = packed;
            t.panel_stride = s.k * kPanel;
            t.segments = kOneSegment;
            t.segment_count = 1;
            t.k = s.k;
            if (s.scatter) run.c = result;
            t.c_stride = s.scatter ? s.panels * kPanel : c_row;
            t.last = s.columns - (s.panels - 1) * kPanel;
            t.act = t.post = bounds_of(Activation{});
            multiply_runs(t, &run, 1, s.panels, {});
            if (s.scatter) {
                for (int64_t m = row; m < end; ++m)
                    for (int64_t n = 0; n < s.columns; ++n)
                        c[m * c_row + n * c_column] = result[(m - row) * t.c_stride + n];
            }
            row = end;
        }
        unit = batch * s.rows + row_end;
    }
}

}  // namespace ff::FF_ISA
