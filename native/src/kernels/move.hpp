// Copies between views, among them channels-first to channels-last and back; fills; gathers.
#pragma once

namespace ff::FF_ISA {

// A plane of a copy: out[r * out_row + c * out_column] = x[r * x_row + c * x_column].
struct CopyPlane {
    const float* x;
    float* out;
    int64_t rows, columns;
    int64_t x_row, x_column, out_row, out_column;
};

#ifdef FF_SHUFFLES

// out[r * columns + c] = x[r + c * x_column] for 2 or 3 columns.
template <int columns>
FF_INLINE void interleave_plane(const CopyPlane& m) {
    for (int64_t r = 0; r < m.rows; r += kLanes) {
        const int64_t n = m.rows - r < kLanes ? m.rows - r : kLanes;
        vf v[columns];
        for (int c = 0; c < columns; ++c) {
            const float* x = m.x + r + c * m.x_column;
            v[c] = n == kLanes ? load(x) : load_n(x, n);
        }
        if constexpr (columns == 2) interleave2(v);
        else interleave3(v);
        for (int c = 0; c < columns; ++c) {
            float* out = m.out + r * columns + c * kLanes;
            const int64_t left = n * columns - c * kLanes;
            if (n == kLanes) store(out, v[c]);
            else if (left > 0) store_n(out, v[c], left < kLanes ? left : kLanes);
        }
    }
}

// out[r * out_row + c] = x[r + c * rows] for 2 or 3 rows.
template <int rows>
FF_INLINE void deinterleave_plane(const CopyPlane& m) {
    for (int64_t c = 0; c < m.columns; c += kLanes) {
        const int64_t n = m.columns - c < kLanes ? m.columns - c : kLanes;
        vf v[rows];
        for (int r = 0; r < rows; ++r) {
            const float* x = m.x + c * rows + r * kLanes;
            const int64_t left = n * rows - r * kLanes;
            v[r] = n == kLanes ? load(x) : left > 0 ? load_n(x, left < kLanes ? left : kLanes) : zero();
        }
        if constexpr (rows == 2) deinterleave2(v);
        else deinterleave3(v);
        for (int r = 0; r < rows; ++r) {
            float* out = m.out + r * m.out_row + c;
            if (n == kLanes) store(out, v[r]);
            else store_n(out, v[r], n);
        }
    }
}

// A block of kLanes x kLanes, or less if not `whole`.
template <bool whole>
FF_INLINE void transpose_block(const CopyPlane& m, int64_t r, int64_t c) {
    const int64_t rows = whole || m.rows - r > kLanes ? kLanes : m.rows - r;
    const int64_t columns = whole || m.columns - c > kLanes ? kLanes : m.columns - c;
    const float* x = m.x + r + c * m.x_column;
    float* out = m.out + r * m.out_row + c;
    vf v[kLanes];
    for (int j = 0; j < kLanes; ++j) {
        v[j] = whole ? load(x + j * m.x_column) : j < columns ? load_n(x + j * m.x_column, rows) : zero();
    }
    transpose(v);
    for (int i = 0; i < kLanes; ++i) {
        if (whole) store(out + i * m.out_row, v[i]);
        else if (i < rows) store_n(out + i * m.out_row, v[i], columns);
    }
}

#else

constexpr int64_t kBlock = 16;  // floats of a cache line, along rows and columns

template <bool whole>
FF_INLINE void transpose_block(const CopyPlane& m, int64_t r, int64_t c) {
    const int64_t rows = whole || m.rows - r > kBlock ? kBlock : m.rows - r;
    const int64_t columns = whole || m.columns - c > kBlock ? kBlock : m.columns - c;
    const float* x = m.x + r + c * m.x_column;
    float* out = m.out + r * m.out_row + c;
    for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) out[i * m.out_row + j] = x[i + j * m.x_column];
    }
}

#endif

FF_INLINE void transpose_any(const CopyPlane& m, int64_t r, int64_t c, int64_t block) {
    if (m.rows - r >= block && m.columns - c >= block) transpose_block<true>(m, r, c);
    else transpose_block<false>(m, r, c);
}

