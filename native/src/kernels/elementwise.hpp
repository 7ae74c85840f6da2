// Unary and binary operations and softmax, over views of any rank and stride; and the walk over such
// views that the kernels of move.hpp, normalize.hpp and reduce.hpp use too.
#pragma once

namespace ff::FF_ISA {

// --- the walk ---

// Up to four views of one shape, with the dimensions that follow each other in all of them made one.
struct Walk {
    int rank = 0;
    int64_t shape[kMaxRank] = {};
    int64_t stride[4][kMaxRank] = {};
};

// The walk over dimensions [first_dim, last_dim) of `views` views of this shape. Flat indices stay the same.
static Walk walk_over(const int64_t* shape, const int64_t* const* strides, int views, int first_dim, int last_dim) {
    Walk w;
    for (int d = first_dim; d < last_dim; ++d) {
        if (shape[d] == 1) continue;
        bool follows = w.rank > 0;
        for (int v = 0; v < views && follows; ++v) {
            follows = w.stride[v][w.rank - 1] == strides[v][d] * shape[d];
        }
        if (!follows) w.shape[w.rank++] = 1;
        w.shape[w.rank - 1] *= shape[d];
        for (int v = 0; v < views; ++v) w.stride[v][w.rank - 1] = strides[v][d];
    }
    if (w.rank == 0) w.shape[w.rank++] = 1;
    return w;
}

// The offset in view v of flat index `index` over dimensions [0, dims).
FF_INLINE int64_t offset_of(const Walk& w, int v, int dims, int64_t index) {
    int64_t offset = 0;
    for (int d = dims - 1; d > 0; --d) {
        offset += index % w.shape[d] * w.stride[v][d];
        index /= w.shape[d];
    }
    return dims ? offset + index * w.stride[v][0] : 0;
}

// Calls f(offsets, rows, columns) for the planes of the last two dimensions that make up the elements
// [begin, end): offsets[v] is where the plane begins in view v, and its strides are row_stride(w, v)
// and w.stride[v][w.rank - 1]. Rows that the range cuts come alone.
template <class F>
FF_INLINE void for_planes(const Walk& w, int views, int64_t begin, int64_t end, F f) {
    const int last = w.rank - 1;
    int64_t place[kMaxRank] = {};
    if (begin < end) {
        int64_t index = begin;
        for (int d = last; d >= 0; --d) {
            place[d] = index % w.shape[d];
            index /= w.shape[d];
        }
    }
    while (begin < end) {
        int64_t offsets[4] = {};
        for (int v = 0; v < views; ++v) {
            for (int d = 0; d <= last; ++d) offsets[v] += place[d] * w.stride[v][d];
        }
        const int64_t columns = w.shape[last], left = end - begin;
        int advanced = last;
        if (last == 0 || place[last] || left < columns) {
            const int64_t n = left < columns - place[last] ? left : columns - place[last];
            f(offsets, 1, n);
            begin += n;
            place[last] += n;
        } else {
            const int64_t whole = left / columns, rows = w.shape[last - 1] - place[last - 1];
            const int64_t n = whole < rows ? whole : rows;
            f(offsets, n, columns);
            begin += n * columns;
            advanced = last - 1;
            place[advanced] += n;
        }
        for (int d = advanced; d > 0 && place[d] == w.shape[d]; --d) {
            place[d] = 0;
            ++place[d - 1];
        }
    }
}

FF_INLINE int64_t row_stride(const Walk& w, int v) { return w.rank > 1 ? w.stride[v][w.rank - 2] : 0; }

FF_INLINE int64_t last_of(const int64_t* shape, int rank) { return rank ? shape[rank - 1] : 1; }

FF_INLINE void gather_strided(const float* x, int64_t stride, float* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = x[i * stride];
}
FF_INLINE void scatter_strided(const float* x, float* out, int64_t stride, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i * stride] = x[i];
}

// --- unary ---

