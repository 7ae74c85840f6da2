// elementwise: one element of out from one of each operand.
#include <cmath>
#include <limits>

#include "reference/walk.hpp"

namespace ff {
namespace reference {
namespace {

// C++ leaves the overflow of int open, and PyTorch's wraps around.
int32_t wrapped(int64_t x) { return static_cast<int32_t>(static_cast<uint32_t>(x)); }

template <class Out, class A, class F>
void each(const ElementwiseArgs& args, Range range, F f) {
    const Path path(0, args.out.rank, args.out.shape, args.a, args.out);
    path.each_row(range, [&](const int64_t* at, int64_t n) {
        const A* a = elements<A>(args.a) + at[0];
        Out* out = elements<Out>(args.out) + at[1];
        for (int64_t i = 0; i < n; ++i) out[i * path.step(1)] = static_cast<Out>(f(a[i * path.step(0)]));
    });
}

template <class Out, class T, class F>
void each_pair(const ElementwiseArgs& args, Range range, F f) {
    const Path path(0, args.out.rank, args.out.shape, args.a, args.b, args.out);
    path.each_row(range, [&](const int64_t* at, int64_t n) {
        const T *a = elements<T>(args.a) + at[0], *b = elements<T>(args.b) + at[1];
        Out* out = elements<Out>(args.out) + at[2];
        for (int64_t i = 0; i < n; ++i)
            out[i * path.step(2)] = static_cast<Out>(f(a[i * path.step(0)], b[i * path.step(1)]));
    });
}

// Moves four bytes, whatever they are.
void select(const ElementwiseArgs& args, Range range) {
    const Path path(0, args.out.rank, args.out.shape, args.a, args.b, args.c, args.out);
    path.each_row(range, [&](const int64_t* at, int64_t n) {
        const int32_t* condition = elements<int32_t>(args.a) + at[0];
        const int32_t *b = elements<int32_t>(args.b) + at[1], *c = elements<int32_t>(args.c) + at[2];
        int32_t* out = elements<int32_t>(args.out) + at[3];
        for (int64_t i = 0; i < n; ++i)
            out[i * path.step(3)] = condition[i * path.step(0)] ? b[i * path.step(1)] : c[i * path.step(2)];
    });
}

float remainder_of(float a, float b) {
    const float rest = std::fmod(a, b);
    return rest != 0 && (b < 0) != (rest < 0) ? rest + b : rest;
}

float floor_of_quotient(float a, float b) {
    if (b == 0) return a / b;
    const float rest = std::fmod(a, b);
    float quotient = (a - rest) / b;
    if (rest != 0 && (b < 0) != (rest < 0)) quotient -= 1;
    if (quotient == 0) return std::copysign(0.0f, a / b);
    const float floored = std::floor(quotient);
    return quotient - floored > 0.5f ? floored + 1 : floored;
}

float larger(float a, float b) { return std::isnan(a) ? a : a > b ? a : b; }
float smaller(float a, float b) { return std::isnan(a) ? a : a < b ? a : b; }

float log_of_sum(float a, float b) {
    if (std::isinf(a) && a == b) return a;
    const float most = larger(a, b);
    return most + std::log1p(std::exp(-std::fabs(a - b)));
}

int32_t power(int32_t a, int32_t b) {
    if (b < 0) return a == 1 ? 1 : a == -1 ? (b % 2 ? -1 : 1) : 0;
    uint32_t result = 1;
    for (uint32_t factor = static_cast<uint32_t>(a); b; b >>= 1, factor *= factor)
        if (b & 1) result *= factor;
    return static_cast<int32_t>(result);
}

int32_t whole_of(float x) {
    constexpr int32_t least = std::numeric_limits<int32_t>::min();
    constexpr float bound = -static_cast<float>(least);
    return x >= -bound && x < bound ? static_cast<int32_t>(x) : least;  // as PyTorch on x86; NaN too
}

void of_floats(const ElementwiseArgs& args, Range range) {
    const auto unary = [&](auto f) { each<float, float>(args, range, f); };
    const auto binary = [&](auto f) { each_pair<float, float>(args, range, f); };
    const auto is = [&](auto f) { each<int32_t, float>(args, range, f); };
    const auto test = [&](auto f) { each_pair<int32_t, float>(args, range, f); };
    switch (args.op) {
        case Elementwise::abs: return unary([](float x) { return std::fabs(x); });
        case Elementwise::neg: return unary([](float x) { return -x; });
        case Elementwise::sign: return unary([](float x) { return (x > 0) - (x < 0); });
        case Elementwise::trunc: return unary([](float x) { return std::trunc(x); });
        case Elementwise::floor: return unary([](float x) { return std::floor(x); });
        case Elementwise::ceil: return unary([](float x) { return std::ceil(x); });
        case Elementwise::round: return unary([](float x) { return std::nearbyint(x); });
        case Elementwise::sin: return unary([](float x) { return std::sin(x); });
        case Elementwise::cos: return unary([](float x) { return std::cos(x); });
        case Elementwise::tan: return unary([](float x) { return std::tan(x); });
        case Elementwise::asin: return unary([](float x) { return std::asin(x); });
        case Elementwise::acos: return unary([](float x) { return std::acos(x); });
        case Elementwise::atan: return unary([](float x) { return std::atan(x); });
        case Elementwise::sinh: return unary([](float x) { return std::sinh(x); });
        case Elementwise::cosh: return unary([](float x) { return std::cosh(x); });
        case Elementwise::asinh: return unary([](float x) { return std::asinh(x); });
        case Elementwise::acosh: return unary([](float x) { return std::acosh(x); });
        case Elementwise::atanh: return unary([](float x) { return std::atanh(x); });
        case Elementwise::exp2: return unary([](float x) { return std::exp2(x); });
        case Elementwise::expm1: return unary([](float x) { return std::expm1(x); });
        case Elementwise::log2: return unary([](float x) { return std::log2(x); });
        case Elementwise::log10: return unary([](float x) { return std::log10(x); });
        case Elementwise::log1p: return unary([](float x) { return std::log1p(x); });
        case Elementwise::erfc: return unary([](float x) { return std::erfc(x); });
        case Elementwise::isnan: return is([](float x) { return std::isnan(x); });
        case Elementwise::isinf: return is([](float x) { return std::isinf(x); });
        case Elementwise::signbit: return is([](float x) { return std::signbit(x); });
        case Elementwise::logical_not: return is([](float x) { return x == 0; });
        case Elementwise::to_i32: return is(whole_of);
        case Elementwise::add: return binary([](float a, float b) { return a + b; });
        case Elementwise::sub: return binary([](float a, float b) { return a - b; });
        case Elementwise::mul: return binary([](float a, float b) { return a * b; });
        case Elementwise::max: return binary(larger);
        case Elementwise::min: return binary(smaller);
        case Elementwise::pow: return binary([](float a, float b) { return std::pow(a, b); });
        case Elementwise::floor_divide: return binary(floor_of_quotient);
        case Elementwise::trunc_divide: return binary([](float a, float b) { return std::trunc(a / b); });
        case Elementwise::remainder: return binary(remainder_of);
        case Elementwise::fmod: return binary([](float a, float b) { return std::fmod(a, b); });
        case Elementwise::atan2: return binary([](float a, float b) { return std::atan2(a, b); });
        case Elementwise::hypot: return binary([](float a, float b) { return std::hypot(a, b); });
        case Elementwise::copysign: return binary([](float a, float b) { return std::copysign(a, b); });
        case Elementwise::fmax: return binary([](float a, float b) { return std::fmax(a, b); });
        case Elementwise::fmin: return binary([](float a, float b) { return std::fmin(a, b); });
        case Elementwise::logaddexp: return binary(log_of_sum);
        case Elementwise::eq: return test([](float a, float b) { return a == b; });
        case Elementwise::ne: return test([](float a, float b) { return a != b; });
        case Elementwise::lt: return test([](float a, float b) { return a < b; });
        case Elementwise::le: return test([](float a, float b) { return a <= b; });
        case Elementwise::gt: return test([](float a, float b) { return a > b; });
        case Elementwise::ge: return test([](float a, float b) { return a >= b; });
        case Elementwise::logical_and: return test([](float a, float b) { return a != 0 && b != 0; });
        case Elementwise::logical_or: return test([](float a, float b) { return a != 0 || b != 0; });
        case Elementwise::logical_xor: return test([](float a, float b) { return (a != 0) != (b != 0); });
        default: return;  // of whole numbers: the loader has refused it
    }
}

void of_wholes(const ElementwiseArgs& args, Range range) {
    const auto unary = [&](auto f) { each<int32_t, int32_t>(args, range, f); };
    const auto binary = [&](auto f) { each_pair<int32_t, int32_t>(args, range, f); };
    // f of what is divided and a divisor other than 0
    const auto division = [&](auto f) {
        binary([&](int32_t a, int32_t b) {
            if (b) return wrapped(f(int64_t{a}, int64_t{b}));
            if (args.fault) args.fault->by_zero();
            return 0;
        });
    };
    const auto remainder = [](int64_t a, int64_t b) { return (a % b + b) % b; };
    switch (args.op) {
        case Elementwise::abs: return unary([](int64_t x) { return wrapped(x < 0 ? -x : x); });
        case Elementwise::neg: return unary([](int64_t x) { return wrapped(-x); });
        case Elementwise::sign: return unary([](int32_t x) { return (x > 0) - (x < 0); });
        case Elementwise::logical_not: return unary([](int32_t x) { return x == 0; });
        case Elementwise::bitwise_not: return unary([](int32_t x) { return ~x; });
        case Elementwise::to_f32:
            return each<float, int32_t>(args, range, [](int32_t x) { return static_cast<float>(x); });
        case Elementwise::add: return binary([](int64_t a, int64_t b) { return wrapped(a + b); });
        case Elementwise::sub: return binary([](int64_t a, int64_t b) { return wrapped(a - b); });
        case Elementwise::mul: return binary([](int64_t a, int64_t b) { return wrapped(a * b); });
        case Elementwise::max: return binary([](int32_t a, int32_t b) { return a > b ? a : b; });
        case Elementwise::min: return binary([](int32_t a, int32_t b) { return a < b ? a : b; });
        case Elementwise::pow: return binary(power);
        case Elementwise::floor_divide: return division([&](int64_t a, int64_t b) { return (a - remainder(a, b)) / b; });
        case Elementwise::trunc_divide: return division([](int64_t a, int64_t b) { return a / b; });
        case Elementwise::remainder: return division(remainder);
        case Elementwise::fmod: return division([](int64_t a, int64_t b) { return a % b; });
        case Elementwise::eq: return binary([](int32_t a, int32_t b) { return a == b; });
        case Elementwise::ne: return binary([](int32_t a, int32_t b) { return a != b; });
        case Elementwise::lt: return binary([](int32_t a, int32_t b) { return a < b; });
        case Elementwise::le: return binary([](int32_t a, int32_t b) { return a <= b; });
        case Elementwise::gt: return binary([](int32_t a, int32_t b) { return a > b; });
        case Elementwise::ge: return binary([](int32_t a, int32_t b) { return a >= b; });
        case Elementwise::logical_and: return binary([](int32_t a, int32_t b) { return a && b; });
        case Elementwise::logical_or: return binary([](int32_t a, int32_t b) { return a || b; });
        case Elementwise::logical_xor: return binary([](int32_t a, int32_t b) { return !a != !b; });
        case Elementwise::bitwise_and: return binary([](int32_t a, int32_t b) { return a & b; });
        case Elementwise::bitwise_or: return binary([](int32_t a, int32_t b) { return a | b; });
        case Elementwise::bitwise_xor: return binary([](int32_t a, int32_t b) { return a ^ b; });
        case Elementwise::shift_left:
            return binary([](uint32_t a, int32_t b) { return b < 0 || b > 31 ? 0u : a << b; });
        case Elementwise::shift_right: return binary([](int32_t a, int32_t b) { return a >> (b < 0 || b > 31 ? 31 : b); });
        default: return;  // of float32: the loader has refused it
    }
}

}  // namespace

void elementwise(const ElementwiseArgs& args, Range range) {
    if (args.op == Elementwise::where) return select(args, range);
    args.type == Type::f32 ? of_floats(args, range) : of_wholes(args, range);
}

}  // namespace reference

int operands_of(Elementwise op) {
#define FF_COUNT(name, count, signature) count,
    static constexpr int counts[] = {FF_ELEMENTWISE(FF_COUNT)};
#undef FF_COUNT
    return counts[static_cast<int>(op)];
}

Signature signature_of(Elementwise op) {
#define FF_SIGNATURE(name, count, signature) Signature::signature,
    static constexpr Signature signatures[] = {FF_ELEMENTWISE(FF_SIGNATURE)};
#undef FF_SIGNATURE
    return signatures[static_cast<int>(op)];
}

}  // namespace ff
