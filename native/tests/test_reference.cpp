// The reference kernels over random views, against loops in float64 and int64.
#include <numeric>

#include "reference/reference.hpp"
#include "views.hpp"

using check::View;
using ff::Aggregate;
using ff::Elementwise;
using ff::Scan;
using ff::Scatter;
using ff::Signature;
using ff::Type;

namespace {

// A view's elements as whole numbers: the memory is the same.
void put(View& view, int64_t i, int32_t x) { std::memcpy(&view[i], &x, sizeof x); }
int32_t whole(const View& view, int64_t i) {
    int32_t x;
    const float bits = view[i];
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
double number(const View& view, int64_t i, Type type) { return type == Type::f32 ? view[i] : static_cast<double>(whole(view, i)); }

void randomise(check::Random& random, View& view, Type type, int64_t low, int64_t high) {
    for (int64_t i = 0; i < view.size(); ++i) {
        if (type == Type::i32) put(view, i, static_cast<int32_t>(random.between(low, high)));
        else if (random.between(0, 3)) view[i] = random.uniform(static_cast<float>(low), static_cast<float>(high));
        else view[i] = static_cast<float>(random.between(2 * low, 2 * high)) / 2;  // equal ones, halves
    }
}

// A few that are special, among float32.
void salt(check::Random& random, View& view, Type type) {
    if (type == Type::i32) return;
    for (float x : {check::kNan, check::kInf, -check::kInf, -0.0f})
        if (random.between(0, 2) == 0) view[random.between(0, view.size() - 1)] = x;
}

double remainder_of(double a, double b) { return a - std::floor(a / b) * b; }

double truth_of(Elementwise op, double a, double b, Type type) {
    const bool whole = type == Type::i32;
    const auto bits = [](double x) { return static_cast<int32_t>(x); };
    const bool nan = std::isnan(a) || std::isnan(b);
    switch (op) {
        case Elementwise::abs: return std::fabs(a);
        case Elementwise::neg: return -a;
        case Elementwise::sign: return std::isnan(a) ? 0 : (a > 0) - (a < 0);
        case Elementwise::trunc: return std::trunc(a);
        case Elementwise::floor: return std::floor(a);
        case Elementwise::ceil: return std::ceil(a);
        case Elementwise::round: return std::nearbyint(a);
        case Elementwise::sin: return std::sin(a);
        case Elementwise::cos: return std::cos(a);
        case Elementwise::tan: return std::tan(a);
        case Elementwise::asin: return std::asin(a);
        case Elementwise::acos: return std::acos(a);
        case Elementwise::atan: return std::atan(a);
        case Elementwise::sinh: return std::sinh(a);
        case Elementwise::cosh: return std::cosh(a);
        case Elementwise::asinh: return std::asinh(a);
        case Elementwise::acosh: return std::acosh(a);
        case Elementwise::atanh: return std::atanh(a);
        case Elementwise::exp2: return std::exp2(a);
        case Elementwise::expm1: return std::expm1(a);
        case Elementwise::log2: return std::log2(a);
        case Elementwise::log10: return std::log10(a);
        case Elementwise::log1p: return std::log1p(a);
        case Elementwise::erfc: return std::erfc(a);
        case Elementwise::isnan: return std::isnan(a);
        case Elementwise::isinf: return std::isinf(a);
        case Elementwise::signbit: return std::signbit(a);
        case Elementwise::logical_not: return a == 0;
        case Elementwise::bitwise_not: return ~bits(a);
        case Elementwise::to_f32: return a;
        case Elementwise::to_i32:
            return a >= -2147483648.0 && a < 2147483648.0 ? std::trunc(a) : -2147483648.0;
        case Elementwise::add: return a + b;
        case Elementwise::sub: return a - b;
        case Elementwise::mul: return a * b;
        case Elementwise::max: return nan ? check::kNan : std::max(a, b);
        case Elementwise::min: return nan ? check::kNan : std::min(a, b);
        case Elementwise::pow: return whole ? std::trunc(std::pow(a, b)) : std::pow(a, b);
        case Elementwise::floor_divide: return std::floor(a / b);
        case Elementwise::trunc_divide: return std::trunc(a / b);
        case Elementwise::remainder: return remainder_of(a, b);
        case Elementwise::fmod: return std::fmod(a, b);
        case Elementwise::atan2: return std::atan2(a, b);
        case Elementwise::hypot: return std::hypot(a, b);
        case Elementwise::copysign: return std::copysign(a, b);
        case Elementwise::fmax: return std::fmax(a, b);
        case Elementwise::fmin: return std::fmin(a, b);
        case Elementwise::logaddexp: return std::isinf(a) && a == b ? a : std::log(std::exp(a) + std::exp(b));
        case Elementwise::eq: return a == b;
        case Elementwise::ne: return a != b;
        case Elementwise::lt: return a < b;
        case Elementwise::le: return a <= b;
        case Elementwise::gt: return a > b;
        case Elementwise::ge: return a >= b;
        case Elementwise::logical_and: return a != 0 && b != 0;
        case Elementwise::logical_or: return a != 0 || b != 0;
        case Elementwise::logical_xor: return (a != 0) != (b != 0);
        case Elementwise::bitwise_and: return bits(a) & bits(b);
        case Elementwise::bitwise_or: return bits(a) | bits(b);
        case Elementwise::bitwise_xor: return bits(a) ^ bits(b);
        case Elementwise::shift_left: return bits(a) * std::exp2(b);
        case Elementwise::shift_right: return std::floor(bits(a) / std::exp2(b));
        case Elementwise::where: return 0;
    }
    return 0;
}

bool takes(Elementwise op, Type type) {
    const Signature s = ff::signature_of(op);
    if (type == Type::f32) return s != Signature::whole && s != Signature::to_f32;
    return s == Signature::any || s == Signature::test || s == Signature::whole || s == Signature::to_f32;
}

Type given_by(Elementwise op, Type type) {
    switch (ff::signature_of(op)) {
        case Signature::test:
        case Signature::real_test:
        case Signature::to_i32: return Type::i32;
        case Signature::to_f32: return Type::f32;
        default: return type;
    }
}

// What is not continuous: a number beside a step may fall on either side of it.
bool steps(Elementwise op) {
    return op == Elementwise::floor_divide || op == Elementwise::remainder || op == Elementwise::fmod ||
           op == Elementwise::trunc_divide;
}

constexpr const char* kNames[] = {FF_ELEMENTWISE(FF_TEXT)};
constexpr int kOps = static_cast<int>(std::size(kNames));

void check_elementwise(check::Random& random) {
    for (int trial = 0; trial < 24 * kOps; ++trial) {
        const Elementwise op = static_cast<Elementwise>(trial % kOps);
        const Type type = trial / kOps % 2 ? Type::i32 : Type::f32;
        if (op == Elementwise::where || !takes(op, type)) continue;
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 4)), 9);
        View a = View::random(random, shape, true), b = View::random(random, shape, true);
        View out = View::random(random, shape, false);
        randomise(random, a, type, -6, 6);
        const bool positive = type == Type::i32 && (op == Elementwise::pow || op == Elementwise::shift_left ||
                                                    op == Elementwise::shift_right);
        randomise(random, b, type, positive ? 0 : -4, 4);
        if (steps(op))
            for (int64_t i = 0; i < b.size(); ++i)
                if (type == Type::i32) put(b, i, whole(b, i) ? whole(b, i) : 3);
                else b[i] = 0.75f, a[i] = std::isnan(a[i]) ? a[i] : std::nearbyint(a[i] * 8) / 8;
        else salt(random, a, type);
        ff::Fault fault;
        ff::ElementwiseArgs args{a.in(), ff::operands_of(op) > 1 ? b.in() : ff::ConstStrided(), {}, out.out(), op, type, &fault};
        check::run_whole_and_in_parts(random, out, out.size(), kNames[trial % kOps],
                                      [&](ff::Range range) { ff::reference::elementwise(args, range); });
        CHECK(fault.kind == ff::Fault::Kind::none, "%s", kNames[trial % kOps]);
        for (int64_t i = 0; i < out.size(); ++i) {
            const double truth = truth_of(op, number(a, i, type), number(b, i, type), type);
            const double value = number(out, i, given_by(op, type));
            const bool exact = given_by(op, type) == Type::i32;
            CHECK(exact ? value == truth : check::close(value, truth, 1e-6), "%s of %g, %g: %g, not %g",
                  kNames[trial % kOps], number(a, i, type), number(b, i, type), value, truth);
        }
    }
}