static void unary(const UnaryArgs& args, Range units) {
    const int64_t* strides[] = {args.x.stride, args.out.stride};
    const Walk w = walk_over(args.out.shape, strides, 2, 0, args.out.rank);
    const int64_t n = last_of(args.out.shape, args.out.rank);
    const int64_t x_stride = w.stride[0][w.rank - 1], out_stride = w.stride[1][w.rank - 1];
    for_planes(w, 2, units.begin * n, units.end * n, [&](const int64_t* at, int64_t rows, int64_t columns) {
        for (int64_t row = 0; row < rows; ++row) {
            const float* x = args.x.data + at[0] + row * row_stride(w, 0);
            float* out = args.out.data + at[1] + row * row_stride(w, 1);
            if (columns == 1 || (x_stride == 1 && out_stride == 1)) {
                sweep(args.act, x, out, columns);
                continue;
            }
            alignas(64) float chunk[kChunk];
            for (int64_t i = 0; i < columns; i += kChunk) {
                const int64_t m = columns - i < kChunk ? columns - i : kChunk;
                gather_strided(x + i * x_stride, x_stride, chunk, m);
                sweep(args.act, chunk, m);
                scatter_strided(chunk, out + i * out_stride, out_stride, m);
            }
        }
    });
}

// --- binary ---

// NaN if either is.
FF_INLINE vf max_(vf a, vf b) { return select(is_nan(a), a, at_least(b, a)); }
FF_INLINE vf min_(vf a, vf b) { return select(is_nan(a), a, at_most(b, a)); }

FF_INLINE vf pow_(vf a, vf b) {
    alignas(64) float x[kLanes], y[kLanes];
    store(x, a);
    store(y, b);
    for (int i = 0; i < kLanes; ++i) x[i] = __builtin_powf(x[i], y[i]);
    return load(x);
}

template <Binary op>
FF_INLINE vf combine(vf a, vf b) {
    if constexpr (op == Binary::add) return add(a, b);
    else if constexpr (op == Binary::sub) return sub(a, b);
    else if constexpr (op == Binary::mul) return mul(a, b);
    else if constexpr (op == Binary::div) return div(a, b);
    else if constexpr (op == Binary::max) return max_(a, b);
    else if constexpr (op == Binary::min) return min_(a, b);
    else if constexpr (op == Binary::prelu) return activate<Act::prelu>(a, b, b);
    else return pow_(a, b);
}

// One row: each operand lies together or is one number.
template <Binary op, bool one_a, bool one_b>
FF_INLINE void combine_row(const float* a, const float* b, float* out, int64_t n) {
    const vf a0 = one_a ? set1(*a) : zero(), b0 = one_b ? set1(*b) : zero();
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
        vf v[4];
        for (int j = 0; j < 4; ++j) {
            const int64_t k = i + j * kLanes;
            v[j] = combine<op>(one_a ? a0 : load(a + k), one_b ? b0 : load(b + k));
        }
        for (int j = 0; j < 4; ++j) store(out + i + j * kLanes, v[j]);
    }
    for (; i + kLanes <= n; i += kLanes) {
        store(out + i, combine<op>(one_a ? a0 : load(a + i), one_b ? b0 : load(b + i)));
    }
    if (i < n) {
        const int64_t m = n - i;
        store_n(out + i, combine<op>(one_a ? a0 : load_n(a + i, m), one_b ? b0 : load_n(b + i, m)), m);
    }
}

struct BinaryPlane {  // rows whose numbers lie together, and the strides between rows
    const float *a, *b;
    float* out;
    int64_t a_row, b_row, out_row, rows, columns;
    bool one_a, one_b;
    Activation act;
};

template <Binary op>
static void combine_plane(const BinaryPlane& p) {
    for (int64_t row = 0; row < p.rows; ++row) {
        const float *a = p.a + row * p.a_row, *b = p.b + row * p.b_row;
        float* out = p.out + row * p.out_row;
        for (int64_t i = 0; i < p.columns; i += kChunk) {  // short enough for the activation to find it in L1
            const int64_t n = p.columns - i < kChunk ? p.columns - i : kChunk;
            if (p.one_b) combine_row<op, false, true>(a + i, b, out + i, n);
            else if (p.one_a) combine_row<op, true, false>(a, b + i, out + i, n);
            else combine_row<op, false, false>(a + i, b + i, out + i, n);
            sweep(p.act, out + i, n);
        }
    }
}

