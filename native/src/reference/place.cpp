// sort: the places of elements in order. take and scatter: what is read from, or written to, places that are numbers
// themselves. The loader cannot know these, so each is checked here.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "reference/walk.hpp"

namespace ff::reference {
namespace {

// The place that `index` names in a dimension of `size`, or -1 and a fault.
int64_t place_of(int64_t index, int64_t size, bool negative, Fault* fault) {
    const int64_t place = negative && index < 0 ? index + size : index;
    if (place >= 0 && place < size) return place;
    if (fault) fault->outside(index, size);
    return -1;
}

// Whether x comes before y. NaN is larger than any other.
template <bool descending, class T>
bool before(T x, T y) {
    if constexpr (descending) std::swap(x, y);
    return x < y || (y != y && x == x);
}

// Merges runs of 1, 2, 4 ... places; equal elements keep their order. Returns which of the two holds the result.
template <bool descending, class T>
const int32_t* sorted(const T* x, int64_t step, int64_t n, int32_t* places, int32_t* other) {
    for (int64_t i = 0; i < n; ++i) places[i] = static_cast<int32_t>(i);
    for (int64_t run = 1; run < n; run *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * run) {
            const int64_t middle = std::min(begin + run, n), end = std::min(begin + 2 * run, n);
            int64_t left = begin, right = middle;
            for (int64_t i = begin; i < end; ++i) {
                const bool takes_right =
                    left == middle ||
                    (right < end && before<descending>(x[places[right] * step], x[places[left] * step]));
                other[i] = places[takes_right ? right++ : left++];
            }
        }
        std::swap(places, other);
    }
    return places;
}

template <bool descending, class T>
void sort_as(const SortArgs& args, Range units, int32_t* scratch) {
    const int32_t last = args.x.rank - 1;
    const int64_t n = args.x.shape[last], kept = args.out.shape[last];
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const T* x = elements<T>(args.x) + offset_of(args.x, 0, last, unit);
        const int32_t* places = sorted<descending>(x, args.x.stride[last], n, scratch, scratch + n);
        int32_t* out = elements<int32_t>(args.out) + offset_of(args.out, 0, last, unit);
        for (int64_t i = 0; i < kept; ++i) out[i * args.out.stride[last]] = places[i];
    }
}

template <class T>
T joined(Scatter op, T have, T x) {
    using Exact = std::conditional_t<std::is_same_v<T, float>, float, uint32_t>;  // wraps around, as in PyTorch
    switch (op) {
        case Scatter::set: return x;
        case Scatter::add: return static_cast<T>(static_cast<Exact>(have) + static_cast<Exact>(x));
        case Scatter::mul: return static_cast<T>(static_cast<Exact>(have) * static_cast<Exact>(x));
        case Scatter::max: return x > have || x != x ? x : have;
        case Scatter::min: return x < have || x != x ? x : have;
    }
    return x;
}

template <class T>
void scatter_as(const ScatterArgs& args, Range units) {
    const int32_t last = args.out.rank - 1;
    const int64_t size = args.out.shape[last], n = args.index.shape[last];
    const int64_t step = args.out.stride[last];
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const T* x = elements<T>(args.x) + offset_of(args.x, 0, last, unit);
        const T* source = elements<T>(args.source) + offset_of(args.source, 0, last, unit);
        const int32_t* index = elements<int32_t>(args.index) + offset_of(args.index, 0, last, unit);
        T* out = elements<T>(args.out) + offset_of(args.out, 0, last, unit);
        for (int64_t i = 0; i < size; ++i) out[i * step] = x[i * args.x.stride[last]];
        for (int64_t i = 0; i < n; ++i) {
            const int64_t place = place_of(index[i * args.index.stride[last]], size, args.negative, args.fault);
            if (place < 0) continue;
            T& target = out[place * step];
            target = joined(args.op, target, source[i * args.source.stride[last]]);
        }
    }
}

}  // namespace

size_t sort_scratch(const SortArgs& args) {
    return 2 * sizeof(int32_t) * static_cast<size_t>(args.x.shape[args.x.rank - 1]);
}

void sort(const SortArgs& args, Range units, void* scratch) {
    int32_t* places = static_cast<int32_t*>(scratch);
    const bool floats = args.type == Type::f32;
    if (args.descending) floats ? sort_as<true, float>(args, units, places) : sort_as<true, int32_t>(args, units, places);
    else floats ? sort_as<false, float>(args, units, places) : sort_as<false, int32_t>(args, units, places);
}

void take(const TakeArgs& args, Range units) {
    const int32_t last = args.out.rank - 1;
    const int64_t size = args.x.shape[last], n = args.out.shape[last];
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const int32_t* x = elements<int32_t>(args.x) + offset_of(args.x, 0, last, unit);  // four bytes of any type
        const int32_t* index = elements<int32_t>(args.index) + offset_of(args.index, 0, last, unit);
        int32_t* out = elements<int32_t>(args.out) + offset_of(args.out, 0, last, unit);
        for (int64_t i = 0; i < n; ++i) {
            const int64_t place = place_of(index[i * args.index.stride[last]], size, args.negative, args.fault);
            out[i * args.out.stride[last]] = place < 0 ? 0 : x[place * args.x.stride[last]];
        }
    }
}

void scatter(const ScatterArgs& args, Range units) {
    args.type == Type::f32 ? scatter_as<float>(args, units) : scatter_as<int32_t>(args, units);
}

}  // namespace ff::reference