void check_where(check::Random& random) {
    for (int trial = 0; trial < 60; ++trial) {
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 4)), 9);
        View condition = View::random(random, shape, true), a = View::random(random, shape, true);
        View b = View::random(random, shape, true), out = View::random(random, shape, false);
        randomise(random, condition, Type::i32, 0, 1);
        randomise(random, a, Type::f32, -3, 3);
        randomise(random, b, Type::f32, -3, 3);
        salt(random, a, Type::f32);
        ff::ElementwiseArgs args{condition.in(), a.in(), b.in(), out.out(), Elementwise::where, Type::f32, nullptr};
        check::run_whole_and_in_parts(random, out, out.size(), "where",
                                      [&](ff::Range range) { ff::reference::elementwise(args, range); });
        for (int64_t i = 0; i < out.size(); ++i) {
            const float truth = whole(condition, i) ? a[i] : b[i];
            CHECK(check::close(out[i], truth, 0), "where: %g, not %g", out[i], truth);
        }
    }
}

void check_division_by_zero() {
    View a({4}, {0}, 0), b({4}, {0}, 0), out({4}, {0}, 0);
    for (int64_t i = 0; i < 4; ++i) put(a, i, static_cast<int32_t>(i) - 2), put(b, i, i == 1 ? 0 : 2);
    for (Elementwise op : {Elementwise::floor_divide, Elementwise::trunc_divide, Elementwise::remainder, Elementwise::fmod}) {
        ff::Fault fault;
        ff::reference::elementwise({a.in(), b.in(), {}, out.out(), op, Type::i32, &fault}, {0, 4});
        CHECK(fault.kind == ff::Fault::Kind::division && whole(out, 1) == 0, "0 divides");
    }
    // the least number by -1, and others that leave int32, wrap around
    put(a, 0, INT32_MIN), put(b, 0, -1);
    for (Elementwise op : {Elementwise::floor_divide, Elementwise::mul, Elementwise::sub, Elementwise::abs, Elementwise::neg}) {
        ff::reference::elementwise({a.in(), b.in(), {}, out.out(), op, Type::i32, nullptr}, {0, 1});
        CHECK(whole(out, 0) == (op == Elementwise::sub ? INT32_MIN + 1 : INT32_MIN), "wraps around");
    }
    put(a, 0, -1), put(b, 0, -3);
    ff::reference::elementwise({a.in(), b.in(), {}, out.out(), Elementwise::pow, Type::i32, nullptr}, {0, 1});
    CHECK(whole(out, 0) == -1, "a negative exponent");
}