static void combine_plane(Binary op, const BinaryPlane& p) {
    switch (op) {
        case Binary::add: return combine_plane<Binary::add>(p);
        case Binary::sub: return combine_plane<Binary::sub>(p);
        case Binary::mul: return combine_plane<Binary::mul>(p);
        case Binary::div: return combine_plane<Binary::div>(p);
        case Binary::max: return combine_plane<Binary::max>(p);
        case Binary::min: return combine_plane<Binary::min>(p);
        case Binary::pow: return combine_plane<Binary::pow>(p);
        case Binary::prelu: return combine_plane<Binary::prelu>(p);
    }
}

static void binary(const BinaryArgs& args, Range units) {
    const int64_t* strides[] = {args.a.stride, args.b.stride, args.out.stride};
    const Walk w = walk_over(args.out.shape, strides, 3, 0, args.out.rank);
    const int64_t n = last_of(args.out.shape, args.out.rank);
    const int64_t a_stride = w.stride[0][w.rank - 1], b_stride = w.stride[1][w.rank - 1];
    const int64_t out_stride = w.stride[2][w.rank - 1];
    for_planes(w, 3, units.begin * n, units.end * n, [&](const int64_t* at, int64_t rows, int64_t columns) {
        BinaryPlane p;
        p.a = args.a.data + at[0], p.b = args.b.data + at[1], p.out = args.out.data + at[2];
        p.a_row = row_stride(w, 0), p.b_row = row_stride(w, 1), p.out_row = row_stride(w, 2);
        p.rows = rows, p.columns = columns;
        p.one_a = a_stride == 0, p.one_b = b_stride == 0;
        p.act = args.act;
        const bool together = a_stride <= 1 && b_stride <= 1 && out_stride == 1 && !(p.one_a && p.one_b) &&
                              a_stride >= 0 && b_stride >= 0;
        if (together || columns == 1) {
            if (columns == 1) p.one_a = p.one_b = false;
            return combine_plane(args.op, p);
        }
        alignas(64) float a[kChunk], b[kChunk];
        for (int64_t row = 0; row < rows; ++row) {
            for (int64_t i = 0; i < columns; i += kChunk) {
                const int64_t m = columns - i < kChunk ? columns - i : kChunk;
                gather_strided(p.a + row * p.a_row + i * a_stride, a_stride, a, m);
                gather_strided(p.b + row * p.b_row + i * b_stride, b_stride, b, m);
                BinaryPlane q = p;
                q.a = a, q.b = b, q.out = a, q.rows = 1, q.columns = m, q.one_a = q.one_b = false;
                combine_plane(args.op, q);
                scatter_strided(a, p.out + row * p.out_row + i * out_stride, out_stride, m);
            }
        }
    });
}

// --- softmax ---

alignas(64) constexpr float kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// The first n lanes from p, and `other` in those after them.
FF_INLINE vf load_n_or(const float* p, int64_t n, float other) {
    return select(less(load(kLane), set1(static_cast<float>(n))), load_n(p, n), set1(other));
}

FF_INLINE float max_lane(vf v) {  // if a lane is NaN, the result may be NaN or not
    alignas(64) float x[kLanes];
    store(x, v);
#pragma GCC unroll 4
    for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < half; ++i) x[i] = x[i + half] > x[i] ? x[i + half] : x[i];
    }
    return x[0];
}

// The maximum. If there is a NaN it may be anything, since the whole row becomes NaN then.
FF_INLINE float max_of(const float* x, int64_t n) {
    const float least = -__builtin_inff();
    vf m[4] = {set1(least), set1(least), set1(least), set1(least)};
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
        for (int j = 0; j < 4; ++j) m[j] = at_least(load(x + i + j * kLanes), m[j]);
    }
    for (; i + kLanes <= n; i += kLanes) m[0] = at_least(load(x + i), m[0]);
    if (i < n) m[0] = at_least(load_n_or(x + i, n - i, least), m[0]);
    return max_lane(at_least(at_least(m[0], m[1]), at_least(m[2], m[3])));
}

