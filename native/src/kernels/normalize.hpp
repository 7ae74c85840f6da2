// Layer, group, RMS and L2 normalisation over the last dimensions of a view.
#pragma once

namespace ff::FF_ISA {

// Shape and strides of dimensions whose order does not matter, sorted so that the smallest stride of view 0 comes
// last: what lies together becomes one row.
struct Trailing {
    int64_t shape[kMaxRank] = {};
    int64_t stride[4][kMaxRank] = {};
};

static Trailing ordered(const int64_t* shape, const int64_t* const* strides, int views, int first_dim, int last_dim) {
    Trailing t;
    int dims = 0;
    for (int d = first_dim; d < last_dim; ++d) {
        int at = dims++;
        for (; at > 0 && t.stride[0][at - 1] < strides[0][d]; --at) {
            t.shape[at] = t.shape[at - 1];
            for (int v = 0; v < views; ++v) t.stride[v][at] = t.stride[v][at - 1];
        }
        t.shape[at] = shape[d];
        for (int v = 0; v < views; ++v) t.stride[v][at] = strides[v][d];
    }
    return t;
}

static Walk walk_any_order(const int64_t* shape, const int64_t* const* strides, int views, int first_dim,
                           int last_dim) {
    const Trailing t = ordered(shape, strides, views, first_dim, last_dim);
    const int64_t* sorted[4] = {t.stride[0], t.stride[1], t.stride[2], t.stride[3]};
    return walk_over(t.shape, sorted, views, 0, last_dim - first_dim);
}

// Sum of (x - shift), or of its square.
template <bool squared>
FF_INLINE float sum_of(const float* x, int64_t n, float shift) {
    const vf s = set1(shift);
    vf total[4] = {zero(), zero(), zero(), zero()};
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
        for (int j = 0; j < 4; ++j) {
            const vf v = sub(load(x + i + j * kLanes), s);
            total[j] = squared ? fma(v, v, total[j]) : add(total[j], v);
        }
    }
    for (int j = 0; i < n; i += kLanes, ++j) {
        const int64_t m = n - i < kLanes ? n - i : kLanes;
        const vf v = sub(load_n_or(x + i, m, shift), s);
        total[j] = squared ? fma(v, v, total[j]) : add(total[j], v);
    }
    return sum(add(add(total[0], total[1]), add(total[2], total[3])));
}

// Sum of (x - shift), or of its square, over a walk's view 0. Chunks are added up in float64.
template <bool squared>
static double sum_over(const float* data, const Walk& w, float shift) {
    const int64_t columns = w.shape[w.rank - 1], stride = w.stride[0][w.rank - 1];
    int64_t rows = 1;
    for (int d = 0; d < w.rank - 1; ++d) rows *= w.shape[d];
    double total = 0;
    alignas(64) float chunk[kChunk];
    for (int64_t row = 0; row < rows; ++row) {
        const float* x = data + offset_of(w, 0, w.rank - 1, row);
        for (int64_t i = 0; i < columns; i += kChunk) {
            const int64_t n = columns - i < kChunk ? columns - i : kChunk;
            if (stride != 1) gather_strided(x + i * stride, stride, chunk, n);
            total += sum_of<squared>(stride == 1 ? x + i : chunk, n, shift);
        }
    }
    return total;
}

// The same. A short row, the common case, needs no walk.
template <bool squared>
FF_INLINE double sum_all(const float* data, const Walk& w, float shift) {
    if (w.rank == 1 && w.stride[0][0] == 1 && w.shape[0] <= kChunk) return sum_of<squared>(data, w.shape[0], shift);
    return sum_over<squared>(data, w, shift);
}

struct Statistics {
    float mean, scale;  // out = (x - mean) * scale * weight + bias
};

FF_INLINE Statistics statistics(NormMode mode, float eps, const float* x, const Walk& w, int64_t count) {
    if (mode == NormMode::layer) {
        const float mean = static_cast<float>(sum_all<false>(x, w, 0) / count);
        const double variance = sum_all<true>(x, w, mean) / count;
        return {mean, static_cast<float>(1 / __builtin_sqrt(variance + eps))};
    }
    const double squares = sum_all<true>(x, w, 0);
    if (mode == NormMode::rms) return {0, static_cast<float>(1 / __builtin_sqrt(squares / count + eps))};
    const double length = __builtin_sqrt(squares);
    return {0, static_cast<float>(1 / (length < eps ? eps : length))};
}