// The numbers of one unit, in order.
std::vector<double> numbers(const View& x, int64_t unit, int64_t n, Type type) {
    std::vector<double> found;
    for (int64_t i = 0; i < n; ++i) found.push_back(number(x, unit * n + i, type));
    return found;
}

// Whether a is more than b, NaN more than all.
bool more(double a, double b) { return a > b || (std::isnan(a) && !std::isnan(b)); }
bool less(double a, double b) { return a < b || (std::isnan(a) && !std::isnan(b)); }

double aggregate_of(Aggregate op, const std::vector<double>& x) {
    double total = op == Aggregate::prod ? 1 : 0, least = x[0], most = x[0], exps = 0;
    int64_t first_most = 0, first_least = 0;
    bool any = false, all = true;
    for (size_t i = 0; i < x.size(); ++i) {
        total = op == Aggregate::prod ? total * x[i] : total + x[i];
        any = any || x[i] != 0;
        all = all && x[i] != 0;
        exps += std::exp(x[i]);
        if (more(x[i], most)) most = x[i], first_most = static_cast<int64_t>(i);
        if (less(x[i], least)) least = x[i], first_least = static_cast<int64_t>(i);
    }
    switch (op) {
        case Aggregate::sum:
        case Aggregate::prod: return total;
        case Aggregate::max: return most;
        case Aggregate::min: return least;
        case Aggregate::any: return any;
        case Aggregate::all: return all;
        case Aggregate::argmax: return static_cast<double>(first_most);
        case Aggregate::argmin: return static_cast<double>(first_least);
        case Aggregate::logsumexp: return std::log(exps);
    }
    return 0;
}

