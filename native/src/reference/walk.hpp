// How the reference kernels walk views: by flat index, and row by row.
#pragma once

#include "reference/reference.hpp"

namespace ff::reference {

// A view's elements as another type than the float that a kernel's arguments name.
template <class T>
const T* elements(const ConstStrided& view) {
    return reinterpret_cast<const T*>(view.data);
}
template <class T>
T* elements(const Strided& view) {
    return reinterpret_cast<T*>(view.data);
}

// The offset of flat index `index` over dimensions [first, last) of a view.
template <class View>
int64_t offset_of(const View& view, int32_t first, int32_t last, int64_t index) {
    int64_t offset = 0;
    for (int32_t d = last; d-- > first;) {
        offset += index % view.shape[d] * view.stride[d];
        index /= view.shape[d];
    }
    return offset;
}

// Dimensions [first, last) of up to four views of one shape, those that follow each other in all of them made one.
struct Path {
    int rank = 0, views = 0;
    int64_t shape[kMaxRank] = {}, stride[4][kMaxRank] = {};

    template <class... Views>
    Path(int32_t first, int32_t last, const int64_t* sizes, const Views&... each) : views(sizeof...(each)) {
        const int64_t* const strides[] = {each.stride...};
        for (int32_t d = first; d < last; ++d) {
            if (sizes[d] == 1) continue;
            bool follows = rank > 0;
            for (int v = 0; v < views; ++v) follows = follows && stride[v][rank - 1] == strides[v][d] * sizes[d];
            if (!follows) shape[rank++] = 1;
            shape[rank - 1] *= sizes[d];
            for (int v = 0; v < views; ++v) stride[v][rank - 1] = strides[v][d];
        }
        if (rank == 0) shape[rank++] = 1;
    }

    int64_t step(int v) const { return stride[v][rank - 1]; }

    // Calls row(offsets, n) for each run of n elements along the innermost dimension, which together are the flat
    // indices of `range`.
    template <class Row>
    void each_row(Range range, Row row) const {
        const int64_t columns = shape[rank - 1];
        for (int64_t at = range.begin; at < range.end;) {
            int64_t offsets[4] = {}, index = at;
            for (int d = rank; d-- > 0;) {
                for (int v = 0; v < views; ++v) offsets[v] += index % shape[d] * stride[v][d];
                index /= shape[d];
            }
            const int64_t left = columns - at % columns;
            const int64_t n = left < range.end - at ? left : range.end - at;
            row(offsets, n);
            at += n;
        }
    }
};

}  // namespace ff::reference