// Rows of x and columns of out lie together.
static void transpose_plane(const CopyPlane& m) {
#ifdef FF_SHUFFLES
    constexpr int64_t block = kLanes;
    if (m.columns == 2 && m.out_row == 2) return interleave_plane<2>(m);
    if (m.columns == 3 && m.out_row == 3) return interleave_plane<3>(m);
    if (m.rows == 2 && m.x_column == 2) return deinterleave_plane<2>(m);
    if (m.rows == 3 && m.x_column == 3) return deinterleave_plane<3>(m);
#else
    constexpr int64_t block = kBlock;
#endif
    // The long way outside: the other one stays in L1.
    if (m.rows >= m.columns) {
        for (int64_t r = 0; r < m.rows; r += block) {
            for (int64_t c = 0; c < m.columns; c += block) transpose_any(m, r, c, block);
        }
    } else {
        for (int64_t c = 0; c < m.columns; c += block) {
            for (int64_t r = 0; r < m.rows; r += block) transpose_any(m, r, c, block);
        }
    }
}

static void copy_plane(CopyPlane m) {
    if (m.x_column == 1 && m.out_column == 1) {
        for (int64_t r = 0; r < m.rows; ++r) copy_floats(m.out + r * m.out_row, m.x + r * m.x_row, m.columns);
        return;
    }
    if (m.rows > 1 && m.columns > 1) {
        if (m.x_row == 1 && m.out_column == 1) return transpose_plane(m);
        if (m.out_row == 1 && m.x_column == 1) {  // the same seen from the side
            return transpose_plane({m.x, m.out, m.columns, m.rows, m.x_column, m.x_row, m.out_column, m.out_row});
        }
    }
    for (int64_t r = 0; r < m.rows; ++r) {
        const float* x = m.x + r * m.x_row;
        float* out = m.out + r * m.out_row;
        for (int64_t c = 0; c < m.columns; ++c) out[c * m.out_column] = x[c * m.x_column];
    }
}

static void copy(const CopyArgs& args, Range units) {
    const int64_t* strides[] = {args.x.stride, args.out.stride};
    const Walk w = walk_over(args.out.shape, strides, 2, 0, args.out.rank);
    const int64_t n = last_of(args.out.shape, args.out.rank);
    const int64_t x_column = w.stride[0][w.rank - 1], out_column = w.stride[1][w.rank - 1];
    for_planes(w, 2, units.begin * n, units.end * n, [&](const int64_t* at, int64_t rows, int64_t columns) {
        copy_plane({args.x.data + at[0], args.out.data + at[1], rows, columns, row_stride(w, 0), x_column,
                    row_stride(w, 1), out_column});
    });
}

static void fill(const FillArgs& args, Range units) {
    const int64_t* strides[] = {args.out.stride};
    const Walk w = walk_over(args.out.shape, strides, 1, 0, args.out.rank);
    const int64_t n = last_of(args.out.shape, args.out.rank), step = w.stride[0][w.rank - 1];
    const vf value = set1(args.value);
    for_planes(w, 1, units.begin * n, units.end * n, [&](const int64_t* at, int64_t rows, int64_t columns) {
        for (int64_t r = 0; r < rows; ++r) {
            float* out = args.out.data + at[0] + r * row_stride(w, 0);
            int64_t i = 0;
            if (step == 1) {
                for (; i + kLanes <= columns; i += kLanes) store(out + i, value);
                if (i < columns) store_n(out + i, value, columns - i);
                continue;
            }
            for (; i < columns; ++i) out[i * step] = args.value;
        }
    });
}

static void gather(const GatherArgs& args, Range units) {
    const int last = args.out.rank - 1;
    const int64_t* strides[] = {args.x.stride, args.out.stride};
    const Walk w = walk_over(args.out.shape, strides, 2, 0, last);
    const int64_t n = args.out.shape[last], x_step = args.x.stride[last], out_step = args.out.stride[last];
    const int32_t* index = args.index;
    for_planes(w, 2, units.begin, units.end, [&](const int64_t* at, int64_t rows, int64_t columns) {
        for (int64_t unit = 0; unit < rows * columns; ++unit) {
            const int64_t r = rows == 1 ? 0 : unit / columns, c = rows == 1 ? unit : unit % columns;
            const float* x = args.x.data + at[0] + r * row_stride(w, 0) + c * w.stride[0][w.rank - 1];
            float* out = args.out.data + at[1] + r * row_stride(w, 1) + c * w.stride[1][w.rank - 1];
            if (x_step == 1 && out_step == 1) {
                for (int64_t i = 0; i < n; ++i) out[i] = x[index[i]];
            } else {
                for (int64_t i = 0; i < n; ++i) out[i * out_step] = x[index[i] * x_step];
            }
        }
    });
}

}  // namespace ff::FF_ISA