void check_aggregate(check::Random& random) {
    for (int trial = 0; trial < 9 * 60; ++trial) {
        const Aggregate op = static_cast<Aggregate>(trial % 9);
        const Type type = op != Aggregate::logsumexp && trial / 9 % 2 ? Type::i32 : Type::f32;
        const int rank = static_cast<int>(random.between(1, 4));
        const int trailing = static_cast<int>(random.between(1, rank));
        const check::Shape shape = check::random_shape(random, rank, 6);
        const check::Shape kept(shape.begin(), shape.end() - trailing);
        View x = View::random(random, shape, true), out = View::random(random, kept, false);
        randomise(random, x, type, -2, 2);
        salt(random, x, type);
        ff::AggregateArgs args{x.in(), out.out(), trailing, op, type};
        check::run_whole_and_in_parts(random, out, out.size(), "aggregate",
                                      [&](ff::Range units) { ff::reference::aggregate(args, units); });
        const bool counts = op == Aggregate::any || op == Aggregate::all || op == Aggregate::argmax || op == Aggregate::argmin;
        for (int64_t unit = 0; unit < out.size(); ++unit) {
            const double truth = aggregate_of(op, numbers(x, unit, x.size() / out.size(), type));
            const double value = number(out, unit, counts ? Type::i32 : type);
            const double wrapped = type == Type::i32 && !counts ? static_cast<int32_t>(static_cast<int64_t>(truth)) : truth;
            CHECK(check::close(value, wrapped, 1e-5), "aggregate %d, %s: %g, not %g", static_cast<int>(op),
                  type == Type::i32 ? "whole" : "real", value, wrapped);
        }
    }
}

void check_scan(check::Random& random) {
    for (int trial = 0; trial < 7 * 40; ++trial) {
        const Scan op = static_cast<Scan>(trial % 7);
        const Type type = op != Scan::logsumexp && trial / 7 % 2 ? Type::i32 : Type::f32;
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(1, 4)), 8);
        View x = View::random(random, shape, true), out = View::random(random, shape, false);
        randomise(random, x, type, -2, 2);
        salt(random, x, type);
        const int64_t n = shape.back(), units = out.size() / n;
        ff::ScanArgs args{x.in(), out.out(), op, type};
        check::run_whole_and_in_parts(random, out, units, "scan",
                                      [&](ff::Range range) { ff::reference::scan(args, range); });
        const bool places = op == Scan::max_index || op == Scan::min_index;
        for (int64_t i = 0; i < out.size(); ++i) {
            const std::vector<double> all = numbers(x, i / n, n, type);
            const std::vector<double> before(all.begin(), all.begin() + i % n + 1);
            const bool largest = op == Scan::max || op == Scan::max_index;
            double truth = 0;
            if (op == Scan::sum) truth = aggregate_of(Aggregate::sum, before);
            if (op == Scan::prod) truth = aggregate_of(Aggregate::prod, before);
            if (op == Scan::logsumexp) truth = aggregate_of(Aggregate::logsumexp, before);
            if (op == Scan::max || op == Scan::min)
                truth = aggregate_of(largest ? Aggregate::max : Aggregate::min, before);
            if (places) {  // the last of equal ones, NaN equal to NaN
                const double best = aggregate_of(largest ? Aggregate::max : Aggregate::min, before);
                for (size_t j = 0; j < before.size(); ++j)
                    if (before[j] == best || (std::isnan(before[j]) && std::isnan(best))) truth = static_cast<double>(j);
            }
            const double value = number(out, i, places ? Type::i32 : type);
            CHECK(check::close(value, truth, 1e-5), "scan %d: %g, not %g", static_cast<int>(op), value, truth);
        }
    }
}

void check_sort(check::Random& random) {
    for (int trial = 0; trial < 200; ++trial) {
        const Type type = trial % 2 ? Type::i32 : Type::f32;
        const bool descending = trial / 2 % 2;
        check::Shape shape = check::random_shape(random, static_cast<int>(random.between(0, 3)), 4);
        const int64_t n = trial % 10 ? random.between(1, 12) : random.between(100, 600);
        shape.push_back(n);
        View x = View::random(random, shape, true);
        shape.back() = random.between(1, n);
        View out = View::random(random, shape, false);
        randomise(random, x, type, -4, 4);
        salt(random, x, type);
        const int64_t kept = shape.back(), units = out.size() / kept;
        ff::SortArgs args{x.in(), out.out(), descending, type};
        std::vector<char> scratch(ff::reference::sort_scratch(args));
        check::run_whole_and_in_parts(random, out, units, "sort", [&](ff::Range range) {
            ff::reference::sort(args, range, scratch.data());
        });
        for (int64_t unit = 0; unit < units; ++unit) {
            const std::vector<double> all = numbers(x, unit, n, type);
            std::vector<int32_t> order(static_cast<size_t>(n));
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](int32_t i, int32_t j) {
                const double a = all[static_cast<size_t>(i)], b = all[static_cast<size_t>(j)];
                return descending ? more(a, b) : more(b, a);
            });
            for (int64_t i = 0; i < kept; ++i)
                CHECK(whole(out, unit * kept + i) == order[static_cast<size_t>(i)], "sort of %d", static_cast<int>(n));
        }
    }
}