template <bool weighted, bool biased>
FF_INLINE void normalize_row(const float* x, const float* weight, const float* bias, Statistics s, float* out,
                             int64_t n) {
    const vf mean = set1(s.mean), scale = set1(s.scale);
    for (int64_t i = 0; i < n; i += kLanes) {
        const int64_t m = n - i < kLanes ? n - i : kLanes;
        const bool whole = m == kLanes;
        vf v = mul(sub(whole ? load(x + i) : load_n(x + i, m), mean), scale);
        if (weighted) {
            const vf w = whole ? load(weight + i) : load_n(weight + i, m);
            v = biased ? fma(v, w, whole ? load(bias + i) : load_n(bias + i, m)) : mul(v, w);
        } else if (biased) {
            v = add(v, whole ? load(bias + i) : load_n(bias + i, m));
        }
        if (whole) store(out + i, v);
        else store_n(out + i, v, m);
    }
}

static void norm(const NormArgs& args, Range units) {
    const int rank = args.x.rank, leading = rank - args.trailing;
    const bool weighted = args.weight.data, biased = args.bias.data;
    static constexpr int64_t kNone[kMaxRank] = {};
    const int64_t* strides[] = {args.x.stride, args.out.stride, weighted ? args.weight.stride : kNone,
                                biased ? args.bias.stride : kNone};
    const Walk lead = walk_over(args.x.shape, strides, 4, 0, leading);
    const Walk whole = walk_any_order(args.x.shape, strides, 1, leading, rank);  // of x alone: for the sums
    const Walk w = walk_any_order(args.x.shape, strides, 4, leading, rank);
    int64_t count = 1, rows = 1;
    for (int d = 0; d < w.rank; ++d) count *= w.shape[d];
    const int64_t columns = w.shape[w.rank - 1];
    if (columns) rows = count / columns;
    const int64_t x_step = w.stride[0][w.rank - 1], out_step = w.stride[1][w.rank - 1];
    const int64_t weight_step = w.stride[2][w.rank - 1], bias_step = w.stride[3][w.rank - 1];
    const bool together =
        x_step == 1 && out_step == 1 && (!weighted || weight_step == 1) && (!biased || bias_step == 1);

    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const float* x_unit = args.x.data + offset_of(lead, 0, lead.rank, unit);
        const Statistics s = statistics(args.mode, args.eps, x_unit, whole, count);
        float* out_unit = args.out.data + offset_of(lead, 1, lead.rank, unit);
        const float* weight_unit = args.weight.data + offset_of(lead, 2, lead.rank, unit);
        const float* bias_unit = args.bias.data + offset_of(lead, 3, lead.rank, unit);
        for (int64_t row = 0; row < rows; ++row) {
            const float* x = x_unit + offset_of(w, 0, w.rank - 1, row);
            float* out = out_unit + offset_of(w, 1, w.rank - 1, row);
            const float* weight = weight_unit + offset_of(w, 2, w.rank - 1, row);
            const float* bias = bias_unit + offset_of(w, 3, w.rank - 1, row);
            if (!together) {
                for (int64_t i = 0; i < columns; ++i) {
                    float v = (x[i * x_step] - s.mean) * s.scale;
                    if (weighted) v *= weight[i * weight_step];
                    if (biased) v += bias[i * bias_step];
                    out[i * out_step] = v;
                }
            } else if (weighted && biased) {
                normalize_row<true, true>(x, weight, bias, s, out, columns);
            } else if (weighted) {
                normalize_row<true, false>(x, weight, nullptr, s, out, columns);
            } else if (biased) {
                normalize_row<false, true>(x, nullptr, bias, s, out, columns);
            } else {
                normalize_row<false, false>(x, nullptr, nullptr, s, out, columns);
            }
        }
    }
}

}  // namespace ff::FF_ISA
