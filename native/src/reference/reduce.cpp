// aggregate: the last dimensions become one element. scan: each element with those before it.
#include <cmath>
#include <limits>
#include <type_traits>

#include "reference/walk.hpp"

namespace ff::reference {
namespace {

// Sums are made in what cannot overflow, and rounds less.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, float>, double, int64_t>;

template <class T>
T narrowed(Wide<T> x) {
    if constexpr (std::is_same_v<T, float>) return static_cast<float>(x);
    else return static_cast<int32_t>(static_cast<uint32_t>(x));  // wraps around, as in PyTorch
}

template <class T>
Wide<T> multiplied(Wide<T> a, T b) {
    if constexpr (std::is_same_v<T, float>) return a * b;
    else return narrowed<int32_t>(int64_t{narrowed<int32_t>(a)} * b);
}

template <class T>
bool is_nan(T x) {
    return x != x;
}

// Whether x comes before `best` as the largest (or smallest) of all; a NaN comes first of all.
template <bool largest, class T>
bool beats(T x, T best) {
    return (is_nan(x) && !is_nan(best)) || (largest ? x > best : x < best);
}

// The running result of one unit.
template <class T, class Result, class Add>
void fold(const AggregateArgs& args, Range units, Result start, Add add) {
    const int32_t leading = args.out.rank;
    const Path path(leading, args.x.rank, args.x.shape, args.x);
    int64_t count = 1;
    for (int32_t d = leading; d < args.x.rank; ++d) count *= args.x.shape[d];
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const T* x = elements<T>(args.x) + offset_of(args.x, 0, leading, unit);
        Result result = start;
        int64_t place = 0;
        path.each_row({0, count}, [&](const int64_t* at, int64_t n) {
            for (int64_t i = 0; i < n; ++i) add(result, x[at[0] + i * path.step(0)], place++);
        });
        result.store(args.out, offset_of(args.out, 0, leading, unit));
    }
}

template <class T>
struct Total {
    Wide<T> value;
    void store(const Strided& out, int64_t at) const { elements<T>(out)[at] = narrowed<T>(value); }
};

template <class T>
struct Best {
    T value;
    int64_t place;  // -1: of none yet
    bool keeps_place;
    void store(const Strided& out, int64_t at) const {
        if (keeps_place) elements<int32_t>(out)[at] = static_cast<int32_t>(place);
        else elements<T>(out)[at] = value;
    }
};

struct Truth {
    bool value;
    void store(const Strided& out, int64_t at) const { elements<int32_t>(out)[at] = value; }
};

// log(sum(exp(x))), by the largest x so far.
struct LogSum {
    double most = -std::numeric_limits<double>::infinity(), total = 0;
    void add(double x) {
        if (std::isinf(x) && x == most) return;  // exp(x - most) would be NaN
        if (x > most) {
            total = total * std::exp(most - x) + 1;
            most = x;
        } else {
            total += std::exp(x - most);
        }
    }
    float value() const {
        if (is_nan(total)) return std::numeric_limits<float>::quiet_NaN();
        return static_cast<float>(std::isinf(most) ? most : most + std::log(total));
    }
    void store(const Strided& out, int64_t at) const { elements<float>(out)[at] = value(); }
};

template <bool largest, class T>
void best(const AggregateArgs& args, Range units, bool keeps_place) {
    fold<T>(args, units, Best<T>{T(), -1, keeps_place}, [](Best<T>& best, T x, int64_t place) {
        if (best.place < 0 || beats<largest>(x, best.value)) best.value = x, best.place = place;
    });
}

template <class T>
void aggregate_of(const AggregateArgs& args, Range units) {
    switch (args.op) {
        case Aggregate::sum:
            return fold<T>(args, units, Total<T>{0}, [](Total<T>& total, T x, int64_t) { total.value += x; });
        case Aggregate::prod:
            return fold<T>(args, units, Total<T>{1},
                           [](Total<T>& total, T x, int64_t) { total.value = multiplied<T>(total.value, x); });
        case Aggregate::max: return best<true, T>(args, units, false);
        case Aggregate::min: return best<false, T>(args, units, false);
        case Aggregate::argmax: return best<true, T>(args, units, true);
        case Aggregate::argmin: return best<false, T>(args, units, true);
        case Aggregate::any:
            return fold<T>(args, units, Truth{false}, [](Truth& any, T x, int64_t) { any.value = any.value || x != 0; });
        case Aggregate::all:
            return fold<T>(args, units, Truth{true}, [](Truth& all, T x, int64_t) { all.value = all.value && x != 0; });
        case Aggregate::logsumexp:
            return fold<T>(args, units, LogSum(), [](LogSum& sum, T x, int64_t) { sum.add(x); });
    }
}

// Calls next(x, i) for the elements of each unit in order; what it returns is written.
template <class T, class Out, class Begin>
void along(const ScanArgs& args, Range units, Begin begin) {
    const int32_t last = args.out.rank - 1;
    const int64_t n = args.out.shape[last], x_step = args.x.stride[last], out_step = args.out.stride[last];
    for (int64_t unit = units.begin; unit < units.end; ++unit) {
        const T* x = elements<T>(args.x) + offset_of(args.x, 0, last, unit);
        Out* out = elements<Out>(args.out) + offset_of(args.out, 0, last, unit);
        auto next = begin();
        for (int64_t i = 0; i < n; ++i) out[i * out_step] = next(x[i * x_step], i);
    }
}

template <bool largest, class T>
void running_best(const ScanArgs& args, Range units, bool gives_place) {
    const auto update = [](Best<T>& best, T x, int64_t i) {
        const bool after = is_nan(x) || (!is_nan(best.value) && (largest ? x >= best.value : x <= best.value));
        if (best.place < 0 || after) best.value = x, best.place = i;
    };
    const auto begin = [] { return Best<T>{T(), -1, false}; };
    if (gives_place)
        return along<T, int32_t>(args, units, [&] {
            return [best = begin(), update](T x, int64_t i) mutable {
                update(best, x, i);
                return static_cast<int32_t>(best.place);
            };
        });
    along<T, T>(args, units, [&] {
        return [best = begin(), update](T x, int64_t i) mutable {
            update(best, x, i);
            return best.value;
        };
    });
}

template <class T>
void scan_of(const ScanArgs& args, Range units) {
    switch (args.op) {
        case Scan::sum:
            return along<T, T>(args, units, [] {
                return [total = Wide<T>(0)](T x, int64_t) mutable { return narrowed<T>(total += x); };
            });
        case Scan::prod:
            return along<T, T>(args, units, [] {
                return [total = Wide<T>(1)](T x, int64_t) mutable {
                    return narrowed<T>(total = multiplied<T>(total, x));
                };
            });
        case Scan::max: return running_best<true, T>(args, units, false);
        case Scan::min: return running_best<false, T>(args, units, false);
        case Scan::max_index: return running_best<true, T>(args, units, true);
        case Scan::min_index: return running_best<false, T>(args, units, true);
        case Scan::logsumexp:
            return along<T, float>(args, units, [] {
                return [sum = LogSum()](T x, int64_t) mutable {
                    sum.add(x);
                    return sum.value();
                };
            });
    }
}

}  // namespace

void aggregate(const AggregateArgs& args, Range units) {
    args.type == Type::f32 ? aggregate_of<float>(args, units) : aggregate_of<int32_t>(args, units);
}

void scan(const ScanArgs& args, Range units) {
    args.type == Type::f32 ? scan_of<float>(args, units) : scan_of<int32_t>(args, units);
}

}  // namespace ff::reference