// Shapes that differ in the last dimension.
check::Shape with_last(check::Shape shape, int64_t n) {
    shape.back() = n;
    return shape;
}

void check_take_and_scatter(check::Random& random) {
    for (int trial = 0; trial < 400; ++trial) {
        const check::Shape shape = check::random_shape(random, static_cast<int>(random.between(1, 4)), 7);
        const int64_t size = shape.back(), n = random.between(1, 9);
        const bool negative = trial % 2, outside = trial % 5 == 4;
        View x = View::random(random, shape, true), index = View::random(random, with_last(shape, n), true);
        View source = View::random(random, with_last(shape, n), true), out = View::random(random, shape, false);
        View taken = View::random(random, with_last(shape, n), false);
        const Type type = trial / 2 % 2 ? Type::i32 : Type::f32;
        randomise(random, x, type, -3, 3);
        randomise(random, source, type, -3, 3);
        randomise(random, index, Type::i32, negative ? -size : 0, size - 1);
        bool falls = false;
        if (outside) put(index, random.between(0, index.size() - 1), negative && trial % 3 ? static_cast<int32_t>(-size - 1) : static_cast<int32_t>(size));
        const auto place = [&](int64_t i) {
            const int64_t at = whole(index, i) < 0 ? whole(index, i) + size : whole(index, i);
            const bool inside = at >= 0 && at < size && (negative || whole(index, i) >= 0);
            falls = falls || !inside;
            return inside ? at : -1;
        };
        ff::Fault fault;
        ff::TakeArgs take{x.in(), index.in(), taken.out(), negative, &fault};
        check::run_whole_and_in_parts(random, taken, taken.size() / n, "take",
                                      [&](ff::Range units) { ff::reference::take(take, units); });
        for (int64_t i = 0; i < taken.size(); ++i) {
            const int64_t at = place(i);
            CHECK(whole(taken, i) == (at < 0 ? 0 : whole(x, i / n * size + at)), "take");
        }
        CHECK(falls == (fault.kind == ff::Fault::Kind::index) && (!falls || fault.size == size), "a fault of take");

        const Scatter op = static_cast<Scatter>(trial / 4 % 5);
        ff::Fault second;
        ff::ScatterArgs scatter{x.in(), index.in(), source.in(), out.out(), op, type, negative, &second};
        check::run_whole_and_in_parts(random, out, out.size() / size, "scatter",
                                      [&](ff::Range units) { ff::reference::scatter(scatter, units); });
        std::vector<double> truth;
        for (int64_t i = 0; i < x.size(); ++i) truth.push_back(number(x, i, type));
        for (int64_t i = 0; i < index.size(); ++i) {
            if (place(i) < 0) continue;
            double& target = truth[static_cast<size_t>(i / n * size + place(i))];
            const double given = number(source, i, type);
            switch (op) {
                case Scatter::set: target = given; break;
                case Scatter::add: target += given; break;
                case Scatter::mul: target *= given; break;
                case Scatter::max: target = std::max(target, given); break;
                case Scatter::min: target = std::min(target, given); break;
            }
        }
        CHECK(falls == (second.kind == ff::Fault::Kind::index), "a fault of scatter");
        for (int64_t i = 0; i < out.size(); ++i)
            CHECK(check::close(number(out, i, type), truth[static_cast<size_t>(i)], 1e-5), "scatter %d: %g, not %g",
                  static_cast<int>(op), number(out, i, type), truth[static_cast<size_t>(i)]);
    }
}

}  // namespace

int main() {
    check::Random random(5);
    check_elementwise(random);
    check_where(random);
    check_division_by_zero();
    check_aggregate(random);
    check_scan(random);
    check_sort(random);
    check_take_and_scatter(random);
    return check::result();
}