// out = exp(x - most). Returns the sum of out, which may be x.
FF_INLINE float exp_of(const float* x, float most, float* out, int64_t n) {
    const vf shift = set1(most);
    vf total[2] = {zero(), zero()};
    int64_t i = 0;
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
        for (int j = 0; j < 2; ++j) {
            const vf e = exp_(sub(load(x + i + j * kLanes), shift));
            store(out + i + j * kLanes, e);
            total[j] = add(total[j], e);
        }
    }
    for (; i < n; i += kLanes) {
        const int64_t m = n - i < kLanes ? n - i : kLanes;
        const vf e = exp_(sub(load_n_or(x + i, m, -__builtin_inff()), shift));
        store_n(out + i, e, m);
        total[0] = add(total[0], e);
    }
    return sum(add(total[0], total[1]));
}

FF_INLINE void scale_by(float factor, float* p, int64_t n) {
    const vf by = set1(factor);
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(p + i, mul(load(p + i), by));
    if (i < n) store_n(p + i, mul(load_n(p + i, n - i), by), n - i);
}

// `rows` rows of n floats that lie together. A few rows take each step by turns: the end of a row waits for the
// largest of all lanes and for their sum, and the next row begins meanwhile.
static void softmax_rows(const float* x, int64_t x_row, float* out, int64_t out_row, int64_t rows, int64_t n) {
    const int64_t most_rows = n * kSoftmaxRows <= kSoftmaxFloats ? kSoftmaxRows : 1;
    for (int64_t row = 0; row < rows; row += most_rows) {
        const int64_t some = rows - row < most_rows ? rows - row : most_rows;
        float most[kSoftmaxRows], total[kSoftmaxRows];
        for (int64_t i = 0; i < some; ++i) most[i] = max_of(x + (row + i) * x_row, n);
        for (int64_t i = 0; i < some; ++i)
            total[i] = exp_of(x + (row + i) * x_row, most[i], out + (row + i) * out_row, n);
        for (int64_t i = 0; i < some; ++i) scale_by(1 / total[i], out + (row + i) * out_row, n);
    }
}

static void softmax_strided(const float* x, int64_t x_stride, float* out, int64_t out_stride, int64_t n) {
    alignas(64) float chunk[kChunk];
    float most = x[0], total = 0;
    for (int64_t i = 1; i < n; ++i) most = x[i * x_stride] > most ? x[i * x_stride] : most;
    for (int64_t i = 0; i < n; i += kChunk) {
        const int64_t m = n - i < kChunk ? n - i : kChunk;
        gather_strided(x + i * x_stride, x_stride, chunk, m);
        total += exp_of(chunk, most, chunk, m);
        scatter_strided(chunk, out + i * out_stride, out_stride, m);
    }
    for (int64_t i = 0; i < n; ++i) out[i * out_stride] *= 1 / total;
}

static void softmax(const SoftmaxArgs& args, Range units) {
    const int last = args.out.rank - 1;
    const int64_t* strides[] = {args.x.stride, args.out.stride};
    const Walk w = walk_over(args.out.shape, strides, 2, 0, last);
    const int64_t n = args.out.shape[last];
    const int64_t x_stride = args.x.stride[last], out_stride = args.out.stride[last];
    const int64_t x_row = w.stride[0][w.rank - 1], out_row = w.stride[1][w.rank - 1];
    for_planes(w, 2, units.begin, units.end, [&](const int64_t* at, int64_t planes, int64_t rows) {
        for (int64_t plane = 0; plane < planes; ++plane) {
            const float* x = args.x.data + at[0] + plane * row_stride(w, 0);
            float* out = args.out.data + at[1] + plane * row_stride(w, 1);
            if (n == 1 || (x_stride == 1 && out_stride == 1)) {
                softmax_rows(x, x_row, out, out_row, rows, n);
                continue;
            }
            for (int64_t row = 0; row < rows; ++row)
                softmax_strided(x + row * x_row, x_stride, out + row * out_row, out_stride, n);
        }
    });
}

}  // namespace ff::FF_ISA
